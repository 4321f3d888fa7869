//! A conversation with some of everything, recorded.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::PrivatePkcs8KeyDer;
use trunkline_core::trace::{End, Reader, Record, Report, Writer, replay};
use trunkline_core::{
    Admission, Audience, CloseCode, DrainPlan, Event, GroupName, Identity, Message, Node, Roots,
    Tag,
};
use trunkline_testkit::{Certificates, NodeIndex, Recording, World, echo};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A certificate with an ECDSA key: each of its signatures holds randomness that no seed decides. Also
/// what trusts it.
pub(crate) fn ecdsa_for(name: &str) -> (Roots, Identity) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let der = certificate.der().clone();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let roots = Roots::from_der(vec![der.clone()], "the test").unwrap();
    (
        roots,
        Identity::from_der(vec![der], key, "the test").unwrap(),
    )
}

/// A server's certificate of that kind.
pub(crate) fn ecdsa() -> Certificates {
    let mut certificates = Certificates::new().unwrap();
    (certificates.roots, certificates.server) = ecdsa_for("localhost");
    certificates
}

/// Answers, and lets in whoever asks.
fn application(node: &mut Node, now: Instant, event: &Event) {
    if let Event::Admission(request) = event {
        node.admit(now, request.link).unwrap();
    }
    echo(node, now, event);
}

/// A server and three clients on a bad network that is cut for a while, with some of everything that
/// a node can be told to do. Returns the traces of all four, the server's first.
pub(crate) fn conversation(seed: u64, certificates: &Certificates) -> Vec<Vec<u8>> {
    conversation_at(Recording::Wire, seed, certificates)
}

/// The same, recorded so.
pub(crate) fn conversation_at(
    recording: Recording,
    seed: u64,
    certificates: &Certificates,
) -> Vec<Vec<u8>> {
    let mut world = World::with_certificates(seed, certificates);
    world.record_at(recording);
    world.admission = Admission::Ask;
    world.config().report_sent = true;
    world.path.delay = Duration::from_millis(10);
    world.path.jitter = Duration::from_millis(8);
    world.path.loss = 0.05;
    world.path.duplicate = 0.02;
    let server = world.server();
    let clients: Vec<NodeIndex> = (0..3).map(|_| world.client()).collect();
    let sessions: Vec<_> = ["anna", "ben", "carla"]
        .iter()
        .zip(&clients)
        .map(|(name, client)| world.connect(*client, server, name))
        .collect();
    world.run(10 * SECOND, application);
    let group = GroupName::new("readers").unwrap();
    let now = world.now();
    let of_server: Vec<_> = world.node(server).sessions().map(|s| s.session).collect();
    assert_eq!(of_server.len(), 3, "all are let in");
    for session in &of_server {
        world.node(server).join(now, *session, &group).unwrap();
    }
    let mut promises = Vec::new();
    for n in 0..60_u32 {
        for (client, session) in clients.iter().zip(&sessions) {
            let body = Bytes::from(n.to_be_bytes().repeat(1 + 100 * (n as usize % 7)));
            let tag = Tag::of("test.Said");
            let now = world.now();
            let node = world.node(*client);
            node.send(now, *session, Message::new(tag, body.clone()))
                .unwrap();
            node.send_best_effort(now, *session, Message::new(tag, body), Some(u64::from(n)))
                .unwrap();
            promises.push((*client, world.request(*client, *session, b"ask")));
            promises.push((*client, world.send_acked(*client, *session, b"said")));
        }
        let now = world.now();
        let audience = match n % 2 {
            0 => Audience::Everyone,
            _ => Audience::Group(group.clone()),
        };
        let news = Message::new(Tag::of("test.News"), vec![n as u8; 300]);
        let node = world.node(server);
        match of_server.get(n as usize % 8) {
            None => node.broadcast(now, &audience, news, None).unwrap(),
            Some(except) => node
                .broadcast_except(now, &audience, *except, news, None)
                .unwrap(),
        };
        world.run(Duration::from_millis(20), application);
        if n == 30 {
            world.path.cut = true;
            world.run(60 * SECOND, application);
            world.path.cut = false;
        }
    }
    world.run(120 * SECOND, application);
    for (client, promise) in promises {
        let outcome = world.outcome(client, promise);
        assert!(
            matches!(outcome.as_deref(), Some("Acked" | "Replied ask")),
            "{promise:?} settled as {outcome:?}"
        );
    }
    for client in &clients {
        let resumed = |event: &Event| matches!(event, Event::Connected { resumed: true, .. });
        assert!(world.log(*client).iter().any(|(_, event)| resumed(event)));
    }
    let now = world.now();
    let node = world.node(server);
    node.leave(now, of_server[0], &group);
    node.close(now, of_server[0], CloseCode::NORMAL, "enough")
        .unwrap();
    world.run(SECOND, application);
    let plan = DrainPlan {
        deadline: 3 * SECOND,
        retry_after: Some(SECOND),
        alternative: None,
    };
    let now = world.now();
    world.node(server).drain(now, plan).unwrap();
    world.run(10 * SECOND, application);
    let all: Vec<NodeIndex> = [server].into_iter().chain(clients).collect();
    for index in &all {
        world.kill(*index);
    }
    all.iter()
        .map(|index| world.traces(*index).pop().unwrap())
        .collect()
}

