//! A simulated network in virtual time: many nodes, one seed, no sockets and no sleeps.
//!
//! ```
//! use std::time::Duration;
//! use trunkline_testkit::{World, echo};
//!
//! let mut world = World::new(7);
//! let server = world.server();
//! let client = world.client();
//! let session = world.connect(client, server, "alice");
//! let promise = world.request(client, session, b"ping");
//! world.run(Duration::from_secs(1), echo);
//! assert_eq!(world.outcome(client, promise).as_deref(), Some("Replied ping"));
//! ```

mod certificates;
mod path;
mod random;
pub mod raw_peer;
mod world;

pub use certificates::{Authority, Certificates, Leaf};
pub use path::Path;
pub use random::Random;
pub use world::{Happened, NodeIndex, World, echo};
