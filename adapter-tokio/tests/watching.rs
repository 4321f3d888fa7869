//! What a node tells of itself: hooks, events, sessions, metrics.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::relay::Relay;
use common::{Authority, Double, Doubled, Note, Other, soon};
use tokio::sync::mpsc;
use trunkline_tokio::{
    Admit, ClientId, Context, DisconnectReason, Event, Hooks, Lane, LinkState, Message, Notice,
    Peer, Service, SlowConsumer, State, Status, Tag,
};

/// Writes down every call.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Hooks for Diary {
    fn connected(&self, _: &Peer) {
        self.note("connected");
    }

    fn resumed(&self, _: &Peer) {
        self.note("resumed");
    }

    fn disconnected(&self, _: &Peer, _: &DisconnectReason, retained: bool) {
        self.note(if retained { "broken" } else { "ended" });
    }

    fn heartbeat_timeout(&self, _: &Peer) {
        self.note("silent");
    }

    fn reconnecting(&self, _: &Peer, _: u32, _: Duration) {
        self.note("reconnecting");
    }

    fn closed(&self, _: &Peer, _: &DisconnectReason) {
        self.note("closed");
    }

    fn message_sent(&self, _: &Peer, lane: Lane, tag: Tag) {
        let what = if tag == Tag::of("test.v1.Note") {
            "note"
        } else {
            "other"
        };
        self.note(format!("sent {what} on {lane}"));
    }

    fn message_received(&self, _: &Peer, _: Lane, _: Tag, size: usize) {
        self.note(format!("received {size}"));
    }
}

/// What may come after a line, in the life of a client's session.
fn follows(line: &str) -> &'static [&'static str] {
    match line {
        "" => &["connected", "broken"],
        "connected" | "resumed" => &["silent", "broken", "ended"],
        "silent" => &["broken"],
        "broken" => &["reconnecting"],
        // The next dial got through, or it did not, or nobody waits for it any more.
        "reconnecting" => &["connected", "resumed", "broken", "ended"],
        "ended" => &["closed"],
        _ => &[],
    }
}

#[tokio::test]
async fn hooks_tell_the_life_of_a_session_in_order() {
    let authority = Authority::new();
    let server = authority.server().admission(Admit::open()).await.unwrap();
    let relay = Relay::to(server.local_addr()).await;
    let mut config = common::quick();
    config.heartbeat.interval = Duration::from_millis(200);
    let diary = Diary::default();
    let client = authority.client(relay.address, "anna").config(config);
    let client = client.hooks(diary.clone()).into_future();
    let client = soon(client).await.unwrap();
    relay.cut();
    soon(client.wait_for(|state| !state.is_connected())).await;
    relay.mend();
    soon(client.connected()).await.unwrap();
    soon(client.close()).await;
    let lines = diary.lines();
    for pair in [&[String::new()], &lines[..]].concat().windows(2) {
        assert!(
            follows(&pair[0]).contains(&pair[1].as_str()),
            "{pair:?} in {lines:?}"
        );
    }
    assert_eq!(lines.iter().filter(|line| *line == "connected").count(), 1);
    assert!(lines.iter().any(|line| line == "resumed"), "{lines:?}");
    assert_eq!(lines.last().unwrap(), "closed");
}

#[tokio::test]
async fn hooks_hear_of_each_message_that_is_sent_if_they_are_to() {
    for report_sent in [true, false] {
        let authority = Authority::new();
        let service = Service::new(())
            .on(async |_: Context<()>, _: Note| ())
            .on(async |_: Context<()>, _: Other| ());
        let server = authority.server().admission(Admit::open());
        let server = server.service(service).await.unwrap();
        let mut config = common::quick();
        config.report_sent = report_sent;
        let diary = Diary::default();
        let client = authority.client(server.local_addr(), "anna").config(config);
        let client = client.hooks(diary.clone()).into_future();
        let client = soon(client).await.unwrap();
        for number in 0..3 {
            let acked = client.send(&Note { number }).acked();
            soon(acked.into_future()).await.unwrap();
        }
        let aside = client
            .send(&Other { number: 3 })
            .lane(Lane::new(2).unwrap());
        soon(aside.acked().into_future()).await.unwrap();
        let sent: Vec<_> = diary
            .lines()
            .into_iter()
            .filter(|line| line.starts_with("sent"))
            .collect();
        let all = [
            "sent note on default",
            "sent note on default",
            "sent note on default",
            "sent other on 2",
        ];
        assert_eq!(sent, if report_sent { &all[..] } else { &[] });
    }
}

