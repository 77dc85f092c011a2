//! A token to be measured: sessions and session keys exactly as serving makes them,
//! without lanes, queues and records. What must not live here: clocks and figures.

use claviger_hsm_profiles::Derivation;
use claviger_protocol::blob::{BlobHeader, NONCE_LEN, authenticated_data};
use claviger_protocol::{EncryptionContext, KeySpec, SecretBytes, SigningAlgorithm, Suite};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use uuid::Uuid;

use super::calls;
use super::command::{Answer, Command, HsmError, ObjectId, Template, Token};
use super::domain::{self, DomainError};
use super::failure::failed;
use super::login;
use super::making::{self, RootError, only_member};
use super::means::{Cipher, Held, Means};
use super::member::aes_template;
use super::pkcs11::Pkcs11Token;
use super::private::{self, Trouble};
use super::template::{self, Usage};
use crate::config::Config;

/// The salt of every sub-key here; any but the reserved one.
const SALT: [u8; 16] = [0x5a; 16];

/// A private key in the token, to be signed with.
pub struct Pair(Held);

/// An opened token with a key to use. Everything it makes are session objects, which
/// go with it; the token is left as it was.
pub struct Rig {
    // Before the owners, so that sessions close first.
    token: Pkcs11Token,
    session: Session,
    means: Means,
    _owners: login::Owners,
    /// The profile's name.
    pub profile: String,
    object: ObjectId,
    raw: ObjectHandle,
    aad: Vec<u8>,
    nonces: u64,
    plaintext: SecretBytes,
    sealed: Vec<u8>,
}

impl Rig {
    /// Opens the configuration's token, whose domain must have been made, with a
    /// plaintext of `size` bytes. The module is loaded into this process, whatever its
    /// isolation when it serves: what a helper costs is part of what is measured against this.
    ///
    /// # Errors
    /// As opening a member and its root.
    pub fn open(config: &Config, size: usize) -> Result<Self, RootError> {
        let header = domain::header(&config.state_dir)?.ok_or(DomainError::Missing)?;
        let member = only_member(config)?;
        let opened = login::open(member)?;
        let mut token = making::station(&opened, opened.serve(), &member.profile, header.root)?;
        let session = opened.session(opened.serve())?;
        let object = serving_key(&mut token, aes_template(&member.profile))?;
        let raw = raw_key(&session, member.profile.derivation)?;
        let ids = Uuid::nil();
        let suite = Suite::HsmAes256Derived;
        let nonce = [0; NONCE_LEN];
        let prefix = BlobHeader { suite, key_id: ids, version_id: ids, salt: &SALT, nonce }.prefix(0);
        let mut rig = Self {
            token,
            session,
            means: Means::of(&member.profile),
            _owners: opened.into_owners(),
            profile: member.profile.name.clone(),
            object,
            raw,
            aad: authenticated_data(&prefix, &EncryptionContext::default()),
            nonces: 0,
            plaintext: SecretBytes::new(vec![0x5a; size]),
            sealed: Vec::new(),
        };
        rig.sealed =
            calls::gcm_seal(&rig.session, rig.raw, [0xff; NONCE_LEN], &rig.aad, rig.plaintext.expose())?;
        Ok(rig)
    }

    /// AES-GCM by PKCS#11 alone, under a session key: what the token can do without us.
    pub fn encrypt(&mut self) -> Result<(), HsmError> {
        let nonce = self.next_nonce();
        calls::gcm_seal(&self.session, self.raw, nonce, &self.aad, self.plaintext.expose()).map(drop)
    }

    /// The reverse, of one ciphertext.
    pub fn decrypt(&mut self) -> Result<(), HsmError> {
        let opened =
            calls::gcm_open(&self.session, Cipher::Aes, self.raw, [0xff; NONCE_LEN], &self.aad, &self.sealed);
        opened.map(|plaintext| drop(SecretBytes::new(plaintext))).map_err(|error| failed(&error))
    }

    /// Random bytes from the token.
    pub fn random(&mut self) -> Result<SecretBytes, HsmError> {
        let length = u32::try_from(self.plaintext.len()).unwrap_or(u32::MAX);
        self.session.generate_random_vec(length).map(SecretBytes::new).map_err(|error| failed(&error))
    }

