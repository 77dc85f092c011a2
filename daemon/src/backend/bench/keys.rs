//! What is measured with keys of other specs than AES-256: signatures, MACs, SM4. An
//! operation's name says level, operation and spec.

use claviger_protocol::{Code, KeySpec, SecretBytes, SigningAlgorithm, Suite};

use super::{BenchError, Software};
use crate::backend::hsm::bench::{Pair, Rig};
use crate::backend::hsm::command::ObjectId;
use crate::backend::software::{MacKey, PrivateKey};
use crate::edge::{Edge, Entropy};

/// What an operation of such a key needs.
pub(super) enum Subject {
    Signer(Signer),
    Mac(Mac),
    Sm4(Software),
}

/// What an operation's name asks for; none of the plain ones.
pub(super) fn named(
    name: &str,
    rig: &mut Rig,
    edge: &Edge,
    size: usize,
) -> Result<Option<Subject>, BenchError> {
    if name == "software_encrypt_sm4" {
        return Software::new(Suite::SoftwareSm4, edge.entropy.clone(), size).map(Subject::Sm4).map(Some);
    }
    let spec = |text: &str| text.to_uppercase().parse::<KeySpec>().map_err(|_| unknown());
    if let Some((level, text)) = name.split_once("_sign_") {
        return Signer::new(level, spec(text)?, rig, &edge.entropy).map(Subject::Signer).map(Some);
    }
    if let Some((level, text)) = name.split_once("_mac_") {
        return Mac::new(level, spec(text)?, rig, &edge.entropy).map(Subject::Mac).map(Some);
    }
    Ok(None)
}

fn unknown() -> BenchError {
    BenchError::Software(Code::Internal.into())
}

/// A private key that signs messages: hashed in software at either level, as the daemon does.
pub(super) struct Signer {
    algorithm: SigningAlgorithm,
    /// Hashes, and at SOFTWARE level signs.
    software: PrivateKey,
    token: Option<Pair>,
    entropy: Entropy,
}

impl Signer {
    fn new(level: &str, spec: KeySpec, rig: &Rig, entropy: &Entropy) -> Result<Self, BenchError> {
        let (pair, algorithm) =
            spec.pair().zip(spec.signing_algorithms().first().copied()).ok_or_else(unknown)?;
        let (pkcs8, _) = PrivateKey::generate(pair, entropy).map_err(BenchError::Software)?;
        let software = PrivateKey::from_pkcs8(pair, &pkcs8).map_err(BenchError::Software)?;
        let token = if level == "token" { Some(rig.pair(spec)?) } else { None };
        Ok(Self { algorithm, software, token, entropy: entropy.clone() })
    }

    pub(super) fn sign(&self, rig: &Rig, message: &[u8]) -> Result<(), BenchError> {
        let digest = self.software.public_key().digest_of(self.algorithm, message, None);
        let digest = digest.map_err(BenchError::Software)?;
        match &self.token {
            Some(pair) => Ok(rig.sign(pair, self.algorithm, &digest)?),
            None => {
                let signed = self.software.sign(self.algorithm, &digest, &self.entropy);
                signed.map(drop).map_err(BenchError::Software)
            }
        }
    }
}

/// A key that makes MACs.
pub(super) enum Mac {
    Software(MacKey),
    Token(KeySpec, ObjectId),
}

impl Mac {
    fn new(level: &str, spec: KeySpec, rig: &mut Rig, entropy: &Entropy) -> Result<Self, BenchError> {
        if level == "token" {
            return Ok(Self::Token(spec, rig.mac_key(spec)?));
        }
        let (algorithm, length) = spec.mac_algorithm().zip(spec.secret_len()).ok_or_else(unknown)?;
        let material = SecretBytes::new(entropy.array::<64>()?[..length].to_vec());
        MacKey::new(algorithm, &material).map(Self::Software).map_err(BenchError::Software)
    }

    pub(super) fn make(&self, rig: &mut Rig, message: &SecretBytes) -> Result<(), BenchError> {
        match self {
            Self::Software(key) => drop(key.mac(message.expose())),
            Self::Token(spec, object) => rig.mac(*spec, *object, message)?,
        }
        Ok(())
    }
}
