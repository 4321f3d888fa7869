//! Configurations, of any values: see [`configuration`].

use std::time::Duration;

use trunkline_core::{
    CloseCode, Config, ConfigError, Congestion, Event, LinkState, Message, PromiseKey,
    PromisesFull, SessionKey, SessionsFull, SlowConsumer, Tag,
};

use crate::world::{NodeIndex, World, echo};

use super::Reached;
use super::input::Input;
use super::two_nodes::{null_world, told, without_discovery};

pub(super) const FLOOR: &[&str] = &[
    "a configuration that is refused",
    "a configuration that is used",
    "one shard of several",
    "a reply",
    "a session resumed",
    "a session lost",
    "a session closed",
    "a best-effort message",
];

/// A configuration of any values.
///
/// Either it is refused, in words that name the field; or a server and a client with it work: the
/// client is connected, a message is acked and a request answered; after a cut it is back in the time
/// that its settings say, and all that goes again; also after the server has crashed, which it is told
/// of; and when they take their leave, nothing is left of it. They keep the laws of their contract all
/// along.
///
/// The input: a byte for which side is configured so, then, for each field that is not as usual, its number and its
/// value.
pub fn configuration(data: &[u8]) -> Reached {
    let mut reached = Reached::new();
    let mut input = Input::new(data);
    let (mut config, sides) = (Config::default(), input.byte());
    while !input.is_empty() {
        set(&mut config, &mut input);
    }
    if let Err(error) = config.validate() {
        let ConfigError::OutOfRange { field, .. } = &error else {
            panic!("{error} of a configuration");
        };
        assert!(
            error.to_string().contains(field) && field.contains('.'),
            "{error}"
        );
        reached.insert("a configuration that is refused");
        return reached;
    }
    reached.insert("a configuration that is used");
    if config.shard.of > 1 {
        reached.insert("one shard of several");
    }
    converse(&config, sides, &mut reached);
    reached
}

/// Every field at some values, alone and with others.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let values: [&[u8]; 8] = [
        &[0],
        &[1],
        &[5],
        &[0xe0, 10],
        &[0xe8, 14],
        &[0xe8, 30],
        &[0xff; 9],
        &[0xd0, 0x40, 0],
    ];
    let mut seeds = Vec::new();
    for field in 0..FIELDS {
        for (place, value) in values.iter().enumerate() {
            let mut seed = vec![place as u8 & 3];
            seed.extend([&[field], *value].concat());
            seeds.push(seed);
        }
    }
    for field in 0..FIELDS {
        let fields = [field, (field + 7) % FIELDS, (field + 19) % FIELDS];
        let mut seed = vec![0];
        for field in fields {
            seed.extend([field, 0xe9, 13]);
        }
        seeds.push(seed);
    }
    seeds
}

/// How many fields [`set`] knows.
const FIELDS: u8 = 48;
/// In which all is done that no setting delays.
const PATIENCE: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);
/// How seldom a pair is looked at that has to wait for long.
const STEP_MOST: Duration = Duration::from_secs(60);

fn set(config: &mut Config, input: &mut Input<'_>) {
    let field = input.byte() % FIELDS;
    let number = input.long();
    let size = usize::try_from(number).unwrap_or(usize::MAX);
    // Milliseconds, or anything else.
    let time = match number {
        0..0x1_0000_0000 => Duration::from_millis(number),
        _ => Duration::new(number, (number % 1_000_000_000) as u32),
    };
    let (limits, transport) = (&mut config.limits, &mut config.transport);
    match field {
        0 => config.heartbeat.interval = time,
        1 => config.heartbeat.misses = number as u32,
        2 => config.redial.first = time,
        3 => config.redial.cap = time,
        4 => config.redial.jitter = f64::from_bits(number),
        5 => config.redial.jitter = number as f64 / 100.0,
        6 => config.redial.stable_after = time,
        7 => config.redial.max_attempts = Some(number as u32),
        8 => limits.frame_bytes = size,
        9 => limits.lanes = number as u8,
        10 => limits.promises = size,
        11 => limits.promises_total = size,
        12 => limits.outbox_messages = size,
        13 => limits.outbox_bytes = size,
        14 => limits.outbox_bytes_total = size,
        15 => limits.lane_window_bytes = size,
        16 => limits.deliveries = size,
        17 => limits.delivery_bytes = size,
        18 => limits.event_messages = size,
        19 => limits.event_bytes = size,
        20 => limits.best_effort_bytes = size,
        21 => limits.sessions = size,
        22 => limits.sessions_per_client = size,
        23 => limits.half_open = size,
        24 => limits.half_open_unvalidated = size,
        25 => limits.groups = size,
        26 => limits.groups_per_session = size,
        27 => {
            let policies = [
                SlowConsumer::DropNewest,
                SlowConsumer::DropOldest,
                SlowConsumer::KeepLatest,
                SlowConsumer::Disconnect,
            ];
            config.slow_consumer = policies[size % policies.len()];
        }
        28 => config.promises_full = PromisesFull::EvictOldest,
        29 => config.timeouts.admission = time,
        30 => config.timeouts.retention = time,
        31 => config.timeouts.close = time,
        32 => config.timeouts.receipt = time,
        33 => config.timeouts.promise = time,
        34 => transport.stream_receive_window = number as u32,
        35 => transport.initial_rtt = time,
        36 => transport.initial_mtu = number as u16,
        37 => transport.mtu_discovery = number & 1 == 1,
        38 => transport.congestion = Congestion::NewReno,
        39 => transport.migration = number & 1 == 1,
        40 => transport.min_reset_interval = time,
        41 => config.report_sent = number & 1 == 1,
        42 => transport.copies_on_loss = number & 1 == 1,
        43 => transport.tls_resumption = number & 1 == 1,
        44 => config.shard.number = number as u16,
        45 => config.shard.of = number as u16,
        46 if number & 1 == 1 => config.sessions_full = SessionsFull::EndOldest,
        47 => transport.max_mtu = number as u16,
        _ => {}
    }
}

