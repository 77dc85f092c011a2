//! An event as one JSON object on a line of its own, in the order in which people
//! read it. Written by hand: a line stands on the way of every call, and costs a
//! third of what a general serializer takes for it. The tests read every line back
//! with one.

use std::time::{Duration, UNIX_EPOCH};

use claviger_protocol::Code;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::Event;
use super::log::ABANDONED;
use crate::edge::Timestamp;

/// Writes lines; remembers the last time's spelling, which a batch's events share.
#[derive(Default)]
pub(super) struct Lines {
    time: Timestamp,
    spelled: String,
}

impl Lines {
    /// Appends an event's line to `out`.
    pub(super) fn put(&mut self, event: &Event, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        out.extend_from_slice(self.rfc3339(event.time).as_bytes());
        out.extend_from_slice(b"\",\"event_id\":\"");
        put_uuid(event.event_id, out);
        out.extend_from_slice(b"\",\"type\":\"");
        out.extend_from_slice(event.kind.name().as_bytes());
        out.extend_from_slice(b"\",\"level\":\"");
        out.extend_from_slice(event.level.name().as_bytes());
        out.extend_from_slice(b"\",\"endpoint\":");
        put_string(&event.endpoint, out);
        out.extend_from_slice(b",\"access_key\":");
        match &event.access_key {
            Some(id) => put_string(id, out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"peer\":");
        match event.peer {
            Some((uid, gid, pid)) => {
                put_number(b"{\"uid\":", uid, out);
                put_number(b",\"gid\":", gid, out);
                put_number(b",\"pid\":", pid, out);
                out.push(b'}');
            }
            None => out.extend_from_slice(b"null"),
        }
        put_number(b",\"connection\":", event.connection, out);
        put_number(b",\"request_id\":", event.request_id, out);
        out.extend_from_slice(b",\"operation\":");
        put_string(&event.operation, out);
        out.extend_from_slice(b",\"resource_type\":\"");
        out.extend_from_slice(event.resource_kind.name().as_bytes());
        out.extend_from_slice(b"\",\"resources\":[");
        for (index, id) in event.resources.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
            put_uuid(*id, out);
            out.push(b'"');
        }
        out.extend_from_slice(b"],\"context_hash\":");
        match &event.context_hash {
            Some(hash) => put_hash(hash, out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"outcome\":\"");
        out.extend_from_slice(outcome_name(event.outcome).as_bytes());
        put_number(b"\",\"duration_us\":", event.duration_us, out);
        // What few events have, and no other's line is longer for.
        if let Some(detail) = &event.detail {
            out.extend_from_slice(b",\"detail\":");
            put_string(detail, out);
        }
        out.extend_from_slice(b"}\n");
    }

    fn rfc3339(&mut self, time: Timestamp) -> &str {
        if self.spelled.is_empty() || self.time != time {
            let since = Duration::from_millis(u64::try_from(time).unwrap_or(0));
            self.spelled = humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string();
            self.time = time;
        }
        &self.spelled
    }
}

fn put_number(label: &[u8], number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(label);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn put_uuid(id: Uuid, out: &mut Vec<u8>) {
    let mut text = [0; Hyphenated::LENGTH];
    out.extend_from_slice(id.hyphenated().encode_lower(&mut text).as_bytes());
}

fn put_hash(hash: &[u8; 16], out: &mut Vec<u8>) {
    let mut text = [0; 32];
    // Two digits for each byte always fit.
    let _ = hex::encode_to_slice(hash, &mut text);
    out.push(b'"');
    out.extend_from_slice(&text);
    out.push(b'"');
}

/// A JSON string (RFC 8259 section 7). What needs escaping is rare, and left to the library.
fn put_string(text: &str, out: &mut Vec<u8>) {
    let plain = |byte: u8| (b' '..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // A vector takes everything, and a string can be written.
        let _ = serde_json::to_writer(out, text);
    }
}

fn outcome_name(number: u16) -> &'static str {
    match number {
        ABANDONED => "Abandoned",
        _ => Code::from_number(number).map_or("Unknown", Code::name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{EventKind, Level, ResourceKind};
    use serde_json::{Value, json};

    fn read(event: &Event) -> Value {
        let mut out = Vec::new();
        Lines::default().put(event, &mut out);
        let (last, rest) = out.split_last().unwrap();
        assert!(*last == b'\n' && !rest.contains(last));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_line_is_one_json_object_with_everything_in_it() {
        let mut event = Event::internal(Uuid::from_u128(1), 1_500, "rotateKey");
        assert_eq!(
            read(&event),
            json!({
                "time": "1970-01-01T00:00:01.500Z",
                "event_id": Uuid::from_u128(1),
                "type": "internal",
                "level": "normal",
                "endpoint": "",
                "access_key": null,
                "peer": null,
                "connection": 0,
                "request_id": 0,
                "operation": "rotateKey",
                "resource_type": "domain",
                "resources": [],
                "context_hash": null,
                "outcome": "Ok",
                "duration_us": 0,
            })
        );
        event.kind = EventKind::Data;
        event.level = Level::Incident;
        event.endpoint = "app".into();
        event.access_key = Some("AK".into());
        event.peer = Some((1, u32::MAX, -1));
        event.connection = u64::MAX;
        event.request_id = u64::MAX;
        event.resource_kind = ResourceKind::Key;
        event.resources = vec![Uuid::from_u128(2), Uuid::from_u128(3)];
        event.context_hash = Some([0xab; 16]);
        event.outcome = Code::InvalidCiphertext.number();
        event.duration_us = u64::MAX;
        event.detail = Some("through memory".into());
        let line = read(&event);
        assert_eq!(line["resources"], json!([Uuid::from_u128(2), Uuid::from_u128(3)]));
        assert_eq!(line["peer"], json!({ "uid": 1, "gid": u32::MAX, "pid": -1 }));
        assert_eq!(line["context_hash"], json!("ab".repeat(16)));
        assert_eq!((&line["request_id"], &line["duration_us"]), (&json!(u64::MAX), &json!(u64::MAX)));
        assert_eq!((&line["outcome"], &line["level"]), (&json!("InvalidCiphertext"), &json!("incident")));
        assert_eq!((&line["endpoint"], &line["access_key"]), (&json!("app"), &json!("AK")));
        assert_eq!(line["detail"], json!("through memory"));
    }

    #[test]
    fn no_text_can_break_out_of_its_string() {
        for text in ["a\"b", "a\\", "a\nb", "\u{0}\u{1f}\u{7f}", "é\u{2028}", "\"},{\"x\":\""] {
            let mut event = Event::internal(Uuid::nil(), 0, "x");
            event.operation = text.to_owned().into();
            event.endpoint = text.into();
            let line = read(&event);
            assert_eq!((&line["operation"], &line["endpoint"]), (&json!(text), &json!(text)));
        }
    }

    #[test]
    fn times_are_spelled_anew_when_they_change() {
        let mut lines = Lines::default();
        assert_eq!(lines.rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(lines.rfc3339(1), "1970-01-01T00:00:00.001Z");
        assert_eq!(lines.rfc3339(-1), "1970-01-01T00:00:00.000Z");
        assert_eq!(lines.rfc3339(1_700_000_000_000), "2023-11-14T22:13:20.000Z");
    }

    #[test]
    fn outcomes_have_names() {
        assert_eq!(outcome_name(ABANDONED), "Abandoned");
        assert_eq!(outcome_name(Code::Busy.number()), "Busy");
        assert_eq!(outcome_name(12_345), "Unknown");
    }
}
