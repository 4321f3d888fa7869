//! Lines of the log, which must not end what they tell of.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Has a line written. A subscriber that panics, as common ones do whose output nobody reads any more, loses the line
/// and ends nothing.
pub(crate) fn logged(line: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_panics_ends_nothing() {
        logged(|| panic!("nobody reads it"));
    }
}
