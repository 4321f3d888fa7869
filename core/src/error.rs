//! What can go wrong, in words that say what to do about it.

use std::fmt;
use std::time::Duration;

pub use trunkline_proto::{CloseCode, StatusCode};

use crate::id::deceives;

/// A setting that a node cannot run with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value is outside of what is allowed.
    #[error("{field} is {given}: {allowed} is allowed")]
    OutOfRange {
        /// The field's name in [`crate::Config`].
        field: &'static str,
        /// What it was set to.
        given: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// Certificates or keys do not fit.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Certificates, keys or trust that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// No certificate was found where one is needed.
    #[error("{what} holds no certificate: give a PEM file with at least one CERTIFICATE block")]
    NoCertificate {
        /// Which input was looked at.
        what: String,
    },
    /// No private key was found where one is needed.
    #[error(
        "{what} holds no private key: give a PEM file with a PRIVATE KEY block (PKCS#8, PKCS#1 or SEC1)"
    )]
    NoKey {
        /// Which input was looked at.
        what: String,
    },
    /// The input is not PEM, or what is in it cannot be read.
    #[error("{what} cannot be read: {why}")]
    Unreadable {
        /// Which input was looked at.
        what: String,
        /// What the parser said.
        why: String,
    },
    /// The certificate's time is over.
    #[error("{what} has expired: renew it, or check this machine's clock")]
    Expired {
        /// Which input was looked at.
        what: String,
    },
    /// The certificate's time has not come.
    #[error("{what} is not valid yet: check this machine's clock")]
    NotYetValid {
        /// Which input was looked at.
        what: String,
    },
    /// Certificate and key are no pair.
    #[error(
        "the private key does not belong to the certificate: give the key that the certificate was made for"
    )]
    Mismatch,
    /// Anything else that TLS does not accept.
    #[error("TLS does not accept this configuration: {0}")]
    Rejected(String),
}

/// Why a command was not carried out. Nothing has changed when one is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// There is no such session (any more).
    #[error("the session does not exist any more")]
    UnknownSession,
    /// There is no such link, or it does not wait for an admission decision.
    #[error("the link does not wait for an admission decision (any more)")]
    UnknownLink,
    /// The message was answered already, or its session is gone.
    #[error("the delivery was answered already, or its session is gone")]
    UnknownDelivery,
    /// The promise has settled already.
    #[error("the promise has settled already")]
    UnknownPromise,
    /// The message with its envelope is larger than a frame may be.
    #[error(
        "the message has {size} bytes with its envelope: at most {limit} fit into a frame; send it in parts"
    )]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// What the peer takes.
        limit: usize,
    },
    /// The session's or the node's outbox is full.
    #[error(
        "the outbox is full: wait for room (await `send`; on a node, Event::Writable), or raise \
         limits.outbox_messages, limits.outbox_bytes or limits.outbox_bytes_total"
    )]
    OutboxFull,
    /// The session's or the node's promise table is full.
    #[error(
        "too many promises are pending: wait for some to settle, or raise limits.promises or limits.promises_total"
    )]
    PromisesFull,
    /// The lane's number is beyond what both sides have.
    #[error("there is no such lane: both sides need limits.lanes above its number")]
    UnknownLane,
    /// The session is closing; or the node drains, and has answered all that came over this session.
    #[error("the session is closing: nothing new is accepted")]
    Closing,
    /// A one-way message is acked or rejected, not replied to.
    #[error("this delivery takes an ack or a rejection, not a reply: only requests are replied to")]
    NotARequest,
    /// A request is replied to or rejected, not acked.
    #[error("this delivery is a request: reply to it, or reject it")]
    IsARequest,
    /// A table that the command needs room in is full.
    #[error("{what} is full: raise {field}")]
    TableFull {
        /// What is full.
        what: &'static str,
        /// The setting that bounds it.
        field: &'static str,
    },
    /// The node was not given what this role needs.
    #[error("this node has no {0}: give one when it is made")]
    NotConfigured(&'static str),
    /// The address cannot be dialled.
    #[error("the address {0} cannot be dialled: give a specified address and a port")]
    UndialableAddress(std::net::SocketAddr),
    /// A session has so many addresses already.
    #[error(
        "a session has at most {} addresses to dial: leave out the others",
        crate::config::ADDRESSES_MAX
    )]
    TooManyAddresses,
    /// The server's name is neither a DNS name nor an address.
    #[error(
        "the server name is neither a DNS name nor an IP address: give one that the server's certificate bears"
    )]
    InvalidServerName,
    /// Groups are made of the sessions of a server's clients.
    #[error(
        "this is a session with a server, and groups are the server's: send it a message, for it to put this client in"
    )]
    NotOfAClient,
    /// Where clients are to go instead of a server that drains is no place.
    #[error(
        "the alternative of the drain is not `host:port`: give a name or an address, a colon and a port"
    )]
    InvalidAlternative,
    /// What a client presents before admission, its credentials and agent together, is too large.
    #[error("credentials of {size} bytes do not fit: at most {limit} do")]
    CredentialsTooLarge {
        /// Their size in bytes.
        size: usize,
        /// The limit.
        limit: usize,
    },
}

