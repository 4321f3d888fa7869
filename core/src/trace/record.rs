//! Recording: a tap that writes down what it is told.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use super::format::{Beginning, Build, Draws, End, Header, Record, Recorded, Writer};
use super::ring::{Outputs, Ring, Saver};
use crate::config::Config;
use crate::error::ConfigError;
use crate::id::LinkKey;
use crate::logged::logged;
use crate::node::{Node, Origin, RANDOM, Roles, ScriptedRoles};
use crate::seed::DrawKey;
use crate::tap::{BodyKey, Call, EventMark, Level, LinkNote, Signature, Tap, TransmitMark};

/// How a node is recorded, and where to: what goes above QUIC ([`link`](Self::link), or [`last`](Self::last) for the last seconds
/// alone), or every datagram ([`wire`](Self::wire)), which **decrypts all that it recorded**.
pub struct Recorder<W> {
    outputs: Outputs<W>,
    limit: u64,
    level: Level,
    bodies: bool,
    ring: Option<(Duration, Saver)>,
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
    /// Records what comes and goes above QUIC, and no datagrams. Nothing can be decrypted by it; of
    /// bodies and credentials, lengths are kept, and of bodies keyed hashes. It does hold who
    /// talked with whom, groups and reasons, and **tokens of sessions**: those that were read, and what
    /// the node draws all of its own from, also those of sessions that begin later. A replay needs
    /// them, and [`super::redact`] leaves them. Only its owner should read it; hand it on once the
    /// node has ended and its sessions' retention is over.
    ///
    /// It is written to `output`, in the node's thread, so it must not wait: when the node
    /// has nothing more to say for now, and in between where there is much. The first error ends the
    /// recording, and not the node.
    pub fn link(output: W) -> Self {
        Self::of_level(Level::Link, output)
    }

    /// Records every datagram, and the seed: what it writes **decrypts all that it recorded**. Keep
    /// it as secret as what travels, in a file that only its owner can read. It is for what goes wrong in QUIC or TLS, and
    /// written as [`link`](Self::link) does.
    pub fn wire(output: W) -> Self {
        Self::of_level(Level::Wire, output)
    }

    fn of_level(level: Level, output: W) -> Self {
        let mut output = Some(output);
        Self {
            outputs: Box::new(move |_| {
                output
                    .take()
                    .ok_or_else(|| io::Error::other("it was written once, and that is all"))
            }),
            limit: u64::MAX,
            level,
            bodies: false,
            ring: None,
        }
    }

    /// Keeps only what happened in the last so many seconds, in memory (and no more bytes than the
    /// limit), and that above QUIC, as [`link`](Self::link) does. It is written down when `saver` asks for it
    /// and when the recording ends, each time to what `outputs` makes for that number, from 0.
    ///
    /// What it writes is for looking into: a replay needs everything from the node's beginning, so
    /// only of a node that is not older than that can it be replayed. A process that is killed leaves
    /// nothing of it.
    pub fn last(
        kept: Duration,
        saver: &Saver,
        outputs: impl FnMut(u64) -> io::Result<W> + Send + 'static,
    ) -> Self {
        Self {
            outputs: Box::new(outputs),
            limit: u64::MAX,
            level: Level::Link,
            bodies: false,
            ring: Some((kept, saver.clone())),
        }
    }

    /// Above QUIC: keeps bodies and credentials, too. A recording of every datagram has them in any case.
    pub fn bodies(self) -> Self {
        Self {
            bodies: true,
            ..self
        }
    }

