//! Machines that were suspended: the monotonic clock has stood still, and certificates have been renewed.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use trunkline_core::driver::State;
use trunkline_core::{Identity, Roots};

use super::lab::{Lab, within};
use super::{Certificate, SECOND};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Two certificates of one name, both of which clients trust: the second is valid in three weeks.
fn now_and_later() -> (Certificate, Identity) {
    let key = KeyPair::generate().unwrap();
    let certificate = |from: SystemTime| {
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.not_before = from.into();
        params.not_after = (from + 30 * DAY).into();
        params.self_signed(&key).unwrap().pem()
    };
    let now = SystemTime::now();
    let pems = [now - DAY, now + 20 * DAY].map(certificate);
    let identity = |pem: &String| {
        let key = key.serialize_pem();
        Identity::from_pem(pem.as_bytes(), key.as_bytes(), "server").unwrap()
    };
    let roots = Roots::from_pem(pems.concat().as_bytes(), "roots").unwrap();
    let [first, second] = [identity(&pems[0]), identity(&pems[1])];
    let certificate = Certificate {
        identity: first,
        roots,
    };
    (certificate, second)
}

#[test]
fn a_client_that_slept_takes_a_certificate_that_was_made_meanwhile() {
    Lab::run(async |lab| {
        let (certificate, renewed) = now_and_later();
        let server = certificate.server().await.unwrap();
        let address = server.local_addr();
        let client = certificate.client(address, "anna").await.unwrap();
        lab.suspend(21 * DAY);
        server.close().await;
        let back = client.wait_for(|state| !state.is_connected());
        within(&lab, 60 * SECOND, back).await.unwrap();
        let server = trunkline_core::driver::Server::<Lab>::bind(address)
            .identity(renewed)
            .admission(trunkline_core::driver::Admit::open());
        let _server = server.await.unwrap();
        let back = client.wait_for(State::is_connected);
        assert!(
            within(&lab, 60 * SECOND, back).await.is_some(),
            "{:?}",
            client.state()
        );
    });
}

#[test]
fn a_server_that_slept_shows_a_certificate_that_was_made_meanwhile() {
    Lab::run(async |lab| {
        let (certificate, renewed) = now_and_later();
        let server = certificate.server().await.unwrap();
        let too_early = server.set_identity(renewed.clone()).await;
        assert!(too_early.is_err(), "it is not valid yet");
        lab.suspend(21 * DAY);
        server.set_identity(renewed).await.unwrap();
        let client = certificate.client(server.local_addr(), "anna").await;
        assert!(client.is_ok(), "{:?}", client.err());
    });
}
