//! Every operation on a key of every spec and usage, at both levels, on each token, alone and
//! in a batch: what works and how the rest is refused, against the table below.
//!
//! `CLAVIGER_TABLE=1 cargo nextest run --workspace --no-capture -E 'binary(table)'` prints it
//! in Markdown, as found.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::fmt::Write as _;

use claviger_protocol::body::{
    AsymmetricDecryptRequest, AsymmetricEncryptRequest, BatchItem, BatchRequest, DecryptRequest,
    EncryptRequest, ExportDataKeyRequest, GenerateAndExportDataKeyRequest, GenerateDataKeyPairRequest,
    GenerateDataKeyPairWithoutPlaintextRequest, GenerateDataKeyRequest,
    GenerateDataKeyWithoutPlaintextRequest, GenerateMacRequest, GetPublicKeyRequest, MessageDigestRequest,
    ReEncryptRequest, VerifyMacRequest,
};
use claviger_protocol::{
    Code, DataKeySize, DataKeySpec, DigestAlgorithm, EncryptionAlgorithm, EncryptionContext, ExportAlgorithm,
    KeyPairSpec, KeySpec, KeyUsage, Operation, Protection, Request, SecretBytes, SigningAlgorithm, codec,
};
use claviger_tests::keys::{LEVELS, context, decryption, encryption, new_key};
use claviger_tests::pairs::{opening, public_key, signing, verifying};
use claviger_tests::{Site, Token, Wire};
use uuid::Uuid;

/// The columns, a letter each in [`TABLE`].
const OPERATIONS: [&str; 16] = [
    "Encrypt",
    "Decrypt",
    "ReEncrypt",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "ExportDataKey",
    "GenerateAndExportDataKey",
    "AsymmetricSign",
    "AsymmetricVerify",
    "AsymmetricEncrypt",
    "AsymmetricDecrypt",
    "GetPublicKey",
    "GenerateMac",
    "VerifyMac",
];

