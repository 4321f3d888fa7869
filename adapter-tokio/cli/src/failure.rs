//! How the program fails: one clear line on standard error, and an exit status that says whose
//! fault it was.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use trunkline_tokio::{ConfigError, StartError};

/// Why the program ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was asked for cannot be done as it was asked: exit status 2.
    Usage(String),
    /// What was asked for was tried, and failed: exit status 1.
    Failed(String),
    /// Nobody reads standard output any more, as with `| head`: a reason to end, not an error.
    OutputClosed,
    /// Nothing more to say, for it has been said: only this exit status remains.
    Silent(u8),
}

/// The exit status of a program that an interrupt has ended: 128 and the signal's number.
const INTERRUPTED: u8 = 130;

impl Failure {
    /// The user has interrupted it, and knows.
    pub(crate) fn interrupted() -> Self {
        Self::Silent(INTERRUPTED)
    }

    /// Whether the user has interrupted it.
    pub(crate) fn is_interruption(&self) -> bool {
        matches!(self, Self::Silent(INTERRUPTED))
    }

    /// A flag or a file that cannot be used.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::Usage(message.to_string())
    }

    /// Something that was tried and failed.
    pub(crate) fn failed(message: impl Display) -> Self {
        Self::Failed(message.to_string())
    }

    /// The same, and what else there is to say.
    pub(crate) fn with(self, more: &[String]) -> Self {
        match self {
            Self::Failed(message) if !more.is_empty() => {
                let message = message.trim_end_matches('.');
                Self::Failed(format!("{message}; {}", more.join(", ")))
            }
            same => same,
        }
    }

    /// How a command ends whose results were printed, or recorded, so, and that came to that verdict: what it found out
    /// does not depend on who reads it.
    pub(crate) fn concluded(
        printed: Result<(), Self>,
        verdict: Result<(), Self>,
    ) -> Result<(), Self> {
        match (verdict, printed) {
            // That nobody reads is no verdict.
            (Ok(()), printed) | (Err(Self::OutputClosed), printed @ Err(_)) => printed,
            (Err(verdict), Err(Self::Usage(message) | Self::Failed(message))) => {
                crate::output::note(&message);
                Err(verdict)
            }
            (verdict, _) => verdict,
        }
    }

    /// Tells the user, and the shell.
    pub(crate) fn report(self) -> ExitCode {
        let (status, message) = match self {
            Self::Usage(message) => (2, message),
            Self::Failed(message) => (1, message),
            Self::OutputClosed => return ExitCode::SUCCESS,
            Self::Silent(status) => return ExitCode::from(status),
        };
        crate::output::note(&message);
        ExitCode::from(status)
    }
}

/// A socket that could not be opened, in words that say what to do.
pub(crate) fn cannot_listen(address: impl Display, error: &io::Error) -> Failure {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the address is in use: stop the program that has it, or take another port (port 0 takes a free one)"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: 127.0.0.1 is always there, 0.0.0.0 means all"
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied: ports below 1024 are often reserved, take a higher one"
        }
        _ => return Failure::failed(format!("cannot listen on {address}: {error}")),
    };
    Failure::failed(format!("cannot listen on {address}: {advice}"))
}

/// A server or a client that did not start.
pub(crate) fn cannot_start(error: StartError) -> Failure {
    match error {
        StartError::Bind { address, error } => cannot_listen(address, &error),
        StartError::Config(error) => cannot_set(&error),
        StartError::File { .. }
        | StartError::Tls(_)
        | StartError::Name(_)
        | StartError::Dial(_)
        | StartError::Recording { .. } => Failure::usage(error),
        _ => Failure::failed(error),
    }
}

/// A setting that cannot be used, by the name of its option.
pub(crate) fn cannot_set(error: &ConfigError) -> Failure {
    let ConfigError::OutOfRange {
        field,
        given,
        allowed,
    } = error
    else {
        return Failure::usage(error);
    };
    let option = match *field {
        "heartbeat.interval" => "--heartbeat",
        // The first is never longer than the cap.
        "redial.first" | "redial.cap" => "--redial-cap",
        "timeouts.retention" => "--retention",
        other => other,
    };
    Failure::usage(format!("{option} is {given}: {allowed} is allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_out_counts_before_what_was_printed() {
        let closed = || Err(Failure::OutputClosed);
        let failed = |why: &str| Err(Failure::failed(why));
        let status = |printed, verdict| match Failure::concluded(printed, verdict) {
            Ok(()) => "done".to_owned(),
            Err(Failure::Failed(why)) => why,
            Err(other) => format!("{other:?}"),
        };
        assert_eq!(status(Ok(()), Ok(())), "done");
        assert_eq!(status(closed(), Ok(())), "OutputClosed");
        assert_eq!(status(Ok(()), closed()), "OutputClosed");
        assert_eq!(status(closed(), failed("lost")), "lost");
        assert_eq!(status(failed("disk"), Ok(())), "disk");
        assert_eq!(status(failed("disk"), failed("lost")), "lost");
        assert_eq!(status(failed("disk"), closed()), "disk");
    }
}
