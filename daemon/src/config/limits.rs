//! The `[limits]` section: the bounds of every limit, and those between limits.
//! Defaults are [`Limits::default`]'s.

use std::ops::RangeInclusive;
use std::time::Duration;

use claviger_protocol::limits::{
    CEILING_MAX_BODY, MAX_BATCH_ITEMS, MAX_BODY_BEFORE_HELLO, MAX_DELETION_DAYS,
};

use super::Limits;
use super::raw::{Checked, Entry, Table, show_size};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Bytes of a body: at least what a hello may have, at most what a header can claim.
const BODY: RangeInclusive<u64> = MAX_BODY_BEFORE_HELLO as u64..=CEILING_MAX_BODY as u64;
/// Bytes of a plaintext, besides [`BODY_ROOM`].
const PLAINTEXT: RangeInclusive<u64> = 1..=CEILING_MAX_BODY as u64;
/// What a body has room for beside the plaintext, in bytes: key name, encryption
/// context (8 KiB), and the blob's header and tag in the reply.
pub(crate) const BODY_ROOM: u64 = 16 * 1024;
/// Connections of one endpoint: what a raised descriptor limit usually allows.
const CONNECTIONS: RangeInclusive<u64> = 1..=65_536;
/// Unanswered requests of one connection.
const IN_FLIGHT: RangeInclusive<u64> = 1..=65_536;
/// Items of one batch: the wire format allows no more.
const BATCH: RangeInclusive<u64> = 1..=MAX_BATCH_ITEMS as u64;
/// Bytes of all buffers; and never less than [`BUFFERED_BODIES`] of the largest body.
const BUFFERS: RangeInclusive<u64> = MIB..=64 * GIB;
/// One request and its reply must fit into the buffers together.
const BUFFERED_BODIES: u64 = 2;
/// From accept to hello: local peers need microseconds.
const HANDSHAKE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(1);
/// Silence of a connection.
const IDLE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);
/// A request's deadline: an HSM may take seconds for a key pair.
const DEADLINE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_mins(10);
/// How long a stop may take.
const STOP: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(10);
/// Length of any queue.
const QUEUE: RangeInclusive<u64> = 1..=1_048_576;
/// Session objects in one member.
const OBJECTS: RangeInclusive<u64> = 16..=1_000_000;
/// Key records in memory.
const RECORDS: RangeInclusive<u64> = 16..=100_000_000;
/// Bytes of the store's page cache.
const STORE_CACHE: RangeInclusive<u64> = MIB..=1024 * GIB;
/// Between two attempts at an HSM: each may cost it a login.
const RETRY: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);
/// Wrapping keys of a kind that lie ready.
const AHEAD: RangeInclusive<u64> = 0..=64;

/// Bytes of the ballast on the state directory's disk; a quarter is what one group of
/// commits may take.
const BALLAST: RangeInclusive<u64> = 16 * MIB..=64 * GIB;

/// Days that a key waits for its deletion: the configuration may only narrow what the
/// semantics allow.
const DELETION: RangeInclusive<u64> = 7..=MAX_DELETION_DAYS as u64;
/// Days back in which a use counts; 0 never asks.
const ASSOCIATION: RangeInclusive<u64> = 0..=3650;
/// Until destroyed material is gone from the files too: within a day, in any case.
const ERASE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(23);

/// Reads the section.
pub(super) fn limits(mut table: Table<'_, '_>) -> Checked<Limits> {
    let limits = each(&mut table).and_then(|limits| together(&table, limits));
    table.finish().and(limits)
}

