//! The state machine of a key: pure and total. Which action a state allows is
//! one table, tested a line a cell.

use claviger_protocol::KeyState;

/// What somebody wants to do with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Any cryptography.
    Use,
    /// Reading metadata.
    Describe,
    /// Switching it on.
    Enable,
    /// Switching it off.
    Disable,
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

/// The table.
#[must_use]
pub(super) fn allows(state: KeyState, action: Action) -> Verdict {
    use Action::{Describe, Disable, Enable, Use};
    use KeyState::{Deleted, Disabled, Enabled, PendingDeletion, PendingImport};
    use Verdict::{Already, No, Yes};
    match (action, state) {
        (Use, Enabled) => Yes(Enabled),
        (Use, Disabled) => No("the key is Disabled; enable it first"),
        (Use, PendingImport) => No("the key is PendingImport; import its material first"),
        (Use | Enable | Disable, PendingDeletion) => {
            No("the key is PendingDeletion; cancel its deletion first")
        }
        (Describe, state @ (Enabled | Disabled | PendingImport | PendingDeletion | Deleted)) => Yes(state),
        (Enable, Enabled) | (Disable, Disabled) => Already,
        (Enable, Disabled) => Yes(Enabled),
        (Disable, Enabled) => Yes(Disabled),
        (Enable | Disable, PendingImport) => {
            No("the key is PendingImport; it has no material to enable or disable")
        }
        (Use | Enable | Disable, Deleted) => No("the key was deleted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_of_the_table() {
        use Action::{Describe, Disable, Enable, Use};
        // Columns: Enabled Disabled PendingImport PendingDeletion Deleted; y yes, = no-op, - no.
        for (action, row) in [(Use, "y----"), (Describe, "yyyyy"), (Enable, "=y---"), (Disable, "y=---")] {
            for (state, want) in KeyState::ALL.iter().zip(row.chars()) {
                let got = match allows(*state, action) {
                    Verdict::Yes(_) => 'y',
                    Verdict::Already => '=',
                    Verdict::No(_) => '-',
                };
                assert_eq!(got, want, "{action:?} in {state}");
            }
        }
        assert_eq!(allows(KeyState::Disabled, Enable), Verdict::Yes(KeyState::Enabled));
        assert_eq!(allows(KeyState::Enabled, Disable), Verdict::Yes(KeyState::Disabled));
    }
}
