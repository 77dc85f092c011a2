//! A scripted daemon for tests: it says what the test tells it to, also what no
//! daemon should. Shared by the tests of the library and of the command line.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use claviger_protocol::body::{ErrorBody, HelloReply, PingReply};
use claviger_protocol::limits::HEADER_LEN;
use claviger_protocol::{Code, Header, Opcode, Reply, Request, codec};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// Far longer than anything here takes: a test that waits for it has failed.
pub const GUARD: Duration = Duration::from_secs(20);

/// A socket to connect to.
pub struct Fake {
    listener: Option<UnixListener>,
    dir: TempDir,
}

/// A scripted daemon on a thread of its own, for callers that block.
pub struct OnThread {
    path: PathBuf,
    done: std::sync::mpsc::Receiver<()>,
}

impl OnThread {
    /// Runs `script` with a fresh socket.
    pub fn run<F: Future<Output = ()>>(script: impl FnOnce(Fake) -> F + Send + 'static) -> Self {
        let (send_path, path) = std::sync::mpsc::channel();
        let (finished, done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let fake = Fake::new();
                send_path.send(fake.path()).unwrap();
                script(fake).await;
            });
            finished.send(()).unwrap();
        });
        Self { path: path.recv().unwrap(), done }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the script has ended well.
    pub fn join(self) {
        self.done.recv_timeout(GUARD).expect("the script failed or never ended");
    }
}

/// One accepted connection.
pub struct Peer {
    pub stream: UnixStream,
}

pub fn hello() -> HelloReply {
    HelloReply {
        version: 1,
        agent: "fake/1".into(),
        endpoint: "app".into(),
        server_nonce: [0; 32],
        proof: Vec::new().into(),
        complete: true,
        max_body: 1 << 20,
        max_in_flight: 256,
        max_batch: 1024,
        max_plaintext: 6144,
    }
}

impl Fake {
    pub fn new() -> Self {
        let mut fake = Self { listener: None, dir: tempfile::tempdir().unwrap() };
        fake.listen();
        fake
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn listen(&mut self) {
        self.listener = Some(UnixListener::bind(self.path()).unwrap());
    }

    /// Goes away, as a stopped daemon does.
    pub fn gone(&mut self) {
        self.listener = None;
        std::fs::remove_file(self.path()).unwrap();
    }

    /// Accepts a connection and does nothing else.
    pub async fn accept_silently(&self) -> Peer {
        let accepted = self.listener.as_ref().unwrap().accept();
        let (stream, _) = tokio::time::timeout(GUARD, accepted).await.expect("nobody connected").unwrap();
        Peer { stream }
    }

    /// Accepts a connection and answers its hello.
    pub async fn accept(&self) -> Peer {
        self.accept_with(hello()).await
    }

    pub async fn accept_with(&self, reply: HelloReply) -> Peer {
        let mut peer = self.accept_silently().await;
        let (header, request) = peer.request().await;
        assert!(matches!(request, Request::Hello(_)), "{request:?}");
        peer.reply(&header, &Reply::Hello(reply)).await;
        peer
    }

    /// Hangs up on `peer`, and takes the client's next connection.
    pub async fn accept_after(&self, peer: Peer) -> Peer {
        drop(peer);
        self.accept().await
    }

    /// Serves every connection with `answer`, one after the other, for ever.
    pub async fn serve(&self, answer: impl Fn(Request) -> Result<Reply, (Code, &'static str)>) {
        loop {
            let mut peer = self.accept().await;
            while let Some((header, request)) = peer.next_request().await {
                match answer(request) {
                    Ok(reply) => peer.reply(&header, &reply).await,
                    Err((code, message)) => peer.refuse(&header, code, message, 0).await,
                }
            }
        }
    }
}

impl Peer {
    /// The next request; panics if the client goes away or sends none.
    pub async fn request(&mut self) -> (Header, Request) {
        tokio::time::timeout(GUARD, self.next_request()).await.expect("no request came").expect("closed")
    }

    pub async fn next_request(&mut self) -> Option<(Header, Request)> {
        let mut head = [0; HEADER_LEN];
        self.stream.read_exact(&mut head).await.ok()?;
        let header = Header::from_bytes(&head);
        let mut body = vec![0; header.length as usize];
        self.stream.read_exact(&mut body).await.ok()?;
        let opcode = Opcode::from_number(header.opcode).unwrap();
        Some((header, Request::decode(opcode, &body).unwrap()))
    }

    /// Whether the client has closed the connection (and sent nothing before).
    pub async fn sees_close(&mut self) -> bool {
        let mut rest = [0; 1];
        let read = tokio::time::timeout(GUARD, self.stream.read(&mut rest)).await.expect("still open");
        matches!(read, Ok(0) | Err(_))
    }

    pub async fn reply(&mut self, to: &Header, reply: &Reply) {
        self.answer(to, 0, &reply.encode().unwrap()).await;
    }

    pub async fn refuse(&mut self, to: &Header, code: Code, message: &str, retry_after_ms: u32) {
        let body = codec::encode(&ErrorBody { message: message.into(), retry_after_ms }).unwrap();
        self.answer(to, code.number(), &body).await;
    }

    /// Repeats a ping's payload.
    pub async fn pong(&mut self, to: &Header, request: Request) {
        let Request::Ping(ping) = request else { panic!("not a ping: {request:?}") };
        self.reply(to, &Reply::Ping(PingReply { version: "1".into(), payload: ping.payload })).await;
    }

    pub async fn answer(&mut self, to: &Header, status: u16, body: &[u8]) {
        let header = to.reply(status, u32::try_from(body.len()).unwrap());
        self.raw(&[&header.to_bytes(), body].concat()).await;
    }

    pub async fn raw(&mut self, bytes: &[u8]) {
        // The client may already have left; what it saw is the test's business.
        let _ = self.stream.write_all(bytes).await;
    }
}
