//! What the daemon asks of the operating system for its own process: that what it
//! makes is private, that its memory reaches no file, and descriptors enough.
//! Everything here holds for the whole process, so only the program calls it.

use nix::libc;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::User;

use crate::config::{Config, LockMemory};

/// Descriptors that one connection may cost: its socket, and one for what is done
/// for it (the HSM's library opens files of its own).
const PER_CONNECTION: u64 = 2;
/// Descriptors besides connections: store, log, locks, listeners, the runtime.
const BESIDES: u64 = 64;

/// The capability's number (linux/capability.h).
const CAP_IPC_LOCK: u32 = 14;

/// Why the process isn't fit to serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// All connections that the configuration allows need more descriptors than the
    /// process may have.
    #[error(
        "limits.max_connections: found {max_connections} for each of {endpoints} endpoints, which takes {needed} descriptors; expected no more than the hard limit on descriptors, {hard}: allow fewer connections, or raise the limit (LimitNOFILE of the unit, ulimit -Hn)"
    )]
    Descriptors {
        /// Connections of one endpoint, as configured.
        max_connections: u32,
        /// Endpoints, the admin endpoint among them.
        endpoints: usize,
        /// What they take together.
        needed: u64,
        /// RLIMIT_NOFILE's hard limit.
        hard: u64,
    },
    /// Its memory could reach the swap.
    #[error(
        "the memory can't be locked ({0}): set LimitMEMLOCK=infinity in the unit (ulimit -l unlimited), or lock_memory = \"try\" in the configuration, and keys may reach the swap"
    )]
    Memory(String),
    /// The operating system refused.
    #[error("can't set {what}: {error}")]
    System {
        /// What was to be set.
        what: &'static str,
        /// Why it wasn't.
        error: nix::Error,
    },
}

fn refused(what: &'static str) -> impl FnOnce(nix::Error) -> ProcessError {
    move |error| ProcessError::System { what, error }
}

/// Files made from now on are the owner's alone (umask 0077), and no core dump or
/// debugger of another process of this user gets at keys in memory (setrlimit(2)
/// RLIMIT_CORE, PR_SET_DUMPABLE(2const)).
///
/// # Errors
/// [`ProcessError::System`].
pub fn harden() -> Result<(), ProcessError> {
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(refused("RLIMIT_CORE"))?;
    prctl::set_dumpable(false).map_err(refused("PR_SET_DUMPABLE"))
}

/// Locks all memory, what is there and what will be, each page when it is first
/// touched (mlockall(2) MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT). Whole, because
/// cryptographic libraries copy keys to wherever they like; with no limit, because an
/// allocation that a limit stops would end the daemon later.
///
/// # Errors
/// [`ProcessError::Memory`] where it must be locked and can't be.
pub fn lock_memory(wanted: LockMemory) -> Result<(), ProcessError> {
    let locked = match wanted {
        LockMemory::Off => return Ok(()),
        LockMemory::Require | LockMemory::Try => try_lock_memory(),
    };
    match locked {
        Err(reason) if wanted == LockMemory::Require => Err(ProcessError::Memory(reason)),
        Err(reason) => {
            tracing::warn!(%reason, "the memory could not be locked: keys may reach the swap");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

fn try_lock_memory() -> Result<(), String> {
    let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).map_err(|error| error.to_string())?;
    if hard != libc::RLIM_INFINITY && !may_lock_without_limit() {
        return Err(format!("the hard limit on locked memory is {hard} bytes"));
    }
    // A privileged process may lock more than its limit, and needn't raise it.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard);
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault)
        .map_err(|error| error.to_string())
}

/// Whether the process has CAP_IPC_LOCK (capabilities(7), proc_pid_status(5)).
fn may_lock_without_limit() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    bits.is_some_and(|bits| bits & (1 << CAP_IPC_LOCK) != 0)
}

/// Raises the limit on open descriptors to all that the process may have.
///
/// # Errors
/// [`ProcessError::Descriptors`] where they can't suffice for all connections,
/// otherwise [`ProcessError::System`].
pub fn raise_descriptors(config: &Config) -> Result<(), ProcessError> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(refused("RLIMIT_NOFILE"))?;
    suffices(config, hard)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(refused("RLIMIT_NOFILE"))
}

fn suffices(config: &Config, hard: u64) -> Result<(), ProcessError> {
    let (max_connections, endpoints) = (config.limits.max_connections, 1 + config.endpoints.len());
    let connections = u64::from(max_connections).saturating_mul(endpoints as u64);
    let needed = connections.saturating_mul(PER_CONNECTION).saturating_add(BESIDES);
    if needed > hard {
        return Err(ProcessError::Descriptors { max_connections, endpoints, needed, hard });
    }
    Ok(())
}

/// Goes on as another user, with that user's groups; for good. For root alone.
///
/// # Errors
/// What to do, where there is no such user or the system refuses.
pub fn become_user(name: &str) -> Result<(), String> {
    let refused = |error: nix::Error| {
        format!("can't look as user {name:?}: {}: run this as root, or as that user", error.desc())
    };
    let user = User::from_name(name).map_err(refused)?;
    let user = user
        .ok_or_else(|| format!("there is no user {name:?}: make it (systemd-sysusers), or mend the name"))?;
    if user.uid == nix::unistd::geteuid() {
        return Ok(());
    }
    let group_list = std::ffi::CString::new(name).map_err(|error| error.to_string())?;
    nix::unistd::initgroups(&group_list, user.gid).map_err(refused)?;
    nix::unistd::setgid(user.gid).map_err(refused)?;
    nix::unistd::setuid(user.uid).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_suffice_for_every_connection_of_every_endpoint_or_the_numbers_are_told() {
        let mut config = Config::dev(std::path::Path::new("/s")).unwrap();
        config.limits.max_connections = 10;
        assert_eq!(suffices(&config, 104), Ok(()));
        let text = suffices(&config, 103).unwrap_err().to_string();
        assert!(text.contains("found 10 for each of 2") && text.contains("takes 104"), "{text}");
        assert!(text.contains("descriptors, 103"), "{text}");
        config.endpoints.push(config.endpoints[0].clone());
        assert!(suffices(&config, 123).is_err() && suffices(&config, 124).is_ok());
        config.limits.max_connections = u32::MAX;
        assert!(suffices(&config, 124).is_err() && suffices(&config, u64::MAX).is_ok());
    }
}
