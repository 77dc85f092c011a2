//! Bringing key material: parameters, import, and its end.

use claviger_protocol::body::{
    DeleteKeyMaterialReply, GetParametersForImportReply, GetParametersForImportRequest,
    ImportKeyMaterialReply, ImportKeyMaterialRequest,
};
use claviger_protocol::secret::Bytes;

use super::keys::client_token;
use super::named_key;
use crate::admission::Admitted;
use crate::audit::Trail;
use crate::failure::Failure;
use crate::keyring::Sent;
use crate::service::Service;

pub(super) async fn parameters(
    service: &Service,
    call: &Admitted,
    body: &GetParametersForImportRequest,
    trail: &mut Trail,
) -> Result<GetParametersForImportReply, Failure> {
    let key = named_key(call, 0)?;
    let keyring = service.keyring()?;
    let given = keyring.import_parameters(call, key, body.wrapping_spec, body.algorithm, trail).await?;
    Ok(GetParametersForImportReply {
        key_id: key.record.key_id,
        public_key: Bytes(given.public_key),
        token: Bytes(given.token),
        expires_at: given.expires_at,
    })
}

pub(super) async fn import(
    service: &Service,
    call: &Admitted,
    body: &ImportKeyMaterialRequest,
    trail: &mut Trail,
) -> Result<ImportKeyMaterialReply, Failure> {
    let key_id = named_key(call, 0)?.record.key_id;
    let ephemeral = body.encrypted_ephemeral_key.0.as_slice();
    let sent = Sent {
        material: &body.encrypted_material.0,
        ephemeral: (!ephemeral.is_empty()).then_some(ephemeral),
        token: &body.token.0,
        expires_at: body.expires_at,
    };
    let token = client_token(call, body.client_token, body)?;
    let imported = service.keyring()?.import(call, key_id, &sent, &token, trail).await?;
    Ok(ImportKeyMaterialReply {
        key_id,
        key_version_id: imported.version_id,
        state: imported.state,
        material_expires_at: imported.expires_at,
        through_memory: imported.through_memory,
    })
}

pub(super) async fn delete(
    service: &Service,
    call: &Admitted,
    trail: &mut Trail,
) -> Result<DeleteKeyMaterialReply, Failure> {
    let key_id = named_key(call, 0)?.record.key_id;
    let erase_after = i64::try_from(service.limits().erase_after.as_millis()).unwrap_or(i64::MAX);
    let state = service.keyring()?.delete_material(call, key_id, erase_after, trail).await?;
    Ok(DeleteKeyMaterialReply { key_id, state })
}
