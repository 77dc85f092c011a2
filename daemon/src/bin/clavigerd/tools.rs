//! Commands that look at things and prepare them, and end.

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use clap::CommandFactory;
use clap::builder::styling::AnsiColor;
use clap_complete::Shell;
use clavigerd::backend::hsm::Step;
use clavigerd::backend::hsm::member::Member;
use clavigerd::backend::{bench, hsm};
use clavigerd::backup::restore;
use clavigerd::config::{Config, LogConfig};
use clavigerd::edge::Edge;
use clavigerd::store::StateLock;
use clavigerd::{daemon, logs};

use super::args::{Bench, Cli, Hsm, Run};
use super::{Failed, place, read_config, say};

/// What a colour says; the words say it too.
pub(crate) enum Paint {
    Good,
    Doubtful,
    Bad,
}

impl Paint {
    /// The text in this colour (ECMA-48 SGR), to be written through `anstream`.
    pub(crate) fn on(&self, text: &str) -> String {
        let style = match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Doubtful => AnsiColor::Yellow.on_default().bold(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
        };
        format!("{style}{text}{style:#}")
    }
}

/// Tells people at a terminal what takes its time.
fn step(json: bool, text: &str) {
    let mut stderr = std::io::stderr();
    if !json && stderr.is_terminal() {
        let _ = writeln!(stderr, "{text} …");
    }
}

/// Tells of the making of a root: each step when the one before it is durable.
fn making(made: Step) -> ControlFlow<()> {
    let next = match made {
        Step::Intent => "making the root keys in the HSM",
        Step::RootKey => "one root key is in the HSM; going on",
        Step::Recovery => "the recovery file is written; sealing the domain key",
        Step::Domain => "the domain file is written; finishing",
    };
    step(false, next);
    ControlFlow::Continue(())
}

/// What a domain is restored from.
pub(crate) struct Backup {
    pub(crate) file: PathBuf,
    pub(crate) private_key: Option<PathBuf>,
    pub(crate) tombstones: Option<PathBuf>,
}

pub(crate) fn restore_backup(run: &Run, from: &Backup, json: bool) -> Result<(), Failed> {
    let config = place(run)?;
    logs::start(&LogConfig::default());
    let edge = Edge::system();
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(Failed::other)?;
    step(json, "reading the whole backup, then writing the store");
    let (private_key, tombstones) = (from.private_key.as_deref(), from.tombstones.as_deref());
    let restoring = restore::restore(&config, &from.file, private_key, tombstones, &edge);
    let done = runtime.block_on(restoring).map_err(Failed::other)?;
    let totals = done.totals.unwrap_or_default();
    if json {
        return say(&serde_json::json!({
            "domain_id": done.domain,
            "root_generation": done.root_generation,
            "records": done.totals.map(|totals| totals.puts),
            "removals": done.totals.map(|totals| totals.deletes),
            "kept_deleted": done.buried,
        })
        .to_string());
    }
    say(&format!(
        "restored domain {} with root generation {}: {} records; start the daemon",
        done.domain, done.root_generation, totals.puts
    ))?;
    for key_id in &done.buried {
        say(&format!("key {key_id} was deleted after the backup was made: it stays deleted"))?;
    }
    match private_key {
        Some(_) => say("remove the private key from this machine"),
        None => Ok(()),
    }
}

pub(crate) fn tools(command: Hsm) -> Result<(), Failed> {
    logs::start(&LogConfig::default());
    let edge = Edge::system();
    let go_on = &mut making;
    match command {
        Hsm::Bench(args) => measure(args, &edge),
        Hsm::Probe { config, json } => probe(&read_config(&config)?, &edge, json),
        Hsm::Init { config, recovery } => {
            let config = read_config(&config)?;
            let state = StateLock::acquire(&config.state_dir).map_err(Failed::other)?;
            make_store(&config, &state, &edge)?;
            let made = hsm::init(&config, &recovery, &edge, go_on).map_err(Failed::other)?;
            say(&format!("made domain {} with root generation {}", made.domain, made.root_generation))?;
            match made.recovery_file {
                Some(file) => say(&format!(
                    "the root is wrapped to {} recovery recipient(s) in {}: keep a copy of that file, and of {}, elsewhere",
                    made.recipients.len(),
                    file.display(),
                    config.state_dir.join("domain").display(),
                )),
                None => say(&format!(
                    "{} no recovery recipient: if the HSM is lost, every key is lost; to have one, remove the state \
                     directory while nothing is in it yet, and run this again with --recovery PUB.pem",
                    Paint::Doubtful.on("WARNING:")
                )),
            }
        }
        Hsm::Restore { config, recovery_file, private_key } => {
            let config = read_config(&config)?;
            let _state = StateLock::acquire(&config.state_dir).map_err(Failed::other)?;
            hsm::restore(&config, &recovery_file, &private_key, &edge, go_on).map_err(Failed::other)?;
            say("the root is in the HSM and opens the domain; remove the private key from this machine")
        }
    }
}

