//! Records in words, one line each. What others wrote is quoted, so that it moves no cursor.

use std::fmt;
use std::time::SystemTime;

use super::{End, Ending, Record};
use crate::tap::{Call, EventMark, Letter, Signature, TransmitMark};

impl Record<'_> {
    /// When it was, in nanoseconds since the node's origin, if it says so.
    pub fn at(&self) -> Option<i64> {
        match self {
            Self::Call { at, .. }
            | Self::Transmit { at, .. }
            | Self::Arrival { at }
            | Self::Asked { at, .. } => Some(*at),
            Self::Answers { .. } | Self::Event(_) | Self::Signature(_) | Self::End(_) => None,
        }
    }
}

impl Record<'_> {
    /// What kind of record it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Call { call, .. } => call.name(),
            Self::Transmit { mark: Some(_), .. } => "transmit",
            Self::Transmit { mark: None, .. } => "transmit, none",
            Self::Arrival { .. } => "arrival",
            Self::Answers { polled: false, .. } => "answers",
            Self::Answers { polled: true, .. } => "answers to a poll",
            Self::Asked { sent: true, .. } => "transmit",
            Self::Asked { sent: false, .. } => "transmit, none",
            Self::Event(Some(_)) => "event",
            Self::Event(None) => "event, none",
            Self::Signature(Signature::Scheme(_)) => "signature scheme",
            Self::Signature(Signature::Made { .. }) => "signature",
            Self::End(_) => "end",
        }
    }
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { call, .. } => call.fmt(f),
            Self::Transmit {
                mark: Some(mark), ..
            } => write!(f, "gave out {mark}"),
            Self::Transmit { mark: None, .. } => f.write_str("gave out no more datagrams"),
            Self::Arrival { .. } => f.write_str("a datagram came"),
            Self::Answers { notes, .. } if notes.is_empty() => f.write_str("no answers"),
            Self::Answers { notes, .. } => {
                let mut of = None;
                for (number, (link, note)) in notes.iter().enumerate() {
                    if number > 0 {
                        f.write_str("; ")?;
                    }
                    if of != Some(link) {
                        write!(f, "link {:?}: ", link.0)?;
                        of = Some(link);
                    }
                    note.fmt(f)?;
                }
                Ok(())
            }
            Self::Asked { sent: true, .. } => f.write_str("gave out datagrams"),
            Self::Asked { sent: false, .. } => f.write_str("gave out no more datagrams"),
            Self::Event(Some(mark)) => write!(f, "gave out {mark}"),
            Self::Event(None) => f.write_str("gave out no more events"),
            Self::Signature(Signature::Scheme(scheme)) => match scheme {
                Some(scheme) => write!(f, "will sign by scheme {scheme:#06x}"),
                None => f.write_str("can sign by no scheme of the peer's"),
            },
            Self::Signature(Signature::Made { signature, .. }) => match signature {
                Some(signature) => write!(f, "signed ({} bytes)", signature.len()),
                None => f.write_str("failed to sign"),
            },
            Self::End(End::Stopped) => f.write_str("the recording was stopped"),
            Self::End(End::Full) => f.write_str("the recording reached its limit"),
        }
    }
}

impl fmt::Display for TransmitMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes to send ({:016x})", self.size, self.digest)
    }
}

impl fmt::Display for EventMark<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "event {} ({:016x})",
            self.name.escape_debug(),
            self.digest
        )
    }
}

