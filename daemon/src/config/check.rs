//! The meaning of every key but the limits: from tables as written to the checked
//! types of [`super`]. Nothing here reads a file, but for a profile named by path.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use claviger_hsm_profiles::Profile;
use claviger_protocol::ServiceName;

use super::limits::limits;
use super::observe;
use super::raw::{Checked, Entry, Report, Table, is_plain};
use super::{ADMIN, DEFAULT_CALL_TIMEOUT, EMBEDDED, EMBEDDED_DIR, MAX_SOCKET_PATH};
use super::{
    Config, EndpointConfig, Isolation, Limits, LockMemory, MemberConfig, PinSource, TokenSelector,
    TokenSource,
};

const DEFAULT_STATE_DIR: &str = "/var/lib/claviger";
const DEFAULT_ADMIN_SOCKET: &str = "/run/claviger/admin.sock";
/// Owner only; another mode is asked for together with an owner or a group.
const DEFAULT_MODE: u32 = 0o600;
/// Static endpoints; more come as access points at run time.
const MAX_ENDPOINTS: usize = 64;
/// Longest name of an endpoint or a member, in bytes.
const MAX_NAME: usize = 64;
/// How long a call to a helper may take.
const CALL_TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(10);
/// Where a module runs, by name.
const THREAD: &str = "thread";
const PROCESS: &str = "process";
const UNIT: &str = "unit";
const ISOLATIONS: [&str; 3] = [PROCESS, THREAD, UNIT];
/// Bytes of a token's label and serial number (PKCS#11 v3.0, 3.2 CK_TOKEN_INFO).
const MAX_LABEL: usize = 32;
const MAX_SERIAL: usize = 16;

/// Reads the whole configuration.
pub(super) fn config(report: Report<'_>) -> Result<Config, Vec<super::Problem>> {
    report.read(|mut root| {
        let config = sections(&mut root);
        root.finish().and(config)
    })
}

fn sections(root: &mut Table<'_, '_>) -> Checked<Config> {
    let state_dir = root.or("state_dir", PathBuf::from(DEFAULT_STATE_DIR), Entry::path);
    let allow_software_tokens = root.or("allow_software_tokens", false, Entry::boolean);
    let lock_memory = root.or("lock_memory", LockMemory::default(), |entry| {
        let expected = "\"require\", \"try\" or \"off\"";
        let text = entry.string(expected, |text| LockMemory::named(text).is_some())?;
        LockMemory::named(text).ok_or_else(|| entry.refuse(expected))
    });
    let admin = admin(root);
    let endpoints = endpoints(root);
    let distinct = match (&admin, &endpoints) {
        (Ok(admin), Ok(endpoints)) => distinct_endpoints(admin, endpoints),
        _ => Ok(()),
    };
    let token_dir = state_dir.clone().map(|dir| dir.join(EMBEDDED_DIR));
    let hsm = members(root, &token_dir);
    let limits = root.or("limits", Limits::default(), |entry| limits(entry.table("a table [limits]")?));
    let metrics = observe::metrics(root);
    let log = observe::log(root);
    let metrics = match (&admin, &endpoints, metrics) {
        (Ok(admin), Ok(endpoints), Ok(Some(listen))) => {
            let sockets = [admin].into_iter().chain(endpoints.iter().map(|endpoint| &endpoint.config));
            listen.apart(sockets).map(Some)
        }
        (_, _, metrics) => metrics.map(|listen| listen.map(observe::Listen::any)),
    };
    let audit = later_section(root, "audit");
    let quotas = later_section(root, "quotas");
    audit.and(quotas)?;
    distinct?;
    Ok(Config {
        state_dir: state_dir?,
        dev: false,
        allow_software_tokens: allow_software_tokens?,
        lock_memory: lock_memory?,
        admin: admin?,
        endpoints: endpoints?.into_iter().map(|endpoint| endpoint.config).collect(),
        hsm: hsm?,
        metrics: metrics?,
        log: log?,
        limits: limits?,
    })
}

/// A section whose keys come with later versions: it may be there, empty.
fn later_section(root: &mut Table<'_, '_>, section: &'static str) -> Checked<()> {
    root.or(section, (), |entry| entry.table("a table, empty in this version")?.finish())
}

/// A static endpoint, and where its name and socket stand, to refuse them for what
/// another says.
struct Endpoint<'r, 't> {
    config: EndpointConfig,
    name: Entry<'r, 't>,
    socket: Entry<'r, 't>,
}

