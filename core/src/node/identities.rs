//! What a running node shows of itself is changed: certificates run out, and so do tokens.

use std::time::Instant;

use bytes::Bytes;

use crate::error::{CommandError, ConfigError};
use crate::id::SessionKey;
use crate::quic::Identity;
use crate::tap::{Body, Call};

use super::Node;
use super::commands::check_credentials;
use super::roles::ServerRole;

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
        let Some(role) = &mut self.roles.server else {
            return Err(no_role(
                "roles.server",
                "changing the identity of a server alone",
            ));
        };
        let changed = ServerRole {
            identity,
            ..role.clone()
        };
        let clients = changed.client_certificates()?;
        self.endpoint
            .set_server_identity(&self.config, &changed.identity, clients)?;
        *role = changed;
        Ok(())
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
        let Some(role) = &mut self.roles.client else {
            return Err(no_role(
                "roles.client",
                "changing the identity of a client alone",
            ));
        };
        self.endpoint
            .set_client_identity(&self.config, &role.roots, &identity)?;
        role.identity = Some(identity);
        Ok(())
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
}

fn no_role(field: &'static str, allowed: &'static str) -> ConfigError {
    ConfigError::OutOfRange {
        field,
        given: "none".into(),
        allowed,
    }
}
