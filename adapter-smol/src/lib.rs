//! Reliable client-server messaging over QUIC, for smol.
//!
//! ```no_run
//! use trunkline_smol::{Admit, Client, Context, Server, Service, Status};
//! # #[derive(Clone, PartialEq, prost::Message)] struct Hello { #[prost(string, tag = "1")] name: String }
//! # impl prost::Name for Hello { const NAME: &'static str = "Hello"; const PACKAGE: &'static str = "greeter.v1"; }
//! # #[derive(Clone, PartialEq, prost::Message)] struct Welcome { #[prost(string, tag = "1")] text: String }
//! # impl prost::Name for Welcome { const NAME: &'static str = "Welcome"; const PACKAGE: &'static str = "greeter.v1"; }
//!
//! async fn hello(_: Context<()>, hello: Hello) -> Result<Welcome, Status> {
//!     Ok(Welcome { text: format!("welcome, {}", hello.name) })
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::bind("127.0.0.1:4433".parse()?)
//!     .identity_pem_files("server.pem", "server.key")
//!     .admission(Admit::open())
//!     .service(Service::new(()).on_request(hello))
//!     .await?;
//!
//! let client = Client::connect("localhost:4433").roots_pem_file("ca.pem").client_id("anna").await?;
//! let welcome: Welcome = client.request(&Hello { name: "Anna".into() }).await?;
//! println!("{}", welcome.text);
//!
//! client.close().await;
//! server.close().await;
//! # Ok(()) }
//! ```
//!
//! Messages and requests are kept until the peer holds them, and survive reconnects: each arrives
//! once, and in order in its lane, as long as the session lives. `send(..).await` means that the
//! message is on its way to the outbox: should it not arrive, [`Hooks::undelivered`] and events tell, and a
//! handler that rejects it says so in its own log alone. `send(..).acked().await` means that the peer's handler has accepted
//! it. A broadcast is best effort. Nothing survives the process.
//!
//! Each server or client is one task of smol's global executor, or of an executor that it is
//! [told to run on](ClientBuilder::runtime): see [`Runtime`]. When that executor is dropped, all
//! that waits for it ends with [`Stopped`]. The global one never is: await `close()` before `main` returns, or peers
//! are not told that this side has gone, hooks hear of no end, and a recording lacks its last part.
//!
//! A server that is too much for one thread has several, each with a socket, connections and
//! sessions of its own, and stays one server to its clients and to whoever holds its handles:
//! [`.shards(n)`](ServerBuilder::shards).
//!
//! What happens is told to [`tracing`](https://docs.rs/tracing). In production, keep QUIC's own lines to errors
//! (`quinn_proto=error` in a filter): it warns of each packet with a wrong token, and those anybody can make.
//!
//! This crate is a socket, a clock and `spawn`; all else is [`trunkline_core::driver`], where
//! every name here comes from.

mod reactor;
mod runtime;
mod shard;

pub use runtime::Runtime;
pub use trunkline_core::driver::exports::*;

/// A running server; see [`trunkline_core::driver::Server`].
pub type Server = trunkline_core::driver::Server<Runtime>;

/// A client of one server; see [`trunkline_core::driver::Client`].
pub type Client = trunkline_core::driver::Client<Runtime>;

/// Sets up a server; see [`trunkline_core::driver::ServerBuilder`].
pub type ServerBuilder = trunkline_core::driver::ServerBuilder<Runtime>;

/// Sets up a client; see [`trunkline_core::driver::ClientBuilder`].
pub type ClientBuilder = trunkline_core::driver::ClientBuilder<Runtime>;
