//! The bytes of a trace; TRACE.md beside this folder describes them.

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
pub(super) use reader::Answered;
pub use reader::{Ending, Reader};
pub use record::{End, Record};
pub(super) use settings::change;
pub use writer::Writer;

/// What a trace begins with. The line feed shows a transfer that changed them.
const MAGIC: [u8; 8] = *b"TLtrace\n";

/// The version of the format that this crate writes and reads.
pub const FORMAT: u16 = 1;

/// A record's checksum: the low half of its body's XXH64, with the record's number as the seed, so
/// that a record that was moved is found as well.
fn checksum(number: u64, body: &[u8]) -> u32 {
    twox_hash::XxHash64::oneshot(number, body) as u32
}

#[cfg(test)]
mod tests;
