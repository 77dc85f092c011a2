//! One connection: hello, and the bookkeeping between callers and the driver.
//!
//! A caller appends its frame to the outbox and waits for its answer; the driver
//! (`driver.rs`) writes what is queued and hands answers out by request id. A
//! caller that is alone writes its frame itself, which saves a task switch.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use claviger_protocol::body::{ErrorBody, HelloReply, HelloRequest};
use claviger_protocol::limits::{CEILING_MAX_BODY, HEADER_LEN, MAX_AGENT_LEN, MAX_BODY_BEFORE_HELLO};
use claviger_protocol::values::AuthMethod;
use claviger_protocol::{Code, Header, Opcode, SecretBytes, codec, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::buffer::Outbox;
use crate::driver;
use crate::error::{ConnectError, Error, ProtocolError};

/// The request id of hello; calls count up from the next.
const HELLO_ID: u64 = 1;

/// A reply that belongs to a request: its status, and its body.
pub(crate) type Answer = Result<(u16, SecretBytes), Error>;

/// Why a connection could not be made.
pub(crate) enum ConnectFailure {
    /// The socket, or the daemon behind it.
    Io(io::Error),
    /// The daemon answered, and not with a usable hello.
    Hello(Error),
}

impl ConnectFailure {
    /// The same for callers, who know of sockets.
    pub(crate) fn at(self, socket: &Path) -> Error {
        match self {
            Self::Hello(error) => error,
            Self::Io(error) => {
                Error::Connect(ConnectError { socket: socket.to_owned(), source: Arc::new(error) })
            }
        }
    }
}

impl From<io::Error> for ConnectFailure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ProtocolError> for ConnectFailure {
    fn from(error: ProtocolError) -> Self {
        Self::Hello(error.into())
    }
}

/// A connection whose hello is done. Dropping it closes it.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    driver: AbortHandle,
}

/// What callers and the driver share.
pub(crate) struct Shared {
    pub(crate) hello: HelloReply,
    /// Tells the driver that the outbox needs it.
    pub(crate) wake: Notify,
    permits: Arc<Semaphore>,
    state: Mutex<State>,
}

/// Changes under the lock, never across an await.
pub(crate) struct State {
    pub(crate) outbox: Outbox,
    /// Whether the driver holds bytes that must go out before the outbox's.
    pub(crate) driver_writes: bool,
    /// Bytes that callers ever queued, and the kernel ever took.
    queued: u64,
    written: u64,
    next_id: u64,
    calls: HashMap<u64, Call>,
    answered: bool,
    /// The way out; nothing once the connection has ended, so that the socket closes.
    socket: Option<Arc<OwnedWriteHalf>>,
}

/// A request without its reply. It keeps its place in flight until the reply
/// comes, also when the caller has gone: the daemon still counts it.
struct Call {
    opcode: u16,
    /// The value of `queued` behind its frame.
    end: u64,
    answer: oneshot::Sender<Answer>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// Connects and says hello; must run inside a tokio runtime, which then
    /// drives the connection.
    pub(crate) async fn open(socket: &Path, agent: &str, within: Duration) -> Result<Self, ConnectFailure> {
        let (stream, hello) = connect(socket, agent, within).await?;
        let (reader, writer) = stream.into_split();
        let writer = Arc::new(writer);
        let places = usize::try_from(hello.max_in_flight).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let shared = Arc::new(Shared {
            hello,
            wake: Notify::new(),
            permits: Arc::new(Semaphore::new(places)),
            state: Mutex::new(State {
                outbox: Outbox::default(),
                driver_writes: false,
                queued: 0,
                written: 0,
                next_id: HELLO_ID + 1,
                calls: HashMap::new(),
                answered: false,
                socket: Some(Arc::clone(&writer)),
            }),
        });
        let driver = tokio::spawn(driver::drive(reader, writer, Arc::clone(&shared))).abort_handle();
        Ok(Self { shared, driver })
    }

