//! Frames over a stream socket between the daemon and a helper: a length (u32,
//! little-endian, of what follows it), a tag (u8) and a body. One side asks, the other
//! answers, so there is never more than one frame under way. What must not live here:
//! what the frames mean.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use claviger_protocol::codec;
use claviger_protocol::limits::CEILING_MAX_BODY;
use serde::Serialize;
use zeroize::{Zeroize, Zeroizing};

use crate::edge::Clock;

/// Largest frame after its length, in bytes: what any request of a client can become,
/// with room for what a command adds to it.
pub(super) const MAX_FRAME: usize = CEILING_MAX_BODY;
const LENGTH: usize = 4;
/// Read at once; most frames fit.
const CHUNK: usize = 8 * 1024;

/// A frame ready to be written; wiped when dropped.
pub(super) struct Frame(Zeroizing<Vec<u8>>);

impl Frame {
    /// A frame of this tag and body.
    ///
    /// # Errors
    /// The body is larger than any frame.
    pub(super) fn new<T: Serialize + ?Sized>(tag: u8, body: &T) -> io::Result<Self> {
        let mut bytes = Zeroizing::new(vec![0, 0, 0, 0, tag]);
        codec::encode_into(body, &mut bytes)
            .map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        let length = bytes.len() - LENGTH;
        let fits = u32::try_from(length).ok().filter(|_| length <= MAX_FRAME);
        let length = fits.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "larger than any frame"))?;
        bytes[..LENGTH].copy_from_slice(&length.to_le_bytes());
        Ok(Self(bytes))
    }

    /// Its tag and body.
    pub(super) fn content(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0[LENGTH..].to_vec())
    }

    /// Its length on the wire, in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A frame that was read; wiped when dropped.
pub(super) struct Received(Zeroizing<Vec<u8>>);

impl Received {
    /// A frame of this tag and body, as if it had been read.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// What kind of frame it is.
    pub(super) fn tag(&self) -> u8 {
        self.0.first().copied().unwrap_or_default()
    }

    /// What follows the tag.
    pub(super) fn body(&self) -> &[u8] {
        self.0.get(1..).unwrap_or_default()
    }
}

/// One end of a connection between daemon and helper.
pub(super) struct Link {
    stream: UnixStream,
    clock: Clock,
    limit: Option<Duration>,
    /// Bytes of `chunk` that belong to the next frame.
    ahead: usize,
    chunk: Zeroizing<Vec<u8>>,
}

