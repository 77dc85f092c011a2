//! What is about to be made in a token, written down before it is: `root.intent` in the
//! state directory names the root, so that a half-made one, and nothing else, can be
//! removed after the process was killed.

use std::io;
use std::path::Path;

use cryptoki::session::Session;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::command::HsmError;
use super::failure::failed;
use super::{RootId, files, roots};

const FILE: &str = "root.intent";
const MAX_LEN: u64 = 4096;

/// Why a root is being put into a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Purpose {
    /// It is new; done when the domain file names it.
    Init,
    /// It comes from a recovery file; done when it opens the domain file.
    Restore,
}

/// The root that is being put into a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Intent {
    pub(super) purpose: Purpose,
    pub(super) root: RootId,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    purpose: Purpose,
    domain_id: Uuid,
    root_generation: u32,
}

impl Intent {
    /// Writes it down, durably.
    pub(super) fn write(&self, state_dir: &Path) -> io::Result<()> {
        let stored = Stored {
            version: 1,
            purpose: self.purpose,
            domain_id: self.root.domain,
            root_generation: self.root.generation,
        };
        files::replace(state_dir, FILE, &serde_json::to_vec_pretty(&stored)?)
    }

    /// The intent that was left behind, if one was.
    pub(super) fn read(state_dir: &Path) -> io::Result<Option<Self>> {
        let Some(bytes) = files::read(&state_dir.join(FILE), MAX_LEN)? else { return Ok(None) };
        let stored: Stored = serde_json::from_slice(&bytes)?;
        if stored.version != 1 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "of another version"));
        }
        let root = RootId { domain: stored.domain_id, generation: stored.root_generation };
        Ok(Some(Self { purpose: stored.purpose, root }))
    }

    /// Forgets it: what was intended is done, or undone.
    pub(super) fn remove(state_dir: &Path) -> io::Result<()> {
        files::remove(state_dir, FILE)
    }

    /// Removes whatever there is of the root from a token.
    pub(super) fn undo(&self, session: &Session) -> Result<(), HsmError> {
        for (generation, _, handle) in roots::objects(session, self.root.domain)? {
            if generation == self.root.generation {
                session.destroy_object(handle).map_err(|e| failed(&e))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_comes_back_as_it_was_written_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Intent::read(dir.path()).unwrap(), None);
        let root = RootId { domain: Uuid::from_u128(9), generation: 4 };
        let intent = Intent { purpose: Purpose::Restore, root };
        intent.write(dir.path()).unwrap();
        assert_eq!(Intent::read(dir.path()).unwrap(), Some(intent));
        let path = dir.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        for bad in [text.replace("\"version\": 1", "\"version\": 2"), text[..20].to_owned()] {
            std::fs::write(&path, bad).unwrap();
            assert!(Intent::read(dir.path()).is_err());
        }
        Intent::remove(dir.path()).unwrap();
        Intent::remove(dir.path()).unwrap();
        assert_eq!(Intent::read(dir.path()).unwrap(), None);
    }
}
