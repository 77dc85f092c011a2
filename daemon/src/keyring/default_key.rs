//! Default keys: one for each local service, made when it is first used.

use claviger_protocol::names::{Description, ProjectName, ServiceName, Tags};
use claviger_protocol::{Code, KeyOrigin, KeySpec, KeyUsage};

use super::create::{Made, NewKey};
use super::{KeyEntry, Keyring};
use crate::admission::Admitted;
use crate::audit::Trail;
use crate::failure::Failure;

impl Keyring {
    /// The default key of a service, made if it isn't there.
    pub async fn create_default(
        &self,
        _admitted: &Admitted,
        service: &ServiceName,
        created_by: String,
        trail: &mut Trail,
    ) -> Result<Made, Failure> {
        let key = self.default_key(service, created_by, trail).await?;
        Ok((key.record.key_id, key.record.primary_version))
    }

    /// The same for the service's own first use of it.
    pub async fn default_key(
        &self,
        service: &ServiceName,
        created_by: String,
        trail: &mut Trail,
    ) -> Result<KeyEntry, Failure> {
        let alias = service.default_alias();
        if let Some(key_id) = self.alias(&alias).await?
            && let Some(key) = self.find_id(key_id).await?
        {
            trail.about_key(key_id);
            return Ok(key);
        }
        let new = NewKey {
            spec: KeySpec::Aes256,
            usage: KeyUsage::EncryptDecrypt,
            protection: self.default_protection(),
            origin: KeyOrigin::Kms,
            project: ProjectName::default(),
            alias: None,
            description: Description::default(),
            tags: Tags::default(),
            rotation_days: None,
            created_by,
            token: None,
            sm2_user_id: None,
            default_for: Some(service.clone()),
        };
        let made = match self.make_key(&new, trail).await {
            // Somebody else was the first.
            Err(failure) if failure.code == Code::AlreadyExists => self.alias(&alias).await?,
            made => Some(made?.0),
        };
        let key_id = made.ok_or(Code::Internal)?;
        trail.about_key(key_id);
        Ok(self.find_id(key_id).await?.ok_or(Code::Internal)?)
    }
}
