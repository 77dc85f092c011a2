//! Use of key pairs: signatures and short ciphertexts, with the version that the call
//! names. Public keys are used in software at either level; private ones where they live.

use std::sync::Arc;

use claviger_protocol::{
    Code, DigestAlgorithm, EncryptionAlgorithm, KeySpec, MessageType, SecretBytes, SigningAlgorithm,
};
use uuid::Uuid;

use super::material::{Lease, Material};
use super::{Grant, Keyring};
use crate::admission::behind;
use crate::backend::hsm::command::{Answer, Command, HsmError};
use crate::backend::software::{self, PrivateKey, PublicKey};
use crate::failure::Failure;

/// Bytes of the longest message that is hashed in place: 100 µs at SM3's pace.
pub(super) const IN_PLACE: usize = 32 * 1024;

/// A version's public key, read once.
pub(super) struct Public {
    key_id: Uuid,
    der: Vec<u8>,
    key: PublicKey,
}

/// What is to be signed or was.
pub struct Signable<'a> {
    /// How.
    pub algorithm: SigningAlgorithm,
    /// What `message` is.
    pub message_type: MessageType,
    /// The message, or its digest.
    pub message: &'a SecretBytes,
    /// SM2DSA: the user id; the key's own where there is none.
    pub user_id: Option<&'a [u8]>,
}

/// What a private key is asked for.
#[derive(Clone)]
enum Ask {
    Sign(SigningAlgorithm, Vec<u8>),
    Decrypt(EncryptionAlgorithm, Vec<u8>),
}

impl Keyring {
    /// Signs with a version of the granted pair; which one it was, and the signature.
    pub async fn sign(
        &self,
        grant: &Grant,
        version: Option<Uuid>,
        what: &Signable<'_>,
    ) -> Result<(Uuid, Vec<u8>), Failure> {
        fits(what.algorithm, grant.key().record.spec.signing_algorithms(), grant, "sign")?;
        let version_id = chosen(grant, version)?;
        let digest = self.digest_of(grant, version_id, what).await?;
        let signature = self.ask(grant, version_id, Ask::Sign(what.algorithm, digest)).await?;
        self.recheck(grant).await?;
        Ok((version_id, signature.expose().to_vec()))
    }

    /// Checks a signature; with which version, and whether it is right.
    pub async fn verify(
        &self,
        grant: &Grant,
        version: Option<Uuid>,
        what: &Signable<'_>,
        signature: &[u8],
    ) -> Result<(Uuid, bool), Failure> {
        fits(what.algorithm, grant.key().record.spec.signing_algorithms(), grant, "sign")?;
        let version_id = chosen(grant, version)?;
        let digest = self.digest_of(grant, version_id, what).await?;
        let public = self.public(grant, version_id).await?;
        let (algorithm, signature) = (what.algorithm, signature.to_vec());
        let check = move |public: &PublicKey| public.verify(algorithm, &digest, &signature);
        let valid = self.with_public(public, check).await?;
        self.recheck(grant).await?;
        Ok((version_id, valid))
    }

    /// Encrypts a short message to a version of the granted pair.
    pub async fn encrypt_to(
        &self,
        grant: &Grant,
        version: Option<Uuid>,
        algorithm: EncryptionAlgorithm,
        plaintext: &SecretBytes,
    ) -> Result<(Uuid, Vec<u8>), Failure> {
        fits(algorithm, grant.key().record.spec.encryption_algorithms(), grant, "encrypt")?;
        let version_id = chosen(grant, version)?;
        let public = self.public(grant, version_id).await?;
        let (plaintext, entropy) = (plaintext.clone(), self.edge.entropy.clone());
        let encrypt =
            move |public: &PublicKey| public.encrypt(algorithm.into(), plaintext.expose(), &entropy);
        let ciphertext = self.with_public(public, encrypt).await??;
        self.recheck(grant).await?;
        Ok((version_id, ciphertext))
    }

    /// Decrypts what was encrypted to a version of the granted pair.
    pub async fn decrypt_with(
        &self,
        grant: &Grant,
        version: Option<Uuid>,
        algorithm: EncryptionAlgorithm,
        ciphertext: &[u8],
    ) -> Result<(Uuid, SecretBytes), Failure> {
        fits(algorithm, grant.key().record.spec.encryption_algorithms(), grant, "encrypt")?;
        let version_id = chosen(grant, version)?;
        let plaintext = self.ask(grant, version_id, Ask::Decrypt(algorithm, ciphertext.to_vec())).await?;
        self.recheck(grant).await?;
        Ok((version_id, plaintext))
    }

