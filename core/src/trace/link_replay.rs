//! Replay above QUIC: the node's links answer what they answered, and what the node makes of it is
//! compared.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::apply::apply;
use super::format::Record;
use super::replay::{Clock, Unlike, Watcher, event_unlike, tell_untraced};
use crate::config::Config;
use crate::error::ConfigError;
use crate::id::LinkKey;
use crate::node::{Node, ScriptedRoles};
use crate::seed::SeededRng;
use crate::tap::{Call, EventMark, Level, LinkNote, Signature, Tap, TransmitMark};

/// What links noted.
type Notes = Vec<(LinkKey, LinkNote)>;

/// The node on its way through the trace.
pub(super) struct LinkStage<'a> {
    node: Node,
    clock: Clock,
    noted: Noted,
    watcher: Watcher<'a>,
}

/// Keeps what links note.
#[derive(Clone, Default)]
struct Noted(Arc<Mutex<Notes>>);

impl Noted {
    fn take(&self) -> Notes {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Tap for Noted {
    fn call(&mut self, _: Instant, _: Call<'_>) {}
    fn transmit(&mut self, _: Instant, _: std::num::NonZeroUsize, _: Option<TransmitMark>) {}
    fn event(&mut self, _: Option<EventMark<'_>>) {}
    fn signature(&mut self, _: Signature) {}

    fn level(&self) -> Level {
        Level::Link
    }

    fn answers(&mut self, _: bool, notes: &mut Notes) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.append(notes);
    }
}

impl<'a> LinkStage<'a> {
    pub(super) fn new(
        config: Config,
        roles: ScriptedRoles,
        random: SeededRng,
        (now, wall): (Instant, SystemTime),
        watcher: Watcher<'a>,
    ) -> Result<Self, ConfigError> {
        let mut node = Node::scripted(config, roles, random, now, wall)?;
        let noted = Noted::default();
        node.tap_with(Box::new(noted.clone()));
        Ok(Self {
            node,
            clock: Clock::new(now),
            noted,
            watcher,
        })
    }

    /// Does what the record says, with the answers that belong to it, and compares what comes of it.
    pub(super) fn play(
        &mut self,
        record: &Record<'_>,
        answers: &[(LinkKey, LinkNote)],
    ) -> Differing {
        let now = self.clock.set(record.at());
        let arrived = matches!(record, Record::Arrival { .. });
        self.node.dictate(now, arrived, answers);
        let in_record = match record {
            Record::Call { call, .. } => apply(&mut self.node, now, call)
                .map(|why| (call.to_string(), format!("a refusal: {why}"))),
            Record::Asked { sent: true, .. } if answers.is_empty() => {
                // An answer of QUIC's endpoint, to something that was for no link.
                self.node.pass(now);
                None
            }
            Record::Asked { sent, .. } => {
                let mut buffer = Vec::new();
                let came = self
                    .node
                    .poll_transmit(now, std::num::NonZeroUsize::MIN, &mut buffer)
                    .is_some();
                // Links were asked first, and there was such an answer when they had nothing.
                let came = came || *sent && !links_sent(answers);
                let words = |came: bool| {
                    let words = if came { "datagrams" } else { "no datagrams" };
                    words.to_owned()
                };
                (came != *sent).then(|| (words(*sent), words(came)))
            }
            Record::Event(mark) => {
                let came = self.node.poll_traced_event();
                if let Some(event) = &came {
                    (self.watcher)(self.clock.elapsed(), event);
                }
                event_unlike(*mark, came.as_ref(), |event| event.head_digest())
            }
            _ => None,
        };
        tell_untraced(&mut self.node, &self.clock, &mut self.watcher);
        self.node.tell_answers();
        // What tests would ask for.
        self.node.forget_said();
        let noted = self.noted.take();
        Differing {
            in_answers: notes_unlike(answers, &noted),
            in_record,
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }
}

fn links_sent(answers: &[(LinkKey, LinkNote)]) -> bool {
    let sent = |(_, note): &(LinkKey, LinkNote)| matches!(note, LinkNote::Sent);
    answers.iter().any(sent)
}

/// How a record differs, and how what its links answered does.
pub(super) struct Differing {
    pub(super) in_answers: Option<Unlike>,
    pub(super) in_record: Option<Unlike>,
}

/// The first note that is another one.
fn notes_unlike(expected: &[(LinkKey, LinkNote)], came: &[(LinkKey, LinkNote)]) -> Option<Unlike> {
    // An address that moves is told, and not done.
    let done = |(_, note): &&(LinkKey, LinkNote)| !matches!(note, LinkNote::Moved(_));
    let mut expected = expected.iter().filter(done);
    let mut came = came.iter().filter(done);
    loop {
        let (expected, came) = (expected.next(), came.next());
        let same = match (expected, came) {
            (None, None) => return None,
            (Some((link, note)), Some((others, other))) => link == others && same(note, other),
            _ => false,
        };
        if !same {
            let words = |noted: Option<&(LinkKey, LinkNote)>| match noted {
                Some((link, note)) => format!("link {:?}: {note}", link.0),
                None => "nothing more of links".to_owned(),
            };
            return Some((words(expected), words(came)));
        }
    }
}

/// Whether they say the same, but for bodies that were not kept, and for hashes of bodies.
fn same(one: &LinkNote, other: &LinkNote) -> bool {
    match (one, other) {
        (
            LinkNote::Lane {
                slot,
                opening,
                frame,
                marked,
            },
            LinkNote::Lane {
                slot: others_slot,
                opening: others_opening,
                frame: others_frame,
                marked: _,
            },
        ) => {
            let frames_same = match marked {
                None => frame == others_frame,
                Some(marked) => {
                    let (head, tail) = marked.around(frame);
                    others_frame.len() == frame.len() + marked.length
                        && others_frame.starts_with(head)
                        && others_frame.ends_with(tail)
                }
            };
            (slot, opening) == (others_slot, others_opening) && frames_same
        }
        (one, other) => one == other,
    }
}
