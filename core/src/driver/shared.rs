//! What all handles of one server or client share.

use std::iter::repeat_n;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::command::Command;
use super::crossing::Crossing;
use super::events::{Events, Subscribers};
use super::mailbox::Mailbox;
use super::peer::{Front, Peer};
use super::roster::Roster;
use super::runtime::Runtime;
use super::slot::{Filled, Stopped, slot};
use super::watch::{Watch, lock};
use crate::{ClientId, Limits, Measured, Node, SessionKey};

/// What all handles of one server or client share. A server with several shards has a node, and a
/// desk, for each.
pub(crate) struct Shared {
    pub(crate) desks: Box<[Arc<Desk>]>,
    pub(crate) limits: Limits,
    pub(crate) subscribers: Subscribers,
    roster: Mutex<Roster>,
    /// Held while all nodes are given something: of two changes of all of them, none has the last word at one
    /// node and not at another.
    giving: Mutex<()>,
    /// Broadcasts that wait for their driver.
    pub(crate) announced: Front,
    /// How many peers there have been.
    order: AtomicU64,
    /// Where shards leave datagrams for each other, if there are several.
    pub(crate) crossing: Option<Arc<Crossing>>,
    /// Drivers that have not ended.
    drivers: AtomicUsize,
    /// Whether all of them have.
    pub(crate) ended: Watch<bool>,
}

/// Where one node is reached from any thread.
pub(crate) struct Desk {
    pub(crate) mailbox: Mailbox,
    /// Where its sessions' handlers run.
    pub(crate) runtime: Arc<dyn Runtime>,
    /// Where those run that are to have other threads.
    pub(crate) pool: Arc<dyn Runtime>,
    /// What its node had counted when its driver ended, if there are several: the sum goes on from there.
    left: Mutex<Option<Measured>>,
}

impl Desk {
    /// Has the driver look something up in its node.
    fn put_look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Node, Instant) -> T + Send + 'static,
    ) -> Result<Filled<T>, Stopped> {
        let (filler, filled) = slot();
        let command = Command::Look(Box::new(move |node, now| filler.fill(look(node, now))));
        self.mailbox.post(command).map_err(|_| Stopped)?;
        Ok(filled)
    }

    /// Has the driver change something rare in its node. It does so whether or not the answer is waited for.
    fn put_change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Node, Instant) -> T + Send + 'static,
    ) -> Result<Filled<T>, Stopped> {
        let (filler, filled) = slot();
        let command = Command::Change(Box::new(move |node, now| filler.fill(change(node, now))));
        self.mailbox.post(command).map_err(|_| Stopped)?;
        Ok(filled)
    }

    /// Has the driver look something up in its node.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Node, Instant) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        self.put_look(look)?.await
    }

    /// Has the driver change something rare in its node.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Node, Instant) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        self.put_change(change)?.await
    }
}

impl Shared {
    /// With a node for each of these runtimes.
    pub(crate) fn new(
        runtimes: impl IntoIterator<Item = Arc<dyn Runtime>>,
        pool: &Arc<dyn Runtime>,
        limits: Limits,
        crossing: Option<Arc<Crossing>>,
    ) -> Self {
        let desk = |runtime| {
            Arc::new(Desk {
                mailbox: Mailbox::default(),
                runtime,
                pool: pool.clone(),
                left: Mutex::default(),
            })
        };
        let desks: Box<[_]> = runtimes.into_iter().map(desk).collect();
        Self {
            drivers: AtomicUsize::new(desks.len()),
            desks,
            limits,
            subscribers: Subscribers::default(),
            roster: Mutex::default(),
            giving: Mutex::default(),
            announced: Front::default(),
            order: AtomicU64::new(0),
            crossing,
            ended: Watch::new(false),
        }
    }

    /// Posts a command to each node, and collects the answers of those that have not ended; an
    /// error, if all have.
    pub(crate) async fn each<T>(
        &self,
        put: impl FnMut(&Desk) -> Result<Filled<T>, Stopped>,
    ) -> Result<Vec<T>, Stopped> {
        let answers = self.answers(put).await;
        let answers: Vec<T> = answers.into_iter().flatten().collect();
        if answers.is_empty() {
            return Err(Stopped);
        }
        Ok(answers)
    }

