//! From names to keys: every key that a call names, by id, alias or blob, is looked
//! up here and nowhere else. Whether the caller may know what was found is not this
//! file's business.

use std::sync::Arc;

use claviger_protocol::{KeyRef, Request, Resource, ServiceName};

use crate::audit::Trail;
use crate::failure::Failure;
use crate::identity::{Caller, EndpointKind};
use crate::keyring::{KeyEntry, Keyring};

/// A call whose keys have been found. Only [`resolve`] makes one.
pub struct Resolved {
    caller: Arc<Caller>,
    request: Request,
    targets: Vec<Target>,
    /// The keyring's count of changes before the first look.
    as_of: u64,
}

/// A resource of a call, looked up.
#[derive(Debug, Clone)]
pub enum Target {
    /// A key that the caller named, if it is there.
    Key(Option<KeyEntry>),
    /// The key that a blob names, if both can be read.
    Blob(Option<KeyEntry>),
    /// No key.
    Other,
}

impl Resolved {
    /// Who calls.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What is asked.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// What it is asked of, in the order of the operation table's `resources`.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The keyring's count of changes when the keys were looked up: as long as it stands,
    /// they are still as they were found.
    #[must_use]
    pub fn as_of(&self) -> u64 {
        self.as_of
    }

    /// Whether a key was named that isn't there.
    #[must_use]
    pub fn misses_a_key(&self) -> bool {
        self.targets.iter().any(|target| matches!(target, Target::Key(None)))
    }
}

/// Looks up every key that the request names. A call that names none needs no
/// keyring here.
pub async fn resolve(
    keyring: Result<&Arc<Keyring>, Failure>,
    caller: &Arc<Caller>,
    request: Request,
    trail: &mut Trail,
) -> Result<Resolved, Failure> {
    let as_of = keyring.as_ref().map_or(0, |keyring| keyring.changes());
    let mut targets = Vec::new();
    for resource in request.resources() {
        let target = match resource {
            Resource::Key(key) if hidden(caller, key) => Target::Key(None),
            Resource::Key(key) => Target::Key(keyring.clone()?.find(key).await?),
            Resource::Alias(alias) => Target::Key(keyring.clone()?.find(&alias.into()).await?),
            Resource::BlobKey(Some(id)) => Target::Blob(keyring.clone()?.find(&KeyRef::Id(id)).await?),
            Resource::BlobKey(None) => Target::Blob(None),
            Resource::Project(_) | Resource::Domain => Target::Other,
        };
        let target = if strange(caller, &target) { target.nothing() } else { target };
        if let Target::Key(Some(key)) | Target::Blob(Some(key)) = &target {
            trail.about_key(key.record.key_id);
        }
        targets.push(target);
    }
    Ok(Resolved { caller: Arc::clone(caller), request, targets, as_of })
}

impl Target {
    /// The same, not found.
    fn nothing(self) -> Self {
        match self {
            Self::Key(_) => Self::Key(None),
            Self::Blob(_) => Self::Blob(None),
            Self::Other => Self::Other,
        }
    }
}

/// Whether a key is the default key of another service than the caller's access point is for.
fn strange(caller: &Caller, target: &Target) -> bool {
    let (Target::Key(Some(key)) | Target::Blob(Some(key))) = target else { return false };
    let of = key.record.default_for.as_deref();
    let own = caller.endpoint.service.as_ref().map(ServiceName::as_str);
    caller.endpoint.kind == EndpointKind::App && of.is_some() && of != own
}

/// An access point knows the default key of its own service by name, and of no other.
fn hidden(caller: &Caller, key: &KeyRef) -> bool {
    let KeyRef::Alias(alias) = key else { return false };
    let own = caller.endpoint.service.as_ref().is_some_and(|service| service.default_alias() == *alias);
    caller.endpoint.kind == EndpointKind::App && alias.ends_with("/default") && !own
}
