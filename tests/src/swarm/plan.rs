//! What happens in a run, as a list that can be read, cut down and run again.

use std::fmt;
use std::time::Duration;

use trunkline_core::{Config, SessionsFull};

use crate::{Path, Random};

use super::fields::differences;
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
    /// At the end, sessions carry messages of each kind, and rest.
    pub converses: bool,
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
/// that time, promises and deliveries likewise; these modulo how many there are, so that a list from
/// which something is taken away still means something.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Action {
    Connect {
        client: usize,
        server: usize,
    },
    /// All clients dial the server at the same instant.
    Storm {
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
        /// The session that it does not go to, be it in the group or not.
        except: Option<usize>,
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
    /// The node shows another certificate from now on, and a client other credentials, too.
    Renew {
        node: usize,
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
    /// What arrives is held for so long, and then comes all at once.
    Clog {
        from: usize,
        to: usize,
        lasts: Duration,
    },
    Rebind {
        node: usize,
    },
    /// To the address before.
    RebindBack {
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
    /// The node's socket takes so many transmits at each visit from now on, as one whose send buffer is
    /// full; `None`: all.
    SendBuffer {
        node: usize,
        takes: Option<usize>,
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
    /// The plan that follows from a seed. One seed in a thousand, that ends in 999, makes a storm:
    /// a thousand clients dial one server at once, and again when it has crashed, with other faults
    /// about as in any run.
    pub fn new(seed: u64) -> Self {
        if seed % 1_000 == 999 {
            Self::storm(seed)
        } else {
            Self::swarm(seed)
        }
    }

    fn storm(seed: u64) -> Self {
        const CLIENTS: usize = 1_000;
        let mut random = Random::new(seed ^ 0x7374_6f72_6d00_0001);
        let configs = settings::draw(&mut random);
        let [mut server, client] = configs.map(|mut config| {
            // More often, they are most of what is simulated.
            config.heartbeat.interval = config.heartbeat.interval.max(Duration::from_secs(5));
            config
        });
        // Not all at once, or all of them; with proof of their addresses, or without.
        server.limits.half_open = random.pick(&[CLIENTS / 2, 4 * CLIENTS]);
        server.limits.half_open_unvalidated = random.pick(&[0, CLIENTS / 4, CLIENTS]);
        let asks = random.chance(0.2);
        let steps = draw::storm(&mut random, CLIENTS);
        Self {
            seed,
            servers: 1,
            clients: CLIENTS,
            server,
            client,
            asks,
            converses: true,
            steps,
        }
    }

    fn swarm(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x7377_6172_6d00_0001);
        let [mut server, mut client] = settings::draw(&mut random);
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
        let mut steps = draw::steps(&mut random, servers, clients);
        if random.chance(0.1) {
            server.limits.sessions = random.pick(&[1, 3]);
        }
        if random.chance(0.1) {
            server.limits.sessions_per_client = 1;
        }
        // Drawn last, so that what a seed did before stays in it.
        draw::renewals(&mut random, servers + clients, &mut steps);
        if server.limits.sessions_per_client == 1 && random.chance(0.5) {
            server.sessions_full = SessionsFull::EndOldest;
            server.limits.sessions_per_client = random.pick(&[1, 1, 2]);
        }
        for config in [&mut server, &mut client] {
            if random.chance(0.1) {
                config.transport.max_mtu = random.pick(&[1_200, 8_952]);
            }
        }
        // From numbers of their own, by which none of the past seeds has any: they stay what they were.
        let mut random = Random::new(seed ^ 0x6578_6365_7074_001c);
        draw::exceptions(&mut random, &mut steps);
        Self {
            seed,
            servers,
            clients,
            server,
            client,
            asks,
            converses: true,
            steps,
        }
    }
}

impl Plan {
    /// Nodes and configuration, where that is not the default, in some lines.
    pub fn settings(&self) -> String {
        let Self {
            servers,
            clients,
            asks,
            converses,
            ..
        } = self;
        let [server, client] = [&self.server, &self.client].map(differences);
        let silent = if *converses {
            ""
        } else {
            ", silent at the end"
        };
        let nodes = format!("  {servers} servers, {clients} clients, asks: {asks}{silent}\n");
        if server == client {
            return format!("{nodes}  configuration: {server}\n");
        }
        format!("{nodes}  servers' configuration: {server}\n  clients' configuration: {client}\n")
    }

    /// How a node is configured.
    pub(super) fn config(&self, node: usize) -> &Config {
        if node < self.servers {
            &self.server
        } else {
            &self.client
        }
    }

    /// Whether anything happens to a node.
    pub(super) fn mentions(&self, node: usize) -> bool {
        let mut steps = self.steps.clone();
        let mut nodes = steps.iter_mut().flat_map(|step| step.action.nodes());
        nodes.any(|mentioned| *mentioned == node)
    }

    /// The same without a node and what happens to it; as it is, if that was the last of its kind.
    pub(super) fn without_node(mut self, node: usize) -> Self {
        let kind = if node < self.servers {
            &mut self.servers
        } else {
            &mut self.clients
        };
        if *kind == 1 {
            return self;
        }
        *kind -= 1;
        let mut steps = std::mem::take(&mut self.steps);
        steps.retain_mut(|step| {
            let mut kept = true;
            for mentioned in step.action.nodes() {
                kept &= *mentioned != node;
                *mentioned -= usize::from(*mentioned > node);
            }
            kept
        });
        self.steps = steps;
        self
    }
}

impl Action {
    /// The nodes that it happens to.
    fn nodes(&mut self) -> Vec<&mut usize> {
        match self {
            Self::Connect { client, server } | Self::Redirect { client, server, .. } => {
                vec![client, server]
            }
            Self::Cut { from, to, .. } | Self::Clog { from, to, .. } => vec![from, to],
            Self::Storm { server } => vec![server],
            Self::Send { node, .. }
            | Self::BestEffort { node, .. }
            | Self::Broadcast { node, .. }
            | Self::Join { node, .. }
            | Self::Leave { node, .. }
            | Self::Cancel { node, .. }
            | Self::Answer { node, .. }
            | Self::Hold { node, .. }
            | Self::Close { node, .. }
            | Self::Drain { node, .. }
            | Self::Renew { node }
            | Self::Rebind { node }
            | Self::RebindBack { node }
            | Self::Kill { node, .. }
            | Self::Start { node }
            | Self::Pause { node }
            | Self::Wake { node }
            | Self::Lag { node, .. }
            | Self::SendBuffer { node, .. } => vec![node],
            Self::Network(_) | Self::Wall { .. } => Vec::new(),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.settings())?;
        for Step { at, action } in &self.steps {
            writeln!(f, "  {at:?}: {action:?}")?;
        }
        Ok(())
    }
}
