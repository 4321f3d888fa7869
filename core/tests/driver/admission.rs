//! Admission that the application decides about.

use std::future::{IntoFuture, pending};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::join;
use trunkline_core::driver::{Admit, Context, Hooks, Peer, Service, State};
use trunkline_core::{AdmissionRequest, Config, DisconnectReason, Refusal, SessionsFull, Status};

use super::lab::Lab;
use super::{Answer, Ask, Certificate, Client, MILLISECOND, Note, SECOND, ServerBuilder, config};

/// Counts itself as long as it is there.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who says hello and goes, again and again, does not have the function run for all those that have gone.
#[test]
fn nobody_decides_for_long_about_who_has_gone() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let (asked, running) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let counts = (asked.clone(), running.clone());
        let never = move |_: AdmissionRequest| {
            counts.0.fetch_add(1, Ordering::Relaxed);
            let counted = Counted::new(&counts.1);
            async move {
                let _counted = counted;
                pending::<Result<(), Refusal>>().await
            }
        };
        let server = certificate.server().admission(Admit::ask(never));
        let server = server.await.unwrap();
        let start = lab.now();
        for number in 0..200 {
            let client = certificate.client(server.local_addr(), &format!("client-{number}"));
            let client = client.start().await.unwrap();
            while asked.load(Ordering::Relaxed) == number {
                lab.pass(MILLISECOND).await;
            }
            drop(client);
            lab.pass(20 * MILLISECOND).await;
            assert!(running.load(Ordering::Relaxed) <= 80, "after {number}");
        }
        assert!(lab.now() - start < trunkline_core::Timeouts::default().admission);
    });
}

/// What admission finds: the so-many-th time that it was asked.
struct Visit {
    number: usize,
    _counted: Counted,
}

