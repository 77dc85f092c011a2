//! 64 clients race on the same keys: creating, naming, rotating, switching off and on,
//! deleting. What each was answered is written down with the moments of its call and its
//! answer, and must fit together: no alias is lost, each key has exactly one primary version,
//! nothing is used after the reply to its disabling, and nothing is done to a deleted key.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use claviger_client::blocking::Client;
use claviger_client::{Error, Options, client_token, new_key};
use claviger_protocol::body::{CreateKeyRequest, KeyStatesReply, ListKeyVersionsRequest};
use claviger_protocol::secret::Bytes;
use claviger_protocol::{Alias, Code, EncryptionContext, KeyRef, KeySpec, KeyState, Protection, SecretBytes};
use claviger_tests::{Daemon, PATIENCE, Site, Token, each_token, eventually};
use uuid::Uuid;

const CLIENTS: usize = 64;
/// Calls of each client.
const CALLS: usize = 24;
/// Keys, and names for them, that they race for.
const KEYS: usize = 4;
const NAMES: usize = 6;

/// What a client did to a key, where that was done.
#[derive(Debug, Clone, PartialEq)]
enum Done {
    /// Made an alias for it.
    Named(usize),
    /// Took it away.
    Unnamed(usize),
    /// Gave it this version.
    Rotated(Uuid),
    Disabled,
    Enabled,
    /// Used it.
    Used,
    /// Was refused its use: it is off.
    Refused,
}

/// It was called after the first moment and answered before the second.
#[derive(Debug, Clone)]
struct Event {
    key: Uuid,
    begun: u64,
    ended: u64,
    done: Done,
}

/// Everything that happened.
#[derive(Default)]
struct History {
    moments: AtomicU64,
    events: Mutex<Vec<Event>>,
    busy: AtomicU64,
}

impl History {
    fn moment(&self) -> u64 {
        self.moments.fetch_add(1, Ordering::SeqCst)
    }

    /// Makes a call and writes down what it did, if it did something.
    fn note<T>(
        &self,
        key: Uuid,
        call: impl FnOnce() -> Result<T, Error>,
        done: impl FnOnce(&Result<T, Code>) -> Option<Done>,
    ) {
        let begun = self.moment();
        let answer = call().map_err(|error| refused(&error));
        let ended = self.moment();
        if answer.as_ref().err() == Some(&Code::Busy) {
            self.busy.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if let Some(done) = done(&answer) {
            self.events.lock().unwrap().push(Event { key, begun, ended, done });
        }
    }
}

fn refused(error: &Error) -> Code {
    match error {
        Error::Refused { code, .. } => *code,
        other => panic!("{other}"),
    }
}

fn client(daemon: &Daemon) -> Client {
    let options = Options { timeout: PATIENCE, ..Options::default() };
    Client::connect(daemon.site().admin_socket(), options).unwrap()
}

fn alias(name: usize) -> Alias {
    Alias::new(format!("alias/raced/{name}")).unwrap()
}

fn encrypt(client: &Client, key: Uuid) -> Result<Vec<u8>, Error> {
    let plaintext = SecretBytes::new(b"x".to_vec());
    Ok(client.encrypt(KeyRef::Id(key), plaintext, EncryptionContext::default())?.ciphertext_blob.0)
}

/// The one key's own result.
fn single(reply: Result<KeyStatesReply, Error>) -> Result<bool, Error> {
    let result = reply?.results.remove(0);
    match Code::from_number(result.status).unwrap() {
        Code::Ok => Ok(result.changed),
        code => Err(Error::Refused { code, message: result.message, retry_after: None }),
    }
}

/// One call of a client, chosen by two numbers.
fn act(client: &Client, history: &History, keys: &[Uuid], (what, which): (usize, usize)) {
    let key = keys[which % keys.len()];
    let name = which % NAMES;
    let by_id = KeyRef::Id(key);
    let expected = |code: &Code, wanted: &[Code]| assert!(wanted.contains(code), "{}", code.name());
    match what % 8 {
        0 => history.note(
            key,
            || client.create_alias(alias(name), by_id),
            |answer| match answer {
                Ok(_) => Some(Done::Named(name)),
                Err(code) => {
                    expected(code, &[Code::AlreadyExists]);
                    None
                }
            },
        ),
        1 => history.note(
            key,
            || client.delete_alias(alias(name)),
            |answer| match answer {
                Ok(_) => Some(Done::Unnamed(name)),
                Err(code) => {
                    expected(code, &[Code::NotFound]);
                    None
                }
            },
        ),
        2 => history.note(
            key,
            || client.rotate_key(client_token(), by_id),
            |answer| match answer {
                Ok(made) => Some(Done::Rotated(made.key_version_id)),
                Err(code) => {
                    expected(code, &[Code::InvalidKeyState]);
                    None
                }
            },
        ),
        3 => history.note(
            key,
            || single(client.disable_keys(vec![by_id])),
            |answer| answer.as_ref().is_ok().then_some(Done::Disabled),
        ),
        4 => history.note(
            key,
            || single(client.enable_keys(vec![by_id])),
            |answer| answer.as_ref().is_ok().then_some(Done::Enabled),
        ),
        _ => history.note(
            key,
            || encrypt(client, key),
            |answer| match answer {
                Ok(_) => Some(Done::Used),
                Err(code) => {
                    expected(code, &[Code::InvalidKeyState]);
                    Some(Done::Refused)
                }
            },
        ),
    }
}

fn race(daemon: &Daemon, keys: &[Uuid]) -> History {
    let history = History::default();
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (history, client) = (&history, client(daemon));
            scope.spawn(move || {
                for call in 0..CALLS {
                    // Spread over calls, keys and names, the same in every run.
                    let dice = (number * CALLS + call).wrapping_mul(0x9e37_79b9) >> 7;
                    act(&client, history, keys, (dice, dice >> 5));
                }
            });
        }
    });
    history
}

