//! From CK_RV to what can be done about it. The classes are those of the standard
//! (PKCS#11 v3.2, section 5.1); what tokens make of them differs, so that one class
//! is left open here: a refusal that may be about the data or about the token.

use cryptoki::error::{Error, RvError};

use super::command::HsmError;

/// CKR_AEAD_DECRYPT_FAILED (PKCS#11 v3.0), which the PKCS#11 library has no name for.
const AEAD_DECRYPT_FAILED: u64 = 0x42;

/// What was being done when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// Something with an object that can be unwrapped again.
    Using,
    /// Opening a ciphertext that anyone may have made, with such an object.
    Opening,
    /// Unwrapping stored material under the root.
    Unwrapping,
    /// Anything else with the root, or with no key at all.
    Rooted,
}

/// What a failure means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This.
    Known(HsmError),
    /// The data, or the token: only a canary can tell.
    Ambiguous(String),
}

/// Sorts a failure into its class.
pub(super) fn classify(error: &Error, doing: Doing) -> Verdict {
    let text = describe(error);
    let Error::Pkcs11(rv, _) = error else {
        return Verdict::Known(match error {
            Error::NotSupported | Error::NullFunctionPointer | Error::MissingSymbol(_) => {
                HsmError::Unsupported(text)
            }
            _ => HsmError::Fault(text),
        });
    };
    if let Some(verdict) = about_data(rv, doing, &text) {
        return verdict;
    }
    Verdict::Known(match rv {
        RvError::PinIncorrect | RvError::PinInvalid | RvError::PinExpired | RvError::PinLocked => {
            HsmError::PinRefused
        }
        RvError::KeyHandleInvalid | RvError::ObjectHandleInvalid
            if matches!(doing, Doing::Using | Doing::Opening) =>
        {
            HsmError::ObjectGone
        }
        RvError::MechanismInvalid
        | RvError::MechanismParamInvalid
        | RvError::FunctionNotSupported
        | RvError::KeySizeRange
        | RvError::CurveNotSupported => HsmError::Unsupported(text),
        _ if token_is_down(rv) => HsmError::Unavailable(text),
        _ => HsmError::Fault(text),
    })
}

/// The classes that depend on whose data it is.
fn about_data(rv: &RvError, doing: Doing, text: &str) -> Option<Verdict> {
    let says_data = matches!(
        rv,
        RvError::EncryptedDataInvalid
            | RvError::EncryptedDataLenRange
            | RvError::WrappedKeyInvalid
            | RvError::WrappedKeyLenRange
            | RvError::SignatureInvalid
            | RvError::UnknownErrorCode(AEAD_DECRYPT_FAILED)
    );
    let says_nothing = matches!(
        rv,
        RvError::GeneralError
            | RvError::FunctionFailed
            | RvError::DeviceError
            | RvError::DataInvalid
            | RvError::DataLenRange
            | RvError::ArgumentsBad
    );
    // A vendor's own code, or one of a later standard: what is wrong with a ciphertext, or the
    // token's end. Anyone could end it, if it were taken at its worst.
    let says_what_only_it_knows = matches!(rv, RvError::VendorDefined(_) | RvError::UnknownErrorCode(_));
    match doing {
        Doing::Opening if says_data => Some(Verdict::Known(HsmError::AuthenticationFailed)),
        Doing::Unwrapping if says_data => Some(Verdict::Known(HsmError::CheckValueMismatch)),
        Doing::Opening if says_what_only_it_knows => Some(Verdict::Ambiguous(text.to_owned())),
        Doing::Opening | Doing::Unwrapping if says_nothing => Some(Verdict::Ambiguous(text.to_owned())),
        Doing::Using | Doing::Rooted | Doing::Opening | Doing::Unwrapping => None,
    }
}

/// Session, login, device, or the root's handle is gone: nothing here will work
/// again before the member is opened anew, with a new epoch.
fn token_is_down(rv: &RvError) -> bool {
    matches!(
        rv,
        RvError::SessionHandleInvalid
            | RvError::SessionClosed
            | RvError::OperationActive
            | RvError::UserNotLoggedIn
            | RvError::CryptokiNotInitialized
            | RvError::DeviceError
            | RvError::DeviceMemory
            | RvError::DeviceRemoved
            | RvError::TokenNotPresent
            | RvError::TokenNotRecognized
            | RvError::HostMemory
            | RvError::GeneralError
            | RvError::FunctionFailed
            | RvError::KeyHandleInvalid
            | RvError::ObjectHandleInvalid
            | RvError::WrappingKeyHandleInvalid
            | RvError::UnwrappingKeyHandleInvalid
            | RvError::VendorDefined(_)
    )
}

/// The function and the name of its CK_RV; the library's own text runs to paragraphs.
pub(super) fn describe(error: &Error) -> String {
    match error {
        Error::Pkcs11(rv, function) => format!("{function}: {rv:?}"),
        other => other.to_string(),
    }
}

/// As [`classify`], for what is never done with a stranger's data.
pub(super) fn failed(error: &Error) -> HsmError {
    match classify(error, Doing::Rooted) {
        Verdict::Known(error) => error,
        Verdict::Ambiguous(text) => HsmError::Unavailable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki::context::Function;

    fn sort(rv: RvError, doing: Doing) -> Verdict {
        classify(&Error::Pkcs11(rv, Function::Decrypt), doing)
    }

    #[test]
    fn a_strangers_bad_ciphertext_alone_never_takes_a_member_down() {
        let known = Verdict::Known(HsmError::AuthenticationFailed);
        assert_eq!(sort(RvError::EncryptedDataInvalid, Doing::Opening), known);
        assert_eq!(sort(RvError::UnknownErrorCode(AEAD_DECRYPT_FAILED), Doing::Opening), known);
        for rv in [RvError::GeneralError, RvError::FunctionFailed, RvError::DeviceError] {
            assert!(matches!(sort(rv, Doing::Opening), Verdict::Ambiguous(_)));
            assert!(matches!(sort(rv, Doing::Unwrapping), Verdict::Ambiguous(_)));
            assert!(matches!(sort(rv, Doing::Using), Verdict::Known(HsmError::Unavailable(_))));
        }
        for rv in [RvError::VendorDefined(0x8000_0011), RvError::UnknownErrorCode(0x1FF)] {
            assert!(matches!(sort(rv, Doing::Opening), Verdict::Ambiguous(_)), "{rv:?}");
            assert!(matches!(sort(rv, Doing::Using), Verdict::Known(_)), "{rv:?}");
        }
    }

    #[test]
    fn a_dead_handle_is_the_objects_or_the_roots() {
        assert_eq!(sort(RvError::KeyHandleInvalid, Doing::Using), Verdict::Known(HsmError::ObjectGone));
        for doing in [Doing::Unwrapping, Doing::Rooted] {
            let verdict = sort(RvError::KeyHandleInvalid, doing);
            assert!(matches!(verdict, Verdict::Known(HsmError::Unavailable(_))), "{verdict:?}");
        }
    }

    #[test]
    fn a_refused_pin_is_nothing_else() {
        assert_eq!(sort(RvError::PinIncorrect, Doing::Rooted), Verdict::Known(HsmError::PinRefused));
        assert_eq!(sort(RvError::PinLocked, Doing::Rooted), Verdict::Known(HsmError::PinRefused));
    }

    #[test]
    fn texts_are_short() {
        let error = Error::Pkcs11(RvError::WrappedKeyInvalid, Function::UnwrapKey);
        assert!(describe(&error).len() < 60, "{}", describe(&error));
    }
}
