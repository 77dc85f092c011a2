//! Secret keys: AES, SM4, HMAC secrets.

use claviger_protocol::{KeySpec, MacAlgorithm, SecretBytes};
use cryptoki::object::ObjectHandle;

use super::super::calls::{self, NONCE_LEN, TAG_LEN};
use super::super::command::{
    Answer, CheckValue, HsmError, ObjectId, RESERVED_SALT, Template, WrapFormat, Wrapped,
};
use super::super::failure::{Doing, failed};
use super::super::means::{Cipher, Held};
use super::super::private::unfit;
use super::super::{check_value, template};
use super::{Pkcs11Token, wrapping};
use crate::backend::import::secret_lengths;

/// What RFC 3394 adds to a key.
const WRAP_OVERHEAD: usize = 8;

impl Pkcs11Token {
    pub(super) fn generate_secret(&mut self, spec: KeySpec, template: Template) -> Result<Answer, HsmError> {
        self.check_template(spec, template)?;
        let (generation, root) = self.roots.current()?;
        let passing = template::passing_secret(&self.means, spec, template)?;
        let mechanism = self.means.generation(spec)?;
        let handle = self.session.generate_key(&mechanism, &passing).map_err(|e| failed(&e))?;
        let made = self.export_secret(root.wrap, &Held { handle, spec, template });
        // Extractable for as long as this call; if it can't be destroyed, the material
        // is not used.
        self.session.destroy_object(handle).map_err(|e| failed(&e))?;
        let (blob, check_value) = made?;
        let wrapped = Wrapped { format: WrapFormat::AesKw, generation, blob };
        Ok(Answer::Generated { wrapped, check_value })
    }

    fn export_secret(&self, root: ObjectHandle, key: &Held) -> Result<(Vec<u8>, CheckValue), HsmError> {
        let check_value = check_value::compute(&self.session, &self.means, key)?;
        let mechanism = wrapping(WrapFormat::AesKw);
        let blob = self.session.wrap_key(&mechanism, root, key.handle).map_err(|e| failed(&e))?;
        if Some(blob.len()) != key.spec.secret_len().map(|length| length + WRAP_OVERHEAD) {
            return Err(HsmError::Fault(format!("the token wrapped a key into {} bytes", blob.len())));
        }
        Ok((blob, check_value))
    }

    pub(super) fn unwrap_secret(
        &mut self,
        wrapped: &Wrapped,
        spec: KeySpec,
        template: Template,
        expected: CheckValue,
    ) -> Result<Answer, HsmError> {
        self.check_template(spec, template)?;
        let key = self.unwrapped_secret(wrapped, spec, template, expected)?;
        self.keep(key)
    }

    /// A secret key that was unwrapped and has the check value.
    pub(super) fn unwrapped_secret(
        &self,
        wrapped: &Wrapped,
        spec: KeySpec,
        template: Template,
        expected: CheckValue,
    ) -> Result<Held, HsmError> {
        let root = self.roots.generation(wrapped.generation)?;
        if !is_wrapped_secret(wrapped, spec) {
            return Err(HsmError::CheckValueMismatch);
        }
        let attributes = template::unwrapped_secret(&self.means, spec, template)?;
        let handle = self
            .session
            .unwrap_key(&wrapping(wrapped.format), root.wrap, &wrapped.blob, &attributes)
            .map_err(|e| self.judge(&e, Doing::Unwrapping, HsmError::CheckValueMismatch))?;
        let key = Held { handle, spec, template };
        match check_value::compute(&self.session, &self.means, &key) {
            Ok(found) if found == expected => Ok(key),
            other => {
                self.session.destroy_object(handle).map_err(|e| failed(&e))?;
                other.and(Err(HsmError::CheckValueMismatch))
            }
        }
    }

    pub(super) fn derive(&mut self, object: ObjectId, salt: &[u8; 16]) -> Result<Answer, HsmError> {
        if *salt == RESERVED_SALT {
            return Err(HsmError::Fault("the salt of check values was asked for".to_owned()));
        }
        let parent = self.held(object)?;
        if parent.template != Template::AesDeriveOnly {
            return Err(unfit());
        }
        let handle = calls::derive(&self.session, parent.handle, salt).map_err(|e| self.using(object, &e))?;
        self.keep(Held { handle, template: Template::AesDirect, ..parent })
    }

    /// The cipher of an object that encrypts messages.
    fn cipher(&self, key: &Held) -> Result<Cipher, HsmError> {
        match key.template {
            Template::AesDirect | Template::Sm4Direct => self.means.cipher(key.spec),
            _ => Err(unfit()),
        }
    }

    pub(super) fn gcm_seal(
        &mut self,
        object: ObjectId,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        plaintext: &[u8],
    ) -> Result<Answer, HsmError> {
        let key = self.held(object)?;
        let cipher = self.cipher(&key)?;
        let sealed = calls::gcm_seal_raw(&self.session, cipher, key.handle, nonce, aad, plaintext)
            .map_err(|e| self.using(object, &e))??;
        Ok(Answer::Bytes(sealed.into()))
    }

    pub(super) fn gcm_open(
        &mut self,
        object: ObjectId,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Answer, HsmError> {
        let key = self.held(object)?;
        let cipher = self.cipher(&key)?;
        if sealed.len() < TAG_LEN {
            return Err(HsmError::AuthenticationFailed);
        }
        let opened = calls::gcm_open(&self.session, cipher, key.handle, nonce, aad, sealed);
        let opened = opened
            .map(SecretBytes::new)
            .map_err(|e| self.judge(&e, Doing::Opening, HsmError::AuthenticationFailed));
        if opened == Err(HsmError::ObjectGone) {
            self.objects.remove(object.handle);
        }
        opened.map(Answer::Bytes)
    }

    pub(super) fn mac(
        &mut self,
        object: ObjectId,
        algorithm: MacAlgorithm,
        message: &[u8],
    ) -> Result<Answer, HsmError> {
        let key = self.held(object)?;
        if key.template != Template::HmacSecret || key.spec.mac_algorithm() != Some(algorithm) {
            return Err(unfit());
        }
        let mechanism = self.means.mac(algorithm)?;
        let mac = self.session.sign(&mechanism, key.handle, message).map_err(|e| self.using(object, &e))?;
        if mac.len() != algorithm.digest().len() {
            return Err(HsmError::Fault("the token's MAC has a wrong length".to_owned()));
        }
        Ok(Answer::Bytes(mac.into()))
    }
}

/// Whether a wrap can be of a spec's secret, by its format and length. Imported secrets for
/// HMAC have as many bytes as the hash or more, up to 64, and are wrapped by RFC 5649 where
/// those are no multiple of 8.
fn is_wrapped_secret(wrapped: &Wrapped, spec: KeySpec) -> bool {
    let Some(length) = wrapped.blob.len().checked_sub(WRAP_OVERHEAD) else { return false };
    let mac = spec.mac_algorithm().is_some();
    let right =
        spec.secret_len().is_some_and(|least| least <= length && length <= *secret_lengths(spec).end());
    right && length.is_multiple_of(8) && (wrapped.format == WrapFormat::AesKw || mac)
}
