//! What the peer does, and the node's own application.

use std::time::Duration;

use trunkline_core::{
    CloseCode, DisconnectReason, Expects, LinkKey, Message, ScriptEvent, ScriptStream, Status,
    StatusCode, Tag,
};
use trunkline_proto::control::Frame;
use trunkline_proto::generated::Envelope;
use trunkline_proto::{
    Cancel, Close, Drain, Heartbeat, Hello, Limits, Ready, Receipt, Receipts, Resume, Welcome,
};

use crate::raw_peer::{control, envelope, frame, hello, lane_open, length};

use crate::fuzz::input::Input;
use crate::fuzz::scripted::CONTROL;

use super::{CONTROL_PLACE, LINKS_MAX, Stage, welcome};

/// What is done next, by the low bits of a byte. Others than these write an envelope.
pub(super) mod act {
    pub(in crate::fuzz::link) const CONTROL: u8 = 1;
    pub(in crate::fuzz::link) const OPEN_LANE: u8 = 2;
    pub(in crate::fuzz::link) const FRAME: u8 = 3;
    pub(in crate::fuzz::link) const BYTES: u8 = 4;
    pub(in crate::fuzz::link) const END_STREAM: u8 = 5;
    pub(in crate::fuzz::link) const NETWORK: u8 = 6;
    pub(in crate::fuzz::link) const WAIT: u8 = 7;
    pub(in crate::fuzz::link) const TELL: u8 = 8;
    pub(in crate::fuzz::link) const ANSWER: u8 = 9;
    pub(in crate::fuzz::link) const APPLICATION: u8 = 10;
    pub(in crate::fuzz::link) const BACK: u8 = 11;
    pub(in crate::fuzz::link) const LENGTH: u8 = 12;
    pub(in crate::fuzz::link) const AGAIN: u8 = 13;
    pub(in crate::fuzz::link) const CUT: u8 = 14;
    /// A bit: the node does not come to reading before the next act.
    pub(in crate::fuzz::link) const AT_ONCE: u8 = 0x80;
}

const WAITS: [u64; 8] = [0, 1, 25, 100, 400, 2_000, 16_000, 50_000];
impl Stage {
    pub(super) fn act(&mut self, input: &mut Input<'_>) {
        let first = input.byte();
        match first & 15 {
            act::CONTROL => {
                let frame = self.control(input);
                self.write(CONTROL, control(frame));
            }
            act::OPEN_LANE => {
                let (place, lane, next) = (input.byte(), input.byte(), input.long());
                let stream = stream(place);
                self.write(stream, lane_open(lane.into(), next));
            }
            act::FRAME | act::BYTES | act::LENGTH => {
                let stream = stream(input.byte());
                let bytes = match first & 15 {
                    act::FRAME => frame(input.block()),
                    act::BYTES => input.block().to_vec(),
                    _ => [&length(input.long())[..], input.block()].concat(),
                };
                self.write(stream, bytes);
            }
            act::AGAIN => {
                let times = input.byte();
                if let Some((stream, bytes)) = self.last.take() {
                    for _ in 0..times {
                        self.write(stream, bytes.clone());
                    }
                    self.last = Some((stream, bytes));
                }
            }
            act::CUT => {
                self.chunk = match input.byte() {
                    0 => usize::MAX,
                    size => size.into(),
                }
            }
            act::END_STREAM => {
                let stream = stream(input.byte());
                let how = input.byte();
                let event = match how & 3 {
                    0 => ScriptEvent::Finish(stream),
                    1 => ScriptEvent::Reset(stream, how.into()),
                    _ => ScriptEvent::Stop(stream, how.into()),
                };
                self.nodes.play(self.link, event);
            }
            act::NETWORK => {
                let event = match input.byte() & 7 {
                    0 | 4 => ScriptEvent::Stall,
                    1 | 5 => ScriptEvent::Flow,
                    2 | 6 => ScriptEvent::Move(([192, 0, 2, input.byte()], 4_433).into()),
                    7 => ScriptEvent::Acknowledge,
                    _ => ScriptEvent::Down(DisconnectReason::ConnectTimeout),
                };
                self.nodes.play(self.link, event);
            }
            act::WAIT => {
                let wait = Duration::from_millis(input.pick(&WAITS));
                return self.pass(wait);
            }
            act::TELL => self.tell(input),
            act::ANSWER => self.answer(input.byte()),
            act::APPLICATION => self.application(input.byte()),
            act::BACK => self.back(input),
            _ => self.envelope(input),
        }
        if first & act::AT_ONCE == 0 {
            self.pass(Duration::ZERO);
        }
    }

