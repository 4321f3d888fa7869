//! A recorded node under another configuration: the same commands at the same times, the same
//! behaviour of peers, and whatever comes of it.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::apply::apply;
use super::comparison::{Comparison, Timeline};
use super::format::{Draws, Ending, Reader, Record, Recorded, TraceError, change};
use crate::config::Config;
use crate::error::ConfigError;
use crate::id::LinkKey;
use crate::link::heads::with_length;
use crate::node::{Input, Node};
use crate::quic::{ScriptEvent, ScriptStream};
use crate::tap::{Body, Call, EventMark, Level, LinkNote, Signature, Tap, TransmitMark};

/// Why nothing can be said of another configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WhatIfError {
    /// It is a wire trace: packets fit what they were recorded with.
    #[error(
        "a wire trace fits its own configuration alone: record at link level (Recording::link) to ask what another one would do"
    )]
    Wire,
    /// There is no such setting, or it has no such value.
    #[error("{field}={value}: {why}")]
    Setting {
        /// Its path.
        field: String,
        /// What was given.
        value: String,
        /// What is wrong.
        why: String,
    },
    /// More than 256 MiB of bodies were not kept, which would have to be made up in memory.
    #[error(
        "the bodies that the trace tells the lengths of come to more than {} MiB: record for a shorter time",
        BODIES_MAX >> 20
    )]
    Bodies,
    /// Its timers would fire so often in the time that the trace covers, or says that it covers, that
    /// there is no waiting for the end of it.
    #[error(
        "in the time that the trace covers, {0:?}, the node would have more to do than there is time for: shorten that, or give its timers longer intervals"
    )]
    Endless(Duration),
    /// The node does not start so.
    #[error("the node does not start with that: {0}")]
    Config(#[from] ConfigError),
    /// The trace cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

/// Runs a link-level trace's node twice: as it was configured, and with `changes`, each the path of
/// a setting and its value as in a trace's header (`heartbeat.interval`, `5000000000ns`).
///
/// Both runs are driven alike: commands come when they were recorded, a peer's frames when they were
/// read, those of links that the node dials as long after the dial as then. Streams take all that is
/// written. What peers would have said to something else is not known, so a run is to be read up to
/// where their part no longer fits.
pub fn what_if(
    input: impl Read,
    changes: &[(String, String)],
    now: Instant,
) -> Result<Comparison, WhatIfError> {
    let mut reader = Reader::from_the_start(input)?;
    let header = reader.header().clone();
    let Recorded::Link { draws, roles, .. } = &header.recorded else {
        return Err(WhatIfError::Wire);
    };
    let mut config = header.config.clone();
    for (field, value) in changes {
        change(&mut config, field, value).map_err(|why| WhatIfError::Setting {
            field: field.clone(),
            value: value.clone(),
            why,
        })?;
    }
    let score = Score::read(&mut reader)?;
    let ending = reader.ending().unwrap_or(Ending::Open);
    let run = |config: &Config| {
        let config = config.clone();
        let node = Node::scripted(
            config,
            *roles,
            Draws::rng(draws.as_ref())?,
            now,
            header.wall,
        )?;
        Run::new(node, now, &score).play()
    };
    Ok(Comparison {
        recorded: run(&header.config)?,
        other: run(&config)?,
        recorded_by: header.build,
        ending,
    })
}

/// Bytes that may be made up for bodies that were not kept: both runs hold all of them at once.
const BODIES_MAX: usize = 256 << 20;

/// Nanoseconds since the node's origin.
type Nanos = i64;

/// What came to the node, and when.
#[derive(Default)]
struct Score {
    /// Commands, and the beginnings of links.
    cues: Vec<(Nanos, Cue)>,
    /// What the peers of each link did, in the order in which the links began.
    dialled: Vec<Part>,
    accepted: Vec<Part>,
    end: Nanos,
}

enum Cue {
    /// A command: the body of its record.
    Command(Vec<u8>),
    /// The accepted link of that number begins.
    Begins(usize),
}

/// What one link's peer did: since its beginning, if the node dialled it.
#[derive(Default)]
struct Part {
    began: Nanos,
    address: Option<std::net::SocketAddr>,
    acts: Vec<(Nanos, ScriptEvent)>,
    certificates: Vec<rustls_pki_types::CertificateDer<'static>>,
    /// The node has closed it: what follows is no peer's.
    closed: bool,
}

/// How long the bodies of a record are that were not kept.
fn made_up_for(record: &Record<'_>) -> usize {
    let of = |body: Body<'_>| match body {
        Body::Whole(_) => 0,
        Body::Marked { length, .. } => length,
    };
    match record {
        Record::Call { call, .. } => of(call.payload()) + of(call.credentials()),
        Record::Answers { notes, .. } => notes.iter().fold(0, |sum, (_, note)| match note {
            LinkNote::Lane {
                marked: Some(marked),
                ..
            } => sum + marked.length,
            _ => sum,
        }),
        _ => 0,
    }
}

