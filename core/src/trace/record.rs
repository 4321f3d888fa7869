//! Recording: a tap that writes down what it is told.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::time::Instant;

use super::format::{Build, End, Header, Record, Writer};
use crate::config::Config;
use crate::error::ConfigError;
use crate::node::{Node, Origin, Roles};
use crate::tap::{Call, EventMark, Signature, Tap, TransmitMark};

/// How a node is recorded, and where to.
///
/// What it writes **decrypts all that it recorded**: keep it as secret as what travels, in a file
/// that only its owner can read.
pub struct Recorder<W> {
    output: W,
    limit: u64,
}

/// Why a recorded node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The node itself does not start.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The header could not be written.
    #[error("the recording cannot be written: {0}")]
    Io(#[from] io::Error),
}

impl<W: Write + Send + 'static> Recorder<W> {
    /// A recorder that writes to `output`: once for each record, in the node's thread, so it should
    /// be something that is buffered, and must not wait. The first error ends the recording, and
    /// not the node.
    pub fn to(output: W) -> Self {
        Self {
            output,
            limit: u64::MAX,
        }
    }

    /// The recording ends before it has more bytes than that.
    pub fn limit(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// Makes a node and records it from its beginning to its end, or until [`Node::untap`].
    pub fn start(self, config: Config, roles: Roles, origin: Origin) -> Result<Node, StartError> {
        config.validate()?;
        let header = Header {
            build: Build::own(),
            config,
            wall: origin.wall,
            seed: origin.seed.clone(),
            keys: origin.keys.clone(),
            roles,
        };
        let recording = Recording {
            writer: Some(Writer::new(self.output, &header)?),
            start: origin.now,
            // Room for the record that says why it ends.
            limit: self.limit.saturating_sub(END_SIZE),
        };
        let Header { config, roles, .. } = header;
        Ok(Node::tapped(config, roles, origin, Box::new(recording))?)
    }
}

/// The bytes of a record that says why a recording ends.
const END_SIZE: u64 = 7;

struct Recording<W: Write> {
    /// `None`: the recording has ended.
    writer: Option<Writer<W>>,
    start: Instant,
    limit: u64,
}

impl<W: Write> Recording<W> {
    fn write(&mut self, record: &Record<'_>) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        match writer.write_within(self.limit, record) {
            Ok(true) => {}
            Ok(false) => {
                let size = writer.written();
                tracing::warn!(size, "the recording has reached its limit and ends");
                self.end(End::Full);
            }
            Err(error) => {
                tracing::warn!(%error, "the recording cannot be written and ends");
                self.writer = None;
            }
        }
    }

    fn end(&mut self, end: End) {
        if let Some(mut writer) = self.writer.take()
            && let Err(error) = writer
                .write(&Record::End(end))
                .and_then(|()| writer.flush())
        {
            tracing::warn!(%error, "the recording's end cannot be written");
        }
    }

    /// Nanoseconds since the node's origin; what lies 292 years from it is cut to that.
    fn at(&self, now: Instant) -> i64 {
        let nanos = |from: Instant, to: Instant| {
            i64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(i64::MAX)
        };
        match nanos(self.start, now) {
            0 => -nanos(now, self.start),
            after => after,
        }
    }
}

impl<W: Write + Send> Tap for Recording<W> {
    fn call(&mut self, now: Instant, call: Call<'_>) {
        let at = self.at(now);
        self.write(&Record::Call { at, call });
    }

    fn transmit(&mut self, now: Instant, max_segments: NonZeroUsize, mark: Option<TransmitMark>) {
        let at = self.at(now);
        self.write(&Record::Transmit {
            at,
            max_segments,
            mark,
        });
    }

    fn event(&mut self, mark: Option<EventMark<'_>>) {
        self.write(&Record::Event(mark));
    }

    fn signature(&mut self, signature: Signature) {
        self.write(&Record::Signature(signature));
    }
}

impl<W: Write> Drop for Recording<W> {
    fn drop(&mut self) {
        self.end(End::Stopped);
    }
}