    fn control(&mut self, input: &mut Input<'_>) -> Frame {
        match input.byte() % 10 {
            0 => {
                let number = input.long();
                // Unused: it was `echo`, and the corpus's inputs still have the byte.
                input.byte();
                Frame::Heartbeat(Heartbeat { number })
            }
            1 | 2 => Frame::Receipts(Receipts {
                receipts: receipts(input),
            }),
            3 => Frame::Cancel(Cancel {
                promise: input.long(),
            }),
            4 => Frame::Ready(Ready {
                epoch: input.long(),
            }),
            5 => Frame::Drain(Drain {
                deadline_ms: input.long() as u32,
                retry_after_ms: input.long() as u32,
                alternative: text(input),
            }),
            6 => Frame::Close(Close {
                code: input.long() as u32,
                reason: text(input),
                retry_after_ms: input.long() as u32,
            }),
            7 => {
                let how = input.byte();
                let welcome = welcome(&self.nodes, self.link, input.long());
                Frame::Welcome(Welcome {
                    resumed: how & 1 == 1,
                    limits: (how & 2 == 0).then(|| Limits {
                        frame_bytes: input.long() as u32,
                        lanes: input.byte().into(),
                    }),
                    heartbeat_ms: input.long() as u32,
                    received: receipts(input),
                    lost_code: u32::from(how & 4 != 0) * 10,
                    ..welcome
                })
            }
            _ => {
                self.hellos += 1;
                let mut hello = hello("raw", self.hellos);
                let how = input.byte();
                hello.limits = (how & 2 == 0).then(|| Limits {
                    frame_bytes: input.long() as u32,
                    lanes: input.byte().into(),
                });
                if how & 1 == 1 {
                    hello.resume = Some(self.ticket(receipts(input)));
                }
                if how & 4 != 0 {
                    hello.session_id = self.hello(1).session_id;
                }
                Frame::Hello(hello)
            }
        }
    }

    fn hello(&self, number: u64) -> Hello {
        hello("raw", number)
    }

    /// What asks for the peer's session again, with the token that it was given last.
    pub(super) fn ticket(&self, received: Vec<Receipt>) -> Resume {
        let welcomed = self.links.iter().rev().find_map(|link| {
            match self.nodes.heard(*link).into_iter().next() {
                Some(Frame::Welcome(welcome)) => Some(welcome),
                _ => None,
            }
        });
        let first = self.hello(1);
        let (session_id, token, epoch) = match welcomed {
            Some(welcome) => (welcome.session_id, welcome.token, welcome.epoch),
            None => (first.session_id, first.token, 0),
        };
        Resume {
            session_id,
            token,
            epoch,
            received,
            attempt: self.links.len() as u64,
        }
    }

    /// The peer comes back on another link, or is dialled again.
    fn back(&mut self, input: &mut Input<'_>) {
        let how = input.byte();
        if self.links.len() >= LINKS_MAX.into() {
            return;
        }
        let epoch = self.links.len() as u64 + 1;
        if self.serves {
            self.hellos += 1;
            self.link = self.nodes.begin(epoch as u8 + 1);
        } else {
            let known = |link: &LinkKey| *link == self.beside || self.links.contains(link);
            let mut links = self.nodes.links().into_iter().map(|(link, _)| link);
            let Some(new) = links.rfind(|link| !known(link)) else {
                return;
            };
            self.link = new;
            self.nodes.play(new, ScriptEvent::Up);
        }
        self.links.push(self.link);
        self.pass(Duration::ZERO);
        if how & 1 == 0 {
            self.greet(epoch);
        }
    }

