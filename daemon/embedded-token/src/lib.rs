//! The PKCS#11 token that is linked into the daemon: Kryoptic's function list with
//! our own `C_Initialize` and RFC 5649's older number, under the two entry points by which any PKCS#11 module
//! is found. What lives here: the exports, and where the token keeps its files.
//! What must not: anything about keys, PINs, or what the daemon does with the token.
//!
//! Kryoptic reads its configuration from an environment variable, a file in the
//! user's home, or the reserved argument of `C_Initialize`. Only the last is under
//! the daemon's control alone, and the daemon's PKCS#11 library can't set it; so
//! [`configure`] remembers it here, and our `C_Initialize` hands it on.

mod exports;
mod kwp;

use std::ffi::CString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Slot number of the token that serves requests.
pub const SLOT_SERVE: u64 = 1;
/// Slot number of the token that makes keys: Kryoptic holds a slot's lock while it
/// generates one, and nobody who encrypts should wait for that.
pub const SLOT_MAKE: u64 = 2;

const CONFIGURATION: &str = "token.conf";

/// What `C_Initialize` passes on: a NUL-terminated `kryoptic_conf=PATH`.
static ARGUMENT: Mutex<Option<CString>> = Mutex::new(None);

/// The files of the two tokens in `dir`: database and journal of each.
#[must_use]
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let names = ["serve.sql", "serve.sql-journal", "make.sql", "make.sql-journal"];
    names.iter().map(|name| dir.join(name)).collect()
}

/// Says where the token's files are, before it is initialised. The directory is
/// made with mode 0700 where it is missing. Calling it again names another
/// directory, which counts from the next initialisation on.
///
/// Being called, it also keeps the linker from dropping the entry points.
///
/// # Errors
/// Where the directory or the configuration file in it can't be written, or the
/// path isn't absolute UTF-8.
pub fn configure(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let dir = fs::canonicalize(dir)?;
    let path = dir.join(CONFIGURATION);
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "the token directory's path is not UTF-8");
    write_private(&path, &configuration(dir.to_str().ok_or_else(invalid)?))?;
    let argument = format!("kryoptic_conf={}", path.to_str().ok_or_else(invalid)?);
    let argument = CString::new(argument).map_err(io::Error::other)?;
    *ARGUMENT.lock().unwrap_or_else(PoisonError::into_inner) = Some(argument);
    exports::keep();
    Ok(())
}

/// Kryoptic's configuration file: two slots, each with a database of its own
/// (Kryoptic's slots can't share one).
fn configuration(dir: &str) -> String {
    let mut out = String::from("# Written by clavigerd at every start.\n");
    for (slot, name) in [(SLOT_SERVE, "serve"), (SLOT_MAKE, "make")] {
        let file = quoted(&format!("{dir}/{name}.sql"));
        out.push_str(&format!(
            "[[slots]]\nslot = {slot}\ndescription = \"{name}\"\ndbtype = \"sqlite\"\ndbargs = {file}\n"
        ));
    }
    out
}

/// A TOML basic string (TOML 1.0, section "String").
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Replaces a file in one step, readable by its owner only.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_break_out_of_its_string() {
        assert_eq!(quoted("a\"b\\c\nd"), "\"a\\\"b\\\\c\\u000Ad\"");
    }

    #[test]
    fn the_configuration_names_two_slots_with_files_of_their_own() {
        let text = configuration("/state/token");
        assert_eq!(text.matches("[[slots]]").count(), 2);
        assert!(text.contains("dbargs = \"/state/token/serve.sql\""));
        assert!(text.contains("dbargs = \"/state/token/make.sql\""));
    }
}
