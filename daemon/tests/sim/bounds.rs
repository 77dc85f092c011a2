//! Bounds that a call meets on its way: its deadline, the size of a record, the size
//! of a reply.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use claviger_protocol::body::{
    BatchItem, BatchRequest, CreateKeyRequest, DescribeBlobRequest, GetRandomRequest, ListKeysRequest,
    StatusRequest,
};
use claviger_protocol::names::{Description, Tag, Tags};
use claviger_protocol::secret::Bytes;
use claviger_protocol::{Code, Operation, Protection, Request, SecretBytes};
use serde_json::Value;
use uuid::Uuid;

use super::Sim;
use crate::{create, encrypt, list};

/// A character that takes four bytes.
const WIDE: &str = "\u{20bb7}";

fn event(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

/// Ends a create's deadline at the `moment`-th moment of its life; `None` if it was
/// answered before. What it was answered with, and what the log says in the end.
fn late_create(moment: usize, protection: Protection) -> Option<(Code, Sim, Vec<String>)> {
    let mut sim = Sim::new(moment as u64);
    let call = sim.start_within(create([1; 16], protection), 1_000);
    if (0..moment).any(|_| sim.moment(call, &[])) {
        return None;
    }
    sim.time.advance(Duration::from_secs(2));
    sim.come_to_rest();
    let code = sim.reply::<CreateKeyRequest>(call).err().unwrap_or(Code::Ok);
    assert_eq!(sim.intents(), 0, "moment {moment}");
    let listed = sim.call(list(0, vec![])).unwrap().keys;
    let counted: u64 = sim.call(StatusRequest {}).unwrap().keys.iter().map(|count| count.count).sum();
    assert_eq!(counted, listed.len() as u64, "moment {moment}");
    let mut log = sim.service.log.lines();
    let told = log.iter().filter(|line| event(line)["operation"] == "createKey").count();
    assert_eq!(told, 1, "moment {moment}: the event waits for no restart");
    sim.crash();
    log.extend(sim.service.log.lines());
    Some((code, sim, log))
}

#[test]
fn a_create_that_outlives_its_deadline_is_whole_and_tells_one_story() {
    for protection in [Protection::Hsm, Protection::Software] {
        let mut late = 0;
        for (moment, (code, mut sim, log)) in
            (0..).map_while(|moment| late_create(moment, protection)).enumerate()
        {
            late += usize::from(code == Code::DeadlineExceeded);
            let mut stories: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for event in log.iter().map(|line| event(line)) {
                let story = format!("{} {} {}", event["operation"], event["outcome"], event["resources"]);
                stories.entry(event["event_id"].to_string()).or_default().insert(story);
            }
            assert!(stories.values().all(|told| told.len() == 1), "moment {moment}: {stories:?}");
            // The key is there after the restart, and the log names it; or neither.
            let keys = sim.call(list(0, vec![])).unwrap().keys;
            let made = keys.iter().map(|key| format!("\"createKey\" \"Ok\" [\"{}\"]", key.key_id));
            let told = stories.into_values().flatten().filter(|story| story.contains("createKey"));
            let told: Vec<_> = told.collect();
            assert_eq!(told.len(), 1, "one call, one event: {told:?}");
            assert!(code != Code::Ok || !keys.is_empty());
            for made in made {
                assert_eq!(told, [made], "moment {moment}");
            }
            // And the same token gives the key, whether it was made then or is now.
            let again = sim.call(create([1; 16], protection)).unwrap().key_id;
            let found: Vec<_> =
                sim.call(list(0, vec![])).unwrap().keys.iter().map(|key| key.key_id).collect();
            assert_eq!(found, [again]);
        }
        assert!(late >= 3, "{late} of the calls were late");
    }
}

#[test]
fn a_key_whose_record_is_too_large_is_refused_before_anything_is_begun() {
    let tags = (10..30).map(|n| Tag::new(format!("{n}{}", WIDE.repeat(126)), WIDE.repeat(255)).unwrap());
    let tags = Tags::try_from(tags.collect::<Vec<_>>()).unwrap();
    for protection in [Protection::Hsm, Protection::Software] {
        let mut sim = Sim::new(5);
        let request = CreateKeyRequest { tags: tags.clone(), ..create([1; 16], protection) };
        assert_eq!(sim.call(request).unwrap_err(), Code::InvalidArgument);
        let log = sim.service.log.lines();
        assert_eq!(log.len(), 1, "{log:?}");
        assert_eq!(event(&log[0])["resources"], Value::Array(vec![]));
        assert_eq!(sim.intents(), 0);
        sim.crash();
        assert!(sim.service.log.lines().is_empty(), "a restart finds nothing to close");
        assert!(sim.call(list(0, vec![])).unwrap().keys.is_empty());
        // The token stands for nothing yet.
        assert!(sim.call(create([1; 16], protection)).is_ok());
    }
}

fn item<O: Operation>(request: O) -> BatchItem {
    let body = Into::<Request>::into(request).encode().unwrap();
    BatchItem { opcode: O::OPCODE.number(), body: SecretBytes::new(body) }
}

#[test]
fn a_batch_past_its_deadline_answers_so_for_every_later_item() {
    let mut sim = Sim::new(6);
    let key = sim.call(create([1; 16], Protection::Hsm)).unwrap().key_id;
    let ciphertext_blob = Bytes(sim.call(encrypt(key, b"x")).unwrap().ciphertext_blob.0);
    sim.crash();
    let recovered = sim.service.log.lines().len();
    let random = || item(GetRandomRequest { length: 8 });
    // The third needs neither store nor HSM: only the deadline is in its way.
    let at_once = item(DescribeBlobRequest { ciphertext_blob });
    let items = vec![random(), item(encrypt(key, b"cold")), at_once, item(encrypt(key, b"x")), random()];
    let batch = sim.start_within(BatchRequest { items }, 1_000);
    sim.until_queued(batch, "serve");
    sim.time.advance(Duration::from_millis(1_001));
    assert!(sim.answer(batch, &["serve"]));
    let results = sim.reply::<BatchRequest>(batch).unwrap().results;
    let codes: Vec<_> = results.iter().map(|result| Code::from_number(result.status).unwrap()).collect();
    let late = Code::DeadlineExceeded;
    assert_eq!(codes, [Code::Ok, late, late, late, late]);
    let log = sim.service.log.lines();
    let logged: Vec<_> = log.iter().skip(recovered).map(|line| event(line)["outcome"].clone()).collect();
    assert_eq!(logged, codes.iter().map(|code| code.name()).collect::<Vec<_>>());
    // A deadline that has passed hurts nobody else.
    assert!(sim.call(encrypt(key, b"later")).is_ok());
}

#[test]
fn a_page_of_keys_ends_where_the_reply_is_full() {
    let mut sim = Sim::new(7);
    let mut made = BTreeSet::new();
    for round in 0..25_u8 {
        let calls: Vec<_> = (0..40_u8)
            .map(|n| {
                let mut token = [0; 16];
                token[..2].copy_from_slice(&[round, n]);
                let description = Description::new(WIDE.repeat(255)).unwrap();
                sim.start(CreateKeyRequest { description, ..create(token, Protection::Software) })
            })
            .collect();
        sim.come_to_rest();
        made.extend(calls.iter().map(|id| sim.reply::<CreateKeyRequest>(*id).unwrap().key_id));
    }
    assert_eq!(made.len(), 1_000);
    let mut pages: Vec<Vec<Uuid>> = Vec::new();
    let mut page = Vec::new();
    loop {
        let reply = sim.call::<ListKeysRequest>(list(1_000, page)).unwrap();
        pages.push(reply.keys.iter().map(|key| key.key_id).collect());
        page = reply.next_page.0;
        if page.is_empty() {
            break;
        }
    }
    assert!(pages.len() > 1 && pages.iter().all(|keys| !keys.is_empty()));
    assert!(pages[0].len() > 500, "{} keys on the first page: there is room for more", pages[0].len());
    let all: Vec<_> = pages.into_iter().flatten().collect();
    assert_eq!(all.len(), 1_000, "no key twice");
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), made);
}
