//! Which sessions a server has of which client.

use std::collections::BTreeMap;

use crate::id::{ClientId, SessionKey};

/// The sessions of each client, and the number of the hello that each was last made or resumed by.
#[derive(Debug, Default)]
pub(super) struct ByClient(BTreeMap<ClientId, Vec<(u64, SessionKey)>>);

impl ByClient {
    /// A client's sessions: who has said hello longest ago comes first.
    pub(super) fn of(&self, client: &ClientId) -> &[(u64, SessionKey)] {
        self.0.get(client).map_or(&[], Vec::as_slice)
    }

    /// A hello has made a session, or resumed it.
    pub(super) fn greeted(&mut self, client: &ClientId, hello: u64, session: SessionKey) {
        // Most clients have one.
        let one = || Vec::with_capacity(1);
        let own = self.0.entry(client.clone()).or_insert_with(one);
        let before = own.iter().position(|(_, key)| *key == session);
        let before = before.map_or(0, |place| own.remove(place).0);
        let hello = hello.max(before);
        let place = own.partition_point(|(earlier, _)| *earlier < hello);
        own.insert(place, (hello, session));
    }

    /// A session is gone.
    pub(super) fn remove(&mut self, client: &ClientId, session: SessionKey) {
        if let Some(own) = self.0.get_mut(client) {
            own.retain(|(_, key)| *key != session);
            if own.is_empty() {
                self.0.remove(client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Key;

    fn session(slot: u32) -> SessionKey {
        SessionKey(Key {
            slot,
            generation: 0,
        })
    }

    #[test]
    fn who_was_greeted_last_comes_last_whenever_it_is_told() {
        let mut sessions = ByClient::default();
        let [anna, ben] = ["anna", "ben"].map(|name| name.parse().unwrap());
        for (hello, number) in [(7, 1), (3, 2), (9, 3), (12, 2), (8, 3)] {
            sessions.greeted(&anna, hello, session(number));
        }
        sessions.greeted(&ben, 4, session(4));
        let of_anna = [(7, session(1)), (9, session(3)), (12, session(2))];
        assert_eq!(sessions.of(&anna), of_anna);
        for (_, key) in of_anna {
            sessions.remove(&anna, key);
        }
        assert_eq!(sessions.of(&anna), []);
        assert_eq!(sessions.of(&ben), [(4, session(4))]);
        assert_eq!(sessions.0.len(), 1);
    }
}
