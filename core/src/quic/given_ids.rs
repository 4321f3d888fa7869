//! Whether a peer does with its connection ids what no sound one does.

use quinn_proto::Connection;

use crate::error::{CloseCode, Fault};

/// A peer retires an id after it was sent, so that no more are given than were sent, those of the handshake aside. Some
/// more, to be on the safe side.
const UNSENT: u64 = 16;

/// What is lost, or taken for lost, is sent again: some times each on the worst of paths, by either side.
const TIMES: u64 = 8;

/// And so many times more, for a link that begins with an outage.
const AT_FIRST: u64 = 512;

/// The connection ids that a peer was given. QUIC gives another one for each that is retired, and keeps it until it is
/// acknowledged. It takes the number of one that it has not sent yet for one that may be retired, and sends again what
/// was retired meanwhile; so nothing but this bounds what it keeps.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GivenIds {
    /// How many there were; the first ones, which are given together, count for one.
    given: u64,
}

impl GivenIds {
    /// The endpoint gave the first ones, or one more.
    pub(super) fn gave(&mut self) {
        self.given += 1;
    }

    /// What the peer has done wrong so far.
    pub(super) fn check(&self, connection: &Connection) -> Result<(), Fault> {
        let frames = connection.stats();
        self.compare(
            frames.frame_tx.new_connection_id,
            frames.frame_rx.retire_connection_id,
        )
    }

    /// `sent`: how many ids went out, each as often as it did; `retired`: the same of frames that retire one, and came.
    fn compare(&self, sent: u64, retired: u64) -> Result<(), Fault> {
        let often = self.given.saturating_mul(TIMES).saturating_add(AT_FIRST);
        let wrong = if self.given > sent.saturating_add(UNSENT) {
            "connection ids are retired that were never sent"
        } else if retired > often {
            "the same connection ids are retired again and again"
        } else if sent > often {
            "connection ids are retired, and their receipt is not acknowledged"
        } else {
            return Ok(());
        };
        Err(Fault::new(CloseCode::FLOODED, wrong))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(given: u64) -> GivenIds {
        GivenIds { given }
    }

    #[test]
    fn a_sound_peer_may_lose_seven_of_eight_packets() {
        for times in [1, 2, 8] {
            for count in 1..10_000 {
                // The first ones are eight, one of them the handshake's.
                let sent = times * (count + 6);
                let retired = times * count;
                assert_eq!(given(count).compare(sent, retired), Ok(()));
            }
        }
        // Seven ids go twice with each of 36 probes.
        assert_eq!(given(1).compare(7 * (1 + 2 * 36), 0), Ok(()));
    }

    #[test]
    fn each_excess_ends_with_its_reason() {
        let said = |count, sent, retired| {
            let fault = given(count).compare(sent, retired).unwrap_err();
            assert_eq!(fault.code, CloseCode::FLOODED);
            fault.reason
        };
        assert_eq!(given(23).compare(7, 22), Ok(()));
        assert!(said(24, 7, 23).contains("never sent"));
        assert_eq!(given(1).compare(7, 520), Ok(()));
        assert!(said(1, 7, 521).contains("again and again"));
        assert_eq!(given(101).compare(1_320, 100), Ok(()));
        assert!(said(101, 1_321, 100).contains("not acknowledged"));
    }
}
