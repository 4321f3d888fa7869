//! How nodes are configured in a run: small limits often, the defaults otherwise.

use std::time::Duration;

use trunkline_core::{Config, Congestion, PromisesFull, SlowConsumer};

use crate::Random;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Configurations of the servers and of the clients.
pub(crate) fn draw(random: &mut Random) -> [Config; 2] {
    // Peers have the same limits more often than not, as programs of one release have.
    let server = one(random);
    let mut client = if random.chance(0.3) {
        one(random)
    } else {
        server.clone()
    };
    if random.chance(0.7) {
        client.heartbeat = server.heartbeat;
    }
    redial(random, &mut client);
    [server, client]
}

fn one(random: &mut Random) -> Config {
    let mut config = Config::default();
    config.heartbeat.interval = random.pick(&[SECOND / 2, 2 * SECOND, 5 * SECOND, 15 * SECOND]);
    config.heartbeat.misses = random.pick(&[2, 3, 3]);
    let limits = &mut config.limits;
    // In every second run everything has room; in the others, any of it may have next to none.
    if random.chance(0.5) {
        let mut small = |field: &mut usize, values: &[usize]| {
            if random.chance(0.3) {
                *field = random.pick(values);
            }
        };
        small(&mut limits.frame_bytes, &[4_096, 20_000]);
        small(&mut limits.promises, &[1, 2, 8, 40]);
        small(&mut limits.promises_total, &[4, 32]);
        small(&mut limits.outbox_messages, &[1, 4, 32]);
        small(&mut limits.outbox_bytes, &[4_096, 30_000]);
        small(&mut limits.outbox_bytes_total, &[8_192, 60_000]);
        small(&mut limits.lane_window_bytes, &[1_024, 10_000]);
        small(&mut limits.deliveries, &[1, 2, 16]);
        small(&mut limits.delivery_bytes, &[1_024, 20_000]);
        small(&mut limits.event_messages, &[1, 4]);
        small(&mut limits.event_bytes, &[1_024, 10_000]);
        small(&mut limits.best_effort_bytes, &[1_024, 10_000]);
        small(&mut limits.half_open, &[4, 32]);
        small(&mut limits.half_open_unvalidated, &[0, 1]);
        small(&mut limits.groups, &[1, 2]);
        small(&mut limits.groups_per_session, &[1]);
    }
    limits.lanes = random.pick(&[2, 4, 4, 8]);
    config.slow_consumer = random.pick(&[
        SlowConsumer::DropNewest,
        SlowConsumer::DropOldest,
        SlowConsumer::KeepLatest,
        SlowConsumer::Disconnect,
    ]);
    config.promises_full = random.pick(&[PromisesFull::Refuse, PromisesFull::EvictOldest]);
    let timeouts = &mut config.timeouts;
    timeouts.admission = random.pick(&[3 * SECOND, 10 * SECOND]);
    timeouts.retention = random.pick(&[Duration::ZERO, 5 * SECOND, 30 * SECOND, 120 * SECOND]);
    timeouts.close = random.pick(&[SECOND, 5 * SECOND]);
    timeouts.receipt = random.pick(&[MILLISECOND, 25 * MILLISECOND, 200 * MILLISECOND]);
    timeouts.promise = random.pick(&[Duration::ZERO, SECOND, 30 * SECOND]);
    let transport = &mut config.transport;
    transport.stream_receive_window = random.pick(&[16_384, 100_000, 2 << 20]);
    transport.mtu_discovery = random.chance(0.3);
    transport.congestion = random.pick(&[Congestion::Cubic, Congestion::NewReno]);
    config.report_sent = random.chance(0.1);
    redial(random, &mut config);
    config
}

/// A heartbeat and a redial that together need less than the minute in which everybody has to be
/// back once all is well.
fn redial(random: &mut Random, config: &mut Config) {
    let silence = config.heartbeat.interval * config.heartbeat.misses;
    let redial = &mut config.redial;
    redial.first = random.pick(&[SECOND / 20, SECOND]);
    redial.cap = if silence > 20 * SECOND {
        SECOND
    } else {
        random.pick(&[SECOND, 4 * SECOND, 20 * SECOND])
    };
    redial.jitter = random.pick(&[0.0, 0.5, 0.5, 1.0]);
    redial.stable_after = random.pick(&[SECOND, 30 * SECOND]);
    redial.max_attempts = random.pick(&[None, None, None, Some(6)]);
}
