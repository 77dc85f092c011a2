//! What the daemon does to keys by itself: rotation by policy, deletion, the end of imported
//! material. It looks once a second at what is due, does a bounded piece of it at a time,
//! and leaves an event for each. What fails is tried again later, further apart each time.
//!
//! Three passes, each a task of its own, so that none holds another up: what only needs the
//! store; what needs new material from an HSM, which may be slow or away; the store's rewrite.
//!
//! Exactly once: each task's commit holds only while the key is as the task found it, and
//! takes the task away. A crash before it changes nothing, one after it leaves nothing to do.
//! A daemon that was off, or a clock that was set forward, finds everything due at once.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use claviger_protocol::Code;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::audit::{Event, Trail};
use crate::edge::Tasks;
use crate::failure::Failure;
use crate::keyring::{Keyring, Part, Task};
use crate::service::Service;

/// How often each pass looks.
const EVERY: Duration = Duration::from_secs(1);
/// Marks read at once.
const PAGE: usize = 64;
/// Tasks of one look at most: the next goes on.
const MAX_TASKS: usize = 1024;
/// How long a stop waits for a piece that is under way.
const LAST_PIECE: Duration = Duration::from_secs(5);
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
    /// What a rewrite erased and is still to be noted of its keys.
    unnoted: Vec<Task>,
    /// While the HSM is away: until when it isn't asked, and how long after that.
    rest: Option<Postponed>,
}

struct Postponed {
    until: Duration,
    next: Duration,
}

#[derive(Clone, Copy)]
enum Pass {
    Records,
    Material,
    Erasure,
}

/// Starts all passes, until `halt`.
pub(crate) fn start(tasks: &Tasks, service: &Arc<Service>, halt: &CancellationToken) {
    for pass in [Pass::Records, Pass::Material, Pass::Erasure] {
        tasks.spawn(run(pass, Arc::clone(service), halt.clone()));
    }
}

async fn run(pass: Pass, service: Arc<Service>, halt: CancellationToken) {
    let mut scheduler = Scheduler::default();
    let clock = service.edge.clock.clone();
    let mut passes = pin!(async {
        while halt.run_until_cancelled(clock.sleep(EVERY)).await.is_some() {
            scheduler.pass(pass, &service, &halt).await;
        }
    });
    // A piece under way goes to its end; but an HSM that hangs must not keep the daemon.
    let too_long = async {
        halt.cancelled().await;
        clock.sleep(LAST_PIECE).await;
    };
    tokio::select! {
        biased;
        () = &mut passes => {}
        () = too_long => {}
    }
}

impl Scheduler {
    /// Does everything that is due now, one pass after the other.
    pub async fn look(&mut self, service: &Arc<Service>, halt: &CancellationToken) {
        for pass in [Pass::Records, Pass::Material, Pass::Erasure] {
            self.pass(pass, service, halt).await;
        }
    }

    /// One pass over what is due. Ends early at `halt`, between two pieces.
    async fn pass(&mut self, pass: Pass, service: &Arc<Service>, halt: &CancellationToken) {
        let Ok(keyring) = service.keyring() else { return };
        // No record, no change; and on a full disk there is nothing that it could change.
        if !service.can_record() || service.disk_is_full() {
            return;
        }
        let now = service.edge.clock.elapsed();
        self.postponed.retain(|_, task| task.until.saturating_add(RETRY.1) > now);
        let looked = match pass {
            Pass::Records => {
                async {
                    self.all(Part::Records, service, keyring, halt).await?;
                    self.redate(service, keyring, halt).await
                }
                .await
            }
            Pass::Material => self.material(service, keyring, halt).await,
            Pass::Erasure => {
                self.erase(service, keyring, halt).await;
                Ok(())
            }
        };
        if let Err(failure) = looked {
            tracing::warn!(%failure, "what is due could not be looked up; it will be tried again");
        }
    }

    /// What needs the HSM, as long as it answers.
    async fn material(
        &mut self,
        service: &Arc<Service>,
        keyring: &Keyring,
        halt: &CancellationToken,
    ) -> Result<(), Failure> {
        if self.rest.as_ref().is_some_and(|rest| service.edge.clock.elapsed() < rest.until) {
            return Ok(());
        }
        self.some(service, keyring, keyring.exhausted(), halt).await;
        self.all(Part::Material, service, keyring, halt).await
    }

    async fn all(
        &mut self,
        part: Part,
        service: &Arc<Service>,
        keyring: &Keyring,
        halt: &CancellationToken,
    ) -> Result<(), Failure> {
        let (mut after, mut done) = (None::<Vec<u8>>, 0);
        loop {
            let (tasks, more) = keyring.due(part, after.as_deref(), PAGE).await?;
            done += tasks.len();
            let answered = self.some(service, keyring, tasks, halt).await;
            if more.is_none() || done >= MAX_TASKS || !answered || halt.is_cancelled() {
                return Ok(());
            }
            after = more;
        }
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
        let now = service.edge.clock.elapsed();
        if now < self.rewrite_at {
            return;
        }
        // What an earlier rewrite erased is noted first: the store isn't written again for that.
        if self.unnoted.is_empty() {
            match keyring.erase(erase_after(service)).await {
                Ok(tasks) => self.unnoted = tasks,
                Err(failure) => {
                    tracing::warn!(%failure, again_in = ?RETRY.1, "the store could not be rewritten to erase destroyed material");
                    self.rewrite_at = now.saturating_add(RETRY.1);
                }
            }
        }
        let tasks = std::mem::take(&mut self.unnoted);
        self.some(service, keyring, tasks.clone(), halt).await;
        self.unnoted = tasks.into_iter().filter(|task| self.postponed.contains_key(task.place())).collect();
    }

    /// Does the tasks that aren't postponed, some together; `false` where the HSM is away, and
    /// the rest was left for later.
    async fn some(
        &mut self,
        service: &Arc<Service>,
        keyring: &Keyring,
        mut tasks: Vec<Task>,
        halt: &CancellationToken,
    ) -> bool {
        let now = service.edge.clock.elapsed();
        tasks.retain(|task| self.postponed.get(task.place()).is_none_or(|task| task.until <= now));
        for piece in tasks.chunks(TOGETHER) {
            if halt.is_cancelled() {
                return false;
            }
            let failed = join_all(piece.iter().map(|task| one(service, keyring, task))).await;
            let away = failed.iter().flatten().any(|failure| failure.code == Code::HsmUnavailable);
            let now = service.edge.clock.elapsed();
            for (task, failed) in piece.iter().zip(failed) {
                self.note(task, failed, now);
            }
            if away {
                let wait = self.rest.take().map_or(RETRY.0, |rest| rest.next);
                let next = (2 * wait).min(RETRY.1);
                self.rest = Some(Postponed { until: now.saturating_add(wait), next });
                return false;
            }
            self.rest = None;
        }
        true
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
