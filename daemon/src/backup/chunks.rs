//! What is inside a backup's chunks, and their sealing (`SPEC.md` sections 12.2, 12.3).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf};
use claviger_protocol::Code;
use claviger_protocol::backup::{BackupHeader, SealedChunk};
use zeroize::Zeroizing;

use crate::backend::hsm::domain::DomainKeys;
use crate::failure::Failure;
use crate::store::{MAX_KEY_LEN, MAX_VALUE_LEN, Sealed};

const KEY_INFO: &[u8] = b"claviger/v1/backup-file";
const AAD: &[u8] = b"claviger/v1/backup-chunk";
const PUT: u8 = 1;
const DELETE: u8 = 2;
const END: u8 = 3;
/// Bytes of the largest entry of a record.
pub(super) const MAX_ENTRY_LEN: usize = 1 + 2 + MAX_KEY_LEN + 2 + MAX_VALUE_LEN;
/// Bytes of the last entry.
pub(super) const END_LEN: usize = 1 + 8 + 8;

/// One step on the way to the store that the backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The record at a key.
    Put(Vec<u8>, Vec<u8>),
    /// There is no record at this key.
    Delete(Vec<u8>),
}

impl Entry {
    /// The record's key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }
}

/// How many entries a backup, or a part of it, has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records.
    pub puts: u64,
    /// Removals.
    pub deletes: u64,
}

impl Totals {
    /// Counts an entry.
    pub fn count(&mut self, entry: &Entry) {
        match entry {
            Entry::Put(..) => self.puts += 1,
            Entry::Delete(_) => self.deletes += 1,
        }
    }
}

/// An opened chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its entries, in their order.
    pub entries: Vec<Entry>,
    /// The totals of the whole file: in the last chunk, and only there.
    pub totals: Option<Totals>,
}

/// Seals and opens the chunks of one backup.
pub struct Chunks {
    key: LessSafeKey,
    aad: Vec<u8>,
}

impl Chunks {
    /// The key of one backup, from the domain's keys and the header's bytes.
    ///
    /// # Errors
    /// `Internal` where AWS-LC fails, which it does for no input of these lengths.
    pub fn new(keys: &DomainKeys, header: &BackupHeader, raw_header: &[u8]) -> Result<Self, Failure> {
        let broken = |_| Failure::new(Code::Internal, "deriving the backup's key failed");
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, &header.salt).extract(keys.backup());
        let mut key = Zeroizing::new([0; 32]);
        let info = [KEY_INFO];
        let material = secret.expand(&info, hkdf::HKDF_SHA256).map_err(broken)?;
        material.fill(key.as_mut_slice()).map_err(broken)?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_slice()).map_err(broken)?);
        let aad = [AAD, digest::digest(&digest::SHA256, raw_header).as_ref()].concat();
        Ok(Self { key, aad })
    }

    /// Seals a chunk; `totals` makes it the last one.
    ///
    /// # Errors
    /// `Internal` where an entry is larger than the store allows, or sealing fails.
    pub fn seal(&self, index: u32, entries: &[Entry], totals: Option<Totals>) -> Result<Vec<u8>, Failure> {
        let mut out = encode(entries, totals)?;
        self.key
            .seal_in_place_append_tag(nonce(index, totals.is_some()), Aad::from(&self.aad), &mut out)
            .map_err(|_| Failure::new(Code::Internal, "sealing a chunk failed"))?;
        Ok(out)
    }

    /// Opens a chunk, and checks each record in it with `records`.
    ///
    /// # Errors
    /// `InvalidCiphertext` whatever is wrong with it.
    pub fn open(&self, chunk: SealedChunk, records: &Sealed) -> Result<Opened, Failure> {
        let mut bytes = chunk.bytes;
        let plaintext = self
            .key
            .open_in_place(nonce(chunk.index, chunk.last), Aad::from(&self.aad), &mut bytes)
            .map_err(|_| Failure::ciphertext())?;
        let opened = Opened::parse(plaintext).ok_or_else(Failure::ciphertext)?;
        if opened.totals.is_some() != chunk.last {
            return Err(Failure::ciphertext());
        }
        for entry in &opened.entries {
            if let Entry::Put(key, value) = entry {
                records.check(key, value).map_err(|_| Failure::ciphertext())?;
            }
        }
        Ok(opened)
    }
}

/// STREAM's nonce: no prefix, since each backup has a key of its own.
fn nonce(index: u32, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[7..11].copy_from_slice(&index.to_be_bytes());
    nonce[11] = u8::from(last);
    Nonce::assume_unique_for_key(nonce)
}

/// A chunk's plaintext.
fn encode(entries: &[Entry], totals: Option<Totals>) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    for entry in entries {
        match entry {
            Entry::Put(key, value) => {
                out.push(PUT);
                push(&mut out, key)?;
                push(&mut out, value)?;
            }
            Entry::Delete(key) => {
                out.push(DELETE);
                push(&mut out, key)?;
            }
        }
    }
    if let Some(totals) = totals {
        out.push(END);
        out.extend(totals.puts.to_le_bytes());
        out.extend(totals.deletes.to_le_bytes());
    }
    Ok(out)
}

