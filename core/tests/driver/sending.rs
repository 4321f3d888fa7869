//! Sending when there is no room: in order, within time, and nobody is held up for nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join;
use trunkline_core::driver::{Asking, Context, PromiseError, Service, Typed};
use trunkline_core::{CommandError, Status};

use super::lab::{Lab, within};
use super::{Answer, Ask, Certificate, Client, Note, SECOND, Server, config};

const LONG: Duration = Duration::from_secs(1_000);

type Notes = Arc<Mutex<Vec<u64>>>;

/// A server that writes down notes and never answers what it is asked, and a client of it that may
/// make ten promises.
struct Pair {
    notes: Notes,
    client: Client,
    _server: Server,
}

impl Pair {
    async fn new() -> Self {
        let notes = Notes::default();
        let service = Service::new(notes.clone())
            .on(async |context: Context<Notes>, note: Note| {
                context.state().lock().unwrap().push(note.number);
            })
            .on_request(async |_: Context<Notes>, _: Ask| {
                std::future::pending::<Result<Answer, Status>>().await
            });
        let certificate = Certificate::new();
        let server = certificate.server().service(service).await.unwrap();
        let small = config(|config| {
            config.limits.promises = 10;
            config.limits.outbox_messages = 20;
        });
        let client = certificate.client(server.local_addr(), "anna");
        Self {
            notes,
            client: client.config(small).await.unwrap(),
            _server: server,
        }
    }

    /// Asks once more, for a long time.
    fn ask(&self) -> Asking<Typed<Answer>> {
        let asking = self.client.request(&Ask { number: 1 }).timeout(LONG);
        let mut asking = asking.into_future();
        assert!((&mut asking).now_or_never().is_none());
        asking
    }

    async fn note(&self, count: u64) {
        for number in 0..count {
            self.client.send(&Note { number }).await.unwrap();
        }
    }

    fn noted(&self) -> Vec<u64> {
        self.notes.lock().unwrap().clone()
    }
}

#[test]
fn a_message_whose_time_is_over_holds_up_nobody_behind_it() {
    Lab::run(async |lab| {
        let pair = Pair::new().await;
        let _pending: Vec<_> = (0..10).map(|_| pair.ask()).collect();
        let late = pair.client.send(&Note { number: 99 }).acked();
        let late = late.timeout(SECOND).into_future();
        let (outcome, ()) = join(late, pair.note(5)).await;
        assert!(
            matches!(outcome, Err(PromiseError::TimedOut)),
            "{outcome:?}"
        );
        lab.pass(SECOND).await;
        assert_eq!(pair.noted(), [0, 1, 2, 3, 4]);
    });
}

#[test]
fn a_message_that_is_given_up_holds_up_nobody_behind_it() {
    Lab::run(async |lab| {
        let pair = Pair::new().await;
        let _pending: Vec<_> = (0..10).map(|_| pair.ask()).collect();
        let late = pair.ask();
        pair.note(5).await;
        lab.pass(SECOND).await;
        assert_eq!(pair.noted(), [0; 0]);
        drop(late);
        lab.pass(SECOND).await;
        assert_eq!(pair.noted(), [0, 1, 2, 3, 4]);
    });
}

#[test]
fn senders_go_on_while_most_promises_are_pending() {
    Lab::run(async |lab| {
        let pair = Pair::new().await;
        let _pending: Vec<_> = (0..8).map(|_| pair.ask()).collect();
        pair.note(60).await;
        lab.pass(SECOND).await;
        assert_eq!(pair.noted(), (0..60).collect::<Vec<_>>());
    });
}

#[test]
fn a_promise_that_ends_makes_room_for_one_that_waits() {
    Lab::run(async |lab| {
        let pair = Pair::new().await;
        let mut pending: Vec<_> = (0..10).map(|_| pair.ask()).collect();
        let _waiting = pair.ask();
        pair.note(1).await;
        lab.pass(SECOND).await;
        assert_eq!(pair.noted(), [0; 0]);
        pending.pop();
        lab.pass(SECOND).await;
        assert_eq!(pair.noted(), [0], "what stood behind the waiting request");
    });
}

#[test]
fn a_request_without_time_is_over_at_once() {
    Lab::run(async |lab| {
        let pair = Pair::new().await;
        let asking = pair.client.request::<Answer>(&Ask { number: 1 });
        let asking = asking.timeout(Duration::ZERO).into_future();
        let outcome = within(&lab, SECOND, asking).await;
        assert!(
            matches!(outcome, Some(Err(PromiseError::TimedOut))),
            "{outcome:?}"
        );
    });
}

#[test]
fn best_effort_comes_back_when_the_driver_has_no_time_for_it() {
    Lab::run(async |lab| {
        let pair = Pair::new().await;
        let send = || {
            let note = Note { number: 1 };
            pair.client.send(&note).best_effort().now()
        };
        let taken = (0..100_000).take_while(|_| send().is_ok()).count();
        assert_eq!(taken, 1_024);
        assert_eq!(send().unwrap_err().error, CommandError::OutboxFull);
        lab.pass(SECOND).await;
        send().unwrap();
        lab.pass(SECOND).await;
        assert_eq!(pair.noted().len(), taken + 1);
    });
}
