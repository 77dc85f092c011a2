//! Reading the configuration again while the daemon runs (SIGHUP): what can change
//! does, at once and whole; what can't is told, key by key, and waits for a restart.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Reload;
use super::supervisor::Supervisor;
use crate::config::{Config, Limits};
use crate::logs::Logs;
use crate::service::Service;

/// What became of the differences between two configurations.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    /// `key: old → new`, in force now.
    applied: Vec<String>,
    /// Keys whose change needs a restart.
    waiting: Vec<&'static str>,
}

/// Reads the configuration again each time that is wanted, until `halt`.
pub(super) async fn whenever_wanted(
    mut reload: Reload,
    running: Arc<Config>,
    service: Arc<Service>,
    supervisor: Arc<Supervisor>,
    halt: CancellationToken,
) {
    let mut running = Config::clone(&running);
    while let Some(Some(())) = halt.run_until_cancelled(reload.wanted.recv()).await {
        supervisor.reloading();
        again(&reload.file, &mut running, &service, reload.logs);
        supervisor.reloaded();
    }
}

/// Reads `file` again and applies what can be; `running` becomes what is in force.
fn again(file: &Path, running: &mut Config, service: &Service, logs: &Logs) {
    let wanted = match Config::from_file(file) {
        Ok(wanted) => wanted,
        Err(error) => {
            tracing::error!("the configuration stays as it was:\n{error}");
            return;
        }
    };
    let report = apply(running, &wanted, |level| logs.set_level(level).map_err(|error| error.to_string()));
    service.set_limits(running.limits.clone());
    for change in &report.applied {
        tracing::info!(%change, "configuration changed");
    }
    for key in &report.waiting {
        tracing::warn!(key, "this change of the configuration needs a restart");
    }
    if report == Report::default() {
        tracing::info!("the configuration was read again: nothing has changed");
    }
}

/// Takes over from `wanted` what may change in a running daemon.
fn apply(running: &mut Config, wanted: &Config, set_level: impl Fn(&str) -> Result<(), String>) -> Report {
    let mut report = Report::default();
    limits(&mut running.limits, &wanted.limits, &mut report);
    if running.log.level != wanted.log.level {
        let change = format!("log.level: {} → {}", running.log.level, wanted.log.level);
        match set_level(&wanted.log.level) {
            Ok(()) => {
                running.log.level.clone_from(&wanted.log.level);
                report.applied.push(change);
            }
            Err(error) => tracing::warn!(%error, "log.level can't be changed"),
        }
    }
    let fixed = [
        ("state_dir", running.state_dir != wanted.state_dir),
        ("allow_software_tokens", running.allow_software_tokens != wanted.allow_software_tokens),
        ("admin", running.admin != wanted.admin),
        ("endpoint", running.endpoints != wanted.endpoints),
        ("hsm", running.hsm != wanted.hsm),
        ("metrics", running.metrics != wanted.metrics),
        ("log.format", running.log.format != wanted.log.format),
    ];
    report.waiting.extend(fixed.iter().filter(|(_, differs)| *differs).map(|(key, _)| key));
    report
}

/// Every limit, by name: those that are asked for at each use change at once, those
/// that something was made by wait.
fn limits(running: &mut Limits, wanted: &Limits, report: &mut Report) {
    let mut now = |key: &str, old: &dyn Debug, new: &dyn Debug, differs: bool| {
        if differs {
            report.applied.push(format!("limits.{key}: {old:?} → {new:?}"));
        }
    };
    macro_rules! live {
        ($($field:ident)+) => {$(
            now(stringify!($field), &running.$field, &wanted.$field, running.$field != wanted.$field);
            running.$field = wanted.$field;
        )+};
    }
    live! { max_plaintext handshake_timeout idle_timeout default_deadline stop_timeout hsm_retry }
    macro_rules! fixed {
        ($($field:ident)+) => {$(
            if running.$field != wanted.$field {
                report.waiting.push(concat!("limits.", stringify!($field)));
            }
        )+};
    }
    fixed! {
        max_body max_connections max_in_flight max_batch buffer_bytes lane_queue hsm_objects
        record_cache store_cache_bytes store_queue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const BASE: &str = "[[hsm]]\nname = \"a\"\nprofile = \"embedded\"\npin = { env = \"P\" }\n";

    fn config(more: &str) -> Config {
        Config::parse(&format!("{more}\n{BASE}"), "t").unwrap()
    }

    #[test]
    fn what_can_change_does_and_what_cannot_is_named() {
        let mut running = config("");
        let wanted = config(
            "allow_software_tokens = true\n[log]\nlevel = \"debug\"\n[limits]\nidle_timeout = \"7s\"\nmax_body = \"2MiB\"",
        );
        let report = apply(&mut running, &wanted, |level| {
            assert_eq!(level, "debug");
            Ok(())
        });
        assert_eq!(report.applied, ["limits.idle_timeout: 300s → 7s", "log.level: info → debug"]);
        assert_eq!(report.waiting, ["limits.max_body", "allow_software_tokens"]);
        assert_eq!(running.limits.idle_timeout, Duration::from_secs(7));
        assert_eq!(running.limits.max_body, config("").limits.max_body, "not half of it");
        // What waits is told again, what was done is not.
        let again = apply(&mut running, &wanted, |_| unreachable!("the level is set"));
        assert_eq!((again.applied.len(), again.waiting.len()), (0, 2));
    }

    #[test]
    fn the_same_configuration_changes_nothing() {
        let report = apply(&mut config(""), &config(""), |_| unreachable!("no new level"));
        assert_eq!(report, Report::default());
    }

    #[test]
    fn a_level_that_cannot_be_set_stays() {
        let mut running = config("");
        let report = apply(&mut running, &config("[log]\nlevel = \"warn\""), |_| Err("no".to_owned()));
        assert_eq!((report, running.log.level.as_str()), (Report::default(), "info"));
    }

    #[test]
    fn every_limit_of_the_example_changes_or_waits() {
        let example = include_str!("../../../systemd/claviger.toml.example");
        let section = example.split("[limits]").nth(1).unwrap().split("[quotas]").next().unwrap();
        let source = include_str!("reload.rs").split("mod tests").next().unwrap();
        let mut seen = 0;
        for line in section.lines() {
            let Some((key, _)) = line.strip_prefix('#').and_then(|line| line.split_once(" = ")) else {
                continue;
            };
            assert!(source.split_whitespace().any(|word| word == key), "limits.{key} is not in reload.rs");
            seen += 1;
        }
        assert!(seen >= 16, "{seen}");
    }
}
