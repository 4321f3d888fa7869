//! What a recorder above QUIC is told of links: what their connections answered, where that decides
//! what a node does, and what the node gave to them.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use rustls_pki_types::CertificateDer;

use crate::error::{CloseCode, DisconnectReason};
use crate::id::Lane;

/// How much a tap is told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Datagrams and digests of datagrams.
    #[default]
    Wire,
    /// What happens above QUIC: [`LinkNote`]s in place of datagrams. Digests leave out what bodies
    /// and credentials hold, and cover how long they are.
    Link,
}

/// Something that a link's connection answered, or was given.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkNote {
    /// The link began.
    Began {
        /// The peer's address.
        address: SocketAddr,
        /// This node dialled; otherwise the peer did.
        dialled: bool,
    },
    /// A datagram came for it.
    Came,
    /// The peer has another address.
    Moved(SocketAddr),
    /// The peer's certificates were asked for, and it has some.
    Certificates(Vec<CertificateDer<'static>>),
    /// The handshake is done.
    Up,
    /// The peer's QUIC has acknowledged something after a heartbeat.
    Acknowledged,
    /// The connection is over.
    Down(DisconnectReason),
    /// The peer does not read a stream any more.
    Fault(CloseCode, String),
    /// The peer has opened so many streams for lanes.
    Streams(u32),
    /// A frame of the control stream was read.
    Control(Bytes),
    /// A frame of a lane's stream was read.
    Lane {
        /// Which of the peer's streams, in the order in which they were opened.
        slot: u32,
        /// It names the lane: there is no envelope in it.
        opening: bool,
        /// The frame, without its length; and without its body, where that is not kept.
        frame: Bytes,
        /// The body that is not kept, and where in the frame it stood.
        marked: Option<Marked>,
    },
    /// A stream cannot be read any further.
    Broken {
        /// Which of the peer's; `None`: the control stream.
        slot: Option<u32>,
        /// What the link ends with.
        code: CloseCode,
        /// Why.
        reason: String,
    },
    /// The peer allows no stream for what was to be written.
    Unopened(LinkStream),
    /// Frames were written.
    Wrote {
        /// Where to.
        stream: LinkStream,
        /// The stream was opened for them.
        opening: bool,
        /// A [`super::Digest`] of the frames' heads, with the lengths of their bodies.
        digest: u64,
        /// How many chunks, of these and of earlier ones, the stream has not taken.
        left: u32,
    },
    /// A stream that was full took more.
    Flushed {
        /// Which.
        stream: LinkStream,
        /// How many chunks it has still not taken.
        left: u32,
    },
    /// At a timeout: something of the connection's was due.
    Due,
    /// Datagrams were made.
    Sent,
    /// What follows came up while datagrams were made.
    Late,
    /// There are no more datagrams now; how long from now the connection wants its timeout, in
    /// nanoseconds: less than none if it has wanted it for some time.
    Rests(Option<i64>),
    /// The connection is over, and may be forgotten.
    Drained,
    /// The node closed the connection.
    Closed(CloseCode, String),
}

/// In words, as it is displayed: frames hold tokens, credentials and bodies.
impl fmt::Debug for LinkNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl LinkNote {
    /// Which kind of note it is.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Began { dialled: true, .. } => "link: dialled",
            Self::Began { dialled: false, .. } => "link: accepted",
            Self::Came => "link: datagram",
            Self::Moved(_) => "link: moved",
            Self::Certificates(_) => "link: certificates",
            Self::Up => "link: up",
            Self::Acknowledged => "link: acknowledged",
            Self::Down(_) => "link: down",
            Self::Fault(..) => "link: fault",
            Self::Streams(_) => "link: streams",
            Self::Control(_) => "link: control frame read",
            Self::Lane { .. } => "link: lane frame read",
            Self::Broken { .. } => "link: stream broken",
            Self::Unopened(_) => "link: no stream",
            Self::Wrote { .. } => "link: wrote",
            Self::Flushed { .. } => "link: flushed",
            Self::Due => "link: due",
            Self::Sent => "link: sent",
            Self::Late => "link: late",
            Self::Rests(_) => "link: rests",
            Self::Drained => "link: gone",
            Self::Closed(..) => "link: closed",
        }
    }
}

/// More streams than that no peer opens on a link.
pub(crate) const PEER_STREAMS_MAX: u32 = 1_024;

/// A body that was taken out of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Where in the frame its first byte stood.
    pub start: usize,
    /// How long it was, in bytes.
    pub length: usize,
    /// See [`super::Body::Marked`].
    pub hash: u64,
}

impl Marked {
    /// What is kept of the frame: what stood before the body, and what stood behind it.
    pub(crate) fn around<'a>(&self, kept: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        kept.split_at(self.start.min(kept.len()))
    }

    /// The whole frame, with as many zeros as the body had bytes in its place. `kept` is the frame
    /// without its body.
    pub fn made_up(&self, kept: &[u8]) -> Bytes {
        let (head, tail) = self.around(kept);
        let mut whole = Vec::with_capacity(kept.len().saturating_add(self.length));
        whole.extend_from_slice(head);
        whole.resize(head.len().saturating_add(self.length), 0);
        whole.extend_from_slice(tail);
        whole.into()
    }
}

/// One of the streams that a node writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkStream {
    /// The control stream.
    Control,
    /// A lane's.
    Lane(Lane),
}

impl fmt::Display for LinkStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control => f.write_str("control"),
            Self::Lane(lane) => write!(f, "lane {lane}"),
        }
    }
}
