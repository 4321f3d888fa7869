//! Where a client dials next: its server's name is looked up before each dial, for it may move.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::command::Command;
use super::runtime::Task;
use super::shared::Shared;
use crate::SessionKey;

pub(crate) type Lookup = Arc<dyn Fn(&str) -> Task<io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// Looks up where a client dials next.
pub(crate) struct Resolver {
    target: String,
    /// Where a server that went away sent the client.
    alternative: Option<String>,
    lookup: Lookup,
    /// The socket's own family: no other can be dialled.
    ipv6: bool,
}

/// So many attempts go to the alternative before the original server gets every other one.
const LOYAL_ATTEMPTS: u32 = 3;

impl Resolver {
    pub(crate) fn new(target: String, lookup: Lookup, ipv6: bool) -> Self {
        Self {
            target,
            alternative: None,
            lookup,
            ipv6,
        }
    }

    pub(crate) fn prefer(&mut self, alternative: String) {
        self.alternative = Some(alternative);
    }

    /// Looks the server up beside the driver, and redirects the session to what is found. Of
    /// several addresses, each attempt takes the next.
    pub(crate) fn find(&self, session: SessionKey, attempt: u32, shared: &Arc<Shared>) {
        let target = match &self.alternative {
            Some(alternative) if attempt <= LOYAL_ATTEMPTS || attempt % 2 == 1 => alternative,
            _ => &self.target,
        };
        let (lookup, ipv6, target) = ((self.lookup)(target), self.ipv6, target.clone());
        let posted_to = shared.clone();
        shared.runtime.spawn(Box::pin(async move {
            let found = match lookup.await {
                Ok(found) => found,
                Err(error) => {
                    return tracing::debug!(%target, %error, "the server's name was not found");
                }
            };
            if let Some(address) = choose(&found, ipv6, attempt) {
                // If the driver has ended, nobody dials any more.
                let _ = posted_to.mailbox.post(Command::Redirect(session, address));
            }
        }));
    }
}

/// The address for that attempt (1, 2, …) among those of a family.
pub(crate) fn choose(found: &[SocketAddr], ipv6: bool, attempt: u32) -> Option<SocketAddr> {
    let fitting: Vec<_> = found
        .iter()
        .filter(|address| address.is_ipv6() == ipv6)
        .collect();
    let index = (attempt as usize)
        .saturating_sub(1)
        .checked_rem(fitting.len())?;
    Some(*fitting[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_go_round_the_addresses_of_the_sockets_family() {
        let found = ["[::1]:1", "127.0.0.1:2", "127.0.0.1:3"].map(|a| a.parse().unwrap());
        let chosen = |attempt| choose(&found, false, attempt).map(|a| a.port());
        assert_eq!(
            [chosen(1), chosen(2), chosen(3)],
            [Some(2), Some(3), Some(2)]
        );
        assert_eq!(choose(&found[1..], true, 1), None);
    }
}
