//! `claviger`: the command line of the key-management daemon.
//!
//! Lives in this crate: arguments (`args`), one function for each command
//! (`commands`; `bench` is a folder of its own), files (`files`) and the forms of what is in them (`forms`), and
//! what is printed (`output`, `view`, `failure`).
//! Must not live here: anything that the Rust client could do for other programs.

mod args;
mod bench;
mod color;
mod commands;
mod defaults;
#[cfg(test)]
mod examples;
mod failure;
mod files;
mod forms;
mod output;
mod progress;
mod question;
mod view;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Cli;
use crate::color::When;
use crate::failure::Failure;
use crate::output::Screen;

/// Exit code after Ctrl-C, as shells have it: 128 + SIGINT.
const INTERRUPTED: u8 = 130;
/// Exit code after SIGTERM: 128 + SIGTERM.
const TERMINATED: u8 = 143;

fn main() -> ExitCode {
    // Before the arguments are read, as the error about them has a colour too.
    let color = When::of(std::env::args_os()).choose();
    let parsed = Cli::command().color(color).try_get_matches();
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return failure::usage(&error),
    };
    let screen = Screen::new(cli.global.json);
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::local("Internal", format!("no runtime: {error}")).report(screen),
    };
    let result = runtime.block_on(until_signalled(cli, screen));
    // A thread may still wait for standard input; it must not hold the exit up.
    runtime.shutdown_background();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(screen),
    }
}

/// Runs the command, or stops between two of its steps when a signal says so.
/// Files are written in one step, and one that isn't in place yet is removed.
async fn until_signalled(cli: Cli, screen: Screen) -> Result<u8, Failure> {
    let watch = |kind| signal(kind).map_err(|e| Failure::local("Internal", format!("no signals: {e}")));
    let mut interrupt = watch(SignalKind::interrupt())?;
    let mut terminate = watch(SignalKind::terminate())?;
    tokio::select! {
        result = commands::run(cli, screen) => result,
        _ = interrupt.recv() => Ok(INTERRUPTED),
        _ = terminate.recv() => Ok(TERMINATED),
    }
}
