//! Envelopes that an independent implementation made (`tests/oracle/wrap_material.py`), opened
//! in memory; and everything that must not open.

use std::path::Path;
use std::process::Command;

use super::*;
use crate::backend::software::{PrivateKey, PublicKey, UnwrappingKey, import_value};
use crate::edge::Entropy;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/oracle/wrap_material.py");
const RSA: [ImportAlgorithm; 4] = [
    ImportAlgorithm::RsaesPkcs1V15,
    ImportAlgorithm::RsaesOaepSha1,
    ImportAlgorithm::RsaesOaepSha256,
    ImportAlgorithm::RsaAesKeyWrapSha256,
];

fn run(program: &str, dir: &Path, args: &[&str]) -> Vec<u8> {
    let output = Command::new(program).current_dir(dir).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A wrapping key in memory, its public half in `public.der`.
struct Rig {
    dir: tempfile::TempDir,
    spec: WrappingKeySpec,
    key: UnwrappingKey,
    public: Vec<u8>,
}

impl Rig {
    fn new(spec: WrappingKeySpec) -> Self {
        let pair = KeyPairSpec::from_number(spec.number()).unwrap();
        let (pkcs8, public) = PrivateKey::generate(pair, &Entropy::system()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("public.der"), &public).unwrap();
        Self { dir, spec, key: UnwrappingKey::from_pkcs8(spec, &pkcs8).unwrap(), public }
    }

    /// What the oracle makes of some material: its one part, or two.
    fn wrap(
        &self,
        algorithm: ImportAlgorithm,
        kind: &str,
        material: &[u8],
        two: bool,
        more: &[&str],
    ) -> (Vec<u8>, Option<Vec<u8>>) {
        let dir = self.dir.path();
        std::fs::write(dir.join("material"), material).unwrap();
        let mut args = vec!["-B", SCRIPT, "public.der", algorithm.name(), "material", "out", "--kind", kind];
        args.extend(more);
        if two {
            args.extend(["--ephemeral", "ephemeral"]);
        }
        run("/usr/bin/python3", dir, &args);
        let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
        (read("out"), two.then(|| read("ephemeral")))
    }

    fn open(
        &self,
        spec: KeySpec,
        algorithm: ImportAlgorithm,
        (material, ephemeral): (Vec<u8>, Option<Vec<u8>>),
    ) -> Result<Material, Wrong> {
        let envelope = Envelope::new(spec, self.spec, algorithm, material, ephemeral).unwrap();
        let opened = envelope.block().and_then(|block| self.key.open(algorithm, block).ok_or(Wrong));
        envelope.finish(opened)
    }
}

fn secret(bytes: &[u8]) -> Material {
    Material::Secret(SecretBytes::new(bytes.to_vec()))
}

/// A pair of OpenSSL's: PKCS#8 and SPKI.
fn theirs(dir: &Path, spec: KeyPairSpec) -> (Vec<u8>, Vec<u8>) {
    let how = match spec {
        KeyPairSpec::EcP256 => ["EC", "ec_paramgen_curve:P-256"],
        KeyPairSpec::EcP384 => ["EC", "ec_paramgen_curve:P-384"],
        KeyPairSpec::Sm2 => ["EC", "ec_paramgen_curve:SM2"],
        _ => ["RSA", "rsa_keygen_bits:2048"],
    };
    run("openssl", dir, &["genpkey", "-algorithm", how[0], "-pkeyopt", how[1], "-out", "private.pem"]);
    let pkcs8 = ["pkcs8", "-topk8", "-nocrypt", "-in", "private.pem", "-outform", "DER"];
    let spki = ["pkey", "-in", "private.pem", "-pubout", "-outform", "DER"];
    (run("openssl", dir, &pkcs8), run("openssl", dir, &spki))
}

#[test]
fn every_layout_opens() {
    let rsa = Rig::new(WrappingKeySpec::Rsa2048);
    for algorithm in RSA {
        for (spec, lengths) in [
            (KeySpec::Aes256, &[32][..]),
            (KeySpec::Sm4, &[16]),
            (KeySpec::Hmac256, &[32, 33, 64]),
            (KeySpec::Hmac512, &[32, 64]),
        ] {
            for length in lengths {
                let bytes: Vec<u8> = (1..=*length).collect();
                let sent = rsa.wrap(algorithm, "secret", &bytes, false, &[]);
                assert_eq!(rsa.open(spec, algorithm, sent), Ok(secret(&bytes)), "{algorithm} {spec}");
            }
        }
        let two = algorithm != ImportAlgorithm::RsaAesKeyWrapSha256;
        for pair in [KeyPairSpec::Rsa2048, KeyPairSpec::EcP256, KeyPairSpec::EcP384, KeyPairSpec::Sm2] {
            let (pkcs8, spki) = theirs(rsa.dir.path(), pair);
            let sent = rsa.wrap(algorithm, "pkcs8", &pkcs8, two, &[]);
            let opened = rsa.open(pair.key_spec(), algorithm, sent).unwrap();
            let Material::Pair { pkcs8, public_key } = opened else { panic!("{opened:?}") };
            assert_eq!(public_key, spki);
            let public = PrivateKey::from_pkcs8(pair, &pkcs8).unwrap();
            assert_eq!(public.public_key().spec(), PublicKey::from_spki(&spki).unwrap().spec());
        }
    }
    let sm2 = Rig::new(WrappingKeySpec::Sm2);
    let algorithm = ImportAlgorithm::Sm2Pke;
    for (spec, length) in [(KeySpec::Aes256, 32), (KeySpec::Sm4, 16), (KeySpec::HmacSm3, 40)] {
        let bytes: Vec<u8> = (1..=length).collect();
        let sent = sm2.wrap(algorithm, "secret", &bytes, false, &[]);
        assert_eq!(sm2.open(spec, algorithm, sent), Ok(secret(&bytes)));
    }
    let (pkcs8, spki) = theirs(sm2.dir.path(), KeyPairSpec::Sm2);
    let scalar = &pkcs8[36..68];
    for (two, more) in [
        (true, &[][..]),
        (false, &[]),
        (false, &["--oid", "ecb"]),
        (false, &["--no-null"]),
        (false, &["--oid", "ecb", "--no-null"]),
    ] {
        let sent = sm2.wrap(algorithm, "scalar", scalar, two, more);
        let opened = sm2.open(KeySpec::Sm2, algorithm, sent);
        let public_key = spki.clone();
        assert_eq!(opened, Ok(Material::Pair { pkcs8: SecretBytes::new(pkcs8.clone()), public_key }));
    }
}

#[test]
fn layouts_that_are_none_are_refused_before_anything_is_opened() {
    use ImportAlgorithm as A;
    use WrappingKeySpec as W;
    let refused = |spec, wrapping, algorithm, length: usize, two: bool| {
        let sent = (vec![1; length], two.then(|| vec![1; 256]));
        let failure = Envelope::new(spec, wrapping, algorithm, sent.0, sent.1).unwrap_err();
        assert_eq!(failure.code, Code::InvalidArgument, "{failure}");
        failure.message.into_owned()
    };
    for algorithm in RSA {
        refused(KeySpec::Sm4, W::Sm2, algorithm, 256, false);
        assert!(check(KeySpec::Sm4, W::Sm2, algorithm).is_err());
    }
    for wrapping in [W::Rsa2048, W::Rsa3072, W::Rsa4096] {
        refused(KeySpec::Sm4, wrapping, A::Sm2Pke, 256, false);
        refused(KeySpec::Aes256, wrapping, A::RsaesOaepSha1, 255, false);
        refused(KeySpec::Aes256, wrapping, A::RsaesOaepSha1, 256, true);
        refused(KeySpec::EcP256, wrapping, A::RsaesOaepSha1, 256, false);
        refused(KeySpec::EcP256, wrapping, A::RsaAesKeyWrapSha256, 600, true);
        refused(KeySpec::Aes256, wrapping, A::RsaAesKeyWrapSha256, 256, false);
        assert!(check(KeySpec::EcP256, wrapping, A::RsaesOaepSha1).is_ok());
        assert!(check(KeySpec::EcP256, wrapping, A::RsaAesKeyWrapSha256).is_ok());
    }
    for spec in [KeySpec::Rsa2048, KeySpec::EcP256, KeySpec::EcP384] {
        refused(spec, W::Sm2, A::Sm2Pke, 200, false);
        refused(spec, W::Sm2, A::Sm2Pke, 200, true);
        assert!(check(spec, W::Sm2, A::Sm2Pke).is_err());
    }
    refused(KeySpec::Sm4, W::Sm2, A::Sm2Pke, 200, true);
    refused(KeySpec::Sm4, W::Sm2, A::Sm2Pke, MAX_PART + 1, false);
    let two = refused(KeySpec::Rsa2048, W::Rsa2048, A::RsaesPkcs1V15, 256, false);
    assert!(two.contains("two parts"), "{two}");
}

/// Whatever is inside that isn't the material: one error.
#[test]
fn what_is_wrong_inside_is_all_one() {
    let rsa = Rig::new(WrappingKeySpec::Rsa2048);
    let public = PublicKey::from_spki(&rsa.public).unwrap();
    let export = claviger_protocol::ExportAlgorithm::RsaesOaepSha256;
    let pkcs1 = claviger_protocol::ExportAlgorithm::RsaesPkcs1V15;
    let block = |how, text: &[u8]| public.encrypt(how, text, &Entropy::system()).unwrap();
    for (spec, length) in [
        (KeySpec::Aes256, 31),
        (KeySpec::Aes256, 33),
        (KeySpec::Sm4, 32),
        (KeySpec::Hmac512, 31),
        (KeySpec::Hmac256, 65),
    ] {
        let algorithm = ImportAlgorithm::RsaesOaepSha256;
        assert_eq!(rsa.open(spec, algorithm, (block(export, &vec![1; length]), None)), Err(Wrong));
        let wrong_padding = (block(pkcs1, &[1; 32]), None);
        assert_eq!(rsa.open(spec, algorithm, wrong_padding), Err(Wrong), "another padding");
        assert_eq!(rsa.open(spec, algorithm, (vec![0xFF; 256], None)), Err(Wrong), "no number of it");
        assert_eq!(rsa.open(spec, ImportAlgorithm::RsaesPkcs1V15, (vec![1; 256], None)), Err(Wrong));
    }
    let dir = rsa.dir.path().to_owned();
    let (p256, _) = theirs(&dir, KeyPairSpec::EcP256);
    let (rsa_2048, _) = theirs(&dir, KeyPairSpec::Rsa2048);
    let (sm2, _) = theirs(&dir, KeyPairSpec::Sm2);
    let algorithm = ImportAlgorithm::RsaesOaepSha1;
    let trailing = |der: &[u8]| [der, &[0]].concat();
    for (spec, inside) in [
        (KeySpec::EcP384, p256.clone()),
        (KeySpec::Sm2, p256.clone()),
        (KeySpec::EcP256, sm2.clone()),
        (KeySpec::EcP256, rsa_2048.clone()),
        (KeySpec::Rsa3072, rsa_2048.clone()),
        (KeySpec::EcP256, trailing(&p256)),
        (KeySpec::Sm2, trailing(&sm2)),
        (KeySpec::Rsa2048, trailing(&rsa_2048)),
        (KeySpec::EcP256, p256[..100].to_vec()),
        (KeySpec::Rsa2048, vec![0; 32]),
        (KeySpec::Sm2, sm2[36..68].to_vec()),
    ] {
        let (material, ephemeral) = rsa.wrap(algorithm, "pkcs8", &inside, true, &[]);
        let sent = (material.clone(), ephemeral.clone());
        assert_eq!(rsa.open(spec, algorithm, sent), Err(Wrong), "{spec}");
        // A flipped bit of either part, and a key of another length in the block.
        let mut flipped = material.clone();
        flipped[9] ^= 1;
        assert_eq!(rsa.open(spec, algorithm, (flipped, ephemeral.clone())), Err(Wrong));
        let oaep = claviger_protocol::ExportAlgorithm::RsaesOaepSha1;
        let short = Some(block(oaep, &[7; 16]));
        assert_eq!(rsa.open(spec, algorithm, (material, short)), Err(Wrong));
    }
}

#[test]
fn broken_sm2_envelopes_are_wrong_like_all_others() {
    let sm2 = Rig::new(WrappingKeySpec::Sm2);
    let algorithm = ImportAlgorithm::Sm2Pke;
    let (pkcs8, _) = theirs(sm2.dir.path(), KeyPairSpec::Sm2);
    let (good, _) = sm2.wrap(algorithm, "scalar", &pkcs8[36..68], false, &[]);
    assert!(sm2.open(KeySpec::Sm2, algorithm, (good.clone(), None)).is_ok());
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(sm2.open(KeySpec::Sm2, algorithm, (bad, None)), Err(Wrong), "byte {at}");
        assert_eq!(sm2.open(KeySpec::Sm2, algorithm, (good[..at].to_vec(), None)), Err(Wrong), "{at} bytes");
    }
    let (scalar, ephemeral) = sm2.wrap(algorithm, "scalar", &pkcs8[36..68], true, &[]);
    for cut in [0, 16, 31] {
        let sent = (scalar[..cut].to_vec(), ephemeral.clone());
        assert_eq!(sm2.open(KeySpec::Sm2, algorithm, sent), Err(Wrong));
    }
    let order = hex::decode("fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123").unwrap();
    let mut before = order.clone();
    before[31] -= 1;
    for scalar in [vec![0; 32], order, before] {
        assert_eq!(software::sm2_pair(&scalar), None);
    }
}

