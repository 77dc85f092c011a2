//! The targets, by what they read.

pub(crate) mod kept;
pub(crate) mod served;
pub(crate) mod texts;
pub(crate) mod wire;

/// The bytes without their order and the case of letters: what stays where the format
/// leaves these two free (`SPEC.md` section 7.2).
fn folded(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_ascii_lowercase();
    out.sort_unstable();
    out
}
