//! A PKCS#11 v2.40 module with SM2, SM3 and SM4, for tests: there is no public token
//! that has them. It is a shim over another module (SoftHSM2): whatever has to do with
//! SM mechanisms and SM keys is done here, every other call is passed through, so that
//! AES, RSA, PINs and persistence are those of a whole token. What must not live here:
//! anything that the daemon uses, or knowledge of the daemon.
//!
//! Two environment variables configure it: [`NUMBERING_VARIABLE`] says whose numbers it
//! speaks, [`INNER_VARIABLE`] where the module beneath is.
//!
//! SM keys are session objects only. Wrapped, they go through the module beneath as
//! generic secrets of the same value: SM4 as its 16 bytes, SM2 as PKCS#8. Encryption,
//! signatures and digests are single-part only.
//!
//! Every `unsafe` here is a C entry point of PKCS#11, or a call of one: the standard,
//! not this code, says which pointers a caller passes. All of them are turned into
//! slices and values in `ffi.rs` and `template.rs`.

mod calls;
mod cipher;
mod ffi;
mod inner;
mod numbering;
mod object;
mod rng;
mod sm2;
mod state;
mod template;

use std::sync::OnceLock;

use cryptoki_sys::{
    CK_FUNCTION_LIST, CK_FUNCTION_LIST_PTR_PTR, CK_RV, CKR_ARGUMENTS_BAD, CKR_GENERAL_ERROR, CKR_OK,
};

/// Names the numbering: `sansec`, `tass`, `koal`, `luna`, `ep11`, `westone`, `complete`,
/// or `liar=` with one of `sm3`, `sm4`, `sm2-sign`, `sm2-encrypt`, `careless`.
pub const NUMBERING_VARIABLE: &str = "CLAVIGER_SM_TOKEN";
/// Names the module beneath; where it is unset, Debian's SoftHSM2.
pub const INNER_VARIABLE: &str = "CLAVIGER_SM_TOKEN_INNER";
/// CK_INFO.libraryDescription, and CK_TOKEN_INFO.manufacturerID.
pub const DESCRIPTION: &str = "Claviger SM test token";

static LIST: OnceLock<Option<CK_FUNCTION_LIST>> = OnceLock::new();

/// The only export: the module's function list (PKCS#11 v2.40, C_GetFunctionList).
/// CKR_GENERAL_ERROR where the module beneath can't be loaded or the environment names
/// no numbering.
///
/// # Safety
/// `list` is NULL or points to where a pointer can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: CK_FUNCTION_LIST_PTR_PTR) -> CK_RV {
    if list.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    let Some(ours) = LIST.get_or_init(calls::list) else { return CKR_GENERAL_ERROR };
    // SAFETY: not NULL, and the caller answers for the rest. The list is static, and
    // nobody writes to it.
    unsafe { *list = std::ptr::from_ref(ours).cast_mut() };
    CKR_OK
}
