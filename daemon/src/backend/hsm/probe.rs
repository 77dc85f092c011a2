//! What a token can do, as found when it was opened: `hsm probe`, and the reason why
//! a key spec is off.

use claviger_hsm_profiles::{MechanismUse, Profile};
use claviger_protocol::{ImportAlgorithm, KeySpec, KeyUsage, WrappingKeySpec};
use serde::{Deserialize, Serialize};

use super::means::Means;

/// The result of a member's self-tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Each mechanism of the profile, and the random generator.
    pub mechanisms: Vec<MechanismReport>,
    /// Each key spec with each of its usages.
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

/// Whether keys of a spec can be held for a usage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecReport {
    /// The spec's name.
    pub spec: String,
    /// The usage's name.
    pub usage: String,
    /// Whether they can.
    pub available: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// What the generator is called beside the mechanisms.
pub(super) const RANDOM: &str = "random";

impl MechanismReport {
    pub(super) fn new(used_for: &str, number: Option<u64>, outcome: Result<(), String>) -> Self {
        Self {
            used_for: used_for.to_owned(),
            mechanism: number.map(|number| format!("0x{number:04X}")),
            ok: outcome.is_ok(),
            reason: outcome.err(),
        }
    }
}

impl ProbeReport {
    /// Draws the conclusions: a spec is held for a usage where everything that it needs
    /// has passed.
    pub(super) fn conclude(mechanisms: Vec<MechanismReport>, profile: &Profile) -> Self {
        let means = Means::of(profile);
        let failed = |name: &str| match mechanisms.iter().find(|tested| tested.used_for == name) {
            None => Some(format!("the profile has no number for {name}")),
            Some(tested) if tested.ok => None,
            Some(tested) => {
                let reason = tested.reason.as_deref().unwrap_or("failed its self-test");
                Some(format!("{name}: {reason}"))
            }
        };
        let why = |spec, usage| {
            let mut needed = vec![RANDOM];
            needed.extend(means.needed(spec, usage).iter().map(|used| used.name()));
            let untyped = means.key_type(spec).err().map(|error| error.to_string());
            needed.into_iter().find_map(failed).or(untyped)
        };
        let specs = each_usage(|spec, usage| SpecReport::new(spec, usage, why(spec, usage)));
        Self { mechanisms, specs }
    }

    /// What a profile promises, for work that is done before anything is tested.
    pub(super) fn promised(profile: &Profile) -> Self {
        let named = profile.mechanisms.iter().map(|(used, number)| (used.name(), Some(*number)));
        let all = std::iter::once((RANDOM, None)).chain(named);
        Self::conclude(
            all.map(|(name, number)| MechanismReport::new(name, number, Ok(()))).collect(),
            profile,
        )
    }

    /// A simulated member holds AES_256 alone.
    pub(super) fn simulated() -> Self {
        let why = |spec| (spec != KeySpec::Aes256).then(|| "the simulation has no such keys".to_owned());
        let specs = each_usage(|spec, usage| SpecReport::new(spec, usage, why(spec)));
        Self { mechanisms: Vec::new(), specs }
    }

    /// Why keys of this spec can't be held for this usage; `None` where they can.
    #[must_use]
    pub fn unavailable(&self, spec: KeySpec, usage: KeyUsage) -> Option<&str> {
        let fits = |report: &&SpecReport| report.spec == spec.name() && report.usage == usage.name();
        match self.specs.iter().find(fits) {
            Some(report) => report.reason.as_deref(),
            None => Some("keys of this spec have no such usage"),
        }
    }

    /// Each spec, whether it can be held for anything, and why not for the rest: empty
    /// where there is no rest.
    #[must_use]
    pub fn by_spec(&self) -> Vec<(KeySpec, bool, String)> {
        let one = |spec: &KeySpec| {
            let usages = spec.usages();
            let reasons = usages.iter().filter_map(|usage| Some((usage, self.unavailable(*spec, *usage)?)));
            let reasons: Vec<_> = reasons.collect();
            let text = match reasons.as_slice() {
                [(_, first), rest @ ..]
                    if reasons.len() == usages.len() && rest.iter().all(|(_, why)| why == first) =>
                {
                    (*first).to_owned()
                }
                _ => {
                    let each = reasons.iter().map(|(usage, why)| format!("not for {usage}: {why}"));
                    each.collect::<Vec<_>>().join("; ")
                }
            };
            (*spec, reasons.len() < usages.len(), text)
        };
        KeySpec::ALL.iter().map(one).collect()
    }

