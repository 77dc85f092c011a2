//! What a run is about: the key, made where it is the benchmark's own and missing, and
//! whether replies are right. What must not live here: timing.

use std::sync::Arc;

use claviger_client::{Client, Error, RawReply, new_key};
use claviger_protocol::body::{BatchItem, BatchRequest};
use claviger_protocol::{
    Alias, Code, Description, EncryptionContext, KeyRef, KeySpec, Opcode, Protection, Reply, Request,
    SecretBytes,
};

use super::args::Bench;
use super::load::{self, Call};
use super::operations::{Operation, Proof, Subject};
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
        let mut subject = Subject { key: None, payload, level: args.level, blob: Vec::new() };
        let (mut level, mut made) = (None, false);
        if args.operation.keyed {
            let (key, protection, new) = match &args.key {
                Some(key) => (key.clone(), client.describe_key(key.clone()).await?.protection, false),
                None => own_key(client, args.level).await?,
            };
            let sealed = client.encrypt(key.clone(), subject.payload.clone(), none()).await?;
            subject.blob = sealed.ciphertext_blob.0;
            subject.key = Some(key);
            (level, made) = (Some(protection), new);
        }
        if args.operation.lasting {
            level = Some(args.level);
        }
        Ok(Self { operation: args.operation, subject: Arc::new(subject), level, made })
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
        match (self.operation.check)(&self.subject, reply) {
            Some(Proof::Compared) => Ok(()),
            Some(Proof::Opens { blob, plaintext }) => {
                let opened = client.decrypt(self.subject.key.clone(), blob, none()).await?;
                let same = opened.plaintext == plaintext;
                if same { Ok(()) } else { Err(wrong("its blob opens to something else")) }
            }
            Some(Proof::Exists(id)) => {
                let found = client.describe_key(id.into()).await?.key_id == id;
                if found { Ok(()) } else { Err(wrong("its key is another one")) }
            }
            None => Err(wrong("it isn't what was asked for")),
        }
    }
}

fn none() -> EncryptionContext {
    EncryptionContext::default()
}

/// The benchmark's own key of a level, and whether it was made just now.
async fn own_key(client: &Client, level: Protection) -> Result<(KeyRef, Protection, bool), Failure> {
    let name = format!("alias/claviger-bench-{}", level.name().to_lowercase());
    let invalid = |error: claviger_protocol::names::NameError| Failure::local("Internal", error.to_string());
    let key: KeyRef = name.parse().map_err(invalid)?;
    match client.describe_key(key.clone()).await {
        Ok(found) => return Ok((key, found.protection, false)),
        Err(Error::Refused { code: Code::NotFound, .. }) => {}
        Err(Error::Refused { code: Code::AccessDenied, .. }) => {
            return Err(Failure::usage(format!(
                "there is no {name}, and this socket can't make keys; name a KEY, or run the benchmark once \
                 on the admin socket"
            )));
        }
        Err(error) => return Err(error.into()),
    }
    let mut request = new_key(KeySpec::Aes256, level);
    request.alias = Some(Alias::new(name.clone()).map_err(invalid)?);
    request.description = Description::new("made by claviger bench").map_err(invalid)?;
    client.create_key(request).await?;
    Ok((key, level, true))
}
