//! Hello and Welcome: who a client is, which session it asks for, and what the answer says.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use trunkline_proto as wire;

use super::PeerLimits;
use super::milliseconds::unless_zero;
use crate::error::{CloseCode, Fault, from_peer};
use crate::id::{ClientId, Hidden, SessionId};
use crate::steering::NAMING;

/// How many lanes a session has at most that are acknowledged: those of messages, and both of answers. What a client
/// says of them is kept while it waits for its admission, and an entry that says nothing takes eight times its bytes.
const LANES: usize = wire::LANES_MAX as usize + 2;

/// A client's hello, checked.
#[derive(Clone)]
pub(crate) struct ClientHello {
    /// Above those of all hellos that came to this node before.
    pub(crate) number: u64,
    pub(crate) client: ClientId,
    /// The session to make, with its token, if no earlier one is asked for or that is lost.
    pub(crate) offered: (SessionId, [u8; wire::TOKEN_LEN]),
    pub(crate) resume: Option<Resume>,
    pub(crate) credentials: Bytes,
    pub(crate) limits: PeerLimits,
    pub(crate) agent: String,
}

/// Without the secrets in it.
impl fmt::Debug for ClientHello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHello")
            .field("number", &self.number)
            .field("client", &self.client)
            .field("session", &self.offered.0)
            .field("resume", &self.resume)
            .field("credentials", &Hidden(self.credentials.len()))
            .field("limits", &self.limits)
            .field("agent", &self.agent)
            .finish()
    }
}

/// The earlier session that a client asks for.
#[derive(Clone)]
pub(crate) struct Resume {
    pub(crate) id: SessionId,
    pub(crate) token: [u8; wire::TOKEN_LEN],
    pub(crate) received: Vec<wire::Receipt>,
    /// Above 0.
    pub(crate) attempt: u64,
}

/// Without its token.
impl fmt::Debug for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resume")
            .field("id", &self.id)
            .field("received", &self.received)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// Which session a client had in mind when it said hello, and how often it had asked for it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) session: SessionId,
    /// 0 is the session's first hello, which names it.
    pub(crate) attempt: u64,
}

impl Wish {
    /// Whether the client has said it before the other one, for the same session.
    pub(crate) fn precedes(self, other: Self) -> bool {
        self.session == other.session && self.attempt < other.attempt
    }
}

impl ClientHello {
    /// Checks everything that can be checked without knowing any session.
    pub(crate) fn check(hello: wire::Hello, number: u64) -> Result<Self, Fault> {
        if hello.version != wire::VERSION {
            return Err(Fault::new(
                CloseCode::VERSION_MISMATCH,
                format!(
                    "this server speaks version {}, not {}",
                    wire::VERSION,
                    hello.version
                ),
            ));
        }
        let client = ClientId::new(&hello.client_id)
            .map_err(|error| Fault::new(CloseCode::UNDECODABLE, error.to_string()))?;
        let offered = (
            SessionId(exactly(&hello.session_id, "session_id")?),
            exactly(&hello.token, "token")?,
        );
        let resume = match hello.resume {
            None => None,
            Some(resume) => Some(Resume {
                id: SessionId(exactly(&resume.session_id, "resume.session_id")?),
                token: exactly(&resume.token, "resume.token")?,
                received: resume.received,
                attempt: resume.attempt,
            }),
        };
        let receipts = resume.as_ref().map_or(0, |resume| resume.received.len());
        if receipts > LANES {
            let reason = format!(
                "resume.received has {receipts} entries, and there are {LANES} lanes at most"
            );
            return Err(Fault::new(CloseCode::UNDECODABLE, reason));
        }
        if resume.as_ref().is_some_and(|resume| resume.attempt == 0) {
            let reason = "resume.attempt is 0: attempts are counted from 1";
            return Err(Fault::new(CloseCode::UNDECODABLE, reason));
        }
        Ok(Self {
            number,
            client,
            offered,
            resume,
            credentials: hello.credentials,
            limits: hello.limits.into(),
            agent: from_peer(&hello.agent, wire::CREDENTIALS_MAX),
        })
    }