fn admin(root: &mut Table<'_, '_>) -> Checked<EndpointConfig> {
    let (name, default) = (ADMIN.to_owned(), PathBuf::from(DEFAULT_ADMIN_SOCKET));
    let Some(entry) = root.take("admin") else {
        return Ok(EndpointConfig {
            name,
            socket: default,
            mode: DEFAULT_MODE,
            owner: None,
            group: None,
            service: None,
        });
    };
    let mut table = entry.table("a table [admin]")?;
    let socket = table.or("socket", default, socket_path);
    let config = endpoint(&mut table, Ok(name), socket);
    table.finish().and(config)
}

fn endpoints<'r, 't>(root: &mut Table<'r, 't>) -> Checked<Vec<Endpoint<'r, 't>>> {
    let Some(entry) = root.take("endpoint") else { return Ok(Vec::new()) };
    let tables = entry.tables("tables [[endpoint]]")?;
    if tables.len() > MAX_ENDPOINTS {
        return Err(entry.refuse(format!("at most {MAX_ENDPOINTS} endpoints")));
    }
    all(tables.into_iter().map(|mut table| {
        let name = table.entry("name", "the name of an access point");
        let socket = table.entry("socket", "the path of a socket");
        let text = name.as_ref().map_err(|reported| *reported).and_then(endpoint_name);
        let path = socket.as_ref().map_err(|reported| *reported).and_then(socket_path);
        let service = table.or("service", None, |entry| service_name(entry).map(Some));
        let config = endpoint(&mut table, text, path);
        table.finish()?;
        Ok(Endpoint { config: EndpointConfig { service: service?, ..config? }, name: name?, socket: socket? })
    }))
}

fn endpoint_name(entry: &Entry<'_, '_>) -> Checked<String> {
    let name = member_name(entry)?;
    if name == ADMIN {
        return Err(entry.refuse("another name: the admin endpoint is [admin]"));
    }
    Ok(name)
}

fn service_name(entry: &Entry<'_, '_>) -> Checked<ServiceName> {
    let expected = "a service's name of 1 to 64 of A-Z a-z 0-9 _ -";
    let text = entry.string(expected, |text| ServiceName::new(text).is_ok())?;
    ServiceName::new(text).map_err(|_| entry.refuse(expected))
}

/// What every socket has.
fn endpoint(
    table: &mut Table<'_, '_>,
    name: Checked<String>,
    socket: Checked<PathBuf>,
) -> Checked<EndpointConfig> {
    let mode = table.or("mode", DEFAULT_MODE, mode);
    let owner = table.or("owner", None, |entry| account(entry).map(Some));
    let group = table.or("group", None, |entry| account(entry).map(Some));
    Ok(EndpointConfig {
        name: name?,
        socket: socket?,
        mode: mode?,
        owner: owner?,
        group: group?,
        service: None,
    })
}

/// No name and no socket twice.
fn distinct_endpoints(admin: &EndpointConfig, endpoints: &[Endpoint<'_, '_>]) -> Checked<()> {
    let mut names = BTreeSet::new();
    let mut sockets = BTreeSet::from([admin.socket.as_path()]);
    let mut result = Ok(());
    for Endpoint { config, name, socket } in endpoints {
        if !names.insert(config.name.as_str()) {
            result = Err(name.refuse("a name that no other endpoint has"));
        }
        if !sockets.insert(config.socket.as_path()) {
            result = Err(socket.refuse("a socket that no other endpoint has, [admin] included"));
        }
    }
    result
}

fn members(root: &mut Table<'_, '_>, token_dir: &Checked<PathBuf>) -> Checked<Vec<MemberConfig>> {
    let expected = "exactly one [[hsm]]";
    let entry = root.entry("hsm", expected)?;
    let mut tables = entry.tables(expected)?;
    if let Some(second) = tables.get(1) {
        return Err(second.refuse(
            format!("{} members", tables.len()),
            format!("{expected}: several members (a pool) are not available in this version"),
        ));
    }
    match tables.pop() {
        Some(table) => Ok(vec![member(table, token_dir)?]),
        None => Err(entry.refuse(expected)),
    }
}

