//! The driver: owns a node and its socket, and does one budgeted turn whenever it is polled.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::admission::Ask;
use super::backlog::Backlog;
use super::command::Command;
use super::crowd::Crowd;
use super::ending::{Draining, Ending, Farewell, Leaving};
use super::finding::Finding;
use super::gathering::Gathering;
use super::held::Held;
use super::hooks::Hooks;
use super::ledger::Ledger;
use super::peer::{Peer, State};
use super::portion::Portion;
use super::resolve::Resolver;
use super::runtime::Io;
use super::service::Serve;
use super::shared::{Desk, Shared};
use super::troubles::Troubles;
use super::undecided::Undecided;
use super::waiter::Ticket;
use super::wall::WallChecks;
use crate::sliding::SlidingTable;
use crate::{BusyPoll, ClientId, DisconnectReason, Input, Node, SessionKey, Timeouts, Transmit};

/// What one turn does at most of each kind, before other tasks get theirs; see [`super::held`] for commands.
const DATAGRAMS: usize = 1_024;
const TRANSMITS: usize = 256;

/// So many times receiving may fail in a turn. An error concerns one datagram; so many are the
/// socket's own, which gets a pause.
const ERRORS: usize = 64;

/// How long to leave a socket alone that cannot be used for now.
const PAUSE: Duration = Duration::from_millis(1);

/// Who has looked for datagrams for longer than this has rested.
const REST: Duration = Duration::from_micros(20);

/// So many turns may end with datagrams still waiting before timers fire all the same.
const DEFERRED_TURNS: u32 = 16;

thread_local! {
    /// Where a transmit is made: up to 64 KiB, one place for all drivers that a thread runs, for there may be
    /// very many clients.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A node, the socket it uses, and everything that handles of it need: a future that ends once
/// the node is closed. Each poll is one turn: commands, then datagrams that have arrived, then timers
/// (a peer that has spoken is never timed out), then what follows from them, then what is to be sent; or
/// commands alone, where others that belong with them are on their way. After a turn that leaves nothing to
/// do, it may look for something for a moment, and then has another one at once. Dropping it
/// settles every waiting future as [`super::Stopped`], and tells hooks and events of each session's
/// end and of what nobody waited for.
pub struct Driver<I: Io> {
    pub(super) node: Node,
    pub(super) io: I,
    pub(super) shared: Arc<Shared>,
    /// That of its node.
    pub(super) desk: Arc<Desk>,
    pub(super) service: Option<Arc<dyn Serve>>,
    pub(super) hooks: Option<Arc<dyn Hooks>>,
    pub(super) ask: Option<Ask>,
    pub(super) undecided: Undecided,
    /// What admission has found about clients whose connection, by session and epoch, is still to be told of.
    pub(super) findings: BTreeMap<(SessionKey, u64), Finding>,
    pub(super) resolver: Option<Resolver>,
    pub(super) wall_checks: WallChecks,
    pub(super) timeouts: Timeouts,
    /// By the place of their session.
    pub(super) peers: Vec<Option<Lodger>>,
    pub(super) lodgers: usize,
    pub(super) ledger: Ledger,
    pub(super) taken: VecDeque<Command>,
    pub(super) held: Held,
    /// Empty unless there is something unsent.
    buffer: Vec<u8>,
    /// What the socket did not take yet; its bytes stand in `buffer`.
    unsent: Option<Transmit>,
    troubles: Troubles,
    deferred: u32,
    crowd: Crowd,
    portion: Portion,
    busy_poll: BusyPoll,
    /// Whether others that could run have run since the last turn.
    stepped_aside: bool,
    /// Set while it has a turn, and so for good once one has ended by a panic.
    pub(super) in_turn: bool,
    pub(super) gathering: Gathering,
    pub(super) draining: Draining,
    pub(super) ending: Ending,
    /// Fields are dropped in order: this is the last.
    _farewell: Farewell,
}

/// A peer, and what only the driver knows of it.
pub(super) struct Lodger {
    pub(super) peer: Peer,
    pub(super) backlog: Backlog,
    /// Whose ticket stands for which of the session's promises.
    pub(super) promises: SlidingTable<Ticket>,
    pub(super) leaving: Option<Leaving>,
    /// The node closes it, whatever is left of its backlog.
    pub(super) left: bool,
    /// Above the numbers of all its deliveries so far.
    pub(super) next_delivery: u64,
}

/// What a driver is made of besides its node and its socket.
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) service: Option<Arc<dyn Serve>>,
    pub(crate) hooks: Option<Arc<dyn Hooks>>,
    pub(crate) ask: Option<Ask>,
    pub(crate) resolver: Option<Resolver>,
    pub(crate) timeouts: Timeouts,
    pub(crate) busy_poll: BusyPoll,
}