/// SM2's PKCS#8 in the forms of others: without a point, with the curve named twice, and what is
/// none of them.
#[test]
fn sm2_pkcs8_is_read_in_each_of_its_forms() {
    let read = |der: &[u8]| software::read_pair(KeyPairSpec::Sm2, &SecretBytes::new(der.to_vec()));
    let dir = tempfile::tempdir().unwrap();
    let (own, spki) = theirs(dir.path(), KeyPairSpec::Sm2);
    let kept = (SecretBytes::new(own.clone()), spki.clone());
    let (scalar, point) = (&own[36..68], &own[74..]);
    let curve = [0x06, 0x08, 0x2A, 0x81, 0x1C, 0xCF, 0x55, 0x01, 0x82, 0x2D];
    let p256 = [0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
    let item = |tag: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).unwrap();
        let long = if length < 128 { vec![length] } else { vec![0x81, length] };
        [&[tag][..], &long, content].concat()
    };
    let public = |point: &[u8]| item(0xA1, &item(3, &[&[0, 4][..], point].concat()));
    let whole = |version: u8, oid: &[u8], parts: &[&[u8]]| {
        let algorithm = item(0x30, &[&own[8..17], oid].concat());
        let key = item(0x30, &[&[2, 1, 1][..], &item(4, scalar), &parts.concat()].concat());
        item(0x30, &[&[2, 1, version][..], &algorithm, &item(4, &key)].concat())
    };
    assert_eq!(whole(0, &curve, &[&public(point)]), own, "OpenSSL's form");
    let named = item(0xA0, &curve);
    for parts in [&[&public(point)[..]][..], &[], &[&named], &[&named, &public(point)]] {
        assert_eq!(read(&whole(0, &curve, parts)).as_ref(), Some(&kept));
    }
    let mut other = point.to_vec();
    other[63] ^= 1;
    for wrong in [
        whole(2, &curve, &[]),
        whole(0, &p256, &[]),
        whole(0, &curve, &[&item(0xA0, &p256)]),
        whole(0, &curve, &[&public(&other)]),
        whole(0, &curve, &[&public(point), &named]),
        whole(0, &curve, &[&[5, 0]]),
        [whole(0, &curve, &[]), vec![0]].concat(),
    ] {
        assert_eq!(read(&wrong), None, "{wrong:02x?}");
    }
}

