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
    /// Lost, and by what was told no server has handled them.
    unhandled: BTreeSet<u64>,
    sessions_lost: u64,
    /// Sent since a session was lost last.
    of_this_session: BTreeSet<u64>,
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
            for &number in &one.unhandled {
                if handled.contains(&(client, number)) {
                    wrong.push(format!(
                        "{client}: {number} was handled, and told as one that was not"
                    ));
                }
            }
            // With a session went what it still had to deliver.
            if account.trade == Trade::Notes && !account.killed {
                for &number in &one.of_this_session {
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
                    read.of_this_session.insert(number);
                    if open.insert(number, read.sessions_lost).is_some() || again {
                        wrong.push(format!("{client}: {number} was sent twice"));
                    }
                }
                Some("session_lost") => {
                    read.sessions_lost += 1;
                    read.of_this_session.clear();
                }
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
                        Some("lost") if read.sessions_lost > lost_before => {
                            read.lost += 1;
                            if line["maybe_handled"] == false {
                                read.unhandled.insert(number);
                            }
                        }
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
mod tests;
