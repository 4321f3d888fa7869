//! Recordings of simulated nodes, and replays as tests.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use trunkline_core::trace::{Ending, Recorder, replay};
use trunkline_core::{Config, Node, Origin, Roles};

use crate::memory::counted;

/// The recordings of a world's nodes, in memory.
#[derive(Default)]
pub(crate) struct Recordings {
    /// How nodes that start from now on are recorded, if they are.
    pub(crate) on: Option<Recording>,
    of: BTreeMap<usize, Vec<Memory>>,
}

/// How much of a simulated node is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// Every datagram.
    Wire,
    /// What comes and goes above QUIC, without what bodies hold.
    Link,
    /// The same with it.
    LinkWithBodies,
}

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Recordings {
    /// Starts a node, recorded or not.
    #[allow(
        clippy::expect_used,
        reason = "a test helper: a wrong configuration ends the test"
    )]
    pub(crate) fn start(
        &mut self,
        index: usize,
        config: Config,
        roles: Roles,
        origin: Origin,
    ) -> Node {
        let Some(recording) = self.on else {
            let node = counted(|| Node::new(config, roles, origin));
            return node.expect("the configuration is valid");
        };
        let memory = Memory::default();
        self.of.entry(index).or_default().push(memory.clone());
        let recorder = match recording {
            Recording::Wire => Recorder::wire(memory),
            Recording::Link => Recorder::link(memory),
            Recording::LinkWithBodies => Recorder::link(memory).bodies(),
        };
        recorder
            .start(config, roles, origin)
            .expect("the configuration is valid")
    }

    /// What was recorded of a node so far: a trace for each of its processes.
    pub(crate) fn of(&self, index: usize) -> Vec<Vec<u8>> {
        let bytes = |memory: &Memory| {
            let memory = memory.0.lock().unwrap_or_else(PoisonError::into_inner);
            memory.clone()
        };
        self.of
            .get(&index)
            .map_or_else(Vec::new, |all| all.iter().map(bytes).collect())
    }
}

/// Replays a trace file as a test: panics, in words that say what differs, unless everything comes
/// out as it was recorded. A relative path starts at the package, as `cargo test` does.
///
/// ```no_run
/// trunkline_testkit::assert_replays("traces/resume.tlt");
/// ```
#[track_caller]
#[allow(
    clippy::panic,
    reason = "an assertion for tests: a difference ends the test"
)]
pub fn assert_replays(trace: impl AsRef<Path>) {
    let path = trace.as_ref().display();
    let file = match File::open(trace.as_ref()) {
        Ok(file) => BufReader::new(file),
        Err(error) => panic!("{path} cannot be opened: {error}"),
    };
    match replay(file, Instant::now()) {
        Err(error) => panic!("{path}: {error}"),
        Ok(report) => {
            let whole = !matches!(report.ending, Some(Ending::CutShort(_)));
            assert!(report.is_identical() && whole, "{path}: {report}");
        }
    }
}