impl fmt::Display for Letter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} bytes", self.tag, self.body.len())?;
        match self.lane {
            Some(lane) => write!(f, " on lane {lane}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Datagram { remote, data, .. } => {
                write!(f, "datagram of {} bytes from {remote}", data.len())
            }
            Self::Timeout => f.write_str("timeout"),
            Self::Connect {
                address,
                server_name,
                client,
                ..
            } => write!(f, "connect to {server_name:?} at {address} as {client:?}"),
            Self::Redirect { session, address } => {
                write!(f, "redirect session {:?} to {address}", session.0)
            }
            Self::AddAddress { session, address } => {
                write!(f, "add the address {address} to session {:?}", session.0)
            }
            Self::ForgetAddresses { session } => {
                write!(f, "forget the other addresses of session {:?}", session.0)
            }
            Self::SetCredentials {
                session,
                credentials,
            } => {
                let size = credentials.len();
                write!(
                    f,
                    "set credentials of session {:?}: {size} bytes",
                    session.0
                )
            }
            Self::SetServerIdentity { chain } => {
                write!(f, "set the server's identity: {} bytes", chain.len())
            }
            Self::SetClientIdentity { chain } => {
                write!(f, "set the client's identity: {} bytes", chain.len())
            }
            Self::SetClientRoots { certificates } => {
                let size = certificates.len();
                write!(f, "set the roots of clients' certificates: {size} bytes")
            }
            Self::SetServerRoots { certificates } => {
                let size = certificates.len();
                write!(f, "set the roots of servers' certificates: {size} bytes")
            }
            Self::SetWall { wall } => {
                let since = wall.duration_since(SystemTime::UNIX_EPOCH);
                let seconds = since.unwrap_or_default().as_secs_f64();
                write!(f, "set the time of day: {seconds:.3} s since 1970")
            }
            Self::Join { session, group } => write!(f, "join: session {:?}, {group:?}", session.0),
            Self::Leave { session, group } => {
                write!(f, "leave: session {:?}, {group:?}", session.0)
            }
            Self::Close {
                session,
                code,
                reason,
            } => {
                write!(f, "close session {:?} ({code}): {reason:?}", session.0)
            }
            Self::Drain { deadline, .. } => write!(f, "drain within {deadline:?}"),
            Self::Admit { link } => write!(f, "admit link {:?}", link.0),
            Self::Refuse { link, reason, .. } => write!(f, "refuse link {:?}: {reason:?}", link.0),
            Self::Send { to, message } => write!(f, "send to session {:?}: {message}", to.0),
            Self::SendAcked { to, message, .. } => {
                write!(f, "send to session {:?}, acked: {message}", to.0)
            }
            Self::Request { to, message, .. } => {
                write!(f, "request to session {:?}: {message}", to.0)
            }
            Self::SendBestEffort { to, message, .. } => {
                write!(f, "send to session {:?}, best effort: {message}", to.0)
            }
            Self::Broadcast { group, message, .. } => match group {
                Some(group) => write!(f, "broadcast to {group:?}: {message}"),
                None => write!(f, "broadcast to everyone: {message}"),
            },
            Self::BroadcastExcept {
                except,
                group,
                message,
                ..
            } => {
                let except = except.0;
                match group {
                    Some(group) => {
                        write!(
                            f,
                            "broadcast to {group:?} except session {except:?}: {message}"
                        )
                    }
                    None => write!(
                        f,
                        "broadcast to everyone except session {except:?}: {message}"
                    ),
                }
            }
            Self::Cancel { promise } => write!(
                f,
                "cancel promise {} of session {:?}",
                promise.number, promise.session.0
            ),
            Self::Ack { delivery } => write!(
                f,
                "ack delivery {} of session {:?}",
                delivery.number, delivery.session.0
            ),
            Self::Reply {
                delivery,
                tag,
                body,
            } => write!(
                f,
                "reply to delivery {} of session {:?}: {tag} with {} bytes",
                delivery.number,
                delivery.session.0,
                body.len()
            ),
            Self::Reject {
                delivery,
                code,
                reason,
            } => write!(
                f,
                "reject delivery {} of session {:?} ({code}): {reason:?}",
                delivery.number, delivery.session.0
            ),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said(End::Stopped) => f.write_str("the recording was stopped in order"),
            Self::Said(End::Full) => f.write_str("the recording reached its limit"),
            Self::Open => f.write_str("the recording ends with a whole record, without warning"),
            Self::CutShort(bytes) => write!(
                f,
                "the recording is cut short: {bytes} bytes after its last whole record are of no use"
            ),
        }
    }
}
