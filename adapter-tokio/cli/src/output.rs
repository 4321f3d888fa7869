//! Writing to the standard streams: results to standard output, everything about them to standard
//! error, so that a pipe gets results only.

use std::io::{self, Write};

use crate::failure::Failure;

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
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?;
    result(&text)
}

/// Tells the person in front of the terminal something. That nobody reads it is no reason to stop.
pub(crate) fn note(message: &str) {
    let _ = writeln!(io::stderr().lock(), "trunkline: {message}");
}
