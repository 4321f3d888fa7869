//! Everything that can be set, with the defaults.

mod validate;

use std::time::Duration;

/// How a node behaves. `Config::default()` is what an ordinary service wants.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Config {
    /// When a peer counts as dead.
    pub heartbeat: Heartbeat,
    /// How a client comes back.
    pub redial: Redial,
    /// How much of everything may exist.
    pub limits: Limits,
    /// What a session does with best-effort messages that its peer is too slow for.
    pub slow_consumer: SlowConsumer,
    /// What a full promise table does with a new promise.
    pub promises_full: PromisesFull,
    /// What a server does with a new session of a client that has as many as it may.
    pub sessions_full: SessionsFull,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// QUIC's own settings.
    pub transport: Transport,
    /// Emit [`crate::Event::Sent`] for each message that is first written to a link. Off by
    /// default: it doubles the events of a sender.
    pub report_sent: bool,
    /// Which of several nodes at one address this is (the only one).
    pub shard: Shard,
}

/// Which of several nodes at one address this is. Datagrams are distributed among such nodes as
/// [`crate::Steering`] says, and [`crate::Origin::keys`] are the same for all of them.
///
/// Give no node a datagram that [`Steering::shard_of`](crate::Steering::shard_of) says is another's: it knows nothing of the
/// connection, answers with a stateless reset that counts, for their keys are the same, and so ends the link. What comes to
/// the wrong socket goes to the right node by a queue of yours. Sockets that get few of these are bound by
/// `driver::system::bind_shards` (feature `system`).
///
/// The adapters' servers with several shards do all this by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its number, counted from 0. Keys of its sessions bear it: [`crate::SessionKey::shard`].
    pub number: u16,
    /// How many there are (1).
    pub of: u16,
}

impl Default for Shard {
    fn default() -> Self {
        Self { number: 0, of: 1 }
    }
}

/// When a peer counts as dead: after `misses` intervals without a sign of life, which is a frame, or, to a
/// client, QUIC's acknowledgement after a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Heartbeat {
    /// Time between two heartbeats of a client (15 s). A server tells its clients, who clamp what
    /// they are told to 100 ms … 5 min and never beat less often than they were configured to.
    pub interval: Duration,
    /// After how many intervals without a sign of life the link is dead (3). With 1, a heartbeat that takes a little
    /// longer than the one before it ends a link that lives; what-if runs of a trace may want that.
    pub misses: u32,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(15),
            misses: 3,
        }
    }
}

/// How a client comes back after its link broke: 1 s, 2 s, 4 s … 60 s.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Redial {
    /// The first delay (1 s). It doubles with each failed attempt.
    pub first: Duration,
    /// No delay is longer than this (60 s).
    pub cap: Duration,
    /// Which share of a delay is drawn at random (0.5): a delay `d` lies in `(1 - jitter) * d ..= d`.
    pub jitter: f64,
    /// How long a link must hold before the next break starts at `first` again (30 s).
    pub stable_after: Duration,
    /// Give up after so many redials without a link that held for `stable_after`; `None`: never (the
    /// default).
    pub max_attempts: Option<u32>,
}

impl Default for Redial {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            cap: Duration::from_secs(60),
            jitter: 0.5,
            stable_after: Duration::from_secs(30),
            max_attempts: None,
        }
    }
}

