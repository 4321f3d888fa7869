//! Whether a server amplifies: what it sends to an address that has not shown to be its peer's stays
//! within three times what its connection has received (RFC 9000 §8).
//!
//! Seen from outside: packets are protected, but the headers of handshakes are not (RFC 9000 §17.2).
//! An address counts as validated once a datagram comes from it that was sent after something of the
//! server had come there, and which is more than an Initial: a handshake packet (§8.1) or a token
//! (§8.1.2). That is the earliest moment at which a sound server can know. Each dial begins anew
//! (§8.1), also where another one from the same address was validated.
//!
//! What is let pass: quinn-proto begins a datagram while a byte of the budget is left, and so may exceed
//! it by less than one (quinn issue 1082). A server counts what it attributes to a connection, from
//! whatever address it came (§8.1): by its connection id, or here because the same peer has sent it. And
//! a peer that was validated and moves is let be: quinn-proto challenges its new addresses with 1,200
//! bytes whatever came from there, again with every datagram where those of two addresses overtake each
//! other, and sends more besides than §9.3 and §8.2.1 have it. A stateless reset is no connection's: what
//! it answers is longer (§10.3.3), and counts for nothing else at that address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// So many bytes may be sent for each that came.
const FACTOR: u64 = 3;

/// A budget may be exceeded by less than that: the largest datagram.
const DATAGRAM_MAX: u64 = 1_472;

/// Who sends datagrams, from one address or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sender {
    /// A node or raw peer.
    Peer(usize),
    /// Nobody that is known.
    At(SocketAddr),
}

/// What one process of a server has received and sent.
#[derive(Debug, Default)]
pub(crate) struct Amplification {
    senders: BTreeMap<Sender, Account>,
    /// Whose address it is.
    owners: BTreeMap<SocketAddr, Sender>,
    /// Whose dials a datagram to that connection id may be for.
    routes: BTreeMap<Vec<u8>, BTreeSet<Sender>>,
}

/// A sender's addresses, and its dials by address and the connection id that it chose.
#[derive(Debug, Default)]
struct Account {
    /// Bytes that came from it.
    received: u64,
    addresses: BTreeMap<SocketAddr, Balance>,
    dials: BTreeMap<(SocketAddr, Vec<u8>), Balance>,
}

#[derive(Debug, Default)]
struct Balance {
    /// Of the bytes that came from the sender, so many do not count: they came before, or resets have
    /// answered them.
    uncounted: u64,
    sent: u64,
    validated: bool,
    /// The lengths of what came from there with a short header: each may be answered by a reset.
    short: Vec<u64>,
}

impl Balance {
    /// Where its sender has sent so many bytes so far.
    fn after(received: u64) -> Self {
        Self {
            uncounted: received,
            ..Self::default()
        }
    }

    /// What may be sent, of so many bytes that came from the sender.
    fn budget(&self, received: u64) -> u64 {
        (received - self.uncounted) * FACTOR
    }

    /// Takes a datagram of that length for a stateless reset, if it can be one. `slack`: by less than that
    /// the budget may be exceeded.
    fn resets(&mut self, received: u64, length: u64, slack: u64) -> bool {
        // The shortest that is long enough: whatever it really answered, the others still have theirs.
        let fits = |(_, answered): &(usize, &u64)| **answered > length;
        let came = self.short.iter().enumerate().filter(fits);
        let Some((at, &answered)) = came.min_by_key(|(_, answered)| **answered) else {
            return false;
        };
        // What was sent before for what came then.
        let budget = self.budget(received) - answered * FACTOR;
        let spent = self.sent.saturating_sub(budget);
        if spent >= slack {
            return false;
        }
        self.short.swap_remove(at);
        self.uncounted += answered;
        true
    }

    /// `slack`: so much more than its budget may have been sent before.
    fn sends(&mut self, received: u64, datagram: &[u8], slack: u64) -> Result<(), String> {
        let had_room = self.validated || self.sent < self.budget(received) + slack;
        self.sent += datagram.len() as u64;
        let (sent, counted) = (self.sent, received - self.uncounted);
        had_room
            .then_some(())
            .ok_or_else(|| format!("{sent} bytes were sent and {counted} came"))
    }
}

