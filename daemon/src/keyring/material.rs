//! Material in use: HSM session objects as leases, SOFTWARE keys in memory.
//!
//! A lease's object is destroyed when its last user lets go. Objects are bounded
//! by the caches that hold them; each carries its member's epoch.

use std::sync::{Arc, Mutex, PoisonError};

use claviger_protocol::secret::Bytes;
use claviger_protocol::{Code, KeySpec, KeyUsage, Protection, Suite};
use uuid::Uuid;

use super::asymmetric::no_such_version;
use super::record::{KeyRecord, Location, VersionRecord, location};
use super::uses::Uses;
use super::{KeyEntry, Keyring, VersionEntry};
use crate::admission::behind;
use crate::backend::hsm::command::{
    Answer, Command, HsmError, ObjectId, RESERVED_SALT, Template, WrapFormat, Wrapped,
};
use crate::backend::hsm::lane::Lane;
use crate::backend::software::{self, MacKey, PrivateKey, SoftwareKey};
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

    /// Where it can be used.
    pub(super) fn lane(&self) -> &Arc<Lane> {
        &self.lane
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
    /// What it encrypts with, of a key that makes blobs.
    pub(super) suite: Option<Suite>,
    /// The material.
    pub(super) material: Material,
}

/// A version's material.
pub(super) enum Material {
    /// A secret key in memory, for blobs.
    Software(SoftwareKey),
    /// The same, for MACs.
    SoftwareMac(Arc<MacKey>),
    /// A private key in memory; shared with the threads that use it.
    SoftwarePair(Arc<PrivateKey>),
    /// In the HSM, for derivation only.
    Derived(DerivedKey),
    /// In the HSM, used itself.
    Direct(DirectKey),
    /// In the HSM: a MAC key, or a private key. Used on the lane of its lease.
    Held(Lease),
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
    pub(super) uses: Arc<Uses>,
}

fn fresh_salt(entropy: &Entropy) -> Result<[u8; 16], Failure> {
    loop {
        let salt = entropy.array()?;
        if salt != RESERVED_SALT {
            return Ok(salt);
        }
    }
}