    pub(crate) fn wish(&self) -> Wish {
        match &self.resume {
            Some(resume) => Wish {
                session: resume.id,
                attempt: resume.attempt,
            },
            None => Wish {
                session: self.offered.0,
                attempt: 0,
            },
        }
    }
}

/// A server's welcome, checked.
#[derive(Clone)]
pub(crate) struct ServerWelcome {
    pub(crate) id: SessionId,
    pub(crate) token: [u8; wire::TOKEN_LEN],
    pub(crate) epoch: u64,
    /// It is the session that the client asked for.
    pub(crate) resumed: bool,
    pub(crate) received: Vec<wire::Receipt>,
    pub(crate) limits: PeerLimits,
    /// What the next connection's destination id is to begin with, if that matters.
    pub(crate) redial_id: Option<[u8; NAMING]>,
    /// How often the server wants to hear of the client, if it minds.
    pub(crate) heartbeat: Option<Duration>,
}

/// Without its token.
impl fmt::Debug for ServerWelcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerWelcome")
            .field("id", &self.id)
            .field("epoch", &self.epoch)
            .field("resumed", &self.resumed)
            .field("received", &self.received)
            .field("limits", &self.limits)
            .field("redial_id", &self.redial_id)
            .field("heartbeat", &self.heartbeat)
            .finish_non_exhaustive()
    }
}

/// What a client has said in its hello, as far as the welcome has to fit it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// The session that it has, or proposes.
    pub(crate) id: SessionId,
    /// The epoch of the last welcome; 0 if none came.
    pub(crate) epoch: u64,
    /// When it asks for a session of before: the one to make in its place if that is lost.
    pub(crate) offered: Option<SessionId>,
}

impl ServerWelcome {
    /// Checks that the welcome is one, and fits the hello.
    pub(crate) fn check(welcome: wire::Welcome, asked: &Asked) -> Result<Self, Fault> {
        if welcome.version != wire::VERSION {
            return Err(Fault::new(
                CloseCode::VERSION_MISMATCH,
                format!(
                    "this client speaks version {}, not {}",
                    wire::VERSION,
                    welcome.version
                ),
            ));
        }
        let id = SessionId(exactly(&welcome.session_id, "session_id")?);
        let token = exactly(&welcome.token, "token")?;
        let violation = |reason: String| Err(Fault::new(CloseCode::PROTOCOL_VIOLATION, reason));
        let (expected, last) = match (welcome.resumed, asked.offered) {
            (true, Some(_)) => (asked.id, asked.epoch),
            (false, Some(offered)) => (offered, 0),
            (false, None) => (asked.id, 0),
            (true, None) => {
                return violation("Welcome resumes a session, and Hello asked for none".into());
            }
        };
        if id != expected {
            return violation("Welcome names another session than Hello".into());
        }
        if welcome.epoch <= last {
            let epoch = welcome.epoch;
            return violation(format!(
                "Welcome's epoch {epoch} is not above the last, {last}"
            ));
        }
        Ok(Self {
            id,
            token,
            epoch: welcome.epoch,
            resumed: welcome.resumed,
            received: welcome.received,
            limits: welcome.limits.into(),
            // Of any other length, it counts as none.
            redial_id: welcome.redial_id[..].try_into().ok(),
            heartbeat: unless_zero(welcome.heartbeat_ms),
        })
    }
}