    fn envelope(&mut self, input: &mut Input<'_>) {
        let (place, kind) = (input.byte(), input.byte());
        let stream = stream(place);
        let tag = input.byte();
        let message = Envelope {
            kind: (kind & 7).into(),
            tag: (tag != 0).then_some(tag.into()),
            promise: if kind & 8 == 0 { 0 } else { input.long() },
            timeout_ms: if kind & 16 == 0 {
                0
            } else {
                input.long() as u32
            },
            status: if kind & 32 == 0 {
                0
            } else {
                input.long() as u32
            },
            reason: String::new(),
            acks: if kind & 64 == 0 {
                Vec::new()
            } else {
                (0..input.byte() & 7).map(|_| input.long()).collect()
            },
            body: match kind & 128 {
                0 => vec![7; input.byte().into()].into(),
                _ => vec![7; input.long() as usize % (1 << 17)].into(),
            },
        };
        self.write(stream, envelope(&message));
    }

    /// The node's application says something to the peer.
    fn tell(&mut self, input: &mut Input<'_>) {
        let (how, size) = (input.byte(), input.byte());
        let Some(session) = self.session else {
            return;
        };
        let size = if how & 0x80 == 0 { 1 } else { 500 } * usize::from(size);
        let message = || Message::new(Tag::of("fuzz.v1.Told"), vec![1; size]);
        let now = self.nodes.now;
        let node = self.nodes.node();
        let timeout = [None, Some(Duration::MAX), Some(Duration::from_secs(1))];
        let timeout = timeout[usize::from(how >> 4 & 3) % 3];
        for _ in 0..=(how >> 2 & 3) {
            let told = match how & 3 {
                0 => node.send(now, session, message()).map(|()| None),
                1 => node.send_acked(now, session, message(), timeout).map(Some),
                2 => node.request(now, session, message(), timeout).map(Some),
                _ => {
                    // A peer without room for it misses it.
                    node.send_best_effort(now, session, message(), None).ok();
                    continue;
                }
            };
            self.promises.extend(told.ok().flatten());
        }
    }

    fn answer(&mut self, how: u8) {
        let now = self.nodes.now;
        for _ in 0..=(how & 15) {
            let Some((key, expects)) = self.aside.pop() else {
                return;
            };
            let node = self.nodes.node();
            let answered = match (expects, how & 0x80) {
                (_, 0x80) => node.reject(now, key, Status::new(StatusCode(1_000), "no")),
                (Expects::Reply, _) => node.reply(now, key, Tag::of("fuzz.v1.Answer"), "yes"),
                _ => node.ack(now, key),
            };
            // The session may have ended since.
            answered.ok();
        }
    }

    fn application(&mut self, how: u8) {
        let now = self.nodes.now;
        match how & 3 {
            0 | 1 => {
                if let Some(promise) = self.promises.pop() {
                    self.nodes.node().cancel(now, promise).ok();
                }
            }
            2 => self.holds = !self.holds,
            _ => {
                if let Some(session) = self.session {
                    let closed = self.nodes.node().close(now, session, CloseCode::NORMAL, "");
                    // It may have ended before.
                    closed.ok();
                }
            }
        }
    }
}

/// The stream of a place.
fn stream(place: u8) -> ScriptStream {
    match place & 7 {
        CONTROL_PLACE => ScriptStream::Bidirectional((place >> 7).into()),
        lane => ScriptStream::Lane(lane.into()),
    }
}

pub(super) fn receipts(input: &mut Input<'_>) -> Vec<Receipt> {
    let count = input.byte() & 7;
    let receipt = |_| Receipt {
        lane: input.byte().into(),
        next: input.long(),
    };
    (0..count).map(receipt).collect()
}

fn text(input: &mut Input<'_>) -> String {
    String::from_utf8_lossy(input.block()).into_owned()
}
