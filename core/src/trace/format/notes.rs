//! The bytes of what links' connections answered, link by link.

use std::ops::Range;

use bytes::Bytes;
use rustls_pki_types::CertificateDer;

use super::codec::{Decoder, Encoder};
use crate::error::{CloseCode, DisconnectReason};
use crate::id::LinkKey;
use crate::link::heads;
use crate::tap::{BodyKey, LinkNote, LinkStream, Marked, PEER_STREAMS_MAX};

/// The numbers of the kinds of notes.
mod kind {
    /// No note: what follows is of that link.
    pub(super) const LINK: u8 = 0;
    pub(super) const DIALLED: u8 = 1;
    pub(super) const ACCEPTED: u8 = 2;
    pub(super) const CAME: u8 = 3;
    pub(super) const MOVED: u8 = 4;
    pub(super) const CERTIFICATES: u8 = 5;
    pub(super) const UP: u8 = 6;
    pub(super) const DOWN: u8 = 7;
    pub(super) const FAULT: u8 = 8;
    pub(super) const STREAMS: u8 = 9;
    pub(super) const CONTROL: u8 = 10;
    pub(super) const OPENING: u8 = 11;
    pub(super) const LANE: u8 = 12;
    pub(super) const MARKED: u8 = 13;
    pub(super) const BROKEN: u8 = 14;
    pub(super) const UNOPENED: u8 = 15;
    pub(super) const WROTE: u8 = 16;
    pub(super) const WROTE_FIRST: u8 = 17;
    pub(super) const FLUSHED: u8 = 18;
    pub(super) const DUE: u8 = 19;
    pub(super) const SENT: u8 = 20;
    pub(super) const LATE: u8 = 21;
    pub(super) const RESTS: u8 = 22;
    pub(super) const DRAINED: u8 = 23;
    pub(super) const CLOSED: u8 = 24;
    /// No note: what follows is the next record.
    pub(super) const END: u8 = 25;
    pub(super) const ACKNOWLEDGED: u8 = 26;
}

/// The numbers of reasons why a connection is over.
mod reason {
    pub(super) const LOCAL: u8 = 0;
    pub(super) const PEER: u8 = 1;
    pub(super) const HEARTBEAT: u8 = 2;
    pub(super) const TIMEOUT: u8 = 3;
    pub(super) const RESET: u8 = 4;
    pub(super) const TRANSPORT: u8 = 5;
    pub(super) const CERTIFICATE: u8 = 6;
    pub(super) const PROTOCOL: u8 = 7;
    pub(super) const EXPIRED: u8 = 8;
}

/// Writes notes, and that they end.
pub(super) fn encode_notes(notes: &[(LinkKey, LinkNote)], out: &mut Encoder<'_>) {
    let mut of = None;
    for (link, note) in notes {
        if of != Some(link) {
            out.byte(kind::LINK);
            out.link(*link);
            of = Some(link);
        }
        encode_note(note, out);
    }
    out.byte(kind::END);
}

fn encode_note(note: &LinkNote, out: &mut Encoder<'_>) {
    match note {
        LinkNote::Began { address, dialled } => {
            out.byte(if *dialled {
                kind::DIALLED
            } else {
                kind::ACCEPTED
            });
            out.address(*address);
        }
        LinkNote::Came => out.byte(kind::CAME),
        LinkNote::Moved(address) => {
            out.byte(kind::MOVED);
            out.address(*address);
        }
        LinkNote::Certificates(chain) => {
            out.byte(kind::CERTIFICATES);
            out.number(chain.len() as u64);
            for certificate in chain {
                out.bytes(certificate);
            }
        }
        LinkNote::Up => out.byte(kind::UP),
        LinkNote::Acknowledged => out.byte(kind::ACKNOWLEDGED),
        LinkNote::Down(why) => {
            out.byte(kind::DOWN);
            encode_reason(why, out);
        }
        LinkNote::Fault(code, reason) => {
            out.byte(kind::FAULT);
            fault(*code, reason, out);
        }
        LinkNote::Streams(count) => {
            out.byte(kind::STREAMS);
            out.number((*count).into());
        }
        LinkNote::Control(frame) => {
            out.byte(kind::CONTROL);
            match out.key_of_bodies() {
                None => out.bytes(frame),
                Some(_) => out.bytes(&heads::without_credentials(frame)),
            }
        }
        LinkNote::Lane {
            slot,
            opening,
            frame,
            marked,
        } => encode_lane(*slot, *opening, frame, *marked, out),
        LinkNote::Broken { slot, code, reason } => {
            out.byte(kind::BROKEN);
            out.optional(*slot, |out, slot| out.number(slot.into()));
            fault(*code, reason, out);
        }
        LinkNote::Unopened(stream) => {
            out.byte(kind::UNOPENED);
            encode_stream(*stream, out);
        }
        LinkNote::Wrote {
            stream,
            opening,
            digest,
            left,
        } => {
            out.byte(if *opening {
                kind::WROTE_FIRST
            } else {
                kind::WROTE
            });
            encode_stream(*stream, out);
            out.fixed(*digest);
            out.number((*left).into());
        }
        LinkNote::Flushed { stream, left } => {
            out.byte(kind::FLUSHED);
            encode_stream(*stream, out);
            out.number((*left).into());
        }
        LinkNote::Due => out.byte(kind::DUE),
        LinkNote::Sent => out.byte(kind::SENT),
        LinkNote::Late => out.byte(kind::LATE),
        LinkNote::Rests(deadline) => {
            out.byte(kind::RESTS);
            out.optional(*deadline, Encoder::signed);
        }
        LinkNote::Drained => out.byte(kind::DRAINED),
        LinkNote::Closed(code, reason) => {
            out.byte(kind::CLOSED);
            fault(*code, reason, out);
        }
    }
}

