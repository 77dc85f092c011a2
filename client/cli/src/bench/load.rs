//! Making calls and timing them: one thread, a task for each connection, as many calls
//! in flight on each as asked for. The same loop measures the daemon and the bare echo.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use claviger_client::{Error, Options, Pipeline, RawReply};
use claviger_protocol::body::BatchReply;
use claviger_protocol::{Code, Opcode, Reply, Request, SecretBytes};
use tokio::task::JoinSet;

use super::figures::{Errors, Tally, count};
use crate::failure::Failure;

/// What every frame of a run says.
pub(crate) struct Call {
    pub(crate) opcode: Opcode,
    pub(crate) body: SecretBytes,
    /// Makes the request of each frame anew, where they can't be the same.
    pub(crate) fresh: Option<Fresh>,
}

/// Gives the next request.
pub(crate) type Fresh = Box<dyn Fn() -> Request + Send + Sync>;

impl Call {
    fn submit(&self, pipeline: &mut Pipeline<Instant>, now: Instant) -> Result<(), Error> {
        match &self.fresh {
            Some(fresh) => pipeline.submit(fresh(), now),
            None => pipeline.submit_encoded(self.opcode, self.body.expose(), now),
        }
    }
}

/// How one measurement goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Frames in flight on each connection.
    pub(crate) depth: usize,
    /// Calls before the measurement.
    pub(crate) warmup: Duration,
    /// When it ends.
    pub(crate) bound: Bound,
}

/// What ends a measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    Time(Duration),
    Frames(u64),
}

/// Connections to one server, kept over all rounds.
pub(crate) struct Load {
    call: Arc<Call>,
    pipelines: Vec<Pipeline<Instant>>,
    /// How long a server may say nothing.
    patience: Duration,
}

/// One measurement's work, shared by its tasks.
struct Work {
    call: Arc<Call>,
    depth: usize,
    from: Instant,
    until: Option<Instant>,
    left: AtomicU64,
}

impl Load {
    /// Connects `clients` times.
    pub(crate) async fn connect(
        socket: &Path,
        options: &Options,
        clients: u32,
        call: Arc<Call>,
    ) -> Result<Self, Failure> {
        let mut pipelines = Vec::new();
        for _ in 0..clients {
            pipelines.push(Pipeline::connect(socket, options).await?);
        }
        Ok(Self { call, pipelines, patience: options.timeout })
    }

    /// Makes one call, whose reply shows what every later one must be like.
    pub(crate) async fn first(&mut self) -> Result<RawReply, Failure> {
        let none = || Failure::local("Internal", "a benchmark needs a client");
        let pipeline = self.pipelines.first_mut().ok_or_else(none)?;
        self.call.submit(pipeline, Instant::now())?;
        let late = |_| Error::Timeout(self.patience);
        tokio::time::timeout(self.patience, pipeline.ready()).await.map_err(late)??;
        let (_, reply) = pipeline.take()?.ok_or_else(none)?;
        Ok(reply?)
    }

    /// Measures once.
    ///
    /// # Errors
    /// A connection that broke, or a server that said nothing for the whole patience.
    /// Refused calls are in the tally.
    pub(crate) async fn measure(&mut self, pace: Pace) -> Result<Tally, Failure> {
        let mut warmed = Errors::new();
        if !pace.warmup.is_zero() {
            let bound = Bound::Time(pace.warmup);
            warmed = self.run(Pace { bound, ..pace }).await?.errors;
        }
        let mut tally = self.run(pace).await?;
        count(&mut tally.errors, warmed);
        Ok(tally)
    }

    async fn run(&mut self, pace: Pace) -> Result<Tally, Failure> {
        let start = Instant::now();
        let (until, left) = match pace.bound {
            Bound::Time(time) => (Some(start + time), u64::MAX),
            Bound::Frames(frames) => (None, frames),
        };
        let (call, depth) = (Arc::clone(&self.call), pace.depth);
        let work = Arc::new(Work { call, depth, from: start, until, left: AtomicU64::new(left) });
        let mut tasks = JoinSet::new();
        for pipeline in self.pipelines.drain(..) {
            tasks.spawn(drive(pipeline, Arc::clone(&work), self.patience));
        }
        let mut tally = Tally::new()?;
        while let Some(ended) = tasks.join_next().await {
            let internal = |error| Failure::local("Internal", format!("a client ended: {error}"));
            let (pipeline, part) = ended.map_err(internal)??;
            self.pipelines.push(pipeline);
            tally.add(part);
        }
        tally.took = until.map_or_else(|| start.elapsed(), |until| until - start);
        Ok(tally)
    }
}

impl Work {
    /// Whether one more frame is to be sent.
    fn take(&self, now: Instant) -> bool {
        match self.until {
            Some(until) => now < until,
            None => {
                let one = |left: u64| left.checked_sub(1);
                self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one).is_ok()
            }
        }
    }
}

/// Keeps one connection busy until the work is done. One look at the clock for all the
/// replies of a read, which is when the calls that take their places start too.
async fn drive(
    mut pipeline: Pipeline<Instant>,
    work: Arc<Work>,
    patience: Duration,
) -> Result<(Pipeline<Instant>, Tally), Failure> {
    let mut tally = Tally::new()?;
    let mut now = Instant::now();
    let mut guard = Box::pin(tokio::time::sleep(patience));
    loop {
        while pipeline.in_flight() < work.depth && work.take(now) {
            work.call.submit(&mut pipeline, now)?;
        }
        if pipeline.in_flight() == 0 {
            return Ok((pipeline, tally));
        }
        tokio::select! {
            biased;
            ready = pipeline.ready() => ready?,
            () = &mut guard => {
                // Set anew only here, so that the clock costs nothing for each read.
                if now.elapsed() >= patience {
                    return Err(Error::Timeout(patience).into());
                }
                guard.as_mut().reset((now + patience).into());
            }
        }
        now = Instant::now();
        let counts = work.until.is_none_or(|until| now <= until) && now >= work.from;
        while let Some((start, reply)) = pipeline.take()? {
            let (items, errors) = match &reply {
                Ok(reply) if work.call.opcode == Opcode::Batch => items(&reply.decode()?),
                Ok(_) => (1, Vec::new()),
                Err(error) => (0, vec![name(error)]),
            };
            tally.note(counts, now - start, items, &errors);
            if let Ok(reply) = reply {
                tally.sample = Some(reply);
            }
        }
    }
}

/// How many items of a batch went well, and the names of the others' codes.
fn items(reply: &Reply) -> (u64, Vec<&'static str>) {
    let Reply::Batch(BatchReply { results }) = reply else { return (0, vec!["Protocol"]) };
    let failed = results.iter().filter(|result| result.status != Code::Ok.number());
    let errors: Vec<_> =
        failed.map(|result| Code::from_number(result.status).map_or("Unknown", Code::name)).collect();
    (results.len() as u64 - errors.len() as u64, errors)
}

fn name(error: &Error) -> &'static str {
    match error {
        Error::Refused { code, .. } => code.name(),
        Error::Timeout(_) => "Timeout",
        Error::Connect(_) => "Unreachable",
        Error::ConnectionLost { .. } => "ConnectionLost",
        Error::Protocol(_) => "Protocol",
    }
}
