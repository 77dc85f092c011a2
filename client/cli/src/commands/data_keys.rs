//! `data-key generate`, `data-key export`.

use claviger_protocol::KeyPairSpec;
use claviger_protocol::body::{ExportDataKeyRequest, GenerateAndExportDataKeyRequest};
use uuid::Uuid;

use super::delivery::{Part, coded_sink, deliver_all, deliver_coded, empty, places};
use crate::args::{Encoding, Export, Generate, Global};
use crate::failure::Failure;
use crate::files::{self, Sink};
use crate::forms::{self, PRIVATE_KEY, PUBLIC_KEY};
use crate::output::{Screen, Text};
use crate::view::Bytes;

pub(super) async fn generate(global: &Global, screen: Screen, args: Generate) -> Result<(), Failure> {
    // The parser leaves `requires` out where a flag that excludes the required one is there.
    let of_pairs = [
        ("--private-key-out", args.private_key_out.is_some()),
        ("--public-key-out", args.public_key_out.is_some()),
        ("--format", args.form.format.is_some()),
    ];
    if let (None, Some((flag, _))) = (args.pair, of_pairs.iter().find(|(_, given)| *given)) {
        return Err(Failure::usage(format!("{flag} is for a key pair; add --pair SPEC")));
    }
    match args.pair {
        Some(spec) if args.without_plaintext => wrapped_pair(global, screen, args, spec).await,
        Some(spec) => pair(global, screen, args, spec).await,
        None if args.without_plaintext => wrapped(global, screen, args).await,
        None => data_key(global, screen, args).await,
    }
}

async fn wrapped(global: &Global, screen: Screen, args: Generate) -> Result<(), Failure> {
    let context = args.context.canonical()?;
    let encoding = args.form.coding.encoding;
    let output = crate::args::Output { output: args.blob_out };
    let sink = coded_sink(screen, &output, encoding != Encoding::Raw)?;
    let client = super::connect(global).await?;
    let reply = client.generate_data_key_without_plaintext(args.key, args.length.size(), context).await?;
    let view = |ciphertext_blob| Bytes { ciphertext_blob, ..empty((reply.key_id, reply.key_version_id)) };
    let blob = &reply.ciphertext_blob.0;
    deliver_coded(screen, sink, encoding.write(blob), Text::base64(blob), view).await
}

async fn data_key(global: &Global, screen: Screen, args: Generate) -> Result<(), Failure> {
    let context = args.context.canonical()?;
    let encoding = args.form.coding.encoding;
    let [plain, blob] = places(
        screen,
        [
            ("--plaintext-out", &args.plaintext_out, encoding != Encoding::Raw),
            ("--blob-out", &args.blob_out, encoding != Encoding::Raw),
        ],
    )?;
    let reply =
        super::connect(global).await?.generate_data_key(args.key, args.length.size(), context).await?;
    let plaintext = reply.plaintext.expose();
    // The wrapped form first: a data key in the clear without it would be lost work.
    let parts = vec![
        blob_part(encoding, blob, &reply.ciphertext_blob.0),
        Part {
            sink: plain,
            written: encoding.write(plaintext),
            shown: Text::base64(plaintext),
            field: |view| &mut view.plaintext,
        },
    ];
    deliver_all(screen, empty((reply.key_id, reply.key_version_id)), parts).await
}

async fn pair(global: &Global, screen: Screen, args: Generate, spec: KeyPairSpec) -> Result<(), Failure> {
    let context = args.context.canonical()?;
    let (is_text, encoding) = (args.form.is_text(), args.form.coding.encoding);
    let [public, private, blob] = places(
        screen,
        [
            ("--public-key-out", &args.public_key_out, is_text),
            ("--private-key-out", &args.private_key_out, is_text),
            ("--blob-out", &args.blob_out, encoding != Encoding::Raw),
        ],
    )?;
    let reply = super::connect_patiently(global)
        .await?
        .generate_data_key_pair(args.key.clone(), spec, context)
        .await?;
    let private_key = reply.private_key.expose();
    let private = Part {
        sink: private,
        written: args.form.write(PRIVATE_KEY, private_key)?,
        shown: args.form.show(PRIVATE_KEY, private_key)?,
        field: |view| &mut view.private_key,
    };
    let public = public_part(&args, public, &reply.public_key.0)?;
    let parts = vec![blob_part(encoding, blob, &reply.ciphertext_blob.0), public, private];
    deliver_all(screen, of_pair((reply.key_id, reply.key_version_id), spec), parts).await
}