fn encode_lane(
    slot: u32,
    opening: bool,
    frame: &Bytes,
    marked: Option<Marked>,
    out: &mut Encoder<'_>,
) {
    match (marked, out.key_of_bodies()) {
        (None, None) => encode_whole(slot, opening, frame, out),
        (None, Some(_)) if opening => {
            encode_whole(slot, opening, &heads::without_unknown_fields(frame), out);
        }
        (None, Some(key)) => {
            let frame = heads::in_order(frame);
            match trunkline_proto::body_range(&frame) {
                None => encode_whole(slot, opening, &frame, out),
                Some(body) => encode_taken_out(slot, &frame, body, key, out),
            }
        }
        (Some(marked), None) => encode_bodiless(slot, marked, marked.around(frame), out),
        (Some(marked), Some(key)) => match body_elsewhere(frame, &marked) {
            None => {
                let hash = key.hash(&marked.hash.to_le_bytes());
                let marked = Marked { hash, ..marked };
                encode_bodiless(slot, marked, marked.around(frame), out);
            }
            Some((whole, body)) => encode_taken_out(slot, &whole, body, key, out),
        },
    }
}

fn encode_whole(slot: u32, opening: bool, frame: &[u8], out: &mut Encoder<'_>) {
    out.byte(if opening { kind::OPENING } else { kind::LANE });
    out.number(slot.into());
    out.bytes(frame);
}

fn encode_taken_out(
    slot: u32,
    whole: &[u8],
    body: Range<usize>,
    key: &BodyKey,
    out: &mut Encoder<'_>,
) {
    let (head, rest) = whole.split_at(body.start);
    let (bytes, tail) = rest.split_at(body.len());
    let marked = Marked {
        start: body.start,
        length: body.len(),
        hash: key.hash(bytes),
    };
    encode_bodiless(slot, marked, (head, tail), out);
}

fn encode_bodiless(slot: u32, marked: Marked, (head, tail): (&[u8], &[u8]), out: &mut Encoder<'_>) {
    out.byte(kind::MARKED);
    out.number(slot.into());
    out.bytes(head);
    out.number(marked.length as u64);
    out.fixed(marked.hash);
    out.bytes(tail);
}

/// The whole frame and its body's place, if that is not where a trace says that the body was.
fn body_elsewhere(kept: &Bytes, marked: &Marked) -> Option<(Bytes, Range<usize>)> {
    // Nearly always it is the last of a frame that is in order without it.
    let is_last = marked.start == kept.len();
    let in_order = |frame: Bytes| {
        let body = trunkline_proto::body_in_order(&frame);
        body.is_some_and(|body| body.is_empty())
    };
    if is_last && heads::without_body(kept, marked).is_some_and(in_order) {
        return None;
    }
    let whole = marked.made_up(kept);
    let place = marked.start..marked.start.saturating_add(marked.length);
    let body = trunkline_proto::body_range(&whole)?;
    (body != place).then_some((whole, body))
}

fn fault(code: CloseCode, reason: &str, out: &mut Encoder<'_>) {
    out.number(code.0.into());
    out.text(reason);
}

fn encode_stream(stream: LinkStream, out: &mut Encoder<'_>) {
    let lane = match stream {
        LinkStream::Control => None,
        LinkStream::Lane(lane) => Some(lane),
    };
    out.optional(lane, Encoder::lane);
}