/// A request across a cut, between a server that lets in whom a certificate names and a client with one.
/// Returns the traces of both, the server's first.
pub(crate) fn with_client_certificate(recording: Recording) -> Vec<Vec<u8>> {
    let mut world = World::with_certificates(15, &ecdsa());
    world.record_at(recording);
    world.admission = Admission::MutualTls;
    let (roots, identity) = ecdsa_for("anna");
    world.client_roots = Some(roots);
    world.client_identity = Some(identity);
    let server = world.server();
    let client = world.client();
    let session = world.connect(client, server, "anna");
    world.run(SECOND, echo);
    world.path.cut = true;
    let promise = world.request(client, session, b"ask");
    world.run(60 * SECOND, echo);
    world.path.cut = false;
    world.run(60 * SECOND, echo);
    let outcome = world.outcome(client, promise);
    assert_eq!(outcome.as_deref(), Some("Replied ask"));
    let mut trace = |index| {
        world.kill(index);
        world.traces(index).pop().unwrap()
    };
    vec![trace(server), trace(client)]
}

pub(crate) fn replayed(trace: &[u8]) -> Report {
    replay(trace, Instant::now()).unwrap()
}

/// All records of a trace, in words.
pub(crate) fn records(trace: &[u8]) -> Vec<String> {
    let mut reader = Reader::new(trace).unwrap();
    let mut records = Vec::new();
    while let Some((number, record)) = reader.next_record().unwrap() {
        records.push(format!("{number} {record:?}"));
    }
    records
}

/// A trace's first records, and that end.
pub(crate) fn ended(trace: &[u8], kept: u64, end: Option<End>) -> Vec<u8> {
    ended_without(trace, None, kept, end)
}

/// The same without one of them.
pub(crate) fn ended_without(
    trace: &[u8],
    without: Option<u64>,
    kept: u64,
    end: Option<End>,
) -> Vec<u8> {
    let mut reader = Reader::new(trace).unwrap();
    let mut writer = Writer::new(Vec::new(), reader.header()).unwrap();
    for _ in 0..kept {
        let (number, record) = reader.next_record().unwrap().unwrap();
        if Some(number) != without {
            writer.write(&record).unwrap();
        }
    }
    if let Some(end) = end {
        writer.write(&Record::End(end)).unwrap();
    }
    writer.into_inner()
}

/// A trace with its records changed by `change`, which gets the number of each.
pub(crate) fn changed_records(
    trace: &[u8],
    mut change: impl FnMut(u64, &mut Record<'_>),
) -> Vec<u8> {
    let mut reader = Reader::new(trace).unwrap();
    let mut writer = Writer::new(Vec::new(), reader.header()).unwrap();
    while let Some((number, mut record)) = reader.next_record().unwrap() {
        change(number, &mut record);
        writer.write(&record).unwrap();
    }
    writer.into_inner()
}
