//! Import tokens: import id (16 bytes) ‖ HMAC-SHA-256 (32 bytes) under the domain's key for
//! them, over everything that the token is bound to. Pure.

use aws_lc_rs::hmac;
use uuid::Uuid;

use crate::keyring::record::ImportRecord;

const ID_LEN: usize = 16;
const MAC_LEN: usize = 32;

/// The token of parameters.
pub(super) fn of(key: &[u8; 32], record: &ImportRecord) -> Vec<u8> {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &bound(record));
    [record.import_id.as_bytes(), tag.as_ref()].concat()
}

/// Which parameters a token names; none where it can't be one.
pub(super) fn import_id(token: &[u8]) -> Option<Uuid> {
    if token.len() == ID_LEN + MAC_LEN { Uuid::from_slice(token.get(..ID_LEN)?).ok() } else { None }
}

/// Whether a token is that of these parameters.
pub(super) fn is_of(token: &[u8], key: &[u8; 32], record: &ImportRecord) -> bool {
    let Some((id, mac)) = token.split_at_checked(ID_LEN) else { return false };
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    id == record.import_id.as_bytes() && hmac::verify(&key, &bound(record), mac).is_ok()
}

/// What a token is bound to: its id, the key, the algorithm, the wrapping key, its end.
fn bound(record: &ImportRecord) -> Vec<u8> {
    let numbers = [record.algorithm.number(), record.wrapping_spec.number()];
    [
        record.import_id.as_bytes().as_slice(),
        record.key_id.as_bytes(),
        &numbers,
        &record.expires_at.to_le_bytes(),
        &record.public_key.0,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use claviger_protocol::secret::Bytes;
    use claviger_protocol::{ImportAlgorithm, WrappingKeySpec};

    fn record() -> ImportRecord {
        ImportRecord {
            import_id: Uuid::from_u128(1),
            key_id: Uuid::from_u128(2),
            algorithm: ImportAlgorithm::RsaesOaepSha1,
            wrapping_spec: WrappingKeySpec::Rsa2048,
            public_key: Bytes(vec![3; 294]),
            private: None,
            created_at: 4,
            expires_at: 5,
            failures: 0,
            through_memory: None,
        }
    }

    #[test]
    fn a_token_is_bound_to_everything_and_no_altered_one_is_it() {
        let (key, record) = ([7; 32], record());
        let token = of(&key, &record);
        assert_eq!(import_id(&token), Some(record.import_id));
        assert!(is_of(&token, &key, &record));
        // What changes in the record's life is no part of it.
        assert!(is_of(
            &token,
            &key,
            &ImportRecord { failures: 3, through_memory: Some(true), ..record.clone() }
        ));
        for other in [
            ImportRecord { import_id: Uuid::from_u128(9), ..record.clone() },
            ImportRecord { key_id: Uuid::from_u128(9), ..record.clone() },
            ImportRecord { algorithm: ImportAlgorithm::RsaesPkcs1V15, ..record.clone() },
            ImportRecord { wrapping_spec: WrappingKeySpec::Rsa3072, ..record.clone() },
            ImportRecord { public_key: Bytes(vec![4; 294]), ..record.clone() },
            ImportRecord { expires_at: 6, ..record.clone() },
        ] {
            assert!(!is_of(&token, &key, &other), "{other:?}");
        }
        assert!(!is_of(&token, &[8; 32], &record));
        for at in 0..token.len() {
            let mut altered = token.clone();
            altered[at] ^= 1;
            assert!(!is_of(&altered, &key, &record));
            assert!(!is_of(&token[..at], &key, &record));
            assert_eq!(import_id(&token[..at]), None);
        }
        assert_eq!(import_id(&[token.as_slice(), &[0]].concat()), None);
    }
}
