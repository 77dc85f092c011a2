//! Signatures, MACs and digests. Single-part only, as in [`super::encryption`].

use std::ptr;

use cryptoki_sys::{
    CK_BYTE_PTR, CK_MECHANISM, CK_MECHANISM_PTR, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_ULONG,
    CK_ULONG_PTR, CKA_SIGN, CKA_VERIFY, CKF_DIGEST, CKF_SIGN, CKF_VERIFY, CKM_SHA256, CKR_KEY_HANDLE_INVALID,
    CKR_KEY_TYPE_INCONSISTENT, CKR_MECHANISM_INVALID,
};
use sm3::{Digest, Sm3};
use zeroize::Zeroizing;

use super::encryption::{finish, ours};
use super::numbering;
use super::wrapping::{Lent, lend};
use crate::cipher;
use crate::ffi::{Answer, Mechanism, input, rv};
use crate::inner::{self, inner};
use crate::numbering::{Algorithm, Lie, lies};
use crate::object::{Material, Object};
use crate::rng::TokenRng;
use crate::sm2::{self, MAX_SIGNATURE};
use crate::state::{self, Function, Operation, object};

/// Length of SM3's digests and HMACs.
const DIGEST: usize = 32;

pub(super) unsafe extern "C" fn sign_init(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    // SAFETY: as the caller promises.
    match unsafe { Mechanism::read(mechanism) } {
        Ok(read) if ours(read, key, CKF_SIGN) => match begin(session, read, key, Function::Sign) {
            Ok(None) => rv(Ok(())),
            Ok(Some(lent)) => inner!(C_SignInit(session, mechanism, lent.handle)),
            Err(rv) => rv,
        },
        Ok(_) => inner!(C_SignInit(session, mechanism, key)),
        Err(rv) => rv,
    }
}

pub(super) unsafe extern "C" fn verify_init(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    // SAFETY: as the caller promises.
    match unsafe { Mechanism::read(mechanism) } {
        Ok(read) if ours(read, key, CKF_VERIFY) => match begin(session, read, key, Function::Verify) {
            Ok(None) => rv(Ok(())),
            Ok(Some(lent)) => inner!(C_VerifyInit(session, mechanism, lent.handle)),
            Err(rv) => rv,
        },
        Ok(_) => inner!(C_VerifyInit(session, mechanism, key)),
        Err(rv) => rv,
    }
}

/// Begins an operation of ours; one of the module beneath gets the key lent.
fn begin(
    session: CK_SESSION_HANDLE,
    mechanism: Mechanism,
    key: CK_OBJECT_HANDLE,
    function: Function,
) -> Answer<Option<Lent>> {
    let signing = function == Function::Sign;
    let (flag, usage) = if signing { (CKF_SIGN, CKA_SIGN) } else { (CKF_VERIFY, CKA_VERIFY) };
    let key = object(session, key).map_err(|_| CKR_KEY_HANDLE_INVALID)?;
    let Some(algorithm) = numbering()?.find(mechanism.number, flag) else {
        return match &key.material {
            // Its copy of the key lives as long as the operation (PKCS#11 doesn't say so;
            // SoftHSM does it).
            Material::Secret(value) => key.may(usage).and_then(|()| lend(session, value)).map(Some),
            _ => Err(CKR_MECHANISM_INVALID),
        };
    };
    mechanism.bare()?;
    let operation =
        if signing { signature(session, algorithm, &key) } else { verification(algorithm, &key) }?;
    key.may(usage)?;
    state::with(|state| state.begin(session, function, operation)).map(|()| None)
}

fn signature(session: CK_SESSION_HANDLE, algorithm: Algorithm, key: &Object) -> Answer<Operation> {
    match (algorithm, &key.material) {
        (Algorithm::Sm2Sign(form, hashed), Material::Private(key)) => {
            let key = key.clone();
            let run = move |data: &[u8], _: &[u8]| sm2::sign(&key, form, hashed, data, TokenRng(session));
            Ok(Operation::new(|_| MAX_SIGNATURE, run))
        }
        (Algorithm::HmacSm3, Material::Secret(key)) => {
            let key = key.clone();
            Ok(Operation::new(|_| DIGEST, move |data, _| cipher::hmac(&key, data)))
        }
        _ => Err(CKR_KEY_TYPE_INCONSISTENT),
    }
}

