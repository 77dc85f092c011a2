//! The one operation table: a row is all that the rest of Claviger knows of an
//! operation's wire face. Numbers are never reused; a retired operation keeps
//! its line, commented out, with its name.

use crate::blob::BlobRef;
use crate::body::{
    AliasReply, AsymmetricDecryptReply, AsymmetricDecryptRequest, AsymmetricEncryptReply,
    AsymmetricEncryptRequest, AsymmetricSignReply, AsymmetricSignRequest, AsymmetricVerifyReply,
    AsymmetricVerifyRequest, BatchReply, BatchRequest, BeginBackupReply, BeginBackupRequest,
    CancelKeyDeletionRequest, CreateAliasRequest, CreateDefaultKeyRequest, CreateKeyReply, CreateKeyRequest,
    CreateKeyVersionRequest, CreateProjectRequest, DecryptReply, DecryptRequest, DeleteAliasRequest,
    DeleteKeyMaterialReply, DeleteKeyMaterialRequest, DeleteProjectRequest, DescribeBlobReply,
    DescribeBlobRequest, DescribeKeyReply, DescribeKeyRequest, DescribeKeyVersionReply,
    DescribeKeyVersionRequest, DetectAssociationReply, DetectAssociationRequest, DisableKeyRequest,
    EnableKeyRequest, EncryptReply, EncryptRequest, EndBackupReply, EndBackupRequest, ExportDataKeyReply,
    ExportDataKeyRequest, GenerateAndExportDataKeyReply, GenerateAndExportDataKeyRequest,
    GenerateDataKeyPairReply, GenerateDataKeyPairRequest, GenerateDataKeyPairWithoutPlaintextReply,
    GenerateDataKeyPairWithoutPlaintextRequest, GenerateDataKeyReply, GenerateDataKeyRequest,
    GenerateDataKeyWithoutPlaintextRequest, GenerateMacReply, GenerateMacRequest,
    GetParametersForImportReply, GetParametersForImportRequest, GetPublicKeyReply, GetPublicKeyRequest,
    GetRandomReply, GetRandomRequest, HelloReply, HelloRequest, ImportKeyMaterialReply,
    ImportKeyMaterialRequest, KeyChangeReply, KeyDeletionsReply, KeyStatesReply, ListAliasByUuidRequest,
    ListAliasKeysReply, ListAliasKeysRequest, ListAliasReply, ListAliasRequest, ListBackupsReply,
    ListBackupsRequest, ListKeyVersionsReply, ListKeyVersionsRequest, ListKeysReply, ListKeysRequest,
    ListProjectsReply, ListProjectsRequest, ListSymmetricKeysRequest, ListTagsReply, ListTagsRequest,
    ListTombstonesReply, ListTombstonesRequest, MessageDigestReply, MessageDigestRequest,
    MoveResourceRequest, NewKeyVersionReply, PingReply, PingRequest, ProjectReply, ProtectKeyRequest,
    ReEncryptReply, ReEncryptRequest, ReadBackupReply, ReadBackupRequest, RotateKeyRequest,
    ScheduleKeyDeletionRequest, StatusReply, StatusRequest, TagResourceRequest, UnprotectKeyRequest,
    UntagResourceRequest, UpdateAliasRequest, UpdateKeyDescriptionRequest, UpdateRotationPolicyReply,
    UpdateRotationPolicyRequest, VerifyBackupReply, VerifyBackupRequest, VerifyMacReply, VerifyMacRequest,
};
use crate::codec::{self, DecodeError, EncodeError};
use crate::names::{Alias, KeyRef, ProjectName};
use uuid::Uuid;

/// Which endpoints serve an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// The admin endpoint only.
    Admin,
    /// Every endpoint, as far as its policy allows.
    Any,
}

/// What an operation is about; the audit's event type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// The connection and the daemon themselves.
    Control,
    /// Keys and their lives.
    Management,
    /// Use of keys.
    Data,
}

/// Whether an operation changes what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It doesn't.
    Read,
    /// It does.
    Write,
}

/// Which rate limit counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// None.
    Free,
    /// Symmetric cryptography.
    Symmetric,
    /// Cryptography with key pairs.
    Asymmetric,
    /// MACs.
    Mac,
    /// Random bytes.
    Random,
    /// Making keys.
    Create,
    /// Reading metadata.
    Read,
    /// Changing metadata.
    Write,
}

