//! The same cryptography without daemon and socket: `clavigerd hsm bench`, which has
//! the token linked in, run as a program of its own.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

/// The profile of the token that clavigerd has linked in, and measures without a configuration.
pub(crate) const EMBEDDED: &str = "embedded";

/// How long clavigerd may take beside measuring: making a token takes a second or two.
const PATIENCE: Duration = Duration::from_mins(1);
/// Time between looks whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// What `clavigerd hsm bench --json` prints.
#[derive(Debug, Deserialize)]
struct Measured {
    results: Vec<Speed>,
}

/// One operation in one thread.
#[derive(Debug, Clone, PartialEq, Deserialize, serde::Serialize)]
pub(crate) struct Speed {
    pub(crate) name: String,
    pub(crate) ops_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// The clavigerd to run: the one that was named, or the one beside this program.
pub(crate) fn program(named: Option<&Path>) -> Option<PathBuf> {
    if let Some(named) = named {
        return Some(named.to_owned());
    }
    let beside = std::env::current_exe().ok()?.with_file_name("clavigerd");
    beside.is_file().then_some(beside)
}

/// Measures the operation `wanted` for about `time`.
///
/// # Errors
/// In words, where clavigerd can't be run or doesn't end well.
pub(crate) async fn measure(
    program: &Path,
    config: Option<&Path>,
    wanted: &str,
    time: Duration,
    size: u32,
) -> Result<Speed, String> {
    let failed = |what: String| format!("{}: {what}", program.display());
    let mut command = Command::new(program);
    command.args(["hsm", "bench", "--json", "--only", wanted]);
    command.args(["--seconds", &time.as_secs_f64().to_string(), "--size", &size.to_string()]);
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Its scratch token goes with this, however the run ends.
    let scratch = tempfile::tempdir().map_err(|error| failed(format!("no scratch directory: {error}")))?;
    command.env("TMPDIR", scratch.path());
    let mut running = Running(command.spawn().map_err(|error| failed(format!("can't be run: {error}")))?);
    let began = Instant::now();
    // What it prints fits into the pipes, so that it needn't be read meanwhile.
    let status = loop {
        match running.0.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if began.elapsed() > PATIENCE + 10 * time => {
                return Err(failed("it didn't end".to_owned()));
            }
            Ok(None) => tokio::time::sleep(LOOK).await,
            Err(error) => return Err(failed(error.to_string())),
        }
    };
    if !status.success() {
        let said = text(running.0.stderr.take());
        return Err(failed(said.lines().last().unwrap_or("it failed without a word").to_owned()));
    }
    let measured: Measured = serde_json::from_str(&text(running.0.stdout.take()))
        .map_err(|error| failed(format!("it prints something else than expected: {error}")))?;
    let found = measured.results.into_iter().find(|speed| speed.name == wanted);
    found.ok_or_else(|| failed(format!("it measured no {wanted}")))
}

fn text(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        // What can't be read is missing in a message or refused by the parser.
        let _ = from.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A child that doesn't outlive this run.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Our own child and not waited for yet, or gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
