//! The clear part of a backup file, and how its chunks are framed (`SPEC.md` section 12).
//! No cryptography here: what is inside a chunk only the daemon can tell.

use std::io::{self, Read};

use uuid::Uuid;

/// First bytes of a backup.
pub const MAGIC: &[u8; 8] = b"CLAVBKUP";
/// The version that is written and read.
pub const VERSION: u16 = 1;
/// Bytes of the header before the files in it.
pub const FIXED_LEN: usize = 76;
/// Largest header, in bytes.
pub const MAX_HEADER_LEN: usize = 512 * 1024;
/// Largest plaintext of a chunk, in bytes.
pub const MAX_CHUNK_LEN: usize = 64 * 1024;
/// Bytes that sealing adds to a chunk.
pub const TAG_LEN: usize = 16;
/// Bytes of the length before each chunk.
pub const CHUNK_PREFIX_LEN: usize = 4;
/// Bytes of the salt.
pub const SALT_LEN: usize = 32;

/// Why a file isn't a backup that can be read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It can't be read at all.
    #[error("it can't be read: {0}")]
    Io(#[from] io::Error),
    /// Other bytes than a backup's stand at its start.
    #[error("it is not a backup")]
    NotABackup,
    /// A newer program wrote it.
    #[error("it is of version {0}, and this program knows version {VERSION}: use a newer one")]
    Version(u16),
    /// It ends too early.
    #[error("it is cut short")]
    Cut,
    /// A length in it is larger than any backup's.
    #[error("it is damaged: a length in it is out of bounds")]
    Length,
}

/// A file in the header: which root generation it is of, and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryCopy {
    /// The root generation that it holds, wrapped.
    pub generation: u32,
    /// The recovery file.
    pub bytes: Vec<u8>,
}

/// The clear part of a backup. Every chunk authenticates it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupHeader {
    /// The domain.
    pub domain_id: Uuid,
    /// The root generation that seals its domain key.
    pub root_generation: u32,
    /// When the backup was begun, in milliseconds since the Unix epoch.
    pub created_at: i64,
    /// What makes this backup's key its own.
    pub salt: [u8; SALT_LEN],
    /// The domain file: the sealed domain key.
    pub domain_file: Vec<u8>,
    /// The recovery files: roots, wrapped to the recovery recipients.
    pub recovery: Vec<RecoveryCopy>,
}

impl BackupHeader {
    /// Its bytes.
    ///
    /// # Errors
    /// [`BackupError::Length`] where they would be over [`MAX_HEADER_LEN`].
    pub fn encode(&self) -> Result<Vec<u8>, BackupError> {
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| BackupError::Length);
        let mut out = MAGIC.to_vec();
        out.extend(VERSION.to_le_bytes());
        out.extend(self.domain_id.as_bytes());
        out.extend(self.root_generation.to_le_bytes());
        out.extend(self.created_at.to_le_bytes());
        out.extend(self.salt);
        out.extend(len(&self.domain_file)?.to_le_bytes());
        out.extend(u16::try_from(self.recovery.len()).map_err(|_| BackupError::Length)?.to_le_bytes());
        out.extend(&self.domain_file);
        for copy in &self.recovery {
            out.extend(copy.generation.to_le_bytes());
            out.extend(len(&copy.bytes)?.to_le_bytes());
            out.extend(&copy.bytes);
        }
        if out.len() > MAX_HEADER_LEN { Err(BackupError::Length) } else { Ok(out) }
    }

    /// Reads exactly one header, and gives its bytes too.
    ///
    /// # Errors
    /// [`BackupError`], where the bytes aren't a header of this version.
    pub fn read(from: &mut impl Read) -> Result<(Self, Vec<u8>), BackupError> {
        let mut raw = Vec::new();
        // Magic and version first: of a newer version nothing else is understood.
        let magic = take::<8>(from, &mut raw)?;
        if magic != *MAGIC {
            return Err(BackupError::NotABackup);
        }
        let version = u16::from_le_bytes(take(from, &mut raw)?);
        if version != VERSION {
            return Err(BackupError::Version(version));
        }
        let domain_id = Uuid::from_bytes(take(from, &mut raw)?);
        let root_generation = u32::from_le_bytes(take(from, &mut raw)?);
        let created_at = i64::from_le_bytes(take(from, &mut raw)?);
        let salt = take(from, &mut raw)?;
        let domain_len = u32::from_le_bytes(take(from, &mut raw)?);
        let copies = u16::from_le_bytes(take(from, &mut raw)?);
        let domain_file = take_many(from, &mut raw, domain_len)?;
        let mut recovery = Vec::new();
        for _ in 0..copies {
            let generation = u32::from_le_bytes(take(from, &mut raw)?);
            let len = u32::from_le_bytes(take(from, &mut raw)?);
            recovery.push(RecoveryCopy { generation, bytes: take_many(from, &mut raw, len)? });
        }
        Ok((Self { domain_id, root_generation, created_at, salt, domain_file, recovery }, raw))
    }

    /// Reads a header that is all of `bytes`.
    ///
    /// # Errors
    /// As [`BackupHeader::read`]; [`BackupError::Length`] where bytes are left over.
    pub fn parse(mut bytes: &[u8]) -> Result<Self, BackupError> {
        let (header, _) = Self::read(&mut bytes)?;
        if bytes.is_empty() { Ok(header) } else { Err(BackupError::Length) }
    }
}

