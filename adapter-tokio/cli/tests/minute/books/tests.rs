//! Books that are right, and everything that can be wrong with them.

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
fn what_was_sent_after_the_loss_of_a_session_has_to_arrive_and_what_was_sent_before_may_not() {
    let lose = |books: &mut Books, at: usize| {
        let lost = json!({"event": "session_lost"});
        books.accounts[2].lines.insert(at, lost);
        books.journals[1].remove(0);
    };
    let said = found(|books| lose(books, 2));
    assert!(said.starts_with("carl: 2 was sent, and neither"), "{said}");
    let mut books = books();
    lose(&mut books, 4);
    assert!(books.check().is_ok());
}

#[test]
fn what_was_handled_and_told_as_not_handled_is_found() {
    let said = found(|books| {
        books.accounts[0].lines[4]["maybe_handled"] = false.into();
        books.journals[0].push(note("anna", 2));
    });
    assert!(said.contains("anna: 2 was handled, and told"), "{said}");
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
    let ended = |reason: &str| json!({"event": "disconnected", "client": "anna", "reason": reason});
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
