//! MACs and digests.

use claviger_protocol::KeyUsage;
use claviger_protocol::body::{
    GenerateMacReply, GenerateMacRequest, MessageDigestReply, MessageDigestRequest, VerifyMacReply,
    VerifyMacRequest,
};
use claviger_protocol::secret::Bytes;

use super::named_key;
use crate::admission::Admitted;
use crate::failure::Failure;
use crate::service::Service;

const USAGE: KeyUsage = KeyUsage::GenerateVerifyMac;

pub(super) async fn generate(
    service: &Service,
    call: &Admitted,
    body: &GenerateMacRequest,
) -> Result<GenerateMacReply, Failure> {
    let keyring = service.keyring()?;
    let grant = keyring.grant(call, named_key(call, 0)?, USAGE).await?;
    let (key_version_id, mac) = keyring.mac(&grant, body.algorithm, &body.message).await?;
    Ok(GenerateMacReply { key_id: grant.key().record.key_id, key_version_id, mac: Bytes(mac) })
}

pub(super) async fn verify(
    service: &Service,
    call: &Admitted,
    body: &VerifyMacRequest,
) -> Result<VerifyMacReply, Failure> {
    let keyring = service.keyring()?;
    let grant = keyring.grant(call, named_key(call, 0)?, USAGE).await?;
    let checked =
        keyring.verify_mac(&grant, body.key_version_id, body.algorithm, &body.message, &body.mac.0).await?;
    let (key_version_id, valid) = checked;
    Ok(VerifyMacReply { key_id: grant.key().record.key_id, key_version_id, valid })
}

pub(super) async fn digest(
    service: &Service,
    body: &MessageDigestRequest,
) -> Result<MessageDigestReply, Failure> {
    let digest = service.keyring()?.digest(body.algorithm, &body.message).await?;
    Ok(MessageDigestReply { digest: Bytes(digest) })
}
