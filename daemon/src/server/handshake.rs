//! Hello: the first frame of a connection, which makes it somebody's.

use claviger_protocol::body::{HelloReply, HelloRequest};
use claviger_protocol::frame::VERSION;
use claviger_protocol::secret::Bytes;
use claviger_protocol::values::AuthMethod;
use claviger_protocol::{Code, Header, Opcode, codec};

use crate::config::Limits;
use crate::failure::Failure;
use crate::identity::{Endpoint, Peer, welcome};

/// Checks a hello and answers it.
///
/// # Errors
/// `HelloRequired` and `AccessDenied` end the connection after their answer; after
/// the others the client may send another hello.
pub fn greet(
    header: &Header,
    body: &[u8],
    endpoint: &Endpoint,
    peer: &Peer,
    own_uid: u32,
    limits: &Limits,
) -> Result<HelloReply, Failure> {
    if header.opcode != Opcode::Hello.number() {
        return Err(Code::HelloRequired.into());
    }
    let hello: HelloRequest = codec::decode(body)?;
    if !(hello.min_version..=hello.max_version).contains(&VERSION) {
        return Err(Failure::new(Code::UnsupportedVersion, format!("the daemon speaks version {VERSION}")));
    }
    if hello.auth_method != AuthMethod::None || hello.frame_authenticator {
        return Err(Failure::new(Code::NotAvailable, "access keys come with a later version"));
    }
    if !hello.access_key.is_empty() || !hello.proof.0.is_empty() || hello.client_nonce != [0; 32] {
        let text = "without an access key, its id, nonce and proof are empty";
        return Err(Failure::new(Code::InvalidArgument, text));
    }
    if !welcome(endpoint, peer, own_uid) {
        let text = "this endpoint is for root and the daemon's own user";
        return Err(Failure::new(Code::AccessDenied, text));
    }
    tracing::debug!(endpoint = %endpoint.name, uid = peer.uid, pid = peer.pid, agent = %hello.agent, "hello");
    Ok(HelloReply {
        version: VERSION,
        agent: concat!("clavigerd/", env!("CARGO_PKG_VERSION")).into(),
        endpoint: endpoint.name.to_string(),
        server_nonce: [0; 32],
        proof: Bytes::default(),
        complete: true,
        max_body: limits.max_body,
        max_in_flight: limits.max_in_flight,
        max_batch: limits.max_batch,
        max_plaintext: limits.max_plaintext,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::EndpointKind;

    fn hello() -> HelloRequest {
        HelloRequest {
            min_version: 1,
            max_version: 3,
            agent: "test/1".into(),
            auth_method: AuthMethod::None,
            access_key: String::new(),
            client_nonce: [0; 32],
            proof: Bytes::default(),
            frame_authenticator: false,
        }
    }

    fn answer(kind: EndpointKind, uid: u32, hello: &HelloRequest) -> Result<HelloReply, Code> {
        let endpoint = Endpoint { name: "x".into(), kind, service: None };
        let peer = Peer { uid, gid: 0, pid: 1, pidfd: None };
        let header = Header::request(Opcode::Hello.number(), 1, 0, 0);
        let body = codec::encode(hello).unwrap();
        greet(&header, &body, &endpoint, &peer, 990, &Limits::default()).map_err(|f| f.code)
    }

    #[test]
    fn a_plain_hello_is_answered_with_the_limits() {
        let reply = answer(EndpointKind::App, 1000, &hello()).unwrap();
        assert!(reply.complete);
        assert_eq!((reply.version, reply.max_batch), (1, 1024));
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        let app = EndpointKind::App;
        let cases = [
            (app, HelloRequest { min_version: 2, ..hello() }, Code::UnsupportedVersion),
            (app, HelloRequest { max_version: 0, ..hello() }, Code::UnsupportedVersion),
            (app, HelloRequest { agent: "a".repeat(65), ..hello() }, Code::InvalidArgument),
            (app, HelloRequest { agent: "a\nb".into(), ..hello() }, Code::InvalidArgument),
            (app, HelloRequest { proof: Bytes(vec![0; 65]), ..hello() }, Code::InvalidArgument),
            (app, HelloRequest { access_key: "AK".into(), ..hello() }, Code::InvalidArgument),
            (app, HelloRequest { client_nonce: [1; 32], ..hello() }, Code::InvalidArgument),
            (app, HelloRequest { proof: Bytes(vec![0; 1]), ..hello() }, Code::InvalidArgument),
            (app, HelloRequest { auth_method: AuthMethod::HmacSm3, ..hello() }, Code::NotAvailable),
            (app, HelloRequest { frame_authenticator: true, ..hello() }, Code::NotAvailable),
            (EndpointKind::Admin, hello(), Code::AccessDenied),
        ];
        for (kind, hello, want) in cases {
            assert_eq!(answer(kind, 1000, &hello), Err(want), "{hello:?}");
        }
    }
}
