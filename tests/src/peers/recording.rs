//! Whether a peer records itself while it is measured, and where to.

use anyhow::{Result, bail};
use trunkline_core::driver::Recording;

/// What PEERS_RECORD asks for: `link:FILE` or `wire:FILE`, without which nothing is recorded. `FILE`
/// gets `name` behind it, so that each of several nodes has its own.
pub fn recording(name: &str) -> Result<Option<Recording>> {
    let Ok(asked) = std::env::var("PEERS_RECORD") else {
        return Ok(None);
    };
    Ok(Some(match asked.split_once(':') {
        Some(("link", file)) => Recording::link(format!("{file}.{name}")).limit(u64::MAX),
        Some(("wire", file)) => Recording::wire(format!("{file}.{name}")).limit(u64::MAX),
        _ => bail!("PEERS_RECORD is {asked:?}: give link:FILE or wire:FILE"),
    }))
}
