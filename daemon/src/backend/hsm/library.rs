//! PKCS#11 libraries of this process. A library is initialised once for each path,
//! however many members use it (rust-cryptoki #260), and is never unmapped. One that
//! no member uses any longer is finalised before it is used again: that is what some
//! libraries need to recover, and it ends every login and session object of before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};

use super::failure::describe;
use super::member::OpenError;
use crate::config::TokenSource;

/// An initialised library; kept by everything that has a session of it.
pub(super) struct Library {
    pub(super) pkcs11: Pkcs11,
    /// Where the embedded token's files are.
    dir: Option<PathBuf>,
}

/// A library that was loaded once, and who uses it now.
struct Loaded {
    pkcs11: Pkcs11,
    live: Weak<Library>,
}

/// By path; the embedded token has none.
static LOADED: Mutex<BTreeMap<Option<PathBuf>, Loaded>> = Mutex::new(BTreeMap::new());

/// The library of a token, initialised.
pub(super) fn open(source: &TokenSource) -> Result<Arc<Library>, OpenError> {
    let (path, dir) = match source {
        TokenSource::Embedded { dir } => (None, Some(dir.clone())),
        TokenSource::Module { path, .. } => (Some(path.clone()), None),
    };
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = loaded.get(&path) {
        if let Some(library) = known.live.upgrade() {
            if library.dir == dir {
                return Ok(library);
            }
            let text = "the embedded token is in use with another directory".to_owned();
            return Err(OpenError::Library(text));
        }
        // An error means that there is nothing to finalise.
        let _ = known.pkcs11.clone().finalize();
    }
    let pkcs11 = match loaded.get(&path) {
        Some(known) => known.pkcs11.clone(),
        None => load(path.as_deref())?,
    };
    // Kept from here on, even where initialising fails: a library is never unmapped.
    let known = loaded.entry(path).or_insert_with(|| Loaded { pkcs11: pkcs11.clone(), live: Weak::new() });
    if let Some(dir) = &dir {
        claviger_embedded_token::configure(dir)
            .map_err(|e| OpenError::Library(format!("{}: {e}", dir.display())))?;
    }
    match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(OpenError::Library(describe(&error))),
    }
    let library = Arc::new(Library { pkcs11, dir });
    known.live = Arc::downgrade(&library);
    Ok(library)
}

fn load(path: Option<&Path>) -> Result<Pkcs11, OpenError> {
    let Some(path) = path else {
        return Pkcs11::new_from_self().map_err(|e| OpenError::Library(describe(&e)));
    };
    Pkcs11::new(path).map_err(|e| OpenError::Library(format!("{}: {}", path.display(), describe(&e))))
}
