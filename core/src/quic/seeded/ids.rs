//! Connection ids from the seed.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator};

use super::Sources;
use crate::seed::SeededRng;

/// How long the connection ids are that a node hands out, in bytes.
const CONNECTION_ID_LENGTH: usize = 8;

/// How long the id is that a client makes up for the server before it knows the server's, in
/// bytes: as long as can be, at least 8 (RFC 9000 section 7.2). The packets that carry it are
/// padded anyway.
const FIRST_DESTINATION_LENGTH: usize = 20;

/// Makes up connection ids of 8 random bytes.
///
/// A node that shares its port with others will put the number of its shard into the id, so that
/// a datagram can be steered without a table. RFC 9000 section 5.1 forbids that observers can
/// link ids, so the shard has to be hidden: the whole id stays 8 bytes, its first byte then the
/// shard's number under a mask that is made of the other seven.
///
/// Ids are deliberately not recognisable as this node's own: a restarted server must answer ids
/// that an earlier run handed out with a stateless reset. For the same reason they follow from
/// the seed and not from [`super::PersistentKeys`]: the same ids again, under the same reset key,
/// would let old peers reset new connections.
struct SeededCidGenerator(SeededRng);

impl ConnectionIdGenerator for SeededCidGenerator {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; CONNECTION_ID_LENGTH];
        self.0.fill(&mut id);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

impl Sources {
    /// What `EndpointConfig::cid_generator` takes. Each generator that it makes is independent.
    pub(crate) fn connection_ids(
        &self,
    ) -> impl Fn() -> Box<dyn ConnectionIdGenerator> + Send + Sync + 'static + use<> {
        let sources = self.clone();
        move || Box::new(SeededCidGenerator(sources.generator()))
    }

    /// What `ClientConfig::initial_dst_cid_provider` takes.
    pub(crate) fn first_destinations(&self) -> Arc<dyn Fn() -> ConnectionId + Send + Sync> {
        let sources = self.clone();
        Arc::new(move || ConnectionId::new(&sources.destination()[..FIRST_DESTINATION_LENGTH]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::lab::sources;

    #[test]
    fn ids_follow_from_the_seed_and_do_not_repeat() {
        let draw = |seed| {
            let make = sources(seed).connection_ids();
            let (mut one, mut other) = (make(), make());
            let mut ids: Vec<_> = (0..50).map(|_| one.generate_cid()).collect();
            ids.extend((0..50).map(|_| other.generate_cid()));
            assert!(ids.iter().all(|id| id.len() == one.cid_len()));
            ids
        };
        let ids = draw(1);
        assert_eq!(ids, draw(1));
        let other_seed = draw(2);
        for (i, id) in ids.iter().enumerate() {
            assert!(!ids[i + 1..].contains(id) && !other_seed.contains(id));
        }
    }

    #[test]
    fn first_destinations_follow_from_the_seed_and_do_not_repeat() {
        let (one, same) = (
            sources(1).first_destinations(),
            sources(1).first_destinations(),
        );
        let first = one();
        assert_eq!(first.len(), 20);
        assert_eq!(first, same());
        let second = one();
        assert_ne!(first, second);
        assert_eq!(second, same());
    }
}
