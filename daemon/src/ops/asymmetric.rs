//! Use of key pairs.

use claviger_protocol::body::{
    AsymmetricDecryptReply, AsymmetricDecryptRequest, AsymmetricEncryptReply, AsymmetricEncryptRequest,
    AsymmetricSignReply, AsymmetricSignRequest, AsymmetricVerifyReply, AsymmetricVerifyRequest,
    GetPublicKeyReply, GetPublicKeyRequest,
};
use claviger_protocol::secret::Bytes;
use claviger_protocol::{Code, KeyUsage};

use super::named_key;
use crate::admission::Admitted;
use crate::failure::Failure;
use crate::keyring::{Grant, Signable};
use crate::service::Service;

pub(super) async fn sign(
    service: &Service,
    call: &Admitted,
    body: &AsymmetricSignRequest,
) -> Result<AsymmetricSignReply, Failure> {
    let grant = pair(service, call, KeyUsage::SignVerify).await?;
    let what = Signable {
        algorithm: body.algorithm,
        message_type: body.message_type,
        message: &body.message,
        user_id: body.user_id.as_ref().map(|id| id.0.as_slice()),
    };
    let (key_version_id, signature) = service.keyring()?.sign(&grant, body.key_version_id, &what).await?;
    Ok(AsymmetricSignReply { key_id: grant.key().record.key_id, key_version_id, signature: Bytes(signature) })
}

pub(super) async fn verify(
    service: &Service,
    call: &Admitted,
    body: &AsymmetricVerifyRequest,
) -> Result<AsymmetricVerifyReply, Failure> {
    let grant = pair(service, call, KeyUsage::SignVerify).await?;
    let what = Signable {
        algorithm: body.algorithm,
        message_type: body.message_type,
        message: &body.message,
        user_id: body.user_id.as_ref().map(|id| id.0.as_slice()),
    };
    let checked = service.keyring()?.verify(&grant, body.key_version_id, &what, &body.signature.0).await?;
    let (key_version_id, valid) = checked;
    Ok(AsymmetricVerifyReply { key_id: grant.key().record.key_id, key_version_id, valid })
}

pub(super) async fn encrypt(
    service: &Service,
    call: &Admitted,
    body: &AsymmetricEncryptRequest,
) -> Result<AsymmetricEncryptReply, Failure> {
    let grant = pair(service, call, KeyUsage::EncryptDecrypt).await?;
    let keyring = service.keyring()?;
    let made = keyring.encrypt_to(&grant, body.key_version_id, body.algorithm, &body.plaintext).await?;
    let (key_version_id, ciphertext) = made;
    Ok(AsymmetricEncryptReply {
        key_id: grant.key().record.key_id,
        key_version_id,
        ciphertext: Bytes(ciphertext),
    })
}

pub(super) async fn decrypt(
    service: &Service,
    call: &Admitted,
    body: &AsymmetricDecryptRequest,
) -> Result<AsymmetricDecryptReply, Failure> {
    let grant = pair(service, call, KeyUsage::EncryptDecrypt).await?;
    let keyring = service.keyring()?;
    let opened =
        keyring.decrypt_with(&grant, body.key_version_id, body.algorithm, &body.ciphertext.0).await?;
    let (key_version_id, plaintext) = opened;
    Ok(AsymmetricDecryptReply { key_id: grant.key().record.key_id, key_version_id, plaintext })
}

pub(super) async fn public_key(
    service: &Service,
    call: &Admitted,
    body: &GetPublicKeyRequest,
) -> Result<GetPublicKeyReply, Failure> {
    let usage = named_key(call, 0)?.record.usage;
    let grant = pair(service, call, usage).await?;
    let (key_version_id, public_key) = service.keyring()?.public_key(&grant, body.key_version_id).await?;
    let key = &grant.key().record;
    Ok(GetPublicKeyReply {
        key_id: key.key_id,
        key_version_id,
        spec: key.spec,
        usage: key.usage,
        public_key: Bytes(public_key),
    })
}

/// A grant for the pair that the call names.
async fn pair(service: &Service, call: &Admitted, usage: KeyUsage) -> Result<Grant, Failure> {
    let key = named_key(call, 0)?;
    if key.record.spec.pair().is_none() {
        let text = format!("{} keys have no public and private half", key.record.spec);
        return Err(Failure::new(Code::InvalidKeyUsage, text));
    }
    service.keyring()?.grant(call, key, usage).await
}
