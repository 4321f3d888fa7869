//! Lanes and streams: gaps, lanes that do not exist, and streams that come and go.

use std::time::Duration;

use trunkline_core::Event;
use trunkline_proto::CloseCode;
use trunkline_proto::generated::{Envelope, Kind};
use trunkline_testkit::raw_peer::{RawLink, RawSettings, hello, length};

use crate::siege::Siege;
use crate::table::{Fault, commit};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_stream_that_begins_above_the_next_number_is_a_gap() {
    fn begin(link: &mut RawLink, lane: u32, next: u64) {
        let stream = link.open_lane(lane, next);
        link.send_envelope(stream, &Envelope::default());
    }
    let faults = [
        Fault {
            name: "the first is not 0",
            act: |link| begin(link, 0, 1),
            code: CloseCode::SEQUENCE_GAP,
            says: "lane default went on with number 1, 0 was next",
        },
        Fault {
            name: "a lane of the application's own",
            act: |link| begin(link, 2, 3),
            code: CloseCode::SEQUENCE_GAP,
            says: "lane 2 went on with number 3, 0 was next",
        },
        Fault {
            name: "the largest number there is",
            act: |link| begin(link, 1, u64::MAX),
            code: CloseCode::SEQUENCE_GAP,
            says: "went on with number 18446744073709551615",
        },
        Fault {
            name: "among the answers",
            act: |link| {
                let lane = link.open_lane(64, 7);
                let answer = Envelope {
                    kind: Kind::Reply.into(),
                    promise: 1,
                    ..Envelope::default()
                };
                link.send_envelope(lane, &answer);
            },
            code: CloseCode::SEQUENCE_GAP,
            says: "lane answers went on with number 7",
        },
    ];
    commit(&mut Siege::new(11), &faults);
}

#[test]
fn a_lane_that_was_not_announced_does_not_exist() {
    fn open(link: &mut RawLink, lane: u32) {
        link.open_lane(lane, 0);
    }
    macro_rules! lane {
        ($number:literal, $says:literal) => {
            Fault {
                name: $says,
                act: |link| open(link, $number),
                code: CloseCode::UNKNOWN_LANE,
                says: $says,
            }
        };
    }
    let faults = [
        lane!(4, "there is no lane 4 here"),
        lane!(61, "there is no lane 61 here"),
        lane!(62, "there is no lane 62 here"),
        lane!(63, "there is no lane 63 here"),
        lane!(67, "there is no lane 67 here"),
        lane!(256, "there is no lane 256 here"),
        lane!(0xffff_ffff, "there is no lane 4294967295 here"),
        Fault {
            name: "one lane on two streams",
            act: |link| {
                open(link, 0);
                open(link, 0);
            },
            code: CloseCode::PROTOCOL_VIOLATION,
            says: "lane default was opened twice",
        },
        Fault {
            name: "the best-effort lane on two streams",
            act: |link| {
                open(link, 66);
                open(link, 66);
            },
            code: CloseCode::PROTOCOL_VIOLATION,
            says: "lane best-effort was opened twice",
        },
    ];
    commit(&mut Siege::new(13), &faults);
}

/// One stream for each lane, three for the fixed ones, and one for control: QUIC lets no more be
/// opened. Whoever fills them with nothing has that many, and no other link is short of any.
#[test]
fn no_more_streams_can_be_opened_than_there_are_lanes() {
    let mut siege = Siege::new(14);
    let peer = siege.raw(&RawSettings::default());
    siege.link(peer).hello(&hello("many", 100));
    siege.run(SECOND);
    let link = siege.link(peer);
    assert!(
        link.open_bidirectional().is_none(),
        "the control stream is the only one"
    );
    let mut streams = 0;
    while let Some(stream) = link.open_unidirectional() {
        link.send(stream, &[0x80]);
        streams += 1;
    }
    assert_eq!(streams, 4 + 3);
    siege.run(10 * SECOND);
    let link = siege.link(peer);
    assert!(link.open_unidirectional().is_none());
    assert_eq!(link.ended(), None);
    let other = siege.admitted();
    let lane = siege.link(other).open_lane(3, 0);
    siege.link(other).send_envelope(lane, &Envelope::default());
    siege.run(SECOND);
    assert_eq!(siege.link(other).ended(), None);
    siege.unharmed();
}

