//! What watches over a member that serves: its helper is looked at from time to time and
//! whenever a call failed, and one that is lost is replaced by another, with a new epoch.
//! Calls fail meanwhile; keys are unwrapped again when they are next used. A refused PIN
//! ends it: no other helper gets to try one.

use std::sync::Arc;
use std::time::Duration;

use claviger_protocol::values::MemberState;
use tokio::sync::oneshot;

use super::supervisor::Supervisor;
use super::unlock::spec_statuses;
use crate::backend::hsm::helper::Tether;
use crate::backend::hsm::member::OpenError;
use crate::edge::{Edge, Worker};
use crate::service::Service;

/// Watches over the member of an unlocked domain.
pub(super) struct Watch {
    pub(super) edge: Edge,
    pub(super) service: Arc<Service>,
    /// Where blocking PKCS#11 calls run.
    pub(super) opener: Worker,
    /// The member's name.
    pub(super) name: String,
    /// Hears when the member is lost and when it is back.
    pub(super) supervisor: Arc<Supervisor>,
    /// None for a token in the daemon itself, which can't be opened again there.
    pub(super) tether: Option<Tether>,
    /// The last opening of the member.
    pub(super) epoch: u64,
}

impl Watch {
    /// Watches until it is dropped.
    pub(super) async fn run(mut self) {
        let Some(tether) = self.tether.take() else { return std::future::pending().await };
        loop {
            tokio::select! {
                () = tether.trouble() => {}
                () = self.edge.clock.sleep(self.retry()) => {}
            }
            let Err(error) = tether.check().await else { continue };
            self.down(MemberState::Down, &error.to_string());
            if self.reopen(&tether).await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Tries until the member is open again, or must not be tried any more.
    async fn reopen(&mut self, tether: &Tether) -> Result<(), OpenError> {
        let mut told = String::new();
        loop {
            self.epoch += 1;
            let error = match self.attempt(tether).await {
                Ok(()) => {
                    let (specs, now) = (spec_statuses(tether.report()), self.edge.clock.now());
                    self.service.pool.up(&self.name, self.epoch, specs, now);
                    tracing::warn!(hsm = %self.name, epoch = self.epoch, "the HSM was opened again");
                    self.supervisor.ready("serving");
                    return Ok(());
                }
                Err(error) => error,
            };
            let reason = error.to_string();
            if error.latches() {
                tracing::error!(hsm = %self.name, %reason, "the HSM stays off until the daemon is restarted");
                self.down(MemberState::PinRefused, &reason);
                return Err(error);
            }
            let state =
                if matches!(error, OpenError::Root(_)) { MemberState::NoRoot } else { MemberState::Down };
            self.down(state, &reason);
            if told != reason {
                tracing::warn!(hsm = %self.name, %reason, "the HSM can't be opened again yet; trying on");
                told = reason;
            }
            self.edge.clock.sleep(self.pause()).await;
        }
    }

    async fn attempt(&self, tether: &Tether) -> Result<(), OpenError> {
        let (done, opened) = oneshot::channel();
        let (tether, epoch) = (tether.clone(), self.epoch);
        let open = move || drop(done.send(tether.reopen(epoch)));
        self.opener.submit(open).map_err(|full| OpenError::Unavailable(full.to_string()))?;
        let ended = |_| OpenError::Unavailable("the thread that opens the HSM ended".to_owned());
        opened.await.map_err(ended)?
    }

    fn down(&self, state: MemberState, reason: &str) {
        self.service.pool.down(&self.name, state, reason, self.edge.clock.now());
        self.supervisor.ready(&format!("HSM {} is away: {reason}", self.name));
    }

    /// Between two looks, and about as long between two attempts to open it again.
    fn retry(&self) -> Duration {
        self.service.limits().hsm_retry
    }

    /// From half to one and a half of the time between attempts: daemons that lost the
    /// same HSM don't come back to it all at once.
    fn pause(&self) -> Duration {
        let random = self.edge.entropy.array::<1>().map_or(128, |[byte]| u32::from(byte));
        let retry = self.retry();
        retry / 2 + retry * random / 256
    }
}
