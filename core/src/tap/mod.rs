//! The door's other side: what a recorder is told of a node, as it happens.
//!
//! A node that was made with [`crate::Node::tapped`] tells its [`Tap`] of everything that decides
//! what it does (each input and command, each poll, each signature of its private key) and a digest
//! of everything that it says. [`crate::trace`] writes that down; another tap may count, or compare.

mod body_key;
mod digest;
mod link;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use crate::error::{CloseCode, StatusCode};
use crate::id::{DeliveryKey, Hidden, Lane, LinkKey, PromiseKey, SessionKey, Tag};
use crate::message::Message;

pub(crate) use body_key::BodyKey;
pub use digest::Digest;
pub(crate) use link::PEER_STREAMS_MAX;
pub use link::{Level, LinkNote, LinkStream, Marked};

/// What a node tells of itself. It is called on the node's thread, so it should be quick, and must
/// not block.
pub trait Tap: Send {
    /// A call, before the node acts on it, with the time as it was given.
    fn call(&mut self, now: Instant, call: Call<'_>);

    /// [`crate::Node::poll_transmit`] was called, and this is what came of it. Calls that found
    /// nothing to do and changed nothing are not told.
    fn transmit(&mut self, now: Instant, max_segments: NonZeroUsize, mark: Option<TransmitMark>);

    /// [`crate::Node::poll_event`] was called, and this is what came of it. Calls that found nothing
    /// to do are not told.
    fn event(&mut self, mark: Option<EventMark<'_>>);

    /// The private key was used since the last call of another function.
    fn signature(&mut self, signature: Signature);

    /// The node has nothing more to say, to its peers or of events, before the next call: what was held back may be
    /// written. It may be told so more than once.
    fn rests(&mut self) {}

    /// The node has panicked, and whoever drives it has caught that: what it still says counts for nothing.
    fn broken(&mut self) {}

    /// What it is told of; asked once, when the node is made.
    fn level(&self) -> Level {
        Level::Wire
    }

    /// What connections answered, and what they were given, in the order of things: `polled`, in the
    /// poll that is told of next, or else in the latest call. It may take them; their memory is used
    /// again if it does not. For [`Level::Link`] alone.
    fn answers(&mut self, polled: bool, notes: &mut Vec<(LinkKey, LinkNote)>) {
        let _ = (polled, notes);
    }
}

/// One input or command, with everything that matters of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "each is a function of Node, and its fields are that function's arguments"
)]
pub enum Call<'a> {
    Datagram {
        remote: SocketAddr,
        local_ip: Option<IpAddr>,
        /// The two bits of the IP header; `None`: not ECN-capable.
        ecn: Option<u8>,
        data: &'a [u8],
    },
    Timeout,
    Connect {
        address: SocketAddr,
        server_name: &'a str,
        client: &'a str,
        credentials: Body<'a>,
        agent: &'a str,
    },
    Redirect {
        session: SessionKey,
        address: SocketAddr,
    },
    AddAddress {
        session: SessionKey,
        address: SocketAddr,
    },
    ForgetAddresses {
        session: SessionKey,
    },
    SetCredentials {
        session: SessionKey,
        credentials: Body<'a>,
    },
    SetServerIdentity {
        /// Its certificates, one behind the other.
        chain: &'a [u8],
    },
    SetClientIdentity {
        /// Its certificates, one behind the other.
        chain: &'a [u8],
    },
    SetClientRoots {
        /// DER certificates, one behind the other.
        certificates: &'a [u8],
    },
    SetServerRoots {
        /// DER certificates, one behind the other.
        certificates: &'a [u8],
    },
    SetWall {
        wall: SystemTime,
    },
    Join {
        session: SessionKey,
        group: &'a str,
    },
    Leave {
        session: SessionKey,
        group: &'a str,
    },
    Close {
        session: SessionKey,
        code: CloseCode,
        reason: &'a str,
    },
    Drain {
        deadline: Duration,
        retry_after: Option<Duration>,
        alternative: Option<&'a str>,
    },
    Admit {
        link: LinkKey,
    },
    Refuse {
        link: LinkKey,
        reason: &'a str,
        retry_after: Option<Duration>,
    },
    Send {
        to: SessionKey,
        message: Letter<'a>,
    },
    SendAcked {
        to: SessionKey,
        message: Letter<'a>,
        timeout: Option<Duration>,
    },
    Request {
        to: SessionKey,
        message: Letter<'a>,
        timeout: Option<Duration>,
    },
    SendBestEffort {
        to: SessionKey,
        message: Letter<'a>,
        key: Option<u64>,
    },
    Broadcast {
        /// `None`: everyone.
        group: Option<&'a str>,
        message: Letter<'a>,
        key: Option<u64>,
    },
    BroadcastExcept {
        except: SessionKey,
        /// `None`: everyone.
        group: Option<&'a str>,
        message: Letter<'a>,
        key: Option<u64>,
    },
    Cancel {
        promise: PromiseKey,
    },
    Ack {
        delivery: DeliveryKey,
    },
    Reply {
        delivery: DeliveryKey,
        tag: Tag,
        body: Body<'a>,
    },
    Reject {
        delivery: DeliveryKey,
        code: StatusCode,
        reason: &'a str,
    },
}