fn exactly<const LENGTH: usize>(bytes: &[u8], field: &str) -> Result<[u8; LENGTH], Fault> {
    bytes.try_into().map_err(|_| {
        Fault::new(
            CloseCode::UNDECODABLE,
            format!("{field} has {} bytes, not {LENGTH}", bytes.len()),
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
        assert!(ClientHello::check(hello(), 1).is_ok());
        let code = |change: fn(&mut wire::Hello)| {
            let mut hello = hello();
            change(&mut hello);
            ClientHello::check(hello, 1).unwrap_err().code
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

    #[test]
    fn a_client_has_one_receipt_a_lane() {
        let with = |receipts| {
            let resume = wire::Resume {
                session_id: vec![1; 16].into(),
                token: vec![2; 16].into(),
                attempt: 1,
                received: vec![wire::Receipt::default(); receipts],
                ..wire::Resume::default()
            };
            let resume = Some(resume);
            ClientHello::check(wire::Hello { resume, ..hello() }, 1)
        };
        assert!(with(64).is_ok());
        let fault = with(65).unwrap_err();
        assert_eq!(fault.code, CloseCode::UNDECODABLE);
        assert!(fault.reason.contains("65 entries"), "{fault:?}");
    }

    #[test]
    fn no_secret_shows_in_a_debug_text() {
        let secret = *b"sixteensecretive";
        let hidden = format!("{secret:?}");
        let resume = wire::Resume {
            session_id: vec![1; 16].into(),
            token: secret.to_vec().into(),
            attempt: 1,
            ..wire::Resume::default()
        };
        let hello = wire::Hello {
            token: secret.to_vec().into(),
            credentials: secret.to_vec().into(),
            resume: Some(resume),
            ..hello()
        };
        let hello = ClientHello::check(hello, 1).unwrap();
        let asked = Asked {
            id: SessionId([1; 16]),
            epoch: 0,
            offered: None,
        };
        let mut welcome = welcome(1, 1, false);
        welcome.token = secret.to_vec().into();
        let welcome = ServerWelcome::check(welcome, &asked).unwrap();
        for shown in [format!("{hello:?}"), format!("{welcome:?}")] {
            assert!(
                !shown.contains("secret") && !shown.contains(&hidden),
                "{shown}"
            );
        }
        assert!(format!("{hello:?}").contains("<16 bytes>"));
    }

    fn welcome(id: u8, epoch: u64, resumed: bool) -> wire::Welcome {
        wire::Welcome {
            version: wire::VERSION,
            session_id: vec![id; 16].into(),
            token: vec![7; 16].into(),
            epoch,
            resumed,
            ..wire::Welcome::default()
        }
    }

    #[test]
    fn a_welcome_fits_what_was_asked_for() {
        let first = Asked {
            id: SessionId([1; 16]),
            epoch: 0,
            offered: None,
        };
        let again = Asked {
            epoch: 4,
            offered: Some(SessionId([2; 16])),
            ..first
        };
        let code =
            |welcome, asked: &Asked| ServerWelcome::check(welcome, asked).err().map(|e| e.code);
        let violation = Some(CloseCode::PROTOCOL_VIOLATION);
        for (welcome, asked, expected) in [
            (welcome(1, 1, false), first, None),
            (welcome(2, 1, false), first, violation),
            (welcome(1, 1, true), first, violation),
            (welcome(1, 0, false), first, violation),
            (welcome(1, 5, true), again, None),
            (welcome(1, 9, true), again, None),
            (welcome(1, 4, true), again, violation),
            (welcome(2, 5, true), again, violation),
            (welcome(2, 1, false), again, None),
            (welcome(1, 1, false), again, violation),
            (welcome(2, 0, false), again, violation),
        ] {
            assert_eq!(
                code(welcome.clone(), &asked),
                expected,
                "{welcome:?} {asked:?}"
            );
        }
        let mut other_version = welcome(1, 1, false);
        other_version.version = 2;
        assert_eq!(
            code(other_version, &first),
            Some(CloseCode::VERSION_MISMATCH)
        );
        let mut short = welcome(1, 1, false);
        short.token = vec![7; 15].into();
        assert_eq!(code(short, &first), Some(CloseCode::UNDECODABLE));
    }
}
