//! Bounds of single fields, checked while a body is decoded. A broken bound is
//! an invalid value (`InvalidArgument`), not a malformed body.

use serde::{Deserialize, Deserializer, de};

use super::BatchItem;
use crate::backup::{MAX_CHUNK_LEN, MAX_HEADER_LEN, TAG_LEN};
use crate::limits::{
    MAX_ACCESS_KEY_LEN, MAX_AGENT_LEN, MAX_BATCH_ITEMS, MAX_DELETION_DAYS, MAX_ENCRYPTED_EPHEMERAL_KEY_LEN,
    MAX_ENCRYPTED_MATERIAL_LEN, MAX_IMPORT_TOKEN_LEN, MAX_KEYS_PER_CALL, MAX_NAME_LEN, MAX_PAGE_ITEMS,
    MAX_PAGE_TOKEN_LEN, MAX_PING_LEN, MAX_PROOF_LEN, MAX_PUBLIC_KEY_LEN, MAX_RANDOM_LEN, MAX_ROTATION_DAYS,
    MAX_SM2_USER_ID_LEN, MAX_TAGS, MIN_DELETION_DAYS, MIN_ROTATION_DAYS,
};
use crate::list;
use crate::names::{KeyRef, TagKey};
use crate::secret::Bytes;

/// Declares checks of fields: what the value must be, and how a refusal says so.
macro_rules! rules {
    ($($name:ident: $type:ty, |$value:ident| $holds:expr, $text:literal;)+) => {$(
        pub(super) fn $name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
            let $value = <$type>::deserialize(deserializer)?;
            if $holds { Ok($value) } else { Err(de::Error::custom(format_args!($text))) }
        }
    )+};
}

rules! {
    agent: String,
        |text| text.len() <= MAX_AGENT_LEN && text.bytes().all(|b| (b' '..=b'~').contains(&b)),
        "an agent has at most {MAX_AGENT_LEN} bytes of printable ASCII";
    access_key: String,
        |text| text.len() <= MAX_ACCESS_KEY_LEN && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'),
        "an access key id has at most {MAX_ACCESS_KEY_LEN} bytes of A-Z a-z 0-9 - _";
    proof: Bytes, |bytes| bytes.0.len() <= MAX_PROOF_LEN, "a proof has at most {MAX_PROOF_LEN} bytes";
    ping_payload: Bytes, |bytes| bytes.0.len() <= MAX_PING_LEN,
        "a ping carries at most {MAX_PING_LEN} bytes";
    backup_header: Bytes, |bytes| bytes.0.len() <= MAX_HEADER_LEN,
        "a backup's header has at most {MAX_HEADER_LEN} bytes";
    backup_chunk: Bytes, |bytes| bytes.0.len() <= MAX_CHUNK_LEN + TAG_LEN,
        "a backup's chunk has at most {MAX_CHUNK_LEN} bytes and its tag";
    page_token: Bytes, |bytes| bytes.0.len() <= MAX_PAGE_TOKEN_LEN,
        "a page token has at most {MAX_PAGE_TOKEN_LEN} bytes";
    page_limit: u16, |items| items <= MAX_PAGE_ITEMS, "a page has at most {MAX_PAGE_ITEMS} items";
    name_page_token: Bytes, |bytes| bytes.0.len() <= MAX_NAME_LEN,
        "a page token has at most {MAX_NAME_LEN} bytes";
    deletion_days: Option<u16>,
        |days| days.is_none_or(|days| (MIN_DELETION_DAYS..=MAX_DELETION_DAYS).contains(&days)),
        "a key waits at most {MAX_DELETION_DAYS} days for its deletion";
    encrypted_material: Bytes, |bytes| bytes.0.len() <= MAX_ENCRYPTED_MATERIAL_LEN,
        "encrypted material has at most {MAX_ENCRYPTED_MATERIAL_LEN} bytes";
    encrypted_ephemeral_key: Bytes, |bytes| bytes.0.len() <= MAX_ENCRYPTED_EPHEMERAL_KEY_LEN,
        "an encrypted ephemeral key has at most {MAX_ENCRYPTED_EPHEMERAL_KEY_LEN} bytes";
    import_token: Bytes, |bytes| bytes.0.len() <= MAX_IMPORT_TOKEN_LEN,
        "an import token has at most {MAX_IMPORT_TOKEN_LEN} bytes";
    random_len: u16, |bytes| (1..=MAX_RANDOM_LEN).contains(&bytes),
        "1 to {MAX_RANDOM_LEN} random bytes can be had at once";
    public_key: Bytes, |bytes| bytes.0.len() <= MAX_PUBLIC_KEY_LEN,
        "a public key has at most {MAX_PUBLIC_KEY_LEN} bytes";
    rotation_days: Option<u16>,
        |days| days.is_none_or(|days| (MIN_ROTATION_DAYS..=MAX_ROTATION_DAYS).contains(&days)),
        "a rotation period has {MIN_ROTATION_DAYS} to {MAX_ROTATION_DAYS} days";
    sm2_user_id: Option<Bytes>, |id| id.as_ref().is_none_or(|id| id.0.len() <= MAX_SM2_USER_ID_LEN),
        "an SM2 user id has at most {MAX_SM2_USER_ID_LEN} bytes";
}

