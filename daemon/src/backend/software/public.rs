//! Public keys: reading them strictly, checking signatures and encrypting with them.
//!
//! Sources: RFC 8017 (RSA), FIPS 186-5 (ECDSA, key validation), GB/T 32918 (SM2).

use std::sync::OnceLock;

use aws_lc_rs::digest::Digest;
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPublicEncryptingKey,
    Pkcs1PublicEncryptingKey, PublicEncryptingKey,
};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, VerificationAlgorithm,
};
use claviger_protocol::{Code, ExportAlgorithm, KeyPairSpec, KeySpec, SigningAlgorithm};

use super::sm2::{self, Sm2Public};
use super::{digest, internal};
use crate::backend::encoding;
use crate::edge::Entropy;
use crate::failure::Failure;

/// Sizes of RSA moduli that are taken, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// A public key that has passed its checks.
pub struct PublicKey(Kind);

enum Kind {
    Rsa(Box<Rsa>),
    Ec { spec: KeyPairSpec, key: ParsedPublicKey, coordinate: usize },
    Sm2(Box<Sm2Public>),
}

struct Rsa {
    bits: usize,
    /// RSAPublicKey DER.
    der: Vec<u8>,
    encrypting: PublicEncryptingKey,
    /// Parsed once for each algorithm that it is asked for: parsing costs a seventh of a check.
    verifying: [OnceLock<Option<ParsedPublicKey>>; RSA_SIGNING.len()],
}