impl Amplification {
    /// A datagram has come. `answers`: something of this process had come to where it was sent from,
    /// before it was sent.
    pub(crate) fn received(
        &mut self,
        sender: Sender,
        from: SocketAddr,
        datagram: &[u8],
        answers: bool,
    ) {
        let seen = Seen::of(datagram);
        self.owners.insert(from, sender);
        let account = self.senders.entry(sender).or_default();
        let moves = account.addresses.values().any(|known| known.validated);
        let before = account.received;
        let anew = || Balance::after(before);
        let address = account.addresses.entry(from).or_insert_with(anew);
        address.validated |= moves;
        if seen.is_short && !address.validated {
            address.short.push(datagram.len() as u64);
        }
        if let Some((to, id)) = seen.initial.filter(|(_, id)| !id.is_empty()) {
            let dial = account.dials.entry((from, id.to_vec()));
            dial.or_insert_with(anew);
            self.routes.entry(to.to_vec()).or_default().insert(sender);
        }
        account.received += datagram.len() as u64;
        for (at, balance) in &mut account.addresses {
            // A token may be one that the process before this one gave out.
            balance.validated |= *at == from && (answers && seen.proves || seen.has_token);
        }
        if let Some(source) = seen.source.filter(|_| seen.proves)
            && let Some(dial) = account.dials.get_mut(&(from, source.to_vec()))
        {
            dial.validated = true;
        }
        let route = seen.destination.and_then(|id| self.routes.get(id));
        for other in route.into_iter().flatten().filter(|to| **to != sender) {
            if let Some(account) = self.senders.get_mut(other) {
                account.received += datagram.len() as u64;
            }
        }
    }

    /// A datagram is sent. Says what is wrong with that, if anything.
    pub(crate) fn sent(&mut self, to: SocketAddr, datagram: &[u8]) -> Result<(), String> {
        let sender = self.owners.get(&to).copied().unwrap_or(Sender::At(to));
        let account = self.senders.entry(sender).or_default();
        let header = LongHeader::read(datagram);
        let is_for = |id: &[u8]| match &header {
            Some(header) => header.destination == id,
            None => datagram.get(1..).is_some_and(|rest| rest.starts_with(id)),
        };
        // Each dial may have exceeded its own budget.
        let dials = account.dials.range((to, Vec::new())..);
        let dials = dials.take_while(|((at, _), _)| *at == to);
        let dials = dials.filter(|(_, balance)| !balance.validated).count() as u64;
        let slack = DATAGRAM_MAX * dials.saturating_sub(1);
        let received = account.received;
        let address = account.addresses.entry(to);
        let address = address.or_insert_with(|| Balance::after(received));
        let length = datagram.len() as u64;
        let may_reset = header.is_none() && !address.validated;
        if may_reset && address.resets(received, length, slack + DATAGRAM_MAX) {
            return Ok(());
        }
        let mut fits = address.sends(received, datagram, slack);
        for ((_, id), balance) in account
            .dials
            .range_mut((to, Vec::new())..)
            .take_while(|((at, _), _)| *at == to)
        {
            if balance.validated || !is_for(id) {
                continue;
            }
            fits = fits.and(balance.sends(received, datagram, 0));
            if let Some(header) = &header {
                let route = self.routes.entry(header.source.to_vec());
                route.or_default().insert(sender);
            }
        }
        fits.map_err(|what| format!("{to} is not validated: {what}"))
    }
}

/// What the headers of a datagram show.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen<'a> {
    /// The connection ids of receiver and sender, if a long header says them.
    destination: Option<&'a [u8]>,
    source: Option<&'a [u8]>,
    /// The same, if the first packet is an Initial: it may begin a dial.
    initial: Option<(&'a [u8], &'a [u8])>,
    /// It has a short header alone: it is for a connection that is established, or was.
    is_short: bool,
    /// It holds what only somebody can send who has got an answer: anything but an Initial without a
    /// token.
    proves: bool,
    /// It has a token, which servers check.
    has_token: bool,
}

impl<'a> Seen<'a> {
    fn of(datagram: &'a [u8]) -> Self {
        let mut seen = Self::default();
        let mut rest = datagram;
        while !rest.is_empty() {
            let Some(header) = LongHeader::read(rest) else {
                // A short header, whose packet takes up the rest; or padding behind others.
                seen.is_short = rest.len() == datagram.len() && rest[0] & 0x80 == 0;
                seen.proves |= seen.source.is_none() || rest[0] & 0x40 != 0;
                break;
            };
            seen.destination.get_or_insert(header.destination);
            seen.source.get_or_insert(header.source);
            if header.is_initial && rest.len() == datagram.len() {
                seen.initial = Some((header.destination, header.source));
            }
            seen.proves |= !header.is_initial || header.has_token;
            seen.has_token |= header.has_token;
            rest = rest.get(header.packet..).unwrap_or_default();
        }
        seen
    }
}