/// The keys of a multi-resource call.
pub(super) fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<KeyRef>, D::Error> {
    list::bounded(deserializer, "keys of one call", 1..=MAX_KEYS_PER_CALL)
}

/// The keys of tags to remove.
pub(super) fn tag_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TagKey>, D::Error> {
    list::bounded(deserializer, "tag keys", 1..=MAX_TAGS)
}

/// The items of a batch.
pub(super) fn batch_items<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<BatchItem>, D::Error> {
    list::bounded(deserializer, "items of a batch", 0..=MAX_BATCH_ITEMS)
}

#[cfg(test)]
mod tests {
    use crate::body::{
        BatchRequest, EnableKeyRequest, GetRandomRequest, HelloRequest, ListAliasRequest, PingRequest,
        ScheduleKeyDeletionRequest,
    };
    use crate::codec::{DecodeError, decode, encode};
    use crate::secret::Bytes;
    use crate::values::AuthMethod;

    #[test]
    fn bounds_are_invalid_values_not_malformed_bodies() {
        for (bytes, fits) in [(0_u16, false), (1, true), (4096, true), (4097, false)] {
            let got = decode::<GetRandomRequest>(&bytes.to_le_bytes());
            assert_eq!(got.is_ok(), fits, "{bytes}");
            assert!(fits || matches!(got, Err(DecodeError::Invalid(_))));
        }
        let ping = |n: usize| encode(&PingRequest { payload: Bytes(vec![0; n]) }).unwrap();
        assert!(decode::<PingRequest>(&ping(4096)).is_ok());
        assert!(matches!(decode::<PingRequest>(&ping(4097)), Err(DecodeError::Invalid(_))));
    }

    #[test]
    fn a_list_is_refused_by_its_count_alone() {
        for (count, want) in [(0_u64, true), (101, true), (u64::MAX, true), (1, false)] {
            let got = decode::<EnableKeyRequest>(&count.to_le_bytes());
            assert_eq!(matches!(got, Err(DecodeError::Invalid(_))), want, "{count}");
        }
        assert!(matches!(decode::<BatchRequest>(&1025_u64.to_le_bytes()), Err(DecodeError::Invalid(_))));
        assert!(matches!(decode::<BatchRequest>(&1024_u64.to_le_bytes()), Err(DecodeError::Malformed(_))));
        assert_eq!(decode::<BatchRequest>(&0_u64.to_le_bytes()).unwrap().items, []);
    }

    #[test]
    fn days_are_bounded_where_they_are_given() {
        let keys = vec![uuid::Uuid::nil().into()];
        for (days, fits) in [(None, true), (Some(0), true), (Some(1096), true), (Some(1097), false)] {
            let body = ScheduleKeyDeletionRequest { keys: keys.clone(), days, force: false };
            let got = decode::<ScheduleKeyDeletionRequest>(&encode(&body).unwrap());
            assert_eq!(got.is_ok(), fits, "{days:?}");
            assert!(fits || matches!(got, Err(DecodeError::Invalid(_))));
        }
    }

    #[test]
    fn page_tokens_that_are_names_may_be_as_long_as_names() {
        for (length, fits) in [(0, true), (255, true), (256, false)] {
            let body = ListAliasRequest { limit: 0, page: Bytes(vec![b'a'; length]) };
            assert_eq!(decode::<ListAliasRequest>(&encode(&body).unwrap()).is_ok(), fits, "{length}");
        }
    }

    #[test]
    fn an_agent_that_could_forge_a_log_line_is_refused() {
        let hello = |agent: &str| HelloRequest {
            min_version: 1,
            max_version: 1,
            agent: agent.into(),
            auth_method: AuthMethod::None,
            access_key: String::new(),
            client_nonce: [0; 32],
            proof: Bytes::default(),
            frame_authenticator: false,
        };
        for (agent, fits) in [("app/1.0 (x)", true), ("a\nb", false), ("\u{202e}", false), ("", true)] {
            assert_eq!(decode::<HelloRequest>(&encode(&hello(agent)).unwrap()).is_ok(), fits, "{agent:?}");
        }
        assert!(decode::<HelloRequest>(&encode(&hello(&"a".repeat(65))).unwrap()).is_err());
    }
}