/// What HSM objects of a key may do.
pub(super) fn template(spec: KeySpec, usage: KeyUsage, suite: Option<Suite>) -> Result<Template, Failure> {
    let wrong = || Failure::new(Code::Internal, "the key's version doesn't fit its spec");
    Ok(match (spec, usage) {
        (KeySpec::Aes256, _) => match suite {
            Some(Suite::HsmAes256Derived) => Template::AesDeriveOnly,
            Some(Suite::HsmAes256Direct) => Template::AesDirect,
            _ => return Err(wrong()),
        },
        (KeySpec::Sm4, _) => Template::Sm4Direct,
        (KeySpec::Hmac256 | KeySpec::Hmac384 | KeySpec::Hmac512 | KeySpec::HmacSm3, _) => {
            Template::HmacSecret
        }
        (KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096, KeyUsage::SignVerify) => Template::RsaSign,
        (KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096, KeyUsage::EncryptDecrypt) => {
            Template::RsaDecrypt
        }
        (KeySpec::EcP256 | KeySpec::EcP384, KeyUsage::SignVerify) => Template::EcSign,
        (KeySpec::Sm2, KeyUsage::SignVerify) => Template::Sm2Sign,
        (KeySpec::Sm2, KeyUsage::EncryptDecrypt) => Template::Sm2Decrypt,
        (_, KeyUsage::EncryptDecrypt | KeyUsage::GenerateVerifyMac) => return Err(wrong()),
    })
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
    if record.destroyed_at.is_some() {
        return Err(Failure::new(Code::InvalidKeyState, "the key's material was destroyed; import it again"));
    }
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
        self.ready_on(key, version_id, 0).await
    }

    /// The same with HSM material on one of the member's lanes: 0 is the one that serves,
    /// those for pairs follow.
    pub(super) async fn ready_on(
        &self,
        key: &KeyEntry,
        version_id: Uuid,
        lane: u8,
    ) -> Result<Option<Arc<Ready>>, Failure> {
        let key_id = key.record.key_id;
        let name = (version_id, lane);
        if let Some(ready) = self.materials.get(&name) {
            return Ok((ready.key_id == key_id).then_some(ready));
        }
        // Read within the load: material that is destroyed meanwhile is forgotten with it.
        let load = async {
            match self.version(key_id, version_id).await? {
                Some(version) => self.make_ready(key, &version, lane).await,
                None => Err(no_such_version()),
            }
        };
        if self.version(key_id, version_id).await?.is_none() {
            return Ok(None);
        }
        Ok(Some(self.materials.get_or_load(&name, load).await?))
    }

    async fn make_ready(&self, key: &KeyEntry, version: &VersionEntry, lane: u8) -> Result<Ready, Failure> {
        let (key, record) = (&key.record, &version.record);
        let material = if key.protection == Protection::Software {
            self.open_software(key, record).await?
        } else {
            let template = template(key.spec, key.usage, record.suite)?;
            self.hold(self.unwrap(key, record, template, lane).await?, template, record.version_id)?
        };
        Ok(Ready { key_id: record.key_id, version_id: record.version_id, suite: record.suite, material })
    }

    fn hold(&self, lease: Lease, template: Template, version_id: Uuid) -> Result<Material, Failure> {
        Ok(match template {
            Template::AesDeriveOnly => {
                let salt = fresh_salt(&self.edge.entropy)?;
                Material::Derived(DerivedKey { lease, salt: Mutex::new((salt, 0)) })
            }
            Template::AesDirect | Template::Sm4Direct => {
                Material::Direct(DirectKey { lease, uses: Arc::new(Uses::of(version_id, &self.remaining)) })
            }
            Template::HmacSecret
            | Template::RsaSign
            | Template::RsaDecrypt
            | Template::EcSign
            | Template::Sm2Sign
            | Template::Sm2Decrypt => Material::Held(lease),
        })
    }

    async fn open_software(&self, key: &KeyRecord, record: &VersionRecord) -> Result<Material, Failure> {
        let place = (record.key_id, record.version_id, key.spec);
        let sealed = &find(record, location::SEALED)?.blob.0;
        let material = software::open_material(self.domain.keys.software_seal(), place, sealed)?;
        if software::check_value(&material) != record.check_value {
            return Err(HsmError::CheckValueMismatch.into());
        }
        if let Some(pair) = key.spec.pair() {
            // The library checks the numbers of an RSA key: milliseconds.
            let read = self.crew.run(move || PrivateKey::from_pkcs8(pair, &material)).await??;
            return Ok(Material::SoftwarePair(Arc::new(read)));
        }
        if let Some(algorithm) = key.spec.mac_algorithm() {
            let key = MacKey::new(algorithm, &material)?;
            return Ok(Material::SoftwareMac(Arc::new(key)));
        }
        SoftwareKey::new(record.suite.ok_or(Code::InvalidKeyUsage)?, &material).map(Material::Software)
    }

    async fn unwrap(
        &self,
        key: &KeyRecord,
        record: &VersionRecord,
        template: Template,
        lane: u8,
    ) -> Result<Lease, Failure> {
        let place = find(record, location::WRAPPED)?;
        let wrapped = Wrapped {
            format: WrapFormat::from_number(place.format)
                .ok_or_else(|| Failure::new(Code::Internal, "the key is wrapped in an unknown format"))?,
            generation: place.generation,
            blob: place.blob.0.clone(),
        };
        let command = match &record.public_key {
            None => Command::Unwrap { wrapped, spec: key.spec, template, check_value: record.check_value },
            Some(public_key) => {
                Command::UnwrapPair { wrapped, spec: key.spec, template, public_key: public_key.0.clone() }
            }
        };
        let lane = self.pair_lane(lane);
        match lane.run(command).await {
            Ok(Answer::Object(object)) => {
                self.done.unwraps.one();
                Ok(Lease { object, lane: Arc::clone(lane) })
            }
            Ok(_) => Err(HsmError::Fault("unwrap answered with something else".into()).into()),
            Err(error) => {
                self.done.failed_unwraps.one();
                tracing::warn!(version = %record.version_id, %error, "a key could not be unwrapped");
                Err(error.into())
            }
        }
    }

    fn pair_lane(&self, number: u8) -> &Arc<Lane> {
        let pairs = number.checked_sub(1).and_then(|index| self.member.asymmetric.get(usize::from(index)));
        pairs.unwrap_or(&self.member.serve)
    }

    /// The lane for a private key: P-256 is fast enough to run in place, as long as nothing
    /// waits behind it.
    pub(super) fn lane_for(&self, key: &KeyRecord) -> u8 {
        let in_place = key.spec == KeySpec::EcP256 && !behind::waiting();
        if key.protection == Protection::Software || in_place {
            return 0;
        }
        let lanes = self.member.asymmetric.iter().zip(1..);
        lanes.min_by_key(|(lane, _)| lane.waiting()).map_or(0, |(_, number)| number)
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
        let derived = self.sub_keys.get_or_load(&name, derive).await?;
        // Its parent was let go of meanwhile: nothing of it stays behind.
        if self.materials.get(&(version_id, 0)).is_none() {
            self.sub_keys.forget(&name);
        }
        Ok(derived)
    }

    /// Lets go of a version whose material is destroyed, everywhere: in memory, in the HSM
    /// once its last user is done, and where it is being loaded just now.
    pub(super) fn forget_version(&self, version_id: Uuid) {
        let lanes = u8::try_from(self.member.asymmetric.len()).unwrap_or(u8::MAX);
        for lane in 0..=lanes {
            self.materials.forget(&(version_id, lane));
        }
        self.sub_keys.retain(|(of, _)| *of != version_id);
        self.remaining.forget(version_id);
    }

    /// Lets go of a version's session objects after one of them turned out dead.
    pub(super) fn forget_objects(&self, version_id: Uuid, lane: u8, salt: Option<[u8; 16]>) {
        self.materials.forget(&(version_id, lane));
        if let Some(salt) = salt {
            self.sub_keys.forget(&(version_id, salt));
        }
    }
}