/// A long header (RFC 9000 §17.2).
struct LongHeader<'a> {
    destination: &'a [u8],
    source: &'a [u8],
    is_initial: bool,
    has_token: bool,
    /// How long the whole packet is.
    packet: usize,
}

impl<'a> LongHeader<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (first, rest) = bytes
            .split_first()
            .filter(|(first, _)| **first & 0x80 != 0)?;
        let (version, rest) = rest.split_at_checked(4)?;
        let (destination, rest) = id(rest)?;
        let (source, mut rest) = id(rest)?;
        let kind = first >> 4 & 3;
        let is_initial = kind == 0 && version != [0; 4];
        let mut token = 0;
        if is_initial {
            (token, rest) = varint(rest)?;
            rest = rest.get(token..)?;
        }
        let before = |rest: &[u8]| bytes.len() - rest.len();
        // Neither a Retry nor a Version Negotiation has a length: each is a datagram of its own.
        let has_length = kind != 3 && version != [0; 4];
        let packet = match varint(rest).filter(|_| has_length) {
            Some((length, rest)) => before(rest).saturating_add(length),
            None => bytes.len(),
        };
        Some(Self {
            destination,
            source,
            is_initial,
            has_token: token > 0,
            packet,
        })
    }
}

fn id(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// A number of variable length (RFC 9000 §16).
fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let length = 1 << (bytes.first()? >> 6);
    let (number, rest) = bytes.split_at_checked(length)?;
    let first = u64::from(number[0] & 0x3f);
    let value = number[1..]
        .iter()
        .fold(first, |n, byte| n << 8 | u64::from(*byte));
    Some((usize::try_from(value).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Sender = Sender::Peer(1);
    const CLIENT: &[u8] = &[7; 8];
    const OTHER: &[u8] = &[8; 8];
    const SERVER: &[u8] = &[9; 8];

    fn address(port: u16) -> SocketAddr {
        ([10, 0, 0, 1], port).into()
    }

    /// A packet with a long header of that kind, `length` bytes long behind its header.
    fn long(kind: u8, to: &[u8], from: &[u8], token: &[u8], length: usize) -> Vec<u8> {
        let mut packet = vec![0xc0 | kind << 4, 0, 0, 0, 1];
        for id in [to, from] {
            packet.push(id.len() as u8);
            packet.extend_from_slice(id);
        }
        if kind == 0 {
            packet.push(token.len() as u8);
            packet.extend_from_slice(token);
        }
        packet.extend_from_slice(&(0x4000 | length as u16).to_be_bytes());
        packet.resize(packet.len() + length, 0);
        packet
    }

    fn initial(from: &[u8]) -> Vec<u8> {
        let mut datagram = long(0, SERVER, from, &[], 1_000);
        datagram.resize(1_200, 0);
        datagram
    }

    fn answer(to: &[u8], length: usize) -> Vec<u8> {
        let mut datagram = long(0, to, SERVER, &[], 100);
        datagram.resize(length, 0);
        datagram
    }

    #[test]
    fn three_times_what_came_may_be_sent_and_no_other_datagram() {
        let mut server = Amplification::default();
        server.received(PEER, address(1), &initial(CLIENT), false);
        for _ in 0..3 {
            server.sent(address(1), &answer(CLIENT, 1_200)).unwrap();
        }
        let wrong = server.sent(address(1), &[0x40]).unwrap_err();
        assert!(
            wrong.contains("3601 bytes") && wrong.contains("1200 came"),
            "{wrong}"
        );
    }

    #[test]
    fn a_reset_for_an_older_connection_is_not_counted_with_a_dial() {
        let stale = [0x40; 41];
        let mut server = Amplification::default();
        server.received(PEER, address(1), &initial(CLIENT), false);
        for length in [1_200, 1_200, 1_199, 1_200] {
            server.sent(address(1), &answer(CLIENT, length)).unwrap();
        }
        server.received(PEER, address(1), &stale, false);
        // As long as what it answers, it is none.
        assert!(server.sent(address(1), &stale).is_err());
        server.sent(address(1), &stale[1..]).unwrap();
        // One for each, the longest too, and nothing else for what it answers.
        for length in [600, 41] {
            server.received(PEER, address(1), &vec![0x40; length], false);
        }
        for length in [40, 599] {
            server.sent(address(1), &vec![0x40; length]).unwrap();
        }
        assert!(server.sent(address(1), &stale[1..]).is_err());
        assert!(server.sent(address(1), &answer(CLIENT, 100)).is_err());
    }

    #[test]
    fn nothing_may_be_sent_where_nothing_came_from() {
        let mut server = Amplification::default();
        server.received(PEER, address(1), &initial(CLIENT), false);
        assert!(server.sent(address(2), &answer(CLIENT, 100)).is_err());
    }

    #[test]
    fn a_handshake_packet_or_a_token_validates_and_another_initial_does_not() {
        let handshake = long(2, SERVER, CLIENT, &[], 100);
        let coalesced = [long(0, SERVER, CLIENT, &[], 20), handshake.clone()].concat();
        let token = long(0, SERVER, CLIENT, &[1; 16], 1_200);
        for (proof, answers, proves) in [
            (handshake, true, true),
            (coalesced, true, true),
            (token.clone(), true, true),
            // One that the process before this one gave out.
            (token, false, true),
            (initial(CLIENT), true, false),
        ] {
            let mut server = Amplification::default();
            server.received(PEER, address(1), &initial(CLIENT), false);
            server.received(PEER, address(1), &proof, answers);
            let sent = (0..10).map(|_| server.sent(address(1), &answer(CLIENT, 1_200)));
            assert_eq!(sent.filter(Result::is_err).count() == 0, proves);
        }
    }

    #[test]
    fn another_dial_from_a_validated_address_begins_anew() {
        let mut server = Amplification::default();
        server.received(PEER, address(1), &initial(CLIENT), false);
        server.received(PEER, address(1), &long(2, SERVER, CLIENT, &[], 100), true);
        server.received(PEER, address(1), &initial(OTHER), true);
        for _ in 0..3 {
            server.sent(address(1), &answer(OTHER, 1_200)).unwrap();
        }
        server.sent(address(1), &answer(CLIENT, 1_200)).unwrap();
        assert!(server.sent(address(1), &answer(OTHER, 1_200)).is_err());
    }

    #[test]
    fn each_of_several_dials_may_exceed_its_budget_by_less_than_a_datagram() {
        let mut server = Amplification::default();
        server.received(PEER, address(1), &initial(CLIENT), false);
        server.received(PEER, address(1), &initial(OTHER), false);
        for id in [CLIENT, OTHER] {
            for length in [1_200, 1_200, 1_199, 1_200] {
                server.sent(address(1), &answer(id, length)).unwrap();
            }
        }
        assert!(server.sent(address(1), &answer(CLIENT, 1_200)).is_err());
    }

    #[test]
    fn a_peer_that_was_validated_may_move_and_its_next_dial_begins_anew() {
        let short = [&[0x40], SERVER, &[0; 91]].concat();
        let mut server = Amplification::default();
        server.received(PEER, address(2), &short, false);
        server
            .sent(address(2), &vec![0x40; 3 * short.len()])
            .unwrap();
        assert!(server.sent(address(2), &short).is_err());
        server.received(PEER, address(1), &long(2, SERVER, CLIENT, &[], 100), true);
        server.received(PEER, address(3), &short, false);
        server.sent(address(3), &[0x40; 1_200]).unwrap();
        server.sent(address(3), &[0x40; 1_200]).unwrap();
        server.received(PEER, address(3), &initial(OTHER), false);
        for _ in 0..3 {
            server.sent(address(3), &answer(OTHER, 1_200)).unwrap();
        }
        assert!(server.sent(address(3), &answer(OTHER, 1_200)).is_err());
    }

    #[test]
    fn what_comes_for_a_connection_from_elsewhere_counts_for_it() {
        let mut server = Amplification::default();
        let victim = Sender::At(address(1));
        server.received(victim, address(1), &initial(CLIENT), false);
        for _ in 0..3 {
            server.sent(address(1), &answer(CLIENT, 1_200)).unwrap();
        }
        server.received(Sender::At(address(2)), address(2), &initial(CLIENT), false);
        server.sent(address(1), &answer(CLIENT, 1_200)).unwrap();
        // What is for others does not.
        let mut others = initial(CLIENT);
        others[6] ^= 1;
        for _ in 0..3 {
            server.received(Sender::At(address(2)), address(2), &others, false);
        }
        server.sent(address(1), &answer(CLIENT, 1_200)).unwrap();
        server.sent(address(1), &answer(CLIENT, 1_200)).unwrap();
        assert!(server.sent(address(1), &answer(CLIENT, 1_200)).is_err());
    }

    #[test]
    fn bytes_of_any_kind_are_read_to_their_end() {
        let datagram = [
            long(0, SERVER, CLIENT, &[1; 4], 30),
            long(2, SERVER, CLIENT, &[], 30),
        ];
        let datagram = datagram.concat();
        for end in 0..datagram.len() {
            Seen::of(&datagram[..end]);
        }
        for first in 0..=255 {
            Seen::of(&[first; 50]);
        }
    }
}
