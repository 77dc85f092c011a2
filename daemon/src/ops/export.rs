//! Data keys for others: encrypted to a public key that the caller brings, and key pairs
//! whose private half is wrapped.

use claviger_protocol::SecretBytes;
use claviger_protocol::body::{
    ExportDataKeyReply, ExportDataKeyRequest, GenerateAndExportDataKeyReply, GenerateAndExportDataKeyRequest,
    GenerateDataKeyPairReply, GenerateDataKeyPairRequest, GenerateDataKeyPairWithoutPlaintextReply,
    GenerateDataKeyPairWithoutPlaintextRequest,
};
use claviger_protocol::secret::Bytes;
use claviger_protocol::{Code, EncryptionContext, ExportAlgorithm, KeyPairSpec};
use uuid::Uuid;

use super::data::{USAGE, new_data_key as make_data_key, note_context, open_blob, symmetric};
use super::named_key;
use crate::admission::Admitted;
use crate::audit::Trail;
use crate::backend::software::PublicKey;
use crate::failure::Failure;
use crate::service::Service;

pub(super) async fn data_key(
    service: &Service,
    call: &Admitted,
    body: &ExportDataKeyRequest,
    trail: &mut Trail,
) -> Result<ExportDataKeyReply, Failure> {
    note_context(service, &body.context, trail)?;
    let receiver = receiver(&body.public_key, body.algorithm)?;
    let opened = open_blob(service, call, body.key.as_ref(), &body.ciphertext_blob.0, &body.context).await?;
    let exported = export(service, receiver, body.algorithm, &opened.plaintext).await?;
    service.keyring()?.recheck(&opened.grant).await?;
    Ok(ExportDataKeyReply {
        key_id: opened.grant.key().record.key_id,
        key_version_id: opened.version_id,
        exported_data_key: exported,
    })
}

pub(super) async fn new_data_key(
    service: &Service,
    call: &Admitted,
    body: &GenerateAndExportDataKeyRequest,
    trail: &mut Trail,
) -> Result<GenerateAndExportDataKeyReply, Failure> {
    let receiver = receiver(&body.public_key, body.algorithm)?;
    // Before anything is made: one that can't be exported is refused here.
    fits(&receiver, body.algorithm, body.size.len())?;
    let (data_key, reply) = make_data_key(service, call, body.size, &body.context, trail).await?;
    Ok(GenerateAndExportDataKeyReply {
        key_id: reply.key_id,
        key_version_id: reply.key_version_id,
        ciphertext_blob: reply.ciphertext_blob,
        exported_data_key: export(service, receiver, body.algorithm, &data_key).await?,
    })
}

pub(super) async fn data_key_pair(
    service: &Service,
    call: &Admitted,
    body: &GenerateDataKeyPairRequest,
    trail: &mut Trail,
) -> Result<GenerateDataKeyPairReply, Failure> {
    let pair = new_pair(service, call, body.pair_spec, &body.context, trail).await?;
    Ok(GenerateDataKeyPairReply {
        key_id: pair.key_id,
        key_version_id: pair.version_id,
        public_key: pair.public_key,
        private_key: pair.private_key,
        ciphertext_blob: pair.blob,
    })
}

pub(super) async fn data_key_pair_without_plaintext(
    service: &Service,
    call: &Admitted,
    body: &GenerateDataKeyPairWithoutPlaintextRequest,
    trail: &mut Trail,
) -> Result<GenerateDataKeyPairWithoutPlaintextReply, Failure> {
    let pair = new_pair(service, call, body.pair_spec, &body.context, trail).await?;
    Ok(GenerateDataKeyPairWithoutPlaintextReply {
        key_id: pair.key_id,
        key_version_id: pair.version_id,
        public_key: pair.public_key,
        ciphertext_blob: pair.blob,
    })
}

struct Pair {
    key_id: Uuid,
    version_id: Uuid,
    public_key: Bytes,
    private_key: SecretBytes,
    blob: Bytes,
}

/// The state check comes first: a key that may not be used costs no new pair.
async fn new_pair(
    service: &Service,
    call: &Admitted,
    spec: KeyPairSpec,
    context: &EncryptionContext,
    trail: &mut Trail,
) -> Result<Pair, Failure> {
    note_context(service, context, trail)?;
    let keyring = service.keyring()?;
    let grant = keyring.grant(call, symmetric(named_key(call, 0)?)?, USAGE).await?;
    let (private_key, public_key) = keyring.new_pair(spec).await?;
    let made = keyring.encrypt(&grant, &private_key, context).await?;
    Ok(Pair {
        key_id: grant.key().record.key_id,
        version_id: made.version_id,
        public_key: Bytes(public_key),
        private_key,
        blob: Bytes(made.blob),
    })
}

/// The public key of whoever is to have a data key.
fn receiver(public_key: &Bytes, algorithm: ExportAlgorithm) -> Result<PublicKey, Failure> {
    let receiver = PublicKey::from_spki(&public_key.0)?;
    fits(&receiver, algorithm, 0)?;
    Ok(receiver)
}

/// Whether so many bytes can be encrypted to the receiver.
fn fits(receiver: &PublicKey, algorithm: ExportAlgorithm, len: usize) -> Result<(), Failure> {
    match receiver.max_plaintext(algorithm) {
        None => {
            let text = format!("{algorithm} isn't for a public key of this kind");
            Err(Failure::new(Code::InvalidArgument, text))
        }
        Some(most) if len > most => {
            let text = format!("{algorithm} to this public key takes at most {most} bytes, not {len}");
            Err(Failure::new(Code::InvalidArgument, text))
        }
        Some(_) => Ok(()),
    }
}

async fn export(
    service: &Service,
    receiver: PublicKey,
    algorithm: ExportAlgorithm,
    data_key: &SecretBytes,
) -> Result<Bytes, Failure> {
    fits(&receiver, algorithm, data_key.len())?;
    service.keyring()?.export_to(receiver, algorithm, data_key).await.map(Bytes)
}
