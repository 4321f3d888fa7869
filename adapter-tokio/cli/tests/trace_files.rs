//! Trace files that are checked in, cut and damaged, and what the program makes of them.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod support;
#[path = "support/traces.rs"]
mod traces;

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use support::{assert_one_line, run, trunkline};
use traces::first_records;
use trunkline_core::trace::{Beginning, Build, Header, Reader, Record, Writer};

/// A checked-in recording.
fn golden(name: &str) -> PathBuf {
    let traces = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/tests/traces");
    PathBuf::from(format!("{traces}/{name}.tlt"))
}

/// Copies a checked-in recording with another header; returns how many records it has, and over
/// which time in nanoseconds.
fn under_another_header(name: &str, to: &Path, change: impl FnOnce(&mut Header)) -> (u64, i64) {
    let file = BufReader::new(File::open(golden(name)).unwrap());
    let mut reader = Reader::new(file).unwrap();
    let mut header = reader.header().clone();
    change(&mut header);
    let (mut writer, later) = (
        Writer::new(Vec::new(), &header).unwrap(),
        header.beginning.clock,
    );
    let (mut records, mut time) = (0, 0);
    while let Some((_, mut record)) = reader.next_record().unwrap() {
        records += 1;
        if let Record::Call { at, .. }
        | Record::Transmit { at, .. }
        | Record::Arrival { at }
        | Record::Asked { at, .. } = &mut record
        {
            time = *at;
            *at += later;
        }
        writer.write(&record).unwrap();
    }
    fs::write(to, writer.into_inner()).unwrap();
    (records, time)
}

/// What the program prints, with these arguments before the path.
fn said(command: &[&str], path: &Path, options: &[&str]) -> String {
    let path = path.display().to_string();
    let output = run(&[command, &[path.as_str()], options].concat());
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn how_another_build_differs_is_said_before_anything_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("other.tlt");
    under_another_header("resume-client", &path, |header| {
        header.build = Build {
            rustc: "rustc 1.0.0".to_owned(),
            ..Build::own()
        };
    });
    let line = format!(
        "another build: rustc is {}, and was rustc 1.0.0\n",
        Build::own().rustc
    );
    for options in [
        &[][..],
        &["--events"],
        &["--until", "20"],
        &["--what-if", "heartbeat.misses=1"],
        &["--what-if", "heartbeat.misses=1", "--events"],
    ] {
        let said = said(&["replay"], &path, options);
        assert!(said.starts_with(&line), "{options:?}: {said}");
        assert_eq!(said.matches("another build").count(), 1, "{said}");
    }
    let (status, said) = replayed(&path);
    assert_eq!(status, Some(0), "{said}");
    let differences = said["build"].as_array().expect("a list");
    assert_eq!(differences.len(), 1, "{said}");
    assert_eq!(differences[0]["what"], "rustc", "{said}");
    assert_eq!(differences[0]["recorded"], "rustc 1.0.0", "{said}");

    under_another_header("resume-client", &path, |header| header.build = Build::own());
    for options in [&["--events"][..], &["--what-if", "heartbeat.misses=1"]] {
        let same = self::said(&["replay"], &path, options);
        assert!(!same.contains("another build"), "{same}");
    }
}

#[test]
fn the_last_seconds_of_a_node_are_counted_from_where_they_begin() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring.tlt");
    let (records, time) = under_another_header("resume-client", &path, |header| {
        header.beginning = Beginning {
            first: 1_000,
            clock: 3_600_000_000_000,
        };
    });
    let stats = said(&["trace", "stats"], &path, &["--json"]);
    let stats: Value = serde_json::from_str(&stats).expect("one object");
    assert_eq!(stats["records"], records, "{stats}");
    let seconds = stats["seconds"].as_f64().expect("a number");
    assert!((seconds - time as f64 / 1e9).abs() < 1e-6, "{stats}");
}

#[test]
fn the_first_records_of_the_last_seconds_have_their_time() {
    let file = BufReader::new(File::open(golden("resume-client")).unwrap());
    let mut header = Reader::new(file).unwrap().header().clone();
    header.beginning = Beginning {
        first: 1_000,
        clock: 3_600_000_000_000,
    };
    let mut writer = Writer::new(Vec::new(), &header).unwrap();
    writer.write(&Record::Event(None)).unwrap();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring.tlt");
    fs::write(&path, writer.into_inner()).unwrap();
    let shown = said(&["trace", "show"], &path, &[]);
    assert!(shown.starts_with("1000 3600.000000 "), "{shown}");
}

