//! Bringing key material, as its owner does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use claviger_protocol::body::{
    CreateKeyRequest, DeleteKeyMaterialReply, DeleteKeyMaterialRequest, GenerateMacRequest,
    GetParametersForImportReply, GetParametersForImportRequest, ImportKeyMaterialReply,
    ImportKeyMaterialRequest,
};
use claviger_protocol::{
    Code, ImportAlgorithm, KeyOrigin, KeySpec, KeyUsage, Protection, SecretBytes, WrappingKeySpec,
};
use uuid::Uuid;

use crate::keys::{client_token, new_key};
use crate::pairs::openssl;
use crate::programs::tool;
use crate::wire::{Refusal, Wire};

/// The independent implementation of the layouts.
#[must_use]
pub fn oracle() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/wrap_material.py")
}

/// What an owner has encrypted: material, and the ephemeral key of two parts.
pub type Parts = (Vec<u8>, Option<Vec<u8>>);

/// What the oracle makes of material in `dir`; `kind` is secret, pkcs8 or scalar.
#[must_use]
pub fn wrap(
    dir: &Path,
    public_key: &[u8],
    algorithm: ImportAlgorithm,
    kind: &str,
    material: &[u8],
    two_parts: bool,
) -> Parts {
    std::fs::write(dir.join("wrapping.der"), public_key).unwrap();
    std::fs::write(dir.join("material"), material).unwrap();
    let mut python = Command::new("/usr/bin/python3");
    python.current_dir(dir).arg("-B").arg(oracle());
    python.args(["wrapping.der", algorithm.name(), "material", "out", "--kind", kind]);
    if two_parts {
        python.args(["--ephemeral", "ephemeral"]);
    }
    tool(&mut python);
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    (read("out"), two_parts.then(|| read("ephemeral")))
}

/// An import with a client token of its own.
#[must_use]
pub fn request(key: Uuid, token: &[u8], parts: Parts, expires_at: Option<i64>) -> ImportKeyMaterialRequest {
    ImportKeyMaterialRequest {
        client_token: client_token(),
        key: key.into(),
        encrypted_material: parts.0.into(),
        encrypted_ephemeral_key: parts.1.unwrap_or_default().into(),
        token: token.to_vec().into(),
        expires_at,
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A MAC of `message`.
pub fn mac(wire: &mut Wire, key: Uuid) -> Result<Vec<u8>, Code> {
    let message = SecretBytes::new(b"message".to_vec());
    let made = wire.call(GenerateMacRequest { key: key.into(), algorithm: None, message });
    made.map(|made| made.mac.0).map_err(|refusal| refusal.code)
}

/// A pair of OpenSSL's, in `p.pem`: PKCS#8 and SPKI.
#[must_use]
pub fn theirs(dir: &Path, spec: KeySpec) -> (Vec<u8>, Vec<u8>) {
    let how = match spec {
        KeySpec::EcP256 => ["EC", "ec_paramgen_curve:P-256"],
        KeySpec::EcP384 => ["EC", "ec_paramgen_curve:P-384"],
        KeySpec::Sm2 => ["EC", "ec_paramgen_curve:SM2"],
        KeySpec::Rsa3072 => ["RSA", "rsa_keygen_bits:3072"],
        _ => ["RSA", "rsa_keygen_bits:2048"],
    };
    assert!(openssl(dir, &["genpkey", "-algorithm", how[0], "-pkeyopt", how[1], "-out", "p.pem"]).0);
    let pkcs8 = openssl(dir, &["pkcs8", "-topk8", "-nocrypt", "-in", "p.pem", "-outform", "DER"]).1;
    (pkcs8, openssl(dir, &["pkey", "-in", "p.pem", "-pubout", "-outform", "DER"]).1)
}

impl Wire {
    /// Makes a key that awaits its material.
    pub fn create_external(
        &mut self,
        spec: KeySpec,
        usage: Option<KeyUsage>,
        protection: Protection,
    ) -> Result<Uuid, Refusal> {
        let origin = KeyOrigin::External;
        self.call(CreateKeyRequest { spec, usage, origin, ..new_key(protection) }).map(|made| made.key_id)
    }

    /// Asks for import parameters.
    pub fn import_parameters(
        &mut self,
        key: Uuid,
        wrapping_spec: WrappingKeySpec,
        algorithm: ImportAlgorithm,
    ) -> Result<GetParametersForImportReply, Refusal> {
        self.call(GetParametersForImportRequest { key: key.into(), wrapping_spec, algorithm })
    }

    /// Brings a secret by RSAES-OAEP with SHA-256 to a new RSA-2048 wrapping key.
    pub fn import_secret(
        &mut self,
        dir: &Path,
        key: Uuid,
        secret: &[u8],
        expires_at: Option<i64>,
    ) -> Result<ImportKeyMaterialReply, Refusal> {
        let algorithm = ImportAlgorithm::RsaesOaepSha256;
        let given = self.import_parameters(key, WrappingKeySpec::Rsa2048, algorithm)?;
        let parts = wrap(dir, &given.public_key.0, algorithm, "secret", secret, false);
        self.call(request(key, &given.token.0, parts, expires_at))
    }

    /// Destroys imported material.
    pub fn delete_material(&mut self, key: Uuid) -> Result<DeleteKeyMaterialReply, Refusal> {
        self.call(DeleteKeyMaterialRequest { key: key.into() })
    }
}
