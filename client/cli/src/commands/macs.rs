//! `mac`, `verify-mac`, `digest`.

use claviger_protocol::DigestAlgorithm;
use claviger_protocol::body::{GenerateMacRequest, VerifyMacRequest};

use super::delivery::{check_message, coded_sink, deliver_coded, empty};
use super::pairs::judge;
use crate::args::{Digest, Encoding, Global, Mac, VerifyMac};
use crate::failure::Failure;
use crate::files;
use crate::output::{Screen, Text};
use crate::view::{Bytes, Validity};

const LESS: &str = "make a digest of it first (sha256sum, openssl dgst -sm3), and a MAC of that";

pub(super) async fn mac(global: &Global, screen: Screen, args: Mac) -> Result<(), Failure> {
    let encoding = args.coding.encoding;
    let sink = coded_sink(screen, &args.output, encoding != Encoding::Raw)?;
    let message = files::read(args.input.input).await?;
    let client = super::connect(global).await?;
    check_message(&client, &message, LESS).await?;
    let reply = client.call(GenerateMacRequest { key: args.key, algorithm: args.algorithm, message }).await?;
    let made = &reply.mac.0;
    let view = |mac| Bytes { mac, ..empty((reply.key_id, reply.key_version_id)) };
    deliver_coded(screen, sink, encoding.write(made), Text::base64(made), view).await
}

/// Gives the exit code: 1 for a wrong MAC.
pub(super) async fn verify(global: &Global, screen: Screen, args: VerifyMac) -> Result<u8, Failure> {
    let mac = args.coding.encoding.read("--mac", files::named("--mac", Some(args.mac)).await?)?;
    let message = files::read(args.input.input).await?;
    let client = super::connect(global).await?;
    check_message(&client, &message, LESS).await?;
    let request = VerifyMacRequest {
        key: args.key,
        key_version_id: args.version,
        algorithm: args.algorithm,
        message,
        mac: mac.expose().to_vec().into(),
    };
    let reply = client.call(request).await?;
    let (key_id, key_version_id) = (reply.key_id, reply.key_version_id);
    judge(screen, Validity { valid: reply.valid, key_id, key_version_id }).await
}

pub(super) async fn digest(global: &Global, screen: Screen, args: Digest) -> Result<(), Failure> {
    let encoding = args.coding.encoding;
    let sink = coded_sink(screen, &args.output, encoding != Encoding::Raw)?;
    let message = files::read(args.input.input).await?;
    let client = super::connect(global).await?;
    let here = match args.algorithm {
        DigestAlgorithm::Sm3 => "hash it here (openssl dgst -sm3)",
        DigestAlgorithm::Sha256 => "hash it here (sha256sum)",
        DigestAlgorithm::Sha384 => "hash it here (sha384sum)",
        DigestAlgorithm::Sha512 => "hash it here (sha512sum)",
    };
    check_message(&client, &message, here).await?;
    let made = client.digest(args.algorithm, message).await?.digest.0;
    let view = |digest| Bytes { digest, algorithm: Some(args.algorithm.name()), ..Bytes::default() };
    deliver_coded(screen, sink, encoding.write(&made), Text::base64(&made), view).await
}
