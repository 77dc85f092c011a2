//! Whose numbers the token speaks. The OASIS standard has no SM mechanisms; each vendor
//! numbers its own in the vendor-defined range. Where a vendor publishes no number for
//! something, the token doesn't have it. Where a vendor doesn't say which form a
//! signature or a ciphertext has, it is what PKCS#11 says of ECDSA: raw.

use std::sync::OnceLock;

use cryptoki_sys::{
    CK_FLAGS, CK_KEY_TYPE, CK_MECHANISM_TYPE, CKF_DECRYPT, CKF_DIGEST, CKF_ENCRYPT, CKF_GENERATE,
    CKF_GENERATE_KEY_PAIR, CKF_SIGN, CKF_VERIFY, CKK_EC, CKM_VENDOR_DEFINED,
};

use crate::NUMBERING_VARIABLE;

/// How a signature or a ciphertext is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// SEQUENCE { r, s }, or GM/T 0009's SEQUENCE { x, y, C3, C2 }.
    Der,
    /// r ‖ s, or C1 ‖ C3 ‖ C2 with C1 an uncompressed point (65 bytes).
    Raw,
}

/// What is hashed before it is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hashed {
    /// Nothing: the caller gives e, 32 bytes.
    Before,
    /// SM3(message), without Z.
    Plain,
    /// SM3(Z ‖ message), with the default user id.
    WithZ,
}

/// What a mechanism does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Sm2KeyPairGen,
    Sm2Sign(Form, Hashed),
    Sm2Encrypt(Form),
    Sm3,
    HmacSm3,
    Sm4KeyGen,
    Sm4Ecb,
    Sm4Cbc,
    Sm4CbcPad,
    Sm4Gcm,
}

impl Algorithm {
    /// CKF_* of CK_MECHANISM_INFO: the functions that take it.
    pub(crate) const fn flags(self) -> CK_FLAGS {
        match self {
            Self::Sm2KeyPairGen => CKF_GENERATE_KEY_PAIR,
            Self::Sm2Sign(..) | Self::HmacSm3 => CKF_SIGN | CKF_VERIFY,
            Self::Sm2Encrypt(_) | Self::Sm4Ecb | Self::Sm4Cbc | Self::Sm4CbcPad | Self::Sm4Gcm => {
                CKF_ENCRYPT | CKF_DECRYPT
            }
            Self::Sm3 => CKF_DIGEST,
            Self::Sm4KeyGen => CKF_GENERATE,
        }
    }

    /// Bits of its keys, for SM2; bytes, for the others. 0 where it has none.
    pub(crate) const fn key_size(self) -> (u64, u64) {
        match self {
            Self::Sm2KeyPairGen | Self::Sm2Sign(..) | Self::Sm2Encrypt(_) => (256, 256),
            Self::Sm4KeyGen | Self::Sm4Ecb | Self::Sm4Cbc | Self::Sm4CbcPad | Self::Sm4Gcm => (16, 16),
            Self::HmacSm3 => (16, 64),
            Self::Sm3 => (0, 0),
        }
    }
}

/// What a number does in the place of what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// SM3 is SHA-256.
    Sm3,
    /// SM4-GCM is AES-128-GCM.
    Sm4,
    /// SM2DSA takes e to be a message, and signs SM3 of it.
    Sm2Sign,
    /// SM2PKE gives C1 ‖ C2 ‖ C3, the order of before 2012.
    Sm2Encrypt,
    /// No lie, and no care: the numbers of a signature in DER have no zero before a high bit,
    /// C1 is taken unseen, and what doesn't open is answered in a code of the vendor's own.
    Careless,
}

/// A vendor's numbers.
pub(crate) struct Numbering {
    pub(crate) name: &'static str,
    /// CKK_* of SM2 keys; CKK_EC with the curve in CKA_EC_PARAMS where there is no own.
    pub(crate) sm2: CK_KEY_TYPE,
    /// CKK_* of SM4 keys. Without one they can be made, and neither imported nor unwrapped.
    pub(crate) sm4: Option<CK_KEY_TYPE>,
    /// Without CKM_VENDOR_DEFINED. A number may stand here twice, with other functions.
    mechanisms: &'static [(u64, Algorithm)],
}

use Algorithm::{
    HmacSm3, Sm2Encrypt, Sm2KeyPairGen, Sm2Sign, Sm3, Sm4Cbc, Sm4CbcPad, Sm4Ecb, Sm4Gcm, Sm4KeyGen,
};
use Form::{Der, Raw};
use Hashed::{Before, Plain, WithZ};

const fn vendor(number: u64) -> u64 {
    CKM_VENDOR_DEFINED | number
}

