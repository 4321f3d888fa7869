//! A simulated network in virtual time: many nodes, one seed, no sockets and no sleeps.
//!
//! A [`World`] has nodes, the paths between them, and a clock that jumps from one event to the
//! next, so that minutes of a conversation take milliseconds of a test. Paths delay, lose, reorder,
//! duplicate and damage datagrams, have a bottleneck, and can be cut ([`Path`]); nodes can be
//! killed, started anew, paused, and moved to another address. Everything follows from one seed,
//! in any process: what fails once fails each time.
//!
//! # A test of a handler
//!
//! A handler's [`Context`](trunkline_core::driver::Context) is one message's of one session: who sent it, how long
//! they wait, and how to send them something. Nothing but a session makes one, so a test calls handlers as everybody
//! does, through a client; in a [`simulated::Simulation`], where that takes two lines, some milliseconds, and no
//! socket or file. What is tested then is the service as it runs: its routing, the order in its lanes,
//! deadlines and cancels are those of production.
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use trunkline_core::driver::{Context, PromiseError, Service}; // `trunkline_tokio` has the same ones
//! use trunkline_core::{Status, StatusCode};
//! use trunkline_testkit::simulated::Simulation;
//! # #[derive(Clone, PartialEq, prost::Message)] struct Said { #[prost(string, tag = "1")] text: String }
//! # impl prost::Name for Said { const NAME: &'static str = "Said"; const PACKAGE: &'static str = "chat.v1"; }
//! # #[derive(Clone, PartialEq, prost::Message)] struct Count {}
//! # impl prost::Name for Count { const NAME: &'static str = "Count"; const PACKAGE: &'static str = "chat.v1"; }
//! # #[derive(Clone, PartialEq, prost::Message)] struct Counted { #[prost(uint64, tag = "1")] lines: u64 }
//! # impl prost::Name for Counted { const NAME: &'static str = "Counted"; const PACKAGE: &'static str = "chat.v1"; }
//!
//! #[derive(Default)]
//! struct Room {
//!     lines: AtomicU64,
//! }
//!
//! async fn said(room: Context<Room>, said: Said) -> Result<(), Status> {
//!     if said.text.is_empty() {
//!         return Err(Status::new(StatusCode::INVALID_ARGUMENT, "say something"));
//!     }
//!     room.state().lines.fetch_add(1, Ordering::Relaxed);
//!     Ok(())
//! }
//!
//! async fn count(room: Context<Room>, _: Count) -> Result<Counted, Status> {
//!     Ok(Counted { lines: room.state().lines.load(Ordering::Relaxed) })
//! }
//!
//! fn service() -> Service<Room> {
//!     Service::new(Room::default()).on(said).on_request(count)
//! }
//!
//! // The test:
//! let simulation = Simulation::new(7);
//! simulation.run(async {
//!     let _server = simulation.server().service(service()).await?;
//!     let anna = simulation.client("anna").await?;
//!
//!     anna.send(&Said { text: "hello".into() }).acked().await?;
//!     let counted: Counted = anna.request(&Count {}).await?;
//!     assert_eq!(counted.lines, 1);
//!
//!     // What a handler does not take, and what no handler is there for.
//!     let silence = anna.send(&Said::default()).acked().await;
//!     assert!(matches!(silence, Err(PromiseError::Rejected(status)) if status.reason == "say something"));
//!     let unknown = anna.send(&counted).acked().await;
//!     assert!(matches!(unknown, Err(PromiseError::Rejected(status)) if status.code == StatusCode::UNIMPLEMENTED));
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Both lines are builders, so that what a handler asks of its context can be given to it: a user that
//! [`Context::admitted`](trunkline_core::driver::Context::admitted) finds with `.admission(…)` and `.credentials(…)`,
//! somebody to send to with a client's `.service(…)`, others in the room with more clients.
//! A handler that panics, as by a failed assertion, fails the test at the end of its run
//! ([`Simulation::take_panics`](simulated::Simulation::take_panics)), and a wait that nothing ends does after a day of virtual
//! time ([`Simulation::stall_timeout`](simulated::Simulation::stall_timeout)). It is a plain `#[test]`, and none of tokio's.
//! What a handler waits for has to come from the simulation, too: one that sleeps finds
//! [`Simulation::sleep`](simulated::Simulation::sleep) in its state. One that calls for tokio's timers or tasks is
//! tested over loopback, in tokio.
//!
//! In a package of your own, `trunkline-testkit` with `default-features = false` is enough.
//!
//! # A test of a service of your own
//!
//! The service under test counts, and must count right when its path is cut and comes back:
//!
//! ```
//! use std::time::{Duration, Instant};
//! use trunkline_core::{Event, Node, Tag};
//! use trunkline_testkit::World;
//!
//! let mut count = 0;
//! let mut counter = |node: &mut Node, now: Instant, event: &Event| {
//!     if let Event::Message(request) = event {
//!         count += u32::from(request.body[0]);
//!         node.reply(now, request.key, Tag::of("counter.v1.Count"), count.to_string()).ok();
//!     }
//! };
//!
//! let mut world = World::new(7);
//! world.path.delay = Duration::from_millis(40);
//! world.path.loss = 0.05;
//! let server = world.server();
//! let client = world.client();
//! let session = world.connect(client, server, "alice");
//! world.run(Duration::from_secs(1), &mut counter);
//!
//! // The path is cut for so long that both sides find their peer dead. What is asked meanwhile
//! // waits.
//! world.path.cut = true;
//! let first = world.request(client, session, &[1]);
//! let second = world.request(client, session, &[2]);
//! world.run(Duration::from_secs(100), &mut counter);
//! assert_eq!(world.outcome(client, first), None);
//!
//! // It comes back: the session is resumed, and each request is handled once, in its turn.
//! world.path.cut = false;
//! world.run(Duration::from_secs(60), &mut counter);
//! assert_eq!(world.outcome(client, first).as_deref(), Some("Replied 1"));
//! assert_eq!(world.outcome(client, second).as_deref(), Some("Replied 3"));
//! let resumed = |event: &Event| matches!(event, Event::Connected { resumed: true, .. });
//! assert!(world.log(client).iter().any(|(_, event)| resumed(event)));
//! assert_eq!(count, 3);
//! ```
//!
//! Nodes of several kinds get an application each with [`World::attach`]; [`echo`] is one that
//! answers everything.
//!
//! Services that are written against handles and typed handlers run on the same network: see
//! [`simulated`].
//!
//! What every application may rely on is checked by one [`oracle`]: [`swarm`] makes whole runs up from a seed, with all
//! their faults, and judges them by it. A `World` or a `Simulation` of your own is not judged by itself.
//!
//! # What the seed decides
//!
//! A run follows from its seed and from the test. Not by itself, where the code under test asks somebody else:
//!
//! * `tokio::select!` without `biased;` draws the branch that it looks at first; `futures::select!` does, too.
//! * The order of a `HashMap` or `HashSet` is another one in each process.
//! * `Instant::now` and `SystemTime::now` are real time.
//!   [`Simulation::elapsed`](simulated::Simulation::elapsed) and [`World::now`] are virtual.
//! * Other threads run when they like.
//! * Tasks of a [`Simulation`](simulated::Simulation) run in the order in which they were woken, whatever the seed: another
//!   one changes what the network does, and no order of tasks at the same instant.
//! * Digests of worlds with raw peers ([`raw_peer`]) do not repeat: these draw from the operating system.

mod amplification;
mod certificates;
mod crowd;
mod digest;
mod direction;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod host;
mod initials;
mod memory;
mod network;
pub mod oracle;
mod path;
#[cfg(all(feature = "peers", target_os = "linux"))]
#[doc(hidden)]
pub mod peers;
mod random;
pub mod raw_peer;
mod recordings;
pub mod simulated;
pub mod swarm;
mod world;

pub use certificates::{Authority, Certificates, Leaf};
pub use crowd::most_within;
pub use initials::{INITIAL_BYTES, Initials, forged_end};
pub use memory::{Counter, count_by};
pub use network::{Observed, Traffic};
pub use path::Path;
pub use random::Random;
pub use recordings::{Recording, assert_replays};
pub use world::{Happened, NodeIndex, World, echo, silent};
