//! Where a client dials next: its server's name is looked up before each dial, for it may move.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::canonical::canonical;
use super::command::Command;
use super::runtime::Task;
use super::shared::Desk;
use crate::logged::logged;
use crate::{ADDRESSES_MAX, SessionKey};

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
    /// Where the session was to be dialled that is the alternative's.
    alternative_at: Vec<SocketAddr>,
    /// Redials since there was a link.
    redials: u32,
    /// Each look-up that goes on has a share in it.
    looking: Arc<()>,
    /// Counted on with all that makes what is being looked up for another time.
    round: u64,
}

/// So many attempts go to the alternative before the original server gets every other one.
const LOYAL_ATTEMPTS: u32 = 3;

/// So many go to where the session is before others have their turn, which do not have it.
const HOME_ATTEMPTS: u32 = 2;

/// So many look-ups of a client may go on at a time: one may take very long, and be for nothing by then.
const LOOKUPS_MAX: usize = 2;

impl Resolver {
    pub(crate) fn new(target: String, lookup: Lookup, ipv6: bool) -> Self {
        Self {
            target,
            alternative: None,
            lookup,
            ipv6,
            home: None,
            alternative_at: Vec::new(),
            redials: 0,
            looking: Arc::default(),
            round: 0,
        }
    }

    /// The server goes away, and sends the client there, or nowhere: then it is dialled where it is, which may be where
    /// another one had sent the client.
    pub(crate) fn sent_to(
        &mut self,
        alternative: Option<String>,
        session: SessionKey,
        desk: &Arc<Desk>,
    ) {
        let somewhere = alternative.is_some();
        if somewhere || !self.is_where_it_was_sent() {
            self.alternative = alternative;
        }
        self.begin_round();
        if somewhere {
            self.find(session, 1, desk);
        }
    }

    /// There is a link.
    pub(crate) fn reached(&mut self, address: SocketAddr) {
        self.home = Some(address);
        if !self.is_where_it_was_sent() {
            // The server is back that had sent the client away, and has its session.
            self.alternative = None;
        }
        self.begin_round();
    }

    fn is_where_it_was_sent(&self) -> bool {
        self.home
            .is_some_and(|home| self.alternative_at.contains(&home))
    }

    fn begin_round(&mut self) {
        self.round += 1;
        self.redials = 0;
    }

    /// The session dials these addresses from now on: the alternative's, or those of the server's own name.
    pub(crate) fn redirected(&mut self, addresses: &[SocketAddr], to_alternative: bool) {
        if to_alternative {
            self.alternative_at = addresses.to_vec();
        }
    }

    /// There is no session any more to be found anywhere.
    pub(crate) fn session_lost(&mut self) {
        self.home = None;
    }

    /// Whether what was looked up in that round still counts.
    pub(crate) fn is_latest(&self, round: u64) -> bool {
        self.round == round
    }

    /// Looks the server up beside the driver, and redirects the session to what is found.
    pub(crate) fn redial(&mut self, session: SessionKey, desk: &Arc<Desk>) {
        self.redials = self.redials.saturating_add(1);
        self.find(session, self.redials, desk);
    }

    fn find(&self, session: SessionKey, attempt: u32, desk: &Arc<Desk>) {
        let (target, to_alternative) = match &self.alternative {
            Some(alternative) if attempt <= LOYAL_ATTEMPTS || attempt % 2 == 1 => {
                (alternative, true)
            }
            _ => (&self.target, false),
        };
        if attempt == 1 && self.round == 0 {
            // An address may have answered, and have made the session: that is dialled again.
            return;
        }
        let (ipv6, home, round, to) = (self.ipv6, self.home, self.round, desk.clone());
        let name = target.clone();
        let redirect = move |found: &[SocketAddr]| {
            let addresses = in_turn(found, ipv6, home, attempt);
            if addresses.is_empty() {
                let socket = if ipv6 { "IPv6" } else { "IPv4" };
                logged(|| {
                    tracing::warn!(target = %name, ?found, socket, "no address can be dialled from this socket");
                });
                return;
            }
            let redirect = Redirect {
                session,
                round,
                to_alternative,
                addresses,
            };
            // If the driver has ended, nobody dials any more.
            drop(to.mailbox.post(Command::Redirect(redirect)));
        };
        if let Ok(address) = target.parse() {
            return redirect(&[address]);
        }
        // Where names cannot be looked up, that takes longer than the next redial does.
        if Arc::strong_count(&self.looking) > LOOKUPS_MAX {
            return;
        }
        let looking = self.looking.clone();
        let (lookup, target) = ((self.lookup)(target), target.clone());
        desk.runtime.spawn(Box::pin(async move {
            let found = lookup.await;
            drop(looking);
            match found {
                Ok(found) => redirect(&found),
                Err(error) => logged(|| {
                    tracing::debug!(%target, %error, "the server's name was not found");
                }),
            }
        }));
    }
}

