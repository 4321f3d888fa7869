//! Where every thread leaves commands for the driver, and where futures wait for what becomes of
//! them: one lock for both, one wake-up for a batch, no allocation for a message.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::command::Command;
use super::watch::lock;
use crate::{Message, Outcome, SendError};

/// Names an entry of the waiting table; stale once the entry has been taken or abandoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// What a waiting future is told.
#[derive(Debug)]
pub(crate) enum Settlement {
    /// The message stands in the outbox.
    Accepted,
    /// The promise settled.
    Promise(Outcome),
    /// The message was not taken, and comes back.
    Refused(SendError<Message>),
    /// The driver has ended; whether the message left is unknown.
    Stopped,
}

/// The any-thread half of a driver. Wakers and messages are woken and dropped without its lock:
/// what that brings about may come back here.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    commands: VecDeque<Command>,
    /// Set only while the driver sleeps with nothing to do.
    driver: Option<Waker>,
    waiting: Vec<Entry>,
    free: Vec<u32>,
    /// The generation of the last ticket.
    generation: u32,
    closed: bool,
}

#[derive(Debug)]
struct Entry {
    /// That of its ticket.
    generation: u32,
    state: State,
}

/// What an idle mailbox keeps room for; beyond it, a burst's memory is given back.
const KEPT: usize = 1_024;

#[derive(Debug)]
enum State {
    Free,
    Waiting(Waker),
    Settled(Settlement),
}

impl Mailbox {
    /// Leaves a command; gives it back if the driver has ended.
    pub(crate) fn post(&self, command: Command) -> Result<(), Command> {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(command);
        }
        inner.commands.push_back(command);
        let waker = inner.driver.take();
        drop(inner);
        wake(waker);
        Ok(())
    }

    /// Leaves many commands; drops them if the driver has ended.
    pub(crate) fn post_all(&self, commands: &mut Vec<Command>) {
        if commands.is_empty() {
            return;
        }
        let mut inner = lock(&self.inner);
        if inner.closed {
            commands.clear();
            return;
        }
        inner.commands.extend(commands.drain(..));
        let waker = inner.driver.take();
        drop(inner);
        wake(waker);
    }

    /// Leaves the command that `command` makes of a new entry of the waiting table; gives it back
    /// if the driver has ended.
    pub(crate) fn post_and_wait(
        &self,
        waker: &Waker,
        command: impl FnOnce(Ticket) -> Command,
    ) -> Result<Ticket, Command> {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(command(Ticket {
                index: u32::MAX,
                generation: 0,
            }));
        }
        let ticket = inner.enter(waker.clone());
        inner.commands.push_back(command(ticket));
        let waker = inner.driver.take();
        drop(inner);
        wake(waker);
        Ok(ticket)
    }

    /// What became of an entry, once; afterwards the ticket is stale.
    pub(crate) fn poll(&self, ticket: Ticket, cx: &mut Context<'_>) -> Poll<Settlement> {
        let mut inner = lock(&self.inner);
        let Some(entry) = inner.entry(ticket) else {
            return Poll::Ready(Settlement::Stopped);
        };
        if let State::Waiting(waker) = &mut entry.state {
            let old = std::mem::replace(waker, cx.waker().clone());
            drop(inner);
            drop(old);
            return Poll::Pending;
        }
        match inner.leave(ticket) {
            State::Settled(settlement) => Poll::Ready(settlement),
            State::Free | State::Waiting(_) => Poll::Ready(Settlement::Stopped),
        }
    }

    /// Nobody waits for this entry any more: the driver is told, unless it has settled already.
    pub(crate) fn abandon(&self, ticket: Ticket) {
        let mut inner = lock(&self.inner);
        if inner.entry(ticket).is_none() {
            return;
        }
        let left = inner.leave(ticket);
        let mut waker = None;
        if matches!(left, State::Waiting(_)) && !inner.closed {
            inner.commands.push_back(Command::Abandon(ticket));
            waker = inner.driver.take();
        }
        drop(inner);
        drop(left);
        wake(waker);
    }

    /// Moves all commands into `commands`, which must be empty. If there are none and the driver is
    /// about to sleep, the next one will wake it.
    pub(crate) fn take(&self, commands: &mut VecDeque<Command>, sleeping: Option<&Context<'_>>) {
        if commands.capacity() > KEPT {
            *commands = VecDeque::new();
        }
        let mut inner = lock(&self.inner);
        inner.driver = None;
        if !inner.commands.is_empty() {
            std::mem::swap(&mut inner.commands, commands);
        } else if let Some(cx) = sleeping {
            inner.driver = Some(cx.waker().clone());
        }
    }

    /// Settles entries, and wakes who waits for them after the lock is free again.
    pub(crate) fn settle(&self, settled: &mut Vec<(Ticket, Settlement)>, woken: &mut Vec<Waker>) {
        if settled.is_empty() {
            return;
        }
        let mut inner = lock(&self.inner);
        for (ticket, settlement) in settled.drain(..) {
            if let Some(entry) = inner.entry(ticket)
                && let State::Waiting(waker) =
                    std::mem::replace(&mut entry.state, State::Settled(settlement))
            {
                woken.push(waker);
            }
        }
        drop(inner);
        woken.drain(..).for_each(Waker::wake);
    }

    /// Ends it: later commands are refused, and all who wait are told. Returns the commands that
    /// nobody has taken; dropping one tells whoever waits for its answer.
    pub(crate) fn close(&self) -> VecDeque<Command> {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        let mut woken = Vec::new();
        for entry in &mut inner.waiting {
            match std::mem::replace(&mut entry.state, State::Settled(Settlement::Stopped)) {
                State::Waiting(waker) => woken.push(waker),
                other => entry.state = other,
            }
        }
        let commands = std::mem::take(&mut inner.commands);
        drop(inner);
        woken.into_iter().for_each(Waker::wake);
        commands
    }
}

