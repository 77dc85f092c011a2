//! The files in `systemd/`, as systemd itself reads them: what it accepts, how open the
//! daemon's unit is, and that they agree with the example configuration.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use claviger_tests::programs::{binary, run, text, tool};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(shipped(name)).unwrap()
}

/// The value of every line `key=…` of a unit.
fn values<'u>(unit: &'u str, key: &str) -> Vec<&'u str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// Copies of all units whose programs are the ones that were built.
fn installed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(shipped("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".service") || name.ends_with(".socket") {
            let unit = read(&name)
                .replace("/usr/bin/clavigerd-hsm ", &format!("{} ", text(&binary("clavigerd-hsm"))))
                .replace("/usr/bin/clavigerd ", &format!("{} ", text(&binary("clavigerd"))));
            fs::write(dir.path().join(name), unit).unwrap();
        }
    }
    dir
}

const UNITS: [&str; 8] = [
    "clavigerd.service",
    "clavigerd.socket",
    "clavigerd-admin.socket",
    "clavigerd@.service",
    "clavigerd@.socket",
    "clavigerd-admin@.socket",
    "clavigerd-hsm@.service",
    "clavigerd-hsm@.socket",
];

#[test]
fn systemd_accepts_every_unit_without_a_word() {
    let dir = installed();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), UNITS.len(), "a unit is missing in this test");
    // A template is read as one of its instances.
    let units = UNITS.map(|unit| dir.path().join(unit.replace('@', "@a")));
    let verified = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units));
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && said.is_empty(), "{said}");
}

#[test]
fn systemd_finds_what_is_wrong_with_a_unit() {
    let dir = installed();
    let unit = dir.path().join("clavigerd.service");
    let spoilt = fs::read_to_string(&unit).unwrap().replace("ProtectHome=yes", "ProtectHomes=yes");
    fs::write(&unit, spoilt).unwrap();
    let verified = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit));
    assert!(String::from_utf8_lossy(&verified.stderr).contains("ProtectHomes"));
}

#[test]
fn the_daemons_units_are_closed() {
    let dir = installed();
    // The threshold is ten times the exposure: 1.0, and for the helper, which may reach
    // networks and devices, 2.0.
    for (unit, threshold) in
        [("clavigerd.service", 10), ("clavigerd@.service", 10), ("clavigerd-hsm@.service", 20)]
    {
        let security = |threshold: u32| {
            let path = dir.path().join(unit);
            let mut command = Command::new("systemd-analyze");
            command.args(["security", "--offline=true", &format!("--threshold={threshold}")]).arg(path);
            run(&mut command)
        };
        let judged = security(threshold);
        assert!(judged.status.success(), "{unit}: {}", String::from_utf8_lossy(&judged.stdout));
        assert!(!security(1).status.success(), "{unit}: a threshold that nothing meets is met");
    }
}

#[test]
fn users_and_directories_can_be_made() {
    tool(Command::new("systemd-sysusers").arg("--dry-run").arg(shipped("clavigerd.sysusers")));
    // Under a prefix that nothing there has: read whole, and nothing made.
    let nowhere = "--prefix=/nonexistent";
    tool(Command::new("systemd-tmpfiles").args(["--create", nowhere]).arg(shipped("clavigerd.tmpfiles")));
    for user in ["claviger", "claviger-hsm"] {
        assert!(read("clavigerd.sysusers").contains(&format!("u {user} ")), "{user}");
    }
}

#[test]
fn units_and_example_configuration_agree() {
    let example: toml::Table = read("claviger.toml.example").parse().unwrap();
    let example_text = read("claviger.toml.example");
    let uncommented =
        example_text.lines().map(|line| line.trim_start_matches('#')).collect::<Vec<_>>().join("\n");
    let (app, admin) = (read("clavigerd.socket"), read("clavigerd-admin.socket"));
    let endpoint = &example["endpoint"][0];
    assert_eq!(values(&app, "FileDescriptorName"), [endpoint["name"].as_str().unwrap()]);
    assert_eq!(values(&app, "ListenStream"), [endpoint["socket"].as_str().unwrap()]);
    assert_eq!(values(&admin, "FileDescriptorName"), ["admin"]);
    let default = format!("socket = \"{}\"", values(&admin, "ListenStream")[0]);
    assert!(uncommented.contains(&default), "the admin socket's default: {default}");
    for socket in [&app, &admin] {
        assert_eq!(values(socket, "SocketMode"), ["0600"], "as the configuration's default");
        assert!(uncommented.contains("mode = \"0600\""));
    }
    let service = read("clavigerd.service");
    let state = format!("state_dir = \"/var/lib/{}\"", values(&service, "StateDirectory")[0]);
    assert!(uncommented.contains(&state), "{state}");
    let helper = read("clavigerd-hsm@.socket");
    assert!(uncommented.contains(&values(&helper, "ListenStream")[0].replace("%i", "a")), "{helper}");
}

#[test]
fn the_template_differs_from_the_unit_by_its_instance_alone() {
    let settings = |unit: &str| {
        let lines = unit.lines().filter(|line| line.contains('=') && !line.starts_with('#'));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let plain = settings(&read("clavigerd.service"));
    let template = settings(&read("clavigerd@.service"));
    assert_eq!(plain.len(), template.len());
    for (plain, template) in plain.iter().zip(&template) {
        assert!(plain == template || template.contains("%i"), "{plain} / {template}");
    }
}