/// What happened, and which visit was found then.
type Told = (&'static str, Option<usize>);

/// An admission that counts visits; what happens to what it has found.
#[derive(Clone, Default)]
struct Door {
    asked: Arc<AtomicUsize>,
    /// So many findings exist.
    kept: Arc<AtomicUsize>,
    /// Who comes first waits until this is set.
    first_may_pass: Arc<AtomicBool>,
    told: Arc<Mutex<Vec<Told>>>,
    handlers_may_end: Arc<AtomicBool>,
}

impl Door {
    /// One that makes nobody wait.
    fn open() -> Self {
        let door = Self::default();
        door.first_may_pass.store(true, Ordering::Relaxed);
        door
    }

    fn kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    fn tell(&self, what: &'static str, peer: &Peer) {
        self.told.lock().unwrap().push((what, visit(peer)));
    }

    fn server(&self, lab: &Lab, certificate: &Certificate) -> ServerBuilder {
        let (door, lab) = (self.clone(), lab.clone());
        let admit = {
            let (door, lab) = (door.clone(), lab.clone());
            move |_: AdmissionRequest| {
                let visit = Visit {
                    number: door.asked.fetch_add(1, Ordering::Relaxed) + 1,
                    _counted: Counted::new(&door.kept),
                };
                let (first_may_pass, lab) = (door.first_may_pass.clone(), lab.clone());
                async move {
                    while visit.number == 1 && !first_may_pass.load(Ordering::Relaxed) {
                        lab.pass(MILLISECOND).await;
                    }
                    Ok(visit)
                }
            }
        };
        let service = Service::new((door.clone(), lab))
            .on_request(async |context: Context<(Self, Lab)>, _: Ask| {
                let number = context.admitted::<Visit>().unwrap().number as u64;
                Ok::<_, Status>(Answer { number })
            })
            .on(async |context: Context<(Self, Lab)>, _: Note| {
                let (door, lab) = context.state();
                door.tell("handler begins", context.peer());
                while !door.handlers_may_end.load(Ordering::Relaxed) {
                    lab.pass(MILLISECOND).await;
                }
                door.tell("handler ends", context.peer());
            });
        let server = certificate.server().admission(Admit::ask(admit));
        server.service(service).hooks(door).config(quick())
    }
}

impl Hooks for Door {
    fn connected(&self, peer: &Peer) {
        self.tell("connected", peer);
    }

    fn resumed(&self, peer: &Peer) {
        self.tell("resumed", peer);
    }

    fn closed(&self, peer: &Peer, _: &DisconnectReason) {
        self.tell("closed", peer);
    }
}

fn visit(peer: &Peer) -> Option<usize> {
    peer.admitted::<Visit>().map(|visit| visit.number)
}

/// Links die of silence within a second.
fn quick() -> Config {
    config(|config| config.heartbeat.interval = 250 * MILLISECOND)
}

async fn ask(client: &Client) -> u64 {
    let answer: Answer = client.request(&Ask { number: 0 }).await.unwrap();
    answer.number
}

fn cut(lab: &Lab, client: &Client, cut: bool) {
    lab.socket(client.local_addr(), |socket| socket.cut = cut);
}

#[test]
fn what_admission_found_reaches_hooks_and_handlers_anew_with_each_link() {
    Lab::run(async |lab| {
        let (certificate, door) = (Certificate::new(), Door::open());
        let server = door.server(&lab, &certificate).await.unwrap();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.config(quick()).await.unwrap();
        assert_eq!(ask(&client).await, 1);
        let peer = server.client(client.client_id()).unwrap();
        assert_eq!((visit(&peer), visit(client.peer())), (Some(1), None));
        assert_eq!(peer.admitted::<u64>(), None);
        for number in 2..5 {
            cut(&lab, &client, true);
            peer.wait_for(|state| !state.is_connected()).await;
            assert_eq!(visit(&peer), Some(number - 1));
            client.wait_for(|state| !state.is_connected()).await;
            // It waits, and arrives with the new link's beginning.
            let mend = async { cut(&lab, &client, false) };
            let (asked, ()) = join(ask(&client), mend).await;
            assert_eq!(asked, number as u64);
            assert_eq!(door.kept(), 1);
        }
        client.close().await;
        lab.pass(SECOND).await;
        let told = [
            ("connected", Some(1)),
            ("resumed", Some(2)),
            ("resumed", Some(3)),
            ("resumed", Some(4)),
            ("closed", Some(4)),
        ];
        assert_eq!(door.told(), told);
        assert_eq!((door.kept(), visit(&peer)), (0, None));
    });
}

#[test]
fn who_is_gone_before_it_is_let_in_leaves_nothing() {
    Lab::run(async |lab| {
        for says_so in [true, false] {
            let (certificate, door) = (Certificate::new(), Door::default());
            let server = door.server(&lab, &certificate).await.unwrap();
            let client = certificate.client(server.local_addr(), "anna");
            let client = client.start().await.unwrap();
            while door.asked.load(Ordering::Relaxed) == 0 {
                lab.pass(MILLISECOND).await;
            }
            cut(&lab, &client, !says_so);
            drop(client);
            lab.pass(50 * MILLISECOND).await;
            assert_eq!((door.kept(), server.peers().len()), (1, 0));
            door.first_may_pass.store(true, Ordering::Relaxed);
            lab.pass(50 * MILLISECOND).await;
            if !says_so {
                // The server cannot know: its session is kept for as long as any other.
                let peer = server.peers().pop().unwrap();
                assert_eq!((door.kept(), visit(&peer)), (1, Some(1)));
                lab.pass(Config::default().timeouts.retention + 2 * SECOND)
                    .await;
                assert_eq!(door.told(), [("connected", Some(1)), ("closed", Some(1))]);
                assert_eq!(visit(&peer), None);
            } else {
                assert_eq!(door.told(), []);
            }
            assert_eq!((door.kept(), server.peers().len()), (0, 0));
        }
    });
}

#[test]
fn a_decision_that_a_later_attempt_has_overtaken_changes_nothing() {
    Lab::run(async |lab| {
        let (certificate, door) = (Certificate::new(), Door::default());
        let server = door.server(&lab, &certificate).await.unwrap();
        let client = certificate.client(server.local_addr(), "anna");
        let impatient = config(|config| {
            config.timeouts.admission = SECOND;
            config.timeouts.close = SECOND;
        });
        let client = client.config(impatient).start().await.unwrap();
        while door.asked.load(Ordering::Relaxed) == 0 {
            lab.pass(MILLISECOND).await;
        }
        // So the server does not hear that it gives this link up.
        cut(&lab, &client, true);
        client
            .wait_for(|state| matches!(state, State::Reconnecting { .. }))
            .await;
        cut(&lab, &client, false);
        client.connected().await.unwrap();
        assert_eq!((ask(&client).await, door.kept()), (2, 2));
        assert_eq!(server.metrics().await.unwrap().links_closed, 0);
        door.first_may_pass.store(true, Ordering::Relaxed);
        lab.pass(50 * MILLISECOND).await;
        assert_eq!((ask(&client).await, door.kept()), (2, 1));
        assert_eq!(door.told(), [("connected", Some(2))]);
        server.close().await;
        assert_eq!(door.kept(), 0);
    });
}

#[test]
fn a_session_that_takes_anothers_place_has_its_own_finding() {
    Lab::run(async |lab| {
        let (certificate, door) = (Certificate::new(), Door::open());
        let mut config = quick();
        config.limits.sessions_per_client = 1;
        config.sessions_full = SessionsFull::EndOldest;
        let server = door.server(&lab, &certificate).config(config);
        let server = server.await.unwrap();
        let connect = || {
            certificate
                .client(server.local_addr(), "anna")
                .into_future()
        };
        let first = connect().await.unwrap();
        assert_eq!(ask(&first).await, 1);
        let second = connect().await.unwrap();
        assert_eq!((ask(&second).await, door.kept()), (2, 1));
        let told = [
            ("connected", Some(1)),
            ("closed", Some(1)),
            ("connected", Some(2)),
        ];
        assert_eq!(door.told(), told);
    });
}

#[test]
fn a_handler_that_outlives_its_session_still_knows_whom_it_works_for() {
    Lab::run(async |lab| {
        let (certificate, door) = (Certificate::new(), Door::open());
        let server = door.server(&lab, &certificate).await.unwrap();
        let client = certificate.client(server.local_addr(), "anna");
        let client = client.await.unwrap();
        client.send(&Note { number: 1 }).await.unwrap();
        lab.pass(50 * MILLISECOND).await;
        client.close().await;
        lab.pass(SECOND).await;
        assert_eq!((server.peers().len(), door.kept()), (0, 1));
        door.handlers_may_end.store(true, Ordering::Relaxed);
        lab.pass(SECOND).await;
        let told = [
            ("connected", Some(1)),
            ("handler begins", Some(1)),
            ("closed", Some(1)),
            ("handler ends", Some(1)),
        ];
        assert_eq!(door.told(), told);
        assert_eq!(door.kept(), 0);
    });
}

/// A value of the application's that panics as it is dropped.
struct Clumsy;

impl Drop for Clumsy {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

#[test]
fn an_admission_that_panics_as_it_is_given_up_ends_nothing() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let asked = Arc::<AtomicUsize>::default();
        let count = asked.clone();
        let never = move |_: AdmissionRequest| {
            count.fetch_add(1, Ordering::Relaxed);
            let clumsy = Clumsy;
            async move {
                let _clumsy = clumsy;
                pending::<Result<(), Refusal>>().await
            }
        };
        let server = certificate.server().admission(Admit::ask(never));
        let server = server.config(config(|config| config.timeouts.admission = SECOND));
        let server = server.await.unwrap();
        let client = certificate.client(server.local_addr(), "anna");
        let _client = client.start().await.unwrap();
        lab.pass(2 * SECOND).await;
        assert!(asked.load(Ordering::Relaxed) > 0);
        assert_eq!(lab.panics(), 0);
    });
}
