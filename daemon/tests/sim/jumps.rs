//! The wall clock is set forward and back: nothing that is promised for a time is cut
//! short or kept for ever, and the log stays in the order of what happened.

use std::time::Duration;

use claviger_protocol::body::{CreateKeyRequest, EncryptRequest};
use claviger_protocol::{Code, Protection};
use serde_json::Value;

use super::Sim;
use crate::{create, decrypt, encrypt, list};

const HOUR: i64 = 60 * 60 * 1000;
const DAY: i64 = 24 * HOUR;
/// Where clocks are set to by mistake.
const JUMPS: [i64; 6] = [1, -1, HOUR, -HOUR, 400 * DAY, -400 * DAY];

fn purge(sim: &mut Sim) {
    let service = std::sync::Arc::clone(&sim.service);
    sim.finish(async move { service.keyring().unwrap().purge_client_tokens(None, 100).await }).unwrap();
}

/// How many keys there are after the same create came once more.
fn keys_after_a_retry(sim: &mut Sim) -> usize {
    sim.call(create([1; 16], Protection::Software)).unwrap();
    sim.call(list(0, vec![])).unwrap().keys.len()
}

#[test]
fn deadlines_pass_with_time_and_not_with_the_wall_clock() {
    for jump in JUMPS {
        let mut sim = Sim::new(1);
        let key = sim.call(create([1; 16], Protection::Hsm)).unwrap().key_id;
        let within = sim.start_within(encrypt(key, b"x"), 60_000);
        sim.time.step_wall(jump);
        sim.come_to_rest();
        assert!(sim.reply::<EncryptRequest>(within).is_ok(), "{jump}");
        // It waits for the HSM when its time is over, whatever the wall clock says.
        let late = sim.start_within(create([2; 16], Protection::Hsm), 1_000);
        sim.time.step_wall(-jump);
        sim.time.advance(Duration::from_secs(2));
        sim.come_to_rest();
        assert_eq!(sim.reply::<CreateKeyRequest>(late).unwrap_err(), Code::DeadlineExceeded, "{jump}");
    }
}

#[test]
fn a_client_token_keeps_its_day_when_the_clock_is_set_back() {
    for back in [HOUR, DAY, 400 * DAY] {
        let mut sim = Sim::new(2);
        assert_eq!(keys_after_a_retry(&mut sim), 1);
        sim.time.step_wall(-back);
        assert_eq!(keys_after_a_retry(&mut sim), 1, "{back}");
        purge(&mut sim);
        assert_eq!(keys_after_a_retry(&mut sim), 1, "{back}: the purge leaves it");
        // A day from then on, not from the day that the wrong clock showed.
        sim.time.advance(Duration::from_hours(23));
        purge(&mut sim);
        assert_eq!(keys_after_a_retry(&mut sim), 1, "{back}");
        sim.time.advance(Duration::from_hours(2));
        assert_eq!(keys_after_a_retry(&mut sim), 2, "{back}: its day is over");
    }
}

#[test]
fn the_log_is_in_the_order_of_what_happened() {
    let mut sim = Sim::new(3);
    let key = sim.call(create([1; 16], Protection::Hsm)).unwrap().key_id;
    let mut blobs = Vec::new();
    for jump in JUMPS {
        sim.time.step_wall(jump);
        blobs.push(sim.call(encrypt(key, b"x")).unwrap().ciphertext_blob.0);
        sim.call(decrypt(blobs.last().unwrap())).unwrap();
    }
    let lines = sim.service.log.lines();
    let events: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let operations: Vec<&str> = events.iter().map(|event| event["operation"].as_str().unwrap()).collect();
    let calls: Vec<&str> =
        operations.into_iter().filter(|name| ["encrypt", "decrypt"].contains(name)).collect();
    assert_eq!(calls, ["encrypt", "decrypt"].repeat(JUMPS.len()));
    // And what was encrypted at any time opens at any other.
    for (blob, jump) in blobs.iter().zip(JUMPS) {
        sim.time.step_wall(-jump);
        assert!(sim.call(decrypt(blob)).is_ok());
    }
}
