//! Keys and their lives.

use aws_lc_rs::digest;
use claviger_protocol::body::{
    AliasKey, Assurance, CreateKeyReply, CreateKeyRequest, DescribeKeyReply, KeySummary, ListAliasKeysReply,
    ListAliasKeysRequest, ListKeysReply, ListKeysRequest, ListSymmetricKeysRequest, Rotation,
};
use claviger_protocol::limits::DEFAULT_PAGE_ITEMS;
use claviger_protocol::secret::Bytes;
use claviger_protocol::{Code, KeySpec, KeyUsage, Operation, codec};
use uuid::Uuid;

use super::naming::name_page;
use super::{Room, foreign_page, named_key};
use crate::admission::Admitted;
use crate::audit::Trail;
use crate::backend::software;
use crate::failure::Failure;
use crate::keyring::record::KeyRecord;
use crate::keyring::{ClientToken, Filter, NewKey};
use crate::service::Service;

pub(super) async fn create(
    service: &Service,
    call: &Admitted,
    body: &CreateKeyRequest,
    trail: &mut Trail,
) -> Result<CreateKeyReply, Failure> {
    let new = NewKey {
        spec: body.spec,
        usage: body.usage.or_else(|| body.spec.usages().first().copied()).ok_or(Code::Internal)?,
        protection: body.protection,
        origin: body.origin,
        project: body.project.clone(),
        alias: body.alias.clone(),
        description: body.description.clone(),
        tags: body.tags.clone(),
        rotation_days: body.rotation_days,
        created_by: call.permit().resolved().caller().display_name(),
        token: Some(client_token(call, body.client_token, body)?),
        sm2_user_id: body.sm2_user_id.clone(),
        default_for: None,
    };
    let (key_id, key_version_id) = service.keyring()?.create(call, &new, trail).await?;
    Ok(CreateKeyReply { key_id, key_version_id })
}

/// What a client's token stands for: this request, at the endpoint that it came through.
pub(super) fn client_token<T: Operation + serde::Serialize>(
    call: &Admitted,
    token: [u8; 16],
    body: &T,
) -> Result<ClientToken, Failure> {
    let encoded = codec::encode(body).map_err(|_| Code::Internal)?;
    let mut hash = digest::Context::new(&digest::SHA256);
    // Requests of two operations may have the same bytes.
    hash.update(&T::OPCODE.number().to_le_bytes());
    hash.update(&encoded);
    let mut request = [0; 32];
    request.copy_from_slice(hash.finish().as_ref());
    let endpoint = call.permit().resolved().caller().endpoint.name.to_string();
    Ok(ClientToken { endpoint, token, request })
}

/// A key's rotation policy with its dates.
pub(super) fn rotation(key: &KeyRecord) -> Option<Rotation> {
    let (last, next) = (key.last_rotation, key.next_rotation);
    key.rotation_days.map(|days| Rotation { days, last, next })
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
        rotation: rotation(key),
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

pub(super) async fn list(service: &Service, body: &ListKeysRequest) -> Result<ListKeysReply, Failure> {
    let filter =
        Filter { state: body.state, spec: body.spec, project: body.project.clone(), tag: body.tag.clone() };
    page(service, &filter, &body.page, body.limit).await
}

async fn page(
    service: &Service,
    filter: &Filter,
    page: &Bytes,
    limit: u16,
) -> Result<ListKeysReply, Failure> {
    let found = service.keyring()?.list(filter, id_page(page)?, items(limit)).await?;
    let mut reply = ListKeysReply { keys: Vec::with_capacity(found.keys.len()), next_page: Bytes::default() };
    let mut next = found.next;
    // A page ends where the frame does, whatever was asked for.
    let mut room = Room::of(service);
    for key in &found.keys {
        let item = summary(key);
        if !room.takes(&item)? {
            next = reply.keys.last().map(|last| last.key_id);
            break;
        }
        reply.keys.push(item);
    }
    reply.next_page = Bytes(next.map(|id| id.as_bytes().to_vec()).unwrap_or_default());
    Ok(reply)
}

/// A page token that is the last id of the page before.
pub(super) fn id_page(page: &Bytes) -> Result<Option<Uuid>, Failure> {
    match page.0.as_slice() {
        [] => Ok(None),
        page => Uuid::from_slice(page).map(Some).map_err(|_| foreign_page()),
    }
}

/// Items of a page; 0 is the caller's word for the usual number.
pub(super) fn items(limit: u16) -> usize {
    usize::from(if limit == 0 { DEFAULT_PAGE_ITEMS } else { limit })
}

/// AES_256 first, then SM4: a page's token says how far it has come in which.
pub(super) async fn list_symmetric(
    service: &Service,
    body: &ListSymmetricKeysRequest,
) -> Result<ListKeysReply, Failure> {
    let specs = [KeySpec::Aes256, KeySpec::Sm4];
    let (number, after) = match body.page.0.split_first() {
        None => (specs[0].number(), Bytes::default()),
        Some((number, after)) => (*number, Bytes(after.to_vec())),
    };
    let first = specs.iter().position(|spec| spec.number() == number).ok_or_else(foreign_page)?;
    let limit = items(body.limit);
    let mut reply = ListKeysReply { keys: Vec::new(), next_page: Bytes::default() };
    for (index, spec) in specs.into_iter().enumerate().skip(first) {
        let filter = Filter { state: body.state, spec: Some(spec), project: body.project.clone(), tag: None };
        let from = if index == first { after.clone() } else { Bytes::default() };
        let found = page(service, &filter, &from, body.limit).await?;
        let beside = !reply.keys.is_empty();
        if beside && found.keys.len() + reply.keys.len() > limit {
            reply.next_page = Bytes(vec![spec.number()]);
            return Ok(reply);
        }
        let mut room = Room::of(service);
        for key in &reply.keys {
            room.takes(key)?;
        }
        for key in &found.keys {
            if !room.takes(key)? {
                reply.next_page = Bytes(vec![spec.number()]);
                return Ok(reply);
            }
        }
        reply.keys.extend(found.keys);
        if !found.next_page.0.is_empty() {
            reply.next_page = Bytes([&[spec.number()], found.next_page.0.as_slice()].concat());
            return Ok(reply);
        }
    }
    Ok(reply)
}

pub(super) async fn list_aliased(
    service: &Service,
    body: &ListAliasKeysRequest,
) -> Result<ListAliasKeysReply, Failure> {
    let after = name_page(&body.page)?;
    let keyring = service.keyring()?;
    let found = keyring.list_aliased(body.project.as_ref(), after, items(body.limit)).await?;
    let (mut keys, mut next) = (Vec::with_capacity(found.keys.len()), found.next);
    let mut room = Room::of(service);
    for (alias, key) in &found.keys {
        let item = AliasKey { alias: alias.clone(), key: summary(key) };
        if !room.takes(&item)? {
            next = keys.last().map(|last: &AliasKey| last.alias.clone());
            break;
        }
        keys.push(item);
    }
    Ok(ListAliasKeysReply { keys, next_page: Bytes(next.unwrap_or_default().into_bytes()) })
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

/// A key's aliases, sorted; a default key has its reserved one.
pub(super) fn alias_names(key: &KeyRecord) -> Vec<String> {
    let default = key.default_for.iter().map(|service| format!("alias/{service}/default"));
    let mut names: Vec<_> = key.aliases.iter().map(ToString::to_string).chain(default).collect();
    names.sort();
    names
}