#[test]
fn envelopes_are_shown_with_their_numbers_and_types() {
    let shown = said(&["trace", "show"], &golden("messages-server"), &[]);
    let envelopes: Vec<&str> = shown.split("read message ").skip(1).collect();
    assert!(!envelopes.is_empty(), "{shown}");
    for envelope in envelopes {
        assert!(!envelope.contains("of the tag before it"), "{envelope}");
        assert!(
            envelope.starts_with(|c: char| c.is_ascii_digit()),
            "{envelope}"
        );
    }
}

#[test]
fn timelines_tell_how_long_bodies_are_and_not_what_is_in_them() {
    for name in ["requests-client", "requests-server", "messages-server"] {
        let timeline = said(&["replay"], &golden(name), &["--events"]);
        assert!(timeline.contains(" bytes"), "{timeline}");
        assert!(!timeline.contains("\\0"), "{timeline}");
        let longest = timeline.lines().map(str::len).max();
        assert!(longest < Some(300), "{timeline}");
    }
}

/// What the program says of a trace.
fn replayed(path: &Path) -> (Option<i32>, Value) {
    let output = run(&["replay", &path.display().to_string(), "--json"]);
    let said = serde_json::from_slice(&output.stdout);
    let said = said.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), said)
}

/// What `--what-if` says of a checked-in recording.
fn what_if(trace: &str, setting: &str) -> String {
    let traces = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/tests/traces");
    let path = format!("{traces}/{trace}.tlt");
    let output = run(&["replay", &path, "--what-if", setting]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn what_if_says_what_it_holds_fixed_and_its_example_shows_something() {
    // The help's own examples, on a recording of a link that fell silent.
    let earlier = what_if("resume-client", "heartbeat.misses=1");
    assert!(
        earlier.contains("as recorded 10.899999 HeartbeatTimeout")
            && earlier.contains("what if     4.899999 HeartbeatTimeout"),
        "{earlier}"
    );
    let later = what_if("resume-client", "redial.first=5s");
    assert!(later.contains(" Reconnecting: "), "{later}");
    // The client goes on in the rhythm that it was told, so this is no news of a healthy link.
    let alone = what_if("heartbeat-server", "heartbeat.interval=5s");
    assert!(alone.contains("HeartbeatTimeout"), "{alone}");
    for said in [earlier, later, alone] {
        let fixed = said.lines().filter(|line| {
            line.starts_with("held fixed: ")
                && line.contains("peers say and do what they did, when they did it")
                && line.contains("heartbeat.interval")
        });
        assert_eq!(fixed.count(), 1, "{said}");
    }
}

#[test]
fn what_was_not_looked_at_is_not_called_identical() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("server.tlt");
    let traces = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/tests/traces");
    // Written anew, so that both have the same header. Nothing says that its last record is the last.
    let golden = PathBuf::from(format!("{traces}/resume-server.tlt"));
    first_records(&golden, &path, 200);
    let whole = fs::read(&path).unwrap();
    let (status, said) = replayed(&path);
    assert_eq!((status, &said["complete"]), (Some(0), &Value::Bool(true)));

    // It ends within its third record.
    let two = directory.path().join("two.tlt");
    first_records(&golden, &two, 2);
    let at = usize::try_from(fs::metadata(&two).unwrap().len()).unwrap();
    let rest = 3;
    fs::write(&path, &whole[..at + rest]).unwrap();
    let (status, said) = replayed(&path);
    assert_eq!(status, Some(2), "{said}");
    assert_eq!(said["complete"], false, "{said}");
    let name = path.display().to_string();
    let output = run(&["replay", &name]);
    let text = String::from_utf8(output.stdout).expect("text");
    let expected = format!(
        "identical up to record 2, where the recording is cut short: {rest} bytes were not looked at\n"
    );
    assert!(text.ends_with(&expected), "{text}");
    assert!(!text.contains("identical: "), "{text}");
    assert_eq!(output.status.code(), Some(2));
    let output = run(&["replay", &name, "--cut-short"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stdout).expect("text"), text);

    // Nor in another configuration, or in a part of it.
    let what_if = ["replay", &name, "--what-if", "redial.first=5s"];
    for (options, status) in [(&[][..], 2), (&["--cut-short"], 0)] {
        let output = run(&[&what_if[..], options].concat());
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        let expected = format!("the recording is cut short: {rest} bytes");
        assert!(text.contains(&expected), "{text}");
    }
    let small = directory.path().join("small.tlt").display().to_string();
    let output = run(&["trace", "shrink", &name, &small, "--while", "true"]);
    assert!(output.status.success(), "{output:?}");
    let noted = String::from_utf8_lossy(&output.stderr);
    assert!(noted.contains("server.tlt is cut short"), "{noted}");
    fs::remove_file(&small).unwrap();
    let output = run(&["trace", "shrink", &name, &small]);
    assert_one_line(&output, 2, &["identical up to where it is cut short"]);

    // Nor does it depend on who reads what is said about it.
    let mut child = trunkline(&["replay", &name, "--events"]);
    let mut child = child.stdout(Stdio::piped()).spawn().expect("started");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("ended").code(), Some(2));
    let output = run(&[
        "trace",
        "redact",
        &name,
        &directory.path().join("less.tlt").display().to_string(),
    ]);
    assert!(output.status.success(), "{output:?}");
    let noted = String::from_utf8_lossy(&output.stderr);
    assert!(noted.contains("is cut short"), "{noted}");

    // A length that announces more than there is is no cut: all that follows would seem to be in it.
    let mut flipped = whole.clone();
    flipped.splice(at..=at, [whole[at] | 0x80, 0xff, 0x7f]);
    fs::write(&path, &flipped).unwrap();
    let output = run(&["replay", &name]);
    assert_one_line(
        &output,
        2,
        &["server.tlt", "record 3 (at byte ", "is damaged"],
    );
}

