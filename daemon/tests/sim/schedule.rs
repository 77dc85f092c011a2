//! The scheduler by hand: its looks go on with everything else, or alone to their end.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::task::noop_waker;
use tokio_util::sync::CancellationToken;

use super::Sim;

impl Sim {
    /// The scheduler begins to look at what is due, unless it is at it.
    pub fn begin_look(&mut self) {
        if self.look.is_some() {
            return;
        }
        let (mut scheduler, service) = (std::mem::take(&mut self.scheduler), Arc::clone(&self.service));
        self.trace.push("look".into());
        self.look = Some(Box::pin(async move {
            scheduler.look(&service, &CancellationToken::new()).await;
            scheduler
        }));
    }

    /// Whether it is looking.
    pub fn looking(&self) -> bool {
        self.look.is_some()
    }

    /// Lets it go on.
    pub fn poll_look(&mut self) {
        let Some(look) = &mut self.look else { return };
        if let Poll::Ready(scheduler) = look.as_mut().poll(&mut Context::from_waker(&noop_waker())) {
            (self.scheduler, self.look) = (scheduler, None);
            self.trace.push("looked".into());
        }
    }

    /// A look, alone and to its end, and another: what the first did may make more due.
    pub fn look(&mut self) {
        for _ in 0..2 {
            self.begin_look();
            while self.looking() {
                self.workers.step(0);
                self.poll_look();
            }
        }
    }

    /// A step of a call, a change, a queue or the look; the clock stands still.
    pub fn step_in_place(&mut self) {
        match self.roll(8) {
            0 | 1 if !self.calls.is_empty() => self.poll(self.roll(self.calls.len())),
            2 | 3 if self.changes.running() > 0 => {
                self.changes.step(self.roll(64));
            }
            4 if self.looking() => self.poll_look(),
            _ => {
                self.workers.step(self.roll(64));
            }
        }
    }

    /// Whether everything that was begun has ended.
    pub fn idle(&self) -> bool {
        self.calls.is_empty() && self.changes.running() == 0 && self.look.is_none()
    }

    /// What the upkeep does now and then: uses are written down, old client tokens go.
    pub fn upkeep(&mut self) {
        let service = Arc::clone(&self.service);
        self.finish(async move {
            let keyring = service.keyring().unwrap();
            keyring.write_associations().await.unwrap();
            keyring.purge_client_tokens(None, 1_000).await.unwrap();
        });
    }
}
