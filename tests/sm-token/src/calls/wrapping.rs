//! Wrapping and unwrapping: the module beneath does it, with the key's value lent to it
//! as a generic secret for the time of the call.

use std::ffi::c_void;
use std::ptr;

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_ATTRIBUTE_PTR, CK_ATTRIBUTE_TYPE, CK_BBOOL, CK_BYTE, CK_BYTE_PTR, CK_FALSE,
    CK_MECHANISM_PTR, CK_OBJECT_HANDLE, CK_OBJECT_HANDLE_PTR, CK_RV, CK_SESSION_HANDLE, CK_TRUE, CK_ULONG,
    CK_ULONG_PTR, CKA_CLASS, CKA_EXTRACTABLE, CKA_KEY_TYPE, CKA_PRIVATE, CKA_SENSITIVE, CKA_SIGN, CKA_TOKEN,
    CKA_VALUE, CKA_VERIFY, CKK_EC, CKK_GENERIC_SECRET, CKO_PRIVATE_KEY, CKO_SECRET_KEY, CKR_FUNCTION_FAILED,
    CKR_KEY_NOT_WRAPPABLE, CKR_KEY_UNEXTRACTABLE, CKR_TEMPLATE_INCONSISTENT, CKR_WRAPPED_KEY_INVALID,
    CKR_WRAPPING_KEY_TYPE_INCONSISTENT,
};
use zeroize::Zeroizing;

use super::{keys, numbering};
use crate::ffi::{Answer, ok, put, rv};
use crate::inner::inner;
use crate::object::{Material, Object, Origin};
use crate::sm2;
use crate::state::{self, is_ours, object};
use crate::template::Template;

/// A generic secret in the module beneath; destroyed when it is dropped.
pub(super) struct Lent {
    session: CK_SESSION_HANDLE,
    pub(super) handle: CK_OBJECT_HANDLE,
}

impl Drop for Lent {
    fn drop(&mut self) {
        // An object that doesn't go is gone with its session at the latest.
        let _ = inner!(C_DestroyObject(self.session, self.handle));
    }
}

/// An attribute with a value that the caller keeps.
fn attribute<T>(kind: CK_ATTRIBUTE_TYPE, value: &T) -> CK_ATTRIBUTE {
    let value_len = size_of::<T>() as CK_ULONG;
    CK_ATTRIBUTE {
        type_: kind,
        pValue: ptr::from_ref(value).cast::<c_void>().cast_mut(),
        ulValueLen: value_len,
    }
}

static SECRET_KEY: CK_ULONG = CKO_SECRET_KEY;
static GENERIC: CK_ULONG = CKK_GENERIC_SECRET;
static YES: CK_BBOOL = CK_TRUE;
static NO: CK_BBOOL = CK_FALSE;

/// A readable session object of the module beneath.
fn readable() -> Vec<CK_ATTRIBUTE> {
    vec![
        attribute(CKA_CLASS, &SECRET_KEY),
        attribute(CKA_KEY_TYPE, &GENERIC),
        attribute(CKA_TOKEN, &NO),
        attribute(CKA_PRIVATE, &YES),
        attribute(CKA_SENSITIVE, &NO),
        attribute(CKA_EXTRACTABLE, &YES),
    ]
}

/// Lends a value to the module beneath, to be wrapped or to make MACs with.
pub(super) fn lend(session: CK_SESSION_HANDLE, value: &[u8]) -> Answer<Lent> {
    let mut attributes = readable();
    attributes.extend([attribute(CKA_SIGN, &YES), attribute(CKA_VERIFY, &YES)]);
    attributes.push(CK_ATTRIBUTE {
        type_: CKA_VALUE,
        pValue: value.as_ptr().cast::<c_void>().cast_mut(),
        ulValueLen: value.len() as CK_ULONG,
    });
    let mut handle = 0;
    let count = attributes.len() as CK_ULONG;
    ok(inner!(C_CreateObject(session, attributes.as_mut_ptr(), count, &raw mut handle)))?;
    Ok(Lent { session, handle })
}

pub(super) unsafe extern "C" fn wrap(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    wrapping: CK_OBJECT_HANDLE,
    key: CK_OBJECT_HANDLE,
    wrapped: CK_BYTE_PTR,
    len: CK_ULONG_PTR,
) -> CK_RV {
    if is_ours(wrapping) {
        return CKR_WRAPPING_KEY_TYPE_INCONSISTENT;
    }
    if !is_ours(key) {
        return inner!(C_WrapKey(session, mechanism, wrapping, key, wrapped, len));
    }
    match object(session, key).and_then(|key| lend(session, &value(&key)?)) {
        Ok(lent) => inner!(C_WrapKey(session, mechanism, wrapping, lent.handle, wrapped, len)),
        Err(rv) => rv,
    }
}

