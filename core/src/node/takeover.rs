//! A client that has sessions already, and comes once more.

use std::time::Instant;

use crate::config::SessionsFull;
use crate::error::{CloseCode, Fault};
use crate::id::SessionKey;
use crate::link::hello::ClientHello;

use super::Node;

impl Node {
    /// Whether a later attempt at the same session has made one.
    pub(super) fn has_what_it_wished(&self, hello: &ClientHello) -> bool {
        let wish = hello.wish();
        let own = self.sessions_of.of(&hello.client).iter();
        own.filter_map(|(_, key)| self.sessions.get(*key)?.wish)
            .any(|later| wish.precedes(later))
    }

    /// A client that asks once more has given up the sessions that were made for its earlier attempts, unless it has
    /// said that it has them: nobody would ever come for them.
    pub(super) fn end_what_earlier_attempts_made(&mut self, now: Instant, hello: &ClientHello) {
        let wish = hello.wish();
        let own = self.sessions_of.of(&hello.client).iter();
        let outdated = own.filter(|(_, key)| {
            let session = self.sessions.get(*key).filter(|session| !session.taken_up);
            let made_for = session.and_then(|session| session.wish);
            made_for.is_some_and(|earlier| earlier.precedes(wish))
        });
        let outdated: Vec<_> = outdated.map(|(_, key)| *key).collect();
        for key in outdated {
            let reason = "a later attempt of its client makes another one";
            self.cut_off(now, key, CloseCode::SUPERSEDED, reason);
        }
    }

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