fn take<const N: usize>(from: &mut impl Read, raw: &mut Vec<u8>) -> Result<[u8; N], BackupError> {
    let mut out = [0; N];
    from.read_exact(&mut out).map_err(cut)?;
    raw.extend(out);
    Ok(out)
}

fn take_many(from: &mut impl Read, raw: &mut Vec<u8>, len: u32) -> Result<Vec<u8>, BackupError> {
    let len = usize::try_from(len).map_err(|_| BackupError::Length)?;
    if raw.len().saturating_add(len) > MAX_HEADER_LEN {
        return Err(BackupError::Length);
    }
    let mut out = vec![0; len];
    from.read_exact(&mut out).map_err(cut)?;
    raw.extend(&out);
    Ok(out)
}

fn cut(error: io::Error) -> BackupError {
    if error.kind() == io::ErrorKind::UnexpectedEof { BackupError::Cut } else { BackupError::Io(error) }
}

/// A backup, chunk by chunk.
#[derive(Debug)]
pub struct BackupReader<R> {
    from: R,
    /// The clear part.
    pub header: BackupHeader,
    /// Its bytes, as every chunk authenticates them.
    pub raw_header: Vec<u8>,
    next: Option<Vec<u8>>,
    index: u32,
}

/// A chunk as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedChunk {
    /// Its place, from 0.
    pub index: u32,
    /// Whether nothing follows it.
    pub last: bool,
    /// Ciphertext and tag.
    pub bytes: Vec<u8>,
}

impl<R: Read> BackupReader<R> {
    /// Reads the header and the first chunk.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn new(mut from: R) -> Result<Self, BackupError> {
        let (header, raw_header) = BackupHeader::read(&mut from)?;
        let next = read_chunk(&mut from)?;
        if next.is_none() {
            return Err(BackupError::Cut);
        }
        Ok(Self { from, header, raw_header, next, index: 0 })
    }

    /// The next chunk; `None` after the last.
    ///
    /// # Errors
    /// [`BackupError`] where the file ends inside the chunk after it.
    pub fn chunk(&mut self) -> Result<Option<SealedChunk>, BackupError> {
        let Some(bytes) = self.next.take() else { return Ok(None) };
        self.next = read_chunk(&mut self.from)?;
        let index = self.index;
        self.index = index.checked_add(1).ok_or(BackupError::Length)?;
        Ok(Some(SealedChunk { index, last: self.next.is_none(), bytes }))
    }
}

