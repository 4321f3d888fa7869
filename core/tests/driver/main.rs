//! The driver, on a runtime in virtual time: what handles promise, whatever happens around them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "tests may"
)]

mod admission;
mod authorities;
mod closing;
mod dialling;
mod excepting;
mod lab;
mod looking;
mod moving;
mod panicking;
mod sending;
mod shards;
mod sleeping;
mod telling;
mod turning;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use trunkline_core::driver::{self, Admit, Context, Service};
use trunkline_core::{Config, Identity, Roots};

use self::lab::Lab;

type Server = driver::Server<Lab>;
type Client = driver::Client<Lab>;
type ServerBuilder = driver::ServerBuilder<Lab>;
type ClientBuilder = driver::ClientBuilder<Lab>;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// A certificate that signs itself.
struct Certificate {
    identity: Identity,
    roots: Roots,
}

impl Certificate {
    fn new() -> Self {
        Self::of(vec!["localhost".into()])
    }

    /// It stands for these names.
    fn of(names: Vec<String>) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (pem, key) = (certificate.pem(), key.serialize_pem());
        Self {
            identity: Identity::from_pem(pem.as_bytes(), key.as_bytes(), "server").unwrap(),
            roots: Roots::from_pem(pem.as_bytes(), "roots").unwrap(),
        }
    }

    /// A server that lets everybody in.
    fn server(&self) -> ServerBuilder {
        self.server_at("127.0.0.1:0".parse().unwrap())
    }

    fn server_at(&self, address: SocketAddr) -> ServerBuilder {
        Server::bind(address)
            .identity(self.identity.clone())
            .admission(Admit::open())
    }

    fn client(&self, address: SocketAddr, id: &str) -> ClientBuilder {
        Client::connect(address.to_string())
            .server_name("localhost")
            .roots(self.roots.clone())
            .client_id(id)
    }
}

type Numbers = Arc<Mutex<Vec<u64>>>;

/// Writes down what comes.
fn book() -> (Numbers, Service<Numbers>) {
    let numbers = Numbers::default();
    let service = Service::new(numbers.clone()).on(async |book: Context<Numbers>, note: Note| {
        book.state().lock().unwrap().push(note.number);
    });
    (numbers, service)
}

/// The defaults, changed a little.
fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

macro_rules! message {
    ($name:ident { $($field:ident: $type:ty = $tag:literal $kind:ident),* }) => {
        #[derive(Clone, PartialEq, prost::Message)]
        struct $name { $(#[prost($kind, tag = $tag)] $field: $type,)* }
        impl prost::Name for $name {
            const NAME: &'static str = stringify!($name);
            const PACKAGE: &'static str = "test.v1";
        }
    };
}

message!(Note { number: u64 = "1" uint64 });
message!(Ask { number: u64 = "1" uint64 });
message!(Answer { number: u64 = "1" uint64 });

#[test]
fn every_async_function_says_whether_it_is_cancel_safe() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/driver");
    let mut checked = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let mut docs = String::new();
        for line in text.lines().map(str::trim) {
            if line.starts_with("pub async fn") {
                assert!(docs.contains("ancel-safe"), "{}: {line}", path.display());
                checked += 1;
            }
            match line.strip_prefix("///") {
                Some(doc) => docs.push_str(doc),
                None => docs.clear(),
            }
        }
    }
    assert!(checked > 20, "does this test still read them? {checked}");
}
