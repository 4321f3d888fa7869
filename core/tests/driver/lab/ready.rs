//! Which of the lab's tasks is polled next.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

/// Tasks that are to be polled.
#[derive(Default)]
pub(super) struct Ready {
    queue: Mutex<VecDeque<u64>>,
    /// Who is being polled.
    running: AtomicU64,
    /// Whether those that another one wakes are polled next.
    pub(super) latest_first: AtomicBool,
}

impl Ready {
    pub(super) fn wake(&self, id: u64) {
        let mut queue = self.queue.lock().unwrap();
        if queue.contains(&id) {
            return;
        }
        let by_another = id != self.running.load(Ordering::Relaxed);
        if by_another && self.latest_first.load(Ordering::Relaxed) {
            queue.push_front(id);
        } else {
            queue.push_back(id);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.lock().unwrap().is_empty()
    }

    pub(super) fn next(&self) -> Option<u64> {
        let next = self.queue.lock().unwrap().pop_front();
        self.running
            .store(next.unwrap_or(u64::MAX), Ordering::Relaxed);
        next
    }

    pub(super) fn waker(self: &Arc<Self>, id: u64) -> Waker {
        Waker::from(Arc::new(TaskWaker {
            ready: self.clone(),
            id,
        }))
    }
}

struct TaskWaker {
    ready: Arc<Ready>,
    id: u64,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.wake(self.id);
    }
}
