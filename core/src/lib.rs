//! Reliable client-server messaging over QUIC as a state machine without input or output.
//!
//! A [`Node`] is the whole machine of one process: any number of peers, client and server at once.
//! It opens no socket, reads no clock, draws no randomness of its own and spawns nothing; whoever
//! owns it carries datagrams and time in, and datagrams and events out. The same configuration,
//! seed and inputs give the same outputs, byte for byte.
//!
//! # The contract
//!
//! 1. [`Node::handle_input`] takes a datagram or a timeout, and cannot fail: bad bytes are the
//!    peer's fault and end, at worst, that peer's link, with a numbered [`CloseCode`].
//! 2. Commands ([`Node::connect`], [`Node::send`], [`Node::request`], …) take the time, and return
//!    an error without having changed anything, or do what they say.
//! 3. After either, drain [`Node::poll_transmit`] and [`Node::poll_event`], in any order, until
//!    both say `None`. Several datagrams may be given before that, as a socket has them, but not thousands: of answers
//!    outside of connections, 1,024 wait at most ([`MetricsSnapshot::responses_dropped`]). Datagrams come before
//!    the time: a peer whose packets wait in the socket is not dead.
//! 4. [`Node::poll_timeout`] says when to call `handle_input` with [`Input::Timeout`]. It is O(1). QUIC's pacing is
//!    among these deadlines, so a loop that turns at a fixed rate alone is a slow one.
//! 5. Every [`Event::Admission`] owes a decision: [`Node::admit`] or [`Node::refuse`]; and every
//!    [`Event::Message`] an answer: [`Node::ack`], [`Node::reply`] or [`Node::reject`]. Those too that nobody
//!    waits for: [`Expects::Nothing`] wants an ack, best effort included.
//!    Until it is given, the message counts against its lane's window, and the peer's sending is
//!    held back by it. An answer that was refused, as a reply that is too large, leaves it owed: reject the message
//!    then. With [`Limits::deliveries`] of a lane owed, nothing more comes in that lane.
//!    [`MetricsSnapshot::deliveries`] is how many are owed.
//! 6. A node is ahead of its events. When one is taken its session may be gone, as the [`Event::Closed`] behind it will say,
//!    and a command answers [`CommandError::UnknownSession`] or [`CommandError::UnknownDelivery`]: that
//!    is a peer's doing, and no reason to end a loop.
//! 7. The time of day is told when the node is made, and goes on with `now`. Tell it again
//!    ([`Node::set_wall`]) now and then, and when a machine has slept: certificates are judged by it.
//! 8. Every queue is bounded. A full one gives the message back; what is reliable is never dropped
//!    silently. Best effort to a session without a link is counted alone ([`MetricsSnapshot`]). What a call does is
//!    bounded as well: where a peer sends frame after frame that no event comes of, as cancels of what was answered, its link is read
//!    in portions, one a millisecond. `poll_timeout` says when ([`MetricsSnapshot::reads_throttled`]).
//! 9. The process may end when `poll_timeout` is `None`, once sessions are [closed](Node::close) or the node is
//!    [drained](Node::drain). A node that is dropped before leaves its peers to find that out, and gives nothing back.
//!
//! # Both ends in one program
//!
//! ```
//! use std::time::{Duration, Instant, SystemTime};
//! use std::num::NonZeroUsize;
//! use trunkline_core::*;
//!
//! # fn certificates() -> (Identity, Roots) {
//! #     let key = rcgen::KeyPair::generate().unwrap();
//! #     let certificate = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
//! #     let (pem, key) = (certificate.pem(), key.serialize_pem());
//! #     (Identity::from_pem(pem.as_bytes(), key.as_bytes(), "server").unwrap(), Roots::from_pem(pem.as_bytes(), "roots").unwrap())
//! # }
//! let (identity, roots) = certificates();
//! let mut now = Instant::now();
//! let origin = |n| Origin::new(now, SystemTime::now(), Seed::new([n; 32]));
//! let (server, client) = (ServerRole::new(identity, Admission::Open), ClientRole::new(roots));
//! let mut server = Node::new(Config::default(), server.into(), origin(1))?;
//! let mut client = Node::new(Config::default(), client.into(), origin(2))?;
//!
//! let addresses = ["192.0.2.1:4433".parse()?, "192.0.2.2:5555".parse()?];
//! let session = client.connect(now, Dial::new(addresses[0], "localhost", "alice".parse()?))?;
//! let promise = client.request(now, session, Message::new(Tag::of("demo.Ping"), "hello"), None)?;
//!
//! let mut reply = None;
//! while reply.is_none() {
//!     // Carry datagrams across: a loop of yours would send and receive them on a UDP socket.
//!     for (at, other) in [(1, 0), (0, 1)] {
//!         let (from, to) = if at == 1 { (&mut client, &mut server) } else { (&mut server, &mut client) };
//!         let mut datagrams = Vec::new();
//!         while from.poll_transmit(now, NonZeroUsize::MIN, &mut datagrams).is_some() {
//!             let data = std::mem::take(&mut datagrams)[..].into();
//!             let remote = addresses[1 - other];
//!             to.handle_input(now, Input::Datagram(Datagram::new(remote, data)));
//!         }
//!     }
//!     while let Some(event) = server.poll_event() {
//!         if let Event::Message(message) = event {
//!             let answered = match message.expects {
//!                 Expects::Reply => server.reply(now, message.key, Tag::of("demo.Pong"), message.body),
//!                 Expects::Ack | Expects::Nothing => server.ack(now, message.key),
//!             };
//!             // What a peer may bring about is no reason to end a server's loop. What could not be given, as a reply
//!             // that is too large, is owed all the same.
//!             if let Err(error) = answered {
//!                 let status = Status::new(StatusCode::INTERNAL, error.to_string());
//!                 let _ = server.reject(now, message.key, status);
//!             }
//!         }
//!     }
//!     while let Some(event) = client.poll_event() {
//!         if let Event::Settled { outcome: Outcome::Replied { body, .. }, .. } = event {
//!             reply = Some(body);
//!         }
//!     }
//!     now += Duration::from_millis(1);
//!     for node in [&mut server, &mut client] {
//!         node.handle_input(now, Input::Timeout);
//!     }
//! }
//! assert_eq!(reply.as_deref(), Some(&b"hello"[..]));
//! # let _ = promise;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Sockets
//!
//! A UDP socket as the system makes it holds some hundred packets, and loses what a crowd sends beyond that: of a thousand
//! clients that dial at once, a third fail and come back seconds later. Ask for larger buffers; the adapters ask
//! for 2 MiB each way. `driver::system::Batches` does (feature `system`), receives and sends many datagrams with a call,
//! with ECN marks and the local addresses that a server at `0.0.0.0` needs ([`Datagram::local_ip`]), and never waits, so that
//! it fits into any loop. `driver::system::bind_shards` binds the sockets of several nodes at one address ([`Shard`]).
//!
//! ```toml
//! [dependencies]
//! trunkline-core = { git = "https://github.com/trunkline/trunkline", features = ["system"] }
//! ```
//!
//! # A socket of both families
//!
//! A socket that is bound to `[::]` and serves IPv4 too knows IPv4 addresses mapped, as `[::ffff:192.0.2.1]`. A node
//! compares addresses as they are. Hand in IPv4 ones as such ([`Datagram::remote`], [`Datagram::local_ip`]), dial
//! them as such ([`Dial::address`]), and map them on the way out ([`Transmit::destination`]; [`Transmit::local_ip`],
//! if you use it, as your system wants it). Otherwise applications and logs are shown mapped addresses, and a client
//! whose NAT gives it another port begins anew with the speed and the packet size of its path, which QUIC keeps
//! only where it sees IPv4. `driver::system::Batches` (feature `system`) does all of that.
//!
//! ```
//! use std::net::SocketAddr;
//!
//! fn seen(remote: SocketAddr) -> SocketAddr {
//!     let mapped = match remote {
//!         SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped(),
//!         SocketAddr::V4(_) => None,
//!     };
//!     // Others stay as they are: a link's own address has a scope.
//!     mapped.map_or(remote, |v4| (v4, remote.port()).into())
//! }
//!
//! fn named(destination: SocketAddr) -> SocketAddr {
//!     match destination {
//!         SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
//!         SocketAddr::V6(_) => destination,
//!     }
//! }
//!
//! let client: SocketAddr = "192.0.2.1:5".parse().unwrap();
//! assert_eq!(named(client), "[::ffff:192.0.2.1]:5".parse().unwrap());
//! assert_eq!(seen(named(client)), client);
//! ```
//!
//! # Without an operating system
//!
//! This crate itself needs `Instant`, collections and allocation. What keeps it from building
//! without `std` is below it: quinn-proto (std hash maps and `Instant`) and rustls with aws-lc-rs,
//! whose C code needs a C library.

#![warn(clippy::iter_over_hash_type)]
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests begin at some instant")
)]

mod arena;
mod backoff;
mod busy_poll;
mod cohorts;
mod config;
mod dial;
mod dirty;
#[cfg(feature = "driver")]
pub mod driver;
mod error;
mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod groups;
mod heartbeat;
mod id;
mod inbox;
mod link;
mod logged;
mod message;
mod metrics;
mod moments;
mod node;
mod outbox;
mod planted;
mod promise;
mod quic;
mod seed;
mod session;
mod sliding;
mod spans;
mod steering;
pub mod tap;
mod timers;
pub mod trace;

/// What bodies are, and credentials.
pub use bytes::Bytes;
/// What a datagram's payload is in when it comes.
pub use bytes::BytesMut;
/// What certificates are, and their keys.
pub use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub use busy_poll::BusyPoll;
pub use config::*;
pub use error::*;
pub use id::*;
pub use message::*;
pub use metrics::{Measured, MetricsSnapshot};
pub use node::*;
#[cfg(feature = "planted")]
#[doc(hidden)]
pub use planted::{Bug, plant};
pub use quic::{Identity, PersistentKeys, Roots};
pub use seed::Seed;
pub use steering::Steering;
