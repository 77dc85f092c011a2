//! `ping` and `status`.

use std::time::{Duration, Instant};

use crate::args::Global;
use crate::color::Paint;
use crate::failure::Failure;
use crate::output::{Screen, fields, table};
use crate::view::{self, Status};

pub(super) async fn ping(global: &Global, screen: Screen) -> Result<(), Failure> {
    let client = super::connect(global).await?;
    let start = Instant::now();
    let reply = client.ping(Vec::new()).await?;
    let round_trip_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let view = view::Ping { version: reply.version, round_trip_us };
    screen
        .show(&view, |ping| format!("clavigerd {} answered in {} µs\n", ping.version, ping.round_trip_us))
        .await
}

pub(super) async fn status(global: &Global, screen: Screen) -> Result<(), Failure> {
    let reply = super::connect(global).await?.status().await?;
    screen.show(&Status::from(reply), text).await
}

/// What a locked domain means for whoever reads it in the night.
const LOCKED: &str = "
No HSM of the pool has opened the domain, so no key can be used or changed. Nothing is lost by
that: the daemon tries again by itself. Bring back what REASON names; if the HSM is gone for good,
`clavigerd hsm restore` puts the root into a new one.
";

fn text(status: &Status) -> String {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    // A locked daemon doesn't know them: zeros would read as if they were gone.
    let locked = status.domain_id.is_nil();
    let known = |text: String| Some(if locked { "unknown (locked)".to_owned() } else { text });
    let uptime = Duration::from_secs(status.uptime_ms / 1000);
    let mut out = fields(&[
        ("version", Some(status.version.clone())),
        ("state", Some(status.state.to_owned())),
        ("reason", some(&status.reason)),
        ("domain", known(status.domain_id.to_string())),
        ("root generation", known(status.root_generation.to_string())),
        ("recovery recipients", known(status.recovery_recipients.to_string())),
        ("uptime", Some(humantime::format_duration(uptime).to_string())),
    ]);
    if locked {
        out.push_str(LOCKED);
    }
    out.push('\n');
    out.push_str(&pool(status));
    if !status.keys.is_empty() {
        let rows = status.keys.iter();
        let rows: Vec<_> =
            rows.map(|k| vec![k.spec.to_owned(), k.state.to_owned(), k.count.to_string()]).collect();
        out.push('\n');
        out.push_str(&table(&["SPEC", "STATE", "KEYS"], &rows));
    }
    for warning in &status.warnings {
        out.push('\n');
        out.push_str(&Paint::Doubtful.on("warning:"));
        out.push(' ');
        out.push_str(&crate::output::one_line(warning));
    }
    if !status.warnings.is_empty() {
        out.push('\n');
    }
    out
}

fn pool(status: &Status) -> String {
    let rows: Vec<_> = status
        .pool
        .iter()
        .map(|member| {
            let able = member.specs.iter().filter(|spec| spec.available).map(|spec| spec.spec);
            let kind = if member.hardware { "hardware" } else { "software" };
            vec![
                member.name.clone(),
                member.profile.clone(),
                kind.to_owned(),
                member.state.to_owned(),
                member.since.clone(),
                able.collect::<Vec<_>>().join(","),
                member.reason.clone(),
            ]
        })
        .collect();
    table(&["MEMBER", "PROFILE", "KIND", "STATE", "SINCE", "SPECS", "REASON"], &rows)
}