/// `+` done, and what came out was checked; `u` InvalidKeyUsage; `c` InvalidCiphertext (a blob
/// names its key, and it is another); `h` UnsupportedByHsm: there is no such key; `.` not walked.
/// Spec, usage, level; the embedded token, SoftHSM2, the SM test token.
const TABLE: &str = "
AES_256     ENCRYPT_DECRYPT     HSM       +++++++++uuuuuuu +++++++++uuuuuuu +++++++++uuuuuuu
AES_256     ENCRYPT_DECRYPT     SOFTWARE  +++++++++uuuuuuu +++++++++uuuuuuu +++++++++uuuuuuu
SM4         ENCRYPT_DECRYPT     HSM       hhhhhhhhhhhhhhhh hhhhhhhhhhhhhhhh +++++++++uuuuuuu
SM4         ENCRYPT_DECRYPT     SOFTWARE  +++++++++uuuuuuu +++++++++uuuuuuu +++++++++uuuuuuu
RSA_2048    SIGN_VERIFY         HSM       ucuuuuucu++uu+uu ucuuuuucu++uu+uu ucuuuuucu++uu+uu
RSA_2048    SIGN_VERIFY         SOFTWARE  ucuuuuucu++uu+uu ucuuuuucu++uu+uu ucuuuuucu++uu+uu
RSA_2048    ENCRYPT_DECRYPT     HSM       ucuuuuucuuu+++uu ucuuuuucuuu+++uu ucuuuuucuuu+++uu
RSA_2048    ENCRYPT_DECRYPT     SOFTWARE  ucuuuuucuuu+++uu ucuuuuucuuu+++uu ucuuuuucuuu+++uu
RSA_3072    SIGN_VERIFY         HSM       ucuuuuucu++uu+uu ucuuuuucu++uu+uu ................
RSA_3072    SIGN_VERIFY         SOFTWARE  ucuuuuucu++uu+uu ucuuuuucu++uu+uu ucuuuuucu++uu+uu
RSA_3072    ENCRYPT_DECRYPT     HSM       ucuuuuucuuu+++uu ucuuuuucuuu+++uu ................
RSA_3072    ENCRYPT_DECRYPT     SOFTWARE  ucuuuuucuuu+++uu ucuuuuucuuu+++uu ucuuuuucuuu+++uu
RSA_4096    SIGN_VERIFY         HSM       ucuuuuucu++uu+uu ucuuuuucu++uu+uu ................
RSA_4096    SIGN_VERIFY         SOFTWARE  ucuuuuucu++uu+uu ucuuuuucu++uu+uu ucuuuuucu++uu+uu
RSA_4096    ENCRYPT_DECRYPT     HSM       ucuuuuucuuu+++uu ucuuuuucuuu+++uu ................
RSA_4096    ENCRYPT_DECRYPT     SOFTWARE  ucuuuuucuuu+++uu ucuuuuucuuu+++uu ucuuuuucuuu+++uu
EC_P256     SIGN_VERIFY         HSM       ucuuuuucu++uu+uu ucuuuuucu++uu+uu ucuuuuucu++uu+uu
EC_P256     SIGN_VERIFY         SOFTWARE  ucuuuuucu++uu+uu ucuuuuucu++uu+uu ucuuuuucu++uu+uu
EC_P384     SIGN_VERIFY         HSM       ucuuuuucu++uu+uu ucuuuuucu++uu+uu ucuuuuucu++uu+uu
EC_P384     SIGN_VERIFY         SOFTWARE  ucuuuuucu++uu+uu ucuuuuucu++uu+uu ucuuuuucu++uu+uu
SM2         SIGN_VERIFY         HSM       hhhhhhhhhhhhhhhh hhhhhhhhhhhhhhhh ucuuuuucu++uu+uu
SM2         SIGN_VERIFY         SOFTWARE  ucuuuuucu++uu+uu ucuuuuucu++uu+uu ucuuuuucu++uu+uu
SM2         ENCRYPT_DECRYPT     HSM       hhhhhhhhhhhhhhhh hhhhhhhhhhhhhhhh ucuuuuucuuu+++uu
SM2         ENCRYPT_DECRYPT     SOFTWARE  ucuuuuucuuu+++uu ucuuuuucuuu+++uu ucuuuuucuuu+++uu
HMAC_256    GENERATE_VERIFY_MAC HSM       ucuuuuucuuuuuu++ ucuuuuucuuuuuu++ ucuuuuucuuuuuu++
HMAC_256    GENERATE_VERIFY_MAC SOFTWARE  ucuuuuucuuuuuu++ ucuuuuucuuuuuu++ ucuuuuucuuuuuu++
HMAC_384    GENERATE_VERIFY_MAC HSM       ucuuuuucuuuuuu++ ucuuuuucuuuuuu++ ucuuuuucuuuuuu++
HMAC_384    GENERATE_VERIFY_MAC SOFTWARE  ucuuuuucuuuuuu++ ucuuuuucuuuuuu++ ucuuuuucuuuuuu++
HMAC_512    GENERATE_VERIFY_MAC HSM       ucuuuuucuuuuuu++ ucuuuuucuuuuuu++ ucuuuuucuuuuuu++
HMAC_512    GENERATE_VERIFY_MAC SOFTWARE  ucuuuuucuuuuuu++ ucuuuuucuuuuuu++ ucuuuuucuuuuuu++
HMAC_SM3    GENERATE_VERIFY_MAC HSM       hhhhhhhhhhhhhhhh hhhhhhhhhhhhhhhh ucuuuuucuuuuuu++
HMAC_SM3    GENERATE_VERIFY_MAC SOFTWARE  ucuuuuucuuuuuu++ ucuuuuucuuuuuu++ ucuuuuucuuuuuu++
";

/// A call alone and as an item of a batch: the same outcome both times.
fn call<O: Operation + Clone>(wire: &mut Wire, request: &O) -> Result<O::Reply, Code> {
    let alone = wire.call(request.clone()).map_err(|refusal| refusal.code);
    let body: Request = request.clone().into();
    let item = BatchItem { opcode: O::OPCODE.number(), body: body.encode().unwrap().into() };
    let batch = wire.call(BatchRequest { items: vec![item] }).expect("the batch as a whole succeeds");
    let in_batch = Code::from_number(batch.results[0].status).unwrap();
    assert_eq!(in_batch, alone.as_ref().err().copied().unwrap_or(Code::Ok), "{}", O::OPCODE.row().name);
    if in_batch == Code::Ok {
        codec::decode::<O::Reply>(batch.results[0].body.expose()).expect("the item's reply");
    }
    alone
}

/// Somebody to give data keys to, and to move plaintext from.
struct Others {
    rsa: Uuid,
    sm2: Uuid,
    aes: Uuid,
    blob: Vec<u8>,
    rsa_public: Vec<u8>,
    sm2_public: Vec<u8>,
}

