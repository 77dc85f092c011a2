//! SM keys as PKCS#11 objects: what a template may say, and what they answer. They are
//! session objects that can't be changed or copied.

use std::collections::BTreeMap;

use cryptoki_sys::{
    CK_ATTRIBUTE_TYPE, CK_BBOOL, CK_MECHANISM_TYPE, CK_SESSION_HANDLE, CK_SLOT_ID, CK_ULONG,
    CK_UNAVAILABLE_INFORMATION, CKA_ALWAYS_AUTHENTICATE, CKA_ALWAYS_SENSITIVE, CKA_CLASS, CKA_COPYABLE,
    CKA_DECRYPT, CKA_DERIVE, CKA_DESTROYABLE, CKA_EC_PARAMS, CKA_EC_POINT, CKA_ENCRYPT, CKA_EXTRACTABLE,
    CKA_ID, CKA_KEY_GEN_MECHANISM, CKA_KEY_TYPE, CKA_LABEL, CKA_LOCAL, CKA_MODIFIABLE, CKA_NEVER_EXTRACTABLE,
    CKA_PRIVATE, CKA_SENSITIVE, CKA_SIGN, CKA_SIGN_RECOVER, CKA_TOKEN, CKA_TRUSTED, CKA_UNWRAP, CKA_VALUE,
    CKA_VALUE_LEN, CKA_VERIFY, CKA_VERIFY_RECOVER, CKA_WRAP, CKA_WRAP_WITH_TRUSTED, CKK_GENERIC_SECRET,
    CKO_PRIVATE_KEY, CKO_PUBLIC_KEY, CKO_SECRET_KEY, CKR_ATTRIBUTE_TYPE_INVALID, CKR_ATTRIBUTE_VALUE_INVALID,
    CKR_KEY_FUNCTION_NOT_PERMITTED, CKR_TEMPLATE_INCONSISTENT, CKR_USER_NOT_LOGGED_IN,
};
use sm2::{PublicKey, SecretKey};
use zeroize::Zeroizing;

use crate::ffi::Answer;
use crate::numbering::Numbering;
use crate::sm2::{OID, point};
use crate::template::{Found, Template};

/// A key.
pub(crate) enum Material {
    Sm4(Zeroizing<[u8; 16]>),
    /// Of HMAC-SM3 (and, lent to the module beneath, of its own mechanisms).
    Secret(Zeroizing<Vec<u8>>),
    Private(SecretKey),
    Public(PublicKey),
}

/// How a key came here.
#[derive(Clone, Copy)]
pub(crate) enum Origin {
    Generated(CK_MECHANISM_TYPE),
    Imported,
    Unwrapped,
}

/// Whose object it is.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) session: CK_SESSION_HANDLE,
    pub(crate) slot: CK_SLOT_ID,
    pub(crate) logged_in: bool,
}

/// A key object.
pub(crate) struct Object {
    pub(crate) owner: Owner,
    pub(crate) material: Material,
    attributes: BTreeMap<CK_ATTRIBUTE_TYPE, Zeroizing<Vec<u8>>>,
}

const COMMON: [CK_ATTRIBUTE_TYPE; 9] = [
    CKA_CLASS,
    CKA_KEY_TYPE,
    CKA_TOKEN,
    CKA_PRIVATE,
    CKA_MODIFIABLE,
    CKA_COPYABLE,
    CKA_DESTROYABLE,
    CKA_LABEL,
    CKA_ID,
];
const SECRET_FLAGS: [CK_ATTRIBUTE_TYPE; 11] = [
    CKA_SENSITIVE,
    CKA_EXTRACTABLE,
    CKA_ENCRYPT,
    CKA_DECRYPT,
    CKA_SIGN,
    CKA_VERIFY,
    CKA_WRAP,
    CKA_UNWRAP,
    CKA_DERIVE,
    CKA_TRUSTED,
    CKA_WRAP_WITH_TRUSTED,
];
const PRIVATE_FLAGS: [CK_ATTRIBUTE_TYPE; 9] = [
    CKA_SENSITIVE,
    CKA_EXTRACTABLE,
    CKA_DECRYPT,
    CKA_SIGN,
    CKA_SIGN_RECOVER,
    CKA_UNWRAP,
    CKA_DERIVE,
    CKA_WRAP_WITH_TRUSTED,
    CKA_ALWAYS_AUTHENTICATE,
];
const PUBLIC_FLAGS: [CK_ATTRIBUTE_TYPE; 6] =
    [CKA_ENCRYPT, CKA_VERIFY, CKA_VERIFY_RECOVER, CKA_WRAP, CKA_DERIVE, CKA_TRUSTED];

