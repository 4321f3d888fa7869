//! How many handlers may run in all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use super::watch::lock;

/// How many handlers may run in all, whatever session they belong to. Who finds no permit gets in
/// line; each that is given back goes to whoever has waited longest, and wakes nobody else.
#[derive(Debug)]
pub(crate) struct Permits {
    limit: usize,
    used: AtomicUsize,
    /// How many stand in line, or are about to.
    queued: AtomicUsize,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    waiting: BTreeMap<u64, Waker>,
    /// Who has a permit and does not know it yet.
    served: BTreeSet<u64>,
    last: u64,
}

impl Permits {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            line: Mutex::default(),
        }
    }

    fn take(&self) -> bool {
        let one_more = |used| (used < self.limit).then_some(used + 1);
        self.used
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more)
            .is_ok()
    }

    fn give_back(&self) {
        self.used.fetch_sub(1, Ordering::SeqCst);
        // Either this sees who gets in line, or they see what was given back.
        if self.queued.load(Ordering::SeqCst) > 0 {
            self.serve();
        }
    }

    /// Gives what permits there are to who waits.
    fn serve(&self) {
        let mut woken = Vec::new();
        let mut line = lock(&self.line);
        while !line.waiting.is_empty() && self.take() {
            if let Some((number, waker)) = line.waiting.pop_first() {
                line.served.insert(number);
                woken.push(waker);
            }
        }
        drop(line);
        woken.into_iter().for_each(Waker::wake);
    }
}

/// Somebody who needs permits, one after the other, and where they stand in line for the next.
#[derive(Debug)]
pub(crate) struct Applicant {
    permits: Arc<Permits>,
    number: Option<u64>,
    /// One that is used again, while nobody waits for any.
    spare: Option<Permit>,
}

impl Applicant {
    pub(crate) fn new(permits: Arc<Permits>) -> Self {
        Self {
            permits,
            number: None,
            spare: None,
        }
    }

    /// Takes a permit back, for the next work of the same applicant. It stays taken until
    /// [`Applicant::give_back`].
    pub(crate) fn keep(&mut self, permit: Permit) {
        self.spare = Some(permit);
    }

    /// Gives back what was kept.
    pub(crate) fn give_back(&mut self) {
        self.spare = None;
    }

    /// A permit, or a wake-up when it is there.
    pub(crate) fn acquire(&mut self, cx: &Context<'_>) -> Option<Permit> {
        let permits = &self.permits;
        // Who waits has it before the next work here.
        let spare = self.spare.take();
        if permits.queued.load(Ordering::SeqCst) == 0 && spare.is_some() {
            return spare;
        }
        drop(spare);
        let number = match self.number {
            // Nobody overtakes those who wait.
            None if permits.queued.load(Ordering::SeqCst) == 0 && permits.take() => {
                return Some(Permit(permits.clone()));
            }
            None => {
                permits.queued.fetch_add(1, Ordering::SeqCst);
                let mut line = lock(&permits.line);
                line.last += 1;
                let number = line.last;
                line.waiting.insert(number, cx.waker().clone());
                drop(line);
                self.number = Some(number);
                // One may have been given back before this stood in line.
                permits.serve();
                number
            }
            Some(number) => number,
        };
        let mut line = lock(&permits.line);
        if line.served.remove(&number) {
            drop(line);
            permits.queued.fetch_sub(1, Ordering::SeqCst);
            self.number = None;
            return Some(Permit(permits.clone()));
        }
        let old = line.waiting.insert(number, cx.waker().clone());
        drop(line);
        drop(old);
        None
    }

    /// No more is needed for now: somebody else is served.
    pub(crate) fn step_aside(&mut self) {
        let Some(number) = self.number.take() else {
            return;
        };
        let permits = &self.permits;
        let mut line = lock(&permits.line);
        let waker = line.waiting.remove(&number);
        let served = line.served.remove(&number);
        drop(line);
        drop(waker);
        permits.queued.fetch_sub(1, Ordering::SeqCst);
        if served {
            permits.give_back();
        }
    }
}

