//! What a replay found.

use std::fmt;
use std::time::Duration;

use super::format::{Build, Ending};

/// What a replay found.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many records were replayed, the one that differs included.
    pub records: u64,
    /// How long the recorded node ran up to there.
    pub time: Duration,
    /// The first record that differs.
    pub difference: Option<Difference>,
    /// How the trace ends; `None` if the replay ended before that.
    pub ending: Option<Ending>,
    /// What the recorded program was built from.
    pub recorded_by: Build,
}

/// A record that differs from what the replay came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its number.
    pub record: u64,
    /// What the trace says.
    pub expected: String,
    /// What came instead.
    pub came: String,
    /// The last input or command before it: its number, and what it was.
    pub after: Option<(u64, String)>,
}

impl Report {
    /// Of nothing yet.
    pub(super) fn of(recorded_by: Build) -> Self {
        Self {
            records: 0,
            time: Duration::ZERO,
            difference: None,
            ending: None,
            recorded_by,
        }
    }

    /// Whether everything that came out was the same.
    pub fn is_identical(&self) -> bool {
        self.difference.is_none()
    }

    /// What it displays, without how this program's build differs from the recorded one: for whoever has
    /// said that before.
    pub fn verdict(&self) -> impl fmt::Display {
        Verdict(self)
    }
}

struct Verdict<'a>(&'a Report);

impl Difference {
    pub(super) fn at(
        record: u64,
        (expected, came): (String, String),
        after: Option<(u64, String)>,
    ) -> Self {
        Self {
            record,
            expected,
            came,
            after,
        }
    }
}

impl fmt::Display for Report {
    /// One line for each thing that is worth knowing; the verdict is the first word of one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = Build::own().differences_in_words(&self.recorded_by);
        write!(f, "{words}{}", self.verdict())
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            records,
            time,
            difference,
            ending,
            ..
        } = self.0;
        match (difference, ending) {
            // Nothing is called identical that was not looked at.
            (None, Some(Ending::CutShort(bytes))) => {
                return write!(
                    f,
                    "identical up to record {records}, where the recording is cut short: {bytes} bytes were not looked at"
                );
            }
            (None, _) => write!(f, "identical: {records} records over {time:?}")?,
            (Some(difference), _) => difference.fmt(f)?,
        }
        match ending {
            None => Ok(()),
            Some(ending) => write!(f, "\n{ending}"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            record,
            expected,
            came,
            after,
        } = self;
        write!(
            f,
            "different: record {record}\n  expected {expected}\n  came     {came}"
        )?;
        match after {
            None => Ok(()),
            Some((record, call)) => write!(f, "\n  after    record {record}, {call}"),
        }
    }
}
