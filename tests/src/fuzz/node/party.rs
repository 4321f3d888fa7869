//! A node, and what its application knows.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use trunkline_core::{
    Admission, ClientId, ClientRole, CommandError, Config, Delivery, DeliveryKey, Expects,
    GroupName, Key, LinkKey, Node, Origin, PromiseKey, PromisesFull, Roles, Seed, ServerRole,
    SessionInfo, SessionKey, SessionsFull, Tag,
};

use crate::Certificates;
use crate::oracle::{Answer, number_of, tag_of};

use crate::fuzz::two_nodes::{certificates, without_discovery};

use super::tally::Tally;

/// A node, and what its application knows.
pub(super) struct Party {
    pub(super) node: Node,
    pub(super) address: SocketAddr,
    pub(super) config: Config,
    pub(super) sessions: Vec<SessionKey>,
    pub(super) ended: Vec<SessionKey>,
    pub(super) open: Vec<PromiseKey>,
    pub(super) settled: Vec<PromiseKey>,
    /// Handed over and not answered.
    pub(super) owed: Vec<(DeliveryKey, Expects, Bytes)>,
    pub(super) answered: Vec<DeliveryKey>,
    /// Nobody waits for the answer any more.
    pub(super) cancelled: Vec<DeliveryKey>,
    pub(super) asking: Vec<(LinkKey, ClientId)>,
    pub(super) drained: bool,
    /// Where its own sessions dial.
    pub(super) aims: BTreeMap<SessionKey, SocketAddr>,
    pub(super) tally: Tally,
    /// What is under way to it.
    pub(super) coming: VecDeque<(Instant, BytesMut)>,
}
/// What can be seen of a node from outside, what it counts of refusals aside.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    sessions: Vec<SessionInfo>,
    promises: usize,
    outbox_bytes: usize,
    answers: [u64; 3],
    pub(super) timeout: Option<Instant>,
}
impl Party {
    pub(super) fn new(number: usize, config: Config, admission: Admission, now: Instant) -> Self {
        let Certificates { roots, server, .. } = certificates();
        let roles = Roles {
            server: Some(ServerRole {
                identity: server,
                admission,
                client_roots: None,
            }),
            client: Some(ClientRole {
                roots,
                identity: None,
            }),
        };
        let origin = Origin {
            now,
            wall: SystemTime::UNIX_EPOCH + crate::world::WALL,
            seed: Seed::new([number as u8 + 1; 32]),
            keys: None,
        };
        let node = Node::new(config.clone(), roles, origin);
        Self {
            node: node.expect("the configuration is valid"),
            address: ([10, 0, 0, number as u8 + 1], 4_433).into(),
            config,
            sessions: Vec::new(),
            ended: Vec::new(),
            open: Vec::new(),
            settled: Vec::new(),
            owed: Vec::new(),
            answered: Vec::new(),
            cancelled: Vec::new(),
            asking: Vec::new(),
            drained: false,
            aims: BTreeMap::new(),
            tally: Tally::default(),
            coming: VecDeque::new(),
        }
    }

    /// A session that lives, or, by the highest bits, one that does not or never did.
    pub(super) fn session(&self, place: u8) -> SessionKey {
        let pick = |from: &[SessionKey]| {
            let place = usize::from(place & 7).checked_rem(from.len());
            place.map(|place| from[place])
        };
        let picked = match place >> 4 & 3 {
            0 | 1 => pick(&self.sessions),
            2 => pick(&self.ended),
            _ => None,
        };
        picked.unwrap_or(SessionKey(key_of(place)))
    }

    pub(super) fn seen(&self, now: Instant) -> Seen {
        let metrics = self.node.metrics(now);
        Seen {
            sessions: self.node.sessions().collect(),
            promises: metrics.promises,
            outbox_bytes: metrics.outbox_bytes,
            answers: [
                metrics.acks_sent,
                metrics.replies_sent,
                metrics.rejects_sent,
            ],
            timeout: self.node.poll_timeout().map(|at| at.max(now)),
        }
    }
}
/// Messages above this many bytes take the bulk lane, if they are requests.
pub(super) const BULK: usize = 64 << 10;

