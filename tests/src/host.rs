//! One node of a world: its process, its socket, its application, and the laws that every node
//! keeps at every step.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use trunkline_core::{
    Datagram, Event, Input, Node, Outcome, PersistentKeys, PromiseKey, TimeoutReason, Transmit,
};

use crate::Happened;
use crate::amplification::Amplification;
use crate::memory::{self, counted};

/// What answers a node's events.
pub(crate) type Application = Box<dyn FnMut(&mut Node, Instant, &Event)>;

const SEGMENTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9);
/// Bytes that a socket holds that nobody reads; Linux's default.
pub(crate) const SOCKET_BYTES: usize = 212_992;
/// So many timeouts of one owner, in a row and each so soon after the last, may bring nothing.
const FRUITLESS: u32 = 64;
const QUICK: Duration = Duration::from_millis(1);
/// How long a socket is left alone that takes no more for now, as drivers do.
const PAUSE: Duration = Duration::from_millis(1);
/// A node that has given out so many events and transmits at one instant never runs dry.
const POLLS: usize = 1_000_000;

pub(crate) struct Host {
    /// `None`: its process is not running.
    node: Option<Node>,
    pub(crate) serves: bool,
    /// The number of its process among all that were started.
    pub(crate) process: u64,
    /// What its process, if it serves, sent to whom.
    pub(crate) amplification: Amplification,
    pub(crate) address: SocketAddr,
    pub(crate) application: Option<Application>,
    pub(crate) log: Vec<Happened>,
    settled: BTreeMap<PromiseKey, Outcome>,
    paused: bool,
    /// How much later than it wants it the node gets its timeouts.
    pub(crate) lag: Duration,
    /// How many transmits its socket takes at each visit; `None`: all.
    pub(crate) takes: Option<usize>,
    /// What the socket has not taken yet: until it does, the node is asked for no more.
    unsent: Option<(Transmit, Vec<u8>)>,
    /// How often the keys were lost that outlive its processes.
    pub(crate) keys_lost: u8,
    /// What came while the process was paused.
    socket: Vec<Datagram>,
    socket_bytes: usize,
    /// Bytes that its process holds, if they are counted.
    pub(crate) memory: i64,
    /// What its transmits are written to.
    buffer: Vec<u8>,
    /// When the node wants its timeout, as it said when it was last drained.
    pub(crate) deadline: Option<Instant>,
    /// Whose timeout was handled, if the node was not drained since.
    fired: Option<TimeoutReason>,
    /// Timeouts in a row that brought nothing.
    fruitless: Option<Fruitless>,
}

impl Host {
    pub(crate) fn new(serves: bool, address: SocketAddr) -> Self {
        Self {
            node: None,
            serves,
            process: 0,
            amplification: Amplification::default(),
            address,
            application: None,
            log: Vec::new(),
            settled: BTreeMap::new(),
            paused: false,
            lag: Duration::ZERO,
            takes: None,
            unsent: None,
            keys_lost: 0,
            socket: Vec::new(),
            socket_bytes: 0,
            memory: 0,
            buffer: Vec::new(),
            deadline: None,
            fired: None,
            fruitless: None,
        }
    }

    /// Puts a new process in the place of the old one, or none. What the network has for it waits
    /// for nobody. Says how much memory the old one has left behind.
    pub(crate) fn replace(&mut self, node: Option<Node>, process: u64) -> i64 {
        let taken = memory::take();
        let old = std::mem::replace(&mut self.node, node);
        counted(|| drop(old));
        let left = self.memory + memory::take();
        self.memory = taken;
        self.process = process;
        self.amplification = Amplification::default();
        self.settled.clear();
        self.paused = false;
        self.unsent = None;
        self.socket.clear();
        self.socket_bytes = 0;
        self.deadline = None;
        self.fired = None;
        self.fruitless = None;
        left
    }

    /// The keys of its next process, if it is the host of that number.
    pub(crate) fn keys(&self, number: u8) -> PersistentKeys {
        let mut keys = [[number; 32], [!number; 32]];
        keys.iter_mut().for_each(|key| key[0] ^= self.keys_lost);
        PersistentKeys::new(keys[0], keys[1])
    }

    pub(crate) fn node(&mut self) -> Option<&mut Node> {
        self.node.as_mut()
    }

    pub(crate) fn outcome(&self, promise: PromiseKey) -> Option<&Outcome> {
        self.settled.get(&promise)
    }

    /// A datagram has come to the node's address. `false`: there was no room for it.
    pub(crate) fn receive(&mut self, now: Instant, datagram: Datagram) -> bool {
        let Some(node) = &mut self.node else {
            return true;
        };
        if !self.paused {
            counted(|| {
                let data = datagram.data[..].into();
                node.handle_input(now, Input::Datagram(Datagram { data, ..datagram }));
            });
            self.memory += memory::take();
            return true;
        }
        if self.socket_bytes + datagram.data.len() > SOCKET_BYTES {
            return false;
        }
        self.socket_bytes += datagram.data.len();
        self.socket.push(datagram);
        true
    }

