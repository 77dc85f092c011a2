//! The whole service, single-threaded: a seed decides which call is polled, which

#![allow(unreachable_pub)] // shared by the simulation tests of this crate
//! queue runs its next job, and when the clock moves. Everything that happens is
//! in the trace.

mod bounds;
mod jumps;
mod life;
mod races;
mod schedule;
mod steps;
mod table;
pub mod token;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use claviger_protocol::frame::Header;
use claviger_protocol::{Code, Operation, Request, ServiceName, codec};
use clavigerd::audit::AuditLog;
use clavigerd::backend::hsm::command::Template;
use clavigerd::backend::hsm::lane::Lane;
use clavigerd::backend::hsm::member::Member;
use clavigerd::backend::hsm::pool::Pool;
use clavigerd::config::Limits;
use clavigerd::edge::{
    Background, Clock, Edge, Entropy, ManualBackground, ManualTime, ManualWorkers, Workers,
};
use clavigerd::identity::{Caller, Endpoint, EndpointKind, Peer};
use clavigerd::keyring::{Keyring, Rules};
use clavigerd::scheduler::Scheduler;
use clavigerd::service::{Frame, Outcome, Service};
use clavigerd::store::{MemoryStore, Record, Sealed, Store};
use futures_util::future::BoxFuture;
use futures_util::task::noop_waker;

use token::{Faults, SimToken};

/// A reply off the wire: its code and its body.
pub type Answered = (Code, Vec<u8>);

pub struct Sim {
    pub service: Arc<Service>,
    pub time: Arc<ManualTime>,
    pub trace: Vec<String>,
    /// Whether the trace is kept, which takes longer than what it tells of.
    pub traced: bool,
    pub answers: BTreeMap<u64, Answered>,
    edge: Edge,
    store: Arc<MemoryStore>,
    workers: Arc<ManualWorkers>,
    changes: Arc<ManualBackground>,
    dice: Entropy,
    calls: Vec<(u64, BoxFuture<'static, Outcome>)>,
    next_id: u64,
    epoch: u64,
    template: Template,
    admin: Arc<Caller>,
    /// A caller through the endpoint of the service `svc`.
    served: Arc<Caller>,
    /// What goes wrong in the token.
    pub faults: Arc<Faults>,
    /// The scheduler, while it isn't looking, and its look, while it is.
    scheduler: Scheduler,
    look: Option<BoxFuture<'static, Scheduler>>,
}

fn caller(name: &str, kind: EndpointKind, service: Option<ServiceName>) -> Arc<Caller> {
    let endpoint = Arc::new(Endpoint { name: name.into(), kind, service });
    let peer = Arc::new(Peer { uid: 0, gid: 0, pid: 1, pidfd: None });
    Arc::new(Caller { endpoint, peer, access_key: None, connection: 1 })
}

impl Sim {
    /// A daemon on a token whose keys only derive.
    pub fn new(seed: u64) -> Self {
        Self::with_template(seed, Template::AesDeriveOnly)
    }

    /// A daemon on a token whose AES keys are of this kind.
    pub fn with_template(seed: u64, template: Template) -> Self {
        let (clock, time) = Clock::manual(1_700_000_000_000);
        let (queues, workers) = Workers::manual();
        let (background, changes) = Background::manual();
        let edge = Edge { clock, entropy: Entropy::seeded(seed), workers: queues, background };
        let store = MemoryStore::new(&edge, 64).unwrap();
        let service = Self::service(&edge);
        let own = ServiceName::new("svc").ok();
        let dice = Entropy::seeded(seed ^ 0x5eed);
        let mut sim = Self {
            service,
            time,
            trace: Vec::new(),
            traced: true,
            answers: BTreeMap::new(),
            edge,
            store,
            workers,
            changes,
            dice,
            calls: Vec::new(),
            next_id: 1,
            epoch: 0,
            template,
            admin: caller("admin", EndpointKind::Admin, None),
            served: caller("svc", EndpointKind::App, own),
            faults: Arc::default(),
            scheduler: Scheduler::default(),
            look: None,
        };
        sim.boot();
        sim
    }

    fn service(edge: &Edge) -> Arc<Service> {
        let log = Arc::new(AuditLog::in_memory(edge.workers.start("audit", 16).unwrap()));
        let pool = Pool::new([("sim".into(), "sim".into(), false)], edge.clock.now());
        Arc::new(Service::new(edge.clone(), Limits::default(), log, pool))
    }

    /// Opens the keyring as a start does, on a token of a new epoch.
    fn boot(&mut self) {
        self.epoch += 1;
        let lane = |name: &str| {
            let token = SimToken::new(self.epoch, self.edge.entropy.clone(), Arc::clone(&self.faults));
            Lane::new(Box::new(token), self.edge.workers.start(name, 64).unwrap())
        };
        let member = Member::simulated("sim", self.epoch, self.template, lane("serve"), lane("make"));
        let opening = {
            let (edge, store) = (self.edge.clone(), Arc::clone(&self.store));
            let services = self.served.endpoint.service.iter().cloned().collect();
            let rules = Rules { allow_software_tokens: true, services };
            async move { Keyring::open(edge, store, crate::sim_domain(), member, rules, &Limits::default()).await }
        };
        let keyring = Arc::new(self.finish(opening).unwrap());
        let log = Arc::clone(&self.service.log);
        let recovering = Arc::clone(&keyring);
        self.finish(async move { recovering.recover(&log).await }).unwrap();
        self.service.unlock(keyring);
    }

