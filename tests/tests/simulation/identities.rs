//! Certificates and credentials are changed while nodes run.

use std::future::IntoFuture;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use trunkline_core::driver::{Admit, ChangeError};
use trunkline_core::trace::replay;
use trunkline_core::{
    Admission, CloseCode, CommandError, ConfigError, DisconnectReason, Event, Identity, SessionKey,
    TlsError,
};
use trunkline_testkit::simulated::{Client, Server, Simulation};
use trunkline_testkit::{Authority, NodeIndex, Recording, World, echo};

use crate::SECOND;

fn issue(authority: &Authority, name: &str) -> Identity {
    authority.issue(&[name]).unwrap().identity().unwrap()
}

fn expired() -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(1980, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    Identity::from_der(vec![certificate.der().clone()], key, "the old one").unwrap()
}

fn is_connected(world: &World, client: NodeIndex) -> bool {
    world.count(client, |event| matches!(event, Event::Connected { .. })) > 0
}

/// Why a client's session is over.
fn closed(world: &World, client: NodeIndex, session: SessionKey) -> DisconnectReason {
    let reason = world.log(client).iter().find_map(|(_, event)| match event {
        Event::Closed {
            session: key,
            reason,
        } if *key == session => Some(reason.clone()),
        _ => None,
    });
    reason.unwrap_or_else(|| panic!("{:?}", world.log(client)))
}

fn replays(mut world: World, indices: &[NodeIndex]) {
    for index in indices {
        world.kill(*index);
        let trace = world.traces(*index).pop().unwrap();
        let report = replay(&trace[..], Instant::now()).unwrap();
        assert!(report.is_identical(), "{report}");
    }
}

#[test]
fn new_connections_see_a_servers_new_certificate_and_old_links_go_on() {
    for recording in [Recording::Wire, Recording::Link] {
        let mut world = World::new(1);
        world.record_at(recording);
        let authority = world.authority().clone();
        let server = world.server();
        let clients = [world.client(), world.client(), world.client()];
        let [before, meanwhile, after] = clients;
        let session = world.connect(before, server, "before");
        world.run(SECOND, echo);

        let change = |world: &mut World, name| {
            let now = world.now();
            let identity = issue(&authority, name);
            world
                .node(server)
                .set_server_identity(now, identity)
                .unwrap();
        };
        change(&mut world, "elsewhere");
        let refused = world.connect(meanwhile, server, "meanwhile");
        let promise = world.request(before, session, b"still there?");
        world.run(4 * SECOND, echo);
        let outcome = world.outcome(before, promise);
        assert_eq!(outcome.as_deref(), Some("Replied still there?"));
        let reason = closed(&world, meanwhile, refused);
        assert!(
            matches!(reason, DisconnectReason::Certificate(_)),
            "{reason}"
        );

        change(&mut world, "localhost");
        world.connect(after, server, "after");
        world.run(SECOND, echo);
        assert!(is_connected(&world, after));
        replays(world, &[server, before, meanwhile, after]);
    }
}

#[test]
fn a_client_shows_its_new_certificate_from_its_next_link_on() {
    for recording in [Recording::Wire, Recording::Link] {
        let mut world = World::new(2);
        world.record_at(recording);
        world.admission = Admission::MutualTls;
        let authority = world.authority().clone();
        world.client_roots = Some(authority.roots().unwrap());
        world.client_identity = Some(issue(&authority, "bob"));
        let server = world.server();
        let client = world.client();
        let session = world.connect(client, server, "anna");
        world.run(SECOND, echo);
        let reason = closed(&world, client, session);
        let code = CloseCode::UNAUTHENTICATED;
        assert!(
            matches!(&reason, DisconnectReason::Peer { code: c, .. } if *c == code),
            "{reason}"
        );
        let now = world.now();
        let identity = issue(&authority, "anna");
        world
            .node(client)
            .set_client_identity(now, identity)
            .unwrap();
        world.connect(client, server, "anna");
        world.run(SECOND, echo);
        assert!(is_connected(&world, client));
        replays(world, &[server, client]);
    }
}

