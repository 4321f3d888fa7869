//! What Trunkline's own fuzz targets see of the core beside its public face. It exists with the
//! feature `fuzzing` alone.

use bytes::Bytes;

use crate::frame::{FrameError, FrameReader};

pub use crate::quic::{ForeignCrypto, use_foreign_crypto};

/// The reader that cuts streams into frames.
#[derive(Debug, Default)]
pub struct Frames(FrameReader);

impl Frames {
    /// Adds what arrived next.
    pub fn push(&mut self, chunk: Bytes) {
        self.0.push(chunk);
    }

    /// The next frame if it has arrived whole, of at most so many bytes; or the length that was
    /// announced instead, `None` for one that does not end.
    pub fn next(&mut self, limit: usize) -> Result<Option<Bytes>, Option<usize>> {
        self.0.next(limit).map_err(|error| match error {
            FrameError::TooLarge { size, .. } => Some(size),
            FrameError::BadLength => None,
        })
    }
}