    /// A record as it is in the store.
    pub fn record<T: Record>(&mut self, path: &[u8]) -> T {
        let store: Arc<dyn Store> = Arc::clone(&self.store) as Arc<dyn Store>;
        let sealed = Sealed::new(store, crate::sim_domain().keys.record_mac());
        self.finish(sealed.get::<T>(path)).unwrap().unwrap().1
    }

    /// Power loss and restart: calls and sessions are gone, the store keeps what
    /// it acknowledged.
    pub fn crash(&mut self) {
        self.trace.push("crash".into());
        self.calls.clear();
        self.changes.clear();
        (self.scheduler, self.look) = (Scheduler::default(), None);
        while self.workers.step(0).is_some() {}
        self.store.crash();
        self.service = Self::service(&self.edge);
        self.boot();
    }

    /// A number below `bound`.
    pub fn roll(&self, bound: usize) -> usize {
        usize::from_le_bytes(self.dice.array().unwrap()) % bound
    }

    /// Starts a call and polls it once, in place, as a connection does.
    pub fn start<O: Operation>(&mut self, request: O) -> u64 {
        self.start_within(request, 0)
    }

    /// The same with a deadline in milliseconds; 0 is the service's default.
    pub fn start_within<O: Operation>(&mut self, request: O, deadline_ms: u32) -> u64 {
        self.start_as(Arc::clone(&self.admin), request, deadline_ms)
    }

    /// A call of the service that has a default key.
    pub fn start_as_service<O: Operation>(&mut self, request: O) -> u64 {
        self.start_as(Arc::clone(&self.served), request, 0)
    }

    fn start_as<O: Operation>(&mut self, caller: Arc<Caller>, request: O, deadline_ms: u32) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let body = Into::<Request>::into(request).encode().unwrap();
        let header = Header::request(O::OPCODE.number(), id, deadline_ms, u32::try_from(body.len()).unwrap());
        let frame = Frame::read(header, &body, self.edge.clock.elapsed());
        let service = Arc::clone(&self.service);
        self.trace.push(format!("start {id} {}", O::OPCODE.row().name));
        self.calls.push((id, Box::pin(async move { service.call(&caller, frame).await })));
        self.poll(self.calls.len() - 1);
        id
    }

    fn poll(&mut self, index: usize) {
        let waker = noop_waker();
        let (id, call) = &mut self.calls[index];
        let id = *id;
        if let Poll::Ready(outcome) = call.as_mut().poll(&mut Context::from_waker(&waker)) {
            drop(self.calls.remove(index));
            let mut out = Vec::new();
            self.service.conclude(vec![outcome], &mut out);
            let header = Header::from_bytes(out[..24].try_into().unwrap());
            assert_eq!((header.request_id, header.length as usize), (id, out.len() - 24));
            let code = Code::from_number(header.status).unwrap();
            if self.traced {
                self.trace.push(format!("done {id} {} {}", code.name(), hex::encode(&out[24..])));
            }
            self.answers.insert(id, (code, out[24..].to_vec()));
        }
    }

    /// One step of whatever the dice say: a call, a queue's job, or time.
    pub fn step(&mut self) {
        match self.roll(10) {
            0..3 if !self.calls.is_empty() => self.poll(self.roll(self.calls.len())),
            3..5 if self.changes.running() > 0 => {
                self.changes.step(self.roll(64));
                self.trace.push("change".into());
            }
            9 => {
                let ms = self.roll(40) as u64;
                self.time.advance(Duration::from_millis(ms));
                self.trace.push(format!("time +{ms}"));
            }
            _ => {
                if let Some(queue) = self.workers.step(self.roll(64)) {
                    self.trace.push(format!("job {queue}"));
                }
            }
        }
    }

    /// Steps until every call is answered.
    pub fn settle(&mut self) {
        for _ in 0..200_000 {
            if self.calls.is_empty() {
                return;
            }
            self.step();
        }
        panic!("calls never end: {:?}", self.calls.iter().map(|(id, _)| id).collect::<Vec<_>>());
    }

    /// Runs one call alone to its end.
    pub fn call<O: Operation>(&mut self, request: O) -> Result<O::Reply, Code> {
        let id = self.start(request);
        self.settle();
        self.reply::<O>(id)
    }

    /// The answer to a call that has one.
    pub fn reply<O: Operation>(&self, id: u64) -> Result<O::Reply, Code> {
        let (code, body) = &self.answers[&id];
        if *code == Code::Ok { Ok(codec::decode(body).unwrap()) } else { Err(*code) }
    }

    /// Drives a future of the service's own to its end.
    fn finish<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        let waker = noop_waker();
        for _ in 0..100_000 {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return value;
            }
            self.workers.step(0);
        }
        panic!("it never ends");
    }
}
