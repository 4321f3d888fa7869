//! The result of a demonstration.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::ledger::Balance;
use super::measured::{Broadcasts, Latency, Measured, milliseconds, seconds};
use super::steps::{Account, Ended};
use crate::impair::Summary;
use crate::table::{Table, grouped};

/// The result of a demonstration. Messages are the acked ones, both ways; requests and best
/// effort are counted apart.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether everything was as promised.
    ok: bool,
    /// What was not, a sentence each.
    problems: Vec<String>,
    #[serde(flatten)]
    messages: Balance,
    /// Links that came up in place of broken ones.
    reconnects: u64,
    /// Those of them that carried on the session.
    resumed: u64,
    /// Requests that were asked.
    requests: u64,
    /// Right replies.
    replies: u64,
    /// Broadcasts that were sent, whatever their audience.
    broadcasts: u64,
    /// Copies of them that were queued for clients with a link.
    broadcasts_queued: u64,
    /// Copies that were not, for want of a link.
    broadcasts_away: u64,
    /// Copies that arrived.
    broadcasts_received: u64,
    /// Copies that arrived at a client outside of the group.
    broadcasts_strayed: u64,
    /// From the first packet to the server's welcome.
    connect_ms: Latency,
    /// From question to reply, before the cut.
    request_ms: Latency,
    /// From sending to ack, before the cut.
    ack_ms: Latency,
    cut: CutReport,
    elapsed_seconds: f64,
    clients: Vec<ClientReport>,
    /// What the path did to packets.
    path: Summary,
}

/// What the cut did.
#[derive(Debug, Default, Serialize)]
struct CutReport {
    seconds: f64,
    /// Messages that were sent meanwhile.
    sent: u64,
    /// Messages that had arrived when it began, and whose acks were lost in it.
    arrived_unacked: u64,
    /// From the path's return until the last client was back.
    back_after_ms: Option<f64>,
    /// The longest wait for an ack, the cut included.
    longest_ack_ms: f64,
}

/// One client's part.
#[derive(Debug, Serialize)]
struct ClientReport {
    client: String,
    /// Both ways together.
    #[serde(flatten)]
    messages: Balance,
    /// From it to the server.
    up: Balance,
    /// From the server to it.
    down: Balance,
    reconnects: u64,
    resumed: u64,
    epoch: u64,
    requests: u64,
    replies: u64,
    in_group: bool,
    broadcasts_received: u64,
    connect_ms: f64,
}

impl Report {
    pub(crate) fn new(ended: Ended, elapsed: Duration) -> Self {
        let Ended {
            clients: accounts,
            measured,
            path,
        } = ended;
        let Measured {
            requests,
            acks,
            broadcasts,
            cut,
            mut problems,
        } = measured;
        for account in &accounts {
            problems.extend(problems_of(account, &broadcasts));
        }
        let clients: Vec<_> = accounts.iter().map(ClientReport::new).collect();
        let sum = |of: fn(&ClientReport) -> u64| clients.iter().map(of).sum();
        let mut messages = Balance::default();
        clients
            .iter()
            .for_each(|client| messages += client.messages);
        let strayed = |account: &Account| strayed(account, &broadcasts);
        let connects: Vec<_> = accounts.iter().map(|account| account.connect).collect();
        let cut = cut.map_or_else(CutReport::default, |cut| CutReport {
            seconds: seconds(cut.length),
            sent: cut.messages,
            arrived_unacked: cut.unacked,
            back_after_ms: cut.back_after.map(milliseconds),
            longest_ack_ms: milliseconds(cut.longest_ack),
        });
        Self {
            ok: problems.is_empty(),
            messages,
            reconnects: sum(|client| client.reconnects),
            resumed: sum(|client| client.resumed),
            requests: sum(|client| client.requests),
            replies: sum(|client| client.replies),
            broadcasts: broadcasts.calls,
            broadcasts_queued: broadcasts.queued,
            broadcasts_away: broadcasts.away,
            broadcasts_received: sum(|client| client.broadcasts_received),
            broadcasts_strayed: accounts.iter().map(strayed).sum(),
            connect_ms: Latency::of(&connects),
            request_ms: Latency::of(&requests),
            ack_ms: Latency::of(&acks),
            cut,
            elapsed_seconds: seconds(elapsed),
            clients,
            path,
            problems,
        }
    }

