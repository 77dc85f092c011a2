//! Byte queues for frames, which carry plaintext: what leaves them is wiped, and
//! growing leaves no copy behind.

use claviger_protocol::limits::HEADER_LEN;
use claviger_protocol::{FrameError, Header, SecretBytes, frame};
use zeroize::Zeroize;

/// Room that a queue keeps while idle, in bytes.
const IDLE_CAPACITY: usize = 64 * 1024;

/// Bytes on their way to the socket.
#[derive(Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is still to be written.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Appends one frame.
    pub(crate) fn push(&mut self, header: &Header, body: &[u8]) {
        let needed = self.bytes.len() + HEADER_LEN + body.len();
        if needed > self.bytes.capacity() {
            let mut roomy = Vec::with_capacity(needed.max(2 * self.bytes.capacity()).max(1024));
            roomy.extend_from_slice(&self.bytes);
            std::mem::replace(&mut self.bytes, roomy).zeroize();
        }
        self.bytes.extend_from_slice(&header.to_bytes());
        self.bytes.extend_from_slice(body);
    }

    /// Takes note that the socket took the next `count` bytes.
    pub(crate) fn advance(&mut self, count: usize) {
        self.sent += count;
        if self.sent >= self.bytes.len() {
            self.clear();
        }
    }

    /// Wipes and empties it.
    pub(crate) fn clear(&mut self) {
        self.bytes.as_mut_slice().zeroize();
        self.bytes.clear();
        self.bytes.shrink_to(IDLE_CAPACITY);
        self.sent = 0;
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// Bytes from the socket, until they are whole frames.
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; IDLE_CAPACITY], start: 0, end: 0 }
    }

    /// Where the next bytes from the socket go; never empty.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        let have = self.end - self.start;
        let wanted = self.unread().first_chunk::<4>().map_or(HEADER_LEN, |length| {
            // The length was checked against the cap by `next_frame` when it arrived.
            HEADER_LEN.saturating_add(u32::from_le_bytes(*length) as usize)
        });
        if have == 0 && self.bytes.len() > IDLE_CAPACITY {
            *self = Self::new();
        } else if wanted > self.bytes.len() {
            let mut roomy = vec![0; wanted];
            roomy[..have].copy_from_slice(self.unread());
            std::mem::replace(&mut self.bytes, roomy).zeroize();
            (self.start, self.end) = (0, have);
        } else if self.start + wanted > self.bytes.len() || self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            self.bytes[have..self.end].zeroize();
            (self.start, self.end) = (0, have);
        }
        &mut self.bytes[self.end..]
    }

    /// Takes note that `count` bytes of the room were filled.
    pub(crate) fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// Whether there is a whole frame.
    ///
    /// # Errors
    /// As soon as a length field claims more than `cap`.
    pub(crate) fn has_frame(&self, cap: u32) -> Result<bool, FrameError> {
        frame::peek(self.unread(), cap).map(|header| header.is_some())
    }

    /// The next whole frame, if there is one; its bytes here are wiped.
    ///
    /// # Errors
    /// As soon as a length field claims more than `cap`.
    pub(crate) fn next_frame(&mut self, cap: u32) -> Result<Option<(Header, SecretBytes)>, FrameError> {
        let Some(header) = frame::peek(self.unread(), cap)? else {
            return Ok(None);
        };
        let body_start = self.start + HEADER_LEN;
        let body_end = body_start + header.length as usize;
        let body = SecretBytes::new(self.bytes[body_start..body_end].to_vec());
        self.bytes[body_start..body_end].zeroize();
        self.start = body_end;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        Ok(Some((header, body)))
    }

    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(id: u64, body: &[u8]) -> Vec<u8> {
        let mut out = Outbox::default();
        out.push(&Header::request(2, id, 0, u32::try_from(body.len()).unwrap()), body);
        out.unsent().to_vec()
    }

    fn feed(inbox: &mut Inbox, mut bytes: &[u8], step: usize, cap: u32) -> Vec<(u64, Vec<u8>)> {
        let mut got = Vec::new();
        while !bytes.is_empty() {
            let room = inbox.room();
            assert!(!room.is_empty());
            let count = step.min(room.len()).min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            inbox.filled(count);
            bytes = &bytes[count..];
            while let Some((header, body)) = inbox.next_frame(cap).unwrap() {
                got.push((header.request_id, body.expose().to_vec()));
            }
        }
        got
    }

    #[test]
    fn frames_come_out_whole_however_they_were_cut() {
        let bodies: Vec<Vec<u8>> =
            [0, 1, 100, 70_000, 3, 65_536 - HEADER_LEN, 200_000, 5].map(|n| vec![0x77; n]).into();
        let stream: Vec<u8> = bodies.iter().zip(0..).flat_map(|(body, id)| frame(id, body)).collect();
        for step in [1, 7, 24, 4_096, 65_536, 1 << 20] {
            let mut inbox = Inbox::new();
            let got = feed(&mut inbox, &stream, step, 1 << 20);
            assert_eq!(got, (0..).zip(bodies.clone()).collect::<Vec<_>>(), "step {step}");
            inbox.room();
            assert_eq!(inbox.bytes.len(), IDLE_CAPACITY, "gives back what a large frame took");
        }
    }

    #[test]
    fn what_was_read_is_wiped() {
        let mut inbox = Inbox::new();
        feed(&mut inbox, &frame(1, &[0x55; 1000]), 300, 1 << 20);
        assert!(!inbox.bytes.contains(&0x55));
    }

    #[test]
    fn what_was_sent_is_wiped_and_parts_are_kept() {
        let mut out = Outbox::default();
        out.push(&Header::request(2, 1, 0, 3), b"abc");
        out.advance(HEADER_LEN + 1);
        assert_eq!(out.unsent(), b"bc");
        out.push(&Header::request(2, 2, 0, 1), b"d");
        assert_eq!(out.unsent().len(), 2 + HEADER_LEN + 1);
        out.advance(2 + HEADER_LEN + 1);
        assert!(out.is_empty());
        assert_eq!(out.sent, 0);
    }

    #[test]
    fn a_length_over_the_cap_is_an_error_before_it_is_room() {
        let mut inbox = Inbox::new();
        let bytes = frame(1, &[0; 101]);
        inbox.room()[..4].copy_from_slice(&bytes[..4]);
        inbox.filled(4);
        assert_eq!(inbox.next_frame(100).err(), Some(FrameError::TooLarge { length: 101, cap: 100 }));
    }
}
