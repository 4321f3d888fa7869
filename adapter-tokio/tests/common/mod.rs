//! Throwaway certificates, message types and a service for tests over real sockets.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test file uses a part"
)]

pub mod ports;
pub mod relay;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use trunkline_tokio::{Client, ClientBuilder, Config, Identity, Roots, Server, ServerBuilder};

/// A certificate authority that exists for one test.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    pub fn identity(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity::from_pem(
            certificate.pem().as_bytes(),
            key.serialize_pem().as_bytes(),
            name,
        )
        .unwrap()
    }

    pub fn roots(&self) -> Roots {
        Roots::from_pem(self.issuer.pem().as_bytes(), "authority").unwrap()
    }

    /// A server on any free port, without an admission yet.
    pub fn server(&self) -> ServerBuilder {
        self.server_at(loopback())
    }

    pub fn server_at(&self, address: SocketAddr) -> ServerBuilder {
        Server::bind(address)
            .identity(self.identity("localhost"))
            .config(quick())
    }

    pub fn client(&self, address: SocketAddr, id: &str) -> ClientBuilder {
        Client::connect(address.to_string())
            .server_name("localhost")
            .roots(self.roots())
            .client_id(id)
            .config(quick())
    }
}

pub fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Redials fast, so that tests of reconnects do.
pub fn quick() -> Config {
    let mut config = Config::default();
    config.redial.first = Duration::from_millis(20);
    config
}

/// Fails a test that hangs.
pub async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work)
        .await
        .expect("it should not take this long")
}

macro_rules! message {
    ($name:ident, $full:literal { $($field:ident: $type:ty = $tag:literal $kind:ident),* }) => {
        #[derive(Clone, PartialEq, prost::Message)]
        pub struct $name { $(#[prost($kind, tag = $tag)] pub $field: $type,)* }
        impl prost::Name for $name {
            const NAME: &'static str = stringify!($name);
            const PACKAGE: &'static str = $full;
        }
    };
}

message!(Note, "test.v1" { number: u64 = "1" uint64 });
message!(Other, "test.v1" { number: u64 = "1" uint64 });
message!(Double, "test.v1" { number: i64 = "1" int64 });
message!(Doubled, "test.v1" { number: i64 = "1" int64 });