fn push(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Failure> {
    let too_large = |_| Failure::new(Code::Internal, "a record is larger than the store allows");
    out.extend(u16::try_from(bytes.len()).map_err(too_large)?.to_le_bytes());
    out.extend(bytes);
    Ok(())
}

impl Opened {
    /// Takes a chunk's plaintext apart; none where it isn't one.
    #[must_use]
    pub fn parse(mut rest: &[u8]) -> Option<Self> {
        let mut opened = Self { entries: Vec::new(), totals: None };
        while let Some((kind, after)) = rest.split_first() {
            rest = after;
            match *kind {
                PUT => {
                    let key = pull(&mut rest, 1, MAX_KEY_LEN)?;
                    opened.entries.push(Entry::Put(key, pull(&mut rest, 0, MAX_VALUE_LEN)?));
                }
                DELETE => opened.entries.push(Entry::Delete(pull(&mut rest, 1, MAX_KEY_LEN)?)),
                END => {
                    let (puts, after) = rest.split_first_chunk()?;
                    let (deletes, after) = after.split_first_chunk()?;
                    let (puts, deletes) = (u64::from_le_bytes(*puts), u64::from_le_bytes(*deletes));
                    opened.totals = Some(Totals { puts, deletes });
                    // Nothing stands after it.
                    return after.is_empty().then_some(opened);
                }
                _ => return None,
            }
        }
        Some(opened)
    }

    /// The plaintext again.
    ///
    /// # Errors
    /// `Internal` where an entry is larger than the store allows.
    pub fn encode(&self) -> Result<Vec<u8>, Failure> {
        encode(&self.entries, self.totals)
    }
}

fn pull(rest: &mut &[u8], least: usize, most: usize) -> Option<Vec<u8>> {
    let (len, after) = rest.split_first_chunk()?;
    let len = usize::from(u16::from_le_bytes(*len));
    let (bytes, after) = after.split_at_checked(len).filter(|_| (least..=most).contains(&len))?;
    *rest = after;
    Some(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::edge::{Background, Clock, Edge, Entropy, Workers};
    use crate::store::{MemoryStore, Record};

    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Note(String);

    impl Record for Note {
        const SCHEMA: u16 = 1;
    }

    fn sealed(key: &[u8; 32]) -> Sealed {
        let (workers, _) = Workers::manual();
        let (clock, entropy) = (Clock::manual(0).0, Entropy::seeded(1));
        let edge = Edge { clock, entropy, workers, background: Background::manual().0 };
        Sealed::new(MemoryStore::new(&edge, 1).unwrap() as Arc<_>, key)
    }

    fn chunks_of(salt: u8) -> Chunks {
        let header = BackupHeader {
            domain_id: Uuid::nil(),
            root_generation: 1,
            created_at: 0,
            salt: [salt; 32],
            domain_file: vec![],
            recovery: vec![],
        };
        let keys = DomainKeys::derive(Uuid::nil(), &[7; 32]).unwrap();
        Chunks::new(&keys, &header, &header.encode().unwrap()).unwrap()
    }

    fn entries(records: &Sealed) -> Vec<Entry> {
        let value = records.put(b"k", &Note("v".into())).unwrap();
        vec![Entry::Put(b"k".to_vec(), value), Entry::Delete(b"gone".to_vec())]
    }

    #[test]
    fn a_chunk_opens_in_its_own_place_only_and_no_bit_of_it_may_change() {
        let (chunks, records) = (chunks_of(1), sealed(&[1; 32]));
        let totals = Some(Totals { puts: 1, deletes: 1 });
        for totals in [None, totals] {
            let bytes = chunks.seal(3, &entries(&records), totals).unwrap();
            let good = SealedChunk { index: 3, last: totals.is_some(), bytes };
            let opened = chunks.open(good.clone(), &records).unwrap();
            assert_eq!(opened, Opened { entries: entries(&records), totals });
            let refused = |chunk: SealedChunk| chunks.open(chunk, &records) == Err(Failure::ciphertext());
            assert!(refused(SealedChunk { index: 2, ..good.clone() }));
            assert!(refused(SealedChunk { last: !good.last, ..good.clone() }));
            for bit in 0..good.bytes.len() * 8 {
                let mut bad = good.clone();
                bad.bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(refused(bad), "bit {bit}");
            }
            for len in 0..good.bytes.len() {
                assert!(refused(SealedChunk { bytes: good.bytes[..len].to_vec(), ..good.clone() }));
            }
            assert!(chunks_of(2).open(good, &records).is_err(), "another backup's chunk");
        }
    }

    #[test]
    fn a_record_of_another_domain_or_another_key_is_refused() {
        let (chunks, ours, theirs) = (chunks_of(1), sealed(&[1; 32]), sealed(&[2; 32]));
        let open = |entries: &[Entry]| {
            let bytes = chunks.seal(0, entries, None).unwrap();
            chunks.open(SealedChunk { index: 0, last: false, bytes }, &ours).is_ok()
        };
        assert!(open(&entries(&ours)) && !open(&entries(&theirs)));
        let value = ours.put(b"k", &Note("v".into())).unwrap();
        assert!(!open(&[Entry::Put(b"other".to_vec(), value)]));
    }

    #[test]
    fn entries_that_break_a_rule_are_refused() {
        assert_eq!(Opened::parse(&[]), Some(Opened { entries: vec![], totals: None }));
        let end = [&[END][..], &[0; 16]].concat();
        assert!(Opened::parse(&end).unwrap().totals.is_some());
        for bad in [
            [&end[..], &[DELETE, 1, 0, b'a']].concat(),
            end[..16].to_vec(),
            vec![0],
            vec![4],
            vec![DELETE, 0, 0],
            vec![DELETE, 2, 0, b'a'],
            vec![PUT, 1, 0, b'a', 1],
            [&[DELETE, 1, 2][..], &[b'a'; 513]].concat(),
            [&[PUT, 1, 0, b'a', 1, 0x40][..], &vec![0; 16_385]].concat(),
        ] {
            assert_eq!(Opened::parse(&bad), None, "{:?}", &bad[..bad.len().min(8)]);
        }
    }
}
