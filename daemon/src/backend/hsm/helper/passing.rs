//! Connections handed to a helper over one that it has: a process is born with two, its
//! stdin and stdout, and a member has more lanes. What must not live here: what they are for.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::super::member::MAX_ASYMMETRIC;

/// The byte that the connections come with.
const MARK: u8 = 0xFD;
const ROOM: usize = rustix::cmsg_space!(ScmRights(MAX_ASYMMETRIC as usize));

/// Hands connections over; they may be closed here afterwards.
pub(super) fn send(over: &UnixStream, connections: &[UnixStream]) -> io::Result<()> {
    let handles: Vec<BorrowedFd<'_>> = connections.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); ROOM];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&handles)) {
        return Err(io::Error::new(ErrorKind::InvalidInput, "too many connections to hand over"));
    }
    let sent = sendmsg(over, &[IoSlice::new(&[MARK])], &mut ancillary, SendFlags::NOSIGNAL)?;
    if sent == 1 { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
}

/// Takes `count` connections over; nothing else may be under way on this one.
pub(super) fn receive(over: &UnixStream, count: u8) -> io::Result<Vec<UnixStream>> {
    let mut space = [MaybeUninit::uninit(); ROOM];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut mark = [0];
    let got = recvmsg(over, &mut [IoSliceMut::new(&mut mark)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut connections = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(handles) = message {
            connections.extend(handles.map(UnixStream::from));
        }
    }
    if got.bytes != 1 || mark != [MARK] || connections.len() != usize::from(count) {
        return Err(io::Error::new(ErrorKind::InvalidData, "the lanes' connections were not handed over"));
    }
    Ok(connections)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn connections_arrive_as_they_are_and_in_their_order() {
        let (here, there) = UnixStream::pair().unwrap();
        let pairs: Vec<_> = (0..MAX_ASYMMETRIC).map(|_| UnixStream::pair().unwrap()).collect();
        let (ours, theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        send(&here, &theirs).unwrap();
        drop(theirs);
        let taken = receive(&there, MAX_ASYMMETRIC).unwrap();
        for (number, (mut ours, mut taken)) in (0..).zip(ours.into_iter().zip(taken)) {
            ours.write_all(&[number]).unwrap();
            drop(ours);
            let mut read = Vec::new();
            taken.read_to_end(&mut read).unwrap();
            assert_eq!(read, [number]);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let (here, there) = UnixStream::pair().unwrap();
        let (one, _other) = UnixStream::pair().unwrap();
        (&here).write_all(&[MARK]).unwrap();
        assert!(receive(&there, 1).is_err(), "no connection");
        send(&here, std::slice::from_ref(&one)).unwrap();
        assert!(receive(&there, 2).is_err(), "too few");
        drop(here);
        assert!(receive(&there, 0).is_err(), "the end");
        let five = vec![
            one.try_clone().unwrap(),
            one.try_clone().unwrap(),
            one.try_clone().unwrap(),
            one.try_clone().unwrap(),
            one,
        ];
        assert!(send(&there, &five).is_err());
    }
}