/// RFC 5958's optional fields: attributes are passed over, a public key must be the private key's.
#[test]
fn pkcs8_may_have_attributes_and_a_public_key_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    for spec in [KeyPairSpec::EcP256, KeyPairSpec::EcP384, KeyPairSpec::Sm2, KeyPairSpec::Rsa2048] {
        let (own, spki) = theirs(dir.path(), spec);
        let read = |der: Vec<u8>| software::read_pair(spec, &SecretBytes::new(der)).map(|(_, spki)| spki);
        let bits = crate::backend::encoding::public_bits(&spki).unwrap();
        // Version, algorithm and key: what is behind the outer header.
        let head = if own[1] & 0x80 == 0 { 2 } else { 2 + usize::from(own[1] & 0x7F) };
        let item = |tag: u8, content: &[u8]| {
            let length = u16::try_from(content.len()).unwrap().to_be_bytes();
            let long = match content.len() {
                ..128 => vec![length[1]],
                128..256 => vec![0x81, length[1]],
                _ => vec![0x82, length[0], length[1]],
            };
            [&[tag][..], &long, content].concat()
        };
        let with = |version: u8, more: &[Vec<u8>]| {
            let mut inside = own[head..].to_vec();
            inside[2] = version;
            item(0x30, &[inside, more.concat()].concat())
        };
        assert_eq!(with(0, &[]), own);
        let attributes = item(0xA0, &[0x30, 0]);
        let public = |bits: &[u8]| item(0x81, &[&[0], bits].concat());
        for good in [
            with(0, std::slice::from_ref(&attributes)),
            with(1, &[]),
            with(1, &[public(bits)]),
            with(1, &[attributes.clone(), public(bits)]),
        ] {
            assert_eq!(read(good).as_ref(), Some(&spki), "{spec}");
        }
        let mut other = bits.to_vec();
        *other.last_mut().unwrap() ^= 1;
        for bad in [
            with(0, &[public(bits)]),
            with(1, &[public(&other)]),
            with(1, &[public(bits), attributes.clone()]),
            with(2, &[]),
            with(0, &[vec![5, 0]]),
        ] {
            assert_eq!(read(bad), None, "{spec}");
        }
    }
}

