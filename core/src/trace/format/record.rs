//! Records: what one is, and its bytes.

use std::num::NonZeroUsize;

use super::again::Outline;
use super::call::{decode_call, encode_call, kind_of};
use super::codec::{Decoder, Encoder};
use super::notes::{decode_notes, encode_notes};
use crate::id::LinkKey;
use crate::tap::{Body, BodyKey, Call, EventMark, Level, LinkNote, Signature, TransmitMark};

/// One thing that happened to a node, or that it gave out. Times are nanoseconds since the node's
/// origin, as they were given to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record<'a> {
    /// An input or a command.
    Call {
        /// When.
        at: i64,
        /// Which, and with what.
        call: Call<'a>,
    },
    /// Datagrams were asked for.
    Transmit {
        /// When.
        at: i64,
        /// How many datagrams of one size were asked for.
        max_segments: NonZeroUsize,
        /// What came; `None`: nothing.
        mark: Option<TransmitMark>,
    },
    /// Above QUIC: a datagram came. The answers that follow say for which link, if for any.
    Arrival {
        /// When.
        at: i64,
    },
    /// Above QUIC: what connections answered, and were given.
    Answers {
        /// By the poll that follows; otherwise by the call before.
        polled: bool,
        /// Link by link, in the order of things.
        notes: Vec<(LinkKey, LinkNote)>,
    },
    /// Above QUIC: datagrams were asked for.
    Asked {
        /// When.
        at: i64,
        /// Whether some came.
        sent: bool,
    },
    /// An event was asked for; `None`: there was none.
    Event(Option<EventMark<'a>>),
    /// The private key was used, by the record before this one.
    Signature(Signature),
    /// The recording ended, and says why.
    End(End),
}

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The node was dropped, or the recording was stopped.
    Stopped,
    /// The recording reached the size that it was allowed.
    Full,
}

/// The numbers of the kinds of records that are no calls; those have 1 to 31.
mod kind {
    pub(super) const LAST_CALL: u8 = 31;
    pub(super) const TRANSMIT: u8 = 32;
    pub(super) const EVENT: u8 = 33;
    pub(super) const SCHEME: u8 = 34;
    pub(super) const SIGNATURE: u8 = 35;
    pub(super) const ARRIVAL: u8 = 64;
    pub(super) const ANSWERS: u8 = 65;
    pub(super) const POLLED_ANSWERS: u8 = 66;
    pub(super) const SENT: u8 = 67;
    pub(super) const NOT_SENT: u8 = 68;
    pub(super) const AGAIN: u8 = 69;
    pub(super) const END: u8 = 127;
}

/// The names of events, by their numbers in a trace from 1: the most frequent first.
const EVENTS: [&str; 17] = [
    "Message",
    "Settled",
    "Sent",
    "Cancelled",
    "Writable",
    "Connected",
    "Disconnected",
    "Reconnecting",
    "Admission",
    "HeartbeatTimeout",
    "SessionLost",
    "Closed",
    "Undelivered",
    "SlowConsumer",
    "Dropped",
    "Draining",
    "Drained",
];

/// Numbers of no event's: there was none, and one whose name stands in the record.
const NO_EVENT: u8 = 0;
const NAMED_EVENT: u8 = 255;

impl<'a> Record<'a> {
    /// Writes the record's body. `clock` is the time of the last record that had one.
    pub(in crate::trace) fn encode(&self, level: Level, clock: &mut i64, body: &mut Vec<u8>) {
        self.encode_by(level, clock, &mut Encoder::new(body));
    }

    /// The same without what bodies and credentials hold, if there is a key. It is of one trace, and kept
    /// nowhere: a hash says which bodies of that trace are equal, and is no way to try what they may be.
    pub(in crate::trace) fn encode_redacted(
        &self,
        key: Option<&BodyKey>,
        level: Level,
        clock: &mut i64,
        body: &mut Vec<u8>,
    ) {
        self.encode_by(level, clock, &mut Encoder::new(body).redacting(key));
    }

    /// Writes a command that goes on behind the one before: see [`super::again`].
    pub(super) fn encode_again(body: Option<Body<'_>>, level: Level, out: &mut Encoder<'_>) {
        out.byte(kind::AGAIN);
        if let Some(body) = body {
            out.body(body, level);
        }
    }

