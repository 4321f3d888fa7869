//! What goes above QUIC, cut down to what still shows something.

use std::time::Instant;

use bytes::Bytes;
use trunkline_core::tap::Call;
use trunkline_core::trace::{Record, ShrinkError, shrink, shrink_while};
use trunkline_core::{Message, Tag};
use trunkline_testkit::{Certificates, Recording, World, silent};

use crate::conversation::{SECOND, changed_records, conversation_at, replayed};

#[test]
fn a_trace_is_cut_down_to_what_still_differs() {
    let trace = conversation_at(Recording::Link, 8, &Certificates::new().unwrap()).remove(1);
    assert!(matches!(
        shrink(&trace[..], Instant::now()),
        Err(ShrinkError::Identical)
    ));
    // As if another build had said another thing of the first event.
    let mut events = 0;
    let other = changed_records(&trace, |_, record| {
        if let Record::Event(Some(mark)) = record {
            events += 1;
            if events == 1 {
                mark.digest ^= 1;
            }
        }
    });
    let before = replayed(&other).difference.unwrap();
    let shrunk = shrink(&other[..], Instant::now()).unwrap();
    let after = replayed(&shrunk.trace).difference.unwrap();
    let name = |text: &str| text.split(' ').take(2).collect::<Vec<_>>().join(" ");
    assert_eq!(name(&after.expected), name(&before.expected));
    assert!(
        shrunk.after < 20 && shrunk.before > 1_000,
        "{} of {}",
        shrunk.after,
        shrunk.before
    );

    let rejects = |trace: &[u8]| {
        let mut found = false;
        changed_records(trace, |_, record| {
            found |= matches!(
                record,
                Record::Call {
                    call: Call::Request { .. },
                    ..
                }
            );
        });
        found
    };
    let shrunk = shrink_while(&trace[..], rejects).unwrap();
    assert_eq!(shrunk.after, 2, "one request, and the end");
    assert!(matches!(
        shrink_while(&trace[..], |_| false),
        Err(ShrinkError::NotShown)
    ));
}

/// The second message leaves out its type, which stands in the first one: without that one, it is of another
/// type, and so its event differs as much as the third one's.
#[test]
fn a_trace_is_not_cut_down_to_what_cutting_made_differ() {
    let mut world = World::new(19);
    world.record_at(Recording::Link);
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "anna");
    world.run(SECOND, silent);
    for name in ["test.Said", "test.Said", "test.Sung"] {
        let now = world.now();
        let message = Message::new(Tag::of(name), Bytes::from_static(b"la"));
        world.node(client).send(now, session, message).unwrap();
        world.run(SECOND, silent);
    }
    world.kill(server);
    let trace = world.traces(server).pop().unwrap();
    let (mut messages, mut wrong) = (0, 0);
    let other = changed_records(&trace, |_, record| {
        if let Record::Event(Some(mark)) = record
            && mark.name == "Message"
        {
            messages += 1;
            if messages == 3 {
                wrong = mark.digest ^ 1;
                mark.digest = wrong;
            }
        }
    });
    assert_eq!(messages, 3);
    let shrunk = shrink(&other[..], Instant::now()).unwrap();
    assert!(
        shrunk.after < shrunk.before / 2,
        "{} of {}",
        shrunk.after,
        shrunk.before
    );
    let mut found = 0;
    let right = changed_records(&shrunk.trace, |_, record| {
        if let Record::Event(Some(mark)) = record
            && mark.digest == wrong
        {
            mark.digest ^= 1;
            found += 1;
        }
    });
    assert_eq!(found, 1, "what differed in the whole trace is in it");
    let report = replayed(&right);
    assert!(report.is_identical(), "{report}");
}
