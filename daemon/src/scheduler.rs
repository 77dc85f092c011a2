//! What the daemon does to keys by itself: rotation by policy, deletion, the end of imported
//! material. It looks once a second at what is due, does a bounded piece of it at a time,
//! and leaves an event for each. What fails is tried again later, further apart each time.
//!
//! Exactly once: each task's commit holds only while the key is as the task found it, and
//! takes the task away. A crash before it changes nothing, one after it leaves nothing to do.
//! A daemon that was off, or a clock that was set forward, finds everything due at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use claviger_protocol::Code;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::audit::{Event, Trail};
use crate::failure::Failure;
use crate::keyring::{Keyring, Task};
use crate::service::Service;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);
/// Tasks found in one look.
const PAGE: usize = 64;
/// Tasks under way together: their commits share a flush.
const TOGETHER: usize = 16;
/// How far the wall clock is set back before rotations are looked for that it dated
/// while it ran ahead, in milliseconds.
const SET_BACK: i64 = 60_000;
/// When a task that failed is tried again, at first and at last.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(1));
/// Failed tasks remembered at most; more are tried again with every look.
const MAX_POSTPONED: usize = 10_000;

/// The scheduler's memory.
#[derive(Default)]
pub struct Scheduler {
    postponed: BTreeMap<Vec<u8>, Postponed>,
    /// How far the wall clock was ahead of the time that had passed when it was last seen to
    /// that no rotation lies too far ahead; none before the first time.
    ahead: Option<i64>,
    /// When the store may be rewritten again after that failed.
    rewrite_at: Duration,
}

struct Postponed {
    until: Duration,
    next: Duration,
}

/// Looks until `halt`.
pub(crate) async fn run(service: Arc<Service>, halt: CancellationToken) {
    let mut scheduler = Scheduler::default();
    loop {
        let pause = service.edge.clock.sleep(EVERY);
        if halt.run_until_cancelled(pause).await.is_none() {
            return;
        }
        scheduler.look(&service, &halt).await;
    }
}

impl Scheduler {
    /// Does everything that is due now. Ends early at `halt`, between two pieces.
    pub async fn look(&mut self, service: &Arc<Service>, halt: &CancellationToken) {
        let Ok(keyring) = service.keyring() else { return };
        // No record, no change; and on a full disk there is nothing that it could change.
        if !service.can_record() || service.disk_is_full() {
            return;
        }
        let now = service.edge.clock.elapsed();
        self.postponed.retain(|_, task| task.until.saturating_add(RETRY.1) > now);
        let looked = async {
            self.all(service, keyring, halt).await?;
            self.redate(service, keyring, halt).await
        };
        if let Err(failure) = looked.await {
            tracing::warn!(%failure, "what is due could not be looked up; it will be tried again");
        }
    }

