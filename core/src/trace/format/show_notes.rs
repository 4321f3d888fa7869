//! What links' connections answered, in words.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use trunkline_proto as wire;
use wire::control::Frame;

use super::Record;
use crate::id::{Lane, LinkKey, Tag};
use crate::link::heads::without_body;
use crate::tap::{LinkNote, Marked};

/// Puts the records of a trace in words, one line each. An envelope leaves out its number and mostly its type, for they
/// follow from those before it in its stream; this is who remembers them, so each record has to be shown to it,
/// in order. A record by itself displays without them.
#[derive(Debug, Default)]
pub struct Lines {
    /// By link and the number of one of its peer's streams.
    streams: BTreeMap<(LinkKey, u32), Stream>,
}

/// How far a stream was read.
#[derive(Debug)]
struct Stream {
    position: wire::Position,
    /// Its numbers mean something, and are known: the trace does not begin amid it.
    is_numbered: bool,
    is_tagged: bool,
}

/// What an envelope's place in its stream says.
struct Resolved {
    number: Option<u64>,
    tag: Option<u64>,
}

impl Lines {
    /// The next record's line.
    pub fn line(&mut self, record: &Record<'_>) -> String {
        let Record::Answers { notes, .. } = record else {
            return record.to_string();
        };
        if notes.is_empty() {
            return record.to_string();
        }
        let mut line = String::new();
        let mut of = None;
        for (link, note) in notes {
            if of.is_some() {
                line.push_str("; ");
            }
            if of != Some(link) {
                line += &format!("link {:?}: ", link.0);
                of = Some(link);
            }
            line += &self.note(*link, note);
        }
        line
    }

    fn note(&mut self, link: LinkKey, note: &LinkNote) -> String {
        match note {
            LinkNote::Lane {
                slot,
                opening: true,
                frame,
                ..
            } => {
                if let Ok(open) = wire::LaneOpen::decode(frame.clone()) {
                    let stream = Stream {
                        position: wire::Position::opening(open.next),
                        is_numbered: open.lane != u32::from(Lane::BEST_EFFORT.number()),
                        is_tagged: true,
                    };
                    self.streams.insert((link, *slot), stream);
                }
            }
            LinkNote::Lane {
                slot,
                frame,
                marked,
                ..
            } => {
                let envelope = Shown::read(frame, *marked);
                let tag = envelope.as_ref().and_then(|shown| shown.header.tag);
                let resolved = self.pass((link, *slot), tag);
                return lane(*slot, frame, *marked, envelope, Some(&resolved));
            }
            LinkNote::Drained => self.streams.retain(|(of, _), _| *of != link),
            _ => {}
        }
        note.to_string()
    }

    fn pass(&mut self, stream: (LinkKey, u32), tag: Option<u64>) -> Resolved {
        let stream = self.streams.entry(stream).or_insert(Stream {
            position: wire::Position::opening(0),
            is_numbered: false,
            is_tagged: false,
        });
        stream.is_tagged |= tag.is_some();
        let (number, tag) = stream.position.pass(tag);
        Resolved {
            number: stream.is_numbered.then_some(number),
            tag: stream.is_tagged.then_some(tag),
        }
    }
}

