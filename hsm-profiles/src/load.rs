//! From TOML to a checked [`Profile`]: built in by name, or a file by path.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use crate::{MechanismUse, Profile, Quirk};

/// By name: the tokens of every test run, then the others, of which only what is
/// published is known. Kinds that this schema can't say are left out: CloudHSM (vendor
/// wraps, IVs of its own), YubiHSM 2 and TPM 2 (no AES key wrap).
const BUILT_IN: [(&str, &str); 11] = [
    ("embedded", include_str!("../profiles/embedded.toml")),
    ("softhsm2", include_str!("../profiles/softhsm2.toml")),
    ("kryoptic", include_str!("../profiles/kryoptic.toml")),
    ("opencryptoki", include_str!("../profiles/opencryptoki.toml")),
    ("nshield", include_str!("../profiles/nshield.toml")),
    ("luna", include_str!("../profiles/luna.toml")),
    ("ibm-ep11", include_str!("../profiles/ibm-ep11.toml")),
    ("sansec", include_str!("../profiles/sansec.toml")),
    ("tass", include_str!("../profiles/tass.toml")),
    ("koal", include_str!("../profiles/koal.toml")),
    ("westone", include_str!("../profiles/westone.toml")),
];

/// CKM_VENDOR_DEFINED and CKK_VENDOR_DEFINED: a vendor's numbers begin here.
const VENDOR_DEFINED: u64 = 0x8000_0000;
const VENDORS_NUMBER: &str = "expected a vendor's number, 0x80000000 or more";

/// Largest profile file that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// A profile that can't be used: which file, where in it, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ProfileError {
    /// The built-in name or the path.
    pub file: String,
    /// The line, from 1, where the fault has one.
    pub line: Option<usize>,
    /// The key on that line.
    pub key: Option<String>,
    /// What was expected.
    pub expectation: String,
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HSM profile {}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ", {key}")?;
        }
        write!(f, ": {}", self.expectation)
    }
}

impl Profile {
    /// A built-in profile by name, or a file: what contains a `/` or ends in
    /// `.toml` is a path.
    ///
    /// # Errors
    /// A name that isn't built in, a file that can't be read or is over 64 KiB, and
    /// whatever [`Profile::parse`] refuses.
    pub fn load(name_or_path: &str) -> Result<Self, ProfileError> {
        if name_or_path.contains('/') || Path::new(name_or_path).extension().is_some_and(|e| e == "toml") {
            let text = read(name_or_path).map_err(|e| fault(name_or_path, None, None, e))?;
            return Self::parse(name_or_path, &text);
        }
        let Some((_, text)) = BUILT_IN.iter().find(|(name, _)| *name == name_or_path) else {
            let known = BUILT_IN.map(|(name, _)| name).join(", ");
            let expectation = format!("expected one of {known}, or the path of a .toml file");
            return Err(fault(name_or_path, None, None, expectation));
        };
        Self::parse(name_or_path, text)
    }

    /// Reads a profile; `file` names it in errors.
    ///
    /// # Errors
    /// Syntax, unknown keys, wrong types, and values out of their range, each with
    /// line, key and expectation.
    pub fn parse(file: &str, text: &str) -> Result<Self, ProfileError> {
        let profile: Self = toml::from_str(text).map_err(|e| {
            let (line, key) = e.span().map_or((None, None), |span| place(text, &span));
            fault(file, line, key, e.message().to_owned())
        })?;
        profile.check().map_err(|(key, expectation)| {
            fault(file, line_of(text, key), Some(key.to_owned()), expectation)
        })?;
        Ok(profile)
    }

    /// What types alone don't say: the key at fault and what was expected of it.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > 32 || !self.name.chars().all(plain) {
            return Err(("name", "expected 1 to 32 of a-z, 0-9 and -".to_owned()));
        }
        if !matches!(self.handover.modulus_bits, 3072 | 4096) {
            return Err(("modulus-bits", "expected 3072 or 4096".to_owned()));
        }
        let missing = MechanismUse::ALL
            .iter()
            .find(|used| used.is_required(self.derivation) && !self.mechanisms.contains_key(used));
        if let Some(used) = missing {
            return Err(("mechanisms", format!("expected a number for {}", used.name())));
        }
        let mut vendors = self.mechanisms.iter().filter(|(used, _)| used.is_vendors());
        if let Some((used, _)) = vendors.find(|(_, number)| **number < VENDOR_DEFINED) {
            return Err((used.name(), VENDORS_NUMBER.to_owned()));
        }
        let raw = self.mechanisms.contains_key(&MechanismUse::RsaX509);
        if raw != self.has(Quirk::OaepSha256Outside) {
            let expectation = "expected together with the quirk oaep-sha-256-outside, or neither";
            return Err((if raw { "rsa-x-509" } else { "quirks" }, expectation.to_owned()));
        }
        let mut types = [self.key_types.sm2, self.key_types.sm4].into_iter().flatten();
        match types.find(|number| *number < VENDOR_DEFINED) {
            Some(_) => Err(("key-types", VENDORS_NUMBER.to_owned())),
            None => Ok(()),
        }
    }
}

