//! The domain: the key space of one daemon, and the keys that everything outside the
//! HSM hangs from. What must not live here: PKCS#11, and how a root is made.
//!
//! # The domain file
//! `domain` in the state directory, mode 0600, written once as the last step of
//! making a root. Integers are little-endian:
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | magic `CLAVDOMN` |
//! | 8 | 2 | version, 1 |
//! | 10 | 16 | domain id (UUID, RFC 9562 byte order) |
//! | 26 | 4 | root generation, from 1 |
//! | 30 | 2 | number of recovery recipients |
//! | 32 | 12 | nonce |
//! | 44 | 32 | domain key, AES-256-GCM under the root's `seal` key |
//! | 76 | 16 | tag |
//! | 92 | 8 | first 8 bytes of SHA-256 over bytes 0 to 91 |
//!
//! Associated data is "claviger/v1/domain-file" ‖ bytes 0 to 31. Any other length,
//! magic or version is refused. The checksum proves nothing; it tells a damaged file
//! from a token that lacks the root.
//!
//! # Keys
//! The 32-byte domain key exists in memory only while it is opened. From it, by
//! HKDF-SHA-256 (RFC 5869) with the domain id as salt and the label as info:
//!
//! | label | what for |
//! | --- | --- |
//! | `claviger/v1/record-mac` | MAC of store records |
//! | `claviger/v1/software-seal` | sealing of SOFTWARE material |
//! | `claviger/v1/import-fingerprint` | fingerprints of imported material |
//! | `claviger/v1/import-token` | MAC of import tokens |
//! | `claviger/v1/credentials` | sealing of credentials |
//! | `claviger/v1/backup` | backups |
//! | `claviger/v1/audit` | hashes of encryption contexts in the audit log |
//!
//! Credentials are reserved.

use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::{digest, hkdf};
use claviger_protocol::SecretBytes;
use claviger_protocol::backup::RecoveryCopy;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::RootId;
use super::command::{Answer, Command, HsmError};
use super::files;
use super::member::Member;
use super::recovery::{MAX_FILE, RecoveryFile};

/// Largest file of a domain that is read, in bytes: of its recovery files.
pub(crate) const MAX_COPY_LEN: u64 = MAX_FILE;
const FILE: &str = "domain";
const MAGIC: &[u8; 8] = b"CLAVDOMN";
const VERSION: u16 = 1;
const HEADER_LEN: usize = 32;
const SEALED_LEN: usize = 60;
const SUM_LEN: usize = 8;
const FILE_LEN: usize = HEADER_LEN + SEALED_LEN + SUM_LEN;
const AAD: &[u8] = b"claviger/v1/domain-file";
/// Length of the domain key and of all keys under it, in bytes.
pub const KEY_LEN: usize = 32;

/// Why the domain can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum DomainError {
    /// Nobody has made it yet.
    #[error("there is no domain here; make one with `clavigerd hsm init`")]
    Missing,
    /// The file isn't a domain file, or was altered.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The token doesn't hold the root; it may be the wrong token, or a new one.
    #[error("the token holds no root of generation {} of domain {}: is it the right token? `clavigerd hsm restore` brings the root into a new one", .0.generation, .0.domain)]
    NoRoot(RootId),
    /// The member failed; another, or a later try, may open it.
    #[error(transparent)]
    Hsm(HsmError),
    /// The file can't be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The readable part of a domain file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DomainHeader {
    /// The domain and the root generation that seals its key.
    pub root: RootId,
    /// To how many recipients the root was wrapped.
    pub recovery_recipients: u16,
}

/// An opened domain.
pub struct Domain {
    /// Its id.
    pub id: Uuid,
    /// The root generation in use.
    pub root_generation: u32,
    /// To how many recovery recipients the root was wrapped: with none, losing the
    /// token is losing every key.
    pub recovery_recipients: u16,
    /// The keys under it.
    pub keys: DomainKeys,
    /// What a backup carries of it.
    pub files: DomainFiles,
}

/// Copies of the files that bring a domain back: worth nothing without the HSM or a
/// recovery recipient's private key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DomainFiles {
    /// The domain file.
    pub domain: Vec<u8>,
    /// The recovery file of the root in use, if it lies in the state directory.
    pub recovery: Vec<RecoveryCopy>,
}

