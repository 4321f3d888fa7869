//! Sending when there is no room: in order, within time, and nobody is held up for nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use trunkline_core::driver::{Acking, Asking, Context, PromiseError, Service, Typed};
use trunkline_core::{CommandError, Lane, Message, Status, Tag};

use super::lab::{Lab, within};
use super::{Answer, Ask, Certificate, Client, MILLISECOND, Note, SECOND, Server, config};

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
        let lanes = config(|config| config.limits.lanes = 3);
        let server = certificate.server().config(lanes).service(service);
        let server = server.await.unwrap();
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

    /// Sends a note that waits for its ack, for a long time.
    fn acked(&self, number: u64, lane: Lane) -> Acking {
        let sending = self.client.send(&Note { number }).lane(lane).acked();
        let mut sending = sending.timeout(LONG).into_future();
        assert!((&mut sending).now_or_never().is_none());
        sending
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
        let late = pair.acked(99, Lane::DEFAULT);
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
        let _waiting = pair.acked(7, Lane::DEFAULT);
        pair.note(1).await;
        lab.pass(SECOND).await;
        assert_eq!(pair.noted(), [0; 0]);
        pending.pop();
        lab.pass(SECOND).await;
        assert_eq!(pair.noted(), [7, 0]);
    });
}

#[test]
fn an_acked_message_that_waits_for_a_promise_holds_up_its_lane_alone() {
    Lab::run(async |lab| {
        let pair = Pair::new().await;
        let lane = Lane::new(2).unwrap();
        let plain = |number| pair.client.send(&Note { number }).lane(lane).into_future();
        let mut pending: Vec<_> = (0..10).map(|_| pair.ask()).collect();
        let _first = pair.acked(8, lane);
        let _asked = pair.ask();
        plain(5).await.unwrap();
        let _second = pair.acked(9, lane);
        plain(6).await.unwrap();
        pair.note(1).await;
        lab.pass(SECOND).await;
        assert_eq!(pair.noted(), [0]);
        pending.pop();
        lab.pass(SECOND).await;
        // The request has the place now, and has held up nothing.
        assert_eq!(pair.noted(), [0, 8, 5]);
        pending.pop();
        lab.pass(SECOND).await;
        assert_eq!(pair.noted(), [0, 8, 5, 9, 6]);
    });
}

/// Handlers may wait for what their peer sends in the meantime.
#[test]
fn a_request_that_waits_for_a_promise_holds_up_no_message() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let service = Service::new((Notes::default(), lab.clone()))
            .on(async |context: Context<(Notes, Lab)>, note: Note| {
                context.state().0.lock().unwrap().push(note.number);
            })
            .on_request(async |context: Context<(Notes, Lab)>, ask: Ask| {
                let (notes, lab) = context.state();
                while notes.lock().unwrap().is_empty() {
                    lab.pass(MILLISECOND).await;
                }
                Ok::<_, Status>(Answer { number: ask.number })
            });
        let server = certificate.server().service(service).await.unwrap();
        let small = config(|config| config.limits.promises = 10);
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.config(small).await.unwrap();
        let ask = |number| {
            let asking = client.request::<Answer>(&Ask { number });
            asking.timeout(LONG).into_future()
        };
        let noted = client.send(&Note { number: 1 }).into_future();
        let all = join(join_all((0..11).map(ask)), noted);
        let (answers, sent) = within(&lab, SECOND, all).await.expect("it is sent");
        sent.unwrap();
        let answers: Vec<_> = answers
            .into_iter()
            .map(|answer| answer.unwrap().number)
            .collect();
        assert_eq!(answers, (0..11).collect::<Vec<_>>());
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

/// Whether nothing counts any more as on its way to the outbox, neither messages nor bytes.
async fn nothing_is_on_its_way(lab: &Lab, client: &Client) -> bool {
    lab.pass(SECOND).await;
    let send = |size: usize| {
        let message = Message::new(Tag::of("test.v1.Nobody"), vec![0; size]);
        client.send_raw(message).best_effort().now()
    };
    // At most 1 MiB: to the byte, what fits if there is nothing else.
    let bytes = [1_000_000, 48_575, 1].map(|size| send(size).is_ok());
    lab.pass(SECOND).await;
    let messages = (0..2_000).take_while(|_| send(0).is_ok()).count();
    lab.pass(SECOND).await;
    (bytes, messages) == ([true, true, true], 1_024)
}

