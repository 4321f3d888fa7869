//! What was measured, and whether that is what it is to be.

use std::process::ExitCode;

use serde_json::{Map, Value};

/// What a figure came to.
#[derive(Debug)]
pub(crate) struct Verdict {
    figure: &'static str,
    report: Map<String, Value>,
    missed: Vec<String>,
}

impl Verdict {
    pub(crate) fn new(figure: &'static str) -> Self {
        let verdict = Self {
            figure,
            report: Map::new(),
            missed: Vec::new(),
        };
        verdict.with("figure", figure)
    }

    /// Adds something that was measured.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.report.insert(key.to_owned(), value.into());
        self
    }

    /// Adds something that was measured and has to hold.
    pub(crate) fn check(
        mut self,
        key: &str,
        value: impl Into<Value>,
        holds: bool,
        wanted: &str,
    ) -> Self {
        let value = value.into();
        if !holds {
            self.missed.push(format!("{key} is {value}, not {wanted}"));
        }
        self.with(key, value)
    }

    /// Adds a count that has to be a certain one.
    pub(crate) fn count(self, key: &str, value: u64, wanted: u64) -> Self {
        self.check(key, value, value == wanted, &wanted.to_string())
    }

    /// Prints it: the object on standard output, the judgement on standard error.
    pub(crate) fn print(self) -> ExitCode {
        let passed = self.missed.is_empty();
        let Self {
            figure,
            mut report,
            missed,
        } = self;
        report.insert("pass".to_owned(), passed.into());
        println!("{}", Value::Object(report));
        if passed {
            eprintln!("{figure}: pass");
            ExitCode::SUCCESS
        } else {
            eprintln!("{figure}: fail: {}", missed.join("; "));
            ExitCode::FAILURE
        }
    }
}

/// A number with three decimals, as JSON has it.
pub(crate) fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_hold_is_missed_and_named() {
        let verdict = Verdict::new("S0")
            .count("lost", 0, 0)
            .count("doubled", 2, 0)
            .check("kib", 31.5, false, "at most 30");
        assert_eq!(
            verdict.missed,
            ["doubled is 2, not 0", "kib is 31.5, not at most 30"]
        );
        assert_eq!(verdict.report["kib"], 31.5);
    }
}