fn read_chunk(from: &mut impl Read) -> Result<Option<Vec<u8>>, BackupError> {
    let mut len = Vec::new();
    from.by_ref().take(CHUNK_PREFIX_LEN as u64).read_to_end(&mut len)?;
    if len.is_empty() {
        return Ok(None);
    }
    let len: [u8; CHUNK_PREFIX_LEN] = len.try_into().map_err(|_| BackupError::Cut)?;
    let len = usize::try_from(u32::from_le_bytes(len)).map_err(|_| BackupError::Length)?;
    if !(TAG_LEN..=MAX_CHUNK_LEN + TAG_LEN).contains(&len) {
        return Err(BackupError::Length);
    }
    let mut bytes = vec![0; len];
    from.read_exact(&mut bytes).map_err(cut)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> BackupHeader {
        BackupHeader {
            domain_id: Uuid::from_u128(7),
            root_generation: 0x0102,
            created_at: 0x0304,
            salt: [9; SALT_LEN],
            domain_file: b"domain".to_vec(),
            recovery: vec![RecoveryCopy { generation: 1, bytes: b"recovery".to_vec() }],
        }
    }

    #[test]
    fn a_header_is_laid_out_as_documented_and_read_back() {
        let bytes = sample().encode().unwrap();
        assert_eq!(&bytes[..10], b"CLAVBKUP\x01\0");
        assert_eq!(bytes[26..30], [2, 1, 0, 0]);
        assert_eq!(bytes[30..38], [4, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[70..76], [6, 0, 0, 0, 1, 0]);
        assert_eq!(&bytes[FIXED_LEN..], b"domain\x01\0\0\0\x08\0\0\0recovery");
        assert_eq!(BackupHeader::parse(&bytes).unwrap(), sample());
        for cut in 0..bytes.len() {
            assert!(matches!(BackupHeader::parse(&bytes[..cut]), Err(BackupError::Cut)), "{cut}");
        }
        assert!(BackupHeader::parse(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn other_files_other_versions_and_absurd_lengths_are_told_apart() {
        let good = sample().encode().unwrap();
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            BackupHeader::parse(&bytes).unwrap_err()
        };
        assert!(matches!(changed(0, b'X'), BackupError::NotABackup));
        assert!(matches!(changed(8, 2), BackupError::Version(2)));
        assert!(matches!(changed(73, 0xff), BackupError::Length));
        let mut large = sample();
        large.domain_file = vec![0; MAX_HEADER_LEN];
        assert!(matches!(large.encode(), Err(BackupError::Length)));
    }

    #[test]
    fn chunks_are_counted_the_last_is_known_and_a_cut_is_found() {
        let mut file = sample().encode().unwrap();
        let header = file.len();
        for chunk in [&[1; 16][..], &[2; 20]] {
            file.extend(u32::try_from(chunk.len()).unwrap().to_le_bytes());
            file.extend(chunk);
        }
        let read = |bytes: &[u8]| -> Result<Vec<SealedChunk>, BackupError> {
            let mut reader = BackupReader::new(bytes)?;
            let mut chunks = Vec::new();
            while let Some(chunk) = reader.chunk()? {
                chunks.push(chunk);
            }
            Ok(chunks)
        };
        let chunks = read(&file).unwrap();
        let flags: Vec<_> = chunks.iter().map(|c| (c.index, c.last, c.bytes.len())).collect();
        assert_eq!(flags, [(0, false, 16), (1, true, 20)]);
        for cut in 0..file.len() {
            // At the edge of a chunk only its flag, which the daemon authenticates, tells.
            assert_eq!(read(&file[..cut]).is_ok(), cut == header + 20, "{cut}");
        }
        for len in [15_u32, 65_553, u32::MAX] {
            let mut bad = file[..header].to_vec();
            bad.extend(len.to_le_bytes());
            bad.extend(vec![0; 70_000]);
            assert!(matches!(read(&bad), Err(BackupError::Length)), "{len}");
        }
    }
}