/// Every limit by itself. All are read before the first is missed, so that all
/// problems are told at once.
fn each(t: &mut Table<'_, '_>) -> Checked<Limits> {
    let default = Limits::default();
    let max_body = size(t, "max_body", default.max_body, &BODY);
    let max_plaintext = size(t, "max_plaintext", default.max_plaintext, &PLAINTEXT);
    let max_connections = count(t, "max_connections", default.max_connections, &CONNECTIONS);
    let max_in_flight = count(t, "max_in_flight", default.max_in_flight, &IN_FLIGHT);
    let max_batch = count(t, "max_batch", default.max_batch, &BATCH);
    let buffer_bytes = size(t, "buffer_bytes", default.buffer_bytes, &BUFFERS);
    let handshake_timeout = time(t, "handshake_timeout", default.handshake_timeout, &HANDSHAKE);
    let idle_timeout = time(t, "idle_timeout", default.idle_timeout, &IDLE);
    let default_deadline = time(t, "default_deadline", default.default_deadline, &DEADLINE);
    let stop_timeout = time(t, "stop_timeout", default.stop_timeout, &STOP);
    let lane_queue = count(t, "lane_queue", default.lane_queue, &QUEUE);
    let hsm_objects = count(t, "hsm_objects", default.hsm_objects, &OBJECTS);
    let record_cache = count(t, "record_cache", default.record_cache, &RECORDS);
    let store_cache_bytes = size(t, "store_cache_bytes", default.store_cache_bytes, &STORE_CACHE);
    let store_queue = count(t, "store_queue", default.store_queue, &QUEUE);
    let hsm_retry = time(t, "hsm_retry", default.hsm_retry, &RETRY);
    let ballast_bytes = size(t, "ballast_bytes", default.ballast_bytes, &BALLAST);
    let deletion_days_min = count(t, "deletion_days_min", default.deletion_days_min, &DELETION);
    let deletion_days_max = count(t, "deletion_days_max", default.deletion_days_max, &DELETION);
    let deletion_days_default = count(t, "deletion_days_default", default.deletion_days_default, &DELETION);
    let association_days = count(t, "association_days", default.association_days, &ASSOCIATION);
    let erase_after = time(t, "erase_after", default.erase_after, &ERASE);
    let wrapping_keys_ahead = count(t, "wrapping_keys_ahead", default.wrapping_keys_ahead, &AHEAD);
    Ok(Limits {
        max_body: max_body?,
        max_plaintext: max_plaintext?,
        max_connections: max_connections?,
        max_in_flight: max_in_flight?,
        max_batch: max_batch?,
        buffer_bytes: buffer_bytes?,
        handshake_timeout: handshake_timeout?,
        idle_timeout: idle_timeout?,
        default_deadline: default_deadline?,
        stop_timeout: stop_timeout?,
        lane_queue: lane_queue?,
        hsm_objects: hsm_objects?,
        record_cache: record_cache?,
        store_cache_bytes: store_cache_bytes?,
        store_queue: store_queue?,
        hsm_retry: hsm_retry?,
        ballast_bytes: ballast_bytes?,
        deletion_days_min: deletion_days_min?,
        deletion_days_max: deletion_days_max?,
        deletion_days_default: deletion_days_default?,
        association_days: association_days?,
        erase_after: erase_after?,
        wrapping_keys_ahead: wrapping_keys_ahead?,
    })
}

/// What holds between limits.
fn together(table: &Table<'_, '_>, limits: Limits) -> Checked<Limits> {
    let (body, plaintext) = (u64::from(limits.max_body), u64::from(limits.max_plaintext));
    let (body_shown, plaintext_shown) = (show_size(body), show_size(plaintext));
    if plaintext + BODY_ROOM > body {
        let found = format!("max_plaintext {plaintext_shown} with max_body {body_shown}");
        return Err(table.refuse(found, format!("max_plaintext + {} ≤ max_body", show_size(BODY_ROOM))));
    }
    if (limits.buffer_bytes as u64) < BUFFERED_BODIES * body {
        let buffers = show_size(limits.buffer_bytes as u64);
        let found = format!("buffer_bytes {buffers} with max_body {body_shown}");
        return Err(table.refuse(found, format!("buffer_bytes ≥ {BUFFERED_BODIES} × max_body")));
    }
    let days = limits.deletion_days_min..=limits.deletion_days_max;
    if !days.contains(&limits.deletion_days_default) {
        let found = format!("deletion_days_default {}", limits.deletion_days_default);
        return Err(table.refuse(found, "deletion_days_min ≤ deletion_days_default ≤ deletion_days_max"));
    }
    Ok(limits)
}

fn size<T: TryFrom<u64>>(
    table: &mut Table<'_, '_>,
    key: &'static str,
    default: T,
    bounds: &RangeInclusive<u64>,
) -> Checked<T> {
    table.or(key, default, |entry| narrow(entry, entry.size(bounds)?))
}

fn count<T: TryFrom<u64>>(
    table: &mut Table<'_, '_>,
    key: &'static str,
    default: T,
    bounds: &RangeInclusive<u64>,
) -> Checked<T> {
    table.or(key, default, |entry| narrow(entry, entry.count(bounds)?))
}

fn time(
    table: &mut Table<'_, '_>,
    key: &'static str,
    default: Duration,
    bounds: &RangeInclusive<Duration>,
) -> Checked<Duration> {
    table.or(key, default, |entry| entry.duration(bounds))
}

/// The number in the limit's own type, which the bounds fit into but for `usize`
/// on small machines.
fn narrow<T: TryFrom<u64>>(entry: &Entry<'_, '_>, number: u64) -> Checked<T> {
    T::try_from(number).map_err(|_| entry.refuse("a number that this machine can hold"))
}
