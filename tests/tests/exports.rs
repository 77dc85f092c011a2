//! Blobs of every suite, and data keys for others: exported to public keys, and as pairs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;

use claviger_protocol::body::{
    DecryptRequest, EncryptRequest, ExportDataKeyRequest, GenerateAndExportDataKeyRequest,
    GenerateDataKeyPairRequest, GenerateDataKeyPairWithoutPlaintextRequest, ReEncryptRequest,
};
use claviger_protocol::{
    BlobRef, Code, DataKeySize, DataKeySpec, EncryptionAlgorithm, EncryptionContext, ExportAlgorithm,
    KeyPairSpec, KeySpec, KeyUsage, Protection, Suite,
};
use claviger_tests::keys::{LEVELS, context, decryption, encryption};
use claviger_tests::on_both_tokens;
use claviger_tests::pairs::{make, openssl, padding, write};

#[test]
fn blobs_of_every_suite_open_and_go_over_into_any_other() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        let mut keys = Vec::new();
        for (spec, level, suite) in [
            (KeySpec::Aes256, Protection::Hsm, Suite::HsmAes256Derived),
            (KeySpec::Aes256, Protection::Software, Suite::SoftwareAes256),
            (KeySpec::Sm4, Protection::Software, Suite::SoftwareSm4),
        ] {
            keys.push((make(&mut wire, spec, KeyUsage::EncryptDecrypt, level).unwrap(), suite));
        }
        assert_eq!(make(&mut wire, KeySpec::Sm4, KeyUsage::EncryptDecrypt, Protection::Hsm), None);
        let bound = context(&[("a", "b")]);
        for (from, suite) in &keys {
            let sealed = wire
                .call(EncryptRequest { context: bound.clone(), ..encryption(*from, b"moves on") })
                .unwrap()
                .ciphertext_blob;
            assert_eq!(BlobRef::parse(&sealed.0).unwrap().suite, *suite);
            for (to, _) in &keys {
                let moved = wire
                    .call(ReEncryptRequest {
                        source_key: Some((*from).into()),
                        ciphertext_blob: sealed.clone(),
                        source_context: bound.clone(),
                        destination_key: (*to).into(),
                        destination_context: EncryptionContext::default(),
                    })
                    .unwrap();
                assert_eq!(moved.key_id, *to);
                let opened = wire.call(decryption(&moved.ciphertext_blob.0)).unwrap();
                assert_eq!(opened.plaintext.expose(), b"moves on");
            }
            assert_eq!(wire.decrypt(&sealed.0), Err(Code::InvalidCiphertext), "its context is missing");
        }
    });
}

/// A pair of OpenSSL's, to give data keys to: its directory has `private.pem`.
fn receiver(dir: &Path, kind: &[&str]) -> Vec<u8> {
    let made = [&["genpkey"][..], kind, &["-out", "private.pem"]].concat();
    assert!(openssl(dir, &made).0);
    let (done, public) = openssl(dir, &["pkey", "-in", "private.pem", "-pubout", "-outform", "DER"]);
    assert!(done);
    public
}

const RSA: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
const SM2: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:SM2"];

#[test]
fn exported_data_keys_are_opened_by_whoever_has_the_private_key() {
    on_both_tokens(|daemon| {
        let (mut admin, mut wire) = (daemon.admin(), daemon.app());
        let dir = tempfile::tempdir().unwrap();
        let key = admin.create(Protection::Hsm);
        for (kind, algorithm, how) in [
            (RSA, ExportAlgorithm::RsaesOaepSha1, padding(EncryptionAlgorithm::RsaesOaepSha1)),
            (RSA, ExportAlgorithm::RsaesOaepSha256, padding(EncryptionAlgorithm::RsaesOaepSha256)),
            (RSA, ExportAlgorithm::RsaesPkcs1V15, &["-pkeyopt", "rsa_padding_mode:pkcs1"]),
            (SM2, ExportAlgorithm::Sm2Pke, &[]),
        ] {
            let public = receiver(dir.path(), kind);
            let made = wire
                .call(GenerateAndExportDataKeyRequest {
                    key: key.into(),
                    size: DataKeySize::Spec(DataKeySpec::Aes256),
                    context: EncryptionContext::default(),
                    public_key: public.clone().into(),
                    algorithm,
                })
                .unwrap();
            let data_key = wire.decrypt(&made.ciphertext_blob.0).unwrap();
            let exported = wire
                .call(ExportDataKeyRequest {
                    key: None,
                    ciphertext_blob: made.ciphertext_blob,
                    context: EncryptionContext::default(),
                    public_key: public.into(),
                    algorithm,
                })
                .unwrap();
            for sealed in [made.exported_data_key.0, exported.exported_data_key.0] {
                write(dir.path(), "sealed", &sealed);
                let open =
                    [&["pkeyutl", "-decrypt", "-inkey", "private.pem", "-in", "sealed"][..], how].concat();
                assert_eq!(openssl(dir.path(), &open), (true, data_key.clone()), "{algorithm}");
            }
        }
    });
}