impl Material {
    fn class(&self) -> CK_ULONG {
        match self {
            Self::Sm4(_) | Self::Secret(_) => CKO_SECRET_KEY,
            Self::Private(_) => CKO_PRIVATE_KEY,
            Self::Public(_) => CKO_PUBLIC_KEY,
        }
    }

    fn key_type(&self, numbering: &Numbering) -> CK_ULONG {
        match self {
            // Koal's SM4 keys can be made, but nobody published of what type they are.
            Self::Sm4(_) => numbering.sm4.unwrap_or(CK_UNAVAILABLE_INFORMATION),
            Self::Secret(_) => CKK_GENERIC_SECRET,
            Self::Private(_) | Self::Public(_) => numbering.sm2,
        }
    }

    /// Flags that a template may have, and what may not be changed by anyone.
    fn flags(&self) -> &'static [CK_ATTRIBUTE_TYPE] {
        match self {
            Self::Sm4(_) | Self::Secret(_) => &SECRET_FLAGS,
            Self::Private(_) => &PRIVATE_FLAGS,
            Self::Public(_) => &PUBLIC_FLAGS,
        }
    }

    /// Attributes that say what the key is, beside its flags.
    fn described(&self) -> Vec<(CK_ATTRIBUTE_TYPE, Zeroizing<Vec<u8>>)> {
        let len = |len: usize| Zeroizing::new((len as CK_ULONG).to_ne_bytes().to_vec());
        let curve = || (CKA_EC_PARAMS, Zeroizing::new(OID.to_vec()));
        match self {
            Self::Sm4(key) => vec![(CKA_VALUE, Zeroizing::new(key.to_vec())), (CKA_VALUE_LEN, len(16))],
            Self::Secret(key) => vec![(CKA_VALUE, key.clone()), (CKA_VALUE_LEN, len(key.len()))],
            Self::Private(key) => vec![(CKA_VALUE, Zeroizing::new(key.to_bytes().to_vec())), curve()],
            Self::Public(key) => vec![(CKA_EC_POINT, Zeroizing::new(point(key))), curve()],
        }
    }
}

impl Object {
    /// A key under a template. What the template doesn't say is off, but that secrets are
    /// private and sensitive.
    pub(crate) fn new(
        numbering: &Numbering,
        template: &Template,
        material: Material,
        origin: Origin,
        owner: Owner,
    ) -> Answer<Self> {
        let mut attributes: BTreeMap<CK_ATTRIBUTE_TYPE, Zeroizing<Vec<u8>>> =
            material.described().into_iter().collect();
        let number = |value: CK_ULONG| Zeroizing::new(value.to_ne_bytes().to_vec());
        let flag = |value: bool| Zeroizing::new(vec![CK_BBOOL::from(value)]);
        let secret = !matches!(material, Material::Public(_));
        attributes.insert(CKA_CLASS, number(material.class()));
        attributes.insert(CKA_KEY_TYPE, number(material.key_type(numbering)));
        for kind in material.flags() {
            let otherwise = *kind == CKA_SENSITIVE;
            attributes.insert(*kind, flag(template.flag(*kind)?.unwrap_or(otherwise)));
        }
        attributes.insert(CKA_PRIVATE, flag(template.flag(CKA_PRIVATE)?.unwrap_or(secret)));
        attributes.insert(CKA_DESTROYABLE, flag(template.flag(CKA_DESTROYABLE)?.unwrap_or(true)));
        for fixed in [CKA_TOKEN, CKA_MODIFIABLE, CKA_COPYABLE] {
            attributes.insert(fixed, flag(false));
        }
        for text in [CKA_LABEL, CKA_ID] {
            attributes.insert(text, Zeroizing::new(template.get(text).unwrap_or_default().to_vec()));
        }
        let (local, mechanism) = match origin {
            Origin::Generated(mechanism) => (true, mechanism),
            Origin::Imported | Origin::Unwrapped => (false, CK_UNAVAILABLE_INFORMATION),
        };
        attributes.insert(CKA_LOCAL, flag(local));
        attributes.insert(CKA_KEY_GEN_MECHANISM, number(mechanism));
        let mut object = Self { owner, material, attributes };
        if secret {
            let always = local && object.flag(CKA_SENSITIVE);
            let never = local && !object.flag(CKA_EXTRACTABLE);
            object.attributes.insert(CKA_ALWAYS_SENSITIVE, flag(always));
            object.attributes.insert(CKA_NEVER_EXTRACTABLE, flag(never));
        }
        object.fits(template, origin)?;
        Ok(object)
    }

