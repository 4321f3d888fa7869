//! Handshakes that fail: another protocol, certificates that are not known or not the right ones.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use trunkline_core::{Admission, DisconnectReason, Event};
use trunkline_proto::CloseCode;
use trunkline_testkit::raw_peer::{Ended, RawSettings, hello};
use trunkline_testkit::{Authority, NodeIndex, World, echo, forged_end};

use crate::siege::Siege;
use crate::victim::ends;

const SECOND: Duration = Duration::from_secs(1);

/// How often in a row a client that nobody has welcomed yet is denied before it gives up.
const DENIALS: u64 = 3;

/// QUIC carries a TLS alert as 0x100 plus its number (RFC 9001, section 4.8).
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;
const BAD_CERTIFICATE: u64 = 0x100 + 42;
const CERTIFICATE_EXPIRED: u64 = 0x100 + 45;
const CERTIFICATE_UNKNOWN: u64 = 0x100 + 46;
const UNKNOWN_CA: u64 = 0x100 + 48;
const DECRYPT_ERROR: u64 = 0x100 + 51;
const CERTIFICATE_REQUIRED: u64 = 0x100 + 116;

fn ended_with(siege: &mut Siege, peer: NodeIndex, code: u64) {
    let ended = siege.link(peer).ended().cloned();
    assert!(
        matches!(&ended, Some(Ended::Transport { code: found, .. }) if *found == code),
        "{ended:?} in place of {code:#x}"
    );
}

/// A world whose server lets in whoever has a certificate for the id that it claims.
fn mutual_tls(seed: u64) -> World {
    let mut world = World::new(seed);
    world.admission = Admission::MutualTls;
    world.client_roots = Some(world.authority().roots().unwrap());
    let leaf = world.authority().issue(&["honest"]).unwrap();
    world.client_identity = Some(leaf.identity().unwrap());
    world
}

#[test]
fn a_client_with_another_alpn_is_told_so_by_tls() {
    let mut siege = Siege::new(21);
    for alpn in [
        vec![],
        vec![b"h3".to_vec()],
        vec![b"trunkline/2".to_vec(), b"trunkline".to_vec()],
    ] {
        let before = siege.metrics();
        let settings = RawSettings {
            alpn,
            ..RawSettings::default()
        };
        let peer = siege.raw(&settings);
        ended_with(&mut siege, peer, NO_APPLICATION_PROTOCOL);
        let after = siege.metrics();
        assert_eq!(after.protocol_mismatches, before.protocol_mismatches + 1);
        assert_eq!(after.sessions, before.sessions);
    }
    // One that offers it among others is welcome.
    let alpn = vec![b"h3".to_vec(), b"trunkline/1".to_vec()];
    siege.admitted_with(&RawSettings {
        alpn,
        ..RawSettings::default()
    });
    siege.unharmed();
}

#[test]
fn a_client_that_nobody_vouches_for_is_told_so_by_tls() {
    let mut siege = Siege::of(mutual_tls(22));
    let stranger = Authority::named("Somebody else").unwrap();
    let namesake = Authority::new().unwrap();
    let cases = [
        (None, CERTIFICATE_REQUIRED),
        (Some(stranger.issue(&["honest"]).unwrap()), UNKNOWN_CA),
        (Some(namesake.issue(&["honest"]).unwrap()), DECRYPT_ERROR),
    ];
    for (certificate, alert) in cases {
        let before = siege.metrics();
        let peer = siege.raw(&RawSettings {
            certificate,
            ..RawSettings::default()
        });
        ended_with(&mut siege, peer, alert);
        let after = siege.metrics();
        assert_eq!(after.certificates_refused, before.certificates_refused + 1);
        assert_eq!(after.sessions, before.sessions);
    }
    siege.unharmed();
}

#[test]
fn a_certificate_stands_for_the_ids_that_it_names_and_no_other() {
    certificates_stand_for_their_ids(Siege::of(mutual_tls(23)));
}

#[test]
fn with_open_admission_as_well_a_certificate_stands_for_the_ids_that_it_names() {
    let mut world = mutual_tls(28);
    world.admission = Admission::Open;
    let mut siege = Siege::of(world);
    // Who shows none is whoever it says.
    siege.admitted_with(&RawSettings::default());
    certificates_stand_for_their_ids(siege);
}

#[test]
fn open_admission_that_is_given_roots_binds_certificates_from_then_on() {
    let mut siege = Siege::new(29);
    let (now, roots) = (siege.world.now(), siege.world.authority().roots().unwrap());
    let server = siege.server;
    let node = siege.world.node(server);
    node.set_client_roots(now, roots).unwrap();
    certificates_stand_for_their_ids(siege);
}