impl Others {
    fn make(wire: &mut Wire) -> Self {
        let software = Protection::Software;
        let [rsa, sm2] = [KeySpec::Rsa2048, KeySpec::Sm2]
            .map(|spec| make(wire, spec, KeyUsage::EncryptDecrypt, software).unwrap());
        let aes = wire.create(software);
        let blob = wire.call(EncryptRequest { context: bound(), ..encryption(aes, TEXT) }).unwrap();
        let (rsa_public, sm2_public) = (public_key(wire, rsa), public_key(wire, sm2));
        Self { rsa, sm2, aes, blob: blob.ciphertext_blob.0, rsa_public, sm2_public }
    }

    /// Whom an algorithm encrypts to.
    fn receiver(&self, algorithm: ExportAlgorithm) -> (Uuid, Vec<u8>, Option<EncryptionAlgorithm>) {
        let (rsa, public) = (self.rsa, self.rsa_public.clone());
        match algorithm {
            ExportAlgorithm::RsaesOaepSha1 => (rsa, public, Some(EncryptionAlgorithm::RsaesOaepSha1)),
            ExportAlgorithm::RsaesOaepSha256 => (rsa, public, Some(EncryptionAlgorithm::RsaesOaepSha256)),
            // Keys here don't open it: `exports.rs` has OpenSSL do so.
            ExportAlgorithm::RsaesPkcs1V15 => (rsa, public, None),
            ExportAlgorithm::Sm2Pke => (self.sm2, self.sm2_public.clone(), Some(EncryptionAlgorithm::Sm2Pke)),
        }
    }

    /// What an exported data key is.
    fn opened(&self, wire: &mut Wire, algorithm: ExportAlgorithm, exported: &[u8]) -> Option<Vec<u8>> {
        let (key, _, algorithm) = self.receiver(algorithm);
        let opened = wire.call(opening(key, algorithm?, exported)).unwrap();
        Some(opened.plaintext.expose().to_vec())
    }
}

const TEXT: &[u8] = b"what the table is about";

fn bound() -> EncryptionContext {
    context(&[("table", "yes")])
}

fn make(wire: &mut Wire, spec: KeySpec, usage: KeyUsage, level: Protection) -> Result<Uuid, Code> {
    let request = claviger_protocol::body::CreateKeyRequest { spec, usage: Some(usage), ..new_key(level) };
    wire.call(request).map(|reply| reply.key_id).map_err(|refusal| refusal.code)
}

fn open(wire: &mut Wire, blob: &[u8]) -> Vec<u8> {
    let opened = wire.call(DecryptRequest { context: bound(), ..decryption(blob) }).unwrap();
    opened.plaintext.expose().to_vec()
}

/// What became of an operation.
type Outcome = Result<(), Code>;

fn messages(wire: &mut Wire, key: Uuid, others: &Others) -> [Outcome; 3] {
    let sealed = call(wire, &EncryptRequest { context: bound(), ..encryption(key, TEXT) });
    // A blob of another key's where there is none of its own.
    let blob = sealed.as_ref().map_or(&others.blob, |reply| &reply.ciphertext_blob.0).clone();
    let request = DecryptRequest { key: Some(key.into()), context: bound(), ..decryption(&blob) };
    let opened = call(wire, &request).map(|reply| assert_eq!(reply.plaintext.expose(), TEXT));
    let moved = ReEncryptRequest {
        source_key: Some(others.aes.into()),
        ciphertext_blob: others.blob.clone().into(),
        source_context: bound(),
        destination_key: key.into(),
        destination_context: bound(),
    };
    let moved = call(wire, &moved).map(|reply| {
        assert_eq!(open(wire, &reply.ciphertext_blob.0), TEXT);
        // And back.
        let back = ReEncryptRequest {
            source_key: Some(key.into()),
            ciphertext_blob: reply.ciphertext_blob,
            source_context: bound(),
            destination_key: others.aes.into(),
            destination_context: bound(),
        };
        let back = wire.call(back).unwrap();
        assert_eq!(open(wire, &back.ciphertext_blob.0), TEXT);
    });
    [sealed.map(drop), opened, moved]
}

fn data_keys(wire: &mut Wire, key: Uuid) -> [Outcome; 4] {
    let (size, pair_spec) = (DataKeySize::Spec(DataKeySpec::Aes256), KeyPairSpec::EcP256);
    let (key, context) = (claviger_protocol::KeyRef::Id(key), bound());
    let request = GenerateDataKeyRequest { key: key.clone(), size, context: context.clone() };
    let with = call(wire, &request)
        .map(|made| assert_eq!(open(wire, &made.ciphertext_blob.0), made.plaintext.expose()));
    let request = GenerateDataKeyWithoutPlaintextRequest { key: key.clone(), size, context: context.clone() };
    let without = call(wire, &request).map(|made| assert_eq!(open(wire, &made.ciphertext_blob.0).len(), 32));
    let request = GenerateDataKeyPairRequest { key: key.clone(), pair_spec, context: context.clone() };
    let pair = call(wire, &request)
        .map(|made| assert_eq!(open(wire, &made.ciphertext_blob.0), made.private_key.expose()));
    let request = GenerateDataKeyPairWithoutPlaintextRequest { key, pair_spec, context };
    let hidden = call(wire, &request).map(|made| assert!(!open(wire, &made.ciphertext_blob.0).is_empty()));
    [with, without, pair, hidden]
}

