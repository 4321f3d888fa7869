//! Closing and draining: nothing that was sent is lost, nobody waits for ever.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

use futures_util::future::{join, join_all};
use trunkline_core::driver::{
    Admit, Context, Drained, Notice, Platform, PromiseError, Service, State,
};
use trunkline_core::{CommandError, Config, Event, Message, Refusal, Status, StatusCode, Tag};

use super::lab::{Lab, Looking, within};
use super::{Answer, Ask, Certificate, MILLISECOND, Note, Numbers, SECOND, book, config};

/// Never answers.
fn silent() -> Service<()> {
    Service::new(()).on_request(async |_: Context<()>, _: Ask| {
        std::future::pending::<Result<Answer, Status>>().await
    })
}

#[test]
fn a_close_delivers_what_was_taken_on_behalf_of_a_full_outbox() {
    Lab::run(async |_| {
        let certificate = Certificate::new();
        let (book, service) = book();
        let server = certificate.server().service(service).await.unwrap();
        let small = config(|config| config.limits.outbox_messages = 100);
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.config(small).await.unwrap();
        for number in 0..500 {
            client.send(&Note { number }).await.unwrap();
        }
        client.close().await;
        assert_eq!(*book.lock().unwrap(), (0..500).collect::<Vec<_>>());
    });
}

#[test]
fn a_close_waits_for_handlers_that_have_not_come_to_what_was_sent() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let numbers = Numbers::default();
        let state = (numbers.clone(), lab.clone());
        let service = Service::new(state).on(async |context: Context<_>, note: Note| {
            let (numbers, lab): &(Numbers, Lab) = context.state();
            lab.pass(10 * MILLISECOND).await;
            numbers.lock().unwrap().push(note.number);
        });
        let server = certificate.server().service(service).await.unwrap();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.await.unwrap();
        for number in 0..100 {
            client.send(&Note { number }).await.unwrap();
        }
        // It does not wait for acks, and is gone when the server has them all.
        client.close().await;
        lab.pass(SECOND).await;
        assert_eq!(*numbers.lock().unwrap(), (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn a_close_gives_back_what_no_link_comes_for() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let server = certificate.server().await.unwrap();
        let small = config(|config| config.limits.outbox_messages = 10);
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.config(small).await.unwrap();
        let mut events = client.events();
        lab.socket(client.local_addr(), |socket| socket.cut = true);
        for number in 0..20 {
            client.send(&Note { number }).await.unwrap();
        }
        let start = lab.now();
        let late = async {
            lab.pass(SECOND).await;
            client.send(&Note { number: 20 }).await.unwrap();
        };
        join(client.close(), late).await;
        assert!(lab.now() - start <= 10 * SECOND);
        let mut back = 0;
        let mut last = None;
        while let Some(notice) = events.next().await {
            back += usize::from(matches!(notice, Notice::Event(Event::Undelivered { .. })));
            last = Some(notice);
        }
        assert_eq!(back, 21);
        assert!(
            matches!(last, Some(Notice::Event(Event::Closed { .. }))),
            "{last:?}"
        );
    });
}

#[test]
fn a_second_drain_hears_how_the_first_one_ended() {
    Lab::run(async |_| {
        let server = Certificate::new().server().await.unwrap();
        for _ in 0..2 {
            let drained = server.drain(SECOND).await.unwrap();
            let expected = Drained {
                finished: 0,
                cut_off: 0,
            };
            assert_eq!(drained, expected);
        }
    });
}

#[test]
fn a_closed_server_has_let_go_of_its_address() {
    Lab::run(async |lab| {
        let server = Certificate::new().server().await.unwrap();
        let (address, bound) = (server.local_addr(), Arc::new(Mutex::new(None)));
        let waker = Waker::from(Arc::new(Looking({
            let (bound, lab) = (bound.clone(), lab.clone());
            move || *bound.lock().unwrap() = Some(lab.is_bound(address))
        })));
        let mut closed = Box::pin(server.closed());
        let polled = closed
            .as_mut()
            .poll(&mut std::task::Context::from_waker(&waker));
        assert!(polled.is_pending());
        server.close().await;
        assert_eq!(*bound.lock().unwrap(), Some(false));
    });
}

