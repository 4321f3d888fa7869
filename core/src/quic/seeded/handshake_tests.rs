//! Whole handshakes between two endpoints.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{ConnectionError, VarInt};
use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite::TLS13_AES_128_GCM_SHA256};

use super::build::{client_tls, server_tls};
use super::lab::{Authority, DAY, Party, now, sources, sources_at, talk};
use super::session::{SeededClient, SeededServer};
use super::tls::{Identity, Roots};
use super::*;
use crate::id::ClientId;

/// What came of a dial.
pub(super) struct Outcome {
    pub(super) datagrams: Vec<Vec<u8>>,
    pub(super) client: Party,
    pub(super) server: Party,
}

impl Outcome {
    pub(super) fn connected(&self) -> bool {
        self.client.connected
            && self.server.connected
            && self.client.lost.is_none()
            && self.server.lost.is_none()
    }

    /// Why it failed, in the words of both.
    pub(super) fn why(&self) -> String {
        assert!(!self.connected(), "it did not fail");
        let side = |lost: &Option<ConnectionError>| {
            lost.as_ref().map_or("-".to_owned(), ToString::to_string)
        };
        format!(
            "client: {}; server: {}",
            side(&self.client.lost),
            side(&self.server.lost)
        )
    }
}

/// Who shows what and trusts whom.
#[derive(Clone)]
pub(super) struct Scene<'a> {
    pub(super) server: Identity,
    pub(super) server_trusts: ClientCertificates<'a>,
    pub(super) client: Option<Identity>,
    pub(super) client_trusts: Roots,
    pub(super) tickets: bool,
}

impl<'a> Scene<'a> {
    pub(super) fn new(authority: &Authority, server: Identity) -> Self {
        Self {
            server,
            server_trusts: ClientCertificates::Ignored,
            client: None,
            client_trusts: authority.roots(),
            tickets: false,
        }
    }

    pub(super) fn mutual(authority: &Authority, roots: &'a Roots) -> Self {
        Self {
            server_trusts: ClientCertificates::Required(roots),
            client: Some(authority.issue(&["robot-7"]).identity()),
            ..Self::new(authority, authority.issue(&["localhost"]).identity())
        }
    }

    pub(super) fn play(&self, seed: u8) -> Outcome {
        self.play_with(&sources(seed), &sources(seed + 100))
    }

    pub(super) fn play_with(&self, client: &Sources, server: &Sources) -> Outcome {
        let client_tls = client_crypto(
            &self.client_trusts,
            self.client.as_ref(),
            self.tickets,
            client,
        )
        .unwrap();
        let server_tls =
            server_crypto(&self.server, self.server_trusts, self.tickets, server).unwrap();
        dial(client_tls, server_tls, client, server)
    }
}

pub(super) fn dial(
    client_crypto: Arc<dyn quinn_proto::crypto::ClientConfig>,
    server_crypto: Arc<dyn quinn_proto::crypto::ServerConfig>,
    client_sources: &Sources,
    server_sources: &Sources,
) -> Outcome {
    let start = Instant::now();
    let keys = PersistentKeys::new([1; 32], [2; 32]);
    let mut server = Party::server(server_crypto, &keys, server_sources);
    let mut client = Party::client(client_sources);
    client.dial(start, client_crypto, &server, client_sources);
    let datagrams = talk(start, &mut client, &mut server);
    Outcome {
        datagrams,
        client,
        server,
    }
}

#[test]
fn the_same_seed_gives_the_same_datagrams_and_another_seed_none_of_them() {
    let authority = Authority::new("ca");
    let roots = authority.roots();
    for tickets in [false, true] {
        let scene = Scene {
            tickets,
            ..Scene::mutual(&authority, &roots)
        };
        let (one, again, other) = (scene.play(1), scene.play(1), scene.play(2));
        assert!(one.connected() && again.connected() && other.connected());
        // At least Initial, Retry, Initial, the server's flight, the client's.
        assert!(one.datagrams.len() >= 5, "{}", one.datagrams.len());
        assert_eq!(one.datagrams, again.datagrams);
        assert!(
            other
                .datagrams
                .iter()
                .all(|datagram| !one.datagrams.contains(datagram))
        );
    }
}

#[test]
fn two_dials_of_one_node_have_nothing_in_common() {
    let authority = Authority::new("ca");
    let scene = Scene::new(&authority, authority.issue(&["localhost"]).identity());
    let (client, server) = (sources(1), sources(2));
    // A changed certificate means another configuration: it must not begin to count anew.
    let (one, other) = (
        scene.play_with(&client, &server),
        scene.play_with(&client, &server),
    );
    assert!(one.connected() && other.connected());
    assert!(
        other
            .datagrams
            .iter()
            .all(|datagram| !one.datagrams.contains(datagram))
    );
}

