//! One audit event: who did what to which resource, and what came of it.

use std::borrow::Cow;
use std::sync::Arc;

use claviger_protocol::codec::{self, DecodeError};
use claviger_protocol::ops::{Plane, Row};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::edge::Timestamp;
use crate::identity::Caller;

/// What kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum EventKind {
    /// A change or a look at metadata.
    Management = 1,
    /// Use of a key.
    Data = 2,
    /// Something the daemon did by itself.
    Internal = 3,
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Level {
    /// Ordinary, refusals of wrong input included.
    Normal = 1,
    /// Refused for lack of permission, or failed inside.
    Warning = 2,
    /// Material or records that fail their checks.
    Incident = 3,
}

/// What kind of thing the ids name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum ResourceKind {
    /// The domain as a whole.
    Domain = 0,
    /// Keys.
    Key = 1,
}

/// Numbers and names for enums of the log, which go to disk as numbers.
macro_rules! numbered {
    ($name:ident { $($variant:ident $text:literal),+ }) => {
        impl From<$name> for u8 {
            fn from(value: $name) -> u8 { value as u8 }
        }

        impl TryFrom<u8> for $name {
            type Error = String;

            fn try_from(number: u8) -> Result<Self, String> {
                $(if number == Self::$variant as u8 { return Ok(Self::$variant); })+
                Err(format!(concat!("unknown ", stringify!($name), " {}"), number))
            }
        }

        impl $name {
            /// The spelling in the log.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}
numbered!(EventKind { Management "management", Data "data", Internal "internal" });
numbered!(Level { Normal "normal", Warning "warning", Incident "incident" });
numbered!(ResourceKind { Domain "domain", Key "key" });

/// One event. Stored in the outbox with this shape, logged as one JSON object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its own id; an event that is in the log twice (recovery) has the same.
    pub event_id: Uuid,
    /// When the request arrived.
    pub time: Timestamp,
    /// The caller's request id.
    pub request_id: u64,
    /// Type.
    pub kind: EventKind,
    /// Level.
    pub level: Level,
    /// The daemon's connection number.
    pub connection: u64,
    /// The endpoint's (access point's) name; empty for internal events.
    #[serde(with = "shared")]
    pub endpoint: Arc<str>,
    /// The access key, if one was proved.
    pub access_key: Option<String>,
    /// The peer's user, group and process, as the kernel says.
    pub peer: Option<(u32, u32, i32)>,
    /// The operation, in the cloud KMS's spelling.
    pub operation: Cow<'static, str>,
    /// What the ids name.
    pub resource_kind: ResourceKind,
    /// Ids of the resources that were found.
    pub resources: Vec<Uuid>,
    /// First 16 bytes of HMAC-SHA-256 of the canonical encryption context under
    /// the domain's audit key; none where the call has no context.
    pub context_hash: Option<[u8; 16]>,
    /// A code's number: what came of it.
    pub outcome: u16,
    /// From receipt to outcome.
    pub duration_us: u64,
    /// What else is to be known of it, in a word.
    pub detail: Option<Cow<'static, str>>,
}

/// The shape that events had on the disk before they had a detail.
#[derive(Deserialize)]
struct EventV1 {
    event_id: Uuid,
    time: Timestamp,
    request_id: u64,
    kind: EventKind,
    level: Level,
    connection: u64,
    #[serde(with = "shared")]
    endpoint: Arc<str>,
    access_key: Option<String>,
    peer: Option<(u32, u32, i32)>,
    operation: Cow<'static, str>,
    resource_kind: ResourceKind,
    resources: Vec<Uuid>,
    context_hash: Option<[u8; 16]>,
    outcome: u16,
    duration_us: u64,
}

impl Event {
    /// Reads an event of the first shape.
    ///
    /// # Errors
    /// It isn't one.
    pub(crate) fn decode_v1(body: &[u8]) -> Result<Self, DecodeError> {
        let old: EventV1 = codec::decode(body)?;
        Ok(Self {
            event_id: old.event_id,
            time: old.time,
            request_id: old.request_id,
            kind: old.kind,
            level: old.level,
            connection: old.connection,
            endpoint: old.endpoint,
            access_key: old.access_key,
            peer: old.peer,
            operation: old.operation,
            resource_kind: old.resource_kind,
            resources: old.resources,
            context_hash: old.context_hash,
            outcome: old.outcome,
            duration_us: old.duration_us,
            detail: None,
        })
    }

    /// The event of a request that has just arrived; `row` is none where its
    /// operation isn't known.
    #[must_use]
    pub fn of_request(
        event_id: Uuid,
        time: Timestamp,
        caller: &Caller,
        request_id: u64,
        row: Option<&Row>,
    ) -> Self {
        let data = row.is_some_and(|row| row.plane == Plane::Data);
        Self {
            event_id,
            time,
            request_id,
            kind: if data { EventKind::Data } else { EventKind::Management },
            level: Level::Normal,
            connection: caller.connection,
            endpoint: Arc::clone(&caller.endpoint.name),
            access_key: caller.access_key.clone(),
            peer: Some((caller.peer.uid, caller.peer.gid, caller.peer.pid)),
            operation: row.map_or("unknown", |row| row.audit_name).into(),
            resource_kind: ResourceKind::Domain,
            resources: Vec::new(),
            context_hash: None,
            outcome: 0,
            duration_us: 0,
            detail: None,
        }
    }

    /// An event of the daemon's own doing.
    #[must_use]
    pub fn internal(event_id: Uuid, time: Timestamp, operation: &'static str) -> Self {
        Self {
            event_id,
            time,
            request_id: 0,
            kind: EventKind::Internal,
            level: Level::Normal,
            connection: 0,
            endpoint: Arc::default(),
            access_key: None,
            peer: None,
            operation: operation.into(),
            resource_kind: ResourceKind::Domain,
            resources: Vec::new(),
            context_hash: None,
            outcome: 0,
            duration_us: 0,
            detail: None,
        }
    }
}

/// A string that many events share, stored as any other string.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(deserializer).map(Arc::from)
    }
}
