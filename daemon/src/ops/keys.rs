//! Keys and their lives.

use aws_lc_rs::digest;
use claviger_protocol::body::{
    Assurance, CreateKeyReply, CreateKeyRequest, DescribeKeyReply, KeyStateResult, KeyStatesReply,
    KeySummary, ListKeysReply, ListKeysRequest, Rotation,
};
use claviger_protocol::limits::DEFAULT_PAGE_ITEMS;
use claviger_protocol::secret::Bytes;
use claviger_protocol::{Code, KeyOrigin, KeyRef, KeySpec, KeyUsage, codec};
use uuid::Uuid;

use super::named_key;
use crate::admission::Admitted;
use crate::audit::Trail;
use crate::backend::software;
use crate::failure::Failure;
use crate::keyring::record::KeyRecord;
use crate::keyring::{Action, Filter, NewKey};
use crate::resolve::Target;
use crate::service::Service;

pub(super) async fn create(
    service: &Service,
    call: &Admitted,
    body: &CreateKeyRequest,
    trail: &mut Trail,
) -> Result<CreateKeyReply, Failure> {
    let caller = call.permit().resolved().caller();
    not_yet(body)?;
    let encoded = codec::encode(body).map_err(|_| Code::Internal)?;
    let mut request = [0; 32];
    request.copy_from_slice(digest::digest(&digest::SHA256, &encoded).as_ref());
    let new = NewKey {
        spec: body.spec,
        usage: body.usage.or_else(|| body.spec.usages().first().copied()).ok_or(Code::Internal)?,
        protection: body.protection,
        project: body.project.clone(),
        alias: body.alias.clone(),
        description: body.description.clone(),
        tags: body.tags.clone(),
        created_by: caller.display_name(),
        endpoint: caller.endpoint.name.to_string(),
        client_token: body.client_token,
        request,
        sm2_user_id: body.sm2_user_id.clone(),
    };
    let (key_id, key_version_id) = service.keyring()?.create(call, &new, trail).await?;
    Ok(CreateKeyReply { key_id, key_version_id })
}

/// Fields that later versions will honour are refused, never ignored.
fn not_yet(body: &CreateKeyRequest) -> Result<(), Failure> {
    if body.origin == KeyOrigin::External {
        return Err(Failure::new(Code::NotAvailable, "importing key material comes with a later version"));
    }
    if body.rotation_days.is_some() {
        return Err(Failure::new(Code::NotAvailable, "rotation comes with a later version"));
    }
    Ok(())
}

pub(super) async fn describe(service: &Service, call: &Admitted) -> Result<DescribeKeyReply, Failure> {
    let entry = named_key(call, 0)?;
    let key = &entry.record;
    let keyring = service.keyring()?;
    Ok(DescribeKeyReply {
        key_id: key.key_id,
        spec: key.spec,
        usage: key.usage,
        state: key.state,
        protection: key.protection,
        origin: key.origin,
        project: key.project.clone(),
        description: key.description.clone(),
        aliases: alias_names(key),
        tags: key.tags.clone(),
        created_at: key.created_at,
        created_by: key.created_by.clone(),
        // Pairs have none: their calls name a version.
        primary_version_id: key.primary_version.filter(|_| key.spec.pair().is_none()),
        version_count: key.version_count,
        rotation: key.rotation_days.map(|days| Rotation {
            days,
            last: key.last_rotation,
            next: key.next_rotation,
        }),
        deletion_date: key.deletion_date,
        erased_at: key.erased_at,
        deletion_protection: key.deletion_protection,
        material_expires_at: key.material_expires_at,
        sm2_user_id: sm2_user_id(key),
        assurance: Assurance {
            hardware: keyring.in_hardware(entry).await?,
            members: vec![keyring.member().name.clone()],
        },
    })
}

/// The id that an SM2 key signs with: its own, or the standard's.
fn sm2_user_id(key: &KeyRecord) -> Option<Bytes> {
    let signs = (key.spec, key.usage) == (KeySpec::Sm2, KeyUsage::SignVerify);
    let default = || Bytes(software::SM2_DEFAULT_USER_ID.to_vec());
    signs.then(|| key.sm2_user_id.clone().unwrap_or_else(default))
}

