//! Texts that operators write: the configuration, an HSM's profile.

use claviger_hsm_profiles::Profile;
use clavigerd::config::Config;

/// A configuration is read the same twice; a refusal says something.
pub(crate) fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let read = Config::parse(text, "fuzz.toml").map(|_| ()).map_err(|error| error.to_string());
    let again = Config::parse(text, "fuzz.toml").map(|_| ()).map_err(|error| error.to_string());
    assert_eq!(read, again);
    assert!(read.err().is_none_or(|said| !said.is_empty()));
}

/// An HSM's profile: as [`config`].
pub(crate) fn profile(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let read = Profile::parse("fuzz.toml", text).map(|_| ()).map_err(|error| error.to_string());
    let again = Profile::parse("fuzz.toml", text).map(|_| ()).map_err(|error| error.to_string());
    assert_eq!(read, again);
    assert!(read.err().is_none_or(|said| !said.is_empty()));
}
