//! Attribute lists of callers: read once into values, and answered.

use std::collections::BTreeMap;
use std::ptr;

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_ATTRIBUTE_PTR, CK_ATTRIBUTE_TYPE, CK_ULONG, CK_UNAVAILABLE_INFORMATION, CKA_CLASS,
    CKA_KEY_TYPE, CKR_ARGUMENTS_BAD, CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID,
    CKR_ATTRIBUTE_VALUE_INVALID, CKR_BUFFER_TOO_SMALL, CKR_TEMPLATE_INCONSISTENT,
};
use zeroize::Zeroizing;

use crate::ffi::{Answer, input};

/// An attribute list, by type.
#[derive(Default)]
pub(crate) struct Template(BTreeMap<CK_ATTRIBUTE_TYPE, Zeroizing<Vec<u8>>>);

impl Template {
    /// # Safety
    /// `attributes` is NULL or points to `count` of them, each with a value that is NULL
    /// or has its length.
    pub(crate) unsafe fn read(attributes: CK_ATTRIBUTE_PTR, count: CK_ULONG) -> Answer<Self> {
        let mut out = BTreeMap::new();
        // SAFETY: by the contract above.
        for attribute in unsafe { input(attributes.cast_const(), count) }? {
            // SAFETY: by the contract above.
            let value = unsafe { input(attribute.pValue.cast::<u8>().cast_const(), attribute.ulValueLen) }?;
            if out.insert(attribute.type_, Zeroizing::new(value.to_vec())).is_some() {
                return Err(CKR_TEMPLATE_INCONSISTENT);
            }
        }
        Ok(Self(out))
    }

    pub(crate) fn get(&self, kind: CK_ATTRIBUTE_TYPE) -> Option<&[u8]> {
        self.0.get(&kind).map(|value| value.as_slice())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (CK_ATTRIBUTE_TYPE, &[u8])> {
        self.0.iter().map(|(kind, value)| (*kind, value.as_slice()))
    }

    /// A CK_BBOOL, where it is there.
    pub(crate) fn flag(&self, kind: CK_ATTRIBUTE_TYPE) -> Answer<Option<bool>> {
        match self.get(kind) {
            None => Ok(None),
            Some([0]) => Ok(Some(false)),
            Some([1]) => Ok(Some(true)),
            Some(_) => Err(CKR_ATTRIBUTE_VALUE_INVALID),
        }
    }

    /// A CK_ULONG, where it is there.
    pub(crate) fn number(&self, kind: CK_ATTRIBUTE_TYPE) -> Answer<Option<CK_ULONG>> {
        let Some(value) = self.get(kind) else { return Ok(None) };
        let bytes = value.try_into().map_err(|_| CKR_ATTRIBUTE_VALUE_INVALID)?;
        Ok(Some(CK_ULONG::from_ne_bytes(bytes)))
    }

    /// CKA_CLASS and CKA_KEY_TYPE, where both are there.
    pub(crate) fn key(&self) -> Answer<Option<(CK_ULONG, CK_ULONG)>> {
        Ok(self.number(CKA_CLASS)?.zip(self.number(CKA_KEY_TYPE)?))
    }
}

/// What C_GetAttributeValue finds of one attribute.
pub(crate) enum Found<'a> {
    Value(&'a [u8]),
    Sensitive,
    Missing,
}

/// Answers C_GetAttributeValue (PKCS#11 v2.40, section 5.7.5): every attribute is looked
/// at, and the last failure is the answer.
///
/// # Safety
/// As for [`Template::read`], and the values can be written.
pub(crate) unsafe fn answer<'a>(
    attributes: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
    find: impl Fn(CK_ATTRIBUTE_TYPE) -> Found<'a>,
) -> Answer<()> {
    if attributes.is_null() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    let mut result = Ok(());
    for index in 0..usize::try_from(count).map_err(|_| CKR_ARGUMENTS_BAD)? {
        // SAFETY: by the contract above, and nobody else uses the list during the call.
        let attribute = unsafe { &mut *attributes.add(index) };
        // SAFETY: the same.
        if let Err(rv) = unsafe { fill(attribute, &find(attribute.type_)) } {
            result = Err(rv);
        }
    }
    result
}

