//! Where a client dials next: its server's name is looked up before each dial, for it may move.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::command::Command;
use super::runtime::Task;
use super::shared::Desk;
use crate::SessionKey;

pub(crate) type Lookup = Arc<dyn Fn(&str) -> Task<io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// Looks up where a client dials next.
pub(crate) struct Resolver {
    target: String,
    /// Where a server that went away sent the client.
    alternative: Option<String>,
    lookup: Lookup,
    /// The socket's own family.
    ipv6: bool,
    /// Where there was a link last: the session is there.
    home: Option<SocketAddr>,
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
            home: None,
        }
    }

    pub(crate) fn prefer(&mut self, alternative: String) {
        self.alternative = Some(alternative);
    }

    pub(crate) fn reached(&mut self, address: SocketAddr) {
        self.home = Some(address);
    }

    /// Looks the server up beside the driver, and redirects the session to what is found.
    pub(crate) fn find(&self, session: SessionKey, attempt: u32, desk: &Arc<Desk>) {
        let target = match &self.alternative {
            Some(alternative) if attempt <= LOYAL_ATTEMPTS || attempt % 2 == 1 => alternative,
            _ => &self.target,
        };
        let (ipv6, home, to) = (self.ipv6, self.home, desk.clone());
        let redirect = move |found: &[SocketAddr]| match choose(found, ipv6, home, attempt) {
            // If the driver has ended, nobody dials any more.
            Some(address) => drop(to.mailbox.post(Command::Redirect(session, address))),
            None => tracing::debug!(?found, "not in reach of an IPv4 socket"),
        };
        if let Ok(address) = target.parse() {
            return redirect(&[address]);
        }
        let (lookup, target) = ((self.lookup)(target), target.clone());
        desk.runtime.spawn(Box::pin(async move {
            match lookup.await {
                Ok(found) => redirect(&found),
                Err(error) => tracing::debug!(%target, %error, "the server's name was not found"),
            }
        }));
    }
}

/// The addresses that a socket of that family can send to, as it has to name them.
pub(crate) fn in_reach(found: &[SocketAddr], ipv6: bool) -> Vec<SocketAddr> {
    let named = |address: &SocketAddr| match address {
        SocketAddr::V4(v4) if ipv6 => Some((v4.ip().to_ipv6_mapped(), v4.port()).into()),
        SocketAddr::V6(_) if !ipv6 => None,
        own => Some(*own),
    };
    found.iter().filter_map(named).collect()
}

/// The address for that redial (1, 2, …): the one that had a link first, then each in turn.
fn choose(
    found: &[SocketAddr],
    ipv6: bool,
    home: Option<SocketAddr>,
    attempt: u32,
) -> Option<SocketAddr> {
    let mut addresses = in_reach(found, ipv6);
    let mut turn = attempt as usize;
    if let Some(home) = home {
        // The session is at home; without one, the first address was dialled before all redials.
        turn = turn.saturating_sub(1);
        if let Some(at) = addresses.iter().position(|address| *address == home) {
            addresses[..=at].rotate_right(1);
        }
    }
    addresses.get(turn.checked_rem(addresses.len())?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Vec<SocketAddr> {
        ["[::1]:1", "127.0.0.1:2", "127.0.0.1:3"]
            .map(|address| address.parse().unwrap())
            .into()
    }

    fn ports(ipv6: bool, home: Option<&str>) -> Vec<u16> {
        let home = home.map(|home| home.parse().unwrap());
        (1..=4)
            .map(|attempt| choose(&addresses(), ipv6, home, attempt).unwrap().port())
            .collect()
    }

    #[test]
    fn redials_go_round_all_addresses_that_the_socket_reaches() {
        assert_eq!(ports(false, None), [3, 2, 3, 2]);
        assert_eq!(ports(true, None), [2, 3, 1, 2]);
        assert_eq!(choose(&addresses()[..1], false, None, 1), None);
    }

    #[test]
    fn a_redial_goes_home_first_for_the_session_is_there() {
        assert_eq!(ports(false, Some("127.0.0.1:3")), [3, 2, 3, 2]);
        assert_eq!(ports(true, Some("[::ffff:127.0.0.1]:3")), [3, 1, 2, 3]);
        assert_eq!(ports(false, Some("127.0.0.1:9")), [2, 3, 2, 3]);
    }

    #[test]
    fn an_ipv6_socket_reaches_ipv4_by_mapped_addresses() {
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:2".parse().unwrap();
        assert_eq!(in_reach(&addresses(), true)[1], mapped);
    }
}
