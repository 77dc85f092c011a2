//! Commands and answers as frames. Daemon and helper are always of the same version
//! ([`super::hello`] sees to it), so this is no published format; but numbers are written
//! down all the same, and what comes in is a stranger's word until it was read whole.

use std::io;

use claviger_protocol::codec::{self, DecodeError};
use claviger_protocol::secret::Bytes;
use claviger_protocol::{
    EncryptionAlgorithm, ImportAlgorithm, KeySpec, MacAlgorithm, SecretBytes, SigningAlgorithm,
};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::super::command::{
    Answer, CheckValue, Command, HsmError, ObjectId, Template, WrapFormat, Wrapped, WrappingKey,
};
use super::link::{Frame, Received};

/// Longest text of an error that is taken from the other side, in characters.
const MAX_TEXT: usize = 500;

/// Tags of commands.
mod ask {
    pub(super) const RANDOM: u8 = 1;
    pub(super) const GENERATE: u8 = 2;
    pub(super) const UNWRAP: u8 = 3;
    pub(super) const DERIVE: u8 = 4;
    pub(super) const GCM_SEAL: u8 = 5;
    pub(super) const GCM_OPEN: u8 = 6;
    pub(super) const ROOT_SEAL: u8 = 7;
    pub(super) const ROOT_OPEN: u8 = 8;
    pub(super) const DESTROY: u8 = 9;
    pub(super) const CANARY: u8 = 10;
    pub(super) const UNWRAP_PAIR: u8 = 11;
    pub(super) const SIGN: u8 = 12;
    pub(super) const PRIVATE_DECRYPT: u8 = 13;
    pub(super) const MAC: u8 = 14;
    pub(super) const IMPORT: u8 = 15;
    pub(super) const OPEN_BLOCK: u8 = 16;
    pub(super) const ADOPT: u8 = 17;
}

/// Tags of answers: what was asked for, and what went wrong.
mod say {
    pub(super) const DONE: u8 = 1;
    pub(super) const BYTES: u8 = 2;
    pub(super) const OBJECT: u8 = 3;
    pub(super) const GENERATED: u8 = 4;
    pub(super) const GENERATED_PAIR: u8 = 5;
    pub(super) const IMPORTED: u8 = 6;
    pub(super) const NOT_INSIDE: u8 = 7;
    pub(super) const AUTHENTICATION_FAILED: u8 = 129;
    pub(super) const CHECK_VALUE_MISMATCH: u8 = 130;
    pub(super) const OBJECT_GONE: u8 = 131;
    pub(super) const NO_SUCH_ROOT: u8 = 132;
    pub(super) const BUSY: u8 = 133;
    pub(super) const UNSUPPORTED: u8 = 134;
    pub(super) const UNAVAILABLE: u8 = 135;
    pub(super) const PIN_REFUSED: u8 = 136;
    pub(super) const FAULT: u8 = 137;
}

/// Bytes as one piece, borrowed.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

type Object = (u64, u64);

const fn object(id: ObjectId) -> Object {
    (id.epoch, id.handle)
}

const fn to_object((epoch, handle): Object) -> ObjectId {
    ObjectId { epoch, handle }
}

/// Format, generation, blob.
type WrappedParts = (u8, u32, Bytes);

fn parts(wrapped: &Wrapped) -> (u8, u32, Raw<'_>) {
    (wrapped.format as u8, wrapped.generation, Raw(&wrapped.blob))
}

fn to_wrapped((format, generation, Bytes(blob)): WrappedParts) -> Result<Wrapped, DecodeError> {
    let format = WrapFormat::from_number(format).ok_or(DecodeError::Malformed("an unknown wrap format"))?;
    Ok(Wrapped { format, generation, blob })
}

/// A wrapping key's parts.
type KeyParts = (WrappedParts, KeySpec, Bytes);

