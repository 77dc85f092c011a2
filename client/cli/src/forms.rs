//! Forms that bytes take in files and streams: base64, hex, PEM, and the raw forms of SM2
//! ciphertexts. Must not live here: cryptography, and what only the daemon can judge.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger_protocol::{ExportAlgorithm, SecretBytes};
use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, OctetStringRef, UintRef};
use der::pem::LineEnding;
use der::{Decode, Encode, Sequence};
use zeroize::Zeroizing;

use crate::args::{Encoding, KeyFormat, KeyOutput, Sm2Format};
use crate::failure::Failure;
use crate::output::Text;

/// Label of a SubjectPublicKeyInfo in PEM (RFC 7468 section 13).
pub(crate) const PUBLIC_KEY: &str = "PUBLIC KEY";
/// Label of an unencrypted PKCS#8 in PEM (RFC 7468 section 10).
pub(crate) const PRIVATE_KEY: &str = "PRIVATE KEY";

/// rsaEncryption (RFC 8017 appendix C).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// id-ecPublicKey (RFC 5480).
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// The recommended curve of SM2 (GM/T 0006).
const SM2_CURVE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.301");

/// Bytes of SM2's coordinates and of its hash.
const SM2_LEN: usize = 32;
/// Bytes of C1 in a raw ciphertext: 04, x, y.
const SM2_POINT_LEN: usize = 1 + 2 * SM2_LEN;

impl Encoding {
    /// What a file or stream gets; the codes end with a new line.
    pub(crate) fn write(self, bytes: &[u8]) -> Zeroizing<Vec<u8>> {
        let coded = match self {
            Self::Raw => return Zeroizing::new(bytes.to_vec()),
            Self::Base64 => STANDARD.encode(bytes) + "\n",
            Self::Hex => {
                let mut text = String::with_capacity(2 * bytes.len() + 1);
                bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).for_each(|half| {
                    text.extend(char::from_digit(half.into(), 16));
                });
                text + "\n"
            }
        };
        Zeroizing::new(coded.into_bytes())
    }

    /// The bytes of a file or stream; `what` names it in the refusal.
    ///
    /// # Errors
    /// Bad usage, where it isn't of this encoding.
    pub(crate) fn read(self, what: &str, coded: SecretBytes) -> Result<SecretBytes, Failure> {
        let wrong = |name: &str| {
            Failure::usage(format!("{what} isn't {name}; give --encoding as it is: raw, base64 or hex"))
        };
        if self == Self::Raw {
            return Ok(coded);
        }
        let bytes = coded.expose().iter().copied().filter(|byte| !byte.is_ascii_whitespace());
        let dense = Zeroizing::new(bytes.collect::<Vec<u8>>());
        match self {
            Self::Hex => from_hex(&dense).ok_or_else(|| wrong("hex")),
            _ => STANDARD.decode(&*dense).map_err(|_| wrong("base64")),
        }
        .map(SecretBytes::new)
    }
}

fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| match pair {
        &[high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    text.chunks(2).map(byte).collect()
}

impl KeyOutput {
    /// As it was asked for; a coding is of DER.
    fn format(&self) -> KeyFormat {
        let coded = self.coding.encoding != Encoding::Raw;
        self.format.unwrap_or(if coded { KeyFormat::Der } else { KeyFormat::Pem })
    }

    /// Refuses a coding that nothing would have.
    ///
    /// # Errors
    /// Bad usage.
    pub(crate) fn of_keys_alone(&self) -> Result<(), Failure> {
        if self.format == Some(KeyFormat::Pem) && self.coding.encoding != Encoding::Raw {
            return Err(Failure::usage(
                "PEM is a coding by itself; leave out --encoding, or give --format der",
            ));
        }
        Ok(())
    }

    /// A key, given as DER, as a file or stream gets it.
    ///
    /// # Errors
    /// None in practice: PEM has room for every key.
    pub(crate) fn write(&self, label: &'static str, key: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        match self.format() {
            KeyFormat::Pem => Ok(Zeroizing::new(pem(label, key)?.into_bytes())),
            KeyFormat::Der => Ok(self.coding.encoding.write(key)),
        }
    }

    /// A key, given as DER, as `--json` has it: PEM as text, or DER as base64.
    ///
    /// # Errors
    /// As [`KeyOutput::write`].
    pub(crate) fn show(&self, label: &'static str, key: &[u8]) -> Result<Text, Failure> {
        match self.format() {
            KeyFormat::Pem => Ok(Text::plain(pem(label, key)?)),
            KeyFormat::Der => Ok(Text::base64(key)),
        }
    }

    /// Whether a terminal may show it.
    pub(crate) fn is_text(&self) -> bool {
        self.format() == KeyFormat::Pem || self.coding.encoding != Encoding::Raw
    }
}