#[test]
fn a_stream_that_breaks_off_breaks_the_protocol() {
    let faults = [
        Fault {
            name: "a lane is reset",
            act: |link| {
                let lane = link.open_lane(0, 0);
                link.send_envelope(lane, &Envelope::default());
                link.reset(lane, 7);
            },
            code: CloseCode::PROTOCOL_VIOLATION,
            says: "a stream was reset (code 7)",
        },
        Fault {
            name: "a stream is reset before it says anything",
            act: |link| {
                let stream = link.open_unidirectional().unwrap();
                link.reset(stream, 1 << 40);
            },
            code: CloseCode::PROTOCOL_VIOLATION,
            says: "a stream was reset",
        },
        Fault {
            name: "a stream is reset inside a frame",
            act: |link| {
                let lane = link.open_lane(0, 0);
                link.send(lane, &length(1_000));
                link.reset(lane, 0);
            },
            code: CloseCode::PROTOCOL_VIOLATION,
            says: "a stream was reset",
        },
        Fault {
            name: "the control stream is reset",
            act: |link| {
                let control = link.control_stream();
                link.reset(control, 0);
            },
            code: CloseCode::PROTOCOL_VIOLATION,
            says: "a stream was reset",
        },
    ];
    commit(&mut Siege::new(15), &faults);
}

#[test]
fn a_stream_that_ends_breaks_the_protocol() {
    let faults = [
        Fault {
            name: "a lane is finished",
            act: |link| {
                let lane = link.open_lane(0, 0);
                link.send_envelope(lane, &Envelope::default());
                link.finish(lane);
            },
            code: CloseCode::PROTOCOL_VIOLATION,
            says: "finished",
        },
        Fault {
            name: "a stream is opened and finished at once",
            act: |link| {
                let stream = link.open_unidirectional().unwrap();
                link.finish(stream);
            },
            code: CloseCode::PROTOCOL_VIOLATION,
            says: "finished",
        },
        Fault {
            name: "a stream is finished inside a frame",
            act: |link| {
                let lane = link.open_lane(0, 0);
                link.send(lane, &length(1_000));
                link.finish(lane);
            },
            code: CloseCode::PROTOCOL_VIOLATION,
            says: "finished",
        },
        Fault {
            name: "the control stream is finished",
            act: |link| {
                let control = link.control_stream();
                link.finish(control);
            },
            code: CloseCode::PROTOCOL_VIOLATION,
            says: "finished",
        },
    ];
    commit(&mut Siege::new(16), &faults);
}

#[test]
fn a_peer_that_will_not_be_written_to_breaks_the_protocol() {
    let faults = [Fault {
        name: "it stops the control stream",
        act: |link| {
            let control = link.control_stream();
            link.stop(control, 0);
        },
        code: CloseCode::PROTOCOL_VIOLATION,
        says: "stopped",
    }];
    let mut siege = Siege::new(17);
    commit(&mut siege, &faults);
    // The same for a lane that the server writes.
    let peer = siege.admitted();
    let server = siege.server;
    let session = siege.world.node(server).sessions().last().unwrap().session;
    siege.world.send_acked(server, session, b"hello");
    siege.run(SECOND / 5);
    let lane = siege.link(peer).lanes()[0].1;
    siege.link(peer).stop(lane, 0);
    siege.run(SECOND / 5);
    assert!(
        siege
            .closed(peer, CloseCode::PROTOCOL_VIOLATION)
            .contains("stopped")
    );
    siege.unharmed();
}

/// A link that is over is over for its session's application too, and the session's messages are
/// kept for a while: nothing of it depends on how the link ended.
#[test]
fn a_fault_ends_the_link_and_keeps_what_came_before_it() {
    let mut siege = Siege::new(18);
    let peer = siege.admitted();
    let lane = siege.link(peer).open_lane(0, 0);
    let link = siege.link(peer);
    link.send_envelope(
        lane,
        &Envelope {
            body: "before".into(),
            ..Envelope::default()
        },
    );
    link.send_envelope(
        lane,
        &Envelope {
            kind: Kind::Reply.into(),
            body: "after".into(),
            ..Envelope::default()
        },
    );
    siege.run(SECOND);
    siege.closed(peer, CloseCode::PROTOCOL_VIOLATION);
    let bodies = siege.world.bodies(siege.server);
    assert!(bodies.iter().any(|body| body == "before"));
    assert!(!bodies.iter().any(|body| body == "after"));
    let retained = siege
        .world
        .log(siege.server)
        .iter()
        .any(|(_, event)| matches!(event, Event::Disconnected { retained: true, .. }));
    assert!(retained);
    siege.unharmed();
}