fn key_parts(key: &WrappingKey) -> ((u8, u32, Raw<'_>), KeySpec, Raw<'_>) {
    (parts(&key.wrapped), key.spec, Raw(&key.public_key))
}

fn to_key((wrapped, spec, Bytes(public_key)): KeyParts) -> Result<WrappingKey, DecodeError> {
    Ok(WrappingKey { wrapped: to_wrapped(wrapped)?, spec, public_key })
}

/// A command as a frame.
///
/// # Errors
/// It is larger than any frame.
pub(super) fn command(command: &Command) -> io::Result<Frame> {
    match command {
        Command::Random { len } => Frame::new(ask::RANDOM, len),
        Command::Generate { spec, template } => Frame::new(ask::GENERATE, &(spec, *template as u8)),
        Command::Unwrap { wrapped, spec, template, check_value } => {
            Frame::new(ask::UNWRAP, &(parts(wrapped), spec, *template as u8, check_value))
        }
        Command::UnwrapPair { wrapped, spec, template, public_key } => {
            Frame::new(ask::UNWRAP_PAIR, &(parts(wrapped), spec, *template as u8, Raw(public_key)))
        }
        Command::Derive { object: id, salt } => Frame::new(ask::DERIVE, &(object(*id), salt)),
        Command::GcmSeal { object: id, nonce, aad, plaintext } => {
            Frame::new(ask::GCM_SEAL, &(object(*id), nonce, Raw(aad), plaintext))
        }
        Command::GcmOpen { object: id, nonce, aad, sealed } => {
            Frame::new(ask::GCM_OPEN, &(object(*id), nonce, Raw(aad), Raw(sealed)))
        }
        Command::Sign { object: id, algorithm, digest } => {
            Frame::new(ask::SIGN, &(object(*id), algorithm, Raw(digest)))
        }
        Command::PrivateDecrypt { object: id, algorithm, ciphertext } => {
            Frame::new(ask::PRIVATE_DECRYPT, &(object(*id), algorithm, Raw(ciphertext)))
        }
        Command::Mac { object: id, algorithm, message } => {
            Frame::new(ask::MAC, &(object(*id), algorithm, message))
        }
        Command::Import { key, algorithm, block, inner, spec, template } => {
            let inner = inner.as_deref().map(Raw);
            Frame::new(ask::IMPORT, &(key_parts(key), algorithm, Raw(block), inner, spec, *template as u8))
        }
        Command::OpenBlock { key, algorithm, block } => {
            Frame::new(ask::OPEN_BLOCK, &(key_parts(key), algorithm, Raw(block)))
        }
        Command::Adopt { material, spec, template, public_key } => {
            Frame::new(ask::ADOPT, &(material, spec, *template as u8, Raw(public_key)))
        }
        Command::RootSeal { aad, plaintext } => Frame::new(ask::ROOT_SEAL, &(Raw(aad), plaintext)),
        Command::RootOpen { aad, sealed } => Frame::new(ask::ROOT_OPEN, &(Raw(aad), Raw(sealed))),
        Command::Destroy { object: id } => Frame::new(ask::DESTROY, &object(*id)),
        Command::Canary => Frame::new(ask::CANARY, &()),
    }
}

/// A frame as a command.
pub(super) fn to_command(frame: &Received) -> Result<Command, DecodeError> {
    let body = frame.body();
    Ok(match frame.tag() {
        ask::RANDOM => Command::Random { len: codec::decode(body)? },
        ask::GENERATE => {
            let (spec, number): (KeySpec, u8) = codec::decode(body)?;
            Command::Generate { spec, template: template(number)? }
        }
        ask::UNWRAP => {
            let (parts, spec, number, check_value): (WrappedParts, KeySpec, u8, CheckValue) =
                codec::decode(body)?;
            Command::Unwrap { wrapped: to_wrapped(parts)?, spec, template: template(number)?, check_value }
        }
        ask::UNWRAP_PAIR => {
            let (parts, spec, number, Bytes(public_key)): (WrappedParts, KeySpec, u8, Bytes) =
                codec::decode(body)?;
            Command::UnwrapPair { wrapped: to_wrapped(parts)?, spec, template: template(number)?, public_key }
        }
        ask::DERIVE => {
            let (id, salt): (Object, [u8; 16]) = codec::decode(body)?;
            Command::Derive { object: to_object(id), salt }
        }
        ask::GCM_SEAL => {
            let (id, nonce, Bytes(aad), plaintext): (Object, [u8; 12], Bytes, SecretBytes) =
                codec::decode(body)?;
            Command::GcmSeal { object: to_object(id), nonce, aad, plaintext }
        }
        ask::GCM_OPEN => {
            let (id, nonce, Bytes(aad), Bytes(sealed)): (Object, [u8; 12], Bytes, Bytes) =
                codec::decode(body)?;
            Command::GcmOpen { object: to_object(id), nonce, aad, sealed }
        }
        ask::SIGN => {
            let (id, algorithm, Bytes(digest)): (Object, SigningAlgorithm, Bytes) = codec::decode(body)?;
            Command::Sign { object: to_object(id), algorithm, digest }
        }
        ask::PRIVATE_DECRYPT => {
            let (id, algorithm, Bytes(ciphertext)): (Object, EncryptionAlgorithm, Bytes) =
                codec::decode(body)?;
            Command::PrivateDecrypt { object: to_object(id), algorithm, ciphertext }
        }
        ask::MAC => {
            let (id, algorithm, message): (Object, MacAlgorithm, SecretBytes) = codec::decode(body)?;
            Command::Mac { object: to_object(id), algorithm, message }
        }
        ask::IMPORT | ask::OPEN_BLOCK | ask::ADOPT => return to_import(frame.tag(), body),
        ask::ROOT_SEAL => {
            let (Bytes(aad), plaintext): (Bytes, SecretBytes) = codec::decode(body)?;
            Command::RootSeal { aad, plaintext }
        }
        ask::ROOT_OPEN => {
            let (Bytes(aad), Bytes(sealed)): (Bytes, Bytes) = codec::decode(body)?;
            Command::RootOpen { aad, sealed }
        }
        ask::DESTROY => Command::Destroy { object: to_object(codec::decode(body)?) },
        ask::CANARY => {
            codec::decode::<()>(body)?;
            Command::Canary
        }
        _ => return Err(DecodeError::Malformed("an unknown command")),
    })
}

/// The commands about material that is brought from outside.
fn to_import(tag: u8, body: &[u8]) -> Result<Command, DecodeError> {
    type Parts = (KeyParts, ImportAlgorithm, Bytes, Option<Bytes>, KeySpec, u8);
    Ok(match tag {
        ask::IMPORT => {
            let (key, algorithm, Bytes(block), inner, spec, number): Parts = codec::decode(body)?;
            let (key, inner) = (to_key(key)?, inner.map(|Bytes(inner)| inner));
            Command::Import { key, algorithm, block, inner, spec, template: template(number)? }
        }
        ask::OPEN_BLOCK => {
            let (key, algorithm, Bytes(block)): (KeyParts, ImportAlgorithm, Bytes) = codec::decode(body)?;
            Command::OpenBlock { key: to_key(key)?, algorithm, block }
        }
        _ => {
            let (material, spec, number, Bytes(public_key)): (SecretBytes, KeySpec, u8, Bytes) =
                codec::decode(body)?;
            Command::Adopt { material, spec, template: template(number)?, public_key }
        }
    })
}

fn template(number: u8) -> Result<Template, DecodeError> {
    Template::from_number(number).ok_or(DecodeError::Malformed("an unknown template"))
}

/// What became of a command, as a frame.
///
/// # Errors
/// It is larger than any frame.
pub(super) fn outcome(outcome: &Result<Answer, HsmError>) -> io::Result<Frame> {
    match outcome {
        Ok(Answer::Done) => Frame::new(say::DONE, &()),
        Ok(Answer::Bytes(bytes)) => Frame::new(say::BYTES, bytes),
        Ok(Answer::Object(id)) => Frame::new(say::OBJECT, &object(*id)),
        Ok(Answer::Generated { wrapped, check_value }) => {
            Frame::new(say::GENERATED, &(parts(wrapped), check_value))
        }
        Ok(Answer::GeneratedPair { wrapped, public_key }) => {
            Frame::new(say::GENERATED_PAIR, &(parts(wrapped), Raw(public_key)))
        }
        Ok(Answer::Imported { wrapped, check_value, value }) => {
            Frame::new(say::IMPORTED, &(parts(wrapped), check_value, value))
        }
        Ok(Answer::NotInside) => Frame::new(say::NOT_INSIDE, &()),
        Err(HsmError::AuthenticationFailed) => Frame::new(say::AUTHENTICATION_FAILED, &()),
        Err(HsmError::CheckValueMismatch) => Frame::new(say::CHECK_VALUE_MISMATCH, &()),
        Err(HsmError::ObjectGone) => Frame::new(say::OBJECT_GONE, &()),
        Err(HsmError::NoSuchRoot(generation)) => Frame::new(say::NO_SUCH_ROOT, generation),
        Err(HsmError::Busy) => Frame::new(say::BUSY, &()),
        Err(HsmError::Unsupported(text)) => Frame::new(say::UNSUPPORTED, &plain(text)),
        Err(HsmError::Unavailable(text)) => Frame::new(say::UNAVAILABLE, &plain(text)),
        Err(HsmError::PinRefused) => Frame::new(say::PIN_REFUSED, &()),
        Err(HsmError::Fault(text)) => Frame::new(say::FAULT, &plain(text)),
    }
}

/// A frame as what became of a command.
pub(super) fn to_outcome(frame: &Received) -> Result<Result<Answer, HsmError>, DecodeError> {
    let body = frame.body();
    let text = || codec::decode::<String>(body).map(|text| plain(&text));
    Ok(Err(match frame.tag() {
        say::DONE => return empty(body, Ok(Answer::Done)),
        say::BYTES => return codec::decode(body).map(|bytes| Ok(Answer::Bytes(bytes))),
        say::OBJECT => return codec::decode(body).map(|id| Ok(Answer::Object(to_object(id)))),
        say::GENERATED => {
            let (parts, check_value): (WrappedParts, CheckValue) = codec::decode(body)?;
            return Ok(Ok(Answer::Generated { wrapped: to_wrapped(parts)?, check_value }));
        }
        say::GENERATED_PAIR => {
            let (parts, Bytes(public_key)): (WrappedParts, Bytes) = codec::decode(body)?;
            return Ok(Ok(Answer::GeneratedPair { wrapped: to_wrapped(parts)?, public_key }));
        }
        say::IMPORTED => {
            let (parts, check_value, value): (WrappedParts, CheckValue, SecretBytes) = codec::decode(body)?;
            return Ok(Ok(Answer::Imported { wrapped: to_wrapped(parts)?, check_value, value }));
        }
        say::NOT_INSIDE => return empty(body, Ok(Answer::NotInside)),
        say::AUTHENTICATION_FAILED => empty(body, HsmError::AuthenticationFailed)?,
        say::CHECK_VALUE_MISMATCH => empty(body, HsmError::CheckValueMismatch)?,
        say::OBJECT_GONE => empty(body, HsmError::ObjectGone)?,
        say::NO_SUCH_ROOT => HsmError::NoSuchRoot(codec::decode(body)?),
        say::BUSY => empty(body, HsmError::Busy)?,
        say::UNSUPPORTED => HsmError::Unsupported(text()?),
        say::UNAVAILABLE => HsmError::Unavailable(text()?),
        say::PIN_REFUSED => empty(body, HsmError::PinRefused)?,
        say::FAULT => HsmError::Fault(text()?),
        _ => return Err(DecodeError::Malformed("an unknown answer")),
    }))
}

/// `value`, if the body is empty as it should be.
fn empty<T>(body: &[u8], value: T) -> Result<T, DecodeError> {
    codec::decode::<()>(body).map(|()| value)
}

/// Reads the tag and body of a frame, and writes what they mean: for what must hold of
/// any bytes. `answer`: as the helper's, else as the daemon's.
///
/// # Errors
/// They are no command, or no answer.
pub fn rewritten(answer: bool, frame: &[u8]) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
    let too_large = |_| DecodeError::Malformed("larger than any frame");
    let received = Received::of(frame);
    let written = if answer {
        outcome(&to_outcome(&received)?).map_err(too_large)?
    } else {
        command(&to_command(&received)?).map_err(too_large)?
    };
    Ok(written.content())
}

/// A text fit for a log: short, and on one line.
pub(super) fn plain(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Reads the body of a frame that isn't a command or an answer.
pub(super) fn body<T: DeserializeOwned>(frame: &Received) -> io::Result<T> {
    codec::decode(frame.body()).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
