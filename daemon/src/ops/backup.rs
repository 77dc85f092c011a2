//! Backups of the store: begin, read, end, verify, list; and tombstones, for restores.

use claviger_protocol::body::{
    BackupSummary, BeginBackupReply, EndBackupReply, EndBackupRequest, ListBackupsReply, ListBackupsRequest,
    ListTombstonesReply, ListTombstonesRequest, ReadBackupReply, ReadBackupRequest, VerifyBackupReply,
    VerifyBackupRequest,
};
use claviger_protocol::secret::Bytes;

use super::keys::{id_page, items};
use super::{foreign_page, named_key};
use crate::admission::Admitted;
use crate::backup;
use crate::failure::Failure;
use crate::keyring::record::BackupRecord;
use crate::keyring::tombstones::PLACE_LEN;
use crate::service::Service;

pub(super) async fn begin(service: &Service, call: &Admitted) -> Result<BeginBackupReply, Failure> {
    let connection = call.permit().resolved().caller().connection;
    service.backups.begin(service.keyring()?, &service.edge, connection).await
}

pub(super) async fn read(service: &Service, body: &ReadBackupRequest) -> Result<ReadBackupReply, Failure> {
    service.backups.read(service.keyring()?, &service.edge, body.backup_id, body.index).await
}

pub(super) async fn end(service: &Service, body: &EndBackupRequest) -> EndBackupReply {
    let made = service.backups.end(body.backup_id).await.filter(|_| body.complete);
    if let (Some(made), Ok(keyring)) = (made, service.keyring())
        && let Err(failure) = keyring.note_backup(made).await
    {
        // The file is there all the same.
        tracing::warn!(backup = %body.backup_id, %failure, "a backup was made that the list of backups lacks");
    }
    tracing::info!(backup = %body.backup_id, complete = body.complete, "a backup ended");
    EndBackupReply {}
}

pub(super) fn verify(service: &Service, body: &VerifyBackupRequest) -> Result<VerifyBackupReply, Failure> {
    backup::verify(service.keyring()?, body)
}

pub(super) async fn list(
    service: &Service,
    call: &Admitted,
    body: &ListBackupsRequest,
) -> Result<ListBackupsReply, Failure> {
    let key = body.key.as_ref().map(|_| named_key(call, 0)).transpose()?;
    let after = Some(body.page.0.as_slice()).filter(|page| !page.is_empty());
    if after.is_some_and(|page| page.len() != PLACE_LEN) {
        return Err(foreign_page());
    }
    let limit = items(body.limit);
    let found = service.keyring()?.backups(key.map(|key| &key.record), after, limit).await?;
    let next = found.last().filter(|_| found.len() == limit).map(|(place, _, _)| place.clone());
    let summary = |(_, backup, holds_deleted): (Vec<u8>, BackupRecord, u32)| BackupSummary {
        backup_id: backup.backup_id,
        created_at: backup.begun_at,
        holds_deleted,
    };
    Ok(ListBackupsReply {
        backups: found.into_iter().map(summary).collect(),
        next_page: Bytes(next.unwrap_or_default()),
    })
}

pub(super) async fn tombstones(
    service: &Service,
    body: &ListTombstonesRequest,
) -> Result<ListTombstonesReply, Failure> {
    let keyring = service.keyring()?;
    let (tombstones, next) = keyring.tombstones(id_page(&body.page)?, items(body.limit)).await?;
    Ok(ListTombstonesReply {
        domain_id: keyring.domain().id,
        tombstones,
        next_page: Bytes(next.map(|id| id.as_bytes().to_vec()).unwrap_or_default()),
    })
}
