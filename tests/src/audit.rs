//! Reading the audit log that a daemon writes.

use std::path::Path;

use serde_json::Value;
use uuid::Uuid;

use crate::Site;

/// One event, as far as tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Operation, in the audit's spelling.
    pub operation: String,
    /// Outcome's name.
    pub outcome: String,
    /// Endpoint's name.
    pub endpoint: String,
    /// Type.
    pub kind: String,
    /// Level.
    pub level: String,
    /// Ids of resources.
    pub resources: Vec<Uuid>,
    /// The request's id.
    pub request_id: u64,
    /// The event's own id.
    pub event_id: String,
    /// The context's keyed hash, or empty.
    pub context_hash: String,
    /// How it was done, or empty.
    pub detail: String,
}

/// Where the log is.
#[must_use]
pub fn path(site: &Site) -> std::path::PathBuf {
    site.state_dir().join("audit.jsonl")
}

/// Every event of a log, which must be whole JSON lines.
#[must_use]
pub fn events(path: &Path) -> Vec<Event> {
    let text = std::fs::read_to_string(path).expect("the audit log can be read");
    assert!(text.is_empty() || text.ends_with('\n'), "the audit log ends with a whole line");
    text.lines().map(|line| event(&serde_json::from_str(line).expect("a line is a JSON object"))).collect()
}

fn event(line: &Value) -> Event {
    let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let resources = line["resources"].as_array().expect("resources is a list");
    Event {
        operation: text("operation"),
        outcome: text("outcome"),
        endpoint: text("endpoint"),
        kind: text("type"),
        level: text("level"),
        resources: resources.iter().map(|id| id.as_str().unwrap().parse().unwrap()).collect(),
        request_id: line["request_id"].as_u64().expect("request_id is a number"),
        event_id: text("event_id"),
        context_hash: text("context_hash"),
        detail: text("detail"),
    }
}
