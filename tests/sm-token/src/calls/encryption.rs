//! Encryption with SM4 and SM2. Single-part only: an operation of ours is unknown to the
//! module beneath, whose C_EncryptUpdate answers CKR_OPERATION_NOT_INITIALIZED.

use cryptoki_sys::{
    CK_BYTE_PTR, CK_FLAGS, CK_MECHANISM_PTR, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_ULONG,
    CK_ULONG_PTR, CKA_DECRYPT, CKA_ENCRYPT, CKF_DECRYPT, CKF_ENCRYPT, CKR_BUFFER_TOO_SMALL,
    CKR_KEY_HANDLE_INVALID, CKR_KEY_TYPE_INCONSISTENT, CKR_MECHANISM_INVALID,
};
use zeroize::Zeroizing;

use super::numbering;
use crate::cipher::{self, Mode};
use crate::ffi::{Answer, Mechanism, Output, input, rv};
use crate::inner::inner;
use crate::numbering::Algorithm;
use crate::object::Material;
use crate::rng::TokenRng;
use crate::sm2;
use crate::state::{self, Function, Operation, is_ours, object};

/// Whether a call on this key, or with this mechanism, is ours.
pub(super) fn ours(mechanism: Mechanism, key: CK_OBJECT_HANDLE, function: CK_FLAGS) -> bool {
    is_ours(key) || numbering().is_ok_and(|numbering| numbering.find(mechanism.number, function).is_some())
}

pub(super) unsafe extern "C" fn encrypt_init(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    // SAFETY: as the caller promises.
    match unsafe { Mechanism::read(mechanism) } {
        Ok(read) if ours(read, key, CKF_ENCRYPT) => rv(begin(session, read, key, Function::Encrypt)),
        Ok(_) => inner!(C_EncryptInit(session, mechanism, key)),
        Err(rv) => rv,
    }
}

pub(super) unsafe extern "C" fn decrypt_init(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    // SAFETY: as the caller promises.
    match unsafe { Mechanism::read(mechanism) } {
        Ok(read) if ours(read, key, CKF_DECRYPT) => rv(begin(session, read, key, Function::Decrypt)),
        Ok(_) => inner!(C_DecryptInit(session, mechanism, key)),
        Err(rv) => rv,
    }
}

fn begin(
    session: CK_SESSION_HANDLE,
    mechanism: Mechanism,
    key: CK_OBJECT_HANDLE,
    function: Function,
) -> Answer<()> {
    let encrypting = function == Function::Encrypt;
    let (flag, usage) = if encrypting { (CKF_ENCRYPT, CKA_ENCRYPT) } else { (CKF_DECRYPT, CKA_DECRYPT) };
    let algorithm = numbering()?.find(mechanism.number, flag).ok_or(CKR_MECHANISM_INVALID)?;
    let key = object(session, key).map_err(|_| CKR_KEY_HANDLE_INVALID)?;
    let operation = match (algorithm, &key.material) {
        (Algorithm::Sm2Encrypt(form), Material::Public(key)) if encrypting => {
            mechanism.bare()?;
            let key = *key;
            let run = move |data: &[u8], _: &[u8]| sm2::encrypt(&key, form, data, TokenRng(session));
            Operation::new(sm2::max_ciphertext, run)
        }
        (Algorithm::Sm2Encrypt(form), Material::Private(key)) if !encrypting => {
            mechanism.bare()?;
            let key = key.clone();
            Operation::new(|len| len, move |data, _| sm2::decrypt(&key, form, data))
        }
        (_, Material::Sm4(key)) => {
            let (key, mode) = (key.clone(), mode(algorithm, mechanism)?);
            if encrypting {
                let run = move |data: &[u8], _: &[u8]| cipher::encrypt(&key, &mode, data);
                Operation::new(cipher::max_ciphertext, run)
            } else {
                Operation::new(|len| len, move |data, _| cipher::decrypt(&key, &mode, data))
            }
        }
        _ => return Err(CKR_KEY_TYPE_INCONSISTENT),
    };
    key.may(usage)?;
    state::with(|state| state.begin(session, function, operation))
}

fn mode(algorithm: Algorithm, mechanism: Mechanism) -> Answer<Mode> {
    match algorithm {
        Algorithm::Sm4Ecb => mechanism.bare().map(|()| Mode::Ecb),
        Algorithm::Sm4Cbc => mechanism.iv().map(Mode::Cbc),
        Algorithm::Sm4CbcPad => mechanism.iv().map(Mode::CbcPad),
        Algorithm::Sm4Gcm => mechanism.gcm().map(|(iv, aad)| Mode::Gcm { iv, aad }),
        _ => Err(CKR_KEY_TYPE_INCONSISTENT),
    }
}

pub(super) unsafe extern "C" fn encrypt(
    session: CK_SESSION_HANDLE,
    data: CK_BYTE_PTR,
    len: CK_ULONG,
    out: CK_BYTE_PTR,
    out_len: CK_ULONG_PTR,
) -> CK_RV {
    match state::with(|state| state.going(session, Function::Encrypt)) {
        // SAFETY: as the caller promises.
        Some(operation) => unsafe { finish(session, Function::Encrypt, &operation, data, len, out, out_len) },
        None => inner!(C_Encrypt(session, data, len, out, out_len)),
    }
}

pub(super) unsafe extern "C" fn decrypt(
    session: CK_SESSION_HANDLE,
    data: CK_BYTE_PTR,
    len: CK_ULONG,
    out: CK_BYTE_PTR,
    out_len: CK_ULONG_PTR,
) -> CK_RV {
    match state::with(|state| state.going(session, Function::Decrypt)) {
        // SAFETY: as the caller promises.
        Some(operation) => unsafe { finish(session, Function::Decrypt, &operation, data, len, out, out_len) },
        None => inner!(C_Decrypt(session, data, len, out, out_len)),
    }
}

/// Runs an operation, and ends it unless only the length was asked for or the buffer was
/// too small (PKCS#11 v2.40, section 5.2).
///
/// # Safety
/// `data` has `len` bytes; `out` and `out_len` are as [`Output::new`] says.
pub(super) unsafe fn finish(
    session: CK_SESSION_HANDLE,
    function: Function,
    operation: &Operation,
    data: CK_BYTE_PTR,
    len: CK_ULONG,
    out: CK_BYTE_PTR,
    out_len: CK_ULONG_PTR,
) -> CK_RV {
    // SAFETY: by the contract above.
    let data = unsafe { input(data.cast_const(), len) };
    // SAFETY: by the contract above.
    let out = unsafe { Output::new(out, out_len) };
    let result = data.and_then(|data| {
        let (out, most) = (out?, (operation.most)(data.len()));
        if out.asks(most) {
            return Ok(false);
        }
        let result: Zeroizing<Vec<u8>> = (operation.run)(data, &[])?;
        out.give(&result, most).map(|()| true)
    });
    if !matches!(result, Ok(false) | Err(CKR_BUFFER_TOO_SMALL)) {
        state::with(|state| state.end(session, function));
    }
    rv(result.map(|_| ()))
}
