//! What is done where the command line leaves the algorithm out.

use claviger_protocol::{Code, EncryptionAlgorithm, KeySpec, SigningAlgorithm};

use crate::failure::Failure;

/// What keys of a spec sign with: the one way there is, PSS with SHA-256 for RSA.
///
/// # Errors
/// `InvalidKeyUsage`, where they don't sign.
pub(crate) fn signing(spec: KeySpec) -> Result<SigningAlgorithm, Failure> {
    spec.signing_algorithms().first().copied().ok_or_else(|| wrong(spec, "sign"))
}

/// What is encrypted to keys of a spec with: the one way there is, OAEP with SHA-256 for RSA.
///
/// # Errors
/// `InvalidKeyUsage`, where nothing is.
pub(crate) fn encryption(spec: KeySpec) -> Result<EncryptionAlgorithm, Failure> {
    let algorithms = spec.encryption_algorithms();
    let wanted = EncryptionAlgorithm::RsaesOaepSha256;
    let default = if algorithms.contains(&wanted) { Some(wanted) } else { algorithms.first().copied() };
    default.ok_or_else(|| wrong(spec, "decrypt as pairs do"))
}

fn wrong(spec: KeySpec, what: &str) -> Failure {
    Failure::refused(Code::InvalidKeyUsage, format!("{spec} keys don't {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_a_default_for_what_it_can_do() {
        for &spec in KeySpec::ALL {
            let (signs, encrypts) = (signing(spec).ok(), encryption(spec).ok());
            assert_eq!(signs.is_some(), !spec.signing_algorithms().is_empty(), "{spec}");
            assert_eq!(encrypts.is_some(), !spec.encryption_algorithms().is_empty(), "{spec}");
        }
        assert_eq!(signing(KeySpec::Rsa3072).unwrap(), SigningAlgorithm::RsaPssSha256);
        assert_eq!(encryption(KeySpec::Rsa3072).unwrap(), EncryptionAlgorithm::RsaesOaepSha256);
        assert_eq!(encryption(KeySpec::Sm2).unwrap(), EncryptionAlgorithm::Sm2Pke);
    }
}
