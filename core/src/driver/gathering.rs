//! Broadcasts that follow upon each other: they share packets if they are sent together.

/// So many bytes for each session are worth sending, whoever else is on the way: some packets, and little of a
/// queue of best-effort messages ([`crate::Limits::best_effort_bytes`]).
const ENOUGH: usize = 8 << 10;

/// What a message counts for besides its body: its envelope, and the work for it.
const OVERHEAD: usize = 64;

/// Who broadcasts waits for each message to be queued, and would have it sent alone: a packet for each session
/// and message. So the driver steps aside before it sends, as long as another broadcast comes meanwhile.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    bytes: usize,
    /// Whether one has come since the driver has last stepped aside.
    came: bool,
}

impl Gathering {
    /// A broadcast with such a body was queued.
    pub(super) fn add(&mut self, body: usize) {
        self.came = true;
        self.bytes = self.bytes.saturating_add(body).saturating_add(OVERHEAD);
    }

    /// Whether the driver should step aside for another one, before it sends what it has.
    pub(super) fn goes_on(&mut self) -> bool {
        let more = std::mem::take(&mut self.came) && self.bytes < ENOUGH;
        if !more {
            self.bytes = 0;
        }
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alone_is_waited_on_once() {
        let mut gathering = Gathering::default();
        assert!(!gathering.goes_on());
        gathering.add(100);
        assert!(gathering.goes_on());
        assert!(!gathering.goes_on());
    }

    #[test]
    fn those_that_follow_are_gathered_until_it_is_enough() {
        let mut gathering = Gathering::default();
        for _ in 0..3 {
            let gathered = (0..1_000).take_while(|_| {
                gathering.add(64);
                gathering.goes_on()
            });
            assert_eq!(gathered.count(), ENOUGH / (64 + OVERHEAD) - 1);
        }
        gathering.add(ENOUGH);
        assert!(!gathering.goes_on(), "large ones are sent at once");
    }
}
