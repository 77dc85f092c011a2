//! A key's life after it was made: deletion, protection, tags, versions, associations.

use claviger_protocol::body::{
    Association, CreateDefaultKeyRequest, CreateKeyReply, CreateKeyVersionRequest, DescribeKeyVersionReply,
    DescribeKeyVersionRequest, DetectAssociationReply, KeyChangeReply, KeyDeletionResult, KeyDeletionsReply,
    KeyStateResult, KeyStatesReply, KeyVersionSummary, ListKeyVersionsReply, ListKeyVersionsRequest,
    ListTagsReply, NewKeyVersionReply, RotateKeyRequest, ScheduleKeyDeletionRequest,
    UpdateKeyDescriptionRequest, UpdateRotationPolicyReply, UpdateRotationPolicyRequest,
};
use claviger_protocol::limits::DEFAULT_PAGE_ITEMS;
use claviger_protocol::names::{ProjectName, TagKey, Tags};
use claviger_protocol::secret::Bytes;
use claviger_protocol::{Code, KeyRef, Suite};
use uuid::Uuid;

use super::keys::{client_token, rotation};
use super::named_key;
use crate::admission::Admitted;
use crate::audit::Trail;
use crate::failure::Failure;
use crate::keyring::record::{KeyRecord, VersionRecord};
use crate::keyring::{Action, Changed, Keyring, Plan, Planned, Use};
use crate::resolve::Target;
use crate::service::Service;

