//! A scrape: every room's counts, read and written as text. Nothing is counted here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use claviger_protocol::values::MemberState;

use super::families as f;
use super::groups::Traffic;
use super::process::Process;
use super::text::Text;
use crate::backend::hsm::lane::Lane;
use crate::edge::Timestamp;
use crate::keyring::Keyring;
use crate::server::{Budget, Server};
use crate::service::Service;
use crate::store::SledStore;

/// Connections of one endpoint, as the server counts them.
#[derive(Clone)]
pub struct EndpointTraffic {
    /// The endpoint's name.
    pub name: String,
    /// Connections that are open.
    pub open: Arc<AtomicUsize>,
    /// What happened there.
    pub traffic: Arc<Traffic>,
}

/// Everything that a scrape reads.
pub struct Exposition {
    service: Arc<Service>,
    store: Arc<SledStore>,
    endpoints: Vec<EndpointTraffic>,
    /// Name, budget.
    budgets: Vec<(&'static str, Arc<Budget>)>,
    started: Timestamp,
}

impl Exposition {
    /// What to show of a daemon that has started at `started`, on the endpoints that it
    /// serves now.
    #[must_use]
    pub fn new(
        service: &Arc<Service>,
        store: &Arc<SledStore>,
        server: &Server,
        started: Timestamp,
    ) -> Arc<Self> {
        let (service, store) = (Arc::clone(service), Arc::clone(store));
        let (endpoints, budgets) = server.counts();
        Arc::new(Self { service, store, endpoints, budgets, started })
    }

    /// The whole text, as it is now.
    pub async fn render(&self) -> String {
        let mut text = Text::default();
        text.family(&f::BUILD).sample(&[env!("CARGO_PKG_VERSION")], 1);
        self.requests(&mut text);
        self.members(&mut text);
        let keyring = self.service.keyring().ok();
        if let Some(keyring) = keyring {
            lanes(&mut text, keyring);
            caches(&mut text, keyring);
        }
        self.store(&mut text).await;
        self.audit(&mut text);
        self.connections(&mut text);
        self.process(&mut text);
        text.finish()
    }

    fn requests(&self, text: &mut Text) {
        let requests = &self.service.requests;
        let mut counts = text.family(&f::REQUESTS);
        for (operation, code, series) in requests.all() {
            counts.sample(&[operation, code.name(), "admin"], series.admin.get());
            counts.sample(&[operation, code.name(), "app"], series.app.get());
        }
        let mut queue = text.family(&f::QUEUE);
        for (operation, code, series) in requests.all() {
            queue.histogram(&[operation, code.name()], &series.queue.snapshot());
        }
        let mut work = text.family(&f::WORK);
        for (operation, code, series) in requests.all() {
            work.histogram(&[operation, code.name()], &series.work.snapshot());
        }
        text.family(&f::IN_FLIGHT).sample(&[], self.service.running());
    }

    fn members(&self, text: &mut Text) {
        text.family(&f::UNLOCKED).sample(&[], u8::from(self.service.keyring().is_ok()));
        let members = self.service.pool.status();
        let mut states = text.family(&f::MEMBER_STATE);
        for member in &members {
            for &state in MemberState::ALL {
                states.sample(&[&member.name, state.name()], u8::from(member.state == state));
            }
        }
        let mut epochs = text.family(&f::MEMBER_EPOCH);
        for member in &members {
            epochs.sample(&[&member.name], member.epoch);
        }
    }

    async fn store(&self, text: &mut Text) {
        let counts = self.store.counts();
        text.family(&f::STORE_COMMITS)
            .sample(&["ok"], counts.commits.get())
            .sample(&["refused"], counts.refused.get());
        text.family(&f::STORE_GROUPS).sample(&[], counts.groups.get());
        text.family(&f::STORE_WRITE).histogram(&[], &counts.write.snapshot());
        text.family(&f::STORE_SYNC).histogram(&[], &counts.sync.snapshot());
        text.family(&f::STORE_QUEUE).sample(&[], self.store.waiting());
        // A store that can't say is busy or has failed, which other series show.
        if let Ok(bytes) = self.store.bytes_on_disk().await {
            text.family(&f::STORE_BYTES).sample(&[], bytes);
        }
    }