    /// Fires the node's timeout if it is due.
    pub(crate) fn fire(&mut self, now: Instant) {
        let Some(node) = self.node.as_mut().filter(|_| !self.paused) else {
            return;
        };
        if node.poll_timeout().is_some_and(|at| at <= now) {
            self.fired = node.timeout_reason();
            counted(|| node.handle_input(now, Input::Timeout));
            self.memory += memory::take();
        }
    }

    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }

    /// The process runs on: it reads what has come, and then looks at the clock.
    pub(crate) fn wake(&mut self, now: Instant) {
        if std::mem::take(&mut self.paused) {
            self.socket_bytes = 0;
            for datagram in std::mem::take(&mut self.socket) {
                self.receive(now, datagram);
            }
            self.fire(now);
        }
    }

    /// Takes out all that the node has to give: events go to the application, datagrams to `send`, as
    /// long as the socket takes them. Returns how many datagrams it did not take: they wait for it.
    ///
    /// # Panics
    /// If the node breaks a law of its contract: it has output that its timeout kept quiet about
    /// (it would stall), after a timeout it wants another one at once, or many that bring nothing
    /// (it would spin), it has a session and no timer, or it settles a promise twice.
    pub(crate) fn drain(
        &mut self,
        now: Instant,
        fallback: &mut dyn FnMut(&mut Node, Instant, &Event),
        send: &mut dyn FnMut(&Transmit, &[u8]),
    ) -> usize {
        let Self {
            node,
            application,
            log,
            settled,
            paused,
            lag,
            takes,
            unsent,
            memory,
            buffer,
            ..
        } = self;
        let Some(node) = node.as_mut().filter(|_| !*paused) else {
            return 0;
        };
        let (mut events, mut transmits, mut withheld) = (0, 0, 0);
        let mut room = takes.unwrap_or(usize::MAX);
        if let Some((transmit, bytes)) = unsent.take_if(|_| room > 0) {
            send(&transmit, &bytes);
            room -= 1;
        }
        loop {
            let before = events + transmits;
            while let Some(given) = aloud(node, now, Node::poll_event) {
                let event = memory::own(&given);
                counted(|| drop(given));
                match application {
                    Some(application) => application(node, now, &event),
                    None => fallback(node, now, &event),
                }
                if let Event::Settled {
                    promise, outcome, ..
                } = &event
                {
                    let earlier = settled.insert(*promise, outcome.clone());
                    assert!(
                        earlier.is_none(),
                        "{promise:?} settled as {earlier:?} and again as {outcome:?}"
                    );
                }
                log.push((now, event));
                events += 1;
            }
            let capacity = buffer.capacity();
            let next = |node: &mut Node| node.poll_transmit(now, SEGMENTS, buffer);
            let asked = unsent.is_none().then(|| aloud(node, now, next));
            // A node makes its datagrams in memory that is not its own.
            *memory -= (buffer.capacity() - capacity) as i64;
            if let Some(transmit) = asked.flatten() {
                if room > 0 {
                    send(&transmit, buffer);
                    room -= 1;
                } else {
                    withheld = transmit.size.div_ceil(segment(&transmit));
                    *unsent = Some((transmit, buffer.clone()));
                }
                buffer.clear();
                transmits += 1;
            }
            if events + transmits == before {
                break;
            }
            assert!(before < POLLS, "a node does not run dry at {now:?}");
        }
        *memory += memory::take();
        let wanted = node.poll_timeout();
        // Who is late for a timeout is not later for what happens meanwhile.
        let late = self.deadline.filter(|_| wanted.is_some_and(|at| at <= now));
        let soon = now + PAUSE;
        let next = match (&unsent, takes) {
            (None, _) => wanted,
            // Whoever has more to send wants to be asked for it at once.
            (Some(_), Some(0)) => wanted.map(|at| at.max(soon)),
            (Some(_), _) => Some(soon),
        };
        let anew = next.map(|at| at + *lag);
        self.deadline = late.min(anew).or(anew);
        assert!(
            wanted.is_some() || node.sessions().next().is_none(),
            "a node has a session and no timer"
        );
        let fired = self.fired.take();
        if unsent.is_some() {
            self.fruitless = None;
            return withheld;
        }
        let reason = node.timeout_reason();
        assert!(
            reason != Some(TimeoutReason::Undrained),
            "a node that was drained says that it was not"
        );
        let Some(owner) = fired else {
            return withheld;
        };
        // Where the application was told something, it may have asked for something at once.
        assert!(
            events > 0 || wanted.is_none_or(|at| at > now),
            "a node wants a timeout at {now:?} for {reason:?} just after one: it spins"
        );
        let earlier = self.fruitless.take();
        if events + transmits == 0 {
            let follows = |f: &Fruitless| f.owner == owner && now - f.last < QUICK;
            let count = 1 + earlier.filter(follows).map_or(0, |f| f.count);
            assert!(
                count <= FRUITLESS,
                "{count} timeouts of {owner:?} in a row brought nothing: it spins"
            );
            self.fruitless = Some(Fruitless {
                owner,
                count,
                last: now,
            });
        }
        withheld
    }
}

/// Timeouts of one owner, in a row and quickly after each other, that brought nothing.
struct Fruitless {
    owner: TimeoutReason,
    count: u32,
    last: Instant,
}

/// How long each datagram is, but the last.
pub(crate) fn segment(transmit: &Transmit) -> usize {
    transmit.segment_size.unwrap_or(transmit.size).max(1)
}

/// What `poll` gives. A node that has something to give must want to be called at once.
fn aloud<T>(node: &mut Node, now: Instant, poll: impl FnOnce(&mut Node) -> Option<T>) -> Option<T> {
    let said = node.poll_timeout();
    let given = counted(|| poll(node));
    assert!(
        given.is_none() || said.is_some_and(|at| at <= now),
        "a node had output and did not say so: its timeout was {said:?} at {now:?}"
    );
    given
}
