//! From C's pointers to slices and values, and back.

use std::ffi::c_void;
use std::{ptr, slice};

use cryptoki_sys::{
    CK_BYTE, CK_GCM_PARAMS, CK_MECHANISM, CK_RV, CK_ULONG, CKR_ARGUMENTS_BAD, CKR_BUFFER_TOO_SMALL,
    CKR_MECHANISM_PARAM_INVALID, CKR_OK,
};

/// What a call answers: CKR_OK with a value, or another CKR_*.
pub(crate) type Answer<T> = Result<T, CK_RV>;

pub(crate) fn rv(answer: Answer<()>) -> CK_RV {
    answer.err().unwrap_or(CKR_OK)
}

/// The opposite of [`rv`].
pub(crate) fn ok(rv: CK_RV) -> Answer<()> {
    if rv == CKR_OK { Ok(()) } else { Err(rv) }
}

/// `len` items of the caller's.
///
/// # Safety
/// As PKCS#11 says of its inputs: `data` is NULL or points to `len` items, which stay
/// as they are until the call returns.
pub(crate) unsafe fn input<'a, T>(data: *const T, len: CK_ULONG) -> Answer<&'a [T]> {
    let len = usize::try_from(len).map_err(|_| CKR_ARGUMENTS_BAD)?;
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    // SAFETY: not NULL, and the caller answers for the rest.
    Ok(unsafe { slice::from_raw_parts(data, len) })
}

/// Writes one value to where the caller wants it.
///
/// # Safety
/// `to` is NULL or can be written.
pub(crate) unsafe fn put<T>(to: *mut T, value: T) -> Answer<()> {
    if to.is_null() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    // SAFETY: not NULL, and the caller answers for the rest.
    unsafe { *to = value };
    Ok(())
}

/// A caller's buffer, by the convention of PKCS#11 v2.40, section 5.2: NULL asks for
/// the length, and a buffer that is too small is told the length.
pub(crate) struct Output {
    buffer: *mut CK_BYTE,
    len: *mut CK_ULONG,
}

impl Output {
    /// # Safety
    /// `len` is NULL or can be read and written; `buffer` is NULL or has room for
    /// `*len` bytes.
    pub(crate) unsafe fn new(buffer: *mut CK_BYTE, len: *mut CK_ULONG) -> Answer<Self> {
        if len.is_null() { Err(CKR_ARGUMENTS_BAD) } else { Ok(Self { buffer, len }) }
    }

    /// Answers a caller who only asks for the length; true where that was so.
    pub(crate) fn asks(&self, most: usize) -> bool {
        if self.buffer.is_null() {
            self.tell(most);
        }
        self.buffer.is_null()
    }

    /// Hands `data` over; where there is no room, says how much would be enough.
    pub(crate) fn give(&self, data: &[u8], most: usize) -> Answer<()> {
        // SAFETY: by `new`'s contract `len` can be read.
        let room = unsafe { *self.len };
        if usize::try_from(room).is_ok_and(|room| room < data.len()) {
            self.tell(most.max(data.len()));
            return Err(CKR_BUFFER_TOO_SMALL);
        }
        // SAFETY: the buffer isn't NULL (`asks` came first) and has room for `room` bytes,
        // at least as many as `data`; nothing of ours is in it.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), self.buffer, data.len()) };
        self.tell(data.len());
        Ok(())
    }

    fn tell(&self, len: usize) {
        // SAFETY: by `new`'s contract `len` can be written.
        unsafe { *self.len = len as CK_ULONG };
    }
}

/// A mechanism as the caller names it.
#[derive(Clone, Copy)]
pub(crate) struct Mechanism {
    pub(crate) number: CK_ULONG,
    parameter: *mut c_void,
    len: CK_ULONG,
}

impl Mechanism {
    /// # Safety
    /// `mechanism` is NULL or points to one, whose parameter is NULL or has its length.
    pub(crate) unsafe fn read(mechanism: *const CK_MECHANISM) -> Answer<Self> {
        // SAFETY: NULL or a mechanism, by the contract above.
        let mechanism = unsafe { mechanism.as_ref() }.ok_or(CKR_ARGUMENTS_BAD)?;
        let CK_MECHANISM { mechanism: number, pParameter: parameter, ulParameterLen: len } = *mechanism;
        Ok(Self { number, parameter, len })
    }

    /// That there is no parameter.
    pub(crate) fn bare(self) -> Answer<()> {
        if self.len == 0 { Ok(()) } else { Err(CKR_MECHANISM_PARAM_INVALID) }
    }

    /// The parameter as an initialisation vector of one block.
    pub(crate) fn iv(self) -> Answer<[u8; 16]> {
        // SAFETY: NULL or `len` bytes, by `read`'s contract.
        let bytes = unsafe { input(self.parameter.cast::<u8>(), self.len) }?;
        bytes.try_into().map_err(|_| CKR_MECHANISM_PARAM_INVALID)
    }