/// What a key is wrapped as.
fn value(key: &Object) -> Answer<Zeroizing<Vec<u8>>> {
    if !key.flag(CKA_EXTRACTABLE) {
        return Err(CKR_KEY_UNEXTRACTABLE);
    }
    match &key.material {
        Material::Sm4(key) => Ok(Zeroizing::new(key.to_vec())),
        Material::Secret(key) => Ok(key.clone()),
        Material::Private(key) => sm2::to_pkcs8(key),
        Material::Public(_) => Err(CKR_KEY_NOT_WRAPPABLE),
    }
}

pub(super) unsafe extern "C" fn unwrap(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    unwrapping: CK_OBJECT_HANDLE,
    wrapped: *mut CK_BYTE,
    len: CK_ULONG,
    attributes: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
    handle: CK_OBJECT_HANDLE_PTR,
) -> CK_RV {
    // SAFETY: as the caller promises.
    let template = unsafe { Template::read(attributes, count) };
    let beneath = || {
        let mut attributes = readable();
        let mut made = 0;
        let count = attributes.len() as CK_ULONG;
        ok(inner!(C_UnwrapKey(
            session,
            mechanism,
            unwrapping,
            wrapped,
            len,
            attributes.as_mut_ptr(),
            count,
            &raw mut made
        )))?;
        read(&Lent { session, handle: made })
    };
    match template.and_then(|template| settle(session, &template, beneath)) {
        Ok(None) => {
            inner!(C_UnwrapKey(session, mechanism, unwrapping, wrapped, len, attributes, count, handle))
        }
        // SAFETY: as the caller promises.
        Ok(Some(made)) => rv(unsafe { put(handle, made) }),
        Err(rv) => rv,
    }
}

/// The key that `unwrap` gives, as an object of ours; None where it isn't one of ours.
fn settle(
    session: CK_SESSION_HANDLE,
    template: &Template,
    unwrap: impl Fn() -> Answer<Zeroizing<Vec<u8>>>,
) -> Answer<Option<CK_OBJECT_HANDLE>> {
    let numbering = numbering()?;
    let invalid = CKR_WRAPPED_KEY_INVALID;
    let material = match keys::kind(template)? {
        Some(keys::Kind::Sm4) => {
            let key = unwrap()?.as_slice().try_into().map_err(|_| invalid)?;
            Material::Sm4(Zeroizing::new(key))
        }
        Some(keys::Kind::Secret) => Material::Secret(unwrap()?),
        Some(keys::Kind::Private) => Material::Private(sm2::from_pkcs8(&unwrap()?)?),
        Some(keys::Kind::Public) => return Err(CKR_TEMPLATE_INCONSISTENT),
        // Only PKCS#8 says which curve it is (PKCS#11 v2.40, section 2.3.6).
        None if numbering.sm2 == CKK_EC && template.key()? == Some((CKO_PRIVATE_KEY, CKK_EC)) => {
            match unwrap().and_then(|der| sm2::from_pkcs8(&der)) {
                Ok(key) => Material::Private(key),
                Err(_) => return Ok(None),
            }
        }
        None => return Ok(None),
    };
    let made = Object::new(numbering, template, material, Origin::Unwrapped, state::owner(session)?)?;
    Ok(Some(state::with(|state| state.insert(made))))
}

/// CKA_VALUE of a lent object.
fn read(lent: &Lent) -> Answer<Zeroizing<Vec<u8>>> {
    let mut wanted = CK_ATTRIBUTE { type_: CKA_VALUE, pValue: ptr::null_mut(), ulValueLen: 0 };
    ok(inner!(C_GetAttributeValue(lent.session, lent.handle, &raw mut wanted, 1)))?;
    let mut value =
        Zeroizing::new(vec![0; usize::try_from(wanted.ulValueLen).map_err(|_| CKR_FUNCTION_FAILED)?]);
    wanted.pValue = value.as_mut_ptr().cast();
    ok(inner!(C_GetAttributeValue(lent.session, lent.handle, &raw mut wanted, 1)))?;
    Ok(value)
}
