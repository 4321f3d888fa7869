//! `trunkline cert` as a program, in a directory of its own.

#![allow(clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;

use support::{assert_one_line, run};

fn cert(directory: &Path, options: &[&str]) -> Output {
    run(&[
        &["cert", "--out", directory.to_str().expect("a path")],
        options,
    ]
    .concat())
}

/// The directory's files.
fn files(directory: &Path) -> BTreeMap<String, String> {
    fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| {
            let name = entry.file_name().into_string().expect("a name");
            (name, fs::read_to_string(entry.path()).expect("a file"))
        })
        .collect()
}

fn names(directory: &Path) -> Vec<String> {
    files(directory).into_keys().collect()
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn an_authority_and_certificates_are_written_and_told_of() {
    let scratch = tempfile::tempdir().expect("a directory");
    let directory = scratch.path().join("a/b");
    let said = succeeded(&cert(
        &directory,
        &["--client", "alice", "--names", "localhost,10.0.0.7"],
    ));
    let expected = [
        "ca.key",
        "ca.pem",
        "cert.pem",
        "client-alice.key",
        "client-alice.pem",
        "key.pem",
    ];
    assert_eq!(names(&directory), expected);
    for (name, text) in files(&directory) {
        assert!(said.contains(&name), "{name} is not told of: {said}");
        let secret = name.contains("key");
        let block = if secret {
            "-----BEGIN PRIVATE KEY-----"
        } else {
            "-----BEGIN CERTIFICATE-----"
        };
        assert!(text.starts_with(block), "{name}");
        #[cfg(unix)]
        {
            let path = directory.join(&name);
            let mode = std::os::unix::fs::PermissionsExt::mode(
                &fs::metadata(path).expect("there").permissions(),
            );
            assert_eq!(mode & 0o077 == 0, secret, "{name} has mode {mode:o}");
        }
    }
    assert!(said.contains("ca.pem"), "{said}");
}

#[test]
fn nothing_is_overwritten_unless_forced() {
    let scratch = tempfile::tempdir().expect("a directory");
    let directory = scratch.path();
    succeeded(&cert(directory, &[]));
    let before = files(directory);
    assert_one_line(&cert(directory, &[]), 2, &["cert.pem exists", "--force"]);
    assert_one_line(
        &cert(directory, &["--client", "alice", "--names", "x.test"]),
        2,
        &["cert.pem exists"],
    );
    assert_eq!(files(directory), before);

    succeeded(&cert(directory, &["--force"]));
    let after = files(directory);
    for (name, text) in &before {
        assert_ne!(after.get(name), Some(text), "{name} is still the old one");
    }
}

#[test]
fn a_new_authority_names_the_clients_that_it_has_not_signed() {
    let scratch = tempfile::tempdir().expect("a directory");
    let directory = scratch.path();
    succeeded(&cert(directory, &["--client", "alice", "--client", "bob"]));
    let before = files(directory);
    let said = succeeded(&cert(directory, &["--client", "alice", "--force"]));
    let old: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("old "))
        .collect();
    let [bob] = old.as_slice() else {
        panic!("not one client: {said}");
    };
    for part in ["client-bob.pem", "client-bob.key", "--client bob"] {
        assert!(bob.contains(part), "{bob}");
    }
    // They may be all there is of them.
    let after = files(directory);
    for name in ["client-bob.pem", "client-bob.key"] {
        assert_eq!(after.get(name), before.get(name));
    }
    // As it advises.
    for name in ["client-bob.pem", "client-bob.key"] {
        fs::remove_file(directory.join(name)).expect("removed");
    }
    let said = succeeded(&cert(directory, &["--client", "bob"]));
    assert!(!said.contains("old "), "{said}");
}

#[test]
fn an_authority_that_is_there_issues_more() {
    let scratch = tempfile::tempdir().expect("a directory");
    let directory = scratch.path();
    succeeded(&cert(directory, &["--client", "alice"]));
    let before = files(directory);
    let said = succeeded(&cert(directory, &["--client", "bob"]));
    assert!(said.contains("kept  ca.pem"), "{said}");
    let after = files(directory);
    assert_eq!(after.len(), before.len() + 2);
    assert!(
        before
            .iter()
            .all(|(name, text)| after.get(name) == Some(text))
    );
    assert_one_line(
        &cert(directory, &["--client", "bob"]),
        2,
        &["client-bob.pem exists"],
    );

    fs::remove_file(directory.join("ca.key")).expect("removed");
    assert_one_line(
        &cert(directory, &["--client", "carol"]),
        2,
        &["holds ca.pem but no ca.key", "--force"],
    );
    fs::write(directory.join("ca.key"), "junk").expect("written");
    assert_one_line(
        &cert(directory, &["--client", "carol"]),
        2,
        &["ca.pem", "key cannot be read", "--force"],
    );
    assert!(!directory.join("client-carol.pem").exists());
}

#[test]
fn bad_names_and_days_are_one_line() {
    let scratch = tempfile::tempdir().expect("a directory");
    let directory = scratch.path().join("none");
    assert_one_line(
        &cert(&directory, &["--client", "../alice"]),
        2,
        &["--client", "../alice", "such as alice"],
    );
    assert_one_line(
        &cert(&directory, &["--names", "a b"]),
        2,
        &["'a b'", "localhost"],
    );
    assert_one_line(&cert(&directory, &["--days", "0"]), 2, &["--days", "0"]);
    assert!(!directory.exists(), "a refusal writes nothing");
}

#[test]
fn a_directory_that_is_none_is_one_line() {
    let scratch = tempfile::tempdir().expect("a directory");
    let file = scratch.path().join("file");
    fs::write(&file, "").expect("written");
    assert_one_line(&cert(&file, &[]), 2, &["--out", "file is no directory"]);
}
