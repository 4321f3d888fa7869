//! The wire of Trunkline, version 1: messages, frames and numbered codes.
//!
//! `PROTOCOL.md` beside this crate's manifest is the specification, in words that fit any
//! language; this crate is what the Rust implementation shares of it:
//!
//! - the messages of `trunkline.proto`, as prost generates them. [`Control`] and [`LaneOpen`] are
//!   used as they are; envelopes, of which there are most, have a hand-written
//!   [`EnvelopeHeader`] (to write) and [`Envelope`] (to read) beside the generated
//!   [`generated::Envelope`], and [`Position`] for what they leave out;
//! - the length prefix of frames ([`decode_frame_len`]), and lists of acks ([`AckRuns`],
//!   [`acked`]);
//! - the numbered [`CloseCode`]s and [`StatusCode`]s, each with a name and an advice;
//! - [`tag()`], and the limits that both sides agree on.
//!
//! Nothing here panics, whatever bytes it is given, or allocates more than they weigh.

mod acks;
mod body;
mod close;
mod codes;
mod debug;
mod envelope;
mod error;
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::pedantic)]
#[rustfmt::skip]
pub mod generated;
mod length;
mod limits;
mod place;
mod position;
mod reader;
mod status;
mod tag;
mod varint;

pub use acks::{ACK_NUMBERS_MAX, ACKED_MAX, AckRuns, Acked, AcksError, acked};
pub use body::{body_in_order, body_range};
pub use close::CloseCode;
pub use envelope::{
    BODY_MAX, ENVELOPE_OVERHEAD_MAX, Envelope, EnvelopeHeader, clip_reason, encode_acks_frame,
    encode_reject_frame,
};
pub use error::{DecodeError, FrameLenError};
#[doc(inline)]
pub use generated::{
    Cancel, Close, Control, Drain, Heartbeat, Hello, Kind, LaneOpen, Limits, Ready, Receipt,
    Receipts, Resume, Welcome, control,
};
pub use length::{FrameLen, PREFIX_MAX, decode_frame_len, encode_frame_len, frame_len_len};
pub use limits::*;
pub use place::{Misplaced, lane_in};
pub use position::Position;
pub use status::StatusCode;
pub use tag::tag;
