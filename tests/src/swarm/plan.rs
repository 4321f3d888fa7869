//! What happens in a run, as a list that can be read, cut down and run again.

use std::fmt;
use std::time::Duration;

use trunkline_core::Config;

use crate::{Path, Random};

use super::{draw, settings};

/// A whole run: its nodes, and what happens to them and when.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it was made from.
    pub seed: u64,
    /// How many servers there are: nodes 0, 1 …
    pub servers: usize,
    /// How many clients, the nodes behind them.
    pub clients: usize,
    /// How the servers are configured.
    pub server: Config,
    /// How the clients are configured.
    pub client: Config,
    /// Servers ask their application whom to let in.
    pub asks: bool,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub struct Step {
    /// When, from the start on.
    pub at: Duration,
    /// What.
    pub action: Action,
}

/// What can happen. Nodes are meant by their index, sessions by their place in a node's list at
/// that time, promises and deliveries likewise; all of them modulo how many there are, so that a
/// list from which something is taken away still means something.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Action {
    Connect {
        client: usize,
        server: usize,
    },
    Send {
        node: usize,
        session: usize,
        kind: Kind,
        lane: Option<u8>,
        size: usize,
        count: usize,
    },
    BestEffort {
        node: usize,
        session: usize,
        key: Option<u64>,
        size: usize,
        count: usize,
    },
    Broadcast {
        node: usize,
        group: Option<usize>,
        key: Option<u64>,
        size: usize,
        count: usize,
    },
    Join {
        node: usize,
        session: usize,
        group: usize,
    },
    Leave {
        node: usize,
        session: usize,
        group: usize,
    },
    Cancel {
        node: usize,
        promise: usize,
    },
    /// The node's application answers what it has put aside.
    Answer {
        node: usize,
        count: usize,
        rejects: bool,
    },
    /// The node's application puts everything aside from now on, or no longer.
    Hold {
        node: usize,
        holds: bool,
    },
    Close {
        node: usize,
        session: usize,
        code: u32,
    },
    Drain {
        node: usize,
        deadline: Duration,
        retry_after: Option<Duration>,
    },
    /// The node's next dials for a session go to another server.
    Redirect {
        client: usize,
        session: usize,
        server: usize,
    },
    Network(Path),
    Cut {
        from: usize,
        to: usize,
        both: bool,
        cut: bool,
    },
    Rebind {
        node: usize,
    },
    Kill {
        node: usize,
        keys_lost: bool,
    },
    Start {
        node: usize,
    },
    Pause {
        node: usize,
    },
    Wake {
        node: usize,
    },
    Lag {
        node: usize,
        lag: Duration,
    },
    /// The wall clock that processes start with is set forward or, from there, back.
    Wall {
        day_on: bool,
    },
}

/// What a reliable message waits for, and how long; `None`: as long as is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Kind {
    Told,
    Acked(Option<Duration>),
    Asked(Option<Duration>),
}

impl Plan {
    /// The plan that follows from a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x7377_6172_6d00_0001);
        let [mut server, client] = settings::draw(&mut random);
        let servers = random.pick(&[1, 1, 1, 2, 3]);
        let clients = match random.below(400) {
            0 => 100 + random.below(100),
            1..20 => 13 + random.below(24),
            20..160 => 4 + random.below(9),
            _ => 1 + random.below(3),
        };
        // Where hundreds come at once, a few at a time would take more than the minute they have.
        let half_open = &mut server.limits.half_open;
        *half_open = clients.div_ceil(2).max(*half_open);
        let asks = random.chance(0.2);
        let steps = draw::steps(&mut random, servers, clients);
        Self {
            seed,
            servers,
            clients,
            server,
            client,
            asks,
            steps,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            servers, clients, ..
        } = self;
        writeln!(
            f,
            "{servers} servers, {clients} clients, asks: {}",
            self.asks
        )?;
        if format!("{:?}", self.server) == format!("{:?}", self.client) {
            writeln!(f, "configuration: {:?}", self.server)?;
        } else {
            writeln!(f, "servers' configuration: {:?}", self.server)?;
            writeln!(f, "clients' configuration: {:?}", self.client)?;
        }
        for Step { at, action } in &self.steps {
            writeln!(f, "  {at:?}: {action:?}")?;
        }
        Ok(())
    }
}
