//! Hello and Welcome: who a client is, which session it asks for, and what the answer says.

use bytes::Bytes;
use trunkline_proto as wire;

use super::PeerLimits;
use crate::error::CloseCode;
use crate::id::{ClientId, SessionId};

/// A client's hello, checked.
#[derive(Clone, Debug)]
pub(crate) struct ClientHello {
    pub(crate) client: ClientId,
    pub(crate) fresh: (SessionId, [u8; 16]),
    pub(crate) resume: Option<Resume>,
    pub(crate) credentials: Bytes,
    pub(crate) limits: PeerLimits,
    pub(crate) agent: String,
}

/// The earlier session that a client asks for.
#[derive(Clone, Debug)]
pub(crate) struct Resume {
    pub(crate) id: SessionId,
    pub(crate) token: [u8; 16],
    pub(crate) received: Vec<wire::Receipt>,
}

/// What is wrong with a hello or a welcome.
pub(crate) type Refused = (CloseCode, String);

impl ClientHello {
    /// Checks everything that can be checked without knowing any session.
    pub(crate) fn check(hello: wire::Hello) -> Result<Self, Refused> {
        if hello.version != wire::VERSION {
            return Err((
                CloseCode::VERSION_MISMATCH,
                format!(
                    "this server speaks version {}, not {}",
                    wire::VERSION,
                    hello.version
                ),
            ));
        }
        let client = ClientId::new(&hello.client_id)
            .map_err(|error| (CloseCode::UNDECODABLE, error.to_string()))?;
        let fresh = (
            SessionId(sixteen(&hello.session_id, "session_id")?),
            sixteen(&hello.token, "token")?,
        );
        let resume = match hello.resume {
            None => None,
            Some(resume) => Some(Resume {
                id: SessionId(sixteen(&resume.session_id, "resume.session_id")?),
                token: sixteen(&resume.token, "resume.token")?,
                received: resume.received,
            }),
        };
        Ok(Self {
            client,
            fresh,
            resume,
            credentials: hello.credentials,
            limits: hello.limits.into(),
            agent: hello.agent,
        })
    }
}

pub(crate) fn sixteen(bytes: &[u8], field: &str) -> Result<[u8; 16], Refused> {
    bytes.try_into().map_err(|_| {
        (
            CloseCode::UNDECODABLE,
            format!("{field} has {} bytes, not 16", bytes.len()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> wire::Hello {
        wire::Hello {
            version: wire::VERSION,
            client_id: "alice".into(),
            session_id: vec![1; 16].into(),
            token: vec![2; 16].into(),
            ..wire::Hello::default()
        }
    }

    #[test]
    fn each_fault_has_its_code() {
        assert!(ClientHello::check(hello()).is_ok());
        let code = |change: fn(&mut wire::Hello)| {
            let mut hello = hello();
            change(&mut hello);
            ClientHello::check(hello).unwrap_err().0
        };
        assert_eq!(code(|h| h.version = 2), CloseCode::VERSION_MISMATCH);
        assert_eq!(code(|h| h.client_id.clear()), CloseCode::UNDECODABLE);
        assert_eq!(
            code(|h| h.client_id = "a\nb".into()),
            CloseCode::UNDECODABLE
        );
        assert_eq!(
            code(|h| h.token = vec![0; 15].into()),
            CloseCode::UNDECODABLE
        );
        assert_eq!(
            code(|h| h.resume = Some(wire::Resume::default())),
            CloseCode::UNDECODABLE
        );
    }
}
