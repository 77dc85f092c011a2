//! Use of keys: every function takes its grants first.

use claviger_protocol::body::{
    DecryptReply, DecryptRequest, DescribeBlobReply, DescribeBlobRequest, EncryptReply, EncryptRequest,
    GenerateDataKeyReply, GenerateDataKeyRequest, GenerateDataKeyWithoutPlaintextRequest, GetRandomReply,
    GetRandomRequest, ReEncryptReply, ReEncryptRequest,
};
use claviger_protocol::secret::Bytes;
use claviger_protocol::{
    BlobRef, Code, DataKeySize, EncryptionContext, KeyRef, KeyUsage, SecretBytes, blob::TAG_LEN,
};

use super::{blob_key, named_key};
use crate::admission::Admitted;
use crate::audit::Trail;
use crate::failure::Failure;
use crate::keyring::{Encrypted, Grant, KeyEntry};
use crate::service::Service;

pub(super) const USAGE: KeyUsage = KeyUsage::EncryptDecrypt;

pub(super) async fn encrypt(
    service: &Service,
    call: &Admitted,
    body: &EncryptRequest,
    trail: &mut Trail,
) -> Result<EncryptReply, Failure> {
    let limit = service.limits().max_plaintext as usize;
    if body.plaintext.len() > limit {
        let text = format!("the plaintext is over {limit} bytes; encrypt it with a data key");
        return Err(Failure::new(Code::PlaintextTooLarge, text));
    }
    let keyring = service.keyring()?;
    note_context(service, &body.context, trail)?;
    let grant = keyring.grant(call, symmetric(named_key(call, 0)?)?, USAGE).await?;
    let made = keyring.encrypt(&grant, &body.plaintext, &body.context).await?;
    Ok(encrypt_reply(&grant, made))
}

pub(super) async fn decrypt(
    service: &Service,
    call: &Admitted,
    body: &DecryptRequest,
    trail: &mut Trail,
) -> Result<DecryptReply, Failure> {
    note_context(service, &body.context, trail)?;
    let opened = open_blob(service, call, body.key.as_ref(), &body.ciphertext_blob.0, &body.context).await?;
    Ok(DecryptReply {
        key_id: opened.grant.key().record.key_id,
        key_version_id: opened.version_id,
        plaintext: opened.plaintext,
    })
}

pub(super) async fn re_encrypt(
    service: &Service,
    call: &Admitted,
    body: &ReEncryptRequest,
    trail: &mut Trail,
) -> Result<ReEncryptReply, Failure> {
    note_context(service, &body.destination_context, trail)?;
    let destination_index = usize::from(body.source_key.is_some()) + 1;
    let keyring = service.keyring()?;
    let destination = keyring.grant(call, symmetric(named_key(call, destination_index)?)?, USAGE).await?;
    let opened =
        open_blob(service, call, body.source_key.as_ref(), &body.ciphertext_blob.0, &body.source_context)
            .await?;
    let made = keyring.encrypt(&destination, &opened.plaintext, &body.destination_context).await?;
    keyring.recheck(&opened.grant).await?;
    Ok(ReEncryptReply {
        source_key_id: opened.grant.key().record.key_id,
        source_key_version_id: opened.version_id,
        key_id: destination.key().record.key_id,
        key_version_id: made.version_id,
        ciphertext_blob: Bytes(made.blob),
    })
}

pub(super) fn describe_blob(body: &DescribeBlobRequest) -> Result<DescribeBlobReply, Failure> {
    let foreign = |_| Failure::new(Code::InvalidCiphertext, "these bytes are not a Claviger ciphertext");
    let blob = BlobRef::parse(&body.ciphertext_blob.0).map_err(foreign)?;
    Ok(DescribeBlobReply {
        key_id: blob.key_id,
        key_version_id: blob.version_id,
        spec: blob.suite.spec(),
        suite: blob.suite,
        plaintext_len: u32::try_from(blob.sealed.len().saturating_sub(TAG_LEN)).unwrap_or(u32::MAX),
    })
}

