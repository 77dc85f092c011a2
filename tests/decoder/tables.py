"""The tables of protocol/SPEC.md, typed in by hand: codes, enumerations, bodies, operations, bounds."""

import re

HEADER_LEN = 24
CAP_BEFORE_HELLO = 65536
DEFAULT_CAP = 1048576

# Section 6.
CODES = {
    0: "Ok", 1: "Malformed", 2: "UnsupportedVersion", 3: "UnknownOpcode", 4: "FrameTooLarge",
    5: "HelloRequired", 6: "UnsupportedFlag", 7: "ReplyTooLarge", 10: "InvalidArgument",
    11: "PlaintextTooLarge", 20: "AccessDenied", 21: "NotFound", 22: "Unauthenticated",
    30: "InvalidKeyState", 31: "InvalidKeyUsage", 32: "UnsupportedByHsm", 33: "AlreadyExists",
    34: "ClientTokenReused", 35: "KeyExhausted", 36: "KeyVersionRequired", 37: "UnsupportedByKey",
    38: "DeletionProtected", 39: "KeyInUse", 40: "InvalidCiphertext", 41: "InvalidImportToken",
    42: "ImportTokenExpired", 43: "InvalidMaterial", 44: "MaterialMismatch", 45: "LimitExceeded", 46: "NotEmpty",
    50: "Busy", 51: "Throttled", 52: "DeadlineExceeded", 53: "ShuttingDown", 60: "HsmUnavailable",
    61: "StoreUnavailable", 62: "AuditUnavailable", 63: "ReadOnly", 70: "NotAvailable", 99: "Internal",
}

# Section 7.2.
ENUMS = {
    "KeySpec": {1: "AES_256", 2: "SM4", 3: "RSA_2048", 4: "RSA_3072", 5: "RSA_4096", 6: "EC_P256",
                7: "EC_P384", 8: "SM2", 9: "HMAC_256", 10: "HMAC_384", 11: "HMAC_512", 12: "HMAC_SM3"},
    "KeyUsage": {1: "ENCRYPT_DECRYPT", 2: "SIGN_VERIFY", 3: "GENERATE_VERIFY_MAC"},
    "Protection": {1: "HSM", 2: "SOFTWARE"},
    "KeyOrigin": {1: "KMS", 2: "EXTERNAL"},
    "KeyState": {1: "Enabled", 2: "Disabled", 3: "PendingImport", 4: "PendingDeletion", 5: "Deleted"},
    "DataKeySpec": {1: "AES_256", 2: "AES_128", 3: "SM4"},
    "KeyPairSpec": {3: "RSA_2048", 4: "RSA_3072", 5: "RSA_4096", 6: "EC_P256", 7: "EC_P384", 8: "SM2"},
    "SigningAlgorithm": {1: "RSA_PSS_SHA_256", 2: "RSA_PSS_SHA_384", 3: "RSA_PSS_SHA_512", 4: "RSA_PKCS1_SHA_256",
                         5: "RSA_PKCS1_SHA_384", 6: "RSA_PKCS1_SHA_512", 7: "ECDSA_SHA_256", 8: "ECDSA_SHA_384",
                         9: "SM2DSA"},
    "EncryptionAlgorithm": {1: "RSAES_OAEP_SHA_1", 2: "RSAES_OAEP_SHA_256", 3: "SM2PKE"},
    "ExportAlgorithm": {1: "RSAES_OAEP_SHA_1", 2: "RSAES_OAEP_SHA_256", 3: "RSAES_PKCS1_V1_5", 4: "SM2PKE"},
    "ImportAlgorithm": {1: "RSAES_PKCS1_V1_5", 2: "RSAES_OAEP_SHA_1", 3: "RSAES_OAEP_SHA_256",
                        4: "RSA_AES_KEY_WRAP_SHA_256", 5: "SM2PKE"},
    "WrappingKeySpec": {3: "RSA_2048", 4: "RSA_3072", 5: "RSA_4096", 8: "SM2"},
    "MacAlgorithm": {1: "HMAC_SHA_256", 2: "HMAC_SHA_384", 3: "HMAC_SHA_512", 4: "HMAC_SM3"},
    "DigestAlgorithm": {1: "SM3", 2: "SHA_256", 3: "SHA_384", 4: "SHA_512"},
    "MessageType": {1: "MESSAGE", 2: "DIGEST"},
    "AuthMethod": {0: "none", 1: "HMAC_SHA_256", 2: "HMAC_SM3"},
    "ServiceState": {1: "serving", 2: "locked", 3: "stopping"},
    "MemberState": {1: "up", 2: "down", 3: "pin-refused", 4: "no-root"},
    "Suite": {1: "SOFTWARE_AES_256_GCM_HKDF", 2: "HSM_AES_256_GCM_DERIVED", 3: "HSM_AES_256_GCM_DIRECT",
              4: "SOFTWARE_SM4_GCM_HKDF_SM3", 5: "HSM_SM4_GCM_DIRECT"},
}

