//! Material that its owner brings. Wherever the token can, it is unwrapped inside, and never
//! in the clear outside; otherwise it goes in under a key that is made for that alone.
//! Extractable for as long as one command; if it can't be destroyed, it isn't used.

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap, KeyWrapPadded};
use claviger_hsm_profiles::MechanismUse;
use claviger_protocol::{ImportAlgorithm, KeySpec, SecretBytes};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectHandle};
use zeroize::{Zeroize, Zeroizing};

use super::super::command::{Answer, HsmError, Template, WrapFormat, Wrapped, WrappingKey};
use super::super::failure::{Doing, describe, failed};
use super::super::means::Held;
use super::super::private::{self, Trouble, modulus_len};
use super::super::scrap::Scrap;
use super::super::template::{self, Usage};
use super::super::wrapping::{self, Does};
use super::super::{check_value, import_value};
use super::pairs::MAX_WRAPPED;
use super::{Pkcs11Token, wrapping as wrap_mechanism};
use crate::backend::import::secret_lengths;
use crate::backend::software::PublicKey;

/// Bytes of the key that wraps the material in layouts of two steps.
const AES_LEN: usize = 32;

/// What an object is to become.
type Kind = (KeySpec, Template);

/// Bytes of a secret, as far as a token tells, and how it wraps it.
struct Size {
    least: usize,
    most: usize,
    format: WrapFormat,
}

/// Why material didn't come in.
enum Refusal {
    /// The token can't, or must not: nothing was done.
    NotInside,
    Known(HsmError),
}

impl From<HsmError> for Refusal {
    fn from(error: HsmError) -> Self {
        Self::Known(error)
    }
}

fn wrong() -> Refusal {
    HsmError::AuthenticationFailed.into()
}

impl Pkcs11Token {
    pub(super) fn import(
        &self,
        key: &WrappingKey,
        algorithm: ImportAlgorithm,
        block: &[u8],
        inner: Option<&[u8]>,
        kind: Kind,
    ) -> Result<Answer, HsmError> {
        self.check_template(kind.0, kind.1)?;
        // Private keys on a curve don't show their point, and without it nobody knows whose they are.
        let shown = kind.0.pair().is_none() || modulus_len(kind.0).is_some();
        let told_apart = kind.0 != KeySpec::Aes256 || self.report.passed(MechanismUse::AesCmac);
        let mechanism = wrapping::inside(&self.means, &self.report, algorithm);
        let mechanism = mechanism.filter(|_| shown && told_apart);
        let Some(mechanism) = mechanism else { return Ok(Answer::NotInside) };
        let scrap = Scrap::new(&self.session);
        let wrapping = self.wrapping_key(&scrap, key, Does::Unwrap, &mechanism)?;
        let arrived = match inner {
            None => self.arrive(&scrap, &mechanism, wrapping, block, &self.passing(kind)?),
            Some(inner) => self.arrive_inside(&scrap, (&mechanism, wrapping, block), inner, kind),
        };
        let concluded = arrived.and_then(|handle| match kind.0.pair() {
            None => self
                .format(handle, kind.0)
                .and_then(|format| self.conclude_secret(&scrap, handle, kind, format)),
            Some(_) => self.conclude_shown(&scrap, handle, kind),
        });
        match concluded {
            Ok(answer) => Ok(answer),
            Err(Refusal::NotInside) => scrap.clear().map(|()| Answer::NotInside),
            Err(Refusal::Known(error)) => scrap.clear().and(Err(error)),
        }
    }

    pub(super) fn open_block(
        &self,
        key: &WrappingKey,
        algorithm: ImportAlgorithm,
        block: &[u8],
    ) -> Result<Answer, HsmError> {
        let scrap = Scrap::new(&self.session);
        let opened = if key.spec == KeySpec::Sm2 {
            let algorithm = claviger_protocol::EncryptionAlgorithm::Sm2Pke;
            self.check_template(key.spec, Template::Sm2Decrypt)?;
            let held = self.unwrapped(&key.wrapped, key.spec, Template::Sm2Decrypt, &key.public_key)?;
            scrap.keep(Ok(held.handle))?;
            private::decrypt(&self.session, &self.means, &held, algorithm, block)
        } else {
            let way = wrapping::outside(&self.means, &self.report, algorithm)?;
            let handle = self.wrapping_key(&scrap, key, way.does, &way.mechanism)?;
            if Some(block.len()) != modulus_len(key.spec) {
                return scrap.clear().and(Err(HsmError::AuthenticationFailed));
            }
            wrapping::open(&self.session, &way, handle, block)
        };
        let opened = opened.map(Answer::Bytes).map_err(|trouble| match trouble {
            Trouble::Known(error) => error,
            Trouble::Token(error) => self.about_what_was_sent(&error),
        });
        scrap.clear().and(opened)
    }

