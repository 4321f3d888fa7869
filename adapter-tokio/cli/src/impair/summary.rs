//! What a proxy has done.

use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use super::engine::Counts;
use crate::table::{Table, grouped};

/// What a proxy has done so far.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// Where its clients find it.
    pub(crate) listen: SocketAddr,
    /// The server behind it.
    pub(crate) to: SocketAddr,
    /// With which the same packets meet the same fate again.
    pub(crate) seed: u64,
    /// How long it has run.
    pub(crate) seconds: f64,
    /// Whether the path is cut at this moment, in either direction.
    pub(crate) cut_now: bool,
    /// Who used it.
    pub(crate) clients: ClientCounts,
    /// How often the sockets towards the server were exchanged.
    pub(crate) rebinds: u64,
    /// Client to server.
    pub(crate) up: Traffic,
    /// Server to client.
    pub(crate) down: Traffic,
}

/// Who used a proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ClientCounts {
    /// Client addresses so far; one that was forgotten and came back counts again.
    pub(crate) seen: u64,
    /// Client addresses at present.
    pub(crate) active: u64,
    /// Forgotten because nothing came from them.
    pub(crate) expired: u64,
    /// Packets of clients for which there was no room, or no socket.
    pub(crate) refused_packets: u64,
}

/// One direction's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Traffic {
    /// What was decided about them.
    #[serde(flatten)]
    pub(crate) counts: Counts,
    /// Packets sent on, copies included.
    pub(crate) delivered: u64,
    /// Packets (and copies) for which the proxy's own memory had no room.
    pub(crate) overflowed: u64,
    /// Packets that the system did not send, as when nobody listens there.
    pub(crate) unsendable: u64,
}

/// A row of the table: which figure it shows of each direction.
type Figure = fn(&Traffic) -> u64;

impl Summary {
    /// One line for a progress display.
    pub(crate) fn line(&self) -> String {
        let way = |traffic: &Traffic| {
            let counts = &traffic.counts;
            let dropped = counts.lost + counts.cut + counts.queue_full + traffic.overflowed;
            format!(
                "{} packets, {} dropped",
                grouped(counts.packets),
                grouped(dropped)
            )
        };
        let state = if self.cut_now {
            "path cut"
        } else {
            "path open"
        };
        let clients = match self.clients.active {
            1 => "1 client".to_owned(),
            several => format!("{several} clients"),
        };
        format!(
            "{state}, {clients}; up {}; down {}",
            way(&self.up),
            way(&self.down)
        )
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["", "client to server", "server to client"]);
        let figures: [(&str, Figure); 11] = [
            ("packets", |traffic| traffic.counts.packets),
            ("bytes", |traffic| traffic.counts.bytes),
            ("delivered", |traffic| traffic.delivered),
            ("lost", |traffic| traffic.counts.lost),
            ("dropped, path cut", |traffic| traffic.counts.cut),
            ("dropped, queue full", |traffic| traffic.counts.queue_full),
            ("dropped, proxy full", |traffic| traffic.overflowed),
            ("reordered", |traffic| traffic.counts.reordered),
            ("duplicated", |traffic| traffic.counts.duplicated),
            ("corrupted", |traffic| traffic.counts.corrupted),
            ("unsendable", |traffic| traffic.unsendable),
        ];
        for (name, figure) in figures {
            table.row([
                name.to_owned(),
                grouped(figure(&self.up)),
                grouped(figure(&self.down)),
            ]);
        }
        let ClientCounts {
            seen,
            active,
            expired,
            refused_packets,
        } = self.clients;
        write!(
            f,
            "{table}\n{:.1} s, seed {}, {} rebinds; clients: {seen} seen, {active} active, {expired} expired, \
             {refused_packets} packets refused",
            self.seconds, self.seed, self.rebinds
        )
    }
}
