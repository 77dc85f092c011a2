//! The daemon's own process, as the kernel sees it (proc(5)). What can't be read is
//! not shown.

use std::fs;

use nix::sys::resource::{Resource, getrlimit};

/// Figures of this process.
pub(super) struct Process {
    /// Resident memory, in bytes.
    pub(super) resident: Option<u64>,
    /// Locked memory, in bytes.
    pub(super) locked: Option<u64>,
    /// Open descriptors; the one that counts them isn't counted.
    pub(super) descriptors: Option<u64>,
    /// Descriptors that may be open (the soft limit).
    pub(super) descriptor_limit: Option<u64>,
}

impl Process {
    pub(super) fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let opened = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64);
        Self {
            resident: kibibytes(&status, "VmRSS:"),
            locked: kibibytes(&status, "VmLck:"),
            descriptors: opened.map(|count| count.saturating_sub(1)),
            descriptor_limit: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
        }
    }
}

/// A line such as `VmRSS:     1234 kB`, in bytes.
fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_status_are_read_and_others_give_nothing() {
        let status = "Name:\tx\nVmLck:\t       0 kB\nVmRSS:\t    5124 kB\nVmSwap:\t kB\n";
        assert_eq!(kibibytes(status, "VmRSS:"), Some(5124 * 1024));
        assert_eq!(kibibytes(status, "VmLck:"), Some(0));
        assert_eq!(kibibytes(status, "VmSwap:"), None);
        assert_eq!(kibibytes(status, "VmHWM:"), None);
    }

    #[test]
    fn this_process_has_all_of_them() {
        let process = Process::read();
        assert!(process.resident.is_some_and(|bytes| bytes > 0));
        assert!(process.locked.is_some() && process.descriptors.is_some_and(|count| count > 0));
        assert!(process.descriptor_limit >= process.descriptors);
    }
}