    /// Whether the template says nothing that isn't so.
    fn fits(&self, template: &Template, origin: Origin) -> Answer<()> {
        if self.flag(CKA_PRIVATE) && !self.owner.logged_in {
            return Err(CKR_USER_NOT_LOGGED_IN);
        }
        let imported = matches!(origin, Origin::Imported);
        for (kind, value) in template.iter() {
            let material = match kind {
                CKA_VALUE | CKA_EC_POINT => imported,
                CKA_EC_PARAMS => matches!(self.material, Material::Private(_) | Material::Public(_)),
                CKA_VALUE_LEN => !imported && self.attributes.contains_key(&CKA_VALUE_LEN),
                _ => COMMON.contains(&kind) || self.material.flags().contains(&kind),
            };
            match self.attributes.get(&kind) {
                Some(known) if material && known.as_slice() == value => {}
                // A scalar may come with leading zeros, or without.
                Some(_) if kind == CKA_VALUE && imported => {}
                Some(_) if material && matches!(kind, CKA_CLASS | CKA_KEY_TYPE) => {
                    return Err(CKR_TEMPLATE_INCONSISTENT);
                }
                Some(_) if material => return Err(CKR_ATTRIBUTE_VALUE_INVALID),
                _ => return Err(CKR_ATTRIBUTE_TYPE_INVALID),
            }
        }
        Ok(())
    }

    pub(crate) fn flag(&self, kind: CK_ATTRIBUTE_TYPE) -> bool {
        self.attributes.get(&kind).is_some_and(|value| value.as_slice() == [1])
    }

    /// That the key may be used so.
    pub(crate) fn may(&self, usage: CK_ATTRIBUTE_TYPE) -> Answer<()> {
        if self.flag(usage) { Ok(()) } else { Err(CKR_KEY_FUNCTION_NOT_PERMITTED) }
    }

    /// Whether a session with this slot and login may see it.
    pub(crate) fn shows(&self, slot: CK_SLOT_ID, logged_in: bool) -> bool {
        self.owner.slot == slot && (logged_in || !self.flag(CKA_PRIVATE))
    }

    /// Whether every attribute of the template is one of the key's.
    pub(crate) fn matches(&self, template: &Template) -> bool {
        template.iter().all(|(kind, value)| matches!(self.find(kind), Found::Value(found) if found == value))
    }

    pub(crate) fn find(&self, kind: CK_ATTRIBUTE_TYPE) -> Found<'_> {
        let kept = self.flag(CKA_SENSITIVE) || !self.flag(CKA_EXTRACTABLE);
        match self.attributes.get(&kind) {
            Some(_) if kind == CKA_VALUE && kept => Found::Sensitive,
            Some(value) => Found::Value(value),
            None => Found::Missing,
        }
    }
}
