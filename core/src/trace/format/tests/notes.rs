//! What links note.

use std::time::Duration;

use bytes::Bytes;

use crate::error::{CloseCode, DisconnectReason};
use crate::id::Lane;
use crate::tap::{LinkNote, LinkStream, Marked};

/// One of each kind.
pub(super) fn notes() -> Vec<LinkNote> {
    let address = ([192, 0, 2, 1], 4433).into();
    let reason = || "because".to_owned();
    let frame = Bytes::from_static(b"head0000tail");
    let marked = Marked {
        start: 4,
        length: 4,
        hash: 77,
    };
    let lane = |opening, marked| LinkNote::Lane {
        slot: 2,
        opening,
        frame: frame.clone(),
        marked,
    };
    let wrote = |opening, stream| LinkNote::Wrote {
        stream,
        opening,
        digest: 5,
        left: 300,
    };
    let broken = |slot| LinkNote::Broken {
        slot,
        code: CloseCode::FLOODED,
        reason: reason(),
    };
    let stream = LinkStream::Lane(Lane::ANSWERS);
    let peer = DisconnectReason::Peer {
        code: CloseCode::NORMAL,
        reason: reason(),
        retry_after: Some(Duration::from_secs(1)),
    };
    let local = DisconnectReason::Local {
        code: CloseCode::NORMAL,
        reason: reason(),
    };
    let began = |dialled| LinkNote::Began { address, dialled };
    let mut notes = vec![
        began(true),
        began(false),
        LinkNote::Came,
        LinkNote::Moved("[2001:db8::1]:5".parse().unwrap()),
        LinkNote::Certificates(vec![vec![1, 2, 3].into(), vec![].into()]),
        LinkNote::Up,
        LinkNote::Fault(CloseCode::PROTOCOL_VIOLATION, reason()),
        LinkNote::Streams(3),
        LinkNote::Control(frame.clone()),
        lane(true, None),
        lane(false, None),
        broken(None),
        broken(Some(1)),
        LinkNote::Unopened(LinkStream::Control),
        wrote(true, LinkStream::Control),
        wrote(false, stream),
        LinkNote::Flushed { stream, left: 0 },
        LinkNote::Due,
        LinkNote::Sent,
        LinkNote::Late,
        LinkNote::Acknowledged,
        LinkNote::Rests(None),
        LinkNote::Rests(Some(i64::MIN)),
        LinkNote::Drained,
        LinkNote::Closed(CloseCode::NORMAL, reason()),
    ];
    notes.push(LinkNote::Lane {
        slot: 0,
        opening: false,
        frame: Bytes::from_static(b"headtail"),
        marked: Some(marked),
    });
    notes.extend(
        [
            peer,
            local,
            DisconnectReason::HeartbeatTimeout,
            DisconnectReason::ConnectTimeout,
            DisconnectReason::Reset,
            DisconnectReason::Transport(reason()),
            DisconnectReason::Certificate(reason()),
            DisconnectReason::NoCommonProtocol,
            DisconnectReason::CertificateExpired(reason()),
        ]
        .map(LinkNote::Down),
    );
    notes
}
