//! The module beneath: loading it, and calling it.

use std::ffi::OsString;
use std::ptr;
use std::sync::OnceLock;

use cryptoki_sys::{
    CK_FUNCTION_LIST, CK_FUNCTION_LIST_PTR_PTR, CK_RV, CK_SESSION_HANDLE, CK_SESSION_INFO, CK_ULONG, CKR_OK,
};
use libloading::{Library, Symbol};

use crate::INNER_VARIABLE;
use crate::ffi::{Answer, ok};

/// Where Debian's softhsm2 package puts it.
const DEFAULT: &str = "/usr/lib/softhsm/libsofthsm2.so";

static LOADED: OnceLock<Option<&'static CK_FUNCTION_LIST>> = OnceLock::new();

/// Its function list; it is loaded once and never unloaded.
pub(crate) fn list() -> Option<&'static CK_FUNCTION_LIST> {
    *LOADED.get_or_init(load)
}

fn load() -> Option<&'static CK_FUNCTION_LIST> {
    type GetFunctionList = unsafe extern "C" fn(CK_FUNCTION_LIST_PTR_PTR) -> CK_RV;
    let path = std::env::var_os(INNER_VARIABLE).unwrap_or_else(|| OsString::from(DEFAULT));
    // SAFETY: whoever sets the variable trusts the module's initialisers.
    let library = unsafe { Library::new(path) }.ok()?;
    // Unloading would leave its list dangling.
    let library: &'static Library = Box::leak(Box::new(library));
    // SAFETY: the type is the one that PKCS#11 gives to this name.
    let entry: Symbol<'_, GetFunctionList> = unsafe { library.get(b"C_GetFunctionList\0") }.ok()?;
    let mut list: *mut CK_FUNCTION_LIST = ptr::null_mut();
    // SAFETY: it can write the pointer.
    let rv = unsafe { entry(&raw mut list) };
    if rv != CKR_OK {
        return None;
    }
    // SAFETY: on CKR_OK the pointer is to the module's list, which stays where it is for
    // as long as the module is loaded.
    unsafe { list.as_ref() }
}

/// Calls a function of the module beneath, with pointers that came from the caller or
/// are valid for the call.
macro_rules! inner {
    ($name:ident($($argument:expr),*)) => {
        match $crate::inner::list().and_then(|list| list.$name) {
            // SAFETY: what a caller passed is handed on under the contract it came with;
            // what is ours outlives the call.
            Some(function) => unsafe { function($($argument),*) },
            None => cryptoki_sys::CKR_FUNCTION_NOT_SUPPORTED,
        }
    };
}
pub(crate) use inner;

/// A session of the module beneath: its slot, and whether the user is logged in.
pub(crate) fn session(handle: CK_SESSION_HANDLE) -> Answer<(CK_ULONG, bool)> {
    let mut info = CK_SESSION_INFO { slotID: 0, state: 0, flags: 0, ulDeviceError: 0 };
    ok(inner!(C_GetSessionInfo(handle, &raw mut info)))?;
    let user = [cryptoki_sys::CKS_RO_USER_FUNCTIONS, cryptoki_sys::CKS_RW_USER_FUNCTIONS];
    Ok((info.slotID, user.contains(&info.state)))
}
