//! What holds for any plaintext, context and key, at each level, on each token: it comes
//! back, and with any single bit flipped it doesn't. Cases are drawn from a seed, which a
//! failure names; CLAVIGER_SEED draws others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use claviger_protocol::body::{
    BatchItem, BatchRequest, CreateKeyRequest, DecryptReply, DecryptRequest, EncryptReply, EncryptRequest,
};
use claviger_protocol::{
    Code, EncryptionContext, KeyRef, KeySpec, Operation, Protection, Request, SecretBytes, codec,
};
use claviger_tests::keys::{LEVELS, new_key};
use claviger_tests::{Site, Token, Wire, each_token};
use uuid::Uuid;

/// Numbers that look random, the same for the same seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.roll().to_le_bytes()[0]).collect()
    }

    /// Lengths around what ciphers and frames divide by, and any others.
    fn plaintext(&mut self) -> Vec<u8> {
        let edges = [0, 1, 15, 16, 17, 31, 32, 33, 255, 256, 4095, 4096, 6143, 6144];
        let len = if self.below(2) == 0 { edges[self.below(edges.len())] } else { self.below(6145) };
        self.bytes(len)
    }

    fn context(&mut self) -> EncryptionContext {
        let texts = ["", "a", "\u{53f8}\u{94a5}", "key=value", "\0", "a longer text with blanks in it"];
        let mut pairs: Vec<(String, &str)> = Vec::new();
        for number in 0..self.below(5) {
            pairs.push((
                format!("{}{number}", texts[self.below(texts.len())]),
                texts[self.below(texts.len())],
            ));
        }
        EncryptionContext::from_pairs(pairs.iter().map(|(key, value)| (key.as_str(), *value))).unwrap()
    }
}

fn seed() -> u64 {
    std::env::var("CLAVIGER_SEED").map_or(20_261_123, |seed| seed.parse().unwrap())
}

fn item<O: Operation>(request: O) -> BatchItem {
    let body = Into::<Request>::into(request).encode().unwrap();
    BatchItem { opcode: O::OPCODE.number(), body: SecretBytes::new(body) }
}

/// Many calls in frames of at most 512, so that a property costs milliseconds.
fn batch(wire: &mut Wire, items: Vec<BatchItem>) -> Vec<(Code, SecretBytes)> {
    let mut results = Vec::new();
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        let (mut some, mut bytes) = (Vec::new(), 0);
        while let Some(item) = items.next_if(|item| some.len() < 512 && bytes + item.body.len() < 900_000) {
            bytes += item.body.len() + 32;
            some.push(item);
        }
        let reply = wire.call(BatchRequest { items: some }).unwrap();
        let result = |result: claviger_protocol::body::BatchResult| {
            (Code::from_number(result.status).unwrap(), result.body)
        };
        results.extend(reply.results.into_iter().map(result));
    }
    results
}

fn keys(wire: &mut Wire, token: Token) -> Vec<(String, Uuid)> {
    let mut keys = Vec::new();
    for spec in [KeySpec::Aes256, KeySpec::Sm4] {
        for protection in LEVELS {
            let made = wire.call(CreateKeyRequest { spec, ..new_key(protection) });
            match made {
                Ok(made) => keys.push((format!("{spec} {protection}"), made.key_id)),
                Err(refusal) => {
                    assert_eq!(refusal.code, Code::UnsupportedByHsm);
                    assert!(spec == KeySpec::Sm4 && protection == Protection::Hsm, "{token:?}: {spec}");
                }
            }
        }
    }
    keys
}

fn everything_comes_back(wire: &mut Wire, key: (&str, Uuid), dice: &mut Dice) {
    let cases: Vec<_> = (0..60).map(|_| (dice.plaintext(), dice.context())).collect();
    let sealing = cases.iter().map(|(plaintext, context)| {
        item(EncryptRequest {
            key: KeyRef::Id(key.1),
            plaintext: SecretBytes::new(plaintext.clone()),
            context: context.clone(),
        })
    });
    let sealed = batch(wire, sealing.collect());
    let opening = sealed.iter().zip(&cases).map(|((code, body), (_, context))| {
        assert_eq!(*code, Code::Ok, "{}", key.0);
        let blob = codec::decode::<EncryptReply>(body.expose()).unwrap().ciphertext_blob;
        item(DecryptRequest { key: None, ciphertext_blob: blob, context: context.clone() })
    });
    let opened = batch(wire, opening.collect());
    for ((code, body), (plaintext, context)) in opened.iter().zip(&cases) {
        assert_eq!(*code, Code::Ok, "{}: {} bytes, {context:?}", key.0, plaintext.len());
        let reply: DecryptReply = codec::decode(body.expose()).unwrap();
        assert_eq!(reply.plaintext.expose(), plaintext, "{}", key.0);
    }
}

fn no_flipped_bit_opens(wire: &mut Wire, key: (&str, Uuid), dice: &mut Dice) {
    // Every bit of a short one, and some of a long one.
    for (len, every) in [(13, true), (2000, false)] {
        let (plaintext, context) = (dice.bytes(len), dice.context());
        let request = EncryptRequest {
            key: KeyRef::Id(key.1),
            plaintext: SecretBytes::new(plaintext),
            context: context.clone(),
        };
        let blob = wire.call(request).unwrap().ciphertext_blob.0;
        let bits: Vec<usize> = if every {
            (0..8 * blob.len()).collect()
        } else {
            (0..200).map(|_| dice.below(8 * blob.len())).collect()
        };
        let flipped = bits.iter().map(|bit| {
            let mut blob = blob.clone();
            blob[bit / 8] ^= 1 << (bit % 8);
            item(DecryptRequest { key: None, ciphertext_blob: blob.into(), context: context.clone() })
        });
        for ((code, _), bit) in batch(wire, flipped.collect()).iter().zip(&bits) {
            assert_eq!(*code, Code::InvalidCiphertext, "{}: bit {bit} of {len} bytes", key.0);
        }
        let whole = DecryptRequest { key: None, ciphertext_blob: blob.clone().into(), context };
        assert!(wire.call(whole).is_ok());
        for cut in [0, 1, blob.len() / 2, blob.len() - 1] {
            let cut = DecryptRequest {
                key: None,
                ciphertext_blob: blob[..cut].to_vec().into(),
                context: EncryptionContext::default(),
            };
            assert_eq!(wire.call(cut).unwrap_err().code, Code::InvalidCiphertext);
        }
    }
}

#[test]
fn any_plaintext_comes_back_and_no_flipped_bit_opens() {
    for token in each_token().chain([Token::Sm("complete")]) {
        let daemon = Site::new(token).start();
        let (mut wire, mut dice) = (daemon.admin(), Dice(seed()));
        for (name, key) in keys(&mut wire, token) {
            let name = format!("seed {}, {token:?}, {name}", seed());
            everything_comes_back(&mut wire, (&name, key), &mut dice);
            no_flipped_bit_opens(&mut wire, (&name, key), &mut dice);
        }
        drop(wire);
        daemon.terminate();
    }
}