    async fn all(
        &mut self,
        service: &Arc<Service>,
        keyring: &Keyring,
        halt: &CancellationToken,
    ) -> Result<(), Failure> {
        self.some(service, keyring, keyring.exhausted(), halt).await;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let tasks = keyring.due(after.as_deref(), PAGE).await?;
            let Some(last) = tasks.last() else { break };
            after = Some(last.place().to_vec());
            self.some(service, keyring, tasks, halt).await;
            if halt.is_cancelled() {
                return Ok(());
            }
        }
        self.erase(service, keyring, halt).await;
        Ok(())
    }

    /// After a start, and after the wall clock was set back: rotations that lie further ahead
    /// than their policy reaches are dated anew.
    async fn redate(
        &mut self,
        service: &Arc<Service>,
        keyring: &Keyring,
        halt: &CancellationToken,
    ) -> Result<(), Failure> {
        let clock = &service.edge.clock;
        let passed = i64::try_from(clock.elapsed().as_millis()).unwrap_or(i64::MAX);
        let ahead = clock.now().saturating_sub(passed);
        if self.ahead.is_some_and(|before| ahead > before.saturating_sub(SET_BACK)) {
            self.ahead = self.ahead.max(Some(ahead));
            return Ok(());
        }
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (tasks, more) = keyring.misdated(after.as_deref(), PAGE).await?;
            self.some(service, keyring, tasks, halt).await;
            if halt.is_cancelled() {
                return Ok(());
            }
            if more.is_none() {
                break;
            }
            after = more;
        }
        self.ahead = Some(ahead);
        Ok(())
    }

    /// Rewrites the store where destroyed material is to be erased.
    async fn erase(&mut self, service: &Arc<Service>, keyring: &Keyring, halt: &CancellationToken) {
        if service.edge.clock.elapsed() < self.rewrite_at {
            return;
        }
        match keyring.erase(erase_after(service)).await {
            Ok(tasks) => self.some(service, keyring, tasks, halt).await,
            Err(failure) => {
                tracing::warn!(%failure, again_in = ?RETRY.1, "the store could not be rewritten to erase destroyed material");
                self.rewrite_at = service.edge.clock.elapsed().saturating_add(RETRY.1);
            }
        }
    }

    async fn some(
        &mut self,
        service: &Arc<Service>,
        keyring: &Keyring,
        mut tasks: Vec<Task>,
        halt: &CancellationToken,
    ) {
        let now = service.edge.clock.elapsed();
        tasks.retain(|task| self.postponed.get(task.place()).is_none_or(|task| task.until <= now));
        for piece in tasks.chunks(TOGETHER) {
            if halt.is_cancelled() {
                return;
            }
            let failed = join_all(piece.iter().map(|task| one(service, keyring, task))).await;
            for (task, failed) in piece.iter().zip(failed) {
                self.note(task, failed, now);
            }
        }
    }

    fn note(&mut self, task: &Task, failed: Option<Failure>, now: Duration) {
        match failed {
            None => drop(self.postponed.remove(task.place())),
            Some(failure) => {
                let wait = self.postponed.get(task.place()).map_or(RETRY.0, |former| former.next);
                tracing::warn!(task = task.name(), id = %task.id(), %failure, again_in = ?wait, "what is due failed");
                if self.postponed.len() < MAX_POSTPONED {
                    let next = (2 * wait).min(RETRY.1);
                    let until = now.saturating_add(wait);
                    self.postponed.insert(task.place().to_vec(), Postponed { until, next });
                }
            }
        }
    }
}

/// How long destroyed material's last bytes may stay in the store's files, in milliseconds.
fn erase_after(service: &Service) -> i64 {
    i64::try_from(service.limits().erase_after.as_millis()).unwrap_or(i64::MAX)
}

/// One task, with its event; why it failed, if it did.
async fn one(service: &Arc<Service>, keyring: &Keyring, task: &Task) -> Option<Failure> {
    let mut trail = match trail(service, task) {
        Ok(trail) => trail,
        Err(failure) => return Some(failure),
    };
    match keyring.carry_out(task, erase_after(service), &mut trail).await {
        Ok(true) => {
            service.record(trail.close(Code::Ok));
            None
        }
        Ok(false) => {
            // Nothing was done, so there is nothing to be told.
            let _ = trail.close(Code::Ok).settle();
            None
        }
        Err(failure) => {
            service.record(trail.close(failure.code));
            Some(failure)
        }
    }
}

fn trail(service: &Service, task: &Task) -> Result<Trail, Failure> {
    let (clock, log) = (&service.edge.clock, &service.log);
    let Some(operation) = task.operation() else {
        return Ok(Trail::none(clock.clone(), Arc::clone(log)));
    };
    let event = Event::internal(service.edge.entropy.uuid()?, clock.now(), operation);
    let mut trail = Trail::new(event, clock.elapsed(), clock.clone(), Arc::clone(log));
    trail.about_key(task.id());
    Ok(trail)
}
