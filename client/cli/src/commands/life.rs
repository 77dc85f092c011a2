//! `key schedule-deletion` and what else becomes of keys that are there.

use claviger_client::Client;
use claviger_protocol::KeyRef;
use claviger_protocol::names::Tags;

use super::keys::states;
use crate::args::{Global, LifeCommand, RemoveTags, Schedule, SetTags};
use crate::failure::{self, Failure, REFUSED};
use crate::output::{Screen, fields, table};
use crate::question::ask;
use crate::view::{Associations, Changed, Deletion, Deletions, TagList};

/// Gives the exit code: 1 where one of several keys failed.
pub(super) async fn run(global: &Global, screen: Screen, command: LifeCommand) -> Result<u8, Failure> {
    let connect = || super::connect(global);
    let reply = match command {
        LifeCommand::ScheduleDeletion(args) => return schedule(global, screen, args).await,
        LifeCommand::SetDescription { key, description } => {
            let reply = connect().await?.set_key_description(key, description).await?;
            return changed(screen, &reply.into()).await;
        }
        LifeCommand::Tags { key } => return tags(&connect().await?, screen, key).await,
        LifeCommand::Associations { key } => return associations(&connect().await?, screen, key).await,
        LifeCommand::CancelDeletion(args) => {
            connect().await?.cancel_key_deletion(args.keys.keys, args.enable).await?
        }
        LifeCommand::Protect(args) => connect().await?.protect_keys(args.keys).await?,
        LifeCommand::Unprotect(args) => connect().await?.unprotect_keys(args.keys).await?,
        LifeCommand::Tag(SetTags { keys, tags }) => {
            let tags = Tags::try_from(tags).map_err(|error| Failure::usage(format!("--tag: {error}")))?;
            connect().await?.tag_keys(keys.keys, tags).await?
        }
        LifeCommand::Untag(RemoveTags { keys, tags }) => connect().await?.untag_keys(keys.keys, tags).await?,
    };
    states(screen, reply).await
}

async fn schedule(global: &Global, screen: Screen, args: Schedule) -> Result<u8, Failure> {
    let keys = args.keys.keys;
    let names: Vec<_> = keys.iter().map(KeyRef::to_string).collect();
    let when = args.days.map_or_else(|| "in some weeks".to_owned(), |days| format!("in {days} days"));
    ask(args.sure, format!("Destroy {} {when}, and all that is encrypted under it?", names.join(", ")))
        .await?;
    let reply = super::connect(global).await?.schedule_key_deletion(keys, args.days, args.force).await?;
    let view = Deletions::from(reply);
    screen.show(&view, |view| planned(&names, view)).await?;
    let mut exit = 0;
    for result in view.results {
        if let Deletion::Refused { key, error, .. } = result {
            exit = REFUSED;
            if !screen.is_json() {
                failure::say_on_stderr(&error.code, &format!("{key}: {}", error.message));
            }
        }
    }
    Ok(exit)
}

fn planned(names: &[String], view: &Deletions) -> String {
    let rows = names.iter().zip(&view.results).filter_map(|(name, result)| match result {
        Deletion::Planned { deletion_date, .. } => {
            Some(vec![name.clone(), deletion_date.clone().unwrap_or_default()])
        }
        Deletion::Refused { .. } => None,
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() { String::new() } else { table(&["KEY", "DELETION DATE"], &rows) }
}

async fn changed(screen: Screen, view: &Changed) -> Result<u8, Failure> {
    let text = |view: &Changed| {
        let note = if view.changed { "changed" } else { "unchanged" };
        fields(&[("key_id", Some(view.key_id.to_string())), ("description", Some(note.to_owned()))])
    };
    screen.show(view, text).await?;
    Ok(0)
}

async fn tags(client: &Client, screen: Screen, key: KeyRef) -> Result<u8, Failure> {
    let view = TagList::from(client.list_tags(key).await?);
    let text = |view: &TagList| {
        let rows: Vec<_> = view.tags.iter().map(|(key, value)| vec![key.clone(), value.clone()]).collect();
        table(&["TAG", "VALUE"], &rows)
    };
    screen.show(&view, text).await?;
    Ok(0)
}

async fn associations(client: &Client, screen: Screen, key: KeyRef) -> Result<u8, Failure> {
    let view = Associations::from(client.associations(key).await?);
    let text = |view: &Associations| {
        let row = |used: &crate::view::Used| vec![used.access_point.clone(), used.last_used_at.clone()];
        table(&["ACCESS POINT", "LAST USED"], &view.associations.iter().map(row).collect::<Vec<_>>())
    };
    screen.show(&view, text).await?;
    Ok(0)
}