/// How much of everything may exist. Counts are per session or per node as they say; sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The largest frame, with its envelope (1 MiB, the protocol's maximum). A larger message is
    /// refused before it is queued.
    pub frame_bytes: usize,
    /// Lanes of a session, the default and the bulk lane included (4, at most 62). Each costs
    /// memory in an idle connection at both ends.
    pub lanes: u8,
    /// Promises of a session (10,000).
    pub promises: usize,
    /// Promises of the node (1,000,000).
    pub promises_total: usize,
    /// Messages in a session's outbox, all lanes (100,000).
    pub outbox_messages: usize,
    /// Bytes in a session's outbox, all lanes (16 MiB). With as much in answers that its peer has not taken it is
    /// read no further; what it had been handed before is answered all the same.
    pub outbox_bytes: usize,
    /// Bytes in the outboxes of the whole node (1 GiB). With as much in answers, sessions that have more than their
    /// share of it, and than 64 KiB, are read no further.
    pub outbox_bytes_total: usize,
    /// Bytes of a lane that are written to a link and not yet held by the peer's session (2 MiB).
    pub lane_window_bytes: usize,
    /// Messages of a lane that the application was handed and has not answered (1,024); beyond it
    /// the lane is not read.
    pub deliveries: usize,
    /// Bytes of these messages (4 MiB).
    pub delivery_bytes: usize,
    /// Messages in the event queue of the node, replies to its requests among them (16,384); beyond it no lane of any
    /// link is read, of answers neither, before the application has taken some. It takes events without waiting for a
    /// peer's answer, then: two that wait so for each other would wait until their promises time out.
    pub event_messages: usize,
    /// Bytes of these messages (64 MiB).
    pub event_bytes: usize,
    /// Best-effort bytes that wait for a session (1 MiB), of which a message takes 64 beside its own: see
    /// [`SlowConsumer`]. A best-effort message that never fits is refused.
    pub best_effort_bytes: usize,
    /// Sessions that the server keeps, with or without a link (100,000).
    pub sessions: usize,
    /// Sessions of one client identity (64); what becomes of one more: [`SessionsFull`].
    pub sessions_per_client: usize,
    /// A server's links that nobody has been admitted over, also those that have ended, until they are
    /// forgotten. At so many, first packets of further ones are ignored; clients send them again (4,096).
    ///
    /// One network, an IPv4 /24 or an IPv6 /56, may have no more of them than there are places free,
    /// which is half of all if no other network has any; so one cannot keep all others out (who has a
    /// /48 has 256 of these). Where most clients come from one network, as behind a proxy, this wants
    /// to be twice what they need.
    /// Of a network that has its share, an address that is validated is ignored, and any other has to
    /// show first that it is its own; the two are counted apart, for anybody can write any address.
    /// With both, a network gets three quarters at most.
    pub half_open: usize,
    /// From so many half-open links on, an address must show that it is its own (QUIC Retry,
    /// RFC 9000 §8.1.2) before any work is done for it (1,000).
    ///
    /// First packets that came to nothing at once count as well: at most this many, which are forgotten
    /// evenly over [`Timeouts::admission`].
    pub half_open_unvalidated: usize,
    /// Groups of the node (100,000).
    pub groups: usize,
    /// Groups that one session is in (1,000).
    pub groups_per_session: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: trunkline_proto::FRAME_MAX,
            lanes: 4,
            promises: 10_000,
            promises_total: 1_000_000,
            outbox_messages: 100_000,
            outbox_bytes: 16 << 20,
            outbox_bytes_total: 1 << 30,
            lane_window_bytes: 2 << 20,
            deliveries: 1_024,
            delivery_bytes: 4 << 20,
            event_messages: 16_384,
            event_bytes: 64 << 20,
            best_effort_bytes: 1 << 20,
            sessions: 100_000,
            sessions_per_client: 64,
            half_open: 4_096,
            half_open_unvalidated: 1_000,
            groups: 100_000,
            groups_per_session: 1_000,
        }
    }
}

/// What happens to a best-effort message that finds [`Limits::best_effort_bytes`] waiting already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlowConsumer {
    /// The new message is dropped.
    DropNewest,
    /// The oldest waiting messages are dropped until the new one fits.
    #[default]
    DropOldest,
    /// A message replaces the waiting one of the same key, in its place, so that no key waits for
    /// ever: messages of one key stay in order, those of different keys may not. Without a waiting
    /// one, or if there is no room for it in that place, the oldest are dropped.
    KeepLatest,
    /// The link is closed; the session can be resumed.
    Disconnect,
}

/// What happens to a new promise when [`Limits::promises`] exist already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PromisesFull {
    /// The message is given back to the caller.
    #[default]
    Refuse,
    /// The oldest promise settles as [`crate::Outcome::Evicted`].
    EvictOldest,
}

/// What happens to a new session when its client has [`Limits::sessions_per_client`] already, with links or
/// without, or the server has [`Limits::sessions`], some of them its client's. A device that starts again leaves
/// its last session behind, for as long as that takes to be found dead and [`Timeouts::retention`] more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionsFull {
    /// Its client is told [`crate::CloseCode::TOO_MANY_SESSIONS`], and tries again later.
    #[default]
    Refuse,
    /// One of the client's sessions ends at once, as [`crate::CloseCode::SUPERSEDED`], and what was queued for it
    /// comes back. Which one? Of those without a link, if there are any, or else of all, the one that was made or
    /// resumed longest ago. If it has a link, its client is told, and does not dial again; one that was away comes back
    /// with a new session, which takes a place in turn.
    ///
    /// While the server knows that one of them is being closed, none ends: the new one is refused as with
    /// [`Refuse`](Self::Refuse), and comes again.
    ///
    /// Made for one session a client, and an id for each device: then whoever came last stays. With more, who
    /// starts again too soon for its last link to be found dead may end another one of its client's. Of several
    /// shards each counts its own. Whoever can come under an id can end its sessions: admit by something that proves it.
    EndOldest,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// From the first packet to admission (10 s): handshake, hello, the application's answer. A client
    /// allows as much for the handshake, and then, from its hello on, as much and `close` more, so that
    /// a server with the same setting says first that nobody has decided.
    pub admission: Duration,
    /// How long a session outlives its link (120 s).
    pub retention: Duration,
    /// How long `close` waits for the peer to hold what was sent (5 s); with nothing under way and no link, not at
    /// all. When the peer closes, this side waits as long: for what it has to say to get through, and for its
    /// application to deal with messages whose acks nobody awaits; the session keeps its place among
    /// [`Limits::sessions_per_client`] meanwhile.
    pub close: Duration,
    /// How long what was received may go unreported when nothing else is sent (25 ms). Those of a few
    /// small answers may wait for 20 s, if this is not longer. When the peer asks, as it does when it wants to close or has
    /// no room for more, or the session closes, none waits for longer than 25 ms.
    pub receipt: Duration,
    /// The deadline of a promise that was given none (30 s); zero: none. It is shorter than it takes to find
    /// a silent peer dead (`heartbeat`: 45 s) and to dial again: give what is to outlast that a longer one.
    /// `TimedOut` leaves open whether it arrived: what was not written yet is let go, what was is cancelled
    /// at the peer. A message without a promise has no deadline.
    pub promise: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            admission: Duration::from_secs(10),
            retention: Duration::from_secs(120),
            close: Duration::from_secs(5),
            receipt: Duration::from_millis(25),
            promise: Duration::from_secs(30),
        }
    }
}

