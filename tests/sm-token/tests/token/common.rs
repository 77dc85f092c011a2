//! The token as any application sees it: loaded by its path, through cryptoki. Its
//! numbering is chosen by the environment when it is loaded, so each test runs its body
//! in processes of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::vendor_defined::VendorDefinedMechanism;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use tempfile::TempDir;

const LABEL: &str = "sm-token-test";
const PIN: &str = "63518274";
/// Names, in the process that has the token, the numbering.
const INSIDE: &str = "CLAVIGER_SM_TOKEN_TEST";
const SOFTHSM_CONF: &str = "SOFTHSM2_CONF";

/// OBJECT IDENTIFIER of SM2's curve, DER (GM/T 0006).
pub(crate) const CURVE: [u8; 10] = [0x06, 0x08, 0x2A, 0x81, 0x1C, 0xCF, 0x55, 0x01, 0x82, 0x2D];

/// The module, beside the test that is running.
pub(crate) fn module() -> PathBuf {
    let path = std::env::current_exe().unwrap().with_file_name("libclaviger_sm_token.so");
    assert!(path.is_file(), "{} is missing", path.display());
    path
}

/// Runs the body of the test called `name` once for each numbering, one after another
/// on the same token, each in a process of its own.
pub(crate) fn on(numberings: &[&str], name: &str, body: impl FnOnce(&Token)) {
    if std::env::var(INSIDE).is_ok_and(|inside| inside == name) {
        return body(&Token::open());
    }
    let dir = tempfile::Builder::new().prefix("clv-sm-").tempdir().unwrap();
    let config = softhsm(&dir);
    for numbering in numberings {
        let mut inside = Command::new(std::env::current_exe().unwrap());
        inside.args(["--exact", name, "--nocapture"]).current_dir(dir.path());
        inside.env(INSIDE, name).env(SOFTHSM_CONF, &config).env("CLAVIGER_SM_TOKEN", numbering);
        let output = inside.output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{numbering}:\n{text}");
    }
}

/// A token of SoftHSM2 in `dir`; its configuration file.
fn softhsm(dir: &TempDir) -> PathBuf {
    let (config, tokens) = (dir.path().join("softhsm2.conf"), dir.path().join("tokens"));
    std::fs::create_dir(&tokens).unwrap();
    std::fs::write(&config, format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display()))
        .unwrap();
    let made = Command::new("softhsm2-util")
        .env(SOFTHSM_CONF, &config)
        .args(["--init-token", "--free", "--label", LABEL, "--pin", PIN, "--so-pin", "18273645"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    config
}

/// A loaded module, and a session of its token that is logged in.
pub(crate) struct Token {
    pub(crate) session: Session,
    pub(crate) slot: Slot,
    pub(crate) pkcs11: Pkcs11,
}

impl Token {
    fn open() -> Self {
        let pkcs11 = Pkcs11::new(module()).unwrap();
        pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
        let slots = pkcs11.get_slots_with_token().unwrap();
        let labelled = |slot: &&Slot| pkcs11.get_token_info(**slot).unwrap().label() == LABEL;
        let slot = *slots.iter().find(labelled).unwrap();
        let session = pkcs11.open_rw_session(slot).unwrap();
        session.login(UserType::User, Some(&pin())).unwrap();
        Self { session, slot, pkcs11 }
    }

    /// An SM2 pair of session keys, the private one extractable and not sensitive where
    /// `open`.
    pub(crate) fn sm2_pair(&self, generate: u64, open: bool) -> (ObjectHandle, ObjectHandle) {
        let public = [
            Attribute::Token(false),
            Attribute::EcParams(CURVE.to_vec()),
            Attribute::Verify(true),
            Attribute::Encrypt(true),
        ];
        let private = [
            Attribute::Token(false),
            Attribute::Sensitive(!open),
            Attribute::Extractable(open),
            Attribute::Sign(true),
            Attribute::Decrypt(true),
        ];
        self.session.generate_key_pair(&plain(generate), &public, &private).unwrap()
    }

    /// An SM2 pair with a known scalar and point (x ‖ y).
    pub(crate) fn known_pair(
        &self,
        key_type: KeyType,
        scalar: &[u8],
        point: &[u8],
    ) -> (ObjectHandle, ObjectHandle) {
        let common = |class| {
            vec![
                Attribute::Class(class),
                Attribute::KeyType(key_type),
                Attribute::Token(false),
                Attribute::EcParams(CURVE.to_vec()),
            ]
        };
        let mut public = common(ObjectClass::PUBLIC_KEY);
        let point = [&[0x04, 65, 0x04], point].concat();
        public.extend([Attribute::EcPoint(point), Attribute::Verify(true), Attribute::Encrypt(true)]);
        let mut private = common(ObjectClass::PRIVATE_KEY);
        private.extend([Attribute::Value(scalar.to_vec()), Attribute::Sign(true), Attribute::Decrypt(true)]);
        private.extend([Attribute::Sensitive(false), Attribute::Extractable(true)]);
        (self.session.create_object(&public).unwrap(), self.session.create_object(&private).unwrap())
    }

    /// An SM4 session key with a known value.
    pub(crate) fn known_sm4(&self, key_type: KeyType, value: &[u8]) -> ObjectHandle {
        let mut attributes = secret(key_type);
        attributes.extend([Attribute::Value(value.to_vec()), Attribute::Extractable(true)]);
        self.session.create_object(&attributes).unwrap()
    }

    /// An AES key that wraps and unwraps.
    pub(crate) fn root(&self, token: bool) -> ObjectHandle {
        let attributes = [
            Attribute::Token(token),
            Attribute::Sensitive(true),
            Attribute::Wrap(true),
            Attribute::Unwrap(true),
            Attribute::ValueLen(32.into()),
            Attribute::Id(b"root".to_vec()),
        ];
        self.session.generate_key(&Mechanism::AesKeyGen, &attributes).unwrap()
    }
}

pub(crate) fn pin() -> AuthPin {
    AuthPin::new(Box::from(PIN))
}

/// A session key that encrypts, decrypts, signs and verifies.
pub(crate) fn secret(key_type: KeyType) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(key_type),
        Attribute::Token(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Sign(true),
        Attribute::Verify(true),
    ]
}

/// A vendor's number, without the bit that says so.
pub(crate) fn number(number: u64) -> MechanismType {
    MechanismType::new_vendor_defined(0x8000_0000 | number).unwrap()
}

pub(crate) fn key_type(number: u64) -> KeyType {
    KeyType::new_vendor_defined(0x8000_0000 | number).unwrap()
}

/// A vendor's mechanism without a parameter.
pub(crate) fn plain(of: u64) -> Mechanism<'static> {
    Mechanism::VendorDefined(VendorDefinedMechanism::new::<()>(number(of), None))
}

/// A vendor's mechanism with a parameter.
pub(crate) fn with<T>(of: u64, parameter: &T) -> Mechanism<'_> {
    Mechanism::VendorDefined(VendorDefinedMechanism::new(number(of), Some(parameter)))
}

/// What the token answered in the place of a result.
pub(crate) fn refusal<T>(result: Result<T, Error>) -> RvError {
    match result {
        Err(Error::Pkcs11(rv, _)) => rv,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was not refused"),
    }
}

/// Runs OpenSSL's command line in `dir`; whether it succeeded, and what it wrote.
pub(crate) fn openssl(dir: &Path, arguments: &[&str]) -> (bool, Vec<u8>) {
    let output = Command::new("openssl").current_dir(dir).args(arguments).output().unwrap();
    (output.status.success(), output.stdout)
}
