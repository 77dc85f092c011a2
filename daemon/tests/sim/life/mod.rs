//! The life of keys against a small reference model: random operations, one by one and many
//! at once, the scheduler's looks, clocks that are set forward and back, power loss in the
//! middle of anything, an HSM that fails and forgets. After each step every answer is the
//! model's, and the store holds what the model knows and nothing else.
//!
//! A seed that fails is printed, and replays: `CLAVIGER_SEED=n`. `CLAVIGER_SEEDS=n` runs so
//! many.

mod chance;
mod explain;
mod lists;
mod model;
mod ops;
mod store;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::time::Duration;

use claviger_protocol::{Code, KeyState};

use super::Sim;
use explain::{Called, Trouble, explain};
use model::{DAY, Model, World};
use ops::{Blob, Op};
use store::Records;

/// Seeds that are run where nobody asks for more.
const SEEDS: u64 = 2_000;
/// Tests that share them, each a process of its own.
const SHARES: u64 = 4;
/// Steps of one life.
const STEPS: usize = 16;
/// Longer than the scheduler waits before it tries again what failed.
const BEFORE_RETRY: Duration = Duration::from_mins(11);
/// Nothing goes wrong.
const CALM: Trouble = Trouble { crowd: false, hsm: false };

/// One random life of a daemon.
struct Life {
    sim: Sim,
    model: Model,
    blobs: Vec<Blob>,
    /// Operations with a client token, which may come again.
    made: Vec<Op>,
    marks: usize,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut sim = Sim::new(seed);
        sim.traced = false;
        Self { sim, model: Model::default(), blobs: Vec::new(), made: Vec::new(), marks: 0 }
    }

    fn now(&self) -> i64 {
        self.sim.edge.clock.now()
    }

    fn step(&mut self) {
        match self.sim.roll(40) {
            0..20 => self.alone(),
            20..27 => self.burst(CALM, false),
            27..30 => self.burst(CALM, true),
            30 => self.burst_on_a_failing_hsm(),
            31 => drop(self.sim.faults.losses.fetch_add(1, Ordering::Relaxed)),
            32 => self.crash(),
            33 => self.upkeep(),
            34 | 35 => self.look(),
            _ => self.turn_the_clock(),
        }
    }

    /// The store holds what the model knows.
    fn check(&mut self) {
        let found = self.found();
        assert!(found == self.model.world, "the store, and the model: {}", found.unlike(&self.model.world));
    }

    /// What the store holds, and that it is in order.
    fn found(&mut self) -> World {
        let records = Records::read(&mut self.sim);
        records.check();
        records.world()
    }

    /// One operation, and nothing else.
    fn alone(&mut self) {
        let op = self.op(true);
        let id = op.start(&mut self.sim);
        self.run_until_idle();
        let called = vec![self.called(op, id, 0, 0)];
        self.must_explain(&called, CALM);
    }

    /// Several operations at once, and sometimes the scheduler with them; perhaps cut short
    /// by a loss of power.
    fn burst(&mut self, trouble: Trouble, power_loss: bool) {
        let now = self.now();
        let look = self.sim.roll(2) == 0;
        let keys = self.model.world.keys.iter();
        let due = keys.filter(|(_, key)| look && (key.due(now) || self.may_come_due(key)));
        let due: Vec<_> = due.map(|(id, _)| *id).collect();
        let most = 6_usize.saturating_sub(due.len()).max(1);
        let ops: Vec<_> = (0..(2 + self.sim.roll(3)).min(most)).map(|_| self.op(false)).collect();
        if look {
            self.sim.begin_look();
        }
        let mut step = 0;
        let mut running = Vec::new();
        let mut called = Vec::new();
        let mut waiting = ops.into_iter();
        let most = if power_loss { self.sim.roll(80) } else { usize::MAX };
        loop {
            step += 1;
            if step >= most {
                break;
            }
            if self.sim.roll(4) == 0 || running.is_empty() {
                if let Some(op) = waiting.next() {
                    let id = op.start(&mut self.sim);
                    running.push((op, id, step));
                } else if self.sim.idle() {
                    break;
                }
            }
            self.sim.step_in_place();
            let (done, still): (Vec<_>, Vec<_>) =
                running.into_iter().partition(|(_, id, _)| self.sim.answers.contains_key(id));
            running = still;
            called.extend(done.into_iter().map(|(op, id, begun)| self.called(op, id, begun, step)));
        }
        if power_loss {
            self.sim.crash();
        }
        called.extend(running.into_iter().map(|(op, _, begun)| Called {
            op,
            answer: None,
            begun,
            ended: usize::MAX,
        }));
        called.extend(due.into_iter().map(|id| Called {
            op: Op::Due(id),
            answer: None,
            begun: 0,
            ended: usize::MAX,
        }));
        self.must_explain(&called, Trouble { crowd: true, ..trouble });
        self.adopt_uses();
    }

    fn burst_on_a_failing_hsm(&mut self) {
        let odds = 2 + self.sim.roll(4) as u64;
        self.sim.faults.odds.store(odds, Ordering::Relaxed);
        self.burst(Trouble { crowd: true, hsm: true }, false);
        self.sim.faults.odds.store(0, Ordering::Relaxed);
        // What the scheduler put off comes round again.
        self.sim.time.advance(BEFORE_RETRY);
        self.look();
    }

    fn crash(&mut self) {
        self.sim.crash();
        self.adopt_uses();
        self.check();
    }

    fn upkeep(&mut self) {
        self.sim.upkeep();
        self.model.upkeep(self.now());
        self.check();
    }

    /// The scheduler does all that is due, once.
    fn look(&mut self) {
        self.sim.look();
        let records = Records::read(&mut self.sim);
        records.check();
        records.check_looked(self.now());
        let after = records.world();
        let due: Vec<_> = self.model.world.keys.keys().copied().collect();
        for id in due {
            let given = model::Given { now: self.now(), answer: None, after: &after };
            self.model.apply(&Op::Due(id), &given).unwrap();
        }
        assert!(after == self.model.world, "the store, and the model: {}", after.unlike(&self.model.world));
    }

    fn turn_the_clock(&mut self) {
        let far = [DAY / 24, 7 * DAY, 8 * DAY, 31 * DAY, 401 * DAY, 1100 * DAY];
        let by = far[self.sim.roll(far.len())];
        match self.sim.roll(4) {
            0 => self.sim.time.step_wall(by),
            1 => self.sim.time.step_wall(-by),
            _ => self.sim.time.advance(Duration::from_millis(by.unsigned_abs())),
        }
        if self.sim.roll(2) == 0 {
            self.look();
        }
    }

    fn called(&mut self, op: Op, id: u64, begun: usize, ended: usize) -> Called {
        let (answer, blob) = op.answer(&self.sim, id);
        self.blobs.extend(blob);
        if matches!(op, Op::Create(_) | Op::Rotate { .. } | Op::CreateVersion { .. }) {
            self.made.push(op.clone());
        }
        Called { op, answer: Some(answer), begun, ended }
    }

    fn must_explain(&mut self, called: &[Called], trouble: Trouble) {
        let after = self.found();
        let now = self.now();
        let Some(model) = explain(&self.model, called, trouble, now, &after) else {
            panic!("nothing explains {called:?}\n{}", self.model.world.unlike(&after));
        };
        self.model = model;
        self.counts_are_right();
    }

    fn run_until_idle(&mut self) {
        for _ in 0..200_000 {
            if self.sim.idle() {
                return;
            }
            self.sim.step_in_place();
        }
        panic!("calls never end");
    }

    /// Uses in a crowd may be noted by calls that were refused later, and a loss of power
    /// forgets the latest: the model takes what is so.
    fn adopt_uses(&mut self) {
        self.model.uses.clear();
        let ids: Vec<_> = self.model.world.keys.keys().copied().collect();
        for id in ids {
            let keyring = std::sync::Arc::clone(self.sim.service.keyring().unwrap());
            let uses = self.sim.finish(async move { keyring.associations(id).await }).unwrap();
            let uses = uses.into_iter().map(|used| (used.access_point, used.at)).collect();
            self.model.uses.insert(id, uses);
        }
    }

    /// Whether a key may come to be due by what others do to it now.
    fn may_come_due(&self, key: &model::Key) -> bool {
        key.state == KeyState::Disabled && key.next_rotation.is_some_and(|at| at <= self.now())
    }

    /// Every ciphertext of a live key opens while the key is Enabled, whichever of its
    /// versions made it; none of a deleted key ever.
    fn every_blob_does_as_it_should(&mut self) {
        for blob in self.blobs.clone() {
            let answer = self.sim.call(crate::decrypt(&blob.bytes));
            let key = &self.model.world.keys[&blob.key];
            if key.state == KeyState::Enabled {
                assert!(key.versions.contains(&blob.version));
                assert_eq!(answer.unwrap().plaintext.expose(), blob.plaintext);
            } else {
                assert_eq!(answer.map(|_| ()), Err(Code::InvalidKeyState));
            }
        }
        self.counts_are_right();
    }

    /// Keys by state and spec, as the daemon counts them.
    fn counts_are_right(&self) {
        let mut counted = BTreeMap::new();
        for key in self.model.world.keys.values() {
            *counted.entry((key.state, key.spec)).or_insert(0) += 1;
        }
        let counts = self.sim.service.keyring().unwrap().counts();
        assert_eq!(
            counts.into_iter().map(|(state, spec, n)| ((state, spec), n)).collect::<BTreeMap<_, _>>(),
            counted
        );
    }
}

