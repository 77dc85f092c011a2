//! Making a domain: a new root generation in every slot of the member, wrapped to the
//! recovery recipients, and the domain file at last. The root's two keys can be wrapped
//! only here, as session objects that are destroyed before the domain exists.

use std::path::{Path, PathBuf};

use claviger_protocol::SecretBytes;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::command::{HsmError, Token};
use super::domain::{self, DomainHeader, KEY_LEN};
use super::failure::failed;
use super::handover::{self, Receiver};
use super::intent::{Intent, Purpose};
use super::login::{self, LoggedIn, Opened};
use super::making::{self, Progress, RootError, Step, io_error, only_member, tell};
use super::recovery::{Recipient, RecoveryFile, Share};
use super::roots::Role;
use super::scrap::Scrap;
use super::template::{self, Usage};
use super::{RootId, embedded, files};
use crate::config::{Config, MemberConfig};
use crate::edge::Edge;

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitReport {
    /// The new domain.
    pub domain: Uuid,
    /// Its root generation: 1.
    pub root_generation: u32,
    /// SHA-256 of each recovery recipient's SPKI, in hexadecimal.
    pub recipients: Vec<String>,
    /// The recovery file, where there are recipients. Without one, losing the token
    /// is losing every key.
    pub recovery_file: Option<PathBuf>,
}

/// Makes the domain of a configuration. Blocks; the daemon must not run. With
/// `config.dev`, an embedded token without a PIN file gets a random PIN.
///
/// # Errors
/// [`RootError::Exists`] where there is a domain; see there for the rest.
pub fn init(
    config: &Config,
    recipients: &[PathBuf],
    edge: &Edge,
    progress: Progress<'_>,
) -> Result<InitReport, RootError> {
    let state_dir = config.state_dir.as_path();
    let member = only_member(config)?;
    refuse_second(state_dir)?;
    let recipients = recipients.iter().map(|path| Recipient::load(path)).collect::<Result<Vec<_>, _>>()?;
    files::make_dir(state_dir).map_err(io_error(state_dir))?;
    embedded::make(member, config.dev, &edge.entropy)?;
    let opened = login::open(member)?;
    undo_former(state_dir, &opened)?;

    let domain = edge.entropy.uuid().map_err(|_| RootError::NoEntropy)?;
    let root = RootId { domain, generation: 1 };
    let former = state_dir.join(RecoveryFile::name(root));
    if former.exists() {
        return Err(RootError::Exists(former));
    }
    let intent = Intent { purpose: Purpose::Init, root };
    intent.write(state_dir).map_err(io_error(state_dir))?;
    tell(progress, Step::Intent)?;
    let shares = make_root(&opened, member, root, &recipients, progress)?;
    making::agree(&opened, &member.profile, root)?;
    let recovery_file = write_recovery(state_dir, root, shares, progress)?;
    let header = DomainHeader { root, recovery_recipients: count(&recipients) };
    let key = new_domain_key(&opened)?;
    let mut station = making::station(&opened, opened.serve(), &member.profile, root)?;
    domain::create(state_dir, header, key, |command| station.execute(&command))?;
    tell(progress, Step::Domain)?;
    Intent::remove(state_dir).map_err(io_error(state_dir))?;
    let recipients = recipients.into_iter().map(|recipient| recipient.fingerprint).collect();
    Ok(InitReport { domain, root_generation: 1, recipients, recovery_file })
}

fn count(recipients: &[Recipient]) -> u16 {
    u16::try_from(recipients.len()).unwrap_or(u16::MAX)
}

/// A domain stays the only one; an intent that it has fulfilled is forgotten.
fn refuse_second(state_dir: &Path) -> Result<(), RootError> {
    let Some(header) = domain::header(state_dir)? else { return Ok(()) };
    let left = Intent::read(state_dir).map_err(io_error(state_dir))?;
    if left == Some(Intent { purpose: Purpose::Init, root: header.root }) {
        Intent::remove(state_dir).map_err(io_error(state_dir))?;
    }
    Err(RootError::Exists(state_dir.to_owned()))
}

