//! Futures that are dropped at any moment, on a good path, on a bad one and on one that is cut: what
//! they were about is done or is not, nothing else suffers, and nothing is left behind.

use std::future::{IntoFuture, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use trunkline_core::driver::{Admit, Context, Service};
use trunkline_core::{Config, Status};
use trunkline_testkit::simulated::{Client, Server, Simulation};

use crate::SECOND;

/// The message that is dropped, and the one that follows.
const DROPPED: u32 = 1_000_000;
const LAST: u32 = 2_000_000;

message!(Ask);
message!(Answer);
message!(Note);

/// When a future is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Unpolled,
    /// After its first poll.
    Polled,
    /// Some milliseconds later: about to be sent, on its way, being worked at, being answered, before
    /// and after the link is found dead, resumed, and when all is done.
    After(u64),
}

const WHEN: [When; 15] = [
    When::Unpolled,
    When::Polled,
    When::After(1),
    When::After(10),
    When::After(51),
    When::After(110),
    When::After(210),
    When::After(300),
    When::After(1_000),
    When::After(29_000),
    When::After(50_000),
    When::After(100_000),
    When::After(110_000),
    When::After(160_000),
    When::After(400_000),
];

/// Drops a future, and says what it came to, if it ended before.
async fn dropped<F: IntoFuture>(
    simulation: &Simulation,
    when: When,
    future: F,
) -> Option<F::Output> {
    let mut future = pin!(future.into_future());
    let mut patience = pin!(async {
        if let When::After(milliseconds) = when {
            simulation.sleep(Duration::from_millis(milliseconds)).await;
        }
    });
    poll_fn(|cx| {
        if when == When::Unpolled {
            return Poll::Ready(None);
        }
        match future.as_mut().poll(cx) {
            Poll::Pending => patience.as_mut().poll(cx).map(|()| None),
            Poll::Ready(output) => Poll::Ready(Some(output)),
        }
    })
    .await
}

/// What handlers have done.
#[derive(Default)]
struct Desk {
    notes: Mutex<Vec<u32>>,
    /// Handlers of requests that have begun and not ended.
    running: AtomicUsize,
}

