//! What happens to the network and to processes.

use std::time::Duration;

use crate::Path;

use super::faults;
use super::plan::Action;
use super::run::{Process, Run};

/// A day.
const DAY: Duration = Duration::from_secs(86_400);

impl Run<'_> {
    pub(super) fn harm(&mut self, action: &Action) {
        match *action {
            Action::Network(path) => self.world.path = path,
            Action::Cut {
                from,
                to,
                both,
                cut,
            } => {
                let ways = [(from, to), (to, from)];
                for (from, to) in ways.into_iter().take(if both { 2 } else { 1 }) {
                    self.cut(from, to, cut);
                }
            }
            Action::Clog { from, to, lasts } => {
                self.world.clog(self.indices[from], self.indices[to], lasts);
            }
            Action::Rebind { node } => self.rebind(node, false),
            Action::RebindBack { node } => self.rebind(node, true),
            Action::Kill { node, keys_lost } => self.kill(node, keys_lost),
            Action::Start { node } => self.start(node),
            Action::Pause { node } if self.runs(node) => {
                self.world.pause(self.indices[node]);
                self.state[node].paused = true;
            }
            Action::Wake { node } => self.wake(node),
            Action::Lag { node, lag } => self.lag(node, lag),
            Action::SendBuffer { node, takes } => self.fill_send_buffer(node, takes),
            Action::Wall { day_on: true } => self.world.wall += DAY,
            Action::Wall { day_on: false } => self.world.wall -= DAY,
            _ => {}
        }
    }

    fn rebind(&mut self, node: usize, back: bool) {
        let index = self.indices[node];
        if back {
            self.world.rebind_back(index);
        } else {
            self.world.rebind(index);
        }
        let (now, address) = (self.world.now(), self.world.address(index));
        let seen = (0..self.plan.servers).any(|server| {
            let shown = self
                .runs(server)
                .then(|| self.world.node(self.indices[server]));
            shown.is_some_and(|shown| shown.sessions().any(|info| info.address == Some(address)))
        });
        if seen || self.state[node].killed {
            self.harmed[node].moves_unseen();
        } else {
            self.harmed[node].moves(now, address, back);
        }
    }

    pub(super) fn fill_send_buffer(&mut self, node: usize, takes: Option<usize>) {
        self.state[node].withholds = takes.is_some();
        self.world.fill_send_buffer(self.indices[node], takes);
    }

    /// Whether what was done to nodes shows by now.
    pub(super) fn look_at_harm(&mut self) {
        let now = self.world.now();
        let nodes = 0..self.indices.len();
        let moved = nodes.clone().filter(|node| self.harmed[*node].has_moved());
        let moved: Vec<_> = moved.collect();
        for node in nodes {
            if !self.runs(node) {
                continue;
            }
            let Process { lag, withholds, .. } = self.state[node];
            let shown = self.world.node(self.indices[node]);
            let is_late = shown.poll_timeout().is_some_and(|at| at < now);
            if is_late && !lag.is_zero() && !withholds {
                self.faults.count(faults::LATE);
            }
            self.harmed[node].look(shown, &mut self.faults);
            if node < self.plan.servers && !moved.is_empty() {
                for info in shown.sessions() {
                    for client in &moved {
                        self.harmed[*client].look_at_server(&info, &mut self.faults);
                    }
                }
            }
        }
    }

    fn cut(&mut self, from: usize, to: usize, cut: bool) {
        let (one, other) = (self.indices[from], self.indices[to]);
        if cut {
            self.world.direction(one, other).cut = true;
            self.cut.push((from, to));
        } else if self.cut.contains(&(from, to)) {
            self.world.follow(one, other);
        }
    }

    pub(super) fn mend(&mut self) {
        self.world.path = Path::default();
        self.world.let_go();
        self.world.unclog();
        for (from, to) in std::mem::take(&mut self.cut) {
            self.world.follow(self.indices[from], self.indices[to]);
        }
    }

    pub(super) fn wake(&mut self, node: usize) {
        if std::mem::take(&mut self.state[node].paused) {
            let now = self.world.now();
            self.hall.borrow_mut().oracle.stalled(now, node);
            let index = self.indices[node];
            let before = self.world.node(index).metrics(now).datagrams_in;
            self.world.wake(index);
            if self.world.node(index).metrics(now).datagrams_in > before {
                self.faults.count(faults::WAKES);
            }
        }
    }

    pub(super) fn lag(&mut self, node: usize, lag: Duration) {
        let now = self.world.now();
        self.state[node].lag = lag;
        self.hall.borrow_mut().oracle.lags(now, node, lag);
        self.world.lag_timers(self.indices[node], lag);
    }

    pub(super) fn kill(&mut self, node: usize, keys_lost: bool) {
        if std::mem::replace(&mut self.state[node].killed, true) {
            return;
        }
        let now = self.world.now();
        let index = self.indices[node];
        let metrics = self.world.node(index).metrics(now);
        let limits = &self.plan.config(node).limits;
        let serves = node < self.plan.servers;
        if !self.state[node].draining {
            let machine = self.world.node(index);
            self.harmed[node].crashes(machine, serves, keys_lost);
        }
        self.pressure.process(&metrics, limits, serves);
        let counts = self.world.held(index).is_some();
        let left = self.world.kill(index);
        if counts {
            let mut hall = self.hall.borrow_mut();
            hall.oracle.weigh_remains(now, node, left);
        }
        if keys_lost {
            self.world.lose_keys(index);
        }
        self.state[node].paused = false;
        self.state[node].draining = false;
        let mut hall = self.hall.borrow_mut();
        hall.oracle.ended(now, node);
        hall.desks[node] = Default::default();
    }

    pub(super) fn start(&mut self, node: usize) {
        if !std::mem::take(&mut self.state[node].killed) {
            return;
        }
        let config = self.plan.config(node);
        *self.world.config() = config.clone();
        self.world.start_process(self.indices[node]);
        self.harmed[node].starts(self.world.wall, &mut self.faults);
        let now = self.world.now();
        let mut hall = self.hall.borrow_mut();
        hall.oracle.started(now, node, config);
        hall.oracle.lags(now, node, self.state[node].lag);
    }
}
