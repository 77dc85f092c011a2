//! Tests of the records' seal: what is moved, cut or flipped is noticed.

use serde::Deserialize;
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::edge::Edge;
use crate::store::{Change, Expect, MemoryStore, Op};

#[derive(Debug, Serialize, Deserialize, PartialEq, Clone)]
struct Thing {
    name: String,
    data: Vec<u8>,
}

impl Record for Thing {
    const SCHEMA: u16 = 7;
}

/// The same shape under other schema numbers.
#[derive(Debug, Serialize, Deserialize)]
struct Numbered<const N: u16>(Thing);

impl<const N: u16> Record for Numbered<N> {
    const SCHEMA: u16 = N;
}

fn thing() -> Thing {
    Thing { name: "n".into(), data: vec![1, 2, 3] }
}

fn setup() -> (Runtime, Sealed) {
    let store = MemoryStore::new(&Edge::system(), 10).unwrap();
    (Builder::new_current_thread().build().unwrap(), Sealed::new(store, &[9; 32]))
}

fn write(runtime: &Runtime, sealed: &Sealed, key: &[u8], value: Vec<u8>) -> u64 {
    let op = Op { key: key.to_vec(), expect: Expect::Any, change: Change::Put(value) };
    runtime.block_on(sealed.store().commit(vec![op])).unwrap()
}

fn refusal<T: Record>(runtime: &Runtime, sealed: &Sealed, key: &[u8]) -> String {
    match runtime.block_on(sealed.get::<T>(key)) {
        Err(StoreError::Damaged(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened"),
    }
}

#[test]
fn a_record_comes_back_with_its_revision() {
    let (runtime, sealed) = setup();
    let value = sealed.put(b"a", &thing()).unwrap();
    let revision = write(&runtime, &sealed, b"a", value);
    assert_eq!(runtime.block_on(sealed.get(b"a")).unwrap(), Some((revision, thing())));
    assert_eq!(runtime.block_on(sealed.get::<Thing>(b"b")).unwrap(), None);
    assert_eq!(runtime.block_on(sealed.list(b"", None, 9)).unwrap(), [(b"a".to_vec(), revision, thing())]);
}

#[test]
fn every_flipped_bit_and_every_cut_is_damage() {
    let (runtime, sealed) = setup();
    let value = sealed.put(b"a", &thing()).unwrap();
    for bit in 0..value.len() * 8 {
        let mut flipped = value.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        write(&runtime, &sealed, b"a", flipped);
        assert!(refusal::<Thing>(&runtime, &sealed, b"a").contains("authenticate"), "bit {bit}");
    }
    for len in 0..value.len() {
        write(&runtime, &sealed, b"a", value[..len].to_vec());
        refusal::<Thing>(&runtime, &sealed, b"a");
    }
    let mut longer = value;
    longer.push(0);
    write(&runtime, &sealed, b"a", longer);
    refusal::<Thing>(&runtime, &sealed, b"a");
}

#[test]
fn a_record_moved_to_another_key_or_under_another_mac_key_is_damage() {
    let (runtime, sealed) = setup();
    let value = sealed.put(b"a", &thing()).unwrap();
    write(&runtime, &sealed, b"b", value.clone());
    assert!(refusal::<Thing>(&runtime, &sealed, b"b").starts_with("b (revision 1)"));
    assert!(runtime.block_on(sealed.list::<Thing>(b"", None, 9)).is_err());
    write(&runtime, &sealed, b"a", value);
    let foreign = Sealed::new(Arc::clone(sealed.store()), &[8; 32]);
    refusal::<Thing>(&runtime, &foreign, b"a");
}

/// Where key ends and content begins is under the MAC.
#[test]
fn bytes_can_not_wander_between_key_and_content() {
    let (runtime, sealed) = setup();
    let value = sealed.put(b"a", &thing()).unwrap();
    let moved_key = [b"a", &value[..1]].concat();
    write(&runtime, &sealed, &moved_key, value[1..].to_vec());
    assert!(refusal::<Thing>(&runtime, &sealed, &moved_key).contains("authenticate"));
}

#[test]
fn another_schema_says_which_is_newer() {
    let (runtime, sealed) = setup();
    let value = sealed.put(b"a", &Numbered::<8>(thing())).unwrap();
    write(&runtime, &sealed, b"a", value);
    assert!(refusal::<Thing>(&runtime, &sealed, b"a").contains("schema 8 is newer than 7"));
    assert!(refusal::<Numbered<9>>(&runtime, &sealed, b"a").contains("schema 8 is older than 9"));
}

#[test]
fn an_authentic_body_of_another_shape_is_damage() {
    let (runtime, sealed) = setup();
    let mut value = 7_u16.to_le_bytes().to_vec();
    value.extend([1, 2, 3]);
    let mac = sealed.mac(b"a", &value).unwrap();
    value.extend(mac.as_ref());
    write(&runtime, &sealed, b"a", value);
    assert!(refusal::<Thing>(&runtime, &sealed, b"a").contains("malformed"));
}

#[test]
fn a_record_is_refused_when_it_would_not_fit() {
    let (_, sealed) = setup();
    // Two lengths of eight bytes, the name, schema and MAC.
    let overhead = 16 + 1 + SCHEMA_LEN + MAC_LEN;
    let sized = |len| Thing { name: "n".into(), data: vec![0; len] };
    assert_eq!(sealed.put(b"a", &sized(MAX_VALUE_LEN - overhead)).unwrap().len(), MAX_VALUE_LEN);
    assert_eq!(sealed.put(b"a", &sized(MAX_VALUE_LEN - overhead + 1)), Err(StoreError::TooLarge));
}

/// The stored form, byte for byte: what is on users' disks must go on opening. The
/// MAC was computed with `openssl mac -digest SHA256 -macopt hexkey:0909… HMAC`.
#[test]
fn the_stored_form_does_not_change() {
    let (_, sealed) = setup();
    let value = sealed.put(b"a", &thing()).unwrap();
    let expected = concat!(
        "0700",
        "0100000000000000",
        "6e",
        "0300000000000000",
        "010203",
        "f36dce41cf1dd33912cfa769751cf33188482e5f83382f586b8df02a0e8d6c3e"
    );
    assert_eq!(hex::encode(value), expected);
}
