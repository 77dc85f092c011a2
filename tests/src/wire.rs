//! A raw connection: any bytes out, frames in.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use claviger_protocol::body::{ErrorBody, HelloReply, HelloRequest};
use claviger_protocol::limits::HEADER_LEN;
use claviger_protocol::secret::Bytes;
use claviger_protocol::values::AuthMethod;
use claviger_protocol::{Code, Header, Operation, Request, codec};

use crate::PATIENCE;

/// How long the daemon takes nothing before it counts as stuck.
const STUCK: std::time::Duration = std::time::Duration::from_millis(500);

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its header.
    pub header: Header,
    /// What follows.
    pub body: Vec<u8>,
}

impl Frame {
    /// The outcome that its header says.
    #[must_use]
    pub fn code(&self) -> Code {
        Code::from_number(self.header.status).expect("a status of the list")
    }

    /// The refusal that it must be.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        assert_ne!(self.code(), Code::Ok, "a refusal was expected");
        let body: ErrorBody = codec::decode(&self.body).expect("an error's body");
        assert!(!body.message.is_empty(), "every refusal says what happened");
        Refusal { code: self.code(), message: body.message }
    }

    /// The reply to `O`, or the refusal.
    pub fn result<O: Operation>(&self) -> Result<O::Reply, Refusal> {
        assert_eq!(self.header.opcode, O::OPCODE.number(), "a reply repeats its request's opcode");
        match self.code() {
            Code::Ok => Ok(codec::decode(&self.body).expect("the operation's reply")),
            _ => Err(self.refusal()),
        }
    }
}

/// A request that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub code: Code,
    /// In words.
    pub message: String,
}

/// A connection.
pub struct Wire {
    stream: UnixStream,
    next_id: u64,
    early: BTreeMap<u64, Frame>,
    cut_is_an_end: bool,
}

impl Wire {
    /// Connects and says hello.
    #[must_use]
    pub fn open(socket: &Path) -> Self {
        Self::try_open(socket).unwrap_or_else(|| panic!("nobody serves {}", socket.display()))
    }

    /// Connects and says hello; none where nobody listens.
    #[must_use]
    pub fn try_open(socket: &Path) -> Option<Self> {
        let mut wire = Self::try_connect(socket).ok()?;
        wire.hello();
        Some(wire)
    }

