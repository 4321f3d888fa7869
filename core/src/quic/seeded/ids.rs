//! Connection ids from the seed.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator};

use super::Sources;
use crate::seed::SeededRng;
use crate::steering::{NAMING, Steering};

/// How long the connection ids are that a node hands out, in bytes.
const CONNECTION_ID_LENGTH: usize = NAMING;

/// How long the id is that a client makes up for the server before it knows the server's, in
/// bytes: as long as can be, at least 8 (RFC 9000 section 7.2). The packets that carry it are
/// padded anyway.
const FIRST_DESTINATION_LENGTH: usize = 20;

/// Makes up connection ids of 8 random bytes.
///
/// Those of a node that shares its address with others name it, for whoever has the key.
///
/// Ids are deliberately not recognisable as this node's own: a restarted server must answer ids
/// that an earlier run handed out with a stateless reset. For the same reason they follow from
/// the seed and not from [`super::PersistentKeys`]: the same ids again, under the same reset key,
/// would let old peers reset new connections.
pub(crate) struct SeededCidGenerator {
    random: SeededRng,
    shard: Option<(Steering, u16)>,
}

impl SeededCidGenerator {
    /// The next id.
    pub(crate) fn generate(&mut self) -> [u8; CONNECTION_ID_LENGTH] {
        let mut id = [0; CONNECTION_ID_LENGTH];
        self.random.fill(&mut id);
        match &self.shard {
            None => id,
            Some((steering, shard)) => steering.name(*shard, id),
        }
    }
}

impl ConnectionIdGenerator for SeededCidGenerator {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.generate())
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
        shard: Option<(Steering, u16)>,
    ) -> impl Fn() -> Box<dyn ConnectionIdGenerator> + Send + Sync + 'static + use<> {
        let sources = self.clone();
        move || Box::new(sources.connection_id_generator(shard.clone()))
    }

    /// A generator of ids that name that shard, if there are several.
    pub(crate) fn connection_id_generator(
        &self,
        shard: Option<(Steering, u16)>,
    ) -> SeededCidGenerator {
        SeededCidGenerator {
            random: self.generator(),
            shard,
        }
    }

    /// What `ClientConfig::initial_dst_cid_provider` takes.
    pub(crate) fn first_destinations(&self) -> Arc<dyn Fn() -> ConnectionId + Send + Sync> {
        let sources = self.clone();
        Arc::new(move || ConnectionId::new(&sources.destination()[..FIRST_DESTINATION_LENGTH]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::PersistentKeys;
    use super::super::lab::sources;

    #[test]
    fn ids_follow_from_the_seed_and_do_not_repeat() {
        let draw = |seed| {
            let make = sources(seed).connection_ids(None);
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
    fn ids_of_a_shard_name_it_and_do_not_repeat() {
        let steering = PersistentKeys::new([1; 32], [2; 32]).steering(3);
        let mut ids = Vec::new();
        for shard in 0..3 {
            let make = sources(1).connection_ids(Some((steering.clone(), shard)));
            let mut one = make();
            for _ in 0..50 {
                let id = one.generate_cid();
                let datagram = [&[0x40], &id[..]].concat();
                assert_eq!(steering.shard_of(&datagram), Some(shard));
                assert!(!ids.contains(&id));
                ids.push(id);
            }
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
