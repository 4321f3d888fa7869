//! The scenario, written once: what both sides do, phase by phase, and what both applications
//! must have seen by the end of each. All times that matter are left to events.

use std::time::Duration;

use Kind::{Ask, Bad, Note, Slow, Stuck, Tick, Unknown};
use Side::{Client, Server};
use Step::{
    Acked, BestEffort, Broadcast, BroadcastExcept, Cancel, Close, Cut, Drain, Heal, Join, Request,
    Send,
};

/// Who does something, or sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Client,
    Server,
}

/// What messages are, and what the application that gets one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Accepts it.
    Note,
    /// Accepts it; sent as best effort only.
    Tick,
    /// Rejects it.
    Bad,
    /// Nobody handles it.
    Unknown,
    /// Replies to it with twice its number.
    Ask,
    /// Says that it has started, and waits until the sender gives up.
    Slow,
    /// Waits until the sender gives up, silently: who has timed out may never have been heard.
    Stuck,
}

/// What a side does.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Datagrams get through.
    Heal,
    /// No datagram gets through.
    Cut,
    /// Sends a message on a lane.
    Send(Side, Kind, u64, u8),
    /// Sends a message on a lane, and waits for the ack.
    Acked(Side, Kind, u64, u8),
    /// Sends a message that is gone with its link.
    BestEffort(Side, Kind, u64),
    /// Sends a request; zero: with no timeout of its own.
    Request(Side, Kind, u64, Duration),
    /// Gives up on a request.
    Cancel(Side, Kind, u64),
    /// The server puts the client into a group.
    Join(&'static str),
    /// The server sends a tick to a group.
    Broadcast(&'static str, u64),
    /// The same to all but the client.
    BroadcastExcept(&'static str, u64),
    /// The server goes away: this long for what is under way, and a hint when to come back.
    Drain(Duration, Duration),
    /// The client closes.
    Close,
}

/// Some steps, and all that both applications have seen once they are over.
pub struct Phase {
    pub steps: &'static [Step],
    pub then: &'static [&'static str],
}

/// The client's id.
pub const CLIENT: &str = "anna";

/// What the rejection of a [`Bad`] message carries.
pub const BAD: u32 = 1_001;

const DEFAULT: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_secs(3_600);
/// No client waits longer because a server asked for it.
const TEN_MINUTES: Duration = Duration::from_secs(600);

pub const SCRIPT: &[Phase] = &[
    // The path is cut when both sides start, so that nobody misses anything.
    Phase {
        steps: &[Heal],
        then: &[
            "client link: anna connected, epoch 1",
            "server link: anna connected, epoch 1",
        ],
    },
    // Several lanes, both ways.
    Phase {
        steps: &[
            Send(Client, Note, 1, 0),
            Acked(Client, Note, 2, 0),
            Acked(Client, Note, 3, 2),
            Send(Client, Note, 4, 2),
            Acked(Client, Note, 5, 3),
            Acked(Client, Note, 6, 0),
            Acked(Server, Note, 7, 0),
            Send(Server, Note, 8, 3),
            Acked(Server, Note, 9, 3),
            BestEffort(Client, Tick, 10),
            BestEffort(Client, Tick, 11),
            BestEffort(Server, Tick, 12),
        ],
        then: &[
            "client lane 3: note 8",
            "client lane 3: note 9",
            "client lane default: note 7",
            "client outcomes: note 2 acked",
            "client outcomes: note 3 acked",
            "client outcomes: note 5 acked",
            "client outcomes: note 6 acked",
            "client ticks: tick 12",
            "server lane 2: note 3",
            "server lane 2: note 4",
            "server lane 3: note 5",
            "server lane default: note 1",
            "server lane default: note 2",
            "server lane default: note 6",
            "server outcomes: note 7 acked",
            "server outcomes: note 9 acked",
            "server ticks: tick 10",
            "server ticks: tick 11",
        ],
    },
    // Requests, timeouts, rejections, and types that nobody handles.
    Phase {
        steps: &[
            Request(Client, Ask, 20, DEFAULT),
            Request(Client, Ask, 21, DEFAULT),
            Request(Server, Ask, 22, DEFAULT),
            Request(Client, Stuck, 23, Duration::from_millis(200)),
            Request(Server, Stuck, 24, Duration::from_millis(100)),
            Acked(Client, Bad, 25, 0),
            Request(Client, Bad, 26, DEFAULT),
            Acked(Server, Unknown, 27, 2),
            Request(Client, Unknown, 28, DEFAULT),
        ],
        then: &[
            "client outcomes: ask 20 replied 40",
            "client outcomes: ask 21 replied 42",
            "client outcomes: bad 25 rejected: APPLICATION (1001)",
            "client outcomes: bad 26 rejected: APPLICATION (1001)",
            "client outcomes: stuck 23 timed out",
            "client outcomes: unknown 28 rejected: UNIMPLEMENTED (12)",
            "server outcomes: ask 22 replied 44",
            "server outcomes: stuck 24 timed out",
            "server outcomes: unknown 27 rejected: UNIMPLEMENTED (12)",
        ],
    },
    // Cancels reach handlers that are at work.
    Phase {
        steps: &[
            Request(Client, Slow, 30, DEFAULT),
            Request(Server, Slow, 31, DEFAULT),
        ],
        then: &[
            "client requests: slow 31 started",
            "server requests: slow 30 started",
        ],
    },
    Phase {
        steps: &[Cancel(Client, Slow, 30), Cancel(Server, Slow, 31)],
        then: &[
            "client requests: slow 31 given up",
            "server requests: slow 30 given up",
        ],
    },
    // Groups.
    Phase {
        steps: &[
            Join("room"),
            Broadcast("room", 40),
            Broadcast("nobody", 41),
            Broadcast("room", 42),
            BroadcastExcept("room", 43),
            BroadcastExcept("nobody", 44),
        ],
        then: &[
            "client ticks: tick 40",
            "client ticks: tick 42",
            "server broadcasts: tick 40: 1 queued, 0 dropped, 0 away",
            "server broadcasts: tick 41: 0 queued, 0 dropped, 0 away",
            "server broadcasts: tick 42: 1 queued, 0 dropped, 0 away",
            "server broadcasts: tick 43: 0 queued, 0 dropped, 0 away",
            "server broadcasts: tick 44: 0 queued, 0 dropped, 0 away",
        ],
    },
    // The path is cut: what is sent meanwhile waits, and promises go on counting.
    Phase {
        steps: &[
            Cut,
            Send(Client, Note, 50, 0),
            Acked(Client, Note, 51, 0),
            Acked(Client, Note, 52, 2),
            Request(Client, Ask, 53, DEFAULT),
            Request(Client, Ask, 54, Duration::from_millis(200)),
            Acked(Server, Note, 55, 3),
            Send(Server, Note, 56, 3),
            Request(Server, Ask, 57, DEFAULT),
        ],
        then: &[
            "client link: heartbeat timeout",
            "client link: disconnected, the session is kept: heartbeat timeout: the peer has gone silent",
            "client link: reconnecting",
            "client outcomes: ask 54 timed out",
            "server link: heartbeat timeout",
            "server link: disconnected, the session is kept: heartbeat timeout: the peer has gone silent",
        ],
    },
    Phase {
        steps: &[Acked(Server, Note, 58, 3), Broadcast("room", 59)],
        then: &["server broadcasts: tick 59: 0 queued, 0 dropped, 1 away"],
    },
    // It comes back: everything reliable arrives, once and in order.
    Phase {
        steps: &[Heal],
        then: &[
            "client lane 3: note 55",
            "client lane 3: note 56",
            "client lane 3: note 58",
            "client link: anna resumed, epoch 2",
            "client outcomes: ask 53 replied 106",
            "client outcomes: note 51 acked",
            "client outcomes: note 52 acked",
            "server lane 2: note 52",
            "server lane default: note 50",
            "server lane default: note 51",
            "server link: anna resumed, epoch 2",
            "server outcomes: ask 57 replied 114",
            "server outcomes: note 55 acked",
            "server outcomes: note 58 acked",
        ],
    },
    // Groups outlive links.
    Phase {
        steps: &[
            Broadcast("room", 70),
            Request(Client, Ask, 71, DEFAULT),
            Request(Client, Slow, 72, DEFAULT),
        ],
        then: &[
            "client outcomes: ask 71 replied 142",
            "client ticks: tick 70",
            "server broadcasts: tick 70: 1 queued, 0 dropped, 0 away",
            "server requests: slow 72 started",
        ],
    },
    // A drain waits for what is under way.
    Phase {
        steps: &[Drain(HOUR, TEN_MINUTES)],
        then: &["client link: the server drains for 3600s, come back after 600s"],
    },
    Phase {
        steps: &[Cancel(Client, Slow, 72)],
        then: &[
            "client link: disconnected, the session is kept: \
             closed by the peer (GOING_AWAY (1)): the server is going away",
            "client link: session lost",
            "client link: reconnecting",
            "server drain: 1 finished, 0 cut off",
            "server link: disconnected, the session is gone: \
             closed here (GOING_AWAY (1)): the server is going away",
            "server link: closed: closed here (GOING_AWAY (1)): the server is going away",
            "server requests: slow 72 given up",
        ],
    },
    Phase {
        steps: &[Close],
        then: &[
            "client link: disconnected, the session is gone: closed here (NORMAL (0))",
            "client link: closed: closed here (NORMAL (0))",
        ],
    },
];

macro_rules! message {
    ($($name:ident)*) => { $(
        #[derive(Clone, PartialEq, prost::Message)]
        pub struct $name {
            #[prost(uint64, tag = "1")]
            pub number: u64,
        }
        impl prost::Name for $name {
            const NAME: &'static str = stringify!($name);
            const PACKAGE: &'static str = "script.v1";
        }
    )* };
}

/// The messages themselves.
pub mod messages {
    message!(Note Tick Bad Unknown Ask Slow Stuck Answer);
}
