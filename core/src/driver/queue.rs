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
/// [`crate::Limits::deliveries`], for all that stands here is unanswered.
#[derive(Debug, Default)]
pub(crate) struct JobQueue {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    jobs: VecDeque<Job>,
    worker: Worker,
    closed: bool,
}

#[derive(Debug, Default)]
enum Worker {
    #[default]
    None,
    Busy,
    Asleep(Waker),
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

impl JobQueue {
    pub(crate) fn push(&self, job: Job) -> Then {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Then::Nothing;
        }
        inner.jobs.push_back(job);
        match std::mem::replace(&mut inner.worker, Worker::Busy) {
            Worker::None => Then::Start,
            Worker::Busy => Then::Nothing,
            Worker::Asleep(waker) => Then::Wake(waker),
        }
    }

    /// Moves all jobs to the end of `jobs`. Without any, the worker counts as asleep, and is woken
    /// for the next. Says whether there were any, and whether the session is closed.
    pub(crate) fn take(&self, jobs: &mut VecDeque<Job>, cx: &Context<'_>) -> (bool, bool) {
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
        let closed = inner.closed;
        drop(inner);
        drop(before);
        (any, closed)
    }

    /// The session is gone: what waits is nobody's any more.
    pub(crate) fn close(&self) {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        inner.jobs.clear();
        let worker = std::mem::replace(&mut inner.worker, Worker::Busy);
        drop(inner);
        if let Worker::Asleep(waker) = worker {
            waker.wake();
        }
    }
}
