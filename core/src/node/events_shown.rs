//! Events in words, one line each. Of bodies and credentials the lengths alone are shown; what others
//! wrote is quoted, so that it moves no cursor.

use std::fmt;

use super::Event;
use crate::message::{Expects, Outcome};

impl fmt::Display for Event {
    /// In one line, without what bodies and credentials hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name())?;
        match self {
            Self::Admission(request) => write!(
                f,
                "link {:?}, {:?} at {}, {} bytes of credentials, {} certificates, agent {:?}",
                request.link.0,
                request.client,
                request.address,
                request.credentials.len(),
                request.certificates.len(),
                request.agent
            ),
            Self::Connected {
                session,
                client,
                address,
                epoch,
                resumed,
            } => {
                let how = if *resumed { "resumed" } else { "not resumed" };
                write!(
                    f,
                    "session {:?}, {client:?} at {address}, epoch {epoch}, {how}",
                    session.0
                )
            }
            Self::Refused {
                link,
                client,
                address,
                code,
                reason,
            } => {
                let reason = quoted(reason);
                write!(
                    f,
                    "link {:?}, {client:?} at {address}, {code}: {reason}",
                    link.0
                )
            }
            Self::Moved { session, address } => {
                write!(f, "session {:?} to {address}", session.0)
            }
            Self::Disconnected {
                session,
                reason,
                retained,
            } => {
                let fate = if *retained { "kept" } else { "not kept" };
                let reason = quoted(&reason.to_string());
                write!(f, "session {:?}, {fate}, {reason}", session.0)
            }
            Self::HeartbeatTimeout { session }
            | Self::SessionLost { session }
            | Self::Writable { session } => write!(f, "session {:?}", session.0),
            Self::Reconnecting {
                session,
                attempt,
                delay,
            } => write!(f, "session {:?}, attempt {attempt} in {delay:?}", session.0),
            Self::Closed { session, reason } => {
                let reason = quoted(&reason.to_string());
                write!(f, "session {:?}, {reason}", session.0)
            }
            Self::Message(delivery) => {
                write!(
                    f,
                    "delivery {} of session {:?}, {} with {} bytes on lane {}, {}",
                    delivery.key.number,
                    delivery.key.session.0,
                    delivery.tag,
                    delivery.body.len(),
                    delivery.lane,
                    match delivery.expects {
                        Expects::Nothing => "expects nothing",
                        Expects::Ack => "expects an ack",
                        Expects::Reply => "expects a reply",
                    }
                )?;
                match delivery.timeout {
                    Some(timeout) => write!(f, " within {timeout:?}"),
                    None => Ok(()),
                }
            }
            Self::Cancelled { delivery } => write!(
                f,
                "delivery {} of session {:?}",
                delivery.number, delivery.session.0
            ),
            Self::Settled {
                promise,
                outcome,
                after,
            } => {
                let (number, session) = (promise.number, promise.session.0);
                write!(
                    f,
                    "promise {number} of session {session:?} after {after:?}, "
                )?;
                outcome_shown(outcome, f)
            }
            Self::Undelivered {
                session,
                message,
                reason,
                maybe_delivered,
            } => {
                let (tag, bytes) = (message.tag, message.body.len());
                write!(f, "session {:?}, {tag} with {bytes} bytes", session.0)?;
                maybe_had(*maybe_delivered, f)?;
                write!(f, ": {reason}")
            }
            Self::Sent { session, lane, tag } => {
                write!(f, "session {:?}, {tag} on lane {lane}", session.0)
            }
            Self::SlowConsumer {
                session,
                queued_bytes,
            } => write!(f, "session {:?}, {queued_bytes} bytes wait", session.0),
            Self::Dropped { session, messages } => {
                write!(f, "session {:?}, {messages} messages", session.0)
            }
            Self::Draining {
                session,
                deadline,
                retry_after,
                alternative,
            } => {
                write!(f, "session {:?}, within {deadline:?}", session.0)?;
                if let Some(after) = retry_after {
                    write!(f, ", to come back after {after:?}")?;
                }
                match alternative {
                    Some(alternative) => write!(f, ", to go to {alternative:?}"),
                    None => Ok(()),
                }
            }
            Self::Drained { finished, cut_off } => {
                write!(f, "{finished} sessions finished, {cut_off} were cut off")
            }
        }
    }
}

