//! What `trunkline serve` and the client commands say to each other: `trunkline_cli.proto`, and
//! the code that it generates.

#[allow(unreachable_pub, unused_qualifications, clippy::all)]
#[rustfmt::skip]
mod generated;

pub(crate) use generated::*;

/// What a text may take, so that it fits into one frame with all that comes with it.
pub(crate) const TEXT_MAX: usize = 1_000_000;