/// OpenSSL computes the same: CMAC and HMAC by `openssl mac`, SM4 by `openssl enc`.
#[test]
fn what_tells_materials_apart_is_openssls_too() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("label"), LABEL).unwrap();
    std::fs::write(dir.path().join("blocks"), BLOCKS).unwrap();
    for spec in [
        KeySpec::Aes256,
        KeySpec::Sm4,
        KeySpec::Hmac256,
        KeySpec::Hmac384,
        KeySpec::Hmac512,
        KeySpec::HmacSm3,
    ] {
        let bytes: Vec<u8> = (0x40..).take(spec.secret_len().unwrap()).collect();
        let (key, hash) = (hex::encode(&bytes), spec.mac_algorithm().map(|mac| mac.digest().name()));
        let named = format!("hexkey:{key}");
        let digest = hash.map(|name| name.replace('_', "-"));
        let args: &[&str] = match (spec, &digest) {
            (KeySpec::Sm4, _) => &["enc", "-sm4-ecb", "-K", &key, "-nopad", "-in", "blocks"],
            (_, Some(digest)) => {
                &["mac", "-digest", digest, "-macopt", &named, "-in", "label", "-binary", "HMAC"]
            }
            _ => &["mac", "-cipher", "AES-256-CBC", "-macopt", &named, "-in", "label", "-binary", "CMAC"],
        };
        let theirs = run("openssl", dir.path(), args);
        let value = import_value(spec, &SecretBytes::new(bytes)).unwrap();
        assert_eq!(value.expose(), theirs, "{spec}");
    }
}
