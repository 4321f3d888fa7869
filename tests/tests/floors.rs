//! A file of the core imports only from lower floors, and machines of one floor do not import each
//! other: checked by reading the imports.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Which floor a top-level module of the core stands on, and whether its neighbours are closed to it.
fn floors() -> BTreeMap<&'static str, u8> {
    let mut floors = BTreeMap::new();
    let mut floor = |number, modules: &[&'static str]| {
        floors.extend(modules.iter().map(|module| (*module, number)));
    };
    floor(
        0,
        &[
            "busy_poll",
            "id",
            "config",
            "error",
            "logged",
            "message",
            "moments",
            "planted",
            "seed",
            "sliding",
            "spans",
            "steering",
            "tap",
        ],
    );
    floor(
        1,
        &[
            "arena",
            "backoff",
            "dirty",
            "frame",
            "groups",
            "heartbeat",
            "inbox",
            "metrics",
            "outbox",
            "promise",
            "cohorts",
            "timers",
        ],
    );
    floor(2, &["link", "session", "dial"]);
    floor(3, &["quic"]);
    floor(4, &["node"]);
    floor(5, &["trace", "fuzzing"]);
    floor(6, &["driver"]);
    floors
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The modules of the crate that a file names, tests aside.
fn imports(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let mut modules = Vec::new();
    for line in code {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            modules.push(
                rest.chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect(),
            );
        }
    }
    modules
}

#[test]
fn files_import_from_lower_floors_only() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src");
    let floors = floors();
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let mut seen = 0;
    for file in files {
        let inside = file.strip_prefix(&source).unwrap();
        let module = inside
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap();
        let module = module.strip_suffix(".rs").unwrap_or(module);
        if module == "lib" {
            continue;
        }
        let Some(floor) = floors.get(module) else {
            panic!("{} stands on no floor", inside.display())
        };
        for import in imports(&fs::read_to_string(&file).unwrap()) {
            let Some(below) = floors.get(import.as_str()) else {
                continue;
            };
            // Floor 0 is one neighbourhood; above it, neighbours are closed to each other.
            let allowed = import == module || below < floor || *floor == 0 && *below == 0;
            assert!(
                allowed,
                "{} (floor {floor}) imports {import} (floor {below})",
                inside.display()
            );
            seen += 1;
        }
    }
    assert!(
        seen > 50,
        "only {seen} imports were found: does this test still read them?"
    );
}

/// What only some files may name, and where those stand.
const RESERVED: [(&str, &[&str], &str); 4] = [
    (
        "QUIC's and TLS's types",
        &["quinn_proto::", "rustls::"],
        "quic",
    ),
    ("tasks and wakers", &["std::task"], "driver"),
    (
        "sockets and what else is the operating system's",
        &["quinn_udp", "UdpSocket", "ToSocketAddrs"],
        "driver/system",
    ),
    // Of a folder that is not there: nowhere.
    (
        "a runtime",
        &["tokio::", "smol::", "async_io::", "polling::", "mio::"],
        "-",
    ),
];

#[test]
fn what_is_reserved_for_a_floor_is_named_on_no_other() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let mut seen = [0; RESERVED.len()];
    for file in files {
        let inside = file.strip_prefix(&source).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            for ((what, words, place), seen) in RESERVED.iter().zip(&mut seen) {
                if words.iter().any(|word| line.contains(word)) {
                    assert!(
                        inside.starts_with(place),
                        "{} names {what}: {line}",
                        inside.display()
                    );
                    *seen += 1;
                }
            }
        }
    }
    let [types, tasks, system, runtimes] = seen;
    assert!(types > 0 && tasks > 0 && system > 0 && runtimes == 0);
}
