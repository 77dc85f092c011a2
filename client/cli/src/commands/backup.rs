//! `backup create`, `backup verify`, `restore`: the daemon gives and checks chunks, the
//! files are this program's.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use claviger_client::{Client, Error};
use claviger_protocol::Code;
use claviger_protocol::backup::{BackupError, BackupHeader, BackupReader, CHUNK_PREFIX_LEN};
use claviger_protocol::body::{BeginBackupReply, VerifyBackupReply, VerifyBackupRequest};
use claviger_protocol::secret::Bytes;
use serde::Serialize;
use uuid::Uuid;

use crate::args::{Global, Restore};
use crate::failure::{Failure, warn};
use crate::files::PendingFile;
use crate::output::{Screen, fields, time};
use crate::progress::Progress;

const NO_RECIPIENT: &str =
    "the backup has no recovery recipient: it can only be restored while an HSM still holds the root";

/// What a backup is, as `create` and `verify` say it.
#[derive(Serialize)]
struct View {
    file: String,
    domain_id: Uuid,
    root_generation: u32,
    created_at: String,
    records: u64,
    removals: u64,
    bytes: u64,
    /// Recovery files in it, one for each root generation.
    recovery_files: usize,
    warnings: Vec<&'static str>,
}

pub(super) async fn create(global: &Global, screen: Screen, path: &Path, force: bool) -> Result<(), Failure> {
    let target = target(path, force)?;
    let client = super::connect(global).await?;
    // Before the backup begins, so that a path that can't be written costs nothing.
    let mut file = PendingFile::create(target).map_err(|error| unwritable(path, &error))?;
    let begun = client.begin_backup().await?;
    let backup_id = begun.backup_id;
    let written = match write(&client, &mut file, &begun, screen).await {
        Ok(totals) => file.put_in_place().map(|()| totals),
        Err(failure) => Err(failure),
    };
    let ended = client.end_backup(backup_id, written.is_ok()).await;
    let (records, removals, bytes) = written?;
    ended?;
    let header = BackupHeader::parse(&begun.header.0).map_err(|error| bad(path, &error))?;
    show(screen, View::new(path, &header, records, removals, bytes)).await
}

/// Where a new file is put, if it may be.
pub(super) fn target(path: &Path, force: bool) -> Result<PathBuf, Failure> {
    if path.exists() && !force {
        let text = format!("{} is there already; give another name, or --force", path.display());
        return Err(Failure::usage(text));
    }
    regular(path)
}

pub(super) fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!(
        "{} can't be written: {error}; name a FILE in a directory of your own",
        path.display()
    ))
}

/// Where the file is put: through a link, so that the link stays one; never in the place of
/// a device or a pipe.
fn regular(path: &Path) -> Result<PathBuf, Failure> {
    match fs::metadata(path) {
        Ok(there) if there.is_file() => fs::canonicalize(path)
            .map_err(|error| Failure::usage(format!("{} can't be written: {error}", path.display()))),
        Ok(_) => {
            let text = format!(
                "{} is no regular file: a backup is put in place as a whole; give a FILE",
                path.display()
            );
            Err(Failure::usage(text))
        }
        Err(_) => Ok(path.to_owned()),
    }
}

/// Writes the whole file; gives records, removals and bytes.
async fn write(
    client: &Client,
    file: &mut PendingFile,
    begun: &BeginBackupReply,
    screen: Screen,
) -> Result<(u64, u64, u64), Failure> {
    // A key is a record and its first version's, at the least.
    let progress = Progress::new(screen, "backing up", begun.keys.saturating_mul(2), "records");
    file.write(&begun.header.0)?;
    let mut bytes = begun.header.0.len() as u64;
    for index in 0.. {
        let part = client.read_backup(begun.backup_id, index).await?;
        let chunk = part.chunk.0;
        let len = u32::try_from(chunk.len()).map_err(|_| Failure::local("Protocol", "an endless chunk"))?;
        file.write(&len.to_le_bytes())?;
        file.write(&chunk)?;
        bytes += CHUNK_PREFIX_LEN as u64 + u64::from(len);
        progress.at(part.puts);
        if part.last {
            return Ok((part.puts, part.deletes, bytes));
        }
    }
    Err(Failure::local("Protocol", "a backup without end"))
}

pub(super) async fn verify(global: &Global, screen: Screen, path: &Path) -> Result<(), Failure> {
    let client = super::connect(global).await?;
    let (view, good) = check(&client, path, screen).await?;
    if !good {
        return Err(damaged(path, "its totals are not those of its records"));
    }
    show(screen, view).await
}

