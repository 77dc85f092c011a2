//! What making a new root and restoring an old one have in common: their errors, their
//! steps, and the hand-over of the two keys into every slot of a member.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use claviger_hsm_profiles::{OaepHash, Profile, Quirk};
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use super::RootId;
use super::command::{Answer, Command, HsmError, Token};
use super::domain::DomainError;
use super::failure::failed;
use super::handover;
use super::login::{LoggedIn, Opened};
use super::member::{self, OpenError};
use super::pkcs11::Pkcs11Token;
use super::probe::ProbeReport;
use super::roots::{Role, Roots};
use super::template;
use crate::config::{Config, MemberConfig};
use claviger_protocol::KeySpec;

/// Why a root can't be made or restored. Nothing of worth is left half-made: calling
/// it again removes what is left and starts over.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// There is a domain already, or a recovery file of one: a second root would make
    /// its keys unreadable, or overwrite the way back to them.
    #[error("{}: there is, or was, a domain already", .0.display())]
    Exists(PathBuf),
    /// The token holds the root already: nothing to restore.
    #[error("the token holds the root already")]
    Held,
    /// The configuration has no member, or several.
    #[error("expected one [[hsm]] in the configuration, it has {0}")]
    Members(usize),
    /// A key file of a recovery recipient.
    #[error("{}: {reason}", path.display())]
    Recipient {
        /// The file.
        path: PathBuf,
        /// What was expected.
        reason: String,
    },
    /// The recovery file, or that it doesn't fit domain or key.
    #[error("{}: {reason}", path.display())]
    Recovery {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The member can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The token failed.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// The domain file.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// Another file.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file, or its directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// No randomness for a new id.
    #[error("the random number generator failed")]
    NoEntropy,
    /// The caller stopped it after this step.
    #[error("stopped after {0:?}")]
    Stopped(Step),
}

/// What has just become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The intent is written; nothing is in the token yet.
    Intent,
    /// One more root key is in a slot.
    RootKey,
    /// The recovery file is written.
    Recovery,
    /// The domain file is written; only the intent is left to be removed.
    Domain,
}

/// Told of each step; [`ControlFlow::Break`] stops there, as a kill would.
pub type Progress<'a> = &'a mut dyn FnMut(Step) -> ControlFlow<()>;

pub(super) fn tell(progress: Progress<'_>, step: Step) -> Result<(), RootError> {
    match progress(step) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(RootError::Stopped(step)),
    }
}

pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> RootError + '_ {
    |error| RootError::Io { path: path.to_owned(), error }
}

/// The one member that this version knows.
pub(super) fn only_member(config: &Config) -> Result<&MemberConfig, RootError> {
    match config.hsm.as_slice() {
        [member] => Ok(member),
        several => Err(RootError::Members(several.len())),
    }
}

/// A root key that arrives wrapped in OAEP, unwrapped to stay in a token.
pub(super) fn settle(
    session: &Session,
    profile: &Profile,
    hash: OaepHash,
    private: ObjectHandle,
    blob: &[u8],
    root: RootId,
    role: Role,
) -> Result<(), HsmError> {
    let modifiable = profile.has(Quirk::UnwrapsModifiable);
    let attributes = template::root_key(role.usage(), &root.object_id(role), &root.label(role), modifiable);
    let settled = session.unwrap_key(&handover::oaep(hash), private, blob, &attributes);
    settled.map(drop).map_err(|e| failed(&e))
}

/// A token's session with the root, to seal and to open with.
pub(super) fn station(
    opened: &Opened,
    token: &LoggedIn,
    profile: &Profile,
    root: RootId,
) -> Result<Pkcs11Token, RootError> {
    let session = opened.session(token)?;
    let roots = Roots::find(&session, &root)?;
    let library = Arc::clone(&opened.library);
    Ok(Pkcs11Token::new(session, library, (profile, &ProbeReport::promised(profile)), roots, 0, 0)?)
}

/// Whether every slot holds the same root: each opens what the first has sealed and
/// wrapped.
pub(super) fn agree(opened: &Opened, profile: &Profile, root: RootId) -> Result<(), RootError> {
    let mut first = station(opened, opened.serve(), profile, root)?;
    let aad = b"claviger/v1/hand-over".to_vec();
    let seal = Command::RootSeal { aad: aad.clone(), plaintext: vec![1; 16].into() };
    let Answer::Bytes(sealed) = first.execute(&seal)? else { return Err(unexpected()) };
    let template = member::aes_template(profile);
    let generate = Command::Generate { spec: KeySpec::Aes256, template };
    let Answer::Generated { wrapped, check_value } = first.execute(&generate)? else {
        return Err(unexpected());
    };
    for token in opened.tokens() {
        let mut station = station(opened, token, profile, root)?;
        station.execute(&Command::RootOpen { aad: aad.clone(), sealed: sealed.expose().to_vec() })?;
        let unwrap =
            Command::Unwrap { wrapped: wrapped.clone(), spec: KeySpec::Aes256, template, check_value };
        let Answer::Object(object) = station.execute(&unwrap)? else { return Err(unexpected()) };
        station.execute(&Command::Destroy { object })?;
    }
    Ok(())
}

fn unexpected() -> RootError {
    HsmError::Fault("a command was answered with another's answer".to_owned()).into()
}