    /// The same, with a place for each node, which is empty if it has ended.
    async fn answers<T>(
        &self,
        mut put: impl FnMut(&Desk) -> Result<Filled<T>, Stopped>,
    ) -> Vec<Option<T>> {
        // All are asked before any answer is waited for.
        let asked: Vec<_> = {
            let _giving = lock(&self.giving);
            self.desks.iter().map(|desk| put(desk)).collect()
        };
        drop(put);
        let mut answers = Vec::with_capacity(asked.len());
        for filled in asked {
            answers.push(match filled {
                Ok(filled) => filled.await.ok(),
                Err(Stopped) => None,
            });
        }
        answers
    }

    /// What each node has counted and measured, or, if it has ended, had; an error, if all have.
    pub(crate) async fn measured(&self) -> Result<Vec<Measured>, Stopped> {
        let put = |desk: &Desk| desk.put_look(|node, now| node.measured(now));
        let answers = self.answers(put).await;
        if answers.iter().all(Option::is_none) {
            return Err(Stopped);
        }
        // A node counts once: by its answer, or else by what is left of it.
        let counted = |(answer, desk): (Option<Measured>, &Arc<Desk>)| {
            answer.or_else(|| lock(&desk.left).clone())
        };
        let desks = self.desks.iter();
        Ok(answers.into_iter().zip(desks).filter_map(counted).collect())
    }

    /// Keeps what a node has counted whose driver ends at that desk.
    pub(crate) fn keep_count(&self, desk: &Desk, node: &Node) {
        // Of one that was alone nobody can ask any more.
        if self.desks.len() > 1 {
            *lock(&desk.left) = Some(node.measured_at_the_end());
        }
    }

    /// Has each driver look something up in its node.
    pub(crate) async fn look_at_each<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Node, Instant) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, Stopped> {
        let mut looks = repeat_n(look, self.desks.len());
        self.each(|desk| desk.put_look(looks.next().ok_or(Stopped)?))
            .await
    }

    /// Has each driver change something rare in its node.
    pub(crate) async fn change_each<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Node, Instant) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, Stopped> {
        let mut changes = repeat_n(change, self.desks.len());
        self.each(|desk| desk.put_change(changes.next().ok_or(Stopped)?))
            .await
    }

    /// Leaves what `command` makes with each driver that has not ended.
    pub(crate) fn tell_each(&self, command: impl Fn() -> Command) {
        for desk in &self.desks {
            // One that has ended does no more.
            let _ = desk.mailbox.post(command());
        }
    }

    /// A session's peer.
    pub(crate) fn peer(&self, session: SessionKey) -> Option<Peer> {
        lock(&self.roster).of_session(session).cloned()
    }

    /// The newest of a client's sessions.
    pub(crate) fn find(&self, client: &ClientId) -> Option<Peer> {
        lock(&self.roster).newest(client).cloned()
    }

    /// A client's sessions, the oldest first.
    pub(crate) fn peers_of(&self, client: &ClientId) -> Vec<Peer> {
        lock(&self.roster).of_client(client)
    }

    /// All peers.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        lock(&self.roster).iter().cloned().collect()
    }

    /// A number above those that were given before.
    pub(crate) fn next_order(&self) -> u64 {
        self.order.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds a peer to those that can be found.
    pub(crate) fn enlist(&self, peer: &Peer) {
        lock(&self.roster).enlist(peer);
    }

    /// Removes a peer from those that can be found.
    pub(crate) fn strike(&self, peer: &Peer) {
        lock(&self.roster).strike(peer);
    }

    pub(crate) fn events(&self) -> Events {
        self.subscribers.subscribe()
    }

    /// All of a driver is gone, its socket too; with the last of them, this has ended.
    pub(crate) fn driver_ended(&self) {
        if self.drivers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.subscribers.close();
            self.ended.set(true);
        }
    }
}
