//! No secret leaves a whole run: every operation is driven, with failures, and all
//! that comes out of it is searched for what went in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use claviger_protocol::body::{
    BatchItem, BatchRequest, DecryptRequest, DescribeBlobRequest, EncryptRequest, GenerateDataKeyRequest,
    GenerateDataKeyWithoutPlaintextRequest, GetRandomRequest, ReEncryptRequest,
};
use claviger_protocol::values::DataKeySize;
use claviger_protocol::{EncryptionContext, KeyRef, Opcode, Protection, Request, SecretBytes};
use claviger_tests::cli::{claviger, claviger_json};
use claviger_tests::keys::{LEVELS, context, decryption, encryption, new_key};
use claviger_tests::scrape::ask;
use claviger_tests::token::PIN;
use claviger_tests::{Daemon, Site, Token, each_token};
use uuid::Uuid;

const PLAINTEXT: &[u8] = b"PLAINTEXT-MARKER-7f3a";
const CONTEXT: (&str, &str) = ("CONTEXT-KEY-MARKER-51", "CONTEXT-VALUE-MARKER-93");
const ALIAS: &str = "alias/ALIAS-MARKER-62";
const DESCRIPTION: &str = "DESCRIPTION-MARKER-18";

/// What must not be found, and what it is called when it is.
struct Secret {
    name: &'static str,
    forms: Vec<Vec<u8>>,
}

impl Secret {
    fn new(name: &'static str, bytes: &[u8]) -> Self {
        assert!(bytes.len() >= 8, "{name}: too short to look for");
        let array: Vec<String> = bytes.iter().map(u8::to_string).collect();
        let mut forms = vec![bytes.to_vec(), hex::encode(bytes).into(), hex::encode_upper(bytes).into()];
        forms.extend([", ", ","].map(|between| array.join(between).into_bytes()));
        // Base64 of it wherever it stands in a longer text: without what the bytes
        // around it decide.
        for before in 0..3 {
            let shifted = [&vec![0; before][..], bytes].concat();
            let whole = base64(&shifted[..shifted.len() / 3 * 3]);
            let from = [0, 2, 3][before];
            forms.push(whole[from..].replace('+', "-").replace('/', "_").into());
            forms.push(whole[from..].into());
        }
        Self { name, forms }
    }
}

/// Base64 (RFC 4648, section 4) of whole groups of three bytes.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| char::from(ALPHABET[bits >> shift & 63]))
    };
    bytes.chunks_exact(3).flat_map(group).collect()
}

#[test]
fn every_form_of_a_secret_is_found() {
    assert_eq!(base64(b"Man is"), "TWFuIGlz");
    let secrets = [Secret::new("marker", PLAINTEXT)];
    let array = format!("{PLAINTEXT:?}");
    for before in ["", "x", "xy"] {
        let mut text = format!("{before}{}zz", String::from_utf8_lossy(PLAINTEXT)).into_bytes();
        text.resize(text.len() / 3 * 3, b'z');
        assert!(found(base64(&text).as_bytes(), &secrets).is_some(), "base64 after {before:?}");
    }
    for text in [format!("a{}b", hex::encode(PLAINTEXT)), array.clone(), array.replace(' ', "")] {
        assert!(found(text.as_bytes(), &secrets).is_some(), "{text}");
    }
    assert!(found(&PLAINTEXT[1..], &secrets).is_none());
}

fn found(text: &[u8], secrets: &[Secret]) -> Option<&'static str> {
    // As text of one character a byte: the standard library searches that fast.
    let wide = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect::<String>();
    let text = wide(text);
    let has = |form: &Vec<u8>| text.contains(&wide(form));
    secrets.iter().find(|secret| secret.forms.iter().any(has)).map(|secret| secret.name)
}

fn nowhere(text: &[u8], secrets: &[Secret], place: &str) {
    assert_eq!(found(text, secrets), None, "this secret is in {place}");
}

fn site(token: Token) -> Arc<Site> {
    let mut site = Site::bare(token);
    site.set_env("CLAVIGER_LOG", "trace");
    let metrics = site.metrics_socket();
    site.set_sections(&format!(
        "[metrics]\nlisten = \"unix:{}\"\n[log]\nformat = \"json\"\n",
        metrics.display()
    ));
    site.make_token();
    site.write_config();
    site.init_domain(&[]);
    Arc::new(site)
}