/// A key, given as DER, in PEM (RFC 7468).
///
/// # Errors
/// None in practice: PEM has room for every key.
pub(crate) fn pem(label: &'static str, key: &[u8]) -> Result<String, Failure> {
    let failed = |error| Failure::local("Internal", format!("a key can't be written as PEM: {error}"));
    der::pem::encode_string(label, LineEnding::LF, key).map_err(failed)
}

/// The DER of a public key that is PEM, DER, or else coded as `encoding` says.
///
/// # Errors
/// Bad usage, where it is PEM of something else, or not of that encoding.
pub(crate) fn public_key(encoding: Encoding, key: SecretBytes) -> Result<Vec<u8>, Failure> {
    if PublicKeyInfo::from_der(key.expose()).is_ok() {
        return Ok(key.expose().to_vec());
    }
    let Some(text) = pem_of(key.expose()) else {
        let coded = encoding.read("--public-key", key)?;
        return match PublicKeyInfo::from_der(coded.expose()) {
            Ok(_) => Ok(coded.expose().to_vec()),
            Err(_) => Err(Failure::usage(
                "--public-key isn't a SubjectPublicKeyInfo in PEM or DER; where its DER is coded, give --encoding base64 \
                 or hex",
            )),
        };
    };
    match der::pem::decode_vec(text) {
        Ok((PUBLIC_KEY, der)) => Ok(der),
        Ok((label, _)) => Err(Failure::usage(format!(
            "--public-key has a {label}, and a {PUBLIC_KEY} is needed (openssl pkey -pubout, or openssl x509 -pubkey)"
        ))),
        Err(error) => Err(Failure::usage(format!("--public-key isn't PEM as it should be: {error}"))),
    }
}

/// The first PEM text in a file, without what stands around it (RFC 7468 section 2); none
/// where there is none.
fn pem_of(file: &[u8]) -> Option<&[u8]> {
    let text = &file[find(file, b"-----BEGIN ")?..];
    let end = find(text, b"-----END ").unwrap_or(text.len());
    let line = text[end..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |line| end + line + 1);
    Some(text[..line].trim_ascii_end())
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// SubjectPublicKeyInfo (RFC 5280 section 4.1).
#[derive(Sequence)]
struct PublicKeyInfo<'a> {
    algorithm: Algorithm<'a>,
    key: BitStringRef<'a>,
}

#[derive(Sequence)]
struct Algorithm<'a> {
    oid: ObjectIdentifier,
    parameters: Option<AnyRef<'a>>,
}

impl Algorithm<'_> {
    /// The named curve of an elliptic key (RFC 5480 section 2.1.1).
    fn curve(&self) -> Option<ObjectIdentifier> {
        self.parameters.and_then(|parameters| parameters.decode_as().ok())
    }
}

/// What data keys are exported to a public key with, if nobody says it.
///
/// # Errors
/// Bad usage, where it is no RSA or elliptic key.
pub(crate) fn export_algorithm(public_key: &[u8]) -> Result<ExportAlgorithm, Failure> {
    let info = PublicKeyInfo::from_der(public_key)
        .map_err(|error| Failure::usage(format!("--public-key isn't a SubjectPublicKeyInfo: {error}")))?;
    match info.algorithm.oid {
        RSA => Ok(ExportAlgorithm::RsaesOaepSha256),
        EC if info.algorithm.curve() == Some(SM2_CURVE) => Ok(ExportAlgorithm::Sm2Pke),
        EC => Err(Failure::usage(
            "--public-key is on another curve than SM2's; RSA and SM2 keys can be exported to",
        )),
        other => Err(Failure::usage(format!(
            "--public-key is of algorithm {other}; RSA and SM2 keys can be exported to"
        ))),
    }
}