/// The algorithms that RSA keys sign with, in the order of `Rsa::verifying`.
const RSA_SIGNING: &[SigningAlgorithm] = KeySpec::Rsa2048.signing_algorithms();

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo: RSA of 2,048 to 4,096 bits with an odd exponent of
    /// 65,537 to 2^32, P-256, P-384, or SM2. Points must be on their curve.
    ///
    /// # Errors
    /// `InvalidArgument`, with what is wrong.
    pub fn from_spki(spki: &[u8]) -> Result<Self, Failure> {
        if let Some((spec, point)) = encoding::ec_point(spki) {
            return Self::of_point(spec, point);
        }
        let public = encoding::rsa_public(spki).ok_or_else(|| {
            refused("it isn't the DER SubjectPublicKeyInfo of an RSA, P-256, P-384 or SM2 key")
        })?;
        let bits = bit_length(public.modulus);
        if !RSA_BITS.contains(&bits) {
            return Err(refused("its RSA modulus has not 2048 to 4096 bits"));
        }
        let even = public.exponent.last().is_none_or(|last| last % 2 == 0);
        if even || !(17..=32).contains(&bit_length(public.exponent)) {
            return Err(refused("its RSA exponent isn't an odd number of 65537 to 2^32"));
        }
        let encrypting =
            PublicEncryptingKey::from_der(spki).map_err(|_| refused("its RSA numbers make no key"))?;
        let (der, verifying) = (public.der.to_vec(), Default::default());
        Ok(Self(Kind::Rsa(Box::new(Rsa { bits, der, encrypting, verifying }))))
    }

    fn of_point(spec: KeyPairSpec, point: &[u8]) -> Result<Self, Failure> {
        let off = || refused("its point isn't on the curve");
        let (algorithm, coordinate) = match spec {
            KeyPairSpec::EcP256 => (&ECDSA_P256_SHA256_FIXED, 32),
            KeyPairSpec::EcP384 => (&ECDSA_P384_SHA384_FIXED, 48),
            _ => return Sm2Public::new(point).map(|key| Self(Kind::Sm2(Box::new(key)))).ok_or_else(off),
        };
        let key = ParsedPublicKey::new(algorithm, point).map_err(|_| off())?;
        Ok(Self(Kind::Ec { spec, key, coordinate }))
    }

    /// What kind of key it is; none for RSA of another size than the specs'.
    #[must_use]
    pub fn spec(&self) -> Option<KeyPairSpec> {
        match &self.0 {
            Kind::Rsa(rsa) => match rsa.bits {
                2048 => Some(KeyPairSpec::Rsa2048),
                3072 => Some(KeyPairSpec::Rsa3072),
                4096 => Some(KeyPairSpec::Rsa4096),
                _ => None,
            },
            Kind::Ec { spec, .. } => Some(*spec),
            Kind::Sm2(_) => Some(KeyPairSpec::Sm2),
        }
    }

    /// What is signed of a message. SM2DSA hashes the user id with it, the standard's
    /// default where there is none.
    ///
    /// # Errors
    /// `InvalidArgument` for an algorithm of another kind of key.
    pub fn digest_of(
        &self,
        algorithm: SigningAlgorithm,
        message: &[u8],
        user_id: Option<&[u8]>,
    ) -> Result<Vec<u8>, Failure> {
        match (&self.0, algorithm) {
            (Kind::Sm2(key), SigningAlgorithm::Sm2Dsa) => {
                let user_id = user_id.unwrap_or(sm2::DEFAULT_USER_ID);
                key.digest(user_id, message).ok_or_else(|| refused("the SM2 user id is too long"))
            }
            (Kind::Sm2(_), _) | (_, SigningAlgorithm::Sm2Dsa) => Err(self.unfit(algorithm)),
            _ => Ok(digest(algorithm.digest(), message)),
        }
    }

    /// Whether `signature` is one of `digest`. Everything that isn't, however it is
    /// broken, is just not one.
    #[must_use]
    pub fn verify(&self, algorithm: SigningAlgorithm, digest: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Kind::Sm2(key) => algorithm == SigningAlgorithm::Sm2Dsa && key.verify(digest, signature),
            Kind::Ec { spec, key, coordinate } => {
                let fits = spec.key_spec().signing_algorithms().contains(&algorithm);
                let raw = encoding::ecdsa_from_der(signature, *coordinate).filter(|_| fits);
                let digest = imported(algorithm, digest);
                raw.zip(digest).is_some_and(|(raw, digest)| key.verify_digest_sig(&digest, &raw).is_ok())
            }
            Kind::Rsa(rsa) => {
                let checked = rsa.verifying(algorithm).zip(imported(algorithm, digest));
                checked.is_some_and(|(key, digest)| key.verify_digest_sig(&digest, signature).is_ok())
            }
        }
    }

    /// Bytes that can be encrypted at once; none where the algorithm isn't for such a key.
    #[must_use]
    pub fn max_plaintext(&self, algorithm: ExportAlgorithm) -> Option<usize> {
        let modulus = match (&self.0, algorithm) {
            (Kind::Sm2(_), ExportAlgorithm::Sm2Pke) => return Some(sm2::MAX_PLAINTEXT),
            (Kind::Rsa(rsa), _) => rsa.encrypting.key_size_bytes(),
            _ => return None,
        };
        match algorithm {
            ExportAlgorithm::RsaesOaepSha1 => modulus.checked_sub(2 * 20 + 2),
            ExportAlgorithm::RsaesOaepSha256 => modulus.checked_sub(2 * 32 + 2),
            ExportAlgorithm::RsaesPkcs1V15 => modulus.checked_sub(11),
            ExportAlgorithm::Sm2Pke => None,
        }
    }

    /// Encrypts to the key's owner.
    ///
    /// # Errors
    /// `InvalidArgument` for an algorithm of another kind of key, and SM2's empty
    /// plaintext; `PlaintextTooLarge`.
    pub fn encrypt(
        &self,
        algorithm: ExportAlgorithm,
        plaintext: &[u8],
        entropy: &Entropy,
    ) -> Result<Vec<u8>, Failure> {
        let most = self.max_plaintext(algorithm).ok_or_else(|| self.unfit(algorithm))?;
        if plaintext.len() > most {
            let text = format!("{algorithm} with this key encrypts at most {most} bytes; use a data key");
            return Err(Failure::new(Code::PlaintextTooLarge, text));
        }
        match &self.0 {
            Kind::Sm2(_) if plaintext.is_empty() => {
                Err(Failure::new(Code::InvalidArgument, "SM2PKE encrypts at least one byte"))
            }
            Kind::Sm2(key) => key.encrypt(plaintext, entropy),
            Kind::Rsa(rsa) => rsa.encrypt(algorithm, plaintext),
            Kind::Ec { .. } => Err(self.unfit(algorithm)),
        }
    }

    fn unfit(&self, algorithm: impl std::fmt::Display) -> Failure {
        let kind = self.spec().map_or("an RSA", KeyPairSpec::name);
        Failure::new(Code::InvalidArgument, format!("{algorithm} isn't for {kind} keys"))
    }
}