#[test]
fn a_server_that_the_roots_do_not_vouch_for_is_refused() {
    let server = Authority::new("ca").issue(&["localhost"]);
    // The second one only has the name of the issuer.
    for (root, why) in [
        (Authority::new("stranger"), "UnknownIssuer"),
        (Authority::new("ca"), "BadSignature"),
    ] {
        let outcome = Scene::new(&root, server.identity()).play(1);
        assert!(outcome.why().contains(why), "{}", outcome.why());
    }
}

#[test]
fn a_server_with_another_name_is_refused() {
    let authority = Authority::new("ca");
    let outcome = Scene::new(&authority, authority.issue(&["elsewhere"]).identity()).play(1);
    assert!(
        outcome.why().contains("not valid for name"),
        "{}",
        outcome.why()
    );
}

#[test]
fn the_nodes_own_clock_judges_certificates() {
    let authority = Authority::new("ca");
    let scene = Scene::new(&authority, authority.issue(&["localhost"]).identity());
    let late = sources_at(1, now() + 60 * DAY, None);
    let outcome = scene.play_with(&late, &sources(2));
    assert!(outcome.why().contains("expired"), "{}", outcome.why());
    let early = sources_at(1, SystemTime::UNIX_EPOCH - Duration::from_secs(1), None);
    assert!(!scene.play_with(&early, &sources(2)).connected());
    // The same clock, set back by the node.
    let back = sources_at(1, now() - 60 * DAY, None);
    back.wall().set(Instant::now() + 60 * DAY);
    assert!(scene.play_with(&back, &sources(2)).connected());
}

#[test]
fn a_certificate_that_was_accepted_is_judged_anew() {
    let authority = Authority::new("ca");
    let scene = Scene::new(&authority, authority.issue_ecdsa(&["localhost"]).identity());
    for _ in 0..2 {
        assert!(scene.play(1).connected());
    }
    let late = sources_at(1, now() + 60 * DAY, None);
    let outcome = scene.play_with(&late, &sources(2));
    assert!(outcome.why().contains("expired"), "{}", outcome.why());
    let outcome = Scene {
        client_trusts: Authority::new("ca").roots(),
        ..scene
    }
    .play(1);
    assert!(outcome.why().contains("BadSignature"), "{}", outcome.why());
}

#[test]
fn a_required_client_certificate_is_accepted_and_shown() {
    let authority = Authority::new("ca");
    let roots = authority.roots();
    let mut outcome = Scene::mutual(&authority, &roots).play(1);
    assert!(outcome.connected());
    let certificate = outcome.server.peer_certificate().unwrap();
    assert!(certificate_names_client(
        &certificate,
        &ClientId::new("robot-7").unwrap()
    ));
    assert!(!certificate_names_client(
        &certificate,
        &ClientId::new("robot-8").unwrap()
    ));
}

#[test]
fn a_missing_client_certificate_is_refused_only_where_one_is_required() {
    let authority = Authority::new("ca");
    let roots = authority.roots();
    let required = Scene {
        client: None,
        ..Scene::mutual(&authority, &roots)
    };
    let outcome = required.play(1);
    assert!(outcome.why().contains("certificate"), "{}", outcome.why());
    let mut outcome = Scene {
        server_trusts: ClientCertificates::Optional(&roots),
        ..required
    }
    .play(1);
    assert!(outcome.connected() && outcome.server.peer_certificate().is_none());
}

#[test]
fn a_client_certificate_of_a_stranger_is_refused_even_where_none_is_required() {
    let (authority, stranger) = (Authority::new("ca"), Authority::new("stranger"));
    let roots = authority.roots();
    for server_trusts in [
        ClientCertificates::Required(&roots),
        ClientCertificates::Optional(&roots),
    ] {
        let client = Some(stranger.issue(&["robot-7"]).identity());
        let outcome = Scene {
            client,
            server_trusts,
            ..Scene::mutual(&authority, &roots)
        }
        .play(1);
        assert!(outcome.why().contains("UnknownIssuer"), "{}", outcome.why());
    }
}

#[test]
fn where_client_certificates_are_ignored_none_is_asked_for() {
    let authority = Authority::new("ca");
    let roots = authority.roots();
    let scene = Scene {
        server_trusts: ClientCertificates::Ignored,
        ..Scene::mutual(&authority, &roots)
    };
    let mut outcome = scene.play(1);
    assert!(outcome.connected() && outcome.server.peer_certificate().is_none());
}

