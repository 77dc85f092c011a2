//! `key public-key`, `sign`, `verify`, `asymmetric …`.

use claviger_client::{Client, Error};
use claviger_protocol::body::{AsymmetricSignRequest, AsymmetricVerifyRequest, GetPublicKeyReply};
use claviger_protocol::{Code, EncryptionAlgorithm, MessageType, SecretBytes};

use super::delivery::{check_message, check_plaintext_sink, coded_sink, deliver, deliver_coded, empty};
use crate::args::{Asymmetric, Encoding, Global, Pair, PublicKey, Sign, Signing, Sm2Format, Verify};
use crate::defaults;
use crate::failure::{Failure, REFUSED};
use crate::files::{self, Sink};
use crate::forms::PUBLIC_KEY;
use crate::output::{Screen, Text};
use crate::view::{Bytes, Validity};

/// What to do about a message that no frame has room for.
const HASH_IT: &str = "give its digest instead, with --digest";

pub(super) async fn public_key(global: &Global, screen: Screen, args: PublicKey) -> Result<(), Failure> {
    args.form.of_keys_alone()?;
    let sink = coded_sink(screen, &args.output, args.form.is_text())?;
    let reply = super::connect(global).await?.public_key(args.pair.key, args.pair.version).await?;
    let key = &reply.public_key.0;
    let written = args.form.write(PUBLIC_KEY, key)?;
    let shown = args.form.show(PUBLIC_KEY, key)?;
    let view = |public_key| Bytes {
        public_key,
        spec: Some(reply.spec.name()),
        usage: Some(reply.usage.name()),
        ..empty((reply.key_id, reply.key_version_id))
    };
    deliver_coded(screen, sink, written, shown, view).await
}

pub(super) async fn sign(global: &Global, screen: Screen, args: Sign) -> Result<(), Failure> {
    let encoding = args.coding.encoding;
    let sink = coded_sink(screen, &args.output, encoding != Encoding::Raw)?;
    let message = files::read(args.input.input).await?;
    let client = super::connect(global).await?;
    let request = signing(&client, args.pair, args.how, message).await?;
    let algorithm = request.algorithm;
    let reply = client.sign(request).await?;
    let signature = &reply.signature.0;
    let view = |signature| Bytes {
        signature,
        algorithm: Some(algorithm.name()),
        ..empty((reply.key_id, reply.key_version_id))
    };
    deliver_coded(screen, sink, encoding.write(signature), Text::base64(signature), view).await
}

/// Gives the exit code: 1 for a wrong signature.
pub(super) async fn verify(global: &Global, screen: Screen, args: Verify) -> Result<u8, Failure> {
    let signature =
        args.coding.encoding.read("--signature", files::named("--signature", Some(args.signature)).await?)?;
    let message = files::read(args.input.input).await?;
    let client = super::connect(global).await?;
    let signed = signing(&client, args.pair, args.how, message).await?;
    let reply = client.verify(verification(signed, signature.expose())).await?;
    let (key_id, key_version_id) = (reply.key_id, reply.key_version_id);
    judge(screen, Validity { valid: reply.valid, key_id, key_version_id }).await
}

fn verification(signed: AsymmetricSignRequest, signature: &[u8]) -> AsymmetricVerifyRequest {
    claviger_client::verification(signed, signature.to_vec())
}

/// Prints whether something is right; what is wrong is exit code 1 and no error.
pub(super) async fn judge(screen: Screen, validity: Validity) -> Result<u8, Failure> {
    let text = |validity: &Validity| if validity.valid { "valid\n" } else { "not valid\n" }.to_owned();
    screen.show(&validity, text).await?;
    Ok(if validity.valid { 0 } else { REFUSED })
}

async fn signing(
    client: &Client,
    pair: Pair,
    how: Signing,
    message: SecretBytes,
) -> Result<AsymmetricSignRequest, Failure> {
    check_message(client, &message, HASH_IT).await?;
    let algorithm = match how.algorithm {
        Some(algorithm) => algorithm,
        None => defaults::signing(found(client, &pair).await?.spec)?,
    };
    Ok(AsymmetricSignRequest {
        key_version_id: pair.version,
        message_type: if how.digest { MessageType::Digest } else { MessageType::Message },
        user_id: how.user_id.map(|id| id.0.into()),
        ..claviger_client::signing(pair.key, algorithm, message)
    })
}

/// The key's public half, which tells its spec on every endpoint.
async fn found(client: &Client, pair: &Pair) -> Result<GetPublicKeyReply, Failure> {
    client.public_key(pair.key.clone(), pair.version).await.map_err(|error| match error {
        Error::Refused { code: Code::AccessDenied, message, .. } => Failure::refused(
            Code::AccessDenied,
            format!("{message}; with --algorithm the key needn't be looked up"),
        ),
        other => other.into(),
    })
}

async fn algorithm(client: &Client, args: &Asymmetric) -> Result<EncryptionAlgorithm, Failure> {
    let algorithm = match args.algorithm {
        Some(algorithm) => algorithm,
        None => defaults::encryption(found(client, &args.pair).await?.spec)?,
    };
    if args.sm2_format != Sm2Format::Der && algorithm != EncryptionAlgorithm::Sm2Pke {
        return Err(Failure::usage(format!(
            "--sm2-format is for SM2PKE, and this is {algorithm}; leave it out"
        )));
    }
    Ok(algorithm)
}

pub(super) async fn encrypt(global: &Global, screen: Screen, args: Asymmetric) -> Result<(), Failure> {
    let sink = coded_sink(screen, &args.output, args.encoding != Encoding::Raw)?;
    let plaintext = files::read(args.input.input.clone()).await?;
    let client = super::connect(global).await?;
    let algorithm = algorithm(&client, &args).await?;
    let reply = client.asymmetric_encrypt(args.pair.key, args.pair.version, algorithm, plaintext).await?;
    let ciphertext = args.sm2_format.write(&reply.ciphertext.0)?;
    let view = |ciphertext| Bytes {
        ciphertext,
        algorithm: Some(algorithm.name()),
        ..empty((reply.key_id, reply.key_version_id))
    };
    deliver_coded(screen, sink, args.encoding.write(&ciphertext), Text::base64(&ciphertext), view).await
}

pub(super) async fn decrypt(global: &Global, screen: Screen, args: Asymmetric) -> Result<(), Failure> {
    let sink = Sink::open(args.output.output.as_deref())?;
    let input = args.encoding.read("the input", files::read(args.input.input.clone()).await?)?;
    let ciphertext = args.sm2_format.read(input.expose())?;
    let client = super::connect(global).await?;
    let algorithm = algorithm(&client, &args).await?;
    let reply = client.asymmetric_decrypt(args.pair.key, args.pair.version, algorithm, ciphertext).await;
    let reply = reply.map_err(undecryptable)?;
    let plaintext = reply.plaintext.expose();
    check_plaintext_sink(screen, &sink, plaintext)?;
    let view = |plaintext| Bytes {
        plaintext,
        algorithm: Some(algorithm.name()),
        ..empty((reply.key_id, reply.key_version_id))
    };
    deliver(screen, sink, plaintext, view).await
}

/// The daemon doesn't say why, and a blob's advice doesn't fit here.
fn undecryptable(error: Error) -> Failure {
    match error {
        Error::Refused { code: Code::InvalidCiphertext, .. } => Failure::refused(
            Code::InvalidCiphertext,
            "the ciphertext can't be decrypted: it is changed, another key's or another version's, or of another \
             --algorithm, --sm2-format or --encoding",
        ),
        other => other.into(),
    }
}