/// An answer that a key's being on or off contradicts: a switch was answered before the call
/// began, and no switch the other way can have come between.
fn contradicted(event: &Event, events: &[Event], switched: &Done, back: &Done) -> bool {
    let of_key = |wanted: &Done| {
        events.iter().filter(|other| other.key == event.key && other.done == *wanted).collect::<Vec<_>>()
    };
    let backs = of_key(back);
    of_key(switched).into_iter().any(|switch| {
        let between = |back: &&Event| back.ended > switch.begun && back.begun < event.ended;
        switch.ended < event.begun && !backs.iter().any(between)
    })
}

fn nothing_is_used_after_the_reply_to_its_disabling(history: &History) {
    let events = history.events.lock().unwrap();
    for event in events.iter() {
        match event.done {
            Done::Used => {
                assert!(!contradicted(event, &events, &Done::Disabled, &Done::Enabled), "{event:?}");
            }
            Done::Refused => {
                assert!(!contradicted(event, &events, &Done::Enabled, &Done::Disabled), "{event:?}");
            }
            _ => {}
        }
    }
}

fn no_alias_is_lost(client: &Client, history: &History, keys: &[Uuid]) {
    let listed = client.list_aliases(1000, vec![]).unwrap().aliases;
    let there: BTreeMap<_, _> = listed.into_iter().map(|entry| (entry.alias, entry.key_id)).collect();
    let events = history.events.lock().unwrap();
    for name in 0..NAMES {
        let count = |done: &Done| events.iter().filter(|event| event.done == *done).count();
        let left =
            count(&Done::Named(name)).checked_sub(count(&Done::Unnamed(name))).expect("each name goes once");
        let here = usize::from(there.contains_key(alias(name).as_str()));
        assert_eq!(left, here, "{}", alias(name));
    }
    let mut own = BTreeMap::new();
    for key in keys {
        let shown = client.describe_key(KeyRef::Id(*key)).unwrap();
        own.extend(shown.aliases.into_iter().map(|alias| (alias, *key)));
    }
    assert_eq!(own, there, "aliases, and what keys say of theirs");
}

fn each_key_has_one_primary_version(client: &Client, history: &History, keys: &[Uuid]) {
    for key in keys {
        let mut versions = Vec::new();
        let mut page = Bytes::default();
        loop {
            let request = ListKeyVersionsRequest { key: KeyRef::Id(*key), limit: 0, page };
            let reply = client.list_key_versions(request).unwrap();
            versions.extend(reply.versions);
            page = reply.next_page;
            if page.0.is_empty() {
                break;
            }
        }
        let events = history.events.lock().unwrap();
        let rotations =
            events.iter().filter(|event| event.key == *key).filter_map(|event| match event.done {
                Done::Rotated(version) => Some(version),
                _ => None,
            });
        let made: Vec<_> = rotations.collect();
        let ids: BTreeSet<_> = versions.iter().map(|version| version.key_version_id).collect();
        assert_eq!(versions.len(), made.len() + 1, "a version for each rotation, and the first");
        assert!(made.iter().all(|version| ids.contains(version)));
        let numbers: Vec<_> = versions.iter().rev().map(|version| version.number as usize).collect();
        assert_eq!(numbers, (1..=versions.len()).collect::<Vec<_>>());
        let primaries: Vec<_> = versions
            .iter()
            .filter(|version| version.primary)
            .map(|version| version.number as usize)
            .collect();
        assert_eq!(primaries, [versions.len()], "the newest is the primary one");
    }
}

#[test]
fn sixty_four_clients_name_rotate_switch_and_use_the_same_keys() {
    for token in each_token() {
        let daemon = Site::new(token).start();
        let admin = client(&daemon);
        let level = |n| if n % 2 == 0 { Protection::Hsm } else { Protection::Software };
        let make = |n| admin.create_key(new_key(KeySpec::Aes256, level(n))).unwrap().key_id;
        let keys: Vec<_> = (0..KEYS).map(make).collect();
        let history = race(&daemon, &keys);
        println!("{} calls answered Busy", history.busy.load(Ordering::Relaxed));
        nothing_is_used_after_the_reply_to_its_disabling(&history);
        no_alias_is_lost(&admin, &history, &keys);
        each_key_has_one_primary_version(&admin, &history, &keys);
        let all = CLIENTS * CALLS;
        assert!(history.busy.into_inner() < all as u64 / 4, "most calls get through");
        daemon.terminate();
    }
}