# Section 7.5: fields and types, in order.
STRUCTS = {name: [tuple(field.split(":")) for field in fields.split()] for name, fields in {
    "ErrorBody": "message:text retry_after_ms:u32",
    "HelloRequest": "min_version:u8 max_version:u8 agent:text auth_method:AuthMethod access_key:text "
                    "client_nonce:raw32 proof:bytes frame_authenticator:bool",
    "HelloReply": "version:u8 agent:text endpoint:text server_nonce:raw32 proof:bytes complete:bool "
                  "max_body:u32 max_in_flight:u32 max_batch:u16 max_plaintext:u32",
    "PingRequest": "payload:bytes",
    "PingReply": "version:text payload:bytes",
    "StatusRequest": "",
    "StatusReply": "version:text state:ServiceState reason:text domain_id:uuid root_generation:u32 "
                   "uptime_ms:u64 pool:list<MemberStatus> keys:list<KeyCount> recovery_recipients:u16 "
                   "warnings:list<text>",
    "MemberStatus": "name:text profile:text state:MemberState reason:text epoch:u64 hardware:bool "
                    "since:i64 specs:list<SpecStatus>",
    "SpecStatus": "spec:KeySpec available:bool reason:text",
    "KeyCount": "state:KeyState spec:KeySpec count:u64",
    "BatchRequest": "items:list<BatchItem>",
    "BatchItem": "opcode:u16 body:bytes",
    "BatchReply": "results:list<BatchResult>",
    "BatchResult": "status:u16 body:bytes",
    "CreateKeyRequest": "client_token:raw16 spec:KeySpec usage:option<KeyUsage> protection:Protection "
                        "origin:KeyOrigin project:project alias:option<alias> description:description "
                        "tags:tags rotation_days:option<u16> sm2_user_id:option<bytes>",
    "CreateKeyReply": "key_id:uuid key_version_id:option<uuid>",
    "DescribeKeyRequest": "key:key",
    "DescribeKeyReply": "key_id:uuid spec:KeySpec usage:KeyUsage state:KeyState protection:Protection "
                        "origin:KeyOrigin project:project description:description aliases:list<text> "
                        "tags:tags created_at:i64 created_by:text primary_version_id:option<uuid> "
                        "version_count:u32 rotation:option<Rotation> deletion_date:option<i64> erased_at:option<i64> "
                        "deletion_protection:bool material_expires_at:option<i64> "
                        "sm2_user_id:option<bytes> assurance:Assurance",
    "Rotation": "days:u16 last:option<i64> next:option<i64>",
    "Assurance": "hardware:bool members:list<text>",
    "ListKeysRequest": "state:option<KeyState> spec:option<KeySpec> project:option<project> "
                       "tag:option<tag> limit:u16 page:bytes",
    "ListKeysReply": "keys:list<KeySummary> next_page:bytes",
    "KeySummary": "key_id:uuid spec:KeySpec usage:KeyUsage state:KeyState protection:Protection "
                  "origin:KeyOrigin project:project description:description aliases:list<text> created_at:i64",
    "EnableKeyRequest": "keys:list<key>",
    "DisableKeyRequest": "keys:list<key>",
    "KeyStatesReply": "results:list<KeyStateResult>",
    "KeyStateResult": "key:key status:u16 key_id:option<uuid> state:option<KeyState> changed:bool message:text",
    "ScheduleKeyDeletionRequest": "keys:list<key> days:option<u16> force:bool",
    "KeyDeletionsReply": "results:list<KeyDeletionResult>",
    "KeyDeletionResult": "key:key status:u16 key_id:option<uuid> deletion_date:option<i64> "
                         "associations:list<Association> message:text",
    "CancelKeyDeletionRequest": "keys:list<key> enable:bool",
    "ProtectKeyRequest": "keys:list<key>",
    "UnprotectKeyRequest": "keys:list<key>",
    "UpdateKeyDescriptionRequest": "key:key description:description",
    "KeyChangeReply": "key_id:uuid changed:bool",
    "TagResourceRequest": "keys:list<key> tags:tags",
    "UntagResourceRequest": "keys:list<key> tag_keys:list<tag_key>",
    "ListTagsRequest": "key:key",
    "ListTagsReply": "key_id:uuid tags:tags",
    "RotateKeyRequest": "client_token:raw16 key:key",
    "UpdateRotationPolicyRequest": "key:key rotation_days:option<u16>",
    "UpdateRotationPolicyReply": "key_id:uuid rotation:option<Rotation> changed:bool",
    "CreateKeyVersionRequest": "client_token:raw16 key:key",
    "NewKeyVersionReply": "key_id:uuid key_version_id:uuid",
    "ListKeyVersionsRequest": "key:key limit:u16 page:bytes",
    "ListKeyVersionsReply": "key_id:uuid versions:list<KeyVersionSummary> next_page:bytes",
    "KeyVersionSummary": "key_version_id:uuid number:u32 created_at:i64 primary:bool destroyed_at:option<i64>",
    "DescribeKeyVersionRequest": "key:key key_version_id:uuid",
    "DescribeKeyVersionReply": "key_id:uuid version:KeyVersionSummary public_key:option<bytes> hardware:bool "
                               "made_by:text counted_uses:option<u64>",
    "GetParametersForImportRequest": "key:key wrapping_spec:WrappingKeySpec algorithm:ImportAlgorithm",
    "GetParametersForImportReply": "key_id:uuid public_key:bytes token:bytes expires_at:i64",
    "ImportKeyMaterialRequest": "client_token:raw16 key:key encrypted_material:bytes encrypted_ephemeral_key:bytes "
                                "token:bytes expires_at:option<i64>",
    "ImportKeyMaterialReply": "key_id:uuid key_version_id:uuid state:KeyState material_expires_at:option<i64> "
                              "through_memory:bool",
    "DeleteKeyMaterialRequest": "key:key",
    "DeleteKeyMaterialReply": "key_id:uuid state:KeyState",
    "DetectAssociationRequest": "key:key",
    "DetectAssociationReply": "key_id:uuid associations:list<Association>",
    "Association": "access_point:text last_used_at:i64",
    "CreateDefaultKeyRequest": "service:service",
    "ListAliasKeysRequest": "project:option<project> limit:u16 page:bytes",
    "ListAliasKeysReply": "keys:list<AliasKey> next_page:bytes",
    "AliasKey": "alias:text key:KeySummary",
    "ListSymmetricKeysRequest": "state:option<KeyState> project:option<project> limit:u16 page:bytes",
    "CreateAliasRequest": "alias:alias key:key",
    "UpdateAliasRequest": "alias:alias key:key",
    "DeleteAliasRequest": "alias:alias",
    "AliasReply": "alias:alias key_id:uuid changed:bool",
    "ListAliasRequest": "limit:u16 page:bytes",
    "ListAliasByUuidRequest": "key:key",
    "ListAliasReply": "aliases:list<AliasEntry> next_page:bytes",
    "AliasEntry": "alias:text key_id:uuid",
    "CreateProjectRequest": "project:project description:description",
    "ProjectReply": "project:project",
    "ListProjectsRequest": "limit:u16 page:bytes",
    "ListProjectsReply": "projects:list<ProjectSummary> next_page:bytes",
    "ProjectSummary": "project:project description:description created_at:option<i64>",
    "DeleteProjectRequest": "project:project",
    "MoveResourceRequest": "keys:list<key> project:project",
    "EncryptRequest": "key:key plaintext:bytes context:context",
    "EncryptReply": "key_id:uuid key_version_id:uuid ciphertext_blob:bytes",
    "DecryptRequest": "key:option<key> ciphertext_blob:bytes context:context",
    "DecryptReply": "key_id:uuid key_version_id:uuid plaintext:bytes",
    "ReEncryptRequest": "source_key:option<key> ciphertext_blob:bytes source_context:context "
                        "destination_key:key destination_context:context",
    "ReEncryptReply": "source_key_id:uuid source_key_version_id:uuid key_id:uuid key_version_id:uuid "
                      "ciphertext_blob:bytes",
    "DescribeBlobRequest": "ciphertext_blob:bytes",
    "DescribeBlobReply": "key_id:uuid key_version_id:uuid spec:KeySpec suite:Suite plaintext_len:u32",
    "GenerateDataKeyRequest": "key:key size:size context:context",
    "GenerateDataKeyReply": "key_id:uuid key_version_id:uuid plaintext:bytes ciphertext_blob:bytes",
    "GenerateDataKeyWithoutPlaintextRequest": "key:key size:size context:context",
    "GetRandomRequest": "length:u16",
    "GetRandomReply": "random:bytes",
    "GenerateDataKeyPairRequest": "key:key pair_spec:KeyPairSpec context:context",
    "GenerateDataKeyPairReply": "key_id:uuid key_version_id:uuid public_key:bytes private_key:bytes "
                                "ciphertext_blob:bytes",
    "GenerateDataKeyPairWithoutPlaintextRequest": "key:key pair_spec:KeyPairSpec context:context",
    "GenerateDataKeyPairWithoutPlaintextReply": "key_id:uuid key_version_id:uuid public_key:bytes "
                                                "ciphertext_blob:bytes",
    "ExportDataKeyRequest": "key:option<key> ciphertext_blob:bytes context:context public_key:bytes "
                            "algorithm:ExportAlgorithm",
    "ExportDataKeyReply": "key_id:uuid key_version_id:uuid exported_data_key:bytes",
    "GenerateAndExportDataKeyRequest": "key:key size:size context:context public_key:bytes "
                                       "algorithm:ExportAlgorithm",
    "GenerateAndExportDataKeyReply": "key_id:uuid key_version_id:uuid ciphertext_blob:bytes "
                                     "exported_data_key:bytes",
    "AsymmetricSignRequest": "key:key key_version_id:option<uuid> algorithm:SigningAlgorithm "
                             "message_type:MessageType message:bytes user_id:option<bytes>",
    "AsymmetricSignReply": "key_id:uuid key_version_id:uuid signature:bytes",
    "AsymmetricVerifyRequest": "key:key key_version_id:option<uuid> algorithm:SigningAlgorithm "
                               "message_type:MessageType message:bytes signature:bytes user_id:option<bytes>",
    "AsymmetricVerifyReply": "key_id:uuid key_version_id:uuid valid:bool",
    "AsymmetricEncryptRequest": "key:key key_version_id:option<uuid> algorithm:EncryptionAlgorithm plaintext:bytes",
    "AsymmetricEncryptReply": "key_id:uuid key_version_id:uuid ciphertext:bytes",
    "AsymmetricDecryptRequest": "key:key key_version_id:option<uuid> algorithm:EncryptionAlgorithm ciphertext:bytes",
    "AsymmetricDecryptReply": "key_id:uuid key_version_id:uuid plaintext:bytes",
    "GetPublicKeyRequest": "key:key key_version_id:option<uuid>",
    "GetPublicKeyReply": "key_id:uuid key_version_id:uuid spec:KeySpec usage:KeyUsage public_key:bytes",
    "GenerateMacRequest": "key:key algorithm:option<MacAlgorithm> message:bytes",
    "GenerateMacReply": "key_id:uuid key_version_id:uuid mac:bytes",
    "VerifyMacRequest": "key:key key_version_id:option<uuid> algorithm:option<MacAlgorithm> message:bytes mac:bytes",
    "VerifyMacReply": "key_id:uuid key_version_id:uuid valid:bool",
    "MessageDigestRequest": "algorithm:DigestAlgorithm message:bytes",
    "MessageDigestReply": "digest:bytes",
    "BeginBackupRequest": "",
    "BeginBackupReply": "backup_id:uuid header:bytes keys:u64 recovery_recipients:u16",
    "ReadBackupRequest": "backup_id:uuid index:u32",
    "ReadBackupReply": "chunk:bytes last:bool puts:u64 deletes:u64",
    "EndBackupRequest": "backup_id:uuid complete:bool",
    "EndBackupReply": "",
    "VerifyBackupRequest": "header:bytes index:u32 last:bool chunk:bytes",
    "VerifyBackupReply": "puts:u64 deletes:u64 total_puts:u64 total_deletes:u64",
    "ListBackupsRequest": "key:option<key> limit:u16 page:bytes",
    "ListBackupsReply": "backups:list<BackupSummary> next_page:bytes",
    "BackupSummary": "backup_id:uuid created_at:i64 holds_deleted:u32",
    "ListTombstonesRequest": "limit:u16 page:bytes",
    "ListTombstonesReply": "domain_id:uuid tombstones:list<Tombstone> next_page:bytes",
    "Tombstone": "key_id:uuid created_at:i64 deleted_at:i64 erased_at:option<i64>",
}.items()}

