//! MACs: made with the primary version, checked with the one that is named.

use std::sync::Arc;

use claviger_protocol::{Code, MacAlgorithm, SecretBytes};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::asymmetric::{IN_PLACE, no_such_version};
use super::material::Material;
use super::{Grant, Keyring};
use crate::backend::hsm::command::{Command, HsmError};
use crate::failure::Failure;

/// Versions that a MAC is tried with where the call names none: each may cost an unwrap.
const MAX_TRIED: usize = 96;
/// Versions looked up in one read.
const VERSIONS_AT_ONCE: usize = 16;

impl Keyring {
    /// A MAC of the message under the granted key's primary version.
    pub async fn mac(
        &self,
        grant: &Grant,
        algorithm: Option<MacAlgorithm>,
        message: &SecretBytes,
    ) -> Result<(Uuid, Vec<u8>), Failure> {
        let algorithm = fits(grant, algorithm)?;
        let primary = grant.key().record.primary_version.ok_or(Code::Internal)?;
        let mac = self.mac_with(grant, primary, algorithm, message).await?;
        let mac = mac.ok_or(Code::Internal)?;
        self.recheck(grant).await?;
        Ok((primary, mac.expose().to_vec()))
    }

    /// Whether a MAC is right: of the version that is named, else of the primary one or of
    /// an older one. Which version it was; the primary one where it is of none.
    pub async fn verify_mac(
        &self,
        grant: &Grant,
        version: Option<Uuid>,
        algorithm: Option<MacAlgorithm>,
        message: &SecretBytes,
        mac: &[u8],
    ) -> Result<(Uuid, bool), Failure> {
        let algorithm = fits(grant, algorithm)?;
        let first = version.or(grant.key().record.primary_version).ok_or(Code::Internal)?;
        let mut valid = self.is_mac_of(grant, first, algorithm, message, mac).await?;
        let mut found = first;
        if version.is_none() && !valid && grant.key().record.version_count > 1 {
            let older = self.older_mac(grant, first, algorithm, message, mac).await?;
            (found, valid) = older.map_or((first, false), |version| (version, true));
        }
        self.recheck(grant).await?;
        Ok((found, valid))
    }

    /// The newest of the other versions that a MAC is of.
    async fn older_mac(
        &self,
        grant: &Grant,
        first: Uuid,
        algorithm: MacAlgorithm,
        message: &SecretBytes,
        mac: &[u8],
    ) -> Result<Option<Uuid>, Failure> {
        let key_id = grant.key().record.key_id;
        let (mut before, mut tried) = (None, 0);
        loop {
            if tried >= MAX_TRIED {
                let text = format!(
                    "the MAC is of none of the key's {MAX_TRIED} newest versions; name the version that it is of"
                );
                return Err(Failure::new(Code::KeyVersionRequired, text));
            }
            tried += VERSIONS_AT_ONCE;
            let versions = self.versions(key_id, before, VERSIONS_AT_ONCE).await?;
            for version in &versions {
                let id = version.version_id;
                if id != first && self.is_mac_of(grant, id, algorithm, message, mac).await? {
                    return Ok(Some(id));
                }
            }
            match versions.last() {
                Some(last) if versions.len() == VERSIONS_AT_ONCE => before = Some(last.number),
                _ => return Ok(None),
            }
        }
    }

    async fn is_mac_of(
        &self,
        grant: &Grant,
        version_id: Uuid,
        algorithm: MacAlgorithm,
        message: &SecretBytes,
        mac: &[u8],
    ) -> Result<bool, Failure> {
        let made = self.mac_with(grant, version_id, algorithm, message).await?;
        Ok(made.ok_or_else(no_such_version)?.expose().ct_eq(mac).into())
    }

    /// `None` where the key has no such version.
    async fn mac_with(
        &self,
        grant: &Grant,
        version_id: Uuid,
        algorithm: MacAlgorithm,
        message: &SecretBytes,
    ) -> Result<Option<SecretBytes>, Failure> {
        let mut again = false;
        loop {
            let Some(ready) = self.ready(grant.key(), version_id).await? else {
                return Ok(None);
            };
            match &ready.material {
                Material::SoftwareMac(key) => {
                    let (key, message) = (Arc::clone(key), message.clone());
                    let long = message.len() > IN_PLACE;
                    let mac = move || SecretBytes::new(key.mac(message.expose()));
                    return Ok(Some(if long { self.crew.run(mac).await? } else { mac() }));
                }
                Material::Held(lease) => {
                    let command =
                        Command::Mac { object: lease.object(), algorithm, message: message.clone() };
                    match self.bytes_from(lease.lane(), command).await {
                        Err(HsmError::ObjectGone) if !again => {
                            self.forget_objects(version_id, 0, None);
                            again = true;
                        }
                        result => return Ok(Some(result?)),
                    }
                }
                _ => return Err(Code::InvalidKeyUsage.into()),
            }
        }
    }
}

/// The algorithm of the key's spec, which is the only one that a call may name.
fn fits(grant: &Grant, named: Option<MacAlgorithm>) -> Result<MacAlgorithm, Failure> {
    let spec = grant.key().record.spec;
    let own = spec.mac_algorithm().ok_or(Code::InvalidKeyUsage)?;
    match named {
        Some(other) if other != own => {
            let text = format!("{spec} keys make MACs with {own}, not with {other}");
            Err(Failure::new(Code::InvalidArgument, text))
        }
        _ => Ok(own),
    }
}
