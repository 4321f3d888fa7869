//! Draws the steps of a run: operations at random, and the faults of a random subset.

use std::time::Duration;

use crate::{Path, Random};

use super::plan::{Action, Kind, Step};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

struct Drawing<'a> {
    random: &'a mut Random,
    servers: usize,
    clients: usize,
    length: Duration,
    steps: Vec<Step>,
}

/// Steps for so many nodes, in order.
pub(super) fn steps(random: &mut Random, servers: usize, clients: usize) -> Vec<Step> {
    let length = random.pick(&[3, 10, 30, 90]) * SECOND;
    let mut drawing = Drawing::new(random, servers, clients, length);
    drawing.dials();
    drawing.operations();
    let share = drawing.random.pick(&[0.0, 0.15, 0.3, 0.5]);
    drawing.faults(share);
    drawing.in_order()
}

/// Steps in which so many clients dial one server at once, and again when it has crashed.
pub(super) fn storm(random: &mut Random, clients: usize) -> Vec<Step> {
    let length = random.pick(&[3, 10, 30]) * SECOND;
    let mut drawing = Drawing::new(random, 1, clients, length);
    drawing.step(Duration::ZERO, Action::Storm { server: 0 });
    drawing.operations();
    drawing.kill(0);
    let share = drawing.random.pick(&[0.15, 0.3, 0.5]);
    drawing.faults(share);
    // To so many, one is enough.
    for step in &mut drawing.steps {
        if let Action::Broadcast { count, .. } = &mut step.action {
            *count = 1;
        }
    }
    drawing.in_order()
}

/// Adds to steps that some of so many nodes show other certificates, in one run of five.
pub(super) fn renewals(random: &mut Random, nodes: usize, steps: &mut Vec<Step>) {
    if !random.chance(0.2) {
        return;
    }
    let end = steps.last().map_or(Duration::ZERO, |step| step.at);
    for _ in 0..1 + random.below(6) {
        let at = end.mul_f64(random.fraction());
        let node = random.below(nodes);
        let action = Action::Renew { node };
        steps.push(Step { at, action });
    }
    steps.sort_by_key(|step| step.at);
}

/// In one run of five, half of the broadcasts go to all but one.
pub(super) fn exceptions(random: &mut Random, steps: &mut [Step]) {
    if !random.chance(0.2) {
        return;
    }
    for step in steps {
        if let Action::Broadcast { except, .. } = &mut step.action
            && random.chance(0.5)
        {
            *except = Some(random.below(64));
        }
    }
}

impl<'a> Drawing<'a> {
    fn new(random: &'a mut Random, servers: usize, clients: usize, length: Duration) -> Self {
        Self {
            random,
            servers,
            clients,
            length,
            steps: Vec::new(),
        }
    }

    fn in_order(mut self) -> Vec<Step> {
        self.steps.sort_by_key(|step| step.at);
        self.steps
    }
}

