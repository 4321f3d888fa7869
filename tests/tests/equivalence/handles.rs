//! The scenario with the driver's handles, on whatever runtimes they stand for.

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context as Waiting, Poll};
use std::time::Duration;

use trunkline_core::driver::{
    Acked, Admit, Client, Context, Events, Notice, Peer, Platform, PromiseError, Request, Server,
    Service,
};
use trunkline_core::{ClientId, DrainPlan, GroupName, Lane, Status, StatusCode};
use trunkline_testkit::Certificates;

use crate::journal::{Journal, label, result_of};
use crate::relay::Relay;
use crate::script::messages::{Answer, Ask, Bad, Note, Slow, Stuck, Tick, Unknown};
use crate::script::{BAD, CLIENT, Kind, Phase, SCRIPT, Side, Step};
use crate::{PATIENCE, config, differs};

/// Plays the script with a client of one platform and a server of another, or of the same; gives
/// what both applications have seen.
pub async fn play<C: Platform, S: Platform>(certificates: Certificates) -> Vec<String> {
    let journal = Journal::default();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::<S>::bind(any)
        .identity(certificates.server)
        .admission(Admit::open())
        .service(service(Side::Server, journal.clone()))
        .config(config())
        .await
        .unwrap();
    let relay = Relay::to(server.local_addr()).unwrap();
    let at_server = server.events();
    let client = Client::<C>::connect(relay.address().to_string())
        .server_name("localhost")
        .roots(certificates.roots)
        .client_id(CLIENT)
        .service(service(Side::Client, journal.clone()))
        .config(config())
        .start()
        .await
        .unwrap();
    let mut play = Play {
        events: [(Side::Client, client.events()), (Side::Server, at_server)],
        promises: BTreeMap::new(),
        journal,
        relay,
        client,
        server,
    };
    for phase in SCRIPT {
        for step in phase.steps {
            play.perform(*step).await;
        }
        play.wait_for(phase).await;
        play.journal.turn_page();
    }
    play.server.close().await;
    play.journal.past()
}

/// What the application does with what it gets.
fn service(side: Side, journal: Journal) -> Service<(Side, Journal)> {
    type Seen = Context<(Side, Journal)>;
    async fn note(seen: Seen, note: Note) {
        let (side, journal) = seen.state();
        journal.message(*side, Kind::Note, seen.lane(), note.number);
    }
    async fn tick(seen: Seen, tick: Tick) {
        let (side, journal) = seen.state();
        journal.message(*side, Kind::Tick, seen.lane(), tick.number);
    }
    async fn bad(_: Seen, _: Bad) -> Result<Answer, Status> {
        Err(Status::new(StatusCode(BAD), "bad"))
    }
    async fn ask(_: Seen, ask: Ask) -> Result<Answer, Status> {
        let number = 2 * ask.number;
        Ok(Answer { number })
    }
    async fn slow(seen: Seen, slow: Slow) -> Result<Answer, Status> {
        let (side, journal) = seen.state();
        let label = label(Kind::Slow, slow.number);
        journal.write(*side, "requests", format!("{label} started"));
        seen.cancelled().await;
        journal.write(*side, "requests", format!("{label} given up"));
        Err(Status::new(StatusCode::CANCELLED, ""))
    }
    async fn stuck(seen: Seen, _: Stuck) -> Result<Answer, Status> {
        seen.cancelled().await;
        Err(Status::new(StatusCode::CANCELLED, ""))
    }
    Service::new((side, journal))
        .on(note)
        .on(tick)
        .on_request(bad)
        .on_request(ask)
        .on_request(slow)
        .on_request(stuck)
}

type Promise = Pin<Box<dyn Future<Output = String> + Send>>;

struct Play<C, S> {
    client: Client<C>,
    server: Server<S>,
    relay: Relay,
    journal: Journal,
    events: [(Side, Events); 2],
    promises: BTreeMap<(Side, String), Promise>,
}

impl<C: Platform, S: Platform> Play<C, S> {
    fn peer(&self, from: Side) -> Peer {
        match from {
            Side::Client => self.client.peer().clone(),
            Side::Server => self.server.client(&ClientId::new(CLIENT).unwrap()).unwrap(),
        }
    }

