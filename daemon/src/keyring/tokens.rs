//! Client tokens: the same token within a day finds what it first made, within the
//! endpoint it came through.

use claviger_protocol::Code;
use uuid::Uuid;

use super::Keyring;
use super::record::{ClientTokenRecord, path};
use crate::failure::Failure;
use crate::store::{Change, Expect, Op, StoreError};

/// How long a client token stands for its first result.
const LIFE_MS: i64 = 24 * 60 * 60 * 1000;

/// A client's token, and what it asks for.
#[derive(Debug, Clone)]
pub struct ClientToken {
    /// The endpoint whose tokens these are.
    pub endpoint: String,
    /// The token.
    pub token: [u8; 16],
    /// SHA-256 of the request.
    pub request: [u8; 32],
}

/// What a token stood for before.
pub(super) enum Former {
    /// What it made.
    Result(Uuid, Option<Uuid>),
    /// Nothing: what must be so when it is written.
    Nothing(Expect),
}

impl Keyring {
    /// What a client token stands for.
    pub(super) async fn former(&self, token: &ClientToken) -> Result<Former, Failure> {
        let path = path::client_token(&token.endpoint, &token.token);
        let Some((revision, former)) = self.store.get::<ClientTokenRecord>(&path).await? else {
            return Ok(Former::Nothing(Expect::Absent));
        };
        if self.edge.clock.now().saturating_sub(former.created_at) > LIFE_MS {
            return Ok(Former::Nothing(Expect::Revision(revision)));
        }
        if former.request == token.request {
            Ok(Former::Result(former.key_id, former.version_id))
        } else {
            Err(Code::ClientTokenReused.into())
        }
    }

    /// Writes what a token stands for from now on.
    pub(super) fn token_op(
        &self,
        token: &ClientToken,
        expect: Expect,
        (key_id, version_id): (Uuid, Option<Uuid>),
    ) -> Result<Op, StoreError> {
        let key = path::client_token(&token.endpoint, &token.token);
        let created_at = self.edge.clock.now();
        let record = ClientTokenRecord { request: token.request, created_at, key_id, version_id };
        Ok(Op { change: Change::Put(self.store.put(&key, &record)?), key, expect })
    }

    /// Removes client tokens that no longer stand for anything; at most `limit` are looked
    /// at. One from the future was made before the clock was set back: it is dated anew, so
    /// that it is neither forgotten before its day is over nor kept until that future comes.
    pub async fn purge_client_tokens(
        &self,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let page = self.store.list::<ClientTokenRecord>(path::CLIENT_TOKENS, after, limit).await?;
        let last = (page.len() == limit).then(|| page.last().map(|(key, _, _)| key.clone())).flatten();
        let now = self.edge.clock.now();
        let mut ops = Vec::new();
        for (key, revision, record) in page {
            let change = if now.saturating_sub(record.created_at) > LIFE_MS {
                Change::Delete
            } else if record.created_at > now {
                Change::Put(self.store.put(&key, &ClientTokenRecord { created_at: now, ..record })?)
            } else {
                continue;
            };
            ops.push(Op { key, expect: Expect::Revision(revision), change });
        }
        if !ops.is_empty() {
            self.commit(ops).await?;
        }
        Ok(last)
    }
}