/// The keys that are derived from the domain key. Wiped when dropped.
pub struct DomainKeys {
    record_mac: Zeroizing<[u8; KEY_LEN]>,
    software_seal: Zeroizing<[u8; KEY_LEN]>,
    audit: Zeroizing<[u8; KEY_LEN]>,
    backup: Zeroizing<[u8; KEY_LEN]>,
    import_fingerprint: Zeroizing<[u8; KEY_LEN]>,
    import_token: Zeroizing<[u8; KEY_LEN]>,
}

impl DomainKeys {
    /// Derives them; also for simulations, which have no token to open a domain with.
    ///
    /// # Errors
    /// Where AWS-LC's HKDF fails, which it does for no input of these lengths.
    pub fn derive(domain: Uuid, key: &[u8; KEY_LEN]) -> Result<Self, HsmError> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, domain.as_bytes()).extract(key);
        Ok(Self {
            record_mac: expand(&root, b"claviger/v1/record-mac")?,
            software_seal: expand(&root, b"claviger/v1/software-seal")?,
            audit: expand(&root, b"claviger/v1/audit")?,
            backup: expand(&root, b"claviger/v1/backup")?,
            import_fingerprint: expand(&root, b"claviger/v1/import-fingerprint")?,
            import_token: expand(&root, b"claviger/v1/import-token")?,
        })
    }

    /// Key of the MAC over store records.
    #[must_use]
    pub fn record_mac(&self) -> &[u8; KEY_LEN] {
        &self.record_mac
    }

    /// Key that SOFTWARE material is sealed under.
    #[must_use]
    pub fn software_seal(&self) -> &[u8; KEY_LEN] {
        &self.software_seal
    }

    /// Key that backups' own keys are derived from.
    #[must_use]
    pub fn backup(&self) -> &[u8; KEY_LEN] {
        &self.backup
    }

    /// Key of the fingerprints that tie a key to its first imported material.
    #[must_use]
    pub fn import_fingerprint(&self) -> &[u8; KEY_LEN] {
        &self.import_fingerprint
    }

    /// Key of the MAC over import tokens.
    #[must_use]
    pub fn import_token(&self) -> &[u8; KEY_LEN] {
        &self.import_token
    }

    /// Key of the hashes that stand for encryption contexts in the audit log.
    #[must_use]
    pub fn audit(&self) -> &[u8; KEY_LEN] {
        &self.audit
    }
}

fn expand(root: &hkdf::Prk, label: &[u8]) -> Result<Zeroizing<[u8; KEY_LEN]>, HsmError> {
    let mut out = Zeroizing::new([0; KEY_LEN]);
    let broken = |_| HsmError::Fault("HKDF failed".to_owned());
    let info = [label];
    let material = root.expand(&info, hkdf::HKDF_SHA256).map_err(broken)?;
    material.fill(out.as_mut_slice()).map_err(broken)?;
    Ok(out)
}

/// Whether there is a domain file, good or not.
#[must_use]
pub fn is_there(state_dir: &Path) -> bool {
    state_dir.join(FILE).exists()
}

/// Reads which root the domain needs, before any token is opened; `None` where there
/// is no domain yet.
///
/// # Errors
/// A file that can't be read or isn't a domain file. Whether it was altered is known
/// only when it is opened.
pub fn header(state_dir: &Path) -> Result<Option<DomainHeader>, DomainError> {
    Ok(read(state_dir)?.map(|file| file.header))
}

/// Opens the domain with a member that was opened for its root. Blocks.
///
/// # Errors
/// See [`DomainError`].
pub fn open_domain(state_dir: &Path, member: &Member) -> Result<Domain, DomainError> {
    let file = read(state_dir)?.ok_or(DomainError::Missing)?;
    if member.root != Some(file.header.root) {
        return Err(DomainError::NoRoot(file.header.root));
    }
    let mut domain = open(&file, |command| member.serve.run_now(&command)).map_err(|error| match error {
        HsmError::NoSuchRoot(_) => DomainError::NoRoot(file.header.root),
        HsmError::AuthenticationFailed => damaged(state_dir, "it was altered, or is another domain's"),
        error => DomainError::Hsm(error),
    })?;
    let path = state_dir.join(RecoveryFile::name(file.header.root));
    let recovery = files::read(&path, MAX_FILE).map_err(|error| DomainError::Io { path, error })?;
    domain.files.recovery = recovery
        .map(|bytes| RecoveryCopy { generation: file.header.root.generation, bytes })
        .into_iter()
        .collect();
    Ok(domain)
}

