//! Where clients dial: names that move, servers that send their clients elsewhere, two families.

use std::net::SocketAddr;

use trunkline_core::DrainPlan;
use trunkline_core::driver::StartError;

use super::lab::{Lab, within};
use super::{Certificate, Client, ClientBuilder, Note, SECOND};

impl Certificate {
    fn client_of(&self, target: &str) -> ClientBuilder {
        Client::connect(target)
            .server_name("localhost")
            .roots(self.roots.clone())
            .client_id("anna")
    }
}

#[test]
fn a_name_is_looked_up_again_before_each_redial() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let [old, new] =
            [certificate.server().await, certificate.server().await].map(Result::unwrap);
        lab.name("server:1", &[old.local_addr()]);
        let client = certificate.client_of("server:1").await.unwrap();
        lab.name("server:1", &[new.local_addr()]);
        old.close().await;
        client.wait_for(|state| !state.is_connected()).await;
        // With the first redial, which follows within a second or so.
        let back = within(&lab, 3 * SECOND, client.connected()).await;
        back.unwrap().unwrap();
        assert_eq!(client.address(), Some(new.local_addr()));
    });
}

#[test]
fn a_client_goes_where_a_draining_server_sends_it_whatever_it_dialled_at_first() {
    for (by_name, to_name) in [(false, false), (false, true), (true, false), (true, true)] {
        Lab::run(async |lab| {
            let certificate = Certificate::new();
            let [old, new] =
                [certificate.server().await, certificate.server().await].map(Result::unwrap);
            lab.name("old:1", &[old.local_addr()]);
            lab.name("new:1", &[new.local_addr()]);
            let target = old.local_addr().to_string();
            let client = certificate.client_of(if by_name { "old:1" } else { &target });
            let client = client.await.unwrap();
            let number = new.local_addr().to_string();
            let alternative = if to_name { "new:1".into() } else { number };
            let plan = DrainPlan {
                deadline: SECOND,
                retry_after: None,
                alternative: Some(alternative),
            };
            old.drain_with(plan).await.unwrap();
            client.wait_for(|state| !state.is_connected()).await;
            client.connected().await.unwrap();
            assert_eq!(client.address(), Some(new.local_addr()));
        });
    }
}

#[test]
fn a_target_that_is_no_host_and_port_is_told_what_it_lacks() {
    Lab::run(async |_| {
        for target in ["localhost", "::1", ":1", "localhost:http", "[::1]"] {
            let error = Certificate::new().client_of(target).await.unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains(target) && error.contains("host:port"),
                "{error}"
            );
        }
    });
}

#[test]
fn the_time_for_connecting_includes_the_look_up() {
    Lab::run(async |lab| {
        lab.name("nowhere:1", &[]);
        let client = Certificate::new().client_of("nowhere:1");
        let client = client.connect_timeout(SECOND).into_future();
        let error = within(&lab, 2 * SECOND, client).await.unwrap().unwrap_err();
        assert!(matches!(error, StartError::TimedOut { .. }), "{error}");
        let words = "not connected to nowhere:1 within 1s; its name was still being looked up";
        assert_eq!(error.to_string(), words);
    });
}

#[test]
fn a_server_of_the_other_family_is_found_too() {
    for has_ipv6 in [true, false] {
        Lab::run(async |lab| {
            if !has_ipv6 {
                lab.without_ipv6();
            }
            let certificate = Certificate::new();
            let server = certificate.server().await.unwrap();
            let nobody: SocketAddr = "[::1]:9".parse().unwrap();
            lab.name("localhost:1", &[nobody, server.local_addr()]);
            let before = lab.now();
            let client = certificate.client_of("localhost:1").await.unwrap();
            let after = lab.now() - before;
            assert!(after < std::time::Duration::from_secs(1), "{after:?}");
            client.send(&Note { number: 1 }).await.unwrap();
            assert_eq!(server.clients().await.unwrap().len(), 1);
        });
    }
}

#[test]
fn a_client_follows_its_server_to_the_other_family() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let [v4, v6] = ["127.0.0.1:0", "[::1]:0"].map(|address| address.parse().unwrap());
        let mut server = certificate.server_at(v4).await.unwrap();
        lab.name("server:1", &[server.local_addr()]);
        let client = certificate.client_of("server:1").await.unwrap();
        for next in [v6, v4] {
            let next = certificate.server_at(next).await.unwrap();
            lab.name("server:1", &[next.local_addr()]);
            server.close().await;
            client.wait_for(|state| !state.is_connected()).await;
            let back = within(&lab, 3 * SECOND, client.connected()).await;
            back.unwrap().unwrap();
            assert_eq!(client.address(), Some(next.local_addr()));
            server = next;
        }
    });
}

/// As an IPv6 socket of some systems does not.
#[test]
fn a_server_of_ipv4_is_reached_where_a_socket_of_ipv6_does_not_serve_that() {
    Lab::run(async |lab| {
        lab.without_mapping();
        let certificate = Certificate::new();
        for (address, ipv6) in [("127.0.0.1:0", false), ("[::1]:0", true)] {
            let server = certificate.server_at(address.parse().unwrap());
            let server = server.await.unwrap();
            let client = certificate.client(server.local_addr(), "anna");
            let client = client.await.unwrap();
            assert_eq!(client.local_addr().is_ipv6(), ipv6);
        }
    });
}