/// What each of the clients gets for the same request.
fn all_at_once<T: Send>(
    daemon: &Daemon,
    call: impl Fn(&Client, usize) -> Result<T, Error> + Sync,
) -> Vec<Result<T, Code>> {
    let clients: Vec<_> = (0..CLIENTS).map(|_| client(daemon)).collect();
    thread::scope(|scope| {
        let call = &call;
        let calls: Vec<_> = clients
            .iter()
            .enumerate()
            .map(|(number, client)| {
                scope.spawn(move || call(client, number).map_err(|error| refused(&error)))
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    })
}

#[test]
fn of_sixty_four_creates_with_one_name_one_wins_and_with_one_token_all_do() {
    for token in each_token() {
        let daemon = Site::new(token).start();
        let admin = client(&daemon);
        for level in [Protection::Hsm, Protection::Software] {
            let before = admin.status().unwrap().keys.iter().map(|count| count.count).sum::<u64>();
            let wanted = alias(usize::from(level == Protection::Hsm));
            let named = |client: &Client, _| {
                client.create_key(CreateKeyRequest {
                    alias: Some(wanted.clone()),
                    ..new_key(KeySpec::Aes256, level)
                })
            };
            let made = all_at_once(&daemon, named);
            let winners: Vec<_> = made.iter().flatten().collect();
            assert_eq!(winners.len(), 1);
            assert!(
                made.iter().filter_map(|made| made.as_ref().err()).all(|code| *code == Code::AlreadyExists)
            );
            assert_eq!(admin.describe_key((&wanted).into()).unwrap().key_id, winners[0].key_id);
            let same = new_key(KeySpec::Aes256, level);
            let made = all_at_once(&daemon, |client, _| client.create_key(same.clone()));
            let ids: BTreeSet<_> = made.into_iter().map(|made| made.unwrap().key_id).collect();
            assert_eq!(ids.len(), 1);
            let after = admin.status().unwrap().keys.iter().map(|count| count.count).sum::<u64>();
            assert_eq!(after, before + 2);
        }
        daemon.terminate();
    }
}

#[test]
fn nothing_is_done_to_a_key_after_it_was_deleted() {
    // Only `--dev` deletes at once.
    let daemon = Site::new(Token::Embedded).start();
    let admin = client(&daemon);
    let key = admin.create_key(new_key(KeySpec::Aes256, Protection::Hsm)).unwrap().key_id;
    let blob = encrypt(&admin, key).unwrap();
    let name = |number| Alias::new(format!("alias/doomed/{number}")).unwrap();
    let deleted = all_at_once(&daemon, |client, number| {
        // Each does its own thing until the key is gone, and once more then.
        let (mut gone, mut calls) = (false, number..);
        eventually("the key is deleted", || {
            let call = calls.next().unwrap();
            let answer = match call % 4 {
                0 => client.create_alias(name(number * 1000 + call), KeyRef::Id(key)).map(drop),
                1 => client.rotate_key(client_token(), KeyRef::Id(key)).map(drop),
                2 => encrypt(client, key).map(drop),
                _ => single(client.disable_keys(vec![KeyRef::Id(key)])).map(drop),
            };
            assert!(!gone || answer.is_err(), "a deleted key was changed, or used");
            if let Err(error) = answer {
                let expected = [Code::InvalidKeyState, Code::Busy, Code::LimitExceeded];
                assert!(expected.contains(&refused(&error)), "{error}");
            }
            if gone {
                return Some(());
            }
            let _ = client.schedule_key_deletion(vec![KeyRef::Id(key)], Some(0), true).unwrap();
            gone = client.describe_key(KeyRef::Id(key)).unwrap().state == KeyState::Deleted;
            None
        });
        Ok(())
    });
    assert!(deleted.iter().all(Result::is_ok));
    let shown = admin.describe_key(KeyRef::Id(key)).unwrap();
    assert_eq!((shown.state, shown.aliases.len()), (KeyState::Deleted, 0));
    assert!(admin.list_aliases(0, vec![]).unwrap().aliases.is_empty());
    eventually("its versions are gone", || {
        let request = ListKeyVersionsRequest { key: KeyRef::Id(key), limit: 0, page: Bytes::default() };
        admin.list_key_versions(request).unwrap().versions.is_empty().then_some(())
    });
    let opened = admin.decrypt(None, blob, EncryptionContext::default());
    assert_eq!(refused(&opened.unwrap_err()), Code::InvalidKeyState);
    daemon.terminate();
}