pub(super) async fn generate_data_key(
    service: &Service,
    call: &Admitted,
    body: &GenerateDataKeyRequest,
    trail: &mut Trail,
) -> Result<GenerateDataKeyReply, Failure> {
    let (data_key, reply) = new_data_key(service, call, body.size, &body.context, trail).await?;
    Ok(GenerateDataKeyReply {
        key_id: reply.key_id,
        key_version_id: reply.key_version_id,
        plaintext: data_key,
        ciphertext_blob: reply.ciphertext_blob,
    })
}

pub(super) async fn generate_data_key_without_plaintext(
    service: &Service,
    call: &Admitted,
    body: &GenerateDataKeyWithoutPlaintextRequest,
    trail: &mut Trail,
) -> Result<EncryptReply, Failure> {
    let (_, reply) = new_data_key(service, call, body.size, &body.context, trail).await?;
    Ok(reply)
}

pub(super) async fn get_random(
    service: &Service,
    body: &GetRandomRequest,
) -> Result<GetRandomReply, Failure> {
    Ok(GetRandomReply { random: service.keyring()?.random(body.length).await? })
}

/// The state check comes first: a key that may not be used costs no HSM time.
pub(super) async fn new_data_key(
    service: &Service,
    call: &Admitted,
    size: DataKeySize,
    context: &EncryptionContext,
    trail: &mut Trail,
) -> Result<(SecretBytes, EncryptReply), Failure> {
    note_context(service, context, trail)?;
    let keyring = service.keyring()?;
    let grant = keyring.grant(call, symmetric(named_key(call, 0)?)?, USAGE).await?;
    let length = u16::try_from(size.len()).map_err(|_| Code::InvalidArgument)?;
    let data_key = keyring.random(length).await?;
    let made = keyring.encrypt(&grant, &data_key, context).await?;
    Ok((data_key, encrypt_reply(&grant, made)))
}

pub(super) struct Opened {
    pub(super) grant: Grant,
    pub(super) version_id: uuid::Uuid,
    pub(super) plaintext: SecretBytes,
}

/// Decrypts a blob; if the caller named a key, the blob must be of that one.
pub(super) async fn open_blob(
    service: &Service,
    call: &Admitted,
    expected: Option<&KeyRef>,
    bytes: &[u8],
    context: &EncryptionContext,
) -> Result<Opened, Failure> {
    let keyring = service.keyring()?;
    let key = if expected.is_some() {
        let key = blob_key(call, 1)?;
        if named_key(call, 0)?.record.key_id != key.record.key_id {
            return Err(Failure::ciphertext());
        }
        key
    } else {
        blob_key(call, 0)?
    };
    let blob = BlobRef::parse(bytes).map_err(|_| Failure::ciphertext())?;
    let grant = keyring.grant(call, key, USAGE).await?;
    let plaintext = keyring.decrypt(&grant, &blob, context).await?;
    Ok(Opened { grant, version_id: blob.version_id, plaintext })
}

/// Blobs are made under secret keys alone.
pub(super) fn symmetric(key: &KeyEntry) -> Result<&KeyEntry, Failure> {
    if key.record.spec.pair().is_none() {
        return Ok(key);
    }
    let text = format!("{} keys encrypt by asymmetric encryption only", key.record.spec);
    Err(Failure::new(Code::InvalidKeyUsage, text))
}

fn encrypt_reply(grant: &Grant, made: Encrypted) -> EncryptReply {
    EncryptReply {
        key_id: grant.key().record.key_id,
        key_version_id: made.version_id,
        ciphertext_blob: Bytes(made.blob),
    }
}

/// The audit shows which context a call had without showing the context.
pub(super) fn note_context(
    service: &Service,
    context: &EncryptionContext,
    trail: &mut Trail,
) -> Result<(), Failure> {
    trail.with_context(service.keyring()?.context_hash(context));
    Ok(())
}
