//! Imported material over the wire, on both tokens: tokens that are another key's, altered or worn
//! out, material that is wrong or another, and how it goes and comes back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use claviger_protocol::body::{DecryptRequest, ImportKeyMaterialRequest, ListKeyVersionsRequest};
use claviger_protocol::secret::Bytes;
use claviger_protocol::{Code, ImportAlgorithm, KeySpec, KeyState, Protection, WrappingKeySpec};
use claviger_tests::imports::{Parts, mac, now, request, theirs, wrap};
use claviger_tests::keys::{LEVELS, decryption};
use claviger_tests::{Site, Token, Wire, each_token, eventually, on_both_tokens};

const RSA: [ImportAlgorithm; 4] = [
    ImportAlgorithm::RsaesPkcs1V15,
    ImportAlgorithm::RsaesOaepSha1,
    ImportAlgorithm::RsaesOaepSha256,
    ImportAlgorithm::RsaAesKeyWrapSha256,
];
const RSA_2048: WrappingKeySpec = WrappingKeySpec::Rsa2048;

#[test]
fn a_token_is_the_keys_own_and_wears_out() {
    for token in each_token() {
        let site = Site::new(token);
        let mut daemon = site.start();
        for level in LEVELS {
            let dir = tempfile::tempdir().unwrap();
            let mut wire = daemon.admin();
            let [one, other] = [0, 1].map(|_| wire.create_external(KeySpec::Aes256, None, level).unwrap());
            let algorithm = ImportAlgorithm::RsaesOaepSha1;
            let given = wire.import_parameters(one, RSA_2048, algorithm).unwrap();
            let good = wrap(dir.path(), &given.public_key.0, algorithm, "secret", &[1; 32], false);
            let try_it = |wire: &mut Wire, key, token: &[u8], parts: Parts| {
                wire.call(request(key, token, parts, None)).map(|done| done.state).map_err(|r| r.code)
            };
            let token = given.token.0;
            let invalid = Err(Code::InvalidImportToken);
            assert_eq!(try_it(&mut wire, other, &token, good.clone()), invalid, "another key's");
            for at in [0, 15, 16, token.len() - 1] {
                let mut altered = token.clone();
                altered[at] ^= 1;
                assert_eq!(try_it(&mut wire, one, &altered, good.clone()), invalid, "byte {at}");
            }
            for cut in [&token[..0], &token[..16], &token[..token.len() - 1]] {
                assert_eq!(try_it(&mut wire, one, cut, good.clone()), invalid);
            }
            // None of these was a try. Seven that fail, and a restart, leave one.
            let garbage: Parts = (vec![0x42; 256], None);
            for _ in 0..7 {
                assert_eq!(try_it(&mut wire, one, &token, garbage.clone()), Err(Code::InvalidMaterial));
            }
            daemon.kill9();
            daemon = site.start();
            wire = daemon.admin();
            assert_eq!(try_it(&mut wire, one, &token, good.clone()), Ok(KeyState::Enabled));
            assert_eq!(try_it(&mut wire, one, &token, good.clone()), Ok(KeyState::Enabled), "again");
            assert_eq!(try_it(&mut wire, one, &token, garbage.clone()), Err(Code::InvalidMaterial));
            assert_eq!(try_it(&mut wire, one, &token, good.clone()), invalid, "worn out");
            daemon.kill9();
            daemon = site.start();
            wire = daemon.admin();
            assert_eq!(try_it(&mut wire, one, &token, good), invalid, "for good");
            // New parameters serve, and the key is as it was.
            assert_eq!(wire.describe(one).state, KeyState::Enabled);
            assert!(wire.import_secret(dir.path(), one, &[1; 32], None).is_ok());
        }
        daemon.terminate();
    }
}

