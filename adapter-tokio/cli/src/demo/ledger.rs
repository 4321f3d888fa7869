//! What was sent and what arrived, by the numbers that messages carry: the books that a run is
//! judged by. Receivers write down numbers and know nothing of what was sent.

use std::collections::BTreeSet;
use std::ops::AddAssign;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

use crate::impair::Direction;

/// The books of one client.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Messages to the server.
    pub(crate) up: Arc<Flow>,
    /// Messages from the server.
    pub(crate) down: Arc<Flow>,
    /// Requests to the server: what is acked is the reply. They promise no order.
    pub(crate) requests: Arc<Flow>,
    /// Broadcasts that came; all clients' are numbered together.
    pub(crate) news: watch::Sender<Arrivals>,
}

impl Ledger {
    pub(crate) fn messages(&self, direction: Direction) -> &Arc<Flow> {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }
}

/// Messages from one sender to one receiver, with the books of both.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    sent: watch::Sender<Sent>,
    arrived: watch::Sender<Arrivals>,
}

impl Flow {
    /// The sender: numbers the next message, 1 first. It counts as sent from now on.
    pub(crate) fn number(&self) -> u64 {
        let mut number = 0;
        self.sent.send_modify(|sent| {
            sent.messages += 1;
            number = sent.messages;
        });
        number
    }

    /// The sender: what became of a message, its ack (or its reply) or why there is none.
    pub(crate) fn settle(&self, outcome: Result<(), String>) {
        self.sent.send_modify(|sent| match outcome {
            Ok(()) => sent.acked += 1,
            Err(why) => {
                sent.first_failure.get_or_insert(why);
            }
        });
    }

    /// The receiver: a message is here. `genuine`: all of it is as its number says.
    pub(crate) fn arrived(&self, number: u64, genuine: bool) {
        self.arrived
            .send_modify(|arrivals| arrivals.note(number, genuine));
    }

    /// How many were sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.borrow().messages
    }

    /// How many were acked so far.
    pub(crate) fn acked(&self) -> u64 {
        self.sent.borrow().acked
    }

    /// Why a message was not acked, the first time.
    pub(crate) fn first_failure(&self) -> Option<String> {
        self.sent.borrow().first_failure.clone()
    }

    /// Compares the two books.
    pub(crate) fn balance(&self) -> Balance {
        Balance::of(&self.sent.borrow(), &self.arrived.borrow())
    }
}

/// A sender's book.
#[derive(Debug, Default)]
struct Sent {
    messages: u64,
    acked: u64,
    first_failure: Option<String>,
}

/// A receiver's book.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    seen: BTreeSet<u64>,
    duplicated: u64,
    reordered: u64,
    damaged: u64,
}

impl Arrivals {
    /// Writes down a message that is here now.
    pub(crate) fn note(&mut self, number: u64, genuine: bool) {
        let latest = self.seen.last().copied();
        if !genuine {
            self.damaged += 1;
        } else if !self.seen.insert(number) {
            self.duplicated += 1;
        } else if latest.is_some_and(|latest| number < latest) {
            self.reordered += 1;
        }
    }

    pub(crate) fn has(&self, number: u64) -> bool {
        self.seen.contains(&number)
    }

    /// Different messages.
    pub(crate) fn count(&self) -> u64 {
        self.seen.len() as u64
    }

    /// Messages that came again, came late or came damaged: what even best effort rules out.
    pub(crate) fn faults(&self) -> u64 {
        self.duplicated + self.reordered + self.damaged
    }
}

/// What comes of comparing books.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Balance {
    /// Messages that were handed over for sending.
    pub(crate) sent: u64,
    /// Those whose ack came.
    pub(crate) acked: u64,
    /// Those that the receiver has seen, once or more often.
    pub(crate) delivered: u64,
    /// Those that the receiver has never seen.
    pub(crate) lost: u64,
    /// Arrivals of what was there already.
    pub(crate) duplicated: u64,
    /// Arrivals after one that was sent later.
    pub(crate) reordered: u64,
    /// Arrivals of what nobody sent: an unknown number, or another content.
    pub(crate) unexpected: u64,
}

impl Balance {
    fn of(sent: &Sent, arrivals: &Arrivals) -> Self {
        let delivered = arrivals.seen.range(1..=sent.messages).count() as u64;
        Self {
            sent: sent.messages,
            acked: sent.acked,
            delivered,
            lost: sent.messages - delivered,
            duplicated: arrivals.duplicated,
            reordered: arrivals.reordered,
            unexpected: arrivals.count() - delivered + arrivals.damaged,
        }
    }
}

impl AddAssign for Balance {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.acked += other.acked;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.unexpected += other.unexpected;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The balance of four messages sent, three acked, and these arrivals.
    fn balance(arrivals: &[u64]) -> Balance {
        let flow = Flow::default();
        for number in 1..=4 {
            assert_eq!(flow.number(), number);
        }
        (0..3).for_each(|_| flow.settle(Ok(())));
        arrivals
            .iter()
            .for_each(|&number| flow.arrived(number, true));
        flow.balance()
    }

    const CLEAN: Balance = Balance {
        sent: 4,
        acked: 3,
        delivered: 4,
        lost: 0,
        duplicated: 0,
        reordered: 0,
        unexpected: 0,
    };

    #[test]
    fn what_arrives_once_and_in_order_leaves_no_fault() {
        assert_eq!(balance(&[1, 2, 3, 4]), CLEAN);
    }

    #[test]
    fn a_gap_is_a_loss_and_so_is_a_missing_end() {
        let expected = Balance {
            delivered: 2,
            lost: 2,
            ..CLEAN
        };
        assert_eq!(balance(&[1, 3]), expected);
        assert_eq!(balance(&[1, 2]), expected);
        assert_eq!(balance(&[]).lost, 4);
    }

    #[test]
    fn a_second_arrival_is_a_duplicate_and_replaces_nothing() {
        assert_eq!(
            balance(&[1, 2, 2, 3, 1, 4]),
            Balance {
                duplicated: 2,
                ..CLEAN
            }
        );
        assert_eq!(
            balance(&[1, 2, 2, 4]),
            Balance {
                delivered: 3,
                lost: 1,
                duplicated: 1,
                ..CLEAN
            }
        );
    }

    #[test]
    fn who_comes_after_a_later_one_is_out_of_order_and_not_lost() {
        assert_eq!(
            balance(&[1, 3, 2, 4]),
            Balance {
                reordered: 1,
                ..CLEAN
            }
        );
        assert_eq!(balance(&[4, 3, 2, 1]).reordered, 3);
    }

    #[test]
    fn what_nobody_sent_is_noticed_and_stands_for_nothing() {
        assert_eq!(
            balance(&[1, 2, 3, 5]),
            Balance {
                delivered: 3,
                lost: 1,
                unexpected: 1,
                ..CLEAN
            }
        );
        let flow = Flow::default();
        flow.arrived(flow.number(), false);
        let damaged = flow.balance();
        assert_eq!((damaged.lost, damaged.unexpected), (1, 1));
    }

    #[test]
    fn the_first_reason_for_a_missing_ack_is_kept() {
        let flow = Flow::default();
        flow.settle(Err("no answer".to_owned()));
        flow.settle(Err("lost".to_owned()));
        assert_eq!(flow.first_failure().as_deref(), Some("no answer"));
        assert_eq!(flow.acked(), 0);
    }
}
