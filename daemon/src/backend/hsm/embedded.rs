//! Making the embedded token: once, and safe against being killed at any step. What
//! must not live here: roots, and anything about tokens that come as modules.
//!
//! A file `making` stands in the token's directory from before the first effect until
//! after the last. While it stands, nothing of worth can be in the token: its files
//! are removed and everything starts over, so no SO PIN has to be kept for that.
//! It is put there only where the token has no files.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use claviger_embedded_token::{SLOT_MAKE, SLOT_SERVE, files};
use cryptoki::session::UserType;
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use super::failure::failed;
use super::library::{self, Library};
use super::member::OpenError;
use super::pin;
use crate::config::{MemberConfig, PinSource, TokenSource};
use crate::edge::Entropy;

const MAKING: &str = "making";

/// Whether the token in `dir` was made, to the end.
pub(super) fn is_made(dir: &Path) -> bool {
    !dir.join(MAKING).exists() && files(dir).iter().any(|file| has_content(file))
}

fn has_content(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.len() > 0)
}

/// The token's slots: the one that serves, then the one that makes keys.
pub(super) fn slots(library: &Library) -> Result<Vec<Slot>, OpenError> {
    let all = library.pkcs11.get_all_slots().map_err(|e| OpenError::from_hsm(failed(&e)))?;
    let find = |number| {
        let found = all.iter().copied().find(|slot| slot.id() == number);
        found.ok_or_else(|| OpenError::NoToken(format!("the embedded token has no slot {number}")))
    };
    Ok(vec![find(SLOT_SERVE)?, find(SLOT_MAKE)?])
}

/// Makes the embedded token where it isn't made yet; nothing happens to any other
/// member. With `create_pin`, a PIN file that is missing gets a random PIN.
///
/// # Errors
/// No PIN, unwritable directory, or whatever the token refuses. Calling it again
/// starts over.
pub fn make(config: &MemberConfig, create_pin: bool, entropy: &Entropy) -> Result<(), OpenError> {
    let TokenSource::Embedded { dir } = &config.source else { return Ok(()) };
    if is_made(dir) {
        return Ok(());
    }
    let disk = |e: io::Error| OpenError::Unavailable(format!("{}: {e}", dir.display()));
    begin(dir).map_err(disk)?;
    if create_pin && let PinSource::File(path) = &config.pin {
        pin::create(path, entropy).map_err(|e| OpenError::NoPin(format!("{}: {e}", path.display())))?;
    }
    let user_pin = pin::read(&config.pin).map_err(OpenError::NoPin)?;
    let user_pin = AuthPin::new(Box::from(user_pin.as_str()));
    let library = library::open(&config.source)?;
    for (slot, label) in slots(&library)?.into_iter().zip(["claviger-serve", "claviger-make"]) {
        initialise(&library, slot, label, &user_pin, entropy)?;
    }
    drop(library);
    fs::remove_file(dir.join(MAKING)).and_then(|()| sync(dir)).map_err(disk)
}

/// Leaves an empty directory with the mark in it.
fn begin(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    File::create(dir.join(MAKING))?.sync_all()?;
    sync(dir)?;
    for file in files(dir) {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync(dir)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// C_InitToken with an SO PIN that nobody keeps, then the user's PIN.
fn initialise(
    library: &Library,
    slot: Slot,
    label: &str,
    user_pin: &AuthPin,
    entropy: &Entropy,
) -> Result<(), OpenError> {
    let so_pin = pin::random(entropy).map_err(OpenError::NoPin)?;
    let so_pin = AuthPin::new(Box::from(so_pin.as_str()));
    let done = library.pkcs11.init_token(slot, &so_pin, label).and_then(|()| {
        let session = library.pkcs11.open_rw_session(slot)?;
        session.login(UserType::So, Some(&so_pin))?;
        session.init_pin(user_pin)?;
        session.logout()
    });
    done.map_err(|e| OpenError::from_hsm(failed(&e)))
}