#[test]
fn whatever_is_wrong_with_material_is_one_answer() {
    on_both_tokens(|daemon| {
        let dir = tempfile::tempdir().unwrap();
        let mut wire = daemon.admin();
        let mut messages = std::collections::BTreeSet::new();
        for level in LEVELS {
            for algorithm in RSA {
                let joined = algorithm == ImportAlgorithm::RsaAesKeyWrapSha256;
                let key = wire.create_external(KeySpec::Aes256, None, level).unwrap();
                let given = wire.import_parameters(key, RSA_2048, algorithm).unwrap();
                let public = given.public_key.0;
                let secret = |bytes: &[u8]| wrap(dir.path(), &public, algorithm, "secret", bytes, false);
                let mut flipped = secret(&[1; 32]);
                flipped.0[100] ^= 1;
                let mut garbage = secret(&[1; 32]);
                garbage.0[..256].fill(0x42);
                let mut two = secret(&[1; 32]);
                two.1 = Some(two.0.clone());
                let cut = (secret(&[1; 32]).0[..255].to_vec(), None);
                let wrong =
                    [secret(&[1; 31]), secret(&[1; 33]), flipped, garbage, two, cut, secret(&[1; 16])];
                for (n, parts) in wrong.into_iter().enumerate() {
                    let refusal = wire.call(request(key, &given.token.0, parts, None)).unwrap_err();
                    assert_eq!(refusal.code, Code::InvalidMaterial, "{level} {algorithm}, {n}");
                    messages.insert(refusal.message);
                }
                let pair = wire.create_external(KeySpec::EcP256, None, level).unwrap();
                let given = wire.import_parameters(pair, RSA_2048, algorithm).unwrap();
                for spec in [KeySpec::EcP384, KeySpec::Rsa2048] {
                    let (pkcs8, _) = theirs(dir.path(), spec);
                    let parts = wrap(dir.path(), &given.public_key.0, algorithm, "pkcs8", &pkcs8, !joined);
                    let refusal = wire.call(request(pair, &given.token.0, parts, None)).unwrap_err();
                    assert_eq!(refusal.code, Code::InvalidMaterial, "{level} {algorithm} {spec}");
                    messages.insert(refusal.message);
                }
                for left in [key, pair] {
                    assert_eq!(wire.describe(left).state, KeyState::PendingImport);
                }
            }
        }
        assert_eq!(messages.len(), 1, "{messages:?}");
    });
}

#[test]
fn ways_that_are_none_get_no_parameters() {
    let daemon = Site::new(Token::Embedded).start();
    let mut wire = daemon.admin();
    for level in LEVELS {
        let aes = wire.create_external(KeySpec::Aes256, None, level).unwrap();
        let p256 = wire.create_external(KeySpec::EcP256, None, level).unwrap();
        for (key, wrapping, algorithm) in [
            (aes, WrappingKeySpec::Sm2, ImportAlgorithm::RsaesOaepSha1),
            (aes, RSA_2048, ImportAlgorithm::Sm2Pke),
            (p256, WrappingKeySpec::Sm2, ImportAlgorithm::Sm2Pke),
        ] {
            let refusal = wire.import_parameters(key, wrapping, algorithm).unwrap_err();
            assert_eq!(refusal.code, Code::InvalidArgument, "{refusal:?}");
        }
        let made_here = wire.create(level);
        let refusal = wire.import_parameters(made_here, RSA_2048, RSA[0]).unwrap_err();
        assert_eq!(refusal.code, Code::UnsupportedByKey, "{refusal:?}");
        let refusal = wire.call(request(made_here, &[1; 48], (vec![1; 256], None), None)).unwrap_err();
        assert_eq!(refusal.code, Code::UnsupportedByKey, "{refusal:?}");
        assert_eq!(wire.delete_material(made_here).unwrap_err().code, Code::UnsupportedByKey);
    }
    daemon.terminate();
}

#[test]
fn material_goes_and_comes_back_and_no_other_takes_its_place() {
    for token in each_token() {
        let site = Site::new(token);
        let mut daemon = site.start();
        for level in LEVELS {
            let dir = tempfile::tempdir().unwrap();
            let mut wire = daemon.admin();
            let (spec, usage) = (KeySpec::Aes256, None);
            let key = wire.create_external(spec, usage, level).unwrap();
            let first = wire.import_secret(dir.path(), key, &[1; 32], None).unwrap();
            let blob = wire.encrypt(key, b"before");
            let mismatch = |wire: &mut Wire| {
                let refused = wire.import_secret(dir.path(), key, &[2; 32], None);
                assert_eq!(refused.unwrap_err().code, Code::MaterialMismatch);
            };
            mismatch(&mut wire);
            for disabled in [false, true] {
                if disabled {
                    wire.switch(key, false);
                }
                assert_eq!(wire.delete_material(key).unwrap().state, KeyState::PendingImport);
                assert_eq!(wire.decrypt(&blob), Err(Code::InvalidKeyState));
                assert_eq!(wire.delete_material(key).unwrap_err().code, Code::InvalidKeyState);
                mismatch(&mut wire);
                daemon.kill9();
                daemon = site.start();
                wire = daemon.admin();
                mismatch(&mut wire);
                let back = wire.import_secret(dir.path(), key, &[1; 32], None).unwrap();
                let before = if disabled { KeyState::Disabled } else { KeyState::Enabled };
                assert_eq!((back.state, back.key_version_id), (before, first.key_version_id));
                if disabled {
                    wire.switch(key, true);
                }
                assert_eq!(wire.decrypt(&blob), Ok(b"before".to_vec()));
            }
            let request = ListKeyVersionsRequest { key: key.into(), limit: 0, page: Bytes::default() };
            assert_eq!(wire.call(request).unwrap().versions.len(), 1);
            // The same material under another key opens nothing of this one's.
            let other = wire.create_external(spec, usage, level).unwrap();
            wire.import_secret(dir.path(), other, &[1; 32], None).unwrap();
            let foreign = decryption(&blob);
            let foreign = DecryptRequest { key: Some(other.into()), ..foreign };
            assert!(wire.call(foreign).is_err());
        }
        daemon.terminate();
    }
}