    fn audit(&self, text: &mut Text) {
        let log = &self.service.log;
        let counts = log.counts();
        text.family(&f::AUDIT_EVENTS).sample(&[], counts.events.get());
        text.family(&f::AUDIT_BYTES).sample(&[], counts.bytes.get());
        text.family(&f::AUDIT_WRITE).histogram(&[], &counts.write.snapshot());
        text.family(&f::AUDIT_SYNC).histogram(&[], &counts.sync.snapshot());
        text.family(&f::AUDIT_FAILING).sample(&[], u8::from(log.is_failing()));
    }

    fn connections(&self, text: &mut Text) {
        let mut open = text.family(&f::CONNECTIONS);
        for endpoint in &self.endpoints {
            open.sample(&[&endpoint.name], endpoint.open.load(Ordering::Acquire));
        }
        let mut each = |family, value: fn(&Traffic) -> u64| {
            let mut samples = text.family(family);
            for endpoint in &self.endpoints {
                samples.sample(&[&endpoint.name], value(&endpoint.traffic));
            }
        };
        each(&f::ACCEPTED, |traffic| traffic.accepted.get());
        each(&f::REFUSED, |traffic| traffic.refused.get());
        each(&f::RECEIVED, |traffic| traffic.received.get());
        each(&f::SENT, |traffic| traffic.sent.get());
        let mut used = text.family(&f::BUFFERS);
        for (name, budget) in &self.budgets {
            used.sample(&[name], budget.used());
        }
        let mut limit = text.family(&f::BUFFER_LIMIT);
        for (name, budget) in &self.budgets {
            limit.sample(&[name], budget.total());
        }
    }

    fn process(&self, text: &mut Text) {
        let process = Process::read();
        let started = self.started.max(0);
        text.family(&f::START).sample(&[], format!("{}.{:03}", started / 1000, started % 1000));
        let figures = [
            (&f::RESIDENT, process.resident),
            (&f::LOCKED, process.locked),
            (&f::DESCRIPTORS, process.descriptors),
            (&f::DESCRIPTOR_LIMIT, process.descriptor_limit),
        ];
        for (family, figure) in figures {
            if let Some(figure) = figure {
                text.family(family).sample(&[], figure);
            }
        }
    }
}

/// Lanes of the member in use.
fn lanes(text: &mut Text, keyring: &Keyring) {
    let member = keyring.member();
    let pairs = (0..).zip(&member.asymmetric).map(|(number, lane)| (format!("pair_{number}"), lane));
    let one = [("serve".to_owned(), &member.serve), ("make".to_owned(), &member.make)];
    let lanes: Vec<(String, &Arc<Lane>)> = one.into_iter().chain(pairs).collect();
    let mut calls = text.family(&f::LANE_CALLS);
    for (name, lane) in &lanes {
        let counts = lane.counts();
        calls
            .sample(&[&member.name, name, "in_place"], counts.in_place.get())
            .sample(&[&member.name, name, "queued"], counts.queued.get())
            .sample(&[&member.name, name, "refused"], counts.refused.get());
    }
    let mut failures = text.family(&f::LANE_FAILURES);
    for (name, lane) in &lanes {
        failures.sample(&[&member.name, name], lane.counts().failures.get());
    }
    let mut wait = text.family(&f::LANE_WAIT);
    for (name, lane) in &lanes {
        wait.histogram(&[&member.name, name], &lane.counts().wait.snapshot());
    }
    let mut hold = text.family(&f::LANE_HOLD);
    for (name, lane) in &lanes {
        hold.histogram(&[&member.name, name], &lane.counts().hold.snapshot());
    }
    let mut backlog = text.family(&f::LANE_BACKLOG);
    for (name, lane) in &lanes {
        backlog.sample(&[&member.name, name], lane.backlog());
    }
}

fn caches(text: &mut Text, keyring: &Keyring) {
    let caches = keyring.caches();
    let mut hits = text.family(&f::CACHE_HITS);
    for (name, counts, _, _) in &caches {
        hits.sample(&[name], counts.hits.get());
    }
    let mut misses = text.family(&f::CACHE_MISSES);
    for (name, counts, _, _) in &caches {
        misses.sample(&[name], counts.misses.get());
    }
    let mut evictions = text.family(&f::CACHE_EVICTIONS);
    for (name, _, evicted, _) in &caches {
        evictions.sample(&[name], evicted);
    }
    let mut entries = text.family(&f::CACHE_ENTRIES);
    for (name, _, _, count) in &caches {
        entries.sample(&[name], count);
    }
    let done = keyring.done();
    text.family(&f::UNWRAPS)
        .sample(&["ok"], done.unwraps.get())
        .sample(&["failed"], done.failed_unwraps.get());
}