#[test]
fn a_client_shows_its_new_credentials_when_it_comes_back() {
    for recording in [Recording::Wire, Recording::LinkWithBodies, Recording::Link] {
        let mut world = World::new(3);
        world.record_at(recording);
        world.admission = Admission::Ask;
        let server = world.server();
        let client = world.client();
        let session = world.connect(client, server, "alice");
        let mut shown = Vec::new();
        let mut run = |world: &mut World, time| {
            world.run(time, |node, now, event| {
                if let Event::Admission(request) = event {
                    shown.push(request.credentials.clone());
                    node.admit(now, request.link).unwrap();
                }
                echo(node, now, event);
            });
        };
        run(&mut world, SECOND);
        let now = world.now();
        let node = world.node(client);
        node.set_credentials(now, session, "renewed").unwrap();
        let too_many = node.set_credentials(now, session, vec![0; 2_048]);
        let size = 2_048 + "testkit".len();
        let limit = 2_048;
        assert_eq!(
            too_many,
            Err(CommandError::CredentialsTooLarge { size, limit })
        );
        world.path.cut = true;
        run(&mut world, 60 * SECOND);
        world.path.cut = false;
        run(&mut world, 60 * SECOND);
        assert_eq!(shown, ["", "renewed"]);
        replays(world, &[server, client]);
    }
}

#[test]
fn what_cannot_be_shown_changes_nothing() {
    let mut world = World::new(4);
    let authority = world.authority().clone();
    let server = world.server();
    let clients = [world.client(), world.client()];
    let session = world.connect(clients[0], server, "first");
    world.run(SECOND, echo);
    let now = world.now();
    let localhost = || issue(&authority, "localhost");
    let refused = [
        world.node(clients[0]).set_server_identity(now, localhost()),
        world.node(server).set_client_identity(now, localhost()),
    ];
    for (refused, role) in refused.into_iter().zip(["roles.server", "roles.client"]) {
        let Err(ConfigError::OutOfRange { field, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(field, role);
    }
    let servers = world.node(server).sessions().next().unwrap().session;
    let node = world.node(server);
    let refused = node.set_credentials(now, servers, "x");
    assert_eq!(refused, Err(CommandError::NotConfigured("dialled session")));
    let node = world.node(clients[0]);
    node.close(now, session, CloseCode::NORMAL, "").unwrap();
    world.run(SECOND, echo);
    let now = world.now();
    let refused = world.node(clients[0]).set_credentials(now, session, "x");
    assert_eq!(refused, Err(CommandError::UnknownSession));

    let refused = world.node(server).set_server_identity(now, expired());
    assert!(
        matches!(refused, Err(ConfigError::Tls(TlsError::Expired { .. }))),
        "{refused:?}"
    );
    world.connect(clients[1], server, "second");
    world.run(SECOND, echo);
    assert!(is_connected(&world, clients[1]));
}

#[test]
fn a_running_service_changes_what_it_shows() {
    let simulation = Simulation::new(5);
    let (servers, clients) = (
        Authority::named("another").unwrap(),
        Authority::new().unwrap(),
    );
    // Credentials, and how many certificates there are.
    let shown = Arc::new(Mutex::new(Vec::new()));
    let serve = || {
        let seen = shown.clone();
        let server = Server::bind("127.0.0.1:4433".parse().unwrap())
            .identity(simulation.certificates().server)
            .admission(
                Admit::ask(move |request| {
                    let seen = &mut seen.lock().unwrap();
                    seen.push((request.credentials, request.certificates.len()));
                    async { Ok(()) }
                })
                .with_client_roots(clients.roots().unwrap()),
            );
        server.into_future()
    };
    let connect = |roots| {
        Client::connect("localhost:4433")
            .roots(roots)
            .client_id("alice")
    };
    simulation.run(async {
        let server = serve().await.unwrap();
        let client = connect(simulation.certificates().roots)
            .credentials("first")
            .await
            .unwrap();
        let refused = client.set_credentials(vec![0; 3_000]).await;
        assert!(
            matches!(
                refused,
                Err(ChangeError::Credentials(
                    CommandError::CredentialsTooLarge { .. }
                ))
            ),
            "{refused:?}"
        );
        client.set_credentials("second").await.unwrap();
        client.set_identity(issue(&clients, "alice")).await.unwrap();
        let identity = issue(&servers, "localhost");
        server.set_identity(identity.clone()).await.unwrap();
        // It trusts the new one alone.
        let other = connect(servers.roots().unwrap()).await.unwrap();
        assert!(client.state().is_connected());
        server.close().await;
        let refused = server.set_identity(identity).await;
        assert!(
            matches!(refused, Err(ChangeError::Stopped(_))),
            "{refused:?}"
        );
        other.close().await;
        // The client comes back by itself.
        let _server = serve().await.unwrap();
        client.wait_for(|state| !state.is_connected()).await;
        client.connected().await.unwrap();
        client.close().await;
    });
    let shown = shown.lock().unwrap();
    assert_eq!(
        *shown,
        [("first".into(), 0), ("".into(), 0), ("second".into(), 1)]
    );
}
