//! `encrypt`, `decrypt`, `re-encrypt`, `describe-blob`, `random`.

use claviger_client::Client;
use claviger_protocol::body::ReEncryptRequest;
use claviger_protocol::{Code, SecretBytes};

use super::delivery::{binary_sink, check_plaintext_sink, deliver, empty};
use crate::args::{Decrypt, Encrypt, Global, Input, Random, ReEncrypt};
use crate::failure::Failure;
use crate::files::{self, Sink};
use crate::output::{Screen, fields};
use crate::view::{Blob, Bytes};

pub(super) async fn encrypt(global: &Global, screen: Screen, args: Encrypt) -> Result<(), Failure> {
    let context = args.context.canonical()?;
    let sink = binary_sink(screen, &args.output)?;
    let plaintext = files::read(args.input.input).await?;
    let client = super::connect(global).await?;
    check_plaintext(&client, &plaintext).await?;
    let reply = client.encrypt(args.key, plaintext, context).await?;
    let ids = (reply.key_id, reply.key_version_id);
    let view = |blob| Bytes { ciphertext_blob: blob, ..empty(ids) };
    deliver(screen, sink, &reply.ciphertext_blob.0, view).await
}

pub(super) async fn decrypt(global: &Global, screen: Screen, args: Decrypt) -> Result<(), Failure> {
    let context = args.context.canonical()?;
    let sink = Sink::open(args.output.output.as_deref())?;
    let blob = files::read(args.input.input).await?.expose().to_vec();
    let reply = super::connect(global).await?.decrypt(args.key, blob, context).await?;
    let plaintext = reply.plaintext.expose();
    check_plaintext_sink(screen, &sink, plaintext)?;
    let ids = (reply.key_id, reply.key_version_id);
    deliver(screen, sink, plaintext, |plaintext| Bytes { plaintext, ..empty(ids) }).await
}

pub(super) async fn re_encrypt(global: &Global, screen: Screen, args: ReEncrypt) -> Result<(), Failure> {
    let source_context = args.source_context()?;
    let destination_context = args.context.canonical()?;
    let sink = binary_sink(screen, &args.output)?;
    let blob = files::read(args.input.input).await?.expose().to_vec();
    let request = ReEncryptRequest {
        source_key: args.source_key,
        ciphertext_blob: blob.into(),
        source_context,
        destination_key: args.to,
        destination_context,
    };
    let reply = super::connect(global).await?.re_encrypt(request).await?;
    let view = |blob| Bytes {
        ciphertext_blob: blob,
        source_key_id: Some(reply.source_key_id),
        source_key_version_id: Some(reply.source_key_version_id),
        ..empty((reply.key_id, reply.key_version_id))
    };
    deliver(screen, sink, &reply.ciphertext_blob.0, view).await
}

pub(super) async fn describe_blob(global: &Global, screen: Screen, args: Input) -> Result<(), Failure> {
    let blob = files::read(args.input).await?.expose().to_vec();
    let reply = super::connect(global).await?.describe_blob(blob).await?;
    let text = |blob: &Blob| {
        fields(&[
            ("key_id", Some(blob.key_id.to_string())),
            ("key_version_id", Some(blob.key_version_id.to_string())),
            ("spec", Some(blob.spec.to_owned())),
            ("suite", Some(blob.suite.to_owned())),
            ("plaintext", Some(format!("{} bytes", blob.plaintext_len))),
        ])
    };
    screen.show(&Blob::from(reply), text).await
}

pub(super) async fn random(global: &Global, screen: Screen, args: Random) -> Result<(), Failure> {
    let sink = binary_sink(screen, &args.output)?;
    let reply = super::connect(global).await?.random(args.length).await?;
    deliver(screen, sink, reply.random.expose(), |random| Bytes { random, ..Bytes::default() }).await
}

/// Says it here, with the way out, rather than to send what will be refused.
async fn check_plaintext(client: &Client, plaintext: &SecretBytes) -> Result<(), Failure> {
    let most = client.session().await?.max_plaintext;
    if plaintext.len() <= most as usize {
        return Ok(());
    }
    let message = format!(
        "the input is over the {most} bytes that the daemon encrypts at once; \
         make a data key (claviger data-key generate KEY) and encrypt with that"
    );
    Err(Failure::refused(Code::PlaintextTooLarge, message))
}
