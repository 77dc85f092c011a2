//! `key rotate`, `rotation-policy`, `create-version`, `versions`, `version`.

use claviger_protocol::KeyRef;
use claviger_protocol::body::{ListKeyVersionsRequest, NewKeyVersionReply};
use uuid::Uuid;

use super::keys::{more, rotation_text};
use crate::args::{Global, Paging, Policy, VersionCommand};
use crate::failure::Failure;
use crate::forms::{PUBLIC_KEY, pem};
use crate::output::{Screen, Text, fields, table};
use crate::view::{self, ListedVersion, NewVersion, Version, VersionList};

pub(super) async fn run(global: &Global, screen: Screen, command: VersionCommand) -> Result<u8, Failure> {
    match command {
        VersionCommand::Rotate(args) => {
            let token = args.token.bytes();
            let made = super::connect_patiently(global).await?.rotate_key(token, args.key).await;
            made_version(screen, made.map_err(|error| Failure::from(error).of_token(&token))?).await?;
        }
        VersionCommand::CreateVersion(args) => {
            let token = args.token.bytes();
            let made = super::connect_patiently(global).await?.create_key_version(token, args.key).await;
            made_version(screen, made.map_err(|error| Failure::from(error).of_token(&token))?).await?;
        }
        VersionCommand::RotationPolicy(args) => policy(global, screen, args).await?,
        VersionCommand::Versions { key, paging } => list(global, screen, key, paging).await?,
        VersionCommand::Version { key, version } => describe(global, screen, key, version).await?,
    }
    Ok(0)
}

async fn made_version(screen: Screen, reply: NewKeyVersionReply) -> Result<(), Failure> {
    let text = |made: &NewVersion| {
        fields(&[
            ("key_id", Some(made.key_id.to_string())),
            ("key_version_id", Some(made.key_version_id.to_string())),
        ])
    };
    screen.show(&NewVersion::from(reply), text).await
}

async fn policy(global: &Global, screen: Screen, args: Policy) -> Result<(), Failure> {
    let reply = super::connect(global).await?.set_rotation_policy(args.key, args.days).await?;
    let text = |policy: &view::Policy| {
        let rotation = policy.rotation.as_ref().map_or_else(|| "off".to_owned(), rotation_text);
        let note = if policy.changed { "" } else { " (unchanged)" };
        fields(&[
            ("key_id", Some(policy.key_id.to_string())),
            ("rotation", Some(format!("{rotation}{note}"))),
        ])
    };
    screen.show(&view::Policy::from(reply), text).await
}

async fn list(global: &Global, screen: Screen, key: KeyRef, paging: Paging) -> Result<(), Failure> {
    let request = ListKeyVersionsRequest { key, limit: paging.limit, page: paging.page().into() };
    let reply = super::connect(global).await?.list_key_versions(request).await?;
    let text = |list: &VersionList| {
        let row = |version: &ListedVersion| {
            vec![
                version.key_version_id.to_string(),
                version.number.to_string(),
                version.created_at.clone(),
                note(version),
            ]
        };
        let rows: Vec<_> = list.versions.iter().map(row).collect();
        table(&["KEY VERSION ID", "NUMBER", "CREATED", "NOTE"], &rows) + &more(list.next_page.as_deref())
    };
    screen.show(&VersionList::from(reply), text).await
}

fn note(version: &ListedVersion) -> String {
    match (&version.destroyed_at, version.primary) {
        (Some(at), _) => format!("material destroyed {at}"),
        (None, true) => "primary".to_owned(),
        (None, false) => String::new(),
    }
}

async fn describe(global: &Global, screen: Screen, key: KeyRef, version: Uuid) -> Result<(), Failure> {
    let reply = super::connect(global).await?.describe_key_version(key, version).await?;
    let public_key = reply.public_key.as_ref().map(|key| pem(PUBLIC_KEY, &key.0)).transpose()?;
    let text = |version: &Version| {
        let listed = &version.listed;
        let assurance = if version.hardware { "hardware" } else { "software" };
        let mut out = fields(&[
            ("key_id", Some(version.key_id.to_string())),
            ("key_version_id", Some(listed.key_version_id.to_string())),
            ("number", Some(listed.number.to_string())),
            ("created", Some(format!("{} by {} ({assurance})", listed.created_at, version.made_by))),
            ("primary", listed.primary.then(|| "yes".to_owned())),
            ("material destroyed", listed.destroyed_at.clone()),
            ("counted uses", version.counted_uses.map(|uses| uses.to_string())),
        ]);
        out.push_str(public_key.as_deref().unwrap_or_default());
        out
    };
    screen.show(&Version::new(reply, public_key.clone().map(Text::plain)), text).await
}
