//! What the token says of itself, and sessions that end.

use std::ffi::c_void;

use cryptoki_sys::{
    CK_INFO_PTR, CK_MECHANISM_INFO, CK_MECHANISM_INFO_PTR, CK_MECHANISM_TYPE, CK_MECHANISM_TYPE_PTR, CK_RV,
    CK_SESSION_HANDLE, CK_SLOT_ID, CK_TOKEN_INFO_PTR, CK_ULONG, CK_ULONG_PTR, CKR_ARGUMENTS_BAD,
    CKR_BUFFER_TOO_SMALL, CKR_OK,
};

use super::numbering;
use crate::DESCRIPTION;
use crate::ffi::{Answer, ok, put, rv};
use crate::inner::{self, inner};
use crate::state;

pub(super) unsafe extern "C" fn finalize(reserved: *mut c_void) -> CK_RV {
    let rv = inner!(C_Finalize(reserved));
    if rv == CKR_OK {
        state::with(state::State::clear);
    }
    rv
}

pub(super) unsafe extern "C" fn info(info: CK_INFO_PTR) -> CK_RV {
    let rv = inner!(C_GetInfo(info));
    if rv == CKR_OK {
        // SAFETY: on CKR_OK it was written to, so it can be.
        unsafe { (*info).libraryDescription = blank_padded(DESCRIPTION) };
    }
    rv
}

pub(super) unsafe extern "C" fn token_info(slot: CK_SLOT_ID, info: CK_TOKEN_INFO_PTR) -> CK_RV {
    rv(ok(inner!(C_GetTokenInfo(slot, info))).and_then(|()| {
        let model = blank_padded(&format!("SM {}", numbering()?.name));
        // SAFETY: on CKR_OK it was written to, so it can be.
        let info = unsafe { &mut *info };
        info.manufacturerID = blank_padded(DESCRIPTION);
        info.model = model;
        Ok(())
    }))
}

/// A text of a CK_*_INFO: padded with blanks, cut where it is too long.
fn blank_padded<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [b' '; N];
    let len = text.len().min(N);
    out[..len].copy_from_slice(&text.as_bytes()[..len]);
    out
}

pub(super) unsafe extern "C" fn mechanism_list(
    slot: CK_SLOT_ID,
    list: CK_MECHANISM_TYPE_PTR,
    count: CK_ULONG_PTR,
) -> CK_RV {
    // SAFETY: NULL, or can be read and written.
    let Some(count) = (unsafe { count.as_mut() }) else { return CKR_ARGUMENTS_BAD };
    rv(all_mechanisms(slot).and_then(|numbers| {
        let room = usize::try_from(*count).unwrap_or(usize::MAX);
        *count = numbers.len() as CK_ULONG;
        if list.is_null() {
            return Ok(());
        }
        if room < numbers.len() {
            return Err(CKR_BUFFER_TOO_SMALL);
        }
        // SAFETY: not NULL, and it has room for as many as its count says.
        unsafe { list.copy_from_nonoverlapping(numbers.as_ptr(), numbers.len()) };
        Ok(())
    }))
}

/// Those of the module beneath, then ours.
fn all_mechanisms(slot: CK_SLOT_ID) -> Answer<Vec<CK_MECHANISM_TYPE>> {
    let mut count = 0;
    ok(inner!(C_GetMechanismList(slot, std::ptr::null_mut(), &raw mut count)))?;
    let mut numbers = vec![0; usize::try_from(count).map_err(|_| CKR_ARGUMENTS_BAD)?];
    ok(inner!(C_GetMechanismList(slot, numbers.as_mut_ptr(), &raw mut count)))?;
    numbers.truncate(usize::try_from(count).map_err(|_| CKR_ARGUMENTS_BAD)?);
    numbers.extend(numbering()?.listing().iter().map(|(number, ..)| number));
    Ok(numbers)
}

pub(super) unsafe extern "C" fn mechanism_info(
    slot: CK_SLOT_ID,
    number: CK_MECHANISM_TYPE,
    info: CK_MECHANISM_INFO_PTR,
) -> CK_RV {
    let ours = numbering().map(super::Numbering::listing);
    let found = ours.unwrap_or_default().into_iter().find(|(known, ..)| *known == number);
    let Some((_, flags, (least, most))) = found else {
        return inner!(C_GetMechanismInfo(slot, number, info));
    };
    // SAFETY: NULL, or can be written.
    rv(unsafe { put(info, CK_MECHANISM_INFO { ulMinKeySize: least, ulMaxKeySize: most, flags }) })
}

pub(super) unsafe extern "C" fn close_session(session: CK_SESSION_HANDLE) -> CK_RV {
    let rv = inner!(C_CloseSession(session));
    if rv == CKR_OK {
        state::with(|state| state.close(session));
    }
    rv
}

pub(super) unsafe extern "C" fn close_all_sessions(slot: CK_SLOT_ID) -> CK_RV {
    let rv = inner!(C_CloseAllSessions(slot));
    if rv == CKR_OK {
        state::with(|state| state.close_all(slot));
    }
    rv
}

pub(super) unsafe extern "C" fn logout(session: CK_SESSION_HANDLE) -> CK_RV {
    let slot = inner::session(session).map(|(slot, _)| slot);
    let rv = inner!(C_Logout(session));
    if let (CKR_OK, Ok(slot)) = (rv, slot) {
        state::with(|state| state.log_out(slot));
    }
    rv
}
