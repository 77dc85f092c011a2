//! The only file of the client that draws randomness.

use std::time::Duration;

use uuid::Uuid;

/// A fresh client token, for requests that make something: 122 random bits from
/// the operating system in the form of a version 4 UUID (RFC 9562). The daemon
/// answers the same token with the first result, so keep it to repeat a request.
///
/// # Panics
/// If the operating system has no randomness to give.
#[must_use]
pub fn client_token() -> [u8; 16] {
    Uuid::new_v4().into_bytes()
}

/// A random time of half to the whole of `longest`, so that clients that lost the
/// same daemon don't all come back at the same moment.
pub(crate) fn jittered(longest: Duration) -> Duration {
    // Byte 6 and 8 of a version 4 UUID are partly fixed; the first four are random.
    let [a, b, c, d, ..] = Uuid::new_v4().into_bytes();
    let fraction = f64::from(u32::from_le_bytes([a, b, c, d])) / f64::from(u32::MAX);
    longest.mul_f64(0.5 + fraction / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_jitter_stays_in_its_half() {
        assert_ne!(client_token(), client_token());
        let longest = Duration::from_millis(100);
        let waits: Vec<_> = (0..200).map(|_| jittered(longest)).collect();
        assert!(waits.iter().all(|w| (longest / 2..=longest).contains(w)), "{waits:?}");
        assert!(waits.iter().any(|w| *w != waits[0]));
    }
}