fn read(path: &str) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if size > MAX_FILE {
        return Err(format!("expected at most {MAX_FILE} bytes, it has {size}"));
    }
    std::fs::read_to_string(path).map_err(|e| e.to_string())
}

fn fault(file: &str, line: Option<usize>, key: Option<String>, expectation: String) -> ProfileError {
    ProfileError { file: file.to_owned(), line, key, expectation }
}

/// Line number, and the key on that line where it has one.
fn place(text: &str, span: &Range<usize>) -> (Option<usize>, Option<String>) {
    let before = text.get(..span.start).unwrap_or(text);
    let number = before.matches('\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or_default();
    let key = line.split_once('=').map(|(key, _)| key.trim().to_owned());
    (Some(number), key.filter(|key| !key.is_empty()))
}

fn line_of(text: &str, key: &str) -> Option<usize> {
    let names = |line: &str| line.trim().strip_prefix('[').unwrap_or(line.trim()).starts_with(key);
    text.lines().position(names).map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Derivation, Form};

    const SOFTHSM2: &str = include_str!("../profiles/softhsm2.toml");
    const SANSEC: &str = include_str!("../profiles/sansec.toml");

    #[test]
    fn the_built_in_profiles_load_under_their_own_names() {
        for (name, _) in BUILT_IN {
            assert_eq!(Profile::load(name).unwrap().name, name);
        }
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/profiles")).unwrap();
        assert_eq!(files.count(), BUILT_IN.len(), "a file that isn't built in, or the reverse");
        assert!(Profile::load("softhsm2").unwrap().has(Quirk::KeepSessionsOpen));
        assert!(!Profile::load("embedded").unwrap().has(Quirk::KeepSessionsOpen));
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = Profile::load("acme").unwrap_err().to_string();
        assert!(
            error.starts_with("HSM profile acme: expected one of embedded, softhsm2, kryoptic, "),
            "{error}"
        );
        assert!(error.ends_with(", westone, or the path of a .toml file"), "{error}");
    }

    #[test]
    fn a_path_is_read_and_named_in_errors() {
        let error = Profile::load("/nonexistent/x.toml").unwrap_err();
        assert_eq!(error.file, "/nonexistent/x.toml");
        assert!(error.expectation.contains("No such file"));
    }

    /// Each change to the built-in file must be refused, at its line and key.
    #[test]
    fn every_fault_is_placed() {
        let cases = [
            ("hardware = false", "hardware = 1", 3, "hardware", "expected a boolean"),
            ("hardware = false", "hardware = false\nspeed = 3", 4, "speed", "unknown field `speed`"),
            ("= \"sha-1\"", "= \"md5\"", 44, "oaep-hash", "unknown variant `md5`"),
            ("keep-sessions-open", "slow", 14, "quirks", "unknown variant `slow`"),
            ("modulus-bits = 3072", "modulus-bits = 2048", 45, "modulus-bits", "expected 3072 or 4096"),
            ("aes-gcm = 0x1087", "aes-gcm = \"x\"", 25, "aes-gcm", "expected u64"),
            ("aes-gcm = 0x1087", "aes-gcn = 0x1087", 25, "aes-gcn", "unknown variant `aes-gcn`"),
            ("aes-gcm = 0x1087\n", "", 21, "mechanisms", "expected a number for aes-gcm"),
            ("name = \"softhsm2\"", "name = \"Soft HSM\"", 2, "name", "expected 1 to 32 of"),
            ("in-place = true", "in-place = \"no\"", 5, "in-place", "expected a boolean"),
            ("rsa-x-509 = 0x0003\n", "", 14, "quirks", "expected together with the quirk"),
            (", \"oaep-sha-256-outside\"", "", 33, "rsa-x-509", "expected together with the quirk"),
            ("ecdsa = 0x1041", "ecdsa = 0x1041\nsm2-sign = 0x1041", 37, "sm2-sign", "0x80000000 or more"),
            ("[handover]", "[key-types]\nsm4 = 0x1F\n[handover]", 43, "key-types", "0x80000000 or more"),
            (
                "[handover]",
                "[forms]\nsm2-signature = \"asn1\"\n[handover]",
                44,
                "sm2-signature",
                "unknown variant",
            ),
        ];
        for (from, to, line, key, expectation) in cases {
            assert!(SOFTHSM2.contains(from), "{from}");
            let error = Profile::parse("f.toml", &SOFTHSM2.replacen(from, to, 1)).unwrap_err();
            assert_eq!((error.line, error.key.as_deref()), (Some(line), Some(key)), "{error}");
            assert!(error.expectation.contains(expectation), "{error}");
        }
    }

    #[test]
    fn only_a_profile_that_says_so_runs_in_place() {
        for (name, text) in BUILT_IN {
            // Of these alone it was measured.
            let measured = matches!(name, "embedded" | "softhsm2");
            assert_eq!(Profile::load(name).unwrap().in_place, measured, "{name}");
            let silent = text.replace("in-place = true\n", "");
            assert!(!Profile::parse("f.toml", &silent).unwrap().in_place);
        }
    }

    #[test]
    fn vendors_numbers_types_and_forms_are_read() {
        let more = "sm2-sign = 0x80008105\n[key-types]\nsm2 = 0x80000004\n[forms]\nsm2-signature = \"raw\"\n";
        let text = SOFTHSM2.replace("\n# OAEP with SHA-1 is", &format!("{more}\n# OAEP with SHA-1 is"));
        let profile = Profile::parse("f.toml", &text).unwrap();
        assert_eq!(profile.mechanisms[&MechanismUse::Sm2Sign], 0x8000_8105);
        assert_eq!((profile.key_types.sm2, profile.key_types.sm4), (Some(0x8000_0004), None));
        assert_eq!((profile.forms.sm2_signature, profile.forms.sm2_ciphertext), (Form::Raw, Form::Der));
    }

    #[test]
    fn a_file_of_an_earlier_version_still_loads() {
        let old: Vec<_> = SOFTHSM2
            .lines()
            .filter(|line| !line.contains("= 0x") || OLD.iter().any(|name| line.starts_with(name)))
            .collect();
        let old = old.join("\n").replace(", \"oaep-sha-256-outside\", \"wraps-zero-padded\"", "");
        assert_eq!(Profile::parse("f.toml", &old).unwrap().mechanisms.len(), OLD.len());
    }

    /// What a profile named before there were pairs.
    const OLD: [&str; 7] = [
        "aes-key-gen =",
        "aes-key-wrap =",
        "aes-cbc-encrypt-data =",
        "aes-gcm =",
        "aes-cmac =",
        "rsa-key-pair-gen =",
        "rsa-oaep =",
    ];

    #[test]
    fn a_token_without_derivation_needs_no_number_for_it() {
        let text = SOFTHSM2
            .replace("derivation = \"cbc-encrypt-data\"", "derivation = \"none\"")
            .replace("aes-cbc-encrypt-data = 0x1105\n", "");
        assert_eq!(Profile::parse("f.toml", &text).unwrap().derivation, Derivation::None);
    }

    #[test]
    fn numbers_of_sm_are_the_vendors() {
        let standard = SANSEC.replace("sm3 = 0x80009001", "sm3 = 0x9001");
        let error = Profile::parse("f.toml", &standard).unwrap_err();
        assert_eq!((error.key.as_deref(), error.expectation.as_str()), (Some("sm3"), VENDORS_NUMBER));
        let standard = SANSEC.replace("sm4 = 0x80000106", "sm4 = 0x106");
        assert_eq!(Profile::parse("f.toml", &standard).unwrap_err().expectation, VENDORS_NUMBER);
        let standard = ["embedded", "softhsm2", "kryoptic", "opencryptoki", "nshield"];
        for (name, _) in BUILT_IN {
            let profile = Profile::load(name).unwrap();
            let numbered = profile.mechanisms.keys().any(|used| used.is_vendors());
            assert_eq!(numbered, !standard.contains(&name), "{name}");
        }
    }
}
