//! From a locked daemon to a serving one: the HSM is opened, its root opens the
//! domain key, the domain key opens the store's records. What may come back is
//! retried; a refused PIN never is.

use std::ops::ControlFlow;
use std::sync::Arc;

use claviger_protocol::body::SpecStatus;
use claviger_protocol::values::MemberState;
use tokio::sync::oneshot;

use super::supervisor::Supervisor;
use super::watch::Watch;
use super::{DOMAIN_MISSING, DaemonError};
use crate::backend::hsm;
use crate::backend::hsm::domain::{Domain, DomainError};
use crate::backend::hsm::member::Member;
use crate::backend::hsm::probe::ProbeReport;
use crate::config::{Config, MemberConfig};
use crate::edge::{Edge, Worker};
use crate::keyring::{Keyring, Rules};
use crate::service::Service;
use crate::store::{SledStore, Store};

/// What unlocking needs.
pub(super) struct Unlock {
    pub(super) config: Arc<Config>,
    pub(super) edge: Edge,
    pub(super) store: Arc<SledStore>,
    pub(super) service: Arc<Service>,
    /// Hears how it goes.
    pub(super) supervisor: Arc<Supervisor>,
    /// Where blocking PKCS#11 calls run.
    pub(super) opener: Worker,
}

/// Why the domain is still locked.
enum Locked {
    /// It may work later.
    ForNow(MemberState, String),
    /// Trying again would only do harm.
    Latched(String),
    /// The state directory can't be served at all.
    Fatal(String),
}

impl Unlock {
    /// Returns when calls can be served, with what then watches over the member.
    pub(super) async fn run(self) -> Result<Watch, DaemonError> {
        let member = self
            .config
            .hsm
            .first()
            .cloned()
            .ok_or_else(|| DaemonError::Domain("no HSM configured".into()))?;
        let mut told = String::new();
        let mut epoch = 0;
        loop {
            epoch += 1;
            match self.attempt(&member, epoch).await {
                Ok(keyring) => {
                    let tether = keyring.member().tether().cloned();
                    self.service.unlock(Arc::new(keyring));
                    tracing::info!(hsm = %member.name, "serving");
                    self.supervisor.ready("serving");
                    let Self { edge, service, supervisor, opener, .. } = self;
                    return Ok(Watch { edge, service, opener, name: member.name, supervisor, tether, epoch });
                }
                Err(Locked::ForNow(state, reason)) => {
                    if told != reason {
                        let every = humantime::format_duration(self.service.limits().hsm_retry);
                        tracing::warn!(hsm = %member.name, %reason, %every, "the domain stays locked; trying again");
                        // Ready all the same: only so can it be asked what is wrong.
                        self.supervisor.ready(&format!("the domain is locked: {reason}"));
                        told.clone_from(&reason);
                    }
                    self.service.pool.down(&member.name, state, &reason, self.edge.clock.now());
                }
                Err(Locked::Latched(reason)) => {
                    tracing::error!(hsm = %member.name, %reason, "the domain stays locked until the daemon is restarted");
                    self.supervisor.ready(&format!("the domain is locked until a restart: {reason}"));
                    self.service.pool.down(
                        &member.name,
                        MemberState::PinRefused,
                        &reason,
                        self.edge.clock.now(),
                    );
                    return std::future::pending().await;
                }
                Err(Locked::Fatal(reason)) => return Err(DaemonError::Domain(reason)),
            }
            let retry = self.service.limits().hsm_retry;
            self.edge.clock.sleep(retry).await;
        }
    }

    async fn attempt(&self, config: &MemberConfig, epoch: u64) -> Result<Keyring, Locked> {
        let (member, domain) = self.open(config.clone(), epoch).await?;
        let specs = spec_statuses(&member.report);
        self.service.pool.up(&member.name, epoch, specs, self.edge.clock.now());
        self.service.pool.locked("the store's records are being read");
        let rules = Rules {
            allow_software_tokens: self.config.dev || self.config.allow_software_tokens,
            services: self.config.endpoints.iter().filter_map(|endpoint| endpoint.service.clone()).collect(),
        };
        let store: Arc<dyn Store> = Arc::clone(&self.store) as Arc<dyn Store>;
        let keyring = Keyring::open(self.edge.clone(), store, domain, member, rules, &self.config.limits)
            .await
            .map_err(|failure| {
                Locked::Fatal(format!("the store's records can't be read: {}", failure.message))
            })?;
        keyring
            .recover(&self.service.log)
            .await
            .map_err(|failure| Locked::Fatal(format!("recovery failed: {}", failure.message)))?;
        Ok(keyring)
    }

    /// Opens the member and the domain key, off the runtime.
    async fn open(&self, member: MemberConfig, epoch: u64) -> Result<(Member, Domain), Locked> {
        let records = self.store.list(b"", None, 1).await.map_err(|error| {
            Locked::ForNow(MemberState::Down, format!("the store can't be read: {error}"))
        })?;
        let has_records = !records.is_empty();
        let (done, opened) = oneshot::channel();
        let (config, edge) = (Arc::clone(&self.config), self.edge.clone());
        let open = move || drop(done.send(open_blocking(&config, &member, &edge, epoch, has_records)));
        self.opener.submit(open).map_err(|full| Locked::ForNow(MemberState::Down, full.to_string()))?;
        let gone = |_| Locked::Fatal("the thread that opens the HSM ended".to_owned());
        opened.await.map_err(gone)?
    }
}

fn open_blocking(
    config: &Config,
    member: &MemberConfig,
    edge: &Edge,
    epoch: u64,
    has_records: bool,
) -> Result<(Member, Domain), Locked> {
    let down = |reason: String| Locked::ForNow(MemberState::Down, reason);
    let mut header = hsm::domain::header(&config.state_dir).map_err(|error| down(error.to_string()))?;
    if header.is_none() && config.dev {
        if has_records {
            return Err(Locked::Fatal(DOMAIN_MISSING.to_owned()));
        }
        tracing::info!("first start: making the embedded token and the domain");
        hsm::init(config, &[], edge, &mut |_| ControlFlow::Continue(()))
            .map_err(|error| down(error.to_string()))?;
        header = hsm::domain::header(&config.state_dir).map_err(|error| down(error.to_string()))?;
    }
    let root = header
        .ok_or_else(|| {
            let missing = DomainError::Missing.to_string();
            let reason = if has_records { DOMAIN_MISSING.to_owned() } else { missing };
            Locked::ForNow(MemberState::NoRoot, reason)
        })?
        .root;
    let opened =
        hsm::member::open(member, Some(&root), &edge.workers, &config.limits, epoch).map_err(|error| {
            if error.latches() { Locked::Latched(error.to_string()) } else { down(error.to_string()) }
        })?;
    let domain = hsm::domain::open_domain(&config.state_dir, &opened).map_err(|error| match error {
        DomainError::NoRoot(_) => Locked::ForNow(MemberState::NoRoot, error.to_string()),
        other => down(other.to_string()),
    })?;
    Ok((opened, domain))
}

/// What a member's tests say of each key spec, as status shows it.
pub(super) fn spec_statuses(report: &ProbeReport) -> Vec<SpecStatus> {
    let status = |(spec, available, reason)| SpecStatus { spec, available, reason };
    report.by_spec().into_iter().map(status).collect()
}