fn encode_reason(why: &DisconnectReason, out: &mut Encoder<'_>) {
    match why {
        DisconnectReason::Local { code, reason } => {
            out.byte(reason::LOCAL);
            fault(*code, reason, out);
        }
        DisconnectReason::Peer {
            code,
            reason,
            retry_after,
        } => {
            out.byte(reason::PEER);
            fault(*code, reason, out);
            out.optional(*retry_after, Encoder::span);
        }
        DisconnectReason::HeartbeatTimeout => out.byte(reason::HEARTBEAT),
        DisconnectReason::ConnectTimeout => out.byte(reason::TIMEOUT),
        DisconnectReason::Reset => out.byte(reason::RESET),
        DisconnectReason::Transport(why) => {
            out.byte(reason::TRANSPORT);
            out.text(why);
        }
        DisconnectReason::Certificate(why) => {
            out.byte(reason::CERTIFICATE);
            out.text(why);
        }
        DisconnectReason::NoCommonProtocol => out.byte(reason::PROTOCOL),
        DisconnectReason::CertificateExpired(why) => {
            out.byte(reason::EXPIRED);
            out.text(why);
        }
    }
}

/// Reads notes up to the record's end.
pub(super) fn decode_notes(from: &mut Decoder<'_>) -> Option<Vec<(LinkKey, LinkNote)>> {
    let mut of = None;
    let mut notes = Vec::new();
    let mut placeholders = 0;
    loop {
        match from.byte()? {
            kind::END => return Some(notes),
            kind::LINK => of = Some(from.link()?),
            kind => {
                let note = decode_note(kind, from)?;
                if let LinkNote::Lane {
                    marked: Some(marked),
                    ..
                } = &note
                {
                    placeholders += marked.length;
                    if placeholders > PLACEHOLDERS_MAX {
                        return None;
                    }
                }
                notes.push((of?, note));
            }
        }
    }
}

/// Bytes that a replay may have to make up for bodies of one record that were not kept: those of the 256
/// frames of 1 MiB that one visit of a link reads at most.
const PLACEHOLDERS_MAX: usize = 1 << 28;

fn decode_note(kind: u8, from: &mut Decoder<'_>) -> Option<LinkNote> {
    Some(match kind {
        kind::DIALLED | kind::ACCEPTED => LinkNote::Began {
            address: from.address()?,
            dialled: kind == kind::DIALLED,
        },
        kind::CAME => LinkNote::Came,
        kind::MOVED => LinkNote::Moved(from.address()?),
        kind::CERTIFICATES => {
            let count = from.number()?;
            let mut chain = Vec::new();
            for _ in 0..count {
                chain.push(CertificateDer::from(from.bytes()?.to_vec()));
            }
            LinkNote::Certificates(chain)
        }
        kind::UP => LinkNote::Up,
        kind::DOWN => LinkNote::Down(decode_reason(from)?),
        kind::FAULT => LinkNote::Fault(CloseCode(from.small()?), from.text()?.to_owned()),
        kind::STREAMS => {
            LinkNote::Streams(from.small().filter(|count| *count <= PEER_STREAMS_MAX)?)
        }
        kind::CONTROL => LinkNote::Control(Bytes::copy_from_slice(from.bytes()?)),
        kind::OPENING | kind::LANE => LinkNote::Lane {
            slot: slot(from)?,
            opening: kind == kind::OPENING,
            frame: Bytes::copy_from_slice(from.bytes()?),
            marked: None,
        },
        kind::MARKED => {
            let slot = slot(from)?;
            let head = from.bytes()?;
            let length: usize = from.small()?;
            let hash = from.fixed()?;
            let tail = from.bytes()?;
            if length > trunkline_proto::FRAME_MAX {
                return None;
            }
            LinkNote::Lane {
                slot,
                opening: false,
                frame: [head, tail].concat().into(),
                marked: Some(Marked {
                    start: head.len(),
                    length,
                    hash,
                }),
            }
        }
        kind::BROKEN => LinkNote::Broken {
            slot: from.optional(slot)?,
            code: CloseCode(from.small()?),
            reason: from.text()?.to_owned(),
        },
        kind::UNOPENED => LinkNote::Unopened(decode_stream(from)?),
        kind::WROTE | kind::WROTE_FIRST => LinkNote::Wrote {
            stream: decode_stream(from)?,
            opening: kind == kind::WROTE_FIRST,
            digest: from.fixed()?,
            left: from.small()?,
        },
        kind::FLUSHED => LinkNote::Flushed {
            stream: decode_stream(from)?,
            left: from.small()?,
        },
        kind::ACKNOWLEDGED => LinkNote::Acknowledged,
        kind::DUE => LinkNote::Due,
        kind::SENT => LinkNote::Sent,
        kind::LATE => LinkNote::Late,
        kind::RESTS => LinkNote::Rests(from.optional(Decoder::signed)?),
        kind::DRAINED => LinkNote::Drained,
        kind::CLOSED => LinkNote::Closed(CloseCode(from.small()?), from.text()?.to_owned()),
        _ => return None,
    })
}

