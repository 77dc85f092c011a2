//! `alias …`, `project …`, `default-key …`.

use claviger_client::Client;
use claviger_protocol::body::AliasReply;

use super::keys::{made, more, states};
use crate::args::{AliasCommand, AliasList, DefaultKeyCommand, Global, Paging, ProjectCommand};
use crate::failure::Failure;
use crate::output::{Screen, fields, table};
use crate::view::{Aliases, Created, ListedProject, Pointed, ProjectName, Projects};

pub(super) async fn alias(global: &Global, screen: Screen, command: AliasCommand) -> Result<(), Failure> {
    let client = super::connect(global).await?;
    match command {
        AliasCommand::Create(args) => pointed(screen, client.create_alias(args.alias, args.key).await?).await,
        AliasCommand::Update(args) => pointed(screen, client.update_alias(args.alias, args.key).await?).await,
        AliasCommand::Delete { alias } => pointed(screen, client.delete_alias(alias).await?).await,
        AliasCommand::List(AliasList { key, paging }) => {
            let reply = match key {
                Some(key) => client.list_aliases_of(key).await?,
                None => client.list_aliases(paging.limit, paging.page()).await?,
            };
            let text = |list: &Aliases| {
                let rows: Vec<_> = list
                    .aliases
                    .iter()
                    .map(|entry| vec![entry.alias.clone(), entry.key_id.to_string()])
                    .collect();
                table(&["ALIAS", "KEY ID"], &rows) + &more(list.next_page.as_deref())
            };
            screen.show(&Aliases::from(reply), text).await
        }
    }
}

async fn pointed(screen: Screen, reply: AliasReply) -> Result<(), Failure> {
    let text = |view: &Pointed| {
        let note = if view.changed { "" } else { " (unchanged)" };
        fields(&[("alias", Some(view.alias.clone())), ("key_id", Some(format!("{}{note}", view.key_id)))])
    };
    screen.show(&Pointed::from(reply), text).await
}

/// Gives the exit code: 1 where one of several keys failed.
pub(super) async fn project(global: &Global, screen: Screen, command: ProjectCommand) -> Result<u8, Failure> {
    let client = super::connect(global).await?;
    let reply = match command {
        ProjectCommand::Create { project, description } => {
            client.create_project(project, description).await?
        }
        ProjectCommand::Delete { project } => client.delete_project(project).await?,
        ProjectCommand::List { paging } => {
            list_projects(&client, screen, paging).await?;
            return Ok(0);
        }
        ProjectCommand::Move { keys, to } => {
            return states(screen, client.move_keys(keys.keys, to).await?).await;
        }
    };
    let view = ProjectName { project: reply.project.to_string() };
    screen.show(&view, |view| fields(&[("project", Some(view.project.clone()))])).await?;
    Ok(0)
}

async fn list_projects(client: &Client, screen: Screen, paging: Paging) -> Result<(), Failure> {
    let reply = client.list_projects(paging.limit, paging.page()).await?;
    let text = |list: &Projects| {
        let row = |project: &ListedProject| {
            let created = project.created_at.clone().unwrap_or_else(|| "always there".to_owned());
            vec![project.project.clone(), created, project.description.clone()]
        };
        let rows: Vec<_> = list.projects.iter().map(row).collect();
        table(&["PROJECT", "CREATED", "DESCRIPTION"], &rows) + &more(list.next_page.as_deref())
    };
    screen.show(&Projects::from(reply), text).await
}

pub(super) async fn default_key(
    global: &Global,
    screen: Screen,
    command: DefaultKeyCommand,
) -> Result<(), Failure> {
    let DefaultKeyCommand::Create { service } = command;
    let reply = super::connect_patiently(global).await?.create_default_key(service).await?;
    made(screen, &Created::from(reply)).await
}
