//! A daemon with very many keys: how long it takes to start, what it keeps in memory, and what
//! calls cost, beside the same with few keys. A measurement, which `scripts/scale.sh` runs on
//! state directories that it has filled.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss, reason = "a measurement")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use claviger_protocol::KeyRef;
use claviger_protocol::body::DescribeKeyRequest;
use claviger_tests::Wire;
use claviger_tests::keys::{encryption, list_request};
use claviger_tests::process::kib;
use claviger_tests::programs::binary;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use uuid::Uuid;

/// A state directory that `clavigerd --dev` can start on.
const DIR: &str = "CLAVIGER_SCALE_DIR";
/// Where the daemon is, if not beside this test.
const PROGRAMS: &str = "CLAVIGER_SCALE_BIN";

/// A daemon on a filled state directory, and the time from exec to the line that says it serves.
fn start(dir: &Path) -> (Child, Duration) {
    let program = std::env::var_os(PROGRAMS).map(|dir| PathBuf::from(dir).join("clavigerd"));
    let mut command = Command::new(program.unwrap_or_else(|| binary("clavigerd")));
    command.args(["--dev", "--state-dir"]).arg(dir).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let began = Instant::now();
    let mut daemon = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(daemon.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("serving"), "{line}");
    (daemon, began.elapsed())
}

fn pid(daemon: &Child) -> Pid {
    Pid::from_raw(i32::try_from(daemon.id()).unwrap())
}

fn resident(daemon: &Child) -> String {
    let mib = |field| kib(pid(daemon), field) as f64 / 1024.0;
    format!("{:.0} MiB resident, {:.0} locked", mib("VmRSS"), mib("VmLck"))
}

/// How long each call takes.
fn times(count: usize, mut call: impl FnMut(usize)) -> String {
    let mut times: Vec<_> = (0..count)
        .map(|number| {
            let began = Instant::now();
            call(number);
            began.elapsed()
        })
        .collect();
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    format!("p50 {:.1?}, p99 {:.1?}, longest {:.1?} ({count})", at(50), at(99), at(100))
}

#[test]
#[ignore = "a measurement, not a test"]
fn with_many_keys() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let (daemon, took) = start(&dir);
    println!("start: {took:.2?}; {}", resident(&daemon));
    let mut wire = Wire::open(&dir.join("admin.sock"));
    let status = wire.status();
    let keys: u64 = status.keys.iter().map(|count| count.count).sum();
    println!("{keys} keys");

    let (mut page, mut ids) = (Vec::new(), Vec::<Uuid>::new());
    let pages = usize::try_from(keys / 100).unwrap().clamp(1, 100);
    let listing = times(pages, |_| {
        let reply = wire.call(list_request(100, std::mem::take(&mut page))).unwrap();
        page = reply.next_page.0.clone();
        ids.extend(reply.keys.iter().map(|key| key.key_id));
    });
    println!("a page of 100 keys: {listing}");

    // Numbers from all over; the keys of the pages above aren't among them but by chance.
    let spread = |number: usize| number as u64 * 7_919 % keys;
    let few = usize::try_from(keys).unwrap().min(1000);
    let mut found = Vec::new();
    let aliases = times(few / 2, |number| {
        let key = KeyRef::Alias(format!("alias/scale/{:08}", spread(number)));
        found.push(wire.call(DescribeKeyRequest { key }).unwrap().key_id);
    });
    println!("describe by alias, cold: {aliases}");
    let cold = times(few / 2, |number| {
        let key = KeyRef::Alias(format!("alias/scale/{:08}", spread(few / 2 + number)));
        drop(wire.call(encryption(key, b"a few bytes of text")).unwrap());
    });
    println!("first encrypt, by alias: {cold}");
    let cold = times(ids.len().min(500), |number| drop(wire.encrypt(ids[number], b"a few bytes of text")));
    println!("first encrypt, by id: {cold}");
    let warm = times(5000, |_| drop(wire.encrypt(ids[0], b"a few bytes of text")));
    println!("warm encrypt: {warm}");
    println!("after that: {}", resident(&daemon));

    kill(pid(&daemon), Signal::SIGTERM).unwrap();
    let (began, mut daemon) = (Instant::now(), daemon);
    assert!(daemon.wait().unwrap().success());
    println!("stop: {:.2?}", began.elapsed());
}