/// How much of a lane it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// No HSM: memory only.
    Memory,
    /// Microseconds in a warm HSM; may run in place.
    Fast,
    /// Up to milliseconds: private keys. Never in place, never in the way of fast calls.
    Slow,
    /// Store access or a commit.
    Store,
    /// Key generation: always on the `make` lane.
    Generate,
}

/// When its audit event must be on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditSync {
    /// No event (connection upkeep).
    None,
    /// Written before the reply, synced within milliseconds.
    Written,
    /// On the disk before the reply.
    Synced,
}

/// What a call needs permission for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A key, named by the caller.
    Key(&'a KeyRef),
    /// The key that an alias points at.
    Alias(&'a Alias),
    /// The key that a ciphertext blob names; `None` if the blob can't be read.
    BlobKey(Option<Uuid>),
    /// A project, for calls that name no key.
    Project(&'a ProjectName),
    /// The domain as a whole.
    Domain,
}

/// A row of the operation table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Number on the wire.
    pub opcode: Opcode,
    /// Name in code, CLI messages and metrics.
    pub name: &'static str,
    /// Name in the audit: the cloud KMS's own spelling.
    pub audit_name: &'static str,
    /// Which endpoints serve it.
    pub endpoint: Endpoint,
    /// What it is about.
    pub plane: Plane,
    /// Whether it changes something.
    pub access: Access,
    /// Which rate limit counts it.
    pub rate: Rate,
    /// How much of a lane it takes.
    pub cost: Cost,
    /// Whether sending it twice does no harm.
    pub idempotent: bool,
    /// Whether a batch may carry it.
    pub batchable: bool,
    /// When its audit event must be on the disk.
    pub audit: AuditSync,
}

/// An operation as a type: its request knows its number and its reply.
pub trait Operation: Into<Request> {
    /// Its number.
    const OPCODE: Opcode;
    /// What comes back.
    type Reply: serde::de::DeserializeOwned + serde::Serialize;
}

macro_rules! operations {
    ($(
        $number:literal $name:ident($request:ty) -> $reply:ty, $audit_name:literal,
        $endpoint:ident $plane:ident $access:ident $rate:ident $cost:ident
        $idempotent:ident $batchable:ident $audit:ident, $resources:expr;
    )+) => {
        /// Every operation, by its number on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Opcode { $(#[doc = $audit_name] $name = $number,)+ }

        impl Opcode {
            /// Every operation, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> u16 { self as u16 }

            /// The operation of a number, if there is one.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)+ _ => None }
            }

            /// The operation's row.
            #[must_use]
            pub const fn row(self) -> &'static Row {
                match self {
                    $(Self::$name => &Row {
                        opcode: Self::$name,
                        name: stringify!($name),
                        audit_name: $audit_name,
                        endpoint: Endpoint::$endpoint,
                        plane: Plane::$plane,
                        access: Access::$access,
                        rate: Rate::$rate,
                        cost: Cost::$cost,
                        idempotent: operations!(@$idempotent),
                        batchable: operations!(@$batchable),
                        audit: AuditSync::$audit,
                    },)+
                }
            }
        }

        /// A request of any operation, decoded and valid in itself.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Request { $(#[doc = $audit_name] $name($request),)+ }

        impl Request {
            /// Reads the body of a request.
            pub fn decode(opcode: Opcode, body: &[u8]) -> Result<Self, DecodeError> {
                match opcode { $(Opcode::$name => codec::decode(body).map(Self::$name),)+ }
            }

            /// Writes the body of a request.
            pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
                match self { $(Self::$name(body) => codec::encode(body),)+ }
            }

            /// Appends the body of a request to `out`; see [`codec::encode_into`].
            pub fn encode_into(&self, out: &mut Vec<u8>) -> Result<usize, EncodeError> {
                match self { $(Self::$name(body) => codec::encode_into(body, out),)+ }
            }

            /// Which operation it is.
            #[must_use]
            pub const fn opcode(&self) -> Opcode {
                match self { $(Self::$name(_) => Opcode::$name,)+ }
            }

            /// What it needs permission for. A batch's items each have their own.
            #[must_use]
            pub fn resources(&self) -> Vec<Resource<'_>> {
                match self {
                    $(Self::$name(body) => {
                        let resources: fn(&$request) -> Vec<Resource<'_>> = $resources;
                        resources(body)
                    })+
                }
            }
        }

        /// The reply of any operation.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Reply { $(#[doc = $audit_name] $name($reply),)+ }

        impl Reply {
            /// Reads the body of a successful reply.
            pub fn decode(opcode: Opcode, body: &[u8]) -> Result<Self, DecodeError> {
                match opcode { $(Opcode::$name => codec::decode(body).map(Self::$name),)+ }
            }

            /// Writes the body of a reply.
            pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
                match self { $(Self::$name(body) => codec::encode(body),)+ }
            }

            /// Appends the body of a reply to `out`; see [`codec::encode_into`].
            pub fn encode_into(&self, out: &mut Vec<u8>) -> Result<usize, EncodeError> {
                match self { $(Self::$name(body) => codec::encode_into(body, out),)+ }
            }

            /// Which operation it answers.
            #[must_use]
            pub const fn opcode(&self) -> Opcode {
                match self { $(Self::$name(_) => Opcode::$name,)+ }
            }
        }

        $(
            impl From<$request> for Request {
                fn from(body: $request) -> Self { Self::$name(body) }
            }

            impl Operation for $request {
                const OPCODE: Opcode = Opcode::$name;
                type Reply = $reply;
            }
        )+
    };
    (@once) => { false };
    (@repeat) => { true };
    (@alone) => { false };
    (@batch) => { true };
}