/// Where a session is to be dialled from now on.
#[derive(Debug)]
pub(crate) struct Redirect {
    pub(crate) session: SessionKey,
    /// See [`Resolver::is_latest`].
    pub(crate) round: u64,
    /// See [`Resolver::redirected`].
    pub(crate) to_alternative: bool,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// The addresses that a socket of that family can send to, which is both for one of IPv6: as many as a
/// session dials, and both families in turn (RFC 8305, section 4).
pub(crate) fn in_reach(found: &[SocketAddr], ipv6: bool) -> Vec<SocketAddr> {
    let mut addresses = all_in_reach(found, ipv6);
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

fn all_in_reach(found: &[SocketAddr], ipv6: bool) -> Vec<SocketAddr> {
    let found = found.iter().copied().map(canonical);
    let first = found.clone().next();
    let of_nobody = |ip: IpAddr| ip.is_unspecified() || ip.is_multicast();
    let dialable = |a: &SocketAddr| (ipv6 || a.is_ipv4()) && a.port() != 0 && !of_nobody(a.ip());
    let (mut one, mut other): (Vec<_>, Vec<_>) =
        found.filter(dialable).partition(SocketAddr::is_ipv6);
    if first.is_some_and(|first| first.is_ipv4()) {
        std::mem::swap(&mut one, &mut other);
    }
    let mut families = [one.into_iter(), other.into_iter()];
    let mut addresses = Vec::new();
    while families.iter().any(|family| family.len() > 0) {
        addresses.extend(families.iter_mut().filter_map(Iterator::next));
    }
    addresses
}

/// The addresses for that redial (1, 2, …), in order: the one that has the session first, for some attempts, then
/// each first in turn.
fn in_turn(
    found: &[SocketAddr],
    ipv6: bool,
    home: Option<SocketAddr>,
    attempt: u32,
) -> Vec<SocketAddr> {
    let mut addresses = all_in_reach(found, ipv6);
    let at_home = |address: &SocketAddr| Some(*address) == home;
    if let Some(at) = addresses.iter().position(at_home) {
        addresses[..=at].rotate_right(1);
    }
    let stays = if addresses.first().is_some_and(at_home) {
        HOME_ATTEMPTS
    } else {
        1
    };
    let turn = attempt.saturating_sub(stays) as usize;
    let turn = turn.checked_rem(addresses.len()).unwrap_or(0);
    addresses.rotate_left(turn);
    addresses.truncate(ADDRESSES_MAX);
    addresses
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
            .map(|attempt| in_turn(&addresses(), ipv6, home, attempt)[0].port())
            .collect()
    }

    #[test]
    fn redials_go_round_all_addresses_that_the_socket_reaches() {
        assert_eq!(ports(false, None), [2, 3, 2, 3]);
        assert_eq!(ports(true, None), [1, 2, 3, 1]);
        let all = in_turn(&addresses(), true, None, 2);
        assert_eq!(all.iter().map(|a| a.port()).collect::<Vec<_>>(), [2, 3, 1]);
        assert!(in_turn(&addresses()[..1], false, None, 1).is_empty());
    }

    #[test]
    fn a_redial_goes_home_first_for_the_session_is_there() {
        assert_eq!(ports(false, Some("127.0.0.1:3")), [3, 3, 2, 3]);
        assert_eq!(ports(true, Some("127.0.0.1:3")), [3, 3, 1, 2]);
        assert_eq!(ports(false, Some("127.0.0.1:9")), [2, 3, 2, 3]);
        let many: Vec<SocketAddr> = (1..20).map(|port| ([1, 1, 1, 1], port).into()).collect();
        let turn = in_turn(&many, false, many.last().copied(), 1);
        assert_eq!((turn.len(), turn.first()), (ADDRESSES_MAX, many.last()));
    }

    #[test]
    fn both_families_have_their_turn_and_what_cannot_be_dialled_has_none() {
        let found = [
            "[::1]:1",
            "[::2]:2",
            "[::]:3",
            "[::4]:4",
            "1.1.1.1:5",
            "0.0.0.0:6",
            "239.1.1.1:7",
            "[ff02::1]:8",
        ];
        let found = found.map(|address| address.parse().unwrap());
        let ports = |found: &[SocketAddr]| -> Vec<u16> {
            in_reach(found, true).iter().map(|a| a.port()).collect()
        };
        assert_eq!(ports(&found), [1, 5, 2, 4]);
        assert_eq!(ports(&found[3..]), [4, 5]);
        assert_eq!(ports(&found[4..]), [5]);
        let many: Vec<SocketAddr> = (1..20).map(|port| ([1, 1, 1, 1], port).into()).collect();
        assert_eq!(in_reach(&many, false).len(), ADDRESSES_MAX);
    }

    #[test]
    fn an_ipv4_address_is_one_to_any_socket() {
        let mapped = ["[::ffff:127.0.0.1]:2", "[::ffff:0.0.0.0]:3"];
        let mapped = mapped.map(|address| address.parse().unwrap());
        for ipv6 in [true, false] {
            assert_eq!(in_reach(&mapped, ipv6), addresses()[1..2]);
        }
    }
}