    pub(super) fn adopt(
        &self,
        material: &SecretBytes,
        kind: Kind,
        public_key: &[u8],
    ) -> Result<Answer, HsmError> {
        self.check_template(kind.0, kind.1)?;
        let pair = kind.0.pair().is_some();
        if !pair && !secret_lengths(kind.0).contains(&material.len()) {
            return Err(HsmError::Fault("material of a wrong length was to be adopted".to_owned()));
        }
        let scrap = Scrap::new(&self.session);
        let (format, under, blob) = self.under_new_key(&scrap, material, kind.0)?;
        let attributes = self.passing(kind)?;
        let handle = self.session.unwrap_key(&wrap_mechanism(format), under, &blob, &attributes);
        let handle = scrap.keep(handle)?;
        let concluded = if pair {
            self.conclude_pair(&scrap, handle, kind, public_key.to_vec())
        } else {
            self.conclude_secret(&scrap, handle, kind, format)
        };
        concluded.map_err(|refusal| match refusal {
            Refusal::Known(HsmError::AuthenticationFailed) => {
                HsmError::Fault("the token made another key of the material".to_owned())
            }
            Refusal::Known(error) => error,
            Refusal::NotInside => HsmError::Fault("material was adopted and yet not inside".to_owned()),
        })
    }

    /// Material as stored keys come in: wrapped, under a key that lives as long as `scrap`. A
    /// secret for HMAC is filled up with zeros, as HMAC itself would do (RFC 2104): RFC 3394
    /// wraps multiples of 8 bytes, and some tokens take no key shorter than the hash.
    fn under_new_key(
        &self,
        scrap: &Scrap<'_>,
        material: &SecretBytes,
        spec: KeySpec,
    ) -> Result<(WrapFormat, ObjectHandle, Vec<u8>), HsmError> {
        let broken = |_| HsmError::Fault("AWS-LC's AES key wrap failed".to_owned());
        let key = Zeroizing::new(self.random::<AES_LEN>()?);
        let attributes = template::known_key(Usage::WRAP, &*key, false);
        let made = self.session.create_object(&attributes);
        for attribute in attributes {
            if let Attribute::Value(mut value) = attribute {
                value.zeroize();
            }
        }
        let under = scrap.keep(made)?;
        let kek = AesKek::new(&AES_256, &*key).map_err(broken)?;
        let least = spec.secret_len().unwrap_or_default();
        let filled_len = material.len().max(least).next_multiple_of(8);
        let mut blob = vec![0; filled_len + 8];
        if spec.pair().is_some() {
            let length = kek.wrap_with_padding(material.expose(), &mut blob).map_err(broken)?.len();
            blob.truncate(length);
            return Ok((WrapFormat::AesKwp, under, blob));
        }
        let mut filled = Zeroizing::new(vec![0; filled_len]);
        filled[..material.len()].copy_from_slice(material.expose());
        let length = kek.wrap(&filled, &mut blob).map_err(broken)?.len();
        blob.truncate(length);
        Ok((WrapFormat::AesKw, under, blob))
    }