/// What a multi-resource call does to each key.
#[derive(Clone, Copy)]
pub(super) enum Each<'a> {
    /// Enable, disable.
    Switch(Action),
    /// Takes a planned deletion back; whether it is enabled at once.
    Cancel(bool),
    /// Protection against deletion on, or off.
    Protect(bool),
    /// Sets tags.
    Tag(&'a Tags),
    /// Removes tags.
    Untag(&'a [TagKey]),
    /// Moves into a project.
    Move(&'a ProjectName),
}

impl Each<'_> {
    async fn apply(
        self,
        keyring: &Keyring,
        call: &Admitted,
        key_id: Uuid,
        trail: &mut Trail,
    ) -> Result<Changed, Failure> {
        match self {
            Self::Switch(action) => keyring.switch(call, key_id, action, trail).await,
            Self::Cancel(enable) => keyring.cancel_deletion(call, key_id, enable, trail).await,
            Self::Protect(protected) => keyring.protect(call, key_id, protected, trail).await,
            Self::Tag(tags) => keyring.tag(call, key_id, tags, trail).await,
            Self::Untag(tag_keys) => keyring.untag(call, key_id, tag_keys, trail).await,
            Self::Move(project) => keyring.move_to(call, key_id, project, trail).await,
        }
    }
}

/// Each key by itself, in the order named, with a result and an event of its own.
pub(super) async fn each_key(
    service: &Service,
    call: &Admitted,
    keys: &[KeyRef],
    what: Each<'_>,
    trail: &mut Trail,
) -> Result<KeyStatesReply, Failure> {
    let keyring = service.keyring()?;
    let mut results = Vec::with_capacity(keys.len());
    for (name, target) in keys.iter().zip(call.permit().resolved().targets()) {
        let mut own = trail.fork(service.edge.entropy.uuid()?);
        let outcome = match key_of(target) {
            Ok(key_id) => {
                own.about_key(key_id);
                let changed = what.apply(keyring, call, key_id, &mut own).await;
                changed.map(|(state, changed)| (key_id, state, changed))
            }
            Err(failure) => Err(failure),
        };
        trail.join(own, code_of(&outcome));
        results.push(state_result(name.clone(), outcome));
    }
    Ok(KeyStatesReply { results })
}

fn key_of(target: &Target) -> Result<Uuid, Failure> {
    match target {
        Target::Key(Some(key)) => Ok(key.record.key_id),
        Target::Key(None) | Target::Blob(_) | Target::Other => {
            Err(Failure::new(Code::NotFound, "no such key"))
        }
    }
}

fn code_of<T>(outcome: &Result<T, Failure>) -> Code {
    outcome.as_ref().err().map_or(Code::Ok, |failure| failure.code)
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

pub(super) async fn schedule_deletion(
    service: &Service,
    call: &Admitted,
    body: &ScheduleKeyDeletionRequest,
    trail: &mut Trail,
) -> Result<KeyDeletionsReply, Failure> {
    let plan = plan(service, body)?;
    let keyring = service.keyring()?;
    let mut results = Vec::with_capacity(body.keys.len());
    for (name, target) in body.keys.iter().zip(call.permit().resolved().targets()) {
        let mut own = trail.fork(service.edge.entropy.uuid()?);
        let outcome = match key_of(target) {
            Ok(key_id) => {
                own.about_key(key_id);
                let planned = keyring.schedule_deletion(call, key_id, plan, &mut own).await;
                planned.map(|planned| (key_id, planned))
            }
            Err(failure) => Err(failure),
        };
        let result = deletion_result(name.clone(), outcome);
        trail.join(own, Code::from_number(result.status).unwrap_or(Code::Internal));
        results.push(result);
    }
    Ok(KeyDeletionsReply { results })
}

/// The configured bounds hold for what the call asks for.
fn plan(service: &Service, body: &ScheduleKeyDeletionRequest) -> Result<Plan, Failure> {
    let limits = service.limits();
    let (least, most) = (limits.deletion_days_min, limits.deletion_days_max);
    let days = body.days.unwrap_or_else(|| limits.deletion_days_default.clamp(least, most));
    if !(least..=most).contains(&days) {
        let text = format!("a key waits {least} to {most} days for its deletion, not {days}");
        return Err(Failure::new(Code::InvalidArgument, text));
    }
    Ok(Plan { days, force: body.force, association_days: limits.association_days })
}

/// Associations that a refusal names.
const SHOWN_USES: usize = 10;

fn deletion_result(key: KeyRef, outcome: Result<(Uuid, Planned), Failure>) -> KeyDeletionResult {
    let refused = |failure: Failure, uses: Vec<Use>| KeyDeletionResult {
        key: key.clone(),
        status: failure.code.number(),
        key_id: None,
        deletion_date: None,
        associations: uses.into_iter().map(association).collect(),
        message: failure.message.into_owned(),
    };
    match outcome {
        Err(failure) => refused(failure, Vec::new()),
        Ok((_, Planned::InUse(uses))) => {
            // The latest: the rest are DetectAssociation's, lest the reply outgrow its frame.
            let uses: Vec<_> = uses.into_iter().take(SHOWN_USES).collect();
            let names: Vec<_> = uses.iter().map(|used| used.access_point.as_str()).collect();
            let text = format!(
                "access points used the key lately: {}; force the deletion if it is meant",
                names.join(", ")
            );
            refused(Failure::new(Code::KeyInUse, text), uses)
        }
        Ok((key_id, Planned::For(at))) => KeyDeletionResult {
            key,
            status: Code::Ok.number(),
            key_id: Some(key_id),
            deletion_date: Some(at),
            associations: Vec::new(),
            message: String::new(),
        },
    }
}

fn association(used: Use) -> Association {
    Association { access_point: used.access_point, last_used_at: used.at }
}

pub(super) async fn describe_as(
    service: &Service,
    call: &Admitted,
    body: &UpdateKeyDescriptionRequest,
    trail: &mut Trail,
) -> Result<KeyChangeReply, Failure> {
    let key_id = named_key(call, 0)?.record.key_id;
    let (_, changed) = service.keyring()?.describe_as(call, key_id, &body.description, trail).await?;
    Ok(KeyChangeReply { key_id, changed })
}

pub(super) fn list_tags(call: &Admitted) -> Result<ListTagsReply, Failure> {
    let key = &named_key(call, 0)?.record;
    Ok(ListTagsReply { key_id: key.key_id, tags: key.tags.clone() })
}

pub(super) async fn rotate(
    service: &Service,
    call: &Admitted,
    body: &RotateKeyRequest,
    trail: &mut Trail,
) -> Result<NewKeyVersionReply, Failure> {
    let key_id = named_key(call, 0)?.record.key_id;
    let token = client_token(call, body.client_token, body)?;
    let (key_id, key_version_id) = service.keyring()?.rotate(call, key_id, &token, trail).await?;
    Ok(NewKeyVersionReply { key_id, key_version_id })
}

pub(super) async fn create_version(
    service: &Service,
    call: &Admitted,
    body: &CreateKeyVersionRequest,
    trail: &mut Trail,
) -> Result<NewKeyVersionReply, Failure> {
    let key_id = named_key(call, 0)?.record.key_id;
    let token = client_token(call, body.client_token, body)?;
    let (key_id, key_version_id) = service.keyring()?.create_version(call, key_id, &token, trail).await?;
    Ok(NewKeyVersionReply { key_id, key_version_id })
}

pub(super) async fn set_rotation(
    service: &Service,
    call: &Admitted,
    body: &UpdateRotationPolicyRequest,
    trail: &mut Trail,
) -> Result<UpdateRotationPolicyReply, Failure> {
    let key_id = named_key(call, 0)?.record.key_id;
    let (key, changed) = service.keyring()?.set_rotation(call, key_id, body.rotation_days, trail).await?;
    Ok(UpdateRotationPolicyReply { key_id, rotation: rotation(&key), changed })
}

pub(super) async fn list_versions(
    service: &Service,
    call: &Admitted,
    body: &ListKeyVersionsRequest,
) -> Result<ListKeyVersionsReply, Failure> {
    let key = &named_key(call, 0)?.record;
    let limit = usize::from(if body.limit == 0 { DEFAULT_PAGE_ITEMS } else { body.limit });
    let before = match body.page.0.as_slice() {
        [] => None,
        page => Some(u32::from_be_bytes(page.try_into().map_err(|_| super::foreign_page())?)),
    };
    let found = service.keyring()?.versions(key.key_id, before, limit).await?;
    let last = found.last().filter(|_| found.len() == limit).map(|last| last.number);
    Ok(ListKeyVersionsReply {
        key_id: key.key_id,
        versions: found.iter().map(|version| version_summary(key, version)).collect(),
        next_page: Bytes(last.map(|number| number.to_be_bytes().to_vec()).unwrap_or_default()),
    })
}

pub(super) async fn describe_version(
    service: &Service,
    call: &Admitted,
    body: &DescribeKeyVersionRequest,
) -> Result<DescribeKeyVersionReply, Failure> {
    let key = &named_key(call, 0)?.record;
    let version = service.keyring()?.describe_version(key.key_id, body.key_version_id).await?;
    let counted = matches!(version.suite, Some(Suite::HsmAes256Direct | Suite::HsmSm4Direct));
    Ok(DescribeKeyVersionReply {
        key_id: key.key_id,
        version: version_summary(key, &version),
        public_key: version.public_key.clone(),
        hardware: version.hardware,
        made_by: version.made_by.clone(),
        counted_uses: counted.then_some(version.reserved_uses),
    })
}

fn version_summary(key: &KeyRecord, version: &VersionRecord) -> KeyVersionSummary {
    // Pairs have no primary version: their calls name one.
    let primary = key.spec.pair().is_none() && key.primary_version == Some(version.version_id);
    KeyVersionSummary {
        key_version_id: version.version_id,
        number: version.number,
        created_at: version.created_at,
        primary,
        destroyed_at: version.destroyed_at,
    }
}

pub(super) async fn associations(
    service: &Service,
    call: &Admitted,
) -> Result<DetectAssociationReply, Failure> {
    let key_id = named_key(call, 0)?.record.key_id;
    let uses = service.keyring()?.associations(key_id).await?;
    Ok(DetectAssociationReply { key_id, associations: uses.into_iter().map(association).collect() })
}

pub(super) async fn create_default(
    service: &Service,
    call: &Admitted,
    body: &CreateDefaultKeyRequest,
    trail: &mut Trail,
) -> Result<CreateKeyReply, Failure> {
    let created_by = call.permit().resolved().caller().display_name();
    let keyring = service.keyring()?;
    let (key_id, key_version_id) = keyring.create_default(call, &body.service, created_by, trail).await?;
    Ok(CreateKeyReply { key_id, key_version_id })
}