#[test]
fn a_flooded_server_closes_in_time() {
    Lab::run(async |lab| {
        let server = Certificate::new().server().await.unwrap();
        lab.socket(server.local_addr(), |socket| socket.flooded = true);
        assert!(within(&lab, 10 * SECOND, server.close()).await.is_some());
    });
}

#[test]
fn a_flooded_client_closes_in_time() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let server = certificate.server().await.unwrap();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.await.unwrap();
        lab.socket(client.local_addr(), |socket| socket.flooded = true);
        assert!(within(&lab, 12 * SECOND, client.close()).await.is_some());
    });
}

#[test]
fn closing_twice_takes_no_longer() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let server = certificate.server().await.unwrap();
        lab.socket(server.local_addr(), |socket| socket.flooded = true);
        let later = async {
            lab.pass(4 * SECOND).await;
            server.close().await;
        };
        let closing = join(server.close(), later);
        assert!(within(&lab, 7 * SECOND, closing).await.is_some());
    });
}

#[test]
fn who_comes_while_a_server_closes_does_not_hold_it_up() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let server = certificate.server().await.unwrap();
        // One client does not take what the server sends it, so that closing takes its time.
        let deaf = certificate.client(server.local_addr(), "deaf");
        let deaf = deaf.await.unwrap();
        lab.socket(deaf.local_addr(), |socket| socket.cut = true);
        let peer = server.client(deaf.client_id()).unwrap();
        peer.send(&Note { number: 1 }).await.unwrap();
        let start = lab.now();
        let coming = async {
            lab.pass(4_900 * MILLISECOND).await;
            let late = certificate.client(server.local_addr(), "late");
            late.start().await.unwrap()
        };
        let ((), _late) = join(server.close(), coming).await;
        assert!(lab.now() - start < 5_500 * MILLISECOND);
    });
}

#[test]
fn a_client_that_never_got_through_and_has_nothing_to_say_closes_at_once() {
    Lab::run(async |lab| {
        let client = Certificate::new().client("127.0.0.1:9".parse().unwrap(), "anna");
        let client = client.start().await.unwrap();
        lab.pass(SECOND).await;
        assert!(within(&lab, MILLISECOND, client.close()).await.is_some());
    });
}

#[test]
fn a_server_that_is_dropped_is_dialled_again() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let server = certificate.server().await.unwrap();
        let address = server.local_addr();
        let client = certificate.client(address, "anna").await.unwrap();
        drop(server);
        client.wait_for(|state| !state.is_connected()).await;
        while lab.is_bound(address) {
            lab.pass(MILLISECOND).await;
        }
        let _server = certificate.server_at(address).await.unwrap();
        assert_eq!(client.connected().await, Ok(()));
    });
}

#[test]
fn a_worker_that_drains_finishes_what_it_has_begun_and_is_given_no_more() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let server = certificate.server().await.unwrap();
        let work = async |context: Context<Lab>, ask: Ask| {
            context.state().pass(10 * SECOND).await;
            Ok::<_, Status>(Answer { number: ask.number })
        };
        let client = certificate.client(server.local_addr(), "worker");
        let client = client.service(Service::new(lab.clone()).on_request(work));
        let client = client.await.unwrap();
        let peer = server.client(client.client_id()).unwrap();
        let ask = |number| peer.request::<Answer>(&Ask { number }).into_future();
        let late = async {
            lab.pass(5 * SECOND).await;
            ask(2).await
        };
        let draining = async {
            lab.pass(SECOND).await;
            client.drain(60 * SECOND).await
        };
        let start = lab.now();
        let (begun, (late, drained)) = join(ask(1), join(late, draining)).await;
        assert_eq!(begun, Ok(Answer { number: 1 }));
        let Err(PromiseError::Rejected(status)) = late else {
            panic!("{late:?}");
        };
        assert_eq!(status.code, StatusCode::UNAVAILABLE);
        assert_eq!(drained.map(|drained| drained.finished), Ok(1));
        assert!(lab.now() - start < 12 * SECOND);
        let gone = within(&lab, SECOND, client.close()).await;
        assert!(gone.is_some());
        assert!(matches!(peer.state(), State::Closed(_)));
    });
}