#[test]
fn nobody_gets_a_data_key_by_a_public_key_that_is_none() {
    on_both_tokens(|daemon| {
        let (mut admin, mut wire) = (daemon.admin(), daemon.app());
        let dir = tempfile::tempdir().unwrap();
        let key = admin.create(Protection::Software);
        let rsa = receiver(dir.path(), RSA);
        let sm2 = receiver(dir.path(), SM2);
        let small = receiver(dir.path(), &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
        let weak =
            ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_pubexp:3"];
        let weak = receiver(dir.path(), &weak);
        let large = receiver(dir.path(), &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:5120"]);
        let p256 = receiver(dir.path(), &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        let mut off = sm2.clone();
        *off.last_mut().unwrap() ^= 1;
        let request = |public_key: &[u8], algorithm, size| GenerateAndExportDataKeyRequest {
            key: key.into(),
            size,
            context: EncryptionContext::default(),
            public_key: public_key.to_vec().into(),
            algorithm,
        };
        let (oaep, sm2pke) = (ExportAlgorithm::RsaesOaepSha256, ExportAlgorithm::Sm2Pke);
        let spec = DataKeySize::Spec(DataKeySpec::Sm4);
        for (public, algorithm, size) in [
            (&rsa[..], sm2pke, spec),
            (&sm2, oaep, spec),
            (&small, oaep, spec),
            (&weak, oaep, spec),
            (&large, oaep, spec),
            (&p256, oaep, spec),
            (&off, sm2pke, spec),
            (&rsa[..rsa.len() - 1], oaep, spec),
            (&[rsa.as_slice(), &[0]].concat(), oaep, spec),
            (&[], oaep, spec),
            (&[0x30; 2000], oaep, spec),
            // Longer than a block of this modulus holds.
            (&rsa, oaep, DataKeySize::Bytes(191)),
        ] {
            let refusal = wire.call(request(public, algorithm, size)).unwrap_err();
            assert_eq!(refusal.code, Code::InvalidArgument, "{}", refusal.message);
        }
        assert!(wire.call(request(&rsa, oaep, DataKeySize::Bytes(190))).is_ok());
    });
}

#[test]
fn data_key_pairs_are_whole_and_come_back() {
    on_both_tokens(|daemon| {
        let (mut admin, mut wire) = (daemon.admin(), daemon.app());
        let dir = tempfile::tempdir().unwrap();
        for (&pair_spec, level) in KeyPairSpec::ALL.iter().zip(LEVELS.into_iter().cycle()) {
            let key = admin.create(level);
            let bound = context(&[("for", "tls")]);
            let pair = wire
                .call(GenerateDataKeyPairRequest { key: key.into(), pair_spec, context: bound.clone() })
                .unwrap();
            write(dir.path(), "private.der", pair.private_key.expose());
            let public = ["pkey", "-inform", "DER", "-in", "private.der", "-pubout", "-outform", "DER"];
            assert_eq!(openssl(dir.path(), &public), (true, pair.public_key.0), "{pair_spec}");
            let open = DecryptRequest { context: bound.clone(), ..decryption(&pair.ciphertext_blob.0) };
            assert_eq!(wire.call(open).unwrap().plaintext, pair.private_key);
            let hidden =
                GenerateDataKeyPairWithoutPlaintextRequest { key: key.into(), pair_spec, context: bound };
            let hidden = wire.call(hidden).unwrap();
            assert!(!hidden.public_key.0.is_empty() && hidden.key_id == key);
        }
    });
}