    pub(super) fn encode_by(&self, level: Level, clock: &mut i64, out: &mut Encoder<'_>) {
        match self {
            Self::Call { at, call } => {
                out.byte(kind_of(call));
                moment(*at, clock, out);
                encode_call(call, level, out);
            }
            Self::Transmit {
                at,
                max_segments,
                mark,
            } => {
                out.byte(kind::TRANSMIT);
                moment(*at, clock, out);
                out.number(max_segments.get() as u64);
                out.optional(*mark, |out, mark| {
                    out.number(mark.size);
                    out.fixed(mark.digest);
                });
            }
            Self::Arrival { at } => {
                out.byte(kind::ARRIVAL);
                moment(*at, clock, out);
            }
            Self::Answers { polled, notes } => {
                out.byte(if *polled {
                    kind::POLLED_ANSWERS
                } else {
                    kind::ANSWERS
                });
                encode_notes(notes, out);
            }
            Self::Asked { at, sent } => {
                out.byte(if *sent { kind::SENT } else { kind::NOT_SENT });
                moment(*at, clock, out);
            }
            Self::Event(mark) => {
                out.byte(kind::EVENT);
                match mark {
                    None => out.byte(NO_EVENT),
                    Some(EventMark { name, digest }) => {
                        match EVENTS.iter().zip(1..).find(|(known, _)| *known == name) {
                            Some((_, number)) => out.byte(number),
                            None => {
                                out.byte(NAMED_EVENT);
                                out.text(name);
                            }
                        }
                        out.fixed(*digest);
                    }
                }
            }
            Self::Signature(Signature::Scheme(scheme)) => {
                out.byte(kind::SCHEME);
                out.optional(*scheme, |out, scheme| out.number(scheme.into()));
            }
            Self::Signature(Signature::Made { message, signature }) => {
                out.byte(kind::SIGNATURE);
                out.raw(message);
                out.optional(signature.as_deref(), Encoder::bytes);
            }
            Self::End(end) => {
                out.byte(kind::END);
                out.byte(match end {
                    End::Stopped => 0,
                    End::Full => 1,
                });
            }
        }
    }

    /// Whether it is the record of a command that goes on behind the one before.
    pub(super) fn is_again(body: &[u8]) -> bool {
        body.first() == Some(&kind::AGAIN)
    }

    /// Reads a record's body if it is a signature's.
    pub(super) fn signature(body: &[u8]) -> Option<Signature> {
        let kind = *body.first()?;
        if kind != kind::SCHEME && kind != kind::SIGNATURE {
            return None;
        }
        match Record::decode(body, Level::Wire, &mut 0)? {
            Record::Signature(signature) => Some(signature),
            _ => None,
        }
    }

    /// Whether a record's body is that of the last one.
    pub(super) fn is_end(body: &[u8]) -> bool {
        body.first() == Some(&kind::END)
    }

    /// Reads a record's body if it is one of answers, and whether they are a poll's.
    pub(super) fn answers(body: &[u8]) -> Option<(bool, Vec<(LinkKey, LinkNote)>)> {
        let kind = *body.first()?;
        if kind != kind::ANSWERS && kind != kind::POLLED_ANSWERS {
            return None;
        }
        match Record::decode(body, Level::Link, &mut 0)? {
            Record::Answers { polled, notes } => Some((polled, notes)),
            _ => None,
        }
    }

    /// Reads a record's body; `None` if it is none that this version knows.
    pub(in crate::trace) fn decode(body: &'a [u8], level: Level, clock: &mut i64) -> Option<Self> {
        let mut from = Decoder(body);
        let record = Self::decode_from(&mut from, None, level, clock)?;
        from.is_empty().then_some(record)
    }

    /// Reads the next record of a block. `before` is the outline of the command that came last in it.
    pub(super) fn decode_from(
        from: &mut Decoder<'a>,
        before: Option<Outline>,
        level: Level,
        clock: &mut i64,
    ) -> Option<Self> {
        Some(match from.byte()? {
            kind::AGAIN => Self::Call {
                at: *clock,
                call: before?.next().decode(level, from)?,
            },
            kind @ ..=kind::LAST_CALL => {
                let at = time(clock, from)?;
                let call = decode_call(kind, level, from)?;
                Self::Call { at, call }
            }
            kind::TRANSMIT => Self::Transmit {
                at: time(clock, from)?,
                max_segments: NonZeroUsize::new(from.small()?)?,
                mark: from.optional(|from| {
                    Some(TransmitMark {
                        size: from.number()?,
                        digest: from.fixed()?,
                    })
                })?,
            },
            kind::ARRIVAL => Self::Arrival {
                at: time(clock, from)?,
            },
            kind @ (kind::ANSWERS | kind::POLLED_ANSWERS) => Self::Answers {
                polled: kind == kind::POLLED_ANSWERS,
                notes: decode_notes(from)?,
            },
            kind @ (kind::SENT | kind::NOT_SENT) => Self::Asked {
                at: time(clock, from)?,
                sent: kind == kind::SENT,
            },
            kind::EVENT => Self::Event(match from.byte()? {
                NO_EVENT => None,
                number => Some(EventMark {
                    name: match number {
                        NAMED_EVENT => from.text()?,
                        known => EVENTS.get(usize::from(known) - 1)?,
                    },
                    digest: from.fixed()?,
                }),
            }),
            kind::SCHEME => Self::Signature(Signature::Scheme(from.optional(Decoder::small)?)),
            kind::SIGNATURE => Self::Signature(Signature::Made {
                message: from.array()?,
                signature: from.optional(|from| from.bytes().map(<[u8]>::to_vec))?,
            }),
            kind::END => Self::End(match from.byte()? {
                0 => End::Stopped,
                1 => End::Full,
                _ => return None,
            }),
            _ => return None,
        })
    }
}

fn time(clock: &mut i64, from: &mut Decoder<'_>) -> Option<i64> {
    *clock = clock.wrapping_add(from.signed()?);
    Some(*clock)
}

/// The time, as what has passed since the last one.
fn moment(at: i64, clock: &mut i64, out: &mut Encoder<'_>) {
    out.signed(at.wrapping_sub(*clock));
    *clock = at;
}