impl Drawing<'_> {
    fn step(&mut self, at: Duration, action: Action) {
        self.steps.push(Step { at, action });
    }

    fn time(&mut self) -> Duration {
        self.length.mul_f64(self.random.fraction())
    }

    fn span(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.random.fraction())
    }

    fn server(&mut self) -> usize {
        self.random.below(self.servers)
    }

    fn client(&mut self) -> usize {
        self.servers + self.random.below(self.clients)
    }

    /// Either side speaks as often, however many are on it.
    fn node(&mut self) -> usize {
        if self.random.chance(0.5) {
            self.server()
        } else {
            self.client()
        }
    }

    fn dials(&mut self) {
        for client in self.servers..self.servers + self.clients {
            let sessions = self.random.pick(&[1, 1, 1, 2]);
            for _ in 0..sessions {
                let (at, server) = (self.span(SECOND), self.server());
                self.step(at, Action::Connect { client, server });
            }
        }
    }

    fn size(&mut self) -> usize {
        match self.random.below(20) {
            0 => 20_000 + self.random.below(80_000),
            1..5 => 1_000 + self.random.below(3_000),
            _ => 8 + self.random.below(100),
        }
    }

    fn kind(&mut self) -> Kind {
        let timeout = self.random.pick(&[
            None,
            Some(Duration::MAX),
            Some(20 * MILLISECOND),
            Some(SECOND),
            Some(10 * SECOND),
        ]);
        match self.random.below(3) {
            0 => Kind::Told,
            1 => Kind::Acked(timeout),
            _ => Kind::Asked(timeout),
        }
    }

    fn key(&mut self) -> Option<u64> {
        let key = self.random.below(4) as u64;
        (key > 0).then_some(key)
    }

    fn operations(&mut self) {
        let most = self.random.pick(&[10, 40, 100]);
        // Which kinds of operations a run has is drawn as well: what is rare by itself then happens
        // often enough in some.
        let weights: Vec<usize> = (0..10).map(|_| self.random.below(4)).collect();
        let kinds: Vec<usize> = (0..10).flat_map(|kind| vec![kind; weights[kind]]).collect();
        for _ in 0..5 + self.random.below(most) {
            let at = self.time();
            let (node, session) = (self.node(), self.random.below(64));
            let kind = if self.random.chance(0.5) || kinds.is_empty() {
                0
            } else {
                self.random.pick(&kinds)
            };
            let action = match kind {
                1 => self.best_effort(),
                2 => self.broadcast(),
                3 => Action::Join {
                    node: self.server(),
                    session,
                    group: self.random.below(3),
                },
                4 => Action::Leave {
                    node: self.server(),
                    session,
                    group: self.random.below(3),
                },
                5 | 6 => Action::Cancel {
                    node,
                    promise: session,
                },
                7 | 8 => Action::Answer {
                    node,
                    count: 1 + self.random.below(8),
                    rejects: self.random.chance(0.2),
                },
                _ => Action::Send {
                    node,
                    session,
                    kind: self.kind(),
                    lane: self.random.pick(&[None, None, Some(0), Some(1), Some(2)]),
                    size: self.size(),
                    count: self.random.pick(&[1, 1, 2, 5, 20]),
                },
            };
            self.step(at, action);
        }
    }

    fn best_effort(&mut self) -> Action {
        Action::BestEffort {
            node: self.node(),
            session: self.random.below(64),
            key: self.key(),
            size: self.size().min(4_000),
            count: self.random.pick(&[1, 5, 30]),
        }
    }

    fn broadcast(&mut self) -> Action {
        let group = self.random.below(4);
        Action::Broadcast {
            node: self.server(),
            group: group.checked_sub(1),
            except: None,
            key: self.key(),
            size: self.size().min(4_000),
            count: self.random.pick(&[1, 5, 30]),
        }
    }

    /// So large a share of the faults is in a run; each that is happens some times.
    fn faults(&mut self, share: f64) {
        let faults: [fn(&mut Self); 17] = [
            Self::bad_network,
            Self::bad_network,
            Self::cut,
            Self::cut,
            Self::rebind,
            Self::kill_server,
            Self::kill_client,
            Self::pause,
            Self::lag,
            Self::slow_consumer,
            Self::close,
            Self::drain,
            Self::redirect,
            Self::flap,
            Self::clog,
            Self::back_and_forth,
            Self::full_send_buffer,
        ];
        for fault in faults {
            if self.random.chance(share) {
                for _ in 0..1 + self.random.below(3) {
                    fault(self);
                }
            }
        }
    }

    /// A path that comes and goes.
    fn flap(&mut self) {
        let mut at = self.time();
        let (from, to) = (self.server(), self.client());
        for _ in 0..2 + self.random.below(4) {
            let cut = |cut| Action::Cut {
                from,
                to,
                both: true,
                cut,
            };
            self.step(at, cut(true));
            self.step(at + 2 * SECOND, cut(false));
            at += 7 * SECOND;
        }
    }

    fn clog(&mut self) {
        let (at, lasts) = (self.time(), self.span(10 * SECOND));
        let (server, client) = (self.server(), self.client());
        for (from, to) in [(server, client), (client, server)] {
            if self.random.chance(0.7) {
                self.step(at, Action::Clog { from, to, lasts });
            }
        }
    }

    /// A client's address changes and is soon what it was.
    fn back_and_forth(&mut self) {
        let (mut at, node) = (self.time(), self.client());
        for _ in 0..1 + self.random.below(3) {
            self.step(at, Action::Rebind { node });
            at += self.span(2 * SECOND);
            self.step(at, Action::RebindBack { node });
            at += self.span(2 * SECOND);
        }
    }

    fn bad_network(&mut self) {
        let (at, lasts) = (self.time(), self.span(30 * SECOND));
        let path = self.path();
        self.step(at, Action::Network(path));
        self.step(at + lasts, Action::Network(Path::default()));
    }

    fn path(&mut self) -> Path {
        let mut path = Path::default();
        let random = &mut *self.random;
        let bad = random.pick(&[0.2, 0.5]);
        if random.chance(bad) {
            path.delay = random.pick(&[20, 100, 750]) * MILLISECOND;
        }
        if random.chance(bad) {
            path.jitter = random.pick(&[5, 100, 1_000]) * MILLISECOND;
        }
        if random.chance(bad) {
            path.loss = 0.3 * random.fraction();
            path.burst = random.pick(&[None, Some(3.0), Some(20.0)]);
        }
        if random.chance(bad) {
            path.duplicate = 0.5 * random.fraction();
        }
        if random.chance(bad) {
            path.reorder = 0.5 * random.fraction();
        }
        if random.chance(bad) {
            path.corrupt = 0.3 * random.fraction();
        }
        if random.chance(bad) {
            path.rate = random.pick(&[Some(200_000), Some(2_000_000)]);
            path.queue = random.pick(&[None, Some(2_000)]);
        }
        if random.chance(bad) {
            path.mtu = random.pick(&[Some(1_200), Some(1_300)]);
        }
        path
    }

    fn cut(&mut self) {
        let (at, lasts) = (self.time(), self.span(40 * SECOND));
        let (from, to) = (self.server(), self.client());
        let both = self.random.chance(0.5);
        let (from, to) = if self.random.chance(0.5) {
            (from, to)
        } else {
            (to, from)
        };
        let cut = |cut| Action::Cut {
            from,
            to,
            both,
            cut,
        };
        self.step(at, cut(true));
        self.step(at + lasts, cut(false));
    }

    fn rebind(&mut self) {
        let (mut at, node) = (self.time(), self.client());
        for _ in 0..1 + self.random.below(5) {
            self.step(at, Action::Rebind { node });
            at += SECOND + self.span(4 * SECOND);
        }
    }

    fn kill_server(&mut self) {
        let node = self.server();
        self.kill(node);
    }

    fn kill_client(&mut self) {
        let node = self.client();
        self.kill(node);
    }

    fn kill(&mut self, node: usize) {
        let (at, lasts) = (self.time(), self.span(10 * SECOND));
        let keys_lost = self.random.chance(0.5);
        self.step(at, Action::Kill { node, keys_lost });
        if self.random.chance(0.3) {
            let day_on = self.random.chance(0.5);
            self.step(at, Action::Wall { day_on });
        }
        self.step(at + lasts, Action::Start { node });
    }

    fn pause(&mut self) {
        let (at, lasts) = (self.time(), self.span(30 * SECOND));
        let node = self.node();
        self.step(at, Action::Pause { node });
        self.step(at + lasts, Action::Wake { node });
    }

    fn lag(&mut self) {
        let (at, lasts) = (self.time(), self.span(20 * SECOND));
        let (node, lag) = (self.node(), self.span(SECOND / 2));
        self.step(at, Action::Lag { node, lag });
        let lag = Duration::ZERO;
        self.step(at + lasts, Action::Lag { node, lag });
    }

    fn full_send_buffer(&mut self) {
        let (at, lasts) = (self.time(), self.span(20 * SECOND));
        let (node, takes) = (self.node(), self.random.pick(&[0, 0, 1, 3]));
        let takes = Some(takes);
        self.step(at, Action::SendBuffer { node, takes });
        let takes = None;
        self.step(at + lasts, Action::SendBuffer { node, takes });
    }

    fn slow_consumer(&mut self) {
        let (at, lasts) = (self.time(), self.span(20 * SECOND));
        let node = self.node();
        self.step(at, Action::Hold { node, holds: true });
        self.step(at + lasts, Action::Hold { node, holds: false });
    }

    fn close(&mut self) {
        let (at, node) = (self.time(), self.node());
        let (session, code) = (self.random.below(64), self.random.pick(&[0, 0, 1, 1_000]));
        let close = Action::Close {
            node,
            session,
            code,
        };
        self.step(at, close);
        if node >= self.servers {
            let (at, server) = (at + self.span(2 * SECOND), self.server());
            self.step(
                at,
                Action::Connect {
                    client: node,
                    server,
                },
            );
        }
    }

    fn drain(&mut self) {
        let (at, node) = (self.time(), self.server());
        let deadline = self.span(10 * SECOND);
        let retry_after = self.random.pick(&[None, Some(SECOND), Some(5 * SECOND)]);
        let drain = Action::Drain {
            node,
            deadline,
            retry_after,
        };
        self.step(at, drain);
        let back = at + self.span(20 * SECOND);
        let keys_lost = false;
        self.step(back, Action::Kill { node, keys_lost });
        self.step(back, Action::Start { node });
    }

    fn redirect(&mut self) {
        let (at, client, server) = (self.time(), self.client(), self.server());
        let session = self.random.below(64);
        let redirect = Action::Redirect {
            client,
            session,
            server,
        };
        self.step(at, redirect);
    }
}