impl<I: Io> Driver<I> {
    pub(crate) fn new(node: Node, io: I, parts: Parts) -> Self {
        let Parts {
            shared,
            desk,
            service,
            hooks,
            ask,
            resolver,
            timeouts,
            busy_poll,
        } = parts;
        let farewell = Farewell(shared.clone());
        let portion = Portion::new(desk.runtime.wakes_at_once());
        let gathering = Gathering::new(shared.limits.best_effort_bytes);
        Self {
            node,
            io,
            shared,
            desk,
            service,
            hooks,
            ask,
            undecided: Undecided::default(),
            findings: BTreeMap::new(),
            resolver,
            wall_checks: WallChecks::default(),
            timeouts,
            peers: Vec::new(),
            lodgers: 0,
            ledger: Ledger::default(),
            taken: VecDeque::new(),
            held: Held::default(),
            buffer: Vec::new(),
            unsent: None,
            troubles: Troubles::default(),
            deferred: 0,
            crowd: Crowd::default(),
            portion,
            busy_poll,
            stepped_aside: false,
            in_turn: false,
            gathering,
            draining: Draining::default(),
            ending: Ending::default(),
            _farewell: farewell,
        }
    }

    /// Makes it end with its last session: what a client's driver does.
    pub(crate) fn end_with_last_session(&mut self) {
        self.ending = Ending::WithLastSession;
    }

    /// A handle of a session, made if there is none yet, with what its admission has found.
    pub(crate) fn lodge(
        &mut self,
        session: SessionKey,
        client: &ClientId,
        state: State,
        finding: Option<Finding>,
    ) -> Peer {
        if let Some(lodger) = self.lodger(session) {
            lodger.peer.0.finding.replace(finding);
            return lodger.peer.clone();
        }
        let slot = session.place();
        if self.peers.len() <= slot {
            self.peers.resize_with(slot + 1, || None);
        }
        let peer = Peer::new(
            self.shared.clone(),
            self.desk.clone(),
            session,
            client.clone(),
            self.shared.next_order(),
            state,
            finding,
        );
        self.shared.enlist(&peer);
        self.lodgers += 1;
        self.peers[slot] = Some(Lodger {
            peer: peer.clone(),
            backlog: Backlog::default(),
            promises: SlidingTable::default(),
            leaving: None,
            left: false,
            next_delivery: 0,
        });
        peer
    }

    pub(super) fn lodger(&mut self, session: SessionKey) -> Option<&mut Lodger> {
        find(&mut self.peers, session)
    }

    pub(super) fn peer(&self, session: SessionKey) -> Option<&Peer> {
        let lodger = self.peers.get(session.place())?.as_ref()?;
        (lodger.peer.session() == session).then_some(&lodger.peer)
    }

    /// All sessions that have a handle.
    pub(super) fn sessions(&self) -> Vec<SessionKey> {
        self.peers
            .iter()
            .flatten()
            .map(|lodger| lodger.peer.session())
            .collect()
    }

