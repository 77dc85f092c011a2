//! Encryption and decryption with a granted key, in whichever suite its version has.

use claviger_protocol::blob::{BlobHeader, BlobRef, TAG_LEN, authenticated_data};
use claviger_protocol::{Code, EncryptionContext, SecretBytes};
use uuid::Uuid;

use super::material::{Material, Ready};
use super::{Grant, Keyring};
use crate::backend::hsm::command::{Answer, Command, HsmError, ObjectId};
use crate::failure::Failure;

/// A new ciphertext.
#[derive(Debug)]
pub struct Encrypted {
    /// The version that encrypted.
    pub version_id: Uuid,
    /// The ciphertext blob.
    pub blob: Vec<u8>,
}

/// A use of a session object that failed.
enum UseError {
    /// The object is dead: unwrap again and retry once.
    Gone(Option<[u8; 16]>),
    /// Final.
    Failed(Failure),
}

impl<T: Into<Failure>> From<T> for UseError {
    fn from(error: T) -> Self {
        Self::Failed(error.into())
    }
}

impl Keyring {
    /// Encrypts under the key's primary version.
    pub async fn encrypt(
        &self,
        grant: &Grant,
        plaintext: &SecretBytes,
        context: &EncryptionContext,
    ) -> Result<Encrypted, Failure> {
        let key = grant.key();
        let primary = key.record.primary_version.ok_or(Code::InvalidKeyUsage)?;
        let ready = self.ready(key, primary).await?.ok_or(Code::Internal)?;
        let mut attempt = self.encrypt_once(&ready, plaintext, context).await;
        if let Err(UseError::Gone(salt)) = attempt {
            self.forget_objects(primary, 0, salt);
            let again = self.ready(key, primary).await?.ok_or(Code::Internal)?;
            attempt = Box::pin(self.encrypt_once(&again, plaintext, context)).await;
        }
        let blob = settle(attempt)?;
        self.recheck(grant).await?;
        Ok(Encrypted { version_id: primary, blob })
    }

    /// Opens a blob that names the granted key.
    pub async fn decrypt(
        &self,
        grant: &Grant,
        blob: &BlobRef<'_>,
        context: &EncryptionContext,
    ) -> Result<SecretBytes, Failure> {
        let key = grant.key();
        let ready = self.ready(key, blob.version_id).await?.ok_or_else(Failure::ciphertext)?;
        let mut attempt = self.decrypt_once(&ready, blob, context).await;
        if let Err(UseError::Gone(salt)) = attempt {
            self.forget_objects(blob.version_id, 0, salt);
            let again = self.ready(key, blob.version_id).await?.ok_or_else(Failure::ciphertext)?;
            attempt = Box::pin(self.decrypt_once(&again, blob, context)).await;
        }
        let plaintext = settle(attempt)?;
        self.recheck(grant).await?;
        Ok(plaintext)
    }

    /// Random bytes from the pool.
    pub async fn random(&self, len: u16) -> Result<SecretBytes, Failure> {
        Ok(self.bytes_from_lane(Command::Random { len }).await?)
    }

    async fn encrypt_once(
        &self,
        ready: &Ready,
        plaintext: &SecretBytes,
        context: &EncryptionContext,
    ) -> Result<Vec<u8>, UseError> {
        let ids = (ready.key_id, ready.version_id);
        let suite = ready.suite.ok_or(Code::InvalidKeyUsage)?;
        let (object, salt, _lease);
        match &ready.material {
            Material::Software(key) => {
                return Ok(key.seal(ids, &self.edge.entropy, plaintext.expose(), context)?);
            }
            Material::Derived(key) => {
                let fresh = key.salt.next(&self.edge.entropy)?;
                let sub_key = self.sub_key(ids.1, key, fresh).await.map_err(|e| gone(e, Some(fresh)))?;
                (object, salt) = (sub_key.object(), Some(fresh));
                _lease = Some(sub_key);
            }
            Material::Direct(key) => {
                self.take_use(ids, key).await?;
                (object, salt) = (key.lease.object(), None);
                _lease = None;
            }
            Material::SoftwareMac(_) | Material::SoftwarePair(_) | Material::Held(_) => {
                return Err(Failure::from(Code::InvalidKeyUsage).into());
            }
        }
        let nonce = self.edge.entropy.array()?;
        let salt_bytes = salt.as_ref().map_or(&[][..], |salt| salt);
        let header = BlobHeader { suite, key_id: ids.0, version_id: ids.1, salt: salt_bytes, nonce };
        let mut blob = header.prefix(plaintext.len() + TAG_LEN);
        let aad = authenticated_data(&blob, context);
        let command = Command::GcmSeal { object, nonce, aad, plaintext: plaintext.clone() };
        let sealed = self.bytes_from_lane(command).await.map_err(|error| gone(error, salt))?;
        blob.extend_from_slice(sealed.expose());
        Ok(blob)
    }

    async fn decrypt_once(
        &self,
        ready: &Ready,
        blob: &BlobRef<'_>,
        context: &EncryptionContext,
    ) -> Result<SecretBytes, UseError> {
        if ready.suite != Some(blob.suite) {
            return Err(Failure::ciphertext().into());
        }
        match &ready.material {
            Material::Software(key) => Ok(key.open(blob, context)?),
            Material::Derived(key) => {
                let salt: [u8; 16] = blob.salt.try_into().map_err(|_| Failure::ciphertext())?;
                let sub_key = self.sub_key(ready.version_id, key, salt).await;
                let sub_key = sub_key.map_err(|error| gone(error, Some(salt)))?;
                self.open_in_hsm(sub_key.object(), blob, context, Some(salt)).await
            }
            Material::Direct(key) => self.open_in_hsm(key.lease.object(), blob, context, None).await,
            Material::SoftwareMac(_) | Material::SoftwarePair(_) | Material::Held(_) => {
                Err(Failure::from(Code::InvalidKeyUsage).into())
            }
        }
    }

    async fn open_in_hsm(
        &self,
        object: ObjectId,
        blob: &BlobRef<'_>,
        context: &EncryptionContext,
        salt: Option<[u8; 16]>,
    ) -> Result<SecretBytes, UseError> {
        let aad = authenticated_data(blob.header, context);
        let command = Command::GcmOpen { object, nonce: blob.nonce, aad, sealed: blob.sealed.to_vec() };
        self.bytes_from_lane(command).await.map_err(|error| gone(error, salt))
    }

    /// Runs a command in place if the lane is free, else queues it.
    async fn bytes_from_lane(&self, command: Command) -> Result<SecretBytes, HsmError> {
        let answer = match self.lane().try_run(&command) {
            Some(answer) => answer,
            None => Box::pin(self.lane().run(command)).await,
        };
        match answer? {
            Answer::Bytes(bytes) => Ok(bytes),
            _ => Err(HsmError::Fault("bytes were asked for".into())),
        }
    }
}

fn gone(error: HsmError, salt: Option<[u8; 16]>) -> UseError {
    match error {
        HsmError::ObjectGone => UseError::Gone(salt),
        other => UseError::Failed(other.into()),
    }
}

fn settle<T>(attempt: Result<T, UseError>) -> Result<T, Failure> {
    attempt.map_err(|error| match error {
        UseError::Gone(_) => HsmError::ObjectGone.into(),
        UseError::Failed(failure) => failure,
    })
}
