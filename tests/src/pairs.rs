//! Calls with key pairs, and OpenSSL's command line as their other side.

use std::path::Path;
use std::process::Command;

use claviger_protocol::body::{
    AsymmetricDecryptRequest, AsymmetricEncryptRequest, AsymmetricSignRequest, AsymmetricVerifyRequest,
    CreateKeyRequest, GetPublicKeyRequest,
};
use claviger_protocol::{
    Code, EncryptionAlgorithm, KeySpec, KeyUsage, MessageType, Protection, SecretBytes, SigningAlgorithm,
};
use uuid::Uuid;

use crate::keys::new_key;
use crate::programs::run;
use crate::wire::Wire;

/// Whether neither token of the tests can hold such keys: PKCS#11 has no numbers for SM.
#[must_use]
pub fn software_only(spec: KeySpec) -> bool {
    matches!(spec, KeySpec::Sm2 | KeySpec::Sm4 | KeySpec::HmacSm3)
}

/// A new key; none where the HSM can't hold it, which it must say by name.
#[must_use]
pub fn make(wire: &mut Wire, spec: KeySpec, usage: KeyUsage, level: Protection) -> Option<Uuid> {
    let request = CreateKeyRequest { spec, usage: Some(usage), ..new_key(level) };
    match wire.call(request) {
        Ok(reply) => {
            assert!(level == Protection::Software || !software_only(spec), "{spec} in an HSM without SM");
            Some(reply.key_id)
        }
        Err(refusal) => {
            assert_eq!(refusal.code, Code::UnsupportedByHsm, "{spec}: {}", refusal.message);
            assert!(level == Protection::Hsm && software_only(spec), "{spec}: {}", refusal.message);
            assert!(
                refusal.message.contains(spec.name()) && refusal.message.contains("--protection software")
            );
            None
        }
    }
}

/// A signature of a message, with the only version there is.
#[must_use]
pub fn signing(key: Uuid, algorithm: SigningAlgorithm, message: &[u8]) -> AsymmetricSignRequest {
    AsymmetricSignRequest {
        key: key.into(),
        key_version_id: None,
        algorithm,
        message_type: MessageType::Message,
        message: SecretBytes::new(message.to_vec()),
        user_id: None,
    }
}

/// The check of such a signature.
#[must_use]
pub fn verifying(request: &AsymmetricSignRequest, signature: &[u8]) -> AsymmetricVerifyRequest {
    AsymmetricVerifyRequest {
        key: request.key.clone(),
        key_version_id: request.key_version_id,
        algorithm: request.algorithm,
        message_type: request.message_type,
        message: request.message.clone(),
        signature: signature.to_vec().into(),
        user_id: request.user_id.clone(),
    }
}

/// A pair's public key, SPKI DER.
#[must_use]
pub fn public_key(wire: &mut Wire, key: Uuid) -> Vec<u8> {
    wire.call(GetPublicKeyRequest { key: key.into(), key_version_id: None }).unwrap().public_key.0
}

/// OpenSSL in a directory of its own; whether it succeeded, and what it wrote to stdout.
#[must_use]
pub fn openssl(dir: &Path, args: &[&str]) -> (bool, Vec<u8>) {
    let output = run(Command::new("openssl").current_dir(dir).args(args));
    (output.status.success(), output.stdout)
}

/// A file of these bytes.
pub fn write(dir: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(dir.join(name), bytes).unwrap();
}

/// What AsymmetricEncrypt gives.
#[must_use]
pub fn ciphertext(wire: &mut Wire, key: Uuid, algorithm: EncryptionAlgorithm, plaintext: &[u8]) -> Vec<u8> {
    let plaintext = SecretBytes::new(plaintext.to_vec());
    let request = AsymmetricEncryptRequest { key: key.into(), key_version_id: None, algorithm, plaintext };
    wire.call(request).unwrap().ciphertext.0
}

/// An AsymmetricDecrypt.
#[must_use]
pub fn opening(key: Uuid, algorithm: EncryptionAlgorithm, ciphertext: &[u8]) -> AsymmetricDecryptRequest {
    AsymmetricDecryptRequest {
        key: key.into(),
        key_version_id: None,
        algorithm,
        ciphertext: ciphertext.to_vec().into(),
    }
}

/// OpenSSL's options for an encryption algorithm, beside `pkeyutl`.
#[must_use]
pub const fn padding(algorithm: EncryptionAlgorithm) -> &'static [&'static str] {
    match algorithm {
        EncryptionAlgorithm::RsaesOaepSha1 => {
            &["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha1"]
        }
        EncryptionAlgorithm::RsaesOaepSha256 => {
            &["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256"]
        }
        EncryptionAlgorithm::Sm2Pke => &[],
    }
}