operations! {
    // number name(request) -> reply, audit name, endpoint plane access rate cost, repeatable batchable audit, resources
    0x0001 Hello(HelloRequest) -> HelloReply, "hello",
        Any Control Read Free Memory once alone None, |_| vec![];
    0x0002 Ping(PingRequest) -> PingReply, "ping",
        Any Control Read Free Memory repeat alone None, |_| vec![];
    0x0003 Status(StatusRequest) -> StatusReply, "resourceInfo",
        Admin Control Read Read Store repeat alone Written, |_| vec![Resource::Domain];
    0x0004 Batch(BatchRequest) -> BatchReply, "batch",
        Any Control Read Free Memory once alone None, |_| vec![];

    0x0101 CreateKey(CreateKeyRequest) -> CreateKeyReply, "createKey",
        Any Management Write Create Generate repeat alone Synced, |r| vec![Resource::Project(&r.project)];
    0x0102 DescribeKey(DescribeKeyRequest) -> DescribeKeyReply, "describeKey",
        Any Management Read Read Store repeat alone Written, |r| vec![Resource::Key(&r.key)];
    0x0103 ListKeys(ListKeysRequest) -> ListKeysReply, "listKeys",
        Any Management Read Read Store repeat alone Written,
        |r| vec![r.project.as_ref().map_or(Resource::Domain, Resource::Project)];
    0x0104 EnableKey(EnableKeyRequest) -> KeyStatesReply, "enableKey",
        Any Management Write Write Store repeat alone Synced, |r| each_key(&r.keys);
    0x0105 DisableKey(DisableKeyRequest) -> KeyStatesReply, "disableKey",
        Any Management Write Write Store repeat alone Synced, |r| each_key(&r.keys);

    0x0106 ScheduleKeyDeletion(ScheduleKeyDeletionRequest) -> KeyDeletionsReply, "scheduleKeyDeletion",
        Any Management Write Write Store once alone Synced, |r| each_key(&r.keys);
    0x0107 CancelKeyDeletion(CancelKeyDeletionRequest) -> KeyStatesReply, "cancelKeyDeletion",
        Any Management Write Write Store repeat alone Synced, |r| each_key(&r.keys);
    0x0108 ProtectKey(ProtectKeyRequest) -> KeyStatesReply, "deleteProtect",
        Any Management Write Write Store repeat alone Synced, |r| each_key(&r.keys);
    0x0109 UnprotectKey(UnprotectKeyRequest) -> KeyStatesReply, "cancelDeleteProtect",
        Any Management Write Write Store repeat alone Synced, |r| each_key(&r.keys);
    0x010A UpdateKeyDescription(UpdateKeyDescriptionRequest) -> KeyChangeReply, "updateKeyDescription",
        Any Management Write Write Store repeat alone Synced, |r| vec![Resource::Key(&r.key)];
    0x010B TagResource(TagResourceRequest) -> KeyStatesReply, "tagResource",
        Any Management Write Write Store repeat alone Synced, |r| each_key(&r.keys);
    0x010C UntagResource(UntagResourceRequest) -> KeyStatesReply, "untagResource",
        Any Management Write Write Store repeat alone Synced, |r| each_key(&r.keys);
    0x010D ListTags(ListTagsRequest) -> ListTagsReply, "listTags",
        Any Management Read Read Store repeat alone Written, |r| vec![Resource::Key(&r.key)];
    0x010E RotateKey(RotateKeyRequest) -> NewKeyVersionReply, "rotateKey",
        Any Management Write Create Generate repeat alone Synced, |r| vec![Resource::Key(&r.key)];
    0x010F UpdateRotationPolicy(UpdateRotationPolicyRequest) -> UpdateRotationPolicyReply, "updateRotationPolicy",
        Any Management Write Write Store repeat alone Synced, |r| vec![Resource::Key(&r.key)];
    0x0110 CreateKeyVersion(CreateKeyVersionRequest) -> NewKeyVersionReply, "createKeyVersion",
        Any Management Write Create Generate repeat alone Synced, |r| vec![Resource::Key(&r.key)];
    0x0111 ListKeyVersions(ListKeyVersionsRequest) -> ListKeyVersionsReply, "listKeyVersions",
        Any Management Read Read Store repeat alone Written, |r| vec![Resource::Key(&r.key)];
    0x0112 DescribeKeyVersion(DescribeKeyVersionRequest) -> DescribeKeyVersionReply, "describeKeyVersion",
        Any Management Read Read Store repeat alone Written, |r| vec![Resource::Key(&r.key)];
    0x0113 GetParametersForImport(GetParametersForImportRequest) -> GetParametersForImportReply,
        "getParametersForImport",
        Any Management Write Read Generate repeat alone Synced, |r| vec![Resource::Key(&r.key)];
    0x0114 ImportKeyMaterial(ImportKeyMaterialRequest) -> ImportKeyMaterialReply, "importKeyMaterial",
        Any Management Write Write Slow repeat alone Synced, |r| vec![Resource::Key(&r.key)];
    0x0115 DeleteKeyMaterial(DeleteKeyMaterialRequest) -> DeleteKeyMaterialReply, "deleteKeyMaterial",
        Any Management Write Write Store once alone Synced, |r| vec![Resource::Key(&r.key)];
    0x0116 DetectAssociation(DetectAssociationRequest) -> DetectAssociationReply, "detectAssociation",
        Any Management Read Read Store repeat alone Written, |r| vec![Resource::Key(&r.key)];
    0x0117 CreateDefaultKey(CreateDefaultKeyRequest) -> CreateKeyReply, "createDefaultKey",
        Admin Management Write Create Generate repeat alone Synced, |_| vec![Resource::Domain];
    0x0118 ListAliasKeys(ListAliasKeysRequest) -> ListAliasKeysReply, "listAliasKeys",
        Any Management Read Read Store repeat alone Written,
        |r| vec![r.project.as_ref().map_or(Resource::Domain, Resource::Project)];
    0x0119 ListSymmetricKeys(ListSymmetricKeysRequest) -> ListKeysReply, "listSymmetricKeys",
        Any Management Read Read Store repeat alone Written,
        |r| vec![r.project.as_ref().map_or(Resource::Domain, Resource::Project)];
    0x0120 CreateAlias(CreateAliasRequest) -> AliasReply, "createAlias",
        Any Management Write Write Store once alone Synced, |r| vec![Resource::Key(&r.key)];
    0x0121 UpdateAlias(UpdateAliasRequest) -> AliasReply, "updateAlias",
        Any Management Write Write Store repeat alone Synced,
        |r| vec![Resource::Alias(&r.alias), Resource::Key(&r.key)];
    0x0122 DeleteAlias(DeleteAliasRequest) -> AliasReply, "deleteAlias",
        Any Management Write Write Store once alone Synced, |r| vec![Resource::Alias(&r.alias)];
    0x0123 ListAlias(ListAliasRequest) -> ListAliasReply, "listAlias",
        Any Management Read Read Store repeat alone Written, |_| vec![Resource::Domain];
    0x0124 ListAliasByUuid(ListAliasByUuidRequest) -> ListAliasReply, "listAliasByUuid",
        Any Management Read Read Store repeat alone Written, |r| vec![Resource::Key(&r.key)];
    0x0130 CreateProject(CreateProjectRequest) -> ProjectReply, "createProject",
        Admin Management Write Write Store once alone Synced, |r| vec![Resource::Project(&r.project)];
    0x0131 ListProjects(ListProjectsRequest) -> ListProjectsReply, "listProjects",
        Any Management Read Read Store repeat alone Written, |_| vec![Resource::Domain];
    0x0132 DeleteProject(DeleteProjectRequest) -> ProjectReply, "deleteProject",
        Admin Management Write Write Store once alone Synced, |r| vec![Resource::Project(&r.project)];
    0x0133 MoveResource(MoveResourceRequest) -> KeyStatesReply, "moveResource",
        Any Management Write Write Store repeat alone Synced, |r| {
            let mut needed = each_key(&r.keys);
            needed.push(Resource::Project(&r.project));
            needed
        };

    0x0201 Encrypt(EncryptRequest) -> EncryptReply, "encrypt",
        Any Data Read Symmetric Fast repeat batch Written, |r| vec![Resource::Key(&r.key)];
    0x0202 Decrypt(DecryptRequest) -> DecryptReply, "decrypt",
        Any Data Read Symmetric Fast repeat batch Written,
        |r| expected_and_blob(r.key.as_ref(), &r.ciphertext_blob.0);
    0x0203 ReEncrypt(ReEncryptRequest) -> ReEncryptReply, "reEncrypt",
        Any Data Read Symmetric Fast repeat batch Written, |r| {
            let mut needed = expected_and_blob(r.source_key.as_ref(), &r.ciphertext_blob.0);
            needed.push(Resource::Key(&r.destination_key));
            needed
        };
    0x0204 DescribeBlob(DescribeBlobRequest) -> DescribeBlobReply, "getDataKey",
        Any Data Read Read Memory repeat batch Written, |r| vec![blob_key(&r.ciphertext_blob.0)];
    0x0205 GenerateDataKey(GenerateDataKeyRequest) -> GenerateDataKeyReply, "generateDataKey",
        Any Data Read Symmetric Fast repeat batch Written, |r| vec![Resource::Key(&r.key)];
    0x0206 GenerateDataKeyWithoutPlaintext(GenerateDataKeyWithoutPlaintextRequest) -> EncryptReply,
        "generateDataKeyWithoutPlaintext",
        Any Data Read Symmetric Fast repeat batch Written, |r| vec![Resource::Key(&r.key)];
    0x0207 GetRandom(GetRandomRequest) -> GetRandomReply, "getRandom",
        Any Data Read Random Fast repeat batch Written, |_| vec![Resource::Domain];

    0x0208 GenerateDataKeyPair(GenerateDataKeyPairRequest) -> GenerateDataKeyPairReply, "generateDataKeyPair",
        Any Data Read Asymmetric Generate repeat batch Written, |r| vec![Resource::Key(&r.key)];
    0x0209 GenerateDataKeyPairWithoutPlaintext(GenerateDataKeyPairWithoutPlaintextRequest)
        -> GenerateDataKeyPairWithoutPlaintextReply, "generateDataKeyPairWithoutPlaintext",
        Any Data Read Asymmetric Generate repeat batch Written, |r| vec![Resource::Key(&r.key)];
    0x020A ExportDataKey(ExportDataKeyRequest) -> ExportDataKeyReply, "exportDataKey",
        Any Data Read Symmetric Fast repeat batch Written,
        |r| expected_and_blob(r.key.as_ref(), &r.ciphertext_blob.0);
    0x020B GenerateAndExportDataKey(GenerateAndExportDataKeyRequest) -> GenerateAndExportDataKeyReply,
        "generateAndExportDataKey",
        Any Data Read Symmetric Fast repeat batch Written, |r| vec![Resource::Key(&r.key)];
    0x020C AsymmetricSign(AsymmetricSignRequest) -> AsymmetricSignReply, "asymmetricSign",
        Any Data Read Asymmetric Slow repeat batch Written, |r| vec![Resource::Key(&r.key)];
    0x020D AsymmetricVerify(AsymmetricVerifyRequest) -> AsymmetricVerifyReply, "asymmetricVerify",
        Any Data Read Asymmetric Fast repeat batch Written, |r| vec![Resource::Key(&r.key)];
    0x020E AsymmetricEncrypt(AsymmetricEncryptRequest) -> AsymmetricEncryptReply, "asymmetricEncrypt",
        Any Data Read Asymmetric Fast repeat batch Written, |r| vec![Resource::Key(&r.key)];
    0x020F AsymmetricDecrypt(AsymmetricDecryptRequest) -> AsymmetricDecryptReply, "asymmetricDecrypt",
        Any Data Read Asymmetric Slow repeat batch Written, |r| vec![Resource::Key(&r.key)];
    0x0210 GetPublicKey(GetPublicKeyRequest) -> GetPublicKeyReply, "getPublicKey",
        Any Data Read Read Store repeat batch Written, |r| vec![Resource::Key(&r.key)];
    0x0211 GenerateMac(GenerateMacRequest) -> GenerateMacReply, "hmaccompute",
        Any Data Read Mac Fast repeat batch Written, |r| vec![Resource::Key(&r.key)];
    0x0212 VerifyMac(VerifyMacRequest) -> VerifyMacReply, "hmacverify",
        Any Data Read Mac Fast repeat batch Written, |r| vec![Resource::Key(&r.key)];
    0x0213 MessageDigest(MessageDigestRequest) -> MessageDigestReply, "messageDigest",
        Any Data Read Mac Memory repeat batch Written, |_| vec![Resource::Domain];

    0x0301 BeginBackup(BeginBackupRequest) -> BeginBackupReply, "beginBackup",
        Admin Management Read Read Store once alone Written, |_| vec![Resource::Domain];
    0x0302 ReadBackup(ReadBackupRequest) -> ReadBackupReply, "readBackup",
        Admin Management Read Read Store once alone Written, |_| vec![Resource::Domain];
    0x0303 EndBackup(EndBackupRequest) -> EndBackupReply, "endBackup",
        Admin Management Read Read Memory repeat alone Written, |_| vec![Resource::Domain];
    0x0304 VerifyBackup(VerifyBackupRequest) -> VerifyBackupReply, "verifyBackup",
        Admin Management Read Read Memory repeat alone Written, |_| vec![Resource::Domain];
    0x0305 ListBackups(ListBackupsRequest) -> ListBackupsReply, "listBackups",
        Admin Management Read Read Store repeat alone Written,
        |r| vec![r.key.as_ref().map_or(Resource::Domain, Resource::Key)];
    0x0306 ListTombstones(ListTombstonesRequest) -> ListTombstonesReply, "listTombstones",
        Admin Management Read Read Store repeat alone Written, |_| vec![Resource::Domain];
}