/// As [`open_domain`] while a root is being restored: the inner result says whether
/// this root opens the domain.
pub(super) fn try_open(
    state_dir: &Path,
    run: impl FnOnce(Command) -> Result<Answer, HsmError>,
) -> Result<Result<Domain, HsmError>, DomainError> {
    let file = read(state_dir)?.ok_or(DomainError::Missing)?;
    Ok(open(&file, run))
}

/// Opens the sealed key with whatever carries out the command.
fn open(
    file: &DomainFile,
    run: impl FnOnce(Command) -> Result<Answer, HsmError>,
) -> Result<Domain, HsmError> {
    let DomainHeader { root, recovery_recipients } = file.header;
    let wrong = || HsmError::Fault("the domain key has a wrong length".to_owned());
    let answer = run(Command::RootOpen { aad: file.header.aad(), sealed: file.sealed.clone() })?;
    let Answer::Bytes(key) = answer else { return Err(wrong()) };
    let key = key.expose().first_chunk::<KEY_LEN>().filter(|_| key.len() == KEY_LEN).ok_or_else(wrong)?;
    let keys = DomainKeys::derive(root.domain, key)?;
    let files = DomainFiles { domain: file.raw.clone(), recovery: Vec::new() };
    Ok(Domain { id: root.domain, root_generation: root.generation, recovery_recipients, keys, files })
}

/// Seals a new domain key and writes the file: the last step of making a root.
pub(super) fn create(
    state_dir: &Path,
    header: DomainHeader,
    key: SecretBytes,
    run: impl FnOnce(Command) -> Result<Answer, HsmError>,
) -> Result<(), DomainError> {
    let answer = run(Command::RootSeal { aad: header.aad(), plaintext: key }).map_err(DomainError::Hsm)?;
    let Answer::Bytes(sealed) = answer else {
        return Err(DomainError::Hsm(HsmError::Fault("sealing gave no bytes".to_owned())));
    };
    let mut bytes = [header.encode().as_slice(), sealed.expose()].concat();
    bytes.extend(checksum(&bytes));
    let path = state_dir.join(FILE);
    files::replace(state_dir, FILE, &bytes).map_err(|error| DomainError::Io { path, error })
}

fn checksum(bytes: &[u8]) -> [u8; SUM_LEN] {
    let mut out = [0; SUM_LEN];
    out.copy_from_slice(&digest::digest(&digest::SHA256, bytes).as_ref()[..SUM_LEN]);
    out
}

struct DomainFile {
    raw: Vec<u8>,
    header: DomainHeader,
    sealed: Vec<u8>,
}

impl DomainFile {
    fn parse(bytes: Vec<u8>) -> Result<Self, &'static str> {
        if bytes.len() > FILE_LEN {
            return Err("it is too long");
        }
        let parts = bytes.split_first_chunk::<HEADER_LEN>().zip(bytes.split_last_chunk::<SUM_LEN>());
        let Some(((header, _), (body, sum))) = parts.filter(|_| bytes.len() == FILE_LEN) else {
            return Err("it is cut short");
        };
        let header = DomainHeader::decode(header)?;
        if checksum(body) != *sum {
            return Err("its checksum is wrong");
        }
        let sealed = body[HEADER_LEN..].to_vec();
        Ok(Self { raw: bytes, header, sealed })
    }
}

impl DomainHeader {
    /// Reads it from the bytes of a domain file, all of which are checked but for what
    /// only the root can tell.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(file: &[u8]) -> Result<Self, &'static str> {
        DomainFile::parse(file.to_vec()).map(|file| file.header)
    }

    fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[10..26].copy_from_slice(self.root.domain.as_bytes());
        out[26..30].copy_from_slice(&self.root.generation.to_le_bytes());
        out[30..].copy_from_slice(&self.recovery_recipients.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, &'static str> {
        let field = |from: usize| {
            let mut out = [0; 4];
            out.copy_from_slice(&bytes[from..from + 4]);
            u32::from_le_bytes(out)
        };
        let half = |from: usize| u16::from_le_bytes([bytes[from], bytes[from + 1]]);
        let mut domain = [0; 16];
        domain.copy_from_slice(&bytes[10..26]);
        if &bytes[..8] != MAGIC {
            return Err("it is not a domain file");
        }
        if half(8) != VERSION {
            return Err("it is of another version");
        }
        if field(26) == 0 {
            return Err("it names no root generation");
        }
        let root = RootId { domain: Uuid::from_bytes(domain), generation: field(26) };
        Ok(Self { root, recovery_recipients: half(30) })
    }

    fn aad(&self) -> Vec<u8> {
        [AAD, &self.encode()].concat()
    }
}