/// QUIC's own settings.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Transport {
    /// Bytes that the peer may send ahead on one stream (2 MiB).
    pub stream_receive_window: u32,
    /// Round-trip time assumed before one is measured (100 ms).
    pub initial_rtt: Duration,
    /// The first size of a UDP payload (1,200). At most 1,472, which is what Ethernet carries: a server answers first
    /// packets with at most three times as many bytes, but always with one whole packet.
    pub initial_mtu: u16,
    /// The largest UDP payload that is looked for: what an Ethernet carries over IPv6 (1,452). Up to 9,188. Where all
    /// between both ends carries jumbo frames (9,000 bytes in many data centres), 8,952 there make packets six
    /// times as large: small messages take 0.6 to 0.8 of the CPU, and one thread sends twice the large ones. Both ends
    /// have to have it: a node announces that it takes nothing larger, but always 1,472. On a path that
    /// carries less, a new connection finds that out with some lost packets of up to 5 KB.
    pub max_mtu: u16,
    /// Look for larger UDP payloads that the path carries (on, RFC 8899): up to `max_mtu`, and about to within a
    /// quarter of what lies between an Ethernet's and the first size (64 bytes).
    pub mtu_discovery: bool,
    /// Send everything twice, a moment apart, while a path of at least 5 ms round trip has lost
    /// packets lately, and a link sends less on it than 7 KiB in a round trip and than its congestion
    /// window (on). What is lost once is then late by that moment, and not by a round trip or more,
    /// with all that is behind it.
    pub copies_on_loss: bool,
    /// Which congestion controller to use.
    pub congestion: Congestion,
    /// Allow a client's address to change under a living link (on, RFC 9000 §9).
    pub migration: bool,
    /// Time between two stateless resets that a server sends, all its shards together, on average
    /// over 100 ms (500 µs; zero: no limit; at most an hour). It paces how clients learn of a
    /// restart, and so how they come back: 10,000 within half a minute and no more than 2 % of them
    /// in 100 ms. QUIC stacks commonly use 20 ms, with which they learn of it at 50 a second.
    pub min_reset_interval: Duration,
    /// Let a client that this node has been connected with resume its TLS session (off; both ends
    /// have to have it on). It saves each side a signature and a check of one. In exchange, both ends
    /// count as whom their certificates named at first: a client's has to be valid at each connect all the
    /// same, a server's is not looked at again. None is resumed after a change of either end's roots or
    /// identity. Sessions of this protocol do not depend on it.
    pub tls_resumption: bool,
}

/// The largest UDP payload that an Ethernet carries over IPv4, in bytes.
pub(crate) const ETHERNET_IPV4: u16 = 1_472;
/// The same over IPv6.
pub(crate) const ETHERNET_IPV6: u16 = 1_452;

impl Default for Transport {
    fn default() -> Self {
        Self {
            stream_receive_window: 2 << 20,
            initial_rtt: Duration::from_millis(100),
            initial_mtu: 1_200,
            max_mtu: ETHERNET_IPV6,
            mtu_discovery: true,
            copies_on_loss: true,
            congestion: Congestion::default(),
            migration: true,
            min_reset_interval: Duration::from_micros(500),
            tls_resumption: false,
        }
    }
}

impl Transport {
    /// The largest UDP payload that this node takes: at least what an Ethernet carries.
    pub(crate) fn largest_taken(&self) -> u16 {
        self.max_mtu.max(ETHERNET_IPV4)
    }
}

/// A congestion controller that runs on injected randomness and time alone. Whichever it is, a link sends
/// nothing more while it has four times in flight what its path needs, by the highest rate that it has lately
/// delivered and its shortest round trip, or 512 KiB, if that is more: what goes beyond would wait in a queue,
/// and make small messages wait that come after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Congestion {
    /// RFC 9438.
    #[default]
    Cubic,
    /// RFC 9002 §7.
    NewReno,
}

/// How many addresses a session has to dial at most.
pub const ADDRESSES_MAX: usize = 8;

/// Shortest and longest heartbeat interval, whoever asks for it.
pub(crate) const HEARTBEAT_RANGE: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(300));