#[test]
fn a_peer_without_our_application_protocol_is_refused() {
    let authority = Authority::new("ca");
    let server_identity = authority.issue(&["localhost"]).identity();
    let play = |client_protocols: &[&[u8]], server_protocols: &[&[u8]]| {
        let owned = |names: &[&[u8]]| names.iter().map(|name| name.to_vec()).collect();
        let (client, server) = (sources(1), sources(2));
        let mut config = client_tls(&authority.roots(), None, false, &client).unwrap();
        config.alpn_protocols = owned(client_protocols);
        let inner = Arc::new(QuicClientConfig::try_from(config).unwrap());
        let client_crypto = Arc::new(SeededClient {
            inner,
            sources: client.clone(),
        });
        let mut config = server_tls(
            &server_identity,
            ClientCertificates::Ignored,
            false,
            &server,
        )
        .unwrap();
        config.alpn_protocols = owned(server_protocols);
        let inner = Arc::new(QuicServerConfig::try_from(config).unwrap());
        let server_crypto = Arc::new(SeededServer {
            inner,
            sources: server.clone(),
        });
        dial(client_crypto, server_crypto, &client, &server)
    };
    let ours: &[&[u8]] = &[b"trunkline/1"];
    assert!(play(ours, ours).connected());
    for (client, server) in [
        (&[&b"h3"[..]][..], ours),
        (ours, &[b"h3"]),
        (&[], ours),
        (ours, &[]),
    ] {
        assert!(!play(client, server).connected(), "{client:?} {server:?}");
    }
}

#[test]
fn stock_peers_of_any_one_cipher_suite_get_along_with_us() {
    let authority = Authority::new("ca");
    let leaf = authority.issue(&["localhost"]);
    let stock = aws_lc_rs::default_provider();
    let tls13 = |suite: &SupportedCipherSuite| suite.tls13().is_some();
    let suites: Vec<_> = stock.cipher_suites.iter().copied().filter(tls13).collect();
    assert_eq!(suites.len(), 3);
    let initial = TLS13_AES_128_GCM_SHA256.tls13().unwrap().quic_suite();
    let initial = initial.unwrap();
    for suite in suites {
        let provider = Arc::new(CryptoProvider {
            cipher_suites: vec![suite],
            ..stock.clone()
        });
        let (client, server) = (sources(1), sources(2));
        let protocols = vec![trunkline_proto::ALPN.to_vec()];

        let time = Arc::new(client.wall().clone());
        let mut config = rustls::ClientConfig::builder_with_details(provider.clone(), time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(authority.roots().store())
            .with_no_client_auth();
        config.alpn_protocols = protocols.clone();
        let theirs = QuicClientConfig::with_initial(Arc::new(config), initial).unwrap();
        let clients = ClientCertificates::Ignored;
        let ours = server_crypto(&leaf.identity(), clients, false, &server).unwrap();
        let outcome = dial(Arc::new(theirs), ours, &client, &server);
        assert!(outcome.connected(), "{suite:?}: {}", outcome.why());

        let time = Arc::new(server.wall().clone());
        let mut config = rustls::ServerConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(leaf.chain.clone(), leaf.key())
            .unwrap();
        config.alpn_protocols = protocols;
        let theirs = QuicServerConfig::with_initial(Arc::new(config), initial).unwrap();
        let ours = client_crypto(&authority.roots(), None, false, &client).unwrap();
        let outcome = dial(ours, Arc::new(theirs), &client, &server);
        assert!(outcome.connected(), "{suite:?}: {}", outcome.why());
    }
}

#[test]
fn both_sides_offer_our_protocol_and_neither_early_data_nor_tickets() {
    let authority = Authority::new("ca");
    let identity = authority.issue(&["localhost"]).identity();
    for tickets in [false, true] {
        let server =
            server_tls(&identity, ClientCertificates::Ignored, tickets, &sources(1)).unwrap();
        assert_eq!(server.alpn_protocols, [b"trunkline/1"]);
        assert_eq!(server.max_early_data_size, 0);
        assert!(!server.send_half_rtt_data && !server.ticketer.enabled());
        assert_eq!(server.session_storage.can_cache(), tickets);
        assert_eq!(server.send_tls13_tickets > 0, tickets);
        let client = client_tls(&authority.roots(), None, tickets, &sources(1)).unwrap();
        assert_eq!(client.alpn_protocols, [b"trunkline/1"]);
        assert!(!client.enable_early_data);
    }
}

#[test]
fn a_restarted_server_that_kept_its_keys_is_noticed_at_once() {
    let authority = Authority::new("ca");
    let identity = authority.issue(&["localhost"]).identity();
    // Whether the reset key was kept decides, the seed is another one in any case.
    for (kept, noticed) in [(true, true), (false, false)] {
        let mut outcome = Scene::new(&authority, identity.clone()).play(1);
        assert!(outcome.connected());
        let keys = PersistentKeys::new(if kept { [1; 32] } else { [9; 32] }, [2; 32]);
        let restarted = sources(55);
        let crypto =
            server_crypto(&identity, ClientCertificates::Ignored, false, &restarted).unwrap();
        let mut server = Party::server(crypto, &keys, &restarted);
        let later = Instant::now() + Duration::from_secs(1);
        outcome.client.connection().ping();
        talk(later, &mut outcome.client, &mut server);
        assert_eq!(
            outcome.client.lost == Some(ConnectionError::Reset),
            noticed,
            "{:?}",
            outcome.client.lost
        );
        outcome
            .client
            .connection()
            .close(later, VarInt::from_u32(0), Default::default());
    }
}
