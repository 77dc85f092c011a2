//! OpenSSL's command line and Python's `cryptography` as the other side of every pair and
//! MAC, both ways.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use claviger_protocol::{
    DigestAlgorithm, EncryptionAlgorithm, ExportAlgorithm, KeyPairSpec, MacAlgorithm, SecretBytes,
    SigningAlgorithm,
};

use crate::backend::software::{MacKey, PrivateKey, PublicKey};
use crate::edge::Entropy;

const MESSAGE: &[u8] = b"what both sides sign";
/// OpenSSL's name of the standard's user id; its own default is the empty one.
const ID: &str = "distid:1234567812345678";

/// What OpenSSL writes to stdout; it must succeed.
fn openssl(dir: &Path, args: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").current_dir(dir).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn write(dir: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(dir.join(name), bytes).unwrap();
}

const MAKING: [(KeyPairSpec, &[&str]); 4] = [
    (KeyPairSpec::Rsa2048, &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    (KeyPairSpec::EcP256, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    (KeyPairSpec::EcP384, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
    (KeyPairSpec::Sm2, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:SM2"]),
];

/// A pair that OpenSSL made, in `private.der` and as we read it; its public half is the same to both.
fn theirs(dir: &Path, spec: KeyPairSpec, how: &[&str]) -> PrivateKey {
    openssl(dir, &[&["genpkey"], how, &["-out", "private.pem"]].concat());
    let pkcs8 = openssl(dir, &["pkcs8", "-topk8", "-nocrypt", "-in", "private.pem", "-outform", "DER"]);
    write(dir, "private.der", &pkcs8);
    let spki = openssl(dir, &["pkey", "-in", "private.pem", "-pubout", "-outform", "DER"]);
    write(dir, "public.der", &spki);
    let key = PrivateKey::from_pkcs8(spec, &SecretBytes::new(pkcs8)).unwrap();
    assert_eq!(PublicKey::from_spki(&spki).unwrap().spec(), Some(spec));
    key
}

/// A pair that we made; OpenSSL must find it sound, and the public half its own.
fn own(dir: &Path, spec: KeyPairSpec) -> PrivateKey {
    let (pkcs8, spki) = PrivateKey::generate(spec, &Entropy::system()).unwrap();
    write(dir, "private.der", pkcs8.expose());
    write(dir, "public.der", &spki);
    openssl(dir, &["pkey", "-inform", "DER", "-in", "private.der", "-check", "-noout"]);
    let public = ["pkey", "-inform", "DER", "-in", "private.der", "-pubout", "-outform", "DER"];
    assert_eq!(openssl(dir, &public), spki, "{spec}");
    PrivateKey::from_pkcs8(spec, &pkcs8).unwrap()
}

fn signing_options(algorithm: SigningAlgorithm) -> Vec<&'static str> {
    let mut out = vec![hash(algorithm.digest())];
    if algorithm.name().contains("PSS") {
        out.extend(["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"]);
    }
    if algorithm == SigningAlgorithm::Sm2Dsa {
        out.extend(["-sigopt", ID]);
    }
    out
}

const fn hash(algorithm: DigestAlgorithm) -> &'static str {
    match algorithm {
        DigestAlgorithm::Sm3 => "-sm3",
        DigestAlgorithm::Sha256 => "-sha256",
        DigestAlgorithm::Sha384 => "-sha384",
        DigestAlgorithm::Sha512 => "-sha512",
    }
}

fn both_sign(dir: &Path, key: &PrivateKey, algorithm: SigningAlgorithm) {
    let how = signing_options(algorithm);
    write(dir, "message", MESSAGE);
    let digest = key.public_key().digest_of(algorithm, MESSAGE, None).unwrap();
    let signature = key.sign(algorithm, &digest, &Entropy::system()).unwrap();
    write(dir, "signature", &signature);
    let check = ["dgst", "-keyform", "DER", "-verify", "public.der", "-signature", "signature"];
    openssl(dir, &[&check, &how[..], &["message"]].concat());
    let sign = ["dgst", "-keyform", "DER", "-sign", "private.der"];
    let signature = openssl(dir, &[&sign, &how[..], &["message"]].concat());
    assert!(key.public_key().verify(algorithm, &digest, &signature), "{algorithm} of OpenSSL's");
    let other = key.public_key().digest_of(algorithm, b"another", None).unwrap();
    assert!(!key.public_key().verify(algorithm, &other, &signature), "{algorithm} of another message");
}

#[test]
fn openssl_and_we_take_each_others_signatures() {
    for (spec, how) in MAKING {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let keys = [theirs(dirs[0].path(), spec, how), own(dirs[1].path(), spec)];
        for (dir, key) in dirs.iter().zip(keys) {
            for &algorithm in spec.key_spec().signing_algorithms() {
                both_sign(dir.path(), &key, algorithm);
            }
        }
    }
}

const fn padding(algorithm: ExportAlgorithm) -> &'static [&'static str] {
    match algorithm {
        ExportAlgorithm::RsaesOaepSha1 => {
            &["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha1"]
        }
        ExportAlgorithm::RsaesOaepSha256 => {
            &["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256"]
        }
        ExportAlgorithm::RsaesPkcs1V15 => &["-pkeyopt", "rsa_padding_mode:pkcs1"],
        ExportAlgorithm::Sm2Pke => &[],
    }
}

#[test]
fn openssl_and_we_open_each_others_ciphertexts() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = 0;
    for (spec, how) in [MAKING[0], MAKING[3]] {
        let key = theirs(dir.path(), spec, how);
        for &algorithm in ExportAlgorithm::ALL {
            let Some(most) = key.public_key().max_plaintext(algorithm) else { continue };
            for len in [1, most.min(190)] {
                let plaintext = vec![0xA5; len];
                let sealed = key.public_key().encrypt(algorithm, &plaintext, &Entropy::system()).unwrap();
                write(dir.path(), "sealed", &sealed);
                let key_is = ["-keyform", "DER", "-inkey"];
                let open = [
                    &["pkeyutl", "-decrypt"],
                    &key_is[..],
                    &["private.der", "-in", "sealed"],
                    padding(algorithm),
                ];
                assert_eq!(openssl(dir.path(), &open.concat()), plaintext, "{algorithm}");
                let own =
                    EncryptionAlgorithm::ALL.iter().find(|own| ExportAlgorithm::from(**own) == algorithm);
                let Some(&own) = own else { continue };
                write(dir.path(), "text", &plaintext);
                let seal = [
                    &["pkeyutl", "-encrypt", "-pubin"],
                    &key_is[..],
                    &["public.der", "-in", "text"],
                    padding(algorithm),
                ];
                let sealed = openssl(dir.path(), &seal.concat());
                assert_eq!(key.decrypt(own, &sealed).unwrap().expose(), plaintext, "{algorithm}");
                opened += 1;
            }
        }
    }
    assert_eq!(opened, 6, "three algorithms of ours, two lengths");
}

