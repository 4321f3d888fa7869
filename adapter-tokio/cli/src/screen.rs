//! What the person in front of the terminal sees while a command works: notes, results, and under
//! them a line of progress.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::output;

/// A terminal, or what stands in for one. Progress is shown on a terminal only.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    progress: Option<Progress>,
}

/// Only what draws it holds its lock, which a terminal that is held up holds up: whoever works does not wait for that.
#[derive(Clone, Debug)]
struct Progress {
    bar: ProgressBar,
    under_way: Arc<AtomicUsize>,
}

impl Screen {
    /// Without progress.
    pub(crate) fn plain() -> Self {
        Self { progress: None }
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
                "{bar:30} {pos}/{len} {elapsed_precise} {under_way}",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{spinner} {pos} {elapsed_precise} {under_way}",
            ),
        };
        if bar.is_hidden() {
            return Self::plain();
        }
        let under_way = Arc::<AtomicUsize>::default();
        if let Ok(style) = ProgressStyle::with_template(template) {
            let count = under_way.clone();
            let shown = move |_: &ProgressState, line: &mut dyn std::fmt::Write| {
                // Writing to a line cannot fail.
                let _ = write!(line, "{} under way", count.load(Ordering::Relaxed));
            };
            bar.set_style(style.with_key("under_way", shown));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self {
            progress: Some(Progress { bar, under_way }),
        }
    }

    /// Tells something about what happens.
    pub(crate) fn note(&self, text: &str) {
        let bar = self.progress.as_ref().map(|progress| progress.bar.clone());
        output::note_above(text, bar);
    }

    /// So much is done, and so much under way.
    pub(crate) fn progress(&self, done: u64, under_way: usize) {
        if let Some(progress) = &self.progress {
            progress.bar.set_position(done);
            progress.under_way.store(under_way, Ordering::Relaxed);
        }
    }

    /// Takes the line of progress away.
    pub(crate) fn clear(&self) {
        if let Some(progress) = &self.progress {
            progress.bar.finish_and_clear();
        }
    }
}