#[test]
fn a_machine_without_ipv6_says_so_to_whom_has_nothing_else_to_dial() {
    Lab::run(async |lab| {
        lab.without_ipv6();
        let error = Certificate::new().client_of("[::1]:1").await.unwrap_err();
        assert!(matches!(error, StartError::Bind { .. }), "{error}");
        assert!(error.to_string().contains("cannot bind to [::]:0"));
    });
}

#[test]
fn a_client_of_a_name_with_several_addresses_comes_back_to_its_session() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let [home, other] =
            [certificate.server().await, certificate.server().await].map(Result::unwrap);
        lab.name("server:1", &[home.local_addr(), other.local_addr()]);
        let client = certificate.client_of("server:1").await.unwrap();
        // As name servers do that share out the load.
        lab.name("server:1", &[other.local_addr(), home.local_addr()]);
        lab.socket(client.local_addr(), |socket| socket.cut = true);
        client.wait_for(|state| !state.is_connected()).await;
        lab.socket(client.local_addr(), |socket| socket.cut = false);
        client.connected().await.unwrap();
        assert_eq!(client.address(), Some(home.local_addr()));
        assert_eq!(home.metrics().await.unwrap().sessions_resumed, 1);
    });
}

/// It may still run: who takes a server out of service does not send clients there.
#[test]
fn an_address_that_a_name_no_longer_has_is_not_dialled_any_more() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let [gone, other] =
            [certificate.server().await, certificate.server().await].map(Result::unwrap);
        let [gone_at, other_at] = [gone.local_addr(), other.local_addr()];
        gone.close().await;
        other.close().await;
        lab.name("server:1", &[gone_at, other_at]);
        let client = certificate.client_of("server:1");
        let mut connecting = Box::pin(client.connect_timeout(600 * SECOND).into_future());
        assert!(within(&lab, 15 * SECOND, &mut connecting).await.is_none());

        lab.name("server:1", &[other_at]);
        // The next redial is aimed already, the one behind it is not.
        assert!(within(&lab, 60 * SECOND, &mut connecting).await.is_none());
        let gone = certificate.server_at(gone_at).await.unwrap();
        assert!(within(&lab, 120 * SECOND, &mut connecting).await.is_none());
        assert!(gone.clients().await.unwrap().is_empty());
        let _other = certificate.server_at(other_at).await.unwrap();
        let client = connecting.await.unwrap();
        assert_eq!(client.address(), Some(other_at));
    });
}

/// The session is there, and not where the client was once sent to.
#[test]
fn a_client_that_has_come_back_from_where_it_was_sent_stays() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let [old, elsewhere] =
            [certificate.server().await, certificate.server().await].map(Result::unwrap);
        let home = old.local_addr();
        let client = certificate.client_of(&home.to_string()).await.unwrap();
        let mut plan = DrainPlan::within(SECOND);
        plan.alternative = Some(elsewhere.local_addr().to_string());
        old.drain_with(plan).await.unwrap();
        old.close().await;
        client.wait_for(|state| !state.is_connected()).await;
        client.connected().await.unwrap();
        assert_eq!(client.address(), Some(elsewhere.local_addr()));

        let server = certificate.server_at(home).await.unwrap();
        lab.socket(elsewhere.local_addr(), |socket| socket.cut = true);
        client.wait_for(|state| !state.is_connected()).await;
        client.connected().await.unwrap();
        assert_eq!(client.address(), Some(home));

        lab.socket(elsewhere.local_addr(), |socket| socket.cut = false);
        lab.socket(client.local_addr(), |socket| socket.cut = true);
        client.wait_for(|state| !state.is_connected()).await;
        lab.socket(client.local_addr(), |socket| socket.cut = false);
        client.connected().await.unwrap();
        assert_eq!(client.address(), Some(home));
        assert_eq!(server.metrics().await.unwrap().sessions_resumed, 1);
    });
}

/// A server that goes away without an alternative is dialled where it is, and its client was sent there.
#[test]
fn a_client_comes_back_to_where_it_was_sent_when_that_server_goes_away_too() {
    for by_name in [false, true] {
        for closes in [false, true] {
            Lab::run(async |lab| {
                let certificate = Certificate::new();
                let [old, elsewhere] =
                    [certificate.server().await, certificate.server().await].map(Result::unwrap);
                let (home, there) = (old.local_addr(), elsewhere.local_addr());
                lab.name("elsewhere:1", &[there]);
                let client = certificate.client_of(&home.to_string()).await.unwrap();
                let mut plan = DrainPlan::within(SECOND);
                plan.alternative = Some(match by_name {
                    true => "elsewhere:1".into(),
                    false => there.to_string(),
                });
                old.drain_with(plan).await.unwrap();
                old.close().await;
                client.wait_for(|state| !state.is_connected()).await;
                client.connected().await.unwrap();
                assert_eq!(client.address(), Some(there));

                // The first one runs again, and would have the client.
                let _old = certificate.server_at(home).await.unwrap();
                if !closes {
                    elsewhere.drain(SECOND).await.unwrap();
                }
                elsewhere.close().await;
                client.wait_for(|state| !state.is_connected()).await;
                let _elsewhere = certificate.server_at(there).await.unwrap();
                client.connected().await.unwrap();
                assert_eq!(client.address(), Some(there), "{by_name} {closes}");
            });
        }
    }
}