/// `token_dir` is the embedded token's, if the state directory it is in is right.
fn member(mut table: Table<'_, '_>, token_dir: &Checked<PathBuf>) -> Checked<MemberConfig> {
    let name = table.required("name", "the member's name", member_name);
    let profile = table.required("profile", "a built-in profile's name or an absolute path", profile);
    let embedded = matches!(&profile, Ok(profile) if profile.name == EMBEDDED);
    let isolation = isolation(&mut table, embedded);
    let call_timeout = table.or("call_timeout", DEFAULT_CALL_TIMEOUT, |entry| entry.duration(&CALL_TIMEOUTS));
    let module = Module::take(&mut table);
    let (source, pin) = match &profile {
        Ok(profile) if profile.name == EMBEDDED => {
            let source = module.none().and(token_dir.clone()).map(|dir| TokenSource::Embedded { dir });
            (source, pin(&mut table, token_dir.as_deref().ok()))
        }
        Ok(_) => (module.source(&table), pin(&mut table, None)),
        // Which of the two kinds it is nobody knows; the PIN's own keys still have their rules.
        Err(reported) => (Err(*reported), pin(&mut table, None)),
    };
    table.finish()?;
    Ok(MemberConfig {
        name: name?,
        profile: profile?,
        source: source?,
        pin: pin?,
        isolation: isolation?,
        call_timeout: call_timeout?,
    })
}

/// Where the module runs. The embedded token is a part of the daemon.
fn isolation(table: &mut Table<'_, '_>, embedded: bool) -> Checked<Isolation> {
    let (helper, socket) = (table.take("helper"), table.take("socket"));
    let named = table.or("isolation", if embedded { THREAD } else { PROCESS }, |entry| {
        let text = entry.string("\"process\", \"thread\" or \"unit\"", |text| ISOLATIONS.contains(&text))?;
        if embedded && text != THREAD {
            return Err(entry.refuse("\"thread\": the embedded token is a part of the daemon"));
        }
        Ok(text)
    })?;
    let only = |entry: &Option<Entry<'_, '_>>, of: &str| match entry {
        Some(entry) => Err(entry.refuse(format!("no such key but with isolation = {of:?}"))),
        None => Ok(()),
    };
    match named {
        PROCESS => {
            only(&socket, UNIT)?;
            Ok(Isolation::Process { helper: helper.map(|entry| entry.path()).transpose()? })
        }
        UNIT => {
            only(&helper, PROCESS)?;
            let expected = "the path of the helper's socket";
            let socket = socket.ok_or_else(|| table.missing("socket", expected))?;
            Ok(Isolation::Unit { socket: socket_path(&socket)? })
        }
        _ => {
            let (helper, socket) = (only(&helper, PROCESS), only(&socket, UNIT));
            helper.and(socket).map(|()| Isolation::Thread)
        }
    }
}

/// The keys that say where a module's token is.
struct Module<'r, 't> {
    path: Option<Entry<'r, 't>>,
    label: Option<Entry<'r, 't>>,
    serial: Option<Entry<'r, 't>>,
    slot: Option<Entry<'r, 't>>,
}

impl<'r, 't> Module<'r, 't> {
    fn take(table: &mut Table<'r, 't>) -> Self {
        Self {
            path: table.take("module"),
            label: table.take("token_label"),
            serial: table.take("serial"),
            slot: table.take("slot"),
        }
    }

    /// The embedded token is in the daemon and has slots of its own.
    fn none(&self) -> Checked<()> {
        let given = [&self.path, &self.label, &self.serial, &self.slot];
        let refuse = |entry: &Entry<'r, 't>| Err(entry.refuse("no such key with profile \"embedded\""));
        all(given.into_iter().flatten().map(refuse)).map(|_: Vec<()>| ())
    }

    fn source(&self, table: &Table<'_, '_>) -> Checked<TokenSource> {
        let path = match &self.path {
            Some(entry) => entry.path(),
            None => Err(table.missing("module", "the absolute path of a PKCS#11 module")),
        };
        let expected = "exactly one of token_label, serial, slot";
        let token = match (&self.label, &self.serial, &self.slot) {
            (Some(label), None, None) => fixed_text(label, MAX_LABEL).map(TokenSelector::Label),
            (None, Some(serial), None) => fixed_text(serial, MAX_SERIAL).map(TokenSelector::Serial),
            (None, None, Some(slot)) => slot.count(&(0..=u64::from(u32::MAX))).map(TokenSelector::Slot),
            (None, None, None) => Err(table.refuse("none of token_label, serial, slot", expected)),
            _ => Err(table.refuse("several of token_label, serial, slot", expected)),
        };
        Ok(TokenSource::Module { path: path?, token: token? })
    }
}

/// A token's label or serial number: PKCS#11 pads them with blanks, so none at the end.
fn fixed_text(entry: &Entry<'_, '_>, most: usize) -> Checked<String> {
    let expected = format!("1 to {most} bytes without control characters, not ending in a blank");
    let accept = |text: &str| is_plain(text) && text.len() <= most && !text.ends_with(' ');
    entry.string(&expected, accept).map(str::to_owned)
}

