//! Private keys in the daemon's memory.
//!
//! Sources: PKCS#8, RFC 5208; RFC 8017 (RSA), FIPS 186-5 (ECDSA), GB/T 32918 (SM2).

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{
    KeyPair as RsaKeyPair, KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey,
    PrivateDecryptingKey,
};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding,
};
use claviger_protocol::{Code, EncryptionAlgorithm, KeyPairSpec, SecretBytes, SigningAlgorithm};
use der::Decode;
use der::asn1::AnyRef;
use zeroize::Zeroizing;

use super::internal;
use super::public::{PublicKey, imported};
use super::sm2::Sm2Private;
use crate::backend::encoding;
use crate::edge::Entropy;
use crate::failure::Failure;

/// A private key in the clear; wiped when dropped.
pub struct PrivateKey {
    kind: Kind,
    spec: KeyPairSpec,
    public: PublicKey,
}

enum Kind {
    Rsa(Box<Rsa>),
    Ec(EcdsaKeyPair),
    Sm2(Box<Sm2Private>),
}

struct Rsa {
    signing: RsaKeyPair,
    decrypting: OaepPrivateDecryptingKey,
}

impl PrivateKey {
    /// A new pair: the private key as PKCS#8 (version 0) DER, the public one as
    /// SubjectPublicKeyInfo DER. RSA takes up to seconds.
    ///
    /// # Errors
    /// The generator or the library failed.
    pub fn generate(spec: KeyPairSpec, entropy: &Entropy) -> Result<(SecretBytes, Vec<u8>), Failure> {
        let rsa = |size| {
            let pair = RsaKeyPair::generate(size).map_err(|_| internal())?;
            let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| internal())?;
            let spki = encoding::rsa_spki_of(pair.public_key().as_ref()).ok_or_else(internal)?;
            Ok((SecretBytes::new(der.as_ref().to_vec()), spki))
        };
        match spec {
            KeyPairSpec::Rsa2048 => rsa(KeySize::Rsa2048),
            KeyPairSpec::Rsa3072 => rsa(KeySize::Rsa3072),
            KeyPairSpec::Rsa4096 => rsa(KeySize::Rsa4096),
            KeyPairSpec::EcP256 => ec(spec, &ECDSA_P256_SHA256_FIXED_SIGNING),
            KeyPairSpec::EcP384 => ec(spec, &ECDSA_P384_SHA384_FIXED_SIGNING),
            KeyPairSpec::Sm2 => Sm2Private::generate(entropy),
        }
    }

    /// Reads what [`PrivateKey::generate`] makes, and what others write of the same kind: the
    /// library checks that the numbers make a key.
    ///
    /// # Errors
    /// `Internal`: another kind or size of key, or no key at all.
    pub fn from_pkcs8(spec: KeyPairSpec, pkcs8: &SecretBytes) -> Result<Self, Failure> {
        let wrong = || Failure::new(Code::Internal, format!("the material is no {spec} key"));
        let der = pkcs8.expose();
        // The library reads one element and leaves what stands behind it.
        AnyRef::from_der(der).map_err(|_| wrong())?;
        let (kind, spki) = match spec {
            KeyPairSpec::Sm2 => {
                let (key, spki) = Sm2Private::from_pkcs8(der).ok_or_else(wrong)?;
                (Kind::Sm2(Box::new(key)), spki)
            }
            KeyPairSpec::EcP256 | KeyPairSpec::EcP384 => {
                let algorithm: &'static EcdsaSigningAlgorithm = if spec == KeyPairSpec::EcP256 {
                    &ECDSA_P256_SHA256_FIXED_SIGNING
                } else {
                    &ECDSA_P384_SHA384_FIXED_SIGNING
                };
                let pair = EcdsaKeyPair::from_pkcs8(algorithm, der).map_err(|_| wrong())?;
                let spki = encoding::ec_spki(spec, pair.public_key().as_ref()).ok_or_else(wrong)?;
                (Kind::Ec(pair), spki)
            }
            KeyPairSpec::Rsa2048 | KeyPairSpec::Rsa3072 | KeyPairSpec::Rsa4096 => {
                let signing = RsaKeyPair::from_pkcs8(der).map_err(|_| wrong())?;
                let decrypting = PrivateDecryptingKey::from_pkcs8(der).map_err(|_| wrong())?;
                let decrypting = OaepPrivateDecryptingKey::new(decrypting).map_err(|_| wrong())?;
                let spki = encoding::rsa_spki_of(signing.public_key().as_ref()).ok_or_else(wrong)?;
                (Kind::Rsa(Box::new(Rsa { signing, decrypting })), spki)
            }
        };
        let public = PublicKey::from_spki(&spki).map_err(|_| wrong())?;
        if public.spec() == Some(spec) { Ok(Self { kind, spec, public }) } else { Err(wrong()) }
    }

    /// Its public half.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a digest: RSA as is, ECDSA and SM2 as DER (r, s).
    ///
    /// # Errors
    /// `InvalidArgument` for an algorithm of another kind of key, and a digest of another
    /// length than its hash has.
    pub fn sign(
        &self,
        algorithm: SigningAlgorithm,
        digest: &[u8],
        entropy: &Entropy,
    ) -> Result<Vec<u8>, Failure> {
        if !self.spec.key_spec().signing_algorithms().contains(&algorithm) {
            return Err(Failure::new(
                Code::InvalidArgument,
                format!("{algorithm} isn't for {} keys", self.spec),
            ));
        }
        if digest.len() != algorithm.digest().len() {
            let text = format!("{algorithm} signs digests of {} bytes", algorithm.digest().len());
            return Err(Failure::new(Code::InvalidArgument, text));
        }
        match &self.kind {
            Kind::Sm2(key) => key.sign(digest, entropy),
            Kind::Ec(pair) => {
                let digest = imported(algorithm, digest).ok_or_else(internal)?;
                let raw = pair.sign_digest(&digest).map_err(|_| internal())?;
                encoding::ecdsa_to_der(raw.as_ref()).ok_or_else(internal)
            }
            Kind::Rsa(rsa) => {
                let digest = imported(algorithm, digest).ok_or_else(internal)?;
                let padding = padding(algorithm).ok_or_else(internal)?;
                let mut signature = vec![0; rsa.signing.public_modulus_len()];
                rsa.signing.sign_digest(padding, &digest, &mut signature).map_err(|_| internal())?;
                Ok(signature)
            }
        }
    }

    /// Decrypts what was encrypted to the public key.
    ///
    /// # Errors
    /// The one error of everything that doesn't open.
    pub fn decrypt(&self, algorithm: EncryptionAlgorithm, ciphertext: &[u8]) -> Result<SecretBytes, Failure> {
        let hash = match (&self.kind, algorithm) {
            (Kind::Sm2(key), EncryptionAlgorithm::Sm2Pke) => {
                return key.decrypt(ciphertext).ok_or_else(Failure::ciphertext);
            }
            (Kind::Rsa(_), EncryptionAlgorithm::RsaesOaepSha1) => &OAEP_SHA1_MGF1SHA1,
            (Kind::Rsa(_), EncryptionAlgorithm::RsaesOaepSha256) => &OAEP_SHA256_MGF1SHA256,
            _ => return Err(Failure::ciphertext()),
        };
        let Kind::Rsa(rsa) = &self.kind else { return Err(Failure::ciphertext()) };
        let mut out = Zeroizing::new(vec![0; rsa.decrypting.min_output_size()]);
        let opened = rsa.decrypting.decrypt(hash, ciphertext, &mut out, None);
        let len = opened.map_err(|_| Failure::ciphertext())?.len();
        // Taken over, not copied: the one buffer that held it is the one that is wiped.
        out.truncate(len);
        Ok(SecretBytes::new(std::mem::take(&mut *out)))
    }
}

