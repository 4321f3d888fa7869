//! The task that runs one session's handlers.

use std::any::Any;
use std::collections::VecDeque;
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Instant;

use futures_util::stream::{FuturesUnordered, StreamExt};

use super::command::{Answer, Command};
use super::context::Origin;
use super::glance::Glance;
use super::harmless::harmless;
use super::peer::{Inner, Peer};
use super::permits::{Applicant, Permit};
use super::queue::{CLOSED, Job, KEPT, drop_below, trim};
use super::runtime::{Runtime, Task, tell_panic};
use super::service::{Order, Serve};
use super::shared::Desk;
use super::slot::slot;
use crate::logged::logged;
use crate::{DeliveryKey, Expects, Lane, Message, Status, StatusCode};

/// So many handlers are started or finished before other tasks get their turn.
const BUDGET: usize = 256;

/// The task that runs one session's handlers: started with the first delivery, gone with the
/// session, once its last handler is done. A handler that never waits costs no task and no queue: it runs to its end where it
/// starts. Answers are left in the mailbox in one go.
pub(crate) struct Worker {
    peer: Peer,
    service: Arc<dyn Serve>,
    jobs: VecDeque<Job>,
    lanes: Vec<Line>,
    /// Lanes whose next message may start.
    free: VecDeque<Lane>,
    running: FuturesUnordered<Running>,
    /// Deliveries below this number were dropped.
    below: u64,
    applicant: Applicant,
    glance: Glance,
    answers: Vec<Command>,
    /// What is being started or finished.
    current: Option<DeliveryKey>,
    /// Its session is closed, and all is done.
    over: bool,
}

/// The ordered messages of one lane.
struct Line {
    lane: Lane,
    busy: bool,
    waiting: VecDeque<Job>,
}

impl Worker {
    pub(crate) fn new(peer: Peer, service: Arc<dyn Serve>) -> Self {
        let applicant = Applicant::new(service.permits().clone());
        Self {
            peer,
            service,
            jobs: VecDeque::new(),
            // Most sessions use one lane, and have one message at a time.
            lanes: Vec::with_capacity(1),
            free: VecDeque::new(),
            running: FuturesUnordered::new(),
            below: 0,
            applicant,
            glance: Glance::new(),
            answers: Vec::with_capacity(1),
            current: None,
            over: false,
        }
    }

    /// The next job. Jobs of busy lanes queue up behind them.
    fn next(&mut self) -> Option<Job> {
        while let Some(lane) = self.free.pop_front() {
            let waiting = &mut self.line(lane).waiting;
            if let Some(job) = waiting.pop_front() {
                trim(waiting);
                return Some(job);
            }
        }
        while let Some(job) = self.jobs.pop_front() {
            let line = (job.order == Order::Ordered).then(|| self.line(job.delivery.lane));
            match line.filter(|line| line.busy || !line.waiting.is_empty()) {
                Some(line) => line.waiting.push_back(job),
                None => return Some(job),
            }
        }
        None
    }

    fn drop_below(&mut self, number: u64) {
        drop_below(&mut self.jobs, number);
        for line in &mut self.lanes {
            drop_below(&mut line.waiting, number);
        }
    }

    fn put_back(&mut self, job: Job) {
        if job.order == Order::Ordered {
            let lane = job.delivery.lane;
            self.line(lane).waiting.push_front(job);
            self.free.push_front(lane);
        } else {
            self.jobs.push_front(job);
        }
    }

    fn line(&mut self, lane: Lane) -> &mut Line {
        let place = match self.lanes.iter().position(|line| line.lane == lane) {
            Some(place) => place,
            None => {
                self.lanes.push(Line {
                    lane,
                    busy: false,
                    waiting: VecDeque::new(),
                });
                self.lanes.len() - 1
            }
        };
        &mut self.lanes[place]
    }

