//! `key import-params`, `import`, `delete-material`.

use claviger_protocol::body::ImportKeyMaterialRequest;
use claviger_protocol::{ImportAlgorithm, KeyRef, SecretBytes, WrappingKeySpec};

use super::delivery::places;
use crate::args::{Encoding, Global, Import, ImportCommand, ImportParams, KeyFormat, Sure};
use crate::failure::Failure;
use crate::files;
use crate::forms::{PUBLIC_KEY, pem};
use crate::output::{Screen, Text, fields, time};
use crate::question::ask;
use crate::view::{self, Imported, KeyState};

pub(super) async fn run(global: &Global, screen: Screen, command: ImportCommand) -> Result<u8, Failure> {
    match command {
        ImportCommand::ImportParams(args) => params(global, screen, *args).await?,
        ImportCommand::Import(args) => import(global, screen, *args).await?,
        ImportCommand::DeleteMaterial { key, sure } => delete(global, screen, key, sure).await?,
    }
    Ok(0)
}

/// What material is encrypted to a wrapping key with, if nobody says it.
fn usual(spec: WrappingKeySpec) -> ImportAlgorithm {
    match spec {
        WrappingKeySpec::Rsa2048 | WrappingKeySpec::Rsa3072 | WrappingKeySpec::Rsa4096 => {
            ImportAlgorithm::RsaesOaepSha256
        }
        WrappingKeySpec::Sm2 => ImportAlgorithm::Sm2Pke,
    }
}

async fn params(global: &Global, screen: Screen, args: ImportParams) -> Result<(), Failure> {
    let encoding = args.coding.encoding;
    if args.format == KeyFormat::Pem && encoding != Encoding::Raw {
        return Err(Failure::usage("PEM is a coding by itself; leave out --encoding, or --format pem"));
    }
    let coded = encoding != Encoding::Raw;
    let [mut to_key, mut to_token] = places(
        screen,
        [
            ("--public-key-out", &args.public_key_out, coded || args.format == KeyFormat::Pem),
            ("--token-out", &args.token_out, coded),
        ],
    )?;
    let algorithm = args.algorithm.unwrap_or_else(|| usual(args.wrapping_spec));
    let client = super::connect_patiently(global).await?;
    let reply = client.import_parameters(args.key, args.wrapping_spec, algorithm).await?;
    let (key, token) = (&reply.public_key.0, &reply.token.0);
    let (written, shown) = match args.format {
        KeyFormat::Pem => {
            let text = pem(PUBLIC_KEY, key)?;
            (text.clone().into_bytes(), Text::plain(text))
        }
        KeyFormat::Der => (encoding.write(key).to_vec(), Text::base64(key)),
    };
    let mut view = view::ImportParams {
        public_key: Some(shown).filter(|_| to_key.is_stdout()),
        token: Some(Text::base64(token)).filter(|_| to_token.is_stdout()),
        expires_at: time(reply.expires_at),
        algorithm: algorithm.name(),
        key_id: reply.key_id,
    };
    if !(screen.is_json() && to_key.is_stdout()) {
        to_key.write(&written).await?;
    }
    if !(screen.is_json() && to_token.is_stdout()) {
        to_token.write(&encoding.write(token)).await?;
    }
    let to_files = !to_key.is_stdout() && !to_token.is_stdout();
    to_key.finish()?;
    to_token.finish()?;
    if !screen.is_json() && !to_files {
        return Ok(());
    }
    if !screen.is_json() {
        (view.public_key, view.token) = (None, None);
    }
    let text = |view: &view::ImportParams| {
        fields(&[
            ("key_id", Some(view.key_id.to_string())),
            ("algorithm", Some(view.algorithm.to_owned())),
            ("expires", Some(view.expires_at.clone())),
        ])
    };
    screen.show(&view, text).await
}

async fn import(global: &Global, screen: Screen, args: Import) -> Result<(), Failure> {
    let encoding = args.coding.encoding;
    let material = encoding.read("--material", files::named("--material", Some(args.material)).await?)?;
    let ephemeral_key = match args.ephemeral_key {
        Some(file) => encoding.read("--ephemeral-key", files::named("--ephemeral-key", Some(file)).await?)?,
        None => SecretBytes::new(Vec::new()),
    };
    let token = encoding.read("--token", files::named("--token", Some(args.token)).await?)?;
    let client_token = args.client_token.bytes();
    let request = ImportKeyMaterialRequest {
        client_token,
        key: args.key,
        encrypted_material: material.expose().to_vec().into(),
        encrypted_ephemeral_key: ephemeral_key.expose().to_vec().into(),
        token: token.expose().to_vec().into(),
        expires_at: args.expires.0,
    };
    let reply = super::connect_patiently(global).await?.import_key_material(request).await;
    let reply = reply.map_err(|error| Failure::from(error).of_token(&client_token))?;
    let text = |imported: &Imported| {
        let way =
            if imported.through_memory { "through the daemon's locked memory" } else { "inside the HSM" };
        fields(&[
            ("key_id", Some(imported.key_id.to_string())),
            ("key_version_id", Some(imported.key_version_id.to_string())),
            ("state", Some(imported.state.to_owned())),
            ("unwrapped", Some(way.to_owned())),
            ("material expires", imported.material_expires_at.clone()),
        ])
    };
    screen.show(&Imported::from(reply), text).await
}

async fn delete(global: &Global, screen: Screen, key: KeyRef, sure: Sure) -> Result<(), Failure> {
    let question = format!("Destroy the material of {key}? Only its owner can bring it back.");
    ask(sure, question).await?;
    let reply = super::connect(global).await?.delete_key_material(key).await?;
    let view = KeyState { key_id: reply.key_id, state: reply.state.name() };
    let text = |view: &KeyState| {
        fields(&[("key_id", Some(view.key_id.to_string())), ("state", Some(view.state.to_owned()))])
    };
    screen.show(&view, text).await
}
