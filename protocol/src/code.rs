//! The numbered outcome of a call: one list, numbers never reused (`SPEC.md` section 6).

/// Declares the codes with their numbers, whether the same call may succeed
/// later unchanged, and what they mean.
macro_rules! codes {
    ($($(#[$meta:meta])* $name:ident = $number:literal $retry:ident $text:literal,)+) => {
        /// What became of a call.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Code { $($(#[$meta])* $name = $number,)+ }

        impl Code {
            /// Every code, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The number in a reply's header.
            #[must_use]
            pub const fn number(self) -> u16 { self as u16 }

            /// The code of a number, if there is one.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)+ _ => None }
            }

            /// The spelling in messages, logs, JSON and audit.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What it means, for people.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// Whether the same call, unchanged, may succeed later.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$name => codes!(@$retry),)+ }
            }
        }
    };
    (@retry) => { true };
    (@never) => { false };
}

codes! {
    /// Success.
    Ok = 0 never "done",
    /// The body is cut, has leftovers or lengths it doesn't have.
    Malformed = 1 never "the frame's body can't be read",
    /// Another protocol version.
    UnsupportedVersion = 2 never "the daemon doesn't speak this protocol version",
    /// No such operation.
    UnknownOpcode = 3 never "the daemon doesn't know this operation",
    /// The body is over the connection's cap.
    FrameTooLarge = 4 never "the frame is larger than this connection may send",
    /// The first frame must be hello, and only the first.
    HelloRequired = 5 never "a connection starts with one hello",
    /// A flag that isn't defined or isn't allowed here.
    UnsupportedFlag = 6 never "a frame flag isn't supported",
    /// The reply would be larger than a frame.
    ReplyTooLarge = 7 never "the reply doesn't fit in a frame; ask for less",
    /// A value breaks its rule; the message says which.
    InvalidArgument = 10 never "a value isn't allowed",
    /// More plaintext than the limit.
    PlaintextTooLarge = 11 never "the plaintext is over the limit; use a data key",
    /// Not allowed, or not there: application endpoints can't tell.
    AccessDenied = 20 never "not allowed, or no such resource",
    /// No such resource (admin endpoint only).
    NotFound = 21 never "no such resource",
    /// The access key, its proof or the endpoint's demands weren't met.
    Unauthenticated = 22 never "the connection isn't authenticated as this endpoint asks",
    /// The key's state forbids it; the message names the state.
    InvalidKeyState = 30 never "the key's state doesn't allow this",
    /// The key's usage forbids it.
    InvalidKeyUsage = 31 never "the key isn't for this",
    /// No member of the pool can hold this spec; the message names the way out.
    UnsupportedByHsm = 32 never "no HSM of this domain can hold such a key",
    /// An alias (or another unique name) is taken.
    AlreadyExists = 33 never "the name is taken",
    /// The client token was used for another request.
    ClientTokenReused = 34 never "the client token belongs to another request",
    /// The nonce budget of a key used directly is spent.
    KeyExhausted = 35 never "the key has encrypted as much as is safe; rotate it",
    /// A pair with several versions: the call must name one.
    KeyVersionRequired = 36 never "the key has several versions; name the one that is meant",
    /// This kind of key never does that, whatever its state; the message says why.
    UnsupportedByKey = 37 never "this kind of key doesn't allow this",
    /// Deletion protection is on.
    DeletionProtected = 38 never "the key is protected against deletion; take the protection off first",
    /// Access points used the key lately.
    KeyInUse = 39 never "access points used the key lately; force the deletion if it is meant",
    /// The ciphertext, its context or its key don't fit together.
    InvalidCiphertext = 40 never "the ciphertext can't be decrypted with this context",
    /// The import token isn't one for this key, was altered, or has failed too often.
    InvalidImportToken = 41 never "the import token can't be used for this key; ask for new import parameters",
    /// The import token is over.
    ImportTokenExpired = 42 never "the import token has expired; ask for new import parameters",
    /// The encrypted material can't be opened, or isn't what the key's spec needs. One answer
    /// for every reason.
    InvalidMaterial = 43 never "the encrypted material can't be used: wrong padding, length or layout for this key",
    /// Another material than the key's first.
    MaterialMismatch = 44 never "the key is bound to its first material, and this is another",
    /// A bound that isn't a rate: so many aliases, tags, versions and no more.
    LimitExceeded = 45 never "there are as many of these as there may be",
    /// A project that still holds something.
    NotEmpty = 46 never "it still holds something; empty it first",
    /// A queue is full.
    Busy = 50 retry "too much at once; try again",
    /// Over a rate limit; the reply says when to come back.
    Throttled = 51 retry "over the rate limit",
    /// The deadline passed before the work was done.
    DeadlineExceeded = 52 retry "the deadline passed",
    /// The daemon is stopping.
    ShuttingDown = 53 retry "the daemon is stopping",
    /// No member of the pool can do it now.
    HsmUnavailable = 60 retry "no HSM can be reached",
    /// The store can't be written or read now.
    StoreUnavailable = 61 retry "the store can't be used",
    /// The call could not be recorded in the audit log, so it was not answered.
    AuditUnavailable = 62 retry "the audit log can't be written",
    /// The disk is full: keys can be used, nothing can be changed.
    ReadOnly = 63 retry "the daemon's disk is full, so nothing can be changed now",
    /// Known and not in this version.
    NotAvailable = 70 never "this version can't do it yet",
    /// A fault in the daemon.
    Internal = 99 never "a fault in the daemon; see its log",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_ascending_and_round_trip() {
        assert!(Code::ALL.windows(2).all(|w| w[0].number() < w[1].number()));
        for &code in Code::ALL {
            assert_eq!(Code::from_number(code.number()), Some(code));
        }
        assert_eq!(Code::from_number(9999), None);
    }
}
