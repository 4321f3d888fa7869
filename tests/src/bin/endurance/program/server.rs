//! The server process: accepts what is sent to it, and keeps account of its order.

mod account;
mod bare;
mod on_tokio;
mod slowness;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use trunkline_core::{Config, PersistentKeys, Seed, SlowConsumer};

use super::arguments::{Broadcasts, Engine, Policy, Serve};

/// Longer than any figure takes.
const MOST: Duration = Duration::from_secs(24 * 3_600);

/// All broadcasts are of one key.
const KEY: u64 = 1;

/// What both engines are started with.
struct Setting {
    listen: SocketAddr,
    config: Config,
    keys: PersistentKeys,
    /// What it broadcasts, if anything.
    broadcasts: Option<Broadcasts>,
}

/// Serves until its standard input ends.
pub(crate) fn serve(options: &Serve) -> Result<()> {
    let mut config = Config::default();
    config.heartbeat.interval = Duration::from_millis(options.heartbeat);
    if let Some(policy) = options.policy {
        config.slow_consumer = match policy {
            Policy::DropNewest => SlowConsumer::DropNewest,
            Policy::DropOldest => SlowConsumer::DropOldest,
            Policy::KeepLatest => SlowConsumer::KeepLatest,
            Policy::Disconnect => SlowConsumer::Disconnect,
        };
        config.limits.best_effort_bytes = usize::try_from(options.broadcasts.queue)?;
    }
    let setting = Setting {
        listen: options.listen,
        config,
        keys: PersistentKeys::from_seed(&Seed::new([options.keys; 32])),
        broadcasts: options.policy.map(|_| options.broadcasts),
    };
    match options.engine {
        Engine::Core => bare::serve(setting),
        Engine::Tokio => on_tokio::serve(setting),
    }
}
