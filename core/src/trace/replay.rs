//! Replay: the same node, given the same, and compared with what came of it.

use std::io::Read;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::apply::apply;
use super::format::{Answered, Draws, Header, Reader, Record, Recorded, Signed, TraceError};
use super::link_replay::{Differing, LinkStage};
use super::report::{Difference, Report};
use super::signatures::Signatures;
use crate::error::ConfigError;
use crate::node::{Event, Node, Origin, RANDOM};
use crate::seed::{Seed, SeededRng};
use crate::tap::{EventMark, TransmitMark};

/// Replays a trace and says whether everything is the same, or what differs first. `now` is any
/// instant: the recorded times are counted from it.
pub fn replay(input: impl Read, now: Instant) -> Result<Report, TraceError> {
    Replay::new(input)?.run(now)
}

/// Is told of events, and how long after the node's origin they came.
pub(super) type Watcher<'a> = Box<dyn FnMut(Duration, &Event) + 'a>;

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
            reader: Reader::from_the_start(input)?,
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
        let Header {
            config,
            wall,
            recorded,
            ..
        } = self.reader.header().clone();
        match recorded {
            Recorded::Wire { seed, keys, roles } => {
                let seed = self.seed.clone().unwrap_or(seed);
                let origin = Origin {
                    now,
                    wall,
                    seed,
                    keys,
                };
                let signatures = Arc::<Signatures>::default();
                let node = Node::replayed(config, *roles, origin, signatures.clone())?;
                self.run_wire(node, now, &signatures)
            }
            Recorded::Link { draws, roles, .. } => {
                let random = match (&self.seed, draws) {
                    (Some(seed), _) => seed.rng(RANDOM, 0),
                    (None, draws) => Draws::rng(draws.as_ref())?,
                };
                let origin = (now, wall);
                self.run_link(|watcher| LinkStage::new(config, roles, random, origin, watcher))
            }
        }
    }

    fn run_wire(
        self,
        node: Node,
        now: Instant,
        signatures: &Signatures,
    ) -> Result<Report, TraceError> {
        let Self {
            mut reader,
            until,
            to_the_end,
            watcher,
            ..
        } = self;
        let mut stage = Stage {
            node,
            clock: Clock::new(now),
            buffer: Vec::new(),
            watcher,
        };
        let mut report = Report::of(reader.header().build.clone());
        let mut after = None;
        while report.records < until {
            let next = reader.next_with_signatures(|signature| signatures.add(signature))?;
            let Some(next) = next else {
                break;
            };
            let Signed {
                number,
                record,
                cut_off,
            } = next;
            report.records = number;
            // What a call signed is written behind it: when the next thing happens.
            let unlike = stage.play(&record).or_else(|| signatures.unlike(cut_off));
            if report.difference.is_some() {
                continue;
            }
            if let Record::Call { call, .. } = &record {
                after = Some((number, call.to_string()));
            }
            if let Some(unlike) = unlike {
                report.difference = Some(Difference::at(number, unlike, after.take()));
                if !to_the_end {
                    break;
                }
            }
        }
        report.time = stage.clock.elapsed();
        report.ending = reader.ending();
        Ok(report)
    }

    fn run_link(
        self,
        stage: impl FnOnce(Watcher<'a>) -> Result<LinkStage<'a>, ConfigError>,
    ) -> Result<Report, TraceError> {
        let Self {
            mut reader,
            until,
            to_the_end,
            watcher,
            ..
        } = self;
        let mut stage = stage(watcher)?;
        let mut report = Report::of(reader.header().build.clone());
        let mut after = None;
        while report.records < until {
            let Some(next) = reader.next_with_answers()? else {
                break;
            };
            let Answered {
                number,
                record,
                answers,
                last,
                cut_off,
            } = next;
            report.records = last;
            let Differing {
                in_answers,
                in_record,
            } = stage.play(&record, &answers.notes);
            // What a call brought about is written behind it: when the next thing happens.
            let in_answers = in_answers.filter(|_| !cut_off);
            let of_answers = answers.number.unwrap_or(number);
            let unlike = in_answers.map(|unlike| (of_answers, unlike));
            let unlike = unlike.or_else(|| in_record.map(|unlike| (number, unlike)));
            if report.difference.is_some() {
                continue;
            }
            match &record {
                Record::Call { call, .. } => after = Some((number, call.to_string())),
                Record::Arrival { .. } => after = Some((number, record.to_string())),
                _ => {}
            }
            if let Some((number, unlike)) = unlike {
                report.difference = Some(Difference::at(number, unlike, after.take()));
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

impl Draws {
    /// What the node drew from, of a trace that begins with it.
    pub(super) fn rng(draws: Option<&Self>) -> Result<SeededRng, TraceError> {
        let draws = draws.ok_or_else(|| TraceError::Header {
            entry: "draws".to_owned(),
            why: "it is missing".to_owned(),
        })?;
        Ok(draws.0.rng())
    }
}

/// The recorded times as instants.
pub(super) struct Clock {
    start: Instant,
    /// Nanoseconds since the start.
    time: i64,
}

impl Clock {
    pub(super) fn new(start: Instant) -> Self {
        Self { start, time: 0 }
    }

    /// The time of a record, or of the last one that had one.
    pub(super) fn set(&mut self, at: Option<i64>) -> Instant {
        self.time = at.unwrap_or(self.time);
        let offset = Duration::from_nanos(self.time.unsigned_abs());
        let moved = if self.time < 0 {
            self.start.checked_sub(offset)
        } else {
            self.start.checked_add(offset)
        };
        // The node clamps a time before its origin to it.
        moved.unwrap_or(self.start)
    }

    pub(super) fn elapsed(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.time).unwrap_or(0))
    }
}

/// Tells of what stands in no trace, when a node does.
pub(super) fn tell_untraced(node: &mut Node, clock: &Clock, watcher: &mut Watcher<'_>) {
    while let Some(event) = node.poll_untraced_event() {
        watcher(clock.elapsed(), &event);
    }
}

/// What an event that came is told by.
pub(super) const EVENT: &str = "event ";

/// How the event that came differs from the one that was expected.
pub(super) fn event_unlike(
    expected: Option<EventMark<'_>>,
    came: Option<&Event>,
    digest: impl FnOnce(&Event) -> u64,
) -> Option<Unlike> {
    let found = came.map(|event| EventMark {
        name: event.name(),
        digest: digest(event),
    });
    let none = || "no more events".to_owned();
    (found != expected).then(|| {
        (
            expected.map_or_else(none, |mark| mark.to_string()),
            came.map_or_else(none, |event| format!("{EVENT}{event}")),
        )
    })
}

/// The node on its way through the trace.
struct Stage<'a> {
    node: Node,
    clock: Clock,
    buffer: Vec<u8>,
    watcher: Watcher<'a>,
}

/// What was expected, and what came.
pub(super) type Unlike = (String, String);

impl Stage<'_> {
    /// Does what the record says, and compares what comes of it.
    fn play(&mut self, record: &Record<'_>) -> Option<Unlike> {
        let now = self.clock.set(record.at());
        let unlike = self.compare(now, record);
        tell_untraced(&mut self.node, &self.clock, &mut self.watcher);
        unlike
    }

    fn compare(&mut self, now: Instant, record: &Record<'_>) -> Option<Unlike> {
        match record {
            Record::Call { call, .. } => apply(&mut self.node, now, call)
                .map(|why| (call.to_string(), format!("a refusal: {why}"))),
            Record::Transmit {
                max_segments, mark, ..
            } => {
                let came = self.transmit(now, *max_segments);
                let words = |mark: Option<TransmitMark>| match mark {
                    Some(mark) => mark.to_string(),
                    None => "no more datagrams".into(),
                };
                (came != *mark).then(|| (words(*mark), words(came)))
            }
            Record::Event(mark) => {
                let came = self.node.poll_traced_event();
                if let Some(event) = &came {
                    (self.watcher)(self.clock.elapsed(), event);
                }
                event_unlike(*mark, came.as_ref(), Event::digest)
            }
            // The reader hands signatures to the node's tap; the others are of link level.
            Record::Signature(_)
            | Record::End(_)
            | Record::Arrival { .. }
            | Record::Answers { .. }
            | Record::Asked { .. } => None,
        }
    }

    fn transmit(&mut self, now: Instant, max_segments: NonZeroUsize) -> Option<TransmitMark> {
        self.buffer.clear();
        let transmit = self
            .node
            .poll_transmit(now, max_segments, &mut self.buffer)?;
        Some(transmit.mark(&self.buffer))
    }
}
