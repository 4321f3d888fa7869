//! A server and a client on one thread, with `std::net::UdpSocket` and nothing else.
//!
//! ```text
//! cargo run -p trunkline-core --example embed
//! ```

#![allow(
    clippy::disallowed_methods,
    reason = "whoever drives a node reads the clock for it"
)]

use std::error::Error;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant, SystemTime};

use trunkline_core::{
    Admission, BytesMut, ClientRole, CloseCode, Config, Datagram, Dial, Event, Expects, Identity,
    Input, Message, Node, Origin, Outcome, Roles, Roots, Seed, ServerRole, Status, StatusCode, Tag,
};

/// A node, its socket, and what it takes to drive the one with the other.
struct Driven {
    node: Node,
    socket: UdpSocket,
    buffer: Vec<u8>,
}

impl Driven {
    fn new(roles: Roles) -> Result<Self, Box<dyn Error>> {
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed)?;
        let origin = Origin::new(Instant::now(), SystemTime::now(), Seed::new(seed));
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            node: Node::new(Config::default(), roles, origin)?,
            socket,
            buffer: Vec::new(),
        })
    }

    fn address(&self) -> Result<SocketAddr, Box<dyn Error>> {
        Ok(self.socket.local_addr()?)
    }

    /// One turn: datagrams in, then timeouts, then datagrams out. Datagrams come first, so that a
    /// late turn does not take a peer for dead whose packets are waiting in the socket.
    fn turn(&mut self) -> Result<(), Box<dyn Error>> {
        let mut packet = [0; 65_536];
        loop {
            match self.socket.recv_from(&mut packet) {
                Ok((size, remote)) => {
                    let datagram = Datagram::new(remote, BytesMut::from(&packet[..size]));
                    self.node
                        .handle_input(Instant::now(), Input::Datagram(datagram));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let now = Instant::now();
        if self
            .node
            .poll_timeout()
            .is_some_and(|deadline| deadline <= now)
        {
            self.node.handle_input(now, Input::Timeout);
        }
        while let Some(transmit) = self
            .node
            .poll_transmit(now, NonZeroUsize::MIN, &mut self.buffer)
        {
            // A datagram that the socket does not take is lost; QUIC sends its contents again.
            self.socket.send_to(&self.buffer, transmit.destination).ok();
            self.buffer.clear();
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["localhost".into()])?.self_signed(&key)?;
    let (certificate, key) = (certificate.pem(), key.serialize_pem());
    let identity = Identity::from_pem(
        certificate.as_bytes(),
        key.as_bytes(),
        "the throwaway certificate",
    )?;
    let roots = Roots::from_pem(certificate.as_bytes(), "the throwaway certificate")?;

    let mut server = Driven::new(ServerRole::new(identity, Admission::Open).into())?;
    let mut client = Driven::new(ClientRole::new(roots).into())?;

    let dial = Dial::new(server.address()?, "localhost", "alice".parse()?);
    let session = client.node.connect(Instant::now(), dial)?;
    client.node.request(
        Instant::now(),
        session,
        Message::new(Tag::of("demo.Ping"), "hello"),
        None,
    )?;

    loop {
        server.turn()?;
        while let Some(event) = server.node.poll_event() {
            println!("server: {event:?}");
            if let Event::Message(message) = event {
                let (now, node, key) = (Instant::now(), &mut server.node, message.key);
                let answered = match message.expects {
                    Expects::Reply => node.reply(now, key, Tag::of("demo.Pong"), message.body),
                    Expects::Ack | Expects::Nothing => node.ack(now, key),
                };
                // What a peer may bring about is no reason to end a server's loop. What could not be
                // given, as a reply that is too large, is owed all the same.
                if let Err(error) = answered {
                    println!("server: not answered: {error}");
                    let status = Status::new(StatusCode::INTERNAL, error.to_string());
                    let _ = node.reject(now, key, status);
                }
            }
        }
        client.turn()?;
        while let Some(event) = client.node.poll_event() {
            println!("client: {event:?}");
            if let Event::Settled {
                outcome: Outcome::Replied { body, .. },
                after,
                ..
            } = event
            {
                println!(
                    "client: {:?} came back after {after:?}",
                    String::from_utf8_lossy(&body)
                );
                client
                    .node
                    .close(Instant::now(), session, CloseCode::NORMAL, "done")?;
            }
        }
        // Neither has a session any more, and what told the other so has been sent.
        if server
            .node
            .poll_timeout()
            .or(client.node.poll_timeout())
            .is_none()
        {
            return Ok(());
        }
        // Your loop would wait here for either socket, or for the earlier `poll_timeout`.
        std::thread::park_timeout(Duration::from_micros(100));
    }
}