#[test]
fn material_expires_and_importing_it_again_gives_it_another_end() {
    on_both_tokens(|daemon| {
        let dir = tempfile::tempdir().unwrap();
        let mut wire = daemon.admin();
        for level in LEVELS {
            let key = wire.create_external(KeySpec::Hmac256, None, level).unwrap();
            let given = wire.import_parameters(key, RSA_2048, RSA[2]).unwrap();
            let parts = wrap(dir.path(), &given.public_key.0, RSA[2], "secret", &[1; 32], false);
            let until = |wire: &mut Wire, at| wire.call(request(key, &given.token.0, parts.clone(), at));
            assert_eq!(until(&mut wire, Some(now() - 1)).unwrap_err().code, Code::InvalidArgument);
            let at = now() + 3_000;
            assert_eq!(until(&mut wire, Some(at)).unwrap().material_expires_at, Some(at));
            assert!(mac(&mut wire, key).is_ok());
            eventually("the material expires", || {
                (wire.describe(key).state == KeyState::PendingImport).then_some(())
            });
            // In time: within a second, and a moment for asking.
            assert!((0..2_500).contains(&(now() - at)), "{} ms after", now() - at);
            assert_eq!(mac(&mut wire, key), Err(Code::InvalidKeyState));
            assert_eq!(wire.describe(key).material_expires_at, None);
            // An end that is taken off again.
            let soon = now() + 3_000;
            until(&mut wire, Some(soon)).unwrap();
            assert_eq!(until(&mut wire, None).unwrap().material_expires_at, None);
            std::thread::sleep(Duration::from_millis(u64::try_from(soon - now()).unwrap_or(0) + 2_200));
            assert!(mac(&mut wire, key).is_ok());
        }
        let pair = wire.create_external(KeySpec::EcP256, None, Protection::Hsm).unwrap();
        let algorithm = RSA[1];
        let given = wire.import_parameters(pair, RSA_2048, algorithm).unwrap();
        let (pkcs8, _) = theirs(dir.path(), KeySpec::EcP256);
        let parts = wrap(dir.path(), &given.public_key.0, algorithm, "pkcs8", &pkcs8, true);
        let ending = request(pair, &given.token.0, parts.clone(), Some(now() + 60_000));
        assert_eq!(wire.call(ending).unwrap_err().code, Code::InvalidArgument);
        wire.call(request(pair, &given.token.0, parts, None)).unwrap();
        assert_eq!(wire.delete_material(pair).unwrap_err().code, Code::UnsupportedByKey);
    });
}

#[test]
fn the_same_client_token_imports_once() {
    on_both_tokens(|daemon| {
        let dir = tempfile::tempdir().unwrap();
        let mut wire = daemon.admin();
        let key = wire.create_external(KeySpec::Aes256, None, Protection::Hsm).unwrap();
        let algorithm = ImportAlgorithm::RsaesOaepSha1;
        let given = wire.import_parameters(key, RSA_2048, algorithm).unwrap();
        let parts = wrap(dir.path(), &given.public_key.0, algorithm, "secret", &[1; 32], false);
        let request = request(key, &given.token.0, parts, None);
        let first = wire.call(request.clone()).unwrap();
        assert_eq!(wire.call(request.clone()).unwrap(), first);
        wire.delete_material(key).unwrap();
        // What it first did: the material isn't brought a second time.
        let later = wire.call(request.clone()).unwrap();
        assert_eq!((later.key_version_id, later.state), (first.key_version_id, KeyState::PendingImport));
        let other = ImportKeyMaterialRequest { expires_at: Some(now() + 60_000), ..request };
        assert_eq!(wire.call(other).unwrap_err().code, Code::ClientTokenReused);
    });
}
