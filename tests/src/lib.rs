//! A simulated network in virtual time: many nodes, one seed, no sockets and no sleeps.
//!
//! A [`World`] has nodes, the paths between them, and a clock that jumps from one event to the
//! next, so that minutes of a conversation take milliseconds of a test. Paths delay, lose, reorder,
//! duplicate and damage datagrams, have a bottleneck, and can be cut ([`Path`]); nodes can be
//! killed, started anew, paused, and moved to another address. Everything follows from one seed,
//! in any process: what fails once fails each time.
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
//! What every application may rely on is checked by one [`oracle`]; [`swarm`] makes whole runs up
//! from a seed, with all their faults.

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