async fn check(client: &Client, path: &Path, screen: Screen) -> Result<(View, bool), Failure> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let bytes = file.metadata().map_err(|error| unreadable(path, &error))?.len();
    let mut reader = BackupReader::new(BufReader::new(file)).map_err(|error| bad(path, &error))?;
    let ours = client.status().await?.domain_id;
    let theirs = reader.header.domain_id;
    // A locked daemon says no domain, and below why it can check nothing.
    if theirs != ours && !ours.is_nil() {
        let text = format!("{} is of domain {theirs}, and this daemon's is {ours}", path.display());
        return Err(Failure::refused(Code::InvalidCiphertext, text));
    }
    let progress = Progress::new(screen, "verifying", bytes, "bytes");
    let mut read = reader.raw_header.len() as u64;
    let mut totals = VerifyBackupReply { puts: 0, deletes: 0, total_puts: 0, total_deletes: 0 };
    while let Some(chunk) = reader.chunk().map_err(|error| bad(path, &error))? {
        read += (CHUNK_PREFIX_LEN + chunk.bytes.len()) as u64;
        let request = VerifyBackupRequest {
            header: Bytes(reader.raw_header.clone()),
            index: chunk.index,
            last: chunk.last,
            chunk: Bytes(chunk.bytes),
        };
        let reply = client.verify_backup(request).await.map_err(|error| match error {
            Error::Refused { code: Code::InvalidCiphertext, .. } => {
                damaged(path, &format!("chunk {} is not what the daemon wrote there", chunk.index))
            }
            error => error.into(),
        })?;
        totals.puts += reply.puts;
        totals.deletes += reply.deletes;
        (totals.total_puts, totals.total_deletes) = (reply.total_puts, reply.total_deletes);
        progress.at(read);
    }
    let good = (totals.puts, totals.deletes) == (totals.total_puts, totals.total_deletes);
    Ok((View::new(path, &reader.header, totals.puts, totals.deletes, bytes), good))
}

impl View {
    fn new(path: &Path, header: &BackupHeader, records: u64, removals: u64, bytes: u64) -> Self {
        let warnings = if header.recovery.is_empty() { vec![NO_RECIPIENT] } else { Vec::new() };
        Self {
            file: path.display().to_string(),
            domain_id: header.domain_id,
            root_generation: header.root_generation,
            created_at: time(header.created_at),
            records,
            removals,
            bytes,
            recovery_files: header.recovery.len(),
            warnings,
        }
    }
}

async fn show(screen: Screen, view: View) -> Result<(), Failure> {
    // An object has them in it.
    for warning in view.warnings.iter().filter(|_| !screen.is_json()) {
        warn(warning);
    }
    screen
        .show(&view, |view| {
            fields(&[
                ("file", Some(view.file.clone())),
                ("domain", Some(view.domain_id.to_string())),
                ("root generation", Some(view.root_generation.to_string())),
                ("created", Some(view.created_at.clone())),
                ("records", Some(view.records.to_string())),
                ("removals", Some(view.removals.to_string())),
                ("bytes", Some(view.bytes.to_string())),
                ("recovery files", Some(view.recovery_files.to_string())),
            ])
        })
        .await
}

/// Becomes `clavigerd restore`; comes back only where that can't be run.
pub(super) fn restore(args: &Restore, screen: Screen) -> Failure {
    let program = daemon_program();
    let mut command = Command::new(&program);
    command.arg("restore").arg(&args.file);
    for (flag, value) in [
        ("--config", &args.config),
        ("--state-dir", &args.state_dir),
        ("--private-key", &args.private_key),
        ("--tombstones", &args.tombstones),
    ] {
        if let Some(value) = value {
            command.arg(flag).arg(value);
        }
    }
    if args.dev {
        command.arg("--dev");
    }
    if screen.is_json() {
        command.arg("--json");
    }
    let error = command.exec();
    let text = format!(
        "{} can't be run: {error}; run `clavigerd restore` with the same arguments yourself",
        program.display()
    );
    Failure::local("Internal", text)
}

/// The daemon that was installed with this program, else the one on the path.
fn daemon_program() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name("clavigerd"));
    beside.filter(|program| program.is_file()).unwrap_or_else(|| PathBuf::from("clavigerd"))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("{} can't be read: {error}; name a backup that is there", path.display()))
}

fn bad(path: &Path, error: &BackupError) -> Failure {
    Failure::local(
        "InvalidBackup",
        format!("{}: {error}; take another copy of it, or another backup", path.display()),
    )
}

fn damaged(path: &Path, what: &str) -> Failure {
    Failure::local("InvalidBackup", format!("{} is damaged: {what}; don't rely on it", path.display()))
}