fn each_key(keys: &[KeyRef]) -> Vec<Resource<'_>> {
    keys.iter().map(Resource::Key).collect()
}

fn blob_key(blob: &[u8]) -> Resource<'static> {
    Resource::BlobKey(BlobRef::parse(blob).ok().map(|blob| blob.key_id))
}

fn expected_and_blob<'a>(expected: Option<&'a KeyRef>, blob: &[u8]) -> Vec<Resource<'a>> {
    expected.map(Resource::Key).into_iter().chain([blob_key(blob)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_round_trip() {
        assert!(Opcode::ALL.windows(2).all(|w| w[0].number() < w[1].number()));
        let mut names: Vec<_> = Opcode::ALL.iter().map(|o| o.row().audit_name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Opcode::ALL.len());
        for &opcode in Opcode::ALL {
            assert_eq!(Opcode::from_number(opcode.number()), Some(opcode));
            assert_eq!(opcode.row().opcode, opcode);
        }
    }

    #[test]
    fn only_data_plane_calls_go_into_batches_and_changes_are_synced() {
        for row in Opcode::ALL.iter().map(|o| o.row()) {
            assert_eq!(row.batchable, row.plane == Plane::Data, "{}", row.name);
            assert_eq!(row.audit == AuditSync::Synced, row.access == Access::Write, "{}", row.name);
            assert_eq!(row.audit == AuditSync::None, row.rate == Rate::Free, "{}", row.name);
        }
    }
}
