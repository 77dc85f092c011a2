//! From what was sent to material as it is stored: inside the HSM where it can, otherwise
//! through the daemon's locked memory, which the result says. What must not live here: whose
//! material it may become.

use aws_lc_rs::hmac;
use claviger_protocol::{Code, KeyPairSpec, Protection, SecretBytes, Suite, WrappingKeySpec};
use uuid::Uuid;

use super::Sent;
use crate::backend::hsm::command::{Answer, CheckValue, Command, HsmError, WrapFormat, Wrapped, WrappingKey};
use crate::backend::import::{Envelope, Material, Wrong};
use crate::backend::software::{self, UnwrappingKey};
use crate::failure::Failure;
use crate::keyring::Keyring;
use crate::keyring::making::pair_check_value;
use crate::keyring::material::{template, wrapped_location};
use crate::keyring::record::{ImportRecord, KeyRecord, Location, location};

/// Bytes of a fingerprint.
pub(super) const FINGERPRINT_LEN: usize = 32;

/// Material that has come in, and isn't a key's yet.
pub(super) struct Brought {
    /// The version that it was made ready for.
    pub(super) version_id: Uuid,
    /// What it encrypts with, of keys that make blobs.
    pub(super) suite: Option<Suite>,
    /// What is checked after every unwrap.
    pub(super) check_value: CheckValue,
    /// Where it is.
    pub(super) location: Location,
    /// SPKI DER of a pair.
    pub(super) public_key: Option<Vec<u8>>,
    /// What ties the key to it for ever.
    pub(super) fingerprint: [u8; FINGERPRINT_LEN],
    /// Whether it passed through the daemon's memory.
    pub(super) through_memory: bool,
}

impl Keyring {
    /// Opens what was sent and makes it ready to be stored.
    pub(super) async fn bring(
        &self,
        key: &KeyRecord,
        given: &ImportRecord,
        sent: &Sent<'_>,
    ) -> Result<Brought, Failure> {
        let (material, ephemeral) = (sent.material.to_vec(), sent.ephemeral.map(<[u8]>::to_vec));
        let envelope = Envelope::new(key.spec, given.wrapping_spec, given.algorithm, material, ephemeral)
            .map_err(|_| Code::InvalidMaterial)?;
        let existing = self.version_ids(key.key_id, None, 1).await?.first().copied();
        let (version_id, suite) = match existing {
            Some(id) => (id, self.version(key.key_id, id).await?.ok_or(Code::Internal)?.record.suite),
            None => (self.edge.entropy.uuid()?, self.suite(key.spec, key.protection)),
        };
        let private = given.private.as_ref().ok_or(Code::InvalidImportToken)?;
        let of_hsm = (private.kind == location::WRAPPED).then(|| wrapping_key(given, private)).transpose()?;
        if let (Some(wrapping), Protection::Hsm) = (&of_hsm, key.protection)
            && let Some(brought) = self.bring_inside(key, wrapping, &envelope, (version_id, suite)).await?
        {
            return Ok(brought);
        }
        let material = match of_hsm {
            Some(wrapping) => self.open_block(wrapping, envelope).await?,
            None => self.open_envelope(given, private, envelope).await?,
        };
        self.keep(key, material, (version_id, suite)).await
    }

    /// The whole way inside the token; none where it can't.
    async fn bring_inside(
        &self,
        key: &KeyRecord,
        wrapping: &WrappingKey,
        envelope: &Envelope,
        (version_id, suite): (Uuid, Option<Suite>),
    ) -> Result<Option<Brought>, Failure> {
        let Some(inner) = envelope.key_wrapped() else { return Ok(None) };
        let import = Command::Import {
            key: wrapping.clone(),
            algorithm: envelope.algorithm(),
            block: envelope.block().map_err(|Wrong| Code::InvalidMaterial)?.to_vec(),
            inner: inner.map(<[u8]>::to_vec),
            spec: key.spec,
            template: template(key.spec, key.usage, suite)?,
        };
        match self.member.pair_lane().run(import).await {
            Ok(Answer::NotInside) => Ok(None),
            answer => self.brought(answer, (version_id, suite), false).map(Some),
        }
    }

    /// What the token made of material, as it is stored.
    fn brought(
        &self,
        answer: Result<Answer, HsmError>,
        (version_id, suite): (Uuid, Option<Suite>),
        through_memory: bool,
    ) -> Result<Brought, Failure> {
        let (wrapped, check_value, value, public_key) = match answer {
            Ok(Answer::Imported { wrapped, check_value, value }) => (wrapped, check_value, value, None),
            Ok(Answer::GeneratedPair { wrapped, public_key }) => {
                let value = SecretBytes::new(public_key.clone());
                (wrapped, pair_check_value(&public_key), value, Some(public_key))
            }
            Ok(_) => return Err(HsmError::Fault("import answered with something else".into()).into()),
            Err(HsmError::AuthenticationFailed) => return Err(Code::InvalidMaterial.into()),
            Err(error) => return Err(error.into()),
        };
        let (location, fingerprint) = (wrapped_location(wrapped), self.fingerprint(&value));
        Ok(Brought { version_id, suite, check_value, location, public_key, fingerprint, through_memory })
    }

