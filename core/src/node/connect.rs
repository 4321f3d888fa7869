//! A client session begins.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use trunkline_proto as wire;

use crate::dial::Dialing;
use crate::error::CommandError;
use crate::id::{ClientId, Hidden, SessionKey};
use crate::quic::Endpoint;
use crate::tap::{Body, Call};

use super::Node;
use super::race::check_dialable;
use super::tables::Session;

/// How to reach a server, and as whom.
#[derive(Clone)]
pub struct Dial {
    /// The server's address.
    pub address: SocketAddr,
    /// The name that its certificate must bear.
    pub server_name: String,
    /// Who this client is.
    pub client: ClientId,
    /// What the server's admission wants to see, at most 2 KiB.
    pub credentials: Bytes,
    /// Name and version of this software, for the server's logs.
    pub agent: String,
}

impl Dial {
    /// Without credentials, for the server of that name at that address. Fields are changed as they are needed:
    ///
    /// ```
    /// # use trunkline_core::Dial;
    /// let dial = Dial {
    ///     credentials: "open sesame".into(),
    ///     ..Dial::new("192.0.2.1:4433".parse()?, "localhost", "anna".parse()?)
    /// };
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(address: SocketAddr, server_name: impl Into<String>, client: ClientId) -> Self {
        Self {
            address,
            server_name: server_name.into(),
            client,
            credentials: Bytes::new(),
            agent: concat!("trunkline/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Without the credentials.
impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial")
            .field("address", &self.address)
            .field("server_name", &self.server_name)
            .field("client", &self.client)
            .field("credentials", &Hidden(self.credentials.len()))
            .field("agent", &self.agent)
            .finish()
    }
}

/// Whether they fit into a Hello.
pub(super) fn check_credentials(credentials: &[u8], agent: &str) -> Result<(), CommandError> {
    let size = credentials.len() + agent.len();
    let limit = wire::CREDENTIALS_MAX;
    if size > limit {
        return Err(CommandError::CredentialsTooLarge { size, limit });
    }
    Ok(())
}

impl Node {
    /// Begins a client session. The key is good until [`crate::Event::Closed`]. Nothing has changed if it fails.
    pub fn connect(&mut self, now: Instant, dial: Dial) -> Result<SessionKey, CommandError> {
        let call = || Call::Connect {
            address: dial.address,
            server_name: &dial.server_name,
            client: dial.client.as_str(),
            credentials: Body::Whole(&dial.credentials),
            agent: &dial.agent,
        };
        let now = self.enter(now, call);
        let Dial {
            address,
            server_name,
            client,
            credentials,
            agent,
        } = dial;
        if !self.endpoint.has_client_role() {
            return Err(CommandError::NotConfigured("client role"));
        }
        if self.draining.is_some() {
            return Err(CommandError::Closing);
        }
        check_credentials(&credentials, &agent)?;
        check_dialable(address)?;
        Endpoint::check_server_name(&server_name)?;
        let tokens = self.new_tokens();
        let dialing = Dialing::new(address, server_name, credentials, agent, self.config.redial);
        let session = Session {
            dialing: Some(Box::new(dialing)),
            ..self.session(client, tokens)
        };
        let key = self.sessions.insert_with(|_| session);
        if let Err(error) = self.dial(now, key) {
            self.sessions.remove(key);
            return Err(error);
        }
        self.metrics.sessions_opened += 1;
        Ok(key)
    }
}
