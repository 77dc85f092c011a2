//! Operations: one file a family, one function an operation. A handler gets an
//! admitted call and its body, and gives a reply or a refusal; it can't reach a
//! key without a grant.

mod asymmetric;
mod backup;
mod control;
mod data;
mod export;
mod keys;
mod mac;

use claviger_protocol::{Code, Reply, Request};

use crate::admission::Admitted;
use crate::audit::Trail;
use crate::failure::Failure;
use crate::keyring::KeyEntry;
use crate::resolve::Target;
use crate::service::Service;

/// The one dispatch: an arm an operation, none missing.
pub async fn dispatch(service: &Service, call: &Admitted, trail: &mut Trail) -> Result<Reply, Failure> {
    match call.permit().resolved().request() {
        // The connection and the batch loop take these apart before this point.
        Request::Hello(_) | Request::Batch(_) => Err(Code::InvalidArgument.into()),
        Request::Ping(body) => Ok(Reply::Ping(control::ping(body))),
        Request::Status(_) => Ok(Reply::Status(control::status(service))),
        Request::CreateKey(body) => {
            Ok(Reply::CreateKey(Box::pin(keys::create(service, call, body, trail)).await?))
        }
        Request::DescribeKey(_) => Ok(Reply::DescribeKey(Box::pin(keys::describe(service, call)).await?)),
        Request::ListKeys(body) => Ok(Reply::ListKeys(Box::pin(keys::list(service, body)).await?)),
        Request::EnableKey(body) => {
            Ok(Reply::EnableKey(Box::pin(keys::enable(service, call, &body.keys, trail)).await?))
        }
        Request::DisableKey(body) => {
            Ok(Reply::DisableKey(Box::pin(keys::disable(service, call, &body.keys, trail)).await?))
        }
        Request::Encrypt(body) => Ok(Reply::Encrypt(data::encrypt(service, call, body, trail).await?)),
        Request::Decrypt(body) => Ok(Reply::Decrypt(data::decrypt(service, call, body, trail).await?)),
        Request::ReEncrypt(body) => Ok(Reply::ReEncrypt(data::re_encrypt(service, call, body, trail).await?)),
        Request::DescribeBlob(body) => Ok(Reply::DescribeBlob(data::describe_blob(body)?)),
        Request::GenerateDataKey(body) => {
            Ok(Reply::GenerateDataKey(data::generate_data_key(service, call, body, trail).await?))
        }
        Request::GenerateDataKeyWithoutPlaintext(body) => Ok(Reply::GenerateDataKeyWithoutPlaintext(
            data::generate_data_key_without_plaintext(service, call, body, trail).await?,
        )),
        Request::GetRandom(body) => Ok(Reply::GetRandom(data::get_random(service, body).await?)),
        Request::GenerateDataKeyPair(body) => {
            Ok(Reply::GenerateDataKeyPair(Box::pin(export::data_key_pair(service, call, body, trail)).await?))
        }
        Request::GenerateDataKeyPairWithoutPlaintext(body) => Ok(Reply::GenerateDataKeyPairWithoutPlaintext(
            Box::pin(export::data_key_pair_without_plaintext(service, call, body, trail)).await?,
        )),
        Request::ExportDataKey(body) => {
            Ok(Reply::ExportDataKey(Box::pin(export::data_key(service, call, body, trail)).await?))
        }
        Request::GenerateAndExportDataKey(body) => Ok(Reply::GenerateAndExportDataKey(
            Box::pin(export::new_data_key(service, call, body, trail)).await?,
        )),
        Request::AsymmetricSign(body) => {
            Ok(Reply::AsymmetricSign(Box::pin(asymmetric::sign(service, call, body)).await?))
        }
        Request::AsymmetricVerify(body) => {
            Ok(Reply::AsymmetricVerify(Box::pin(asymmetric::verify(service, call, body)).await?))
        }
        Request::AsymmetricEncrypt(body) => {
            Ok(Reply::AsymmetricEncrypt(Box::pin(asymmetric::encrypt(service, call, body)).await?))
        }
        Request::AsymmetricDecrypt(body) => {
            Ok(Reply::AsymmetricDecrypt(Box::pin(asymmetric::decrypt(service, call, body)).await?))
        }
        Request::GetPublicKey(body) => {
            Ok(Reply::GetPublicKey(Box::pin(asymmetric::public_key(service, call, body)).await?))
        }
        Request::GenerateMac(body) => {
            Ok(Reply::GenerateMac(Box::pin(mac::generate(service, call, body)).await?))
        }
        Request::VerifyMac(body) => Ok(Reply::VerifyMac(Box::pin(mac::verify(service, call, body)).await?)),
        Request::MessageDigest(body) => Ok(Reply::MessageDigest(Box::pin(mac::digest(service, body)).await?)),
        Request::BeginBackup(_) => Ok(Reply::BeginBackup(backup::begin(service, call).await?)),
        Request::ReadBackup(body) => Ok(Reply::ReadBackup(backup::read(service, body).await?)),
        Request::EndBackup(body) => Ok(Reply::EndBackup(backup::end(service, body).await)),
        Request::VerifyBackup(body) => Ok(Reply::VerifyBackup(backup::verify(service, body)?)),
    }
}

/// The key that the call names at `index` of its resources.
fn named_key(call: &Admitted, index: usize) -> Result<&KeyEntry, Failure> {
    match call.permit().resolved().targets().get(index) {
        Some(Target::Key(Some(key))) => Ok(key),
        Some(Target::Key(None)) => Err(Failure::new(Code::NotFound, "no such key")),
        Some(Target::Blob(_) | Target::Other) | None => Err(Code::Internal.into()),
    }
}

/// The key that the call's blob names; one that isn't ours is a ciphertext that doesn't decrypt.
fn blob_key(call: &Admitted, index: usize) -> Result<&KeyEntry, Failure> {
    match call.permit().resolved().targets().get(index) {
        Some(Target::Blob(Some(key))) => Ok(key),
        Some(Target::Blob(None)) => Err(Failure::ciphertext()),
        Some(Target::Key(_) | Target::Other) | None => Err(Code::Internal.into()),
    }
}