#[tokio::test]
async fn a_subscriber_that_is_too_slow_is_told_how_much_it_missed() {
    let authority = Authority::new();
    let service = Service::new(()).on(async |_: Context<()>, _: Note| ());
    let server = authority.server().admission(Admit::open());
    let server = server.service(service).await.unwrap();
    let mut slow = server.events().with_messages();
    let mut fast = server.events().with_messages();
    let reading = tokio::spawn(async move {
        let mut count = 0;
        while let Some(notice) = fast.next().await {
            assert!(matches!(notice, Notice::Event(_)), "{notice:?}");
            count += 1;
        }
        count
    });
    let client = authority.client(server.local_addr(), "anna");
    let client = soon(client.into_future()).await.unwrap();
    // In batches, so that whoever reads has a chance to.
    for _ in 0..50 {
        for number in 0..100 {
            client.send(&Note { number }).await.unwrap();
        }
        let acked = client.send(&Note { number: 100 }).acked();
        soon(acked.into_future()).await.unwrap();
    }
    soon(client.close()).await;
    soon(server.close()).await;
    let all: u64 = soon(reading).await.unwrap();
    assert!(all > 5_050);
    let Some(Notice::Missed(missed)) = slow.next().await else {
        panic!("nothing was missed");
    };
    let mut told = 0;
    let mut last = None;
    while let Some(notice) = slow.next().await {
        assert!(matches!(notice, Notice::Event(_)), "{notice:?}");
        last = Some(notice);
        told += 1;
    }
    assert_eq!((told, missed + told), (4_096, all));
    let closed = matches!(last, Some(Notice::Event(Event::Closed { .. })));
    assert!(closed, "{last:?}");
}

#[tokio::test]
async fn a_slow_client_gets_the_latest_of_each_key() {
    /// Three of these are written ahead of a client that does not read, and ten may wait.
    const SIZE: usize = 100_000;
    let tag = Tag::of("test.v1.Quote");
    let authority = Authority::new();
    let mut config = common::quick();
    config.slow_consumer = SlowConsumer::KeepLatest;
    let server = authority.server().config(config);
    let server = server.admission(Admit::open()).await.unwrap();
    let (sink, mut seen) = mpsc::unbounded_channel();
    let service = Service::new(()).otherwise(move |_, message: Message| {
        sink.send((message.body[0], message.body[1])).unwrap();
        async { Ok(trunkline_tokio::Answer::Ack) }
    });
    let relay = Relay::to(server.local_addr()).await;
    let client = authority.client(relay.address, "anna").service(service);
    let _client = soon(client.into_future()).await.unwrap();
    relay.cut();
    let quote = async |key: u8, version: u8| {
        let mut body = vec![0; SIZE];
        (body[0], body[1]) = (key, version);
        let quote = server.broadcast_raw(Message::new(tag, body));
        let sent = soon(quote.key(u64::from(key)).into_future()).await;
        let sent = sent.unwrap();
        assert_eq!((sent.queued, sent.away), (1, 0));
        sent.dropped
    };
    for key in [7, 8, 9, 1] {
        assert_eq!(quote(key, 1).await, 0);
    }
    // What changes often takes the place of its own past, and of nothing else.
    for version in 1..=50 {
        assert_eq!(quote(2, version).await, usize::from(version > 1));
    }
    relay.mend();
    for expected in [(7, 1), (8, 1), (9, 1), (1, 1), (2, 50)] {
        assert_eq!(soon(seen.recv()).await, Some(expected));
    }
    // Nothing else was on its way: the next one is next.
    quote(3, 1).await;
    assert_eq!(soon(seen.recv()).await, Some((3, 1)));
}