# Section 7.4: number, name, reply, whether only the admin endpoint has it, whether a batch may carry it.
OPERATIONS = {number: (name, reply, admin, batchable) for number, name, reply, admin, batchable in [
    (0x0001, "Hello", "HelloReply", False, False),
    (0x0002, "Ping", "PingReply", False, False),
    (0x0003, "Status", "StatusReply", True, False),
    (0x0004, "Batch", "BatchReply", False, False),
    (0x0101, "CreateKey", "CreateKeyReply", False, False),
    (0x0102, "DescribeKey", "DescribeKeyReply", False, False),
    (0x0103, "ListKeys", "ListKeysReply", False, False),
    (0x0104, "EnableKey", "KeyStatesReply", False, False),
    (0x0105, "DisableKey", "KeyStatesReply", False, False),
    (0x0106, "ScheduleKeyDeletion", "KeyDeletionsReply", False, False),
    (0x0107, "CancelKeyDeletion", "KeyStatesReply", False, False),
    (0x0108, "ProtectKey", "KeyStatesReply", False, False),
    (0x0109, "UnprotectKey", "KeyStatesReply", False, False),
    (0x010A, "UpdateKeyDescription", "KeyChangeReply", False, False),
    (0x010B, "TagResource", "KeyStatesReply", False, False),
    (0x010C, "UntagResource", "KeyStatesReply", False, False),
    (0x010D, "ListTags", "ListTagsReply", False, False),
    (0x010E, "RotateKey", "NewKeyVersionReply", False, False),
    (0x010F, "UpdateRotationPolicy", "UpdateRotationPolicyReply", False, False),
    (0x0110, "CreateKeyVersion", "NewKeyVersionReply", False, False),
    (0x0111, "ListKeyVersions", "ListKeyVersionsReply", False, False),
    (0x0112, "DescribeKeyVersion", "DescribeKeyVersionReply", False, False),
    (0x0113, "GetParametersForImport", "GetParametersForImportReply", False, False),
    (0x0114, "ImportKeyMaterial", "ImportKeyMaterialReply", False, False),
    (0x0115, "DeleteKeyMaterial", "DeleteKeyMaterialReply", False, False),
    (0x0116, "DetectAssociation", "DetectAssociationReply", False, False),
    (0x0117, "CreateDefaultKey", "CreateKeyReply", True, False),
    (0x0118, "ListAliasKeys", "ListAliasKeysReply", False, False),
    (0x0119, "ListSymmetricKeys", "ListKeysReply", False, False),
    (0x0120, "CreateAlias", "AliasReply", False, False),
    (0x0121, "UpdateAlias", "AliasReply", False, False),
    (0x0122, "DeleteAlias", "AliasReply", False, False),
    (0x0123, "ListAlias", "ListAliasReply", False, False),
    (0x0124, "ListAliasByUuid", "ListAliasReply", False, False),
    (0x0130, "CreateProject", "ProjectReply", True, False),
    (0x0131, "ListProjects", "ListProjectsReply", False, False),
    (0x0132, "DeleteProject", "ProjectReply", True, False),
    (0x0133, "MoveResource", "KeyStatesReply", False, False),
    (0x0201, "Encrypt", "EncryptReply", False, True),
    (0x0202, "Decrypt", "DecryptReply", False, True),
    (0x0203, "ReEncrypt", "ReEncryptReply", False, True),
    (0x0204, "DescribeBlob", "DescribeBlobReply", False, True),
    (0x0205, "GenerateDataKey", "GenerateDataKeyReply", False, True),
    (0x0206, "GenerateDataKeyWithoutPlaintext", "EncryptReply", False, True),
    (0x0207, "GetRandom", "GetRandomReply", False, True),
    (0x0208, "GenerateDataKeyPair", "GenerateDataKeyPairReply", False, True),
    (0x0209, "GenerateDataKeyPairWithoutPlaintext", "GenerateDataKeyPairWithoutPlaintextReply", False, True),
    (0x020A, "ExportDataKey", "ExportDataKeyReply", False, True),
    (0x020B, "GenerateAndExportDataKey", "GenerateAndExportDataKeyReply", False, True),
    (0x020C, "AsymmetricSign", "AsymmetricSignReply", False, True),
    (0x020D, "AsymmetricVerify", "AsymmetricVerifyReply", False, True),
    (0x020E, "AsymmetricEncrypt", "AsymmetricEncryptReply", False, True),
    (0x020F, "AsymmetricDecrypt", "AsymmetricDecryptReply", False, True),
    (0x0210, "GetPublicKey", "GetPublicKeyReply", False, True),
    (0x0211, "GenerateMac", "GenerateMacReply", False, True),
    (0x0212, "VerifyMac", "VerifyMacReply", False, True),
    (0x0213, "MessageDigest", "MessageDigestReply", False, True),
    (0x0301, "BeginBackup", "BeginBackupReply", True, False),
    (0x0302, "ReadBackup", "ReadBackupReply", True, False),
    (0x0303, "EndBackup", "EndBackupReply", True, False),
    (0x0304, "VerifyBackup", "VerifyBackupReply", True, False),
    (0x0305, "ListBackups", "ListBackupsReply", True, False),
    (0x0306, "ListTombstones", "ListTombstonesReply", True, False),
]}