#[test]
fn a_close_cuts_a_long_drain_short() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let server = certificate.server().await.unwrap();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.service(silent()).await.unwrap();
        let peer = server.client(client.client_id()).unwrap();
        let asking = peer
            .request::<Answer>(&Ask { number: 1 })
            .timeout(1_000 * SECOND);
        let draining = server.drain(600 * SECOND);
        let closing = async {
            lab.pass(SECOND).await;
            server.close().await;
        };
        let start = lab.now();
        let (asked, (drained, ())) = join(asking.into_future(), join(draining, closing)).await;
        assert!(matches!(asked, Err(PromiseError::Lost { .. })), "{asked:?}");
        assert_eq!(drained.unwrap().cut_off, 1);
        assert!(lab.now() - start < 7 * SECOND);
        // The client was told.
        let told = within(&lab, SECOND, client.wait_for(|state| !state.is_connected()));
        assert!(told.await.is_some());
    });
}

#[test]
fn a_drain_that_a_close_cuts_short_ends_even_if_an_outbox_is_full() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let server = certificate.server().await.unwrap();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.await.unwrap();
        let peer = server.client(client.client_id()).unwrap();
        lab.socket(client.local_addr(), |socket| socket.cut = true);
        let large = vec![0; 500_000];
        let fill = async {
            while peer
                .try_send_raw(Message::new(Tag(1), large.clone()))
                .is_ok()
            {
                lab.pass(MILLISECOND).await;
            }
        };
        let draining = server.drain(600 * SECOND);
        let closing = async {
            lab.pass(SECOND).await;
            server.close().await;
        };
        fill.await;
        let (drained, ()) = join(draining, closing).await;
        assert_eq!(
            drained,
            Ok(Drained {
                finished: 0,
                cut_off: 1
            })
        );
    });
}

/// Its link turns out to be dead in the moment in which the driver goes.
#[test]
fn who_waits_for_a_state_is_woken_by_a_driver_that_is_dropped() {
    struct Woken(AtomicBool);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    for seconds in 0..60 {
        Lab::run(async |lab| {
            let certificate = Certificate::new();
            let server = certificate.server().await.unwrap();
            let client = certificate.client(server.local_addr(), "anna");
            let client = client.await.unwrap();
            let peer = server.client(client.client_id()).unwrap();
            lab.socket(client.local_addr(), |socket| socket.cut = true);
            peer.send(&Note { number: 1 }).await.unwrap();
            lab.pass(SECOND * seconds).await;
            let woken = Arc::new(Woken(AtomicBool::new(false)));
            let waker = Waker::from(woken.clone());
            let mut cx = std::task::Context::from_waker(&waker);
            let mut closed = pin!(peer.wait_for(|state| matches!(state, State::Closed(_))));
            assert!(closed.as_mut().poll(&mut cx).is_pending());
            lab.shut_down();
            assert!(woken.0.load(Ordering::SeqCst), "after {seconds} s");
            assert!(closed.as_mut().poll(&mut cx).is_ready());
        });
    }
}

#[test]
fn a_broadcast_is_queued_before_what_was_asked_for_after_it() {
    const EVENTS: u64 = 100;
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let server = certificate.server().await.unwrap();
        let (numbers, service) = book();
        let client = certificate.client(server.local_addr(), "anna");
        let _client = client.service(service).await.unwrap();
        lab.pass(SECOND).await;
        let sent = (0..EVENTS).map(|number| server.broadcast(&Note { number }).into_future());
        let (sent, ()) = join(join_all(sent), server.close()).await;
        assert!(sent.iter().all(|sent| sent.as_ref().unwrap().queued == 1));
        lab.pass(SECOND).await;
        // The last ones go with the link.
        let heard = numbers.lock().unwrap();
        assert_eq!(*heard, (0..heard.len() as u64).collect::<Vec<_>>());
    });
}

