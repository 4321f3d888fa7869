//! What a handler knows besides its message.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::{Message as Encode, Name};

use super::command::Answer;
use super::peer::Peer;
use super::server::ServerHandle;
use super::service::Home;
use super::tag::tag_of;
use crate::{ClientId, DeliveryKey, Expects, Lane, Message, Status, StatusCode};

/// What a handler knows besides its message: the service's state, who sent it, and how long the
/// sender waits. Cheap to clone.
///
/// Only a message of a session has one: tests of handlers call them through a client, as the front page of
/// `trunkline-testkit` shows.
pub struct Context<S> {
    home: Arc<Home<S>>,
    origin: Origin,
}

/// Where a message came from.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) peer: Peer,
    pub(crate) delivery: DeliveryKey,
    pub(crate) lane: Lane,
    pub(crate) expects: Expects,
    pub(crate) deadline: Option<Instant>,
}

impl<S: Send + Sync + 'static> Context<S> {
    pub(crate) fn new(home: Arc<Home<S>>, origin: Origin) -> Self {
        Self { home, origin }
    }

    /// The state that all handlers of the service share.
    pub fn state(&self) -> &S {
        &self.home.state
    }

    /// Who sent the message: to send it something, or to ask it back.
    pub fn peer(&self) -> &Peer {
        &self.origin.peer
    }

    /// The client whose session it is. It is what the client claimed to be, and no more than that, unless admission has
    /// bound it to something: see [`Admit`](super::Admit).
    pub fn client_id(&self) -> &ClientId {
        self.origin.peer.client_id()
    }

    /// What the server's admission has found out about the client, as [`Peer::admitted`] says: on a server whose
    /// [`Admit::ask`](super::Admit::ask) returns a `T`, always `Some` in a handler, unless what runs
    /// the session's handlers has ended by a panic. It is asked at every connect, so while the
    /// client comes back what is found here may change: take it once, where a handler decides about more than
    /// one thing.
    pub fn admitted<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.origin.peer.admitted()
    }

    /// The lane that the message took.
    pub fn lane(&self) -> Lane {
        self.origin.lane
    }

    /// What the sender waits for.
    pub fn expects(&self) -> Expects {
        self.origin.expects
    }

    /// All peers of this node: clients, groups, broadcasts.
    pub fn server(&self) -> ServerHandle {
        self.origin.peer.server()
    }

    /// How long the sender still waits, counted from the message's arrival: it gives up sooner by the time that the
    /// message was on its way. `None`: it did not say.
    pub fn remaining(&self) -> Option<Duration> {
        let now = self.origin.peer.0.desk.runtime.now();
        self.origin
            .deadline
            .map(|deadline| deadline.saturating_duration_since(now))
    }

    /// Whether the sender has given up, or its session is gone: the answer is not wanted any more.
    pub fn is_cancelled(&self) -> bool {
        self.origin
            .peer
            .0
            .cancellations
            .is_cancelled(self.origin.delivery.number)
    }

    /// Waits until the sender gives up; for ever, if it does not. Cancel-safe. A sender whose link is down
    /// cannot say so before there is another, so work that its deadline ends looks at
    /// [`remaining`](Self::remaining) as well, with a timeout of the runtime's.
    pub async fn cancelled(&self) {
        let cancellations = &self.origin.peer.0.cancellations;
        cancellations.cancelled(self.origin.delivery.number).await;
    }

    /// Hands a message to whichever handler of this service owns its type, and waits until it has
    /// accepted it. It comes from the same sender as this one, and does not wait for others of its
    /// lane. Not cancel-safe: dropping it stops the handler where it is.
    pub async fn forward<M: Encode + Name + 'static>(&self, message: &M) -> Result<(), Status> {
        self.hand_over(message, Expects::Ack).await.map(drop)
    }

    /// Puts a request to whichever handler of this service owns its type. It comes from the same
    /// sender as this one. Not cancel-safe: dropping it stops the handler where it is.
    pub async fn ask<R: Encode + Name + Default + 'static>(
        &self,
        question: &(impl Name + 'static),
    ) -> Result<R, Status> {
        let misfit = || {
            Status::new(
                StatusCode::INTERNAL,
                format!("the local reply is no {}", R::full_name()),
            )
        };
        match self.hand_over(question, Expects::Reply).await? {
            Answer::Reply(tag, body) if tag == tag_of::<R>() => {
                R::decode(body).map_err(|_| misfit())
            }
            Answer::Reject(status) => Err(status),
            Answer::Reply(..) | Answer::Ack => Err(misfit()),
        }
    }

    async fn hand_over<M: Encode + Name + 'static>(
        &self,
        message: &M,
        expects: Expects,
    ) -> Result<Answer, Status> {
        let message = Message::new(tag_of::<M>(), message.encode_to_vec()).on(self.origin.lane);
        let origin = Origin {
            expects,
            ..self.origin.clone()
        };
        let work = self
            .home
            .clone()
            .hand_over(origin, message, expects == Expects::Reply)?;
        match work.await? {
            Answer::Reject(status) => Err(status),
            answer => Ok(answer),
        }
    }
}

impl<S> Clone for Context<S> {
    fn clone(&self) -> Self {
        Self {
            home: self.home.clone(),
            origin: self.origin.clone(),
        }
    }
}

impl<S> fmt::Debug for Context<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin {
            peer,
            delivery,
            lane,
            expects,
            ..
        } = &self.origin;
        f.debug_struct("Context")
            .field("peer", peer)
            .field("delivery", delivery)
            .field("lane", lane)
            .field("expects", expects)
            .finish_non_exhaustive()
    }
}