#[test]
fn what_is_on_its_way_to_the_outbox_is_counted_down_to_nothing_whatever_becomes_of_it() {
    Lab::run(async |lab| {
        let pair = Pair::new().await;
        let client = &pair.client;
        assert!(nothing_is_on_its_way(&lab, client).await);
        // Taken after waiting for room; sent best effort.
        pair.note(500).await;
        client
            .send(&Note { number: 1 })
            .best_effort()
            .await
            .unwrap();
        assert!(nothing_is_on_its_way(&lab, client).await);
        // Held up by a link that is down, and by promises that are pending.
        lab.socket(client.local_addr(), |socket| socket.cut = true);
        client.wait_for(|state| !state.is_connected()).await;
        let pending: Vec<_> = (0..12).map(|_| pair.ask()).collect();
        pair.note(300).await;
        lab.pass(SECOND).await;
        lab.socket(client.local_addr(), |socket| socket.cut = false);
        client.connected().await.unwrap();
        drop(pending);
        assert!(nothing_is_on_its_way(&lab, client).await);
        // Refused by the node: the other side has fewer lanes than this one.
        let nowhere = client.send(&Note { number: 2 }).lane(Lane::new(3).unwrap());
        nowhere.await.unwrap();
        assert!(nothing_is_on_its_way(&lab, client).await);
    });
}

#[test]
fn a_message_that_waits_for_room_and_is_given_up_is_not_sent() {
    Lab::run(async |lab| {
        let pair = Pair::new().await;
        lab.socket(pair.client.local_addr(), |socket| socket.cut = true);
        // So many fill the outbox, and what stands before it.
        pair.note(1_024).await;
        lab.pass(SECOND).await;
        pair.note(20).await;
        let last = Note { number: 99_999 };
        let mut waiting = pair.client.send(&last).into_future();
        assert!((&mut waiting).now_or_never().is_none());
        lab.pass(SECOND).await;
        assert!((&mut waiting).now_or_never().is_none());
        drop(waiting);
        lab.pass(SECOND).await;
        lab.socket(pair.client.local_addr(), |socket| socket.cut = false);
        lab.pass(100 * SECOND).await;
        assert_eq!(pair.noted().len(), 1_044);
        assert!(!pair.noted().contains(&last.number));
    });
}

#[test]
fn bodies_as_they_are_have_handlers_by_their_tag_and_keep_their_order() {
    Lab::run(async |_| {
        let certificate = Certificate::new();
        let lines = Arc::<Mutex<Vec<_>>>::default();
        let service = Service::new(lines.clone())
            .on_raw(LINE, async |book: Context<Lines>, message: Message| {
                book.state().lock().unwrap().push(message.body);
            })
            .on_request_raw(SUM, async |book: Context<Lines>, _| {
                let lines = book.state().lock().unwrap().len();
                Ok::<_, Status>((SUM, lines.to_string().into()))
            });
        let server = certificate.server().service(service).await.unwrap();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.await.unwrap();
        let bodies: Vec<_> = (0..100).map(|number: u32| number.to_string()).collect();
        let sent = bodies.iter().map(|body| {
            let message = Message::new(LINE, body.clone());
            client.send_raw(message).acked().into_future()
        });
        for outcome in join_all(sent).await {
            assert_eq!(outcome, Ok(()));
        }
        assert_eq!(*lines.lock().unwrap(), bodies);
        let asked = client.request_raw(Message::new(SUM, "")).await;
        assert_eq!(asked, Ok((SUM, "100".into())));
        let twice = Service::new(())
            .on_raw(LINE, async |_, _| ())
            .on_raw(LINE, async |_, _| ());
        let refused = certificate.server().service(twice).await;
        assert!(refused.unwrap_err().to_string().contains("two handlers"));
    });
}

type Lines = Arc<Mutex<Vec<Bytes>>>;
const LINE: Tag = Tag(7);
const SUM: Tag = Tag(8);
