//! The laws of a node's contract that whoever drives one can check, for targets without a world.

use std::num::NonZeroUsize;
use std::time::Instant;

use trunkline_core::{Event, Input, Node, TimeoutReason};

/// A node that has given out so many events and transmits at one instant never runs dry.
const POLLS: usize = 100_000;
/// So many timeouts in a row may come without time advancing.
const STEPS: usize = 64;
const SEGMENTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9);

/// Takes out all that a node has to give; says how many events that were.
///
/// # Panics
/// If the node has something to give that its timeout kept quiet about, says that it was not drained
/// when it was, never runs dry, or has a session and no timer.
pub(super) fn drain(
    node: &mut Node,
    now: Instant,
    on_event: &mut dyn FnMut(&mut Node, Instant, &Event),
    on_datagrams: &mut dyn FnMut(trunkline_core::Transmit, &[u8]),
) -> usize {
    let (mut events, mut polls) = (0, 0);
    let mut buffer = Vec::new();
    loop {
        let said = node.poll_timeout();
        let aloud = |given: bool| {
            let quiet = given && said.is_none_or(|at| at > now);
            assert!(
                !quiet,
                "a node had output, and its timeout was {said:?} at {now:?}"
            );
        };
        polls += 1;
        assert!(polls < POLLS, "a node does not run dry");
        if let Some(event) = node.poll_event() {
            aloud(true);
            on_event(node, now, &event);
            events += 1;
            continue;
        }
        let Some(transmit) = node.poll_transmit(now, SEGMENTS, &mut buffer) else {
            break;
        };
        aloud(true);
        on_datagrams(transmit, &buffer);
        buffer.clear();
    }
    assert_ne!(
        node.timeout_reason(),
        Some(TimeoutReason::Undrained),
        "a node that was drained says that it was not"
    );
    assert!(
        node.poll_timeout().is_some() || node.sessions().next().is_none(),
        "a node has a session and no timer"
    );
    events
}

/// Gives a node the timeouts that are due by `end`, and drains it after each.
///
/// # Panics
/// As [`drain`], and if a node wants a timeout just after one that brought nothing, or many without
/// time advancing.
pub(super) fn pass(
    node: &mut Node,
    now: &mut Instant,
    end: Instant,
    on_event: &mut dyn FnMut(&mut Node, Instant, &Event),
    on_datagrams: &mut dyn FnMut(trunkline_core::Transmit, &[u8]),
) {
    let mut steps = 0;
    drain(node, *now, on_event, on_datagrams);
    while let Some(at) = node.poll_timeout().filter(|at| *at <= end) {
        steps = if at > *now { 0 } else { steps + 1 };
        assert!(steps <= STEPS, "{steps} steps without time advancing");
        *now = at.max(*now);
        let owner = node.timeout_reason();
        node.handle_input(*now, Input::Timeout);
        let events = drain(node, *now, on_event, on_datagrams);
        // Where the application was told something, it may have asked for something at once.
        let spins = events == 0 && node.poll_timeout().is_some_and(|at| at <= *now);
        assert!(
            !spins,
            "a node wants a timeout just after that of {owner:?}"
        );
    }
    *now = end.max(*now);
}