    /// Connects, and says nothing.
    #[must_use]
    pub fn connect(socket: &Path) -> Self {
        Self::try_connect(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()))
    }

    /// Connects, and says nothing.
    pub fn try_connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, next_id: 0, early: BTreeMap::new(), cut_is_an_end: false })
    }

    /// Says the hello that everybody says.
    pub fn hello(&mut self) -> HelloReply {
        self.call(plain_hello()).expect("hello is accepted")
    }

    /// Sends any bytes.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the daemon takes the bytes");
    }

    /// Sends any bytes to a daemon that may have closed already.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a header and a body as they are, whether they fit or not.
    pub fn send_frame(&mut self, header: &Header, body: &[u8]) {
        self.send_bytes(&[&header.to_bytes()[..], body].concat());
    }

    /// Sends any body for any opcode in a right header; gives the request id.
    pub fn send_body(&mut self, opcode: u16, body: &[u8]) -> u64 {
        let id = self.fresh_id();
        self.send_frame(&header(opcode, id, body.len()), body);
        id
    }

    /// Sends a request; gives its id.
    pub fn send<O: Operation>(&mut self, request: O) -> u64 {
        let bytes = request_frame(self.fresh_id(), request);
        self.send_bytes(&bytes);
        self.next_id
    }

    /// Sends a request and waits for its answer.
    pub fn call<O: Operation>(&mut self, request: O) -> Result<O::Reply, Refusal> {
        let id = self.send(request);
        self.wait(id).result::<O>()
    }

    /// The same towards a daemon that may die any time; none where it did.
    pub fn try_call<O: Operation>(&mut self, request: O) -> Option<Result<O::Reply, Refusal>> {
        // A reply cut by the daemon's death is no reply.
        self.cut_is_an_end = true;
        self.call_or_end(request)
    }

    /// The same towards a daemon that may stop any time, which cuts no reply.
    pub fn call_or_end<O: Operation>(&mut self, request: O) -> Option<Result<O::Reply, Refusal>> {
        let bytes = request_frame(self.fresh_id(), request);
        self.try_send_bytes(&bytes).ok()?;
        let frame = self.read_frame()?;
        assert_eq!(frame.header.request_id, self.next_id);
        Some(frame.result::<O>())
    }

    /// Sends any body and waits for the refusal.
    pub fn refused(&mut self, opcode: u16, body: &[u8]) -> Refusal {
        let id = self.send_body(opcode, body);
        self.wait(id).refusal()
    }

    /// The answer to one request; others that come before it are kept.
    pub fn wait(&mut self, id: u64) -> Frame {
        loop {
            if let Some(frame) = self.early.remove(&id) {
                return frame;
            }
            let frame = self.read_frame().expect("the connection is closed, and an answer is owed");
            let twice = self.early.insert(frame.header.request_id, frame);
            assert_eq!(twice, None, "one answer a request");
        }
    }

    /// The next frame; none at the end of the stream.
    pub fn read_frame(&mut self) -> Option<Frame> {
        let mut head = [0; HEADER_LEN];
        if !self.fill(&mut head) {
            return None;
        }
        let header = Header::from_bytes(&head);
        assert_eq!((header.version, header.flags), (1, 0), "a reply's version and flags");
        assert_eq!((header.deadline_ms, header.reserved), (0, 0), "a reply's zero fields");
        let mut body = vec![0; header.length as usize];
        if !body.is_empty() && !self.fill(&mut body) {
            assert!(self.cut_is_an_end, "the daemon cut a frame");
            return None;
        }
        Some(Frame { header, body })
    }

    /// Expects the end of the stream, with nothing before it.
    pub fn expect_closed(&mut self) {
        let frame = self.read_frame();
        assert_eq!(frame, None, "the connection should be closed");
    }

    /// No more bytes will come from here; answers still can.
    pub fn finish_sending(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).expect("the connection is open");
    }

    /// The same for a connection that the daemon may have closed already.
    pub fn try_finish_sending(&mut self) -> io::Result<()> {
        self.stream.shutdown(std::net::Shutdown::Write)
    }

    /// Sends a frame again and again until the daemon takes no more, at most so
    /// often; gives the number of whole frames it took.
    pub fn send_until_stuck(&mut self, frame: &[u8], most: usize) -> usize {
        self.stream.set_write_timeout(Some(STUCK)).unwrap();
        let mut sent = 0;
        let mut of_this = 0;
        while sent < most {
            match self.stream.write(&frame[of_this..]) {
                Ok(count) => of_this += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("the daemon closed: {error}"),
            }
            if of_this == frame.len() {
                (sent, of_this) = (sent + 1, 0);
            }
        }
        self.stream.set_write_timeout(Some(PATIENCE)).unwrap();
        sent
    }

    /// An id that this connection hasn't used.
    pub fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Whether the whole buffer was read; false at the end before its first byte.
    fn fill(&mut self, buffer: &mut [u8]) -> bool {
        let mut read = 0;
        while read < buffer.len() {
            match self.stream.read(&mut buffer[read..]) {
                Ok(0) if read == 0 || self.cut_is_an_end => return false,
                Ok(0) => panic!("the stream ended inside a frame"),
                Ok(count) => read += count,
                // The daemon closed while bytes of ours were unread.
                Err(error)
                    if error.kind() == io::ErrorKind::ConnectionReset
                        && (read == 0 || self.cut_is_an_end) =>
                {
                    return false;
                }
                Err(error) => panic!("no answer: {error}"),
            }
        }
        true
    }
}

/// The header of a request with so many bytes of body.
#[must_use]
pub fn header(opcode: u16, id: u64, len: usize) -> Header {
    Header::request(opcode, id, 0, u32::try_from(len).expect("a test's body is small"))
}

/// A request's whole frame.
#[must_use]
pub fn request_frame<O: Operation>(id: u64, request: O) -> Vec<u8> {
    let request: Request = request.into();
    let body = request.encode().expect("a request that fits in a frame");
    [&header(O::OPCODE.number(), id, body.len()).to_bytes()[..], &body].concat()
}

/// The hello without an access key.
#[must_use]
pub fn plain_hello() -> HelloRequest {
    HelloRequest {
        min_version: 1,
        max_version: 1,
        agent: "claviger-tests/1".into(),
        auth_method: AuthMethod::None,
        access_key: String::new(),
        client_nonce: [0; 32],
        proof: Bytes::default(),
        frame_authenticator: false,
    }
}