    /// What went wrong, in one line; `None` if nothing did.
    pub(crate) fn failure(&self) -> Option<String> {
        let (first, rest) = self.problems.split_first()?;
        Some(match rest.len() {
            0 => format!("the demo failed: {first}"),
            more => format!("the demo failed: {first}; and {more} more such problems"),
        })
    }
}

impl ClientReport {
    fn new(account: &Account) -> Self {
        let ledger = &account.ledger;
        let (up, down) = (ledger.up.balance(), ledger.down.balance());
        let mut messages = up;
        messages += down;
        Self {
            client: account.name.clone(),
            messages,
            up,
            down,
            reconnects: account.links.reconnects(),
            resumed: account.links.resumed,
            epoch: account.links.epoch,
            requests: ledger.requests.sent(),
            replies: ledger.requests.acked(),
            in_group: account.in_group,
            broadcasts_received: ledger.news.borrow().count(),
            connect_ms: milliseconds(account.connect),
        }
    }

    fn row(&self) -> Row<'_> {
        (
            &self.client,
            &self.messages,
            [self.reconnects, self.resumed, self.broadcasts_received],
            (self.replies, self.requests),
            self.connect_ms,
        )
    }
}

/// A row of the tables: whose, messages, links and broadcasts, replies of requests, connect time.
type Row<'a> = (&'a str, &'a Balance, [u64; 3], (u64, u64), f64);

/// What one client's books say against it all, a sentence each.
fn problems_of(account: &Account, broadcasts: &Broadcasts) -> Vec<String> {
    let (name, ledger) = (&account.name, &account.ledger);
    let flows = [
        (format!("from {name} to the server"), &ledger.up, "messages"),
        (
            format!("from the server to {name}"),
            &ledger.down,
            "messages",
        ),
        (format!("from {name}"), &ledger.requests, "requests"),
    ];
    let mut problems = Vec::new();
    for (way, flow, what) in flows {
        let balance = flow.balance();
        let Balance {
            sent,
            acked,
            delivered: _,
            lost,
            duplicated,
            reordered,
            unexpected,
        } = balance;
        // Requests promise no order among themselves.
        let reordered = if what == "requests" { 0 } else { reordered };
        let verdicts = [
            (lost, "lost"),
            (duplicated, "delivered twice"),
            (reordered, "out of order"),
            (unexpected, "not what was sent"),
            (sent - acked.min(sent), "without an answer"),
        ];
        let bad = verdicts.iter().filter(|(count, _)| *count > 0);
        let bad: Vec<_> = bad.map(|(count, how)| format!("{count} {how}")).collect();
        if !bad.is_empty() {
            let why = flow.first_failure();
            let why = why.map_or_else(String::new, |why| format!(" ({why})"));
            problems.push(format!("of {sent} {what} {way}: {}{why}", bad.join(", ")));
        }
    }
    let strayed = strayed(account, broadcasts);
    if strayed > 0 {
        problems.push(format!(
            "{strayed} broadcasts to the group reached {name}, which is not in it"
        ));
    }
    let faults = ledger.news.borrow().faults();
    if faults > 0 {
        problems.push(format!(
            "{faults} broadcasts reached {name} again, out of order or changed"
        ));
    }
    problems
}

