//! Arguments of what is done with key pairs, MAC keys and digests.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use claviger_protocol::{DigestAlgorithm, EncryptionAlgorithm, KeyRef, MacAlgorithm, SigningAlgorithm};
use uuid::Uuid;

use super::keys::UserId;
use super::{Input, Output};

pub(super) const SIGN: &str = "\
Without --algorithm: what an EC or SM2 key signs with, RSA_PSS_SHA_256 for an RSA key.
With --digest the input is the message's digest as bytes; of SM2DSA, SM3 over Z_A and the message.

Examples:
  claviger sign alias/release --in app.tar --out app.sig
  claviger sign alias/rsa --algorithm RSA_PKCS1_SHA_512 --in app.tar --encoding base64
  openssl dgst -sha256 -binary app.tar | claviger sign alias/release --digest --json
  claviger sign alias/sm2 --user-id ALICE123@YAHOO.COM --in app.tar --out app.sig";
pub(super) const VERIFY: &str = "\
The exit code is 0 if the signature is right, and 1 if it is wrong.

Examples:
  claviger verify alias/release --in app.tar --signature app.sig
  claviger verify alias/rsa --algorithm RSA_PKCS1_SHA_512 --in app.tar --signature app.b64 --encoding base64";
pub(super) const ASYMMETRIC: &str = "\
Example:
  claviger asymmetric encrypt alias/box --in note.txt --out note.enc";
const ASYMMETRIC_ENCRYPT: &str = "\
Without --algorithm: SM2PKE for an SM2 key, RSAES_OAEP_SHA_256 for an RSA key.

Examples:
  claviger asymmetric encrypt alias/box --in note.txt --out note.enc
  claviger asymmetric encrypt alias/sm2 --sm2-format c1c3c2 --encoding base64 --in note.txt";
const ASYMMETRIC_DECRYPT: &str = "\
Examples:
  claviger asymmetric decrypt alias/box --in note.enc
  claviger asymmetric decrypt alias/rsa --algorithm RSAES_OAEP_SHA_1 --in note.b64 --encoding base64
  claviger asymmetric decrypt alias/sm2 --sm2-format c1c2c3 --in old.enc";
pub(super) const MAC: &str = "\
Examples:
  claviger mac alias/mac --in card.txt --out card.mac
  echo message | claviger mac alias/mac --encoding hex";
pub(super) const VERIFY_MAC: &str = "\
Without --version the key's primary version is tried, then the older ones.
The exit code is 0 if the MAC is right, and 1 if it is wrong.

Example:
  claviger verify-mac alias/mac --in card.txt --mac card.mac";
pub(super) const DIGEST: &str = "\
Examples:
  claviger digest --algorithm SM3 --encoding hex --in app.tar
  claviger digest --algorithm SHA_256 --json --in app.tar";

/// How keys, signatures, ciphertexts, MACs and digests look in files and streams. Under
/// `--json`, what is printed is base64 whatever this says. Its variants have no help of
/// their own: it would make every command's help the long one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encoding {
    // The bytes as they are
    #[default]
    Raw,
    // RFC 4648 section 4; when reading, white space is passed over
    Base64,
    // Lower case is written, either is read
    Hex,
}

/// How a key is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyFormat {
    // RFC 7468
    #[default]
    Pem,
    // The bytes, encoded as --encoding says
    Der,
}

/// How an SM2 ciphertext's parts are put together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sm2Format {
    // GM/T 0009: what the daemon speaks
    #[default]
    Der,
    // GB/T 32918.4: 04, x, y, C3, C2
    C1c3c2,
    // The order of before 2012: 04, x, y, C2, C3
    C1c2c3,
}

/// Where a public key is written, and how.
#[derive(Debug, Args)]
pub(crate) struct KeyOutput {
    /// How keys are written: pem, or der where --encoding is given
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<KeyFormat>,
    #[command(flatten)]
    pub(crate) coding: Coding,
}

/// How bytes are coded in files and streams.
#[derive(Debug, Args)]
pub(crate) struct Coding {
    /// How keys (as DER), signatures, MACs, ciphertexts and wrapped data keys are coded in files and streams
    #[arg(long, default_value = "raw", value_name = "ENCODING")]
    pub(crate) encoding: Encoding,
}

