//! Sending, with a book kept of it.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use trunkline_tokio::{Peer, PromiseError};

use super::ledger::Flow;
use super::messages::{Add, Note, Sum};
use crate::impair::Direction;

/// What a sender sends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// Acked messages.
    Messages(Direction),
    /// Requests.
    Requests,
}

/// Sends numbered messages of one kind to one peer, without waiting for the answer of one before
/// it sends the next.
pub(crate) struct Sender {
    what: What,
    client: String,
    peer: Peer,
    flow: Arc<Flow>,
    timeout: Duration,
    waiting: JoinSet<Option<Duration>>,
    answered: Vec<Duration>,
}

impl Sender {
    pub(crate) fn new(
        what: What,
        client: &str,
        peer: &Peer,
        flow: &Arc<Flow>,
        timeout: Duration,
    ) -> Self {
        Self {
            what,
            client: client.to_owned(),
            peer: peer.clone(),
            flow: Arc::clone(flow),
            timeout,
            waiting: JoinSet::new(),
            answered: Vec::new(),
        }
    }

    /// Sends so many messages, one each `pace`, and waits for their answers; says how long each
    /// one took.
    pub(crate) async fn send_some(mut self, count: u64, pace: Duration) -> Vec<Duration> {
        let mut ticks = tokio::time::interval(pace);
        for _ in 0..count {
            ticks.tick().await;
            self.send().await;
        }
        self.settle().await
    }

    /// Sends a message each `pace` until told to stop (or until nobody can tell it any more).
    pub(crate) async fn send_until(
        mut self,
        mut stop: watch::Receiver<bool>,
        pace: Duration,
    ) -> Vec<Duration> {
        let mut ticks = tokio::time::interval(pace);
        let mut stopped = pin!(async move { drop(stop.wait_for(|stop| *stop).await) });
        loop {
            tokio::select! {
                () = &mut stopped => return self.settle().await,
                _ = ticks.tick() => self.send().await,
            }
        }
    }

    /// Sends the next message.
    async fn send(&mut self) {
        let number = self.flow.number();
        match self.what {
            What::Messages(direction) => {
                let acking = self
                    .peer
                    .send(&Note::new(&self.client, direction, number))
                    .acked()
                    .timeout(self.timeout);
                self.hand_over(acking.into_future(), |()| Ok(())).await;
            }
            What::Requests => {
                let add = Add::new(number);
                let asking = self.peer.request::<Sum>(&add).timeout(self.timeout);
                self.hand_over(asking.into_future(), move |sum| {
                    if sum.value == add.sum() {
                        return Ok(());
                    }
                    Err(format!(
                        "{} + {} was answered with {}",
                        add.left, add.right, sum.value
                    ))
                })
                .await;
            }
        }
    }

    /// Polls the answer's future once, which hands the message over, and then waits for it in a
    /// task of its own. So messages go in the order of their numbers, whatever tasks do.
    async fn hand_over<A: Send + 'static>(
        &mut self,
        mut answer: impl Future<Output = Result<A, PromiseError>> + Send + Unpin + 'static,
        check: impl FnOnce(A) -> Result<(), String> + Send + 'static,
    ) {
        let start = Instant::now();
        let at_once = poll_fn(|cx| {
            Poll::Ready(match Pin::new(&mut answer).poll(cx) {
                Poll::Ready(outcome) => Some(outcome),
                Poll::Pending => None,
            })
        })
        .await;
        let flow = Arc::clone(&self.flow);
        self.waiting.spawn(async move {
            let outcome = match at_once {
                Some(outcome) => outcome,
                None => answer.await,
            };
            let after = start.elapsed();
            let outcome = outcome.map_err(|error| error.to_string()).and_then(check);
            let answered = outcome.is_ok().then_some(after);
            flow.settle(outcome);
            answered
        });
        // What is answered needs no room any more.
        while let Some(Ok(after)) = self.waiting.try_join_next() {
            self.answered.extend(after);
        }
    }

    async fn settle(mut self) -> Vec<Duration> {
        while let Some(joined) = self.waiting.join_next().await {
            self.answered.extend(joined.ok().flatten());
        }
        self.answered
    }
}
