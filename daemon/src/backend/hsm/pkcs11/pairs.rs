//! Key pairs: the private key in the token, the public key outside.

use claviger_protocol::{EncryptionAlgorithm, KeySpec, SigningAlgorithm};
use cryptoki::object::ObjectHandle;

use super::super::command::{Answer, HsmError, ObjectId, Template, WrapFormat, Wrapped};
use super::super::failure::{Doing, failed};
use super::super::means::Held;
use super::super::private::{self, Trouble};
use super::super::template;
use super::{Pkcs11Token, wrapping};
use crate::backend::software::PublicKey;

/// Longest wrapped private key, in bytes: RSA-4096's PKCS#8 takes 2,400.
pub(super) const MAX_WRAPPED: usize = 4096;

impl Pkcs11Token {
    pub(super) fn generate_pair(&mut self, spec: KeySpec, template: Template) -> Result<Answer, HsmError> {
        self.check_template(spec, template)?;
        let (generation, root) = self.roots.current()?;
        let (public, private) = template::passing_pair(&self.means, spec, template)?;
        let mechanism = self.means.generation(spec)?;
        let (public, private) =
            self.session.generate_key_pair(&mechanism, &public, &private).map_err(|e| failed(&e))?;
        let made = self.export_pair(root.wrap, (public, private), spec);
        // Extractable for as long as this call; if it can't be destroyed, the material
        // is not used.
        let gone = [private, public].map(|object| self.session.destroy_object(object));
        gone.into_iter().collect::<Result<(), _>>().map_err(|e| failed(&e))?;
        let (blob, public_key) = made?;
        let wrapped = Wrapped { format: WrapFormat::AesKwp, generation, blob };
        // A pair is nobody's before it has come back from its wrap once.
        let back = self.unwrapped(&wrapped, spec, template, &public_key).map_err(|error| match error {
            HsmError::CheckValueMismatch => {
                HsmError::Fault("a new pair did not come back from its wrap".to_owned())
            }
            error => error,
        })?;
        self.session.destroy_object(back.handle).map_err(|e| failed(&e))?;
        Ok(Answer::GeneratedPair { wrapped, public_key })
    }

    fn export_pair(
        &self,
        root: ObjectHandle,
        (public, private): (ObjectHandle, ObjectHandle),
        spec: KeySpec,
    ) -> Result<(Vec<u8>, Vec<u8>), HsmError> {
        let public_key = private::public_key(&self.session, public, spec)?;
        let mechanism = wrapping(WrapFormat::AesKwp);
        let blob = self.session.wrap_key(&mechanism, root, private).map_err(|e| failed(&e))?;
        Ok((blob, public_key))
    }

    pub(super) fn unwrap_pair(
        &mut self,
        wrapped: &Wrapped,
        spec: KeySpec,
        template: Template,
        public_key: &[u8],
    ) -> Result<Answer, HsmError> {
        self.check_template(spec, template)?;
        let key = self.unwrapped(wrapped, spec, template, public_key)?;
        self.keep(key)
    }

    /// A private key that was unwrapped and is the public key's.
    pub(super) fn unwrapped(
        &self,
        wrapped: &Wrapped,
        spec: KeySpec,
        template: Template,
        public_key: &[u8],
    ) -> Result<Held, HsmError> {
        let root = self.roots.generation(wrapped.generation)?;
        let public = PublicKey::from_spki(public_key).ok().filter(|key| key.spec() == spec.pair());
        let length = wrapped.blob.len();
        let wraps = wrapped.format == WrapFormat::AesKwp && length.is_multiple_of(8) && length <= MAX_WRAPPED;
        let Some(public) = public.filter(|_| wraps) else { return Err(HsmError::CheckValueMismatch) };
        let attributes = template::unwrapped_private(&self.means, spec, template)?;
        let handle = self
            .session
            .unwrap_key(&wrapping(wrapped.format), root.wrap, &wrapped.blob, &attributes)
            .map_err(|e| self.judge(&e, Doing::Unwrapping, HsmError::CheckValueMismatch))?;
        let key = Held { handle, spec, template };
        let error = match private::belongs(&self.session, &self.means, &key, &public) {
            Ok(true) => return Ok(key),
            // Another kind of key makes signatures of another length: a fault elsewhere.
            Ok(false) | Err(Trouble::Known(HsmError::AuthenticationFailed | HsmError::Fault(_))) => {
                HsmError::CheckValueMismatch
            }
            Err(Trouble::Known(error)) => error,
            // Another pair's key may refuse the challenge, and so may a token that fails.
            Err(Trouble::Token(error)) => self.judge(&error, Doing::Unwrapping, HsmError::CheckValueMismatch),
        };
        self.session.destroy_object(handle).map_err(|e| failed(&e))?;
        Err(error)
    }

    pub(super) fn sign(
        &mut self,
        object: ObjectId,
        algorithm: SigningAlgorithm,
        digest: &[u8],
    ) -> Result<Answer, HsmError> {
        let key = self.held(object)?;
        let signature = private::sign(&self.session, &self.means, &key, algorithm, digest);
        let signature = signature.map_err(|trouble| self.troubled(object, trouble, Doing::Using))?;
        Ok(Answer::Bytes(signature.into()))
    }

    pub(super) fn decrypt(
        &mut self,
        object: ObjectId,
        algorithm: EncryptionAlgorithm,
        ciphertext: &[u8],
    ) -> Result<Answer, HsmError> {
        let key = self.held(object)?;
        let opened = private::decrypt(&self.session, &self.means, &key, algorithm, ciphertext);
        opened.map(Answer::Bytes).map_err(|trouble| self.troubled(object, trouble, Doing::Opening))
    }
}
