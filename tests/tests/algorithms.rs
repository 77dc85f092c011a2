//! Every key spec and every operation with it, on both tokens and at both levels, with
//! OpenSSL's command line as the other side.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use claviger_protocol::body::{
    AsymmetricSignReply, AsymmetricSignRequest, CreateKeyRequest, GenerateMacRequest, GetPublicKeyRequest,
    MessageDigestRequest, VerifyMacRequest,
};
use claviger_protocol::{
    Code, DigestAlgorithm, EncryptionAlgorithm, KeySpec, KeyUsage, MacAlgorithm, MessageType, Protection,
    SecretBytes, SigningAlgorithm,
};
use claviger_tests::keys::{LEVELS, encryption, new_key};
use claviger_tests::pairs::{
    ciphertext, make, opening, openssl, padding, public_key, signing, verifying, write,
};
use claviger_tests::{Site, Wire, each_token, on_both_tokens};
use uuid::Uuid;

const PAIRS: [KeySpec; 6] =
    [KeySpec::Rsa2048, KeySpec::Rsa3072, KeySpec::Rsa4096, KeySpec::EcP256, KeySpec::EcP384, KeySpec::Sm2];

/// OpenSSL's options for an algorithm, beside `dgst -verify` or `-sign`.
fn options(algorithm: SigningAlgorithm) -> Vec<&'static str> {
    let hash = match algorithm.digest() {
        DigestAlgorithm::Sha256 => "-sha256",
        DigestAlgorithm::Sha384 => "-sha384",
        DigestAlgorithm::Sha512 => "-sha512",
        DigestAlgorithm::Sm3 => "-sm3",
    };
    let mut out = vec![hash];
    if algorithm.name().contains("PSS") {
        out.extend(["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"]);
    }
    if algorithm == SigningAlgorithm::Sm2Dsa {
        out.extend(["-sigopt", "distid:1234567812345678"]);
    }
    out
}

#[test]
fn signatures_of_every_pair_are_openssls_too_and_nothing_else_verifies() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.app();
        let dir = tempfile::tempdir().unwrap();
        for (spec, level) in PAIRS.iter().flat_map(|spec| LEVELS.map(|level| (*spec, level))) {
            let Some(key) = make(&mut daemon.admin(), spec, KeyUsage::SignVerify, level) else { continue };
            write(dir.path(), "public.der", &public_key(&mut wire, key));
            write(dir.path(), "message", b"a message");
            for &algorithm in spec.signing_algorithms() {
                let request = signing(key, algorithm, b"a message");
                let AsymmetricSignReply { key_id, signature, key_version_id } =
                    wire.call(request.clone()).unwrap();
                assert_eq!(key_id, key);
                write(dir.path(), "signature", &signature.0);
                let how = options(algorithm);
                let check = [
                    &["dgst", "-keyform", "DER", "-verify", "public.der", "-signature", "signature"][..],
                    &how,
                    &["message"],
                ];
                assert!(openssl(dir.path(), &check.concat()).0, "{spec} {level} {algorithm}");
                let reply = wire.call(verifying(&request, &signature.0)).unwrap();
                assert!(reply.valid && reply.key_version_id == key_version_id);
                nothing_else_verifies(&mut wire, &request, &signature.0);
            }
        }
    });
}

/// Another message, digest in the place of message, flipped bits, cuts, garbage: false, and no error.
fn nothing_else_verifies(wire: &mut Wire, request: &AsymmetricSignRequest, signature: &[u8]) {
    let mut other = request.clone();
    other.message = SecretBytes::new(b"another message".to_vec());
    assert!(!wire.call(verifying(&other, signature)).unwrap().valid);
    let mut broken: Vec<Vec<u8>> = [0, signature.len() / 2, signature.len() - 1]
        .iter()
        .map(|at| {
            let mut flipped = signature.to_vec();
            flipped[*at] ^= 1;
            flipped
        })
        .collect();
    broken.extend([vec![], vec![0; 300], signature[1..].to_vec(), [signature, &[0]].concat()]);
    for signature in broken {
        assert!(!wire.call(verifying(request, &signature)).unwrap().valid, "{}", request.algorithm);
    }
}

