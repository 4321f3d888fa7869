//! The bytes that records are made of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use crate::id::{DeliveryKey, Key, Lane, LinkKey, PromiseKey, SessionKey, Tag};
use crate::tap::{Body, BodyKey, Letter, Level};

/// Writes fields one after another.
pub(super) struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    /// By which bodies are hashed that are not to be kept.
    key: Option<&'a BodyKey>,
}

impl<'a> Encoder<'a> {
    /// One that writes everything.
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, key: None }
    }

    /// One that writes hashes by this key in place of bodies, and of credentials nothing.
    pub(super) fn redacting(self, key: Option<&'a BodyKey>) -> Self {
        Self { key, ..self }
    }

    pub(super) fn key_of_bodies(&self) -> Option<&'a BodyKey> {
        self.key
    }

    pub(super) fn reserve(&mut self, bytes: usize) {
        self.out.reserve(bytes);
    }

    /// Bytes of which it is known how many they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.out.push(byte);
    }

    /// LEB128: seven bits a byte, the lowest first.
    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.byte(number as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8);
    }

    /// Zigzag: 0, -1, 1, -2 … are 0, 1, 2, 3 …
    pub(super) fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)) as u64);
    }

    pub(super) fn fixed(&mut self, number: u64) {
        self.out.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(super) fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// Nanoseconds.
    pub(super) fn span(&mut self, span: Duration) {
        self.number(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => {
                self.byte(4);
                self.out.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.byte(6);
                self.out.extend_from_slice(&ip.octets());
            }
        }
    }

    pub(super) fn address(&mut self, address: SocketAddr) {
        self.ip(address.ip());
        self.number(address.port().into());
        if let SocketAddr::V6(address) = address {
            self.number(address.flowinfo().into());
            self.number(address.scope_id().into());
        }
    }

    pub(super) fn key(&mut self, key: Key) {
        self.number(key.slot.into());
        self.number(key.generation.into());
    }

    pub(super) fn session(&mut self, session: SessionKey) {
        self.key(session.0);
    }

    pub(super) fn link(&mut self, link: LinkKey) {
        self.key(link.0);
    }

    pub(super) fn promise(&mut self, promise: PromiseKey) {
        self.session(promise.session);
        self.number(promise.number);
    }

    pub(super) fn delivery(&mut self, delivery: DeliveryKey) {
        self.session(delivery.session);
        self.number(delivery.number);
    }

    pub(super) fn lane(&mut self, lane: Lane) {
        self.byte(lane.number());
    }

    /// On wire level, bytes. Above it twice the length, and the bytes, or one more, and a hash.
    pub(super) fn body(&mut self, body: Body<'_>, level: Level) {
        let body = match self.key {
            Some(key) => body.marked(key),
            None => body,
        };
        self.marked_body(body, level);
    }

    fn marked_body(&mut self, body: Body<'_>, level: Level) {
        match (level, body) {
            (Level::Wire, Body::Whole(bytes)) => self.bytes(bytes),
            (Level::Link, Body::Whole(bytes)) => {
                self.number((bytes.len() as u64) << 1);
                self.out.extend_from_slice(bytes);
            }
            (_, Body::Marked { length, hash }) => {
                self.number((length.min(MARKED_MAX) as u64) << 1 | 1);
                self.fixed(hash);
            }
        }
    }

    /// What people choose can be guessed, and a guess be checked by its hash: so there is none of it.
    pub(super) fn credentials(&mut self, credentials: Body<'_>, level: Level) {
        let length = credentials.len();
        let marked = Body::Marked { length, hash: 0 };
        let shown = self.key.map_or(credentials, |_| marked);
        self.marked_body(shown, level);
    }

    pub(super) fn letter(&mut self, letter: &Letter<'_>, level: Level) {
        self.optional(letter.lane, Self::lane);
        self.fixed(letter.tag.0);
        self.body(letter.body, level);
    }
}

/// Reads fields one after another. `None`: the bytes are not what was to be read.
pub(super) struct Decoder<'a>(pub(super) &'a [u8]);

