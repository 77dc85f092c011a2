//! What a run is about: the key, made where it is the benchmark's own and missing, and
//! whether replies are right. What must not live here: timing.

use std::sync::Arc;

use claviger_client::{Client, Error, RawReply, new_key, verification};
use claviger_protocol::body::{BatchItem, BatchRequest};
use claviger_protocol::{
    Alias, Code, Description, EncryptionContext, KeyRef, KeySpec, KeyUsage, Opcode, Protection, Reply,
    Request, SecretBytes,
};

use super::args::Bench;
use super::load::{self, Call};
use super::operations::{self, Algorithm, Needs, Operation, Proof, Subject};
use crate::failure::Failure;

/// What is called, and under which key.
pub(crate) struct Target {
    operation: &'static Operation,
    subject: Arc<Subject>,
    /// The key's level, for operations that use one.
    pub(crate) level: Option<Protection>,
    /// Whether the key was made by this run.
    pub(crate) made: bool,
}

impl Target {
    /// Finds or makes the key and what else the operation needs.
    pub(crate) async fn prepare(client: &Client, args: &Bench) -> Result<Self, Failure> {
        let payload = SecretBytes::new(vec![0x5a; args.size as usize]);
        let kind = args.operation.kind;
        let (mut found, mut made) = (None, false);
        if let Some(usage) = kind.usage() {
            let (key, new) = match &args.key {
                Some(key) => (described(client, key.clone()).await?, false),
                None => {
                    let first = || kind.specs().next().unwrap_or(KeySpec::Aes256);
                    own_key(client, args.level, args.spec.unwrap_or_else(first), usage).await?
                }
            };
            (found, made) = (Some(key), new);
        }
        let spec = found.as_ref().map_or(KeySpec::Aes256, |found| found.spec);
        let mut level = found.as_ref().map(|found| found.protection);
        if args.operation.lasting {
            level = Some(args.level);
        }
        let algorithm = kind.algorithm(spec, args.algorithm.as_deref())?;
        let key = found.map(|found| found.key);
        let mut subject = Subject { key, spec, algorithm, payload, level: args.level, made: Vec::new() };
        subject.made = needed(client, args.operation.needs, &subject).await?;
        Ok(Self { operation: args.operation, subject: Arc::new(subject), level, made })
    }

    /// The key's spec, for operations that use one.
    pub(crate) fn spec(&self) -> Option<KeySpec> {
        self.key().map(|_| self.subject.spec)
    }

    /// How it is done, where there is a choice.
    pub(crate) fn algorithm(&self) -> Option<&'static str> {
        match self.subject.algorithm {
            Algorithm::Only => None,
            Algorithm::Signing(algorithm) => Some(algorithm.name()),
            Algorithm::Encryption(algorithm) => Some(algorithm.name()),
            Algorithm::Digest(algorithm) => Some(algorithm.name()),
        }
    }

    /// The key, for operations that use one.
    pub(crate) fn key(&self) -> Option<&KeyRef> {
        self.subject.key.as_ref()
    }

    /// The frame that asks for `batch` calls at once.
    pub(crate) fn call(&self, batch: u32) -> Result<Call, Failure> {
        let request = (self.operation.request)(&self.subject);
        let too_large = |_| Failure::usage("a frame of these calls is over 16 MiB; lower --batch or --size");
        let body = SecretBytes::new(request.encode().map_err(too_large)?);
        if batch == 1 {
            let (operation, subject) = (self.operation, Arc::clone(&self.subject));
            let fresh =
                operation.lasting.then(|| -> load::Fresh { Box::new(move || (operation.request)(&subject)) });
            return Ok(Call { opcode: request.opcode(), body, fresh });
        }
        if !request.opcode().row().batchable {
            let name = self.operation.name;
            return Err(Failure::usage(format!("{name} can't be called in a batch; leave out --batch")));
        }
        let item = BatchItem { opcode: request.opcode().number(), body };
        let request = Request::Batch(BatchRequest { items: vec![item; batch as usize] });
        let body = SecretBytes::new(request.encode().map_err(too_large)?);
        Ok(Call { opcode: Opcode::Batch, body, fresh: None })
    }

    /// Compares a reply, the last item's of a batch, with what it must be.
    ///
    /// # Errors
    /// Where it is wrong, or its blob doesn't open to what was encrypted.
    pub(crate) async fn verify(&self, client: &Client, reply: &RawReply) -> Result<(), Failure> {
        let wrong = |what: &str| {
            let text = format!("the daemon's reply to {} is wrong: {what}", self.operation.name);
            Failure::local("WrongReply", text)
        };
        let mut reply = reply.decode()?;
        if let Reply::Batch(batch) = reply {
            let last = batch.results.last().filter(|last| last.status == Code::Ok.number());
            let last = last.ok_or_else(|| wrong("the last item of a batch failed"))?;
            let opcode = (self.operation.request)(&self.subject).opcode();
            reply = Reply::decode(opcode, last.body.expose()).map_err(|error| wrong(&error.to_string()))?;
        }
        let proof = (self.operation.check)(&self.subject, reply);
        let proof = proof.ok_or_else(|| wrong("it isn't what was asked for"))?;
        self.holds(client, proof).await?.map_or(Ok(()), |what| Err(wrong(what)))
    }

    /// What is wrong about a reply that has this to show.
    async fn holds(&self, client: &Client, proof: Proof) -> Result<Option<&'static str>, Failure> {
        let (subject, payload) = (&self.subject, self.subject.payload.clone());
        let (right, what) = match proof {
            Proof::Compared => (true, ""),
            Proof::Opens { blob, plaintext } => {
                let opened = client.decrypt(subject.key.clone(), blob, none()).await?;
                (opened.plaintext == plaintext, "its blob opens to something else")
            }
            Proof::Verifies(signature) => {
                let request = verification(operations::signed(subject), signature);
                (client.verify(request).await?.valid, "its signature isn't valid")
            }
            Proof::Decrypts(ciphertext) => {
                let (key, algorithm) = (operations::key(subject), operations::encryption(subject));
                let opened = client.asymmetric_decrypt(key, None, algorithm, ciphertext).await?;
                (opened.plaintext == payload, "its ciphertext decrypts to something else")
            }
            Proof::Authenticates(mac) => {
                let checked = client.verify_mac(operations::key(subject), None, payload, mac).await?;
                (checked.valid, "its MAC isn't right")
            }
            Proof::Exists(id) => {
                (client.describe_key(id.into()).await?.key_id == id, "its key is another one")
            }
        };
        Ok((!right).then_some(what))
    }
}

