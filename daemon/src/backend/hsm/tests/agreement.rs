//! The same material in the token and in software: wherever the algorithm is deterministic
//! both compute the same, and OpenSSL's command line with them; elsewhere each takes what
//! the other has made. Private keys and secrets go into the token as stored ones do, and
//! are known to all.

use std::path::Path;
use std::process::Command as Process;

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap, KeyWrapPadded};
use claviger_protocol::{EncryptionAlgorithm, KeySpec, SecretBytes, SigningAlgorithm};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use super::support::{Bench, Token, on_each_token};
use crate::backend::hsm::command::Template;
use crate::backend::hsm::means::{Held, Means};
use crate::backend::hsm::template::{self, Usage};
use crate::backend::hsm::{calls, login, private};
use crate::backend::software::{self, GcmKey, MacKey, PrivateKey};
use crate::edge::Entropy;

on_each_token!(
    both_levels_and_openssl_make_the_same_macs,
    both_levels_and_openssl_make_the_same_pkcs1_signatures,
    both_levels_and_openssl_take_each_others_signatures,
    both_levels_open_the_same_rsa_ciphertexts,
    both_levels_have_the_same_public_key,
    both_levels_seal_alike_under_one_key_and_nonce,
);

const ROOT: [u8; 32] = [9; 32];
const LENGTHS: [usize; 7] = [0, 1, 15, 16, 64, 65, 6144];

