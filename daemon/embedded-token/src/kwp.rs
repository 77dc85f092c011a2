//! RFC 5649 under the number that the daemon's PKCS#11 library can say.
//!
//! PKCS#11 v2.40 numbers AES Key Wrap with Padding 0x210A, and so do SoftHSM and the
//! daemon's library. v3.0 gave RFC 5649 the number 0x210B, which is Kryoptic's only one.
//! The entry points here take the one for the other; the bytes are the same.
//!
//! Every `unsafe` here is a C entry point of PKCS#11 v3.2: the standard, not this
//! code, says which pointers a caller passes.

use kryoptic_lib::fns::keymgmt::{fn_unwrap_key, fn_wrap_key};
use kryoptic_lib::fns::stmgmt::{fn_get_mechanism_info, fn_get_mechanism_list};
use kryoptic_lib::pkcs11::{
    CK_ATTRIBUTE_PTR, CK_BYTE_PTR, CK_FUNCTION_LIST_3_2, CK_MECHANISM, CK_MECHANISM_INFO_PTR,
    CK_MECHANISM_PTR, CK_MECHANISM_TYPE, CK_MECHANISM_TYPE_PTR, CK_OBJECT_HANDLE, CK_OBJECT_HANDLE_PTR,
    CK_RV, CK_SESSION_HANDLE, CK_SLOT_ID, CK_ULONG, CK_ULONG_PTR, CKM_AES_KEY_WRAP_KWP, CKM_AES_KEY_WRAP_PAD,
    CKR_OK,
};

/// Puts the entry points of this file into a function list.
pub(crate) fn install(list: &mut CK_FUNCTION_LIST_3_2) {
    list.C_WrapKey = Some(wrap_key);
    list.C_UnwrapKey = Some(unwrap_key);
    list.C_GetMechanismList = Some(mechanism_list);
    list.C_GetMechanismInfo = Some(mechanism_info);
}

const fn kryoptics(number: CK_MECHANISM_TYPE) -> CK_MECHANISM_TYPE {
    if number == CKM_AES_KEY_WRAP_PAD { CKM_AES_KEY_WRAP_KWP } else { number }
}

/// A copy of the caller's mechanism under Kryoptic's number; none where it passed none.
///
/// # Safety
/// `mechanism` is NULL or points to a mechanism.
unsafe fn renumbered(mechanism: CK_MECHANISM_PTR) -> Option<CK_MECHANISM> {
    // SAFETY: NULL or a mechanism, by the contract above.
    let mut copy = unsafe { mechanism.as_ref() }.copied()?;
    copy.mechanism = kryoptics(copy.mechanism);
    Some(copy)
}

extern "C" fn wrap_key(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    wrapping_key: CK_OBJECT_HANDLE,
    key: CK_OBJECT_HANDLE,
    wrapped: CK_BYTE_PTR,
    length: CK_ULONG_PTR,
) -> CK_RV {
    // SAFETY: a caller of C_WrapKey passes NULL or a mechanism.
    let mut copy = unsafe { renumbered(mechanism) };
    let mechanism = copy.as_mut().map_or(mechanism, std::ptr::from_mut);
    fn_wrap_key(session, mechanism, wrapping_key, key, wrapped, length)
}

#[expect(clippy::too_many_arguments, reason = "they are C_UnwrapKey's")]
extern "C" fn unwrap_key(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    unwrapping_key: CK_OBJECT_HANDLE,
    wrapped: CK_BYTE_PTR,
    wrapped_length: CK_ULONG,
    template: CK_ATTRIBUTE_PTR,
    attributes: CK_ULONG,
    key: CK_OBJECT_HANDLE_PTR,
) -> CK_RV {
    // SAFETY: a caller of C_UnwrapKey passes NULL or a mechanism.
    let mut copy = unsafe { renumbered(mechanism) };
    let mechanism = copy.as_mut().map_or(mechanism, std::ptr::from_mut);
    fn_unwrap_key(session, mechanism, unwrapping_key, wrapped, wrapped_length, template, attributes, key)
}

/// Kryoptic's list, with the number by which this function list knows the mechanism.
extern "C" fn mechanism_list(slot: CK_SLOT_ID, list: CK_MECHANISM_TYPE_PTR, count: CK_ULONG_PTR) -> CK_RV {
    let rv = fn_get_mechanism_list(slot, list, count);
    if rv != CKR_OK || list.is_null() || count.is_null() {
        return rv;
    }
    // SAFETY: on CKR_OK with a list, `count` numbers were written to it, within the room
    // that the caller said it has.
    let written = unsafe { usize::try_from(*count).map(|count| std::slice::from_raw_parts_mut(list, count)) };
    for number in written.into_iter().flatten().filter(|number| **number == CKM_AES_KEY_WRAP_KWP) {
        *number = CKM_AES_KEY_WRAP_PAD;
    }
    rv
}

extern "C" fn mechanism_info(
    slot: CK_SLOT_ID,
    number: CK_MECHANISM_TYPE,
    info: CK_MECHANISM_INFO_PTR,
) -> CK_RV {
    fn_get_mechanism_info(slot, kryoptics(number), info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_number_changes() {
        assert_eq!(kryoptics(0x210A), 0x210B);
        for other in [0x2109, 0x210B, 0x210C, 0x1087] {
            assert_eq!(kryoptics(other), other);
        }
    }

    #[test]
    fn a_missing_mechanism_stays_missing() {
        // SAFETY: NULL is allowed.
        assert!(unsafe { renumbered(std::ptr::null_mut()) }.is_none());
    }
}