/// A text that a peer has sent, fit for a terminal or a log: at most `longest` bytes, without
/// control characters, and without what breaks lines or turns the order of characters about.
pub(crate) fn from_peer(text: &str, longest: usize) -> String {
    let text = &text[..text.floor_char_boundary(longest)];
    let clear = |c: char| if deceives(c) { ' ' } else { c };
    text.chars().map(clear).collect()
}

/// A message that was not taken, and why: nothing is lost. Its `Debug` text, which a failed `unwrap` prints, has nothing
/// of the message.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct SendError<M> {
    /// The message, as it was given.
    pub message: M,
    /// Why it was not taken. It is what this says of itself, and so not its source as well.
    pub error: CommandError,
}

impl<M> fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

/// Why a peer's application rejected a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// The number; see [`StatusCode`] for those with a meaning of their own. 1,000 and above are
    /// the application's.
    pub code: StatusCode,
    /// A sentence for people; may be empty. Cut to 256 bytes on the wire.
    pub reason: String,
}

impl Status {
    /// A status with its sentence.
    pub fn new(code: StatusCode, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reason.is_empty() {
            write!(f, "{}", self.code)
        } else {
            write!(f, "{}: {}", self.code, self.reason)
        }
    }
}

impl std::error::Error for Status {}

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// This side closed it.
    Local {
        /// The code that the peer was told.
        code: CloseCode,
        /// The sentence that the peer was told.
        reason: String,
    },
    /// The peer's Trunkline closed it.
    Peer {
        /// The code that it gave.
        code: CloseCode,
        /// The sentence that it gave.
        reason: String,
        /// When it wants to see this client again.
        retry_after: Option<Duration>,
    },
    /// No sign of life came for `heartbeat.misses` intervals.
    HeartbeatTimeout,
    /// The handshake or the admission took too long.
    ConnectTimeout,
    /// The peer has no such connection: it restarted.
    Reset,
    /// QUIC or TLS failed: a certificate that is not trusted, another ALPN, a broken peer.
    Transport(String),
    /// The peer's certificate, or ours in its eyes, was not accepted.
    Certificate(String),
    /// The same, and all that is wrong is its time: it has expired or is not valid yet, by the clock of whoever looked.
    CertificateExpired(String),
    /// The peer speaks no `trunkline/1`.
    NoCommonProtocol,
}

impl DisconnectReason {
    /// This side closes it, with this code and sentence.
    pub(crate) fn local(code: CloseCode, reason: impl Into<String>) -> Self {
        Self::Local {
            code,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { code, reason } => said(f, "closed here", *code, reason),
            Self::Peer { code, reason, .. } => said(f, "closed by the peer", *code, reason),
            Self::HeartbeatTimeout => f.write_str("heartbeat timeout: the peer has gone silent"),
            Self::ConnectTimeout => f.write_str("the peer did not answer in time"),
            Self::Reset => f.write_str("the peer does not know the connection: it restarted"),
            Self::Transport(why) => write!(f, "QUIC failed: {why}"),
            Self::Certificate(why) | Self::CertificateExpired(why) => {
                write!(f, "certificate not accepted: {why}")
            }
            Self::NoCommonProtocol => f.write_str("the peer does not speak trunkline/1"),
        }
    }
}

impl std::error::Error for DisconnectReason {}

/// A close, with its text, if there is one: who closes in order mostly gives none.
fn said(f: &mut fmt::Formatter<'_>, what: &str, code: CloseCode, reason: &str) -> fmt::Result {
    write!(f, "{what} ({code})")?;
    if reason.is_empty() {
        return Ok(());
    }
    write!(f, ": {reason}")
}

/// What a peer did that a link does not survive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: CloseCode,
    pub(crate) reason: String,
}

impl Fault {
    pub(crate) fn new(code: CloseCode, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_without_a_text_ends_with_its_code() {
        let told = |reason: &str| {
            let reason = reason.to_owned();
            let code = CloseCode::NORMAL;
            DisconnectReason::Local { code, reason }.to_string()
        };
        assert_eq!(told(""), "closed here (NORMAL (0))");
        assert_eq!(told("bye"), "closed here (NORMAL (0)): bye");
    }

    #[test]
    fn a_peers_text_is_cut_between_characters_and_moves_no_cursor() {
        assert_eq!(from_peer("gone \u{1b}[2J\nbye", 256), "gone  [2J bye");
        assert_eq!(from_peer("caf\u{e9}", 4), "caf");
        assert_eq!(from_peer("\u{85}\u{7f}", 256), "  ");
        assert_eq!(from_peer("\u{202e}dlo\u{2069}\u{2028}.", 256), " dlo  .");
    }

    #[test]
    fn a_message_that_was_not_taken_shows_nothing_of_itself() {
        let (message, error) = ("topsecret", CommandError::UnknownSession);
        let shown = format!("{:?}", SendError { message, error });
        assert_eq!(shown, "SendError { error: UnknownSession, .. }");
    }
}