/// One that has begun, until it ends in whatever way.
struct Running(Arc<Desk>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn service(simulation: &Simulation, desk: &Arc<Desk>) -> Service<(Simulation, Arc<Desk>)> {
    Service::new((simulation.clone(), desk.clone()))
        .on(
            async |context: Context<(Simulation, Arc<Desk>)>, note: Note| {
                context.state().1.notes.lock().unwrap().push(note.number);
            },
        )
        .on_request(
            async |context: Context<(Simulation, Arc<Desk>)>, ask: Ask| {
                let (simulation, desk) = context.state();
                desk.running.fetch_add(1, Ordering::SeqCst);
                let _running = Running(desk.clone());
                simulation.sleep(SECOND / 5).await;
                Ok::<_, Status>(Answer {
                    number: ask.number * 2,
                })
            },
        )
}

/// Little room, so that who sends has to wait for it.
fn config() -> Config {
    let mut config = Config::default();
    config.limits.outbox_messages = 4;
    config
}

async fn serve(simulation: &Simulation, desk: &Arc<Desk>) -> Server {
    let server = Server::bind("127.0.0.1:4433".parse().unwrap())
        .identity(simulation.certificates().server)
        .admission(Admit::open())
        .config(config())
        .service(service(simulation, desk));
    server.await.unwrap()
}

fn connecting(
    simulation: &Simulation,
    desk: &Arc<Desk>,
) -> impl Future<Output = Result<Client, trunkline_core::driver::StartError>> + use<> {
    let client = Client::connect("localhost:4433").roots(simulation.certificates().roots);
    let client = client.client_id("alice").config(config());
    client.service(service(simulation, desk)).into_future()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Good,
    Bad,
    /// For a hundred seconds, and the outbox is full.
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Send,
    Acked,
    Request,
    Metrics,
    Info,
}

impl Path {
    const ALL: [Self; 3] = [Self::Good, Self::Bad, Self::Cut];

    /// Returns how many notes are on their way.
    fn begin(self, simulation: &Simulation, client: &Client) -> u32 {
        let mut number = 0;
        match self {
            Self::Good => {}
            Self::Bad => simulation.path(|path| {
                path.delay = SECOND / 20;
                path.jitter = SECOND / 50;
                path.loss = 0.2;
                path.duplicate = 0.1;
            }),
            Self::Cut => {
                simulation.path(|path| path.cut = true);
                while (client.try_send(&Note { number: number + 1 })).is_ok() {
                    number += 1;
                }
                let healed = simulation.clone();
                simulation.spawn(async move {
                    healed.sleep(100 * SECOND).await;
                    healed.path(|path| path.cut = false);
                });
            }
        }
        number
    }
}

/// Drops that call. Returns whether it had ended.
fn drop_call(call: Call, path: Path, when: When) -> bool {
    let what = format!("{call:?}, {path:?}, {when:?}");
    let simulation = Simulation::new(1);
    let (here, there) = (Arc::<Desk>::default(), Arc::<Desk>::default());
    let (ended, before) = simulation.run(async {
        let server = serve(&simulation, &there).await;
        let client = connecting(&simulation, &here).await.unwrap();
        let before = path.begin(&simulation, &client);
        let note = Note { number: DROPPED };
        let ask = Ask { number: DROPPED };
        let ended = match call {
            Call::Send => {
                let sent = dropped(&simulation, when, client.send(&note)).await;
                sent.map(|sent| sent.unwrap()).is_some()
            }
            Call::Acked => {
                let acked = client.send(&note).acked().timeout(300 * SECOND);
                let acked = dropped(&simulation, when, acked).await;
                acked.map(|acked| acked.unwrap()).is_some()
            }
            Call::Request => {
                let asked = client.request(&ask).timeout(300 * SECOND);
                let answer = dropped(&simulation, when, asked).await;
                let answer: Option<Answer> = answer.map(|answer| answer.unwrap());
                answer
                    .map(|answer| assert_eq!(answer.number, 2 * DROPPED))
                    .is_some()
            }
            Call::Metrics => dropped(&simulation, when, client.metrics()).await.is_some(),
            Call::Info => dropped(&simulation, when, client.info()).await.is_some(),
        };
        // Others go on in both directions.
        let last = client.send(&Note { number: LAST }).acked();
        last.timeout(300 * SECOND).await.unwrap();
        let peer = server.peers().pop().unwrap();
        for peer in [client.peer(), &peer] {
            let asked = peer.request(&Ask { number: 1 }).timeout(300 * SECOND);
            let answer: Answer = asked.await.unwrap();
            assert_eq!(answer.number, 2, "{what}");
        }
        simulation.sleep(5 * SECOND).await;
        for metrics in [client.metrics().await, server.metrics().await] {
            let metrics = metrics.unwrap();
            let left = (metrics.sessions, metrics.promises, metrics.outbox_bytes);
            assert_eq!(left, (1, 0, 0), "{what}");
        }
        let info = peer.info().await.unwrap().unwrap();
        assert_eq!((info.promises, info.deliveries), (0, 0), "{what}");
        (ended, before)
    });
    for desk in [&here, &there] {
        assert_eq!(desk.running.load(Ordering::SeqCst), 0, "{what}");
    }
    let notes = there.notes.lock().unwrap();
    let is_note = matches!(call, Call::Send | Call::Acked);
    let has_come = notes.contains(&DROPPED);
    if ended {
        assert_eq!(has_come, is_note, "{what}");
    }
    assert!(!has_come || is_note && when != When::Unpolled, "{what}");
    let expected = (1..=before)
        .chain(has_come.then_some(DROPPED))
        .chain([LAST]);
    assert_eq!(*notes, expected.collect::<Vec<_>>(), "{what}");
    ended
}

#[test]
fn a_call_that_is_dropped_is_done_or_not_and_nothing_else_suffers() {
    let calls = [
        Call::Send,
        Call::Acked,
        Call::Request,
        Call::Metrics,
        Call::Info,
    ];
    for call in calls {
        for path in Path::ALL {
            let ended = WHEN.map(|when| drop_call(call, path, when));
            println!("{call:?}, {path:?}: {ended:?}");
            assert!(!ended[0] && ended[WHEN.len() - 1], "{call:?}, {path:?}");
            assert!(ended.is_sorted(), "{call:?}, {path:?}: {ended:?}");
        }
    }
}

#[test]
fn a_client_that_is_dropped_while_it_connects_leaves_no_session_behind() {
    for delay in [SECOND / 1_000, SECOND / 20] {
        let connected = WHEN.map(|when| {
            let simulation = Simulation::new(1);
            let desk = Arc::<Desk>::default();
            simulation.run(async {
                let server = serve(&simulation, &desk).await;
                simulation.path(|path| path.delay = delay);
                let client = dropped(&simulation, when, connecting(&simulation, &desk)).await;
                let connected = client.is_some();
                drop(client);
                simulation.sleep(10 * SECOND).await;
                assert_eq!(server.clients().await.unwrap().len(), 0, "{when:?}");
                let client = connecting(&simulation, &desk).await.unwrap();
                let answer: Answer = client.request(&Ask { number: 3 }).await.unwrap();
                assert_eq!(answer.number, 6);
                connected
            })
        });
        println!("{delay:?}: {connected:?}");
        assert!(connected.is_sorted() && !connected[2] && connected[WHEN.len() - 1]);
    }
}

/// Runs a test of a server, a client, and what the client has heard.
fn with_a_client(test: impl AsyncFnOnce(&Simulation, Server, Client, Arc<Desk>)) {
    let simulation = Simulation::new(1);
    let (here, there) = (Arc::<Desk>::default(), Arc::<Desk>::default());
    simulation.run(async {
        let server = serve(&simulation, &there).await;
        let client = connecting(&simulation, &here).await.unwrap();
        test(&simulation, server, client, here).await;
    });
}

#[test]
fn a_close_that_was_polled_goes_on_when_it_is_dropped_and_another_never_began() {
    for when in WHEN {
        with_a_client(async |simulation, server, client, _| {
            dropped(simulation, when, client.close()).await;
            simulation.sleep(10 * SECOND).await;
            let goes_on = when == When::Unpolled;
            let clients = server.clients().await.unwrap().len();
            assert_eq!(clients, usize::from(goes_on), "{when:?}");
            assert_eq!(client.state().is_connected(), goes_on, "{when:?}");
        });
    }
}

#[test]
fn a_drain_that_was_polled_goes_on_when_it_is_dropped_and_another_never_began() {
    for when in WHEN {
        with_a_client(async |simulation, server, client, _| {
            dropped(simulation, when, server.drain(5 * SECOND)).await;
            simulation.sleep(10 * SECOND).await;
            let goes_on = when == When::Unpolled;
            assert_eq!(client.state().is_connected(), goes_on, "{when:?}");
        });
    }
}

#[test]
fn a_broadcast_that_was_polled_is_sent_when_it_is_dropped_and_another_never_is() {
    for when in WHEN {
        with_a_client(async |simulation, server, _client, heard| {
            let first = server.broadcast(&Note { number: DROPPED });
            dropped(simulation, when, first).await;
            server.broadcast(&Note { number: LAST }).await.unwrap();
            simulation.sleep(SECOND).await;
            let expected: &[u32] = if when == When::Unpolled {
                &[LAST]
            } else {
                &[DROPPED, LAST]
            };
            assert_eq!(*heard.notes.lock().unwrap(), expected, "{when:?}");
        });
    }
}
