//! The streams of one connection as our protocol uses them: one for control, and one for each lane
//! and direction.

use bytes::Bytes;
use quinn_proto::StreamId;
use trunkline_proto::Position;

use super::connection::{Connection, Taken};
use crate::error::{CloseCode, Fault};
use crate::frame::{FrameError, FrameReader};
use crate::id::Lane;

/// Bytes on their way into a stream that takes only so many at a time.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) id: StreamId,
    pending: Vec<Bytes>,
}

impl Outgoing {
    pub(crate) fn new(id: StreamId) -> Self {
        Self {
            id,
            pending: Vec::new(),
        }
    }

    /// Everything given so far has gone into the stream.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    pub(crate) fn write(
        &mut self,
        connection: &mut Connection,
        chunks: impl IntoIterator<Item = Bytes>,
    ) {
        self.pending
            .extend(chunks.into_iter().filter(|chunk| !chunk.is_empty()));
        self.flush(connection);
    }

    /// How many chunks the stream has not taken yet.
    pub(crate) fn backlog(&self) -> usize {
        self.pending.len()
    }

    /// Hands on what the stream takes now.
    pub(crate) fn flush(&mut self, connection: &mut Connection) {
        while !self.pending.is_empty() {
            match connection.write(self.id, &mut self.pending) {
                Taken::Chunks(count) => {
                    self.pending.drain(..count);
                }
                Taken::Nothing => return,
                // The link is about to end: nothing more gets through.
                Taken::Ended => self.pending.clear(),
            }
        }
        self.pending = Vec::new();
    }
}

/// A stream that the peer writes.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) id: StreamId,
    /// Which lane it is, and where in it the next frame is, once the first one says so.
    pub(crate) place: Option<(Lane, Position)>,
    reader: FrameReader,
    /// There may be bytes in QUIC that were not looked at.
    pub(crate) readable: bool,
}

impl Incoming {
    pub(crate) fn new(id: StreamId) -> Self {
        Self {
            id,
            place: None,
            reader: FrameReader::default(),
            readable: true,
        }
    }

    pub(crate) fn lane(&self) -> Option<Lane> {
        self.place.map(|(lane, _)| lane)
    }

    /// The next whole frame. `None`: there is none yet, and `readable` says so.
    pub(crate) fn next(
        &mut self,
        connection: &mut Connection,
        limit: usize,
    ) -> Result<Option<Bytes>, Fault> {
        loop {
            match self.reader.next(limit) {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {}
                Err(error) => return Err(frame_fault(&error)),
            }
            if !self.readable {
                return Ok(None);
            }
            match connection.read(self.id) {
                Ok(Some(chunk)) => self.reader.push(chunk),
                Ok(None) => self.readable = false,
                Err(fault) => {
                    self.readable = false;
                    return Err(fault);
                }
            }
        }
    }
}

/// A stream that ends before its link: what follows in it would be lost without a word, and a peer
/// that opens streams in its place would fill the table of them.
pub(crate) fn stream_ended(how: &str) -> Fault {
    Fault::new(
        CloseCode::PROTOCOL_VIOLATION,
        format!("a stream was {how}: streams stay open as long as their link"),
    )
}

/// Whether a fault that reading a stream gave is that the stream has ended: none of the others has that code.
pub(crate) fn is_stream_end(fault: &Fault) -> bool {
    fault.code == CloseCode::PROTOCOL_VIOLATION
}

fn frame_fault(error: &FrameError) -> Fault {
    let code = match error {
        FrameError::TooLarge { .. } => CloseCode::FRAME_TOO_LARGE,
        FrameError::BadLength => CloseCode::UNDECODABLE,
    };
    Fault::new(code, error.to_string())
}
