//! New material of any spec at either level, in the form in which it is stored.

use aws_lc_rs::digest;
use claviger_protocol::{Code, KeyPairSpec, KeySpec, KeyUsage, Protection, SecretBytes, Suite};
use uuid::Uuid;

use super::Keyring;
use super::material::{sealed_location, template, wrapped_location};
use super::record::Location;
use crate::backend::hsm::command::{Answer, CheckValue, Command, HsmError, Template};
use crate::backend::software::{self, PrivateKey};
use crate::failure::Failure;

/// Material that has just been made, and isn't stored yet.
pub(super) struct NewMaterial {
    /// What it encrypts with, of keys that make blobs.
    pub(super) suite: Option<Suite>,
    /// What only this material gives.
    pub(super) check_value: CheckValue,
    /// Where it is.
    pub(super) location: Location,
    /// SPKI DER of a pair.
    pub(super) public_key: Option<Vec<u8>>,
}

impl Keyring {
    /// Makes material for the version `ids.1` of the key `ids.0`.
    pub(super) async fn new_material(
        &self,
        spec: KeySpec,
        usage: KeyUsage,
        protection: Protection,
        ids: (Uuid, Uuid),
    ) -> Result<NewMaterial, Failure> {
        match (protection, spec.pair()) {
            (Protection::Hsm, _) => self.in_hsm(spec, usage).await,
            (Protection::Software, Some(pair)) => {
                let (material, public_key) = self.new_pair(pair).await?;
                self.sealed(spec, ids, None, &material, Some(public_key))
            }
            (Protection::Software, None) => {
                let length = spec.secret_len().and_then(|length| u16::try_from(length).ok());
                let material = self.random(length.ok_or(Code::Internal)?).await?;
                self.sealed(spec, ids, self.suite(spec, protection), &material, None)
            }
        }
    }

    /// A pair made in the daemon's memory: PKCS#8 DER of the private key, SPKI DER of the
    /// public one.
    pub async fn new_pair(&self, spec: KeyPairSpec) -> Result<(SecretBytes, Vec<u8>), Failure> {
        let entropy = self.edge.entropy.clone();
        self.crew.make(move || PrivateKey::generate(spec, &entropy)).await?
    }

    /// What new keys of the spec make blobs with, if they do.
    pub(super) fn suite(&self, spec: KeySpec, protection: Protection) -> Option<Suite> {
        match (spec, protection, self.member.aes_template) {
            (KeySpec::Aes256, Protection::Software, _) => Some(Suite::SoftwareAes256),
            (KeySpec::Sm4, Protection::Software, _) => Some(Suite::SoftwareSm4),
            (KeySpec::Aes256, Protection::Hsm, Template::AesDeriveOnly) => Some(Suite::HsmAes256Derived),
            (KeySpec::Aes256, Protection::Hsm, _) => Some(Suite::HsmAes256Direct),
            (KeySpec::Sm4, Protection::Hsm, _) => Some(Suite::HsmSm4Direct),
            _ => None,
        }
    }

    /// Material as it is stored at SOFTWARE level.
    pub(super) fn sealed(
        &self,
        spec: KeySpec,
        (key_id, version_id): (Uuid, Uuid),
        suite: Option<Suite>,
        material: &SecretBytes,
        public_key: Option<Vec<u8>>,
    ) -> Result<NewMaterial, Failure> {
        let place = (key_id, version_id, spec);
        let seal_key = self.domain.keys.software_seal();
        let sealed = software::seal_material(seal_key, place, &self.edge.entropy, material)?;
        Ok(NewMaterial {
            suite,
            check_value: software::check_value(material),
            location: sealed_location(sealed),
            public_key,
        })
    }

    async fn in_hsm(&self, spec: KeySpec, usage: KeyUsage) -> Result<NewMaterial, Failure> {
        let suite = self.suite(spec, Protection::Hsm);
        let template = template(spec, usage, suite)?;
        match self.member.make.run(Command::Generate { spec, template }).await? {
            Answer::Generated { wrapped, check_value } => {
                Ok(NewMaterial { suite, check_value, location: wrapped_location(wrapped), public_key: None })
            }
            Answer::GeneratedPair { wrapped, public_key } => Ok(NewMaterial {
                suite,
                check_value: pair_check_value(&public_key),
                location: wrapped_location(wrapped),
                public_key: Some(public_key),
            }),
            _ => Err(HsmError::Fault("generate answered with something else".into()).into()),
        }
    }
}

/// What stands for a pair in the HSM: 8 bytes of the SHA-256 of its public key, against
/// which the unwrapped private key is tried.
pub(super) fn pair_check_value(public_key: &[u8]) -> CheckValue {
    let hash = digest::digest(&digest::SHA256, public_key);
    let mut value = CheckValue::default();
    value.copy_from_slice(&hash.as_ref()[..8]);
    value
}
