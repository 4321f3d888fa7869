//! What a running proxy can be told, as a person or a program writes it: one order a line.

use std::fmt;
use std::time::Duration;

use super::settings::{Directions, Impairments, Share};
use crate::parse;

/// Which orders there are, for whoever wrote something else.
const ORDERS: &str = "cut, cut up, cut down, loss 20%, loss 20% 3, reorder 5%, duplicate 5%, corrupt 1%, \
delay 50ms, jitter 10ms, rebind, heal";

/// An order to a running proxy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Order {
    /// Cut these ways, and no others.
    Cut(Directions),
    /// Do this to packets from now on.
    Impair(Change),
    /// Give every client a new port towards the server.
    Rebind,
    /// Undo all cuts and changes that were ordered.
    Heal,
}

/// One impairment that is to be another from now on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Change {
    Delay(Duration),
    Jitter(Duration),
    /// How much is lost, and the mean number of packets lost in a row.
    Loss(Share, Option<f64>),
    Reorder(Share),
    Duplicate(Share),
    Corrupt(Share),
}

impl Order {
    /// Reads a line; otherwise says what is wrong with it.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let change = |change: Result<Change, String>| change.map(Self::Impair);
        match words.as_slice() {
            ["cut"] | ["cut", "both"] => Ok(Self::Cut(Directions::Both)),
            ["cut", "up"] => Ok(Self::Cut(Directions::Up)),
            ["cut", "down"] => Ok(Self::Cut(Directions::Down)),
            ["rebind"] => Ok(Self::Rebind),
            ["heal"] => Ok(Self::Heal),
            ["delay", time] => change(parse::duration(time).map(Change::Delay)),
            ["jitter", time] => change(parse::duration(time).map(Change::Jitter)),
            ["loss", share] => change(parse::share(share).map(|share| Change::Loss(share, None))),
            ["loss", share, burst] => change(loss(share, burst)),
            ["reorder", share] => change(parse::share(share).map(Change::Reorder)),
            ["duplicate", share] => change(parse::share(share).map(Change::Duplicate)),
            ["corrupt", share] => change(parse::share(share).map(Change::Corrupt)),
            _ => Err(format!("there is no such order: give {ORDERS}")),
        }
        .map_err(|wrong| format!("'{}': {wrong}", line.trim()))
    }
}

fn loss(share: &str, burst: &str) -> Result<Change, String> {
    let (share, burst) = (parse::share(share)?, parse::burst(burst)?);
    let lossy = Impairments {
        loss: share,
        burst: Some(burst),
        ..Impairments::default()
    };
    lossy.check()?;
    Ok(Change::Loss(share, Some(burst)))
}

impl Change {
    /// These impairments, but for this one.
    pub(super) fn made_in(self, mut impairments: Impairments) -> Impairments {
        match self {
            Self::Delay(delay) => impairments.delay = delay,
            Self::Jitter(jitter) => impairments.jitter = jitter,
            Self::Loss(loss, burst) => (impairments.loss, impairments.burst) = (loss, burst),
            Self::Reorder(share) => impairments.reorder = share,
            Self::Duplicate(share) => impairments.duplicate = share,
            Self::Corrupt(share) => impairments.corrupt = share,
        }
        impairments
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(Directions::Both) => f.write_str("the path is cut"),
            Self::Cut(Directions::Up) => f.write_str("the path is cut, client to server"),
            Self::Cut(Directions::Down) => f.write_str("the path is cut, server to client"),
            Self::Rebind => f.write_str("every client has a new port"),
            Self::Heal => f.write_str("what was ordered is undone"),
            Self::Impair(change) => match change {
                Change::Delay(time) => write!(f, "delay {time:?}"),
                Change::Jitter(time) => write!(f, "jitter {time:?}"),
                Change::Loss(share, None) => write!(f, "loss {share}"),
                Change::Loss(share, Some(burst)) => write!(f, "loss {share}, bursts of {burst}"),
                Change::Reorder(share) => write!(f, "reorder {share}"),
                Change::Duplicate(share) => write!(f, "duplicate {share}"),
                Change::Corrupt(share) => write!(f, "corrupt {share}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_that_is_offered_is_understood() {
        for order in ORDERS.split(", ") {
            assert!(Order::parse(order).is_ok(), "{order}");
        }
        assert_eq!(
            Order::parse("  loss 20%  3 "),
            Ok(Order::Impair(Change::Loss(Share::new(0.2), Some(3.0))))
        );
    }

    #[test]
    fn what_is_no_order_is_told_with_what_would_be() {
        for (line, parts) in [
            ("", ["''", "cut"]),
            ("cut sideways", ["'cut sideways'", "cut up"]),
            ("loss 2", ["'loss 2'", "2%"]),
            ("loss 90% 2", ["'loss 90% 2'", "9"]),
            ("delay 50", ["'delay 50'", "50ms"]),
        ] {
            let said = Order::parse(line).expect_err("no order");
            assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        }
    }
}