# Section 7.5: bounds that belong to one field of a request.
BOUNDS = {
    ("HelloRequest", "agent"): lambda v: len(v) <= 64 and all(" " <= c <= "~" for c in v),
    ("HelloRequest", "access_key"): lambda v: re.fullmatch(r"[A-Za-z0-9_-]{0,64}", v) is not None,
    ("HelloRequest", "proof"): lambda v: len(unhex(v)) <= 64,
    ("PingRequest", "payload"): lambda v: len(unhex(v)) <= 4096,
    ("BatchRequest", "items"): lambda v: len(v) <= 1024,
    ("CreateKeyRequest", "rotation_days"): lambda v: v is None or 7 <= v <= 730,
    ("CreateKeyRequest", "sm2_user_id"): lambda v: v is None or len(unhex(v)) <= 255,
    ("ScheduleKeyDeletionRequest", "days"): lambda v: v is None or 0 <= v <= 1096,
    ("UpdateRotationPolicyRequest", "rotation_days"): lambda v: v is None or 7 <= v <= 730,
    ("ImportKeyMaterialRequest", "encrypted_material"): lambda v: len(unhex(v)) <= 8192,
    ("ImportKeyMaterialRequest", "encrypted_ephemeral_key"): lambda v: len(unhex(v)) <= 1024,
    ("ImportKeyMaterialRequest", "token"): lambda v: len(unhex(v)) <= 256,
    ("ExportDataKeyRequest", "public_key"): lambda v: len(unhex(v)) <= 1024,
    ("GenerateAndExportDataKeyRequest", "public_key"): lambda v: len(unhex(v)) <= 1024,
    ("AsymmetricSignRequest", "user_id"): lambda v: v is None or len(unhex(v)) <= 255,
    ("AsymmetricVerifyRequest", "user_id"): lambda v: v is None or len(unhex(v)) <= 255,
    ("VerifyBackupRequest", "header"): lambda v: len(unhex(v)) <= 524288,
    ("VerifyBackupRequest", "chunk"): lambda v: len(unhex(v)) <= 65552,
    ("GetRandomRequest", "length"): lambda v: 1 <= v <= 4096,
}
# Pages: the longest token of each.
PAGES = {"ListKeysRequest": 64, "ListBackupsRequest": 64, "ListTombstonesRequest": 64,
         "ListKeyVersionsRequest": 64, "ListSymmetricKeysRequest": 64,
         "ListAliasKeysRequest": 255, "ListAliasRequest": 255, "ListProjectsRequest": 255}
BOUNDS |= {(name, "limit"): lambda v: v <= 1000 for name in PAGES}
BOUNDS |= {(name, "page"): lambda v, most=most: len(unhex(v)) <= most for name, most in PAGES.items()}
# Calls that name several keys.
EACH_KEY = [name + "Request" for name in (
    "EnableKey", "DisableKey", "ScheduleKeyDeletion", "CancelKeyDeletion", "ProtectKey", "UnprotectKey", "TagResource",
    "UntagResource", "MoveResource")]
# Lists that are refused by their count alone.
COUNTS = {("BatchRequest", "items"): (0, 1024), ("UntagResourceRequest", "tag_keys"): (1, 20), "tags": (0, 20)}
COUNTS |= {(name, "keys"): (1, 100) for name in EACH_KEY}


class Refused(Exception):
    """Bytes that the text says must be refused, with the code's name."""

    def __init__(self, code, why):
        super().__init__(f"{code}: {why}")
        self.code = code


def malformed(why):
    return Refused("Malformed", why)


def invalid(why):
    return Refused("InvalidArgument", why)


def unhex(meaning):
    return bytes.fromhex(meaning["hex"])