/// An SM2 ciphertext (GM/T 0009 section 7.2).
#[derive(Sequence)]
struct Sm2Cipher<'a> {
    x: UintRef<'a>,
    y: UintRef<'a>,
    hash: &'a OctetStringRef,
    ciphertext: &'a OctetStringRef,
}

impl Sm2Format {
    /// The daemon's form as this one.
    ///
    /// # Errors
    /// `Protocol`, where the daemon's isn't what it should be.
    pub(crate) fn write(self, cipher: &[u8]) -> Result<Vec<u8>, Failure> {
        let wrong = || Failure::local("Protocol", "the daemon's SM2 ciphertext isn't that of GM/T 0009");
        if self == Self::Der {
            return Ok(cipher.to_vec());
        }
        let parts = Sm2Cipher::from_der(cipher).map_err(|_| wrong())?;
        let (hash, ciphertext) = (parts.hash.as_bytes(), parts.ciphertext.as_bytes());
        let mut raw = vec![0; SM2_POINT_LEN];
        raw[0] = 4;
        for (number, end) in [(parts.x, 1 + SM2_LEN), (parts.y, SM2_POINT_LEN)] {
            let bytes = number.as_bytes();
            let place = end.checked_sub(bytes.len()).filter(|&start| start + SM2_LEN >= end);
            raw[place.ok_or_else(wrong)?..end].copy_from_slice(bytes);
        }
        if hash.len() != SM2_LEN {
            return Err(wrong());
        }
        let tail = if self == Self::C1c3c2 { [hash, ciphertext] } else { [ciphertext, hash] };
        Ok([&raw, tail[0], tail[1]].concat())
    }

