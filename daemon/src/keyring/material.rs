//! Material in use: HSM session objects as leases, SOFTWARE keys in memory.
//!
//! A lease's object is destroyed when its last user lets go. Objects are bounded
//! by the caches that hold them; each carries its member's epoch.

use std::sync::{Arc, Mutex, PoisonError};

use claviger_protocol::secret::Bytes;
use claviger_protocol::{Code, Suite};
use uuid::Uuid;

use super::record::{Location, VersionRecord, location};
use super::uses::Uses;
use super::{KeyEntry, Keyring, VersionEntry};
use crate::backend::hsm::command::{
    Answer, Command, HsmError, ObjectId, RESERVED_SALT, Template, WrapFormat, Wrapped,
};
use crate::backend::hsm::lane::Lane;
use crate::backend::software::{self, SoftwareKey};
use crate::edge::Entropy;
use crate::failure::Failure;

/// Messages under one derived sub-key: far from where random 96-bit nonces collide.
const MESSAGES_PER_SALT: u64 = 1 << 28;

/// A session object that is ours to use until the last user drops it.
pub(super) struct Lease {
    object: ObjectId,
    lane: Arc<Lane>,
}

impl Lease {
    pub(super) fn object(&self) -> ObjectId {
        self.object
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.lane.release(self.object);
    }
}

/// A version ready for use: what is true of it for ever, and its material.
pub(super) struct Ready {
    /// Its key.
    pub(super) key_id: Uuid,
    /// Itself.
    pub(super) version_id: Uuid,
    /// What it encrypts with.
    pub(super) suite: Suite,
    /// The material.
    pub(super) material: Material,
}

/// A version's material.
pub(super) enum Material {
    /// In memory.
    Software(SoftwareKey),
    /// In the HSM, for derivation only.
    Derived(DerivedKey),
    /// In the HSM, used itself.
    Direct(DirectKey),
}

/// An HSM key that only derives, and the salt that it encrypts under now.
pub(super) struct DerivedKey {
    lease: Lease,
    salt: Mutex<([u8; 16], u64)>,
}

impl DerivedKey {
    /// The salt for the next message: a new one at first and every 2^28 messages.
    pub(super) fn next_salt(&self, entropy: &Entropy) -> Result<[u8; 16], Failure> {
        let mut current = self.salt.lock().unwrap_or_else(PoisonError::into_inner);
        if current.1 >= MESSAGES_PER_SALT {
            *current = (fresh_salt(entropy)?, 0);
        }
        current.1 += 1;
        Ok(current.0)
    }
}

/// An HSM key that encrypts itself, and how often it may still.
pub(super) struct DirectKey {
    pub(super) lease: Lease,
    pub(super) uses: Uses,
}

fn fresh_salt(entropy: &Entropy) -> Result<[u8; 16], Failure> {
    loop {
        let salt = entropy.array()?;
        if salt != RESERVED_SALT {
            return Ok(salt);
        }
    }
}

/// The template that a suite's HSM objects have; `None` for SOFTWARE suites.
pub(super) fn template(suite: Suite) -> Option<Template> {
    match suite {
        Suite::SoftwareAes256 => None,
        Suite::HsmAes256Derived => Some(Template::AesDeriveOnly),
        Suite::HsmAes256Direct => Some(Template::AesDirect),
    }
}

/// A location for material that a root generation wrapped.
pub(super) fn wrapped_location(wrapped: Wrapped) -> Location {
    Location {
        kind: location::WRAPPED,
        format: wrapped.format as u8,
        generation: wrapped.generation,
        member: String::new(),
        blob: Bytes(wrapped.blob),
    }
}

/// A location for material that is sealed under the domain key.
pub(super) fn sealed_location(sealed: Vec<u8>) -> Location {
    Location { kind: location::SEALED, format: 0, generation: 0, member: String::new(), blob: Bytes(sealed) }
}

fn find(record: &VersionRecord, kind: u8) -> Result<&Location, Failure> {
    record.locations.iter().find(|location| location.kind == kind).ok_or_else(|| {
        tracing::error!(version = %record.version_id, "a version has no material of the kind its suite needs");
        Failure::new(Code::Internal, "the key version has no material; see the daemon's log")
    })
}

