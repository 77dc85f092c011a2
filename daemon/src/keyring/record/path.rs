//! The store's keys: where each record stands in the one ordered map.

use uuid::Uuid;

use crate::edge::Timestamp;

/// All key records.
pub const KEYS: &[u8] = b"k/";
/// All intents.
pub const INTENTS: &[u8] = b"i/";
/// All of the outbox.
pub const OUTBOX: &[u8] = b"o/";
/// All client tokens.
pub const CLIENT_TOKENS: &[u8] = b"c/";
/// All versions.
pub const VERSIONS: &[u8] = b"v/";
/// All aliases.
pub const ALIASES: &[u8] = b"a/";

/// A key's record.
#[must_use]
pub fn key(key_id: Uuid) -> Vec<u8> {
    [KEYS, key_id.as_bytes()].concat()
}

/// A version's record.
#[must_use]
pub fn version(key_id: Uuid, version_id: Uuid) -> Vec<u8> {
    [VERSIONS, key_id.as_bytes(), version_id.as_bytes()].concat()
}

/// An alias.
#[must_use]
pub fn alias(alias: &str) -> Vec<u8> {
    [ALIASES, alias.as_bytes()].concat()
}

/// A client token, within the endpoint it came through.
#[must_use]
pub fn client_token(endpoint: &str, token: &[u8; 16]) -> Vec<u8> {
    [CLIENT_TOKENS, endpoint.as_bytes(), b"\0", token].concat()
}

/// An intent.
#[must_use]
pub fn intent(event_id: Uuid) -> Vec<u8> {
    [INTENTS, event_id.as_bytes()].concat()
}

/// An outbox entry.
#[must_use]
pub fn outbox(event_id: Uuid) -> Vec<u8> {
    [OUTBOX, event_id.as_bytes()].concat()
}

/// The key id in a key record's path.
#[must_use]
pub fn key_id(path: &[u8]) -> Option<Uuid> {
    Uuid::from_slice(path.strip_prefix(KEYS)?).ok()
}

/// The version id in a version record's path.
#[must_use]
pub fn version_id(path: &[u8]) -> Option<Uuid> {
    Uuid::from_slice(path.strip_prefix(VERSIONS)?.get(16..)?).ok()
}

/// All projects.
pub const PROJECTS: &[u8] = b"p/";
/// All numbers of versions.
pub const NUMBERS: &[u8] = b"n/";
/// All associations.
pub const ASSOCIATIONS: &[u8] = b"s/";
/// All wrapping keys of imports.
pub const IMPORTS: &[u8] = b"w/";
/// Everything that falls due, but rotations and erasures.
pub const DUE: &[u8] = b"d/";
/// Rotations that fall due.
pub const ROTATIONS: &[u8] = b"r/";
/// All backups that were made.
pub const BACKUPS: &[u8] = b"b/";
/// Erasures that fall due.
pub const ERASURES: &[u8] = b"e/";

/// A project.
#[must_use]
pub fn project(name: &str) -> Vec<u8> {
    [PROJECTS, name.as_bytes()].concat()
}

/// All versions of a key.
#[must_use]
pub fn versions_of(key_id: Uuid) -> Vec<u8> {
    [VERSIONS, key_id.as_bytes()].concat()
}

/// All numbers of a key's versions, newest first.
#[must_use]
pub fn numbers_of(key_id: Uuid) -> Vec<u8> {
    [NUMBERS, key_id.as_bytes()].concat()
}

/// The number of a version. Counted down, so that the newest comes first.
#[must_use]
pub fn number(key_id: Uuid, number: u32) -> Vec<u8> {
    [NUMBERS, key_id.as_bytes(), &(u32::MAX - number).to_be_bytes()].concat()
}

/// All associations of a key.
#[must_use]
pub fn associations_of(key_id: Uuid) -> Vec<u8> {
    [ASSOCIATIONS, key_id.as_bytes()].concat()
}

/// An association of a key with an access point.
#[must_use]
pub fn association(key_id: Uuid, access_point: &str) -> Vec<u8> {
    [ASSOCIATIONS, key_id.as_bytes(), access_point.as_bytes()].concat()
}

/// The access point in an association's path.
#[must_use]
pub fn access_point(path: &[u8]) -> Option<&str> {
    std::str::from_utf8(path.strip_prefix(ASSOCIATIONS)?.get(16..)?).ok()
}

/// The number in a version number's path.
#[must_use]
pub fn number_in(path: &[u8]) -> Option<u32> {
    let bytes = path.strip_prefix(NUMBERS)?.get(16..)?;
    Some(u32::MAX - u32::from_be_bytes(bytes.try_into().ok()?))
}

/// All wrapping keys that were given out for a key.
#[must_use]
pub fn imports_of(key_id: Uuid) -> Vec<u8> {
    [IMPORTS, key_id.as_bytes()].concat()
}

/// What an import token stands for.
#[must_use]
pub fn import(key_id: Uuid, import_id: Uuid) -> Vec<u8> {
    [IMPORTS, key_id.as_bytes(), import_id.as_bytes()].concat()
}

/// What falls due with an id at a time, among [`DUE`], [`ROTATIONS`] or [`ERASURES`]; in the
/// order of time.
#[must_use]
pub fn due(among: &[u8], at: Timestamp, kind: u8, id: Uuid) -> Vec<u8> {
    // The sign bit turned over: earlier times sort before later ones, those before 1970 too.
    let ordered = (at ^ Timestamp::MIN).to_be_bytes();
    [among, &ordered, &[kind], id.as_bytes()].concat()
}

/// A backup that was begun at a time; the latest comes first.
#[must_use]
pub fn backup(at: Timestamp, backup_id: Uuid) -> Vec<u8> {
    let ordered = (!(at ^ Timestamp::MIN)).to_be_bytes();
    [BACKUPS, &ordered, backup_id.as_bytes()].concat()
}

/// Time, kind and id of what falls due.
#[must_use]
pub fn due_parts(path: &[u8]) -> Option<(Timestamp, u8, Uuid)> {
    let rest = [DUE, ROTATIONS, ERASURES].iter().find_map(|among| path.strip_prefix(*among))?;
    let (time, rest) = rest.split_first_chunk::<8>()?;
    let (kind, id) = rest.split_first()?;
    Some((Timestamp::from_be_bytes(*time) ^ Timestamp::MIN, *kind, Uuid::from_slice(id).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_falls_due_is_in_the_order_of_time() {
        let id = Uuid::from_u128(7);
        let times = [Timestamp::MIN, -1, 0, 1, 1_700_000_000_000, Timestamp::MAX];
        let paths: Vec<_> = times.iter().map(|at| due(DUE, *at, 2, id)).collect();
        assert!(paths.is_sorted());
        for (at, path) in times.iter().zip(&paths) {
            assert_eq!(due_parts(path), Some((*at, 2, id)));
        }
        assert_eq!(due_parts(b"d/short"), None);
    }

    #[test]
    fn the_latest_backup_comes_first() {
        let paths: Vec<_> = [2, 1, -1].map(|at| backup(at, Uuid::nil())).into();
        assert!(paths.is_sorted());
    }

    #[test]
    fn the_newest_version_comes_first() {
        let id = Uuid::from_u128(7);
        assert!(number(id, 2) < number(id, 1));
        assert_eq!(number_in(&number(id, 2)), Some(2));
    }
}