impl fmt::Display for LinkNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Began {
                address,
                dialled: true,
            } => write!(f, "dials {address}"),
            Self::Began {
                address,
                dialled: false,
            } => write!(f, "begun by {address}"),
            Self::Came => f.write_str("got a datagram"),
            Self::Moved(address) => write!(f, "moved to {address}"),
            Self::Certificates(chain) => write!(f, "showed {} certificates", chain.len()),
            Self::Up => f.write_str("is up"),
            Self::Down(reason) => write!(f, "is down: {}", quoted(&reason.to_string())),
            Self::Fault(code, reason) => write!(f, "broke the rules ({code}): {}", quoted(reason)),
            Self::Streams(count) => write!(f, "opened {count} streams"),
            Self::Control(frame) => write!(f, "read {}", control(frame)),
            Self::Lane {
                slot,
                opening: true,
                frame,
                ..
            } => match wire::LaneOpen::decode(frame.clone()) {
                Ok(open) => write!(
                    f,
                    "read LaneOpen of lane {} from {} on stream {slot}",
                    open.lane, open.next
                ),
                Err(_) => write!(f, "read {} bytes on stream {slot}", frame.len()),
            },
            Self::Lane {
                slot,
                frame,
                marked,
                ..
            } => {
                let envelope = Shown::read(frame, *marked);
                f.write_str(&lane(*slot, frame, *marked, envelope, None))
            }
            Self::Broken { slot, code, reason } => {
                let reason = quoted(reason);
                match slot {
                    Some(slot) => write!(f, "stream {slot} broke ({code}): {reason}"),
                    None => write!(f, "the control stream broke ({code}): {reason}"),
                }
            }
            Self::Unopened(stream) => write!(f, "no stream is allowed for {stream}"),
            Self::Wrote {
                stream,
                opening,
                digest,
                left,
            } => {
                let verb = if *opening { "opened" } else { "wrote to" };
                write!(f, "{verb} {stream} ({digest:016x})")?;
                match left {
                    0 => Ok(()),
                    left => write!(f, ", of which {left} chunks wait"),
                }
            }
            Self::Flushed { stream, left } => write!(f, "{stream} took more, {left} chunks wait"),
            Self::Acknowledged => f.write_str("the peer has acknowledged"),
            Self::Due => f.write_str("QUIC was due"),
            Self::Sent => f.write_str("sent"),
            Self::Late => f.write_str("while sending"),
            Self::Rests(None) => f.write_str("rests"),
            Self::Rests(Some(nanos)) => {
                let span = Duration::from_nanos(nanos.unsigned_abs());
                let sign = if *nanos < 0 { "-" } else { "" };
                write!(f, "rests for {sign}{span:?}")
            }
            Self::Drained => f.write_str("is gone"),
            Self::Closed(code, reason) => write!(f, "closed ({code}): {}", quoted(reason)),
        }
    }
}

fn quoted(text: &str) -> String {
    text.escape_debug().to_string()
}

/// A control frame's name, and what says most of it.
fn control(frame: &Bytes) -> String {
    let Ok(control) = wire::Control::decode(frame.clone()) else {
        return format!("a control frame of {} bytes that is none", frame.len());
    };
    match control.frame {
        None => "a control frame of an unknown kind".into(),
        Some(Frame::Hello(hello)) => {
            let asks = if hello.resume.is_some() {
                ", and asks for a session again"
            } else {
                ""
            };
            format!("Hello of {:?}{asks}", hello.client_id)
        }
        Some(Frame::Welcome(welcome)) => {
            let how = if welcome.resumed { "resumed" } else { "new" };
            format!("Welcome, epoch {}, {how}", welcome.epoch)
        }
        Some(Frame::Ready(ready)) => format!("Ready, epoch {}", ready.epoch),
        Some(Frame::Heartbeat(beat)) => format!("Heartbeat {}", beat.number),
        Some(Frame::Receipts(receipts)) if receipts.receipts.is_empty() => "Receipts wanted".into(),
        Some(Frame::Receipts(receipts)) => {
            let each = receipts.receipts.iter();
            let each: Vec<String> = each
                .map(|receipt| format!("lane {} up to {}", receipt.lane, receipt.next))
                .collect();
            format!("Receipts: {}", each.join(", "))
        }
        Some(Frame::Cancel(cancel)) => format!("Cancel of promise {}", cancel.promise),
        Some(Frame::Drain(_)) => "Drain".into(),
        Some(Frame::Close(close)) => format!("Close ({}): {:?}", close.code, close.reason),
    }
}

/// What is shown of an envelope.
struct Shown {
    header: wire::EnvelopeHeader,
    /// The length of its body.
    bytes: usize,
}

impl Shown {
    /// `None`: it is no envelope.
    fn read(frame: &Bytes, marked: Option<Marked>) -> Option<Self> {
        let whole = match marked {
            None => frame.clone(),
            Some(marked) => without_body(frame, &marked)?,
        };
        let envelope = wire::Envelope::decode(whole).ok()?;
        Some(Self {
            header: envelope.header,
            bytes: marked.map_or(envelope.body.len(), |marked| marked.length),
        })
    }
}