#[test]
fn a_new_trace_is_refused_before_the_work_and_leaves_nothing_behind_if_it_fails() {
    let directory = tempfile::tempdir().expect("a directory");
    let traces = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/tests/traces");
    let trace = format!("{traces}/resume-server.tlt");
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (taken, small) = (at("taken.tlt"), at("small.tlt"));
    fs::write(&taken, "mine").unwrap();
    // As an interrupted run of another build may have left it.
    fs::write(at("small.trial.tlt"), "mine").unwrap();
    fs::write(at("none.tlt"), "no trace").unwrap();
    let ran = at("ran");
    let touch = format!("touch '{ran}'");
    for arguments in [
        &["redact", &at("none.tlt"), &taken][..],
        &["shrink", &at("none.tlt"), &taken],
        &["shrink", &trace, &taken, "--while", &touch],
    ] {
        let output = run(&[&["trace"][..], arguments].concat());
        assert_one_line(&output, 2, &["cannot write", "taken.tlt", "exists"]);
    }
    assert!(!Path::new(&ran).exists());
    assert_eq!(fs::read(&taken).unwrap(), b"mine");
    let output = run(&["trace", "redact", &at("none.tlt"), &small]);
    assert_one_line(&output, 2, &["none.tlt", "no trace"]);

    let nowhere = at("no/such/small.tlt");
    let output = run(&["trace", "redact", &trace, &nowhere]);
    assert_one_line(&output, 2, &["small.tlt: its folder is not there"]);

    // Words that are no command are not taken for a trace that does not show anything.
    for (command, status) in [("trunklin show {}", "127"), ("/ {}", "126")] {
        let output = run(&["trace", "shrink", &trace, &small, "--while", command]);
        assert_one_line(&output, 2, &["--while", "cannot be run", status]);
    }
    let output = run(&["trace", "shrink", &trace, &small, "--while", "false"]);
    assert_one_line(&output, 2, &["does not show what is looked for"]);
    assert!(!Path::new(&small).exists());

    let program = env!("CARGO_BIN_EXE_trunkline");
    let command = format!("{program} trace show {{}} | grep -q 'begun by'");
    let output = run(&["trace", "shrink", &trace, &small, "--while", &command]);
    assert!(output.status.success(), "{output:?}");
    assert!(Path::new(&small).exists());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&small).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let mut left: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(
        left,
        ["none.tlt", "small.tlt", "small.trial.tlt", "taken.tlt"]
    );
}