/// What OpenSSL writes to stdout; it must succeed.
fn openssl(dir: &Path, args: &[&str]) -> Vec<u8> {
    let output = Process::new("openssl").current_dir(dir).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn write(dir: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(dir.join(name), bytes).unwrap();
}

/// The `wrap` key that all of it is wrapped under.
fn root(session: &Session) -> ObjectHandle {
    session.create_object(&template::known_key(Usage::WRAP, &ROOT, false)).unwrap()
}

/// A pair of OpenSSL's: `private.der` and `public.der` in the directory, its key in
/// software and, under each template, in the token.
struct Pair {
    spec: KeySpec,
    pkcs8: Vec<u8>,
    software: PrivateKey,
}

impl Pair {
    fn make(dir: &Path, spec: KeySpec) -> Self {
        let how = match spec {
            KeySpec::EcP256 => ["EC", "ec_paramgen_curve:P-256"],
            KeySpec::EcP384 => ["EC", "ec_paramgen_curve:P-384"],
            KeySpec::Rsa3072 => ["RSA", "rsa_keygen_bits:3072"],
            _ => ["RSA", "rsa_keygen_bits:2048"],
        };
        openssl(dir, &["genpkey", "-algorithm", how[0], "-pkeyopt", how[1], "-out", "private.pem"]);
        let pkcs8 = openssl(dir, &["pkcs8", "-topk8", "-nocrypt", "-in", "private.pem", "-outform", "DER"]);
        let spki = openssl(dir, &["pkey", "-in", "private.pem", "-pubout", "-outform", "DER"]);
        write(dir, "private.der", &pkcs8);
        write(dir, "public.der", &spki);
        let material = SecretBytes::new(pkcs8.clone());
        let software = PrivateKey::from_pkcs8(spec.pair().unwrap(), &material).unwrap();
        Self { spec, pkcs8, software }
    }

    fn in_token(&self, session: &Session, means: &Means, template: Template) -> Held {
        let mut out = vec![0; self.pkcs8.len() + 16];
        let kek = AesKek::new(&AES_256, &ROOT).unwrap();
        let blob = kek.wrap_with_padding(&self.pkcs8, &mut out).unwrap();
        let attributes = template::unwrapped_private(means, self.spec, template).unwrap();
        let (mechanism, root) = (Mechanism::AesKeyWrapPad, root(session));
        let handle = session.unwrap_key(&mechanism, root, blob, &attributes).unwrap();
        Held { handle, spec: self.spec, template }
    }
}

fn both_levels_and_openssl_make_the_same_macs(token: Token) {
    let bench = Bench::new(token);
    let opened = login::open(&bench.config).unwrap();
    let session = &opened.serve().owner;
    let means = Means::of(&bench.config.profile);
    let dir = bench.path();
    for (spec, hash) in
        [(KeySpec::Hmac256, "-sha256"), (KeySpec::Hmac384, "-sha384"), (KeySpec::Hmac512, "-sha512")]
    {
        let algorithm = spec.mac_algorithm().unwrap();
        let secret: Vec<u8> = (0x80..).take(spec.secret_len().unwrap()).collect();
        let mut out = vec![0; secret.len() + 8];
        let blob = AesKek::new(&AES_256, &ROOT).unwrap().wrap(&secret, &mut out).unwrap();
        let attributes = template::unwrapped_secret(&means, spec, Template::HmacSecret).unwrap();
        let key = session.unwrap_key(&Mechanism::AesKeyWrap, root(session), blob, &attributes).unwrap();
        let software = MacKey::new(algorithm, &SecretBytes::new(secret.clone())).unwrap();
        let named = format!("hexkey:{}", hex::encode(&secret));
        for length in LENGTHS {
            let message = vec![0x5A; length];
            write(dir, "message", &message);
            let theirs =
                openssl(dir, &["dgst", hash, "-mac", "HMAC", "-macopt", &named, "-binary", "message"]);
            let inside = session.sign(&means.mac(algorithm).unwrap(), key, &message).unwrap();
            assert_eq!(inside, theirs, "{algorithm} in the token, {length} bytes");
            assert_eq!(software.mac(&message), theirs, "{algorithm} in software, {length} bytes");
        }
    }
}

fn both_levels_and_openssl_make_the_same_pkcs1_signatures(token: Token) {
    let bench = Bench::new(token);
    let opened = login::open(&bench.config).unwrap();
    let session = &opened.serve().owner;
    let means = Means::of(&bench.config.profile);
    let dir = bench.path();
    for spec in [KeySpec::Rsa2048, KeySpec::Rsa3072] {
        let pair = Pair::make(dir, spec);
        let key = pair.in_token(session, &means, Template::RsaSign);
        for (algorithm, hash) in [
            (SigningAlgorithm::RsaPkcs1Sha256, "-sha256"),
            (SigningAlgorithm::RsaPkcs1Sha384, "-sha384"),
            (SigningAlgorithm::RsaPkcs1Sha512, "-sha512"),
        ] {
            write(dir, "message", b"one message");
            let theirs = openssl(dir, &["dgst", hash, "-keyform", "DER", "-sign", "private.der", "message"]);
            let digest = software::digest(algorithm.digest(), b"one message");
            let inside = private::sign(session, &means, &key, algorithm, &digest).map_err(drop).unwrap();
            assert_eq!(inside, theirs, "{spec} {algorithm} in the token");
            let outside = pair.software.sign(algorithm, &digest, &Entropy::system()).unwrap();
            assert_eq!(outside, theirs, "{spec} {algorithm} in software");
        }
    }
}

const PSS: &[&str] = &["-sha384", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"];

/// PSS and ECDSA are random: no two signatures are the same, and each is everybody's.
fn both_levels_and_openssl_take_each_others_signatures(token: Token) {
    let bench = Bench::new(token);
    let opened = login::open(&bench.config).unwrap();
    let session = &opened.serve().owner;
    let means = Means::of(&bench.config.profile);
    let dir = bench.path();
    let entropy = Entropy::system();
    for (spec, template, algorithm, how) in [
        (KeySpec::Rsa2048, Template::RsaSign, SigningAlgorithm::RsaPssSha384, PSS),
        (KeySpec::EcP256, Template::EcSign, SigningAlgorithm::EcdsaSha256, &["-sha256"]),
        (KeySpec::EcP384, Template::EcSign, SigningAlgorithm::EcdsaSha384, &["-sha384"]),
    ] {
        let pair = Pair::make(dir, spec);
        let key = pair.in_token(session, &means, template);
        write(dir, "message", b"one message");
        let digest = software::digest(algorithm.digest(), b"one message");
        let sign = ["dgst", "-keyform", "DER", "-sign", "private.der"];
        let signatures = [
            private::sign(session, &means, &key, algorithm, &digest).map_err(drop).unwrap(),
            pair.software.sign(algorithm, &digest, &entropy).unwrap(),
            openssl(dir, &[&sign[..], how, &["message"]].concat()),
        ];
        for signature in &signatures {
            write(dir, "signature", signature);
            let verify = ["dgst", "-keyform", "DER", "-verify", "public.der", "-signature", "signature"];
            openssl(dir, &[&verify[..], how, &["message"]].concat());
            assert!(pair.software.public_key().verify(algorithm, &digest, signature), "{algorithm}");
        }
        assert!(signatures[0] != signatures[1] && signatures[1] != signatures[2], "{algorithm}");
    }
}

fn both_levels_open_the_same_rsa_ciphertexts(token: Token) {
    let bench = Bench::new(token);
    let opened = login::open(&bench.config).unwrap();
    let session = &opened.serve().owner;
    let means = Means::of(&bench.config.profile);
    let dir = bench.path();
    let pair = Pair::make(dir, KeySpec::Rsa2048);
    let key = pair.in_token(session, &means, Template::RsaDecrypt);
    for (algorithm, hash) in [
        (EncryptionAlgorithm::RsaesOaepSha1, "rsa_oaep_md:sha1"),
        (EncryptionAlgorithm::RsaesOaepSha256, "rsa_oaep_md:sha256"),
    ] {
        let most = pair.software.public_key().max_plaintext(algorithm.into()).unwrap();
        for length in [0, 1, 32, most] {
            let text = vec![0xA5; length];
            write(dir, "text", &text);
            let encrypt = ["pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", "public.der"];
            let how = ["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", hash, "-in", "text"];
            let mut sealed = openssl(dir, &[&encrypt[..], &how].concat());
            let inside = |sealed: &[u8]| {
                let opened = private::decrypt(session, &means, &key, algorithm, sealed);
                opened.ok().map(|text| text.expose().to_vec())
            };
            let outside = |sealed: &[u8]| {
                pair.software.decrypt(algorithm, sealed).ok().map(|text| text.expose().to_vec())
            };
            assert_eq!((inside(&sealed), outside(&sealed)), (Some(text.clone()), Some(text)), "{algorithm}");
            sealed[100] ^= 1;
            assert_eq!((inside(&sealed), outside(&sealed)), (None, None), "{algorithm}, altered");
        }
    }
}

/// What the token says of a new pair is what OpenSSL makes of the private key in the wrap.
fn both_levels_have_the_same_public_key(token: Token) {
    let bench = Bench::new(token);
    let opened = login::open(&bench.config).unwrap();
    let session = &opened.make().owner;
    let means = Means::of(&bench.config.profile);
    let (dir, root) = (bench.path(), root(session));
    for (spec, template) in [
        (KeySpec::Rsa2048, Template::RsaSign),
        (KeySpec::EcP256, Template::EcSign),
        (KeySpec::EcP384, Template::EcSign),
    ] {
        let (public, passing) = template::passing_pair(&means, spec, template).unwrap();
        let generation = means.generation(spec).unwrap();
        let (public, passing) = session.generate_key_pair(&generation, &public, &passing).unwrap();
        let spki = private::public_key(session, public, spec).unwrap();
        let blob = session.wrap_key(&Mechanism::AesKeyWrapPad, root, passing).unwrap();
        let mut out = vec![0; blob.len()];
        let pkcs8 = AesKek::new(&AES_256, &ROOT).unwrap().unwrap_with_padding(&blob, &mut out).unwrap();
        write(dir, "private.der", pkcs8);
        let public = ["pkey", "-inform", "DER", "-in", "private.der", "-pubout", "-outform", "DER"];
        assert_eq!(openssl(dir, &public), spki, "{spec}");
    }
}

fn both_levels_seal_alike_under_one_key_and_nonce(token: Token) {
    let bench = Bench::new(token);
    let opened = login::open(&bench.config).unwrap();
    let session = &opened.serve().owner;
    let material = [0x42; 32];
    let key = session.create_object(&template::known_key(Usage::ENCRYPT, &material, false)).unwrap();
    let software = GcmKey::aes(&material).unwrap();
    for length in LENGTHS {
        for aad in [&b""[..], b"aad", &[7; 300]] {
            let nonce = [u8::try_from(length % 251).unwrap(); 12];
            let mut text = vec![0x5A; length];
            let inside = calls::gcm_seal(session, key, nonce, aad, &text).unwrap();
            let tag = software.seal(nonce, aad, &mut text).unwrap();
            assert_eq!(inside, [text.as_slice(), &tag].concat(), "{length} bytes");
            let opened = software.open(nonce, aad, &inside).unwrap();
            assert_eq!(opened.expose(), vec![0x5A; length], "{length} bytes");
        }
    }
}