/// A frame of a lane's stream: an envelope's kind, and what says most of it. `None` for `resolved`: nobody knows the
/// envelopes before it.
fn lane(
    slot: u32,
    frame: &Bytes,
    marked: Option<Marked>,
    envelope: Option<Shown>,
    resolved: Option<&Resolved>,
) -> String {
    let mut text = "read ".to_owned();
    match envelope {
        Some(shown) => text += &in_words(&shown, resolved),
        None => {
            let length = frame.len() + marked.map_or(0, |marked| marked.length);
            text += &format!("a frame of {length} bytes that is no envelope");
        }
    }
    text += &format!(" on stream {slot}");
    if let Some(marked) = marked {
        text += &format!(" (body {:016x})", marked.hash);
    }
    text
}

fn in_words(Shown { header, bytes }: &Shown, resolved: Option<&Resolved>) -> String {
    let what = match header.kind {
        wire::Kind::Message => "message",
        wire::Kind::Request => "request",
        wire::Kind::Reply => "reply",
        wire::Kind::Reject => "reject",
        wire::Kind::Acks => "acks",
    };
    let mut text = what.to_owned();
    match resolved.map(|resolved| resolved.number) {
        Some(Some(number)) => text += &format!(" {number}"),
        // The best-effort lane's mean nothing, and others do not follow from where the trace begins.
        Some(None) => text += " without a number",
        None => {}
    }
    if header.promise != 0 {
        text += &format!(", promise {}", header.promise);
    }
    let tag = match resolved {
        Some(resolved) => resolved.tag,
        None => header.tag,
    };
    match (header.kind, tag) {
        (wire::Kind::Reject | wire::Kind::Acks, _) => {}
        (_, Some(tag)) => text += &format!(", {} with {bytes} bytes", Tag(tag)),
        (_, None) => text += &format!(", of the tag before it with {bytes} bytes"),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Key;

    /// The bytes of one, without the length before them.
    fn message(tag: Option<u64>) -> Bytes {
        let header = wire::EnvelopeHeader {
            tag,
            promise: 3,
            ..wire::EnvelopeHeader::default()
        };
        let mut framed = bytes::BytesMut::new();
        header.encode_frame_header(2, &mut framed);
        framed.extend_from_slice(b"la");
        framed.freeze().slice(1..)
    }

    #[test]
    fn an_envelope_is_shown_with_what_those_before_it_say() {
        let link = |slot| {
            LinkKey(Key {
                slot,
                generation: 0,
            })
        };
        let note = |opening, frame| LinkNote::Lane {
            slot: 2,
            opening,
            frame,
            marked: None,
        };
        let open = |lane, next| {
            let open = wire::LaneOpen { lane, next };
            note(true, open.encode_to_vec().into())
        };
        let said = Tag::of("test.Said");
        let mut lines = Lines::default();
        let mut line = |of, notes: Vec<LinkNote>| {
            let notes = notes.into_iter().map(|note| (link(of), note)).collect();
            let line = lines.line(&Record::Answers {
                polled: true,
                notes,
            });
            let shown = line.split("; ").last().unwrap().to_owned();
            shown.replace(" on stream 2", "").replace("link 0v0: ", "")
        };
        let first = vec![open(0, 5), note(false, message(Some(said.0)))];
        let (tagged, untagged) = (message(Some(said.0)), message(None));
        assert_eq!(
            line(0, first),
            format!("read message 5, promise 3, {said} with 2 bytes")
        );
        let again = vec![note(false, untagged.clone())];
        assert_eq!(
            line(0, again.clone()),
            format!("read message 6, promise 3, {said} with 2 bytes")
        );
        // The trace begins amid another link's stream.
        let unknown = "read message without a number, promise 3, ";
        let other = line(1, again.clone());
        assert!(
            other.ends_with(&format!("{unknown}of the tag before it with 2 bytes")),
            "{other}"
        );
        let other = line(1, vec![note(false, tagged)]);
        assert!(
            other.ends_with(&format!("{unknown}{said} with 2 bytes")),
            "{other}"
        );
        let other = line(1, again.clone());
        assert!(
            other.ends_with(&format!("{unknown}{said} with 2 bytes")),
            "{other}"
        );
        // A link that is gone has nothing to do with one that is shown by its name later.
        let gone = line(0, vec![LinkNote::Drained, note(false, untagged)]);
        assert!(gone.contains("of the tag before it"), "{gone}");
        let best_effort = line(
            0,
            vec![
                open(u32::from(Lane::BEST_EFFORT.number()), 0),
                again[0].clone(),
            ],
        );
        assert!(best_effort.contains("without a number"), "{best_effort}");
    }
}
