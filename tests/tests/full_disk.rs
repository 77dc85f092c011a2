//! A disk that is really full: a small tmpfs under the state directory. Needs root, as
//! mounting does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use claviger_protocol::Code;
use claviger_protocol::values::Protection;
use claviger_tests::keys::new_key;
use claviger_tests::programs::{text, tool};
use claviger_tests::{Site, Token, Wire, audit, each_token, eventually};

const BALLAST: u64 = 32 << 20;

/// A tmpfs, mounted as long as this lives.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Self {
        fs::create_dir(at).unwrap();
        tool(Command::new("mount").args(["-t", "tmpfs", "-o", "size=80m,mode=0700", "tmpfs", text(at)]));
        Self(at.to_owned())
    }

    /// Fills it to the last byte; the ballast stays.
    fn fill(&self) {
        let mut filler = File::options().append(true).create(true).open(self.0.join("filler")).unwrap();
        for size in [1 << 20, 4096, 1] {
            let block = vec![0x5a; size];
            while filler.write_all(&block).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }

    fn ballast(&self) -> u64 {
        fs::metadata(self.0.join("ballast")).map_or(0, |file| file.len())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a daemon that a failed test left may still be there.
        let _ = Command::new("umount").args(["--lazy", text(&self.0)]).status();
    }
}

fn site(token: Token) -> (Arc<Site>, Disk) {
    let mut site = Site::bare(token);
    let disk = Disk::mount(&site.state_dir());
    if token == Token::SoftHsm {
        site.make_token();
        site.write_config();
        site.init_domain(&[]);
    }
    (Arc::new(site), disk)
}

fn create(wire: &mut Wire) -> Option<Code> {
    wire.call(new_key(Protection::Hsm)).err().map(|refusal| refusal.code)
}

fn warns(wire: &mut Wire) -> bool {
    wire.status().warnings.iter().any(|warning| warning.contains("is full"))
}

#[test]
fn on_a_full_disk_keys_stay_in_use_restarts_work_and_changes_come_back_with_the_room() {
    for token in each_token() {
        let (site, disk) = site(token);
        let daemon = site.start();
        let mut wire = daemon.admin();
        let key = wire.create(Protection::Hsm);
        let software = wire.create(Protection::Software);
        let blob = wire.encrypt(key, b"before");
        eventually("the ballast is laid down", || (disk.ballast() == BALLAST).then_some(()));

        disk.fill();
        eventually("changes are refused", || (create(&mut wire) == Some(Code::ReadOnly)).then_some(()));
        assert!(warns(&mut wire));
        // More events than the page that the log still had would hold.
        for round in 0..3000_u32 {
            let under = if round % 2 == 0 { key } else { software };
            let blob = wire.encrypt(under, &round.to_le_bytes());
            assert_eq!(wire.decrypt(&blob).unwrap(), round.to_le_bytes());
        }
        assert!(disk.ballast() < BALLAST, "the log grew into the ballast");
        assert!(disk.ballast() >= BALLAST / 4, "the next start's share is kept");
        assert_eq!(wire.decrypt(&blob).unwrap(), b"before");
        disk.fill();
        daemon.kill9();

        // Full, and killed: it starts, and everything is there.
        let daemon = site.start();
        let mut wire = daemon.admin();
        assert_eq!(wire.decrypt(&blob).unwrap(), b"before");
        assert_eq!(wire.list_all().len(), 2);
        assert_eq!(create(&mut wire), Some(Code::ReadOnly));
        assert!(warns(&mut wire));
        disk.fill();
        daemon.terminate();
        let daemon = site.start();
        let mut wire = daemon.admin();
        let after = wire.encrypt(software, b"after");
        assert_eq!(wire.decrypt(&after).unwrap(), b"after");

        disk.fill();
        eventually("changes are refused", || (create(&mut wire) == Some(Code::ReadOnly)).then_some(()));
        disk.free();
        eventually("changes are taken again", || create(&mut wire).is_none().then_some(()));
        assert_eq!(disk.ballast(), BALLAST, "the ballast came first");
        assert!(!warns(&mut wire));
        assert_eq!(wire.list_all().len(), 3);
        daemon.terminate();
        let said = site.said();
        assert!(said.contains("changes are refused and keys stay in use"), "{said}");
        assert!(said.contains("changes are taken"), "{said}");
        // Every answer is in the log.
        let log = audit::events(&audit::path(&site));
        let count = |operation: &str| log.iter().filter(|event| event.operation == operation).count();
        assert_eq!((count("encrypt"), count("decrypt")), (3002, 3003));
    }
}
