//! Making SM keys, and telling them from others.

use cryptoki_sys::{
    CK_ATTRIBUTE_PTR, CK_MECHANISM_PTR, CK_OBJECT_HANDLE, CK_OBJECT_HANDLE_PTR, CK_RV, CK_SESSION_HANDLE,
    CK_ULONG, CKA_EC_PARAMS, CKA_TOKEN, CKA_VALUE_LEN, CKF_GENERATE, CKF_GENERATE_KEY_PAIR, CKF_SIGN, CKK_EC,
    CKK_GENERIC_SECRET, CKM_GENERIC_SECRET_KEY_GEN, CKO_PRIVATE_KEY, CKO_PUBLIC_KEY, CKO_SECRET_KEY,
    CKR_ARGUMENTS_BAD, CKR_ATTRIBUTE_VALUE_INVALID, CKR_TEMPLATE_INCOMPLETE,
};
use sm2::elliptic_curve::rand_core::TryRng;
use zeroize::Zeroizing;

use super::numbering;
use crate::ffi::{Answer, Mechanism, put, rv};
use crate::inner::inner;
use crate::numbering::{Algorithm, Numbering};
use crate::object::{Material, Object, Origin};
use crate::rng::TokenRng;
use crate::sm2::{self as curve, OID};
use crate::state;
use crate::template::Template;

/// A kind of key that is kept here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Sm4,
    /// Of HMAC-SM3.
    Secret,
    Private,
    Public,
}

/// What kind of key a template describes; None where it is the module beneath's.
pub(super) fn kind(template: &Template) -> Answer<Option<Kind>> {
    let Some((class, key_type)) = template.key()? else { return Ok(None) };
    let numbering = numbering()?;
    // CKK_EC is shared with other curves.
    let sm2 = numbering.sm2 == key_type
        && (key_type != CKK_EC || template.get(CKA_EC_PARAMS) == Some(OID.as_slice()));
    Ok(match class {
        CKO_PRIVATE_KEY if sm2 => Some(Kind::Private),
        CKO_PUBLIC_KEY if sm2 => Some(Kind::Public),
        CKO_SECRET_KEY if numbering.sm4 == Some(key_type) => Some(Kind::Sm4),
        CKO_SECRET_KEY if key_type == CKK_GENERIC_SECRET && keeps_secrets(numbering, template)? => {
            Some(Kind::Secret)
        }
        _ => None,
    })
}

/// Secrets of HMAC-SM3 have to be here; such as stay in the token for good can't.
fn keeps_secrets(numbering: &Numbering, template: &Template) -> Answer<bool> {
    let has = |(number, flags, _): &(u64, u64, _)| {
        flags & CKF_SIGN != 0 && numbering.find(*number, CKF_SIGN) == Some(Algorithm::HmacSm3)
    };
    Ok(numbering.listing().iter().any(has) && template.flag(CKA_TOKEN)? != Some(true))
}

pub(super) unsafe extern "C" fn generate_key(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    attributes: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
    handle: CK_OBJECT_HANDLE_PTR,
) -> CK_RV {
    // SAFETY: as the caller promises.
    let read = unsafe { Mechanism::read(mechanism) };
    // SAFETY: as the caller promises.
    let template = unsafe { Template::read(attributes, count) };
    let made = read.and_then(|mechanism| make(session, mechanism, &template?));
    match made {
        Ok(None) => inner!(C_GenerateKey(session, mechanism, attributes, count, handle)),
        // SAFETY: as the caller promises.
        Ok(Some(made)) => rv(unsafe { put(handle, made) }),
        Err(rv) => rv,
    }
}

/// A new secret key that is kept here; None where it isn't to be.
fn make(
    session: CK_SESSION_HANDLE,
    mechanism: Mechanism,
    template: &Template,
) -> Answer<Option<CK_OBJECT_HANDLE>> {
    let numbering = numbering()?;
    let sm4 = numbering.find(mechanism.number, CKF_GENERATE) == Some(Algorithm::Sm4KeyGen);
    let secret = mechanism.number == CKM_GENERIC_SECRET_KEY_GEN && keeps_secrets(numbering, template)?;
    if !sm4 && !secret {
        return Ok(None);
    }
    mechanism.bare()?;
    let mut rng = TokenRng(session);
    let material = if sm4 {
        let mut key = Zeroizing::new([0; 16]);
        rng.try_fill_bytes(key.as_mut_slice()).map_err(|error| error.0)?;
        Material::Sm4(key)
    } else {
        let len = template.number(CKA_VALUE_LEN)?.ok_or(CKR_TEMPLATE_INCOMPLETE)?;
        let len = usize::try_from(len).ok().filter(|len| (1..=512).contains(len));
        let mut key = Zeroizing::new(vec![0; len.ok_or(CKR_ATTRIBUTE_VALUE_INVALID)?]);
        rng.try_fill_bytes(&mut key).map_err(|error| error.0)?;
        Material::Secret(key)
    };
    let origin = Origin::Generated(mechanism.number);
    let made = Object::new(numbering, template, material, origin, state::owner(session)?)?;
    Ok(Some(state::with(|state| state.insert(made))))
}

pub(super) unsafe extern "C" fn generate_key_pair(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    public: CK_ATTRIBUTE_PTR,
    public_count: CK_ULONG,
    private: CK_ATTRIBUTE_PTR,
    private_count: CK_ULONG,
    public_handle: CK_OBJECT_HANDLE_PTR,
    private_handle: CK_OBJECT_HANDLE_PTR,
) -> CK_RV {
    // SAFETY: as the caller promises.
    let read = unsafe { Mechanism::read(mechanism) };
    let ours = |mechanism: &Mechanism| {
        let found = numbering().ok()?.find(mechanism.number, CKF_GENERATE_KEY_PAIR);
        found.filter(|algorithm| *algorithm == Algorithm::Sm2KeyPairGen)
    };
    let read = match read {
        Ok(read) if ours(&read).is_some() => read,
        Ok(_) => {
            return inner!(C_GenerateKeyPair(
                session,
                mechanism,
                public,
                public_count,
                private,
                private_count,
                public_handle,
                private_handle
            ));
        }
        Err(rv) => return rv,
    };
    if public_handle.is_null() || private_handle.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    // SAFETY: as the caller promises.
    let public = unsafe { Template::read(public, public_count) };
    // SAFETY: as the caller promises.
    let private = unsafe { Template::read(private, private_count) };
    rv(public.and_then(|public| {
        let (public, private) = make_pair(session, read, &public, &private?)?;
        // SAFETY: as the caller promises.
        unsafe { put(public_handle, public) }?;
        // SAFETY: as the caller promises.
        unsafe { put(private_handle, private) }
    }))
}

fn make_pair(
    session: CK_SESSION_HANDLE,
    mechanism: Mechanism,
    public: &Template,
    private: &Template,
) -> Answer<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE)> {
    mechanism.bare()?;
    let (numbering, owner) = (numbering()?, state::owner(session)?);
    let origin = Origin::Generated(mechanism.number);
    let key = curve::generate(TokenRng(session))?;
    let public = Object::new(numbering, public, Material::Public(key.public_key()), origin, owner)?;
    let private = Object::new(numbering, private, Material::Private(key), origin, owner)?;
    Ok(state::with(|state| (state.insert(public), state.insert(private))))
}
