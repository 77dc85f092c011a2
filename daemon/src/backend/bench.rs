//! `clavigerd hsm bench`: the backends' own speed in one thread, without sockets,
//! records and audit: what the figures of `claviger bench` are held against.

mod keys;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

use claviger_protocol::blob::BlobRef;
use claviger_protocol::{EncryptionContext, SecretBytes, Suite};
use serde::Serialize;
use uuid::Uuid;

use keys::Subject;

use super::hsm::bench::Rig;
use super::hsm::{self, RootError};
use super::software::SoftwareKey;
use crate::config::{Config, ConfigError};
use crate::edge::{Clock, Edge, Entropy, NoEntropy};
use crate::failure::Failure;

/// What is measured, in this order: names that `--only` takes.
pub const OPERATIONS: [&str; 27] = [
    "token_random",
    "token_encrypt",
    "token_decrypt",
    "token_data_key",
    "command_encrypt",
    "software_encrypt",
    "software_decrypt",
    "software_data_key",
    "software_encrypt_sm4",
    "token_sign_rsa_2048",
    "token_sign_rsa_3072",
    "token_sign_rsa_4096",
    "token_sign_ec_p256",
    "token_sign_ec_p384",
    "software_sign_rsa_2048",
    "software_sign_rsa_3072",
    "software_sign_rsa_4096",
    "software_sign_ec_p256",
    "software_sign_ec_p384",
    "software_sign_sm2",
    "token_mac_hmac_256",
    "token_mac_hmac_384",
    "token_mac_hmac_512",
    "software_mac_hmac_256",
    "software_mac_hmac_384",
    "software_mac_hmac_512",
    "software_mac_hmac_sm3",
];

/// Rounds of each measurement. The rate is the fastest round's: one thread that only
/// computes is slowed by whatever else runs, and never sped up.
const ROUNDS: u32 = 5;
/// Calls that every round makes, however short it is.
const CALLS: u32 = 16;
/// Most latencies that are kept of a round; later ones take the place of the first.
const MOST_SAMPLES: usize = 1 << 20;

/// How to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How long for each operation.
    pub time: Duration,
    /// Bytes of the plaintext, 1 to 6,144.
    pub size: usize,
    /// One of [`OPERATIONS`]; all of them if not given.
    pub only: Option<String>,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// The token's profile.
    pub profile: String,
    /// Bytes of the plaintext.
    pub size: usize,
    /// A line each.
    pub results: Vec<Speed>,
}

