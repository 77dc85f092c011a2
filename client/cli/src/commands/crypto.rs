//! `encrypt`, `decrypt`, `re-encrypt`, `describe-blob`, `data-key`, `random`.

use claviger_client::Client;
use claviger_protocol::body::{GenerateDataKeyReply, ReEncryptRequest};
use claviger_protocol::{Code, SecretBytes};

use crate::args::{Decrypt, Encrypt, Generate, Global, Input, Random, ReEncrypt};
use crate::failure::Failure;
use crate::files::{self, Sink};
use crate::output::{Base64, Screen, fields};
use crate::view::{Blob, Bytes, RandomBytes};

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
    if !screen.is_json() && sink.is_terminal() && !is_text(plaintext) {
        return Err(no_binary());
    }
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

pub(super) async fn data_key(global: &Global, screen: Screen, args: Generate) -> Result<(), Failure> {
    let context = args.context.canonical()?;
    let size = args.size();
    let blob_sink = Sink::open(args.blob_out.as_deref())?;
    if args.without_plaintext {
        refuse_terminal(screen, &blob_sink)?;
        let client = super::connect(global).await?;
        let reply = client.generate_data_key_without_plaintext(args.key, size, context).await?;
        let ids = (reply.key_id, reply.key_version_id);
        let view = |blob| Bytes { ciphertext_blob: blob, ..empty(ids) };
        return deliver(screen, blob_sink, &reply.ciphertext_blob.0, view).await;
    }
    if args.plaintext_out.is_some() && args.plaintext_out == args.blob_out {
        return Err(Failure::usage("--plaintext-out and --blob-out are one file; give two"));
    }
    let plaintext_sink = Sink::open(args.plaintext_out.as_deref())?;
    if !screen.is_json() && blob_sink.is_stdout() && plaintext_sink.is_stdout() {
        return Err(Failure::usage(
            "a data key has two forms and stdout is one place; \
             give --plaintext-out FILE, --blob-out FILE or both, or --json, or --without-plaintext",
        ));
    }
    refuse_terminal(screen, &blob_sink)?;
    refuse_terminal(screen, &plaintext_sink)?;
    let reply = super::connect(global).await?.generate_data_key(args.key, size, context).await?;
    deliver_both(screen, plaintext_sink, blob_sink, &reply).await
}

/// Writes both forms of a data key before either file appears.
async fn deliver_both(
    screen: Screen,
    mut plaintext_sink: Sink,
    mut blob_sink: Sink,
    reply: &GenerateDataKeyReply,
) -> Result<(), Failure> {
    let (plaintext, blob) = (reply.plaintext.expose(), reply.ciphertext_blob.0.as_slice());
    let mut view = empty((reply.key_id, reply.key_version_id));
    if screen.is_json() && plaintext_sink.is_stdout() {
        view.plaintext = Some(Base64::new(plaintext));
    } else {
        plaintext_sink.write(plaintext).await?;
    }
    if screen.is_json() && blob_sink.is_stdout() {
        view.ciphertext_blob = Some(Base64::new(blob));
    } else {
        blob_sink.write(blob).await?;
    }
    // The wrapped form first: a data key in the clear without it would be lost work.
    blob_sink.finish()?;
    plaintext_sink.finish()?;
    if screen.is_json() { screen.show(&view, |_| String::new()).await } else { Ok(()) }
}

pub(super) async fn random(global: &Global, screen: Screen, args: Random) -> Result<(), Failure> {
    let sink = binary_sink(screen, &args.output)?;
    let reply = super::connect(global).await?.random(args.length).await?;
    deliver(screen, sink, reply.random.expose(), |random| RandomBytes { random }).await
}

/// Writes the bytes where the user wants them; under `--json` the object has them
/// unless they went to a file.
async fn deliver<T: serde::Serialize>(
    screen: Screen,
    mut sink: Sink,
    bytes: &[u8],
    view: impl FnOnce(Option<Base64>) -> T,
) -> Result<(), Failure> {
    if screen.is_json() && sink.is_stdout() {
        return screen.show(&view(Some(Base64::new(bytes))), |_| String::new()).await;
    }
    sink.write(bytes).await?;
    sink.finish()?;
    if screen.is_json() { screen.show(&view(None), |_| String::new()).await } else { Ok(()) }
}

fn empty((key_id, key_version_id): (uuid::Uuid, uuid::Uuid)) -> Bytes {
    Bytes {
        plaintext: None,
        ciphertext_blob: None,
        source_key_id: None,
        source_key_version_id: None,
        key_id,
        key_version_id,
    }
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

fn binary_sink(screen: Screen, output: &crate::args::Output) -> Result<Sink, Failure> {
    let sink = Sink::open(output.output.as_deref())?;
    refuse_terminal(screen, &sink)?;
    Ok(sink)
}

fn refuse_terminal(screen: Screen, sink: &Sink) -> Result<(), Failure> {
    if !screen.is_json() && sink.is_terminal() { Err(no_binary()) } else { Ok(()) }
}

fn no_binary() -> Failure {
    Failure::usage("the result is binary and stdout is a terminal; add --out FILE or --json, or pipe it on")
}

/// Whether bytes can go to a terminal without moving its cursor about.
fn is_text(bytes: &[u8]) -> bool {
    let harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(harmless))
}

#[cfg(test)]
mod tests {
    use super::is_text;

    #[test]
    fn only_plain_text_goes_to_a_terminal() {
        assert!(is_text("grüße\n\t司钥".as_bytes()));
        assert!(!is_text(b"\x1b[2J"));
        assert!(!is_text(b"\xff"));
        assert!(!is_text(b"\0"));
    }
}