    /// A wrapping key that may do one thing.
    fn wrapping_key(
        &self,
        scrap: &Scrap<'_>,
        key: &WrappingKey,
        does: Does,
        mechanism: &Mechanism<'_>,
    ) -> Result<ObjectHandle, HsmError> {
        let root = self.roots.generation(key.wrapped.generation)?;
        if key.wrapped.format != WrapFormat::AesKwp || key.wrapped.blob.len() > MAX_WRAPPED {
            return Err(HsmError::CheckValueMismatch);
        }
        let attributes = template::wrapping_private(&self.means, key.spec, does, mechanism)?;
        let unwrap = wrap_mechanism(key.wrapped.format);
        let handle = self
            .session
            .unwrap_key(&unwrap, root.wrap, &key.wrapped.blob, &attributes)
            .map_err(|e| self.judge(&e, Doing::Unwrapping, HsmError::CheckValueMismatch))?;
        scrap.keep(Ok(handle))?;
        if private::public_key(&self.session, handle, key.spec)? == key.public_key {
            return Ok(handle);
        }
        scrap.clear().and(Err(HsmError::CheckValueMismatch))
    }

    /// Attributes of what comes in, to be wrapped once and destroyed.
    fn passing(&self, (spec, template): Kind) -> Result<Vec<Attribute>, HsmError> {
        if spec.pair().is_some() {
            return template::passing_private(&self.means, spec, template);
        }
        // Beside what it will do it makes the MAC that tells it from others.
        let mac = spec != KeySpec::Sm4;
        Ok(template::passing(self.means.key_type(spec)?, Usage { mac, ..Usage::of(template) }))
    }

    /// An object unwrapped from what was sent.
    fn arrive(
        &self,
        scrap: &Scrap<'_>,
        mechanism: &Mechanism<'_>,
        key: ObjectHandle,
        sent: &[u8],
        attributes: &[Attribute],
    ) -> Result<ObjectHandle, Refusal> {
        let handle = self.session.unwrap_key(mechanism, key, sent, attributes).map_err(|e| match &e {
            Error::NotSupported
            | Error::Pkcs11(
                RvError::MechanismInvalid | RvError::MechanismParamInvalid | RvError::FunctionNotSupported,
                _,
            ) => Refusal::NotInside,
            _ => self.about_what_was_sent(&e).into(),
        })?;
        Ok(scrap.keep(Ok(handle))?)
    }

