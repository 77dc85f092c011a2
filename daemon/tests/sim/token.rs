//! A token for simulation: deterministic from its seed, with the rules of a real
//! one (handles die with their epoch, wrapped blobs are authenticated, templates bind).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use claviger_protocol::{KeySpec, SecretBytes};
use clavigerd::backend::hsm::command::{
    Answer, CheckValue, Command, HsmError, ObjectId, RESERVED_SALT, Template, Token, WrapFormat, Wrapped,
};
use clavigerd::edge::Entropy;

/// What the token of one simulated machine holds for ever: its root.
pub const ROOT: [u8; 32] = [0x52; 32];
const GENERATION: u32 = 1;

/// What goes wrong in a machine's token.
#[derive(Default)]
pub struct Faults {
    /// One command of so many fails; none where it is 0.
    pub odds: AtomicU64,
    /// How often all its session objects were lost.
    pub losses: AtomicU64,
}

pub struct SimToken {
    epoch: u64,
    faults: Arc<Faults>,
    losses: u64,
    entropy: Entropy,
    objects: BTreeMap<u64, (Kind, [u8; 32])>,
    next: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Parent,
    Cipher,
}

impl SimToken {
    pub fn new(epoch: u64, entropy: Entropy, faults: Arc<Faults>) -> Self {
        let losses = faults.losses.load(Ordering::Relaxed);
        Self { epoch, faults, losses, entropy, objects: BTreeMap::new(), next: 1 }
    }

    /// Loses its objects, or fails the command, where that is what happens to it.
    fn suffer(&mut self, command: &Command) -> Result<(), HsmError> {
        let losses = self.faults.losses.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.losses, losses) != losses {
            self.objects.clear();
        }
        let odds = self.faults.odds.load(Ordering::Relaxed);
        if odds == 0 || matches!(command, Command::Destroy { .. }) {
            return Ok(());
        }
        let roll = u64::from_le_bytes(self.fresh());
        match (roll % odds, roll / odds % 3) {
            (0, 0) => Err(HsmError::Unavailable("it was switched off".into())),
            (0, 1) => Err(HsmError::Fault("it failed".into())),
            (0, _) => Err(HsmError::Busy),
            _ => Ok(()),
        }
    }

    fn fresh<const N: usize>(&self) -> [u8; N] {
        self.entropy.array().unwrap()
    }

    fn keep(&mut self, kind: Kind, key: [u8; 32]) -> Answer {
        let handle = self.next;
        self.next += 1;
        self.objects.insert(handle, (kind, key));
        Answer::Object(ObjectId { epoch: self.epoch, handle })
    }

    fn key(&self, object: ObjectId, kind: Kind) -> Result<[u8; 32], HsmError> {
        let found = self.objects.get(&object.handle).filter(|_| object.epoch == self.epoch);
        match found {
            Some((is, key)) if *is == kind => Ok(*key),
            Some(_) => Err(HsmError::Fault("the object's template forbids it".into())),
            None => Err(HsmError::ObjectGone),
        }
    }
}

fn gcm(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap())
}

fn seal(key: &[u8; 32], nonce: [u8; 12], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut out = plaintext.to_vec();
    gcm(key).seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut out).unwrap();
    out
}

fn open(key: &[u8; 32], nonce: [u8; 12], aad: &[u8], sealed: &[u8]) -> Result<SecretBytes, HsmError> {
    let mut buffer = sealed.to_vec();
    gcm(key)
        .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut buffer)
        .map(|plaintext| SecretBytes::new(plaintext.to_vec()))
        .map_err(|_| HsmError::AuthenticationFailed)
}

fn derive(key: &[u8; 32], salt: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), salt).as_ref());
    out
}

fn check_value(key: &[u8; 32]) -> CheckValue {
    derive(key, &RESERVED_SALT)[..8].try_into().unwrap()
}

fn split(sealed: &[u8]) -> Result<([u8; 12], &[u8]), HsmError> {
    let (nonce, rest) = sealed.split_first_chunk().ok_or(HsmError::AuthenticationFailed)?;
    Ok((*nonce, rest))
}

impl Token for SimToken {
    fn execute(&mut self, command: &Command) -> Result<Answer, HsmError> {
        self.suffer(command)?;
        match command {
            Command::Random { len } => {
                let mut bytes = vec![0; usize::from(*len)];
                self.entropy.fill(&mut bytes).unwrap();
                Ok(Answer::Bytes(SecretBytes::new(bytes)))
            }
            Command::Generate { spec: KeySpec::Aes256, .. } => {
                let (key, nonce) = (self.fresh::<32>(), self.fresh::<12>());
                let blob = [nonce.as_slice(), &seal(&ROOT, nonce, b"wrap", &key)].concat();
                let wrapped = Wrapped { format: WrapFormat::AesKw, generation: GENERATION, blob };
                Ok(Answer::Generated { wrapped, check_value: check_value(&key) })
            }
            Command::Generate { spec, .. } => Err(HsmError::Unsupported(spec.to_string())),
            Command::Unwrap { wrapped, template, check_value: expected, .. } => {
                if wrapped.generation != GENERATION {
                    return Err(HsmError::NoSuchRoot(wrapped.generation));
                }
                let (nonce, sealed) = split(&wrapped.blob)?;
                let key: [u8; 32] = open(&ROOT, nonce, b"wrap", sealed)?.expose().try_into().unwrap();
                if check_value(&key) != *expected {
                    return Err(HsmError::CheckValueMismatch);
                }
                let kind = match template {
                    Template::AesDeriveOnly => Kind::Parent,
                    Template::AesDirect => Kind::Cipher,
                    other => return Err(HsmError::Unsupported(format!("{other:?}"))),
                };
                Ok(self.keep(kind, key))
            }
            Command::Derive { object, salt } => {
                let key = self.key(*object, Kind::Parent)?;
                Ok(self.keep(Kind::Cipher, derive(&key, salt)))
            }
            Command::GcmSeal { object, nonce, aad, plaintext } => {
                let key = self.key(*object, Kind::Cipher)?;
                Ok(Answer::Bytes(seal(&key, *nonce, aad, plaintext.expose()).into()))
            }
            Command::GcmOpen { object, nonce, aad, sealed } => {
                let key = self.key(*object, Kind::Cipher)?;
                open(&key, *nonce, aad, sealed).map(Answer::Bytes)
            }
            Command::RootSeal { aad, plaintext } => {
                let nonce = self.fresh();
                Ok(Answer::Bytes(
                    [nonce.as_slice(), &seal(&ROOT, nonce, aad, plaintext.expose())].concat().into(),
                ))
            }
            Command::RootOpen { aad, sealed } => {
                let (nonce, sealed) = split(sealed)?;
                open(&ROOT, nonce, aad, sealed).map(Answer::Bytes)
            }
            Command::Destroy { object } => {
                self.objects.remove(&object.handle);
                Ok(Answer::Done)
            }
            Command::Canary => Ok(Answer::Done),
            Command::Import { .. } => Ok(Answer::NotInside),
            Command::UnwrapPair { .. }
            | Command::OpenBlock { .. }
            | Command::Adopt { .. }
            | Command::Sign { .. }
            | Command::PrivateDecrypt { .. }
            | Command::Mac { .. } => Err(HsmError::Unsupported("it has AES_256 alone".to_owned())),
        }
    }
}
