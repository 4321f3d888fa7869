//! What a running server or client shows of itself is changed.

use bytes::Bytes;

use super::client::Client;
use super::server::ServerHandle;
use super::slot::Stopped;
use super::wall::correct;
use crate::{CommandError, ConfigError, Identity, Node};

impl ServerHandle {
    /// Shows another certificate to clients whose connection begins from now on, because the one before runs
    /// out; links that are up go on as they are. If it cannot be used, the one before stays. Cancel-safe:
    /// dropped after its first poll, it is changed all the same.
    pub async fn set_identity(&self, identity: Identity) -> Result<(), ChangeError> {
        let wall = self.shared().desks[0].runtime.wall();
        let change = move |node: &mut Node, now| {
            correct(node, now, wall);
            node.set_server_identity(now, identity)
        };
        let changed = self.shared().ask_each(change).await?;
        Ok(changed.into_iter().collect::<Result<(), _>>()?)
    }
}

impl<P> Client<P> {
    /// Shows another certificate to the server from the next link on. If it cannot be used, the one before
    /// stays. Cancel-safe: dropped after its first poll, it is changed all the same.
    pub async fn set_identity(&self, identity: Identity) -> Result<(), ChangeError> {
        let wall = self.peer().0.desk.runtime.wall();
        let change = move |node: &mut Node, now| {
            correct(node, now, wall);
            node.set_client_identity(now, identity)
        };
        Ok(self.peer().0.desk.ask(change).await??)
    }

    /// Shows other credentials to the server's admission from the next link on, at most 2 KiB. Set them before
    /// those that it has expire: a server that refuses a client
    /// [without a time to retry](crate::Refusal::retry_after) has refused it for good. Cancel-safe: dropped
    /// after its first poll, they are changed all the same.
    pub async fn set_credentials(&self, credentials: impl Into<Bytes>) -> Result<(), ChangeError> {
        let (session, credentials) = (self.session(), credentials.into());
        let change = move |node: &mut Node, now| node.set_credentials(now, session, credentials);
        Ok(self.peer().0.desk.ask(change).await??)
    }
}

/// Why what is shown was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] ConfigError),
    /// The credentials are too large, or the client's session is over.
    #[error(transparent)]
    Credentials(#[from] CommandError),
    /// The driver has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}
