//! A server of several addresses: each is dialled a little after the one before it, and the first
//! that answers has the session (RFC 8305, section 5).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::dial::Dialing;
use crate::error::{CloseCode, CommandError, DisconnectReason};
use crate::id::{LinkKey, SessionKey};
use crate::link::Link;
use crate::logged::logged;
use crate::tap::Call;

use super::{Node, TimeoutReason};

/// How long an address has before the next is dialled beside it: RFC 8305, section 8.
const DELAY: Duration = Duration::from_millis(250);

/// Whether there can be a server.
pub(super) fn check_dialable(address: SocketAddr) -> Result<(), CommandError> {
    if address.port() == 0 || address.ip().is_unspecified() {
        return Err(CommandError::UndialableAddress(address));
    }
    Ok(())
}

impl Node {
    /// Another address of the server that a client session dials; at most
    /// [`ADDRESSES_MAX`](crate::ADDRESSES_MAX) with the first one.
    ///
    /// If those before it have not answered within 250 ms, it is dialled beside them; the first that
    /// completes its handshake has the session, and the dials to others end. So a host of which one
    /// address is dead, as `localhost` often is on IPv6, costs a quarter of a second, and not the
    /// [`Timeouts::admission`](crate::Timeouts). Once it has said hello to a server that did not turn
    /// it away, a session stays with that address until it is [redirected](Self::redirect).
    pub fn add_address(
        &mut self,
        now: Instant,
        session: SessionKey,
        address: SocketAddr,
    ) -> Result<(), CommandError> {
        let now = self.enter(now, || Call::AddAddress { session, address });
        check_dialable(address)?;
        let dialing = self.dialing_mut(session)?;
        dialing.race.add(dialing.address, address)?;
        self.time_next_address(now, session);
        Ok(())
    }

    /// Where the next dial of a client session goes. Unless it is one of the server's addresses that
    /// are known, the others are forgotten ([`forget_addresses`](Self::forget_addresses) forgets them always).
    /// It is how a client goes where its server sends it: to the alternative of [`Event::Draining`](crate::Event::Draining).
    pub fn redirect(
        &mut self,
        now: Instant,
        session: SessionKey,
        address: SocketAddr,
    ) -> Result<(), CommandError> {
        self.enter(now, || Call::Redirect { session, address });
        check_dialable(address)?;
        self.dialing_mut(session)?.aim(address);
        Ok(())
    }

    /// Forgets all addresses of a client session's server but the one that is dialled next: those
    /// that a look-up finds now are not those that it found before. Dials that are under way go on, as a link that is up
    /// does: the first that completes its handshake has the session for as long as that link lasts. Behind one to an
    /// address that is forgotten, the next dial goes to the addresses that are known then.
    pub fn forget_addresses(
        &mut self,
        now: Instant,
        session: SessionKey,
    ) -> Result<(), CommandError> {
        self.enter(now, || Call::ForgetAddresses { session });
        self.dialing_mut(session)?.race.forget_others();
        Ok(())
    }

    /// How a client session gets its links.
    pub(super) fn dialing_mut(
        &mut self,
        session: SessionKey,
    ) -> Result<&mut Dialing, CommandError> {
        let session = self
            .sessions
            .get_mut(session)
            .ok_or(CommandError::UnknownSession)?;
        let dialing = session.dialing.as_deref_mut();
        dialing.ok_or(CommandError::NotConfigured("dialled session"))
    }

    /// Dials for a client session.
    pub(super) fn dial(&mut self, now: Instant, key: SessionKey) -> Result<(), CommandError> {
        let Ok(dialing) = self.dialing_mut(key) else {
            return Ok(());
        };
        dialing.race.begin();
        let address = dialing.address;
        self.dial_address(now, key, address)
    }

    /// Dials an address for a client session, beside others or not.
    fn dial_address(
        &mut self,
        now: Instant,
        key: SessionKey,
        address: SocketAddr,
    ) -> Result<(), CommandError> {
        let Ok(dialing) = self.dialing_mut(key) else {
            return Ok(());
        };
        let route = dialing.route.filter(|_| dialing.hellos > 0);
        let server_name = dialing.server_name.clone();
        let (carrier, begins) = self.endpoint.connect(now, address, &server_name, route)?;
        let link = Link::new(now, self.config.timeouts.admission, Some(key));
        let link = self.add_link(link, Box::new(carrier), None);
        if let Some(session) = self.sessions.get_mut(key) {
            session.link = Some(link);
            if let Some(dialing) = session.dialing.as_mut() {
                dialing.race.dialled(link, address, begins);
            }
        }
        self.time_next_address(now, key);
        Ok(())
    }

    /// Sets the time at which the next address is dialled, if there is one.
    fn time_next_address(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let more = session
            .dialing
            .as_ref()
            .is_some_and(|dialing| dialing.hellos == 0 && dialing.race.has_next());
        if more && session.link.is_some() && self.timers.deadline(&session.timer).is_none() {
            let reason = TimeoutReason::Session(key);
            self.timers.set(&mut session.timer, reason, now + DELAY);
        }
    }

    /// Dials the next address of a session that has said hello to none. `false`: there is none.
    pub(super) fn dial_next_address(&mut self, now: Instant, key: SessionKey) -> bool {
        while let Some(address) = self.next_address(key) {
            match self.dial_address(now, key, address) {
                Ok(()) => return true,
                Err(error) => {
                    logged(|| tracing::debug!(%address, %error, "an address cannot be dialled"));
                }
            }
        }
        false
    }

    fn next_address(&mut self, key: SessionKey) -> Option<SocketAddr> {
        let dialing = self.dialing_mut(key).ok()?;
        (dialing.hellos == 0).then(|| dialing.race.next())?
    }

    /// A session's link ended. `true`: another dial goes on, or begins.
    pub(super) fn race_goes_on(&mut self, now: Instant, key: SessionKey) -> bool {
        let Ok(dialing) = self.dialing_mut(key) else {
            return false;
        };
        if let Some(other) = dialing.race.latest() {
            if let Some(session) = self.sessions.get_mut(key) {
                session.link = Some(other);
            }
            return true;
        }
        if let Some(session) = self.sessions.get_mut(key) {
            self.timers.cancel(&mut session.timer);
        }
        self.dial_next_address(now, key)
    }

    /// A dial's handshake is done: it has the session, and the others end.
    pub(super) fn race_is_won(&mut self, now: Instant, key: SessionKey, winner: LinkKey) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(dialing) = session.dialing.as_mut() else {
            return;
        };
        let Some((address, begins, others)) = dialing.race.won(winner) else {
            return;
        };
        // One that was forgotten meanwhile is no place to come back to.
        if !dialing.race.is_redirected() && dialing.knows(address) {
            dialing.aim(address);
        }
        if dialing.hellos == 0 {
            // Until a Welcome says more, this is where the session is.
            dialing.route = begins;
        }
        session.link = Some(winner);
        self.timers.cancel(&mut session.timer);
        self.end_dials(now, others);
    }

    /// Ends dials that no session waits for.
    pub(super) fn end_dials(&mut self, now: Instant, dials: Vec<LinkKey>) {
        for dial in dials {
            let (code, text) = (CloseCode::NORMAL, "this dial is not needed any more");
            self.disown_and_end(now, dial, code, text, DisconnectReason::local(code, text));
        }
    }
}
