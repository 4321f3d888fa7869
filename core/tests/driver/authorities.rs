//! Whom servers and clients trust is changed while they run.

use futures_util::future::join_all;
use trunkline_core::driver::{Admit, ChangeError, StartError, State};
use trunkline_core::{DisconnectReason, Identity};

use super::lab::{Lab, within};
use super::{Certificate, Client, SECOND, Server};

const SHARDS: usize = 4;
const CLIENTS: usize = 24;

/// What the client of that number is called.
fn name(number: usize) -> String {
    format!("client-{number}")
}

fn is_not_trusted(reason: &DisconnectReason) -> bool {
    matches!(reason, DisconnectReason::Certificate(_))
}

/// As many clients as reach all shards, some of which show this certificate and get in.
async fn clients(
    certificate: &Certificate,
    server: &Server,
    identity: &Identity,
) -> Vec<Result<Client, StartError>> {
    let connect = |number| {
        let client = certificate.client(server.local_addr(), &name(number));
        client.identity(identity.clone()).into_future()
    };
    join_all((0..CLIENTS).map(connect)).await
}

#[test]
fn all_shards_of_a_server_trust_its_new_authority_and_links_go_on() {
    Lab::run(async |_| {
        let certificate = Certificate::new();
        let [old, new] = [(); 2].map(|()| Certificate::of((0..CLIENTS).map(name).collect()));
        let admission = Admit::open().with_client_roots(old.roots.clone());
        let server = certificate.server().admission(admission).shards(SHARDS);
        let server = server.await.unwrap();
        let before = clients(&certificate, &server, &old.identity).await;
        let before: Vec<_> = before.into_iter().map(Result::unwrap).collect();
        let homes = server
            .peers()
            .into_iter()
            .map(|peer| peer.session().shard());
        let homes: std::collections::BTreeSet<_> = homes.collect();
        assert_eq!(homes.len(), SHARDS);

        server.set_client_roots(new.roots.clone()).await.unwrap();
        for refused in clients(&certificate, &server, &old.identity).await {
            let refused = refused.unwrap_err();
            let StartError::Refused(reason) = &refused else {
                panic!("{refused}")
            };
            assert!(is_not_trusted(reason), "{reason}");
        }
        for client in clients(&certificate, &server, &new.identity).await {
            assert!(client.unwrap().state().is_connected());
        }
        for client in &before {
            let state = client.state();
            assert!(
                matches!(state, State::Connected { epoch: 1, .. }),
                "{state:?}"
            );
        }
        let handle = server.handle().clone();
        server.close().await;
        let late = handle.set_client_roots(new.roots.clone()).await;
        assert!(matches!(late, Err(ChangeError::Stopped(_))), "{late:?}");
    });
}

#[test]
fn a_client_comes_back_by_its_new_authority_alone() {
    Lab::run(async |lab| {
        let [old, new] = [(); 2].map(|()| Certificate::new());
        let server = old.server().await.unwrap();
        let client = old.client(server.local_addr(), "anna").await.unwrap();
        client.set_roots(new.roots.clone()).await.unwrap();
        assert!(client.state().is_connected());
        lab.socket(client.local_addr(), |socket| socket.cut = true);
        client.wait_for(|state| !state.is_connected()).await;
        lab.socket(client.local_addr(), |socket| socket.cut = false);
        let refused = |state: &State| match state {
            State::Reconnecting { reason, .. } => is_not_trusted(reason),
            _ => false,
        };
        client.wait_for(refused).await;
        server.set_identity(new.identity.clone()).await.unwrap();
        let back = client.wait_for(State::is_connected);
        let state = within(&lab, 60 * SECOND, back).await.unwrap();
        assert!(
            matches!(state, State::Connected { epoch: 2, .. }),
            "{state:?}"
        );
        client.close().await;
        let late = client.set_roots(old.roots).await;
        assert!(matches!(late, Err(ChangeError::Stopped(_))), "{late:?}");
    });
}