    /// What the daemon announced.
    pub(crate) fn hello(&self) -> &HelloReply {
        &self.shared.hello
    }

    /// Whether calls can still be sent on it.
    pub(crate) fn is_open(&self) -> bool {
        self.shared.lock().socket.is_some()
    }

    /// Whether it ever answered a call: a daemon that only says hello doesn't count as back.
    pub(crate) fn answered(&self) -> bool {
        self.shared.lock().answered
    }

    /// Sends one request and waits for its reply. Dropping the future at any point
    /// is fine: the late reply is taken and thrown away.
    ///
    /// # Errors
    /// `ConnectionLost`, `Protocol`, or `Refused` for a body over the cap.
    pub(crate) async fn call(&self, opcode: Opcode, body: &SecretBytes, deadline: Instant) -> Answer {
        let cap = self.shared.hello.max_body;
        let length = u32::try_from(body.len()).ok().filter(|length| *length <= cap).ok_or_else(|| {
            let message = format!("the request has {} bytes, this connection takes {cap}", body.len());
            Error::refused(Code::FrameTooLarge, message)
        })?;
        let not_sent = Error::ConnectionLost { maybe_done: false };
        let Ok(place) = Arc::clone(&self.shared.permits).acquire_owned().await else {
            return Err(not_sent);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let deadline_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1);
        let (answer, reply) = oneshot::channel();
        self.shared.enqueue(opcode, body, length, deadline_ms, answer, place);
        reply.await.unwrap_or(Err(not_sent))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(
        &self,
        opcode: Opcode,
        body: &SecretBytes,
        length: u32,
        deadline_ms: u32,
        answer: oneshot::Sender<Answer>,
        place: OwnedSemaphorePermit,
    ) {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(socket) = state.socket.as_ref() else {
            // The receiver reads the dropped sender as "not sent".
            return;
        };
        let id = state.next_id;
        state.next_id += 1;
        state.queued += (HEADER_LEN + body.len()) as u64;
        let end = state.queued;
        let alone = state.calls.is_empty() && state.outbox.is_empty() && !state.driver_writes;
        state.calls.insert(id, Call { opcode: opcode.number(), end, answer, _place: place });
        state.outbox.push(&Header::request(opcode.number(), id, deadline_ms, length), body.expose());
        if alone && let Ok(count) = socket.try_write(state.outbox.unsent()) {
            state.outbox.advance(count);
            state.written += count as u64;
        }
        if !state.outbox.is_empty() {
            self.wake.notify_one();
        }
    }

    /// Takes note that the driver wrote `count` bytes.
    pub(crate) fn wrote(&self, count: usize) {
        self.lock().written += count as u64;
    }

    /// Hands a reply to its caller.
    pub(crate) fn deliver(&self, header: &Header, body: SecretBytes) -> Result<(), ProtocolError> {
        check_header(header)?;
        let mut state = self.lock();
        let unknown = ProtocolError::UnknownRequest(header.request_id);
        let call = state.calls.remove(&header.request_id).ok_or(unknown)?;
        if call.opcode != header.opcode {
            let wrong = ProtocolError::WrongOperation { expected: call.opcode, got: header.opcode };
            state.calls.insert(header.request_id, call);
            return Err(wrong);
        }
        state.answered = true;
        drop(state);
        // An error means that the caller has gone; its reply goes with it.
        let _ = call.answer.send(Ok((header.status, body)));
        Ok(())
    }

    /// Ends the connection for everybody who waits on it.
    pub(crate) fn close(&self, reason: Option<&ProtocolError>) {
        let mut state = self.lock();
        state.socket = None;
        state.outbox.clear();
        let written = state.written;
        let calls = std::mem::take(&mut state.calls);
        drop(state);
        self.permits.close();
        for call in calls.into_values() {
            let _ = call.answer.send(Err(match reason {
                Some(error) => error.clone().into(),
                None => Error::ConnectionLost { maybe_done: call.end <= written },
            }));
        }
    }
}

pub(crate) fn check_header(header: &Header) -> Result<(), ProtocolError> {
    if header.version != frame::VERSION {
        return Err(ProtocolError::Version(header.version));
    }
    if header.flags != 0 || header.deadline_ms != 0 || header.reserved != 0 {
        return Err(ProtocolError::Reserved);
    }
    Ok(())
}

/// Turns an answer's status into the body or the refusal that it means.
pub(crate) fn refusal(status: u16, body: SecretBytes) -> Result<SecretBytes, Error> {
    if status == Code::Ok.number() {
        return Ok(body);
    }
    let detail = codec::decode::<ErrorBody>(body.expose()).ok();
    let ErrorBody { message, retry_after_ms } =
        detail.unwrap_or(ErrorBody { message: String::new(), retry_after_ms: 0 });
    let Some(code) = Code::from_number(status) else {
        return Err(ProtocolError::UnknownStatus { status, message }.into());
    };
    let message = if message.is_empty() { code.meaning().to_owned() } else { message };
    let retry_after = (retry_after_ms > 0).then(|| Duration::from_millis(u64::from(retry_after_ms)));
    Err(Error::Refused { code, message, retry_after })
}

/// Connects and says hello, all of it `within` that time.
pub(crate) async fn connect(
    socket: &Path,
    agent: &str,
    within: Duration,
) -> Result<(UnixStream, HelloReply), ConnectFailure> {
    let opening = async {
        let mut stream = UnixStream::connect(socket).await?;
        let hello = say_hello(&mut stream, agent).await?;
        Ok::<_, ConnectFailure>((stream, hello))
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "hello was not answered in time");
    tokio::time::timeout(within, opening).await.map_err(late)?
}

async fn say_hello(stream: &mut UnixStream, agent: &str) -> Result<HelloReply, ConnectFailure> {
    let request = HelloRequest {
        min_version: frame::VERSION,
        max_version: frame::VERSION,
        agent: agent.chars().filter(|c| matches!(c, ' '..='~')).take(MAX_AGENT_LEN).collect(),
        auth_method: AuthMethod::None,
        access_key: String::new(),
        client_nonce: [0; 32],
        proof: Vec::new().into(),
        frame_authenticator: false,
    };
    let body = codec::encode(&request).map_err(|_| ProtocolError::Hello("it can't be encoded"))?;
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut bytes = Header::request(Opcode::Hello.number(), HELLO_ID, 0, length).to_bytes().to_vec();
    bytes.extend_from_slice(&body);
    stream.write_all(&bytes).await?;

    let mut head = [0; HEADER_LEN];
    stream.read_exact(&mut head).await?;
    let header = Header::from_bytes(&head);
    check_header(&header)?;
    let cap = MAX_BODY_BEFORE_HELLO;
    if header.length as usize > cap {
        return Err(ProtocolError::Hello("the reply is over 64 KiB").into());
    }
    if header.request_id != HELLO_ID || header.opcode != Opcode::Hello.number() {
        return Err(ProtocolError::Hello("the first reply is to another request").into());
    }
    let mut body = vec![0; header.length as usize];
    stream.read_exact(&mut body).await?;
    let body = refusal(header.status, body.into()).map_err(ConnectFailure::Hello)?;
    usable(
        codec::decode(body.expose())
            .map_err(|reason| ProtocolError::Body { opcode: Opcode::Hello, reason })?,
    )
    .map_err(ConnectFailure::from)
}

fn usable(mut hello: HelloReply) -> Result<HelloReply, ProtocolError> {
    if hello.version != frame::VERSION {
        return Err(ProtocolError::Version(hello.version));
    }
    if !hello.complete {
        return Err(ProtocolError::Hello("the daemon asks for a proof, and no access key is in use"));
    }
    if hello.max_in_flight == 0 || hello.max_body == 0 {
        return Err(ProtocolError::Hello("the connection may not send anything"));
    }
    hello.max_body = hello.max_body.min(u32::try_from(CEILING_MAX_BODY).unwrap_or(u32::MAX));
    Ok(hello)
}