/// To each algorithm's receiver: they must all end alike.
fn exports(wire: &mut Wire, key: Uuid, others: &Others) -> [Outcome; 2] {
    let mut all = Vec::new();
    for &algorithm in ExportAlgorithm::ALL {
        let (_, public, _) = others.receiver(algorithm);
        let request = GenerateAndExportDataKeyRequest {
            key: key.into(),
            size: DataKeySize::Bytes(16),
            context: bound(),
            public_key: public.clone().into(),
            algorithm,
        };
        let made = call(wire, &request);
        let blob = made.as_ref().map_or(&others.blob, |made| &made.ciphertext_blob.0).clone();
        let request = ExportDataKeyRequest {
            key: Some(key.into()),
            ciphertext_blob: blob.clone().into(),
            context: bound(),
            public_key: public.into(),
            algorithm,
        };
        let exported = call(wire, &request).map(|reply| reply.exported_data_key.0);
        let generated = made.map(|made| made.exported_data_key.0);
        for exported in [&exported, &generated].into_iter().flatten() {
            let data_key = open(wire, &blob);
            assert!(others.opened(wire, algorithm, exported).is_none_or(|opened| opened == data_key));
        }
        all.push([exported.map(drop), generated.map(drop)]);
    }
    all.dedup();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0]
}

/// With every algorithm of the spec's; with some other where it has none.
fn signatures(wire: &mut Wire, key: Uuid, spec: KeySpec, usage: KeyUsage) -> [Outcome; 2] {
    let own = match usage {
        KeyUsage::SignVerify => spec.signing_algorithms(),
        _ => &[SigningAlgorithm::EcdsaSha256],
    };
    let mut all = Vec::new();
    for &algorithm in own {
        let request = signing(key, algorithm, TEXT);
        let signed = call(wire, &request);
        let signature = signed.as_ref().map_or(vec![0; 64], |reply| reply.signature.0.clone());
        let check = verifying(&request, &signature);
        let verified = call(wire, &check).map(|reply| assert!(reply.valid, "{algorithm}"));
        all.push([signed.map(drop), verified]);
    }
    all.dedup();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0]
}

/// As [`signatures`].
fn ciphertexts(wire: &mut Wire, key: Uuid, spec: KeySpec, usage: KeyUsage) -> [Outcome; 2] {
    let own = match usage {
        KeyUsage::EncryptDecrypt if spec.pair().is_some() => spec.encryption_algorithms(),
        _ => &[EncryptionAlgorithm::RsaesOaepSha256],
    };
    let mut all = Vec::new();
    for &algorithm in own {
        let plaintext = SecretBytes::new(TEXT.to_vec());
        let request =
            AsymmetricEncryptRequest { key: key.into(), key_version_id: None, algorithm, plaintext };
        let sealed = call(wire, &request);
        let ciphertext = sealed.as_ref().map_or(vec![0; 256], |reply| reply.ciphertext.0.clone());
        let request: AsymmetricDecryptRequest = opening(key, algorithm, &ciphertext);
        let opened = call(wire, &request).map(|reply| assert_eq!(reply.plaintext.expose(), TEXT));
        all.push([sealed.map(drop), opened]);
    }
    all.dedup();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0]
}

fn macs(wire: &mut Wire, key: Uuid) -> [Outcome; 2] {
    let message = || SecretBytes::new(TEXT.to_vec());
    let made = call(wire, &GenerateMacRequest { key: key.into(), algorithm: None, message: message() });
    let mac = made.as_ref().map_or(vec![0; 32], |reply| reply.mac.0.clone());
    let check = VerifyMacRequest {
        key: key.into(),
        key_version_id: None,
        algorithm: None,
        message: message(),
        mac: mac.into(),
    };
    let verified = call(wire, &check).map(|reply| assert!(reply.valid));
    [made.map(drop), verified]
}

