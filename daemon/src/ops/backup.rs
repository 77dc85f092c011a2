//! Backups of the store: begin, read, end, verify.

use claviger_protocol::body::{
    BeginBackupReply, EndBackupReply, EndBackupRequest, ReadBackupReply, ReadBackupRequest,
    VerifyBackupReply, VerifyBackupRequest,
};

use crate::admission::Admitted;
use crate::backup;
use crate::failure::Failure;
use crate::service::Service;

pub(super) async fn begin(service: &Service, call: &Admitted) -> Result<BeginBackupReply, Failure> {
    let connection = call.permit().resolved().caller().connection;
    service.backups.begin(service.keyring()?, &service.edge, connection).await
}

pub(super) async fn read(service: &Service, body: &ReadBackupRequest) -> Result<ReadBackupReply, Failure> {
    service.backups.read(service.keyring()?, &service.edge, body.backup_id, body.index).await
}

pub(super) async fn end(service: &Service, body: &EndBackupRequest) -> EndBackupReply {
    service.backups.end(body.backup_id).await;
    tracing::info!(backup = %body.backup_id, complete = body.complete, "a backup ended");
    EndBackupReply {}
}

pub(super) fn verify(service: &Service, body: &VerifyBackupRequest) -> Result<VerifyBackupReply, Failure> {
    backup::verify(service.keyring()?, body)
}
