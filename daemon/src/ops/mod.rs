//! Operations: one file a family, one function an operation. A handler gets an
//! admitted call and its body, and gives a reply or a refusal; it can't reach a
//! key without a grant.

mod asymmetric;
mod backup;
mod control;
mod data;
mod export;
mod keys;
mod life;
mod mac;
mod naming;

use claviger_protocol::{Code, Reply, Request, codec};

use crate::admission::Admitted;
use crate::audit::Trail;
use crate::failure::Failure;
use crate::keyring::{Action, KeyEntry};
use crate::resolve::Target;
use crate::service::Service;

use life::Each;

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
        Request::EnableKey(body) => Ok(Reply::EnableKey(
            Box::pin(life::each_key(service, call, &body.keys, Each::Switch(Action::Enable), trail)).await?,
        )),
        Request::DisableKey(body) => Ok(Reply::DisableKey(
            Box::pin(life::each_key(service, call, &body.keys, Each::Switch(Action::Disable), trail)).await?,
        )),
        Request::ScheduleKeyDeletion(body) => Ok(Reply::ScheduleKeyDeletion(
            Box::pin(life::schedule_deletion(service, call, body, trail)).await?,
        )),
        Request::CancelKeyDeletion(body) => Ok(Reply::CancelKeyDeletion(
            Box::pin(life::each_key(service, call, &body.keys, Each::Cancel(body.enable), trail)).await?,
        )),
        Request::ProtectKey(body) => Ok(Reply::ProtectKey(
            Box::pin(life::each_key(service, call, &body.keys, Each::Protect(true), trail)).await?,
        )),
        Request::UnprotectKey(body) => Ok(Reply::UnprotectKey(
            Box::pin(life::each_key(service, call, &body.keys, Each::Protect(false), trail)).await?,
        )),
        Request::TagResource(body) => Ok(Reply::TagResource(
            Box::pin(life::each_key(service, call, &body.keys, Each::Tag(&body.tags), trail)).await?,
        )),
        Request::UntagResource(body) => Ok(Reply::UntagResource(
            Box::pin(life::each_key(service, call, &body.keys, Each::Untag(&body.tag_keys), trail)).await?,
        )),
        Request::MoveResource(body) => Ok(Reply::MoveResource(
            Box::pin(life::each_key(service, call, &body.keys, Each::Move(&body.project), trail)).await?,
        )),
        Request::UpdateKeyDescription(body) => {
            Ok(Reply::UpdateKeyDescription(Box::pin(life::describe_as(service, call, body, trail)).await?))
        }
        Request::ListTags(_) => Ok(Reply::ListTags(life::list_tags(call)?)),
        Request::RotateKey(body) => {
            Ok(Reply::RotateKey(Box::pin(life::rotate(service, call, body, trail)).await?))
        }
        Request::CreateKeyVersion(body) => {
            Ok(Reply::CreateKeyVersion(Box::pin(life::create_version(service, call, body, trail)).await?))
        }
        Request::UpdateRotationPolicy(body) => {
            Ok(Reply::UpdateRotationPolicy(Box::pin(life::set_rotation(service, call, body, trail)).await?))
        }
        Request::ListKeyVersions(body) => {
            Ok(Reply::ListKeyVersions(Box::pin(life::list_versions(service, call, body)).await?))
        }
        Request::DescribeKeyVersion(body) => {
            Ok(Reply::DescribeKeyVersion(Box::pin(life::describe_version(service, call, body)).await?))
        }
        Request::GetParametersForImport(_)
        | Request::ImportKeyMaterial(_)
        | Request::DeleteKeyMaterial(_) => Err(Code::NotAvailable.into()),
        Request::DetectAssociation(_) => {
            Ok(Reply::DetectAssociation(Box::pin(life::associations(service, call)).await?))
        }
        Request::CreateDefaultKey(body) => {
            Ok(Reply::CreateDefaultKey(Box::pin(life::create_default(service, call, body, trail)).await?))
        }
        Request::ListAliasKeys(body) => {
            Ok(Reply::ListAliasKeys(Box::pin(keys::list_aliased(service, body)).await?))
        }
        Request::ListSymmetricKeys(body) => {
            Ok(Reply::ListSymmetricKeys(Box::pin(keys::list_symmetric(service, body)).await?))
        }
        Request::CreateAlias(body) => {
            Ok(Reply::CreateAlias(Box::pin(naming::create_alias(service, call, body, trail)).await?))
        }
        Request::UpdateAlias(body) => {
            Ok(Reply::UpdateAlias(Box::pin(naming::update_alias(service, call, body, trail)).await?))
        }
        Request::DeleteAlias(body) => {
            Ok(Reply::DeleteAlias(Box::pin(naming::delete_alias(service, call, body, trail)).await?))
        }
        Request::ListAlias(body) => Ok(Reply::ListAlias(Box::pin(naming::list_alias(service, body)).await?)),
        Request::ListAliasByUuid(_) => Ok(Reply::ListAliasByUuid(naming::list_alias_of(call)?)),
        Request::CreateProject(body) => {
            Ok(Reply::CreateProject(Box::pin(naming::create_project(service, call, body, trail)).await?))
        }
        Request::ListProjects(body) => {
            Ok(Reply::ListProjects(Box::pin(naming::list_projects(service, body)).await?))
        }
        Request::DeleteProject(body) => {
            Ok(Reply::DeleteProject(Box::pin(naming::delete_project(service, call, body, trail)).await?))
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

/// Bytes of a page beside its items: two counts and the longest token.
const PAGE_FRAME: usize = 8 + 8 + 256;

/// What is left of the frame that a page has to fit into.
struct Room(usize);

impl Room {
    fn of(service: &Service) -> Self {
        Self((service.limits().max_body as usize).saturating_sub(PAGE_FRAME))
    }

    /// Takes an item in, if there is room for it.
    fn takes<T: serde::Serialize>(&mut self, item: &T) -> Result<bool, Failure> {
        let size = codec::encode(item).map_err(|_| Code::Internal)?.len();
        let left = self.0.checked_sub(size);
        self.0 = left.unwrap_or(self.0);
        Ok(left.is_some())
    }
}

fn foreign_page() -> Failure {
    Failure::new(Code::InvalidArgument, "the page token isn't one of this list's")
}
