//! What the daemon does by itself while it runs.

use std::sync::Arc;
use std::time::Duration;

use claviger_protocol::Code;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::supervisor::{self, Supervisor};
use crate::edge::{Clock, Tasks};
use crate::scheduler;
use crate::service::Service;
use crate::store::{SledStore, Store, StoreError};

/// How long a written audit event may wait for the disk.
const SYNC_AFTER: Duration = Duration::from_millis(5);
/// Pause before a store with a full queue is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// How often settled outbox entries are removed.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Sweeps between two purges of old client tokens.
const SWEEPS_PER_PURGE: u32 = 60;
/// An outbox event that nobody wrote to the log by then belongs to a call that
/// was dropped: longer than any deadline's work goes on.
const ORPHAN_AGE_MS: i64 = 5 * 60_000;
/// Client tokens looked at in one purge step.
const PURGE_STEP: usize = 100;

/// Starts all of it, until `halt`; gives the sweep, whose last round is to be awaited.
pub(super) fn start(
    tasks: &Tasks,
    service: &Arc<Service>,
    store: &Arc<SledStore>,
    halt: &CancellationToken,
) -> JoinHandle<()> {
    tasks.spawn(sync_log(Arc::clone(service), halt.clone()));
    if let Some(period) = Supervisor::watchdog() {
        let (service, store) = (Arc::clone(service), Arc::clone(store) as Arc<dyn Store>);
        tasks.spawn(stay_alive(service, store, period, halt.clone()));
    }
    scheduler::start(tasks, service, halt);
    tasks.spawn(sweep(Arc::clone(service), halt.clone()))
}

/// Puts audit events on the disk, a few milliseconds after the first was written.
async fn sync_log(service: Arc<Service>, halt: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = halt.cancelled() => return,
            () = service.log.written() => {}
        }
        service.edge.clock.sleep(SYNC_AFTER).await;
        // A failure is logged there; the events stay marked and are tried again.
        let _ = service.log.sync().await;
    }
}

/// Tells the service manager that the daemon is alive, as long as it is: the runtime
/// turns, the store commits and the audit log's worker answers. What they answer is
/// other people's business; not to answer is what a restart may mend.
async fn stay_alive(service: Arc<Service>, store: Arc<dyn Store>, period: Duration, halt: CancellationToken) {
    let clock = &service.edge.clock;
    let alive = || async {
        committed(&*store, clock).await;
        service.log.answered().await;
    };
    halt.run_until_cancelled(supervisor::pulse(clock, period, alive, Supervisor::alive)).await;
}

/// Waits for an answer of the store's committer. A full queue is none: it is what a
/// committer that hangs leaves, and one that works soon has room again.
async fn committed(store: &dyn Store, clock: &Clock) {
    while store.commit(Vec::new()).await == Err(StoreError::Busy) {
        clock.sleep(ASK_AGAIN).await;
    }
}

/// Waits for the day that the store can't be trusted any more, and says why.
pub(super) async fn store_failure(failure: &mut watch::Receiver<Option<String>>) -> String {
    match failure.wait_for(Option::is_some).await {
        Ok(reason) => reason.clone().unwrap_or_default(),
        // The store is gone without having failed: nobody will ever say.
        Err(_) => std::future::pending().await,
    }
}

/// Removes outbox entries whose events are in the log, writes those whose call
/// was dropped, and forgets client tokens after their day.
async fn sweep(service: Arc<Service>, halt: CancellationToken) {
    let mut sweeps = 0_u32;
    loop {
        let goes_on = pause(&service.edge.clock, SWEEP_EVERY, &halt).await;
        // On a full disk there is nothing that it could change.
        let full = service.disk_is_full();
        // Uses of keys are written down now and then, and at the end.
        let purge = sweeps.is_multiple_of(SWEEPS_PER_PURGE);
        if !full && let Err(failure) = sweep_once(&service, purge, purge || !goes_on).await {
            tracing::warn!(%failure, "upkeep of the store failed; it will be tried again");
        }
        if !goes_on {
            return;
        }
        sweeps = sweeps.wrapping_add(1);
    }
}

async fn sweep_once(service: &Service, purge: bool, uses: bool) -> Result<(), crate::failure::Failure> {
    let Ok(keyring) = service.keyring() else {
        return Ok(());
    };
    service.backups.sweep(service.edge.clock.elapsed());
    let owed = service.outbox.owed();
    if !owed.is_empty() {
        keyring.drain_outbox(&service.log, |event| owed.contains(&event.event_id)).await?;
        service.outbox.paid(&owed);
    }
    let done = service.outbox.take_recorded();
    if !done.is_empty() {
        let synced = service.log.sync().await.map_err(|_| Code::AuditUnavailable.into());
        let cleared = match synced {
            Ok(()) => keyring.clear_outbox(&done).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = cleared {
            // Next time: what is forgotten here would be written to the log again.
            service.outbox.recorded(done);
            return Err(failure);
        }
    }
    if uses {
        keyring.write_associations().await?;
    }
    if purge {
        let before = service.edge.clock.now().saturating_sub(ORPHAN_AGE_MS);
        keyring.drain_outbox(&service.log, |event| event.time < before).await?;
        let mut after: Option<Vec<u8>> = None;
        while let Some(last) = keyring.purge_client_tokens(after.as_deref(), PURGE_STEP).await? {
            after = Some(last);
        }
    }
    Ok(())
}

/// Waits; `false` when it is time to end.
async fn pause(clock: &Clock, time: Duration, halt: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = halt.cancelled() => false,
        () = clock.sleep(time) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::{Background, Edge, Entropy, Workers};
    use crate::store::MemoryStore;
    use futures_util::FutureExt;

    #[test]
    fn a_committer_that_hangs_is_not_alive_even_where_its_queue_is_full() {
        let (workers, manual) = Workers::manual();
        let (clock, time) = Clock::manual(0);
        let background = Background::manual().0;
        let edge = Edge { clock, entropy: Entropy::seeded(1), workers, background };
        let store = MemoryStore::new(&edge, 1).unwrap();
        for full in [false, true] {
            let waiting = full.then(|| store.commit(Vec::new()));
            let mut asked = Box::pin(committed(&*store, &edge.clock));
            for _ in 0..10 {
                assert!((&mut asked).now_or_never().is_none());
                assert_eq!(store.commit(Vec::new()).now_or_never(), Some(Err(StoreError::Busy)));
                time.advance(ASK_AGAIN);
            }
            // It goes on: whoever waited is answered, then the question.
            let answered = (0..3).any(|_| {
                while manual.step(0).is_some() {}
                time.advance(ASK_AGAIN);
                (&mut asked).now_or_never().is_some()
            });
            assert!(answered);
            drop(waiting);
        }
    }
}