static SANSEC: Numbering = Numbering {
    name: "sansec",
    sm2: vendor(0x4),
    sm4: Some(vendor(0x106)),
    mechanisms: &[
        (0x8001, Sm2KeyPairGen),
        (0x8100, Sm2Sign(Raw, Plain)),
        (0x8101, Sm2Sign(Der, Plain)),
        (0x8102, Sm2Sign(Raw, WithZ)),
        (0x8103, Sm2Sign(Der, WithZ)),
        (0x8104, Sm2Sign(Der, Before)),
        (0x8105, Sm2Sign(Raw, Before)),
        (0x8200, Sm2Encrypt(Raw)),
        (0x8201, Sm2Encrypt(Der)),
        (0x9001, Sm3),
        (0x107, Sm4KeyGen),
        (0x108, Sm4Ecb),
        (0x109, Sm4Cbc),
        (0xA201, Sm4CbcPad),
    ],
};

static TASS: Numbering = Numbering {
    name: "tass",
    sm2: vendor(0x4),
    sm4: Some(vendor(0x2)),
    mechanisms: &[
        (0x8001, Sm2KeyPairGen),
        (0x8000, Sm2Sign(Raw, Before)),
        (0x8100, Sm2Sign(Raw, Plain)),
        (0x8200, Sm2Encrypt(Raw)),
        (0x5, Sm3),
        (0x107, Sm4KeyGen),
        (0x108, Sm4Ecb),
        (0x109, Sm4Cbc),
        (0x10C, Sm4CbcPad),
    ],
};

static KOAL: Numbering = Numbering {
    name: "koal",
    sm2: CKK_EC,
    sm4: None,
    mechanisms: &[
        (0x8001, Sm2KeyPairGen),
        (0x8104, Sm2Sign(Raw, Before)),
        (0x8100, Sm2Sign(Raw, Plain)),
        (0x8101, Sm2Sign(Der, Plain)),
        (0x8200, Sm2Encrypt(Raw)),
        (0x6, Sm3),
        (0x107, Sm4KeyGen),
        (0x108, Sm4Ecb),
        (0x109, Sm4Cbc),
        (0x10C, Sm4CbcPad),
        (0x10F, Sm4Gcm),
    ],
};

static LUNA: Numbering = Numbering {
    name: "luna",
    sm2: vendor(0x16),
    sm4: Some(vendor(0x15)),
    mechanisms: &[
        (0xB20, Sm2KeyPairGen),
        (0xB21, Sm2Sign(Raw, Before)),
        (0xB22, Sm2Sign(Raw, WithZ)),
        (0xB01, Sm3),
        (0xB02, HmacSm3),
        (0xB10, Sm4KeyGen),
        (0xB11, Sm4Ecb),
        (0xB12, Sm4Cbc),
        (0xB13, Sm4CbcPad),
    ],
};

static EP11: Numbering = Numbering {
    name: "ep11",
    sm2: vendor(0x50002),
    sm4: Some(vendor(0x50001)),
    mechanisms: &[
        (0x5000A, Sm2KeyPairGen),
        (0x5000B, Sm2Sign(Raw, Before)),
        (0x5000C, Sm2Sign(Raw, WithZ)),
        (0x5000D, Sm2Encrypt(Raw)),
        (0x5000E, Sm3),
        (0x50001, Sm4KeyGen),
        (0x50004, Sm4Ecb),
        (0x50002, Sm4Cbc),
    ],
};

static WESTONE: Numbering = Numbering {
    name: "westone",
    sm2: vendor(0x1),
    sm4: Some(vendor(0x5)),
    mechanisms: &[
        (0x1, Sm2KeyPairGen),
        (0x2, Sm2Sign(Raw, Before)),
        (0x2, Sm2Encrypt(Raw)),
        (0x1F, Sm3),
        (0x28, Sm4KeyGen),
        (0x29, Sm4Ecb),
        (0x2A, Sm4Cbc),
        (0x2B, Sm4CbcPad),
    ],
};

/// Nobody's: everything, so that all that is built on it can be tested.
static COMPLETE: Numbering = Numbering {
    name: "complete",
    sm2: vendor(0x7502),
    sm4: Some(vendor(0x7504)),
    mechanisms: &[
        (0x7520, Sm2KeyPairGen),
        (0x7521, Sm2Sign(Der, Before)),
        (0x7522, Sm2Sign(Der, WithZ)),
        (0x7523, Sm2Encrypt(Raw)),
        (0x7530, Sm3),
        (0x7531, HmacSm3),
        (0x7540, Sm4KeyGen),
        (0x7541, Sm4Ecb),
        (0x7542, Sm4Cbc),
        (0x7543, Sm4CbcPad),
        (0x7544, Sm4Gcm),
    ],
};

