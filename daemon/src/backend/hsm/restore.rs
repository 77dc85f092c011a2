//! Restoring a domain's root into a new token: the recipient's private key goes into the
//! token as a session object, and the root's keys are unwrapped there to stay. The
//! daemon never sees them.

use std::path::Path;

use super::command::{Command, HsmError, Token};
use super::domain::{self, DomainError};
use super::embedded;
use super::intent::{Intent, Purpose};
use super::login::{self, LoggedIn, Opened};
use super::making::{self, Progress, RootError, Step, io_error, only_member, tell};
use super::recovery::{RecoveryFile, RecoveryKey, Share};
use super::roots::Role;
use super::scrap::Scrap;
use crate::config::{Config, MemberConfig};
use crate::edge::Edge;

/// Puts the root that the domain file names back into the configured member. Blocks;
/// the daemon must not run. The domain file must be there; it decides whether what was
/// restored is the root.
///
/// # Errors
/// [`RootError::Held`] where the token has the root; [`RootError::Recovery`] where the
/// file is another domain's, isn't wrapped to this key, or gives another root.
pub fn restore(
    config: &Config,
    recovery_file: &Path,
    private_key: &Path,
    edge: &Edge,
    progress: Progress<'_>,
) -> Result<(), RootError> {
    let state_dir = config.state_dir.as_path();
    let member = only_member(config)?;
    let root = domain::header(state_dir)?.ok_or(DomainError::Missing)?.root;
    let file = RecoveryFile::load(recovery_file)?;
    let misfit =
        |reason: &str| RootError::Recovery { path: recovery_file.to_owned(), reason: reason.to_owned() };
    if file.root() != root {
        return Err(misfit("it is of another domain or another root generation"));
    }
    let key = RecoveryKey::load(private_key)?;
    let share = file.share(&key.fingerprint).ok_or_else(|| misfit("nothing in it is wrapped to this key"))?;
    embedded::make(member, config.dev, &edge.entropy)?;
    let opened = login::open(member)?;
    if opens(state_dir, &opened, member)?.is_ok() {
        Intent::remove(state_dir).map_err(io_error(state_dir))?;
        return Err(RootError::Held);
    }
    let intent = Intent { purpose: Purpose::Restore, root };
    undo_former(state_dir, &opened, intent)?;
    intent.write(state_dir).map_err(io_error(state_dir))?;
    tell(progress, Step::Intent)?;
    for token in opened.tokens() {
        settle(token, member, &key, share, intent, progress)?;
    }
    if let Err(error) = making::agree(&opened, &member.profile, root)
        .and_then(|()| opens(state_dir, &opened, member)?.map_err(RootError::Hsm))
    {
        tracing::warn!(%error, "the restored root is not the domain's");
        undo_former(state_dir, &opened, intent)?;
        return Err(misfit("what it holds is not this domain's root"));
    }
    Intent::remove(state_dir).map_err(io_error(state_dir))
}

/// Whether every slot's root opens the domain file.
fn opens(
    state_dir: &Path,
    opened: &Opened,
    member: &MemberConfig,
) -> Result<Result<(), HsmError>, RootError> {
    for token in opened.tokens() {
        let header = domain::header(state_dir)?.ok_or(DomainError::Missing)?;
        let mut station = making::station(opened, token, &member.profile, header.root)?;
        let run = |command: Command| station.execute(&command);
        if let Err(error) = domain::try_open(state_dir, run)? {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

/// Removes what a former attempt left; keys that nobody meant to put there stay.
fn undo_former(state_dir: &Path, opened: &Opened, intent: Intent) -> Result<(), RootError> {
    if Intent::read(state_dir).map_err(io_error(state_dir))? != Some(intent) {
        return Ok(());
    }
    for token in opened.tokens() {
        intent.undo(&token.owner)?;
    }
    Intent::remove(state_dir).map_err(io_error(state_dir))
}

fn settle(
    token: &LoggedIn,
    member: &MemberConfig,
    key: &RecoveryKey,
    share: &Share,
    intent: Intent,
    progress: Progress<'_>,
) -> Result<(), RootError> {
    let scrap = Scrap::new(&token.owner);
    let private = scrap.keep(key.import(&token.owner).map(Ok)?)?;
    for (role, blob) in [(Role::Wrap, &share.wrap), (Role::Seal, &share.seal)] {
        let session = &token.owner;
        making::settle(session, &member.profile, share.oaep_hash, private, blob, intent.root, role)?;
        tell(progress, Step::RootKey)?;
    }
    Ok(scrap.clear()?)
}