    /// The public key of a version, SPKI DER.
    pub async fn public_key(&self, grant: &Grant, version: Option<Uuid>) -> Result<(Uuid, Vec<u8>), Failure> {
        let version_id = chosen(grant, version)?;
        let der = self.public(grant, version_id).await?.der.clone();
        self.recheck(grant).await?;
        Ok((version_id, der))
    }

    /// Encrypts a data key to a public key that the caller brought.
    pub async fn export_to(
        &self,
        public: PublicKey,
        algorithm: claviger_protocol::ExportAlgorithm,
        data_key: &SecretBytes,
    ) -> Result<Vec<u8>, Failure> {
        let (data_key, entropy) = (data_key.clone(), self.edge.entropy.clone());
        let encrypt = move || public.encrypt(algorithm, data_key.expose(), &entropy);
        self.crew.run(encrypt).await?
    }

    /// A digest of a message of any length.
    pub async fn digest(
        &self,
        algorithm: DigestAlgorithm,
        message: &SecretBytes,
    ) -> Result<Vec<u8>, Failure> {
        if message.len() <= IN_PLACE {
            return Ok(software::digest(algorithm, message.expose()));
        }
        let message = message.clone();
        self.crew.run(move || software::digest(algorithm, message.expose())).await
    }

    /// What is signed: the digest that the caller gave, or the message's.
    async fn digest_of(
        &self,
        grant: &Grant,
        version_id: Uuid,
        what: &Signable<'_>,
    ) -> Result<Vec<u8>, Failure> {
        let own = grant.key().record.sm2_user_id.as_ref().map(|id| id.0.as_slice());
        if what.user_id.is_some() && what.algorithm != SigningAlgorithm::Sm2Dsa {
            return Err(Failure::new(Code::InvalidArgument, "only SM2DSA has a user id"));
        }
        if what.message_type == MessageType::Digest {
            let expected = what.algorithm.digest().len();
            if what.user_id.is_some() {
                let text = "a user id is hashed with the message: leave it out where the digest is given";
                return Err(Failure::new(Code::InvalidArgument, text));
            }
            if what.message.len() != expected {
                let text = format!(
                    "{} signs digests of {expected} bytes, this one has {}",
                    what.algorithm,
                    what.message.len()
                );
                return Err(Failure::new(Code::InvalidArgument, text));
            }
            return Ok(what.message.expose().to_vec());
        }
        let public = self.public(grant, version_id).await?;
        let user_id = what.user_id.or(own).map(<[u8]>::to_vec);
        let algorithm = what.algorithm;
        if what.message.len() <= IN_PLACE {
            return public.key.digest_of(algorithm, what.message.expose(), user_id.as_deref());
        }
        let message = what.message.clone();
        let hash = move || public.key.digest_of(algorithm, message.expose(), user_id.as_deref());
        self.crew.run(hash).await?
    }

    async fn public(&self, grant: &Grant, version_id: Uuid) -> Result<Arc<Public>, Failure> {
        let key_id = grant.key().record.key_id;
        let found = match self.public_keys.get(&version_id) {
            Some(public) => public,
            None => {
                let load = async {
                    let version = self.version(key_id, version_id).await?.ok_or_else(no_such_version)?;
                    let der = version.record.public_key.clone().ok_or(Code::InvalidKeyUsage)?.0;
                    Ok::<_, Failure>(Public { key_id, key: PublicKey::from_spki(&der)?, der })
                };
                self.public_keys.get_or_load(&version_id, load).await?
            }
        };
        if found.key_id == key_id { Ok(found) } else { Err(no_such_version()) }
    }

