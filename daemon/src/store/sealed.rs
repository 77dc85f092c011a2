//! Records with a schema and a MAC on top of any store: what was damaged, moved
//! to another key, or written by someone without the domain key doesn't open.
//!
//! A stored value is schema (u16 LE) ‖ body ‖ HMAC-SHA-256 (32 bytes, RFC 2104,
//! FIPS 180-4) over
//! u32 LE length ‖ "claviger/v1/record" ‖ u32 LE length ‖ key ‖ schema ‖ body.
//! Lengths stand before all that varies but the last, so no two inputs collide.
//!
//! Out of its reach: a record replaced by an older authentic one of the same key,
//! or removed. Whoever can write the store's files can roll it back.

use std::sync::Arc;

use aws_lc_rs::{constant_time, hmac};
use claviger_protocol::codec::{self, DecodeError};
use serde::{Serialize, de::DeserializeOwned};

use super::{MAX_VALUE_LEN, Store, StoreError, Versioned};

const LABEL: &[u8] = b"claviger/v1/record";
const SCHEMA_LEN: usize = 2;
const MAC_LEN: usize = 32;

/// What can be stored: encoded by [`codec`], and never changed in shape without a
/// new schema number.
pub trait Record: Serialize + DeserializeOwned {
    /// Number of this shape.
    const SCHEMA: u16;

    /// Reads this shape, and the older ones that there are; `None` for a number that isn't one.
    fn read(schema: Schema<'_>) -> Option<Result<Self, DecodeError>> {
        (schema.number == Self::SCHEMA).then(|| codec::decode(schema.body))
    }
}

/// A record's bytes, authenticated, and the number of their shape.
#[derive(Clone, Copy)]
pub struct Schema<'a> {
    /// The shape's number.
    pub number: u16,
    /// The record in it.
    pub body: &'a [u8],
}

/// A store whose values are authenticated.
#[derive(Clone)]
pub struct Sealed {
    store: Arc<dyn Store>,
    key: hmac::Key,
}

impl Sealed {
    /// `key` is the domain's record MAC key, 32 bytes; the caller wipes its own copy.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, key: &[u8; 32]) -> Self {
        Self { store, key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// The store beneath, for commits and watches.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Reads the record at `key`, with its revision.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where it doesn't authenticate here, or has another
    /// schema than `T`; else what the store says.
    pub async fn get<T: Record>(&self, key: &[u8]) -> Result<Option<(u64, T)>, StoreError> {
        let stored = self.store.get(key).await?;
        stored.map(|stored| self.unseal(key, &stored)).transpose()
    }

    /// Reads at most `limit` records whose keys start with `prefix`, in byte order,
    /// after the key `after` if given: key, revision, record.
    ///
    /// # Errors
    /// As [`Sealed::get`]; one damaged record fails the list.
    pub async fn list<T: Record>(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, u64, T)>, StoreError> {
        let stored = self.store.list(prefix, after, limit).await?;
        let unseal = |(key, stored): (Vec<u8>, Versioned)| {
            let (revision, record) = self.unseal(&key, &stored)?;
            Ok((key, revision, record))
        };
        stored.into_iter().map(unseal).collect()
    }

    /// The value to store at `key` for `record`: the content of a
    /// [`Change::Put`](super::Change::Put).
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] where it is over [`MAX_VALUE_LEN`] bytes.
    pub fn put<T: Record>(&self, key: &[u8], record: &T) -> Result<Vec<u8>, StoreError> {
        let body = codec::encode(record).map_err(|_| StoreError::TooLarge)?;
        let mut value = Vec::with_capacity(SCHEMA_LEN + body.len() + MAC_LEN);
        value.extend(T::SCHEMA.to_le_bytes());
        value.extend(body);
        let mac = self.mac(key, &value)?;
        value.extend(mac.as_ref());
        if value.len() > MAX_VALUE_LEN { Err(StoreError::TooLarge) } else { Ok(value) }
    }

    /// Checks that a stored value belongs at `key`: its MAC, whatever its schema.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub fn check(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let damaged = || StoreError::Damaged(format!("{}: it doesn't authenticate", key.escape_ascii()));
        let (content, mac) = value.split_last_chunk::<MAC_LEN>().ok_or_else(damaged)?;
        constant_time::verify_slices_are_equal(self.mac(key, content)?.as_ref(), mac).map_err(|_| damaged())
    }

    /// The MAC over a key and what is stored there before the MAC: schema and body.
    fn mac(&self, key: &[u8], content: &[u8]) -> Result<hmac::Tag, StoreError> {
        let mut mac = hmac::Context::with_key(&self.key);
        for part in [LABEL, key] {
            let len = u32::try_from(part.len()).map_err(|_| StoreError::TooLarge)?;
            mac.update(&len.to_le_bytes());
            mac.update(part);
        }
        mac.update(content);
        Ok(mac.sign())
    }

    /// Opens what [`Sealed::put`] made for `key`: its revision and the record.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], as for [`Sealed::get`].
    pub fn unseal<T: Record>(&self, key: &[u8], stored: &Versioned) -> Result<(u64, T), StoreError> {
        let damaged = |why: &str| {
            StoreError::Damaged(format!("{} (revision {}): {why}", key.escape_ascii(), stored.revision))
        };
        let (content, mac) =
            stored.value.split_last_chunk::<MAC_LEN>().ok_or_else(|| damaged("it is cut short"))?;
        constant_time::verify_slices_are_equal(self.mac(key, content)?.as_ref(), mac)
            .map_err(|_| damaged("it doesn't authenticate"))?;
        let (schema, body) =
            content.split_first_chunk::<SCHEMA_LEN>().ok_or_else(|| damaged("it is cut short"))?;
        let number = u16::from_le_bytes(*schema);
        let record = T::read(Schema { number, body }).ok_or_else(|| {
            let age = if number > T::SCHEMA { "newer" } else { "older" };
            damaged(&format!("schema {number} is {age} than {}", T::SCHEMA))
        })?;
        let record = record.map_err(|error| damaged(&error.to_string()))?;
        Ok((stored.revision, record))
    }
}

#[cfg(test)]
#[path = "sealed_tests.rs"]
mod tests;
