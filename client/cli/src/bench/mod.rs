//! `claviger bench`: how fast the daemon is, beside what the same machine can do at
//! best in the same minutes. Lives here: the order of a run. Must not live here:
//! cryptography of its own; `clavigerd hsm bench` has the token linked in.

mod args;
mod echo;
mod figures;
mod in_process;
mod load;
mod operations;
mod report;
mod subject;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use claviger_client::{Client, Options};
use claviger_protocol::{KeySpec, Protection};

pub(crate) use self::args::{Bench, EXAMPLES};
use self::echo::Echo;
use self::figures::{Errors, Figures, Tally, count};
use self::in_process::Speed;
use self::load::{Bound, Load, Pace};
use self::operations::Kind;
use self::report::{Ratios, Report};
use self::subject::Target;
use crate::args::Global;
use crate::failure::{Failure, REFUSED, say_on_stderr};
use crate::output::Screen;
use crate::progress::Progress;

/// How long the in-process baseline is measured in a run that a number of calls bounds.
const SHORT: Duration = Duration::from_millis(100);

/// What the rounds found.
#[derive(Default)]
struct Rounds {
    daemon: Vec<Figures>,
    echo: Vec<Figures>,
    calls: u64,
    errors: Errors,
    checked: u32,
}

/// Runs the benchmark and gives the exit code.
pub(crate) async fn run(
    client: Client,
    options: &Options,
    global: &Global,
    screen: Screen,
    args: Bench,
) -> Result<u8, Failure> {
    let session = client.session().await?;
    check(&args, session.max_in_flight, session.max_plaintext)?;
    let target = Target::prepare(&client, &args).await?;
    let call = Arc::new(target.call(args.batch)?);
    let socket = global.socket.clone().unwrap_or_default();
    let mut load = Load::connect(&socket, options, args.clients, Arc::clone(&call)).await?;
    let first = load.first().await?;
    target.verify(&client, &first).await?;
    let mut echo = None;
    if !args.no_baselines {
        let failed = |error| Failure::local("Echo", format!("the echo server can't be started: {error}"));
        let server = Echo::start(&session, first.body().expose().to_vec()).map_err(failed)?;
        let load = Load::connect(&server.socket(), options, args.clients, call).await?;
        echo = Some((load, server));
    }
    let mut rounds = Rounds { checked: 1, ..Rounds::default() };
    let progress = Progress::new(screen, "measuring", args.rounds.into(), "rounds");
    for round in 0..args.rounds {
        let pace = pace(&args, round);
        let tally = load.measure(pace).await?;
        rounds.take(tally, &target, &client).await?;
        if let Some((load, _)) = &mut echo {
            rounds.echo.push(load.measure(pace).await?.figures());
        }
        progress.at(u64::from(round) + 1);
    }
    drop((load, echo, progress));
    let mut notes = Vec::new();
    if target.made
        && let Some(key) = target.key()
    {
        notes.push(format!("made {key}; it stays, and later runs use it again"));
    }
    let in_process = in_process(&client, &args, &target, &mut notes).await;
    finish(screen, report(&args, &target, rounds, in_process, notes)).await
}

impl Rounds {
    /// Takes a round of the daemon's over, once its last reply is found right.
    async fn take(&mut self, tally: Tally, target: &Target, client: &Client) -> Result<(), Failure> {
        self.daemon.push(tally.figures());
        self.calls += tally.done();
        if let Some(sample) = &tally.sample {
            target.verify(client, sample).await?;
            self.checked += 1;
        }
        count(&mut self.errors, tally.errors);
        Ok(())
    }
}

/// Refuses what the daemon would refuse every time.
fn check(args: &Bench, max_in_flight: u32, max_plaintext: u32) -> Result<(), Failure> {
    let (name, mut most) = (args.operation.name, args.operation.max_size);
    if is_plaintext(args.operation.kind) {
        most = most.min(max_plaintext as usize);
    }
    if args.size as usize > most {
        return Err(Failure::usage(format!("--size is {}, {name} takes at most {most} bytes", args.size)));
    }
    if args.depth > max_in_flight {
        return Err(Failure::usage(format!(
            "--depth is {}, the daemon takes at most {max_in_flight} on a connection; add --clients",
            args.depth
        )));
    }
    if args.requests.is_some_and(|requests| requests < u64::from(args.rounds)) {
        return Err(Failure::usage("--requests is less than --rounds: each round needs a request"));
    }
    if args.operation.lasting && args.requests.is_none() {
        return Err(Failure::usage(format!("what {name} makes stays; say how many with --requests N")));
    }
    if args.key.is_some() && !args.operation.kind.keyed() {
        return Err(Failure::usage(format!("{name} uses no key; leave KEY out")));
    }
    match args.spec {
        Some(_) if !args.operation.kind.keyed() => {
            Err(Failure::usage(format!("{name} uses no key; leave --spec out")))
        }
        Some(spec) if args.operation.kind.specs().all(|taken| taken != spec) => {
            let takes: Vec<_> = args.operation.kind.specs().map(KeySpec::name).collect();
            Err(Failure::usage(format!("{name} takes keys of {}; mend --spec", takes.join(", "))))
        }
        _ => Ok(()),
    }
}