    /// The HSM opens the block, and the rest is done here.
    async fn open_block(&self, key: WrappingKey, envelope: Envelope) -> Result<Material, Failure> {
        let opened = match envelope.block() {
            Err(Wrong) => Err(Wrong),
            Ok(block) => {
                let open = Command::OpenBlock { key, algorithm: envelope.algorithm(), block: block.to_vec() };
                match self.member.pair_lane().run(open).await {
                    Ok(Answer::Bytes(opened)) => Ok(opened),
                    Ok(_) => {
                        return Err(HsmError::Fault("a block opened to something else".into()).into());
                    }
                    Err(HsmError::AuthenticationFailed) => Err(Wrong),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let material = self.crew.run(move || envelope.finish(opened)).await?;
        material.map_err(|Wrong| Code::InvalidMaterial.into())
    }

    /// All of it is opened here.
    async fn open_envelope(
        &self,
        given: &ImportRecord,
        private: &Location,
        envelope: Envelope,
    ) -> Result<Material, Failure> {
        let place = (given.key_id, given.import_id, pair_spec(given.wrapping_spec)?.key_spec());
        let pkcs8 = software::open_material(self.domain.keys.software_seal(), place, &private.blob.0)?;
        let spec = given.wrapping_spec;
        let material = self.crew.run(move || {
            let key = UnwrappingKey::from_pkcs8(spec, &pkcs8)?;
            let opened =
                envelope.block().and_then(|block| key.open(envelope.algorithm(), block).ok_or(Wrong));
            envelope.finish(opened).map_err(|Wrong| Failure::from(Code::InvalidMaterial))
        });
        material.await?
    }

    /// Puts material that is in memory where it is to stay.
    async fn keep(
        &self,
        key: &KeyRecord,
        material: Material,
        (version_id, suite): (Uuid, Option<Suite>),
    ) -> Result<Brought, Failure> {
        let (material, public_key) = match material {
            Material::Secret(secret) => (secret, None),
            Material::Pair { pkcs8, public_key } => (pkcs8, Some(public_key)),
        };
        if key.protection == Protection::Hsm {
            let adopt = Command::Adopt {
                material,
                spec: key.spec,
                template: template(key.spec, key.usage, suite)?,
                public_key: public_key.unwrap_or_default(),
            };
            let answer = match self.member.pair_lane().run(adopt).await {
                // It was the daemon's own: nothing that the caller could mend.
                Err(HsmError::AuthenticationFailed) => {
                    Err(HsmError::Fault("adopted material failed its check".into()))
                }
                answer => answer,
            };
            return self.brought(answer, (version_id, suite), true);
        }
        let value = match &public_key {
            Some(public_key) => SecretBytes::new(public_key.clone()),
            None => software::import_value(key.spec, &material)?,
        };
        let sealed = self.sealed(key.spec, (key.key_id, version_id), suite, &material, public_key)?;
        Ok(Brought {
            version_id,
            suite: sealed.suite,
            check_value: sealed.check_value,
            location: sealed.location,
            public_key: sealed.public_key,
            fingerprint: self.fingerprint(&value),
            through_memory: true,
        })
    }

    /// HMAC-SHA-256 under the domain's key for fingerprints, of what tells material apart.
    fn fingerprint(&self, value: &SecretBytes) -> [u8; FINGERPRINT_LEN] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.domain.keys.import_fingerprint());
        let mut out = [0; FINGERPRINT_LEN];
        out.copy_from_slice(hmac::sign(&key, value.expose()).as_ref());
        out
    }
}

/// The kind of pair that a wrapping key is.
pub(super) fn pair_spec(spec: WrappingKeySpec) -> Result<KeyPairSpec, Failure> {
    KeyPairSpec::from_number(spec.number()).ok_or_else(|| Code::Internal.into())
}

/// The token's wrapping key of some parameters.
fn wrapping_key(given: &ImportRecord, private: &Location) -> Result<WrappingKey, Failure> {
    let format = WrapFormat::from_number(private.format)
        .ok_or_else(|| Failure::new(Code::Internal, "the wrapping key is wrapped in an unknown format"))?;
    Ok(WrappingKey {
        wrapped: Wrapped { format, generation: private.generation, blob: private.blob.0.clone() },
        spec: pair_spec(given.wrapping_spec)?.key_spec(),
        public_key: given.public_key.0.clone(),
    })
}
