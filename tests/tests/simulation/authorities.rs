//! Whom nodes trust is changed while they run.

use std::time::{Duration, Instant, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use trunkline_core::tap::Signature;
use trunkline_core::trace::{Reader, Record, replay};
use trunkline_core::{
    Admission, ClientRole, CloseCode, Config, ConfigError, DisconnectReason, Event, Identity, Node,
    Origin, Roles, Roots, Seed, ServerRole, SessionKey, TlsError,
};
use trunkline_testkit::{Authority, Certificates, NodeIndex, Recording, World, echo};

use crate::SECOND;

const TEN_YEARS: Duration = Duration::from_secs(3_650 * 86_400);
/// No certificate of the tests is valid then.
const FIFTY_CENTURIES: Duration = Duration::from_secs(5_000 * 365 * 86_400);

fn issue(authority: &Authority, name: &str) -> Identity {
    authority.issue(&[name]).unwrap().identity().unwrap()
}

/// Trusts all of them.
fn roots(authorities: &[&Authority]) -> Roots {
    let certificates = authorities.iter().map(|one| one.certificate());
    Roots::from_der(certificates.collect(), "authorities").unwrap()
}

fn old_and_new() -> [Authority; 2] {
    ["old", "new"].map(|name| Authority::named(name).unwrap())
}

/// How often a node's sessions got a link.
fn connected(world: &World, node: NodeIndex) -> usize {
    world.count(node, |event| matches!(event, Event::Connected { .. }))
}

/// That the last link of a node, or a dial for one, ended because of a certificate.
#[track_caller]
fn assert_not_trusted(world: &World, node: NodeIndex) {
    let last = world
        .log(node)
        .iter()
        .rev()
        .find_map(|(_, event)| match event {
            Event::Disconnected { reason, .. } | Event::Closed { reason, .. } => Some(reason),
            _ => None,
        });
    assert!(
        matches!(last, Some(DisconnectReason::Certificate(_))),
        "{:?}",
        world.log(node)
    );
}

#[track_caller]
fn assert_answered(world: &mut World, client: NodeIndex, session: SessionKey) {
    let promise = world.request(client, session, b"still there?");
    world.run(SECOND, echo);
    let outcome = world.outcome(client, promise);
    assert_eq!(outcome.as_deref(), Some("Replied still there?"));
}

fn set_client_roots(world: &mut World, server: NodeIndex, roots: Roots) {
    let now = world.now();
    world.node(server).set_client_roots(now, roots).unwrap();
}

fn set_server_roots(world: &mut World, client: NodeIndex, roots: Roots) {
    let now = world.now();
    world.node(client).set_server_roots(now, roots).unwrap();
}

/// Ends the recorded nodes; each of their recordings is to replay. Returns them.
fn replayed(mut world: World, nodes: &[NodeIndex]) -> Vec<Vec<u8>> {
    let mut replayed = |node: &NodeIndex| {
        world.kill(*node);
        let trace = world.traces(*node).pop().unwrap();
        let report = replay(&trace[..], Instant::now()).unwrap();
        assert!(report.is_identical(), "{report}");
        trace
    };
    nodes.iter().map(&mut replayed).collect()
}

/// How often a private key signed, by a wire trace.
fn signatures(trace: &[u8]) -> usize {
    let mut reader = Reader::new(trace).unwrap();
    let mut made = 0;
    while let Some((_, record)) = reader.next_record().unwrap() {
        made += usize::from(matches!(record, Record::Signature(Signature::Made { .. })));
    }
    made
}

#[test]
fn a_server_lets_in_whom_its_new_authority_has_signed_for_and_links_go_on() {
    for recording in [Recording::Wire, Recording::Link] {
        let mut world = World::new(1);
        world.record_at(recording);
        let [old, new] = old_and_new();
        world.admission = Admission::MutualTls;
        world.client_roots = Some(roots(&[&old]));
        let server = world.server();
        let mut client_of = |authority, name| {
            world.client_identity = Some(issue(authority, name));
            world.client()
        };
        let before = client_of(&old, "before");
        let late = client_of(&old, "late");
        let early = client_of(&new, "early");
        let after = client_of(&new, "after");
        let session = world.connect(before, server, "before");
        world.connect(early, server, "early");
        world.run(4 * SECOND, echo);
        assert_eq!(connected(&world, before), 1);
        assert_not_trusted(&world, early);

        set_client_roots(&mut world, server, roots(&[&new]));
        // A new certificate of its own brings none of them back.
        let (now, identity) = (world.now(), issue(&world_authority(), "localhost"));
        let node = world.node(server);
        node.set_server_identity(now, identity).unwrap();
        world.connect(late, server, "late");
        world.connect(after, server, "after");
        assert_answered(&mut world, before, session);
        world.run(4 * SECOND, echo);
        assert_eq!([late, after].map(|node| connected(&world, node)), [0, 1]);
        assert_not_trusted(&world, late);

        // Its session does not come back by the old authority either, and by the new one it does.
        world.path.cut = true;
        world.run(60 * SECOND, echo);
        world.path.cut = false;
        world.run(60 * SECOND, echo);
        assert_eq!([before, after].map(|node| connected(&world, node)), [1, 2]);
        assert_not_trusted(&world, before);
        let now = world.now();
        let identity = issue(&new, "before");
        let node = world.node(before);
        node.set_client_identity(now, identity).unwrap();
        world.run(60 * SECOND, echo);
        assert_answered(&mut world, before, session);
        replayed(world, &[server, before, late, early, after]);
    }
}

#[test]
fn a_client_trusts_its_new_authority_from_its_next_dial_on() {
    for recording in [Recording::Wire, Recording::Link] {
        let mut world = World::new(2);
        world.record_at(recording);
        let [_, new] = old_and_new();
        let server = world.server();
        let client = world.client();
        let session = world.connect(client, server, "anna");
        world.run(SECOND, echo);
        set_server_roots(&mut world, client, new.roots().unwrap());
        let (now, identity) = (world.now(), issue(&new, "anna"));
        let node = world.node(client);
        node.set_client_identity(now, identity).unwrap();
        assert_answered(&mut world, client, session);
        assert_eq!(world.disconnects(client), []);
        world.connect(client, server, "otto");
        world.run(4 * SECOND, echo);
        assert_eq!(connected(&world, client), 1);
        assert_not_trusted(&world, client);

        let now = world.now();
        let identity = issue(&new, "localhost");
        let node = world.node(server);
        node.set_server_identity(now, identity).unwrap();
        world.path.cut = true;
        world.run(60 * SECOND, echo);
        world.path.cut = false;
        world.run(60 * SECOND, echo);
        assert_eq!(connected(&world, client), 2);
        assert_answered(&mut world, client, session);
        replayed(world, &[server, client]);
    }
}

/// A server and a client that resume their TLS sessions, and have done so once: each has signed once.
fn resuming(admission: Admission, old: &Authority) -> (World, NodeIndex, NodeIndex) {
    let mut world = World::new(3);
    world.record();
    world.config().transport.tls_resumption = true;
    world.admission = admission;
    world.client_roots = Some(old.roots().unwrap());
    world.client_identity = Some(issue(old, "anna"));
    let server = world.server();
    let client = world.client();
    for _ in 0..2 {
        world.connect(client, server, "anna");
        world.run(SECOND, echo);
    }
    assert_eq!(connected(&world, client), 2);
    for node in [server, client] {
        assert_eq!(signatures(&world.traces(node)[0]), 1);
    }
    (world, server, client)
}

#[test]
fn no_tls_session_from_before_speaks_for_a_client_whose_authority_was_removed() {
    for admission in [Admission::MutualTls, Admission::Open] {
        let [old, new] = old_and_new();
        let (mut world, server, client) = resuming(admission, &old);
        set_client_roots(&mut world, server, new.roots().unwrap());
        world.connect(client, server, "anna");
        world.run(10 * SECOND, echo);
        assert_eq!(connected(&world, client), 2);
        assert_not_trusted(&world, client);
        replayed(world, &[server, client]);
    }
}

/// Not even one that would be let in: it has to show its certificate again, once.
#[test]
fn after_a_change_of_roots_tls_sessions_begin_anew() {
    type Change = fn(&mut World, NodeIndex, NodeIndex, &[&Authority]);
    let changes: [Change; 2] = [
        |world, server, _, all| set_client_roots(world, server, roots(all)),
        |world, _, client, all| {
            let own = world_authority();
            let all: Vec<_> = all.iter().copied().chain([&own]).collect();
            set_server_roots(world, client, roots(&all));
        },
    ];
    for change in changes {
        let [old, new] = old_and_new();
        let (mut world, server, client) = resuming(Admission::MutualTls, &old);
        change(&mut world, server, client, &[&old, &new]);
        for _ in 0..2 {
            world.connect(client, server, "anna");
            world.run(SECOND, echo);
        }
        assert_eq!(connected(&world, client), 4);
        for trace in replayed(world, &[server, client]) {
            assert_eq!(signatures(&trace), 2);
        }
    }
}

/// That of the servers in worlds.
fn world_authority() -> Authority {
    Certificates::new().unwrap().authority
}

#[test]
fn no_tls_session_from_before_speaks_for_a_server_whose_authority_was_removed() {
    let [old, new] = old_and_new();
    let (mut world, server, client) = resuming(Admission::MutualTls, &old);
    set_server_roots(&mut world, client, new.roots().unwrap());
    world.connect(client, server, "anna");
    world.run(10 * SECOND, echo);
    assert_eq!(connected(&world, client), 2);
    assert_not_trusted(&world, client);

    // Nor does it when the authority is trusted again.
    set_server_roots(&mut world, client, roots(&[&world_authority()]));
    world.connect(client, server, "anna");
    world.run(SECOND, echo);
    assert_eq!(connected(&world, client), 3);
    let [_, of_client] = &replayed(world, &[server, client])[..] else {
        panic!("two traces")
    };
    assert_eq!(signatures(of_client), 2);
}

#[test]
fn a_server_that_asked_for_no_certificates_asks_for_them_when_it_has_roots() {
    let mut world = World::new(4);
    let [old, new] = old_and_new();
    let server = world.server();
    let without = world.client();
    world.client_identity = Some(issue(&old, "anna"));
    let with = world.client();
    world.connect(with, server, "anna");
    world.run(SECOND, echo);
    assert_eq!(connected(&world, with), 1);
    set_client_roots(&mut world, server, new.roots().unwrap());
    world.connect(with, server, "anna");
    world.connect(without, server, "otto");
    world.run(10 * SECOND, echo);
    assert_eq!([with, without].map(|node| connected(&world, node)), [1, 1]);
    assert_not_trusted(&world, with);
}

#[test]
fn who_does_not_serve_or_dial_has_no_roots_to_change() {
    let mut world = World::new(5);
    let (server, client) = (world.server(), world.client());
    let roots = || world_authority().roots().unwrap();
    let now = world.now();
    let refused = [
        world.node(client).set_client_roots(now, roots()),
        world.node(server).set_server_roots(now, roots()),
    ];
    for (refused, role) in refused.into_iter().zip(["roles.server", "roles.client"]) {
        let Err(ConfigError::OutOfRange { field, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(field, role);
    }
    world.connect(client, server, "anna");
    world.run(SECOND, echo);
    assert_eq!(connected(&world, client), 1);
}

/// When the short-lived ones run out: at the end of 1 January 2030's first second.
const IN_2030: Duration = Duration::from_secs(1_893_456_000);

/// A certificate that signs itself and runs out in the year 2030, and whoever trusts it.
fn short_lived(name: &str) -> (Identity, Roots) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let chain = vec![certificate.der().clone()];
    let roots = Roots::from_der(chain.clone(), "the short-lived one").unwrap();
    (Identity::from_der(chain, key, "it").unwrap(), roots)
}

fn is_expired(refused: &Result<(), ConfigError>) -> bool {
    matches!(refused, Err(ConfigError::Tls(TlsError::Expired { .. })))
}

/// TLS hands the certificate of a resumed session on to the next, and looks at it no more.
#[test]
fn no_tls_session_speaks_for_a_client_whose_certificate_has_expired() {
    let hour = Duration::from_secs(3_600);
    let admissions = [Admission::MutualTls, Admission::Open, Admission::Ask];
    let levels = [Recording::Wire, Recording::Link];
    for (admission, level) in admissions
        .iter()
        .flat_map(|one| levels.map(|two| (one, two)))
    {
        let mut world = World::new(8);
        world.record_at(level);
        world.config().transport.tls_resumption = true;
        world.admission = *admission;
        world.wall = SystemTime::UNIX_EPOCH + IN_2030 - hour;
        let (identity, roots) = short_lived("anna");
        world.client_identity = Some(identity);
        world.client_roots = Some(roots);
        let server = world.server();
        let client = world.client();
        let dial = |world: &mut World| {
            world.connect(client, server, "anna");
            world.run(SECOND, |node, now, event| {
                if let Event::Admission(request) = event {
                    node.admit(now, request.link).unwrap();
                }
                echo(node, now, event);
            });
        };
        for _ in 0..2 {
            dial(&mut world);
        }
        assert_eq!(connected(&world, client), 2);

        let now = world.now();
        // By its own clock it still is the time for the certificate.
        let wall = world.node(server).wall(now) + 2 * hour;
        world.node(server).set_wall(now, wall);
        for _ in 0..2 {
            dial(&mut world);
        }
        let expired = |event: &Event| match event {
            Event::Disconnected {
                reason:
                    DisconnectReason::Peer {
                        code,
                        reason,
                        retry_after,
                    },
                retained,
                ..
            } => {
                *code == CloseCode::UNAUTHENTICATED
                    && reason.contains("expired")
                    && retry_after.is_some()
                    && *retained
            }
            _ => false,
        };
        // As where TLS itself says so, it may come back with one that is renewed.
        assert_eq!(world.count(client, expired), 2, "{:?}", world.log(client));
        assert_eq!(connected(&world, client), 2);
        assert_eq!(world.node(server).metrics(now).admissions_refused, 2);
        let traces = replayed(world, &[server, client]);
        if level == Recording::Wire {
            // Or it would not be a resumed session that was turned away.
            assert_eq!(signatures(&traces[0]), 1);
        }
    }
}

/// An authority is removed at once, whatever has become of the node's own certificate.
#[test]
fn a_server_whose_certificate_has_expired_can_be_told_whom_to_trust() {
    let [old, new] = old_and_new();
    let (server, roots) = short_lived("localhost");
    let certificates = Certificates {
        roots,
        server: server.clone(),
        ..Certificates::new().unwrap()
    };
    let mut world = World::with_certificates(6, &certificates);
    world.client_roots = Some(old.roots().unwrap());
    let expired = server;
    let server = world.server();
    let (now, later) = (world.now(), world.wall + TEN_YEARS);
    let node = world.node(server);
    node.set_wall(now, later);
    assert!(is_expired(&node.set_server_identity(now, expired)));
    assert_eq!(node.set_client_roots(now, new.roots().unwrap()), Ok(()));
    // By their own clocks clients are content with it.
    let let_in = [&old, &new].map(|authority| {
        world.client_identity = Some(issue(authority, "anna"));
        let client = world.client();
        world.connect(client, server, "anna");
        world.run(4 * SECOND, echo);
        connected(&world, client)
    });
    assert_eq!(let_in, [0, 1]);
}

#[test]
fn a_client_whose_certificate_has_expired_can_be_told_whom_to_trust() {
    let mut world = World::new(7);
    let [_, new] = old_and_new();
    let (identity, _) = short_lived("localhost");
    world.client_identity = Some(identity.clone());
    let (server, client) = (world.server(), world.client());
    let (now, later) = (world.now(), world.wall + TEN_YEARS);
    let node = world.node(client);
    node.set_wall(now, later);
    assert!(is_expired(&node.set_client_identity(now, identity)));
    for (authority, sessions) in [(new, 0), (world_authority(), 1)] {
        set_server_roots(&mut world, client, authority.roots().unwrap());
        world.connect(client, server, "anna");
        world.run(4 * SECOND, echo);
        assert_eq!(connected(&world, client), sessions);
    }
}

#[test]
fn a_node_does_not_start_with_a_certificate_outside_of_its_time() {
    let authority = world_authority();
    let identity = issue(&authority, "localhost");
    let server = ServerRole {
        identity: identity.clone(),
        admission: Admission::Open,
        client_roots: None,
    };
    let client = ClientRole {
        roots: authority.roots().unwrap(),
        identity: Some(identity),
    };
    let roles = [
        Roles {
            server: Some(server),
            client: None,
        },
        Roles {
            server: None,
            client: Some(client),
        },
    ];
    let what = "the test's certificate".to_owned();
    let today = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    let expired = TlsError::Expired { what: what.clone() };
    for (wall, expected) in [
        (SystemTime::UNIX_EPOCH, Some(TlsError::NotYetValid { what })),
        (today, None),
        (today + FIFTY_CENTURIES, Some(expired)),
    ] {
        for roles in &roles {
            let origin = Origin {
                now: Instant::now(),
                wall,
                seed: Seed::new([1; 32]),
                keys: None,
            };
            let error = Node::new(Config::default(), roles.clone(), origin).err();
            assert_eq!(error, expected.clone().map(ConfigError::Tls));
        }
    }
}