/// Whether what `--size` says is a plaintext, which the daemon bounds.
fn is_plaintext(kind: Kind) -> bool {
    matches!(kind, Kind::Symmetric | Kind::Encryption)
}

/// A round's share of the whole.
fn pace(args: &Bench, round: u32) -> Pace {
    let (round, rounds) = (u64::from(round), u64::from(args.rounds));
    let bound = match args.requests {
        Some(frames) => Bound::Frames(frames / rounds + u64::from(round < frames % rounds)),
        None => Bound::Time(args.seconds / args.rounds),
    };
    let warmup = if args.operation.lasting { Duration::ZERO } else { args.warmup };
    Pace { depth: args.depth as usize, warmup, bound }
}

/// The same cryptography in-process; where there is none, a note says why.
async fn in_process(
    client: &Client,
    args: &Bench,
    target: &Target,
    notes: &mut Vec<String>,
) -> Option<Speed> {
    if args.no_baselines {
        return None;
    }
    let wanted = args.operation.in_process(target.level, target.spec())?;
    // The time of one round: it is one thread's work, and varies less than the socket's.
    let time = args.requests.map_or(args.seconds / args.rounds, |_| SHORT);
    let measured = match program_for(client, args).await {
        Ok(program) => in_process::measure(&program, args.config.as_deref(), &wanted, time, args.size).await,
        Err(why) => Err(why),
    };
    measured.map_err(|why| notes.push(format!("nothing was measured in-process: {why}"))).ok()
}

/// The clavigerd that can measure what the daemon has.
async fn program_for(client: &Client, args: &Bench) -> Result<PathBuf, String> {
    if args.config.is_none() {
        // Only the admin endpoint tells; elsewhere it is taken for the embedded token, by name.
        let pool = client.status().await.map(|status| status.pool).unwrap_or_default();
        if let Some(member) = pool.iter().find(|member| member.profile != in_process::EMBEDDED) {
            return Err(format!(
                "the daemon's HSM {} is of profile {}; give its configuration with --config",
                member.name, member.profile
            ));
        }
    }
    in_process::program(args.clavigerd.as_deref())
        .ok_or_else(|| "there is no clavigerd beside this program; name it with --clavigerd".to_owned())
}

fn report(
    args: &Bench,
    target: &Target,
    rounds: Rounds,
    in_process: Option<Speed>,
    notes: Vec<String>,
) -> Report {
    let figures = Figures::medians(&rounds.daemon);
    let mut ratios = Ratios::default();
    ratios.beside_echo(&rounds.daemon, &rounds.echo);
    if let Some(speed) = &in_process {
        ratios.beside_in_process(&figures, speed);
    }
    Report {
        operation: args.operation.name,
        key: target.key().map(ToString::to_string),
        spec: target.spec().map(KeySpec::name),
        algorithm: target.algorithm(),
        level: target.level.map(Protection::name),
        clients: args.clients,
        depth: args.depth,
        batch: args.batch,
        size: args.size,
        rounds: rounds.daemon.len(),
        calls: rounds.calls,
        figures,
        errors: rounds.errors.values().sum(),
        errors_by_code: rounds.errors,
        replies_checked: rounds.checked,
        echo: (!rounds.echo.is_empty()).then(|| Figures::medians(&rounds.echo)),
        in_process,
        ratios,
        notes,
    }
}

/// Prints; a run with errors fails, after its figures, which are then no measure.
async fn finish(screen: Screen, report: Report) -> Result<u8, Failure> {
    screen.show(&report, Report::text).await?;
    if report.errors == 0 {
        return Ok(0);
    }
    if !screen.is_json() {
        let text = format!("{}: the figures are no measure of a daemon that works", report.failed());
        say_on_stderr("Errors", &text);
    }
    Ok(REFUSED)
}