    /// Forgets a session that is gone for good.
    pub(super) fn evict(&mut self, session: SessionKey, reason: &DisconnectReason) {
        let Some(place) = self.peers.get_mut(session.place()) else {
            return;
        };
        let Some(lodger) = place.take_if(|lodger| lodger.peer.session() == session) else {
            return;
        };
        self.lodgers -= 1;
        self.shared.strike(&lodger.peer);
        lodger.peer.end(reason.clone());
    }

    /// One turn; `Ready` once the node is closed.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let stepped_aside = std::mem::take(&mut self.stepped_aside);
        self.desk.mailbox.take(&mut self.taken, None);
        if self.crowd.is_on_its_way(self.taken.len()) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let now = self.io.now();
        self.check_wall_in_time(now);
        let commanded = !self.taken.is_empty();
        self.portion.begin(commanded);
        self.run_commands(now);
        if !self.commands_wait() && self.gathering.goes_on(now) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let received = self.receive(cx, now);
        let drained = received != Received::Budget;
        self.fire_timers(now, drained);
        let reported = self.report_events(now);
        let told = self.ledger.take_told();
        let crowd = self.crowd.wake(told);
        self.ledger.wake();
        let sent = self.transmit(cx, now);
        match sent {
            Sending::Budget => self.gathering.sent_to(TRANSMITS),
            // A socket that takes nothing is not waited for: queues bound what is queued meanwhile.
            Sending::Done | Sending::Blocked => self.gathering.sent(),
        }
        // What is sent may bring events: of a link whose turn it is only then.
        let told_all = reported.all && !self.node.may_have_events();
        let idle = drained && told_all && sent != Sending::Budget && !self.commands_wait();
        if self.is_over(now, idle && sent == Sending::Done) {
            // Whoever is still there learns that this side has gone.
            let end = self.give_up(now);
            while self.transmit(cx, end) == Sending::Budget {}
            return Poll::Ready(());
        }
        if !crowd && self.taken.is_empty() {
            self.desk.mailbox.take(&mut self.taken, Some(cx));
        }
        if crowd || !idle || self.commands_wait() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let deadline = self.deadline(now, received, sent);
        if self.io.poll_sleep_until(cx, deadline).is_ready() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if received != Received::All || sent != Sending::Done {
            return Poll::Pending;
        }
        let left = deadline.map(|due| due.saturating_duration_since(now));
        match self.busy_poll.before_sleep(left) {
            // Whoever was woken goes first, for nothing else runs while it looks.
            Some(_) if commanded || reported.some || told > 0 || !stepped_aside => {
                self.stepped_aside = true;
                self.io.step_aside(cx);
            }
            Some(time) => {
                if self.finds_something(time) {
                    // Others have just had their turn. That one looks no more before they had it again.
                    return self.turn(cx);
                }
                self.portion.rest();
            }
            None => self.portion.rest(),
        }
        Poll::Pending
    }

    /// Looks for something to do, for so long.
    fn finds_something(&mut self, time: Duration) -> bool {
        let mailbox = &self.desk.mailbox;
        let found = self.io.look(time, &mut || !mailbox.is_empty());
        self.busy_poll.looked(found);
        if found.is_some_and(|after| after > REST) {
            self.portion.rest();
        }
        found.is_some()
    }

    /// Hands over what has arrived.
    fn receive(&mut self, cx: &mut Context<'_>, now: Instant) -> Received {
        let mut budget = DATAGRAMS;
        let Self {
            node, io, troubles, ..
        } = self;
        loop {
            let mut sink = |datagram| node.handle_input(now, Input::Datagram(datagram));
            let (cost, end) = match io.poll_receive(cx, &mut sink) {
                Poll::Pending => return Received::All,
                Poll::Ready(Ok(count)) => (count.max(1), Received::Budget),
                Poll::Ready(Err(error)) => {
                    troubles.not_received(now, node, &error);
                    (DATAGRAMS / ERRORS, Received::Failing)
                }
            };
            budget = budget.saturating_sub(cost);
            if budget == 0 {
                return end;
            }
        }
    }

    fn fire_timers(&mut self, now: Instant, drained: bool) {
        // What a silent peer's timer waits for may be among the datagrams that wait here.
        if !drained && self.deferred < DEFERRED_TURNS {
            self.deferred += 1;
            return;
        }
        self.deferred = 0;
        if self
            .node
            .poll_timeout()
            .is_some_and(|deadline| deadline <= now)
        {
            self.node.handle_input(now, Input::Timeout);
        }
        self.fire_alarms(now);
    }

    /// Passes on what happened.
    fn report_events(&mut self, now: Instant) -> Reported {
        // Whom commands wake is not counted: who sends all the time would hold every event up.
        let before = self.ledger.woken.len();
        let mut passed_on = 0;
        let all = loop {
            let (waiting, woken) = (self.node.events_waiting(), self.ledger.woken.len() - before);
            if !self.portion.allows(passed_on, waiting, woken) {
                break !self.node.may_have_events();
            }
            let Some(event) = self.node.poll_event() else {
                break true;
            };
            self.report(now, event);
            passed_on += 1;
        };
        let some = passed_on > 0;
        Reported { some, all }
    }

    fn transmit(&mut self, cx: &mut Context<'_>, now: Instant) -> Sending {
        if self.unsent.is_none() {
            self.buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
        }
        let sent = self.send_all(cx, now);
        if self.unsent.is_none() {
            let buffer = std::mem::take(&mut self.buffer);
            // A thread that is ending keeps none.
            let _ = BUFFER.try_with(|spare| spare.set(buffer));
        }
        sent
    }

    fn send_all(&mut self, cx: &mut Context<'_>, now: Instant) -> Sending {
        for _ in 0..TRANSMITS {
            let transmit = match self.unsent.take() {
                Some(transmit) => transmit,
                None => {
                    self.buffer.clear();
                    let segments = self.io.max_segments();
                    match self.node.poll_transmit(now, segments, &mut self.buffer) {
                        Some(transmit) => transmit,
                        None => return Sending::Done,
                    }
                }
            };
            match self
                .io
                .poll_send(cx, &transmit, &self.buffer[..transmit.size])
            {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    let Self { node, troubles, .. } = self;
                    troubles.not_sent(now, node, &transmit, &error);
                }
                Poll::Pending => {
                    self.unsent = Some(transmit);
                    return Sending::Blocked;
                }
            }
        }
        Sending::Budget
    }

    /// When there is something to do, whatever happens.
    fn deadline(&self, now: Instant, received: Received, sent: Sending) -> Option<Instant> {
        let soon = now + PAUSE;
        let mut deadline = self.node.poll_timeout();
        if sent == Sending::Blocked {
            // The node is due because it has more to send: the socket will wake us for that.
            deadline = deadline.map(|due| due.max(soon));
        }
        let retry = (received == Received::Failing).then_some(soon);
        let (alarm, end) = (self.ledger.next_alarm(), self.last_moment());
        let deadlines = [deadline, retry, alarm, end];
        deadlines.into_iter().flatten().min()
    }
}

/// The lodger of that session, if it has one.
pub(super) fn find(peers: &mut [Option<Lodger>], session: SessionKey) -> Option<&mut Lodger> {
    let lodger = peers.get_mut(session.place())?.as_mut();
    lodger.filter(|lodger| lodger.peer.session() == session)
}

/// What was passed on of what happened.
#[derive(Clone, Copy, Debug)]
struct Reported {
    /// Something.
    some: bool,
    /// All there was.
    all: bool,
}

/// How far receiving came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Received {
    /// All that had arrived.
    All,
    /// The turn's budget is used up.
    Budget,
    /// The socket fails again and again.
    Failing,
}

/// How far sending came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// All is sent.
    Done,
    /// The socket takes no more.
    Blocked,
    /// The turn's budget is used up.
    Budget,
}

impl<I: Io> Future for Driver<I> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.in_turn = true;
        let ended = self.turn(cx);
        self.in_turn = false;
        ended
    }
}

impl<I: Io> Unpin for Driver<I> {}