    async fn perform(&mut self, step: Step) {
        match step {
            Step::Heal => self.relay.open(true),
            Step::Cut => self.relay.open(false),
            Step::Send(from, Kind::Note, number, lane) => {
                let sent = self.peer(from).send(&Note { number }).lane(numbered(lane));
                sent.await.unwrap();
            }
            Step::BestEffort(from, Kind::Tick, number) => {
                let sent = self.peer(from).send(&Tick { number }).best_effort();
                sent.await.unwrap();
            }
            Step::Acked(from, kind, number, lane) => {
                let peer = self.peer(from);
                let outgoing = match kind {
                    Kind::Note => peer.send(&Note { number }),
                    Kind::Bad => peer.send(&Bad { number }),
                    Kind::Unknown => peer.send(&Unknown { number }),
                    other => panic!("{other:?} is not for acks"),
                };
                let promise = acked(outgoing.lane(numbered(lane)).acked());
                self.keep(from, label(kind, number), promise).await;
            }
            Step::Request(from, kind, number, timeout) => {
                let peer = self.peer(from);
                let request = match kind {
                    Kind::Ask => peer.request(&Ask { number }),
                    Kind::Bad => peer.request(&Bad { number }),
                    Kind::Slow => peer.request(&Slow { number }),
                    Kind::Stuck => peer.request(&Stuck { number }),
                    Kind::Unknown => peer.request(&Unknown { number }),
                    other => panic!("{other:?} is not a request"),
                };
                let promise = replied(request, timeout);
                self.keep(from, label(kind, number), promise).await;
            }
            Step::Cancel(from, kind, number) => {
                let dropped = self.promises.remove(&(from, label(kind, number)));
                assert!(dropped.is_some(), "{kind:?} {number} is under way");
            }
            Step::Join(group) => {
                let group = self.server.group(&GroupName::new(group).unwrap());
                group.join(&self.peer(Side::Server)).await.unwrap();
            }
            Step::Broadcast(group, number) => {
                let group = self.server.group(&GroupName::new(group).unwrap());
                let sent = group.broadcast(&Tick { number }).await.unwrap();
                self.journal.broadcast(number, sent);
            }
            Step::BroadcastExcept(group, number) => {
                let group = self.server.group(&GroupName::new(group).unwrap());
                let sent = group.broadcast(&Tick { number });
                let sent = sent.except(&self.peer(Side::Server)).await.unwrap();
                self.journal.broadcast(number, sent);
            }
            Step::Drain(deadline, retry_after) => {
                let (server, journal) = (self.server.handle().clone(), self.journal.clone());
                let drain = async move {
                    let plan = DrainPlan {
                        deadline,
                        retry_after: Some(retry_after),
                        alternative: None,
                    };
                    let drained = server.drain_with(plan).await.unwrap();
                    journal.drained(drained.finished, drained.cut_off);
                    String::new()
                };
                self.keep(Side::Server, String::new(), drain).await;
            }
            Step::Close => drop(self.client.close().await),
            other => panic!("nothing does {other:?}"),
        }
    }

    /// Starts waiting for what becomes of a promise.
    async fn keep(
        &mut self,
        from: Side,
        label: String,
        promise: impl Future<Output = String> + Send + 'static,
    ) {
        let mut promise: Promise = Box::pin(promise);
        // The first poll sends it; what comes of it is looked for later.
        let early = poll_fn(|cx| Poll::Ready(promise.as_mut().poll(cx))).await;
        assert!(early.is_pending(), "{label} settled at once");
        self.promises.insert((from, label), promise);
    }

    /// Waits until both applications have seen what they must, and nothing else.
    async fn wait_for(&mut self, phase: &Phase) {
        let platform = C::current().unwrap();
        let mut patience = platform.sleep(PATIENCE);
        poll_fn(|cx| {
            self.look(cx);
            let seen = self.journal.phase(Some(cx.waker()));
            if seen == phase.then {
                return Poll::Ready(());
            }
            if patience.as_mut().poll(cx).is_ready() {
                differs(&seen, phase.then);
            }
            Poll::Pending
        })
        .await;
    }

    /// Writes down what has become of promises and sessions.
    fn look(&mut self, cx: &mut Waiting<'_>) {
        let Self {
            promises, journal, ..
        } = self;
        promises.retain(|(side, label), promise| match promise.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(outcome) => {
                if !label.is_empty() {
                    journal.outcome(*side, label, &outcome);
                }
                false
            }
        });
        for (side, events) in &mut self.events {
            while let Poll::Ready(Some(notice)) = pin!(events.next()).as_mut().poll(cx) {
                match notice {
                    Notice::Event(event) => self.journal.event(*side, &event),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

fn numbered(lane: u8) -> Lane {
    Lane::new(lane).unwrap()
}

async fn acked(acked: Acked) -> String {
    result_of(acked.into_future().await.map(|()| None))
}

async fn replied(request: Request<Answer>, timeout: Duration) -> String {
    let request = if timeout.is_zero() {
        request
    } else {
        request.timeout(timeout)
    };
    let reply: Result<Answer, PromiseError> = request.into_future().await;
    result_of(reply.map(|answer| Some(answer.number)))
}