/// All operations on a key, in the order of [`OPERATIONS`].
fn walk(wire: &mut Wire, key: Uuid, (spec, usage): (KeySpec, KeyUsage), others: &Others) -> Vec<Outcome> {
    let mut out = Vec::from(messages(wire, key, others));
    out.extend(data_keys(wire, key));
    out.extend(exports(wire, key, others));
    out.extend(signatures(wire, key, spec, usage));
    out.extend(ciphertexts(wire, key, spec, usage));
    let public = call(wire, &GetPublicKeyRequest { key: key.into(), key_version_id: None });
    out.push(public.map(|reply| assert_eq!((reply.spec, reply.usage), (spec, usage))));
    out.extend(macs(wire, key));
    out
}

fn letter(outcome: Outcome) -> char {
    match outcome {
        Ok(()) => '+',
        Err(Code::InvalidKeyUsage) => 'u',
        Err(Code::InvalidCiphertext) => 'c',
        Err(Code::UnsupportedByHsm) => 'h',
        Err(other) => panic!("{other:?}"),
    }
}

/// SM2, SM3 and SM4 are the SM test token's; the longer RSA keys would be the module's beneath
/// once more, and take it seconds.
fn is_walked(token: Token, spec: KeySpec, level: Protection) -> bool {
    let longer = matches!(spec, KeySpec::Rsa3072 | KeySpec::Rsa4096);
    !(matches!(token, Token::Sm(_)) && level == Protection::Hsm && longer)
}

/// A line for each spec, usage and level, with the letters of a token.
fn found(token: Token) -> Vec<(String, String)> {
    let daemon = Site::new(token).start();
    let (mut admin, mut wire) = (daemon.admin(), daemon.app());
    let others = Others::make(&mut admin);
    let mut rows = Vec::new();
    for &spec in KeySpec::ALL {
        for (&usage, level) in spec.usages().iter().flat_map(|usage| LEVELS.map(|level| (usage, level))) {
            let letters = if is_walked(token, spec, level) {
                let outcomes = match make(&mut admin, spec, usage, level) {
                    Ok(key) => walk(&mut wire, key, (spec, usage), &others),
                    Err(code) => vec![Err(code); OPERATIONS.len()],
                };
                outcomes.into_iter().map(letter).collect()
            } else {
                ".".repeat(OPERATIONS.len())
            };
            rows.push((format!("{spec} {usage} {level}"), letters));
        }
    }
    keyless(&mut wire);
    daemon.terminate();
    rows
}

/// The operations that name no key.
fn keyless(wire: &mut Wire) {
    for &algorithm in DigestAlgorithm::ALL {
        let request = MessageDigestRequest { algorithm, message: SecretBytes::new(TEXT.to_vec()) };
        assert_eq!(call(wire, &request).unwrap().digest.0.len(), algorithm.len());
    }
    let random = call(wire, &claviger_protocol::body::GetRandomRequest { length: 4096 }).unwrap();
    assert_eq!(random.random.len(), 4096);
}

const fn name(token: Token) -> &'static str {
    match token {
        Token::Embedded => "embedded token",
        Token::SoftHsm => "SoftHSM2",
        Token::Sm(_) => "SM test token",
    }
}

fn markdown(token: Token, rows: &[(String, String)]) -> String {
    let mut out = format!("\n### {}\n\n| spec, usage, level | ", name(token));
    writeln!(out, "{} |\n|{}", OPERATIONS.join(" | "), " --- |".repeat(OPERATIONS.len() + 1)).unwrap();
    for (row, letters) in rows {
        let cells = letters.chars().map(|letter| match letter {
            '+' => "ok",
            'u' => "InvalidKeyUsage",
            'c' => "InvalidCiphertext",
            'h' => "UnsupportedByHsm",
            _ => "",
        });
        writeln!(out, "| {row} | {} |", cells.collect::<Vec<_>>().join(" | ")).unwrap();
    }
    out
}

/// A token's column of [`TABLE`].
fn expected(column: usize) -> Vec<(String, String)> {
    let lines = TABLE.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[..3].join(" "), words[3 + column].to_owned())
        })
        .collect()
}

fn check(token: Token, column: usize) {
    let rows = found(token);
    if std::env::var_os("CLAVIGER_TABLE").is_some() {
        println!("{}", markdown(token, &rows));
    }
    assert_eq!(rows, expected(column));
}

#[test]
fn the_embedded_tokens_column_is_as_it_says() {
    check(Token::Embedded, 0);
}

#[test]
fn softhsm2s_column_is_as_it_says() {
    check(Token::SoftHsm, 1);
}

#[test]
fn the_sm_test_tokens_column_is_as_it_says() {
    check(Token::Sm("complete"), 2);
}
