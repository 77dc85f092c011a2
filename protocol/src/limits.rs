//! Every limit of the wire format, by name. `SPEC.md` section 2 lists the same numbers.

/// Bytes of the fixed frame header, in both directions.
pub const HEADER_LEN: usize = 24;
/// Bytes of the frame authenticator that follows the body when its flag is set.
pub const AUTHENTICATOR_LEN: usize = 16;
/// Largest body before the connection's hello was accepted, in bytes.
pub const MAX_BODY_BEFORE_HELLO: usize = 64 * 1024;
/// Largest body after hello, in bytes, unless the daemon is configured otherwise.
pub const DEFAULT_MAX_BODY: usize = 1024 * 1024;
/// The most that a daemon can be configured to take for a body, in bytes.
pub const CEILING_MAX_BODY: usize = 16 * 1024 * 1024;
/// Items of one batch.
pub const MAX_BATCH_ITEMS: usize = 1024;
/// Bytes of a batch's smallest result: status, length, and an error without message.
pub const MIN_BATCH_RESULT_LEN: usize = 10 + 12;
/// Largest plaintext of Encrypt, in bytes, unless configured otherwise.
pub const DEFAULT_MAX_PLAINTEXT: usize = 6144;
/// Largest canonical encryption context, in bytes, its count included.
pub const MAX_CONTEXT_LEN: usize = 8192;
/// Largest name of a key, alias or project, in bytes.
pub const MAX_NAME_LEN: usize = 255;
/// Longest description, in Unicode scalar values.
pub const MAX_DESCRIPTION_CHARS: usize = 255;
/// Tags on one resource.
pub const MAX_TAGS: usize = 20;
/// Longest tag key, in Unicode scalar values.
pub const MAX_TAG_KEY_CHARS: usize = 128;
/// Longest tag value, in Unicode scalar values.
pub const MAX_TAG_VALUE_CHARS: usize = 255;
/// Resources that one multi-resource call may name.
pub const MAX_KEYS_PER_CALL: usize = 100;
/// Largest page of a list.
pub const MAX_PAGE_ITEMS: u16 = 1000;
/// Page size where the caller names none.
pub const DEFAULT_PAGE_ITEMS: u16 = 100;
/// Largest page token, in bytes.
pub const MAX_PAGE_TOKEN_LEN: usize = 64;
/// Bytes that one `GetRandom` returns at most.
pub const MAX_RANDOM_LEN: u16 = 4096;
/// Bytes of a data key asked for by length.
pub const MAX_DATA_KEY_LEN: u16 = 1024;
/// Bytes of the payload that `Ping` echoes.
pub const MAX_PING_LEN: usize = 4096;
/// Bytes of the client's and the daemon's self-description in hello.
pub const MAX_AGENT_LEN: usize = 64;
/// Bytes of an access key's id.
pub const MAX_ACCESS_KEY_LEN: usize = 64;
/// Bytes of a proof in hello (HMAC-SHA-256 and HMAC-SM3 are 32).
pub const MAX_PROOF_LEN: usize = 64;
/// Shortest rotation period, in days.
pub const MIN_ROTATION_DAYS: u16 = 7;
/// Longest rotation period, in days.
pub const MAX_ROTATION_DAYS: u16 = 730;
/// Shortest wait for a deletion, in days; the daemon asks for 7 or more unless it runs with `--dev`.
pub const MIN_DELETION_DAYS: u16 = 0;
/// Longest wait for a deletion, in days.
pub const MAX_DELETION_DAYS: u16 = 1096;
/// Aliases of one key.
pub const MAX_ALIASES: usize = 50;
/// Versions of one key.
pub const MAX_VERSIONS: u32 = 10_000;
/// Largest name of a local service, in bytes.
pub const MAX_SERVICE_LEN: usize = 64;
/// Bytes of encrypted material: PKCS#8 of RSA-4096 is 2,400, wrapped and behind an RSA block.
pub const MAX_ENCRYPTED_MATERIAL_LEN: usize = 8192;
/// Bytes of an encrypted ephemeral key: one block of RSA-4096, or an SM2 ciphertext.
pub const MAX_ENCRYPTED_EPHEMERAL_KEY_LEN: usize = 1024;
/// Bytes of an import token.
pub const MAX_IMPORT_TOKEN_LEN: usize = 256;
/// Bytes of a public key that a caller brings (SubjectPublicKeyInfo, DER); RSA-4096 has 550.
pub const MAX_PUBLIC_KEY_LEN: usize = 1024;
/// Bytes of an SM2 user id.
pub const MAX_SM2_USER_ID_LEN: usize = 255;
/// Ciphertext blob: what its header, tag and largest suite add to the plaintext, in bytes.
pub const MAX_BLOB_OVERHEAD: usize = 8 + 16 + 16 + 32 + 12 + 32 + 16;