#[tokio::test]
async fn metrics_measure_what_happened() {
    let authority = Authority::new();
    let service = Service::new(())
        .on(async |_: Context<()>, _: Note| ())
        .on_request(async |_: Context<()>, question: Double| {
            let number = question.number * 2;
            Ok::<_, Status>(Doubled { number })
        });
    let server = authority.server().admission(Admit::open());
    let server = server.service(service).await.unwrap();
    let mut clients = Vec::new();
    for name in ["anna", "otto"] {
        let client = authority.client(server.local_addr(), name);
        let client = soon(client.into_future()).await.unwrap();
        for number in 0..10 {
            let acked = client.send(&Note { number }).acked();
            soon(acked.into_future()).await.unwrap();
        }
        for number in 0..5 {
            let asked = client.request::<Doubled>(&Double { number });
            soon(asked.into_future()).await.unwrap();
        }
        clients.push(client);
    }
    let there = soon(server.metrics()).await.unwrap();
    assert_eq!((there.sessions, there.connected), (2, 2));
    assert_eq!((there.messages_received, there.requests_received), (20, 10));
    assert_eq!((there.replies_sent, there.acks_sent), (10, 20));
    assert!(there.messages_per_second > 0.0);
    assert!(there.datagrams_in > 0 && there.bytes_out > 0);
    let here = soon(clients[0].metrics()).await.unwrap();
    assert_eq!((here.messages_sent, here.requests_sent), (10, 5));
    let counters: std::collections::BTreeMap<_, _> = here.counters().collect();
    assert_eq!(
        (counters["messages_sent"], counters["requests_sent"]),
        (10, 5)
    );
    assert_eq!((here.acks_received, here.replies_received), (10, 5));
    assert_eq!((here.promises, here.outbox_bytes), (0, 0));
    assert_eq!(here.latency_count, 15);
    assert!(Duration::ZERO < here.latency_mean && here.latency_mean <= here.latency_max);
    // A quantile is exact within a hundredth.
    assert!(here.latency_p50 <= here.latency_p99);
    assert!(here.latency_p99 <= here.latency_max + here.latency_max / 100);
    let (last, within) = here.latency_buckets().last().unwrap();
    assert_eq!((last, within), (Duration::from_secs(60), 15));
    assert_eq!(here.latency_sum / 15, here.latency_mean);
    let gauges: std::collections::BTreeMap<_, _> = there.gauges().collect();
    assert_eq!((gauges["sessions"], gauges["connected"]), (2.0, 2.0));
    let text = there.open_metrics().to_string();
    for sample in ["sessions 2.0", "messages_received_total 20"] {
        assert!(text.contains(&format!("\ntrunkline_{sample}\n")), "{text}");
    }
    soon(clients.remove(1).close()).await;
    let there = soon(server.metrics()).await.unwrap();
    assert_eq!((there.sessions, there.connected), (1, 1));
    assert_eq!((there.sessions_opened, there.sessions_closed), (2, 1));
}

