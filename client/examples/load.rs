//! A quick load program: operations a second and latencies of one operation.
//!
//! `ping` and `encrypt` ask a daemon, through the client as any program would.
//! `echo` asks nobody: frames of `--size` bytes to a bare echo server, by the same
//! pattern of calls, as the baseline of what a Unix socket and the runtime can do.
//! The server has a runtime and a thread of its own, as a daemon has; `--together`
//! puts it on the callers' runtime, where a reply needs no other thread to wake. Build with `--release`, or the figures mean nothing.
//!
//! ```text
//! load echo --depth 64
//! load encrypt --socket dev/app.sock --key alias/load --clients 4 --depth 64 --seconds 5
//! ```

#![allow(clippy::print_stdout, reason = "a program that prints figures")]

use std::collections::VecDeque;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use claviger_client::protocol::{EncryptionContext, KeyRef};
use claviger_client::{Client, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

type Failed = Box<dyn Error + Send + Sync>;
type Latencies = Vec<Duration>;

/// Measure one operation.
#[derive(Debug, Clone, Parser)]
struct Args {
    operation: Operation,
    /// The daemon's socket
    #[arg(long, env = "CLAVIGER_SOCKET")]
    socket: Option<PathBuf>,
    /// The key to encrypt under
    #[arg(long)]
    key: Option<KeyRef>,
    /// Connections
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// Calls in flight on each connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    depth: u32,
    /// Bytes of the plaintext, the ping's payload or the echoed frame
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    size: u32,
    /// How long to measure, after a tenth of it to warm up (none with --count)
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Stop after so many calls, if that comes first
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    count: u64,
    /// Run the echo server on the runtime of its callers
    #[arg(long)]
    together: bool,
    /// Threads of the runtime; one is the fastest for few connections
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Operation {
    Ping,
    Encrypt,
    Echo,
}

/// When to measure, and what is left to do.
#[derive(Clone)]
struct Plan {
    from: Instant,
    until: Instant,
    left: Arc<AtomicU64>,
}

impl Plan {
    /// Whether one more call is to be made.
    fn take(&self) -> bool {
        let one = |left: u64| left.checked_sub(1);
        Instant::now() < self.until
            && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one).is_ok()
    }

    /// Notes a call, if it began after the warm-up.
    fn note(&self, latencies: &mut Latencies, start: Instant) {
        if start >= self.from {
            latencies.push(start.elapsed());
        }
    }
}

fn main() -> Result<(), Failed> {
    let args = Args::parse();
    let threads = usize::try_from(args.threads)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    // On a task, as a program's calls are: the main thread is no worker of the runtime.
    runtime.block_on(async { tokio::spawn(measure(args)).await? })
}

async fn measure(args: Args) -> Result<(), Failed> {
    let length = Duration::try_from_secs_f64(args.seconds)?;
    // A count is meant to be exact, so it needs no warm-up.
    let from = Instant::now() + if args.count == u64::MAX { length / 10 } else { Duration::ZERO };
    let plan = Plan { from, until: from + length, left: Arc::new(AtomicU64::new(args.count)) };
    let mut latencies = match args.operation {
        Operation::Echo => echo(&args, &plan).await?,
        Operation::Ping | Operation::Encrypt => calls(&args, &plan).await?,
    };
    let took = from.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |share: usize| {
        let index = (latencies.len() * share / 1000).min(latencies.len().saturating_sub(1));
        latencies.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
    };
    let done = u32::try_from(latencies.len())?;
    println!(
        "{:?}: {} clients, depth {}, {} bytes: {:.0} ops/s, p50 {:.1} µs, p99 {:.1} µs, p99.9 {:.1} µs ({done} calls in {took:.2} s)",
        args.operation,
        args.clients,
        args.depth,
        args.size,
        f64::from(done) / took,
        at(500),
        at(990),
        at(999),
    );
    Ok(())
}

/// `depth` tasks on each of `clients` connections, each with one call at a time.
async fn calls(args: &Args, plan: &Plan) -> Result<Latencies, Failed> {
    let socket = args.socket.clone().ok_or("--socket is needed")?;
    let key = match args.operation {
        Operation::Encrypt => Some(args.key.clone().ok_or("--key is needed")?),
        Operation::Ping | Operation::Echo => None,
    };
    let payload = vec![0x5a; usize::try_from(args.size)?];
    let mut tasks = JoinSet::new();
    for _ in 0..args.clients {
        let client = Client::connect(&socket, Options::default()).await?;
        for _ in 0..args.depth {
            let (client, key, payload, plan) = (client.clone(), key.clone(), payload.clone(), plan.clone());
            tasks.spawn(async move {
                let mut latencies = Latencies::new();
                while plan.take() {
                    let start = Instant::now();
                    match key.clone() {
                        Some(key) => {
                            let plaintext = payload.clone().into();
                            client.encrypt(key, plaintext, EncryptionContext::default()).await?;
                        }
                        None => drop(client.ping(payload.clone()).await?),
                    }
                    plan.note(&mut latencies, start);
                }
                Ok::<_, Failed>(latencies)
            });
        }
    }
    gather(tasks).await
}

async fn gather(mut tasks: JoinSet<Result<Latencies, Failed>>) -> Result<Latencies, Failed> {
    let mut all = Latencies::new();
    while let Some(done) = tasks.join_next().await {
        all.append(&mut done??);
    }
    Ok(all)
}

async fn echo(args: &Args, plan: &Plan) -> Result<Latencies, Failed> {
    let path = std::env::temp_dir().join(format!("claviger-load-echo-{}.sock", std::process::id()));
    let size = usize::try_from(args.size)?;
    let listener = std::os::unix::net::UnixListener::bind(&path)?;
    listener.set_nonblocking(true)?;
    if args.together {
        tokio::spawn(serve(listener, size));
    } else {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || runtime.block_on(serve(listener, size)));
    }
    let measured = echo_on(&path, args, plan).await;
    std::fs::remove_file(&path)?;
    measured
}

