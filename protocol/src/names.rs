//! Names and texts that users choose: parsed once, never checked again.
//!
//! Rules from the KMS's semantics, section 1: `[A-Za-z0-9_:/-]`, at most 255 bytes.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::limits::{
    MAX_DESCRIPTION_CHARS, MAX_NAME_LEN, MAX_SERVICE_LEN, MAX_TAG_KEY_CHARS, MAX_TAG_VALUE_CHARS, MAX_TAGS,
};
use crate::list;

/// A name breaks its rule; the message says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty or over 255 bytes.
    #[error("a name has 1 to 255 bytes")]
    Length,
    /// A byte outside `[A-Za-z0-9_:/-]`.
    #[error("a name has only A-Z a-z 0-9 _ : / -")]
    Character,
    /// An alias without its prefix, or with nothing after it.
    #[error("an alias starts with 'alias/' and goes on")]
    AliasPrefix,
    /// `…/default` belongs to the keys that the daemon makes itself.
    #[error("an alias may not end in '/default'")]
    ReservedAlias,
    /// Neither a key id nor an alias.
    #[error("a key is named by its id (a UUID) or by an alias (alias/…)")]
    KeyRef,
    /// A service's name breaks its rule.
    #[error("a service's name has 1 to 64 of A-Z a-z 0-9 _ -")]
    Service,
    /// Over 255 characters, or a control character.
    #[error("a description has at most 255 characters, none of them control characters")]
    Description,
    /// A tag's key or value is out of bounds.
    #[error("a tag key has 1 to 128 characters and a tag value at most 255, none of them control characters")]
    Tag,
    /// Too many tags, or one key twice.
    #[error("at most 20 tags, each key once")]
    Tags,
}

fn check_name(text: &str) -> Result<(), NameError> {
    if text.is_empty() || text.len() > MAX_NAME_LEN {
        return Err(NameError::Length);
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'/' | b'-');
    if text.bytes().all(allowed) { Ok(()) } else { Err(NameError::Character) }
}

/// Declares a text newtype that can only be made by its checking constructor,
/// from code and from the wire alike.
macro_rules! checked_text {
    ($(#[$meta:meta])* $name:ident, $check:expr) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks and takes the text.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                let check: fn(&str) -> Result<(), NameError> = $check;
                check(&text)?;
                Ok(Self(text))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    };
}

checked_text! {
    /// `alias/…`: a second name of one key, unique in the domain.
    Alias, |text| {
        check_name(text)?;
        match text.strip_prefix("alias/") {
            None | Some("") => Err(NameError::AliasPrefix),
            Some(_) if text.ends_with("/default") => Err(NameError::ReservedAlias),
            Some(_) => Ok(()),
        }
    }
}

checked_text! {
    /// The name of a project; `default` always exists.
    ProjectName, check_name
}

checked_text! {
    /// A local service that has a default key, `alias/<service>/default`.
    ServiceName, |text| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        let fits = (1..=MAX_SERVICE_LEN).contains(&text.len()) && text.bytes().all(allowed);
        if fits { Ok(()) } else { Err(NameError::Service) }
    }
}

checked_text! {
    /// The key of a tag.
    TagKey, |text| {
        let fits = (1..=MAX_TAG_KEY_CHARS).contains(&text.chars().count());
        if fits && !text.chars().any(char::is_control) { Ok(()) } else { Err(NameError::Tag) }
    }
}

checked_text! {
    /// Free text about a key: at most 255 Unicode characters, no control characters.
    #[derive(Default)]
    Description, |text| {
        let fits = text.chars().count() <= MAX_DESCRIPTION_CHARS;
        if fits && !text.chars().any(char::is_control) { Ok(()) } else { Err(NameError::Description) }
    }
}

impl Default for ProjectName {
    fn default() -> Self {
        Self("default".into())
    }
}

/// A key as callers name it: by id, or by any alias. On the wire a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyRef {
    /// The key's id.
    Id(Uuid),
    /// An alias that points at it. Unlike [`Alias`], which is for making one, this
    /// may be a reserved name: default keys are *used* by theirs.
    Alias(String),
}

impl ServiceName {
    /// The alias of its default key.
    #[must_use]
    pub fn default_alias(&self) -> String {
        format!("alias/{self}/default")
    }
}

impl From<&Alias> for KeyRef {
    fn from(alias: &Alias) -> Self {
        Self::Alias(alias.0.clone())
    }
}

impl std::str::FromStr for KeyRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_name(text)?;
        if let Some(rest) = text.strip_prefix("alias/") {
            return if rest.is_empty() { Err(NameError::AliasPrefix) } else { Ok(Self::Alias(text.into())) };
        }
        // Only the hyphenated form, in either case: replies, logs and policies have lower case.
        if text.len() != 36 {
            return Err(NameError::KeyRef);
        }
        Uuid::try_parse(text).map(Self::Id).map_err(|_| NameError::KeyRef)
    }
}

impl std::fmt::Display for KeyRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Alias(alias) => f.write_str(alias),
        }
    }
}

impl From<Uuid> for KeyRef {
    fn from(id: Uuid) -> Self {
        Self::Id(id)
    }
}

