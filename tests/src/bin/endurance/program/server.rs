//! The server process: accepts what is sent to it, and keeps account of its order.

mod account;
mod bare;
mod on_tokio;

use std::time::Duration;

use anyhow::Result;
use trunkline_core::{Config, PersistentKeys, Seed};

use super::arguments::{Engine, Serve};

/// Longer than any figure takes.
const MOST: Duration = Duration::from_secs(24 * 3_600);

/// Serves until its standard input ends.
pub(crate) fn serve(options: &Serve) -> Result<()> {
    let mut config = Config::default();
    config.heartbeat.interval = Duration::from_millis(options.heartbeat);
    let keys = PersistentKeys::from_seed(&Seed::new([options.keys; 32]));
    match options.engine {
        Engine::Core => bare::serve(options.listen, config, keys),
        Engine::Tokio => on_tokio::serve(options.listen, config, keys),
    }
}