/// What a server and a client do with it; `sides` says which of them has it: 1 and 2 for one alone, else both.
fn converse(config: &Config, sides: u8, reached: &mut Reached) {
    let mut pair = Pair::new(config, sides);
    pair.until(PATIENCE, "the client is connected", Pair::is_up);
    pair.talks();
    pair.best_effort();
    pair.cut_until_noticed();
    for _ in 0..2 {
        pair.crashes();
    }
    pair.cut_for_a_while();
    pair.ends();
    for node in [pair.client, pair.server] {
        let log = pair.world.log(node).iter();
        reached.extend(log.filter_map(|(_, event)| told(event)));
    }
}

/// A server, and a client with a session there.
struct Pair {
    world: World,
    server: NodeIndex,
    client: NodeIndex,
    session: SessionKey,
    /// The server's configuration and the client's.
    configs: [Config; 2],
}

impl Pair {
    fn new(config: &Config, sides: u8) -> Self {
        let configs = [1, 2].map(|without| {
            let mut usual = Config::default();
            without_discovery(&mut usual);
            if sides & 3 == without {
                usual
            } else {
                config.clone()
            }
        });
        let mut world = null_world(7);
        if configs.iter().any(|c| c.timeouts.admission < SECOND) {
            // Whoever is to be let in so soon is nearer.
            world.path.delay = Duration::from_micros(20);
        }
        *world.config() = configs[0].clone();
        let server = world.server();
        *world.config() = configs[1].clone();
        let client = world.client();
        let session = world.connect(client, server, "alice");
        // For the processes that are to come.
        *world.config() = configs[0].clone();
        Self {
            world,
            server,
            client,
            session,
            configs,
        }
    }

    /// Lets time pass until something holds, within that time.
    #[track_caller]
    fn until(&mut self, within: Duration, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let (mut waited, mut step) = (Duration::ZERO, SECOND / 10);
        while !holds(self) {
            assert!(
                waited < within,
                "not within {within:?}: {what}, with {:#?}",
                self.configs
            );
            let time = step.min(within - waited);
            self.world.run(time, echo);
            waited += time;
            step = (step * 2).min(STEP_MOST);
        }
    }

    fn is_up(&mut self) -> bool {
        let info = self.world.node(self.client).session_info(self.session);
        info.is_some_and(|info| info.state == LinkState::Connected)
    }

    /// The client is connected, or has given up, as it is to.
    fn is_done(&mut self) -> bool {
        let gives_up = self.configs[1].redial.max_attempts.is_some();
        let closed = |event: &Event| matches!(event, Event::Closed { .. });
        self.is_up() || gives_up && self.world.count(self.client, closed) > 0
    }

    /// Links that live may be found dead: the least silence is too long.
    fn is_shaky(&self) -> bool {
        self.configs.iter().any(|c| c.heartbeat.misses == 1)
    }

    /// In which the client finds a silent server dead.
    fn silence(&self) -> Duration {
        let [server, client] = self.configs.each_ref().map(|c| c.heartbeat);
        server.interval.min(client.interval) * client.misses
    }

    /// The longest delay before so many redials, none of which has failed.
    fn delay(&self, redials: u32) -> Duration {
        let redial = self.configs[1].redial;
        redial.first.saturating_mul(1 << redials).min(redial.cap)
    }

    /// The client sends an acked message, as soon as there is room.
    fn sends(&mut self) -> PromiseKey {
        let mut promise = None;
        self.until(PATIENCE, "there is room for a message", |pair| {
            let message = Message::new(Tag::of("fuzz.v1.Said"), "said");
            let (now, forever) = (pair.world.now(), Some(Duration::MAX));
            let node = pair.world.node(pair.client);
            promise = node.send_acked(now, pair.session, message, forever).ok();
            promise.is_some()
        });
        promise.expect("it was sent")
    }