/// Says when it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn who_does_not_decide_in_time_decides_no_more() {
    Lab::run(async |lab| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let counter = dropped.clone();
        let undecided = Admit::ask(move |_| {
            let guard = Dropped(counter.clone());
            async move {
                let _guard = guard;
                std::future::pending::<Result<(), Refusal>>().await
            }
        });
        let certificate = Certificate::new();
        let server = certificate.server().admission(undecided).await.unwrap();
        let connecting = certificate.client(server.local_addr(), "anna").start();
        let _client = connecting.await.unwrap();
        let time = Config::default().timeouts.admission;
        lab.sleep(time - SECOND).await;
        assert_eq!(dropped.load(Ordering::SeqCst), 0);
        lab.sleep(2 * SECOND).await;
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        // Those that came since end with the server.
        lab.sleep(2 * SECOND).await;
        server.close().await;
        lab.sleep(SECOND).await;
        assert_eq!(dropped.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn who_waits_for_a_state_that_does_not_come_hears_of_the_end() {
    Lab::run(async |_| {
        let certificate = Certificate::new();
        let server = certificate.server().await.unwrap();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.await.unwrap();
        let away = client.wait_for(|state| matches!(state, State::Away(_)));
        let (state, _) = join(away, client.close()).await;
        assert!(matches!(state, State::Closed(_)), "{state:?}");
        let again = client.wait_for(State::is_connected).await;
        assert!(matches!(again, State::Closed(_)), "{again:?}");
    });
}

#[test]
fn who_waits_for_room_hears_of_a_drain_once_nobody_works_for_the_client() {
    for works in [false, true] {
        Lab::run(async |lab| {
            let certificate = Certificate::new();
            let service = Service::new(lab.clone()).on(async |context: Context<Lab>, _: Note| {
                context.state().pass(SECOND / 2).await;
            });
            let small = config(|config| config.limits.outbox_messages = 4);
            let server = certificate.server().config(small).service(service);
            let server = server.await.unwrap();
            let client = certificate.client(server.local_addr(), "anna");
            let client = client.await.unwrap();
            if works {
                client.send(&Note { number: 1 }).await.unwrap();
            }
            lab.pass(50 * MILLISECOND).await;
            lab.socket(client.local_addr(), |socket| socket.cut = true);
            let peer = server.client(client.client_id()).unwrap();
            for number in 0..4 {
                peer.send(&Note { number }).await.unwrap();
            }
            let mut waiting = peer.send(&Note { number: 4 }).acked().into_future();
            let mut drain = pin!(server.drain(60 * SECOND));
            let early = join(
                within(&lab, SECOND / 4, &mut waiting),
                within(&lab, SECOND / 4, &mut drain),
            );
            let (mut told, drained) = early.await;
            assert!(drained.is_none());
            assert_eq!(told.is_none(), works, "{told:?}");
            if told.is_none() {
                told = within(&lab, SECOND, &mut waiting).await;
            }
            let Some(Err(PromiseError::Refused(refused))) = told else {
                panic!("{told:?}");
            };
            assert_eq!(refused.error, CommandError::Closing);
        });
    }
}

/// It may have done its work: who asks again would have it done twice.
#[test]
fn a_handler_that_ends_with_the_runtime_it_ran_on_is_not_said_to_have_done_nothing() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let begun = Arc::<AtomicBool>::default();
        let service = Service::new(begun.clone())
            .on_request(async |context: Context<Arc<AtomicBool>>, _: Ask| {
                context.state().store(true, Ordering::Relaxed);
                std::future::pending::<Result<Answer, Status>>().await
            })
            .parallel();
        let server = certificate.server().service(service).await.unwrap();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.await.unwrap();
        let end = async {
            while !begun.load(Ordering::Relaxed) {
                lab.pass(MILLISECOND).await;
            }
            lab.drop_newest();
        };
        let asked = client.request::<Answer>(&Ask { number: 1 }).into_future();
        let (asked, ()) = join(asked, end).await;
        let error = asked.unwrap_err();
        assert!(error.maybe_delivered(), "{error}");
    });
}
