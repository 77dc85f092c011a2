//! The two names that the executable exports, and our own C_Initialize in Kryoptic's
//! function list.
//!
//! Every `unsafe` here is a C entry point of PKCS#11 v3.2: the standard, not this
//! code, says which pointers a caller passes.

use std::ffi::c_void;
use std::hint::black_box;
use std::ptr;
use std::sync::{OnceLock, PoisonError};

use kryoptic_lib::fns::general::{fn_finalize, fn_get_interface, fn_initialize};
use kryoptic_lib::pkcs11::{
    CK_C_INITIALIZE_ARGS, CK_FLAGS, CK_FUNCTION_LIST, CK_FUNCTION_LIST_3_2, CK_FUNCTION_LIST_PTR_PTR,
    CK_INTERFACE, CK_INTERFACE_PTR, CK_INTERFACE_PTR_PTR, CK_RV, CK_ULONG_PTR, CK_UTF8CHAR_PTR, CK_VERSION,
    CK_VERSION_PTR, CK_VOID_PTR, CKF_OS_LOCKING_OK, CKR_ARGUMENTS_BAD, CKR_CRYPTOKI_ALREADY_INITIALIZED,
    CKR_FUNCTION_NOT_SUPPORTED, CKR_GENERAL_ERROR, CKR_OK,
};

use crate::{ARGUMENT, kwp};

/// What callers get pointers into; made once, never moved, never changed.
struct Tables {
    list: CK_FUNCTION_LIST_3_2,
    interface: CK_INTERFACE,
}

static TABLES: OnceLock<Option<&'static Tables>> = OnceLock::new();

/// Kryoptic's v3.2 list with the entry points of this file in it.
fn tables() -> Option<&'static Tables> {
    *TABLES.get_or_init(|| {
        let mut version = CK_VERSION { major: 3, minor: 2 };
        let mut theirs: *mut CK_INTERFACE = ptr::null_mut();
        let rv = fn_get_interface(ptr::null_mut(), &raw mut version, (&raw mut theirs).cast(), 0);
        if rv != CKR_OK || theirs.is_null() {
            return None;
        }
        // SAFETY: on CKR_OK the pointer is to a static interface of version 3.2, whose
        // list is a static CK_FUNCTION_LIST_3_2; both are copied, not changed.
        let (interface, mut list) = unsafe {
            let interface = *theirs;
            (interface, *interface.pFunctionList.cast::<CK_FUNCTION_LIST_3_2>())
        };
        list.C_Initialize = Some(initialize);
        list.C_GetFunctionList = Some(C_GetFunctionList);
        list.C_GetInterface = Some(C_GetInterface);
        // Kryoptic's own would hand out lists without our C_Initialize.
        list.C_GetInterfaceList = Some(no_interface_list);
        kwp::install(&mut list);
        let tables: &'static mut Tables = Box::leak(Box::new(Tables { list, interface }));
        tables.interface.pFunctionList = (&raw const tables.list).cast::<c_void>();
        Some(tables)
    })
}

/// `C_Initialize` with the configuration that [`crate::configure`] left. A failure
/// leaves the token uninitialised, so that it can be tried again: Kryoptic alone
/// would call itself initialised with the slots that it got to.
extern "C" fn initialize(arguments: CK_VOID_PTR) -> CK_RV {
    let configured = ARGUMENT.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(argument) = configured.as_ref() else { return CKR_GENERAL_ERROR };
    let mut arguments = if arguments.is_null() {
        CK_C_INITIALIZE_ARGS {
            CreateMutex: None,
            DestroyMutex: None,
            LockMutex: None,
            UnlockMutex: None,
            flags: CKF_OS_LOCKING_OK,
            pReserved: ptr::null_mut(),
        }
    } else {
        // SAFETY: a caller of C_Initialize passes NULL or a CK_C_INITIALIZE_ARGS (PKCS#11
        // v3.2, C_Initialize); it is copied.
        unsafe { *arguments.cast::<CK_C_INITIALIZE_ARGS>() }
    };
    if !arguments.pReserved.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    // Kryoptic reads the string during the call only, and the guard outlives it.
    arguments.pReserved = argument.as_ptr().cast_mut().cast::<c_void>();
    let rv = fn_initialize((&raw mut arguments).cast::<c_void>());
    if rv != CKR_OK && rv != CKR_CRYPTOKI_ALREADY_INITIALIZED {
        fn_finalize(ptr::null_mut());
    }
    rv
}

extern "C" fn no_interface_list(_list: CK_INTERFACE_PTR, _count: CK_ULONG_PTR) -> CK_RV {
    CKR_FUNCTION_NOT_SUPPORTED
}

/// Entry point of PKCS#11 since version 2: the head of the v3.2 list, whose first
/// part is laid out alike.
///
/// # Safety
/// `list` is NULL or points to where a pointer can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: CK_FUNCTION_LIST_PTR_PTR) -> CK_RV {
    let Some(tables) = tables() else { return CKR_GENERAL_ERROR };
    if list.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    // SAFETY: not NULL, and the caller answers for the rest; the tables are static.
    unsafe { *list = (&raw const tables.list).cast::<CK_FUNCTION_LIST>().cast_mut() };
    CKR_OK
}

/// Entry point of PKCS#11 since version 3.0: the v3.2 interface, which is the only
/// one there is, so any name or version that is asked for must be its own.
///
/// # Safety
/// `name` is NULL or a NUL-terminated string, `version` NULL or a version,
/// `interface` NULL or points to where a pointer can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetInterface(
    name: CK_UTF8CHAR_PTR,
    version: CK_VERSION_PTR,
    interface: CK_INTERFACE_PTR_PTR,
    flags: CK_FLAGS,
) -> CK_RV {
    let Some(tables) = tables() else { return CKR_GENERAL_ERROR };
    if interface.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    // SAFETY: `version` is NULL or a version, by the contract above.
    let wanted = unsafe { version.as_ref() };
    if wanted.is_some_and(|v| (v.major, v.minor) != (3, 2)) {
        return CKR_ARGUMENTS_BAD;
    }
    let rv = fn_get_interface(name, version, interface, flags);
    if rv == CKR_OK {
        // SAFETY: not NULL, and the caller answers for the rest; the tables are static.
        unsafe { *interface = (&raw const tables.interface).cast_mut().cast() };
    }
    rv
}

/// Refers to both entry points from code that is reached, so that the linker keeps them.
pub(crate) fn keep() {
    black_box(C_GetFunctionList as *const ());
    black_box(C_GetInterface as *const ());
}