    /// The parameter as CK_GCM_PARAMS: a 96-bit IV and the additional data. Another IV
    /// length, or a tag of other than 128 bits, is refused.
    pub(crate) fn gcm(self) -> Answer<([u8; 12], Vec<u8>)> {
        if usize::try_from(self.len) != Ok(size_of::<CK_GCM_PARAMS>()) {
            return Err(CKR_MECHANISM_PARAM_INVALID);
        }
        // SAFETY: NULL or as long as the structure, by `read`'s contract and the check.
        let parameters = unsafe { self.parameter.cast::<CK_GCM_PARAMS>().as_ref() };
        let parameters = parameters.ok_or(CKR_MECHANISM_PARAM_INVALID)?;
        // SAFETY: PKCS#11 v2.40, CK_GCM_PARAMS: pIv has ulIvLen bytes.
        let iv = unsafe { input(parameters.pIv, parameters.ulIvLen) }?;
        // SAFETY: PKCS#11 v2.40, CK_GCM_PARAMS: pAAD has ulAADLen bytes.
        let aad = unsafe { input(parameters.pAAD, parameters.ulAADLen) }?;
        let iv = iv.try_into().map_err(|_| CKR_MECHANISM_PARAM_INVALID)?;
        if parameters.ulTagBits != 128 {
            return Err(CKR_MECHANISM_PARAM_INVALID);
        }
        Ok((iv, aad.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_an_input_only_of_length_zero() {
        // SAFETY: NULL of length zero, as a caller may pass it.
        assert_eq!(unsafe { input::<u8>(ptr::null(), 0) }, Ok(&[][..]));
        // SAFETY: NULL is refused before it is read.
        assert_eq!(unsafe { input::<u8>(ptr::null(), 1) }, Err(CKR_ARGUMENTS_BAD));
        // SAFETY: NULL is refused before it is written.
        assert_eq!(unsafe { put(ptr::null_mut(), 1) }, Err(CKR_ARGUMENTS_BAD));
        // SAFETY: NULL is refused before it is read.
        assert!(unsafe { Output::new(ptr::null_mut(), ptr::null_mut()) }.is_err());
        // SAFETY: NULL is refused before it is read.
        assert!(unsafe { Mechanism::read(ptr::null()) }.is_err());
    }

    #[test]
    fn an_output_is_asked_about_refused_and_given() {
        let mut buffer = [0xEE; 8];
        let mut len = 0;
        // SAFETY: NULL asks, and `len` can be written.
        let asking = unsafe { Output::new(ptr::null_mut(), &raw mut len) }.ok().unwrap();
        assert!(asking.asks(5));
        assert_eq!(len, 5);

        len = 2;
        // SAFETY: the buffer has more room than `len` says.
        let output = unsafe { Output::new(buffer.as_mut_ptr(), &raw mut len) }.ok().unwrap();
        assert!(!output.asks(5));
        assert_eq!(output.give(&[1, 2, 3], 5), Err(CKR_BUFFER_TOO_SMALL));
        assert_eq!((len, buffer), (5, [0xEE; 8]));

        len = 8;
        // SAFETY: the buffer has as much room as `len` says.
        let output = unsafe { Output::new(buffer.as_mut_ptr(), &raw mut len) }.ok().unwrap();
        assert_eq!(output.give(&[1, 2, 3], 5), Ok(()));
        assert_eq!((len, buffer), (3, [1, 2, 3, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE]));
    }

    #[test]
    fn gcm_parameters_of_another_shape_are_refused() {
        let mut iv = [7; 16];
        let refused = |iv_len: CK_ULONG, tag: CK_ULONG, short: CK_ULONG, iv: &mut [u8; 16]| {
            let mut parameters = CK_GCM_PARAMS {
                pIv: iv.as_mut_ptr(),
                ulIvLen: iv_len,
                ulIvBits: 8 * iv_len,
                pAAD: ptr::null_mut(),
                ulAADLen: 0,
                ulTagBits: tag,
            };
            let mechanism = CK_MECHANISM {
                mechanism: 1,
                pParameter: (&raw mut parameters).cast(),
                ulParameterLen: size_of::<CK_GCM_PARAMS>() as CK_ULONG - short,
            };
            // SAFETY: the parameter is as long as it says, or longer.
            unsafe { Mechanism::read(&raw const mechanism) }.and_then(Mechanism::gcm).is_err()
        };
        assert!(!refused(12, 128, 0, &mut iv));
        for (iv_len, tag, short) in [(16, 128, 0), (0, 128, 0), (12, 96, 0), (12, 0, 0), (12, 128, 8)] {
            assert!(refused(iv_len, tag, short, &mut iv), "{iv_len} {tag} {short}");
        }
    }
}
