//! What a process that ends without warning has written: everything up to its latest turn.

use std::num::NonZeroUsize;
use std::time::Instant;

use bytes::Bytes;
use trunkline_core::tap::Call;
use trunkline_core::trace::{Reader, Record, Recorder};
use trunkline_core::{
    ClientRole, Config, Dial, Event, Input, Message, Node, Origin, Roles, Seed, Tag,
};
use trunkline_testkit::Certificates;

use crate::memory::Memory;

/// Asks the node for all that it has to say, in that order.
fn drain(node: &mut Node, now: Instant, events_first: bool) -> Vec<Event> {
    let mut events = Vec::new();
    for asks_for_events in [events_first, !events_first, events_first] {
        if asks_for_events {
            events.extend(std::iter::from_fn(|| node.poll_event()));
        } else {
            let mut buffer = Vec::new();
            while let Some(_sent) = node.poll_transmit(now, NonZeroUsize::MIN, &mut buffer) {}
        }
    }
    events
}

#[test]
fn what_a_client_without_a_link_was_told_is_written_with_its_turn() {
    for recorder in [Recorder::link, Recorder::wire] {
        for events_first in [true, false] {
            let roles = Roles {
                server: None,
                client: Some(ClientRole {
                    roots: Certificates::new().unwrap().roots,
                    identity: None,
                }),
            };
            let mut now = Instant::now();
            let origin = Origin {
                now,
                wall: std::time::SystemTime::UNIX_EPOCH,
                seed: Seed::new([1; 32]),
                keys: None,
            };
            let memory = Memory::default();
            let recorder = recorder(memory.clone());
            let mut node = recorder.start(Config::default(), roles, origin).unwrap();
            let dial = Dial {
                address: ([10, 0, 0, 1], 4433).into(),
                server_name: "localhost".into(),
                client: "anna".parse().unwrap(),
                credentials: Bytes::new(),
                agent: "test".into(),
            };
            let session = node.connect(now, dial).unwrap();
            // Nobody answers.
            let waits = |event: &Event| matches!(event, Event::Reconnecting { .. });
            while !drain(&mut node, now, events_first).iter().any(waits) {
                now = now.max(node.poll_timeout().unwrap());
                node.handle_input(now, Input::Timeout);
            }
            for sent in 1..4 {
                let message = Message::new(Tag::of("test.Said"), vec![1; 10]);
                node.send(now, session, message).unwrap();
                drain(&mut node, now, events_first);
                assert_eq!(sends(&memory.bytes()), sent, "{events_first}");
            }
        }
    }
}

/// How many messages were sent.
fn sends(trace: &[u8]) -> usize {
    let mut reader = Reader::new(trace).unwrap();
    let mut sends = 0;
    while let Some((_, record)) = reader.next_record().unwrap() {
        let is_send = matches!(
            record,
            Record::Call {
                call: Call::Send { .. },
                ..
            }
        );
        sends += usize::from(is_send);
    }
    sends
}
