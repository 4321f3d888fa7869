//! One thread serves a thousand clients: one node, one socket, and `mio` to wait with.
//!
//! ```text
//! cargo run --release -p trunkline-core --features system --example thousand_clients
//! ```
//!
//! The clients are real: a thousand sessions, each with a connection of its own. They live in a
//! second node, on a second thread, so that the program can run by itself. When all are connected,
//! each asks fifty questions and closes; then the program says what that took.
//!
//! `Batches` (feature `system`) serves their sockets: what a crowd sends at once is more than a socket's buffer holds unless
//! asked for a large one, as this does, and many datagrams go with one call of the system.

#![allow(
    clippy::disallowed_methods,
    reason = "whoever drives a node reads the clock for it"
)]

use std::collections::VecDeque;
use std::error::Error;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::ops::ControlFlow::{self, Break, Continue};
use std::time::{Duration, Instant, SystemTime};

use mio::{Interest, Poll, Token, net::UdpSocket};
use trunkline_core::driver::system::Batches;
use trunkline_core::{
    Admission, ClientRole, CloseCode, Config, Dial, Event, Expects, Identity, Input, Message,
    MetricsSnapshot, Node, Origin, Outcome, PromiseKey, Roles, Roots, Seed, ServerRole, SessionKey,
    Status, StatusCode, Tag, Transmit,
};

const CLIENTS: usize = 1_000;
const QUESTIONS: u64 = 50;

/// So many clients dial, or ask, at a time: the kernel may give less of a buffer than it is asked for, and what
/// overruns a socket QUIC has to send again.
const AT_A_TIME: usize = 100;

/// A node whose socket is full is looked at that often.
const PAUSE: Duration = Duration::from_millis(1);

type Failure = Box<dyn Error + Send + Sync>;

/// A node, and all that it takes to drive one.
struct Loop {
    node: Node,
    socket: UdpSocket,
    batches: Batches,
    poll: Poll,
    /// What `poll_transmit` wrote last.
    buffer: Vec<u8>,
    /// Stands in `buffer` and has not been sent, for the socket took no more.
    unsent: Option<Transmit>,
}

impl Loop {
    fn new(roles: Roles) -> Result<Self, Failure> {
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed)?;
        let origin = Origin::new(Instant::now(), SystemTime::now(), Seed::new(seed));
        let node = Node::new(Config::default(), roles, origin)?;
        let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
        let batches = Batches::new(&socket)?;
        let mut socket = UdpSocket::from_std(socket);
        let poll = Poll::new()?;
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut socket, Token(0), both)?;
        Ok(Self {
            node,
            socket,
            batches,
            poll,
            buffer: Vec::new(),
            unsent: None,
        })
    }

    /// Runs until the application has seen enough and the node has nothing left to do: datagrams in, timers,
    /// events, datagrams out, and then sleep until something happens.
    fn run(
        &mut self,
        mut application: impl FnMut(&mut Node, Instant, Event) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Failure> {
        let mut happened = mio::Events::with_capacity(1);
        let mut flow = Continue(());
        loop {
            let now = Instant::now();
            // First what has arrived, then timers: a peer that has spoken is not timed out.
            let emptied = self.receive(now);
            if self.node.poll_timeout().is_some_and(|due| due <= now) {
                self.node.handle_input(now, Input::Timeout);
            }
            while let Some(event) = self.node.poll_event() {
                if application(&mut self.node, now, event)?.is_break() {
                    flow = Break(());
                }
            }
            self.transmit(now);
            let due = self.node.poll_timeout();
            // The peers have been told, too.
            if flow.is_break() && due.is_none() {
                return Ok(());
            }
            if !emptied {
                // mio tells of a change once, and would not wake us for what is there already.
                continue;
            }
            let now = Instant::now();
            // While the socket is full, it is the socket that we wait for. The node is due at once then, for it
            // has more to send; its deadlines pass all the same.
            let soonest = self.unsent.map_or(now, |_| now + PAUSE);
            let sleep = due.map(|due| due.max(soonest).saturating_duration_since(now));
            match self.poll.poll(&mut happened, sleep) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
        }
    }

    /// Takes in what has arrived, so much of it at most that timers get their turn; says whether
    /// that was all.
    fn receive(&mut self, now: Instant) -> bool {
        let node = &mut self.node;
        // Some tens with each call.
        for _ in 0..32 {
            let received = self
                .batches
                .receive((&self.socket).into(), &mut |datagram| {
                    node.handle_input(now, Input::Datagram(datagram));
                });
            match received {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                // It concerns one peer, or none: the socket is as good as before.
                Err(_) => node.count_receive_failed(),
            }
        }
        false
    }

    /// Sends what is to be sent, until the socket takes no more.
    fn transmit(&mut self, now: Instant) {
        loop {
            let Some(transmit) = self.unsent.take().or_else(|| {
                self.buffer.clear();
                let segments = self.batches.max_segments();
                self.node.poll_transmit(now, segments, &mut self.buffer)
            }) else {
                return;
            };
            let sent = self.batches.send(&self.socket, &transmit, &self.buffer);
            // What the system refuses otherwise is lost, and QUIC will notice.
            if sent.is_err() {
                self.unsent = Some(transmit);
                return;
            }
        }
    }
}

