//! The texts that are sent: given ones, again and again, or the lines of standard input; as fast
//! as they are taken, or at a pace.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::time::Instant;

use crate::failure::Failure;
use crate::messages::TEXT_MAX;

/// What is sent, and when.
pub(crate) struct Texts {
    source: Source,
    pace: Option<Pace>,
}

struct Pace {
    step: Duration,
    /// When the next one is due.
    next: Instant,
}

/// How late one may be for the next to be on time: timers are late, and that is made up for; what a
/// cut path held up is not.
const SLACK: Duration = Duration::from_millis(100);

impl Pace {
    fn taken(&mut self) {
        let now = Instant::now();
        if now > self.next + SLACK {
            self.next = now;
        }
        self.next += self.step;
    }
}

enum Source {
    Given {
        texts: Vec<String>,
        next: usize,
        left: Option<u64>,
    },
    Lines {
        lines: Box<Lines<BufReader<Stdin>>>,
        read: u64,
    },
}

impl Texts {
    /// Each of these in turn, so many in all (`None`: without end), filled up to a size.
    pub(crate) fn given(
        mut texts: Vec<String>,
        total: Option<u64>,
        size: Option<usize>,
    ) -> Result<Self, Failure> {
        if texts.is_empty() {
            texts.push(String::new());
        }
        for text in &mut texts {
            fill(text, size)?;
        }
        Ok(Self::from(Source::Given {
            texts,
            next: 0,
            left: total,
        }))
    }

    /// The lines of standard input.
    pub(crate) fn standard_input() -> Self {
        let lines = Box::new(BufReader::new(tokio::io::stdin()).lines());
        Self::from(Source::Lines { lines, read: 0 })
    }

    /// At most one in that time. What was missed while nobody took it is not made up for.
    pub(crate) fn paced(mut self, pace: Option<Duration>) -> Self {
        self.pace = pace.map(|step| Pace {
            step,
            next: Instant::now(),
        });
        self
    }

    /// Whether it is known that there are no more.
    pub(crate) fn are_over(&self) -> bool {
        self.left() == Some(0)
    }

    /// How many there still are, if that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self.source {
            Source::Given { left, .. } => left,
            Source::Lines { .. } => None,
        }
    }

    /// The next one; `None` at the end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, Failure> {
        if self.are_over() {
            return Ok(None);
        }
        if let Some(pace) = &self.pace {
            tokio::time::sleep_until(pace.next).await;
        }
        let text = match &mut self.source {
            Source::Given { texts, next, left } => {
                *left = left.map(|left| left - 1);
                let text = texts.get(*next).cloned();
                *next = (*next + 1) % texts.len();
                text
            }
            Source::Lines { lines, read } => {
                let line = lines.next_line().await.map_err(|error| {
                    Failure::failed(format!(
                        "line {} of standard input cannot be read: {error}",
                        *read + 1
                    ))
                })?;
                *read += 1;
                if let Some(line) = &line
                    && line.len() > TEXT_MAX
                {
                    return Err(Failure::failed(format!(
                        "line {read} of standard input has {} bytes: at most {TEXT_MAX} fit into one message",
                        line.len()
                    )));
                }
                line
            }
        };
        if let Some(pace) = &mut self.pace {
            pace.taken();
        }
        Ok(text)
    }
}

impl From<Source> for Texts {
    fn from(source: Source) -> Self {
        Self { source, pace: None }
    }
}

fn fill(text: &mut String, size: Option<usize>) -> Result<(), Failure> {
    let size = size.unwrap_or(text.len());
    if size.max(text.len()) > TEXT_MAX {
        return Err(Failure::usage(format!(
            "a text of {} bytes is too long: at most {TEXT_MAX} fit into one message",
            size.max(text.len())
        )));
    }
    if size < text.len() {
        return Err(Failure::usage(format!(
            "--size {size}b is less than the {} bytes of the text: give more, or a shorter text",
            text.len()
        )));
    }
    text.extend(std::iter::repeat_n('.', size - text.len()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(mut texts: Texts) -> Vec<String> {
        let mut taken = Vec::new();
        while let Some(text) = texts.next().await.expect("no failure") {
            taken.push(text);
        }
        taken
    }

    #[tokio::test]
    async fn texts_take_turns_until_the_count_is_reached() {
        let texts = Texts::given(vec!["a".into(), "b".into()], Some(3), None).expect("texts");
        assert_eq!(all(texts).await, ["a", "b", "a"]);
        let empty = Texts::given(Vec::new(), Some(2), Some(3)).expect("texts");
        assert_eq!(all(empty).await, ["...", "..."]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_waited_for_after_the_last_one() {
        let start = Instant::now();
        let texts = Texts::given(vec!["a".into()], Some(2), None).expect("texts");
        let hour = Duration::from_secs(3_600);
        assert_eq!(all(texts.paced(Some(hour))).await, ["a", "a"]);
        assert_eq!(start.elapsed(), hour);
    }

    #[test]
    fn a_text_is_filled_up_to_its_size_and_never_cut() {
        let mut text = "hi".to_owned();
        fill(&mut text, Some(5)).expect("room");
        assert_eq!(text, "hi...");
        for (size, wrong) in [(4, "less than the 5 bytes"), (TEXT_MAX + 1, "too long")] {
            match fill(&mut text, Some(size)) {
                Err(Failure::Usage(said)) => assert!(said.contains(wrong), "{said}"),
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pace_is_kept_and_what_was_missed_is_not_made_up_for() {
        let pace = Duration::from_secs(1);
        let mut texts = Texts::given(vec!["a".into()], None, None)
            .expect("texts")
            .paced(Some(pace));
        let start = Instant::now();
        texts.next().await.expect("a text");
        texts.next().await.expect("a text");
        assert_eq!(start.elapsed(), pace);
        tokio::time::sleep(10 * pace).await;
        texts.next().await.expect("a text");
        texts.next().await.expect("a text");
        assert_eq!(start.elapsed(), 12 * pace);
    }
}