impl Keyring {
    /// A version of the key with its material, unwrapped or opened at its first use; none
    /// where the key has no such version.
    pub(super) async fn ready(
        &self,
        key: &KeyEntry,
        version_id: Uuid,
    ) -> Result<Option<Arc<Ready>>, Failure> {
        let key_id = key.record.key_id;
        if let Some(ready) = self.materials.get(&version_id) {
            return Ok((ready.key_id == key_id).then_some(ready));
        }
        let Some(version) = self.version(key_id, version_id).await? else {
            return Ok(None);
        };
        Ok(Some(self.materials.get_or_load(&version_id, self.make_ready(key, &version)).await?))
    }

    async fn make_ready(&self, key: &KeyEntry, version: &VersionEntry) -> Result<Ready, Failure> {
        let record = &version.record;
        let suite = record.suite.ok_or(Code::InvalidKeyUsage)?;
        let material = match template(suite) {
            None => Material::Software(self.open_software(key, record)?),
            Some(template) => self.hold(self.unwrap(record, template).await?, template, record.version_id)?,
        };
        Ok(Ready { key_id: record.key_id, version_id: record.version_id, suite, material })
    }

    fn hold(&self, lease: Lease, template: Template, version_id: Uuid) -> Result<Material, Failure> {
        Ok(match template {
            Template::AesDeriveOnly => {
                let salt = fresh_salt(&self.edge.entropy)?;
                Material::Derived(DerivedKey { lease, salt: Mutex::new((salt, 0)) })
            }
            Template::AesDirect => {
                Material::Direct(DirectKey { lease, uses: Uses::of(version_id, &self.remaining) })
            }
        })
    }

    fn open_software(&self, key: &KeyEntry, record: &VersionRecord) -> Result<SoftwareKey, Failure> {
        let place = (record.key_id, record.version_id, key.record.spec);
        let sealed = &find(record, location::SEALED)?.blob.0;
        let material = software::open_material(self.domain.keys.software_seal(), place, sealed)?;
        if software::check_value(&material) != record.check_value {
            return Err(HsmError::CheckValueMismatch.into());
        }
        SoftwareKey::new(&material)
    }

    async fn unwrap(&self, record: &VersionRecord, template: Template) -> Result<Lease, Failure> {
        let place = find(record, location::WRAPPED)?;
        let wrapped = Wrapped {
            format: WrapFormat::from_number(place.format)
                .ok_or_else(|| Failure::new(Code::Internal, "the key is wrapped in an unknown format"))?,
            generation: place.generation,
            blob: place.blob.0.clone(),
        };
        let check_value = record.check_value;
        match self.lane().run(Command::Unwrap { wrapped, template, check_value }).await {
            Ok(Answer::Object(object)) => {
                self.done.unwraps.one();
                Ok(Lease { object, lane: Arc::clone(self.lane()) })
            }
            Ok(_) => Err(HsmError::Fault("unwrap answered with something else".into()).into()),
            Err(error) => {
                self.done.failed_unwraps.one();
                tracing::warn!(version = %record.version_id, %error, "a key could not be unwrapped");
                Err(error.into())
            }
        }
    }

    /// The sub-key of a derive-only version for one salt.
    pub(super) async fn sub_key(
        &self,
        version_id: Uuid,
        parent: &DerivedKey,
        salt: [u8; 16],
    ) -> Result<Arc<Lease>, HsmError> {
        let name = (version_id, salt);
        if let Some(sub_key) = self.sub_keys.get(&name) {
            return Ok(sub_key);
        }
        let derive = async {
            match self.lane().run(Command::Derive { object: parent.lease.object(), salt }).await? {
                Answer::Object(object) => Ok(Lease { object, lane: Arc::clone(self.lane()) }),
                _ => Err(HsmError::Fault("derive answered with something else".into())),
            }
        };
        self.sub_keys.get_or_load(&name, derive).await
    }

    /// Lets go of a version's session objects after one of them turned out dead.
    pub(super) fn forget_objects(&self, version_id: Uuid, salt: Option<[u8; 16]>) {
        self.materials.forget(&version_id);
        if let Some(salt) = salt {
            self.sub_keys.forget(&(version_id, salt));
        }
    }
}
