//! Two nodes in one loop, on one thread: `mio` waits for either socket or the earlier deadline.
//!
//! ```text
//! cargo run --release -p trunkline-core --example two_nodes
//! ```
//!
//! One node is a server, the other its client, and they send a ball to and fro. In a program of
//! yours they would face different networks: a gateway that serves some peers and dials others.

#![allow(
    clippy::disallowed_methods,
    reason = "whoever drives a node reads the clock for it"
)]

use std::error::Error;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::{Instant, SystemTime};

use mio::{Interest, Poll, Token, net::UdpSocket};
use trunkline_core::{
    Admission, BytesMut, ClientRole, CloseCode, Config, Datagram, Dial, Event, Identity, Input,
    Message, Node, Origin, Roles, Roots, Seed, ServerRole, Status, StatusCode, Tag,
};

/// How often the ball is hit.
const HITS: u64 = 20_000;

/// A node and its socket.
struct Player {
    node: Node,
    socket: UdpSocket,
    buffer: Vec<u8>,
}

impl Player {
    fn new(roles: Roles, poll: &Poll, token: Token) -> Result<Self, Box<dyn Error>> {
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed)?;
        let origin = Origin::new(Instant::now(), SystemTime::now(), Seed::new(seed));
        let mut socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let readable = Interest::READABLE;
        poll.registry().register(&mut socket, token, readable)?;
        Ok(Self {
            node: Node::new(Config::default(), roles, origin)?,
            socket,
            buffer: Vec::new(),
        })
    }

    /// Takes in what has arrived, and then the time. mio says only once that a socket is readable,
    /// so it is read until it is empty.
    fn receive(&mut self, now: Instant) -> Result<(), Box<dyn Error>> {
        let mut packet = [0; 65_536];
        loop {
            match self.socket.recv_from(&mut packet) {
                Ok((size, remote)) => {
                    let datagram = Datagram::new(remote, BytesMut::from(&packet[..size]));
                    self.node.handle_input(now, Input::Datagram(datagram));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        if self.node.poll_timeout().is_some_and(|due| due <= now) {
            self.node.handle_input(now, Input::Timeout);
        }
        Ok(())
    }

    fn transmit(&mut self, now: Instant) {
        let one = NonZeroUsize::MIN;
        while let Some(transmit) = self.node.poll_transmit(now, one, &mut self.buffer) {
            // What the socket does not take is lost; QUIC sends its contents again.
            let _ = self.socket.send_to(&self.buffer, transmit.destination);
            self.buffer.clear();
        }
    }

    /// Hits the ball back whenever it comes; says how often it had been hit by then.
    fn play(&mut self, now: Instant) -> Result<Option<u64>, Box<dyn Error>> {
        let mut came = None;
        while let Some(event) = self.node.poll_event() {
            match event {
                Event::Message(ball) => {
                    // What a peer sends is no reason to end the loop, whatever it is.
                    let Ok(hits) = ball.body[..].try_into().map(u64::from_be_bytes) else {
                        let status = Status::new(StatusCode::INVALID_ARGUMENT, "no ball");
                        let _ = self.node.reject(now, ball.key, status);
                        continue;
                    };
                    if self.node.ack(now, ball.key).is_err() {
                        let status = Status::new(StatusCode::INVALID_ARGUMENT, "no reply comes");
                        let _ = self.node.reject(now, ball.key, status);
                    }
                    if hits < HITS {
                        let back = Message::new(ball.tag, (hits + 1).to_be_bytes().to_vec());
                        // Events are told later than they come about: whose ball it is may have gone.
                        if let Err(refused) = self.node.send(now, ball.key.session, back) {
                            println!("not hit back: {refused}");
                        }
                    }
                    came = Some(hits);
                }
                // A session that is closed in order is not retained.
                Event::Disconnected {
                    reason,
                    retained: true,
                    ..
                } => return Err(reason.to_string().into()),
                _ => {}
            }
        }
        Ok(came)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["localhost".into()])?.self_signed(&key)?;
    let (certificate, key) = (certificate.pem(), key.serialize_pem());
    let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes(), "the server")?;
    let roots = Roots::from_pem(certificate.as_bytes(), "the roots")?;

    let mut poll = Poll::new()?;
    let server = ServerRole::new(identity, Admission::Open);
    let mut server = Player::new(server.into(), &poll, Token(0))?;
    let mut client = Player::new(ClientRole::new(roots).into(), &poll, Token(1))?;

    let start = Instant::now();
    let address = server.socket.local_addr()?;
    let dial = Dial::new(address, "localhost", "anna".parse()?);
    let session = client.node.connect(start, dial)?;
    let ball = Message::new(Tag::of("demo.Ball"), 1_u64.to_be_bytes().to_vec());
    client.node.send(start, session, ball)?;

    let mut happened = mio::Events::with_capacity(2);
    let (mut hits, mut took) = (0, None);
    loop {
        let now = Instant::now();
        for player in [&mut server, &mut client] {
            player.receive(now)?;
            hits = player.play(now)?.unwrap_or(hits);
            player.transmit(now);
        }
        if hits == HITS && took.is_none() {
            took = Some(start.elapsed());
            let code = CloseCode::NORMAL;
            client.node.close(now, session, code, "game over")?;
        }
        // One sleep for both: until either socket has something, or the earlier deadline. There is none
        // once both have nothing left to do, and all that was to be said of the end has been sent.
        let deadlines = [server.node.poll_timeout(), client.node.poll_timeout()];
        let Some(due) = deadlines.into_iter().flatten().min() else {
            break;
        };
        let sleep = due.saturating_duration_since(Instant::now());
        match poll.poll(&mut happened, Some(sleep)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
    }
    let took = took.ok_or("the ball was lost")?;
    println!(
        "the ball was hit {hits} times in {took:.2?}: {:.1?} each",
        took / HITS as u32
    );
    Ok(())
}
