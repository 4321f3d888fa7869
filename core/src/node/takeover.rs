//! A client that has as many sessions as it may, and comes once more.

use std::time::Instant;

use crate::config::SessionsFull;
use crate::error::CloseCode;
use crate::id::SessionKey;
use crate::link::hello::ClientHello;
use crate::quic::Fault;

use super::Node;

impl Node {
    /// Ends a session of a client whose new one finds no place, if that may have it.
    pub(super) fn make_room_for(&mut self, now: Instant, hello: &ClientHello) -> Result<(), Fault> {
        let limits = &self.config.limits;
        let own = self.sessions_of.of(&hello.client);
        let full = own.len() >= limits.sessions_per_client || self.by_id.len() >= limits.sessions;
        if self.config.sessions_full == SessionsFull::Refuse || !full {
            return Ok(());
        }
        // What is being closed is finished first. That takes no longer than `timeouts.close`.
        if own.iter().any(|(_, key)| self.is_being_closed(*key)) {
            return Ok(());
        }
        let is_away = |(_, key): &&(u64, SessionKey)| {
            let session = self.sessions.get(*key);
            session.is_some_and(|session| session.link.is_none())
        };
        // Decisions about admission may overtake each other: who came later stays.
        let mut older = own.iter().filter(|(number, _)| *number < hello.number);
        let Some((_, oldest)) = older.clone().find(is_away).or(older.next()).copied() else {
            if own.is_empty() {
                return Ok(());
            }
            return Err(Fault::new(
                CloseCode::SUPERSEDED,
                "this client has come once more since this hello",
            ));
        };
        self.metrics.sessions_replaced += 1;
        let reason = "a newer session of this client has taken its place";
        self.cut_off(now, oldest, CloseCode::SUPERSEDED, reason);
        Ok(())
    }

    /// Whether either side has begun to close it.
    fn is_being_closed(&self, key: SessionKey) -> bool {
        let session = self.sessions.get(key);
        session.is_some_and(|session| {
            let link = session.link.and_then(|link| self.links.get(link));
            session.closing.is_some() || link.is_some_and(|e| e.link.peer_close.is_some())
        })
    }
}