#[test]
fn who_asks_for_records_behind_the_last_is_told_which_that_is() {
    let trace = golden("resume-server").display().to_string();
    let output = run(&["trace", "show", &trace, "--from", "9999"]);
    assert!(output.status.success(), "{output:?}");
    let noted = String::from_utf8_lossy(&output.stderr);
    let stats = run(&["trace", "stats", &trace, "--json"]);
    let stats: Value = serde_json::from_slice(&stats.stdout).expect("an object");
    let expected = format!(
        "resume-server.tlt has no record 9999: the last one is {}\n",
        stats["records"]
    );
    assert!(noted.ends_with(&expected), "{noted}");
}

/// Waits until nobody has the other end of it open any more.
#[cfg(unix)]
fn assert_ends(mut fifo: impl std::io::Read + Send + 'static) {
    let (ended, at_end) = std::sync::mpsc::channel();
    std::thread::spawn(move || ended.send(fifo.read_to_end(&mut Vec::new())));
    let read = at_end.recv_timeout(std::time::Duration::from_secs(10));
    let read = read.expect("some of the command goes on");
    assert_eq!(read.expect("the end of the fifo"), 0);
}

/// A pipe with a name.
#[cfg(unix)]
fn fifo(directory: &Path, name: &str) -> PathBuf {
    let fifo = directory.join(name);
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("mkfifo").success());
    fifo
}

#[cfg(unix)]
#[test]
fn the_command_of_an_interrupted_shrink_ends_with_it() {
    use std::io::BufRead;

    let trace = golden("resume-server").display().to_string();
    // They are told to this process alone, as a service manager does. The latter is as any that it does not catch.
    for (signal, status) in [("TERM", Some(130)), ("KILL", None)] {
        let directory = tempfile::tempdir().expect("a directory");
        let small = directory.path().join("small.tlt").display().to_string();
        let fifo = fifo(directory.path(), "fifo");
        // All of it have the fifo open, the shell and whom it waits for, and none of them listens to anything.
        let command = format!(
            "exec 3> '{}'; trap '' INT TERM; echo begun >&3; sleep 1000 | sleep 1000",
            fifo.display()
        );
        let child = trunkline(&["trace", "shrink", &trace, &small, "--while", &command])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut open = BufReader::new(File::open(&fifo).expect("the fifo"));
        let mut line = String::new();
        open.read_line(&mut line).expect("a line");
        assert_eq!(line, "begun\n");
        let told = std::process::Command::new("kill")
            .args([&format!("-{signal}"), &child.id().to_string()])
            .status();
        assert!(told.expect("kill").success());
        let output = child.wait_with_output().expect("ended");
        assert_eq!(output.status.code(), status, "{output:?}");
        assert_ends(open);
    }
}

#[cfg(unix)]
#[test]
fn what_a_command_of_shrink_leaves_in_the_background_ends_with_it() {
    use std::io::BufRead;

    let directory = tempfile::tempdir().expect("a directory");
    let trace = golden("resume-server").display().to_string();
    let small = directory.path().join("small.tlt").display().to_string();
    let fifo = fifo(directory.path(), "fifo");
    // It shows nothing, so it is tried once.
    let command = format!(
        "exec 3> '{}'; echo begun >&3; sleep 1000 & exit 1",
        fifo.display()
    );
    let child = trunkline(&["trace", "shrink", &trace, &small, "--while", &command])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut open = BufReader::new(File::open(&fifo).expect("the fifo"));
    let mut line = String::new();
    open.read_line(&mut line).expect("a line");
    assert_eq!(line, "begun\n");
    let output = child.wait_with_output().expect("ended");
    assert_one_line(&output, 2, &["does not show what is looked for"]);
    assert_ends(open);
}

#[cfg(unix)]
#[test]
fn an_interrupted_shrink_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a directory");
    let trace = golden("resume-server").display().to_string();
    let small = directory.path().join("small.tlt").display().to_string();
    // It says where its file is, and lasts until that is gone.
    let fifo = fifo(directory.path(), "trial");
    let command = format!(
        "echo {{}} > '{}'; while [ -e {{}} ]; do sleep 0.05; done; false",
        fifo.display()
    );
    let child = trunkline(&["trace", "shrink", &trace, &small, "--while", &command])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let trial = fs::read_to_string(&fifo).expect("a path");
    assert!(Path::new(trial.trim()).exists());
    let killed = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(killed.expect("kill").success());
    let output = child.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let left: Vec<_> = fs::read_dir(directory.path())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(left, ["trial"]);
}
