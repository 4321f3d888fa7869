//! The books: what each client says it sent and what became of it, against what the servers say they
//! handled.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trade {
    /// Requests, each with its reply.
    Requests,
    /// Notes, each with its ack.
    AckedNotes,
    /// Notes for which nothing is asked but that they arrive.
    Notes,
    /// Acked messages that the server broadcasts to all.
    Relays,
    /// Hears what is broadcast.
    Listens,
}

/// What one client process has told, line by line.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) client: String,
    pub(crate) trade: Trade,
    pub(crate) lines: Vec<Value>,
    /// It was killed: what it had not told by then is not known.
    pub(crate) killed: bool,
}

/// All that was told in a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    pub(crate) accounts: Vec<Account>,
    /// What each server process has told, line by line.
    pub(crate) journals: Vec<Vec<Value>>,
}

/// What the books add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) sent: u64,
    /// Acked or replied to.
    pub(crate) answered: u64,
    /// Settled as lost after the loss of their session was told.
    pub(crate) lost: u64,
    /// Entries of messages in the servers' journals.
    pub(crate) handled: u64,
    /// Broadcasts that a listener heard.
    pub(crate) heard: u64,
    pub(crate) sessions_lost: u64,
    /// Sessions that a server has resumed.
    pub(crate) resumed: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sent,
            answered,
            lost,
            handled,
            heard,
            sessions_lost,
            resumed,
        } = self;
        write!(
            f,
            "{sent} sent, {answered} acked or replied to, {lost} lost with {sessions_lost} sessions, \
             {handled} handled, {heard} broadcasts heard, {resumed} times resumed"
        )
    }
}

/// Why links and sessions may end when processes and paths do what they do here.
const EXPECTED_ENDS: [&str; 6] = [
    "heartbeat timeout",
    "(HEARTBEAT_TIMEOUT (13))",
    // A client has given the link up, and says so to what still comes over it.
    "the peer does not know the connection",
    // By a later one, when the client found the earlier one dead.
    "(SUPERSEDED",
    "it has closed the session",
    // At the end, to sessions of clients that were killed.
    "(GOING_AWAY",
];

/// A message: who sent it, and its number.
type Key<'a> = (&'a str, u64);

/// One client's account, read.
#[derive(Default)]
struct Read {
    sent: BTreeSet<u64>,
    answered: BTreeSet<u64>,
    /// Came back untaken, and were sent again: behind later ones.
    returned: BTreeSet<u64>,
    lost: u64,
    sessions_lost: u64,
}

impl Books {
    /// Compares everything with everything; otherwise says all that is wrong.
    pub(crate) fn check(&self) -> Result<Totals, Vec<String>> {
        let mut wrong = Vec::new();
        let mut totals = Totals::default();
        let handled = self.handled(&mut wrong);
        totals.handled = handled.len() as u64;
        self.check_ends(&mut wrong);
        let entries = self.journals.iter().flatten();
        totals.resumed = entries.filter(|entry| entry["event"] == "resumed").count() as u64;

        let mut read = BTreeMap::new();
        for account in &self.accounts {
            let one = account.read(&mut wrong);
            totals.sent += one.sent.len() as u64;
            totals.answered += one.answered.len() as u64;
            totals.lost += one.lost;
            totals.sessions_lost += one.sessions_lost;
            let client = account.client.as_str();
            for &number in &one.answered {
                if !handled.contains(&(client, number)) {
                    wrong.push(format!(
                        "{client}: {number} was answered, and no server handled it"
                    ));
                }
            }
            // With the session went what it still had to deliver.
            if account.trade == Trade::Notes && !account.killed && one.sessions_lost == 0 {
                for &number in &one.sent {
                    if !handled.contains(&(client, number)) {
                        wrong.push(format!(
                            "{client}: {number} was sent, and neither arrived nor was its session lost"
                        ));
                    }
                }
            }
            read.insert(client, one);
        }
        for (client, number) in &handled {
            if !read
                .get(client)
                .is_some_and(|one| one.sent.contains(number))
            {
                wrong.push(format!("{client}: {number} was handled, and never sent"));
            }
        }
        self.check_order(&read, &mut wrong);
        for account in &self.accounts {
            totals.heard += account.check_heard(&read, &mut wrong);
        }
        if wrong.is_empty() {
            Ok(totals)
        } else {
            Err(wrong)
        }
    }

