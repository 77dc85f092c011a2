//! Aliases and projects.

use claviger_protocol::Code;
use claviger_protocol::body::{
    AliasEntry, AliasReply, CreateAliasRequest, CreateProjectRequest, DeleteAliasRequest,
    DeleteProjectRequest, ListAliasReply, ListAliasRequest, ListProjectsReply, ListProjectsRequest,
    ProjectReply, ProjectSummary, UpdateAliasRequest,
};
use claviger_protocol::limits::DEFAULT_PAGE_ITEMS;
use claviger_protocol::names::{Alias, ProjectName};
use claviger_protocol::secret::Bytes;
use uuid::Uuid;

use super::keys::alias_names;
use super::{Room, foreign_page, named_key};
use crate::admission::Admitted;
use crate::audit::Trail;
use crate::failure::Failure;
use crate::service::Service;

pub(super) async fn create_alias(
    service: &Service,
    call: &Admitted,
    body: &CreateAliasRequest,
    trail: &mut Trail,
) -> Result<AliasReply, Failure> {
    let key_id = named_key(call, 0)?.record.key_id;
    service.keyring()?.create_alias(call, &body.alias, key_id, trail).await?;
    Ok(reply(&body.alias, key_id, true))
}

pub(super) async fn update_alias(
    service: &Service,
    call: &Admitted,
    body: &UpdateAliasRequest,
    trail: &mut Trail,
) -> Result<AliasReply, Failure> {
    there(call)?;
    let key_id = named_key(call, 1)?.record.key_id;
    let changed = service.keyring()?.update_alias(call, &body.alias, key_id, trail).await?;
    Ok(reply(&body.alias, key_id, changed))
}

pub(super) async fn delete_alias(
    service: &Service,
    call: &Admitted,
    body: &DeleteAliasRequest,
    trail: &mut Trail,
) -> Result<AliasReply, Failure> {
    there(call)?;
    let key_id = service.keyring()?.delete_alias(call, &body.alias, trail).await?;
    Ok(reply(&body.alias, key_id, true))
}

/// The alias that a call names first is one.
fn there(call: &Admitted) -> Result<(), Failure> {
    match named_key(call, 0) {
        Ok(_) => Ok(()),
        Err(failure) if failure.code == Code::NotFound => Err(Failure::new(Code::NotFound, "no such alias")),
        Err(failure) => Err(failure),
    }
}

fn reply(alias: &Alias, key_id: Uuid, changed: bool) -> AliasReply {
    AliasReply { alias: alias.clone(), key_id, changed }
}

pub(super) async fn list_alias(
    service: &Service,
    body: &ListAliasRequest,
) -> Result<ListAliasReply, Failure> {
    let limit = usize::from(if body.limit == 0 { DEFAULT_PAGE_ITEMS } else { body.limit });
    let found = service.keyring()?.aliases(name_page(&body.page)?, limit).await?;
    let full = found.len() == limit;
    let mut room = Room::of(service);
    let mut aliases = Vec::with_capacity(found.len());
    let mut cut = false;
    for (alias, key_id) in found {
        let entry = AliasEntry { alias, key_id };
        if !room.takes(&entry)? {
            cut = true;
            break;
        }
        aliases.push(entry);
    }
    let next = aliases.last().filter(|_| full || cut).map(|last| last.alias.clone().into_bytes());
    Ok(ListAliasReply { aliases, next_page: Bytes(next.unwrap_or_default()) })
}

pub(super) fn list_alias_of(call: &Admitted) -> Result<ListAliasReply, Failure> {
    let key = &named_key(call, 0)?.record;
    let entry = |alias| AliasEntry { alias, key_id: key.key_id };
    Ok(ListAliasReply {
        aliases: alias_names(key).into_iter().map(entry).collect(),
        next_page: Bytes::default(),
    })
}

pub(super) async fn create_project(
    service: &Service,
    call: &Admitted,
    body: &CreateProjectRequest,
    trail: &mut Trail,
) -> Result<ProjectReply, Failure> {
    let by = call.permit().resolved().caller().display_name();
    service.keyring()?.create_project(call, &body.project, &body.description, by, trail).await?;
    Ok(ProjectReply { project: body.project.clone() })
}

pub(super) async fn delete_project(
    service: &Service,
    call: &Admitted,
    body: &DeleteProjectRequest,
    trail: &mut Trail,
) -> Result<ProjectReply, Failure> {
    service.keyring()?.delete_project(call, &body.project, trail).await?;
    Ok(ProjectReply { project: body.project.clone() })
}

/// `default` has no record: it stands where its name belongs.
pub(super) async fn list_projects(
    service: &Service,
    body: &ListProjectsRequest,
) -> Result<ListProjectsReply, Failure> {
    let limit = usize::from(if body.limit == 0 { DEFAULT_PAGE_ITEMS } else { body.limit });
    let after = name_page(&body.page)?;
    let found = service.keyring()?.projects(after, limit).await?;
    let more = found.len() == limit;
    let mut projects: Vec<_> = found
        .into_iter()
        .map(|project| ProjectSummary {
            project: project.name,
            description: project.description,
            created_at: Some(project.created_at),
        })
        .collect();
    let default = ProjectName::default();
    let here = after.is_none_or(|after| after < default.as_str())
        && (!more || projects.last().is_none_or(|last| last.project > default));
    if here {
        let place = projects.partition_point(|project| project.project < default);
        let description = claviger_protocol::Description::default();
        projects.insert(place, ProjectSummary { project: default, description, created_at: None });
    }
    let mut room = Room::of(service);
    let mut kept = 0;
    for project in &projects {
        if kept == limit || !room.takes(project)? {
            break;
        }
        kept += 1;
    }
    let cut = kept < projects.len();
    projects.truncate(kept);
    let next = projects.last().filter(|_| more || cut).map(|last| last.project.as_str().as_bytes().to_vec());
    Ok(ListProjectsReply { projects, next_page: Bytes(next.unwrap_or_default()) })
}

/// A page token that is the last name of the page before.
pub(super) fn name_page(page: &Bytes) -> Result<Option<&str>, Failure> {
    let text = std::str::from_utf8(&page.0).map_err(|_| foreign_page())?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}
