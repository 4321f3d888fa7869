//! What links' connections answered, in words.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use trunkline_proto as wire;
use wire::control::Frame;

use crate::id::Tag;
use crate::link::heads::without_body;
use crate::tap::{LinkNote, Marked};

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
                write!(f, "read {} on stream {slot}", envelope(frame, *marked))?;
                match marked {
                    Some(marked) => write!(f, " (body {:016x})", marked.hash),
                    None => Ok(()),
                }
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

/// An envelope's kind, and what says most of it.
fn envelope(frame: &Bytes, marked: Option<Marked>) -> String {
    let (whole, length) = match marked {
        None => (Some(frame.clone()), frame.len()),
        Some(marked) => (without_body(frame, &marked), frame.len() + marked.length),
    };
    let Some(envelope) = whole.and_then(|frame| wire::Envelope::decode(frame).ok()) else {
        return format!("a frame of {length} bytes that is no envelope");
    };
    let bytes = marked.map_or(envelope.body.len(), |marked| marked.length);
    let header = envelope.header;
    let what = match header.kind {
        wire::Kind::Message => "message",
        wire::Kind::Request => "request",
        wire::Kind::Reply => "reply",
        wire::Kind::Reject => "reject",
        wire::Kind::Acks => "acks",
    };
    let mut text = what.to_owned();
    if header.promise != 0 {
        text += &format!(", promise {}", header.promise);
    }
    match (header.kind, header.tag) {
        (wire::Kind::Reject | wire::Kind::Acks, _) => {}
        (_, Some(tag)) => text += &format!(", {} with {bytes} bytes", Tag(tag)),
        (_, None) => text += &format!(", of the tag before it with {bytes} bytes"),
    }
    text
}