fn slot(from: &mut Decoder<'_>) -> Option<u32> {
    from.small().filter(|slot| *slot < PEER_STREAMS_MAX)
}

fn decode_stream(from: &mut Decoder<'_>) -> Option<LinkStream> {
    let lane = from.optional(Decoder::lane)?;
    Some(lane.map_or(LinkStream::Control, LinkStream::Lane))
}

fn decode_reason(from: &mut Decoder<'_>) -> Option<DisconnectReason> {
    Some(match from.byte()? {
        reason::LOCAL => DisconnectReason::Local {
            code: CloseCode(from.small()?),
            reason: from.text()?.to_owned(),
        },
        reason::PEER => DisconnectReason::Peer {
            code: CloseCode(from.small()?),
            reason: from.text()?.to_owned(),
            retry_after: from.optional(Decoder::span)?,
        },
        reason::HEARTBEAT => DisconnectReason::HeartbeatTimeout,
        reason::TIMEOUT => DisconnectReason::ConnectTimeout,
        reason::RESET => DisconnectReason::Reset,
        reason::TRANSPORT => DisconnectReason::Transport(from.text()?.to_owned()),
        reason::CERTIFICATE => DisconnectReason::Certificate(from.text()?.to_owned()),
        reason::PROTOCOL => DisconnectReason::NoCommonProtocol,
        reason::EXPIRED => DisconnectReason::CertificateExpired(from.text()?.to_owned()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `TRACE.md` is what readers in other languages are written from.
    #[test]
    fn the_page_has_all_reasons_why_a_connection_is_over() {
        let mut rows = include_str!("../TRACE.md").lines();
        let row = rows.find(|row| row.contains("| the connection is over |"));
        let (_, reasons) = row.unwrap().split_once("reason: ").unwrap();
        let described = reasons
            .split([' ', ','])
            .filter_map(|word| word.parse().ok());
        let described: Vec<u8> = described.collect();
        let is_read = |number: &u8| decode_reason(&mut Decoder(&[*number, 0, 0, 0])).is_some();
        let read: Vec<u8> = (0..=u8::MAX).filter(is_read).collect();
        assert_eq!(described, read);
    }

    #[test]
    fn a_body_is_taken_out_wherever_a_trace_says_that_it_was() {
        let header = trunkline_proto::EnvelopeHeader::default();
        let mut framed = bytes::BytesMut::new();
        header.encode_frame_header(6, &mut framed);
        framed.extend_from_slice(b"secret");
        let frame = framed.freeze().slice(1..);
        let body = trunkline_proto::body_range(&frame).unwrap();
        let key = BodyKey::new([7; 32]);
        // What stands in the trace says where the body was: where it was, or elsewhere, before a frame
        // that has its body still.
        let bodiless = Bytes::copy_from_slice(&frame[..body.start]);
        let known = |start, length| {
            Some(Marked {
                start,
                length,
                hash: 5,
            })
        };
        let expected = |start, hash| Marked {
            start,
            length: body.len(),
            hash,
        };
        let of = |frame: &Bytes, marked| {
            let mut bytes = Vec::new();
            let mut out = Encoder::new(&mut bytes).redacting(Some(&key));
            encode_lane(0, false, frame, marked, &mut out);
            let (kind, rest) = bytes.split_first().unwrap();
            let Some(LinkNote::Lane {
                marked: Some(marked),
                frame,
                ..
            }) = decode_note(*kind, &mut Decoder(rest))
            else {
                panic!("its body is in it");
            };
            (marked, frame)
        };
        let whole = expected(body.start, key.hash(b"secret"));
        assert_eq!(of(&frame, None), (whole, bodiless.clone()));
        let again = expected(body.start, key.hash(&5_u64.to_le_bytes()));
        let there = known(body.start, body.len());
        assert_eq!(of(&bodiless, there), (again, bodiless.clone()));
        assert_eq!(of(&frame, known(0, 0)), (whole, bodiless.clone()));
        assert_eq!(of(&frame, known(body.end, 0)), (whole, bodiless));
    }
}
