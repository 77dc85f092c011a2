//! Commands carried out on a session of a PKCS#11 token. What lives here: what each
//! command is, in PKCS#11 calls, and that nothing it makes is left behind. What must
//! not: threads, queues, retries, logging in.

use std::sync::Arc;

use claviger_hsm_profiles::{Derivation, Profile, Wrap};
use claviger_protocol::{KeySpec, SecretBytes};
use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use super::calls::{self, NONCE_LEN, TAG_LEN};
use super::check_value;
use super::command::{
    Answer, CheckValue, Command, HsmError, ObjectId, RESERVED_SALT, Template, Token, WrapFormat, Wrapped,
};
use super::failure::{Doing, Verdict, classify, failed};
use super::library::Library;
use super::objects::Objects;
use super::roots::Roots;
use super::template::{self, Usage};

/// Most random bytes of one command.
const MAX_RANDOM: u16 = 4096;
/// A 32-byte key under RFC 3394: 8 bytes more.
const WRAPPED_LEN: usize = 40;
const CANARY_AAD: &[u8] = b"claviger/v1/canary";
const CANARY: &[u8] = b"still singing";

/// A session of a token, with the roots that it may use.
pub(super) struct Pkcs11Token {
    // Before `_library`, because sessions close before their library goes.
    session: Session,
    _library: Arc<Library>,
    epoch: u64,
    derivation: Derivation,
    format: WrapFormat,
    roots: Roots,
    objects: Objects,
    canary: Option<Vec<u8>>,
}

