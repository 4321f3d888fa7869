//! The names of things: keys of the node's tables, lanes, tags, client and group names.

use std::fmt;
use std::sync::Arc;

/// A key of one of the node's tables: a slot and the generation that makes the key stale once
/// the slot is used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Which slot of the table.
    pub slot: u32,
    /// How often the slot had been filled when this key was made.
    pub generation: u32,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}v{}", self.slot, self.generation)
    }
}

/// A session of this node: what a message is sent to. It stays valid across reconnects, and,
/// on the client, across the loss of the session at the server.
///
/// Nodes that share an address ([`crate::Shard`]) give keys that differ from each other's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionKey(pub Key);

/// As in a label of a log: its slot and its generation, `7v0`.
impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The highest bits of a session's slot are its shard's number; the others, its place there.
const PLACE_BITS: u32 = 24;

/// How many sessions a node can have.
pub(crate) const SLOTS_MAX: usize = 1 << PLACE_BITS;

/// How many nodes can share an address.
pub(crate) const SHARDS_MAX: u16 = 1 << (u32::BITS - PLACE_BITS);

impl SessionKey {
    /// The number of the shard whose session it is; 0 where there are no shards.
    pub fn shard(self) -> usize {
        (self.0.slot >> PLACE_BITS) as usize
    }

    /// Its place among the sessions of its node.
    #[cfg(feature = "driver")]
    pub(crate) fn place(self) -> usize {
        self.0.slot as usize % SLOTS_MAX
    }

    /// The first slot of a shard's sessions.
    pub(crate) fn first_slot(shard: u16) -> u32 {
        u32::from(shard) << PLACE_BITS
    }
}

/// A link of this node: the state over one QUIC connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkKey(pub Key);

/// A promise of this node: a pending ack or reply.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PromiseKey {
    /// The session that the message was sent to.
    pub session: SessionKey,
    /// The promise's number in that session, as it stands on the wire.
    pub number: u64,
}

/// A message that was handed to the application, which owes it an answer: ack, reply or reject.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeliveryKey {
    /// The session that the message came from.
    pub session: SessionKey,
    /// The delivery's number in that session; it never stands on the wire.
    pub number: u64,
}

/// An ordering domain inside a session. Lanes do not block each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(u8);

impl Lane {
    /// Where a message goes unless told otherwise.
    pub const DEFAULT: Self = Self(trunkline_proto::LANE_DEFAULT);
    /// Where requests and replies above 64 KiB go: it gives way to all other lanes.
    pub const BULK: Self = Self(trunkline_proto::LANE_BULK);
    /// Best-effort messages. Not for reliable ones.
    pub const BEST_EFFORT: Self = Self(trunkline_proto::LANE_BEST_EFFORT);
    pub(crate) const ANSWERS: Self = Self(trunkline_proto::LANE_ANSWERS);
    pub(crate) const BULK_ANSWERS: Self = Self(trunkline_proto::LANE_BULK_ANSWERS);

    /// The lane of that number: 0 is [`Lane::DEFAULT`], 1 is [`Lane::BULK`], 2 to 61 are the
    /// application's. How many exist is configured ([`crate::Limits::lanes`]).
    pub const fn new(number: u8) -> Option<Self> {
        if number < trunkline_proto::LANES_MAX {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The lane's number on the wire.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::DEFAULT => f.write_str("default"),
            Self::BULK => f.write_str("bulk"),
            Self::BEST_EFFORT => f.write_str("best-effort"),
            Self::ANSWERS => f.write_str("answers"),
            Self::BULK_ANSWERS => f.write_str("bulk-answers"),
            Self(n) => write!(f, "{n}"),
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The number that a message type is routed by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u64);

impl Tag {
    /// The tag of a message type: the 64-bit FNV-1a hash of its full protobuf name
    /// (`chat.v1.Said`), <https://www.rfc-editor.org/rfc/rfc9923>.
    pub const fn of(full_name: &str) -> Self {
        Self(trunkline_proto::tag(full_name))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Whether a character in a text that somebody else has written makes it look like another one where it is read:
/// control characters, and what breaks lines or turns the order of characters about.
pub(crate) fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A name was empty, too long, or held characters that move a cursor, break lines or turn text around.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {given:?} is not usable: 1 to {NAME_MAX} bytes are, without control characters and such as break lines or turn text around"
)]
pub struct InvalidName {
    what: &'static str,
    given: String,
}

/// The longest client or group name, in bytes.
pub const NAME_MAX: usize = trunkline_proto::NAME_MAX;

fn checked(what: &'static str, name: &str) -> Result<Arc<str>, InvalidName> {
    if name.is_empty() || name.len() > NAME_MAX || name.chars().any(deceives) {
        let mut given = name.to_owned();
        given.truncate(given.floor_char_boundary(NAME_MAX));
        return Err(InvalidName { what, given });
    }
    Ok(name.into())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the name: 1 to [`NAME_MAX`] bytes, without control characters, and without those that break lines or
            /// turn the order of characters around (U+061C, U+200E, U+200F, U+2028 to U+202E, U+2066 to U+2069).
            pub fn new(name: &str) -> Result<Self, InvalidName> {
                checked($what, name).map(Self)
            }

            /// The name itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        /// So that maps by name are asked with a `&str`.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidName;
            fn try_from(name: &str) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;
            fn from_str(name: &str) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }
    };
}

name! {
    /// Who a client is: claimed by it, and bound to its certificate or to what admission found
    /// ([`crate::Admission`]), where that binds it.
    ClientId, "client id"
}

name! {
    /// The name of a group of sessions that a broadcast can go to.
    GroupName, "group name"
}

/// What a debug text shows in place of a secret: its length.
pub(crate) struct Hidden(pub(crate) usize);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0)
    }
}

/// A session's name on the wire: 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_deceives_who_reads_it_is_none() {
        for c in [
            '\n', '\u{1b}', '\u{61c}', '\u{200e}', '\u{2028}', '\u{202e}', '\u{2066}',
        ] {
            let name = format!("a{c}b");
            let error = ClientId::new(&name).unwrap_err().to_string();
            assert!(
                error.contains("turn text around") && !error.contains(c),
                "{error}"
            );
            assert!(GroupName::new(&name).is_err(), "{error}");
        }
        for name in ["a b", "na\u{ef}ve", "\u{5d0}\u{5d1}", "\u{1f980}"] {
            assert_eq!(ClientId::new(name).unwrap().as_str(), name);
        }
    }
}