/// Makes what an operation needs, with its key.
async fn needed(client: &Client, needs: Needs, subject: &Subject) -> Result<Vec<u8>, Failure> {
    let (key, payload) = (operations::key(subject), subject.payload.clone());
    Ok(match needs {
        Needs::Nothing => Vec::new(),
        Needs::Blob => client.encrypt(key, payload, none()).await?.ciphertext_blob.0,
        Needs::Signature => client.sign(operations::signed(subject)).await?.signature.0,
        Needs::Ciphertext => {
            let algorithm = operations::encryption(subject);
            client.asymmetric_encrypt(key, None, algorithm, payload).await?.ciphertext.0
        }
    })
}

fn none() -> EncryptionContext {
    EncryptionContext::default()
}

/// A key of the run.
struct Found {
    key: KeyRef,
    spec: KeySpec,
    protection: Protection,
}

async fn described(client: &Client, key: KeyRef) -> Result<Found, Error> {
    let found = client.describe_key(key.clone()).await?;
    Ok(Found { key, spec: found.spec, protection: found.protection })
}

/// The name of the benchmark's own key; a spec's usages have a key each.
fn own_name(level: Protection, spec: KeySpec, usage: KeyUsage) -> String {
    let mut name = format!("alias/claviger-bench-{}", level.name().to_lowercase());
    if spec != KeySpec::Aes256 {
        name.push('-');
        name.push_str(&spec.name().to_lowercase());
    }
    if spec.usages().first() != Some(&usage) {
        name.push_str("-decrypt");
    }
    name
}

/// The benchmark's own key, and whether it was made just now.
async fn own_key(
    client: &Client,
    level: Protection,
    spec: KeySpec,
    usage: KeyUsage,
) -> Result<(Found, bool), Failure> {
    let name = own_name(level, spec, usage);
    let invalid = |error: claviger_protocol::names::NameError| Failure::local("Internal", error.to_string());
    let key: KeyRef = name.parse().map_err(invalid)?;
    match described(client, key.clone()).await {
        Ok(found) => return Ok((found, false)),
        Err(Error::Refused { code: Code::NotFound, .. }) => {}
        Err(Error::Refused { code: Code::AccessDenied, .. }) => {
            return Err(Failure::usage(format!(
                "there is no {name}, and this socket can't make keys; name a KEY, or run the benchmark once \
                 on the admin socket"
            )));
        }
        Err(error) => return Err(error.into()),
    }
    let mut request = new_key(spec, level);
    request.usage = Some(usage);
    request.alias = Some(Alias::new(name.clone()).map_err(invalid)?);
    request.description = Description::new("made by claviger bench").map_err(invalid)?;
    client.create_key(request).await?;
    Ok((Found { key, spec, protection: level }, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_keys_have_names_of_their_own() {
        let name = |spec: KeySpec, usage| own_name(Protection::Hsm, spec, usage);
        assert_eq!(name(KeySpec::Aes256, KeyUsage::EncryptDecrypt), "alias/claviger-bench-hsm");
        assert_eq!(name(KeySpec::Sm2, KeyUsage::SignVerify), "alias/claviger-bench-hsm-sm2");
        assert_eq!(name(KeySpec::Sm2, KeyUsage::EncryptDecrypt), "alias/claviger-bench-hsm-sm2-decrypt");
        assert_eq!(name(KeySpec::HmacSm3, KeyUsage::GenerateVerifyMac), "alias/claviger-bench-hsm-hmac_sm3");
    }
}