#[test]
fn a_digest_signs_like_its_message_and_only_in_its_length() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.app();
        for (spec, level) in [KeySpec::Rsa2048, KeySpec::EcP256, KeySpec::EcP384]
            .iter()
            .flat_map(|spec| LEVELS.map(|l| (*spec, l)))
        {
            let key = make(&mut daemon.admin(), spec, KeyUsage::SignVerify, level).unwrap();
            let algorithm = spec.signing_algorithms()[0];
            let digest = wire
                .call(MessageDigestRequest {
                    algorithm: algorithm.digest(),
                    message: SecretBytes::new(b"m".to_vec()),
                })
                .unwrap()
                .digest
                .0;
            let by_digest = AsymmetricSignRequest {
                message_type: MessageType::Digest,
                message: SecretBytes::new(digest.clone()),
                ..signing(key, algorithm, b"")
            };
            let signature = wire.call(by_digest.clone()).unwrap().signature.0;
            assert!(wire.call(verifying(&signing(key, algorithm, b"m"), &signature)).unwrap().valid);
            for len in [0, digest.len() - 1, digest.len() + 1] {
                let short =
                    AsymmetricSignRequest { message: SecretBytes::new(vec![1; len]), ..by_digest.clone() };
                assert_eq!(wire.call(short.clone()).unwrap_err().code, Code::InvalidArgument);
                assert_eq!(wire.call(verifying(&short, &signature)).unwrap_err().code, Code::InvalidArgument);
            }
        }
    });
}

#[test]
fn an_sm2_user_id_is_the_keys_or_the_calls() {
    on_both_tokens(|daemon| {
        let (mut admin, mut wire) = (daemon.admin(), daemon.app());
        let own = CreateKeyRequest {
            spec: KeySpec::Sm2,
            sm2_user_id: Some(b"ALICE123@YAHOO.COM".to_vec().into()),
            ..new_key(Protection::Software)
        };
        let key = admin.call(own).unwrap().key_id;
        let plain = make(&mut admin, KeySpec::Sm2, KeyUsage::SignVerify, Protection::Software).unwrap();
        assert_eq!(admin.describe(key).sm2_user_id.unwrap().0, b"ALICE123@YAHOO.COM");
        assert_eq!(admin.describe(plain).sm2_user_id.unwrap().0, b"1234567812345678");
        assert_eq!(admin.describe(key).primary_version_id, None, "pairs have no primary version");
        let request = signing(key, SigningAlgorithm::Sm2Dsa, b"m");
        let named = AsymmetricSignRequest { user_id: Some(b"other".to_vec().into()), ..request.clone() };
        let spelled =
            AsymmetricSignRequest { user_id: Some(b"ALICE123@YAHOO.COM".to_vec().into()), ..request.clone() };
        let (by_key, by_call) =
            (wire.call(request.clone()).unwrap().signature.0, wire.call(named.clone()).unwrap().signature.0);
        assert!(wire.call(verifying(&spelled, &by_key)).unwrap().valid);
        assert!(!wire.call(verifying(&named, &by_key)).unwrap().valid);
        assert!(wire.call(verifying(&named, &by_call)).unwrap().valid);
        assert!(!wire.call(verifying(&request, &by_call)).unwrap().valid);
        // With the digest, or with another algorithm, an id would have no effect: refused.
        let digest = AsymmetricSignRequest {
            message_type: MessageType::Digest,
            message: SecretBytes::new(vec![1; 32]),
            ..named
        };
        assert_eq!(wire.call(digest).unwrap_err().code, Code::InvalidArgument);
        let encrypts = CreateKeyRequest {
            spec: KeySpec::Sm2,
            usage: Some(KeyUsage::EncryptDecrypt),
            sm2_user_id: Some(b"x".to_vec().into()),
            ..new_key(Protection::Software)
        };
        assert_eq!(admin.call(encrypts).unwrap_err().code, Code::InvalidArgument);
    });
}

#[test]
fn what_is_encrypted_to_a_pair_opens_there_alone() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.app();
        let dir = tempfile::tempdir().unwrap();
        let specs = [KeySpec::Rsa2048, KeySpec::Rsa3072, KeySpec::Rsa4096, KeySpec::Sm2];
        for (spec, level) in specs.iter().flat_map(|spec| LEVELS.map(|level| (*spec, level))) {
            let Some(key) = make(&mut daemon.admin(), spec, KeyUsage::EncryptDecrypt, level) else {
                continue;
            };
            write(dir.path(), "public.der", &public_key(&mut wire, key));
            write(dir.path(), "text", b"to the pair");
            for &algorithm in spec.encryption_algorithms() {
                let sealed = ciphertext(&mut wire, key, algorithm, b"to the pair");
                let opened = wire.call(opening(key, algorithm, &sealed)).unwrap();
                assert_eq!((opened.plaintext.expose(), opened.key_id), (&b"to the pair"[..], key));
                let theirs = [
                    &[
                        "pkeyutl",
                        "-encrypt",
                        "-pubin",
                        "-keyform",
                        "DER",
                        "-inkey",
                        "public.der",
                        "-in",
                        "text",
                    ][..],
                    padding(algorithm),
                ];
                let (done, sealed_there) = openssl(dir.path(), &theirs.concat());
                assert!(done, "{spec} {algorithm}");
                let opened = wire.call(opening(key, algorithm, &sealed_there)).unwrap();
                assert_eq!(opened.plaintext.expose(), b"to the pair", "{spec} {level} {algorithm}");
                one_refusal(&mut wire, key, algorithm, &sealed);
            }
        }
    });
}

