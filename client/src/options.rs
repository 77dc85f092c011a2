//! What a caller may choose about a client.

use std::time::Duration;

/// How a client connects, waits and comes back. All fields have defaults.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a call may take, everything included: waiting for a place in
    /// flight, reconnecting, the daemon's work. Default 5 s. The daemon is told.
    pub timeout: Duration,
    /// How long connecting and hello may take together. Default 5 s.
    pub connect_timeout: Duration,
    /// Longest wait before the second attempt to reconnect; doubles with each
    /// failure. Default 10 ms. The first attempt comes at once.
    pub backoff_first: Duration,
    /// Longest wait between attempts to reconnect. Default 1 s.
    pub backoff_cap: Duration,
    /// Who calls, for the daemon's log; printable ASCII, cut to 64 bytes.
    pub agent: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            backoff_first: Duration::from_millis(10),
            backoff_cap: Duration::from_secs(1),
            agent: concat!("claviger-client/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl Options {
    /// The wait after so many failures in a row, before jitter.
    pub(crate) fn backoff(&self, failures: u32) -> Duration {
        match failures {
            0 => Duration::ZERO,
            n => self.backoff_first.saturating_mul(2_u32.saturating_pow(n - 1)).min(self.backoff_cap),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_starts_at_once_doubles_and_is_capped() {
        let options = Options::default();
        let millis = |n| options.backoff(n).as_millis();
        assert_eq!(
            [0, 1, 2, 3, 7, 8, 9, 40, u32::MAX].map(millis),
            [0, 10, 20, 40, 640, 1000, 1000, 1000, 1000]
        );
    }
}
