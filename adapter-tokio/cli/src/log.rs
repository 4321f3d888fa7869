//! The program's log: on standard error, as text or as JSON.

use std::io::IsTerminal;

use clap::Args;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::notes;

/// QUIC warns of each packet that anybody can make whose token is wrong: a stranger would decide how much is written.
const DEFAULT: &str = "warn,quinn_proto=error";

/// Which log lines are written, and how.
#[derive(Debug, Args)]
pub(crate) struct Log {
    /// What to log: off, error, warn, info, debug, trace, or trunkline_core=debug,warn
    #[arg(
        id = "log_filter",
        long = "log",
        value_name = "LEVEL",
        global = true,
        env = "TRUNKLINE_LOG",
        default_value = DEFAULT,
        value_parser = filter,
        help_heading = "Logging"
    )]
    filter: String,
    /// Write log lines as JSON, one object a line
    #[arg(
        id = "log_json",
        long = "log-json",
        global = true,
        help_heading = "Logging"
    )]
    json: bool,
}

impl Log {
    /// Whether log lines are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }
}

/// Starts logging. What the program's libraries log goes the same way.
pub(crate) fn start(log: &Log) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&log.filter))
        .with_writer(|| notes::Log)
        // It would be told on standard error, and a server that nobody listens to would panic.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    // It fails only when logging was started already.
    let _ = if log.is_json() {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
}

/// Checks a filter. A single word must be a level, for any word passes as a module's name, and a
/// misspelt level would silence the log. An empty variable counts as none.
fn filter(text: &str) -> Result<String, String> {
    let text = if text.is_empty() { DEFAULT } else { text };
    let usable = if text.contains(['=', ',']) {
        EnvFilter::try_new(text).is_ok()
    } else {
        text.parse::<LevelFilter>().is_ok()
    };
    if usable {
        Ok(text.to_owned())
    } else {
        Err("give off, error, warn, info, debug or trace, or a list such as trunkline_core=debug,warn".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_lists_are_taken() {
        for good in [
            "off",
            "warn",
            "DEBUG",
            "trunkline_core=debug,warn",
            "trunkline=trace",
        ] {
            assert_eq!(filter(good).as_deref(), Ok(good));
        }
    }

    #[test]
    fn a_stranger_writes_no_line_a_packet() {
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(DEFAULT))
            .with_writer(std::io::sink)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            assert!(!tracing::enabled!(target: "quinn_proto::connection", tracing::Level::WARN));
            assert!(tracing::enabled!(target: "quinn_proto::connection", tracing::Level::ERROR));
            assert!(tracing::enabled!(target: "trunkline_core", tracing::Level::WARN));
        });
    }

    #[test]
    fn an_empty_variable_counts_as_none() {
        assert_eq!(filter("").as_deref(), Ok(DEFAULT));
    }

    #[test]
    fn a_misspelt_level_is_refused() {
        for bad in ["debgu", "trunkline=loud"] {
            assert!(filter(bad).is_err(), "{bad:?} passed");
        }
    }
}