/// However a ciphertext is broken, the answer is the same.
fn one_refusal(wire: &mut Wire, key: Uuid, algorithm: EncryptionAlgorithm, sealed: &[u8]) {
    let mut broken: Vec<Vec<u8>> = (0..sealed.len())
        .step_by(sealed.len() / 8)
        .map(|at| {
            let mut flipped = sealed.to_vec();
            flipped[at] ^= 0x10;
            flipped
        })
        .collect();
    broken.extend([vec![], vec![0; sealed.len()], vec![0xFF; sealed.len()], sealed[1..].to_vec()]);
    broken.push([sealed, &[0]].concat());
    let mut refusals = Vec::new();
    for ciphertext in broken {
        refusals.push(wire.call(opening(key, algorithm, &ciphertext)).unwrap_err());
    }
    refusals.dedup_by(|a, b| (a.code, &a.message) == (b.code, &b.message));
    assert_eq!(refusals.len(), 1, "{algorithm}: {refusals:?}");
    assert_eq!(refusals[0].code, Code::InvalidCiphertext);
}

#[test]
fn macs_of_both_levels_verify_whole_or_not_at_all() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.app();
        let specs = [KeySpec::Hmac256, KeySpec::Hmac384, KeySpec::Hmac512, KeySpec::HmacSm3];
        for (spec, level) in specs.iter().flat_map(|spec| LEVELS.map(|level| (*spec, level))) {
            let Some(key) = make(&mut daemon.admin(), spec, KeyUsage::GenerateVerifyMac, level) else {
                continue;
            };
            for message in [&b""[..], b"m", &vec![7; 100_000]] {
                let message = SecretBytes::new(message.to_vec());
                let made = wire
                    .call(GenerateMacRequest { key: key.into(), algorithm: None, message: message.clone() })
                    .unwrap();
                assert_eq!(made.mac.0.len(), spec.mac_algorithm().unwrap().digest().len());
                let request = |mac: &[u8], key_version_id| VerifyMacRequest {
                    key: key.into(),
                    key_version_id,
                    algorithm: spec.mac_algorithm(),
                    message: message.clone(),
                    mac: mac.to_vec().into(),
                };
                assert!(wire.call(request(&made.mac.0, None)).unwrap().valid);
                assert!(wire.call(request(&made.mac.0, Some(made.key_version_id))).unwrap().valid);
                let mut flipped = made.mac.0.clone();
                flipped[0] ^= 1;
                for wrong in [&flipped[..], &made.mac.0[1..], &[], &[made.mac.0.as_slice(), &[0]].concat()] {
                    assert!(!wire.call(request(wrong, None)).unwrap().valid);
                }
                let other = wire.call(request(&made.mac.0, Some(Uuid::from_u128(1)))).unwrap_err();
                assert_eq!(other.code, Code::NotFound);
            }
            let other = MacAlgorithm::ALL.iter().find(|other| Some(**other) != spec.mac_algorithm());
            let message = SecretBytes::new(vec![]);
            let wrong = GenerateMacRequest { key: key.into(), algorithm: other.copied(), message };
            assert_eq!(wire.call(wrong).unwrap_err().code, Code::InvalidArgument);
        }
    });
}

#[test]
fn digests_are_openssls() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.app();
        let dir = tempfile::tempdir().unwrap();
        for message in [&b""[..], b"abc", &vec![9; 500_000]] {
            write(dir.path(), "message", message);
            for &algorithm in DigestAlgorithm::ALL {
                let hash = algorithm.name().to_lowercase().replace('_', "");
                let (done, theirs) =
                    openssl(dir.path(), &["dgst", &format!("-{hash}"), "-binary", "message"]);
                let message = SecretBytes::new(message.to_vec());
                let ours = wire.call(MessageDigestRequest { algorithm, message }).unwrap().digest.0;
                assert!(done && ours == theirs, "{algorithm}");
            }
        }
    });
}