impl Score {
    fn read(reader: &mut Reader<impl Read>) -> Result<Self, WhatIfError> {
        let mut score = Self::default();
        let mut links = BTreeMap::<LinkKey, (bool, usize)>::new();
        let mut at = 0;
        let mut made_up = 0_usize;
        while let Some((_, record)) = reader.next_record()? {
            at = record.at().unwrap_or(at);
            score.end = score.end.max(at);
            made_up = made_up.saturating_add(made_up_for(&record));
            if made_up > BODIES_MAX {
                return Err(WhatIfError::Bodies);
            }
            match &record {
                Record::Call {
                    call: Call::Timeout,
                    ..
                } => {}
                Record::Call { .. } => {
                    let mut body = Vec::new();
                    record.encode(Level::Link, &mut 0, &mut body);
                    score.cues.push((at, Cue::Command(body)));
                }
                Record::Answers { notes, .. } => {
                    for (link, note) in notes {
                        score.note(at, *link, note, &mut links);
                    }
                }
                _ => {}
            }
        }
        Ok(score)
    }

    fn note(
        &mut self,
        at: Nanos,
        link: LinkKey,
        note: &LinkNote,
        links: &mut BTreeMap<LinkKey, (bool, usize)>,
    ) {
        if let LinkNote::Began { address, dialled } = note {
            let parts = if *dialled {
                &mut self.dialled
            } else {
                self.cues.push((at, Cue::Begins(self.accepted.len())));
                &mut self.accepted
            };
            links.insert(link, (*dialled, parts.len()));
            parts.push(Part {
                began: at,
                address: Some(*address),
                ..Part::default()
            });
            return;
        }
        let Some((dialled, place)) = links.get(&link) else {
            return;
        };
        let parts = if *dialled {
            &mut self.dialled
        } else {
            &mut self.accepted
        };
        if let Some(part) = parts.get_mut(*place) {
            part.note(at, note);
        }
    }
}

impl Part {
    fn note(&mut self, at: Nanos, note: &LinkNote) {
        let control = ScriptStream::Bidirectional(0);
        let act = match note {
            LinkNote::Closed(..) => {
                self.closed = true;
                return;
            }
            LinkNote::Certificates(chain) => {
                self.certificates.clone_from(chain);
                return;
            }
            LinkNote::Up => ScriptEvent::Up,
            LinkNote::Acknowledged => ScriptEvent::Acknowledge,
            LinkNote::Down(reason) => ScriptEvent::Down(reason.clone()),
            LinkNote::Fault(..) => ScriptEvent::Stop(control, 0),
            LinkNote::Moved(address) => ScriptEvent::Move(*address),
            LinkNote::Control(frame) => ScriptEvent::Bytes(control, with_length(frame)),
            LinkNote::Lane {
                slot,
                frame,
                marked,
                ..
            } => {
                let bytes = match marked {
                    None => with_length(frame),
                    Some(marked) => with_length(&marked.made_up(frame)),
                };
                ScriptEvent::Bytes(ScriptStream::Lane(*slot), bytes)
            }
            LinkNote::Broken { slot, .. } => {
                ScriptEvent::Finish(slot.map_or(control, ScriptStream::Lane))
            }
            _ => return,
        };
        if !self.closed {
            self.acts.push((at.saturating_sub(self.began), act));
        }
    }
}

/// Tells of links that the node dials, and of what it writes.
#[derive(Clone, Default)]
struct Stagehand(Arc<Mutex<Vec<(LinkKey, LinkNote)>>>);

impl Tap for Stagehand {
    fn call(&mut self, _: Instant, _: Call<'_>) {}
    fn transmit(&mut self, _: Instant, _: std::num::NonZeroUsize, _: Option<TransmitMark>) {}
    fn event(&mut self, _: Option<EventMark<'_>>) {}
    fn signature(&mut self, _: Signature) {}

    fn level(&self) -> Level {
        Level::Link
    }

    fn answers(&mut self, _: bool, notes: &mut Vec<(LinkKey, LinkNote)>) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.append(notes);
    }
}

/// So many timeouts a run may have whatever was recorded, and so many more for each thing that was.
const STEPS: u64 = 100_000;
const STEPS_EACH: u64 = 100;

/// Of a time in which nothing was recorded, only so much is played: 30 days, in nanoseconds.
const GAP_MAX: Nanos = 30 * 24 * 3_600 * 1_000_000_000;

/// One run of it.
struct Run<'a> {
    node: Node,
    start: Instant,
    now: Nanos,
    score: &'a Score,
    told: Stagehand,
    /// What peers will do: by time, and then in the order in which it was planned.
    planned: BTreeMap<(Nanos, u64), (LinkKey, ScriptEvent)>,
    plans: u64,
    /// Timeouts that it may still have.
    steps: u64,
    timeline: Timeline,
}

