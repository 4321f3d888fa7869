//! What the messages that carry secrets show of themselves in logs: never the secrets.

use std::fmt;

use crate::generated::{Hello, Resume, Welcome};

/// A secret's length, which is all that a log may know of it.
struct Hidden(usize);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0)
    }
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            client_id,
            session_id,
            token,
            resume,
            credentials,
            limits,
            agent,
        } = self;
        f.debug_struct("Hello")
            .field("version", version)
            .field("client_id", client_id)
            .field("session_id", session_id)
            .field("token", &Hidden(token.len()))
            .field("resume", resume)
            .field("credentials", &Hidden(credentials.len()))
            .field("limits", limits)
            .field("agent", agent)
            .finish()
    }
}

impl fmt::Debug for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            session_id,
            token,
            epoch,
            received,
            attempt,
        } = self;
        f.debug_struct("Resume")
            .field("session_id", session_id)
            .field("token", &Hidden(token.len()))
            .field("epoch", epoch)
            .field("received", received)
            .field("attempt", attempt)
            .finish()
    }
}

impl fmt::Debug for Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            session_id,
            token,
            epoch,
            resumed,
            received,
            limits,
            heartbeat_ms,
            retention_ms,
            lost_code,
            redial_id,
        } = self;
        f.debug_struct("Welcome")
            .field("version", version)
            .field("session_id", session_id)
            .field("token", &Hidden(token.len()))
            .field("epoch", epoch)
            .field("resumed", resumed)
            .field("received", received)
            .field("limits", limits)
            .field("heartbeat_ms", heartbeat_ms)
            .field("retention_ms", retention_ms)
            .field("lost_code", lost_code)
            .field("redial_id", redial_id)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated::{Control, control};

    #[test]
    fn no_secret_shows_in_a_debug_text() {
        let token = || "topsecret".into();
        let resume = Some(Resume {
            token: token(),
            ..Resume::default()
        });
        let hello = Hello {
            token: token(),
            credentials: token(),
            resume,
            ..Hello::default()
        };
        let welcome = Welcome {
            token: token(),
            ..Welcome::default()
        };
        for frame in [
            control::Frame::Hello(hello),
            control::Frame::Welcome(welcome),
        ] {
            let shown = format!("{:?}", Control { frame: Some(frame) });
            assert!(shown.contains("<9 bytes>"), "{shown}");
            assert!(!shown.contains("topsecret"), "{shown}");
        }
    }
}
