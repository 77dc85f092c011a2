//! Operations: one file a family, one function an operation. A handler gets an
//! admitted call and its body, and gives a reply or a refusal; it can't reach a
//! key without a grant.

mod asymmetric;
mod backup;
mod control;
mod data;
mod export;
mod import;
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

/// Writes the one dispatch from its table: a line an operation, none missing. `now` needs
/// no waiting; `hot` is on the way of every use of a key; `cold` isn't, and its future
/// stands apart, so that hot calls needn't carry the room for it.
macro_rules! dispatch {
    (|$service:ident, $call:ident, $trail:ident, $body:ident| $($name:ident = $kind:ident $handler:expr;)+) => {
        /// Hands an admitted call to its operation.
        pub async fn dispatch(
            $service: &Service,
            $call: &Admitted,
            $trail: &mut Trail,
        ) -> Result<Reply, Failure> {
            match $call.permit().resolved().request() {
                // The connection and the batch loop take these apart before this point.
                Request::Hello(_) | Request::Batch(_) => Err(Code::InvalidArgument.into()),
                $(Request::$name($body) => Ok(Reply::$name(dispatch!(@$kind $body $handler))),)+
            }
        }
    };
    (@now $body:ident $handler:expr) => {{ let _ = $body; $handler }};
    (@hot $body:ident $handler:expr) => {{ let _ = $body; $handler.await? }};
    (@cold $body:ident $handler:expr) => {{ let _ = $body; Box::pin($handler).await? }};
}

dispatch! { |service, call, trail, body|
    Ping = now control::ping(body);
    Status = now control::status(service);

    CreateKey = cold keys::create(service, call, body, trail);
    DescribeKey = cold keys::describe(service, call);
    ListKeys = cold keys::list(service, body);
    ListAliasKeys = cold keys::list_aliased(service, body);
    ListSymmetricKeys = cold keys::list_symmetric(service, body);
    EnableKey = cold life::each_key(service, call, &body.keys, Each::Switch(Action::Enable), trail);
    DisableKey = cold life::each_key(service, call, &body.keys, Each::Switch(Action::Disable), trail);
    ScheduleKeyDeletion = cold life::schedule_deletion(service, call, body, trail);
    CancelKeyDeletion = cold life::each_key(service, call, &body.keys, Each::Cancel(body.enable), trail);
    ProtectKey = cold life::each_key(service, call, &body.keys, Each::Protect(true), trail);
    UnprotectKey = cold life::each_key(service, call, &body.keys, Each::Protect(false), trail);
    TagResource = cold life::each_key(service, call, &body.keys, Each::Tag(&body.tags), trail);
    UntagResource = cold life::each_key(service, call, &body.keys, Each::Untag(&body.tag_keys), trail);
    MoveResource = cold life::each_key(service, call, &body.keys, Each::Move(&body.project), trail);
    UpdateKeyDescription = cold life::describe_as(service, call, body, trail);
    ListTags = now life::list_tags(call)?;
    RotateKey = cold life::rotate(service, call, body, trail);
    CreateKeyVersion = cold life::create_version(service, call, body, trail);
    UpdateRotationPolicy = cold life::set_rotation(service, call, body, trail);
    ListKeyVersions = cold life::list_versions(service, call, body);
    DescribeKeyVersion = cold life::describe_version(service, call, body);
    GetParametersForImport = cold import::parameters(service, call, body, trail);
    ImportKeyMaterial = cold import::import(service, call, body, trail);
    DeleteKeyMaterial = cold import::delete(service, call, trail);
    DetectAssociation = cold life::associations(service, call);
    CreateDefaultKey = cold life::create_default(service, call, body, trail);
    CreateAlias = cold naming::create_alias(service, call, body, trail);
    UpdateAlias = cold naming::update_alias(service, call, body, trail);
    DeleteAlias = cold naming::delete_alias(service, call, body, trail);
    ListAlias = cold naming::list_alias(service, body);
    ListAliasByUuid = now naming::list_alias_of(call)?;
    CreateProject = cold naming::create_project(service, call, body, trail);
    ListProjects = cold naming::list_projects(service, body);
    DeleteProject = cold naming::delete_project(service, call, body, trail);

    Encrypt = hot data::encrypt(service, call, body, trail);
    Decrypt = hot data::decrypt(service, call, body, trail);
    ReEncrypt = hot data::re_encrypt(service, call, body, trail);
    DescribeBlob = now data::describe_blob(body)?;
    GenerateDataKey = hot data::generate_data_key(service, call, body, trail);
    GenerateDataKeyWithoutPlaintext = hot data::generate_data_key_without_plaintext(service, call, body, trail);
    GetRandom = hot data::get_random(service, body);
    GenerateDataKeyPair = cold export::data_key_pair(service, call, body, trail);
    GenerateDataKeyPairWithoutPlaintext = cold export::data_key_pair_without_plaintext(service, call, body, trail);
    ExportDataKey = cold export::data_key(service, call, body, trail);
    GenerateAndExportDataKey = cold export::new_data_key(service, call, body, trail);
    AsymmetricSign = cold asymmetric::sign(service, call, body);
    AsymmetricVerify = cold asymmetric::verify(service, call, body);
    AsymmetricEncrypt = cold asymmetric::encrypt(service, call, body);
    AsymmetricDecrypt = cold asymmetric::decrypt(service, call, body);
    GetPublicKey = cold asymmetric::public_key(service, call, body);
    GenerateMac = cold mac::generate(service, call, body);
    VerifyMac = cold mac::verify(service, call, body);
    MessageDigest = cold mac::digest(service, body);

    BeginBackup = hot backup::begin(service, call);
    ReadBackup = hot backup::read(service, body);
    EndBackup = now backup::end(service, body).await;
    VerifyBackup = now backup::verify(service, body)?;
    ListBackups = cold backup::list(service, call, body);
    ListTombstones = cold backup::tombstones(service, body);
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