async fn echo_on(path: &Path, args: &Args, plan: &Plan) -> Result<Latencies, Failed> {
    let (size, depth) = (usize::try_from(args.size)?, usize::try_from(args.depth)?);
    let mut tasks = JoinSet::new();
    for _ in 0..args.clients {
        let near = UnixStream::connect(path).await?;
        let plan = plan.clone();
        tasks.spawn(async move { ask(near, size, depth, &plan).await });
    }
    gather(tasks).await
}

async fn serve(listener: std::os::unix::net::UnixListener, size: usize) -> std::io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(answer(stream, size));
    }
}

/// The bare server: every whole frame of a read goes back in one write.
async fn answer(mut stream: UnixStream, size: usize) -> std::io::Result<()> {
    let mut buffer = vec![0; (64 * 1024).max(2 * size)];
    let mut have = 0;
    loop {
        let count = stream.read(&mut buffer[have..]).await?;
        if count == 0 {
            return Ok(());
        }
        have += count;
        let whole = have - have % size;
        stream.write_all(&buffer[..whole]).await?;
        buffer.copy_within(whole..have, 0);
        have -= whole;
    }
}

/// Keeps `depth` frames under way: as many go out in one write as came back in one read.
async fn ask(mut stream: UnixStream, size: usize, depth: usize, plan: &Plan) -> Result<Latencies, Failed> {
    let frames = vec![0x5a; size * depth];
    let mut buffer = vec![0; (64 * 1024).max(2 * size)];
    let mut latencies = Latencies::new();
    let mut started: VecDeque<Instant> = VecDeque::with_capacity(depth);
    let (mut have, mut room) = (0, depth);
    loop {
        let sending = (0..room).take_while(|_| plan.take()).count();
        let now = Instant::now();
        started.extend(std::iter::repeat_n(now, sending));
        stream.write_all(&frames[..sending * size]).await?;
        if started.is_empty() {
            return Ok(latencies);
        }
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Err("the echo server went away".into());
        }
        have += count;
        room = have / size;
        have %= size;
        for start in started.drain(..room) {
            plan.note(&mut latencies, start);
        }
    }
}