    fn start(&mut self, job: Job, permit: Permit, cx: &mut Context<'_>) {
        let Job {
            delivery,
            order,
            deadline,
        } = job;
        let (key, lane, expects) = (delivery.key, delivery.lane, delivery.expects);
        let errand = Errand {
            key,
            ordered: (order == Order::Ordered).then_some(lane),
            expects,
        };
        self.current = Some(key);
        if let Some(refusal) = self.comes_too_late(key, deadline) {
            self.done_with(permit);
            return self.finish(errand, Answer::Reject(refusal));
        }
        let origin = Origin {
            peer: self.peer.clone(),
            delivery: key,
            lane,
            expects,
            deadline,
        };
        let message = Message {
            lane: Some(lane),
            tag: delivery.tag,
            body: delivery.body,
        };
        let service = self.service.clone();
        let work = catch_unwind(AssertUnwindSafe(|| service.start(origin, message)));
        let panicked = |panic: Box<dyn Any + Send>| Err(panicked(&self.peer.0.desk, key, &*panic));
        let mut task = match work.unwrap_or_else(panicked) {
            Ok(task) => task,
            Err(status) => {
                self.done_with(permit);
                return self.done(errand, Err(status));
            }
        };
        if self.service.parallel() && order == Order::Concurrent {
            task = self.run_elsewhere(key, task);
        }
        match guarded(&mut task, cx) {
            Poll::Ready(result) => {
                self.done_with(permit);
                let result = self.unless_panicked(key, result);
                self.done(errand, result);
            }
            Poll::Pending => {
                if let Some(lane) = errand.ordered {
                    self.line(lane).busy = true;
                }
                self.current = None;
                self.running.push(Running {
                    errand,
                    work: Begun {
                        task,
                        desk: self.peer.0.desk.clone(),
                    },
                    _permit: permit,
                });
            }
        }
    }

    /// The next handler gets the permit, unless others have to be looked after first.
    fn done_with(&mut self, permit: Permit) {
        if self.running.is_empty() {
            self.applicant.keep(permit);
        }
    }

    /// Why nobody waits for this work any more.
    fn comes_too_late(&mut self, key: DeliveryKey, deadline: Option<Instant>) -> Option<Status> {
        let Inner {
            desk,
            cancellations,
            ..
        } = &*self.peer.0;
        let now = self.glance.now(|| desk.runtime.now());
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Some(Status::new(
                StatusCode::DEADLINE_EXCEEDED,
                "the time was over before the work began",
            ));
        }
        cancellations.is_cancelled(key.number).then(|| {
            Status::new(
                StatusCode::CANCELLED,
                "the sender gave up before the work began",
            )
        })
    }

    /// Has a handler run as a task of its own; what is left here waits for it.
    fn run_elsewhere(&self, key: DeliveryKey, task: Work) -> Work {
        let (filler, filled) = slot();
        let desk = self.peer.0.desk.clone();
        let mut work = Begun { task, desk };
        self.peer.0.desk.pool.spawn(Box::pin(async move {
            let result = std::future::poll_fn(|cx| guarded(&mut work.task, cx)).await;
            filler.fill(result.unwrap_or_else(|panic| Err(panicked(&work.desk, key, &*panic))));
        }));
        let gone = || {
            // It may have done something by then.
            Err(Status::new(
                StatusCode::INTERNAL,
                "the runtime that the handler ran on has ended",
            ))
        };
        Box::pin(async move { filled.await.unwrap_or_else(|_| gone()) })
    }

    /// A handler's result; one that panicked rejects its message.
    fn unless_panicked(
        &self,
        key: DeliveryKey,
        result: thread::Result<Result<Answer, Status>>,
    ) -> Result<Answer, Status> {
        result.unwrap_or_else(|panic| Err(panicked(&self.peer.0.desk, key, &*panic)))
    }

    /// A handler is done.
    fn done(&mut self, errand: Errand, result: Result<Answer, Status>) {
        let answer = fit(errand.expects, result);
        if let (Answer::Reject(status), Expects::Nothing) = (&answer, errand.expects) {
            self.peer.rejected_unheard(None, status);
        }
        self.finish(errand, answer);
    }

    fn finish(&mut self, errand: Errand, answer: Answer) {
        self.answers.push(Command::Answer(errand.key, answer));
        self.current = None;
        if let Some(lane) = errand.ordered {
            let line = self.line(lane);
            line.busy = false;
            if !line.waiting.is_empty() {
                self.free.push_back(lane);
            }
        }
    }

    /// Finishes and starts what it can, and leaves the answers; says whether there may be more to do at once.
    fn advance(&mut self, cx: &mut Context<'_>, budget: &mut usize) -> bool {
        let more = self.work(cx, budget);
        self.peer.0.desk.mailbox.post_all(&mut self.answers);
        more
    }

    fn work(&mut self, cx: &mut Context<'_>, budget: &mut usize) -> bool {
        while let Some(left) = budget.checked_sub(1) {
            *budget = left;
            if let Poll::Ready(Some((errand, result))) = self.running.poll_next_unpin(cx) {
                self.current = Some(errand.key);
                let result = self.unless_panicked(errand.key, result);
                self.done(errand, result);
                continue;
            }
            if self.running.len() >= self.service.per_session() {
                return false;
            }
            let Some(job) = self.next() else {
                self.applicant.step_aside();
                return false;
            };
            let Some(permit) = self.applicant.acquire(cx) else {
                self.put_back(job);
                return false;
            };
            self.start(job, permit, cx);
        }
        true
    }
}

