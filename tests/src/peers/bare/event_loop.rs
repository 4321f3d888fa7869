//! The loop that drives any number of endpoints on one thread.

use std::os::fd::AsFd;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use trunkline_core::{BusyPoll, Event, Node};

use super::endpoint::Endpoint;

/// What is done on top of the endpoints.
pub trait Application {
    /// Something happened on endpoint `number`.
    fn event(&mut self, number: usize, node: &mut Node, moment: Moment, event: Event)
    -> Result<()>;

    /// The chance to give commands to endpoint `number`, once a turn, after its events.
    fn act(&mut self, number: usize, node: &mut Node, now: Instant) -> Result<()>;

    /// How long to sleep at most although nothing happens; `None`: for ever.
    fn patience(&self, now: Instant) -> Option<Duration>;

    /// Whether the loop is to end.
    fn is_done(&self) -> bool;
}

/// When an event is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Now; one reading of the clock serves all events of a turn.
    pub now: Instant,
    /// How long ago the node was told what the event follows from. Whatever the node has measured
    /// ended then: the application, which has the event only now, has waited for so much longer.
    pub lag: Duration,
}

/// A wait that takes longer was a rest. What a system call takes is a tenth of it.
const RESTED: Duration = Duration::from_micros(20);

/// After so many events of a turn that follows a rest, what they have led to goes out; then
/// after this times as many, and so on.
const EARLY: usize = 16;
const EARLY_GROWTH: usize = 4;

/// Drives the endpoints until the application is done.
pub fn run(endpoints: &mut [Endpoint], application: &mut impl Application) -> Result<()> {
    let mut early = None;
    let mut busy_poll = match available_parallelism() {
        Ok(count) if count.get() > 1 => BusyPoll::default(),
        _ => BusyPoll::NEVER,
    };
    while !application.is_done() {
        for (number, endpoint) in endpoints.iter_mut().enumerate() {
            turn(number, endpoint, application, early)?;
        }
        let before = Instant::now();
        wait(endpoints, application, &mut busy_poll)?;
        // There was nothing to do here, and so there is for a peer that waits for an answer: it is
        // to begin with the first ones, and not to sleep until all are made. When both are busy
        // anyway, the fewest packets are the fastest.
        early = (Instant::now() - before > RESTED).then_some(EARLY);
    }
    Ok(())
}

fn turn(
    number: usize,
    endpoint: &mut Endpoint,
    application: &mut impl Application,
    mut early: Option<usize>,
) -> Result<()> {
    endpoint.receive()?;
    let mut moment = None;
    let mut events = 0;
    while let Some(event) = endpoint.node.poll_event() {
        let moment = *moment.get_or_insert_with(|| {
            let now = Instant::now();
            let lag = now - endpoint.told;
            Moment { now, lag }
        });
        application.event(number, &mut endpoint.node, moment, event)?;
        events += 1;
        if early == Some(events) {
            endpoint.told = moment.now;
            application.act(number, &mut endpoint.node, endpoint.told)?;
            endpoint.transmit();
            early = Some(events * EARLY_GROWTH);
        }
    }
    endpoint.told = Instant::now();
    application.act(number, &mut endpoint.node, endpoint.told)?;
    endpoint.transmit();
    Ok(())
}

/// Whether any of them is ready, at the latest after so long.
fn poll(polled: &mut [PollFd<'_>], time: Option<Duration>) -> Result<bool> {
    match ppoll(polled, time.map(TimeSpec::from_duration), None) {
        Ok(count) => Ok(count > 0),
        // A signal that ends nothing: the next turn finds out what there is to do.
        Err(Errno::EINTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Sleeps until something arrives, a deadline comes, or a full socket takes more.
fn wait(
    endpoints: &[Endpoint],
    application: &impl Application,
    busy_poll: &mut BusyPoll,
) -> Result<()> {
    let mut polled: Vec<_> = endpoints
        .iter()
        .map(|endpoint| {
            let wanted = if endpoint.is_blocked() {
                PollFlags::POLLIN | PollFlags::POLLOUT
            } else {
                PollFlags::POLLIN
            };
            PollFd::new(endpoint.as_fd(), wanted)
        })
        .collect();
    let now = Instant::now();
    let deadline = endpoints.iter().filter_map(Endpoint::deadline).min();
    let time = if endpoints.iter().any(|endpoint| endpoint.readable.get()) {
        Some(Duration::ZERO)
    } else {
        let until_due = deadline.map(|deadline| deadline.saturating_duration_since(now));
        [until_due, application.patience(now)]
            .into_iter()
            .flatten()
            .min()
    };
    let mut ready = false;
    let mut passed = Duration::ZERO;
    if time != Some(Duration::ZERO)
        && let Some(most) = busy_poll.before_sleep(time)
    {
        while !ready && passed < most {
            ready = poll(&mut polled, Some(Duration::ZERO))?;
            passed = Instant::now() - now;
        }
        busy_poll.looked(ready.then_some(passed));
    }
    if !ready {
        poll(&mut polled, time.map(|time| time.saturating_sub(passed)))?;
    }
    for (endpoint, polled) in endpoints.iter().zip(&polled) {
        let ready = polled.revents().unwrap_or(PollFlags::POLLIN);
        // An error is waiting too, and receiving takes it.
        if ready.intersects(PollFlags::POLLIN | PollFlags::POLLERR) {
            endpoint.readable.set(true);
        }
    }
    Ok(())
}
