//! `key create`, `describe`, `list`, `enable`, `disable`.

use claviger_client::Client;
use claviger_protocol::KeyRef;
use claviger_protocol::body::{
    CreateKeyRequest, KeyStatesReply, ListAliasKeysRequest, ListKeysRequest, ListSymmetricKeysRequest,
};
use claviger_protocol::names::Tags;

use crate::args::{Create, Global, Keys, List};
use crate::failure::{self, Failure, REFUSED};
use crate::output::{Screen, fields, table};
use crate::view::{AliasKeys, Created, Described, KeyList, KeyOutcome, KeyStates, ListedKey, Rotation};

pub(super) async fn create(global: &Global, screen: Screen, args: Create) -> Result<(), Failure> {
    let token = args.token.bytes();
    let request = CreateKeyRequest {
        client_token: token,
        spec: args.spec,
        usage: args.usage,
        protection: args.protection,
        origin: args.origin,
        project: args.project,
        alias: args.alias,
        description: args.description,
        tags: Tags::try_from(args.tags).map_err(|error| Failure::usage(format!("--tag: {error}")))?,
        rotation_days: args.rotation_days,
        sm2_user_id: args.sm2_user_id.map(|id| id.0.into()),
    };
    let made = super::connect_patiently(global).await?.create_key(request).await;
    let reply = made.map_err(|error| Failure::from(error).of_token(&token))?;
    self::made(screen, &Created::from(reply)).await
}

/// Shows a new key.
pub(super) async fn made(screen: Screen, created: &Created) -> Result<(), Failure> {
    let text = |created: &Created| {
        fields(&[
            ("key_id", Some(created.key_id.to_string())),
            ("key_version_id", created.key_version_id.map(|id| id.to_string())),
        ])
    };
    screen.show(created, text).await
}

pub(super) async fn describe(global: &Global, screen: Screen, key: KeyRef) -> Result<(), Failure> {
    let reply = super::connect(global).await?.describe_key(key).await?;
    screen.show(&Described::from(reply), key_text).await
}

fn key_text(key: &Described) -> String {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let tags: Vec<_> = key.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let assurance = if key.hardware { "hardware" } else { "software" };
    fields(&[
        ("key_id", Some(key.key_id.to_string())),
        ("aliases", some(&key.aliases.join(", "))),
        ("spec", Some(key.spec.to_owned())),
        ("usage", Some(key.usage.to_owned())),
        ("SM2 user id", key.sm2_user.clone()),
        ("state", Some(key.state.to_owned())),
        ("protection", Some(format!("{} ({assurance}: {})", key.protection, key.members.join(", ")))),
        ("origin", Some(key.origin.to_owned())),
        ("project", Some(key.project.clone())),
        ("description", some(&key.description)),
        ("tags", some(&tags.join(", "))),
        ("created", Some(format!("{} by {}", key.created_at, key.created_by))),
        ("primary version", key.primary_version_id.map(|id| id.to_string())),
        ("versions", Some(key.version_count.to_string())),
        ("rotation", key.rotation.as_ref().map(rotation_text)),
        ("deletion date", key.deletion_date.clone()),
        ("erased", key.erased_at.clone()),
        ("deletion protection", key.deletion_protection.then(|| "on".to_owned())),
        ("material expires", key.material_expires_at.clone()),
    ])
}

/// A rotation policy on one line.
pub(super) fn rotation_text(rotation: &Rotation) -> String {
    let next = rotation.next.as_deref().unwrap_or("unknown");
    let last = rotation.last.as_ref().map(|last| format!(", last {last}")).unwrap_or_default();
    format!("every {} days{last}, next {next}", rotation.days)
}

pub(super) async fn list(global: &Global, screen: Screen, args: List) -> Result<(), Failure> {
    let client = super::connect(global).await?;
    if args.aliased {
        return list_aliased(&client, screen, args).await;
    }
    let (limit, page) = (args.paging.limit, args.paging.page().into());
    let List { state, spec, project, tag, symmetric, .. } = args;
    let reply = if symmetric {
        client.list_symmetric_keys(ListSymmetricKeysRequest { state, project, limit, page }).await?
    } else {
        client.list_keys(ListKeysRequest { state, spec, project, tag, limit, page }).await?
    };
    screen.show(&KeyList::from(reply), list_text).await
}

async fn list_aliased(client: &Client, screen: Screen, args: List) -> Result<(), Failure> {
    let limit = args.paging.limit;
    let request = ListAliasKeysRequest { project: args.project, limit, page: args.paging.page().into() };
    let reply = client.list_alias_keys(request).await?;
    let text = |list: &AliasKeys| {
        let row = |named: &crate::view::Named| {
            std::iter::once(named.alias.clone()).chain(cells(&named.key)).collect::<Vec<_>>()
        };
        let rows: Vec<_> = list.keys.iter().map(row).collect();
        let heading = ["ALIAS", "KEY ID", "SPEC", "STATE", "PROTECTION", "PROJECT", "CREATED"];
        table(&heading, &rows) + &more(list.next_page.as_deref())
    };
    screen.show(&AliasKeys::from(reply), text).await
}

/// A key's line in a list.
fn cells(key: &ListedKey) -> impl Iterator<Item = String> {
    let cells = [key.spec, key.state, key.protection, &key.project, &key.created_at].map(str::to_owned);
    std::iter::once(key.key_id.to_string()).chain(cells)
}

/// What a list says at its end where there is another page.
pub(super) fn more(next_page: Option<&str>) -> String {
    next_page.map(|next| format!("there are more: --page {next}\n")).unwrap_or_default()
}

fn list_text(list: &KeyList) -> String {
    let row = |key: &ListedKey| cells(key).chain([key.aliases.join(",")]).collect();
    let rows: Vec<_> = list.keys.iter().map(row).collect();
    let heading = ["KEY ID", "SPEC", "STATE", "PROTECTION", "PROJECT", "CREATED", "ALIASES"];
    table(&heading, &rows) + &more(list.next_page.as_deref())
}

pub(super) async fn enable(global: &Global, screen: Screen, args: Keys) -> Result<u8, Failure> {
    let reply = super::connect(global).await?.enable_keys(args.keys).await?;
    states(screen, reply).await
}

pub(super) async fn disable(global: &Global, screen: Screen, args: Keys) -> Result<u8, Failure> {
    let reply = super::connect(global).await?.disable_keys(args.keys).await?;
    states(screen, reply).await
}

/// Prints each key's result; any that failed makes the command fail.
pub(super) async fn states(screen: Screen, reply: KeyStatesReply) -> Result<u8, Failure> {
    let named: Vec<KeyRef> = reply.results.iter().map(|result| result.key.clone()).collect();
    let view = KeyStates::from(reply);
    screen.show(&view, |view| done_text(&named, view)).await?;
    let mut exit = 0;
    for result in view.results {
        if let KeyOutcome::Failed { key, error } = result {
            exit = REFUSED;
            if !screen.is_json() {
                failure::say_on_stderr(&error.code, &format!("{key}: {}", error.message));
            }
        }
    }
    Ok(exit)
}

fn done_text(named: &[KeyRef], view: &KeyStates) -> String {
    let done = named.iter().zip(&view.results).filter_map(|(key, result)| match result {
        KeyOutcome::Done { state, changed, .. } => {
            let note = if *changed { "" } else { " (unchanged)" };
            Some(vec![key.to_string(), format!("{}{note}", state.unwrap_or("done"))])
        }
        KeyOutcome::Failed { .. } => None,
    });
    let rows: Vec<_> = done.collect();
    if rows.is_empty() { String::new() } else { table(&["KEY", "STATE"], &rows) }
}
