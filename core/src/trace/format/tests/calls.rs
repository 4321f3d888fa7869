//! Bytes that calls have once and for all: traces that are kept must stay readable.

use super::*;

/// What a record's bytes are on this level, and that they are read as the same record.
fn bytes_of(call: Call<'_>, level: Level) -> Vec<u8> {
    let record = Record::Call { at: 3, call };
    let mut bytes = Vec::new();
    record.encode(level, &mut 0, &mut bytes);
    assert_eq!(Record::decode(&bytes, level, &mut 0), Some(record));
    bytes
}

#[test]
fn a_broadcast_that_excepts_somebody_is_one_with_a_session_before_it() {
    let except = SessionKey(Key {
        slot: 300,
        generation: 2,
    });
    let message = Letter {
        lane: None,
        tag: Tag(0x0807_0605_0403_0201),
        body: Body::Whole(b"news"),
    };
    for (level, length) in [(Level::Wire, 4), (Level::Link, 8)] {
        let (group, key) = (Some("room"), Some(9));
        let to_all = Call::Broadcast {
            group,
            message,
            key,
        };
        let but_one = Call::BroadcastExcept {
            except,
            group,
            message,
            key,
        };
        let fields = [
            &[1, 4][..],
            b"room",
            &[0, 1, 2, 3, 4, 5, 6, 7, 8, length],
            b"news",
            &[1, 9, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(bytes_of(to_all, level), [&[15, 6][..], &fields].concat());
        let with_session = [&[25, 6, 0xac, 2, 2][..], &fields].concat();
        assert_eq!(bytes_of(but_one, level), with_session);
        // Nothing of it may be missing.
        for end in 0..with_session.len() {
            assert_eq!(Record::decode(&with_session[..end], level, &mut 0), None);
        }
    }
}

#[test]
fn a_broadcast_in_words_says_whom_it_is_for_and_whom_not() {
    let key = Key {
        slot: 3,
        generation: 1,
    };
    let message = Letter {
        lane: None,
        tag: Tag(1),
        body: Body::Whole(b"news"),
    };
    for (group, expected) in [
        (None, "broadcast to everyone except session 3v1: "),
        (Some("a\nb"), "broadcast to \"a\\nb\" except session 3v1: "),
    ] {
        let call = Call::BroadcastExcept {
            except: SessionKey(key),
            group,
            message,
            key: None,
        };
        let said = call.to_string();
        assert!(said.starts_with(expected), "{said}");
        assert_eq!(call.name(), "broadcast except");
        assert_eq!(call.payload().len(), 4);
    }
}
