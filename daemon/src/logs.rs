//! The log: where lines go, what they look like, and how much is said. What is said
//! is each room's own; that nothing secret is, too.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::OnceLock;

use nix::sys::stat::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{LogConfig, LogFormat, is_level};

/// The variable that says how much is logged, whatever the configuration says.
pub const VARIABLE: &str = "CLAVIGER_LOG";

/// The level can't be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// It isn't one.
    #[error(
        "log.level: found {0:?}, expected a level (off, error, warn, info, debug, trace), or some with targets"
    )]
    NotALevel(String),
    /// The environment goes before the configuration.
    #[error("the log level stays as {VARIABLE} says")]
    Environment,
    /// There is no log in this process.
    #[error("there is no log")]
    NoLog,
}

/// The running log, through which its level can be changed.
pub struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
    /// Whether the environment decides.
    fixed: bool,
}

static LOGS: OnceLock<Logs> = OnceLock::new();

/// Starts the log of this process. A second call changes nothing.
pub fn start(config: &LogConfig) -> &'static Logs {
    LOGS.get_or_init(|| {
        let named = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
        let wanted = named.as_deref().filter(|text| is_level(text)).map(EnvFilter::new);
        let fixed = wanted.is_some();
        let (filter, handle) = reload::Layer::new(wanted.unwrap_or_else(|| EnvFilter::new(&config.level)));
        let subscriber = Registry::default().with(filter).with(output(config.format));
        // Only an embedding program could have set one before.
        let _ = tracing::subscriber::set_global_default(subscriber);
        if let (Some(named), false) = (named, fixed) {
            tracing::warn!(
                named,
                "{VARIABLE} is no level (error, warn, info, debug, trace; info,TARGET=debug): it is ignored"
            );
        }
        Logs { filter: handle, fixed }
    })
}

impl Logs {
    /// Says more or less from now on: a level, or levels of targets (`info,clavigerd::store=debug`).
    ///
    /// # Errors
    /// [`LevelError`]; then nothing has changed.
    pub fn set_level(&self, level: &str) -> Result<(), LevelError> {
        if self.fixed {
            return Err(LevelError::Environment);
        }
        if !is_level(level) {
            return Err(LevelError::NotALevel(level.to_owned()));
        }
        self.filter.reload(EnvFilter::new(level)).map_err(|_| LevelError::NoLog)
    }
}

/// Priorities in the journal: as those of [`Prefixed`], which syslog(3) numbers.
const PRIORITIES: PriorityMappings = PriorityMappings {
    error: Priority::Error,
    warn: Priority::Warning,
    info: Priority::Informational,
    debug: Priority::Debug,
    trace: Priority::Debug,
};

type Output = Box<
    dyn Layer<tracing_subscriber::layer::Layered<reload::Layer<EnvFilter, Registry>, Registry>> + Send + Sync,
>;

fn output(format: LogFormat) -> Output {
    let text = || tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    let journald = || match tracing_journald::layer() {
        Ok(journald) => journald.with_priority_mappings(PRIORITIES).boxed(),
        // Stderr may still be the journal, which reads priorities off the lines.
        Err(_) => text().event_format(Prefixed(Format::default().without_time())).boxed(),
    };
    match format {
        LogFormat::Journald => journald(),
        LogFormat::Auto if stderr_is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref()) => journald(),
        LogFormat::Auto | LogFormat::Text => text().boxed(),
        LogFormat::Json => {
            text().json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        }
    }
}

/// Whether stderr is the stream that `$JOURNAL_STREAM` names by device and inode
/// (systemd.exec(5)): a program that was started with stderr elsewhere inherits the
/// variable too.
fn stderr_is_journal(stream: Option<&str>) -> bool {
    let Some((device, inode)) = stream.and_then(|stream| stream.split_once(':')) else { return false };
    fstat(io::stderr().as_fd())
        .is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

/// Text lines that start with their priority, as the journal reads it (sd-daemon(3)).
struct Prefixed(Format<tracing_subscriber::fmt::format::Full, ()>);

impl<S, N> FormatEvent<S, N> for Prefixed
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(fixed: bool) -> (reload::Layer<EnvFilter, Registry>, Logs) {
        let (layer, filter) = reload::Layer::new(EnvFilter::new("info"));
        (layer, Logs { filter, fixed })
    }

    #[test]
    fn a_level_is_set_while_the_log_lives_and_nonsense_changes_nothing() {
        let (layer, logs) = logs(false);
        let now = || logs.filter.with_current(EnvFilter::to_string).unwrap();
        assert_eq!(logs.set_level("warn,clavigerd::store=debug"), Ok(()));
        assert_eq!(now(), "clavigerd::store=debug,warn");
        assert_eq!(logs.set_level("loud"), Err(LevelError::NotALevel("loud".into())));
        assert_eq!(now(), "clavigerd::store=debug,warn");
        drop(layer);
        assert_eq!(logs.set_level("info"), Err(LevelError::NoLog));
    }

    #[test]
    fn the_environment_goes_before_the_configuration() {
        let (_layer, logs) = logs(true);
        assert_eq!(logs.set_level("debug"), Err(LevelError::Environment));
    }

    #[test]
    fn stderr_is_the_journal_only_if_it_is_the_very_stream_that_is_named() {
        let stat = fstat(io::stderr().as_fd()).unwrap();
        let stream = |device, inode| format!("{device}:{inode}");
        assert!(stderr_is_journal(Some(&stream(stat.st_dev, stat.st_ino))));
        assert!(!stderr_is_journal(Some(&stream(stat.st_dev, stat.st_ino.wrapping_add(1)))));
        assert!(!stderr_is_journal(Some(&stream(stat.st_dev.wrapping_add(1), stat.st_ino))));
        for stream in [None, Some(""), Some(":"), Some("8"), Some("a:b")] {
            assert!(!stderr_is_journal(stream), "{stream:?}");
        }
    }
}
