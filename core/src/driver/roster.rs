//! The peers that exist, to be found by session or by client.

use std::collections::{BTreeMap, HashMap};

use super::peer::Peer;
use crate::{ClientId, SessionKey};

/// The peers that exist.
#[derive(Default)]
pub(super) struct Roster {
    by_session: HashMap<SessionKey, Peer>,
    by_client: BTreeMap<ClientId, Vec<Peer>>,
}

impl Roster {
    pub(super) fn enlist(&mut self, peer: &Peer) {
        self.by_session.insert(peer.session(), peer.clone());
        self.by_client
            .entry(peer.client_id().clone())
            .or_default()
            .push(peer.clone());
    }

    pub(super) fn strike(&mut self, peer: &Peer) {
        self.by_session.remove(&peer.session());
        if let Some(peers) = self.by_client.get_mut(peer.client_id()) {
            peers.retain(|other| other.session() != peer.session());
            if peers.is_empty() {
                self.by_client.remove(peer.client_id());
            }
        }
    }

    pub(super) fn of_session(&self, session: SessionKey) -> Option<&Peer> {
        self.by_session.get(&session)
    }

    /// A client's peers, the oldest first.
    pub(super) fn of_client(&self, client: &ClientId) -> Vec<Peer> {
        let mut peers = self.by_client.get(client).cloned().unwrap_or_default();
        peers.sort_unstable_by_key(Peer::order);
        peers
    }

    pub(super) fn newest(&self, client: &ClientId) -> Option<&Peer> {
        self.by_client.get(client)?.iter().max_by_key(|p| p.order())
    }

    /// All of them, by client.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.by_client.values().flatten()
    }
}
