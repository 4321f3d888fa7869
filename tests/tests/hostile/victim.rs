//! The honest client's node as the victim of a server: its session with another goes on.

use std::time::Duration;

use trunkline_core::{DisconnectReason, Event, SessionKey};
use trunkline_proto::CloseCode;
use trunkline_testkit::NodeIndex;
use trunkline_testkit::raw_peer::{Ended, RawSettings};

use crate::siege::Siege;

pub(crate) const TICK: Duration = Duration::from_millis(200);

/// A hostile server, and the session with it of the honest client's node, whose hello has come.
pub(crate) fn dialled(siege: &mut Siege) -> (NodeIndex, SessionKey) {
    let server = siege.world.raw_server(&RawSettings::default());
    let session = siege.victim(server);
    siege.run(TICK);
    (server, session)
}

/// The same once the client was welcomed.
pub(crate) fn welcomed(siege: &mut Siege) -> (NodeIndex, SessionKey) {
    let (server, session) = dialled(siege);
    siege.welcome(server);
    siege.run(TICK);
    (server, session)
}

/// How the session's links ended so far.
pub(crate) fn ends(siege: &Siege, session: SessionKey) -> Vec<DisconnectReason> {
    let log = siege.world.log(siege.victim_node()).iter();
    log.filter_map(|(_, event)| match event {
        Event::Disconnected {
            session: of,
            reason,
            ..
        } if *of == session => Some(reason.clone()),
        _ => None,
    })
    .collect()
}

pub(crate) fn losses(siege: &Siege, session: SessionKey) -> usize {
    let lost = Event::SessionLost { session };
    let log = siege.world.log(siege.victim_node()).iter();
    log.filter(|(_, event)| *event == lost).count()
}

/// How long the client waits before its next dial, as it said last.
pub(crate) fn delay(siege: &Siege, session: SessionKey) -> Duration {
    let log = siege.world.log(siege.victim_node()).iter().rev();
    log.filter_map(|(_, event)| match event {
        Event::Reconnecting {
            session: of, delay, ..
        } if *of == session => Some(*delay),
        _ => None,
    })
    .next()
    .unwrap()
}

/// The client has closed its newest link with that code, said why on both sides, and counted it.
pub(crate) fn refused(
    siege: &mut Siege,
    (server, session): (NodeIndex, SessionKey),
    name: &str,
    code: CloseCode,
    says: &str,
) {
    siege.run(TICK);
    let told = match siege.link(server).ended() {
        Some(Ended::Application {
            code: found,
            reason,
        }) if *found == u64::from(code.0) => reason.clone(),
        other => panic!("{name}: {other:?} in place of {code}"),
    };
    assert!(
        told.contains(says),
        "{name}: {told:?} does not say {says:?}"
    );
    let local = DisconnectReason::Local { code, reason: told };
    assert_eq!(ends(siege, session).last(), Some(&local), "{name}");
    assert!(siege.victim_metrics().closed_by_code[&code] > 0, "{name}");
}
