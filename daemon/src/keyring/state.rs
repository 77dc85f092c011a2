//! The state machine of a key: pure and total. What a state says to an action is one
//! table, tested a line a row.

use claviger_protocol::KeyState;

use super::record::KeyRecord;

/// What somebody wants to do with a key, or what time does to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Any cryptography, and reading its public key.
    Use,
    /// Reading metadata.
    Describe,
    /// Changing aliases, description, tags, project, protection against deletion.
    Change,
    /// Switching it on.
    Enable,
    /// Switching it off.
    Disable,
    /// A new version now.
    Rotate,
    /// Another rotation policy.
    SetRotation,
    /// Asking for import parameters, and importing.
    Import,
    /// Destroying imported material.
    DeleteMaterial,
    /// Planning its deletion.
    Schedule,
    /// Taking that back, and switching it on at once or not.
    Cancel {
        /// Whether it is Enabled afterwards, where it has material.
        enable: bool,
    },
    /// Time: imported material has expired.
    Expire,
    /// Time: the deletion is due.
    Destroy,
}

/// Where a key stands: its state, and what of the rest decides where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) state: KeyState,
    /// Whether it has material.
    pub(super) material: bool,
    /// Where it returns to with its material.
    pub(super) resume: Option<KeyState>,
}

impl From<&KeyRecord> for Standing {
    fn from(key: &KeyRecord) -> Self {
        Self { state: key.state, material: key.has_material(), resume: key.resume_state }
    }
}

/// What the state says to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be done, and the key is in this state afterwards.
    Yes(KeyState),
    /// Nothing to do; a success that says so.
    Already,
    /// No; says what would be allowed.
    No(&'static str),
}

const DISABLED: &str = "the key is Disabled; enable it first";
const ENABLED_IS_NOT_PLANNED: &str = "the key is Enabled; no deletion is planned that could be cancelled";
const DISABLED_IS_NOT_PLANNED: &str = "the key is Disabled; no deletion is planned that could be cancelled";
const WAITS_IS_NOT_PLANNED: &str = "the key is PendingImport; no deletion is planned that could be cancelled";
const NO_MATERIAL: &str = "the key is PendingImport; import its material first";
const PLANNED: &str = "the key is PendingDeletion; cancel its deletion first";
const NOT_DUE: &str = "the key's deletion isn't planned";
const DELETED: &str = "the key was deleted";

/// The table.
#[must_use]
pub(super) fn allows(standing: Standing, action: Action) -> Verdict {
    use Action as A;
    use KeyState::{Deleted, Disabled, Enabled, PendingDeletion, PendingImport};
    use Verdict::{Already, No, Yes};
    match (action, standing.state) {
        (A::Describe, state) => Yes(state),
        (_, Deleted) => No(DELETED),

        (A::Use | A::Rotate, Enabled) => Yes(Enabled),
        (A::Use | A::Rotate, Disabled) => No(DISABLED),
        (A::Use | A::Rotate | A::Enable | A::Disable | A::SetRotation, PendingImport) => No(NO_MATERIAL),
        (A::Use | A::Rotate | A::Enable | A::Disable | A::SetRotation | A::Change, PendingDeletion) => {
            No(PLANNED)
        }

        (A::Change, state @ (Enabled | Disabled | PendingImport)) => Yes(state),
        (A::SetRotation, state @ (Enabled | Disabled)) => Yes(state),

        (A::Enable, Enabled) | (A::Disable, Disabled) => Already,
        (A::Enable, Disabled) => Yes(Enabled),
        (A::Disable, Enabled) => Yes(Disabled),

        (A::Import, state @ (Enabled | Disabled)) => Yes(state),
        (A::Import, PendingImport) => Yes(standing.resume.unwrap_or(Enabled)),
        (A::DeleteMaterial | A::Expire, Enabled | Disabled) => Yes(PendingImport),
        (A::DeleteMaterial, PendingImport) => No(NO_MATERIAL),
        (A::Expire, PendingImport) => Already,
        (A::Import | A::DeleteMaterial | A::Schedule, PendingDeletion) => No(PLANNED),
        // It stays planned, and has nothing left to be cancelled for but an import.
        (A::Expire, PendingDeletion) => Yes(PendingDeletion),

        (A::Schedule, Enabled | Disabled | PendingImport) => Yes(PendingDeletion),
        (A::Cancel { .. }, Enabled) => No(ENABLED_IS_NOT_PLANNED),
        (A::Cancel { .. }, Disabled) => No(DISABLED_IS_NOT_PLANNED),
        (A::Cancel { .. }, PendingImport) => No(WAITS_IS_NOT_PLANNED),
        (A::Cancel { .. }, PendingDeletion) if !standing.material => Yes(PendingImport),
        (A::Cancel { enable }, PendingDeletion) => Yes(if enable { Enabled } else { Disabled }),
        (A::Destroy, PendingDeletion) => Yes(Deleted),
        (A::Destroy, Enabled | Disabled | PendingImport) => No(NOT_DUE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use KeyState::{Deleted, Disabled, Enabled, PendingDeletion, PendingImport};

    fn standing(state: KeyState) -> Standing {
        Standing { state, material: state != PendingImport, resume: None }
    }

    #[test]
    fn every_cell_of_the_table() {
        let cancel = Action::Cancel { enable: false };
        // Columns: Enabled Disabled PendingImport PendingDeletion Deleted. The letter is the
        // state afterwards (E, D, I, P, X), = a no-op, - a refusal.
        for (action, row) in [
            (Action::Use, "E----"),
            (Action::Describe, "EDIPX"),
            (Action::Change, "EDI--"),
            (Action::Enable, "=E---"),
            (Action::Disable, "D=---"),
            (Action::Rotate, "E----"),
            (Action::SetRotation, "ED---"),
            (Action::Import, "EDE--"),
            (Action::DeleteMaterial, "II---"),
            (Action::Schedule, "PPP--"),
            (cancel, "---D-"),
            (Action::Cancel { enable: true }, "---E-"),
            (Action::Expire, "II=P-"),
            (Action::Destroy, "---X-"),
        ] {
            for (state, want) in KeyState::ALL.iter().zip(row.chars()) {
                let got = match allows(standing(*state), action) {
                    Verdict::Yes(Enabled) => 'E',
                    Verdict::Yes(Disabled) => 'D',
                    Verdict::Yes(PendingImport) => 'I',
                    Verdict::Yes(PendingDeletion) => 'P',
                    Verdict::Yes(Deleted) => 'X',
                    Verdict::Already => '=',
                    Verdict::No(_) => '-',
                };
                assert_eq!(got, want, "{action:?} in {state}");
            }
        }
    }

    #[test]
    fn a_refusal_names_the_state() {
        for &state in KeyState::ALL {
            for action in [Action::Use, Action::Change, Action::Enable, Action::Schedule, Action::Import] {
                if let Verdict::No(why) = allows(standing(state), action) {
                    let name = if state == Deleted { "deleted" } else { state.name() };
                    assert!(why.contains(name), "{action:?} in {state}: {why}");
                }
            }
        }
    }

    #[test]
    fn material_decides_where_a_key_goes() {
        let planned = |material| Standing { state: PendingDeletion, material, resume: None };
        for enable in [false, true] {
            assert_eq!(allows(planned(false), Action::Cancel { enable }), Verdict::Yes(PendingImport));
        }
        for (resume, want) in [(None, Enabled), (Some(Enabled), Enabled), (Some(Disabled), Disabled)] {
            let waiting = Standing { state: PendingImport, material: false, resume };
            assert_eq!(allows(waiting, Action::Import), Verdict::Yes(want));
        }
    }
}
