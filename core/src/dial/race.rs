//! Which addresses of a server are dialled, in which order, and which of them still may answer.

use std::net::SocketAddr;

use crate::config::ADDRESSES_MAX;
use crate::error::{CommandError, DisconnectReason};
use crate::id::LinkKey;
use crate::steering::NAMING;

/// The addresses of a session's server, and a dial's links to them.
#[derive(Debug, Default)]
pub(crate) struct Race {
    /// All but the one that is dialled first.
    others: Vec<SocketAddr>,
    /// The next of them.
    next: usize,
    runners: Vec<Runner>,
    /// While it ran, the next dial was sent elsewhere.
    redirected: bool,
    /// Why no dial to an address makes sense that was tried.
    verdict: Option<DisconnectReason>,
}

#[derive(Debug)]
struct Runner {
    link: LinkKey,
    address: SocketAddr,
    begins: Option<[u8; NAMING]>,
}

/// An address that answered, what its connection's destination id began with, and the links to the
/// others.
pub(crate) type Won = (SocketAddr, Option<[u8; NAMING]>, Vec<LinkKey>);

impl Race {
    /// Another address; the first one is known.
    pub(crate) fn add(
        &mut self,
        first: SocketAddr,
        address: SocketAddr,
    ) -> Result<(), CommandError> {
        if address == first || self.knows(address) {
            return Ok(());
        }
        if self.others.len() + 1 >= ADDRESSES_MAX {
            return Err(CommandError::TooManyAddresses);
        }
        self.others.push(address);
        Ok(())
    }

    /// Whether it is one of the others.
    pub(crate) fn knows(&self, address: SocketAddr) -> bool {
        self.others.contains(&address)
    }

    /// The one that is dialled first is another: one of the others, or that of another server.
    pub(crate) fn aimed(&mut self, before: SocketAddr, first: SocketAddr) {
        self.redirected = !self.runners.is_empty();
        if before == first {
            return;
        }
        match self.others.iter_mut().find(|other| **other == first) {
            Some(place) => *place = before,
            None => self.forget_others(),
        }
    }

    /// Only the first address is left.
    pub(crate) fn forget_others(&mut self) {
        self.others.clear();
        self.next = 0;
    }

    /// A dial begins anew.
    pub(crate) fn begin(&mut self) {
        self.next = 0;
        self.runners.clear();
        self.redirected = false;
        self.verdict = None;
    }

    pub(crate) fn dialled(
        &mut self,
        link: LinkKey,
        address: SocketAddr,
        begins: Option<[u8; NAMING]>,
    ) {
        self.runners.push(Runner {
            link,
            address,
            begins,
        });
    }

    pub(crate) fn has_next(&self) -> bool {
        self.next < self.others.len()
    }

    /// The next address to dial.
    pub(crate) fn next(&mut self) -> Option<SocketAddr> {
        let dialled = |address: &SocketAddr| self.runners.iter().any(|r| r.address == *address);
        let ahead = self.others.get(self.next..)?;
        let at = ahead.iter().position(|address| !dialled(address));
        let at = self.next + at.unwrap_or(ahead.len());
        self.next = at + 1;
        self.others.get(at).copied()
    }

    /// A link ended. `true`: it was one of those that still might have answered.
    pub(crate) fn ended(&mut self, link: LinkKey) -> bool {
        let before = self.runners.len();
        self.runners.retain(|runner| runner.link != link);
        self.runners.len() < before
    }

    /// An address is of no use, for this reason.
    pub(crate) fn judged(&mut self, reason: &DisconnectReason) {
        self.verdict = Some(reason.clone());
    }

    /// Why an address was of no use, if one was.
    pub(crate) fn verdict(&mut self) -> Option<DisconnectReason> {
        self.verdict.take()
    }

    /// Whether the next dial was sent elsewhere since this one began.
    pub(crate) fn is_redirected(&self) -> bool {
        self.redirected
    }

    /// The link that was dialled last of those that still may answer.
    pub(crate) fn latest(&self) -> Option<LinkKey> {
        self.runners.last().map(|runner| runner.link)
    }

    /// An address has answered. `None`: its link is not in the race.
    pub(crate) fn won(&mut self, winner: LinkKey) -> Option<Won> {
        let at = self.runners.iter().position(|r| r.link == winner)?;
        let runner = self.runners.remove(at);
        self.verdict = None;
        Some((runner.address, runner.begins, self.give_up()))
    }

    /// All links that still may answer: they are to end.
    pub(crate) fn give_up(&mut self) -> Vec<LinkKey> {
        self.runners.drain(..).map(|runner| runner.link).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Key;

    fn address(number: u8) -> SocketAddr {
        ([192, 0, 2, number], 4433).into()
    }

    fn link(slot: u32) -> LinkKey {
        let generation = 0;
        LinkKey(Key { slot, generation })
    }

    fn race(others: &[u8]) -> Race {
        let mut race = Race::default();
        for other in others {
            race.add(address(1), address(*other)).unwrap();
        }
        race
    }

    #[test]
    fn each_address_is_dialled_once_and_the_last_of_them_is_the_eighth() {
        let mut race = race(&[2, 1, 3, 2]);
        race.begin();
        race.dialled(link(1), address(1), None);
        race.dialled(link(3), address(3), None);
        assert_eq!(race.next(), Some(address(2)));
        assert_eq!(race.next(), None, "the others are dialled");
        assert!(!race.has_next());
        for more in 4..=8 {
            race.add(address(1), address(more)).unwrap();
        }
        let refused = race.add(address(1), address(9)).unwrap_err();
        assert_eq!(refused, CommandError::TooManyAddresses);
    }

    #[test]
    fn the_first_that_answers_ends_the_others() {
        let mut race = race(&[2, 3]);
        race.begin();
        for number in 1..=3_u8 {
            race.dialled(link(number.into()), address(number), Some([number; NAMING]));
        }
        assert!(race.ended(link(3)) && !race.ended(link(3)));
        assert_eq!(race.latest(), Some(link(2)));
        let won = race.won(link(1));
        assert_eq!(won, Some((address(1), Some([1; NAMING]), vec![link(2)])));
        assert_eq!(race.won(link(2)), None);
    }

    #[test]
    fn where_the_next_dial_is_sent_counts_also_if_it_went_there_before() {
        let mut race = race(&[2]);
        race.begin();
        race.dialled(link(1), address(1), None);
        race.aimed(address(1), address(1));
        assert!(race.is_redirected());
        race.begin();
        assert!(!race.is_redirected());
    }

    #[test]
    fn another_first_address_changes_places_and_another_server_has_no_others() {
        let mut race = race(&[2, 3]);
        race.aimed(address(1), address(3));
        assert_eq!(
            (race.next(), race.next()),
            (Some(address(2)), Some(address(1)))
        );
        race.aimed(address(3), address(9));
        race.begin();
        assert_eq!(race.next(), None);
    }
}
