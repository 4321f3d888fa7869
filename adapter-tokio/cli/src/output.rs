//! Writing to the standard streams: results to standard output, everything about them to standard
//! error, so that a pipe gets results only.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::ProgressBar;

use crate::failure::Failure;
use crate::notes::{self, Note};

/// Writes one result, a line or several, to standard output at once.
pub(crate) fn result(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::failed(format!("cannot write to standard output: {error}")),
        })
}

/// Writes one result as one line of JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    result(&as_json(value)?)
}

/// One result as one line of JSON.
pub(crate) fn as_json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))
}

/// Tells the person in front of the terminal something, without waiting.
pub(crate) fn note(message: &str) {
    note_above(message, None);
}

/// The same, above what shows progress on the terminal.
pub(crate) fn note_above(message: &str, progress: Option<ProgressBar>) {
    notes::tell(Note {
        lines: format!("trunkline: {message}\n"),
        above: progress,
    });
}

/// A line that does not begin with the program's name, as those of a story.
pub(crate) fn aside(line: &str) {
    notes::tell(Note {
        lines: format!("{line}\n"),
        above: None,
    });
}

/// What somebody else wrote, fit for a terminal: control characters are shown, not obeyed.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        // The latter break lines, or turn the order of characters about.
        if character.is_control()
            || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// A name that somebody else chose, such as a client id, as one word: in quotes unless it is one, so that nothing in it
/// looks like more of the line.
pub(crate) fn word(name: &str) -> String {
    let plain = |character: char| character.is_alphanumeric() || "-_.@/+".contains(character);
    if !name.is_empty() && name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("{name:?}")
    }
}

/// A text in quotes, its beginning if it is long, fit for a terminal.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 100;
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
    }
}

/// Seconds, with as many decimals as tell something.
pub(crate) fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds >= 10.0 || seconds.fract() == 0.0 {
        format!("{seconds:.0} s")
    } else {
        format!("{seconds:.2} s")
    }
}

/// Seconds, as JSON has them: three decimals.
pub(crate) fn decimal_seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1_000.0
}

/// Milliseconds, as JSON has them: three decimals.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_moves_no_cursor() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(quoted("say \"hi\"\r"), r#""say \"hi\"\r""#);
        assert_eq!(printable("grüße"), "grüße");
    }

    #[test]
    fn a_name_is_one_word_whoever_chose_it() {
        for plain in ["anna", "cli-4711", "grüße", "a.b@c/d_e+f"] {
            assert_eq!(word(plain), plain);
        }
        for (name, shown) in [
            ("anna to all: hi", r#""anna to all: hi""#),
            ("a\"b", r#""a\"b""#),
            ("a\u{1b}[2Jb\n", r#""a\u{1b}[2Jb\n""#),
            ("a\u{202e}b", r#""a\u{202e}b""#),
            ("a\u{a0}b", r#""a\u{a0}b""#),
            ("a:", r#""a:""#),
            ("", r#""""#),
        ] {
            assert_eq!(word(name), shown);
        }
    }

    #[test]
    fn a_long_text_is_shortened_between_characters() {
        let shown = quoted(&"ü".repeat(300));
        assert!(shown.ends_with("… (600 bytes)"), "{shown}");
        assert_eq!(shown.matches('ü').count(), 100);
    }

    #[test]
    fn durations_are_told_in_seconds() {
        for (millis, told) in [
            (812, "0.81 s"),
            (120_000, "120 s"),
            (2_000, "2 s"),
            (15_400, "15 s"),
        ] {
            assert_eq!(seconds(Duration::from_millis(millis)), told);
        }
        assert_eq!(milliseconds(Duration::from_micros(1_234)), 1.234);
        assert_eq!(
            decimal_seconds(Duration::from_micros(14_880_523)).to_string(),
            "14.88"
        );
    }
}