impl<'a> Call<'a> {
    /// Which call it is.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Datagram { .. } => "datagram",
            Self::Timeout => "timeout",
            Self::Connect { .. } => "connect",
            Self::Redirect { .. } => "redirect",
            Self::AddAddress { .. } => "add address",
            Self::ForgetAddresses { .. } => "forget addresses",
            Self::SetCredentials { .. } => "set credentials",
            Self::SetServerIdentity { .. } => "set server identity",
            Self::SetClientIdentity { .. } => "set client identity",
            Self::SetClientRoots { .. } => "set client roots",
            Self::SetServerRoots { .. } => "set server roots",
            Self::SetWall { .. } => "set wall",
            Self::Join { .. } => "join",
            Self::Leave { .. } => "leave",
            Self::Close { .. } => "close",
            Self::Drain { .. } => "drain",
            Self::Admit { .. } => "admit",
            Self::Refuse { .. } => "refuse",
            Self::Send { .. } => "send",
            Self::SendAcked { .. } => "send acked",
            Self::Request { .. } => "request",
            Self::SendBestEffort { .. } => "send best effort",
            Self::Broadcast { .. } => "broadcast",
            Self::BroadcastExcept { .. } => "broadcast except",
            Self::Cancel { .. } => "cancel",
            Self::Ack { .. } => "ack",
            Self::Reply { .. } => "reply",
            Self::Reject { .. } => "reject",
        }
    }

    /// What it shows to a server's admission; empty for most.
    pub fn credentials(&self) -> Body<'a> {
        match *self {
            Self::Connect { credentials, .. } | Self::SetCredentials { credentials, .. } => {
                credentials
            }
            _ => Body::Whole(&[]),
        }
    }

    /// What it carries: a datagram's bytes, or a message's body; empty for others.
    pub fn payload(&self) -> Body<'a> {
        match *self {
            Self::Datagram { data, .. } => Body::Whole(data),
            Self::Send { message, .. }
            | Self::SendAcked { message, .. }
            | Self::Request { message, .. }
            | Self::SendBestEffort { message, .. }
            | Self::Broadcast { message, .. }
            | Self::BroadcastExcept { message, .. } => message.body,
            Self::Reply { body, .. } => body,
            _ => Body::Whole(&[]),
        }
    }
}

/// A body that is lent, or what is left of one where it is not to be kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// That there was one.
    Marked {
        /// How long it was, in bytes.
        length: usize,
        /// 64 bits of a hash by a key that is kept nowhere: equal bodies of one recording are known by
        /// it, and nothing else of them.
        hash: u64,
    },
}

/// Without what it says.
impl fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) => Hidden(bytes.len()).fmt(f),
            Self::Marked { length, hash } => write!(f, "<{length} bytes, {hash:016x}>"),
        }
    }
}

impl Body<'_> {
    /// How long it is, in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Marked { length, .. } => *length,
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// It, or as many zeros.
    pub(crate) fn to_bytes(self) -> Bytes {
        match self {
            Self::Whole(bytes) => Bytes::copy_from_slice(bytes),
            Self::Marked { length, .. } => vec![0; length].into(),
        }
    }

    /// Its length and its hash; of a hash another one, for those of two traces are not to be compared.
    pub(crate) fn marked(self, key: &BodyKey) -> Self {
        match self {
            Self::Whole(bytes) if !bytes.is_empty() => Body::Marked {
                length: bytes.len(),
                hash: key.hash(bytes),
            },
            Self::Whole(_) => Body::Whole(&[]),
            Self::Marked { length, hash } => Body::Marked {
                length,
                hash: key.hash(&hash.to_le_bytes()),
            },
        }
    }
}

/// A message that is lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter<'a> {
    /// The lane that was asked for.
    pub lane: Option<Lane>,
    /// What the body is.
    pub tag: Tag,
    /// The body.
    pub body: Body<'a>,
}

impl<'a> From<&'a Message> for Letter<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            lane: message.lane,
            tag: message.tag,
            body: Body::Whole(&message.body),
        }
    }
}

/// What is remembered of datagrams that a node gave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransmitMark {
    /// How many bytes they had.
    pub size: u64,
    /// A [`Digest`] of them, and of where and how they are to be sent.
    pub digest: u64,
}

/// What is remembered of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventMark<'a> {
    /// [`crate::Event::name`].
    pub name: &'a str,
    /// A [`Digest`] of it.
    pub digest: u64,
}

/// What a private key was used for. With the certificate alone and these, a handshake can be
/// repeated byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    /// A handshake chose a scheme of the TLS registry (`SignatureScheme`, RFC 8446 §4.2.3) to sign
    /// with; `None`: the key can use none of those that the peer accepts.
    Scheme(Option<u16>),
    /// Something was signed.
    Made {
        /// The SHA-256 of what was to be signed.
        message: [u8; 32],
        /// `None`: the key failed.
        signature: Option<Vec<u8>>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_secret_shows_in_a_debug_text() {
        let secret = b"open sesame";
        let credentials = Body::Whole(secret);
        let call = Call::Connect {
            address: ([127, 0, 0, 1], 4433).into(),
            server_name: "localhost",
            client: "alice",
            credentials,
            agent: "testkit",
        };
        let session = SessionKey(crate::id::Key {
            slot: 0,
            generation: 0,
        });
        let message = Message::new(Tag(1), Bytes::from_static(secret));
        let sent = Call::Send {
            to: session,
            message: Letter::from(&message),
        };
        let hello = trunkline_proto::Hello {
            client_id: "alice".to_owned(),
            token: secret.to_vec().into(),
            credentials: secret.to_vec().into(),
            ..trunkline_proto::Hello::default()
        };
        let frame = Some(trunkline_proto::control::Frame::Hello(hello));
        let frame = prost::Message::encode_to_vec(&trunkline_proto::Control { frame });
        let note = LinkNote::Control(frame.into());
        for shown in [
            format!("{call:?}"),
            format!("{sent:?}"),
            format!("{note:?}"),
        ] {
            assert!(!shown.contains("sesame"), "{shown}");
            assert!(!shown.contains("111, 112, 101, 110"), "{shown}");
        }
        assert!(format!("{call:?}").contains("credentials: <11 bytes>"));
    }
}
