//! The list of a domain's tombstones, which `claviger backup tombstones` writes: keys that a
//! restore doesn't bring back to life. JSON; no secret is in it, and nothing in it is trusted
//! but to leave keys out.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use uuid::Uuid;

use super::restore::RestoreError;
use crate::keyring::tombstones::Deleted;

/// Bytes of a list at most: some 400,000 tombstones.
const MAX_LEN: u64 = 64 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    domain_id: Uuid,
    tombstones: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    key_id: Uuid,
    deleted_at: String,
    #[serde(rename = "erased_at")]
    _erased_at: Option<String>,
}

/// Reads a list of the domain.
pub(super) fn read(path: &Path, domain_id: Uuid) -> Result<Deleted, RestoreError> {
    let wrong = |reason: String| RestoreError::Tombstones { path: path.to_owned(), reason };
    let len = fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if len > MAX_LEN {
        return Err(wrong(format!("a list of tombstones has at most {MAX_LEN} bytes")));
    }
    let text = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let list: List = serde_json::from_slice(&text).map_err(|error| {
        wrong(format!("not a list of tombstones, as `claviger backup tombstones` writes it: {error}"))
    })?;
    if list.domain_id != domain_id {
        return Err(wrong(format!(
            "the list is of the domain {}, the backup of {domain_id}",
            list.domain_id
        )));
    }
    let dated = |listed: &Listed| {
        let at = humantime::parse_rfc3339(&listed.deleted_at).ok()?;
        let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some((listed.key_id, i64::try_from(since.as_millis()).ok()?))
    };
    list.tombstones
        .iter()
        .map(|listed| {
            dated(listed).ok_or_else(|| wrong(format!("{}: its date can't be read", listed.key_id)))
        })
        .collect()
}
