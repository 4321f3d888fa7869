//! What a running server or client shows of itself is changed, and whom it trusts.

use bytes::Bytes;

use super::client::Client;
use super::server::ServerHandle;
use super::slot::Stopped;
use super::wall::correct;
use crate::{CommandError, ConfigError, Identity, Node, Roots};

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
        let changed = self.shared().change_each(change).await?;
        Ok(changed.into_iter().collect::<Result<(), _>>()?)
    }

    /// Trusts these roots alone to sign the certificates of clients whose connection begins from now on, in
    /// place of those that [admission](crate::driver::Admit) came with; links that are up go on as they are, and who
    /// is about to connect still does by the ones before. To
    /// replace an authority, trust both until clients have certificates of the new one. When this returns, all
    /// shards go by them; if they cannot be used, all stay with the ones before. Cancel-safe: dropped after its
    /// first poll, they are changed all the same.
    ///
    /// A server that came without roots asks for certificates from now on: clients may still show none, but one
    /// that these have not signed ends the connection.
    pub async fn set_client_roots(&self, roots: Roots) -> Result<(), ChangeError> {
        // Whether they can be used depends on them alone, so that no shard takes what another one refuses.
        let change = move |node: &mut Node, now| node.set_client_roots(now, roots);
        let changed = self.shared().change_each(change).await?;
        Ok(changed.into_iter().collect::<Result<(), _>>()?)
    }
}

impl<P> Client<P> {
    /// Shows another certificate to the server from the next dial on; one that is under way may still become a
    /// link with the one before. If it cannot be used, that stays. Cancel-safe: dropped after its first poll, it is changed all the same.
    pub async fn set_identity(&self, identity: Identity) -> Result<(), ChangeError> {
        let wall = self.peer().0.desk.runtime.wall();
        let change = move |node: &mut Node, now| {
            correct(node, now, wall);
            node.set_client_identity(now, identity)
        };
        Ok(self.peer().0.desk.change(change).await??)
    }

    /// Trusts these roots alone to sign the server's certificate from the next dial on; the link that is up goes
    /// on, and a dial that is under way may still become a link by the ones before. If they cannot be used, those
    /// stay. Cancel-safe: dropped after its first poll, they are
    /// changed all the same.
    pub async fn set_roots(&self, roots: Roots) -> Result<(), ChangeError> {
        let change = move |node: &mut Node, now| node.set_server_roots(now, roots);
        Ok(self.peer().0.desk.change(change).await??)
    }

    /// Shows other credentials to the server's admission from the next link on, at most 2 KiB. Set them before
    /// those that it has expire: a server that refuses a client
    /// [without a time to retry](crate::Refusal::retry_after) has refused it for good. Cancel-safe: dropped
    /// after its first poll, they are changed all the same.
    pub async fn set_credentials(&self, credentials: impl Into<Bytes>) -> Result<(), ChangeError> {
        let (session, credentials) = (self.session(), credentials.into());
        let change = move |node: &mut Node, now| node.set_credentials(now, session, credentials);
        Ok(self.peer().0.desk.change(change).await??)
    }
}

/// Why what is shown, or who is trusted, was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The identity, or the roots, cannot be used.
    #[error(transparent)]
    Identity(#[from] ConfigError),
    /// The credentials are too large, or the client's session is over.
    #[error(transparent)]
    Credentials(#[from] CommandError),
    /// The driver has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}