impl Serialize for KeyRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Id(id) => {
                serializer.serialize_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
            }
            Self::Alias(alias) => serializer.serialize_str(alias),
        }
    }
}

impl<'de> Deserialize<'de> for KeyRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// One tag: a key and a value, both Unicode.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "(String, String)", into = "(String, String)")]
pub struct Tag {
    key: String,
    value: String,
}

impl Tag {
    /// Checks and takes a tag.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Result<Self, NameError> {
        let (key, value) = (key.into(), value.into());
        let lengths = (1..=MAX_TAG_KEY_CHARS).contains(&key.chars().count())
            && value.chars().count() <= MAX_TAG_VALUE_CHARS;
        if lengths && !key.chars().chain(value.chars()).any(char::is_control) {
            Ok(Self { key, value })
        } else {
            Err(NameError::Tag)
        }
    }

    /// The tag's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The tag's value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl TryFrom<(String, String)> for Tag {
    type Error = NameError;

    fn try_from((key, value): (String, String)) -> Result<Self, NameError> {
        Self::new(key, value)
    }
}

impl From<Tag> for (String, String) {
    fn from(tag: Tag) -> Self {
        (tag.key, tag.value)
    }
}

/// The tags of one resource: at most 20, each key once, in the order of their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tags(Vec<Tag>);

impl Tags {
    /// The tags, sorted by key.
    #[must_use]
    pub fn as_slice(&self) -> &[Tag] {
        &self.0
    }
}

impl TryFrom<Vec<Tag>> for Tags {
    type Error = NameError;

    fn try_from(mut tags: Vec<Tag>) -> Result<Self, NameError> {
        tags.sort();
        let twice = tags.windows(2).any(|pair| pair[0].key == pair[1].key);
        if twice || tags.len() > MAX_TAGS { Err(NameError::Tags) } else { Ok(Self(tags)) }
    }
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(list::bounded(deserializer, "tags", 0..=MAX_TAGS)?).map_err(de::Error::custom)
    }
}

impl From<Tags> for Vec<Tag> {
    fn from(tags: Tags) -> Self {
        tags.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_follow_their_rule() {
        for (text, want) in [
            ("alias/pay/card_1:x-y", Ok(())),
            ("alias/", Err(NameError::AliasPrefix)),
            ("pay", Err(NameError::AliasPrefix)),
            ("alias/s3/default", Err(NameError::ReservedAlias)),
            ("alias/a b", Err(NameError::Character)),
            ("alias/\u{e9}", Err(NameError::Character)),
            ("", Err(NameError::Length)),
        ] {
            assert_eq!(Alias::new(text).map(|_| ()), want, "{text:?}");
        }
        assert!(Alias::new(format!("alias/{}", "a".repeat(249))).is_ok());
        assert_eq!(Alias::new(format!("alias/{}", "a".repeat(250))), Err(NameError::Length));
    }

    #[test]
    fn a_key_is_named_by_canonical_uuid_or_alias() {
        let id = Uuid::from_u128(7);
        assert_eq!(id.to_string().parse(), Ok(KeyRef::Id(id)));
        assert_eq!("alias/s3/default".parse(), Ok(KeyRef::Alias("alias/s3/default".into())));
        assert_eq!(id.simple().to_string().parse::<KeyRef>(), Err(NameError::KeyRef));
        assert_eq!("nonsense".parse::<KeyRef>(), Err(NameError::KeyRef));
    }

    #[test]
    fn a_services_name_is_one_part_of_its_default_keys_alias() {
        for (text, fits) in [
            ("s3", true),
            ("object-store_2", true),
            ("", false),
            ("a/b", false),
            ("a:b", false),
            ("é", false),
        ] {
            assert_eq!(ServiceName::new(text).is_ok(), fits, "{text:?}");
        }
        assert!(ServiceName::new("s".repeat(64)).is_ok());
        assert_eq!(ServiceName::new("s".repeat(65)), Err(NameError::Service));
        let alias = ServiceName::new("s3").unwrap().default_alias();
        assert_eq!(alias.parse(), Ok(KeyRef::Alias("alias/s3/default".into())));
        assert_eq!(Alias::new(alias), Err(NameError::ReservedAlias));
    }

    #[test]
    fn what_is_a_tags_key_is_a_tag_key() {
        for text in ["k", "", "a\tb", "钥", &"钥".repeat(128), &"k".repeat(129)] {
            assert_eq!(TagKey::new(text).is_ok(), Tag::new(text, "v").is_ok(), "{text:?}");
        }
    }

    #[test]
    fn descriptions_and_tags_count_characters_not_bytes() {
        assert!(Description::new("司".repeat(255)).is_ok());
        assert!(Description::new("司".repeat(256)).is_err());
        assert!(Description::new("a\nb").is_err());
        assert!(Tag::new("钥".repeat(128), "").is_ok());
        assert!(Tag::new("", "v").is_err());
        let tag = |k: &str| Tag::new(k, "v").unwrap();
        assert_eq!(Tags::try_from(vec![tag("a"), tag("a")]), Err(NameError::Tags));
        assert!(Tags::try_from((0..21).map(|i| tag(&i.to_string())).collect::<Vec<_>>()).is_err());
    }
}
