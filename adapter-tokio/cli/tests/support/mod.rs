//! Runs the program as a user would.

#![allow(dead_code, reason = "each test file uses a part")]

use std::process::{Command, Output, Stdio};

/// The program, not yet started. What this machine's user set for it does not reach it.
pub(crate) fn trunkline(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
    command
        .args(arguments)
        .env_remove("TRUNKLINE_LOG")
        .stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    trunkline(arguments).output().expect("the program starts")
}

/// Asserts that the program ended with that status and said so in one line with these parts.
#[track_caller]
pub(crate) fn assert_one_line(output: &Output, status: i32, parts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert_eq!(
        said.lines().count(),
        1,
        "more or less than one line: {said}"
    );
    assert!(said.starts_with("trunkline: "), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is missing in {said}");
    }
    assert!(
        output.stdout.is_empty(),
        "an error belongs on standard error"
    );
}
