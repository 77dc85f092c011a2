//! Names, kinds and meanings of everything exposed: `METRICS.md` is this table for
//! people, and a test holds the two together.

/// What kind of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Times, in buckets.
    Histogram,
}

impl Kind {
    /// The exposition format's word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Series of one name.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What kind of numbers.
    pub kind: Kind,
    /// Its labels, in order.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

macro_rules! families {
    ($($id:ident $kind:ident $name:literal [$($label:literal)*] $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $id: Family =
                Family { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )+

        /// Every family, in the order of exposition.
        pub const ALL: &[&Family] = &[$(&$id),+];
    };
}

families! {
    BUILD Gauge "claviger_build_info" ["version"] "1, with the daemon's version.";
    REQUESTS Counter "claviger_requests_total" ["operation" "outcome" "endpoint"]
        "Requests answered. A batch counts once, and each of its items as its own operation.";
    QUEUE Histogram "claviger_request_queue_seconds" ["operation" "outcome"]
        "From the complete frame to the start of the work, and waiting for a lane.";
    WORK Histogram "claviger_request_work_seconds" ["operation" "outcome"]
        "From the start of the work to the outcome, without waiting for a lane.";
    IN_FLIGHT Gauge "claviger_requests_in_flight" [] "Requests admitted and not ended.";
    UNLOCKED Gauge "claviger_domain_unlocked" [] "1 when keys can be used, 0 while no HSM has opened the domain.";
    MEMBER_STATE Gauge "claviger_member_state" ["member" "state"] "1 for the state that the member is in, 0 for others.";
    MEMBER_EPOCH Gauge "claviger_member_epoch" ["member"] "Which opening of the member this is; 0 before the first.";
    LANE_CALLS Counter "claviger_lane_calls_total" ["member" "lane" "how"]
        "Commands to the HSM: in_place on the caller's thread, queued to the lane's, refused where its queue was full.";
    LANE_FAILURES Counter "claviger_lane_failures_total" ["member" "lane"]
        "Commands that failed for the HSM's sake: unavailable, faulty, or an object gone.";
    LANE_WAIT Histogram "claviger_lane_wait_seconds" ["member" "lane"] "From queueing a command to its start.";
    LANE_HOLD Histogram "claviger_lane_hold_seconds" ["member" "lane"] "From the start of a queued command to its end.";
    LANE_BACKLOG Gauge "claviger_lane_backlog" ["member" "lane"] "Commands that wait for the lane.";
    CACHE_HITS Counter "claviger_cache_hits_total" ["cache"] "Values found in the cache.";
    CACHE_MISSES Counter "claviger_cache_misses_total" ["cache"] "Values that had to be loaded.";
    CACHE_EVICTIONS Counter "claviger_cache_evictions_total" ["cache"] "Values dropped to make room.";
    CACHE_ENTRIES Gauge "claviger_cache_entries" ["cache"] "Values in the cache.";
    UNWRAPS Counter "claviger_unwraps_total" ["outcome"] "Keys unwrapped into the HSM at first use: ok or failed.";
    STORE_COMMITS Counter "claviger_store_commits_total" ["outcome"] "Changes offered to the store: ok, or refused.";
    STORE_GROUPS Counter "claviger_store_groups_total" [] "Groups of changes written and synced together.";
    STORE_WRITE Histogram "claviger_store_write_seconds" [] "Writing a group of changes.";
    STORE_SYNC Histogram "claviger_store_sync_seconds" [] "Making a group of changes durable.";
    STORE_QUEUE Gauge "claviger_store_queue" [] "Changes that wait for the committer.";
    STORE_BYTES Gauge "claviger_store_bytes" [] "The store's size on disk.";
    AUDIT_EVENTS Counter "claviger_audit_events_total" [] "Audit events written.";
    AUDIT_BYTES Counter "claviger_audit_written_bytes_total" [] "Bytes written to the audit log.";
    AUDIT_WRITE Histogram "claviger_audit_write_seconds" [] "Handing a turn's events to the kernel.";
    AUDIT_SYNC Histogram "claviger_audit_sync_seconds" [] "Putting written events on the disk.";
    AUDIT_FAILING Gauge "claviger_audit_failing" [] "1 while the audit log can't be written and calls are refused.";
    CONNECTIONS Gauge "claviger_connections" ["endpoint"] "Open connections.";
    ACCEPTED Counter "claviger_connections_accepted_total" ["endpoint"] "Connections accepted.";
    REFUSED Counter "claviger_connections_refused_total" ["endpoint"] "Connections closed at once: too many, or no memory.";
    RECEIVED Counter "claviger_received_bytes_total" ["endpoint"] "Bytes read from connections.";
    SENT Counter "claviger_sent_bytes_total" ["endpoint"] "Bytes written to connections.";
    BUFFERS Gauge "claviger_buffer_bytes" ["budget"] "Memory of connections' buffers in use.";
    BUFFER_LIMIT Gauge "claviger_buffer_limit_bytes" ["budget"] "Memory that connections' buffers may use.";
    START Gauge "claviger_process_start_time_seconds" [] "When the daemon started, in Unix time.";
    RESIDENT Gauge "claviger_process_resident_bytes" [] "Resident memory.";
    LOCKED Gauge "claviger_process_locked_bytes" [] "Memory locked against swapping.";
    DESCRIPTORS Gauge "claviger_process_open_descriptors" [] "Open file descriptors.";
    DESCRIPTOR_LIMIT Gauge "claviger_process_max_descriptors" [] "File descriptors that may be open.";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document: `| name | kind | labels | meaning |`.
    const DOCUMENT: &str = include_str!("../../METRICS.md");

    #[test]
    fn the_document_lists_exactly_the_families() {
        let rows: Vec<&str> = DOCUMENT.lines().filter(|line| line.starts_with("| `claviger_")).collect();
        let row = |family: &&Family| {
            let labels = family.labels.join(", ");
            format!("| `{}` | {} | {labels} | {} |", family.name, family.kind.name(), family.help)
        };
        let wanted: Vec<String> = ALL.iter().map(row).collect();
        assert_eq!(rows, wanted);
    }

    #[test]
    fn names_follow_the_conventions() {
        for family in ALL {
            assert!(family.name.starts_with("claviger_"));
            assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter, "{}", family.name);
            assert!(family.kind != Kind::Histogram || family.name.ends_with("_seconds"), "{}", family.name);
            assert!(family.help.ends_with('.') && !family.help.contains(['|', '\\', '\n']));
        }
    }
}
