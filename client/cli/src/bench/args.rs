//! The arguments of `claviger bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use claviger_protocol::limits::MAX_BATCH_ITEMS;
use claviger_protocol::{KeyRef, KeySpec, Protection};

use super::operations::{OPERATIONS, Operation};

/// Longest measurement, in seconds: an hour.
const MAX_SECONDS: f64 = 3600.0;

pub(crate) const EXAMPLES: &str = "\
ping sends a payload there and back; decrypt opens one blob again and again, verify checks one
signature; create-key makes keys, which stay: it is for daemons that are thrown away afterwards.

Every round measures the daemon first and then, by the same client with the same calls, a bare
echo server, which answers with the daemon's own bytes and does nothing for them. The figures
are the medians of the rounds, the ratios those of each round's pair. After the rounds,
clavigerd measures the same cryptography in-process, in one thread, and takes the fastest of its
rounds. All of them share the machine with whatever else it does: compare ratios, not figures of
different days. At depth 1 waking a thread on another core costs more than the call; run the
daemon and this command under `taskset -c 0` for figures that can be compared.

One call is made first to see that replies are right, and the last of each round is compared
again. With --batch, latencies are those of whole frames.

Without KEY a key of the benchmark's own is used, and made where it isn't there yet (admin
socket only; keys can't be deleted yet). The exit code is 1 if any call failed.

Examples:
  claviger bench encrypt --level software
  claviger bench encrypt --level hsm --clients 4 --depth 64 --seconds 6
  claviger bench decrypt alias/pay --batch 64 --json
  claviger bench sign --spec SM2 --level software
  claviger bench asymmetric-decrypt --spec RSA_3072 --algorithm RSAES_OAEP_SHA_1";

/// What to measure, and how long.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// What to call
    #[arg(value_parser = operation())]
    pub(crate) operation: &'static Operation,
    /// Key id or alias; without one a key of the benchmark's own
    pub(crate) key: Option<KeyRef>,
    /// Connections, each used by one task of one thread
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) clients: u32,
    /// Frames in flight on each connection
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) depth: u32,
    /// Calls in each frame; 1 is a frame of its own for each
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_BATCH_ITEMS as i64))]
    pub(crate) batch: u32,
    /// Bytes of the plaintext, the message, the payload, the data key or the random bytes
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) size: u32,
    /// How long to measure the daemon, all rounds together; the baselines take as long again
    #[arg(long, default_value = "3", value_name = "N", value_parser = seconds, conflicts_with = "requests")]
    pub(crate) seconds: Duration,
    /// Stop after so many frames instead, all rounds together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests: Option<u64>,
    /// Rounds that the time is divided into
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// Seconds of calls before each measurement that don't count
    #[arg(long, default_value = "0.2", value_name = "N", value_parser = warmup)]
    pub(crate) warmup: Duration,
    /// The spec of the benchmark's own key; the first that the operation takes if not given:
    /// AES_256, RSA_2048 or HMAC_256
    #[arg(long, conflicts_with = "key")]
    pub(crate) spec: Option<KeySpec>,
    /// How to sign, to encrypt to a pair or to hash; as `sign`, `asymmetric encrypt` and SHA_256 if not given
    #[arg(long)]
    pub(crate) algorithm: Option<String>,
    /// The level of the benchmark's own key: hsm or software
    #[arg(long, default_value = "hsm", conflicts_with = "key", value_name = "LEVEL")]
    pub(crate) level: Protection,
    /// Measure the daemon alone
    #[arg(long, conflicts_with_all = ["clavigerd", "config"])]
    pub(crate) no_baselines: bool,
    /// The clavigerd that measures in-process; the one beside this program if not given
    #[arg(long, value_name = "PATH")]
    pub(crate) clavigerd: Option<PathBuf>,
    /// The daemon's configuration, so that clavigerd measures the same HSM and not the embedded token
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

fn operation() -> impl TypedValueParser<Value = &'static Operation> {
    PossibleValuesParser::new(OPERATIONS.iter().map(|operation| operation.name))
        .try_map(|name| OPERATIONS.iter().find(|operation| operation.name == name).ok_or("no such operation"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    match warmup(text) {
        Ok(Duration::ZERO) => Err("expected a number of seconds over 0".to_owned()),
        other => other,
    }
}

fn warmup(text: &str) -> Result<Duration, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=MAX_SECONDS).contains(number));
    number
        .and_then(|number| Duration::try_from_secs_f64(number).ok())
        .ok_or_else(|| format!("expected a number of seconds, at most {MAX_SECONDS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_and_bounded() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(warmup("0"), Ok(Duration::ZERO));
        for wrong in ["0", "-1", "nan", "inf", "3601", "1s", ""] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
