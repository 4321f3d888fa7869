//! What the person in front of the terminal sees while a command works: notes, results, and under
//! them a line of progress.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output;

/// A terminal, or what stands in for one. Progress is shown on a terminal only.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    bar: ProgressBar,
}

impl Screen {
    /// Without progress.
    pub(crate) fn plain() -> Self {
        Self {
            bar: ProgressBar::hidden(),
        }
    }

    /// With progress under the notes, unless results as they come have the same terminal.
    pub(crate) fn beneath(results: bool, steps: Option<u64>) -> Self {
        if results && io::stdout().is_terminal() {
            Self::plain()
        } else {
            Self::with_progress(steps)
        }
    }

    /// With progress: towards a number of steps, or just on.
    fn with_progress(steps: Option<u64>) -> Self {
        let (bar, template) = match steps {
            Some(steps) => (
                ProgressBar::new(steps),
                "{bar:30} {pos}/{len} {elapsed_precise} {wide_msg}",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{spinner} {pos} {elapsed_precise} {wide_msg}",
            ),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    /// Tells something about what happens.
    pub(crate) fn note(&self, text: &str) {
        self.bar.suspend(|| output::note(text));
    }

    /// So much is done, and so much under way.
    pub(crate) fn progress(&self, done: u64, under_way: usize) {
        if !self.bar.is_hidden() {
            self.bar.set_position(done);
            self.bar.set_message(format!("{under_way} under way"));
        }
    }

    /// Takes the line of progress away.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
