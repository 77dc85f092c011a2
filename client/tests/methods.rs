//! Each method asks for what its name says, with what it was given.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod support;

use claviger_client::{Error, Options, blocking, signing, verification};
use claviger_protocol::body::{ExportDataKeyRequest, GenerateAndExportDataKeyRequest};
use claviger_protocol::{
    Code, DataKeySize, DigestAlgorithm, EncryptionAlgorithm, EncryptionContext, ExportAlgorithm, KeyPairSpec,
    KeyRef, MessageType, Request, SecretBytes, SigningAlgorithm,
};
use support::OnThread;
use uuid::Uuid;

const VERSION: Uuid = Uuid::from_u128(7);

fn key() -> KeyRef {
    KeyRef::Alias("alias/k".into())
}

fn secret(text: &str) -> SecretBytes {
    SecretBytes::new(text.as_bytes().to_vec())
}

/// What is asked, for a refusal to carry it back.
fn asked(request: Request) -> String {
    match request {
        Request::AsymmetricSign(r) => {
            format!("sign {} {} {:?} {:?}", r.key, r.algorithm, r.message_type, r.message.expose())
        }
        Request::AsymmetricVerify(r) => {
            format!(
                "verify {} {} {:?} {:?}",
                r.algorithm,
                r.message_type,
                r.signature.0,
                r.user_id.unwrap().0
            )
        }
        Request::AsymmetricEncrypt(r) => {
            format!("encrypt {:?} {} {:?}", r.key_version_id, r.algorithm, r.plaintext.expose())
        }
        Request::AsymmetricDecrypt(r) => {
            format!("decrypt {:?} {} {:?}", r.key_version_id, r.algorithm, r.ciphertext.0)
        }
        Request::GetPublicKey(r) => format!("public key {:?}", r.key_version_id),
        Request::GenerateMac(r) => format!("mac {:?} {:?}", r.algorithm, r.message.expose()),
        Request::VerifyMac(r) => format!("verify mac {:?} {:?}", r.key_version_id, r.mac.0),
        Request::MessageDigest(r) => format!("digest {} {:?}", r.algorithm, r.message.expose()),
        Request::GenerateDataKeyPair(r) => format!("pair {} {}", r.key, r.pair_spec),
        Request::GenerateDataKeyPairWithoutPlaintext(r) => format!("wrapped pair {}", r.pair_spec),
        Request::ExportDataKey(r) => format!("export {:?} {}", r.ciphertext_blob.0, r.algorithm),
        Request::GenerateAndExportDataKey(r) => format!("make and export {}", r.size.len()),
        other => format!("{:?}", other.opcode()),
    }
}

fn said<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result.unwrap_err() {
        Error::Refused { code: Code::NotAvailable, message, .. } => message,
        other => panic!("{other}"),
    }
}

#[test]
fn methods_of_key_pairs_and_macs_send_what_they_are_given() {
    let daemon = OnThread::run(|fake| async move {
        let mut peer = fake.accept().await;
        while let Some((header, request)) = peer.next_request().await {
            peer.refuse(&header, Code::NotAvailable, &asked(request), 0).await;
        }
    });
    let client = blocking::Client::connect(daemon.path(), Options::default()).unwrap();
    let none = EncryptionContext::default;
    let mut sign = signing(key(), SigningAlgorithm::Sm2Dsa, secret("m"));
    assert_eq!(said(client.sign(sign.clone())), "sign alias/k SM2DSA Message [109]");
    sign.message_type = MessageType::Digest;
    sign.user_id = Some(vec![1].into());
    let verify = verification(sign, vec![5]);
    assert_eq!(said(client.verify(verify)), "verify SM2DSA DIGEST [5] [1]");
    let oaep = EncryptionAlgorithm::RsaesOaepSha256;
    let encrypted = client.asymmetric_encrypt(key(), Some(VERSION), oaep, secret("p"));
    assert_eq!(said(encrypted), format!("encrypt {:?} RSAES_OAEP_SHA_256 [112]", Some(VERSION)));
    let decrypted = client.asymmetric_decrypt(key(), None, EncryptionAlgorithm::Sm2Pke, vec![6]);
    assert_eq!(said(decrypted), "decrypt None SM2PKE [6]");
    assert_eq!(said(client.public_key(key(), None)), "public key None");
    assert_eq!(said(client.mac(key(), secret("m"))), "mac None [109]");
    let checked = client.verify_mac(key(), Some(VERSION), secret("m"), vec![8]);
    assert_eq!(said(checked), format!("verify mac {:?} [8]", Some(VERSION)));
    assert_eq!(said(client.digest(DigestAlgorithm::Sm3, secret("m"))), "digest SM3 [109]");
    let pair = client.generate_data_key_pair(key(), KeyPairSpec::Sm2, none());
    assert_eq!(said(pair), "pair alias/k SM2");
    let wrapped = client.generate_data_key_pair_without_plaintext(key(), KeyPairSpec::EcP384, none());
    assert_eq!(said(wrapped), "wrapped pair EC_P384");
    let export = ExportDataKeyRequest {
        key: None,
        ciphertext_blob: vec![9].into(),
        context: none(),
        public_key: vec![1].into(),
        algorithm: ExportAlgorithm::RsaesPkcs1V15,
    };
    assert_eq!(said(client.export_data_key(export)), "export [9] RSAES_PKCS1_V1_5");
    let export = GenerateAndExportDataKeyRequest {
        key: key(),
        size: DataKeySize::Bytes(24),
        context: none(),
        public_key: vec![1].into(),
        algorithm: ExportAlgorithm::Sm2Pke,
    };
    assert_eq!(said(client.generate_and_export_data_key(export)), "make and export 24");
    drop(client);
    daemon.join();
}