#[tokio::test]
async fn a_server_knows_its_clients() {
    let authority = Authority::new();
    let service = Service::new(()).on(async |_: Context<()>, _: Note| ());
    let server = authority.server().admission(Admit::open());
    let server = server.service(service).await.unwrap();
    assert!(server.clients().await.unwrap().is_empty());
    let anna = authority.client(server.local_addr(), "anna");
    let anna = soon(anna.into_future()).await.unwrap();
    let otto = authority.client(server.local_addr(), "otto");
    let otto = soon(otto.into_future()).await.unwrap();
    for number in 0..3 {
        let acked = anna.send(&Note { number }).acked();
        soon(acked.into_future()).await.unwrap();
    }
    let mut infos = soon(server.clients()).await.unwrap();
    infos.sort_by(|a, b| a.client.as_str().cmp(b.client.as_str()));
    let ids: Vec<_> = infos.iter().map(|info| info.client.as_str()).collect();
    assert_eq!(ids, ["anna", "otto"]);
    let received: Vec<_> = infos.iter().map(|info| info.received).collect();
    assert_eq!(received, [3, 0]);
    for (info, client) in infos.iter().zip([&anna, &otto]) {
        assert_eq!((info.state, info.epoch), (LinkState::Connected, 1));
        assert_eq!(info.address.unwrap().port(), client.local_addr().port());
        assert!(info.connected_since.is_some() && info.last_heard.is_some());
        assert!(info.round_trip_time.is_some());
        assert_eq!(
            (info.queued_bytes, info.promises, info.deliveries),
            (0, 0, 0)
        );
        let peer = server.client(&info.client).unwrap();
        assert_eq!(peer.session(), info.session);
        assert_eq!(server.peer(info.session).unwrap().client_id(), &info.client);
        assert_eq!(soon(peer.info()).await.unwrap().unwrap().id, info.id);
    }
    assert_eq!(server.peers().len(), 2);
    soon(otto.close()).await;
    assert_eq!(soon(server.clients()).await.unwrap().len(), 1);
    let gone = ClientId::new("otto").unwrap();
    assert!(server.client(&gone).is_none() && server.peers_of(&gone).is_empty());
    assert!(server.peer(infos[1].session).is_none());
    assert!(matches!(otto.state(), State::Closed(_)));
}

#[tokio::test]
async fn every_session_of_a_client_is_found() {
    let authority = Authority::new();
    let server = authority.server().admission(Admit::open());
    let server = server.service(Service::new(())).await.unwrap();
    let anna = ClientId::new("anna").unwrap();
    let mut clients = Vec::new();
    for _ in 0..3 {
        let client = authority.client(server.local_addr(), "anna");
        clients.push(soon(client.into_future()).await.unwrap());
    }
    let ports = |peers: &[Peer]| {
        let addresses = peers.iter().map(|peer| peer.address().unwrap().port());
        addresses.collect::<Vec<_>>()
    };
    let peers = server.peers_of(&anna);
    let theirs = clients.iter().map(|client| client.local_addr().port());
    assert_eq!(ports(&peers), theirs.collect::<Vec<_>>());
    for peer in &peers {
        let found = server.peer(peer.session()).unwrap();
        assert_eq!(found.address(), peer.address());
    }
    soon(clients.pop().unwrap().close()).await;
    assert_eq!(server.peers_of(&anna).len(), 2);
    let newest = server.client(&anna).unwrap();
    assert_eq!(newest.session(), peers[1].session());
}

/// Tells everybody who came.
struct Doorman;

impl Hooks for Doorman {
    fn connected(&self, peer: &Peer) {
        let (server, name) = (peer.server(), peer.client_id().to_string());
        tokio::spawn(async move {
            let number = name.len() as u64;
            server.broadcast(&Note { number }).await.unwrap();
        });
    }
}

#[tokio::test]
async fn a_hook_reaches_the_server() {
    let authority = Authority::new();
    let server = authority.server().admission(Admit::open()).hooks(Doorman);
    let server = server.await.unwrap();
    let (told, mut hears) = mpsc::unbounded_channel();
    let service = Service::new(told).on(
        async |context: Context<mpsc::UnboundedSender<u64>>, note: Note| {
            context.state().send(note.number).unwrap();
        },
    );
    let anna = authority
        .client(server.local_addr(), "anna")
        .service(service);
    let _anna = soon(anna.into_future()).await.unwrap();
    let somebody = authority.client(server.local_addr(), "somebody");
    let _somebody = soon(somebody.into_future()).await.unwrap();
    assert_eq!(soon(hears.recv()).await, Some(4));
    assert_eq!(soon(hears.recv()).await, Some(8));
}
