//! What a token can do, as found when it was opened: `hsm probe`, and the reason why
//! a key spec is off.

use claviger_protocol::KeySpec;
use serde::{Deserialize, Serialize};

/// The result of a member's self-tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Each mechanism of the profile, and the random generator.
    pub mechanisms: Vec<MechanismReport>,
    /// Each key spec.
    pub specs: Vec<SpecReport>,
}

/// One mechanism's self-test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MechanismReport {
    /// What it is used for, as in profiles.
    #[serde(rename = "use")]
    pub used_for: String,
    /// CKM_* number in hexadecimal; none for the random generator.
    pub mechanism: Option<String>,
    /// Whether it passed.
    pub ok: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// Whether keys of a spec can be held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecReport {
    /// The spec's name.
    pub spec: String,
    /// Whether they can.
    pub available: bool,
    /// Why not.
    pub reason: Option<String>,
}

const LATER: &str = "not in this version";

impl ProbeReport {
    /// Draws the conclusions: AES_256 needs everything that `needed` names.
    pub(super) fn conclude(mechanisms: Vec<MechanismReport>, needed: &[&str]) -> Self {
        let failed = mechanisms.iter().find(|m| !m.ok && needed.contains(&m.used_for.as_str()));
        let aes = failed
            .map(|m| format!("{}: {}", m.used_for, m.reason.as_deref().unwrap_or("failed its self-test")));
        let specs = KeySpec::ALL.iter().map(|spec| {
            let reason = match spec {
                KeySpec::Aes256 => aes.clone(),
                _ => Some(LATER.to_owned()),
            };
            SpecReport { spec: spec.name().to_owned(), available: reason.is_none(), reason }
        });
        Self { specs: specs.collect(), mechanisms }
    }

    /// A simulated member can hold what this version can.
    pub(super) fn simulated() -> Self {
        Self::conclude(Vec::new(), &[])
    }

    /// Why keys of this spec can't be held; `None` where they can.
    #[must_use]
    pub fn unavailable(&self, spec: KeySpec) -> Option<&str> {
        match self.specs.iter().find(|report| report.spec == spec.name()) {
            Some(report) => report.reason.as_deref(),
            None => Some(LATER),
        }
    }

    /// Whether every mechanism passed.
    #[must_use]
    pub fn all_ok(&self) -> bool {
        self.mechanisms.iter().all(|mechanism| mechanism.ok)
    }
}
