//! The task behind a connection: reads replies and hands them out, and writes what
//! callers queued, as much as there is in one go.

use std::io;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::buffer::{Inbox, Outbox};
use crate::connection::Shared;
use crate::error::ProtocolError;

/// Why a connection ended.
enum End {
    /// The daemon closed it, or the socket failed.
    Lost,
    /// The daemon broke the protocol: nothing that follows can be trusted.
    Broken(ProtocolError),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

impl From<ProtocolError> for End {
    fn from(error: ProtocolError) -> Self {
        Self::Broken(error)
    }
}

/// Tells everybody who waits that the connection has ended, also when the task is
/// aborted or its runtime goes away.
struct Closer {
    shared: Arc<Shared>,
    reason: Option<ProtocolError>,
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.shared.close(self.reason.as_ref());
    }
}

/// Runs a connection until it ends. What is in flight then is told why.
pub(crate) async fn drive(reader: OwnedReadHalf, writer: Arc<OwnedWriteHalf>, shared: Arc<Shared>) {
    let mut closer = Closer { shared: Arc::clone(&shared), reason: None };
    if let End::Broken(error) = run(reader, &writer, &shared).await {
        closer.reason = Some(error);
    }
}

async fn run(mut reader: OwnedReadHalf, writer: &OwnedWriteHalf, shared: &Shared) -> End {
    let mut inbox = Inbox::new();
    let mut going_out = Outbox::default();
    loop {
        let step = tokio::select! {
            read = reader.read(inbox.room()) => take_in(read, &mut inbox, shared),
            () = shared.wake.notified() => {
                // Whoever was woken by the same read queues its next frame first:
                // then one write carries them all.
                tokio::task::yield_now().await;
                send(&mut going_out, writer, shared)
            }
            ready = writer.writable(), if !going_out.is_empty() => {
                ready.map_err(End::from).and_then(|()| send(&mut going_out, writer, shared))
            }
        };
        if let Err(end) = step {
            return end;
        }
    }
}

fn take_in(read: io::Result<usize>, inbox: &mut Inbox, shared: &Shared) -> Result<(), End> {
    let count = read?;
    if count == 0 {
        return Err(End::Lost);
    }
    inbox.filled(count);
    while let Some((header, body)) = inbox.next_frame(shared.hello.max_body).map_err(ProtocolError::from)? {
        shared.deliver(&header, body)?;
    }
    Ok(())
}

/// Writes until nothing is queued or the socket takes no more.
fn send(going_out: &mut Outbox, writer: &OwnedWriteHalf, shared: &Shared) -> Result<(), End> {
    loop {
        if going_out.is_empty() {
            let mut state = shared.lock();
            std::mem::swap(going_out, &mut state.outbox);
            state.driver_writes = !going_out.is_empty();
            if going_out.is_empty() {
                return Ok(());
            }
        }
        match writer.try_write(going_out.unsent()) {
            Ok(0) => return Err(End::Lost),
            Ok(count) => {
                going_out.advance(count);
                shared.wrote(count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
