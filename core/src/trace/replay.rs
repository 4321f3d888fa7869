//! Replay: the same node, given the same, and compared with what came of it.

use std::io::Read;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::apply::apply;
use super::format::{Header, Reader, Record, TraceError};
use super::report::{Difference, Report};
use super::signatures::Signatures;
use crate::node::{Event, Node, Origin};
use crate::seed::Seed;
use crate::tap::{EventMark, TransmitMark};

/// Replays a trace and says whether everything is the same, or what differs first. `now` is any
/// instant: the recorded times are counted from it.
pub fn replay(input: impl Read, now: Instant) -> Result<Report, TraceError> {
    Replay::new(input)?.run(now)
}

/// Is told of events, and how long after the node's origin they came.
type Watcher<'a> = Box<dyn FnMut(Duration, &Event) + 'a>;

/// A replay that can be watched, or given something else than what was recorded.
pub struct Replay<'a, R> {
    reader: Reader<R>,
    seed: Option<Seed>,
    until: u64,
    to_the_end: bool,
    watcher: Watcher<'a>,
}

impl<'a, R: Read> Replay<'a, R> {
    /// A replay of this trace. Hand it something that is buffered.
    pub fn new(input: R) -> Result<Self, TraceError> {
        Ok(Self {
            reader: Reader::new(input)?,
            seed: None,
            until: u64::MAX,
            to_the_end: false,
            watcher: Box::new(|_, _| {}),
        })
    }

    /// What the recorded node was made of.
    pub fn header(&self) -> &Header {
        self.reader.header()
    }

    /// Takes another seed than the recorded one.
    pub fn seed(self, seed: Seed) -> Self {
        Self {
            seed: Some(seed),
            ..self
        }
    }

    /// Ends after the record of that number.
    pub fn until(self, record: u64) -> Self {
        Self {
            until: record,
            ..self
        }
    }

    /// Goes on behind the first record that differs, which the report names all the same. What
    /// comes then is what this build makes of the same inputs.
    pub fn to_the_end(self) -> Self {
        Self {
            to_the_end: true,
            ..self
        }
    }

    /// Is told of every event that comes, and how long after the node's origin.
    pub fn on_event(self, on_event: impl FnMut(Duration, &Event) + 'a) -> Self {
        Self {
            watcher: Box::new(on_event),
            ..self
        }
    }

    /// Replays it, up to the first record that differs unless told otherwise.
    pub fn run(self, now: Instant) -> Result<Report, TraceError> {
        let Self {
            mut reader,
            seed,
            until,
            to_the_end,
            watcher,
        } = self;
        let Header {
            build,
            config,
            wall,
            seed: recorded,
            keys,
            roles,
        } = reader.header().clone();
        let origin = Origin {
            now,
            wall,
            seed: seed.unwrap_or(recorded),
            keys,
        };
        let signatures = Arc::<Signatures>::default();
        let mut stage = Stage {
            node: Node::replayed(config, roles, origin, signatures.clone())?,
            start: now,
            time: 0,
            buffer: Vec::new(),
            watcher,
        };
        let mut report = Report {
            records: 0,
            time: Duration::ZERO,
            difference: None,
            ending: None,
            recorded_by: build,
        };
        let mut after = None;
        while report.records < until {
            let next = reader.next_with_signatures(|signature| signatures.add(signature))?;
            let Some((number, record)) = next else {
                break;
            };
            report.records = number;
            let unlike = stage.play(&record).or_else(|| signatures.unlike());
            if report.difference.is_some() {
                continue;
            }
            if let Record::Call { call, .. } = &record {
                after = Some((number, call.to_string()));
            }
            if let Some((expected, came)) = unlike {
                report.difference = Some(Difference {
                    record: number,
                    expected,
                    came,
                    after: after.take(),
                });
                if !to_the_end {
                    break;
                }
            }
        }
        report.time = stage.elapsed();
        report.ending = reader.ending();
        Ok(report)
    }
}

/// The node on its way through the trace.
struct Stage<'a> {
    node: Node,
    start: Instant,
    /// Nanoseconds since the start.
    time: i64,
    buffer: Vec<u8>,
    watcher: Watcher<'a>,
}

/// What was expected, and what came.
pub(super) type Unlike = (String, String);

impl Stage<'_> {
    /// Does what the record says, and compares what comes of it.
    fn play(&mut self, record: &Record<'_>) -> Option<Unlike> {
        if let Some(at) = record.at() {
            self.time = at;
        }
        match record {
            Record::Call { at, call } => {
                let now = self.instant(*at);
                apply(&mut self.node, now, call)
                    .map(|why| (call.to_string(), format!("a refusal: {why}")))
            }
            Record::Transmit {
                at,
                max_segments,
                mark,
            } => {
                let now = self.instant(*at);
                let came = self.transmit(now, *max_segments);
                let words = |mark: Option<TransmitMark>| match mark {
                    Some(mark) => mark.to_string(),
                    None => "no more datagrams".into(),
                };
                (came != *mark).then(|| (words(*mark), words(came)))
            }
            Record::Event(mark) => {
                let came = self.node.poll_event();
                if let Some(event) = &came {
                    let elapsed = self.elapsed();
                    (self.watcher)(elapsed, event);
                }
                let found = came.as_ref().map(|event| EventMark {
                    name: event.name(),
                    digest: event.digest(),
                });
                let none = || "no more events".to_owned();
                (found != *mark).then(|| {
                    (
                        mark.map_or_else(none, |mark| mark.to_string()),
                        came.map_or_else(none, |event| format!("event {event:?}")),
                    )
                })
            }
            // The reader hands signatures to the node's tap.
            Record::Signature(_) | Record::End(_) => None,
        }
    }

    fn transmit(&mut self, now: Instant, max_segments: NonZeroUsize) -> Option<TransmitMark> {
        self.buffer.clear();
        let transmit = self
            .node
            .poll_transmit(now, max_segments, &mut self.buffer)?;
        Some(transmit.mark(&self.buffer))
    }

    fn instant(&self, at: i64) -> Instant {
        let offset = Duration::from_nanos(at.unsigned_abs());
        let moved = if at < 0 {
            self.start.checked_sub(offset)
        } else {
            self.start.checked_add(offset)
        };
        // The node clamps a time before its origin to it.
        moved.unwrap_or(self.start)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.time).unwrap_or(0))
    }
}