#[test]
fn macs_are_openssls() {
    let dir = tempfile::tempdir().unwrap();
    for (&algorithm, len) in MacAlgorithm::ALL.iter().zip([32, 48, 64, 33]) {
        let key = vec![0xC3; len];
        for message in [&b""[..], MESSAGE, &[1; 1000]] {
            write(dir.path(), "message", message);
            let key_is = format!("hexkey:{}", hex::encode(&key));
            let how =
                ["dgst", hash(algorithm.digest()), "-mac", "HMAC", "-macopt", &key_is, "-binary", "message"];
            let ours = MacKey::new(algorithm, &SecretBytes::new(key.clone())).unwrap().mac(message);
            assert_eq!(openssl(dir.path(), &how), ours, "{algorithm}");
        }
    }
}

/// Reads one JSON object of a key and what we made with it; checks it, and writes what it makes.
const PYTHON: &str = r#"
import json, sys
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
given = {name: bytes.fromhex(value) for name, value in json.load(sys.stdin).items()}
key = serialization.load_der_private_key(given["private"], None)
public = serialization.load_der_public_key(given["public"])
assert key.public_key().public_numbers() == public.public_numbers()
made = {}
for name, used in (("SHA_1", hashes.SHA1()), ("SHA_256", hashes.SHA256())):
    oaep = padding.OAEP(padding.MGF1(used), used, None)
    assert key.decrypt(given["RSAES_OAEP_" + name], oaep) == given["message"]
    made["RSAES_OAEP_" + name] = public.encrypt(given["message"], oaep)
for name, used in (("SHA_256", hashes.SHA256()), ("SHA_384", hashes.SHA384()), ("SHA_512", hashes.SHA512())):
    pss = padding.PSS(padding.MGF1(used), used.digest_size)
    public.verify(given["RSA_PSS_" + name], given["message"], pss, used)
    made["RSA_PSS_" + name] = key.sign(given["message"], pss, used)
json.dump({name: value.hex() for name, value in made.items()}, sys.stdout)
"#;

#[test]
fn python_and_we_agree_on_oaep_and_pss() {
    let (pkcs8, spki) = PrivateKey::generate(KeyPairSpec::Rsa2048, &Entropy::system()).unwrap();
    let key = PrivateKey::from_pkcs8(KeyPairSpec::Rsa2048, &pkcs8).unwrap();
    let oaep = [EncryptionAlgorithm::RsaesOaepSha1, EncryptionAlgorithm::RsaesOaepSha256];
    let pss =
        [SigningAlgorithm::RsaPssSha256, SigningAlgorithm::RsaPssSha384, SigningAlgorithm::RsaPssSha512];
    let mut given = serde_json::json!({
        "private": hex::encode(pkcs8.expose()), "public": hex::encode(&spki), "message": hex::encode(MESSAGE),
    });
    for algorithm in oaep {
        let sealed = key.public_key().encrypt(algorithm.into(), MESSAGE, &Entropy::system()).unwrap();
        given[algorithm.name()] = hex::encode(sealed).into();
    }
    for algorithm in pss {
        let digest = key.public_key().digest_of(algorithm, MESSAGE, None).unwrap();
        given[algorithm.name()] =
            hex::encode(key.sign(algorithm, &digest, &Entropy::system()).unwrap()).into();
    }
    let mut python = Command::new("/usr/bin/python3")
        .args(["-c", PYTHON])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let made = |name: &str| hex::decode(made[name].as_str().unwrap()).unwrap();
    for algorithm in oaep {
        assert_eq!(key.decrypt(algorithm, &made(algorithm.name())).unwrap().expose(), MESSAGE);
    }
    for algorithm in pss {
        let digest = key.public_key().digest_of(algorithm, MESSAGE, None).unwrap();
        assert!(key.public_key().verify(algorithm, &digest, &made(algorithm.name())), "{algorithm}");
    }
}