/// # Safety
/// The attribute's value is NULL or has room for its length.
unsafe fn fill(attribute: &mut CK_ATTRIBUTE, found: &Found<'_>) -> Answer<()> {
    let room = attribute.ulValueLen;
    attribute.ulValueLen = CK_UNAVAILABLE_INFORMATION;
    let value = match found {
        Found::Value(value) => *value,
        Found::Sensitive => return Err(CKR_ATTRIBUTE_SENSITIVE),
        Found::Missing => return Err(CKR_ATTRIBUTE_TYPE_INVALID),
    };
    let len = value.len() as CK_ULONG;
    if !attribute.pValue.is_null() {
        if room < len {
            return Err(CKR_BUFFER_TOO_SMALL);
        }
        // SAFETY: there is room, by the contract above; nothing of ours is in it.
        unsafe { ptr::copy_nonoverlapping(value.as_ptr(), attribute.pValue.cast::<u8>(), value.len()) };
    }
    attribute.ulValueLen = len;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki_sys::{CKA_ID, CKA_LABEL, CKA_TOKEN, CKA_VALUE};

    fn attribute(kind: CK_ATTRIBUTE_TYPE, value: &mut [u8]) -> CK_ATTRIBUTE {
        CK_ATTRIBUTE { type_: kind, pValue: value.as_mut_ptr().cast(), ulValueLen: value.len() as CK_ULONG }
    }

    fn read(list: &mut [CK_ATTRIBUTE]) -> Answer<Template> {
        // SAFETY: a list of attributes with values as long as they say.
        unsafe { Template::read(list.as_mut_ptr(), list.len() as CK_ULONG) }
    }

    #[test]
    fn flags_and_numbers_have_one_length_and_no_attribute_stands_twice() {
        let (mut yes, mut odd, mut long) = ([1], [2], [1, 0]);
        let template = read(&mut [attribute(CKA_TOKEN, &mut yes)]).ok().unwrap();
        assert_eq!((template.flag(CKA_TOKEN), template.flag(CKA_LABEL)), (Ok(Some(true)), Ok(None)));
        for bad in [&mut odd[..], &mut long[..]] {
            let template = read(&mut [attribute(CKA_TOKEN, bad)]).ok().unwrap();
            assert_eq!(template.flag(CKA_TOKEN), Err(CKR_ATTRIBUTE_VALUE_INVALID));
            assert_eq!(template.number(CKA_TOKEN), Err(CKR_ATTRIBUTE_VALUE_INVALID));
        }
        let mut again = [1];
        let twice = read(&mut [attribute(CKA_TOKEN, &mut yes), attribute(CKA_TOKEN, &mut again)]);
        assert_eq!(twice.err(), Some(CKR_TEMPLATE_INCONSISTENT));
    }

    /// PKCS#11 v2.40, section 5.7.5: all are looked at, what can't be told has no length.
    #[test]
    fn every_attribute_is_answered_whatever_becomes_of_the_others() {
        let (mut id, mut label, mut value) = ([0; 4], [0; 1], [0; 8]);
        let mut list = [
            attribute(CKA_VALUE, &mut value),
            attribute(CKA_TOKEN, &mut []),
            attribute(CKA_LABEL, &mut label),
            attribute(CKA_ID, &mut id),
            CK_ATTRIBUTE { type_: CKA_ID, pValue: ptr::null_mut(), ulValueLen: 0 },
        ];
        let find = |kind| match kind {
            CKA_VALUE => Found::Sensitive,
            CKA_ID | CKA_LABEL => Found::Value(b"abc"),
            _ => Found::Missing,
        };
        // SAFETY: a list of attributes with room as they say.
        let answered = unsafe { answer(list.as_mut_ptr(), list.len() as CK_ULONG, find) };
        assert_eq!(answered, Err(CKR_BUFFER_TOO_SMALL));
        let lengths = list.map(|attribute| attribute.ulValueLen);
        let none = CK_UNAVAILABLE_INFORMATION;
        assert_eq!(lengths, [none, none, none, 3, 3]);
        assert_eq!((id, value), (*b"abc\0", [0; 8]));
    }
}