    fn settles(&mut self, within: Duration, promise: PromiseKey) -> String {
        let outcome = |pair: &Self| pair.world.outcome(pair.client, promise);
        self.until(within, "a promise settles", |pair| outcome(pair).is_some());
        outcome(self).expect("it has settled")
    }

    /// A message goes and is acked, and a request, and is answered.
    fn talks(&mut self) {
        let handed = |event: &Event| matches!(event, Event::Message(_));
        let before = self.world.count(self.server, handed);
        let said = self.sends();
        assert_eq!(self.settles(PATIENCE, said), "Acked");
        let asked = self.world.request(self.client, self.session, b"1");
        assert_eq!(self.settles(PATIENCE, asked), "Replied 1");
        assert_eq!(self.world.count(self.server, handed), before + 2);
    }

    fn best_effort(&mut self) {
        let now = self.world.now();
        let sessions: Vec<_> = self.sessions(self.server);
        for session in sessions {
            let message = Message::new(Tag::of("fuzz.v1.News"), "news");
            let node = self.world.node(self.server);
            let sent = node.send_best_effort(now, session, message, None);
            assert!(sent.is_ok(), "{sent:?}");
        }
        self.world.run(SECOND, echo);
    }

    /// The path is cut until the client notices, in time, and not a moment longer: the first dial brings
    /// it back.
    fn cut_until_noticed(&mut self) {
        assert!(self.is_up() || self.is_shaky(), "it was up a moment ago");
        self.world.path.cut = true;
        // What is under way arrives.
        self.world.run(SECOND / 100, echo);
        let info = self.world.node(self.client).session_info(self.session);
        let heard = info.and_then(|info| info.last_heard);
        let dead = heard.unwrap_or(self.world.now()) + self.silence();
        while self.is_up() {
            let due = self.world.node(self.client).poll_timeout();
            let due = due.filter(|due| *due <= dead);
            let due = due.unwrap_or_else(|| panic!("the dead live, with {:#?}", self.configs));
            self.world.run(due - self.world.now(), echo);
        }
        self.world.path.cut = false;
        if self.is_shaky() {
            let within = self.delay(8) + self.silence() + PATIENCE;
            self.until(within, "the client is back", Self::is_done);
        } else {
            let within = self.delay(0) + PATIENCE;
            self.until(within, "the client is back", Self::is_up);
            self.talks();
        }
    }

    /// The server crashes and is there again. What is sent finds out; it is lost, with its session and
    /// a word of that.
    fn crashes(&mut self) {
        if !self.is_up() {
            return;
        }
        let lost = |event: &Event| matches!(event, Event::SessionLost { .. });
        let before = self.world.count(self.client, lost);
        let said = self.sends();
        self.world.kill(self.server);
        self.world.start_process(self.server);
        let within = self.silence() + self.delay(3) + PATIENCE;
        let settled = self.settles(within, said);
        assert!(settled.starts_with("Lost"), "{settled}");
        self.until(PATIENCE, "the client is back", Self::is_done);
        if self.is_up() {
            assert_eq!(self.world.count(self.client, lost), before + 1);
            self.talks();
        }
    }

    /// The path is cut for a while that has nothing to do with what is configured.
    fn cut_for_a_while(&mut self) {
        self.world.path.cut = true;
        self.world.run(PATIENCE * 4, echo);
        self.world.path.cut = false;
        // A packet of a dial that was lost in the cut is sent again in time, or the dial is over and
        // another follows.
        let within = self.silence() + self.delay(16) * 2 + PATIENCE * 16;
        self.until(within, "the client is back", Self::is_done);
        if self.is_up() && !self.is_shaky() {
            self.talks();
        }
    }

    /// Both take their leave, and nothing is left.
    fn ends(&mut self) {
        let now = self.world.now();
        for node in [self.client, self.server] {
            for session in self.sessions(node) {
                let closed = self
                    .world
                    .node(node)
                    .close(now, session, CloseCode::NORMAL, "");
                // It may be closing already.
                closed.ok();
            }
        }
        let [server, client] = &self.configs;
        let silence = server.heartbeat.interval * server.heartbeat.misses;
        let closing = server.timeouts.close.max(client.timeouts.close) * 2;
        let within = silence + server.timeouts.retention + closing + PATIENCE;
        self.until(within, "no session is left", |pair| {
            let both = [pair.client, pair.server];
            both.into_iter().all(|node| pair.sessions(node).is_empty())
        });
    }

    fn sessions(&mut self, node: NodeIndex) -> Vec<SessionKey> {
        let sessions = self.world.node(node).sessions();
        sessions.map(|info| info.session).collect()
    }
}
