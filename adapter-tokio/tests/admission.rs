//! Who is let in, and what handlers know of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]

mod common;

use std::time::Duration;

use common::relay::Relay;
use common::{Authority, Double, Doubled, quick, soon};
use tokio::sync::mpsc;
use trunkline_tokio::{
    AdmissionRequest, Admit, Client, CloseCode, Context, DisconnectReason, PromiseError, Refusal,
    Server, Service, StartError, State, Status, StatusCode,
};

#[tokio::test]
async fn admission_is_the_applications_say() {
    async fn admit(request: AdmissionRequest) -> Result<(), Refusal> {
        if request.credentials == "sesame" {
            return Ok(());
        }
        Err(Refusal {
            reason: "wrong word".into(),
            retry_after: None,
        })
    }
    let authority = Authority::new();
    let server = authority
        .server()
        .admission(Admit::ask(admit))
        .await
        .unwrap();
    let let_in = authority
        .client(server.local_addr(), "anna")
        .credentials("sesame");
    drop(soon(let_in.into_future()).await.unwrap());
    let kept_out = soon(
        authority
            .client(server.local_addr(), "otto")
            .credentials("please")
            .into_future(),
    )
    .await;
    match kept_out {
        Err(StartError::Refused(DisconnectReason::Peer { reason, .. })) => {
            assert_eq!(reason, "wrong word")
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_function_that_panics_keeps_nobody_out_for_good() {
    async fn admit(_: AdmissionRequest) -> Result<(), Refusal> {
        panic!("no database")
    }
    let authority = Authority::new();
    let server = authority
        .server()
        .admission(Admit::ask(admit))
        .await
        .unwrap();
    let client = authority.client(server.local_addr(), "anna");
    let client = soon(client.start()).await.unwrap();
    let refused = |state: &State| matches!(state, State::Reconnecting { .. } | State::Closed(_));
    let state = soon(client.wait_for(refused)).await;
    assert!(matches!(state, State::Reconnecting { .. }), "{state:?}");
}

#[tokio::test]
async fn a_server_that_closes_sends_those_away_whom_it_has_not_decided_about() {
    let authority = Authority::new();
    let (asked, mut asks) = mpsc::unbounded_channel();
    let undecided = Admit::ask(move |_| {
        asked.send(()).unwrap();
        std::future::pending::<Result<(), Refusal>>()
    });
    let address = common::ports::free_address();
    let first = authority.server_at(address).admission(undecided);
    let first = first.await.unwrap();
    let client = soon(authority.client(address, "anna").start())
        .await
        .unwrap();
    let request = client.request::<Doubled>(&Double { number: 4 });
    let request = tokio::spawn(request.into_future());
    soon(asks.recv()).await.unwrap();
    soon(first.close()).await;
    let away = |state: &State| matches!(state, State::Reconnecting { reason, .. } if reason.to_string().contains("the server closes"));
    soon(client.wait_for(away)).await;
    let service = Service::new(()).on_request(async |_: Context<()>, question: Double| {
        Ok::<_, Status>(Doubled {
            number: question.number * 2,
        })
    });
    let second = Server::bind(address)
        .identity(authority.identity("localhost"))
        .admission(Admit::open())
        .service(service);
    let _second = second.await.unwrap();
    assert_eq!(soon(request).await.unwrap().unwrap().number, 8);
}

#[tokio::test]
async fn open_admission_may_want_certificates_to_be_good() {
    let (authority, other) = (Authority::new(), Authority::new());
    let open = Admit::open().with_client_roots(authority.roots());
    let server = authority.server().admission(open).await.unwrap();
    let connect = |id: &str| authority.client(server.local_addr(), id);
    drop(soon(connect("without").into_future()).await.unwrap());
    let good = connect("anna").identity(authority.identity("anna"));
    drop(soon(good.into_future()).await.unwrap());
    let elses = connect("otto").identity(authority.identity("anna"));
    let error = soon(elses.into_future()).await.unwrap_err();
    assert!(
        matches!(
            &error,
            StartError::Refused(DisconnectReason::Peer {
                code: CloseCode::UNAUTHENTICATED,
                ..
            })
        ),
        "{error}"
    );
    let bad = connect("bad").identity(other.identity("anna"));
    let error = soon(bad.into_future()).await.unwrap_err();
    assert!(
        matches!(
            &error,
            StartError::Refused(DisconnectReason::Certificate(_))
        ),
        "{error}"
    );
}

#[tokio::test]
async fn mutual_tls_binds_the_client_id_to_the_certificate() {
    let authority = Authority::new();
    let server = authority
        .server()
        .admission(Admit::mutual_tls(authority.roots()))
        .await
        .unwrap();
    let anna = authority
        .client(server.local_addr(), "anna")
        .identity(authority.identity("anna"));
    drop(soon(anna.into_future()).await.unwrap());
    let otto = authority
        .client(server.local_addr(), "otto")
        .identity(authority.identity("anna"));
    let error = soon(otto.connect_timeout(Duration::from_secs(5)).into_future())
        .await
        .unwrap_err();
    assert!(matches!(error, StartError::Refused(_)), "{error}");
}

/// Whom a token stands for.
struct User {
    factor: i64,
}

fn refused<T>(reason: &str) -> Result<T, Refusal> {
    Err(Refusal {
        reason: reason.into(),
        retry_after: None,
    })
}

/// Multiplies by what admission has found.
fn multiplying() -> Service<()> {
    Service::new(()).on_request(async |context: Context<()>, question: Double| {
        let user = context.admitted::<User>();
        let user = user.ok_or_else(|| Status::new(StatusCode::PERMISSION_DENIED, "who is it?"))?;
        Ok::<_, Status>(Doubled {
            number: user.factor * question.number,
        })
    })
}

async fn multiplied(client: &Client, number: i64) -> i64 {
    let request = client.request::<Doubled>(&Double { number });
    soon(request.into_future()).await.unwrap().number
}

fn why(refused: Result<Client, StartError>) -> String {
    match refused {
        Err(StartError::Refused(DisconnectReason::Peer { reason, .. })) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn handlers_know_the_user_that_the_token_stands_for_now() {
    async fn admit(request: AdmissionRequest) -> Result<User, Refusal> {
        let token = str::from_utf8(&request.credentials);
        match token.ok().and_then(|token| token.parse().ok()) {
            Some(factor) => Ok(User { factor }),
            None => refused("this token is no number"),
        }
    }
    for shards in [1, 3] {
        let authority = Authority::new();
        let server = authority.server().admission(Admit::ask(admit));
        let server = server.service(multiplying()).config(quick());
        let server = server.shards(shards).await.unwrap();
        let relay = Relay::to(server.local_addr()).await;
        let mut config = quick();
        config.heartbeat.interval = Duration::from_millis(200);
        let connect = |id: &str, token: &'static str| {
            let client = authority.client(relay.address, id).config(config.clone());
            client.credentials(token).into_future()
        };
        let anna = soon(connect("anna", "2")).await.unwrap();
        let otto = soon(connect("otto", "3")).await.unwrap();
        assert_eq!(multiplied(&anna, 10).await, 20);
        assert_eq!(multiplied(&otto, 10).await, 30);
        assert_eq!(
            why(soon(connect("emil", "five")).await),
            "this token is no number"
        );

        anna.set_credentials("7").await.unwrap();
        assert_eq!(multiplied(&anna, 10).await, 20);
        relay.cut();
        for client in [&anna, &otto] {
            soon(client.wait_for(|state| !state.is_connected())).await;
        }
        relay.mend();
        assert_eq!(multiplied(&anna, 10).await, 70);
        assert_eq!(multiplied(&otto, 10).await, 30);
        for (client, factor) in [(&anna, 7), (&otto, 3)] {
            let peer = server.client(client.client_id()).unwrap();
            assert_eq!(peer.admitted::<User>().unwrap().factor, factor);
            assert!(peer.admitted::<i64>().is_none());
            assert!(client.admitted::<User>().is_none());
        }
    }
}

#[tokio::test]
async fn without_a_function_nothing_is_found_out() {
    let authority = Authority::new();
    let server = authority.server().admission(Admit::open());
    let server = server.service(multiplying()).await.unwrap();
    let client = authority.client(server.local_addr(), "anna");
    let client = soon(client.into_future()).await.unwrap();
    let request = client.request::<Doubled>(&Double { number: 1 });
    match soon(request.into_future()).await {
        Err(PromiseError::Rejected(status)) => {
            assert_eq!(status.code, StatusCode::PERMISSION_DENIED)
        }
        other => panic!("not rejected: {other:?}"),
    }
}

#[tokio::test]
async fn mutual_tls_may_have_a_check_of_ones_own_behind_it() {
    async fn admit(request: AdmissionRequest) -> Result<User, Refusal> {
        if !request.is_named_by_certificate() {
            return refused("not named");
        }
        match request.client.as_str() {
            "anna" => Ok(User { factor: 5 }),
            _ => refused("no account"),
        }
    }
    let authority = Authority::new();
    let admission = Admit::ask(admit).with_client_roots(authority.roots());
    let server = authority.server().admission(admission);
    let server = server.service(multiplying()).await.unwrap();
    let connect = |id: &str, certificate: Option<&str>| {
        let client = authority.client(server.local_addr(), id);
        match certificate {
            Some(name) => client.identity(authority.identity(name)).into_future(),
            None => client.into_future(),
        }
    };
    let anna = soon(connect("anna", Some("anna"))).await.unwrap();
    assert_eq!(multiplied(&anna, 10).await, 50);
    for (id, certificate, reason) in [
        ("otto", Some("otto"), "no account"),
        ("anna", Some("otto"), "not named"),
        ("anna", Some("Anna"), "not named"),
        ("anna", None, "not named"),
    ] {
        assert_eq!(why(soon(connect(id, certificate)).await), reason, "{id}");
    }
}
