//! `backup list` and `backup tombstones`: which backups there are, and what a restore of one
//! must not bring back.

use std::path::Path;

use claviger_client::Client;
use claviger_protocol::KeyRef;
use claviger_protocol::body::{ListBackupsRequest, ListTombstonesRequest};
use claviger_protocol::secret::Bytes;
use serde::Serialize;
use uuid::Uuid;

use crate::args::Global;
use crate::failure::Failure;
use crate::files::PendingFile;
use crate::output::{Screen, fields, table, time};

/// Items asked for at once.
const PAGE: u16 = 1000;

#[derive(Serialize)]
struct BackupList {
    backups: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    backup_id: Uuid,
    created_at: String,
    holds_deleted: u32,
}

pub(super) async fn list(global: &Global, screen: Screen, key: Option<KeyRef>) -> Result<(), Failure> {
    let client = super::connect(global).await?;
    let (mut backups, mut page) = (Vec::new(), Bytes::default());
    loop {
        let request = ListBackupsRequest { key: key.clone(), limit: PAGE, page };
        let reply = client.list_backups(request).await?;
        backups.extend(reply.backups.into_iter().map(|backup| Listed {
            backup_id: backup.backup_id,
            created_at: time(backup.created_at),
            holds_deleted: backup.holds_deleted,
        }));
        page = reply.next_page;
        if page.0.is_empty() {
            break;
        }
    }
    let rows = |view: &BackupList| {
        let row = |backup: &Listed| {
            vec![backup.created_at.clone(), backup.backup_id.to_string(), backup.holds_deleted.to_string()]
        };
        let rows: Vec<_> = view.backups.iter().map(row).collect();
        table(&["CREATED", "BACKUP", "HOLDS DELETED KEYS"], &rows)
    };
    screen.show(&BackupList { backups }, rows).await
}

/// The list as `clavigerd restore` reads it.
#[derive(Serialize)]
struct List {
    domain_id: Uuid,
    tombstones: Vec<Tombstone>,
}

#[derive(Serialize)]
struct Tombstone {
    key_id: Uuid,
    deleted_at: String,
    erased_at: Option<String>,
}

#[derive(Serialize)]
struct Written {
    file: String,
    domain_id: Uuid,
    tombstones: usize,
}

pub(super) async fn write(global: &Global, screen: Screen, path: &Path, force: bool) -> Result<(), Failure> {
    let target = super::backup::target(path, force)?;
    let client = super::connect(global).await?;
    let mut file = PendingFile::create(target).map_err(|error| super::backup::unwritable(path, &error))?;
    let list = all(&client).await?;
    let text =
        serde_json::to_vec_pretty(&list).map_err(|error| Failure::local("Internal", error.to_string()))?;
    file.write(&text)?;
    file.put_in_place()?;
    let written = Written {
        file: path.display().to_string(),
        domain_id: list.domain_id,
        tombstones: list.tombstones.len(),
    };
    let rows = |view: &Written| {
        fields(&[
            ("file", Some(view.file.clone())),
            ("domain", Some(view.domain_id.to_string())),
            ("tombstones", Some(view.tombstones.to_string())),
        ])
    };
    screen.show(&written, rows).await
}

async fn all(client: &Client) -> Result<List, Failure> {
    let mut list = List { domain_id: Uuid::nil(), tombstones: Vec::new() };
    let mut page = Bytes::default();
    loop {
        let reply = client.list_tombstones(ListTombstonesRequest { limit: PAGE, page }).await?;
        list.domain_id = reply.domain_id;
        list.tombstones.extend(reply.tombstones.into_iter().map(|tomb| Tombstone {
            key_id: tomb.key_id,
            deleted_at: time(tomb.deleted_at),
            erased_at: tomb.erased_at.map(time),
        }));
        page = reply.next_page;
        if page.0.is_empty() {
            return Ok(list);
        }
    }
}
