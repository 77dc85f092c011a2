//! Colours: who wants them, what they mean, and where they don't go.

use std::ffi::OsString;
use std::io::{self, IsTerminal};

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use clap::builder::styling::AnsiColor;

/// When output has colours. Its variants have no help of their own: it would make every
/// command's help the long one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    // On terminals, unless NO_COLOR is set (no-color.org) or TERM is dumb
    #[default]
    Auto,
    // In pipes and files too
    Always,
    // Nowhere
    Never,
}

impl When {
    /// What the command line asks for, before it is known to be right.
    pub(crate) fn of(args: impl Iterator<Item = OsString>) -> Self {
        let mut wanted = Self::default();
        let mut args =
            args.skip(1).take_while(|arg| arg != "--").map(|arg| arg.to_string_lossy().into_owned());
        while let Some(arg) = args.next() {
            let value = match arg.strip_prefix("--color=") {
                Some(value) => Some(value.to_owned()),
                None if arg == "--color" => args.next(),
                None => None,
            };
            wanted = value.and_then(|value| Self::from_str(&value, false).ok()).unwrap_or(wanted);
        }
        wanted
    }

    /// From now on, for everything that is written.
    pub(crate) fn choose(self) -> clap::ColorChoice {
        let (streams, help) = match self {
            Self::Auto => (ColorChoice::Auto, clap::ColorChoice::Auto),
            Self::Always => (ColorChoice::Always, clap::ColorChoice::Always),
            Self::Never => (ColorChoice::Never, clap::ColorChoice::Never),
        };
        streams.write_global();
        help
    }
}

/// Text as standard output takes it: colours reach terminals only, unless `--color`
/// says otherwise, and none where NO_COLOR is set.
pub(crate) fn for_stdout(text: &str) -> Vec<u8> {
    match AutoStream::choice(&io::stdout()) {
        ColorChoice::Never => anstream::adapter::strip_str(text).to_string().into_bytes(),
        ColorChoice::Auto if !io::stdout().is_terminal() => {
            anstream::adapter::strip_str(text).to_string().into_bytes()
        }
        ColorChoice::Auto | ColorChoice::AlwaysAnsi | ColorChoice::Always => text.as_bytes().to_vec(),
    }
}

/// What a colour says; the words say it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    Good,
    Doubtful,
    Bad,
}

impl Paint {
    /// The text in this colour (ECMA-48 SGR).
    pub(crate) fn on(self, text: &str) -> String {
        let style = match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Doubtful => AnsiColor::Yellow.on_default().bold(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
        };
        format!("{style}{text}{style:#}")
    }

    /// The colour of a state of the daemon, of a member or of a key.
    pub(crate) fn of_state(state: &str) -> Option<Self> {
        match state.split_whitespace().next()? {
            "serving" | "up" | "Enabled" => Some(Self::Good),
            "down" | "locked" | "Deleted" => Some(Self::Bad),
            "opening" | "starting" | "stopping" | "Disabled" | "PendingImport" | "PendingDeletion" => {
                Some(Self::Doubtful)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_a_wrong_one_does_not() {
        let of = |args: &[&str]| When::of(["claviger"].iter().chain(args).map(OsString::from));
        assert_eq!(of(&["ping"]), When::Auto);
        assert_eq!(of(&["--color", "never", "ping"]), When::Never);
        assert_eq!(of(&["ping", "--color=always"]), When::Always);
        assert_eq!(of(&["--color=always", "--color", "never"]), When::Never);
        assert_eq!(of(&["--color", "blue"]), When::Auto);
        assert_eq!(of(&["--", "--color=never"]), When::Auto);
    }
}