    /// This form as the daemon's.
    ///
    /// # Errors
    /// Bad usage, where it isn't of this form. Whether it decrypts is the daemon's to say.
    pub(crate) fn read(self, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
        let wrong = || {
            Failure::usage(
                "the input isn't a raw SM2 ciphertext: 04, 64 bytes of point, 32 of hash, and at least one more; \
                 mend --sm2-format or --encoding",
            )
        };
        if self == Self::Der {
            return Ok(bytes.to_vec());
        }
        let (point, tail) = bytes.split_at_checked(SM2_POINT_LEN).ok_or_else(wrong)?;
        if point[0] != 4 || tail.len() <= SM2_LEN {
            return Err(wrong());
        }
        let (hash, ciphertext) = if self == Self::C1c3c2 {
            tail.split_at(SM2_LEN)
        } else {
            let (ciphertext, hash) = tail.split_at(tail.len() - SM2_LEN);
            (hash, ciphertext)
        };
        let cipher = |point: &[u8]| {
            let (x, y) = point[1..].split_at(SM2_LEN);
            let (x, y) = (UintRef::new(x)?, UintRef::new(y)?);
            let (hash, ciphertext) = (OctetStringRef::new(hash)?, OctetStringRef::new(ciphertext)?);
            Sm2Cipher { x, y, hash, ciphertext }.to_der()
        };
        cipher(point).map_err(|_: der::Error| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretBytes {
        SecretBytes::new(text.as_bytes().to_vec())
    }

    #[test]
    fn codes_are_read_as_they_are_written_and_nothing_else_is() {
        for bytes in [&b""[..], b"\0", b"\xfb\xff", &[0x5a; 100]] {
            for encoding in [Encoding::Raw, Encoding::Base64, Encoding::Hex] {
                let written = SecretBytes::new(encoding.write(bytes).to_vec());
                assert_eq!(encoding.read("it", written).unwrap().expose(), bytes, "{encoding:?}");
            }
        }
        assert_eq!(&*Encoding::Base64.write(b"\xfb\xff"), b"+/8=\n");
        assert_eq!(&*Encoding::Hex.write(b"\xfb\x0f"), b"fb0f\n");
        assert_eq!(Encoding::Base64.read("it", secret(" +/\r\n8=\n")).unwrap().expose(), b"\xfb\xff");
        assert_eq!(Encoding::Hex.read("it", secret("FB 0f\n")).unwrap().expose(), b"\xfb\x0f");
        for (encoding, wrong) in [
            (Encoding::Base64, "+/8"),
            (Encoding::Base64, "-_8="),
            (Encoding::Base64, "+/9="),
            (Encoding::Hex, "f"),
            (Encoding::Hex, "0g"),
            (Encoding::Hex, "+f"),
        ] {
            assert!(encoding.read("it", secret(wrong)).is_err(), "{wrong}");
        }
    }

    /// x and y with a leading zero and with a high bit, a hash, and three bytes.
    fn parts() -> [Vec<u8>; 4] {
        let mut x = vec![0x7f; 32];
        x[..2].copy_from_slice(&[0, 1]);
        [x, vec![0x80; 32], vec![3; 32], vec![2; 3]]
    }

    /// The same ciphertext in DER, by hand.
    fn by_hand() -> Vec<u8> {
        let [x, y, hash, ciphertext] = parts();
        let items = [&[2, 31][..], &x[1..], &[2, 33, 0], &y, &[4, 32], &hash, &[4, 3], &ciphertext].concat();
        [&[0x30, u8::try_from(items.len()).unwrap()][..], &items].concat()
    }

    #[test]
    fn raw_sm2_ciphertexts_are_turned_into_der_and_back() {
        let [x, y, hash, ciphertext] = parts();
        let forms = [
            (Sm2Format::C1c3c2, [&[4][..], &x, &y, &hash, &ciphertext].concat()),
            (Sm2Format::C1c2c3, [&[4][..], &x, &y, &ciphertext, &hash].concat()),
            (Sm2Format::Der, by_hand()),
        ];
        for (format, raw) in forms {
            assert_eq!(format.read(&raw).unwrap(), by_hand(), "{format:?}");
            assert_eq!(format.write(&by_hand()).unwrap(), raw, "{format:?}");
        }
    }

    #[test]
    fn what_is_no_sm2_ciphertext_is_refused_in_both_directions() {
        let raw = Sm2Format::C1c3c2.write(&by_hand()).unwrap();
        for wrong in [&raw[..97], &raw[..64], &[], &raw[1..], &[&[2], &raw[1..]].concat()] {
            for format in [Sm2Format::C1c3c2, Sm2Format::C1c2c3] {
                assert!(format.read(wrong).is_err(), "{} bytes", wrong.len());
            }
        }
        let der = by_hand();
        let long = [&[0x30, 0x81][..], &der[1..]].concat();
        for wrong in [&der[..der.len() - 1], &[&der[..], &[0]].concat(), &long, &raw, &[]] {
            assert!(Sm2Format::C1c3c2.write(wrong).is_err(), "{wrong:?}");
        }
        // Numbers of 33 bytes, and a hash of 31.
        let [x, y, hash, ciphertext] = parts();
        for (y, hash) in [(&[&[1], &y[..]].concat(), &hash[..]), (&y, &hash[1..])] {
            let cipher = Sm2Cipher {
                x: UintRef::new(&x).unwrap(),
                y: UintRef::new(y).unwrap(),
                hash: OctetStringRef::new(hash).unwrap(),
                ciphertext: OctetStringRef::new(&ciphertext).unwrap(),
            };
            assert!(Sm2Format::C1c3c2.write(&cipher.to_der().unwrap()).is_err());
        }
    }

    #[test]
    fn public_keys_are_read_as_pem_and_as_der() {
        let key = [0x30, 0x0c, 0x30, 0x06, 0x06, 0x04, 0x2a, 3, 4, 5, 3, 2, 0, 9];
        let text = pem(PUBLIC_KEY, &key).unwrap();
        assert!(text.starts_with("-----BEGIN PUBLIC KEY-----\n"), "{text}");
        assert_eq!(public_key(Encoding::Raw, secret(&text)).unwrap(), key);
        assert_eq!(public_key(Encoding::Raw, SecretBytes::new(key.to_vec())).unwrap(), key);
        assert_eq!(public_key(Encoding::Base64, SecretBytes::new(key.to_vec())).unwrap(), key);
        let coded = SecretBytes::new(Encoding::Base64.write(&key).to_vec());
        assert_eq!(public_key(Encoding::Base64, coded).unwrap(), key);
        assert!(public_key(Encoding::Raw, secret(&pem(PRIVATE_KEY, &key).unwrap())).is_err());
        assert!(public_key(Encoding::Raw, secret("-----BEGIN PUBLIC KEY-----\nxx")).is_err());
        assert!(export_algorithm(&key).is_err(), "another algorithm");
        assert!(export_algorithm(b"no key").is_err());
    }
}
