//! The bytes of what links' connections answered, link by link.

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
    let marked = match out.key_of_bodies() {
        Some(key) if !opening => redacted(frame, marked, key),
        _ => marked,
    };
    let parts = marked.and_then(|marked| {
        let head = frame.get(..marked.start)?;
        let tail = frame.get(marked.start.checked_add(marked.length)?..)?;
        Some((marked, head, tail))
    });
    match parts {
        Some((marked, head, tail)) => {
            out.byte(kind::MARKED);
            out.number(slot.into());
            out.bytes(head);
            out.number(marked.length as u64);
            out.fixed(marked.hash);
            out.bytes(tail);
        }
        None => {
            out.byte(if opening { kind::OPENING } else { kind::LANE });
            out.number(slot.into());
            out.bytes(frame);
        }
    }
}

/// What stands for the body of that frame, if it has one: what does already gets another hash, if it
/// is where the trace says that it is.
fn redacted(frame: &Bytes, marked: Option<Marked>, key: &BodyKey) -> Option<Marked> {
    let range = trunkline_proto::body_range(frame);
    let is_there = |known: &Marked| {
        let place = (known.start, known.length);
        range.as_ref().is_none_or(|r| place == (r.start, r.len()))
    };
    if let Some(known) = marked.filter(is_there) {
        let hash = key.hash(&known.hash.to_le_bytes());
        return Some(Marked { hash, ..known });
    }
    let range = range?;
    let body = frame.get(range.clone())?;
    Some(Marked {
        start: range.start,
        length: body.len(),
        hash: key.hash(body),
    })
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
    }
}

/// Reads notes up to the record's end.
pub(super) fn decode_notes(from: &mut Decoder<'_>) -> Option<Vec<(LinkKey, LinkNote)>> {
    let mut of = None;
    let mut notes = Vec::new();
    let mut placeholders = 0;
    loop {
        match from.byte()? {
            kind::END => {
                // Only now: what a record merely announces, and then breaks off, takes no memory.
                notes.iter_mut().for_each(|(_, note)| make_up_body(note));
                return Some(notes);
            }
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

/// Bytes that one record may have its reader make up for bodies that were not kept: those of the 256
/// frames of 1 MiB that one visit of a link reads at most.
const PLACEHOLDERS_MAX: usize = 1 << 28;

/// Puts zeros where the body stood that is not kept.
fn make_up_body(note: &mut LinkNote) {
    let LinkNote::Lane {
        frame,
        marked: Some(marked),
        ..
    } = note
    else {
        return;
    };
    let (head, tail) = frame.split_at(marked.start);
    let mut whole = Vec::with_capacity(frame.len() + marked.length);
    whole.extend_from_slice(head);
    whole.resize(head.len() + marked.length, 0);
    whole.extend_from_slice(tail);
    *frame = whole.into();
}

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
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_taken_out_wherever_a_trace_says_that_it_was() {
        let header = trunkline_proto::EnvelopeHeader::default();
        let mut framed = bytes::BytesMut::new();
        header.encode_frame_header(6, &mut framed);
        framed.extend_from_slice(b"secret");
        let frame = framed.freeze().slice(1..);
        let body = trunkline_proto::body_range(&frame).unwrap();
        let key = BodyKey::new([7; 32]);
        for start in [0, body.start, body.end] {
            let (length, hash) = (body.len(), 5);
            let marked = Some(Marked {
                start,
                length,
                hash,
            });
            let expected = match start == body.start {
                true => key.hash(&5_u64.to_le_bytes()),
                false => key.hash(b"secret"),
            };
            let expected = Some(Marked {
                start: body.start,
                length,
                hash: expected,
            });
            assert_eq!(redacted(&frame, marked, &key), expected);
        }
    }
}