impl Rsa {
    /// The key, ready to check signatures of an algorithm.
    fn verifying(&self, algorithm: SigningAlgorithm) -> Option<&ParsedPublicKey> {
        let index = RSA_SIGNING.iter().position(|&known| known == algorithm)?;
        let parse = || ParsedPublicKey::new(verification(algorithm)?, &self.der).ok();
        self.verifying[index].get_or_init(parse).as_ref()
    }

    fn encrypt(&self, algorithm: ExportAlgorithm, plaintext: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut out = vec![0; self.encrypting.key_size_bytes()];
        let oaep = |hash: &'static OaepAlgorithm, out: &mut [u8]| {
            let key = OaepPublicEncryptingKey::new(self.encrypting.clone())?;
            key.encrypt(hash, plaintext, out, None).map(|written| written.len())
        };
        let written = match algorithm {
            ExportAlgorithm::RsaesOaepSha1 => oaep(&OAEP_SHA1_MGF1SHA1, &mut out),
            ExportAlgorithm::RsaesOaepSha256 => oaep(&OAEP_SHA256_MGF1SHA256, &mut out),
            ExportAlgorithm::RsaesPkcs1V15 | ExportAlgorithm::Sm2Pke => {
                Pkcs1PublicEncryptingKey::new(self.encrypting.clone())
                    .and_then(|key| key.encrypt(plaintext, &mut out).map(|written| written.len()))
            }
        };
        out.truncate(written.map_err(|_| internal())?);
        Ok(out)
    }
}

/// A digest as the library has it; none of a wrong length, or SM3's.
pub(super) fn imported(algorithm: SigningAlgorithm, digest: &[u8]) -> Option<Digest> {
    use aws_lc_rs::digest::{SHA256, SHA384, SHA512};
    use claviger_protocol::DigestAlgorithm;
    let hash = match algorithm.digest() {
        DigestAlgorithm::Sha256 => &SHA256,
        DigestAlgorithm::Sha384 => &SHA384,
        DigestAlgorithm::Sha512 => &SHA512,
        DigestAlgorithm::Sm3 => return None,
    };
    Digest::import_less_safe(digest, hash).ok()
}

fn verification(algorithm: SigningAlgorithm) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match algorithm {
        SigningAlgorithm::RsaPssSha256 => &RSA_PSS_2048_8192_SHA256,
        SigningAlgorithm::RsaPssSha384 => &RSA_PSS_2048_8192_SHA384,
        SigningAlgorithm::RsaPssSha512 => &RSA_PSS_2048_8192_SHA512,
        SigningAlgorithm::RsaPkcs1Sha256 => &RSA_PKCS1_2048_8192_SHA256,
        SigningAlgorithm::RsaPkcs1Sha384 => &RSA_PKCS1_2048_8192_SHA384,
        SigningAlgorithm::RsaPkcs1Sha512 => &RSA_PKCS1_2048_8192_SHA512,
        SigningAlgorithm::EcdsaSha256 | SigningAlgorithm::EcdsaSha384 | SigningAlgorithm::Sm2Dsa => {
            return None;
        }
    })
}

fn bit_length(number: &[u8]) -> usize {
    match number.iter().position(|byte| *byte != 0) {
        None => 0,
        Some(zeros) => (number.len() - zeros) * 8 - number[zeros].leading_zeros() as usize,
    }
}

fn refused(why: &'static str) -> Failure {
    Failure::new(Code::InvalidArgument, format!("the public key can't be used: {why}"))
}