    /// The same as [`Rig::encrypt`] as the daemon has it done: a [`Command`] to the
    /// lane's token, under an unwrapped key's sub-key.
    pub fn command(&mut self) -> Result<(), HsmError> {
        let (nonce, aad) = (self.next_nonce(), self.aad.clone());
        let plaintext = self.plaintext.clone();
        let command = Command::GcmSeal { object: self.object, nonce, aad, plaintext };
        self.token.execute(&command).map(drop)
    }

    /// A new pair that signs, made as the daemon makes its own.
    ///
    /// # Errors
    /// `Unsupported` where the token can't hold one.
    pub fn pair(&self, spec: KeySpec) -> Result<Pair, HsmError> {
        let template = match spec {
            KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => Template::RsaSign,
            KeySpec::Sm2 => Template::Sm2Sign,
            _ => Template::EcSign,
        };
        let mechanism = self.means.generation(spec)?;
        let (public, private) = template::passing_pair(&self.means, spec, template)?;
        let made = self.session.generate_key_pair(&mechanism, &public, &private);
        let (_, handle) = made.map_err(|error| failed(&error))?;
        Ok(Pair(Held { handle, spec, template }))
    }

    /// A key that makes MACs, made and unwrapped as the daemon does.
    pub fn mac_key(&mut self, spec: KeySpec) -> Result<ObjectId, HsmError> {
        unwrapped_key(&mut self.token, spec, Template::HmacSecret)
    }

    /// A MAC by the token's own mechanism.
    pub fn mac(&mut self, spec: KeySpec, object: ObjectId, message: &SecretBytes) -> Result<(), HsmError> {
        let algorithm = spec.mac_algorithm().ok_or_else(private::unfit)?;
        let command = Command::Mac { object, algorithm, message: message.clone() };
        self.token.execute(&command).map(drop)
    }

    /// A signature of a digest: C_SignInit and C_Sign, and what brings it to the one form.
    pub fn sign(&self, pair: &Pair, algorithm: SigningAlgorithm, digest: &[u8]) -> Result<(), HsmError> {
        private::sign(&self.session, &self.means, &pair.0, algorithm, digest).map(drop).map_err(|trouble| {
            match trouble {
                Trouble::Token(error) => failed(&error),
                Trouble::Known(error) => error,
            }
        })
    }

    /// Counted up: each is used once under keys that nobody else has.
    fn next_nonce(&mut self) -> [u8; NONCE_LEN] {
        self.nonces += 1;
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.nonces.to_le_bytes());
        nonce
    }
}

/// What a key's first use makes of it: unwrapped and, where the profile derives, the
/// sub-key of a salt.
fn serving_key(token: &mut Pkcs11Token, template: Template) -> Result<ObjectId, HsmError> {
    let object = unwrapped_key(token, KeySpec::Aes256, template)?;
    if template == Template::AesDirect {
        return Ok(object);
    }
    match token.execute(&Command::Derive { object, salt: SALT })? {
        Answer::Object(object) => Ok(object),
        _ => Err(other_answer()),
    }
}

/// A new secret key, wrapped and unwrapped.
fn unwrapped_key(token: &mut Pkcs11Token, spec: KeySpec, template: Template) -> Result<ObjectId, HsmError> {
    let generated = token.execute(&Command::Generate { spec, template })?;
    let Answer::Generated { wrapped, check_value } = generated else { return Err(other_answer()) };
    match token.execute(&Command::Unwrap { wrapped, spec, template, check_value })? {
        Answer::Object(object) => Ok(object),
        _ => Err(other_answer()),
    }
}

fn other_answer() -> HsmError {
    HsmError::Fault("a command was answered with another's answer".to_owned())
}

/// A session key of the same kind, made without our commands.
fn raw_key(session: &Session, derivation: Derivation) -> Result<ObjectHandle, HsmError> {
    let generate = |usage| {
        session
            .generate_key(&Mechanism::AesKeyGen, &template::derived_key(usage))
            .map_err(|error| failed(&error))
    };
    match derivation {
        Derivation::None => generate(Usage::ENCRYPT),
        Derivation::CbcEncryptData => {
            let parent = generate(Usage::of(Template::AesDeriveOnly))?;
            calls::derive(session, parent, &SALT).map_err(|error| failed(&error))
        }
    }
}
