//! What the program says when it is asked wrongly, or asked for help.

#![allow(clippy::expect_used, clippy::panic)]

mod support;

use std::process::Stdio;

use support::{assert_one_line, run, trunkline};

#[test]
fn a_bad_flag_is_one_line_that_names_it() {
    let flags = ["impair", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:9"];
    for (flag, value, parts) in [
        ("--delay", "50", ["unit is missing", "50ms"]),
        ("--loss", "2", ["unit is missing", "2%"]),
        ("--loss", "200%", ["more than 100%", "2%"]),
        ("--rate", "10mbps", ["'mbps' is not known", "10mbit"]),
        ("--queue", "big", ["does not start with a number", "64kb"]),
        ("--blackout", "5s", ["no '@'", "5s@20s"]),
        ("--burst", "0", ["from 1", "such as 3"]),
        ("--for", "0s", ["longer than zero", "10s"]),
        ("--direction", "sideways", ["both", "down"]),
        ("--log", "debgu", ["debug", "TRUNKLINE"]),
        ("--seed", "minus one", ["invalid", "digit"]),
    ] {
        let mut arguments = flags.to_vec();
        arguments.extend([flag, value]);
        let parts = parts.into_iter().filter(|part| *part != "TRUNKLINE");
        let parts: Vec<&str> = [flag, value].into_iter().chain(parts).collect();
        assert_one_line(&run(&arguments), 2, &parts);
    }
}

#[test]
fn flags_that_do_not_go_together_are_one_line() {
    let flags = ["impair", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:9"];
    let with = |more: &[&str]| run(&[&flags, more].concat());
    assert_one_line(&with(&["--burst", "3"]), 2, &["--loss"]);
    assert_one_line(&with(&["--queue", "64kb"]), 2, &["--rate"]);
    assert_one_line(&with(&["--cut-for", "5s"]), 2, &["--cut-after"]);
    assert_one_line(
        &with(&["--loss", "90%", "--burst", "2"]),
        2,
        &["--loss 90%", "--burst 9"],
    );
    assert_one_line(
        &run(&["impair", "--listen", "127.0.0.1:9", "--to", "127.0.0.1:9"]),
        2,
        &["--to", "--listen", "127.0.0.1:4500"],
    );
    assert_one_line(
        &run(&["impair", "--listen", "127.0.0.1:9", "--to", "0.0.0.0:9"]),
        2,
        &["--to 0.0.0.0:9", "127.0.0.1:4433"],
    );
}

#[test]
fn what_would_do_nothing_is_one_line() {
    assert_one_line(
        &run(&["replay", "a.tlt", "--until", "0"]),
        2,
        &["--until", "1 or more"],
    );
    assert_one_line(
        &run(&["trace", "show", "a.tlt", "--from", "9", "--to", "3"]),
        2,
        &["--to 3", "--from 9"],
    );
    for nothing in ["", " \t"] {
        assert_one_line(
            &run(&["trace", "shrink", "a.tlt", "b.tlt", "--while", nothing]),
            2,
            &[
                "--while <COMMAND>",
                "give a command",
                "trunkline trace --help",
            ],
        );
    }
    let request = ["request", "localhost:4433", "hi", "--ca", "ca.pem"];
    assert_one_line(
        &run(&[&request[..], &["--count", "0"]].concat()),
        2,
        &["--count", "1 or more"],
    );
}

#[cfg(unix)]
#[test]
fn what_is_no_text_is_one_line() {
    let word: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"gr\xfc\xdfe");
    let mut command = trunkline(&["send", "localhost:4433"]);
    let output = command.arg(word).output().expect("the program starts");
    assert_one_line(&output, 2, &["trunkline send --help"]);
}

#[test]
fn missing_and_unknown_words_are_one_line() {
    assert_one_line(
        &run(&["impair"]),
        2,
        &["--listen <ADDR>", "--to <ADDR>", "trunkline impair --help"],
    );
    assert_one_line(&run(&["impiar"]), 2, &["impiar", "did you mean 'impair'?"]);
    assert_one_line(
        &run(&["cert", "--day", "3"]),
        2,
        &["--day", "did you mean '--days'?"],
    );
    assert_one_line(
        &run(&["impair", "--listen", "4500", "--to", "127.0.0.1:9"]),
        2,
        &["--listen", "4500", "127.0.0.1:4433"],
    );
}

#[test]
fn help_and_version_are_results() {
    for arguments in [
        &["--help"][..],
        &["impair", "--help"],
        &["cert", "--help"],
        &["serve", "--help"],
        &["request", "--help"],
        &["send", "--help"],
        &["listen", "--help"],
        &["clients", "--help"],
        &["--version"],
    ] {
        let output = run(arguments);
        assert!(
            output.status.success() && !output.stdout.is_empty() && output.stderr.is_empty(),
            "{arguments:?}"
        );
    }
    let nothing = run(&[]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("impair"));
}

#[test]
fn the_environment_sets_the_log_and_is_checked_too() {
    let arguments = [
        "impair",
        "--listen",
        "127.0.0.1:0",
        "--to",
        "127.0.0.1:9",
        "--for",
        "1ms",
    ];
    let output = trunkline(&arguments)
        .env("TRUNKLINE_LOG", "debgu")
        .output()
        .expect("started");
    assert_one_line(&output, 2, &["--log", "debgu"]);
}

#[test]
fn nobody_reading_the_output_is_no_error() {
    let arguments = [
        "impair",
        "--listen",
        "127.0.0.1:0",
        "--to",
        "127.0.0.1:9",
        "--for",
        "1ms",
        "--json",
    ];
    let mut child = trunkline(&arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ended");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.lines().count(), 1, "only where it listened: {said}");
}
