//! The structured log: a line for each turn of a session's life; messages that go their way
//! leave none. What a peer wrote is given as a string, which stands in quotes in a log of text: otherwise it could pass for
//! further fields.

use crate::error::DisconnectReason;
use crate::logged::logged;

use super::events::Event;

/// One line for each event, without what messages say.
pub(super) fn log(event: &Event) {
    match event {
        Event::Connected {
            session,
            client,
            address,
            epoch,
            resumed,
        } => {
            let client = client.as_str();
            logged(|| tracing::info!(?session, client, %address, epoch, resumed, "connected"));
        }
        Event::Refused {
            link,
            client,
            address,
            code,
            reason,
        } => {
            let (client, code, reason) = (client.as_str(), code.0, &**reason);
            logged(|| tracing::info!(?link, client, %address, reason, code, "refused"));
        }
        Event::Disconnected {
            session,
            reason,
            retained,
            ..
        } => {
            let (code, reason) = (code_of(reason), reason.to_string());
            logged(|| tracing::info!(?session, reason, code, retained, "disconnected"));
        }
        Event::SessionLost { session, .. } => {
            logged(|| tracing::info!(?session, "the session is lost"));
        }
        Event::Closed {
            session, reason, ..
        } => {
            let (code, reason) = (code_of(reason), reason.to_string());
            logged(|| tracing::info!(?session, reason, code, "closed"));
        }
        Event::HeartbeatTimeout { session, .. } => {
            logged(|| tracing::debug!(?session, "heartbeat timeout"));
        }
        Event::Reconnecting {
            session,
            attempt,
            delay,
            ..
        } => {
            logged(|| tracing::debug!(?session, attempt, ?delay, "reconnecting"));
        }
        Event::SlowConsumer {
            session,
            queued_bytes,
            ..
        } => {
            logged(|| tracing::debug!(?session, queued_bytes, "slow consumer"));
        }
        Event::Dropped {
            session, messages, ..
        } => {
            logged(|| tracing::debug!(?session, messages, "best-effort messages dropped"));
        }
        Event::Undelivered {
            session,
            message,
            reason,
            maybe_delivered,
        } => {
            logged(|| {
                tracing::debug!(?session, tag = %message.tag, %reason, maybe_delivered, "undelivered");
            });
        }
        Event::Draining {
            session,
            deadline,
            alternative,
            ..
        } => {
            logged(|| {
                tracing::debug!(?session, ?deadline, alternative, "the peer is going away");
            });
        }
        _ => {}
    }
}

pub(super) fn code_of(reason: &DisconnectReason) -> Option<u32> {
    match reason {
        DisconnectReason::Local { code, .. } | DisconnectReason::Peer { code, .. } => Some(code.0),
        _ => None,
    }
}