fn certificates_stand_for_their_ids(mut siege: Siege) {
    let before = siege.metrics();
    let mut login = |names: &[&str], id: &str, seed| {
        let certificate = Some(siege.world.authority().issue(names).unwrap());
        let peer = siege.raw(&RawSettings {
            certificate,
            ..RawSettings::default()
        });
        siege.link(peer).hello(&hello(id, seed));
        siege.run(SECOND / 5);
        peer
    };
    let peers = [
        login(&["mallory"], "honest", 101),
        login(&["mallory"], "mallory2", 102),
        login(&[], "honest", 103),
    ];
    login(&["mallory", "also-mallory"], "also-mallory", 104);
    for peer in peers {
        let reason = siege.closed(peer, CloseCode::UNAUTHENTICATED);
        assert!(reason.contains("does not name the client id"), "{reason}");
    }
    assert_eq!(siege.count(CloseCode::UNAUTHENTICATED), 3);
    let metrics = siege.metrics();
    assert_eq!(metrics.admissions_refused, 3);
    assert_eq!(metrics.sessions, before.sessions + 1);
    let told = ["honest", "mallory2", "honest"].map(|id| format!("{id}: UNAUTHENTICATED (4)"));
    assert_eq!(siege.refused(), told);
    siege.unharmed();
}

/// Whatever features of quinn-proto are on (`bloom`).
#[test]
fn no_client_is_given_a_token_that_its_address_would_pass_by_later() {
    let mut siege = Siege::new(30);
    let peer = siege.admitted_with(&RawSettings::default());
    siege.run(SECOND);
    assert_eq!(siege.link(peer).address_tokens(), 0);
    siege.unharmed();
}

#[test]
fn a_server_that_nobody_vouches_for_is_told_so_and_its_client_gives_up_in_seconds() {
    let mut siege = Siege::new(24);
    let issue = |authority: &Authority, name| authority.issue(&[name]).unwrap();
    let stranger = issue(&Authority::named("Somebody else").unwrap(), "localhost");
    let namesake = issue(&Authority::new().unwrap(), "localhost");
    let other_name = issue(siege.world.authority(), "elsewhere");
    let cases = [
        (
            stranger,
            UNKNOWN_CA,
            "the peer's certificate is signed by an authority that is not trusted",
        ),
        (
            namesake,
            DECRYPT_ERROR,
            "the peer's certificate has a wrong signature",
        ),
        (
            other_name,
            BAD_CERTIFICATE,
            "the peer's certificate is for another name",
        ),
    ];
    for (certificate, alert, says) in cases {
        let certificate = Some(certificate);
        let server = siege.world.raw_server(&RawSettings {
            certificate,
            ..RawSettings::default()
        });
        let before = siege.victim_metrics();
        let session = siege.victim(server);
        siege.run(4 * SECOND);
        ended_with(&mut siege, server, alert);
        let why = siege.closed_session(session);
        let DisconnectReason::Certificate(text) = &why else {
            panic!("{why:?}")
        };
        assert!(text.contains(says), "{text:?} does not say {says:?}");
        assert_eq!(
            siege.victim_metrics().certificates_refused,
            before.certificates_refused + DENIALS
        );
    }
    siege.unharmed();
}

/// The clock may not be set yet, and then everything has expired or is not valid yet.
#[test]
fn a_client_goes_on_dialling_a_server_whose_certificate_has_expired() {
    let mut siege = Siege::new(30);
    let leaf = siege.world.authority().issue_expired(&["localhost"]);
    let server = siege.world.raw_server(&RawSettings {
        certificate: Some(leaf.unwrap()),
        ..RawSettings::default()
    });
    let session = siege.victim(server);
    siege.run(10 * SECOND);
    ended_with(&mut siege, server, CERTIFICATE_EXPIRED);
    let ends = ends(&siege, session);
    assert!(ends.len() > DENIALS as usize, "{ends:?}");
    for why in &ends {
        assert!(
            matches!(why, DisconnectReason::CertificateExpired(text) if text.contains("renew it")),
            "{why:?}"
        );
    }
    let refused = siege.victim_metrics().certificates_refused;
    assert_eq!(refused, ends.len() as u64);
    let log = siege.world.log(siege.victim_node());
    assert!(
        !log.iter()
            .any(|(_, event)| matches!(event, Event::Closed { .. }))
    );
    siege.unharmed();
}

/// Authorities that a search for a way to a root would try one behind the other, in every order.
fn maze(authorities: usize) -> Vec<CertificateDer<'static>> {
    let certificate = |_| Authority::new().unwrap().certificate();
    (0..authorities).map(certificate).collect()
}

/// What a stranger's chain is refused for before anybody searches it, and how large it is.
fn mazes() -> [(Vec<CertificateDer<'static>>, &'static str); 3] {
    let padding = || CertificateDer::from(vec![0; 4_096]);
    [
        (
            maze(100),
            "100 certificates came beside its own, and 6 are looked at",
        ),
        (
            (0..4).map(|_| padding()).collect(),
            "bytes, and 16384 are looked at",
        ),
        (maze(6), "a name in its chain has more than 2 keys"),
    ]
}