/// The key of a call, and which of its versions.
#[derive(Debug, Args)]
pub(crate) struct Pair {
    /// Key id or alias
    pub(crate) key: KeyRef,
    /// Which of the key's versions; may be left out while it has one
    #[arg(long, value_name = "UUID")]
    pub(crate) version: Option<Uuid>,
}

#[derive(Debug, Args)]
pub(crate) struct Sign {
    #[command(flatten)]
    pub(crate) pair: Pair,
    #[command(flatten)]
    pub(crate) how: Signing,
    #[command(flatten)]
    pub(crate) coding: Coding,
    #[command(flatten)]
    pub(crate) input: Input,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) pair: Pair,
    #[command(flatten)]
    pub(crate) how: Signing,
    /// The signature
    #[arg(long, value_name = "FILE")]
    pub(crate) signature: PathBuf,
    #[command(flatten)]
    pub(crate) coding: Coding,
    #[command(flatten)]
    pub(crate) input: Input,
}

/// How a message is signed.
#[derive(Debug, Args)]
pub(crate) struct Signing {
    /// RSA_PSS_SHA_256, RSA_PKCS1_SHA_256 (also 384, 512), ECDSA_SHA_256, ECDSA_SHA_384 or SM2DSA
    #[arg(long)]
    pub(crate) algorithm: Option<SigningAlgorithm>,
    /// The input is the message's digest
    #[arg(long)]
    pub(crate) digest: bool,
    /// SM2: the user id, instead of the key's
    #[arg(long, value_name = "TEXT", conflicts_with = "digest")]
    pub(crate) user_id: Option<UserId>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AsymmetricCommand {
    /// Encrypt a short message to a key pair
    #[command(after_help = ASYMMETRIC_ENCRYPT)]
    Encrypt(Asymmetric),
    /// Decrypt what was encrypted to a key pair, here or elsewhere with its public key
    #[command(after_help = ASYMMETRIC_DECRYPT)]
    Decrypt(Asymmetric),
}

#[derive(Debug, Args)]
pub(crate) struct Asymmetric {
    #[command(flatten)]
    pub(crate) pair: Pair,
    /// RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256 or SM2PKE
    #[arg(long)]
    pub(crate) algorithm: Option<EncryptionAlgorithm>,
    /// Form of an SM2 ciphertext
    #[arg(long, default_value = "der", value_name = "FORMAT")]
    pub(crate) sm2_format: Sm2Format,
    /// How the ciphertext is coded in files and streams
    #[arg(long, default_value = "raw", value_name = "ENCODING")]
    pub(crate) encoding: Encoding,
    #[command(flatten)]
    pub(crate) input: Input,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Mac {
    /// Key id or alias
    pub(crate) key: KeyRef,
    /// The key's algorithm, where you want to be sure: HMAC_SHA_256, …, HMAC_SM3
    #[arg(long)]
    pub(crate) algorithm: Option<MacAlgorithm>,
    #[command(flatten)]
    pub(crate) coding: Coding,
    #[command(flatten)]
    pub(crate) input: Input,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyMac {
    /// Key id or alias
    pub(crate) key: KeyRef,
    /// The MAC
    #[arg(long, value_name = "FILE")]
    pub(crate) mac: PathBuf,
    /// Only this version of the key
    #[arg(long, value_name = "UUID")]
    pub(crate) version: Option<Uuid>,
    /// The key's algorithm, where you want to be sure: HMAC_SHA_256, …, HMAC_SM3
    #[arg(long)]
    pub(crate) algorithm: Option<MacAlgorithm>,
    #[command(flatten)]
    pub(crate) coding: Coding,
    #[command(flatten)]
    pub(crate) input: Input,
}

#[derive(Debug, Args)]
pub(crate) struct Digest {
    /// SM3, SHA_256, SHA_384 or SHA_512
    #[arg(long)]
    pub(crate) algorithm: DigestAlgorithm,
    #[command(flatten)]
    pub(crate) coding: Coding,
    #[command(flatten)]
    pub(crate) input: Input,
    #[command(flatten)]
    pub(crate) output: Output,
}
