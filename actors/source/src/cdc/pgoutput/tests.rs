//! Each message as the documentation lays it out; and bytes that are none.
#![allow(clippy::unwrap_used)]

use ballpoint_runtime::changes::Field;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

fn bytes(parts: &[&[u8]]) -> Bytes {
    parts.concat().into()
}

/// One of each kind.
fn samples() -> Vec<Bytes> {
    let row: &[u8] = b"\0\x02t\0\0\0\x0242n";
    let relation = [
        b"R\0\0\0\x09public\0orders\0d\0\x02" as &[u8],
        b"\x01id\0\0\0\0\x14\xff\xff\xff\xff",
        b"\0note\0\0\0\0\x19\xff\xff\xff\xff",
    ];
    vec![
        bytes(&[b"B", &[0; 7], &[9], &[0; 8], &[0, 0, 0, 5]]),
        bytes(&[b"C\0", &[0; 7], &[9], &[0; 7], &[10], &[0; 8]]),
        bytes(&relation),
        bytes(&[b"I\0\0\0\x09N", row]),
        bytes(&[b"U\0\0\0\x09N", row]),
        bytes(&[b"U\0\0\0\x09K", row, b"N\0\x02t\0\0\0\x0243u"]),
        bytes(&[b"U\0\0\0\x09O", row, b"N", row]),
        bytes(&[b"D\0\0\0\x09K", row]),
        bytes(&[b"T\0\0\0\x02\0\0\0\0\x09\0\0\0\x0a"]),
        bytes(&[b"Y\0\0\0\x07public\0mood\0"]),
        bytes(&[b"O", &[0; 8], b"elsewhere\0"]),
        bytes(&[b"M\x01", &[0; 8], b"ballpoint\0\0\0\0\x02hi"]),
    ]
}

#[test]
fn each_message_is_read_as_the_documentation_lays_it_out() {
    let decoded: Vec<Message> = samples().into_iter().map(|m| decode(m).unwrap()).collect();
    assert_eq!(
        decoded[0],
        Message::Begin {
            commit_lsn: Lsn(9),
            committed_at: 0,
            xid: 5
        }
    );
    assert!(matches!(&decoded[1], Message::Commit { end: Lsn(10), .. }));
    let Message::Relation(relation) = &decoded[2] else {
        panic!("{:?}", decoded[2])
    };
    assert_eq!((relation.oid, relation.name.as_str()), (9, "orders"));
    let columns: Vec<_> = relation
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.is_key, c.type_oid))
        .collect();
    assert_eq!(columns, [("id", true, 20), ("note", false, 25)]);
    let Message::Update {
        old: Some(old),
        new,
        ..
    } = &decoded[5]
    else {
        panic!("{:?}", decoded[5])
    };
    assert!(!old.is_whole);
    let fields: Vec<_> = new.fields().collect();
    assert_eq!(fields, [Field::Text(b"43"), Field::Unchanged]);
    assert!(matches!(&decoded[6], Message::Update { old: Some(old), .. } if old.is_whole));
    assert_eq!(
        decoded[8],
        Message::Truncate {
            relations: vec![9, 10]
        }
    );
    assert!(matches!(&decoded[11], Message::Logical { content, .. } if content == "hi"));
}

#[test]
fn a_message_cut_short_or_too_long_is_an_error() {
    for sample in samples() {
        for length in 0..sample.len() {
            assert!(
                decode(sample.slice(..length)).is_err(),
                "{sample:?} cut at {length}"
            );
        }
        assert!(
            decode(bytes(&[&sample, b"x"])).is_err(),
            "{sample:?} and more"
        );
    }
}

/// Random damage to good messages, and noise: an answer or an error, never a panic or a huge allocation.
#[test]
fn damaged_messages_never_panic() {
    let mut random = StdRng::seed_from_u64(20_261_123);
    let samples = samples();
    for round in 0..200_000_usize {
        let mut message = samples[round % samples.len()].to_vec();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..message.len());
            message[at] = random.random();
        }
        message.truncate(random.random_range(0..=message.len()));
        let _ = decode(message.into());
    }
}
