//! Tasks of one thread: who can run runs in the order in which it was woken.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

use trunkline_core::driver::Task;

/// The task that the test itself is.
const MAIN: u64 = 0;

/// All tasks of a simulation but the test itself.
#[derive(Default)]
pub(super) struct Tasks {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    last: u64,
    /// The process whose task runs now; 0: the test's own.
    running: u64,
    tasks: BTreeMap<u64, Entry>,
    /// In the order of waking, each once.
    woken: VecDeque<u64>,
}

struct Entry {
    process: u64,
    /// `None` while it runs.
    task: Option<Task>,
}

impl Tasks {
    /// Adds a task to the process that runs now.
    pub(super) fn spawn(&self, task: Task) {
        let process = self.lock().running;
        self.add(process, task);
    }

    /// Adds a task as a process of its own. Returns the process's number.
    pub(super) fn spawn_process(&self, task: Task) -> u64 {
        let process = self.lock().next_number();
        self.add(process, task);
        process
    }

    fn add(&self, process: u64, task: Task) {
        let mut inner = self.lock();
        let number = inner.next_number();
        let task = Some(task);
        inner.tasks.insert(number, Entry { process, task });
        inner.wake(number);
    }

    /// Drops all tasks of a process. What they do when they are dropped is done here and now.
    pub(super) fn kill(&self, process: u64) {
        self.drop_those(|entry| entry.process == process);
    }

    /// Drops all tasks, and those that are spawned by it.
    pub(super) fn kill_all(&self) {
        while self.drop_those(|_| true) > 0 {}
    }

    fn drop_those(&self, wanted: impl Fn(&Entry) -> bool) -> usize {
        let mut inner = self.lock();
        let (killed, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut inner.tasks)
            .into_iter()
            .partition(|(_, entry)| wanted(entry));
        inner.tasks = kept.into_iter().collect();
        // What they do when they are dropped may need the lock.
        drop(inner);
        killed.len()
    }

    pub(super) fn is_main(&self, number: u64) -> bool {
        number == MAIN
    }

    /// What wakes the test itself.
    pub(super) fn main(self: &Arc<Self>) -> Waker {
        self.waker(MAIN)
    }

    /// Who has waited longest to run.
    pub(super) fn next_woken(&self) -> Option<u64> {
        self.lock().woken.pop_front()
    }

    /// Runs a task until it waits or ends.
    pub(super) fn run(self: &Arc<Self>, number: u64) {
        let mut task = {
            let mut inner = self.lock();
            let Some(entry) = inner.tasks.get_mut(&number) else {
                return;
            };
            let process = entry.process;
            let Some(task) = entry.task.take() else {
                return;
            };
            inner.running = process;
            task
        };
        let waker = self.waker(number);
        let ended = task
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready();
        let mut inner = self.lock();
        inner.running = 0;
        if ended {
            inner.tasks.remove(&number);
        } else if let Some(entry) = inner.tasks.get_mut(&number) {
            entry.task = Some(task);
            return;
        }
        // What it does when it is dropped may need the lock.
        drop(inner);
        drop(task);
    }

    fn waker(self: &Arc<Self>, number: u64) -> Waker {
        let tasks = self.clone();
        Waker::from(Arc::new(TaskWaker { tasks, number }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whoever panicked while holding it has ended the test.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn wake(&mut self, number: u64) {
        if !self.woken.contains(&number) {
            self.woken.push_back(number);
        }
    }
}

struct TaskWaker {
    tasks: Arc<Tasks>,
    number: u64,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.tasks.lock().wake(self.number);
    }
}