    /// What was handled: nothing of it twice, by whichever server.
    fn handled(&self, wrong: &mut Vec<String>) -> BTreeSet<Key<'_>> {
        let mut handled = BTreeSet::new();
        for entry in self.journals.iter().flatten() {
            if entry["event"] == "missing" {
                wrong.push(format!("a journal has gaps: {entry}"));
            }
            if let Some(key) = message(entry)
                && !handled.insert(key)
            {
                wrong.push(format!("{}: {} was handled twice", key.0, key.1));
            }
        }
        handled
    }

    /// How often links and sessions ended, by why, as the servers have it.
    pub(crate) fn ends(&self) -> BTreeMap<&str, u64> {
        let mut ends = BTreeMap::new();
        for entry in self.journals.iter().flatten() {
            if let ("disconnected" | "closed", Some(reason)) = (
                entry["event"].as_str().unwrap_or_default(),
                entry["reason"].as_str(),
            ) {
                *ends.entry(reason).or_default() += 1;
            }
        }
        ends
    }

    /// No link ends because a peer did something that the protocol does not allow.
    fn check_ends(&self, wrong: &mut Vec<String>) {
        for (reason, count) in self.ends() {
            if !EXPECTED_ENDS
                .iter()
                .any(|expected| reason.contains(expected))
            {
                wrong.push(format!("{count} links ended so: {reason}"));
            }
        }
    }

    /// One-way messages of a lane are handled in the order of their sending.
    fn check_order(&self, read: &BTreeMap<&str, Read>, wrong: &mut Vec<String>) {
        for journal in &self.journals {
            let mut latest: BTreeMap<(&str, &str), u64> = BTreeMap::new();
            for entry in journal.iter().filter(|entry| entry["event"] != "request") {
                let (Some((client, number)), Some(lane)) = (message(entry), entry["lane"].as_str())
                else {
                    continue;
                };
                if read
                    .get(client)
                    .is_some_and(|one| one.returned.contains(&number))
                {
                    continue;
                }
                let latest = latest.entry((client, lane)).or_default();
                if number < *latest {
                    wrong.push(format!("{client}: {number} was handled after {latest}"));
                }
                *latest = number.max(*latest);
            }
        }
    }
}

impl Account {
    /// Each promise settles once, and is lost only with its session.
    fn read(&self, wrong: &mut Vec<String>) -> Read {
        let client = &self.client;
        let mut read = Read::default();
        // By number: how many sessions had been lost when it was sent.
        let mut open: BTreeMap<u64, u64> = BTreeMap::new();
        for line in &self.lines {
            let number = line["number"].as_u64().unwrap_or_default();
            match line["event"].as_str() {
                Some("sent") => {
                    let again = !read.sent.insert(number) && !read.returned.contains(&number);
                    if open.insert(number, read.sessions_lost).is_some() || again {
                        wrong.push(format!("{client}: {number} was sent twice"));
                    }
                }
                Some("session_lost") => read.sessions_lost += 1,
                Some("settled") => {
                    let Some(lost_before) = open.remove(&number) else {
                        wrong.push(format!("{client}: {number} settled, and was not open"));
                        continue;
                    };
                    match line["outcome"].as_str() {
                        Some("replied" | "acked") => {
                            read.answered.insert(number);
                        }
                        Some("queued") => {}
                        Some("returned") => {
                            read.returned.insert(number);
                        }
                        Some("lost") if read.sessions_lost > lost_before => read.lost += 1,
                        _ => wrong.push(format!("{client}: {line}")),
                    }
                }
                Some("summary") => {
                    for key in [
                        "unreported",
                        "mismatched",
                        "timed_out",
                        "rejected",
                        "cancelled",
                    ] {
                        if line[key] != 0 {
                            wrong.push(format!("{client}: {key} in {line}"));
                        }
                    }
                    for key in ["duplicated", "reordered"] {
                        if line[key].as_u64().is_some_and(|count| count > 0) {
                            wrong.push(format!("{client}: {key} in {line}"));
                        }
                    }
                    if line["sent"].as_u64() != Some(read.sent.len() as u64) {
                        let told = read.sent.len();
                        wrong.push(format!("{client}: told of {told} sent, but {line}"));
                    }
                }
                _ => {}
            }
        }
        let ended = self
            .lines
            .last()
            .is_some_and(|line| line["event"] == "summary");
        if !self.killed && self.trade != Trade::Listens {
            if !ended {
                wrong.push(format!("{client} did not end with a summary"));
            }
            for number in open.keys() {
                wrong.push(format!("{client}: {number} never settled"));
            }
        }
        read
    }