impl Link {
    /// An end that waits for as long as it takes.
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, clock: Clock::system(), limit: None, ahead: 0, chunk: Zeroizing::new(vec![0; CHUNK]) }
    }

    /// From now on no write, and no frame from its first wait to its last byte, takes
    /// longer (a frame that comes in pieces: twice as long). `None`: as long as it takes.
    pub(super) fn set_limit(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(limit)?;
        self.stream.set_write_timeout(limit)?;
        self.limit = limit;
        Ok(())
    }

    /// Another handle on the connection, to cut it off with.
    pub(super) fn handle(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Writes a frame.
    pub(super) fn write(&mut self, frame: &Frame) -> io::Result<()> {
        self.stream.write_all(&frame.0).map_err(named)
    }

    /// Whether more has come than was read: while one side asks and the other answers,
    /// nothing should.
    pub(super) fn is_ahead(&self) -> bool {
        self.ahead > 0
    }

    /// Reads a frame of at most `most` bytes after its length. `None` where the other
    /// end has closed the connection between two frames.
    pub(super) fn read(&mut self, most: usize) -> io::Result<Option<Received>> {
        let frame = self.read_frame(most.min(MAX_FRAME)).map_err(named);
        self.chunk[self.ahead..].zeroize();
        frame
    }

    fn read_frame(&mut self, most: usize) -> io::Result<Option<Received>> {
        let began = self.clock.elapsed();
        let mut have = std::mem::take(&mut self.ahead);
        while have < LENGTH {
            match self.some(have, began)? {
                0 if have == 0 => return Ok(None),
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                more => have += more,
            }
        }
        let mut length = [0; LENGTH];
        length.copy_from_slice(&self.chunk[..LENGTH]);
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length == 0 || length > most {
            let text = format!("a frame of {length} bytes, where 1 to {most} were expected");
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        let end = have.min(LENGTH + length);
        // As large as it gets, so that it never moves and leaves a copy behind.
        let mut frame = Zeroizing::new(Vec::with_capacity(length));
        frame.extend_from_slice(&self.chunk[LENGTH..end]);
        // What follows the frame is the next one's.
        self.chunk.copy_within(end..have, 0);
        self.ahead = have - end;
        while frame.len() < length {
            let missing = (length - frame.len()).min(CHUNK);
            self.in_time(began)?;
            match read_some(&mut self.stream, &mut self.chunk[..missing])? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                more => frame.extend_from_slice(&self.chunk[..more]),
            }
        }
        Ok(Some(Received(frame)))
    }

    fn some(&mut self, have: usize, began: Duration) -> io::Result<usize> {
        self.in_time(began)?;
        read_some(&mut self.stream, &mut self.chunk[have..])
    }

    fn in_time(&self, began: Duration) -> io::Result<()> {
        let spent = self.clock.elapsed().saturating_sub(began);
        match self.limit {
            Some(limit) if spent > limit => Err(ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }
}

fn read_some(stream: &mut UnixStream, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(into) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// A socket's time limit shows as "would block".
fn named(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claviger_protocol::SecretBytes;

    fn pair() -> (Link, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        (Link::new(here), there)
    }

    fn refusal(bytes: &[u8], most: usize) -> ErrorKind {
        let (mut link, mut peer) = pair();
        peer.write_all(bytes).unwrap();
        drop(peer);
        link.read(most).err().map(|error| error.kind()).unwrap()
    }

    #[test]
    fn frames_of_every_size_come_through_whole() {
        for size in [0, 1, CHUNK - 13, CHUNK - 12, CHUNK, 3 * CHUNK, 200_000] {
            let (mut here, there) = pair();
            let mut there = Link::new(there);
            let sent = SecretBytes::new(vec![7; size]);
            let frame = Frame::new(9, &sent).unwrap();
            let writer = std::thread::spawn(move || here.write(&frame));
            let got = there.read(MAX_FRAME).unwrap().unwrap();
            assert_eq!((got.tag(), codec::decode::<SecretBytes>(got.body())), (9, Ok(sent)), "{size}");
            writer.join().unwrap().unwrap();
            assert!(there.chunk.iter().all(|byte| *byte == 0));
            assert!(there.read(MAX_FRAME).unwrap().is_none());
        }
    }

    #[test]
    fn frames_that_come_together_are_read_one_by_one() {
        let (mut link, mut peer) = pair();
        let frames = [vec![1; 10], vec![2; 3], vec![3; 9000], vec![4]];
        for frame in &frames {
            let frame = Frame::new(frame[0], &SecretBytes::new(frame.clone())).unwrap();
            peer.write_all(&frame.0).unwrap();
        }
        for (number, frame) in frames.iter().enumerate() {
            let got = link.read(MAX_FRAME).unwrap().unwrap();
            let body = codec::decode::<SecretBytes>(got.body()).unwrap();
            assert_eq!((got.tag(), body.expose()), (frame[0], frame.as_slice()));
            assert!(link.is_ahead() || number >= 2);
            assert!(link.chunk[link.ahead..].iter().all(|byte| *byte == 0));
        }
        assert!(!link.is_ahead());
    }

    #[test]
    fn what_is_too_long_empty_or_cut_is_refused() {
        assert_eq!(refusal(&[0, 0, 0, 0], 10), ErrorKind::InvalidData);
        assert_eq!(refusal(&[11, 0, 0, 0, 1], 10), ErrorKind::InvalidData);
        assert_eq!(refusal(&[0xff; 4], usize::MAX), ErrorKind::InvalidData);
        assert_eq!(refusal(&[2, 0, 0], 10), ErrorKind::UnexpectedEof);
        assert_eq!(refusal(&[2, 0, 0, 0, 1], 10), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn silence_and_dripping_end_at_the_limit() {
        let (mut link, mut peer) = pair();
        link.set_limit(Some(Duration::from_millis(20))).unwrap();
        assert_eq!(link.read(10).err().unwrap().kind(), ErrorKind::TimedOut);
        let dripping = std::thread::spawn(move || {
            peer.write_all(&100_u32.to_le_bytes()).unwrap();
            while peer.write_all(&[1]).is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        assert_eq!(link.read(1000).err().unwrap().kind(), ErrorKind::TimedOut);
        drop(link);
        dripping.join().unwrap();
    }

    #[test]
    fn a_body_larger_than_any_frame_is_not_written() {
        assert!(Frame::new(1, &SecretBytes::new(vec![0; MAX_FRAME - 9])).is_ok());
        assert!(Frame::new(1, &SecretBytes::new(vec![0; MAX_FRAME - 8])).is_err());
    }
}