#[test]
fn a_key_is_for_its_usage_and_its_algorithms_alone() {
    on_both_tokens(|daemon| {
        let (mut admin, mut wire) = (daemon.admin(), daemon.app());
        for level in LEVELS {
            let signs = make(&mut admin, KeySpec::Rsa2048, KeyUsage::SignVerify, level).unwrap();
            let opens = make(&mut admin, KeySpec::Rsa2048, KeyUsage::EncryptDecrypt, level).unwrap();
            let curve = make(&mut admin, KeySpec::EcP256, KeyUsage::SignVerify, level).unwrap();
            let mac = make(&mut admin, KeySpec::Hmac256, KeyUsage::GenerateVerifyMac, level).unwrap();
            let secret = admin.create(level);
            let pss = SigningAlgorithm::RsaPssSha256;
            for key in [opens, mac, secret] {
                assert_eq!(wire.call(signing(key, pss, b"m")).unwrap_err().code, Code::InvalidKeyUsage);
            }
            let oaep = EncryptionAlgorithm::RsaesOaepSha1;
            for key in [signs, curve, mac, secret] {
                let refusal = wire.call(opening(key, oaep, &[0; 256])).unwrap_err();
                assert_eq!(refusal.code, Code::InvalidKeyUsage);
            }
            for key in [signs, opens, curve, mac] {
                assert_eq!(wire.call(encryption(key, b"m")).unwrap_err().code, Code::InvalidKeyUsage);
            }
            for algorithm in [SigningAlgorithm::EcdsaSha256, SigningAlgorithm::Sm2Dsa] {
                assert_eq!(
                    wire.call(signing(signs, algorithm, b"m")).unwrap_err().code,
                    Code::InvalidArgument
                );
            }
            let other = SigningAlgorithm::EcdsaSha384;
            assert_eq!(wire.call(signing(curve, other, b"m")).unwrap_err().code, Code::InvalidArgument);
            let foreign = AsymmetricSignRequest {
                key_version_id: Some(Uuid::from_u128(5)),
                ..signing(signs, pss, b"m")
            };
            assert_eq!(wire.call(foreign).unwrap_err().code, Code::NotFound);
            let of_another =
                wire.call(GetPublicKeyRequest { key: opens.into(), key_version_id: None }).unwrap();
            let foreign = AsymmetricSignRequest {
                key_version_id: Some(of_another.key_version_id),
                ..signing(signs, pss, b"m")
            };
            assert_eq!(wire.call(foreign).unwrap_err().code, Code::NotFound, "another key's version");
            let secret = GetPublicKeyRequest { key: secret.into(), key_version_id: None };
            assert_eq!(wire.call(secret).unwrap_err().code, Code::InvalidKeyUsage);
            admin.switch(signs, false);
            assert_eq!(wire.call(signing(signs, pss, b"m")).unwrap_err().code, Code::InvalidKeyState);
            let public = GetPublicKeyRequest { key: signs.into(), key_version_id: None };
            assert_eq!(wire.call(public).unwrap_err().code, Code::InvalidKeyState);
        }
    });
}

#[test]
fn keys_of_every_kind_work_after_a_restart() {
    for token in each_token() {
        let site = Site::new(token);
        let daemon = site.start();
        let (mut made, mut wire) = (Vec::new(), daemon.admin());
        for (&spec, level) in KeySpec::ALL.iter().flat_map(|spec| LEVELS.map(|level| (spec, level))) {
            for &usage in spec.usages() {
                made.extend(make(&mut wire, spec, usage, level).map(|key| (key, spec, usage)));
            }
        }
        let signed: Vec<_> = made
            .iter()
            .filter(|(_, _, usage)| *usage == KeyUsage::SignVerify)
            .map(|(key, spec, _)| {
                let request = signing(*key, spec.signing_algorithms()[0], b"before");
                let signature = wire.call(request.clone()).unwrap().signature.0;
                (request, signature)
            })
            .collect();
        drop(wire);
        daemon.terminate();
        let daemon = site.start();
        let mut wire = daemon.admin();
        for (request, signature) in signed {
            assert!(wire.call(verifying(&request, &signature)).unwrap().valid);
            assert!(wire.call(request).is_ok());
        }
        for (key, spec, usage) in made {
            match usage {
                KeyUsage::SignVerify => {}
                KeyUsage::GenerateVerifyMac => {
                    let message = SecretBytes::new(b"m".to_vec());
                    assert!(
                        wire.call(GenerateMacRequest { key: key.into(), algorithm: None, message }).is_ok()
                    );
                }
                KeyUsage::EncryptDecrypt if spec.pair().is_none() => {
                    let sealed = wire.encrypt(key, b"m");
                    assert_eq!(wire.decrypt(&sealed), Ok(b"m".to_vec()));
                }
                KeyUsage::EncryptDecrypt => {
                    let algorithm = spec.encryption_algorithms()[0];
                    let sealed = ciphertext(&mut wire, key, algorithm, b"m");
                    let opened = wire.call(opening(key, algorithm, &sealed)).unwrap();
                    assert_eq!(opened.plaintext.expose(), b"m", "{spec}");
                }
            }
        }
        daemon.terminate();
    }
}
