//! Arguments of `key …`.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use claviger_protocol::limits::{MAX_KEYS_PER_CALL, MAX_PAGE_ITEMS, MAX_SM2_USER_ID_LEN};
use claviger_protocol::{
    Alias, Description, KeyOrigin, KeyRef, KeySpec, KeyState, KeyUsage, ProjectName, Protection, Tag,
};
use uuid::Uuid;

use super::imports::ImportCommand;
use super::life::LifeCommand;
use super::pairs::{KeyOutput, Pair};
use super::versions::VersionCommand;
use super::{Output, pair};

const CREATE: &str = "\
Examples:
  claviger key create --alias alias/pay
  claviger key create --spec AES_256 --protection software --tag team=web --description 'web sessions'
  claviger key create --spec RSA_3072 --usage ENCRYPT_DECRYPT --alias alias/box
  claviger key create --rotation-days 90 --project team/web --alias alias/pay
  claviger key create --origin external --alias alias/mine
  claviger key create --spec SM2 --protection software --sm2-user-id ALICE123@YAHOO.COM";
const LIST: &str = "\
Examples:
  claviger key list --state Enabled --tag team=web
  claviger key list --limit 1000 --json
  claviger key list --aliased --project team/web";

const PUBLIC_KEY: &str = "\
Examples:
  claviger key public-key alias/release --out release.pem
  claviger key public-key alias/sm2 --format der --encoding base64";

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key
    #[command(after_help = CREATE)]
    Create(Box<Create>),
    /// Show everything about a key but its material
    #[command(after_help = "Example:\n  claviger key describe alias/pay")]
    Describe {
        /// Key id or alias
        key: KeyRef,
    },
    /// List keys, a page at a time
    #[command(after_help = LIST)]
    List(List),
    /// Switch keys on
    #[command(after_help = "Example:\n  claviger key enable alias/pay alias/web")]
    Enable(Keys),
    /// Switch keys off: they neither encrypt nor decrypt until they are enabled
    #[command(after_help = "Example:\n  claviger key disable alias/pay")]
    Disable(Keys),
    /// Write a key pair's public key (SubjectPublicKeyInfo)
    #[command(after_help = PUBLIC_KEY)]
    PublicKey(PublicKey),
    #[command(flatten)]
    Life(LifeCommand),
    #[command(flatten)]
    Version(VersionCommand),
    #[command(flatten)]
    Import(ImportCommand),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// AES_256, SM4, RSA_2048, RSA_3072, RSA_4096, EC_P256, EC_P384, SM2, HMAC_256, HMAC_384,
    /// HMAC_512 or HMAC_SM3
    #[arg(long, default_value = "AES_256")]
    pub(crate) spec: KeySpec,
    /// ENCRYPT_DECRYPT, SIGN_VERIFY or GENERATE_VERIFY_MAC; the spec's first if not given
    #[arg(long)]
    pub(crate) usage: Option<KeyUsage>,
    /// Where the material lives: hsm or software
    #[arg(long, default_value = "hsm")]
    pub(crate) protection: Protection,
    /// Where the material comes from: kms or external
    #[arg(long, default_value = "kms")]
    pub(crate) origin: KeyOrigin,
    /// A first alias, alias/…
    #[arg(long)]
    pub(crate) alias: Option<Alias>,
    /// What it is for, at most 255 characters
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    pub(crate) description: Description,
    /// A tag; repeatable, at most 20
    #[arg(long = "tag", value_name = "K=V", value_parser = tag)]
    pub(crate) tags: Vec<Tag>,
    /// Rotate every so many days, 7 to 730
    #[arg(long, value_name = "DAYS")]
    pub(crate) rotation_days: Option<u16>,
    /// Its project
    #[arg(long, default_value = "default")]
    pub(crate) project: ProjectName,
    /// SM2: the user id that signatures are made with, at most 255 bytes; 1234567812345678 if not given
    #[arg(long, value_name = "TEXT")]
    pub(crate) sm2_user_id: Option<UserId>,
    #[command(flatten)]
    pub(crate) token: Token,
}