impl Future for Worker {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.glance = Glance::new();
        let (mut more, mut closed) = (true, false);
        let mut budget = BUDGET;
        // Until the queue says that it will wake us; or the budget is used up.
        while more && !closed {
            let (news, below) = this.peer.0.jobs.take(&mut this.jobs, cx);
            closed = below == CLOSED;
            if below > this.below {
                this.below = below;
                this.drop_below(below);
            }
            more = this.advance(cx, &mut budget);
            if more {
                cx.waker().wake_by_ref();
                break;
            }
            more = news;
        }
        this.applicant.give_back();
        this.answers.shrink_to(KEPT);
        this.over = closed && this.running.is_empty();
        match this.over {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.over {
            self.leave_early();
        }
        // A session that ends leaves this to the worker, if it has one.
        if self.peer.is_gone() {
            self.peer.0.finding.replace(None);
        }
    }
}

impl Worker {
    /// A worker that ends before its session does, by a panic or with its runtime, leaves nobody waiting: what it had
    /// is rejected, and the next message starts another one.
    fn leave_early(&mut self) {
        let jobs = &self.peer.0.jobs;
        self.jobs.append(&mut jobs.without_worker());
        let gone = Status::new(
            StatusCode::INTERNAL,
            "what ran the handlers of this session has ended",
        );
        let waiting = self.lanes.iter().flat_map(|line| &line.waiting);
        let unbegun = self.jobs.iter().chain(waiting);
        let unawaited = |job: &&Job| job.delivery.expects == Expects::Nothing;
        if unbegun.clone().any(|job| unawaited(&job)) {
            logged(|| self.peer.rejected_unheard(None, &gone));
        }
        let begun = self.running.iter().map(|running| running.errand.key);
        let owed = unbegun.map(|job| job.delivery.key).chain(begun);
        let reject = |key| Command::Answer(key, Answer::Reject(gone.clone()));
        let rejected = owed.chain(self.current).map(reject);
        self.answers.extend(rejected);
        self.peer.0.desk.mailbox.post_all(&mut self.answers);
    }
}

/// What a handler does.
type Work = Task<Result<Answer, Status>>;

/// What a handler works on.
#[derive(Clone, Copy)]
struct Errand {
    key: DeliveryKey,
    /// The lane that waits for it.
    ordered: Option<Lane>,
    expects: Expects,
}

/// A handler that waits for something.
struct Running {
    errand: Errand,
    work: Begun,
    _permit: Permit,
}

/// A handler that may be dropped midway, with what runs it.
struct Begun {
    task: Work,
    desk: Arc<Desk>,
}

impl Future for Running {
    type Output = (Errand, thread::Result<Result<Answer, Status>>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        guarded(&mut this.work.task, cx).map(|result| (this.errand, result))
    }
}

/// Makes the answer one that the sender can be given.
fn fit(expects: Expects, result: Result<Answer, Status>) -> Answer {
    match (result, expects) {
        (Err(status), _) => Answer::Reject(status),
        (Ok(Answer::Ack), Expects::Reply) => Answer::Reject(Status::new(
            StatusCode::INTERNAL,
            "the handler gave no reply to a request",
        )),
        (Ok(Answer::Reply(..)), Expects::Ack | Expects::Nothing) => Answer::Ack,
        (Ok(answer), _) => answer,
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let_go(&mut self.task, Some(&*self.desk.runtime));
    }
}

/// Polls a handler, and drops it once it is done; its panic in either is its own message's rejection, and nobody else's
/// trouble.
fn guarded(task: &mut Work, cx: &mut Context<'_>) -> Poll<thread::Result<Result<Answer, Status>>> {
    let advance = || {
        let poll = task.as_mut().poll(cx);
        if poll.is_ready() {
            *task = Box::pin(pending());
        }
        poll
    };
    // The task is not polled again after a panic, so what it left half done is never seen.
    match catch_unwind(AssertUnwindSafe(advance)) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => {
            // It is told of by the panic that came first.
            let_go(task, None);
            Poll::Ready(Err(panic))
        }
    }
}

/// Drops a handler whose result nobody waits for any more.
fn let_go(task: &mut Work, runtime: Option<&dyn Runtime>) {
    harmless("the drop of a handler", runtime, || {
        *task = Box::pin(pending());
    });
}

fn panicked(desk: &Desk, key: DeliveryKey, panic: &(dyn Any + Send)) -> Status {
    let (session, delivery) = (key.session, key.number);
    logged(|| {
        tracing::error!(
            ?session,
            delivery,
            "a handler panicked; its message is rejected"
        );
    });
    tell_panic(&*desk.runtime, "a handler", panic);
    Status::new(StatusCode::INTERNAL, "the handler panicked")
}