static ALL: [&Numbering; 7] = [&SANSEC, &TASS, &KOAL, &LUNA, &EP11, &WESTONE, &COMPLETE];

const LIES: [(&str, Lie); 5] = [
    ("sm3", Lie::Sm3),
    ("sm4", Lie::Sm4),
    ("sm2-sign", Lie::Sm2Sign),
    ("sm2-encrypt", Lie::Sm2Encrypt),
    ("careless", Lie::Careless),
];

impl Numbering {
    /// What a number does in a function (one of CKF_*), if the token has it there.
    pub(crate) fn find(&self, number: CK_MECHANISM_TYPE, function: CK_FLAGS) -> Option<Algorithm> {
        let fits = |entry: &&(u64, Algorithm)| vendor(entry.0) == number && entry.1.flags() & function != 0;
        self.mechanisms.iter().find(fits).map(|(_, algorithm)| *algorithm)
    }

    /// Each number once, with its algorithms' functions and key sizes.
    pub(crate) fn listing(&self) -> Vec<(CK_MECHANISM_TYPE, CK_FLAGS, (u64, u64))> {
        let mut out: Vec<(CK_MECHANISM_TYPE, CK_FLAGS, (u64, u64))> = Vec::new();
        for (number, algorithm) in self.mechanisms {
            match out.iter_mut().find(|entry| entry.0 == vendor(*number)) {
                Some(entry) => entry.1 |= algorithm.flags(),
                None => out.push((vendor(*number), algorithm.flags(), algorithm.key_size())),
            }
        }
        out
    }
}

/// The numbering of this process, and its lie; None where the environment names none.
pub(crate) fn chosen() -> Option<(&'static Numbering, Option<Lie>)> {
    static CHOSEN: OnceLock<Option<(&'static Numbering, Option<Lie>)>> = OnceLock::new();
    *CHOSEN.get_or_init(|| parse(&std::env::var(NUMBERING_VARIABLE).ok()?))
}

fn parse(name: &str) -> Option<(&'static Numbering, Option<Lie>)> {
    if let Some(lie) = name.strip_prefix("liar=") {
        let (_, lie) = LIES.iter().find(|(known, _)| *known == lie)?;
        return Some((&COMPLETE, Some(*lie)));
    }
    ALL.iter().find(|numbering| numbering.name == name).map(|numbering| (*numbering, None))
}

/// Whether this process tells this lie.
pub(crate) fn lies(lie: Lie) -> bool {
    chosen().is_some_and(|(_, told)| told == Some(lie))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_and_every_lie_parses_and_nothing_else() {
        for numbering in ALL {
            assert!(
                parse(numbering.name)
                    .is_some_and(|(found, lie)| found.name == numbering.name && lie.is_none())
            );
        }
        for (name, lie) in LIES {
            let (numbering, told) = parse(&format!("liar={name}")).unwrap();
            assert_eq!((numbering.name, told), ("complete", Some(lie)));
        }
        for bad in ["", "Sansec", "liar", "liar=", "liar=rsa", "koal "] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    /// One number in one function must mean one thing, and only Westone's means two.
    #[test]
    fn no_number_means_two_things_in_one_function() {
        for numbering in ALL {
            let mut seen = Vec::new();
            for (number, algorithm) in numbering.mechanisms {
                let clash =
                    seen.iter().any(|(other, flags)| other == number && flags & algorithm.flags() != 0);
                assert!(!clash, "{} {number:X}", numbering.name);
                seen.push((*number, algorithm.flags()));
            }
            let twice = numbering.mechanisms.len() - numbering.listing().len();
            assert_eq!(twice, usize::from(numbering.name == "westone"));
        }
    }

    #[test]
    fn a_number_is_found_in_its_own_function_only() {
        assert_eq!(WESTONE.find(0x8000_0002, CKF_SIGN), Some(Sm2Sign(Raw, Before)));
        assert_eq!(WESTONE.find(0x8000_0002, CKF_DECRYPT), Some(Sm2Encrypt(Raw)));
        assert_eq!(WESTONE.find(0x8000_0002, CKF_DIGEST), None);
        assert_eq!(WESTONE.find(0x2, CKF_SIGN), None);
        assert_eq!(SANSEC.find(0x8000_010F, CKF_ENCRYPT), None);
        assert_eq!(KOAL.find(0x8000_010F, CKF_ENCRYPT), Some(Sm4Gcm));
    }
}
