//! Objects: import, attributes, search, destruction.

use cryptoki_sys::{
    CK_ATTRIBUTE_PTR, CK_OBJECT_HANDLE, CK_OBJECT_HANDLE_PTR, CK_RV, CK_SESSION_HANDLE, CK_ULONG,
    CK_ULONG_PTR, CK_UNAVAILABLE_INFORMATION, CKA_EC_POINT, CKA_VALUE, CKR_ACTION_PROHIBITED,
    CKR_ARGUMENTS_BAD, CKR_ATTRIBUTE_READ_ONLY, CKR_ATTRIBUTE_VALUE_INVALID, CKR_TEMPLATE_INCOMPLETE,
};
use zeroize::Zeroizing;

use super::{keys, numbering};
use crate::ffi::{Answer, ok, put, rv};
use crate::inner::{self, inner};
use crate::object::{Material, Object, Origin};
use crate::sm2;
use crate::state::{self, is_ours, object};
use crate::template::{self, Template};

pub(super) unsafe extern "C" fn create(
    session: CK_SESSION_HANDLE,
    attributes: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
    handle: CK_OBJECT_HANDLE_PTR,
) -> CK_RV {
    // SAFETY: as the caller promises.
    let made = unsafe { Template::read(attributes, count) }.and_then(|template| import(session, &template));
    match made {
        Ok(None) => inner!(C_CreateObject(session, attributes, count, handle)),
        // SAFETY: as the caller promises.
        Ok(Some(made)) => rv(unsafe { put(handle, made) }),
        Err(rv) => rv,
    }
}

/// The SM key that a template describes; None where it describes something else.
fn import(session: CK_SESSION_HANDLE, template: &Template) -> Answer<Option<CK_OBJECT_HANDLE>> {
    let Some(kind) = keys::kind(template)? else { return Ok(None) };
    let value = |attribute| template.get(attribute).ok_or(CKR_TEMPLATE_INCOMPLETE);
    let material = match kind {
        keys::Kind::Sm4 => {
            let key = value(CKA_VALUE)?.try_into().map_err(|_| CKR_ATTRIBUTE_VALUE_INVALID)?;
            Material::Sm4(Zeroizing::new(key))
        }
        keys::Kind::Secret => Material::Secret(Zeroizing::new(value(CKA_VALUE)?.to_vec())),
        keys::Kind::Private => Material::Private(sm2::private(value(CKA_VALUE)?)?),
        keys::Kind::Public => Material::Public(sm2::public(value(CKA_EC_POINT)?)?),
    };
    let made = Object::new(numbering()?, template, material, Origin::Imported, state::owner(session)?)?;
    Ok(Some(state::with(|state| state.insert(made))))
}

pub(super) unsafe extern "C" fn copy(
    session: CK_SESSION_HANDLE,
    from: CK_OBJECT_HANDLE,
    attributes: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
    to: CK_OBJECT_HANDLE_PTR,
) -> CK_RV {
    if is_ours(from) {
        return object(session, from).err().unwrap_or(CKR_ACTION_PROHIBITED);
    }
    inner!(C_CopyObject(session, from, attributes, count, to))
}

pub(super) unsafe extern "C" fn destroy(session: CK_SESSION_HANDLE, handle: CK_OBJECT_HANDLE) -> CK_RV {
    if !is_ours(handle) {
        return inner!(C_DestroyObject(session, handle));
    }
    rv(object(session, handle).map(|_| state::with(|state| state.destroy(handle))))
}

pub(super) unsafe extern "C" fn size(
    session: CK_SESSION_HANDLE,
    handle: CK_OBJECT_HANDLE,
    size: CK_ULONG_PTR,
) -> CK_RV {
    if !is_ours(handle) {
        return inner!(C_GetObjectSize(session, handle, size));
    }
    // SAFETY: as the caller promises.
    rv(object(session, handle).and_then(|_| unsafe { put(size, CK_UNAVAILABLE_INFORMATION) }))
}

pub(super) unsafe extern "C" fn get_attributes(
    session: CK_SESSION_HANDLE,
    handle: CK_OBJECT_HANDLE,
    attributes: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
) -> CK_RV {
    if !is_ours(handle) {
        return inner!(C_GetAttributeValue(session, handle, attributes, count));
    }
    rv(object(session, handle).and_then(|object| {
        // SAFETY: as the caller promises.
        unsafe { template::answer(attributes, count, |kind| object.find(kind)) }
    }))
}

pub(super) unsafe extern "C" fn set_attributes(
    session: CK_SESSION_HANDLE,
    handle: CK_OBJECT_HANDLE,
    attributes: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
) -> CK_RV {
    if is_ours(handle) {
        return object(session, handle).err().unwrap_or(CKR_ATTRIBUTE_READ_ONLY);
    }
    inner!(C_SetAttributeValue(session, handle, attributes, count))
}

pub(super) unsafe extern "C" fn find_init(
    session: CK_SESSION_HANDLE,
    attributes: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
) -> CK_RV {
    rv(ok(inner!(C_FindObjectsInit(session, attributes, count))).and_then(|()| {
        // SAFETY: as the caller promises.
        let template = unsafe { Template::read(attributes, count) }?;
        let (slot, logged_in) = inner::session(session)?;
        state::with(|state| {
            let found = state.matching(slot, logged_in, &template);
            state.search(session, found);
        });
        Ok(())
    }))
}

pub(super) unsafe extern "C" fn find(
    session: CK_SESSION_HANDLE,
    handles: CK_OBJECT_HANDLE_PTR,
    most: CK_ULONG,
    count: CK_ULONG_PTR,
) -> CK_RV {
    let room = usize::try_from(most).unwrap_or(usize::MAX);
    let found = state::with(|state| state.found(session, room));
    if found.is_empty() {
        return inner!(C_FindObjects(session, handles, most, count));
    }
    if handles.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    // SAFETY: not NULL, and it has room for `most`, of which these are no more.
    unsafe { handles.copy_from_nonoverlapping(found.as_ptr(), found.len()) };
    // SAFETY: as the caller promises.
    rv(unsafe { put(count, found.len() as CK_ULONG) })
}

pub(super) unsafe extern "C" fn find_final(session: CK_SESSION_HANDLE) -> CK_RV {
    state::with(|state| state.search(session, Vec::new()));
    inner!(C_FindObjectsFinal(session))
}
