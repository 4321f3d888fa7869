//! Where every thread leaves commands for the driver: one wake-up for a batch.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::task::{Context, Waker};

use super::command::Command;
use super::watch::lock;

/// The any-thread half of a driver. Wakers and commands are woken and dropped without its lock: what
/// that brings about may come back here.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    commands: VecDeque<Command>,
    /// Set only while the driver sleeps with nothing to do.
    driver: Option<Waker>,
    closed: bool,
}

/// What an idle mailbox keeps room for; beyond it, a burst's memory is given back.
const KEPT: usize = 1_024;

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
            drop(inner);
            commands.clear();
            return;
        }
        inner.commands.extend(commands.drain(..));
        let waker = inner.driver.take();
        drop(inner);
        wake(waker);
    }

    /// Whether there are no commands now.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.inner).commands.is_empty()
    }

    /// Moves all commands to the end of `commands`. If there are none at all and the driver is about to
    /// sleep, the next one will wake it.
    pub(crate) fn take(&self, commands: &mut VecDeque<Command>, sleeping: Option<&Context<'_>>) {
        if commands.is_empty() && commands.capacity() > KEPT {
            *commands = VecDeque::new();
        }
        let mut inner = lock(&self.inner);
        inner.driver = None;
        if commands.is_empty() {
            std::mem::swap(&mut inner.commands, commands);
        } else {
            commands.append(&mut inner.commands);
            if inner.commands.capacity() > KEPT {
                inner.commands = VecDeque::new();
            }
        }
        if let Some(cx) = sleeping
            && commands.is_empty()
        {
            inner.driver = Some(cx.waker().clone());
        }
    }

    /// Ends it: later commands are refused. Returns those that nobody has taken; dropping one tells
    /// whoever waits for its answer.
    pub(crate) fn close(&self) -> VecDeque<Command> {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        let waker = inner.driver.take();
        let commands = std::mem::take(&mut inner.commands);
        drop(inner);
        drop(waker);
        commands
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
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

    fn command() -> Command {
        Command::Look(Box::new(|_, _| ()))
    }

    #[test]
    fn a_sleeping_driver_is_woken_once_for_a_whole_batch() {
        let mailbox = Mailbox::default();
        let woken = Arc::new(Count::default());
        let waker = Waker::from(woken.clone());
        let mut commands = VecDeque::new();
        mailbox.take(&mut commands, Some(&Context::from_waker(&waker)));
        for _ in 0..100 {
            mailbox.post(command()).unwrap();
        }
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        mailbox.take(&mut commands, None);
        assert_eq!(commands.len(), 100);
        mailbox.post(command()).unwrap();
        assert_eq!(
            woken.0.load(Ordering::SeqCst),
            1,
            "a busy driver looks by itself"
        );
    }

    #[test]
    fn what_comes_later_stands_behind_what_was_not_done_yet() {
        let mailbox = Mailbox::default();
        let woken = Arc::new(Count::default());
        let waker = Waker::from(woken.clone());
        let mut commands = VecDeque::new();
        let reason = |text: &str| Command::Stop(crate::CloseCode::NORMAL, text.to_owned());
        for text in ["first", "second"] {
            mailbox.post(reason(text)).unwrap();
            mailbox.take(&mut commands, Some(&Context::from_waker(&waker)));
        }
        let texts: Vec<_> = commands
            .iter()
            .map(|command| match command {
                Command::Stop(_, text) => text.as_str(),
                _ => "?",
            })
            .collect();
        assert_eq!(texts, ["first", "second"]);
        // Who has something to do does not sleep.
        mailbox.post(command()).unwrap();
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_burst_leaves_no_memory_behind() {
        let mailbox = Mailbox::default();
        for _ in 0..10_000 {
            mailbox.post(command()).unwrap();
        }
        let mut commands = VecDeque::new();
        for expected in [10_000, 0, 0] {
            mailbox.take(&mut commands, None);
            assert_eq!(commands.len(), expected);
            commands.clear();
        }
        // Behind what is not done yet, too.
        commands.push_back(command());
        for _ in 0..10_000 {
            mailbox.post(command()).unwrap();
        }
        for expected in [10_001, 0, 0] {
            mailbox.take(&mut commands, None);
            assert_eq!(commands.len(), expected);
            commands.clear();
        }
        let kept = lock(&mailbox.inner).commands.capacity() + commands.capacity();
        assert!(kept < 100, "{kept}");
    }

    #[test]
    fn a_closed_mailbox_gives_back_what_it_has_and_takes_nothing_more() {
        let mailbox = Mailbox::default();
        mailbox.post(command()).unwrap();
        assert_eq!(mailbox.close().len(), 1);
        assert!(mailbox.post(command()).is_err());
        mailbox.post_all(&mut vec![command()]);
        assert_eq!(mailbox.close().len(), 0);
    }
}