impl Drop for Applicant {
    fn drop(&mut self) {
        self.step_aside();
    }
}

/// The right to run one handler; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Permits>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// An applicant, and how often it was woken.
    fn applicant(permits: &Arc<Permits>) -> (Applicant, Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        (Applicant::new(permits.clone()), count, waker)
    }

    #[test]
    fn a_permit_goes_to_whoever_has_waited_longest_and_wakes_nobody_else() {
        let permits = Arc::new(Permits::new(1));
        let mut applicants: Vec<_> = (0..10).map(|_| applicant(&permits)).collect();
        let mut held = None;
        for (applicant, _, waker) in &mut applicants {
            let permit = applicant.acquire(&Context::from_waker(waker));
            held = held.or(permit);
        }
        for next in 1..10 {
            assert!(held.is_some());
            drop(held.take());
            let woken: Vec<_> = applicants
                .iter()
                .map(|(_, count, _)| count.0.load(Ordering::SeqCst))
                .collect();
            let expected: Vec<_> = (0..10)
                .map(|n| usize::from((1..=next).contains(&n)))
                .collect();
            assert_eq!(woken, expected);
            // Who comes anew waits behind the others.
            let (first, rest) = applicants.split_at_mut(1);
            let (applicant, _, waker) = &mut first[0];
            assert!(applicant.acquire(&Context::from_waker(waker)).is_none());
            let (applicant, _, waker) = &mut rest[next - 1];
            held = applicant.acquire(&Context::from_waker(waker));
        }
    }

    #[test]
    fn who_steps_aside_or_goes_away_leaves_its_permit_to_the_next() {
        let permits = Arc::new(Permits::new(1));
        let (mut first, _, waker) = applicant(&permits);
        let held = first.acquire(&Context::from_waker(&waker));
        let mut waiting: Vec<_> = (0..3).map(|_| applicant(&permits)).collect();
        for (applicant, _, waker) in &mut waiting {
            assert!(applicant.acquire(&Context::from_waker(waker)).is_none());
        }
        drop(held);
        waiting[0].0.step_aside();
        drop(waiting.remove(1));
        let (last, count, waker) = &mut waiting[1];
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        let held = last.acquire(&Context::from_waker(waker));
        assert!(held.is_some());
        drop((held, waiting));
        assert!(first.acquire(&Context::from_waker(Waker::noop())).is_some());
        assert_eq!(permits.queued.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn what_is_kept_serves_again_unless_somebody_waits() {
        let permits = Arc::new(Permits::new(1));
        let (mut first, _, waker) = applicant(&permits);
        let cx = Context::from_waker(&waker);
        for _ in 0..3 {
            let permit = first.acquire(&cx).unwrap();
            first.keep(permit);
            assert_eq!(permits.used.load(Ordering::SeqCst), 1);
        }
        let (mut second, count, other) = applicant(&permits);
        assert!(second.acquire(&Context::from_waker(&other)).is_none());
        assert!(first.acquire(&cx).is_none(), "it is the other one's turn");
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        drop(second.acquire(&Context::from_waker(&other)).unwrap());
        let permit = first.acquire(&cx).unwrap();
        first.keep(permit);
        first.give_back();
        assert_eq!(permits.used.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn no_wake_up_is_lost_between_threads() {
        let permits = Arc::new(Permits::new(2));
        let running = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut applicant = Applicant::new(permits.clone());
                    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
                    let cx = Context::from_waker(&waker);
                    for _ in 0..2_000 {
                        let permit = loop {
                            match applicant.acquire(&cx) {
                                Some(permit) => break permit,
                                None => std::thread::park(),
                            }
                        };
                        assert!(running.fetch_add(1, Ordering::SeqCst) < 2);
                        std::thread::yield_now();
                        running.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(permits.used.load(Ordering::SeqCst), 0);
    }

    struct Unpark(std::thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
}
