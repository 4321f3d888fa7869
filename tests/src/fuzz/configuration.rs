//! Configurations, of any values: see [`configuration`].

use std::time::Duration;

use trunkline_core::{
    CloseCode, Config, ConfigError, Congestion, Event, LinkState, Node, PromisesFull, SessionsFull,
    SlowConsumer,
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
/// Either it is refused, in words that name the field; or a server and a client with it carry a
/// request, are broken apart, come back, and take their leave, and keep the laws of their contract
/// all along.
///
/// The input: for each field that is not as usual, its number and its value.
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
    converse(config, sides, &mut reached);
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
/// In which a request is answered, and who was broken apart is back.
const PATIENCE: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);

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

/// `sides` says which of the two has it: 1 and 2 for one alone, else both.
fn converse(config: Config, sides: u8, reached: &mut Reached) {
    let mut world = null_world(7);
    let usual = |sides_without: bool| {
        let mut usual = Config::default();
        without_discovery(&mut usual);
        if sides_without { usual } else { config.clone() }
    };
    *world.config() = usual(sides & 3 == 1);
    let server = world.server();
    *world.config() = usual(sides & 3 == 2);
    let client = world.client();
    let session = world.connect(client, server, "alice");
    world.run(PATIENCE, echo);
    // Who is not let in in time, or holds its peer dead within a round trip, gets nowhere.
    let usable = config.timeouts.admission >= SECOND && config.transport.initial_rtt <= SECOND;
    let up = |world: &mut World| {
        let info = world.node(client).session_info(session);
        info.is_some_and(|info| info.state == LinkState::Connected)
    };
    assert!(
        up(&mut world) || !usable,
        "nobody is connected with {config:?}"
    );
    if up(&mut world) {
        let asked = world.request(client, session, b"1");
        world.run(PATIENCE, echo);
        let answer = world.outcome(client, asked);
        assert_eq!(answer.as_deref(), Some("Replied 1"), "with {config:?}");
        best_effort(&mut world, server);
        // The server crashes under it, twice, and notices that it is not known any more.
        for _ in 0..2 {
            world.kill(server);
            world.start_process(server);
            world.run(PATIENCE, echo);
        }
        world.path.cut = true;
        world.run(PATIENCE * 4, echo);
        world.path.cut = false;
        world.run(PATIENCE * 4, echo);
    }
    let now = world.now();
    for node in [client, server] {
        let sessions: Vec<_> = world.node(node).sessions().map(|i| i.session).collect();
        for session in sessions {
            let closed = world.node(node).close(now, session, CloseCode::NORMAL, "");
            // It may be closing already.
            closed.ok();
        }
    }
    world.run(PATIENCE, echo);
    for node in [client, server] {
        let log = world.log(node).iter();
        reached.extend(log.filter_map(|(_, event)| told(event)));
    }
}

fn best_effort(world: &mut World, server: NodeIndex) {
    let now = world.now();
    let sessions: Vec<_> = world.node(server).sessions().map(|i| i.session).collect();
    for session in sessions {
        let message = trunkline_core::Message::new(trunkline_core::Tag::of("fuzz.v1.News"), "news");
        let sent = world
            .node(server)
            .send_best_effort(now, session, message, None);
        assert!(sent.is_ok(), "{sent:?}");
    }
    world.run(SECOND, |node: &mut Node, now, event: &Event| {
        echo(node, now, event)
    });
}
