//! Which numbered messages came, and whether each came in its place.

use std::collections::BTreeMap;

use super::super::messages::Standing;

/// What came, by sessions that are named so.
#[derive(Debug)]
pub(super) struct Account<S> {
    /// The number that is due.
    due: BTreeMap<S, u64>,
    in_order: u64,
    repeated: u64,
    skipped: u64,
}

impl<S> Default for Account<S> {
    fn default() -> Self {
        Self {
            due: BTreeMap::new(),
            in_order: 0,
            repeated: 0,
            skipped: 0,
        }
    }
}

impl<S: Ord> Account<S> {
    pub(super) fn enter(&mut self, session: S, number: u64) {
        let due = self.due.entry(session).or_default();
        if number < *due {
            self.repeated += 1;
            return;
        }
        self.in_order += 1;
        self.skipped += number - *due;
        *due = number + 1;
    }

    pub(super) fn forget(&mut self, session: &S) {
        self.due.remove(session);
    }

    pub(super) fn standing(&self) -> Standing {
        Standing {
            in_order: self.in_order,
            repeated: self.repeated,
            skipped: self.skipped,
            ..Standing::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_left_out_or_comes_again_or_late_is_seen() {
        let standing = |numbers: &[u64]| {
            let mut account = Account::default();
            for number in numbers {
                account.enter("anna", *number);
            }
            let Standing {
                in_order,
                repeated,
                skipped,
                ..
            } = account.standing();
            (in_order, repeated, skipped)
        };
        assert_eq!(standing(&[0, 1, 2]), (3, 0, 0));
        assert_eq!(standing(&[0, 1, 1]), (2, 1, 0));
        assert_eq!(standing(&[0, 2]), (2, 0, 1));
        assert_eq!(standing(&[0, 2, 1]), (2, 1, 1));
    }
}
