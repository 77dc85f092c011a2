//! The bare echo: a server with a thread and a runtime of its own, as the daemon has,
//! that answers every frame with the same bytes and does nothing for them. What it
//! costs is the socket, the runtime and the client: the least that a call can cost.

use std::io;
use std::os::unix::net::UnixListener as Listener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use claviger_protocol::body::HelloReply;
use claviger_protocol::limits::{CEILING_MAX_BODY, HEADER_LEN};
use claviger_protocol::{Opcode, codec, frame};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// Bytes read at once.
const READ: usize = 64 * 1024;

/// A running echo server; it ends when dropped.
pub(crate) struct Echo {
    dir: TempDir,
    /// Dropped to stop it.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What it says.
struct Answers {
    hello: Vec<u8>,
    reply: Vec<u8>,
}

impl Echo {
    /// Starts one that says `hello` as the daemon did and answers everything with `reply`.
    pub(crate) fn start(hello: &HelloReply, reply: Vec<u8>) -> io::Result<Self> {
        let too_large = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let answers = Arc::new(Answers { hello: codec::encode(hello).map_err(too_large)?, reply });
        let dir = tempfile::Builder::new().prefix("claviger-bench-").tempdir()?;
        let listener = Listener::bind(socket(&dir))?;
        listener.set_nonblocking(true)?;
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("echo".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    // Its clients notice; there is nobody else to tell.
                    _ = serve(listener, answers) => {}
                }
            });
        })?;
        Ok(Self { dir, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        socket(&self.dir)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn socket(dir: &TempDir) -> PathBuf {
    Path::join(dir.path(), "echo.sock")
}

async fn serve(listener: Listener, answers: Arc<Answers>) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(answer(stream, Arc::clone(&answers)));
    }
}

/// Answers every whole frame of a read in one write.
async fn answer(mut stream: UnixStream, answers: Arc<Answers>) -> io::Result<()> {
    let cap = u32::try_from(CEILING_MAX_BODY).unwrap_or(u32::MAX);
    let (mut inbox, mut outbox) = (Vec::with_capacity(READ), Vec::with_capacity(READ));
    while stream.read_buf(&mut inbox).await? > 0 {
        let mut rest = inbox.as_slice();
        while let Ok(Some(header)) = frame::peek(rest, cap) {
            rest = &rest[HEADER_LEN + header.length as usize..];
            let body = if header.opcode == Opcode::Hello.number() { &answers.hello } else { &answers.reply };
            let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
            outbox.extend_from_slice(&header.reply(0, length).to_bytes());
            outbox.extend_from_slice(body);
        }
        let left = rest.len();
        let answered = inbox.len() - left;
        inbox.drain(..answered);
        inbox.reserve(READ);
        stream.write_all(&outbox).await?;
        outbox.clear();
    }
    Ok(())
}