pub(super) fn key_of(byte: u8) -> Key {
    Key {
        slot: u32::from(byte & 3),
        generation: 1_000 + u32::from(byte),
    }
}

pub(super) fn group_name(number: u8) -> GroupName {
    GroupName::new(&format!("group-{number}")).expect("a usable name")
}

pub(super) fn echo(node: &mut Node, now: Instant, delivery: &Delivery) -> Option<Answer> {
    let delivery = (delivery.key, delivery.expects, delivery.body.clone());
    answer(node, now, &delivery)
}

/// Answers as the sender wants it; `None`: its session has ended since.
pub(super) fn answer(
    node: &mut Node,
    now: Instant,
    (key, expects, body): &(DeliveryKey, Expects, Bytes),
) -> Option<Answer> {
    if *expects != Expects::Reply {
        return node.ack(now, *key).ok().map(|()| Answer::Ack);
    }
    let tag = reply_tag(body);
    match node.reply(now, *key, tag, body.clone()) {
        Ok(()) => Some(Answer::Reply(tag, body.clone())),
        Err(CommandError::TooLarge { .. }) => {
            let number = number_of(body)?.to_be_bytes().to_vec();
            let given = node.reply(now, *key, tag, number.clone());
            given.ok().map(|()| Answer::Reply(tag, number.into()))
        }
        Err(_) => None,
    }
}

/// Another tag than the request's that a reply repeats.
pub(super) fn reply_tag(body: &[u8]) -> Tag {
    Tag(!tag_of(number_of(body).unwrap_or_default()).0)
}

/// Next to no room, by the bits of a number.
pub(super) fn configuration(seed: u16) -> Config {
    let mut config = Config::default();
    without_discovery(&mut config);
    config.redial.cap = Duration::from_secs(2);
    let limits = &mut config.limits;
    if seed & 1 != 0 {
        limits.promises = 2;
    }
    if seed & 2 != 0 {
        (limits.outbox_messages, limits.outbox_bytes) = (3, 5_000);
    }
    if seed & 4 != 0 {
        (limits.deliveries, limits.lane_window_bytes) = (1, 1_024);
    }
    if seed & 8 != 0 {
        (limits.event_messages, limits.best_effort_bytes) = (1, 1_024);
    }
    if seed & 16 != 0 {
        (limits.sessions_per_client, limits.groups) = (1, 1);
    }
    if seed & 32 != 0 {
        config.promises_full = PromisesFull::EvictOldest;
        config.sessions_full = SessionsFull::EndOldest;
    }
    if seed & 64 != 0 {
        config.timeouts.retention = Duration::from_secs(1);
    }
    if seed & 128 != 0 {
        limits.frame_bytes = 4_096;
    }
    config
}

/// What has been reached where a command says this.
pub(super) fn failure(error: &CommandError) -> Option<&'static str> {
    Some(match error {
        CommandError::UnknownSession => "an unknown session",
        CommandError::UnknownDelivery => "an unknown delivery",
        CommandError::UnknownPromise => "an unknown promise",
        CommandError::UnknownLink => "an unknown link",
        CommandError::TooLarge { .. } => "a message too large",
        CommandError::OutboxFull => "a full outbox",
        CommandError::PromisesFull => "a full promise table",
        CommandError::UnknownLane => "an unknown lane",
        CommandError::Closing => "a session that closes",
        CommandError::UndialableAddress(_) => "an address that cannot be dialled",
        CommandError::TooManyAddresses => "too many addresses",
        CommandError::CredentialsTooLarge { .. } => "credentials too large",
        CommandError::TableFull { .. } => "a full table",
        CommandError::IsARequest => "a request that was acked",
        CommandError::NotARequest => "a message that was replied to",
        _ => return None,
    })
}