fn strayed(account: &Account, broadcasts: &Broadcasts) -> u64 {
    if account.in_group {
        return 0;
    }
    broadcasts.strayed(&account.ledger.news.borrow())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = (
            "in all",
            &self.messages,
            [self.reconnects, self.resumed, self.broadcasts_received],
            (self.replies, self.requests),
            self.connect_ms.max,
        );
        let rows = self.clients.iter().map(ClientReport::row).chain([all]);
        let mut messages = Table::new([
            "messages",
            "sent",
            "acked",
            "delivered",
            "lost",
            "duplicated",
            "reordered",
        ]);
        let mut others = Table::new([
            "clients",
            "connect",
            "reconnects",
            "resumed",
            "broadcasts",
            "replies",
        ]);
        for (name, balance, [reconnects, resumed, heard], (replies, requests), connect) in rows {
            messages.row([
                name.to_owned(),
                grouped(balance.sent),
                grouped(balance.acked),
                grouped(balance.delivered),
                grouped(balance.lost),
                grouped(balance.duplicated),
                grouped(balance.reordered),
            ]);
            others.row([
                name.to_owned(),
                format!("{connect:.1} ms"),
                grouped(reconnects),
                grouped(resumed),
                grouped(heard),
                format!("{} of {}", grouped(replies), grouped(requests)),
            ]);
        }
        writeln!(f, "\n{messages}\n\n{others}\n")?;
        let (ack, request) = (&self.ack_ms, &self.request_ms);
        writeln!(
            f,
            "before the cut  acks p50 {:.1} ms, p99 {:.1} ms; replies p50 {:.1} ms, p99 {:.1} ms",
            ack.p50, ack.p99, request.p50, request.p99
        )?;
        let back = self.cut.back_after_ms.map_or_else(
            || "not everybody was back in time".to_owned(),
            |back| format!("all were back {back:.0} ms after it"),
        );
        writeln!(
            f,
            "the cut         {:.1} s, {} messages sent meanwhile; {back}",
            self.cut.seconds,
            grouped(self.cut.sent)
        )?;
        let (up, down) = (&self.path.up.counts, &self.path.down.counts);
        writeln!(
            f,
            "the path        {} packets; {} dropped by the cut, {} lost at random",
            grouped(up.packets + down.packets),
            grouped(up.cut + down.cut),
            grouped(up.lost + down.lost)
        )?;
        let verdict = if self.ok {
            "Everything arrived, once and in order"
        } else {
            "NOT everything was as promised"
        };
        write!(f, "\n{verdict}, in {:.1} s.", self.elapsed_seconds)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::super::ledger::Ledger;
    use super::super::lifecycle::Links;
    use super::*;

    /// A client outside of the group that has sent three messages; these arrived.
    fn account(arrived: &[u64], acked: usize) -> Account {
        let ledger = Ledger::default();
        for _ in 0..3 {
            ledger.up.number();
        }
        (0..acked).for_each(|_| ledger.up.settle(Ok(())));
        arrived.iter().for_each(|&n| ledger.up.arrived(n, true));
        Account {
            name: "alice".to_owned(),
            ledger: Arc::new(ledger),
            links: Links::default(),
            connect: Duration::ZERO,
            in_group: false,
        }
    }

    fn problems(account: &Account) -> Vec<String> {
        let broadcasts = Broadcasts {
            to_group: BTreeSet::from([1]),
            ..Broadcasts::default()
        };
        problems_of(account, &broadcasts)
    }

    #[test]
    fn clean_books_are_no_problem() {
        let account = account(&[1, 2, 3], 3);
        account.ledger.news.send_modify(|news| news.note(2, true));
        assert_eq!(problems(&account), Vec::<String>::new());
    }

    #[test]
    fn each_kind_of_fault_is_a_problem_that_names_the_way() {
        for (arrived, acked, expected) in [
            (&[1, 3][..], 3, "1 lost"),
            (&[1, 2, 2, 3], 3, "1 delivered twice"),
            (&[1, 3, 2], 3, "1 out of order"),
            (&[1, 2, 3, 4], 3, "1 not what was sent"),
            (&[1, 2, 3], 2, "1 without an answer"),
        ] {
            assert_eq!(
                problems(&account(arrived, acked)),
                [format!(
                    "of 3 messages from alice to the server: {expected}"
                )]
            );
        }
    }

    #[test]
    fn requests_may_overtake_each_other_and_no_more() {
        let account = account(&[1, 2, 3], 3);
        for _ in 0..2 {
            account.ledger.requests.number();
            account.ledger.requests.settle(Ok(()));
        }
        account.ledger.requests.arrived(2, true);
        account.ledger.requests.arrived(1, true);
        assert_eq!(problems(&account), Vec::<String>::new());
        account.ledger.requests.arrived(1, true);
        assert_eq!(
            problems(&account),
            ["of 2 requests from alice: 1 delivered twice"]
        );
    }

    #[test]
    fn the_groups_broadcasts_must_not_leave_it_and_none_comes_twice() {
        let account = account(&[1, 2, 3], 3);
        account.ledger.news.send_modify(|news| {
            news.note(1, true);
            news.note(1, true);
        });
        let problems = problems(&account);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("not in it"), "{problems:?}");
        assert!(problems[1].contains("again"), "{problems:?}");
    }

    #[test]
    fn a_missing_answer_comes_with_its_reason() {
        let account = account(&[1, 2, 3], 2);
        account
            .ledger
            .up
            .settle(Err("no answer in time".to_owned()));
        let problems = problems(&account);
        assert!(problems[0].ends_with("(no answer in time)"), "{problems:?}");
    }
}
