//! What all handles of one node share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::command::Command;
use super::events::{Events, Subscribers};
use super::mailbox::Mailbox;
use super::peer::Peer;
use super::runtime::Runtime;
use super::slot::{Stopped, slot};
use super::watch::{Watch, lock};
use crate::{ClientId, Limits, Node};

/// What all handles of one node share. The driver clears it when it ends.
pub(crate) struct Shared {
    pub(crate) mailbox: Mailbox,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) limits: Limits,
    pub(crate) subscribers: Subscribers,
    /// The peers that exist, to be found by client id.
    pub(crate) roster: Mutex<BTreeMap<ClientId, Vec<Peer>>>,
    /// Whether the driver has ended.
    pub(crate) ended: Watch<bool>,
}

impl Shared {
    pub(crate) fn new(runtime: Arc<dyn Runtime>, limits: Limits) -> Self {
        Self {
            mailbox: Mailbox::default(),
            runtime,
            limits,
            subscribers: Subscribers::default(),
            roster: Mutex::default(),
            ended: Watch::new(false),
        }
    }

    /// Has the driver look something up in its node, or change something rare.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Node, Instant) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (filler, filled) = slot();
        let command = Command::With(Box::new(move |node, now| filler.fill(look(node, now))));
        self.mailbox.post(command).map_err(|_| Stopped)?;
        filled.await
    }

    /// The newest of a client's sessions.
    pub(crate) fn find(&self, client: &ClientId) -> Option<Peer> {
        lock(&self.roster)
            .get(client)?
            .iter()
            .max_by_key(|peer| peer.order())
            .cloned()
    }

    /// Adds a peer to those that can be found.
    pub(crate) fn enlist(&self, peer: &Peer) {
        lock(&self.roster)
            .entry(peer.client_id().clone())
            .or_default()
            .push(peer.clone());
    }

    /// Removes a peer from those that can be found.
    pub(crate) fn strike(&self, peer: &Peer) {
        let mut roster = lock(&self.roster);
        if let Some(peers) = roster.get_mut(peer.client_id()) {
            peers.retain(|other| other.session() != peer.session());
            if peers.is_empty() {
                roster.remove(peer.client_id());
            }
        }
    }

    pub(crate) fn events(&self) -> Events {
        self.subscribers.subscribe()
    }
}
