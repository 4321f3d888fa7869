//! Handshakes whose signatures pass through a tap.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;

use super::handshake_tests::{Outcome, Scene, dial};
use super::lab::{Authority, Leaf, now, sources, sources_at};
use super::signing::SignatureTap;
use super::tls::Identity;
use super::*;
use crate::error::TlsError;

/// One thing that went through the tap: a scheme, or the digest of a message and its signature.
#[derive(Clone, Debug)]
enum Passed {
    Scheme(Option<u16>),
    Signature(Vec<u8>, Option<Vec<u8>>),
}

fn digest_of(message: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, message).as_ref().to_vec()
}

#[derive(Debug, Default)]
struct Recorder(Mutex<VecDeque<Passed>>);

impl SignatureTap for Recorder {
    fn scheme(&self, own: Option<u16>) -> Option<u16> {
        self.0.lock().unwrap().push_back(Passed::Scheme(own));
        own
    }

    fn signature(
        &self,
        message: &[u8],
        own: &mut dyn FnMut() -> Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let signature = own();
        self.0
            .lock()
            .unwrap()
            .push_back(Passed::Signature(digest_of(message), signature.clone()));
        signature
    }
}

#[derive(Debug)]
struct Replayer(Mutex<VecDeque<Passed>>);

impl Replayer {
    fn of(recorder: &Recorder) -> Arc<Self> {
        Arc::new(Self(Mutex::new(recorder.0.lock().unwrap().clone())))
    }
}

impl SignatureTap for Replayer {
    fn scheme(&self, own: Option<u16>) -> Option<u16> {
        assert_eq!(own, None, "a replay has no key");
        match self.0.lock().unwrap().pop_front()? {
            Passed::Scheme(scheme) => scheme,
            Passed::Signature(..) => None,
        }
    }

    fn signature(
        &self,
        message: &[u8],
        own: &mut dyn FnMut() -> Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        assert_eq!(own(), None, "a replay has no key");
        match self.0.lock().unwrap().pop_front()? {
            Passed::Signature(digest, signature) if digest == digest_of(message) => signature,
            _ => None,
        }
    }
}

/// A mutual handshake with ECDSA keys on both sides.
struct Ecdsa {
    authority: Authority,
    client: Leaf,
    server: Leaf,
}

impl Ecdsa {
    fn new() -> Self {
        let authority = Authority::new("ca");
        Self {
            client: authority.issue_ecdsa(&["robot-7"]),
            server: authority.issue_ecdsa(&["localhost"]),
            authority,
        }
    }

    fn play(
        &self,
        seed: u8,
        keys: bool,
        client: Option<Arc<dyn SignatureTap>>,
        server: Option<Arc<dyn SignatureTap>>,
    ) -> Outcome {
        let identity = |leaf: &Leaf| {
            if keys {
                leaf.identity()
            } else {
                Identity::without_key(leaf.chain.clone(), "leaf").unwrap()
            }
        };
        let roots = self.authority.roots();
        let scene = Scene {
            client: Some(identity(&self.client)),
            server_trusts: ClientCertificates::Required(&roots),
            ..Scene::new(&self.authority, identity(&self.server))
        };
        scene.play_with(
            &sources_at(seed, now(), client),
            &sources_at(seed + 100, now(), server),
        )
    }
}

#[test]
fn recorded_signatures_replay_a_handshake_without_the_keys() {
    let scene = Ecdsa::new();
    let (client, server) = (Arc::<Recorder>::default(), Arc::<Recorder>::default());
    let recorded = scene.play(1, true, Some(client.clone()), Some(server.clone()));
    assert!(recorded.connected(), "{}", recorded.why());
    // ECDSA is random: without the recording, not even the keys give the same bytes again.
    assert_ne!(
        recorded.datagrams,
        scene.play(1, true, None, None).datagrams
    );
    let replayed = scene.play(
        1,
        false,
        Some(Replayer::of(&client)),
        Some(Replayer::of(&server)),
    );
    assert_eq!(recorded.datagrams, replayed.datagrams);
    // In another handshake there is something else to be signed.
    let diverged = scene.play(
        2,
        false,
        Some(Replayer::of(&client)),
        Some(Replayer::of(&server)),
    );
    assert!(!diverged.connected());
}

/// Signs with this scheme, or not at all.
#[derive(Debug)]
struct Insists(u16);

impl SignatureTap for Insists {
    fn scheme(&self, _: Option<u16>) -> Option<u16> {
        Some(self.0)
    }

    fn signature(&self, _: &[u8], own: &mut dyn FnMut() -> Option<Vec<u8>>) -> Option<Vec<u8>> {
        own()
    }
}

#[test]
fn the_key_at_hand_signs_only_with_a_scheme_of_its_own_that_the_peer_accepts() {
    let scene = Ecdsa::new();
    let play = |scheme| scene.play(1, true, None, Some(Arc::new(Insists(scheme))));
    // ECDSA with P-256 and SHA-256; Ed25519; RSA with SHA-1 (RFC 8446 section 4.2.3).
    assert!(play(0x0403).connected());
    assert!(!play(0x0807).connected());
    assert!(!play(0x0201).connected());
}

#[test]
fn an_identity_without_key_needs_a_tap() {
    let chain: Vec<CertificateDer<'static>> = Authority::new("ca").issue(&["localhost"]).chain;
    let identity = Identity::without_key(chain, "cert.pem").unwrap();
    let refused = server_crypto(&identity, ClientCertificates::Ignored, false, &sources(1)).err();
    assert_eq!(
        refused,
        Some(TlsError::NoKey {
            what: "cert.pem".to_owned()
        })
    );
    let tapped = sources_at(1, now(), Some(Arc::<Recorder>::default()));
    assert!(server_crypto(&identity, ClientCertificates::Ignored, false, &tapped).is_ok());
}

#[test]
fn a_resumed_tls_session_needs_no_signature_and_repeats_as_well() {
    let authority = Authority::new("ca");
    let identity = authority.issue(&["localhost"]).identity();
    let twice = |tickets| {
        let recorder = Arc::<Recorder>::default();
        let (client, server) = (sources(1), sources_at(2, now(), Some(recorder.clone())));
        let client_tls = client_crypto(&authority.roots(), None, tickets, &client).unwrap();
        let server_tls =
            server_crypto(&identity, ClientCertificates::Ignored, tickets, &server).unwrap();
        let dial = || dial(client_tls.clone(), server_tls.clone(), &client, &server);
        let (first, second) = (dial(), dial());
        assert!(first.connected() && second.connected());
        let signatures = recorder
            .0
            .lock()
            .unwrap()
            .iter()
            .filter(|passed| matches!(passed, Passed::Signature(..)))
            .count();
        (second.datagrams, signatures)
    };
    assert_eq!(twice(true), twice(true));
    assert_eq!((twice(true).1, twice(false).1), (1, 2));
}
