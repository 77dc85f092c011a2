//! The sections that make a daemon visible: `[metrics]` and `[log]`.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use super::check::{account, mode};
use super::raw::{Checked, Entry, Table, is_plain};
use super::{EndpointConfig, MAX_SOCKET_PATH};

/// Permission bits of the metrics socket: the daemon's group may scrape. It is a
/// group of its own, and numbers are all there is to be had (the sockets that
/// keys are used through are 0600).
const DEFAULT_MODE: u32 = 0o660;

/// Where metrics can be scraped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsListen {
    /// A Unix socket.
    Unix(EndpointConfig),
    /// A loopback address: every user of the host can connect.
    Tcp(SocketAddr),
}

/// What a log line looks like and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Journald where stderr is the journal, otherwise text.
    #[default]
    Auto,
    /// Lines for people, on stderr.
    Text,
    /// One JSON object a line, on stderr.
    Json,
    /// Journald's native protocol, with a field for each value.
    Journald,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Its form.
    pub format: LogFormat,
    /// What is logged: a level, or directives such as `info,clavigerd::store=debug`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".to_owned() }
    }
}

/// Names of levels.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Whether a text is a level, or levels of targets, separated by commas.
#[must_use]
pub fn is_level(text: &str) -> bool {
    let target = |name: &str| {
        let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-');
        !name.is_empty() && name.chars().all(part)
    };
    let directive = |text: &str| match text.split_once('=') {
        Some((name, level)) => target(name) && LEVELS.contains(&level),
        None => LEVELS.contains(&text),
    };
    text.split(',').all(directive)
}

/// `[metrics]`, and where its socket stands, to refuse it for what others say.
pub(super) struct Listen<'r, 't> {
    listen: MetricsListen,
    entry: Entry<'r, 't>,
}

impl Listen<'_, '_> {
    /// It, whatever the other sockets are.
    pub(super) fn any(self) -> MetricsListen {
        self.listen
    }

    /// It, if no endpoint has its socket.
    pub(super) fn apart<'e>(
        self,
        mut endpoints: impl Iterator<Item = &'e EndpointConfig>,
    ) -> Checked<MetricsListen> {
        match &self.listen {
            MetricsListen::Unix(own) if endpoints.any(|other| other.socket == own.socket) => {
                Err(self.entry.refuse("a socket that no endpoint has"))
            }
            _ => Ok(self.listen),
        }
    }
}

/// Reads `[metrics]`; without `listen` there is no endpoint for them.
pub(super) fn metrics<'r, 't>(root: &mut Table<'r, 't>) -> Checked<Option<Listen<'r, 't>>> {
    let Some(entry) = root.take("metrics") else { return Ok(None) };
    let mut table = entry.table("a table [metrics]")?;
    let listen = table.take("listen");
    let (bits, owner, group) = (table.take("mode"), table.take("owner"), table.take("group"));
    let read = match &listen {
        Some(entry) => place(entry).map(Some),
        None => Ok(None),
    };
    let listen = match (read, listen) {
        (Ok(Some(Place::Unix(socket))), Some(entry)) => {
            let bits = bits.as_ref().map_or(Ok(DEFAULT_MODE), mode);
            let owner = owner.as_ref().map(account).transpose();
            let group = group.as_ref().map(account).transpose();
            unix(socket, bits, owner, group).map(|listen| Some(Listen { listen, entry }))
        }
        (Ok(place), entry) => {
            let expected = "no such key: it is for a socket (listen = \"unix:…\")";
            let stray = [bits, owner, group].into_iter().flatten().map(|stray| Err(stray.refuse(expected)));
            let refused: Vec<Checked<()>> = stray.collect();
            refused.into_iter().collect::<Checked<()>>().map(|()| match (place, entry) {
                (Some(Place::Tcp(address)), Some(entry)) => {
                    Some(Listen { listen: MetricsListen::Tcp(address), entry })
                }
                _ => None,
            })
        }
        (Err(reported), _) => Err(reported),
    };
    table.finish().and(listen)
}

