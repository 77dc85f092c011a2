//! Calls that meet each other on their way: whoever comes late finds what the first
//! one made, or is refused for it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use claviger_protocol::body::{CreateKeyReply, CreateKeyRequest};
use claviger_protocol::{Alias, Code};
use claviger_tests::keys::{LEVELS, client_token, new_key};
use claviger_tests::on_both_tokens;
use claviger_tests::wire::request_frame;

#[test]
fn concurrent_requests_with_one_client_token_and_one_alias_make_one_key() {
    on_both_tokens(|daemon| {
        let mut admin = daemon.admin();
        for (round, level) in LEVELS.into_iter().cycle().take(12).enumerate() {
            let alias = Alias::new(format!("alias/round-{round}")).unwrap();
            let request = CreateKeyRequest { alias: Some(alias), ..new_key(level) };
            let mut wires: Vec<_> = (0..8).map(|_| daemon.admin()).collect();
            for wire in &mut wires {
                // Two on each connection, too.
                let bytes = [request_frame(1, request.clone()), request_frame(2, request.clone())].concat();
                wire.send_bytes(&bytes);
            }
            let mut replies: Vec<CreateKeyReply> = Vec::new();
            for wire in &mut wires {
                for id in [1, 2] {
                    replies.push(wire.wait(id).result::<CreateKeyRequest>().unwrap());
                }
            }
            assert!(replies.iter().all(|reply| *reply == replies[0]), "{replies:?}");
            assert_eq!(admin.call(request.clone()).unwrap(), replies[0], "a repetition after success");
            let other = CreateKeyRequest { client_token: client_token(), ..request };
            assert_eq!(admin.call(other).unwrap_err().code, Code::AlreadyExists);
            assert_eq!(admin.list_all().len(), round + 1);
        }
    });
}
