//! Clients that go on at another address: handles follow them, hooks and events tell.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use trunkline_core::Event;
use trunkline_core::driver::{Hooks, Notice, Peer, State};

use super::lab::Lab;
use super::{Certificate, SECOND};

/// Writes down who went where, and where its handle said that it was.
#[derive(Default)]
struct Tracker(Mutex<Vec<(String, SocketAddr, Option<SocketAddr>)>>);

impl Hooks for Tracker {
    fn moved(&self, peer: &Peer, address: SocketAddr) {
        let line = (peer.client_id().to_string(), address, peer.address());
        self.0.lock().unwrap().push(line);
    }
}

#[test]
fn handles_follow_a_client_to_its_new_address() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let tracker = Arc::<Tracker>::default();
        let server = certificate.server().hooks(tracker.clone()).await.unwrap();
        let mut events = server.events();
        let client = certificate.client(server.local_addr(), "alice");
        let client = client.await.unwrap();
        let peer = server.client(client.client_id()).unwrap();
        let home = peer.address().unwrap();
        let elsewhere = lab.rebind(home);
        let is_there = |state: &State| matches!(state, State::Connected { address, .. } if *address == elsewhere);
        // Its heartbeats say where it is.
        let state = peer.wait_for(is_there).await;
        assert!(matches!(state, State::Connected { epoch: 1, .. }));
        assert_eq!(peer.address(), Some(elsewhere));
        lab.pass(SECOND).await;
        let told = [("alice".to_owned(), elsewhere, Some(elsewhere))];
        assert_eq!(*tracker.0.lock().unwrap(), told);
        server.close().await;
        let mut moves = Vec::new();
        while let Some(notice) = events.next().await {
            if let Notice::Event(Event::Moved { session, address }) = notice {
                moves.push((session, address));
            }
        }
        assert_eq!(moves, [(peer.session(), elsewhere)]);
    });
}
