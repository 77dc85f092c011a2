//! Arguments of `data-key …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use claviger_protocol::limits::MAX_DATA_KEY_LEN;
use claviger_protocol::{DataKeySize, DataKeySpec, ExportAlgorithm, KeyPairSpec, KeyRef};

use super::pairs::{Coding, KeyOutput};
use super::{Context, Input, Output};

const GENERATE: &str = "\
Without --json each result needs a place of its own: give --plaintext-out and --blob-out (with --pair
--public-key-out, --private-key-out and --blob-out), or all but one, which goes to stdout. With --json
what has no file is in the object. Decrypting a pair's blob gives its private key as PKCS#8 DER.

Examples:
  claviger data-key generate alias/pay --plaintext-out dek.bin --blob-out dek.blob
  claviger data-key generate alias/pay --bytes 64 --json
  claviger data-key generate alias/pay --without-plaintext > dek.blob
  claviger decrypt --in dek.blob --out dek.bin
  claviger data-key generate alias/pay --pair EC_P256 --public-key-out p.pem --private-key-out k.pem --blob-out k.blob
  claviger data-key generate alias/pay --pair SM2 --without-plaintext --json";
const EXPORT: &str = "\
The public key is read as PEM or as DER (SubjectPublicKeyInfo). Without --algorithm: SM2PKE for an SM2
key, RSAES_OAEP_SHA_256 for an RSA key. With --generate a new data key is made: --out gets it under the
public key, --blob-out as a blob.

Examples:
  claviger data-key export --public-key theirs.pem --in dek.blob --out dek.for-them
  claviger data-key export --public-key theirs.pem --algorithm RSAES_PKCS1_V1_5 --in dek.blob --encoding base64
  claviger data-key export --generate alias/pay --bytes 32 --public-key theirs.pem --blob-out b --out e";
#[derive(Debug, Subcommand)]
pub(crate) enum DataKeyCommand {
    /// Make a data key, in the clear and wrapped under KEY
    #[command(after_help = GENERATE)]
    Generate(Box<Generate>),
    /// Give a data key to the owner of a public key
    #[command(after_help = EXPORT)]
    Export(Box<Export>),
}

#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// Key id or alias that wraps it
    pub(crate) key: KeyRef,
    #[command(flatten)]
    pub(crate) length: Length,
    /// Make a key pair instead: RSA_2048, RSA_3072, RSA_4096, EC_P256, EC_P384 or SM2
    #[arg(long, value_name = "SPEC", conflicts_with_all = ["spec", "bytes", "plaintext_out"])]
    pub(crate) pair: Option<KeyPairSpec>,
    /// Make only the wrapped form
    #[arg(long, conflicts_with_all = ["plaintext_out", "private_key_out"])]
    pub(crate) without_plaintext: bool,
    /// Write the data key itself to this file (mode 0600)
    #[arg(long, value_name = "FILE")]
    pub(crate) plaintext_out: Option<PathBuf>,
    /// Write the wrapped data key, or the wrapped private key, to this file
    #[arg(long, visible_alias = "out", value_name = "FILE")]
    pub(crate) blob_out: Option<PathBuf>,
    /// Write the pair's private key (PKCS#8) to this file (mode 0600)
    #[arg(long, value_name = "FILE", requires = "pair")]
    pub(crate) private_key_out: Option<PathBuf>,
    /// Write the pair's public key (SubjectPublicKeyInfo) to this file
    #[arg(long, value_name = "FILE", requires = "pair")]
    pub(crate) public_key_out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) form: KeyOutput,
    #[command(flatten)]
    pub(crate) context: Context,
}

/// How long a data key is.
#[derive(Debug, Args)]
pub(crate) struct Length {
    /// AES_256 (the default), AES_128 or SM4
    #[arg(long, value_parser = data_key_spec, conflicts_with = "bytes")]
    spec: Option<DataKeySpec>,
    /// A length instead of a spec, 1 to 1024
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_DATA_KEY_LEN)))]
    bytes: Option<u16>,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Whose it will be: a file with an RSA or SM2 public key, PEM or DER
    #[arg(long, value_name = "FILE")]
    pub(crate) public_key: PathBuf,
    /// RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, RSAES_PKCS1_V1_5 or SM2PKE
    #[arg(long)]
    pub(crate) algorithm: Option<ExportAlgorithm>,
    /// Make a new data key under this key, instead of reading a blob
    #[arg(long, value_name = "KEY", conflicts_with_all = ["key", "input"])]
    pub(crate) generate: Option<KeyRef>,
    #[command(flatten)]
    pub(crate) length: Length,
    /// With --generate: write the wrapped data key to this file
    #[arg(long, value_name = "FILE", requires = "generate")]
    pub(crate) blob_out: Option<PathBuf>,
    /// Refuse a blob of any other key
    #[arg(long)]
    pub(crate) key: Option<KeyRef>,
    #[command(flatten)]
    pub(crate) coding: Coding,
    #[command(flatten)]
    pub(crate) context: Context,
    #[command(flatten)]
    pub(crate) input: Input,
    #[command(flatten)]
    pub(crate) output: Output,
}

impl Length {
    pub(crate) fn size(&self) -> DataKeySize {
        match (self.bytes, self.spec) {
            (Some(bytes), _) => DataKeySize::Bytes(bytes),
            (None, spec) => DataKeySize::Spec(spec.unwrap_or(DataKeySpec::Aes256)),
        }
    }

    /// Whether the command line says it.
    pub(crate) fn is_given(&self) -> bool {
        self.bytes.is_some() || self.spec.is_some()
    }
}

/// Reads the cloud KMSs' spellings too, as key specs do.
fn data_key_spec(text: &str) -> Result<DataKeySpec, String> {
    let plain = text.strip_prefix("Ctyun_").or_else(|| text.strip_prefix("Aliyun_")).unwrap_or(text);
    plain.parse::<DataKeySpec>().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read_in_the_cloud_kmss_spellings_too() {
        assert_eq!(data_key_spec("Aliyun_AES_256"), Ok(DataKeySpec::Aes256));
        assert_eq!(data_key_spec("Ctyun_SM4"), Ok(DataKeySpec::Sm4));
        assert!(data_key_spec("aes").is_err());
    }
}