    /// A broadcast may have gaps, but never repeats or goes back. Returns how many came.
    fn check_heard(&self, read: &BTreeMap<&str, Read>, wrong: &mut Vec<String>) -> u64 {
        let mut latest: BTreeMap<&str, u64> = BTreeMap::new();
        let mut heard = 0;
        for line in self.lines.iter().filter(|line| line["event"] == "relayed") {
            let (Some(from), Some(number)) = (line["from"].as_str(), line["number"].as_u64())
            else {
                wrong.push(format!("{}: {line}", self.client));
                continue;
            };
            heard += 1;
            if !read.get(from).is_some_and(|one| one.sent.contains(&number)) {
                let client = &self.client;
                wrong.push(format!("{client} heard {number} of {from}, never sent"));
            }
            let latest = latest.entry(from).or_default();
            if number <= *latest {
                let client = &self.client;
                wrong.push(format!("{client} heard {number} of {from} after {latest}"));
            }
            *latest = number.max(*latest);
        }
        heard
    }
}

/// The message that a journal's line tells of, if it tells of one that was handled.
pub(crate) fn message(entry: &Value) -> Option<Key<'_>> {
    let event = entry["event"].as_str()?;
    ["note", "request", "relayed"]
        .contains(&event)
        .then_some(())?;
    Some((entry["client"].as_str()?, entry["number"].as_u64()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sent(number: u64) -> Value {
        json!({"event": "sent", "number": number})
    }

    fn settled(number: u64, outcome: &str) -> Value {
        json!({"event": "settled", "number": number, "outcome": outcome})
    }

    fn summary(sent: u64) -> Value {
        json!({"event": "summary", "sent": sent, "unreported": 0, "mismatched": 0, "timed_out": 0,
            "rejected": 0, "cancelled": 0, "duplicated": 0, "reordered": null})
    }

    fn note(client: &str, number: u64) -> Value {
        json!({"event": "note", "client": client, "lane": "default", "number": number})
    }

    fn heard(number: u64) -> Value {
        json!({"event": "relayed", "from": "bob", "group": null, "number": number, "text": ""})
    }

    fn account(client: &str, trade: Trade, lines: Vec<Value>) -> Account {
        Account {
            client: client.to_owned(),
            trade,
            lines,
            killed: false,
        }
    }

    /// Books that are right: one server is killed under two senders, and somebody listens.
    fn books() -> Books {
        let lost = json!({"event": "session_lost"});
        let anna = vec![
            sent(1),
            settled(1, "acked"),
            sent(2),
            lost.clone(),
            settled(2, "lost"),
            sent(3),
            settled(3, "acked"),
            summary(3),
        ];
        let mut bob = account(
            "bob",
            Trade::Relays,
            vec![sent(1), sent(2), settled(1, "acked")],
        );
        bob.killed = true;
        let carl = vec![
            sent(1),
            settled(1, "queued"),
            sent(2),
            settled(2, "queued"),
            summary(2),
        ];
        Books {
            accounts: vec![
                account("anna", Trade::AckedNotes, anna),
                bob,
                account("carl", Trade::Notes, carl),
                account("dora", Trade::Listens, vec![heard(1)]),
            ],
            journals: vec![
                vec![note("anna", 1), note("bob", 1), note("carl", 1)],
                vec![note("carl", 2), note("anna", 3)],
            ],
        }
    }

    /// What is found in the same books after that change.
    fn found(change: impl FnOnce(&mut Books)) -> String {
        let mut books = books();
        change(&mut books);
        books.check().expect_err("nothing was found").join("\n")
    }

    #[test]
    fn right_books_add_up() {
        let totals = books().check().expect("right");
        assert_eq!(
            (totals.sent, totals.answered, totals.lost, totals.handled),
            (7, 3, 1, 5)
        );
        assert_eq!((totals.heard, totals.sessions_lost), (1, 1));
    }

    #[test]
    fn what_was_acked_and_not_handled_is_found() {
        let said = found(|books| drop(books.journals[1].pop()));
        assert_eq!(said, "anna: 3 was answered, and no server handled it");
    }

    #[test]
    fn what_was_sent_and_is_gone_without_a_word_is_found() {
        let said = found(|books| drop(books.journals[1].remove(0)));
        assert!(said.starts_with("carl: 2 was sent, and neither"), "{said}");
    }

    #[test]
    fn what_was_handled_twice_is_found_in_one_journal_and_across_two() {
        for journal in [0, 1] {
            let said = found(|books| books.journals[journal].push(note("carl", 1)));
            assert!(said.contains("carl: 1 was handled twice"), "{said}");
        }
    }

    #[test]
    fn what_was_handled_out_of_order_is_found() {
        let said = found(|books| {
            let acked = vec![sent(2), settled(2, "acked"), summary(2)];
            books.accounts[1].lines.truncate(1);
            books.accounts[1].lines.push(settled(1, "acked"));
            books.accounts[1].lines.extend(acked);
            books.journals[0].insert(0, note("bob", 2));
        });
        assert_eq!(said, "bob: 1 was handled after 2");
    }

    #[test]
    fn what_nobody_sent_is_found() {
        let said = found(|books| books.journals[0].push(note("anna", 9)));
        assert_eq!(said, "anna: 9 was handled, and never sent");
    }

    #[test]
    fn promises_that_settle_twice_or_never_or_are_lost_without_a_loss_are_found() {
        let said = found(|books| books.accounts[0].lines.insert(2, settled(1, "acked")));
        assert_eq!(said, "anna: 1 settled, and was not open");
        let said = found(|books| drop(books.accounts[0].lines.remove(4)));
        assert_eq!(said, "anna: 2 never settled");
        let said = found(|books| drop(books.accounts[0].lines.remove(3)));
        assert!(said.contains(r#""outcome":"lost""#), "{said}");
        let said = found(|books| books.accounts[0].lines[6] = settled(3, "timed_out"));
        assert!(said.contains("timed_out"), "{said}");
    }

    #[test]
    fn a_broadcast_that_repeats_or_was_never_sent_is_found() {
        let said = found(|books| books.accounts[3].lines.push(heard(1)));
        assert_eq!(said, "dora heard 1 of bob after 1");
        let said = found(|books| books.accounts[3].lines.push(heard(3)));
        assert_eq!(said, "dora heard 3 of bob, never sent");
    }

    #[test]
    fn a_link_that_ended_by_a_fault_is_found_and_one_that_a_fault_ended_is_not() {
        let ended =
            |reason: &str| json!({"event": "disconnected", "client": "anna", "reason": reason});
        let mut silent = books();
        silent.journals[0].push(ended("heartbeat timeout: the peer has gone silent"));
        assert!(silent.check().is_ok());
        let reason = "closed here (SEQUENCE_GAP (8)): 7 is due";
        let said = found(|books| books.journals[0].push(ended(reason)));
        assert_eq!(said, format!("1 links ended so: {reason}"));
    }

    #[test]
    fn a_gap_in_a_journal_and_a_client_that_just_stopped_are_found() {
        let said = found(|books| books.journals[0].push(json!({"event": "missing", "lines": 3})));
        assert!(said.contains("gaps"), "{said}");
        let said = found(|books| drop(books.accounts[2].lines.pop()));
        assert_eq!(said, "carl did not end with a summary");
    }
}