impl Pkcs11Token {
    /// `lane` tells this session's objects from those of the member's other lanes.
    ///
    /// # Errors
    /// Where the current root can't seal.
    pub(super) fn new(
        session: Session,
        library: Arc<Library>,
        profile: &Profile,
        roots: Roots,
        epoch: u64,
        lane: u8,
    ) -> Result<Self, HsmError> {
        let format = match profile.wrap {
            Wrap::AesKw => WrapFormat::AesKw,
        };
        let mut token = Self {
            session,
            _library: library,
            epoch,
            derivation: profile.derivation,
            format,
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

    fn handle(&self, object: ObjectId) -> Result<ObjectHandle, HsmError> {
        if object.epoch != self.epoch {
            return Err(HsmError::ObjectGone);
        }
        self.objects.get(object.handle).ok_or(HsmError::ObjectGone)
    }

    /// Gives a new object its number; one that can't have a number is destroyed.
    fn keep(&mut self, handle: ObjectHandle) -> Result<Answer, HsmError> {
        if let Some(number) = self.objects.insert(handle) {
            return Ok(Answer::Object(ObjectId { epoch: self.epoch, handle: number }));
        }
        self.session.destroy_object(handle).map_err(|e| failed(&e))?;
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
        let opened = calls::gcm_open(&self.session, root.seal, nonce, CANARY_AAD, sealed);
        match opened {
            Ok(text) if text == CANARY => Ok(()),
            Ok(_) => Err(HsmError::Unavailable("the token computes something else".to_owned())),
            // A known ciphertext that no longer opens is the token's fault, whatever it says.
            Err(error) => Err(HsmError::Unavailable(super::failure::describe(&error))),
        }
    }

    fn generate(&mut self, spec: KeySpec, template: Template) -> Result<Answer, HsmError> {
        if spec != KeySpec::Aes256 {
            return Err(HsmError::Unsupported(format!("{spec} keys are not in this version")));
        }
        self.check_template(template)?;
        let (generation, root) = self.roots.current()?;
        let passing = template::passing_key(Usage::of(template));
        let key = self.session.generate_key(&Mechanism::AesKeyGen, &passing).map_err(|e| failed(&e))?;
        let made = self.export(root.wrap, key, template);
        // Extractable for as long as this call; if it can't be destroyed, the material
        // is not used.
        self.session.destroy_object(key).map_err(|e| failed(&e))?;
        let (blob, check_value) = made?;
        let wrapped = Wrapped { format: self.format, generation, blob };
        Ok(Answer::Generated { wrapped, check_value })
    }

    fn export(
        &self,
        root: ObjectHandle,
        key: ObjectHandle,
        template: Template,
    ) -> Result<(Vec<u8>, CheckValue), HsmError> {
        let check_value = check_value::compute(&self.session, key, template)?;
        let blob = self.session.wrap_key(&wrapping(self.format), root, key).map_err(|e| failed(&e))?;
        if blob.len() != WRAPPED_LEN {
            return Err(HsmError::Fault(format!("the token wrapped a key into {} bytes", blob.len())));
        }
        Ok((blob, check_value))
    }

    fn unwrap(
        &mut self,
        wrapped: &Wrapped,
        template: Template,
        expected: CheckValue,
    ) -> Result<Answer, HsmError> {
        self.check_template(template)?;
        let root = self.roots.generation(wrapped.generation)?;
        if wrapped.blob.len() != WRAPPED_LEN {
            return Err(HsmError::CheckValueMismatch);
        }
        let attributes = template::session_key(Usage::of(template));
        let key = self
            .session
            .unwrap_key(&wrapping(wrapped.format), root.wrap, &wrapped.blob, &attributes)
            .map_err(|e| self.judge(&e, Doing::Unwrapping, HsmError::CheckValueMismatch))?;
        match check_value::compute(&self.session, key, template) {
            Ok(found) if found == expected => self.keep(key),
            other => {
                self.session.destroy_object(key).map_err(|e| failed(&e))?;
                other.and(Err(HsmError::CheckValueMismatch))
            }
        }
    }

    fn check_template(&self, template: Template) -> Result<(), HsmError> {
        match (template, self.derivation) {
            (Template::AesDeriveOnly, Derivation::None) => {
                Err(HsmError::Unsupported("the profile has no derivation".to_owned()))
            }
            (Template::AesDeriveOnly, Derivation::CbcEncryptData) | (Template::AesDirect, _) => Ok(()),
        }
    }

    fn derive(&mut self, object: ObjectId, salt: &[u8; 16]) -> Result<Answer, HsmError> {
        self.check_template(Template::AesDeriveOnly)?;
        if *salt == RESERVED_SALT {
            return Err(HsmError::Fault("the salt of check values was asked for".to_owned()));
        }
        let key = self.handle(object)?;
        let subkey = calls::derive(&self.session, key, salt).map_err(|e| self.using(object, &e))?;
        self.keep(subkey)
    }

    fn gcm_seal(
        &mut self,
        object: ObjectId,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        plaintext: &[u8],
    ) -> Result<Answer, HsmError> {
        let key = self.handle(object)?;
        let sealed = calls::gcm_seal_raw(&self.session, key, nonce, aad, plaintext)
            .map_err(|e| self.using(object, &e))??;
        Ok(Answer::Bytes(sealed.into()))
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

    fn gcm_open(
        &mut self,
        object: ObjectId,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Answer, HsmError> {
        let key = self.handle(object)?;
        if sealed.len() < TAG_LEN {
            return Err(HsmError::AuthenticationFailed);
        }
        let opened = calls::gcm_open(&self.session, key, nonce, aad, sealed).map(SecretBytes::new);
        let opened = opened.map_err(|e| self.judge(&e, Doing::Opening, HsmError::AuthenticationFailed));
        if opened == Err(HsmError::ObjectGone) {
            self.objects.remove(object.handle);
        }
        opened.map(Answer::Bytes)
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
        let opened = calls::gcm_open(&self.session, root.seal, nonce, aad, sealed)
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
        let Some(handle) = self.objects.remove(object.handle) else { return Ok(Answer::Done) };
        match self.session.destroy_object(handle).map_err(|e| classify(&e, Doing::Using)) {
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
            Command::Generate { spec, template } => self.generate(*spec, *template),
            Command::Unwrap { wrapped, template, check_value } => {
                self.unwrap(wrapped, *template, *check_value)
            }
            Command::Derive { object, salt } => self.derive(*object, salt),
            Command::GcmSeal { object, nonce, aad, plaintext } => {
                self.gcm_seal(*object, *nonce, aad, plaintext.expose())
            }
            Command::GcmOpen { object, nonce, aad, sealed } => self.gcm_open(*object, *nonce, aad, sealed),
            Command::RootSeal { aad, plaintext } => {
                self.root_seal(aad, plaintext.expose()).map(|sealed| Answer::Bytes(sealed.into()))
            }
            Command::RootOpen { aad, sealed } => self.root_open(aad, sealed),
            Command::Destroy { object } => self.destroy(*object),
            Command::Canary => self.sings().map(|()| Answer::Done),
        }
    }
}
