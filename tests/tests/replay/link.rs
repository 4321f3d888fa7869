//! What comes and goes above QUIC: the same again, without anything that could be decrypted.

use trunkline_core::trace::{End, Ending};
use trunkline_testkit::{Certificates, Recording};

use crate::conversation::{SECOND, conversation_at, ecdsa, replayed};

#[test]
fn all_sides_of_a_conversation_replay_identical() {
    for (seed, certificates) in [(1, Certificates::new().unwrap()), (2, ecdsa())] {
        for recording in [Recording::Link, Recording::LinkWithBodies] {
            let traces = conversation_at(recording, seed, &certificates);
            for (side, trace) in traces.iter().enumerate() {
                let report = replayed(trace);
                assert!(report.is_identical(), "seed {seed}, side {side}: {report}");
                assert_eq!(report.ending, Some(Ending::Said(End::Stopped)));
                assert!(report.records > 1_000, "{report}");
                assert!(report.time > 180 * SECOND, "{report}");
            }
        }
    }
}