/// A life from its seed to its end.
fn live(seed: u64) -> usize {
    let mut life = Life::new(seed);
    for _ in 0..STEPS {
        life.step();
    }
    life.every_list_is_right();
    life.every_blob_does_as_it_should();
    life.sim.crash();
    life.every_blob_does_as_it_should();
    // A daemon that was off for years does everything at its start, once.
    let planned = life.model.world.keys.values().filter_map(|key| key.deletion_date).max();
    let until = planned.unwrap_or_default().max(life.now()) - life.now() + 1100 * DAY;
    life.sim.time.advance(Duration::from_millis(until.unsigned_abs()));
    life.look();
    let planned = life.model.world.keys.values().filter(|key| key.state == KeyState::PendingDeletion);
    assert_eq!(planned.count(), 0, "every deletion was due");
    life.sim.time.advance(Duration::from_hours(13));
    life.look();
    assert!(Records::read(&mut life.sim).all_erased());
    life.every_blob_does_as_it_should();
    life.blobs.len()
}

/// A number that the environment gives.
fn asked(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Runs a share of the seeds.
fn share(number: u64) {
    let seeds = match asked("CLAVIGER_SEED") {
        Some(seed) => seed..seed + u64::from(number == 0),
        None => 0..asked("CLAVIGER_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds.filter(|seed| asked("CLAVIGER_SEED").is_some() || seed % SHARES == number) {
        if let Err(failure) = catch_unwind(AssertUnwindSafe(|| live(seed))) {
            eprintln!("it was seed {seed}: CLAVIGER_SEED={seed} replays it");
            resume_unwind(failure);
        }
    }
}

#[test]
fn random_lives_are_as_the_model_says_1() {
    share(0);
}

#[test]
fn random_lives_are_as_the_model_says_2() {
    share(1);
}

#[test]
fn random_lives_are_as_the_model_says_3() {
    share(2);
}

#[test]
fn random_lives_are_as_the_model_says_4() {
    share(3);
}
