//! Failures: their code, their one line, their exit code.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use claviger_client::{ConnectError, Error};
use claviger_protocol::Code;
use uuid::Uuid;

use crate::color::Paint;
use crate::output::{Screen, one_line};

/// Exit code of a refused request, and of whatever isn't one of the others.
pub(crate) const REFUSED: u8 = 1;
/// Exit code of bad usage.
const USAGE: u8 = 2;
/// Exit code where the daemon can't be reached.
const UNREACHABLE: u8 = 3;
/// Exit code where nobody reads standard output any more: 128 + SIGPIPE.
const BROKEN_PIPE: u8 = 141;

/// Why a command ended without success.
#[derive(Debug)]
pub(crate) struct Failure {
    code: &'static str,
    message: String,
    exit: u8,
}

impl Failure {
    /// The command line asks for something that can't be.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: "Usage", message: message.into(), exit: USAGE }
    }

    /// The command line asks for what a later version brings.
    pub(crate) fn not_available(message: impl Into<String>) -> Self {
        Self { code: Code::NotAvailable.name(), message: message.into(), exit: USAGE }
    }

    /// A request that the daemon would refuse.
    pub(crate) fn refused(code: Code, message: impl Into<String>) -> Self {
        Self { code: code.name(), message: message.into(), exit: REFUSED }
    }

    /// A file or this machine is in the way.
    pub(crate) fn local(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), exit: REFUSED }
    }

    /// Standard output could not be written.
    pub(crate) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { code: "", message: String::new(), exit: BROKEN_PIPE },
            _ => Self::local("Output", format!("standard output can't be written: {error}")),
        }
    }

    /// Where nobody knows whether it was done, names the client token that finds out.
    pub(crate) fn of_token(mut self, token: &[u8; 16]) -> Self {
        if matches!(self.code, "Timeout" | "ConnectionLost") && self.message.contains("--client-token") {
            let hex = Uuid::from_bytes(*token).simple();
            self.message = self.message.replace("the same --client-token", &format!("--client-token {hex}"));
        }
        self
    }

    /// Says what happened, as the user wants to hear it, and gives the exit code.
    pub(crate) fn report(&self, screen: Screen) -> ExitCode {
        if self.exit != BROKEN_PIPE {
            say(self.code, &self.message, screen.is_json());
        }
        ExitCode::from(self.exit)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused { code, mut message, retry_after } => {
                if let Some(wait) = retry_after {
                    message = format!("{message}; try again in {}", humantime::format_duration(wait));
                } else if let Some(advice) = advice(code, &message).filter(|_| !message.contains(';')) {
                    message = format!("{message}; {advice}");
                }
                Self::refused(code, message)
            }
            Error::Timeout(time) => Self::local(
                "Timeout",
                format!(
                    "no answer within {}; the request may be carried out all the same: look before you repeat it \
                     (creating commands may be repeated with the same --client-token), and give it more time with --timeout",
                    humantime::format_duration(time)
                ),
            ),
            Error::Connect(error) => {
                Self { code: "Unreachable", message: unreachable(&error), exit: UNREACHABLE }
            }
            Error::ConnectionLost { maybe_done } => Self {
                code: "ConnectionLost",
                message: if maybe_done {
                    "the daemon went away before it answered; the request may have been carried out: look before you \
                     repeat it (creating commands may be repeated with the same --client-token)"
                        .into()
                } else {
                    "the daemon went away before the request was sent; try again".into()
                },
                exit: UNREACHABLE,
            },
            Error::Protocol(error) => {
                Self::local("Protocol", format!("{error}; client and daemon may be of different versions"))
            }
        }
    }
}

/// What a user of the command line does about a refusal whose message doesn't say it:
/// the daemon doesn't know who asks.
fn advice(code: Code, message: &str) -> Option<&'static str> {
    match code {
        Code::AccessDenied => {
            Some("keys are made and managed on the admin socket; use that, or ask its owner")
        }
        Code::NotFound if message.starts_with("no such project") => {
            Some("`claviger project list` has the projects")
        }
        Code::NotFound if message.starts_with("no such alias") => {
            Some("`claviger alias list` has the aliases")
        }
        Code::NotFound if message.ends_with("no such version") => {
            Some("`claviger key versions` has a key's versions; leave out --version to mean its only one")
        }
        Code::NotFound => {
            Some("`claviger key list` has the keys; leave out --version to mean a key's only one")
        }
        Code::InvalidCiphertext => {
            Some("give the whole blob as it was made, with the --context of its making")
        }
        _ => None,
    }
}

