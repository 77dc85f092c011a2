//! Runs libFuzzer over the targets, one after another, for so many seconds each, from
//! seeds that it writes into a temporary folder. `make fuzz` builds both programs and
//! calls it:
//!
//! ```text
//! claviger-fuzz SECONDS [TARGET…]
//! ```
//! What breaks a target is printed in hex and makes the run fail.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for developers")]

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use claviger_fuzz::{TARGET_VARIABLE, TARGETS, corpus};

/// libFuzzer's program, beside this one.
const PROGRAM: &str = "claviger-libfuzzer";
/// Seconds after which one input is a hang.
const HANG: u32 = 10;
/// MiB of memory after which one input is a bomb.
const MEMORY: u32 = 1024;
/// Lines of libFuzzer's own words that are shown with a finding.
const SHOWN: usize = 30;

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(found) => {
            eprintln!(
                "fuzz: {found} of the targets broke. Mend it, and put each input into REGRESSIONS \
                 (tests/fuzz/src/corpus.rs), where every test run tries it again."
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("fuzz: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says how many targets broke.
fn run() -> Result<usize, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds: u32 = arguments
        .next()
        .and_then(|seconds| seconds.parse().ok())
        .filter(|seconds| *seconds > 0)
        .ok_or("usage: claviger-fuzz SECONDS [TARGET…], at least 1 second a target")?;
    let wanted: Vec<String> = arguments.collect();
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = wanted.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(format!("no target is called {unknown:?}; there are: {}", names.join(" ")).into());
    }
    println!(
        "{:<12} {:>10} {:>9} {:>7} {:>6}  seeds → corpus",
        "target", "executions", "a second", "cov", "ft"
    );
    let mut broken = 0;
    for name in names {
        if (wanted.is_empty() || wanted.iter().any(|want| want == name)) && !holds(name, seconds)? {
            broken += 1;
        }
    }
    Ok(broken)
}

/// Runs one target; says whether nothing broke it.
fn holds(name: &str, seconds: u32) -> Result<bool, Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let (seeds, findings, log) =
        (dir.path().join("seeds"), dir.path().join("findings"), dir.path().join("log"));
    fs::create_dir(&seeds)?;
    fs::create_dir(&findings)?;
    let inputs = corpus::of(name);
    for (number, input) in inputs.iter().enumerate() {
        fs::write(seeds.join(number.to_string()), input)?;
    }
    let program = std::env::current_exe()?.with_file_name(PROGRAM);
    let status = Command::new(&program)
        .env(TARGET_VARIABLE, name)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={}", corpus::MAX_INPUT))
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .args([format!("-timeout={HANG}"), format!("-rss_limit_mb={MEMORY}")])
        .args(["-print_final_stats=1", "-use_value_profile=1"])
        .arg(&seeds)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log)?)
        .status()
        .map_err(|error| {
            format!("{} can't be started ({error}): `make fuzz` builds it", program.display())
        })?;
    let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    println!("{}", figures(name, inputs.len(), &said));
    if status.success() {
        return Ok(true);
    }
    let lines: Vec<&str> = said.lines().collect();
    eprintln!("{}", lines[lines.len().saturating_sub(SHOWN)..].join("\n"));
    eprintln!("fuzz: target {name}: {status}");
    show(name, &findings)?;
    Ok(false)
}

/// Prints the inputs that broke a target, as rows of the regressions.
fn show(name: &str, findings: &Path) -> Result<(), Box<dyn Error>> {
    for finding in fs::read_dir(findings)? {
        let finding = finding?;
        let kind = finding.file_name().to_string_lossy().split('-').next().unwrap_or_default().to_owned();
        eprintln!("    (\"{name}\", \"{kind}\", \"{}\"),", hex::encode(fs::read(finding.path())?));
    }
    Ok(())
}

/// A row of the table, from libFuzzer's last words.
fn figures(name: &str, seeds: usize, said: &str) -> String {
    let stat = |stat: &str| {
        let line = said.lines().rev().find_map(|line| line.strip_prefix(stat));
        line.map_or("?", |rest| rest.trim_start_matches(':').trim())
    };
    let progress = said.lines().rev().find(|line| line.contains(" cov: ")).unwrap_or_default();
    let word = |name: &str| {
        let mut words = progress.split_whitespace().skip_while(|word| *word != name);
        words.nth(1).unwrap_or("?").split('/').next().unwrap_or("?")
    };
    format!(
        "{name:<12} {:>10} {:>9} {:>7} {:>6}  {seeds} → {}",
        stat("stat::number_of_executed_units"),
        stat("stat::average_exec_per_sec"),
        word("cov:"),
        word("ft:"),
        word("corp:"),
    )
}
