//! The bytes of a trace; TRACE.md beside this folder describes them.

mod again;
mod build;
mod call;
mod codec;
mod error;
mod header;
mod notes;
mod reader;
mod record;
mod settings;
mod show;
mod show_notes;
mod writer;

pub use build::Build;
pub use error::TraceError;
pub use header::{Beginning, Draws, Header, Recorded};
pub(super) use reader::{Answered, Signed};
pub use reader::{Ending, Reader};
pub use record::{End, Record};
pub(super) use settings::change;
pub use show_notes::Lines;
pub use writer::Writer;

/// What a trace begins with. The line feed shows a transfer that changed them.
const MAGIC: [u8; 8] = *b"TLtrace\n";

/// The version of the format that this crate writes and reads.
pub const FORMAT: u16 = 3;

/// A block's checksum: the low half of its records' XXH3, with the block's number as the seed, so that
/// a block that was moved is found as well.
fn checksum(number: u64, body: &[u8]) -> u32 {
    twox_hash::XxHash3_64::oneshot_with_seed(number, body) as u32
}

/// The byte behind a block's length, by which one that was changed is told from a trace that is cut short.
fn length_check(number: u64, length: u64) -> u8 {
    // The multiplier is 2^64 over the golden ratio: each bit of both reaches the highest byte.
    ((length ^ number.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

#[cfg(test)]
mod tests;