async fn wrapped_pair(
    global: &Global,
    screen: Screen,
    args: Generate,
    spec: KeyPairSpec,
) -> Result<(), Failure> {
    let context = args.context.canonical()?;
    let encoding = args.form.coding.encoding;
    let [public, blob] = places(
        screen,
        [
            ("--public-key-out", &args.public_key_out, args.form.is_text()),
            ("--blob-out", &args.blob_out, encoding != Encoding::Raw),
        ],
    )?;
    let client = super::connect_patiently(global).await?;
    let reply = client.generate_data_key_pair_without_plaintext(args.key.clone(), spec, context).await?;
    let public = public_part(&args, public, &reply.public_key.0)?;
    let parts = vec![blob_part(encoding, blob, &reply.ciphertext_blob.0), public];
    deliver_all(screen, of_pair((reply.key_id, reply.key_version_id), spec), parts).await
}

fn of_pair(ids: (Uuid, Uuid), spec: KeyPairSpec) -> Bytes {
    Bytes { pair: Some(spec.name()), ..empty(ids) }
}

fn public_part(args: &Generate, sink: Sink, key: &[u8]) -> Result<Part, Failure> {
    let (written, shown) = (args.form.write(PUBLIC_KEY, key)?, args.form.show(PUBLIC_KEY, key)?);
    Ok(Part { sink, written, shown, field: |view| &mut view.public_key })
}

fn blob_part(encoding: Encoding, sink: Sink, blob: &[u8]) -> Part {
    let (written, shown) = (encoding.write(blob), Text::base64(blob));
    Part { sink, written, shown, field: |view| &mut view.ciphertext_blob }
}

pub(super) async fn export(global: &Global, screen: Screen, args: Export) -> Result<(), Failure> {
    let encoding = args.coding.encoding;
    let public_key = files::named("--public-key", Some(args.public_key.clone())).await?;
    let public_key = forms::public_key(encoding, public_key)?;
    let algorithm = match args.algorithm {
        Some(algorithm) => algorithm,
        None => forms::export_algorithm(&public_key)?,
    };
    let context = args.context.canonical()?;
    if let Some(key) = args.generate {
        let [out, blob] = places(
            screen,
            [
                ("--out", &args.output.output, encoding != Encoding::Raw),
                ("--blob-out", &args.blob_out, encoding != Encoding::Raw),
            ],
        )?;
        let size = args.length.size();
        let request =
            GenerateAndExportDataKeyRequest { key, size, context, public_key: public_key.into(), algorithm };
        let reply = super::connect(global).await?.generate_and_export_data_key(request).await?;
        let exported = &reply.exported_data_key.0;
        let (written, shown) = (encoding.write(exported), Text::base64(exported));
        let exported = Part { sink: out, written, shown, field: |view| &mut view.exported_data_key };
        let view = Bytes { algorithm: Some(algorithm.name()), ..empty((reply.key_id, reply.key_version_id)) };
        let blob = blob_part(encoding, blob, &reply.ciphertext_blob.0);
        return deliver_all(screen, view, vec![blob, exported]).await;
    }
    if args.blob_out.is_some() {
        return Err(Failure::usage("--blob-out is for a new data key; add --generate KEY"));
    }
    if args.length.is_given() {
        return Err(Failure::usage("--spec and --bytes are for a new data key; add --generate KEY"));
    }
    let sink = coded_sink(screen, &args.output, encoding != Encoding::Raw)?;
    let blob = encoding.read("the input", files::read(args.input.input).await?)?.expose().to_vec();
    let request = ExportDataKeyRequest {
        key: args.key,
        ciphertext_blob: blob.into(),
        context,
        public_key: public_key.into(),
        algorithm,
    };
    let reply = super::connect(global).await?.export_data_key(request).await?;
    let exported = &reply.exported_data_key.0;
    let view = |exported_data_key| Bytes {
        exported_data_key,
        algorithm: Some(algorithm.name()),
        ..empty((reply.key_id, reply.key_version_id))
    };
    deliver_coded(screen, sink, encoding.write(exported), Text::base64(exported), view).await
}