/// Bytes of a page beside its keys: two counts and the token.
const PAGE_FRAME: usize = 8 + 8 + 16;

pub(super) async fn list(service: &Service, body: &ListKeysRequest) -> Result<ListKeysReply, Failure> {
    let limit = match body.limit {
        0 => DEFAULT_PAGE_ITEMS,
        limit => limit,
    };
    let after =
        match body.page.0.as_slice() {
            [] => None,
            token => Some(Uuid::from_slice(token).map_err(|_| {
                Failure::new(Code::InvalidArgument, "the page token isn't one of this list's")
            })?),
        };
    let filter =
        Filter { state: body.state, spec: body.spec, project: body.project.clone(), tag: body.tag.clone() };
    let page = service.keyring()?.list(&filter, after, limit.into()).await?;
    let mut reply = ListKeysReply { keys: Vec::with_capacity(page.keys.len()), next_page: Bytes::default() };
    let mut next = page.next;
    // A page ends where the frame does, whatever was asked for.
    let mut room = (service.limits().max_body as usize).saturating_sub(PAGE_FRAME);
    for key in &page.keys {
        let item = summary(key);
        let size = codec::encode(&item).map_err(|_| Code::Internal)?.len();
        let Some(left) = room.checked_sub(size) else {
            next = reply.keys.last().map(|last| last.key_id);
            break;
        };
        room = left;
        reply.keys.push(item);
    }
    reply.next_page = Bytes(next.map(|id| id.as_bytes().to_vec()).unwrap_or_default());
    Ok(reply)
}

fn summary(key: &KeyRecord) -> KeySummary {
    KeySummary {
        key_id: key.key_id,
        spec: key.spec,
        usage: key.usage,
        state: key.state,
        protection: key.protection,
        origin: key.origin,
        project: key.project.clone(),
        description: key.description.clone(),
        aliases: alias_names(key),
        created_at: key.created_at,
    }
}

fn alias_names(key: &KeyRecord) -> Vec<String> {
    key.aliases.iter().map(ToString::to_string).collect()
}

pub(super) async fn enable(
    service: &Service,
    call: &Admitted,
    keys: &[KeyRef],
    trail: &mut Trail,
) -> Result<KeyStatesReply, Failure> {
    switch_all(service, call, keys, Action::Enable, trail).await
}

pub(super) async fn disable(
    service: &Service,
    call: &Admitted,
    keys: &[KeyRef],
    trail: &mut Trail,
) -> Result<KeyStatesReply, Failure> {
    switch_all(service, call, keys, Action::Disable, trail).await
}

/// Each key by itself, in the order named, with a result and an event of its own.
async fn switch_all(
    service: &Service,
    call: &Admitted,
    keys: &[KeyRef],
    action: Action,
    trail: &mut Trail,
) -> Result<KeyStatesReply, Failure> {
    let keyring = service.keyring()?;
    let mut results = Vec::with_capacity(keys.len());
    for (name, target) in keys.iter().zip(call.permit().resolved().targets()) {
        let mut own = trail.fork(service.edge.entropy.uuid()?);
        let outcome = match target {
            Target::Key(Some(key)) => {
                own.about_key(key.record.key_id);
                let switched = keyring.switch(call, key, action, &mut own).await;
                switched.map(|(state, changed)| (key.record.key_id, state, changed))
            }
            Target::Key(None) | Target::Blob(_) | Target::Other => {
                Err(Failure::new(Code::NotFound, "no such key"))
            }
        };
        trail.join(own, outcome.as_ref().err().map_or(Code::Ok, |failure| failure.code));
        results.push(state_result(name.clone(), outcome));
    }
    Ok(KeyStatesReply { results })
}

fn state_result(
    key: KeyRef,
    outcome: Result<(Uuid, claviger_protocol::KeyState, bool), Failure>,
) -> KeyStateResult {
    match outcome {
        Ok((key_id, state, changed)) => KeyStateResult {
            key,
            status: Code::Ok.number(),
            key_id: Some(key_id),
            state: Some(state),
            changed,
            message: String::new(),
        },
        Err(failure) => KeyStateResult {
            key,
            status: failure.code.number(),
            key_id: None,
            state: None,
            changed: false,
            message: failure.message.into_owned(),
        },
    }
}