fn unix(
    socket: PathBuf,
    mode: Checked<u32>,
    owner: Checked<Option<String>>,
    group: Checked<Option<String>>,
) -> Checked<MetricsListen> {
    let name = "metrics".to_owned();
    Ok(MetricsListen::Unix(EndpointConfig {
        name,
        socket,
        mode: mode?,
        owner: owner?,
        group: group?,
        service: None,
    }))
}

enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

fn place(entry: &Entry<'_, '_>) -> Checked<Place> {
    let expected = "\"unix:\" and a socket's absolute path without '..' (at most 107 bytes), or a loopback \
                    address and port such as \"127.0.0.1:9464\" or \"[::1]:9464\"";
    let text = entry.string(expected, |text| parse(text).is_some())?;
    parse(text).ok_or_else(|| entry.refuse(expected))
}

fn parse(text: &str) -> Option<Place> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = Path::new(path);
        let plain = is_plain(text)
            && path.is_absolute()
            && path.as_os_str().len() <= MAX_SOCKET_PATH
            && !path.components().any(|part| part == Component::ParentDir);
        return plain.then(|| Place::Unix(path.components().collect()));
    }
    let address: SocketAddr = text.parse().ok()?;
    (address.ip().is_loopback() && address.port() != 0).then_some(Place::Tcp(address))
}

/// Reads `[log]`.
pub(super) fn log(root: &mut Table<'_, '_>) -> Checked<LogConfig> {
    let default = LogConfig::default();
    let Some(entry) = root.take("log") else { return Ok(default) };
    let mut table = entry.table("a table [log]")?;
    let format = table.or("format", default.format, |entry| {
        let expected = "\"auto\", \"text\", \"json\" or \"journald\"";
        let text = entry.string(expected, |text| format(text).is_some())?;
        format(text).ok_or_else(|| entry.refuse(expected))
    });
    let level = table.or("level", default.level, |entry| {
        let expected = "a level (off, error, warn, info, debug, trace), or some with targets such as \
                        \"info,clavigerd::store=debug\"";
        entry.string(expected, is_level).map(str::to_owned)
    });
    table.finish()?;
    Ok(LogConfig { format: format?, level: level? })
}

fn format(text: &str) -> Option<LogFormat> {
    Some(match text {
        "auto" => LogFormat::Auto,
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        "journald" => LogFormat::Journald,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_words_or_directives_and_nothing_else() {
        for good in ["info", "off", "warn,clavigerd=debug", "clavigerd::store=trace,sled=off"] {
            assert!(is_level(good), "{good}");
        }
        for bad in ["", "inof", "INFO", "info,", "a=b", "=info", "a[b]=info", "info, debug", "clavigerd"] {
            assert!(!is_level(bad), "{bad}");
        }
    }

    #[test]
    fn only_loopback_is_listened_on() {
        let tcp = |text| matches!(parse(text), Some(Place::Tcp(_)));
        assert!(tcp("127.0.0.1:9464") && tcp("127.1.2.3:1") && tcp("[::1]:9464"));
        for bad in [
            "0.0.0.0:9464",
            "[::]:9464",
            "192.168.1.1:9464",
            "localhost:9464",
            "127.0.0.1",
            "127.0.0.1:0",
            "9464",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_socket_has_an_absolute_path() {
        let unix = |text: &str| match parse(text) {
            Some(Place::Unix(path)) => Some(path),
            _ => None,
        };
        assert_eq!(unix("unix:/run//x/./m.sock").as_deref(), Some(Path::new("/run/x/m.sock")));
        let long = format!("unix:/{}", "a".repeat(MAX_SOCKET_PATH));
        for bad in ["unix:", "unix:m.sock", "unix:/a/../m", "unix://../m", "unix:/a\0", "/m.sock", &long] {
            assert!(unix(bad).is_none(), "{bad}");
        }
    }
}