    /// Runs with a public key: RSA's and P-256's in place, the slower curves elsewhere.
    async fn with_public<T: Send + 'static>(
        &self,
        public: Arc<Public>,
        run: impl FnOnce(&PublicKey) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let fast = public.key.spec().map(claviger_protocol::KeyPairSpec::key_spec);
        if matches!(fast, Some(KeySpec::Sm2 | KeySpec::EcP384)) {
            return self.crew.run(move || run(&public.key)).await;
        }
        Ok(run(&public.key))
    }

    /// What a private key gives, wherever it lives.
    async fn ask(&self, grant: &Grant, version_id: Uuid, ask: Ask) -> Result<SecretBytes, Failure> {
        let lane = self.lane_for(&grant.key().record);
        let mut again = false;
        loop {
            let ready = self.ready_on(grant.key(), version_id, lane).await?.ok_or_else(no_such_version)?;
            match &ready.material {
                Material::SoftwarePair(key) => return self.ask_software(grant, Arc::clone(key), ask).await,
                Material::Held(lease) => match self.ask_hsm(lease, ask.clone()).await {
                    Err(HsmError::ObjectGone) if !again => {
                        self.forget_objects(version_id, lane, None);
                        again = true;
                    }
                    result => return Ok(result?),
                },
                _ => return Err(Code::InvalidKeyUsage.into()),
            }
        }
    }

    async fn ask_hsm(&self, lease: &Lease, ask: Ask) -> Result<SecretBytes, HsmError> {
        let object = lease.object();
        let command = match ask {
            Ask::Sign(algorithm, digest) => Command::Sign { object, algorithm, digest },
            Ask::Decrypt(algorithm, ciphertext) => Command::PrivateDecrypt { object, algorithm, ciphertext },
        };
        self.bytes_from(lease.lane(), command).await
    }

    async fn ask_software(
        &self,
        grant: &Grant,
        key: Arc<PrivateKey>,
        ask: Ask,
    ) -> Result<SecretBytes, Failure> {
        let entropy = self.edge.entropy.clone();
        let run = move || match &ask {
            Ask::Sign(algorithm, digest) => key.sign(*algorithm, digest, &entropy).map(SecretBytes::new),
            Ask::Decrypt(algorithm, ciphertext) => key.decrypt(*algorithm, ciphertext),
        };
        let in_place = grant.key().record.spec == KeySpec::EcP256 && !behind::waiting();
        if in_place { run() } else { self.crew.run(run).await? }
    }

    pub(super) async fn bytes_from(
        &self,
        lane: &Arc<crate::backend::hsm::lane::Lane>,
        command: Command,
    ) -> Result<SecretBytes, HsmError> {
        let long = matches!(&command, Command::Mac { message, .. } if message.len() > IN_PLACE);
        let at_once = if long { None } else { lane.try_run(&command) };
        let answer = match at_once {
            Some(answer) => answer,
            None => Box::pin(lane.run(command)).await,
        };
        match answer? {
            Answer::Bytes(bytes) => Ok(bytes),
            _ => Err(HsmError::Fault("bytes were asked for".into())),
        }
    }
}

/// Which version a call means: the one it names, or the only one there is.
fn chosen(grant: &Grant, version: Option<Uuid>) -> Result<Uuid, Failure> {
    let key = &grant.key().record;
    choose(version, key.version_count, key.primary_version)
}

/// The same of how many the key has, and of the one that its record names.
fn choose(asked: Option<Uuid>, count: u32, only: Option<Uuid>) -> Result<Uuid, Failure> {
    match asked {
        Some(version) => Ok(version),
        None if count == 1 => only.ok_or_else(|| Code::Internal.into()),
        None => Err(Code::KeyVersionRequired.into()),
    }
}

pub(super) fn no_such_version() -> Failure {
    Failure::new(Code::NotFound, "the key has no such version")
}

fn fits<A: PartialEq + Copy + std::fmt::Display>(
    algorithm: A,
    possible: &[A],
    grant: &Grant,
    what: &str,
) -> Result<(), Failure> {
    if possible.contains(&algorithm) {
        return Ok(());
    }
    let names: Vec<String> = possible.iter().map(ToString::to_string).collect();
    let spec = grant.key().record.spec;
    let text = format!("{spec} keys don't {what} with {algorithm}; they do with {}", names.join(", "));
    Err(Failure::new(Code::InvalidArgument, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No operation of this version makes a second version; records may have one.
    #[test]
    fn a_version_may_be_left_out_where_there_is_one() {
        let (only, asked) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let code = |chosen: Result<Uuid, Failure>| chosen.map_err(|failure| failure.code);
        assert_eq!(code(choose(None, 1, Some(only))), Ok(only));
        assert_eq!(code(choose(Some(asked), 1, Some(only))), Ok(asked), "whose it is is looked at later");
        assert_eq!(code(choose(Some(asked), 2, None)), Ok(asked));
        for named in [None, Some(only)] {
            assert_eq!(code(choose(None, 2, named)), Err(Code::KeyVersionRequired));
            assert_eq!(code(choose(None, 0, named)), Err(Code::KeyVersionRequired));
        }
    }
}