impl<'a> Decoder<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        self.number()?.try_into().ok()
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    pub(super) fn fixed(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.small()?;
        self.take(count)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(super) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.byte()? {
            0 => Some(None),
            1 => read(self).map(Some),
            _ => None,
        }
    }

    pub(super) fn span(&mut self) -> Option<Duration> {
        self.number().map(Duration::from_nanos)
    }

    pub(super) fn ip(&mut self) -> Option<IpAddr> {
        match self.byte()? {
            4 => Some(Ipv4Addr::from(self.array::<4>()?).into()),
            6 => Some(Ipv6Addr::from(self.array::<16>()?).into()),
            _ => None,
        }
    }

    pub(super) fn address(&mut self) -> Option<SocketAddr> {
        let ip = self.ip()?;
        let port = self.small()?;
        Some(match ip {
            IpAddr::V4(ip) => (ip, port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, self.small()?, self.small()?).into(),
        })
    }

    pub(super) fn session(&mut self) -> Option<SessionKey> {
        self.key().map(SessionKey)
    }

    pub(super) fn link(&mut self) -> Option<LinkKey> {
        self.key().map(LinkKey)
    }

    fn key(&mut self) -> Option<Key> {
        Some(Key {
            slot: self.small()?,
            generation: self.small()?,
        })
    }

    pub(super) fn promise(&mut self) -> Option<PromiseKey> {
        Some(PromiseKey {
            session: self.session()?,
            number: self.number()?,
        })
    }

    pub(super) fn delivery(&mut self) -> Option<DeliveryKey> {
        Some(DeliveryKey {
            session: self.session()?,
            number: self.number()?,
        })
    }

    pub(super) fn lane(&mut self) -> Option<Lane> {
        self.byte().and_then(lane)
    }

    pub(super) fn body(&mut self, level: Level) -> Option<Body<'a>> {
        if level == Level::Wire {
            return self.bytes().map(Body::Whole);
        }
        let length = self.number()?;
        let marked = length & 1 == 1;
        let length = usize::try_from(length >> 1).ok()?;
        if marked {
            let hash = self.fixed()?;
            return (length <= MARKED_MAX).then_some(Body::Marked { length, hash });
        }
        self.take(length).map(Body::Whole)
    }

    pub(super) fn letter(&mut self, level: Level) -> Option<Letter<'a>> {
        Some(Letter {
            lane: self.optional(Self::lane)?,
            tag: Tag(self.fixed()?),
            body: self.body(level)?,
        })
    }
}

/// How long a body may be of which only that is known: what is longer is refused by every node, and
/// as long as this would be, too.
const MARKED_MAX: usize = trunkline_proto::FRAME_MAX + 1;

/// Any lane that there is, and not only those that an application may ask for.
fn lane(number: u8) -> Option<Lane> {
    [Lane::BEST_EFFORT, Lane::ANSWERS, Lane::BULK_ANSWERS]
        .into_iter()
        .find(|lane| lane.number() == number)
        .or_else(|| Lane::new(number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(number: u64, signed: i64) {
            let mut bytes = Vec::new();
            let mut out = Encoder::new(&mut bytes);
            out.number(number);
            out.signed(signed);
            let mut from = Decoder(&bytes);
            prop_assert_eq!(from.number(), Some(number));
            prop_assert_eq!(from.signed(), Some(signed));
            prop_assert!(from.is_empty());
        }

        #[test]
        fn addresses_come_back(address: SocketAddr) {
            let mut bytes = Vec::new();
            Encoder::new(&mut bytes).address(address);
            prop_assert_eq!(Decoder(&bytes).address(), Some(address));
        }
    }

    #[test]
    fn numbers_beyond_64_bits_are_refused() {
        assert_eq!(Decoder(&[0xff; 9]).number(), None);
        let mut most = [0xff; 10];
        most[9] = 1;
        assert_eq!(Decoder(&most).number(), Some(u64::MAX));
        most[9] = 2;
        assert_eq!(Decoder(&most).number(), None);
    }
}
