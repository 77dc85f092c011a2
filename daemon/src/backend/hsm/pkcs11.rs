//! Commands carried out on a session of a PKCS#11 token. What lives here: what each
//! command is, in PKCS#11 calls, and that nothing it makes is left behind. What must
//! not: threads, queues, retries, logging in. Secret keys are in `secrets.rs`, pairs in
//! `pairs.rs`, what is brought from outside in `imports.rs`.

mod imports;
mod pairs;
mod secrets;

use std::sync::Arc;

use claviger_hsm_profiles::{Derivation, Profile};
use claviger_protocol::{KeySpec, SecretBytes};
use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::session::Session;

use super::calls::{self, NONCE_LEN, TAG_LEN};
use super::command::{Answer, Command, HsmError, ObjectId, Template, Token, WrapFormat};
use super::failure::{Doing, Verdict, classify, failed};
use super::library::Library;
use super::means::{Cipher, Held, Means};
use super::objects::Objects;
use super::private::Trouble;
use super::probe::ProbeReport;
use super::roots::Roots;

/// Most random bytes of one command.
const MAX_RANDOM: u16 = 4096;
const CANARY_AAD: &[u8] = b"claviger/v1/canary";
const CANARY: &[u8] = b"still singing";

/// A session of a token, with the roots that it may use.
pub(super) struct Pkcs11Token {
    // Before `_library`, because sessions close before their library goes.
    session: Session,
    _library: Arc<Library>,
    epoch: u64,
    derivation: Derivation,
    means: Means,
    /// What passed its self-test: nothing else becomes an object.
    report: ProbeReport,
    roots: Roots,
    objects: Objects,
    canary: Option<Vec<u8>>,
}

impl Pkcs11Token {
    /// `report` is what the token's self-tests found; `lane` tells this session's objects
    /// from those of the member's other lanes.
    ///
    /// # Errors
    /// Where the current root can't seal.
    pub(super) fn new(
        session: Session,
        library: Arc<Library>,
        (profile, report): (&Profile, &ProbeReport),
        roots: Roots,
        epoch: u64,
        lane: u8,
    ) -> Result<Self, HsmError> {
        let mut token = Self {
            session,
            _library: library,
            epoch,
            derivation: profile.derivation,
            means: Means::of(profile),
            report: report.clone(),
            roots,
            objects: Objects::new(lane),
            canary: None,
        };
        if token.roots.current().is_ok() {
            token.canary = Some(token.root_seal(CANARY_AAD, CANARY)?);
        }
        Ok(token)
    }

    fn random<const N: usize>(&self) -> Result<[u8; N], HsmError> {
        let mut out = [0; N];
        self.session.generate_random_slice(&mut out).map_err(|e| failed(&e))?;
        Ok(out)
    }

    fn held(&self, object: ObjectId) -> Result<Held, HsmError> {
        if object.epoch != self.epoch {
            return Err(HsmError::ObjectGone);
        }
        self.objects.get(object.handle).ok_or(HsmError::ObjectGone)
    }

    /// Gives a new object its number; one that can't have a number is destroyed.
    fn keep(&mut self, held: Held) -> Result<Answer, HsmError> {
        if let Some(number) = self.objects.insert(held) {
            return Ok(Answer::Object(ObjectId { epoch: self.epoch, handle: number }));
        }
        self.session.destroy_object(held.handle).map_err(|e| failed(&e))?;
        Err(HsmError::Fault("the lane holds too many objects".to_owned()))
    }

    /// What a failure means, after asking the token to do something known where the
    /// token's own word could mean either.
    fn judge(&self, error: &Error, doing: Doing, bad_data: HsmError) -> HsmError {
        match classify(error, doing) {
            Verdict::Known(error) => error,
            Verdict::Ambiguous(text) => match self.sings() {
                Ok(()) => bad_data,
                Err(_) => HsmError::Unavailable(text),
            },
        }
    }

    /// The canary: does the token still compute what it computed when it was opened?
    fn sings(&self) -> Result<(), HsmError> {
        let (_, root) = self.roots.current()?;
        let sealed = self.canary.as_deref().unwrap_or_default();
        let (nonce, sealed) = split_nonce(sealed)?;
        let opened = calls::gcm_open(&self.session, Cipher::Aes, root.seal, nonce, CANARY_AAD, sealed);
        match opened {
            Ok(text) if text == CANARY => Ok(()),
            Ok(_) => Err(HsmError::Unavailable("the token computes something else".to_owned())),
            // A known ciphertext that no longer opens is the token's fault, whatever it says.
            Err(error) => Err(HsmError::Unavailable(super::failure::describe(&error))),
        }
    }

    /// Whether this token holds keys of the spec as such objects.
    fn check_template(&self, spec: KeySpec, template: Template) -> Result<(), HsmError> {
        if !template.fits(spec) {
            return Err(HsmError::Unsupported(format!("{spec} keys are no such objects")));
        }
        if template == Template::AesDeriveOnly && self.derivation == Derivation::None {
            return Err(HsmError::Unsupported("the profile has no derivation".to_owned()));
        }
        match self.report.unavailable(spec, template.usage()) {
            None => Ok(()),
            Some(why) => Err(HsmError::Unsupported(why.to_owned())),
        }
    }