#[test]
fn no_secret_is_in_any_output_log_or_stored_file() {
    for token in each_token() {
        let site = site(token);
        let daemon = site.start();
        let mut secrets = vec![
            Secret::new("the plaintext", PLAINTEXT),
            Secret::new("the context's key", CONTEXT.0.as_bytes()),
            Secret::new("the context's value", CONTEXT.1.as_bytes()),
            Secret::new("the PIN", PIN.as_bytes()),
        ];
        for level in LEVELS {
            drive(&daemon, level, &mut secrets);
        }
        failures(&daemon);
        let mut printed = command_line(&site);
        let scraped = ask(&site.metrics_socket(), b"GET /metrics HTTP/1.1\r\n\r\n").unwrap().body;
        assert!(
            scraped.contains("operation=\"ReEncrypt\",outcome=\"InvalidCiphertext\""),
            "there is something to see"
        );
        daemon.terminate();
        // A start reads everything again; and one that the wrong PIN keeps locked says why.
        site.start().kill9();
        printed.push_str(&site.said());
        assert!(
            printed.contains("\"answered\"") && printed.contains("\"DEBUG\""),
            "there is a log to look at"
        );

        let log = std::fs::read(claviger_tests::audit::path(&site)).unwrap();
        for file in files(&site.state_dir()) {
            nowhere(&std::fs::read(&file).unwrap(), &secrets, &file.display().to_string());
        }
        // Names are kept in the store, and said nowhere.
        secrets.push(Secret::new("the alias", ALIAS.as_bytes()));
        secrets.push(Secret::new("the description", DESCRIPTION.as_bytes()));
        nowhere(printed.as_bytes(), &secrets, "what was printed");
        nowhere(scraped.as_bytes(), &secrets, "the metrics");
        nowhere(&log, &secrets, "the audit log");
    }
}

/// Every operation that carries something worth hiding, on a key of this level.
fn drive(daemon: &Daemon, level: Protection, secrets: &mut Vec<Secret>) {
    let (mut admin, mut app) = (daemon.admin(), daemon.app());
    let named = context(&[CONTEXT]);
    let alias = (level == Protection::Hsm).then(|| ALIAS.parse().unwrap());
    let description = DESCRIPTION.parse().unwrap();
    let key = admin.call(claviger_protocol::body::CreateKeyRequest { alias, description, ..new_key(level) });
    let key = KeyRef::Id(key.unwrap().key_id);
    let encrypt = EncryptRequest {
        key: key.clone(),
        plaintext: SecretBytes::new(PLAINTEXT.to_vec()),
        context: named.clone(),
    };
    let blob = app.call(encrypt.clone()).unwrap().ciphertext_blob;
    let decrypt = DecryptRequest { key: None, ciphertext_blob: blob.clone(), context: named.clone() };
    assert_eq!(app.call(decrypt.clone()).unwrap().plaintext.expose(), PLAINTEXT);
    let mut wrong = decrypt.clone();
    wrong.context = EncryptionContext::default();
    assert!(app.call(wrong).is_err());
    let again = ReEncryptRequest {
        source_key: None,
        ciphertext_blob: blob.clone(),
        source_context: named.clone(),
        destination_key: key.clone(),
        destination_context: named.clone(),
    };
    app.call(again.clone()).unwrap();
    assert!(app.call(ReEncryptRequest { source_context: EncryptionContext::default(), ..again }).is_err());
    app.call(DescribeBlobRequest { ciphertext_blob: blob }).unwrap();
    let size = DataKeySize::Bytes(32);
    let data_key = GenerateDataKeyRequest { key: key.clone(), size, context: named.clone() };
    secrets.push(Secret::new("a data key", app.call(data_key).unwrap().plaintext.expose()));
    app.call(GenerateDataKeyWithoutPlaintextRequest { key, size, context: named }).unwrap();
    secrets.push(Secret::new(
        "random bytes",
        app.call(GetRandomRequest { length: 24 }).unwrap().random.expose(),
    ));
    let items = [Request::from(encrypt), Request::from(decrypt)].map(|request| BatchItem {
        opcode: request.opcode().number(),
        body: request.encode().unwrap().into(),
    });
    app.call(BatchRequest { items: items.into() }).unwrap();
}

/// Over the limit, malformed, forbidden: what refusals say must not repeat it.
fn failures(daemon: &Daemon) {
    let mut admin = daemon.admin();
    let refusals = [
        admin.call(encryption(Uuid::nil(), &PLAINTEXT.repeat(400))).unwrap_err(),
        admin.call(encryption(Uuid::nil(), PLAINTEXT)).unwrap_err(),
        admin.call(decryption(PLAINTEXT)).unwrap_err(),
        admin.refused(Opcode::Encrypt.number(), PLAINTEXT),
        admin.refused(0x7777, PLAINTEXT),
    ];
    for refusal in refusals {
        assert!(!refusal.message.contains("MARKER"), "{}", refusal.message);
    }
}

/// The command line's messages, its results aside.
fn command_line(site: &Site) -> String {
    let context = format!("{}={}", CONTEXT.0, CONTEXT.1);
    let args = |command| ["--timeout", "60s", command, ALIAS, "--context", &context];
    let sealed = claviger(site, &args("encrypt"), PLAINTEXT);
    assert_eq!(sealed.code, 0, "{}", sealed.stderr);
    let opened = claviger(site, &["decrypt", "--context", &context], &sealed.stdout);
    assert_eq!(opened.stdout, PLAINTEXT);
    let refused = claviger(site, &["decrypt", "--context", "other=1"], &sealed.stdout);
    let refused_json = claviger_json(site, &["decrypt", "--context", &context], PLAINTEXT);
    assert!(refused.code == 1 && refused_json.code == 1);
    let nonsense = String::from_utf8_lossy(&refused_json.stdout).into_owned();
    [sealed.stderr, opened.stderr, refused.stderr, refused_json.stderr, nonsense].concat()
}

/// Every file under a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.is_file() {
            all.push(path);
        }
    }
    all
}
