//! What a running node shows of itself is changed, and whom it trusts: certificates run out, and so do tokens.

use std::time::Instant;

use bytes::Bytes;

use crate::error::{CommandError, ConfigError, TlsError};
use crate::id::SessionKey;
use crate::quic::{Identity, Roots};
use crate::tap::{Body, Call};

use super::Node;
use super::connect::check_credentials;
use super::roles::{ClientRole, ServerRole};

impl Node {
    /// Shows this certificate to clients whose connection begins from now on. Links that are up go on as
    /// they are. Clients must trust its issuer. What they are let in by, and whose certificates of theirs are
    /// trusted, does not change.
    ///
    /// # Errors
    /// [`ConfigError::Tls`] if it cannot be used, and [`ConfigError::OutOfRange`] if this node is no server.
    /// The one before stays, then.
    pub fn set_server_identity(
        &mut self,
        now: Instant,
        identity: Identity,
    ) -> Result<(), ConfigError> {
        let chain = identity.encoded();
        self.enter(now, || Call::SetServerIdentity { chain: &chain });
        let wall = self.endpoint.wall().read();
        self.change_server("changing the identity of a server alone", |role| {
            identity.put_to_use(wall)?;
            role.identity = identity;
            Ok(())
        })
    }

    /// Shows this certificate to servers that are dialled from now on, also by sessions that there are.
    ///
    /// # Errors
    /// As [`Node::set_server_identity`].
    pub fn set_client_identity(
        &mut self,
        now: Instant,
        identity: Identity,
    ) -> Result<(), ConfigError> {
        let chain = identity.encoded();
        self.enter(now, || Call::SetClientIdentity { chain: &chain });
        let wall = self.endpoint.wall().read();
        self.change_client("changing the identity of a client alone", |role| {
            identity.put_to_use(wall)?;
            role.identity = Some(identity);
            Ok(())
        })
    }

    /// Trusts these roots alone to sign the certificates of clients whose connection begins from now on: what
    /// [`ServerRole::client_roots`] says at the start. Links that are up go on as they are; sessions come back
    /// by the new roots, for no TLS session from before is resumed
    /// ([`Transport::tls_resumption`](crate::Transport::tls_resumption)). To replace an authority, trust both
    /// until clients have certificates of the new one.
    ///
    /// Any admission permits it: a server that has asked for no certificates does from now on, and without
    /// [`Admission::MutualTls`](crate::Admission::MutualTls) clients may still come with none.
    ///
    /// # Errors
    /// [`ConfigError::Tls`] if they cannot be used, and [`ConfigError::OutOfRange`] if this node is no server.
    /// The ones before stay, then.
    pub fn set_client_roots(&mut self, now: Instant, roots: Roots) -> Result<(), ConfigError> {
        let certificates = roots.encoded();
        let certificates = &certificates;
        self.enter(now, || Call::SetClientRoots { certificates });
        self.change_server("changing the roots of clients at a server alone", |role| {
            role.client_roots = Some(roots);
            Ok(())
        })
    }

    /// Trusts these roots alone to sign the certificates of servers that are dialled from now on, also by
    /// sessions that there are: what [`ClientRole::roots`] says at the start. Links that are up go on as they
    /// are, and no TLS session from before is resumed.
    ///
    /// # Errors
    /// [`ConfigError::Tls`] if they cannot be used, and [`ConfigError::OutOfRange`] if this node does not dial.
    /// The ones before stay, then.
    pub fn set_server_roots(&mut self, now: Instant, roots: Roots) -> Result<(), ConfigError> {
        let certificates = roots.encoded();
        let certificates = &certificates;
        self.enter(now, || Call::SetServerRoots { certificates });
        self.change_client("changing the roots of servers at a client alone", |role| {
            role.roots = roots;
            Ok(())
        })
    }

    /// What a client session shows to the server's admission from its next link on, at most 2 KiB.
    ///
    /// # Errors
    /// [`CommandError::CredentialsTooLarge`], [`CommandError::UnknownSession`], or
    /// [`CommandError::NotConfigured`] if it is a server's session. The ones before stay, then.
    pub fn set_credentials(
        &mut self,
        now: Instant,
        session: SessionKey,
        credentials: impl Into<Bytes>,
    ) -> Result<(), CommandError> {
        let credentials = credentials.into();
        let call = || Call::SetCredentials {
            session,
            credentials: Body::Whole(&credentials),
        };
        self.enter(now, call);
        let dialing = self.dialing_mut(session)?;
        check_credentials(&credentials, &dialing.agent)?;
        dialing.credentials = credentials;
        Ok(())
    }

    /// Accepts connections as what becomes of the server's role, or goes on as it is.
    fn change_server(
        &mut self,
        allowed: &'static str,
        change: impl FnOnce(&mut ServerRole) -> Result<(), TlsError>,
    ) -> Result<(), ConfigError> {
        let Some(role) = &mut self.roles.server else {
            return Err(no_role("roles.server", allowed));
        };
        let mut changed = role.clone();
        change(&mut changed)?;
        let clients = changed.client_certificates()?;
        self.endpoint
            .set_server_tls(&self.config, &changed.identity, clients)?;
        *role = changed;
        Ok(())
    }

    /// Dials as what becomes of the client's role, or goes on as it is.
    fn change_client(
        &mut self,
        allowed: &'static str,
        change: impl FnOnce(&mut ClientRole) -> Result<(), TlsError>,
    ) -> Result<(), ConfigError> {
        let Some(role) = &mut self.roles.client else {
            return Err(no_role("roles.client", allowed));
        };
        let mut changed = role.clone();
        change(&mut changed)?;
        self.endpoint
            .set_client_tls(&self.config, &changed.roots, changed.identity.as_ref())?;
        *role = changed;
        Ok(())
    }
}

fn no_role(field: &'static str, allowed: &'static str) -> ConfigError {
    ConfigError::OutOfRange {
        field,
        given: "none".into(),
        allowed,
    }
}
