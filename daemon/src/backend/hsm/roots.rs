//! Root keys in a token: how they are named, found, and checked before use.
//!
//! A root generation is two AES-256 token objects. CKA_ID (21 bytes) is the domain's
//! id (16) ‖ generation (u32, big-endian) ‖ role (1: `wrap`, 2: `seal`); CKA_LABEL says
//! the same to people. What is found must look as it was made: somebody with the
//! PIN could put a key there that also decrypts or can be read.

use std::collections::BTreeMap;

use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use uuid::Uuid;

use super::command::HsmError;
use super::failure::failed;
use super::template::Usage;

/// Which root: a generation of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootId {
    /// The domain.
    pub domain: Uuid,
    /// The generation, from 1.
    pub generation: u32,
}

/// One of the two keys of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Wrap,
    Seal,
}

impl Role {
    pub(super) const ALL: [Self; 2] = [Self::Wrap, Self::Seal];

    const fn number(self) -> u8 {
        match self {
            Self::Wrap => 1,
            Self::Seal => 2,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Wrap => "wrap",
            Self::Seal => "seal",
        }
    }

    pub(super) const fn usage(self) -> Usage {
        match self {
            Self::Wrap => Usage::WRAP,
            Self::Seal => Usage::ENCRYPT,
        }
    }
}

impl RootId {
    /// CKA_ID of one of its keys.
    pub(super) fn object_id(&self, role: Role) -> Vec<u8> {
        let mut out = self.domain.as_bytes().to_vec();
        out.extend_from_slice(&self.generation.to_be_bytes());
        out.push(role.number());
        out
    }

    /// CKA_LABEL of one of its keys.
    pub(super) fn label(&self, role: Role) -> String {
        format!("claviger root {} {} {}", role.name(), self.generation, self.domain)
    }
}

/// The two keys of a root generation.
#[derive(Debug, Clone, Copy)]
pub(super) struct RootKeys {
    pub(super) wrap: ObjectHandle,
    pub(super) seal: ObjectHandle,
}

/// The roots of one domain in a token, and which of them is in use.
#[derive(Debug, Clone, Default)]
pub(super) struct Roots {
    current: Option<u32>,
    by_generation: BTreeMap<u32, RootKeys>,
}

impl Roots {
    /// Finds every generation of the domain; the current one is `root`'s, if it is there.
    ///
    /// # Errors
    /// A key found twice, half a generation, or a key that may do more than it must.
    pub(super) fn find(session: &Session, root: &RootId) -> Result<Self, HsmError> {
        let mut halves: BTreeMap<u32, BTreeMap<Role, ObjectHandle>> = BTreeMap::new();
        for (generation, role, handle) in objects(session, root.domain)? {
            check(session, handle, role, generation)?;
            if halves.entry(generation).or_default().insert(role, handle).is_some() {
                let text = format!("the token holds the {} key of root {generation} twice", role.name());
                return Err(HsmError::Fault(text));
            }
        }
        let mut by_generation = BTreeMap::new();
        for (generation, keys) in halves {
            if let (Some(wrap), Some(seal)) = (keys.get(&Role::Wrap), keys.get(&Role::Seal)) {
                by_generation.insert(generation, RootKeys { wrap: *wrap, seal: *seal });
            }
        }
        let current = by_generation.contains_key(&root.generation).then_some(root.generation);
        Ok(Self { current, by_generation })
    }

    /// The root that wraps and seals now.
    pub(super) fn current(&self) -> Result<(u32, RootKeys), HsmError> {
        let generation = self.current.ok_or(HsmError::NoSuchRoot(0))?;
        Ok((generation, self.generation(generation)?))
    }

    /// A root that may still unwrap.
    pub(super) fn generation(&self, generation: u32) -> Result<RootKeys, HsmError> {
        self.by_generation.get(&generation).copied().ok_or(HsmError::NoSuchRoot(generation))
    }
}

/// Every root key of the domain in the token: generation, role, handle.
pub(super) fn objects(session: &Session, domain: Uuid) -> Result<Vec<(u32, Role, ObjectHandle)>, HsmError> {
    let wanted = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Token(true)];
    let found = session.find_objects(&wanted).map_err(|e| failed(&e))?;
    let mut out = Vec::new();
    for handle in found {
        let attributes = session.get_attributes(handle, &[AttributeType::Id]).map_err(|e| failed(&e))?;
        let Some(Attribute::Id(id)) = attributes.first() else { continue };
        out.extend(parse_id(id, domain).map(|(generation, role)| (generation, role, handle)));
    }
    Ok(out)
}

fn parse_id(id: &[u8], domain: Uuid) -> Option<(u32, Role)> {
    let (generation, role) = id.strip_prefix(domain.as_bytes())?.split_first_chunk::<4>()?;
    let role = Role::ALL.into_iter().find(|known| role == [known.number()])?;
    Some((u32::from_be_bytes(*generation), role))
}

/// Refuses a root key that could give material away.
fn check(session: &Session, key: ObjectHandle, role: Role, generation: u32) -> Result<(), HsmError> {
    let usage = role.usage();
    let wanted = [
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(usage.encrypt),
        Attribute::Decrypt(usage.encrypt),
        Attribute::Wrap(usage.wrap),
        Attribute::Unwrap(usage.wrap),
        Attribute::Derive(false),
    ];
    let types: Vec<_> = wanted.iter().map(Attribute::attribute_type).collect();
    let found = session.get_attributes(key, &types).map_err(|e| failed(&e))?;
    match wanted.iter().find(|attribute| !found.contains(attribute)) {
        None => Ok(()),
        Some(attribute) => Err(HsmError::Fault(format!(
            "the {} key of root {generation} was not made by Claviger: its attributes lack {attribute:?}",
            role.name()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_domain_generation_and_role_and_nothing_else_parses() {
        let root = RootId { domain: Uuid::from_u128(7), generation: 258 };
        for role in Role::ALL {
            let id = root.object_id(role);
            assert_eq!(id.len(), 21);
            assert_eq!(parse_id(&id, root.domain), Some((258, role)));
            assert_eq!(parse_id(&id, Uuid::from_u128(8)), None);
            assert_eq!(parse_id(&id[..20], root.domain), None);
            assert_eq!(parse_id(&[id.as_slice(), &[0]].concat(), root.domain), None);
            let mut other = id;
            other[20] = 3;
            assert_eq!(parse_id(&other, root.domain), None);
        }
    }
}
