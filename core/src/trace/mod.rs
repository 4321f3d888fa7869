//! Recordings of a node, and their replay.
//!
//! A trace holds what a node was made of, every input and command with its time to the nanosecond,
//! and a digest of everything that came out. [`replay`] makes the node again, in any process, gives
//! it the same, and says that the same came out, or which record differs first. `TRACE.md` beside
//! this module's source describes the format, and what can be learned from a trace.
//!
//! There are two levels. *Wire* ([`Recorder::wire`]) holds every datagram. **Who has such a trace can read all that it
//! recorded**: the seed in it gives the keys of every connection. A private key is not in it; its
//! signatures are, so that a replay needs no key. *Link* ([`Recorder::link`]) holds what comes and
//! goes above QUIC, and nothing that decrypts anything: of bodies and credentials, the lengths, unless
//! they are asked for. **Tokens of sessions are in it**: such a trace can be handed on ([`redact`]) once
//! the node has ended and its sessions' retention is over. It can be cut down ([`shrink`]), and run under
//! another configuration ([`what_if`]).
//!
//! ```
//! # use std::time::{Instant, SystemTime};
//! # use trunkline_core::*;
//! # let key = rcgen::KeyPair::generate().unwrap();
//! # let certificate = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
//! # let roots = Roots::from_pem(certificate.pem().as_bytes(), "roots").unwrap();
//! use trunkline_core::trace::{self, Recorder};
//! # use std::sync::{Arc, Mutex};
//! # #[derive(Clone, Default)] struct Memory(Arc<Mutex<Vec<u8>>>);
//! # impl std::io::Write for Memory {
//! #     fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> { self.0.lock().unwrap().write(bytes) }
//! #     fn flush(&mut self) -> std::io::Result<()> { Ok(()) }
//! # }
//! # let file = Memory::default();
//!
//! let roles = Roles { server: None, client: Some(ClientRole { roots, identity: None }) };
//! let origin = Origin { now: Instant::now(), wall: SystemTime::now(), seed: Seed::new([7; 32]), keys: None };
//! let mut node = Recorder::link(file.clone()).start(Config::default(), roles, origin)?;
//! // The node is driven as any other.
//! node.handle_input(Instant::now(), Input::Timeout);
//! drop(node);
//!
//! # let file = file.0.lock().unwrap().clone();
//! let report = trace::replay(&file[..], Instant::now())?;
//! assert!(report.is_identical(), "{report}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod apply;
mod comparison;
mod ddmin;
mod format;
mod link_replay;
mod record;
mod redact;
mod replay;
mod report;
mod ring;
mod shrink;
mod signatures;
#[cfg(test)]
mod tests;
mod what_if;

pub use comparison::{Comparison, Timeline};
pub use format::{
    Beginning, Build, Draws, End, Ending, FORMAT, Header, Lines, Reader, Record, Recorded,
    TraceError, Writer,
};
pub use record::{Recorder, StartError};
pub use redact::{RedactError, Redacted, redact};
pub use replay::{Replay, replay};
pub use report::{Difference, Report};
pub use ring::Saver;
pub use shrink::{ShrinkError, Shrunk, shrink, shrink_while};
pub use what_if::{WhatIfError, what_if};
