//! The server and the clients that most tests want.

use std::net::{Ipv4Addr, SocketAddr};

use trunkline_core::driver::{Admit, ClientBuilder, ServerBuilder};

use super::{Client, Server, Simulation};

/// Where the server is; its certificate is for this name.
const HOST: &str = "localhost";
const PORT: u16 = 4_433;

impl Simulation {
    /// Sets up a server at 127.0.0.1:4433, with a certificate for `localhost`, which lets everybody in; what it
    /// serves is for its builder to be told, as is all that is to be otherwise. Awaited inside of
    /// [`run`](Self::run), it starts; it runs until its last handle is dropped.
    pub fn server(&self) -> ServerBuilder<Self> {
        Server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)))
            .runtime(self.clone())
            .identity(self.certificates().server)
            .admission(Admit::open())
    }

    /// Sets up a client of that server, which has this client id. Awaited inside of [`run`](Self::run), it
    /// connects; it stays until its last handle is dropped.
    pub fn client(&self, id: impl AsRef<str>) -> ClientBuilder<Self> {
        Client::connect(format!("{HOST}:{PORT}"))
            .runtime(self.clone())
            .roots(self.certificates().roots)
            .client_id(id)
    }
}
