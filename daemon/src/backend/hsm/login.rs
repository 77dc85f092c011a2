//! From configuration to a logged-in token: the library, the right token in it, the
//! right profile for that token, and exactly one login. What must not live here:
//! keys, lanes, and any second try with a PIN.

use std::sync::Arc;

use claviger_hsm_profiles::{Layout, Match, Profile, Quirk};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::MechanismType;
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use super::command::HsmError;
use super::failure::{describe, failed};
use super::library::{self, Library};
use super::member::OpenError;
use super::{embedded, pin};
use crate::config::{MemberConfig, TokenSelector, TokenSource};

/// A member's library and its tokens, logged in.
pub(super) struct Opened {
    // Before the library, so that sessions close first.
    tokens: Vec<LoggedIn>,
    pub(super) library: Arc<Library>,
    keep_open: bool,
}

/// A token with the session that keeps it logged in.
pub(super) struct LoggedIn {
    /// Read and write; stays open as long as the member: when the last session of a
    /// token closes, everybody is logged out.
    pub(super) owner: Session,
    slot: Slot,
}

/// What keeps a member's tokens logged in, until it is dropped.
pub(super) struct Owners {
    // Before the library, so that sessions close first.
    _sessions: Vec<Session>,
    _library: Arc<Library>,
}

impl Opened {
    /// The token that serves requests. There is always one: `slots` gives one or two.
    pub(super) fn serve(&self) -> &LoggedIn {
        &self.tokens[0]
    }

    /// The token that makes keys; the same one where the layout has one slot.
    pub(super) fn make(&self) -> &LoggedIn {
        &self.tokens[self.tokens.len() - 1]
    }

    /// Every token of the member: one or two.
    pub(super) fn tokens(&self) -> &[LoggedIn] {
        &self.tokens
    }

    /// Another session of a token, read-only: it can make session objects alone.
    pub(super) fn session(&self, token: &LoggedIn) -> Result<Session, OpenError> {
        let pkcs11 = &self.library.pkcs11;
        let opened = if self.keep_open {
            pkcs11.open_ro_session_no_drop(token.slot)
        } else {
            pkcs11.open_ro_session(token.slot)
        };
        opened.map_err(|e| OpenError::from_hsm(failed(&e)))
    }

    /// Gives up everything but what keeps the tokens logged in.
    pub(super) fn into_owners(self) -> Owners {
        let sessions = self.tokens.into_iter().map(|token| token.owner).collect();
        Owners { _sessions: sessions, _library: self.library }
    }
}

impl LoggedIn {
    /// Whether the token has a mechanism of a vendor's number.
    pub(super) fn has(&self, library: &Library, mechanism: MechanismType) -> bool {
        library.pkcs11.get_mechanism_info(self.slot, mechanism).is_ok()
    }

    /// CKM_* numbers that the token lists.
    pub(super) fn mechanisms(&self, library: &Library) -> Result<Vec<u64>, HsmError> {
        let listed = library.pkcs11.get_mechanism_list(self.slot).map_err(|e| failed(&e))?;
        Ok(listed.iter().map(|mechanism| **mechanism).collect())
    }
}

/// Loads the library, finds the token, compares it with the profile, and logs in.
pub(super) fn open(config: &MemberConfig) -> Result<Opened, OpenError> {
    open_with(&config.profile, &config.source, || pin::read(&config.pin))
}

/// The same with a PIN from elsewhere: asked for once, and only when nothing else can be
/// wrong any more.
pub(super) fn open_with(
    profile: &Profile,
    source: &TokenSource,
    read_pin: impl FnOnce() -> Result<Zeroizing<String>, String>,
) -> Result<Opened, OpenError> {
    if let TokenSource::Embedded { dir } = source
        && !embedded::is_made(dir)
    {
        return Err(OpenError::NotInitialised(format!("the embedded token in {}", dir.display())));
    }
    let library = library::open(source)?;
    let slots = slots(profile, source, &library)?;
    for slot in &slots {
        check(profile, &library, *slot)?;
    }
    let keep_open = profile.has(Quirk::KeepSessionsOpen);
    // Only now, when nothing else can be wrong, is the PIN asked for and tried.
    let read = read_pin().map_err(OpenError::NoPin)?;
    let pin = AuthPin::new(Box::from(read.as_str()));
    drop(read);
    let mut tokens = Vec::new();
    for slot in slots {
        tokens.push(log_in(&library, slot, &pin, keep_open)?);
    }
    Ok(Opened { tokens, library, keep_open })
}

