//! Which clients were found too slow, and when.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Result;
use trunkline_core::SessionKey;
use trunkline_testkit::peers::clock_ns;

use super::super::messages::{Slow, Told};

#[derive(Debug, Default)]
pub(super) struct Slowness {
    /// Where each session's client is, or was when it had a link.
    addresses: BTreeMap<SessionKey, SocketAddr>,
    slow: Vec<Slow>,
}

impl Slowness {
    pub(super) fn connected(&mut self, session: SessionKey, address: SocketAddr) {
        self.addresses.insert(session, address);
    }

    pub(super) fn found_slow(&mut self, session: SessionKey) -> Result<()> {
        if let Some(address) = self.addresses.get(&session) {
            self.slow.push(Slow {
                client: address.to_string(),
                at_ns: clock_ns()?,
            });
        }
        Ok(())
    }

    pub(super) fn forget(&mut self, session: &SessionKey) {
        self.addresses.remove(session);
    }

    pub(super) fn told(&self) -> Told {
        let slow = self.slow.clone();
        Told { slow }
    }
}
