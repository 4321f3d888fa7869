//! What happens to processes and their addresses, crashes aside.

use std::time::Duration;

use super::{NodeIndex, World};

impl World {
    /// Stops a node's process where it is, as SIGSTOP does: it reads, sends and times out nothing.
    /// What comes meanwhile waits in its socket, which holds 208 KiB.
    pub fn pause(&mut self, index: NodeIndex) {
        self.hosts[index.0].pause();
    }

    /// Lets a paused process run on: it reads what waits in its socket, and then looks at the
    /// clock.
    pub fn wake(&mut self, index: NodeIndex) {
        self.hosts[index.0].wake(self.now);
        self.touched.insert(index.0);
    }

    /// Gives a node another address, as a NAT does that has forgotten a mapping: it sends from
    /// the new one, does not learn of it, and what is sent to the old one goes nowhere.
    pub fn rebind(&mut self, index: NodeIndex) {
        let address = &mut self.hosts[index.0].address;
        self.network.release(*address);
        address.set_port(address.port().checked_add(1).unwrap_or(1_024));
        self.network.assign(*address, index);
    }

    /// Gives a node the address before this one again, as a path does that comes back.
    pub fn rebind_back(&mut self, index: NodeIndex) {
        let address = &mut self.hosts[index.0].address;
        self.network.release(*address);
        address.set_port(address.port().saturating_sub(1).max(1));
        self.network.assign(*address, index);
    }

    /// Gives a node its timeouts so much later than it wants them, from its next one on, as a
    /// loop does that has other things to do.
    pub fn lag_timers(&mut self, index: NodeIndex, lag: Duration) {
        self.hosts[index.0].lag = lag;
    }

    /// Has a node's socket take no more than so many transmits at each visit, as one whose send buffer is
    /// full: what it does not take waits, and the node is asked for no more meanwhile. `None`: it takes
    /// all.
    pub fn fill_send_buffer(&mut self, index: NodeIndex, takes: Option<usize>) {
        self.hosts[index.0].takes = takes;
        self.touched.insert(index.0);
    }

    /// Loses the keys that outlive a node's processes: the next one has others, and can neither
    /// reset the connections of the one before it nor know the addresses that it has validated.
    pub fn lose_keys(&mut self, index: NodeIndex) {
        let lost = &mut self.hosts[index.0].keys_lost;
        *lost = lost.wrapping_add(1);
    }

    /// Cuts one direction once so many more datagrams were sent in it; `None`: never.
    pub fn cut_after(&mut self, from: NodeIndex, to: NodeIndex, datagrams: Option<u64>) {
        self.network.direction(self.now, from, to).cut_after = datagrams;
    }

    /// Holds whatever arrives in one direction for so long, and then lets all of it through at once.
    pub fn clog(&mut self, from: NodeIndex, to: NodeIndex, lasts: Duration) {
        self.network.direction(self.now, from, to).held_until = Some(self.now + lasts);
    }

    /// Holds nothing any more. What was held before still arrives when it was to.
    pub fn unclog(&mut self) {
        self.network.unclog();
    }

    /// How many datagrams were sent in one direction so far.
    pub fn sent(&mut self, from: NodeIndex, to: NodeIndex) -> u64 {
        self.network.direction(self.now, from, to).sent
    }
}