impl<'a> Run<'a> {
    fn new(mut node: Node, start: Instant, score: &'a Score) -> Self {
        let told = Stagehand::default();
        node.tap_with(Box::new(told.clone()));
        let parts = score.dialled.iter().chain(&score.accepted);
        let acts: usize = parts.map(|part| part.acts.len()).sum();
        let recorded = (score.cues.len() + acts) as u64;
        Self {
            node,
            start,
            now: 0,
            score,
            told,
            planned: BTreeMap::new(),
            plans: 0,
            steps: STEPS.saturating_add(recorded.saturating_mul(STEPS_EACH)),
            timeline: Timeline::default(),
        }
    }

    fn play(mut self) -> Result<Timeline, WhatIfError> {
        for (at, cue) in &self.score.cues {
            self.until(*at)?;
            match cue {
                Cue::Command(body) => {
                    let record = Record::decode(body, Level::Link, &mut 0);
                    if let Some(Record::Call { call, .. }) = record {
                        // Whether it can be done shows in what comes.
                        let now = self.instant();
                        apply(&mut self.node, now, &call);
                    }
                }
                Cue::Begins(number) => self.begin(*number),
            }
            self.drain();
        }
        self.until(self.score.end)?;
        Ok(self.timeline)
    }

    fn begin(&mut self, number: usize) {
        let score = self.score;
        let Some(part) = score.accepted.get(number) else {
            return;
        };
        let Some(address) = part.address else { return };
        let now = self.instant();
        let link = self
            .node
            .begin_scripted(now, address, part.certificates.clone());
        if let Some(link) = link {
            self.timeline.accepted += 1;
            self.plan(link, part);
        }
    }

    /// What a link's peer does from now on.
    fn plan(&mut self, link: LinkKey, part: &Part) {
        for (after, act) in &part.acts {
            self.plans += 1;
            let key = (self.now.saturating_add(*after), self.plans);
            self.planned.insert(key, (link, act.clone()));
        }
    }

    /// Everything that peers do and that is due by then.
    fn until(&mut self, end: Nanos) -> Result<(), WhatIfError> {
        // What is damaged or made up may leave out centuries, in which a client would go on dialling.
        self.now = self.now.max(end.saturating_sub(GAP_MAX));
        loop {
            let act = self.planned.first_key_value().map(|((at, _), _)| *at);
            let timeout = self.node.poll_timeout().map(|at| self.nanos(at));
            let Some(next) = act.into_iter().chain(timeout).min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            let now = self.instant();
            // A timeout before what comes at the same time: as a driver that wakes for it.
            if timeout.is_some_and(|at| at <= self.now) {
                let covered = Duration::from_nanos(self.score.end.unsigned_abs());
                self.steps = self
                    .steps
                    .checked_sub(1)
                    .ok_or(WhatIfError::Endless(covered))?;
                self.node.handle_input(now, Input::Timeout);
            } else if let Some((_, (link, act))) = self.planned.pop_first() {
                self.node.play(now, link, act);
            }
            self.drain();
        }
        self.now = self.now.max(end);
        Ok(())
    }

    fn drain(&mut self) {
        let now = self.instant();
        let mut buffer = Vec::new();
        loop {
            // Links that were forgotten show in it, and nothing else does.
            while self
                .node
                .poll_transmit(now, std::num::NonZeroUsize::MIN, &mut buffer)
                .is_some()
            {}
            let Some(event) = self.node.poll_event() else {
                break;
            };
            let since = Duration::from_nanos(u64::try_from(self.now).unwrap_or(0));
            self.timeline.events.push((since, event));
        }
        self.node.tell_answers();
        self.node.forget_said();
        let told = {
            let mut told = self.told.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *told)
        };
        for (link, note) in told {
            match note {
                LinkNote::Began { dialled: true, .. } => {
                    let number = usize::try_from(self.timeline.dialled).unwrap_or(usize::MAX);
                    self.timeline.dialled += 1;
                    let score = self.score;
                    match score.dialled.get(number) {
                        Some(part) => self.plan(link, part),
                        None => self.timeline.unanswered += 1,
                    }
                }
                LinkNote::Wrote { .. } => self.timeline.writes += 1,
                _ => {}
            }
        }
    }

    fn instant(&self) -> Instant {
        let offset = Duration::from_nanos(u64::try_from(self.now).unwrap_or(0));
        self.start.checked_add(offset).unwrap_or(self.start)
    }

    fn nanos(&self, at: Instant) -> Nanos {
        let nanos = at.saturating_duration_since(self.start).as_nanos();
        Nanos::try_from(nanos).unwrap_or(Nanos::MAX)
    }
}