/// What makes it harmless to repeat a call.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Token {
    /// 32 hex digits or a UUID; repeated with the same token within 24 h, the call makes nothing new
    #[arg(long, value_name = "TOKEN", value_parser = client_token)]
    client_token: Option<[u8; 16]>,
}

impl Token {
    /// The one that was given, or a fresh one.
    pub(crate) fn bytes(self) -> [u8; 16] {
        self.client_token.unwrap_or_else(claviger_client::client_token)
    }
}

#[derive(Debug, Args)]
pub(crate) struct PublicKey {
    #[command(flatten)]
    pub(crate) pair: Pair,
    #[command(flatten)]
    pub(crate) form: KeyOutput,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// An SM2 user id: a text's bytes.
#[derive(Debug, Clone)]
pub(crate) struct UserId(pub(crate) Vec<u8>);

impl FromStr for UserId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = text.len() <= MAX_SM2_USER_ID_LEN;
        fits.then(|| Self(text.into())).ok_or_else(|| format!("at most {MAX_SM2_USER_ID_LEN} bytes"))
    }
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only keys in this state, such as Enabled or Disabled
    #[arg(long)]
    pub(crate) state: Option<KeyState>,
    /// Only keys of this spec
    #[arg(long)]
    pub(crate) spec: Option<KeySpec>,
    /// Only keys of this project
    #[arg(long)]
    pub(crate) project: Option<ProjectName>,
    /// Only keys with this tag
    #[arg(long, value_name = "K=V", value_parser = tag)]
    pub(crate) tag: Option<Tag>,
    /// Keys by their aliases, in the order of these: a key with several stands there several times
    #[arg(long, conflicts_with_all = ["state", "spec", "tag", "symmetric"])]
    pub(crate) aliased: bool,
    /// AES_256 keys, then those of SM4
    #[arg(long, conflicts_with_all = ["spec", "tag"])]
    pub(crate) symmetric: bool,
    #[command(flatten)]
    pub(crate) paging: Paging,
}

/// How much of a list, and where it goes on.
#[derive(Debug, Args)]
pub(crate) struct Paging {
    /// At most so many, 1 to 1000
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_PAGE_ITEMS)))]
    pub(crate) limit: u16,
    /// Go on from here: the next_page of the page before
    #[arg(long, value_name = "TOKEN", value_parser = page)]
    page: Option<Page>,
}

impl Paging {
    /// The page token, empty for the first page.
    pub(crate) fn page(self) -> Vec<u8> {
        self.page.map(|page| page.0).unwrap_or_default()
    }
}

/// A page token's bytes. A type of its own, as clap takes a `Vec` for a repeated flag.
#[derive(Debug, Clone, Default)]
struct Page(Vec<u8>);

#[derive(Debug, Args)]
pub(crate) struct Keys {
    /// Key ids or aliases, at most 100
    #[arg(required = true, value_name = "KEY", num_args = 1..=MAX_KEYS_PER_CALL)]
    pub(crate) keys: Vec<KeyRef>,
}

pub(super) fn tag(text: &str) -> Result<Tag, String> {
    let (key, value) = pair(text)?;
    Tag::new(key, value).map_err(|error| error.to_string())
}

fn client_token(text: &str) -> Result<[u8; 16], &'static str> {
    let uuid = matches!(text.len(), 32 | 36).then(|| Uuid::try_parse(text).ok()).flatten();
    uuid.map(Uuid::into_bytes).ok_or("expected 32 hex digits or a UUID")
}

fn page(text: &str) -> Result<Page, &'static str> {
    URL_SAFE_NO_PAD.decode(text).map(Page).map_err(|_| "expected the next_page of the page before")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_wrong_ones_refused() {
        assert!(tag(&format!("k={}", "v".repeat(256))).is_err());
        assert_eq!(client_token("000102030405060708090a0b0c0d0e0f").unwrap()[15], 15);
        assert!(client_token("0001").is_err() && client_token("zz").is_err());
        assert_eq!(page("_-8").unwrap().0, [0xff, 0xef]);
        assert!(page("+/8=").is_err());
        assert_eq!("".parse::<UserId>().unwrap().0, b"");
        assert!("司".repeat(86).parse::<UserId>().is_err() && "司".repeat(85).parse::<UserId>().is_ok());
    }
}
