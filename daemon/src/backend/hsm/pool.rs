//! How the pool's members are, for status and for the reason why a domain stays
//! locked. (One member, until the pool's own issue.)

use std::sync::{Mutex, MutexGuard, PoisonError};

use claviger_protocol::body::{MemberStatus, SpecStatus};
use claviger_protocol::values::MemberState;

use crate::edge::Timestamp;

/// The members' states.
pub struct Pool(Mutex<State>);

struct State {
    members: Vec<MemberStatus>,
    locked_because: String,
}

impl Pool {
    /// Configured members (name, profile, hardware), none of which has answered yet.
    #[must_use]
    pub fn new(members: impl IntoIterator<Item = (String, String, bool)>, now: Timestamp) -> Self {
        let member = |(name, profile, hardware)| MemberStatus {
            name,
            profile,
            state: MemberState::Down,
            reason: "not opened yet".into(),
            epoch: 0,
            hardware,
            since: now,
            specs: Vec::new(),
        };
        let members = members.into_iter().map(member).collect();
        Self(Mutex::new(State { members, locked_because: "the HSM is being opened".into() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every member.
    #[must_use]
    pub fn status(&self) -> Vec<MemberStatus> {
        self.lock().members.clone()
    }

    /// Why the domain is locked.
    #[must_use]
    pub fn locked_because(&self) -> String {
        self.lock().locked_because.clone()
    }

    /// A member is in use.
    pub fn up(&self, name: &str, epoch: u64, specs: Vec<SpecStatus>, now: Timestamp) {
        self.change(name, |member| {
            *member = MemberStatus {
                state: MemberState::Up,
                reason: String::new(),
                epoch,
                since: now,
                specs,
                ..member.clone()
            };
        });
    }

    /// A member can't be used; a domain that isn't unlocked yet stays locked for it.
    pub fn down(&self, name: &str, state: MemberState, reason: &str, now: Timestamp) {
        self.change(name, |member| {
            if member.state != state || member.reason != reason {
                member.since = now;
            }
            member.state = state;
            member.reason = reason.to_owned();
        });
        self.lock().locked_because = format!("{name}: {reason}");
    }

    /// A member whose token runs in the daemon failed a call. It stays in use: there it
    /// can't be opened again. True the first time.
    pub fn failed_a_call(&self, name: &str, now: Timestamp) -> bool {
        let mut first = false;
        self.change(name, |member| {
            if member.state == MemberState::Up && member.reason.is_empty() {
                first = true;
                member.reason =
                    "it failed a call; if the HSM was away, restart the daemon to open it again".to_owned();
                member.since = now;
            }
        });
        first
    }

    /// The members are fine, and the domain stays locked all the same.
    pub fn locked(&self, reason: &str) {
        self.lock().locked_because = reason.to_owned();
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut MemberStatus)) {
        if let Some(member) = self.lock().members.iter_mut().find(|member| member.name == name) {
            change(member);
        }
    }
}