    /// What it means that an object couldn't be used.
    fn using(&mut self, object: ObjectId, error: &Error) -> HsmError {
        match classify(error, Doing::Using) {
            Verdict::Known(HsmError::ObjectGone) => {
                self.objects.remove(object.handle);
                HsmError::ObjectGone
            }
            Verdict::Known(error) => error,
            Verdict::Ambiguous(text) => HsmError::Unavailable(text),
        }
    }

    /// What it means that a private key couldn't be used.
    fn troubled(&mut self, object: ObjectId, trouble: Trouble, doing: Doing) -> HsmError {
        let error = match trouble {
            Trouble::Known(error) => error,
            Trouble::Token(error) if doing == Doing::Using => return self.using(object, &error),
            Trouble::Token(error) => self.judge(&error, doing, HsmError::AuthenticationFailed),
        };
        if error == HsmError::ObjectGone {
            self.objects.remove(object.handle);
        }
        error
    }

    fn root_seal(&self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, HsmError> {
        let (_, root) = self.roots.current()?;
        let nonce = self.random::<NONCE_LEN>()?;
        let sealed = calls::gcm_seal(&self.session, root.seal, nonce, aad, plaintext)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    fn root_open(&self, aad: &[u8], sealed: &[u8]) -> Result<Answer, HsmError> {
        let (_, root) = self.roots.current()?;
        let (nonce, sealed) = split_nonce(sealed)?;
        let opened = calls::gcm_open(&self.session, Cipher::Aes, root.seal, nonce, aad, sealed)
            .map(SecretBytes::new)
            .map_err(|e| self.judge(&e, Doing::Opening, HsmError::AuthenticationFailed));
        match opened {
            Err(HsmError::ObjectGone) => Err(HsmError::Unavailable("the root's handle is dead".to_owned())),
            other => other.map(Answer::Bytes),
        }
    }

    fn destroy(&mut self, object: ObjectId) -> Result<Answer, HsmError> {
        if object.epoch != self.epoch {
            return Ok(Answer::Done);
        }
        let Some(held) = self.objects.remove(object.handle) else { return Ok(Answer::Done) };
        match self.session.destroy_object(held.handle).map_err(|e| classify(&e, Doing::Using)) {
            Ok(()) | Err(Verdict::Known(HsmError::ObjectGone)) => Ok(Answer::Done),
            Err(Verdict::Known(error)) => Err(error),
            Err(Verdict::Ambiguous(text)) => Err(HsmError::Unavailable(text)),
        }
    }
}

/// The mechanism of a wrap format.
fn wrapping(format: WrapFormat) -> Mechanism<'static> {
    match format {
        WrapFormat::AesKw => Mechanism::AesKeyWrap,
        WrapFormat::AesKwp => Mechanism::AesKeyWrapPad,
    }
}

fn split_nonce(sealed: &[u8]) -> Result<([u8; NONCE_LEN], &[u8]), HsmError> {
    match sealed.split_first_chunk::<NONCE_LEN>() {
        Some((nonce, rest)) if rest.len() >= TAG_LEN => Ok((*nonce, rest)),
        _ => Err(HsmError::AuthenticationFailed),
    }
}

impl Token for Pkcs11Token {
    fn execute(&mut self, command: &Command) -> Result<Answer, HsmError> {
        match command {
            Command::Random { len } => {
                if !(1..=MAX_RANDOM).contains(len) {
                    return Err(HsmError::Fault(format!("{len} random bytes were asked for")));
                }
                let random = self.session.generate_random_vec(u32::from(*len)).map_err(|e| failed(&e))?;
                Ok(Answer::Bytes(random.into()))
            }
            Command::Generate { spec, template } if spec.pair().is_some() => {
                self.generate_pair(*spec, *template)
            }
            Command::Generate { spec, template } => self.generate_secret(*spec, *template),
            Command::Unwrap { wrapped, spec, template, check_value } => {
                self.unwrap_secret(wrapped, *spec, *template, *check_value)
            }
            Command::UnwrapPair { wrapped, spec, template, public_key } => {
                self.unwrap_pair(wrapped, *spec, *template, public_key)
            }
            Command::Derive { object, salt } => self.derive(*object, salt),
            Command::GcmSeal { object, nonce, aad, plaintext } => {
                self.gcm_seal(*object, *nonce, aad, plaintext.expose())
            }
            Command::GcmOpen { object, nonce, aad, sealed } => self.gcm_open(*object, *nonce, aad, sealed),
            Command::Sign { object, algorithm, digest } => self.sign(*object, *algorithm, digest),
            Command::PrivateDecrypt { object, algorithm, ciphertext } => {
                self.decrypt(*object, *algorithm, ciphertext)
            }
            Command::Mac { object, algorithm, message } => self.mac(*object, *algorithm, message.expose()),
            Command::Import { key, algorithm, block, inner, spec, template } => {
                self.import(key, *algorithm, block, inner.as_deref(), (*spec, *template))
            }
            Command::OpenBlock { key, algorithm, block } => self.open_block(key, *algorithm, block),
            Command::Adopt { material, spec, template, public_key } => {
                self.adopt(material, (*spec, *template), public_key)
            }
            Command::RootSeal { aad, plaintext } => {
                self.root_seal(aad, plaintext.expose()).map(|sealed| Answer::Bytes(sealed.into()))
            }
            Command::RootOpen { aad, sealed } => self.root_open(aad, sealed),
            Command::Destroy { object } => self.destroy(*object),
            Command::Canary => self.sings().map(|()| Answer::Done),
        }
    }
}
