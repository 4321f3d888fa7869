//! Where the driver leaves deliveries for a session's worker.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::task::{Context, Waker};
use std::time::Instant;

use super::service::Order;
use super::watch::lock;
use crate::Delivery;

/// A delivery, how it is to be handled, and when its sender stops waiting.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) delivery: Delivery,
    pub(crate) order: Order,
    pub(crate) deadline: Option<Instant>,
}

/// Where the driver leaves deliveries for a session's worker. Its length is bounded by
/// [`crate::Limits::deliveries`], for all that stands here is unanswered, and what is lost with a session
/// is dropped.
#[derive(Debug, Default)]
pub(crate) struct JobQueue {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    jobs: VecDeque<Job>,
    worker: Worker,
    /// Deliveries below this number are nobody's any more.
    below: u64,
}

/// The number that no delivery reaches: the session is closed.
pub(crate) const CLOSED: u64 = u64::MAX;

#[derive(Debug, Default)]
enum Worker {
    #[default]
    None,
    Busy,
    Asleep(Waker),
}

impl Worker {
    /// Counts it as awake, if it is asleep.
    fn wake(&mut self) -> Option<Waker> {
        match std::mem::take(self) {
            Self::Asleep(waker) => {
                *self = Self::Busy;
                Some(waker)
            }
            other => {
                *self = other;
                None
            }
        }
    }
}

/// What must happen for a pushed job to be done.
#[derive(Debug)]
pub(crate) enum Then {
    /// Nothing: the worker is awake.
    Nothing,
    /// Wake the worker.
    Wake(Waker),
    /// Start the worker.
    Start,
}

/// What an idle session keeps room for, in jobs; there may be very many sessions.
pub(crate) const KEPT: usize = 64;

/// Gives a burst's memory back.
pub(crate) fn trim(jobs: &mut VecDeque<Job>) {
    if jobs.is_empty() {
        jobs.shrink_to(KEPT);
    }
}

/// Drops the deliveries below a number.
pub(crate) fn drop_below(jobs: &mut VecDeque<Job>, number: u64) {
    jobs.retain(|job| job.delivery.key.number >= number);
    trim(jobs);
}

impl JobQueue {
    pub(crate) fn push(&self, job: Job) -> Then {
        let mut inner = lock(&self.inner);
        if job.delivery.key.number < inner.below {
            return Then::Nothing;
        }
        // Most sessions have one at a time: no room for four then.
        if inner.jobs.capacity() == 0 {
            inner.jobs.reserve_exact(1);
        }
        inner.jobs.push_back(job);
        match std::mem::replace(&mut inner.worker, Worker::Busy) {
            Worker::None => Then::Start,
            Worker::Busy => Then::Nothing,
            Worker::Asleep(waker) => Then::Wake(waker),
        }
    }

    /// Moves all jobs to the end of `jobs`. Without any, the worker counts as asleep, and is woken
    /// for the next. Says whether there were any, and below which number all are to be dropped.
    pub(crate) fn take(&self, jobs: &mut VecDeque<Job>, cx: &Context<'_>) -> (bool, u64) {
        let mut inner = lock(&self.inner);
        let any = !inner.jobs.is_empty();
        let mut before = None;
        if !any {
            let asleep = Worker::Asleep(cx.waker().clone());
            before = Some(std::mem::replace(&mut inner.worker, asleep));
            trim(&mut inner.jobs);
            trim(jobs);
        } else if jobs.is_empty() {
            std::mem::swap(&mut inner.jobs, jobs);
        } else {
            jobs.append(&mut inner.jobs);
        }
        let below = inner.below;
        drop(inner);
        drop(before);
        (any, below)
    }

    /// Whether there is a worker, or one is about to start.
    pub(crate) fn has_worker(&self) -> bool {
        !matches!(lock(&self.inner).worker, Worker::None)
    }

    /// The worker has ended, and the session has not: the next job starts another one. Returns the jobs that it leaves.
    pub(crate) fn without_worker(&self) -> VecDeque<Job> {
        let mut inner = lock(&self.inner);
        let worker = std::mem::take(&mut inner.worker);
        let jobs = std::mem::take(&mut inner.jobs);
        drop(inner);
        drop(worker);
        jobs
    }

    /// The session is lost, and what has waited in it is nobody's any more: all deliveries below this
    /// number. With [`CLOSED`], nothing else follows.
    pub(crate) fn drop_below(&self, number: u64) {
        let mut inner = lock(&self.inner);
        inner.below = inner.below.max(number);
        drop_below(&mut inner.jobs, number);
        let worker = inner.worker.wake();
        drop(inner);
        if let Some(waker) = worker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::Key;
    use crate::{DeliveryKey, Expects, Lane, SessionKey, Tag};

    fn job(number: u64) -> Job {
        let session = SessionKey(Key {
            slot: 0,
            generation: 0,
        });
        Job {
            delivery: Delivery {
                key: DeliveryKey { session, number },
                lane: Lane::DEFAULT,
                tag: Tag(0),
                body: Bytes::new(),
                expects: Expects::Nothing,
                timeout: None,
            },
            order: Order::Ordered,
            deadline: None,
        }
    }

    #[test]
    fn what_is_lost_is_dropped_and_does_not_come_back() {
        let queue = JobQueue::default();
        let mut jobs = VecDeque::new();
        let cx = Context::from_waker(Waker::noop());
        let mut taken = || {
            let (any, below) = queue.take(&mut jobs, &cx);
            let numbers = jobs.drain(..).map(|job| job.delivery.key.number);
            (any, below, numbers.collect::<Vec<_>>())
        };
        queue.drop_below(1);
        assert!(matches!(queue.push(job(0)), Then::Nothing));
        assert!(matches!(queue.push(job(1)), Then::Start));
        queue.push(job(2));
        queue.drop_below(2);
        queue.push(job(3));
        assert_eq!(taken(), (true, 2, vec![2, 3]));
        queue.push(job(4));
        queue.drop_below(9);
        queue.push(job(8));
        assert_eq!(taken(), (false, 9, vec![]));
        assert!(matches!(queue.push(job(9)), Then::Wake(_)));
        queue.drop_below(CLOSED);
        queue.push(job(10));
        assert_eq!(taken(), (false, CLOSED, vec![]));
    }
}