/// An empty store for the domain that is to be made. It can't be made where the records of
/// another one wait for theirs.
fn make_store(config: &Config, state: &Arc<StateLock>, edge: &Edge) -> Result<(), Failed> {
    restore::settle(&config.state_dir).map_err(Failed::other)?;
    // What else is wrong with the domain file, `hsm::init` says itself.
    if !matches!(hsm::domain::header(&config.state_dir), Ok(None)) {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(Failed::other)?;
    match runtime.block_on(daemon::has_records(state, &config.limits, edge)) {
        Ok(false) => runtime.block_on(daemon::make_store(state, &config.limits, edge)).map_err(Failed::other),
        Ok(true) => Err(Failed::other(daemon::DOMAIN_MISSING)),
        Err(error) => Err(Failed::other(error)),
    }
}

/// Says how fast the backends are.
fn measure(args: Bench, edge: &Edge) -> Result<(), Failed> {
    let config = args.config.as_deref().map(read_config).transpose()?;
    let plan = bench::Plan { time: args.seconds, size: args.size.into(), only: args.only };
    let report = bench::run(config.as_ref(), &plan, edge).map_err(Failed::other)?;
    if args.json {
        return say(&serde_json::to_string(&report).map_err(Failed::other)?);
    }
    say(&format!("{}, {} bytes, one thread", report.profile, report.size))?;
    for speed in report.results {
        let (name, rate) = (speed.name, speed.ops_per_second);
        say(&format!(
            "  {name:<20} {rate:>10.0} ops/s  p50 {:.2} µs  p99 {:.2} µs",
            speed.p50_us, speed.p99_us
        ))?;
    }
    Ok(())
}

/// Says what every member can do; fails if one can't be opened.
fn probe(config: &Config, edge: &Edge, json: bool) -> Result<(), Failed> {
    let root = hsm::domain::header(&config.state_dir).ok().flatten().map(|header| header.root);
    let mut members = Vec::new();
    let isolation = |name: &str| {
        let config = config.hsm.iter().find(|config| config.name == name);
        config.map_or("", |config| config.isolation.name())
    };
    for member in &config.hsm {
        step(json, &format!("opening {:?} and testing its mechanisms", member.name));
        let opened = hsm::member::open(member, root.as_ref(), &edge.workers, &config.limits, 1)
            .map_err(|error| Failed::other(format!("{}: {error}", member.name)))?;
        members.push(opened);
    }
    if json {
        let one = |member: &Member| {
            serde_json::json!({
                "name": member.name,
                "profile": member.profile,
                "hardware": member.hardware,
                "isolation": isolation(&member.name),
                "mechanisms": member.report.mechanisms,
                "specs": member.report.specs,
            })
        };
        return say(
            &serde_json::json!({ "members": members.iter().map(one).collect::<Vec<_>>() }).to_string()
        );
    }
    for member in &members {
        let kind = if member.hardware { "hardware" } else { "software" };
        let isolation = isolation(&member.name);
        say(&format!("{} ({}, {kind}, isolation {isolation})", member.name, member.profile))?;
        for tested in &member.report.mechanisms {
            let number = tested.mechanism.as_deref().unwrap_or("-");
            say(&format!(
                "  {:<22} {number:<20} {}",
                tested.used_for,
                verdict(tested.ok, tested.reason.as_deref())
            ))?;
        }
        for spec in &member.report.specs {
            say(&format!(
                "  {:<22} {:<20} {}",
                spec.spec,
                spec.usage,
                verdict(spec.available, spec.reason.as_deref())
            ))?;
        }
    }
    Ok(())
}

pub(crate) fn completions(shell: Shell) -> Result<(), Failed> {
    // Into memory first: the generator panics where a stream breaks.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "clavigerd", &mut script);
    std::io::stdout().write_all(&script).map_err(|error| Failed::output(&error))
}

fn verdict(ok: bool, reason: Option<&str>) -> String {
    if ok {
        return Paint::Good.on("ok");
    }
    format!("{} {}", Paint::Doubtful.on("off:"), reason.unwrap_or("failed"))
}