fn unreachable(error: &ConnectError) -> String {
    let advice = match error.source.kind() {
        io::ErrorKind::NotFound => {
            "no daemon made this socket: start clavigerd (systemctl start clavigerd, or clavigerd --dev \
             --state-dir DIR to try), or mend --socket"
        }
        io::ErrorKind::ConnectionRefused => "the socket is there and no daemon behind it; start clavigerd",
        io::ErrorKind::PermissionDenied => {
            "your user may not use this socket; ask for its group, or use sudo"
        }
        io::ErrorKind::TimedOut => "the daemon hangs or is overloaded; look at its log",
        _ => "look at the daemon's log",
    };
    format!("{error}; {advice}")
}

/// Reports what clap found: help and version as they are, errors in one line.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // clap's own printing: in colours on a terminal, unless NO_COLOR says otherwise.
        return match error.print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(BROKEN_PIPE),
        };
    }
    // Without a parse there is no `--json` to ask but the bare word.
    let json =
        std::env::args_os().skip(1).take_while(|arg| arg != "--").any(|arg| arg == OsStr::new("--json"));
    let message = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing; see --help".to_owned(),
        _ => summary(&error.to_string()),
    };
    say("Usage", &message, json);
    ExitCode::from(USAGE)
}

/// clap's own error and what it suggests, without its usage lines, which `--help` has
/// at length.
fn summary(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let said = lines.clone().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let mut line = said.trim_start_matches("error: ").to_owned();
    for tip in lines.filter_map(|line| line.strip_prefix("tip: ")) {
        line.push_str("; ");
        line.push_str(tip);
    }
    line + "; see --help"
}

fn say(code: &str, message: &str, json: bool) {
    if !json {
        return say_on_stderr(code, message);
    }
    let object = serde_json::json!({ "error": { "code": code, "message": one_line(message) } });
    // Where even the error can't be written, the exit code is all that is left.
    let _ = writeln!(io::stdout(), "{object}");
}

/// The one line of an error.
pub(crate) fn say_on_stderr(code: &str, message: &str) {
    let head = Paint::Bad.on(&format!("claviger: {code}:"));
    // Colours reach terminals only, and none where NO_COLOR is set (no-color.org).
    let _ = writeln!(anstream::stderr(), "{head} {}", one_line(message));
}

/// One line about what works and shouldn't stay as it is.
pub(crate) fn warn(message: &str) {
    let head = Paint::Doubtful.on("claviger: warning:");
    let _ = writeln!(anstream::stderr(), "{head} {}", one_line(message));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    fn refused(code: Code, retry_after: Option<Duration>) -> Error {
        Error::Refused { code, message: "m".into(), retry_after }
    }

    #[test]
    fn exit_codes_tell_refused_from_unreachable() {
        let io = |kind| {
            Error::Connect(ConnectError { socket: "/s".into(), source: Arc::new(io::Error::from(kind)) })
        };
        for (error, code, exit) in [
            (refused(Code::AccessDenied, None), "AccessDenied", 1),
            (Error::Timeout(Duration::from_secs(1)), "Timeout", 1),
            (io(io::ErrorKind::NotFound), "Unreachable", 3),
            (Error::ConnectionLost { maybe_done: true }, "ConnectionLost", 3),
            (Error::Protocol(claviger_client::ProtocolError::Version(9)), "Protocol", 1),
        ] {
            let failure = Failure::from(error);
            assert_eq!((failure.code, failure.exit), (code, exit));
        }
    }

    #[test]
    fn a_throttled_caller_is_told_when_to_come_back() {
        let failure = Failure::from(refused(Code::Throttled, Some(Duration::from_millis(250))));
        assert_eq!(failure.message, "m; try again in 250ms");
    }

    #[test]
    fn claps_errors_become_one_line() {
        let text =
            "error: the following required arguments were not provided:\n  <KEY>\n\nUsage: claviger …\n";
        let line = "the following required arguments were not provided: <KEY>; see --help";
        assert_eq!(summary(text), line);
        let text = "error: unexpected argument '--jsn' found\n\n  tip: a similar argument exists: '--json'\n\nUsage: …\n";
        let line = "unexpected argument '--jsn' found; a similar argument exists: '--json'; see --help";
        assert_eq!(summary(text), line);
    }
}