/// The member's slots: the one that serves, then the one that makes keys.
fn slots(profile: &Profile, source: &TokenSource, library: &Library) -> Result<Vec<Slot>, OpenError> {
    match (source, profile.layout) {
        (TokenSource::Embedded { .. }, Layout::ServeAndMake) => embedded::slots(library),
        (TokenSource::Module { token, .. }, Layout::OneSlot) => Ok(vec![select(library, token)?]),
        (TokenSource::Embedded { .. }, Layout::OneSlot) => Err(OpenError::Profile(format!(
            "profile {} is for a token with one slot; the embedded one has two",
            profile.name
        ))),
        (TokenSource::Module { .. }, Layout::ServeAndMake) => Err(OpenError::Profile(format!(
            "profile {} is for the embedded token; a module has one slot",
            profile.name
        ))),
    }
}

fn select(library: &Library, wanted: &TokenSelector) -> Result<Slot, OpenError> {
    let down = |e: &Error| OpenError::from_hsm(failed(e));
    let mut found = Vec::new();
    for slot in library.pkcs11.get_slots_with_token().map_err(|e| down(&e))? {
        let info = library.pkcs11.get_token_info(slot).map_err(|e| down(&e))?;
        let fits = match wanted {
            TokenSelector::Label(label) => info.label() == label,
            TokenSelector::Serial(serial) => info.serial_number() == serial,
            TokenSelector::Slot(number) => slot.id() == *number,
        };
        if fits {
            found.push(slot);
        }
    }
    match found.as_slice() {
        [slot] => Ok(*slot),
        [] => Err(OpenError::NoToken(format!("no token with {}", spell(wanted)))),
        _ => Err(OpenError::NoToken(format!("{} tokens with {}", found.len(), spell(wanted)))),
    }
}

fn spell(wanted: &TokenSelector) -> String {
    match wanted {
        TokenSelector::Label(label) => format!("label {label:?}"),
        TokenSelector::Serial(serial) => format!("serial number {serial:?}"),
        TokenSelector::Slot(number) => format!("slot number {number}"),
    }
}

/// Whether the token is what the profile says, and in a state to log in to.
fn check(profile: &Profile, library: &Library, slot: Slot) -> Result<(), OpenError> {
    let down = |e: &Error| OpenError::from_hsm(failed(e));
    let token = library.pkcs11.get_token_info(slot).map_err(|e| down(&e))?;
    let about = library.pkcs11.get_library_info().map_err(|e| down(&e))?;
    let Match { manufacturer, model, library: description } = &profile.matches;
    let said = [
        ("manufacturer", manufacturer, token.manufacturer_id()),
        ("model", model, token.model()),
        ("library description", description, about.library_description()),
    ];
    for (what, expected, found) in said {
        if !found.starts_with(expected.as_str()) {
            return Err(OpenError::Profile(format!(
                "profile {} expects the {what} to begin with {expected:?}; the token says {found:?}",
                profile.name
            )));
        }
    }
    ready(&token)
}

fn ready(token: &TokenInfo) -> Result<(), OpenError> {
    if !token.token_initialized() || !token.user_pin_initialized() {
        return Err(OpenError::NotInitialised(format!("the token {:?}", token.label())));
    }
    if token.user_pin_final_try() || token.user_pin_locked() {
        return Err(OpenError::PinFinalTry);
    }
    Ok(())
}

fn log_in(library: &Library, slot: Slot, pin: &AuthPin, keep_open: bool) -> Result<LoggedIn, OpenError> {
    let opened = if keep_open {
        library.pkcs11.open_rw_session_no_drop(slot)
    } else {
        library.pkcs11.open_rw_session(slot)
    };
    let owner = opened.map_err(|e| OpenError::from_hsm(failed(&e)))?;
    match owner.login(UserType::User, Some(pin)) {
        // Another member of this process is logged in to the same token.
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(LoggedIn { owner, slot }),
        Err(Error::Pkcs11(RvError::PinLenRange, _)) => Err(OpenError::PinRefused),
        Err(error) => match failed(&error) {
            HsmError::PinRefused => Err(OpenError::PinRefused),
            // Whatever else the token says to a PIN may have cost a try.
            HsmError::Fault(_) => Err(OpenError::Login(describe(&error))),
            other => Err(OpenError::from_hsm(other)),
        },
    }
}