/// Removes the root of an attempt that didn't get as far as the domain file.
fn undo_former(state_dir: &Path, opened: &Opened) -> Result<(), RootError> {
    let Some(intent) = Intent::read(state_dir).map_err(io_error(state_dir))? else { return Ok(()) };
    for token in opened.tokens() {
        intent.undo(&token.owner)?;
    }
    // A restore reads its recovery file; only an init has written one.
    if intent.purpose == Purpose::Init {
        files::remove(state_dir, &RecoveryFile::name(intent.root)).map_err(io_error(state_dir))?;
    }
    Intent::remove(state_dir).map_err(io_error(state_dir))
}

/// Makes the two keys in the first slot, hands them to every slot (the first too, so
/// that all are made alike) and wraps them to each recipient.
fn make_root(
    opened: &Opened,
    member: &MemberConfig,
    root: RootId,
    recipients: &[Recipient],
    progress: Progress<'_>,
) -> Result<Vec<Share>, RootError> {
    let source = &opened.serve().owner;
    let scrap = Scrap::new(source);
    let mut keys = Vec::new();
    for role in Role::ALL {
        let passing = template::passing_key(Usage::NONE);
        keys.push((role, scrap.keep(source.generate_key(&Mechanism::AesKeyGen, &passing))?));
    }
    for token in opened.tokens() {
        hand_over(source, token, member, root, &keys, progress)?;
    }
    let shares = recipients.iter().map(|to| share(source, member, &keys, to)).collect::<Result<_, _>>()?;
    // A root key that can still be wrapped must not outlive its making.
    scrap.clear()?;
    Ok(shares)
}

fn hand_over(
    source: &Session,
    token: &LoggedIn,
    member: &MemberConfig,
    root: RootId,
    keys: &[(Role, ObjectHandle)],
    progress: Progress<'_>,
) -> Result<(), RootError> {
    let hash = member.profile.handover.oaep_hash;
    let there = Scrap::new(&token.owner);
    let bits = u64::from(member.profile.handover.modulus_bits);
    let receiver = Receiver::generate(&token.owner, bits, &there)?;
    for (role, key) in keys {
        let blob = wrap_to(source, member, *key, &receiver.modulus, &receiver.exponent)?;
        making::settle(&token.owner, &member.profile, hash, receiver.private, &blob, root, *role)?;
        tell(progress, Step::RootKey)?;
    }
    Ok(there.clear()?)
}

fn wrap_to(
    source: &Session,
    member: &MemberConfig,
    key: ObjectHandle,
    modulus: &[u8],
    exponent: &[u8],
) -> Result<Vec<u8>, HsmError> {
    let scrap = Scrap::new(source);
    let to = scrap.keep(source.create_object(&template::wrapping_public_key(modulus, exponent)))?;
    let oaep = handover::oaep(member.profile.handover.oaep_hash);
    source.wrap_key(&oaep, to, key).map_err(|e| failed(&e))
}

fn share(
    source: &Session,
    member: &MemberConfig,
    keys: &[(Role, ObjectHandle)],
    to: &Recipient,
) -> Result<Share, HsmError> {
    let wrap = |wanted: Role| {
        let found = keys.iter().find(|(role, _)| *role == wanted);
        let (_, key) = found.ok_or_else(|| HsmError::Fault("half a root was made".to_owned()))?;
        wrap_to(source, member, *key, &to.modulus, &to.exponent)
    };
    Ok(Share {
        fingerprint: to.fingerprint.clone(),
        oaep_hash: member.profile.handover.oaep_hash,
        wrap: wrap(Role::Wrap)?,
        seal: wrap(Role::Seal)?,
    })
}

fn write_recovery(
    state_dir: &Path,
    root: RootId,
    shares: Vec<Share>,
    progress: Progress<'_>,
) -> Result<Option<PathBuf>, RootError> {
    if shares.is_empty() {
        return Ok(None);
    }
    let file = RecoveryFile::new(root, shares);
    file.write(state_dir).map_err(io_error(state_dir))?;
    tell(progress, Step::Recovery)?;
    Ok(Some(state_dir.join(RecoveryFile::name(root))))
}

/// 32 bytes of the token's generator.
fn new_domain_key(opened: &Opened) -> Result<SecretBytes, HsmError> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    opened.serve().owner.generate_random_slice(key.as_mut_slice()).map_err(|e| failed(&e))?;
    Ok(SecretBytes::new(key.to_vec()))
}