fn profile(entry: &Entry<'_, '_>) -> Checked<Profile> {
    let expected = "a built-in profile's name or an absolute path";
    let is_file = |text: &str| text.contains('/') || Path::new(text).extension().is_some_and(|e| e == "toml");
    let text = entry.string(expected, |text| is_plain(text) && (text.starts_with('/') || !is_file(text)))?;
    let profile = Profile::load(text).map_err(|error| entry.refuse(format!("{expected} ({error})")))?;
    // The name decides where the token is: only the built-in one may have it.
    if profile.name == EMBEDDED && text != EMBEDDED {
        return Err(entry.refuse("a profile with another name than \"embedded\", which is built in"));
    }
    Ok(profile)
}

/// Where the PIN comes from. `token_dir` is the embedded token's: outside `--dev`
/// the PIN never lies in it, or a copy of the directory would be the keys.
fn pin(table: &mut Table<'_, '_>, token_dir: Option<&Path>) -> Checked<PinSource> {
    let expected = "a table with one of file, credential, env, command";
    let mut pin = table.entry("pin", expected)?.hide().table(expected)?;
    let given = ["file", "credential", "env", "command"].map(|key| pin.take(key));
    let [file, credential, env, command] = &given;
    let source = match (file, credential, env, command) {
        (Some(entry), None, None, None) => pin_file(entry, token_dir),
        (None, Some(entry), None, None) => {
            let accept = |text: &str| is_name(text, ".", 255) && !matches!(text, "." | "..");
            entry.string("a credential's name", accept).map(|text| PinSource::Credential(text.to_owned()))
        }
        (None, None, Some(entry), None) => {
            let accept = |text: &str| {
                is_name(text, "", 255) && !text.contains('-') && !text.starts_with(char::is_numeric)
            };
            entry.string("a variable's name", accept).map(|text| PinSource::Env(text.to_owned()))
        }
        (None, None, None, Some(entry)) => entry.strings("a program and its arguments").and_then(|words| {
            let absolute = words.first().is_some_and(|program| Path::new(program).is_absolute());
            if absolute {
                Ok(PinSource::Command(words))
            } else {
                Err(entry.refuse("a program by its absolute path"))
            }
        }),
        (None, None, None, None) => {
            Err(pin.refuse("none of file, credential, env, command", "exactly one of them"))
        }
        _ => Err(pin.refuse("several of file, credential, env, command", "exactly one of them")),
    };
    pin.finish().and(source)
}

fn pin_file(entry: &Entry<'_, '_>, token_dir: Option<&Path>) -> Checked<PinSource> {
    let path = entry.path()?;
    match token_dir {
        Some(dir) if path.starts_with(dir) => {
            Err(entry.refuse("a file outside the token's directory (only --dev keeps the PIN there)"))
        }
        _ => Ok(PinSource::File(path)),
    }
}

fn socket_path(entry: &Entry<'_, '_>) -> Checked<PathBuf> {
    let path = entry.path()?;
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        return Ok(path);
    }
    Err(entry.refuse(format!("a path of at most {MAX_SOCKET_PATH} bytes (sun_path)")))
}

fn member_name(entry: &Entry<'_, '_>) -> Checked<String> {
    let expected = "a name of 1 to 64 of A-Z a-z 0-9 _ -";
    entry.string(expected, |text| is_name(text, "", MAX_NAME)).map(str::to_owned)
}

/// Letters, digits, `_`, `-` and what `also` has.
fn is_name(text: &str, also: &str, most: usize) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-') || also.contains(c);
    (1..=most).contains(&text.len()) && text.chars().all(allowed)
}

/// Permission bits, as text: TOML reads a bare 0600 as an error and 600 as decimal.
pub(super) fn mode(entry: &Entry<'_, '_>) -> Checked<u32> {
    let expected = "an octal string such as \"0600\", not writable for others";
    let octal = |text: &str| {
        let digits = (3..=4).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o777 && mode & 0o002 == 0)
    };
    let text = entry.string(expected, |text| octal(text).is_some())?;
    octal(text).ok_or_else(|| entry.refuse(expected))
}

/// A user or group, by name or number.
pub(super) fn account(entry: &Entry<'_, '_>) -> Checked<String> {
    let expected = "a name or number as a string, such as \"claviger\" or \"990\"";
    entry.string(expected, |text| is_name(text, ".$", MAX_NAME) && !text.starts_with('-')).map(str::to_owned)
}

/// Every result, so that every problem is reported, or one word that some were.
fn all<T>(results: impl Iterator<Item = Checked<T>>) -> Checked<Vec<T>> {
    let results: Vec<_> = results.collect();
    results.into_iter().collect()
}