#[test]
fn a_client_whose_chain_is_a_maze_is_refused_before_anybody_walks_it() {
    let mut siege = Siege::of(mutual_tls(27));
    for (intermediates, says) in mazes() {
        let before = siege.metrics();
        let leaf = siege.world.authority().issue(&["raw"]).unwrap();
        let peer = siege.raw(&RawSettings {
            certificate: Some(leaf),
            intermediates,
            ..RawSettings::default()
        });
        let Some(Ended::Transport { code, reason }) = siege.link(peer).ended().cloned() else {
            panic!("{:?}", siege.link(peer).ended())
        };
        assert_eq!(code, CERTIFICATE_UNKNOWN, "{reason}");
        assert!(reason.contains(says), "{reason:?} does not say {says:?}");
        let after = siege.metrics();
        assert_eq!(after.certificates_refused, before.certificates_refused + 1);
        assert_eq!(after.sessions, before.sessions);
    }
    // What is beside the way does no harm as long as it is little.
    let certificate = Some(siege.world.authority().issue(&["raw-1"]).unwrap());
    siege.admitted_with(&RawSettings {
        certificate,
        intermediates: maze(2),
        ..RawSettings::default()
    });
    siege.unharmed();
}

#[test]
fn a_server_whose_chain_is_a_maze_is_refused_before_anybody_walks_it() {
    let mut siege = Siege::new(28);
    for (intermediates, says) in mazes() {
        let leaf = siege.world.authority().issue(&["localhost"]).unwrap();
        let server = siege.world.raw_server(&RawSettings {
            certificate: Some(leaf),
            intermediates,
            ..RawSettings::default()
        });
        let before = siege.victim_metrics();
        let session = siege.victim(server);
        siege.run(SECOND / 5);
        ended_with(&mut siege, server, CERTIFICATE_UNKNOWN);
        let why = ends(&siege, session).remove(0);
        assert!(matches!(why, DisconnectReason::Certificate(_)), "{why}");
        assert!(
            why.to_string().contains(says),
            "{why} does not say {says:?}"
        );
        assert_eq!(
            siege.victim_metrics().certificates_refused,
            before.certificates_refused + 1
        );
    }
    siege.unharmed();
}

#[test]
fn a_server_that_speaks_something_else_is_given_up() {
    let mut siege = Siege::new(25);
    let alpn = vec![b"h3".to_vec()];
    let server = siege.world.raw_server(&RawSettings {
        alpn,
        ..RawSettings::default()
    });
    let before = siege.victim_metrics();
    let session = siege.victim(server);
    siege.run(4 * SECOND);
    assert_eq!(
        siege.closed_session(session),
        DisconnectReason::NoCommonProtocol
    );
    assert_eq!(
        siege.victim_metrics().protocol_mismatches,
        before.protocol_mismatches + DENIALS
    );
    siege.unharmed();
}

/// Once a server has welcomed it, a client goes on asking: certificates get renewed while servers
/// roll.
#[test]
fn a_client_of_before_outlasts_a_server_that_has_a_wrong_certificate_for_a_while() {
    let mut siege = Siege::new(26);
    let server = siege.world.raw_server(&RawSettings::default());
    let session = siege.victim(server);
    siege.run(SECOND / 5);
    siege.welcome(server);
    siege.run(SECOND / 5);
    // The same address, and for a while somebody else there.
    let stranger = Authority::new().unwrap().issue(&["localhost"]).unwrap();
    let other = siege.world.raw_server(&RawSettings {
        certificate: Some(stranger),
        ..RawSettings::default()
    });
    siege.redirect(session, other);
    let now = siege.world.now();
    siege.link(server).close(now, 17, b"restarting");
    siege.run(5 * SECOND);
    let refused = siege.world.log(siege.victim_node()).iter().any(|(_, event)| {
        matches!(event, Event::Disconnected { session: of, reason: DisconnectReason::Certificate(_), retained: true } if *of == session)
    });
    assert!(refused);
    siege.redirect(session, server);
    siege.run(20 * SECOND);
    assert!(
        siege.world.raw(server).links().len() > 1,
        "it has come back"
    );
    siege.unharmed();
}

/// Whoever sees a client's first packet knows the keys of the answer to it, and can be faster than the server.
#[test]
fn a_forged_end_of_a_first_handshake_ends_an_attempt_and_no_more() {
    for alert in [NO_APPLICATION_PROTOCOL, UNKNOWN_CA, CERTIFICATE_REQUIRED] {
        let mut world = World::new(29);
        world.path.delay = SECOND / 10;
        let server = world.server();
        let client = world.client();
        let seen = Rc::new(RefCell::new(None));
        let first = seen.clone();
        world.observe(move |observed| {
            if observed.from == client {
                first
                    .borrow_mut()
                    .get_or_insert_with(|| observed.payload.to_vec());
            }
        });
        world.connect(client, server, "alice");
        world.run(SECOND / 20, echo);
        let forged = forged_end(&seen.take().unwrap(), alert).unwrap();
        let address = world.address(server);
        world.inject(address, client, &forged);
        world.run(3 * SECOND, echo);
        let now = world.now();
        let metrics = world.node(client).metrics(now);
        assert_eq!(
            metrics.protocol_mismatches + metrics.certificates_refused,
            1,
            "the packet was taken for what it says"
        );
        let log = || world.log(client).iter().map(|(_, event)| event);
        assert!(!log().any(|event| matches!(event, Event::Closed { .. })));
        assert!(matches!(log().last(), Some(Event::Connected { .. })));
    }
}
