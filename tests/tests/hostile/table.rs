//! Faults in tables: what a client does, and how its link ends.

use std::time::Duration;

use trunkline_core::{DisconnectReason, Event};
use trunkline_proto::CloseCode;
use trunkline_testkit::NodeIndex;
use trunkline_testkit::raw_peer::{RawLink, RawSettings};

use crate::siege::Siege;

const TICK: Duration = Duration::from_millis(200);

/// Something that a link does not survive.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// What the client does.
    pub(crate) act: fn(&mut RawLink),
    pub(crate) code: CloseCode,
    /// A part of the sentence that it is told: what was wrong.
    pub(crate) says: &'static str,
}

/// Commits each fault on an admitted link of its own. Each ends that link, with its number and a
/// sentence, on both sides; is counted; and the honest client notices nothing of any.
pub(crate) fn commit(siege: &mut Siege, faults: &[Fault]) {
    for fault in faults {
        let peer = siege.admitted();
        let seen = siege.world.log(siege.server).len();
        let reason = closed(siege, peer, fault);
        let told = DisconnectReason::Local {
            code: fault.code,
            reason,
        };
        let since = &siege.world.log(siege.server)[seen..];
        let told = since.iter().any(
            |(_, event)| matches!(event, Event::Disconnected { reason, .. } if *reason == told),
        );
        assert!(told, "the application is told the same: {since:?}");
    }
    siege.unharmed();
}

/// The same for clients that have not said hello. Their links leave no session behind.
pub(crate) fn commit_before_hello(siege: &mut Siege, faults: &[Fault]) {
    let sessions = siege.metrics().sessions;
    for fault in faults {
        let peer = siege.raw(&RawSettings::default());
        closed(siege, peer, fault);
        assert_eq!(siege.metrics().sessions, sessions);
    }
    siege.unharmed();
}

fn closed(siege: &mut Siege, peer: NodeIndex, fault: &Fault) -> String {
    let Fault {
        name,
        act,
        code,
        says,
    } = fault;
    // Shown when an assertion fails.
    println!("{name}");
    let before = siege.count(*code);
    act(siege.link(peer));
    siege.run(TICK);
    let reason = siege.closed(peer, *code);
    assert!(reason.contains(says), "{reason:?} does not say {says:?}");
    assert_eq!(siege.count(*code), before + 1, "it is counted");
    reason
}
