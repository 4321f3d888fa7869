//! The numbers that both sides of a link agree on. PROTOCOL.md says what each is for.

/// What the client offers and the server selects in the TLS handshake (ALPN, RFC 7301). Nothing
/// else is spoken on a connection that negotiated it.
pub const ALPN: &[u8] = b"trunkline/1";

/// The protocol version that [`crate::Hello`] and [`crate::Welcome`] carry.
pub const VERSION: u32 = 1;

/// The longest frame, in bytes, without its length prefix.
pub const FRAME_MAX: usize = 1 << 20;

/// The longest frame before admission, and the longest of the control stream ever, in bytes
/// without the length prefix. No side may announce a smaller limit.
pub const FRAME_MIN: usize = 4 << 10;

/// The lane of a message that names none.
pub const LANE_DEFAULT: u8 = 0;

/// The lane of large requests.
pub const LANE_BULK: u8 = 1;

/// Lanes 0 to 61 carry the application's messages; how many of them exist is announced in
/// [`crate::Limits`].
pub const LANES_MAX: u8 = 62;

/// The lane of acks, rejects and small replies.
pub const LANE_ANSWERS: u8 = 64;

/// The lane of replies above [`BULK_ABOVE`].
pub const LANE_BULK_ANSWERS: u8 = 65;

/// The lane of messages that are not kept.
pub const LANE_BEST_EFFORT: u8 = 66;

/// A request or reply with a body above this many bytes takes the bulk lane of its kind, unless
/// told otherwise.
pub const BULK_ABOVE: usize = 64 << 10;

/// The longest client id, in bytes of UTF-8.
pub const NAME_MAX: usize = 128;

/// The most that a hello's credentials and agent may have together, in bytes.
pub const CREDENTIALS_MAX: usize = 2048;

/// The longest reason, in bytes of UTF-8: in a close, a reject, or QUIC's CONNECTION_CLOSE.
pub const REASON_MAX: usize = 256;

/// The longest `alternative` of a drain, in bytes: the longest host name (RFC 1035, section
/// 2.3.4), a colon and a port, rounded up.
pub const ALTERNATIVE_MAX: usize = 272;

/// The length of a session id, in bytes.
pub const SESSION_ID_LEN: usize = 16;

/// The length of a token, in bytes.
pub const TOKEN_LEN: usize = 16;

/// Close codes and status codes from here on are the application's.
pub const APPLICATION_CODES: u32 = 1000;
