//! Who makes backups: several at once, one that goes away, one that names no file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::process::Command;

use claviger_protocol::body::{BeginBackupRequest, EndBackupRequest, ReadBackupRequest};
use claviger_protocol::{Code, Protection};
use claviger_tests::cli::claviger;
use claviger_tests::programs::{text, tool};
use claviger_tests::{Site, Token, Wire, eventually};

/// One client's backup by the wire: how it began, and that it then goes to its end.
fn read_to_the_end(wire: &mut Wire) -> Result<(), Code> {
    let begun = wire.call(BeginBackupRequest {}).map_err(|refusal| refusal.code)?;
    for index in 0.. {
        let chunk = wire.call(ReadBackupRequest { backup_id: begun.backup_id, index });
        if chunk.expect("a backup that was begun is there until it is read").last {
            break;
        }
    }
    wire.call(EndBackupRequest { backup_id: begun.backup_id, complete: true }).expect("it can be ended");
    Ok(())
}

#[test]
fn clients_that_back_up_at_once_are_sent_away_or_served_whole() {
    let site = Site::new(Token::Embedded);
    let daemon = site.start();
    let mut wire = daemon.admin();
    for _ in 0..40 {
        wire.create(Protection::Software);
    }
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut wire = daemon.admin();
            std::thread::spawn(move || {
                (0..40).map(|_| read_to_the_end(&mut wire)).filter(|outcome| *outcome == Ok(())).count()
            })
        })
        .collect();
    let whole: Vec<usize> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert!(whole.iter().sum::<usize>() >= 4, "{whole:?}");
    assert_eq!(read_to_the_end(&mut wire), Ok(()), "nothing is left in the way");
    daemon.terminate();
}

/// A backup is put in place as a whole: what isn't a file must not go that way.
#[test]
fn a_backup_never_takes_a_devices_place_and_leaves_links_alone() {
    let site = Site::new(Token::Embedded);
    let daemon = site.start();
    let (pipe, link, real) = (site.dir().join("pipe"), site.dir().join("link"), site.dir().join("real"));
    tool(Command::new("mkfifo").arg(&pipe));
    std::fs::write(&real, "old").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let refused = claviger(&site, &["backup", "create", "--force", text(&pipe)], &[]);
    assert!(refused.code == 2 && refused.stderr.contains("no regular file"), "{}", refused.stderr);
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&pipe.metadata().unwrap().file_type()));
    assert_eq!(claviger(&site, &["backup", "create", "--force", text(&link)], &[]).code, 0);
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert!(std::fs::read(&real).unwrap().starts_with(b"CLAVBKUP"));
    daemon.terminate();
}

#[test]
fn a_backup_ends_with_the_connection_that_began_it() {
    let site = Site::new(Token::Embedded);
    let daemon = site.start();
    let mut first = daemon.admin();
    let begun = first.call(BeginBackupRequest {}).unwrap();
    let mut second = daemon.admin();
    assert_eq!(second.call(BeginBackupRequest {}).unwrap_err().code, Code::Busy);
    drop(first);
    let next = eventually("the place is free", || second.call(BeginBackupRequest {}).ok());
    assert_ne!(next.backup_id, begun.backup_id);
    daemon.terminate();
}