fn outcome_shown(outcome: &Outcome, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match outcome {
        Outcome::Acked => f.write_str("acked"),
        Outcome::Replied { tag, body } => {
            write!(f, "replied: {tag} with {} bytes", body.len())
        }
        Outcome::Rejected(status) => write!(f, "rejected: {}", quoted(&status.to_string())),
        Outcome::TimedOut => f.write_str("timed out"),
        Outcome::Cancelled => f.write_str("cancelled"),
        Outcome::Lost { maybe_delivered } => {
            f.write_str("lost")?;
            maybe_had(*maybe_delivered, f)
        }
        Outcome::Evicted => f.write_str("evicted"),
    }
}

fn maybe_had(maybe_delivered: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(match maybe_delivered {
        true => ", which the peer may have all the same",
        false => ", which the peer does not have",
    })
}

fn quoted(text: &str) -> String {
    text.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::error::{CloseCode, DisconnectReason};
    use crate::id::{ClientId, DeliveryKey, Key, Lane, LinkKey, PromiseKey, SessionKey, Tag};
    use crate::message::{Delivery, Message, UndeliveredReason};
    use crate::node::AdmissionRequest;

    #[test]
    fn an_event_is_one_line_without_its_body_and_credentials() {
        const SECRET: &str = "open sesame";
        let secret = Bytes::from_static(SECRET.as_bytes());
        let key = Key {
            slot: 3,
            generation: 1,
        };
        let session = SessionKey(key);
        let tag = Tag(5);
        let message = Delivery {
            key: DeliveryKey { session, number: 7 },
            lane: Lane::DEFAULT,
            tag,
            body: secret.clone(),
            expects: Expects::Reply,
            timeout: Some(Duration::from_secs(2)),
        };
        let request = AdmissionRequest {
            link: LinkKey(key),
            client: ClientId::new("alice").unwrap(),
            address: ([127, 0, 0, 1], 4433).into(),
            credentials: secret.clone(),
            certificates: Vec::new(),
            agent: "two\nlines".to_owned(),
        };
        let settled = Event::Settled {
            promise: PromiseKey { session, number: 9 },
            outcome: Outcome::Replied {
                tag,
                body: secret.clone(),
            },
            after: Duration::from_millis(4),
        };
        let undelivered = Event::Undelivered {
            session,
            message: Message::new(tag, secret),
            reason: UndeliveredReason::SessionOver,
            maybe_delivered: true,
        };
        let closed = Event::Closed {
            session,
            reason: DisconnectReason::Local {
                code: CloseCode::NORMAL,
                reason: "a\u{1b}[2Jb".to_owned(),
            },
        };
        let refused = Event::Refused {
            link: LinkKey(key),
            client: ClientId::new("alice").unwrap(),
            address: ([127, 0, 0, 1], 4433).into(),
            code: CloseCode::REFUSED,
            reason: "two\nlines".to_owned(),
        };
        let moved = Event::Moved {
            session,
            address: ([127, 0, 0, 1], 4433).into(),
        };
        let lines = [
            (moved, "Moved: session 3v1 to 127.0.0.1:4433"),
            (
                refused,
                "Refused: link 3v1, \"alice\" at 127.0.0.1:4433, REFUSED (3): two\\nlines",
            ),
            (
                Event::Message(message),
                "Message: delivery 7 of session 3v1, 0000000000000005 with 11 bytes on lane default, expects a reply within 2s",
            ),
            (
                Event::Admission(Box::new(request)),
                "Admission: link 3v1, \"alice\" at 127.0.0.1:4433, 11 bytes of credentials, 0 certificates, agent \"two\\nlines\"",
            ),
            (
                settled,
                "Settled: promise 9 of session 3v1 after 4ms, replied: 0000000000000005 with 11 bytes",
            ),
            (
                undelivered,
                "Undelivered: session 3v1, 0000000000000005 with 11 bytes, which the peer may have all the same: its session is over",
            ),
            (
                closed,
                "Closed: session 3v1, closed here (NORMAL (0)): a\\u{1b}[2Jb",
            ),
        ];
        for (event, expected) in lines {
            let shown = event.to_string();
            assert_eq!(shown, expected);
            assert!(!shown.contains(SECRET) && !shown.contains(char::is_control));
        }
    }
}