/// Answers every question until all clients have come and gone.
fn serve(server: &mut Loop) -> Result<(), Failure> {
    let mut gone = 0;
    server.run(|node, now, event| {
        match event {
            Event::Message(question) => {
                let key = question.key;
                let answered = match question.expects {
                    Expects::Reply => node.reply(now, key, Tag::of("demo.Answer"), question.body),
                    // Who asks nothing gets no answer: that it was taken makes room for more.
                    Expects::Ack | Expects::Nothing => node.ack(now, key),
                };
                // What a peer may bring about does not end the loop, and every message owes an answer.
                if let Err(error) = answered {
                    let status = Status::new(StatusCode::INTERNAL, error.to_string());
                    let _ = node.reject(now, key, status);
                }
            }
            Event::Closed { .. } => gone += 1,
            _ => {}
        }
        Ok(if gone < CLIENTS {
            Continue(())
        } else {
            Break(())
        })
    })
}

/// What visiting the server was like.
struct Visit {
    connecting: Duration,
    asking: Duration,
    seen: MetricsSnapshot,
}

/// Connects all clients to that server, has each ask its questions, and closes.
fn visit(clients: &mut Loop, server: SocketAddr) -> Result<Visit, Failure> {
    let dial = |number: usize| -> Result<Dial, Failure> {
        let client = format!("client-{number}").parse()?;
        Ok(Dial::new(server, "localhost", client))
    };
    let ask = |node: &mut Node, now, session: SessionKey, number: u64| {
        let question = Message::new(Tag::of("demo.Question"), number.to_be_bytes().to_vec());
        node.request(now, session, question, None)
    };
    let start = Instant::now();
    for number in 0..AT_A_TIME {
        clients.node.connect(start, dial(number)?)?;
    }
    // Whose turn it is to ask, and what.
    let mut waiting = VecDeque::new();
    let (mut connected, mut closed) = (0, 0);
    let (mut connecting, mut asking) = (Duration::ZERO, Duration::ZERO);
    clients.run(|node, now, event| {
        match event {
            Event::Connected {
                session,
                resumed: false,
                ..
            } => {
                waiting.push_back((session, 1));
                connected += 1;
                if connected + AT_A_TIME <= CLIENTS {
                    node.connect(now, dial(connected + AT_A_TIME - 1)?)?;
                } else if connected == CLIENTS {
                    connecting = now - start;
                    for (session, number) in waiting.drain(..AT_A_TIME) {
                        ask(node, now, session, number)?;
                    }
                }
            }
            Event::Settled {
                promise: PromiseKey { session, .. },
                outcome: Outcome::Replied { body, .. },
                ..
            } => {
                let number = u64::from_be_bytes(body[..].try_into()?);
                if number < QUESTIONS {
                    waiting.push_back((session, number + 1));
                } else {
                    node.close(now, session, CloseCode::NORMAL, "done")?;
                }
                if let Some((session, number)) = waiting.pop_front() {
                    ask(node, now, session, number)?;
                }
            }
            Event::Closed { .. } => {
                closed += 1;
                asking = now - start - connecting;
            }
            // A link may break, on a busy machine: its session dials again by itself and goes on where
            // it was. But none is lost, and no question goes unanswered.
            Event::SessionLost { .. } | Event::Settled { .. } => {
                return Err(format!("on the clients' side: {event:?}").into());
            }
            _ => {}
        }
        Ok(if closed < CLIENTS {
            Continue(())
        } else {
            Break(())
        })
    })?;
    Ok(Visit {
        connecting,
        asking,
        seen: clients.node.metrics(Instant::now()),
    })
}

fn main() -> Result<(), Failure> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["localhost".into()])?.self_signed(&key)?;
    let (certificate, key) = (certificate.pem(), key.serialize_pem());
    let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes(), "server")?;
    let roots = Roots::from_pem(certificate.as_bytes(), "roots")?;
    let mut server = Loop::new(ServerRole::new(identity, Admission::Open).into())?;
    let mut clients = Loop::new(ClientRole::new(roots).into())?;

    let address = server.socket.local_addr()?;
    // A node belongs to one thread, and may move there.
    let serving = std::thread::spawn(move || serve(&mut server).map(|()| server));
    let visit = visit(&mut clients, address)?;
    let server = serving
        .join()
        .map_err(|_| "the server's thread panicked")??;

    let asked = CLIENTS as u64 * QUESTIONS;
    let served = server.node.metrics(Instant::now());
    let Visit {
        connecting,
        asking,
        seen,
    } = visit;
    if (served.requests_received, seen.replies_received) != (asked, asked) {
        return Err(format!(
            "of {asked} questions, {} were answered",
            seen.replies_received
        )
        .into());
    }
    let rate = asked as f64 / asking.as_secs_f64();
    println!("{CLIENTS} clients were connected after {connecting:.2?}");
    println!("{asked} questions, each answered once, took {asking:.2?}: {rate:.0} a second");
    println!(
        "with {AT_A_TIME} at a time, answers came within {:.1?} mostly, 99 % within {:.1?}",
        seen.latency_p50, seen.latency_p99
    );
    Ok(())
}