    /// The recording ends before it has more bytes than that.
    pub fn limit(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// Makes a node and records it from its beginning to its end, or until [`Node::untap`].
    pub fn start(
        mut self,
        config: Config,
        roles: Roles,
        origin: Origin,
    ) -> Result<Node, StartError> {
        config.validate()?;
        let seed = &origin.seed;
        let recorded = match self.level {
            Level::Wire => Recorded::Wire {
                seed: seed.clone(),
                keys: origin.keys.clone(),
                roles: Box::new(roles.clone()),
            },
            Level::Link => Recorded::Link {
                draws: Some(Draws(DrawKey::new(*seed.derive(RANDOM, 0)))),
                roles: ScriptedRoles {
                    admission: roles.server.as_ref().map(|server| server.admission),
                    client: roles.client.is_some(),
                },
                bodies: self.bodies,
            },
        };
        let redacts = self.level == Level::Link && !self.bodies;
        let key = redacts.then(|| BodyKey::new(*seed.derive(BODY_KEY, 0)));
        let header = Header {
            build: Build::own(),
            config: config.clone(),
            wall: origin.wall,
            beginning: Beginning::default(),
            recorded,
        };
        let sink = match self.ring {
            None => {
                let mut writer = Writer::new((self.outputs)(0)?, &header)?.holding(BUFFER);
                if let Some(key) = key {
                    writer = writer.redacting(key);
                }
                // A process that ends before its first turn has a trace, too.
                writer.flush()?;
                Sink::File(writer)
            }
            Some((last, saver)) => Sink::Ring(Box::new(Ring::new(
                header,
                key,
                last,
                self.limit,
                saver,
                self.outputs,
            ))),
        };
        let recording = Recording {
            sink,
            over: false,
            level: self.level,
            start: origin.now,
            latest: (origin.now, 0),
            // Room for the record that says why it ends.
            limit: self.limit.saturating_sub(END_SIZE),
        };
        Ok(Node::tapped(config, roles, origin, Box::new(recording))?)
    }
}

/// Names the key of the hashes of bodies, among all that comes from a seed.
const BODY_KEY: &str = "trace bodies";

/// What is written at a time where there is much, in bytes.
pub(super) const BUFFER: usize = 32 << 10;

/// Whether the node has nothing more to say for now.
fn ends_turn(record: &Record<'_>) -> bool {
    matches!(
        record,
        Record::Transmit { mark: None, .. }
            | Record::Asked { sent: false, .. }
            | Record::Event(None)
    )
}

/// The bytes of a record that says why a recording ends.
const END_SIZE: u64 = 8;

/// Where records go.
enum Sink<W: Write> {
    File(Writer<W>),
    Ring(Box<Ring<W>>),
}

struct Recording<W: Write> {
    /// It stays when the recording has ended early: to let go of it may take its time, which a node that runs on
    /// does not have.
    sink: Sink<W>,
    /// Nothing more is recorded.
    over: bool,
    level: Level,
    start: Instant,
    /// The latest time that was given, and what it was: most calls of a turn have the same.
    latest: (Instant, i64),
    limit: u64,
}

impl<W: Write> Recording<W> {
    fn write(&mut self, record: &Record<'_>) {
        if self.over {
            return;
        }
        let writer = match &mut self.sink {
            Sink::Ring(ring) => return ring.push(record),
            Sink::File(writer) => writer,
        };
        let written = writer.write_within(self.limit, record);
        // What a process that ends without warning has recorded is whole up to its latest turn.
        let written = match written {
            Ok(true) if ends_turn(record) => writer.flush().map(|()| true),
            other => other,
        };
        match written {
            Ok(true) => {}
            Ok(false) => {
                let size = writer.written();
                logged(|| tracing::warn!(size, "the recording has reached its limit and ends"));
                self.end(Some(End::Full));
            }
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &io::Error) {
        logged(|| tracing::warn!(%error, "the recording cannot be written and ends"));
        self.over = true;
    }

    /// Writes what is left, and why it ends, if that is known.
    fn end(&mut self, end: Option<End>) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        match &mut self.sink {
            Sink::Ring(ring) => ring.save(end),
            Sink::File(writer) => {
                let written = end.map_or(Ok(()), |end| writer.write(&Record::End(end)));
                if let Err(error) = written.and_then(|()| writer.flush()) {
                    logged(|| tracing::warn!(%error, "the recording's end cannot be written"));
                }
            }
        }
    }

    /// Nanoseconds since the node's origin; what lies 292 years from it is cut to that.
    fn at(&mut self, now: Instant) -> i64 {
        if self.latest.0 != now {
            self.latest = (now, self.since_start(now));
        }
        self.latest.1
    }

    fn since_start(&self, now: Instant) -> i64 {
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
        if self.level == Level::Wire {
            return self.write(&Record::Call { at, call });
        }
        match call {
            Call::Datagram { .. } => self.write(&Record::Arrival { at }),
            call => self.write(&Record::Call { at, call }),
        }
    }

    fn transmit(&mut self, now: Instant, max_segments: NonZeroUsize, mark: Option<TransmitMark>) {
        let at = self.at(now);
        self.write(&match self.level {
            Level::Wire => Record::Transmit {
                at,
                max_segments,
                mark,
            },
            Level::Link => Record::Asked {
                at,
                sent: mark.is_some(),
            },
        });
    }

    /// What a process that ends without warning has recorded is whole up to its latest turn.
    fn rests(&mut self) {
        if let Sink::File(writer) = &mut self.sink
            && !self.over
            && writer.holds_any()
            && let Err(error) = writer.flush()
        {
            self.fail(&error);
        }
    }

    fn broken(&mut self) {
        self.end(None);
    }

    fn level(&self) -> Level {
        self.level
    }

    fn answers(&mut self, polled: bool, notes: &mut Vec<(LinkKey, LinkNote)>) {
        if self.over {
            return;
        }
        let record = Record::Answers {
            polled,
            notes: std::mem::take(notes),
        };
        self.write(&record);
        if let Record::Answers { notes: written, .. } = record {
            *notes = written;
        }
    }

    fn event(&mut self, mark: Option<EventMark<'_>>) {
        self.write(&Record::Event(mark));
    }

    fn signature(&mut self, signature: Signature) {
        // Above QUIC nobody signs.
        if self.level == Level::Wire {
            self.write(&Record::Signature(signature));
        }
    }
}

impl<W: Write> Drop for Recording<W> {
    /// A panic that unwinds through the node stops nothing in order: the trace ends with what led to it.
    fn drop(&mut self) {
        match std::thread::panicking() {
            true => self.end(None),
            false => self.end(Some(End::Stopped)),
        }
    }
}
