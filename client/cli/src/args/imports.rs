//! Arguments of `key …`: bringing one's own material.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use claviger_protocol::{ImportAlgorithm, KeyRef, WrappingKeySpec};

use super::keys::Token;
use super::life::Sure;
use super::pairs::{Coding, KeyFormat};

const PARAMS: &str = "\
Public key and token belong together and to this key; both can be used for 24 hours.
Without --algorithm: RSAES_OAEP_SHA_256 for an RSA wrapping key, SM2PKE for SM2.

Examples:
  claviger key import-params alias/mine --public-key-out wrap.der --token-out token
  claviger key import-params alias/mine --algorithm RSAES_OAEP_SHA_1 --encoding base64 --public-key-out PublicKey_base64.txt --token-out token.b64
  claviger key import-params alias/mine --wrapping-spec SM2 --format pem --public-key-out sm2.pem --token-out token";
const IMPORT: &str = "\
What is imported is encrypted to the public key of import-params, and belongs to the key for ever:
no other material can be imported into it.

Examples:
  claviger key import alias/mine --material wrapped --token token
  claviger key import alias/mine --material EncryptedKeyMaterial_base64.txt --token token.b64 --encoding base64
  claviger key import alias/mine --material wrapped --token token --expires 2030-01-01T00:00:00Z
  claviger key import alias/pair --material key.kwp --ephemeral-key aes.enc --token token";
const DELETE: &str = "\
The key is PendingImport then. Only the same material, imported again, decrypts what is encrypted
under it.

Example:
  claviger key delete-material alias/mine --yes";

/// What is done with keys of origin EXTERNAL.
#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// Get a public key to encrypt material to, and the token that goes with it
    #[command(after_help = PARAMS)]
    ImportParams(Box<ImportParams>),
    /// Bring encrypted material into a key
    #[command(after_help = IMPORT)]
    Import(Box<Import>),
    /// Destroy a key's imported material; asks on a terminal
    #[command(after_help = DELETE)]
    DeleteMaterial {
        /// Key id or alias
        key: KeyRef,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ImportParams {
    /// Key id or alias
    pub(crate) key: KeyRef,
    /// RSA_2048, RSA_3072, RSA_4096 or SM2
    #[arg(long, default_value = "RSA_2048", value_name = "SPEC")]
    pub(crate) wrapping_spec: WrappingKeySpec,
    /// RSAES_PKCS1_V1_5, RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, RSA_AES_KEY_WRAP_SHA_256 or SM2PKE
    #[arg(long)]
    pub(crate) algorithm: Option<ImportAlgorithm>,
    /// Write the public key to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) public_key_out: Option<PathBuf>,
    /// Write the token to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) token_out: Option<PathBuf>,
    /// How the public key is written: der or pem
    #[arg(long, default_value = "der", value_name = "FORMAT")]
    pub(crate) format: KeyFormat,
    #[command(flatten)]
    pub(crate) coding: Coding,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Key id or alias
    pub(crate) key: KeyRef,
    /// File with the encrypted material
    #[arg(long, value_name = "FILE")]
    pub(crate) material: PathBuf,
    /// File with the encrypted ephemeral key, where the material is in two parts
    #[arg(long, value_name = "FILE")]
    pub(crate) ephemeral_key: Option<PathBuf>,
    /// File with the token of import-params
    #[arg(long, value_name = "FILE")]
    pub(crate) token: PathBuf,
    /// When the material is destroyed: a time such as 2030-01-01T00:00:00Z, or never
    #[arg(long, default_value = "never", value_name = "TIME", value_parser = expiry)]
    pub(crate) expires: Expiry,
    #[command(flatten)]
    pub(crate) coding: Coding,
    #[command(flatten)]
    pub(crate) client_token: Token,
}

/// When material expires, in milliseconds since the Unix epoch; none for never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expiry(pub(crate) Option<i64>);

fn expiry(text: &str) -> Result<Expiry, String> {
    if text == "never" {
        return Ok(Expiry(None));
    }
    let wrong = "expected a time in UTC such as 2030-01-01T00:00:00Z, or never";
    let time: SystemTime = humantime::parse_rfc3339(text).map_err(|error| format!("{error}; {wrong}"))?;
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| wrong.to_owned())?;
    i64::try_from(since.as_millis()).map(|ms| Expiry(Some(ms))).map_err(|_| wrong.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_time_in_utc_or_never() {
        assert_eq!(expiry("never"), Ok(Expiry(None)));
        assert_eq!(expiry("2026-09-21T14:13:20.123Z"), Ok(Expiry(Some(1_790_000_000_123))));
        for text in ["", "Never", "2026-09-21", "2026-09-21T14:13:20", "1790000000", "2026-13-01T00:00:00Z"] {
            assert!(expiry(text).is_err(), "{text}");
        }
    }
}