fn ec(
    spec: KeyPairSpec,
    algorithm: &'static EcdsaSigningAlgorithm,
) -> Result<(SecretBytes, Vec<u8>), Failure> {
    let pair = EcdsaKeyPair::generate(algorithm).map_err(|_| internal())?;
    let pkcs8 = pair.to_pkcs8v1().map_err(|_| internal())?;
    let spki = encoding::ec_spki(spec, pair.public_key().as_ref()).ok_or_else(internal)?;
    Ok((SecretBytes::new(pkcs8.as_ref().to_vec()), spki))
}

fn padding(algorithm: SigningAlgorithm) -> Option<&'static dyn RsaEncoding> {
    Some(match algorithm {
        SigningAlgorithm::RsaPssSha256 => &RSA_PSS_SHA256,
        SigningAlgorithm::RsaPssSha384 => &RSA_PSS_SHA384,
        SigningAlgorithm::RsaPssSha512 => &RSA_PSS_SHA512,
        SigningAlgorithm::RsaPkcs1Sha256 => &RSA_PKCS1_SHA256,
        SigningAlgorithm::RsaPkcs1Sha384 => &RSA_PKCS1_SHA384,
        SigningAlgorithm::RsaPkcs1Sha512 => &RSA_PKCS1_SHA512,
        SigningAlgorithm::EcdsaSha256 | SigningAlgorithm::EcdsaSha384 | SigningAlgorithm::Sm2Dsa => {
            return None;
        }
    })
}