/// What is right has an empty result.
fn verification(algorithm: Algorithm, key: &Object) -> Answer<Operation> {
    let empty = |()| Zeroizing::new(Vec::new());
    match (algorithm, &key.material) {
        (Algorithm::Sm2Sign(form, hashed), Material::Public(key)) => {
            let key = *key;
            let run = move |data: &[u8], signature: &[u8]| {
                sm2::verify(&key, form, hashed, data, signature).map(empty)
            };
            Ok(Operation::new(|_| 0, run))
        }
        (Algorithm::HmacSm3, Material::Secret(key)) => {
            let key = key.clone();
            let run = move |data: &[u8], tag: &[u8]| cipher::hmac_verify(&key, data, tag).map(empty);
            Ok(Operation::new(|_| 0, run))
        }
        _ => Err(CKR_KEY_TYPE_INCONSISTENT),
    }
}

pub(super) unsafe extern "C" fn sign(
    session: CK_SESSION_HANDLE,
    data: CK_BYTE_PTR,
    len: CK_ULONG,
    out: CK_BYTE_PTR,
    out_len: CK_ULONG_PTR,
) -> CK_RV {
    match state::with(|state| state.going(session, Function::Sign)) {
        // SAFETY: as the caller promises.
        Some(operation) => unsafe { finish(session, Function::Sign, &operation, data, len, out, out_len) },
        None => inner!(C_Sign(session, data, len, out, out_len)),
    }
}

pub(super) unsafe extern "C" fn verify(
    session: CK_SESSION_HANDLE,
    data: CK_BYTE_PTR,
    len: CK_ULONG,
    signature: CK_BYTE_PTR,
    signature_len: CK_ULONG,
) -> CK_RV {
    let Some(operation) = state::with(|state| state.going(session, Function::Verify)) else {
        return inner!(C_Verify(session, data, len, signature, signature_len));
    };
    // SAFETY: as the caller promises.
    let data = unsafe { input(data.cast_const(), len) };
    // SAFETY: as the caller promises.
    let signature = unsafe { input(signature.cast_const(), signature_len) };
    state::with(|state| state.end(session, Function::Verify));
    rv(data.and_then(|data| (operation.run)(data, signature?)).map(drop))
}

pub(super) unsafe extern "C" fn digest_init(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
) -> CK_RV {
    // SAFETY: as the caller promises.
    let read = unsafe { Mechanism::read(mechanism) };
    match read.map(|read| (read, numbering().is_ok_and(|ours| ours.find(read.number, CKF_DIGEST).is_some())))
    {
        Ok((_, true)) if lies(Lie::Sm3) => {
            let mut sha256 =
                CK_MECHANISM { mechanism: CKM_SHA256, pParameter: ptr::null_mut(), ulParameterLen: 0 };
            inner!(C_DigestInit(session, &raw mut sha256))
        }
        Ok((read, true)) => rv(read.bare().and_then(|()| begin_digest(session))),
        Ok((_, false)) => inner!(C_DigestInit(session, mechanism)),
        Err(rv) => rv,
    }
}

fn begin_digest(session: CK_SESSION_HANDLE) -> Answer<()> {
    inner::session(session)?;
    let operation = Operation::new(|_| DIGEST, |data, _| Ok(Zeroizing::new(Sm3::digest(data).to_vec())));
    state::with(|state| state.begin(session, Function::Digest, operation))
}

pub(super) unsafe extern "C" fn digest(
    session: CK_SESSION_HANDLE,
    data: CK_BYTE_PTR,
    len: CK_ULONG,
    out: CK_BYTE_PTR,
    out_len: CK_ULONG_PTR,
) -> CK_RV {
    match state::with(|state| state.going(session, Function::Digest)) {
        // SAFETY: as the caller promises.
        Some(operation) => unsafe { finish(session, Function::Digest, &operation, data, len, out, out_len) },
        None => inner!(C_Digest(session, data, len, out, out_len)),
    }
}
