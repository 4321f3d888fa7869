//! Whether the peer has acknowledged anything since that was waited for.

use quinn_proto::Connection;

/// An acknowledgement that is waited for. QUIC counts those in packets that the peer alone can have made, each
/// packet once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum SignOfLife {
    /// Nobody waits.
    #[default]
    Idle,
    /// None has come since there had been so many.
    Awaited(u64),
    /// One has come.
    Came,
}

impl SignOfLife {
    /// The next acknowledgement counts.
    pub(super) fn expect(&mut self, connection: &Connection) {
        *self = Self::Awaited(acknowledgements(connection));
    }

    /// A datagram has come, perhaps with it: one that is not the peer's adds none.
    pub(super) fn look(&mut self, connection: &Connection) {
        if let Self::Awaited(before) = *self
            && acknowledgements(connection) != before
        {
            *self = Self::Came;
        }
    }

    /// Whether it has come. Said once.
    pub(super) fn take(&mut self) -> bool {
        let came = matches!(self, Self::Came);
        if came {
            *self = Self::Idle;
        }
        came
    }
}

fn acknowledgements(connection: &Connection) -> u64 {
    connection.stats().frame_rx.acks
}
