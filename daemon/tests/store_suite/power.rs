//! Power loss: kill -9 keeps the page cache, so it can't show a missing sync. Here
//! the store lies on a loop-mounted image; while the child is stopped, the image
//! itself is copied and mounted, and the copy has what the disk had.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command};

use crate::crash::{parse_ack, start_child, start_rewriting_child, whole_batches};

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

/// A mounted image, unmounted on drop.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(image: &Path) -> Self {
        let at = tempfile::tempdir().unwrap();
        run("mount", &["-o", "loop", image.to_str().unwrap(), at.path().to_str().unwrap()]);
        Self(at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
#[ignore = "needs root, loop mounts and mkfs.ext4"]
fn power_loss_loses_nothing_acknowledged_and_tears_no_batch() {
    // Each is one power cut: of the first open, of young and of older stores.
    power_loss(&[1, 5, 20, 60, 150, 300], start_child);
}

/// Some cuts meet the copying, some the swap.
#[test]
#[ignore = "needs root, loop mounts and mkfs.ext4"]
fn power_loss_under_rewrites_loses_nothing_acknowledged_and_tears_no_batch() {
    power_loss(&[1, 4, 9, 17, 30, 44, 61, 83, 101, 130], start_rewriting_child);
}

fn power_loss(counts: &[usize], start: fn(&Path) -> Child) {
    let home = tempfile::tempdir().unwrap();
    let image = home.path().join("live");
    fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
    run("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]);
    let live = Mount::new(&image);
    for count in counts.iter().copied() {
        let mut child = start(&live.0.path().join("state"));
        let mut acks = Vec::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while acks.len() < count {
            acks.extend(parse_ack(&lines.next().unwrap().unwrap()));
        }
        run("kill", &["-STOP", &child.id().to_string()]);
        let cut = home.path().join("cut");
        fs::copy(&image, &cut).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let after = Mount::new(&cut);
        let (present, next) = whole_batches(&after.0.path().join("state"));
        for (id, revision) in &acks {
            assert_eq!(present.get(id), Some(revision), "lost {} of {count}", hex::encode(id));
            assert!(*revision < next);
        }
    }
}
