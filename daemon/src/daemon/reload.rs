//! Reading the configuration again while the daemon runs (SIGHUP): what can change
//! does, at once and whole; what can't is told, key by key, and waits for a restart.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Reload;
use super::supervisor::Supervisor;
use super::trust;
use crate::config::{BODY_ROOM, Config, Limits};
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
    let wanted = match read(file) {
        Ok(wanted) => wanted,
        Err(problems) => {
            tracing::error!("the configuration stays as it was:\n{problems}");
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
    if service.keyring().is_err() {
        tracing::warn!("the domain is locked: a PIN that was refused is tried again only after a restart");
    }
    if report == Report::default() {
        tracing::info!("the configuration was read again: nothing has changed");
    }
}

/// Reads a configuration that could be started with, or says what is wrong as a start does.
fn read(file: &Path) -> Result<Config, String> {
    let wanted = Config::from_file(file).map_err(|error| error.to_string())?;
    let problems = trust::problems(&wanted, Some(file), nix::unistd::geteuid().as_raw());
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    if lines.is_empty() { Ok(wanted) } else { Err(lines.join("\n")) }
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
            Err(error) => {
                tracing::warn!(%error, "log.level can't be changed now");
                report.waiting.push("log.level");
            }
        }
    }
    let fixed = [
        ("state_dir", running.state_dir != wanted.state_dir),
        ("allow_software_tokens", running.allow_software_tokens != wanted.allow_software_tokens),
        ("lock_memory", running.lock_memory != wanted.lock_memory),
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
    let fits = u64::from(wanted.max_plaintext) + BODY_ROOM <= u64::from(running.max_body);
    if fits {
        live! { max_plaintext }
    } else if running.max_plaintext != wanted.max_plaintext {
        // It was checked against a larger max_body, which waits for a restart.
        report.waiting.push("limits.max_plaintext");
    }
    live! {
        handshake_timeout idle_timeout default_deadline stop_timeout hsm_retry
        deletion_days_min deletion_days_max deletion_days_default association_days erase_after
    }
    macro_rules! fixed {
        ($($field:ident)+) => {$(
            if running.$field != wanted.$field {
                report.waiting.push(concat!("limits.", stringify!($field)));
            }
        )+};
    }
    fixed! {
        max_body max_connections max_in_flight max_batch buffer_bytes lane_queue hsm_objects
        record_cache store_cache_bytes store_queue ballast_bytes wrapping_keys_ahead
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
    fn a_plaintext_that_needs_a_larger_frame_waits_with_it() {
        let mut running = config("");
        let both = config("[limits]\nmax_body = \"8MiB\"\nmax_plaintext = \"4MiB\"");
        let report = apply(&mut running, &both, |_| unreachable!("no new level"));
        assert_eq!(report.applied, Vec::<String>::new());
        assert_eq!(report.waiting, ["limits.max_plaintext", "limits.max_body"]);
        assert_eq!(running.limits.max_plaintext, config("").limits.max_plaintext);
    }

    #[test]
    fn the_same_configuration_changes_nothing() {
        let report = apply(&mut config(""), &config(""), |_| unreachable!("no new level"));
        assert_eq!(report, Report::default());
    }

    #[test]
    fn a_file_that_others_can_write_is_not_followed() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let file = path("claviger.toml");
        let (state, admin) = (path("state"), path("admin.sock"));
        let own = format!("state_dir = {state:?}\n[admin]\nsocket = {admin:?}\n");
        std::fs::write(&file, format!("{own}{BASE}")).unwrap();
        for (mode, good) in [(0o640, true), (0o660, false), (0o602, false), (0o600, true)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let read = read(&file);
            assert_eq!(read.is_ok(), good, "{mode:o}");
            assert!(read.err().is_none_or(|told| told.contains(&format!("mode {mode:04o}"))));
        }
        std::fs::write(&file, "limits = 1").unwrap();
        let checked = Config::from_file(&file).unwrap_err().to_string();
        assert_eq!(read(&file).unwrap_err(), checked, "as check-config says it");
    }

    #[test]
    fn a_level_that_cannot_be_set_stays() {
        let mut running = config("");
        let report = apply(&mut running, &config("[log]\nlevel = \"warn\""), |_| Err("no".to_owned()));
        assert_eq!((report.waiting, running.log.level.as_str()), (vec!["log.level"], "info"));
        assert!(report.applied.is_empty());
    }

    #[test]
    fn every_part_of_a_configuration_changes_or_waits() {
        // With every field named: a new one must be thought of here.
        let Config {
            state_dir: _,
            dev: _, // no file
            allow_software_tokens: _,
            lock_memory: _,
            admin: _,
            endpoints: _,
            hsm: _,
            metrics: _,
            log: _, // each of its own
            limits: _,
        } = config("");
        for (key, part) in [
            ("state_dir", "state_dir = \"/elsewhere\""),
            ("lock_memory", "lock_memory = \"off\""),
            ("admin", "[admin]\nsocket = \"/run/other/admin.sock\""),
            ("endpoint", "[[endpoint]]\nname = \"x\"\nsocket = \"/run/other/x.sock\""),
            ("metrics", "[metrics]\nlisten = \"unix:/run/other/m.sock\""),
            ("log.format", "[log]\nformat = \"json\""),
        ] {
            let report = apply(&mut config(""), &config(part), |_| unreachable!("no new level"));
            assert!(report.waiting.contains(&key) && report.applied.is_empty(), "{key}: {report:?}");
        }
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