fn damaged(state_dir: &Path, reason: &'static str) -> DomainError {
    DomainError::Damaged { path: state_dir.join(FILE), reason }
}

fn read(state_dir: &Path) -> Result<Option<DomainFile>, DomainError> {
    let path = state_dir.join(FILE);
    let bytes = match files::read(&path, FILE_LEN as u64) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(damaged(state_dir, "it is too long"));
        }
        Err(error) => return Err(DomainError::Io { path, error }),
    };
    DomainFile::parse(bytes).map(Some).map_err(|reason| damaged(state_dir, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header_of(generation: u32) -> DomainHeader {
        let root = RootId { domain: Uuid::from_u128(0x0102_0304), generation };
        DomainHeader { root, recovery_recipients: 3 }
    }

    #[test]
    fn the_layout_is_as_documented() {
        let bytes = header_of(258).encode();
        assert_eq!(&bytes[..10], b"CLAVDOMN\x01\x00");
        assert_eq!(&bytes[22..], [1, 2, 3, 4, 2, 1, 0, 0, 3, 0]);
        assert_eq!(DomainHeader::decode(&bytes), Ok(header_of(258)));
    }

    #[test]
    fn other_files_are_refused_with_their_reason() {
        let dir = tempfile::tempdir().unwrap();
        let mut good = [header_of(1).encode().as_slice(), &[0; 60]].concat();
        good.extend(checksum(&good));
        std::fs::write(dir.path().join(FILE), &good).unwrap();
        assert_eq!(header(dir.path()).unwrap(), Some(header_of(1)));
        let mut cases = vec![
            (good[..99].to_vec(), "cut short"),
            (good[..0].to_vec(), "cut short"),
            ([good.as_slice(), &[0]].concat(), "too long"),
        ];
        for (at, reason) in [
            (0, "not a domain file"),
            (8, "another version"),
            (10, "checksum"),
            (91, "checksum"),
            (99, "checksum"),
        ] {
            let mut bytes = good.clone();
            bytes[at] ^= 0xff;
            cases.push((bytes, reason));
        }
        let mut zero = good.clone();
        zero[26] = 0;
        cases.push((zero, "no root generation"));
        for (bytes, reason) in cases {
            std::fs::write(dir.path().join(FILE), bytes).unwrap();
            let error = header(dir.path()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        assert_eq!(header(dir.path()).unwrap(), None);
    }

    /// The expectation was computed with OpenSSL: `openssl kdf -keylen 32 -kdfopt
    /// digest:SHA256 -kdfopt hexkey:0707… -kdfopt hexsalt:… -kdfopt info:LABEL HKDF`.
    #[test]
    fn keys_are_hkdf_sha_256_of_the_domain_key() {
        let keys = DomainKeys::derive(Uuid::from_u128(0x0102_0304), &[7; 32]).unwrap();
        assert_eq!(
            hex::encode(keys.record_mac()),
            "a2794cbe478a0b81b348dfb48abd8d6a8edf95672c05d26c185d58f060389dbd"
        );
        assert_eq!(
            hex::encode(keys.software_seal()),
            "a806d469f4099920a1cf3f585bfff5e94099b006342beff0378ace45e8bcf4d3"
        );
        assert_eq!(
            hex::encode(keys.import_fingerprint()),
            "5ed027913cf6c144f4c98eaa78eaf3970eef413c36ad9e12f5da8733faf2e984"
        );
        assert_eq!(
            hex::encode(keys.import_token()),
            "3c6c994ecee5f1a78477a3a8f0e161426af1a6084ac873aee8a0f6c38203986a"
        );
    }
}