    /// Whether a mechanism is in the profile and passed.
    #[must_use]
    pub fn passed(&self, used: MechanismUse) -> bool {
        self.mechanisms.iter().any(|tested| tested.used_for == used.name() && tested.ok)
    }

    /// Whether the token makes wrapping keys of a spec and opens what was encrypted to them
    /// by an algorithm.
    #[must_use]
    pub fn imports(&self, wrapping: WrappingKeySpec, algorithm: ImportAlgorithm) -> bool {
        let spec = match wrapping {
            WrappingKeySpec::Rsa2048 => KeySpec::Rsa2048,
            WrappingKeySpec::Rsa3072 => KeySpec::Rsa3072,
            WrappingKeySpec::Rsa4096 => KeySpec::Rsa4096,
            WrappingKeySpec::Sm2 => KeySpec::Sm2,
        };
        // Pairs that decrypt have all of OAEP.
        let padding = algorithm != ImportAlgorithm::RsaesPkcs1V15
            || self.passed(MechanismUse::RsaPkcsUnwrap)
            || self.passed(MechanismUse::RsaX509Sign);
        padding && self.unavailable(spec, KeyUsage::EncryptDecrypt).is_none()
    }

    /// Whether every mechanism passed.
    #[must_use]
    pub fn all_ok(&self) -> bool {
        self.mechanisms.iter().all(|mechanism| mechanism.ok)
    }
}

impl SpecReport {
    fn new(spec: KeySpec, usage: KeyUsage, reason: Option<String>) -> Self {
        let available = reason.is_none();
        Self { spec: spec.name().to_owned(), usage: usage.name().to_owned(), available, reason }
    }
}

fn each_usage(report: impl Fn(KeySpec, KeyUsage) -> SpecReport) -> Vec<SpecReport> {
    let mut specs = Vec::new();
    for &spec in KeySpec::ALL {
        specs.extend(spec.usages().iter().map(|usage| report(spec, *usage)));
    }
    specs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(failed: &str) -> ProbeReport {
        let profile = Profile::load("embedded").unwrap();
        let mut mechanisms = ProbeReport::promised(&profile).mechanisms;
        for tested in mechanisms.iter_mut().filter(|tested| tested.used_for == failed) {
            (tested.ok, tested.reason) = (false, Some("it lies".to_owned()));
        }
        ProbeReport::conclude(mechanisms, &profile)
    }

    #[test]
    fn what_fails_takes_with_it_what_needs_it_and_nothing_else() {
        let off = |failed: &str| {
            let report = report(failed);
            let off = report.specs.iter().filter(|spec| !spec.available && !spec.spec.contains("SM"));
            off.map(|spec| format!("{} {}", spec.spec, spec.usage)).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(off(""), "");
        assert_eq!(off("ecdsa"), "EC_P256 SIGN_VERIFY, EC_P384 SIGN_VERIFY");
        assert_eq!(off("hmac-sha-384"), "HMAC_384 GENERATE_VERIFY_MAC");
        assert_eq!(off("aes-cbc-encrypt-data"), "AES_256 ENCRYPT_DECRYPT");
        let all = "RSA_2048 SIGN_VERIFY, RSA_3072 SIGN_VERIFY, RSA_4096 SIGN_VERIFY";
        assert_eq!(off("rsa-pss"), all);
        assert_eq!(off("rsa-oaep-sha-256"), all.replace("SIGN_VERIFY", "ENCRYPT_DECRYPT"));
        assert_eq!(off("random").matches(',').count() + 1, 12);
    }

    #[test]
    fn a_spec_that_is_held_for_one_usage_says_why_not_for_the_other() {
        let specs = report("rsa-pss").by_spec();
        let of = |spec| specs.iter().find(|(found, ..)| *found == spec).unwrap().clone();
        assert_eq!(of(KeySpec::Aes256), (KeySpec::Aes256, true, String::new()));
        let text = "not for SIGN_VERIFY: rsa-pss: it lies".to_owned();
        assert_eq!(of(KeySpec::Rsa2048), (KeySpec::Rsa2048, true, text));
        let text = "the profile has no number for sm4-key-gen".to_owned();
        assert_eq!(of(KeySpec::Sm4), (KeySpec::Sm4, false, text));
        let text = "the profile has no number for sm2-key-pair-gen".to_owned();
        assert_eq!(of(KeySpec::Sm2), (KeySpec::Sm2, false, text));
    }
}