/// One operation in one thread.
#[derive(Debug, Clone, Serialize)]
pub struct Speed {
    /// One of [`OPERATIONS`].
    pub name: &'static str,
    /// Calls a second, in the fastest round.
    pub ops_per_second: f64,
    /// Half of the calls took at most so long, in microseconds: the rounds' median.
    pub p50_us: f64,
    /// 99 of 100 calls took at most so long, in microseconds: the rounds' median.
    pub p99_us: f64,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The scratch token's place.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The token can't be opened or used.
    #[error(transparent)]
    Token(#[from] RootError),
    /// The scratch directory can't be made.
    #[error("{}: {error}", path.display())]
    Scratch {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// SOFTWARE cryptography.
    #[error("SOFTWARE level: {}", .0.message)]
    Software(Failure),
    /// No randomness.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

impl From<hsm::command::HsmError> for BenchError {
    fn from(error: hsm::command::HsmError) -> Self {
        Self::Token(error.into())
    }
}

/// Measures the configuration's token, or an embedded one of its own that is gone
/// afterwards. Blocks for the plan's time for each operation, and a second or two.
///
/// # Errors
/// See [`BenchError`].
pub fn run(config: Option<&Config>, plan: &Plan, edge: &Edge) -> Result<BenchReport, BenchError> {
    if let Some(config) = config {
        return measure(config, plan, edge);
    }
    let scratch = Scratch::make(&edge.entropy)?;
    let config = Config::dev(&scratch.0)?;
    hsm::init(&config, &[], edge, &mut |_| std::ops::ControlFlow::Continue(()))?;
    measure(&config, plan, edge)
}

fn measure(config: &Config, plan: &Plan, edge: &Edge) -> Result<BenchReport, BenchError> {
    let mut rig = Rig::open(config, plan.size)?;
    let mut software = Software::new(Suite::SoftwareAes256, edge.entropy.clone(), plan.size)?;
    let wanted = |name: &&str| plan.only.as_ref().is_none_or(|only| only == name);
    let mut results = Vec::new();
    for name in OPERATIONS.into_iter().filter(wanted) {
        let message = SecretBytes::new(vec![0x5a; plan.size]);
        let mut with = |call: &mut dyn FnMut() -> Result<(), BenchError>| {
            results.push(speed(name, &edge.clock, plan.time, call)?);
            Ok::<_, BenchError>(())
        };
        match keys::named(name, &mut rig, edge, plan.size)? {
            None => with(&mut || call(name, &mut rig, &mut software))?,
            Some(Subject::Signer(signer)) => with(&mut || signer.sign(&rig, message.expose()))?,
            Some(Subject::Mac(mac)) => with(&mut || mac.make(&mut rig, &message))?,
            Some(Subject::Sm4(mut sm4)) => with(&mut || sm4.seal())?,
        }
    }
    Ok(BenchReport { profile: rig.profile, size: plan.size, results })
}

/// One call of an operation.
fn call(name: &str, rig: &mut Rig, software: &mut Software) -> Result<(), BenchError> {
    match name {
        "token_random" => Ok(rig.random().map(drop)?),
        "token_encrypt" => Ok(rig.encrypt()?),
        "token_decrypt" => Ok(rig.decrypt()?),
        "token_data_key" => Ok(rig.random().and_then(|_| rig.encrypt())?),
        "command_encrypt" => Ok(rig.command()?),
        "software_encrypt" => software.seal(),
        "software_decrypt" => software.open(),
        // A data key's bytes come from the HSM at either level.
        _ => {
            software.plaintext = rig.random()?;
            software.seal()
        }
    }
}

/// SOFTWARE level as the daemon has it.
struct Software {
    key: SoftwareKey,
    entropy: Entropy,
    plaintext: SecretBytes,
    context: EncryptionContext,
    blob: Vec<u8>,
}

impl Software {
    fn new(suite: Suite, entropy: Entropy, size: usize) -> Result<Self, BenchError> {
        let length = if suite == Suite::SoftwareSm4 { 16 } else { 32 };
        let material = SecretBytes::new(entropy.array::<32>()?[..length].to_vec());
        let key = SoftwareKey::new(suite, &material).map_err(BenchError::Software)?;
        let (plaintext, context) = (SecretBytes::new(vec![0x5a; size]), EncryptionContext::default());
        let blob = Self::sealed(&key, &entropy, &plaintext, &context)?;
        Ok(Self { key, entropy, plaintext, context, blob })
    }

    fn sealed(
        key: &SoftwareKey,
        entropy: &Entropy,
        plaintext: &SecretBytes,
        context: &EncryptionContext,
    ) -> Result<Vec<u8>, BenchError> {
        let ids = (Uuid::nil(), Uuid::nil());
        key.seal(ids, entropy, plaintext.expose(), context).map_err(BenchError::Software)
    }

    fn seal(&mut self) -> Result<(), BenchError> {
        Self::sealed(&self.key, &self.entropy, &self.plaintext, &self.context).map(drop)
    }

    fn open(&mut self) -> Result<(), BenchError> {
        let blob = BlobRef::parse(&self.blob).map_err(|_| BenchError::Software(Failure::ciphertext()))?;
        self.key.open(&blob, &self.context).map(drop).map_err(BenchError::Software)
    }
}

/// Calls it for a round's time, in rounds.
fn speed(
    name: &'static str,
    clock: &Clock,
    time: Duration,
    mut call: impl FnMut() -> Result<(), BenchError>,
) -> Result<Speed, BenchError> {
    let (mut fastest, mut p50, mut p99) = (0.0_f64, Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (rate, mut latencies) = round(clock, time / ROUNDS, &mut call)?;
        latencies.sort_unstable();
        fastest = fastest.max(rate);
        p50.push(quantile(&latencies, 50));
        p99.push(quantile(&latencies, 99));
    }
    Ok(Speed { name, ops_per_second: fastest, p50_us: median(p50), p99_us: median(p99) })
}

/// Calls a second, and each call's time.
fn round(
    clock: &Clock,
    time: Duration,
    call: &mut impl FnMut() -> Result<(), BenchError>,
) -> Result<(f64, Vec<Duration>), BenchError> {
    let (mut latencies, mut calls) = (Vec::new(), 0_u32);
    let start = clock.elapsed();
    let mut before = start;
    while calls < CALLS || before.saturating_sub(start) < time {
        call()?;
        let now = clock.elapsed();
        let latency = now.saturating_sub(before);
        match latencies.get_mut(calls as usize % MOST_SAMPLES) {
            Some(place) => *place = latency,
            None => latencies.push(latency),
        }
        before = now;
        calls = calls.saturating_add(1);
    }
    let took = before.saturating_sub(start).as_secs_f64();
    Ok((if took > 0.0 { f64::from(calls) / took } else { 0.0 }, latencies))
}

/// The latency that `percent` of all don't exceed, in microseconds; 0 of none.
fn quantile(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
}

/// The middle of an odd number of values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// A directory of this run's own, gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn make(entropy: &Entropy) -> Result<Self, BenchError> {
        let path = std::env::temp_dir().join(format!("claviger-bench-{}", entropy.uuid()?.simple()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(error) => Err(BenchError::Scratch { path, error }),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            let path = self.0.display();
            tracing::warn!(%path, %error, "the benchmark's directory is left behind; remove it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_medians_are_of_the_values_themselves() {
        let latencies: Vec<_> = (1..=200).map(Duration::from_micros).collect();
        let near = |value: f64, expected: f64| assert!((value - expected).abs() < 1e-6, "{value}");
        near(quantile(&latencies, 50), 100.0);
        near(quantile(&latencies, 99), 198.0);
        near(quantile(&latencies[..1], 99), 1.0);
        near(quantile(&[], 50), 0.0);
        near(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