    /// The same of what is under AES-KWP with a key that was sent.
    fn arrive_inside(
        &self,
        scrap: &Scrap<'_>,
        (mechanism, wrapping, block): (&Mechanism<'_>, ObjectHandle, &[u8]),
        inner: &[u8],
        kind: Kind,
    ) -> Result<ObjectHandle, Refusal> {
        if !self.report.passed(MechanismUse::AesKeyWrapPad) {
            return Err(Refusal::NotInside);
        }
        // Extractable, so that its length can be told.
        let under = template::passing(KeyType::AES, Usage::WRAP);
        let under = self.arrive(scrap, mechanism, wrapping, block, &under)?;
        if self.size(under)?.most != AES_LEN {
            return Err(wrong());
        }
        self.arrive(scrap, &Mechanism::AesKeyWrapPad, under, inner, &self.passing(kind)?)
    }

    /// How long an extractable secret is. Where the token doesn't say (SoftHSM2 answers 0),
    /// the length of its wrap does, to a multiple of 8: some fill keys up before they wrap.
    fn size(&self, key: ObjectHandle) -> Result<Size, HsmError> {
        let found = self.session.get_attributes(key, &[AttributeType::ValueLen]).map_err(|e| failed(&e))?;
        if let Some(Attribute::ValueLen(length)) = found.first()
            && **length != 0
        {
            let length = usize::from(*length);
            let format = if length.is_multiple_of(8) { WrapFormat::AesKw } else { WrapFormat::AesKwp };
            return Ok(Size { least: length, most: length, format });
        }
        let (_, root) = self.roots.current()?;
        let wrap = |format| self.session.wrap_key(&wrap_mechanism(format), root.wrap, key);
        let (blob, format) = match wrap(WrapFormat::AesKw) {
            Ok(blob) => (blob, WrapFormat::AesKw),
            Err(_) => {
                (wrap(WrapFormat::AesKwp).map_err(|e| self.about_what_was_sent(&e))?, WrapFormat::AesKwp)
            }
        };
        let most = blob.len().saturating_sub(8);
        Ok(Size { least: most.saturating_sub(7), most, format })
    }

    /// The format that a secret of a right length is wrapped in; not here where it can't be
    /// told from one of a wrong length, or is shorter than its hash, which tokens differ about.
    fn format(&self, key: ObjectHandle, spec: KeySpec) -> Result<WrapFormat, Refusal> {
        let (size, right) = (self.size(key)?, secret_lengths(spec));
        if size.most < *right.start()
            || size.least > *right.end()
            || size.most > right.end().next_multiple_of(8)
        {
            return Err(wrong());
        }
        // AES and SM4 compute nothing with keys of other lengths.
        let sure = spec.mac_algorithm().is_none();
        let short = spec.secret_len().is_none_or(|least| size.least < least);
        let wraps = size.format == WrapFormat::AesKw || self.report.passed(MechanismUse::AesKeyWrapPad);
        if (short && !sure) || !wraps { Err(Refusal::NotInside) } else { Ok(size.format) }
    }

    /// The one error of all that is wrong with what was sent, unless it is the token.
    fn about_what_was_sent(&self, error: &Error) -> HsmError {
        match self.sings() {
            Ok(()) => HsmError::AuthenticationFailed,
            Err(_) => HsmError::Unavailable(describe(error)),
        }
    }

    /// Checks a secret key, wraps it, and destroys everything.
    fn conclude_secret(
        &self,
        scrap: &Scrap<'_>,
        handle: ObjectHandle,
        (spec, template): Kind,
        format: WrapFormat,
    ) -> Result<Answer, Refusal> {
        let key = Held { handle, spec, template };
        let computed = check_value::compute(&self.session, &self.means, &key)
            .and_then(|check| Ok((check, import_value::compute(&self.session, &self.means, &key)?)));
        // A key of a wrong length computes nothing.
        let (check_value, value) = computed.map_err(|error| match (error, self.sings()) {
            (HsmError::Unsupported(_) | HsmError::Fault(_), Ok(())) => wrong(),
            (error, _) => error.into(),
        })?;
        let (generation, root) = self.roots.current()?;
        let blob = self.session.wrap_key(&wrap_mechanism(format), root.wrap, handle);
        let blob = blob.map_err(|e| failed(&e))?;
        scrap.clear()?;
        let wrapped = Wrapped { format, generation, blob };
        let back = self.unwrapped_secret(&wrapped, spec, template, check_value).map_err(not_back)?;
        self.session.destroy_object(back.handle).map_err(|e| failed(&e))?;
        Ok(Answer::Imported { wrapped, check_value, value })
    }

    /// Concludes with a private key that shows its public half.
    fn conclude_shown(&self, scrap: &Scrap<'_>, handle: ObjectHandle, kind: Kind) -> Result<Answer, Refusal> {
        let shown = private::public_key(&self.session, handle, kind.0);
        let public_key = shown.map_err(|_| Refusal::NotInside)?;
        let spec = PublicKey::from_spki(&public_key).ok().and_then(|key| key.spec());
        if spec == kind.0.pair() {
            return self.conclude_pair(scrap, handle, kind, public_key);
        }
        Err(wrong())
    }

    /// Wraps a private key, destroys everything, and tries it.
    fn conclude_pair(
        &self,
        scrap: &Scrap<'_>,
        handle: ObjectHandle,
        (spec, template): Kind,
        public_key: Vec<u8>,
    ) -> Result<Answer, Refusal> {
        let (generation, root) = self.roots.current()?;
        let blob = self.session.wrap_key(&wrap_mechanism(WrapFormat::AesKwp), root.wrap, handle);
        let blob = blob.map_err(|e| failed(&e))?;
        scrap.clear()?;
        let wrapped = Wrapped { format: WrapFormat::AesKwp, generation, blob };
        match self.unwrapped(&wrapped, spec, template, &public_key) {
            Ok(back) => self.session.destroy_object(back.handle).map_err(|e| failed(&e))?,
            // Numbers that make no pair.
            Err(HsmError::CheckValueMismatch) => return Err(wrong()),
            Err(error) => return Err(error.into()),
        }
        Ok(Answer::GeneratedPair { wrapped, public_key })
    }
}

fn not_back(error: HsmError) -> HsmError {
    match error {
        HsmError::CheckValueMismatch => {
            HsmError::Fault("imported material did not come back from its wrap".to_owned())
        }
        error => error,
    }
}
