//! The authorities that sign certificates are replaced, over real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]

mod common;

use std::time::Duration;

use common::ports::free_address;
use common::relay::Relay;
use common::{Authority, Double, Doubled, quick, soon};
use trunkline_tokio::{
    Admit, Client, Config, Context, DisconnectReason, Server, Service, StartError, State, Status,
};

/// Links die of silence within a second, and TLS sessions are resumed.
fn config() -> Config {
    let mut config = quick();
    config.heartbeat.interval = Duration::from_millis(200);
    config.transport.tls_resumption = true;
    config
}

fn doubling() -> Service<()> {
    Service::new(()).on_request(async |_: Context<()>, question: Double| {
        let number = 2 * question.number;
        Ok::<_, Status>(Doubled { number })
    })
}

async fn assert_answered(client: &Client) {
    let doubled = client.request(&Double { number: 4 });
    let doubled: Doubled = soon(doubled.into_future()).await.unwrap();
    assert_eq!(doubled.number, 8);
}

fn is_not_trusted(reason: &DisconnectReason) -> bool {
    matches!(reason, DisconnectReason::Certificate(_))
}

#[tokio::test]
async fn a_servers_new_authority_lets_in_and_its_old_one_does_not() {
    for shards in [1, 3] {
        let [authority, old, new] = [(); 3].map(|()| Authority::new());
        let server = Server::bind(free_address())
            .identity(authority.identity("localhost"))
            .admission(Admit::mutual_tls(old.roots()))
            .service(doubling())
            .config(config())
            .shards(shards);
        let server = server.await.unwrap();
        let relay = Relay::to(server.local_addr()).await;
        let connect = |name: &str, signer: &Authority| {
            let client = authority.client(relay.address, name).config(config());
            let client = client.identity(signer.identity(name));
            async move { soon(client.into_future()).await }
        };
        let anna = connect("anna", &old).await.unwrap();
        assert_answered(&anna).await;

        server.set_client_roots(new.roots()).await.unwrap();
        let refused = connect("otto", &old).await.unwrap_err();
        let StartError::Refused(reason) = &refused else {
            panic!("{refused}")
        };
        assert!(is_not_trusted(reason), "{reason}");
        assert_answered(&connect("emil", &new).await.unwrap()).await;
        assert_answered(&anna).await;
        let state = anna.state();
        assert!(
            matches!(state, State::Connected { epoch: 1, .. }),
            "{state:?}"
        );

        // Her link was good, and the next one is not until she has another certificate.
        relay.cut();
        soon(anna.wait_for(|state| !state.is_connected())).await;
        relay.mend();
        let refused = |state: &State| match state {
            State::Reconnecting { reason, .. } => is_not_trusted(reason),
            _ => false,
        };
        soon(anna.wait_for(refused)).await;
        anna.set_identity(new.identity("anna")).await.unwrap();
        assert_answered(&anna).await;
    }
}

#[tokio::test]
async fn a_client_comes_back_by_its_new_authority() {
    let [old, new] = [(); 2].map(|()| Authority::new());
    let server = old.server().admission(Admit::open()).service(doubling());
    let server = server.config(config()).await.unwrap();
    let relay = Relay::to(server.local_addr()).await;
    let client = old.client(relay.address, "anna").config(config());
    let client = soon(client.into_future()).await.unwrap();
    client.set_roots(new.roots()).await.unwrap();
    server
        .set_identity(new.identity("localhost"))
        .await
        .unwrap();
    assert_answered(&client).await;
    relay.cut();
    soon(client.wait_for(|state| !state.is_connected())).await;
    relay.mend();
    assert_answered(&client).await;
    let other = old.client(relay.address, "otto").config(config());
    let refused = soon(other.into_future()).await.unwrap_err();
    assert!(
        matches!(&refused, StartError::Refused(reason) if is_not_trusted(reason)),
        "{refused}"
    );
}