impl Inner {
    fn enter(&mut self, waker: Waker) -> Ticket {
        self.generation = self.generation.wrapping_add(1);
        let entry = Entry {
            generation: self.generation,
            state: State::Waiting(waker),
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.waiting[index as usize] = entry;
                index
            }
            None => {
                self.waiting.push(entry);
                (self.waiting.len() - 1) as u32
            }
        };
        Ticket {
            index,
            generation: self.generation,
        }
    }

    fn entry(&mut self, ticket: Ticket) -> Option<&mut Entry> {
        self.waiting
            .get_mut(ticket.index as usize)
            .filter(|entry| entry.generation == ticket.generation)
            .filter(|entry| !matches!(entry.state, State::Free))
    }

    fn leave(&mut self, ticket: Ticket) -> State {
        let Some(entry) = self.entry(ticket) else {
            return State::Free;
        };
        let state = std::mem::replace(&mut entry.state, State::Free);
        self.free.push(ticket.index);
        if self.free.len() == self.waiting.len() && self.free.len() > KEPT {
            (self.free, self.waiting) = (Vec::new(), Vec::new());
        }
        state
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// What the sender of a message waits for, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Nothing but room in the outbox.
    Room,
    /// An ack.
    Ack(Option<Duration>),
    /// A reply.
    Reply(Option<Duration>),
}

impl Wanted {
    /// The same with what is left until the deadline, if there is one.
    pub(crate) fn by(self, deadline: Option<Instant>, now: Instant) -> Self {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(now));
        match self {
            Self::Room => Self::Room,
            Self::Ack(timeout) => Self::Ack(left.or(timeout)),
            Self::Reply(timeout) => Self::Reply(left.or(timeout)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn wait(mailbox: &Mailbox) -> Ticket {
        mailbox
            .post_and_wait(Waker::noop(), Command::Abandon)
            .unwrap()
    }

    fn poll(mailbox: &Mailbox, ticket: Ticket) -> Poll<Settlement> {
        mailbox.poll(ticket, &mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_sleeping_driver_is_woken_once_for_a_whole_batch() {
        let mailbox = Mailbox::default();
        let woken = Arc::new(Count::default());
        let waker = Waker::from(woken.clone());
        let mut commands = VecDeque::new();
        mailbox.take(&mut commands, Some(&Context::from_waker(&waker)));
        for _ in 0..100 {
            wait(&mailbox);
        }
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        mailbox.take(&mut commands, None);
        assert_eq!(commands.len(), 100);
        wait(&mailbox);
        assert_eq!(
            woken.0.load(Ordering::SeqCst),
            1,
            "a busy driver looks by itself"
        );
    }

    #[test]
    fn a_future_is_told_once_and_its_place_is_used_again() {
        let mailbox = Mailbox::default();
        let ticket = wait(&mailbox);
        assert!(poll(&mailbox, ticket).is_pending());
        mailbox.settle(&mut vec![(ticket, Settlement::Accepted)], &mut Vec::new());
        assert!(matches!(
            poll(&mailbox, ticket),
            Poll::Ready(Settlement::Accepted)
        ));
        let next = wait(&mailbox);
        assert_eq!(next.index, ticket.index);
        mailbox.settle(&mut vec![(ticket, Settlement::Accepted)], &mut Vec::new());
        assert!(
            poll(&mailbox, next).is_pending(),
            "a stale ticket settles nobody else"
        );
    }

    #[test]
    fn an_abandoned_future_is_reported_unless_it_has_settled() {
        let mailbox = Mailbox::default();
        let (given_up, settled) = (wait(&mailbox), wait(&mailbox));
        mailbox.settle(&mut vec![(settled, Settlement::Accepted)], &mut Vec::new());
        let mut commands = VecDeque::new();
        mailbox.take(&mut commands, None);
        commands.clear();
        mailbox.abandon(given_up);
        mailbox.abandon(settled);
        mailbox.take(&mut commands, None);
        assert!(
            matches!(commands.make_contiguous(), [Command::Abandon(ticket)] if *ticket == given_up)
        );
    }

    #[test]
    fn a_burst_leaves_no_memory_and_no_valid_ticket_behind() {
        let mailbox = Mailbox::default();
        let tickets: Vec<_> = (0..10_000).map(|_| wait(&mailbox)).collect();
        tickets.iter().for_each(|ticket| mailbox.abandon(*ticket));
        let mut commands = VecDeque::new();
        for expected in [20_000, 0, 0] {
            mailbox.take(&mut commands, None);
            assert_eq!(commands.len(), expected);
            commands.clear();
        }
        let next = wait(&mailbox);
        let mut stale = vec![(tickets[0], Settlement::Accepted)];
        mailbox.settle(&mut stale, &mut Vec::new());
        assert!(poll(&mailbox, next).is_pending());
        assert_eq!(next.index, tickets[0].index);
        let inner = lock(&mailbox.inner);
        let kept = inner.waiting.capacity() + inner.free.capacity() + inner.commands.capacity();
        assert!(kept + commands.capacity() < 100, "{kept}");
    }

    #[test]
    fn a_closed_mailbox_tells_all_who_wait_and_takes_nothing_more() {
        let mailbox = Mailbox::default();
        let ticket = wait(&mailbox);
        mailbox.close();
        assert!(matches!(
            poll(&mailbox, ticket),
            Poll::Ready(Settlement::Stopped)
        ));
        assert!(mailbox.post(Command::Abandon(ticket)).is_err());
    }
}
