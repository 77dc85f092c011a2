//! What a start finds of an earlier end: open intents are closed in the audit,
//! and events that were committed with their change reach the log.

use std::sync::Arc;

use claviger_protocol::Code;
use uuid::Uuid;

use super::Keyring;
use super::record::{IntentRecord, OutboxRecord, path};
use crate::audit::{AuditLog, Event, Level};
use crate::failure::Failure;
use crate::store::{Change, Expect, MAX_BATCH_OPS, Op};

impl Keyring {
    /// Closes what a former run left open. Run once, before any call is served.
    pub async fn recover(&self, log: &Arc<AuditLog>) -> Result<(), Failure> {
        loop {
            let open = self.store.list::<IntentRecord>(path::INTENTS, None, MAX_BATCH_OPS).await?;
            if open.is_empty() {
                break;
            }
            let interrupted = |record: &IntentRecord| Event {
                outcome: Code::Internal.number(),
                level: Level::Warning,
                ..record.event.clone()
            };
            let events: Vec<_> = open.iter().map(|(_, _, record)| interrupted(record)).collect();
            tracing::warn!(
                count = events.len(),
                "calls that a former run left open were closed; nothing of them is kept"
            );
            self.record_and_delete(log, &events, open.into_iter().map(|(key, _, _)| key).collect()).await?;
        }
        self.drain_outbox(log, |_| true).await?;
        self.reopen_projects().await
    }

    /// Writes every outbox event that `due` says to the log, and removes it from there.
    pub async fn drain_outbox(
        &self,
        log: &Arc<AuditLog>,
        due: impl Fn(&Event) -> bool,
    ) -> Result<(), Failure> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.store.list::<OutboxRecord>(path::OUTBOX, after.as_deref(), MAX_BATCH_OPS).await?;
            let last = (page.len() == MAX_BATCH_OPS).then(|| page.last().map(|(key, _, _)| key.clone()));
            let (keys, events): (Vec<_>, Vec<_>) = page
                .into_iter()
                .filter(|(_, _, record)| due(&record.event))
                .map(|(key, _, record)| (key, record.event))
                .unzip();
            self.record_and_delete(log, &events, keys).await?;
            match last.flatten() {
                Some(last) => after = Some(last),
                None => return Ok(()),
            }
        }
    }

    /// Removes outbox entries whose events are in the log, and on the disk there.
    pub async fn clear_outbox(&self, events: &[Uuid]) -> Result<(), Failure> {
        for chunk in events.chunks(MAX_BATCH_OPS) {
            self.delete(chunk.iter().map(|id| path::outbox(*id)).collect()).await?;
        }
        Ok(())
    }

    async fn record_and_delete(
        &self,
        log: &Arc<AuditLog>,
        events: &[Event],
        keys: Vec<Vec<u8>>,
    ) -> Result<(), Failure> {
        if keys.is_empty() {
            return Ok(());
        }
        log.record(events).map_err(|_| Code::AuditUnavailable)?;
        log.sync().await.map_err(|_| Code::AuditUnavailable)?;
        self.delete(keys).await
    }

    async fn delete(&self, keys: Vec<Vec<u8>>) -> Result<(), Failure> {
        let delete = |key| Op { key, expect: Expect::Any, change: Change::Delete };
        self.commit(keys.into_iter().map(delete).collect()).await?;
        Ok(())
    }
}
