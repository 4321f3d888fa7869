//! Answers that settle nothing: some come late and are nobody's fault, others were never asked for.

/// An answer that settled no promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stray {
    /// Its promise had settled otherwise: by its deadline, or given up.
    Late,
    /// Nothing was asked that it could answer: its promise was never made, or was answered before.
    Unasked,
}

/// How many answers that were not asked for a peer may give in one session. A sound one gives none.
const UNASKED_MAX: u64 = 1_024;

/// How many answers of either kind a session may still see, or has seen.
#[derive(Debug, Default)]
pub(crate) struct Strays {
    /// Promises that settled without an answer, and whose answer has not come yet.
    awaited: u64,
    unasked: u64,
}

impl Strays {
    /// A promise whose message the peer may have settled without its answer.
    pub(crate) fn expect(&mut self) {
        self.awaited += 1;
    }

    /// An answer came that settles nothing; `made` says whether its promise ever was.
    pub(crate) fn came(&mut self, made: bool) -> Stray {
        if made && self.awaited > 0 {
            self.awaited -= 1;
            Stray::Late
        } else {
            self.unasked += 1;
            Stray::Unasked
        }
    }

    /// Whether there were more than anybody sends by mistake.
    pub(crate) fn are_a_flood(&self) -> bool {
        self.unasked > UNASKED_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_answers_are_late_as_promises_went_without() {
        let mut strays = Strays::default();
        strays.expect();
        assert_eq!(strays.came(false), Stray::Unasked, "that promise never was");
        assert_eq!(strays.came(true), Stray::Late);
        assert_eq!(strays.came(true), Stray::Unasked, "it was answered before");
    }

    #[test]
    fn late_answers_are_never_a_flood_and_unasked_ones_are() {
        let mut strays = Strays::default();
        for _ in 0..10 * UNASKED_MAX {
            strays.expect();
            strays.came(true);
        }
        assert!(!strays.are_a_flood());
        for _ in 0..UNASKED_MAX {
            strays.came(false);
        }
        assert!(!strays.are_a_flood());
        strays.came(true);
        assert!(strays.are_a_flood());
    }
}
