//! Both adapters have the same public names, are small, and smol's has no tokio beneath it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const ADAPTERS: [&str; 2] = ["adapter-tokio", "adapter-smol"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// An adapter's source files, all in one folder, and what they hold.
fn sources(adapter: &str) -> BTreeMap<String, String> {
    let folder = root().join(adapter).join("src");
    let files = fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        assert!(path.is_file(), "{} is not looked into", path.display());
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    });
    files.collect()
}

/// All of a crate's names stand in its `lib.rs`, which is the same text in both but for the front
/// page; the only type of their own has no functions of its own.
#[test]
fn both_have_the_same_names() {
    let [tokio, smol] = ADAPTERS.map(|adapter| {
        let sources = sources(adapter);
        for (name, text) in &sources {
            assert!(!text.contains("macro_export"), "{adapter}/{name}");
            for line in text.lines().filter(|_| name != "lib.rs") {
                let function = line.trim_start().starts_with("pub fn")
                    || line.trim_start().starts_with("pub async fn")
                    || line.trim_start().starts_with("pub const");
                assert!(!function, "only one adapter may have this: {line}");
            }
        }
        let code: Vec<_> = sources["lib.rs"]
            .lines()
            .filter(|line| !line.starts_with("//!"))
            .map(str::to_owned)
            .collect();
        code
    });
    assert_eq!(tokio, smol);
    for name in ["exports::*;", "Runtime;", "type Server", "type Client"] {
        assert!(tokio.iter().any(|line| line.contains(name)), "{name}");
    }
}

#[test]
fn both_are_small() {
    for adapter in ADAPTERS {
        let lines: usize = sources(adapter).values().map(|f| f.lines().count()).sum();
        assert!((50..500).contains(&lines), "{adapter} has {lines} lines");
    }
}

/// The lock file says what each package needs, its tests included.
#[test]
fn no_tokio_is_beneath_smols() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let mut needs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let name = package.lines().find_map(|l| l.strip_prefix("name = \""));
        let listed = package
            .split_once("dependencies = [")
            .map_or("", |(_, l)| l);
        let listed = listed
            .lines()
            .filter_map(|line| line.trim().strip_prefix('"'));
        // A name that stands alone, or with the version behind it.
        let bare = |line: &'_ str| line.find(['"', ' ']).unwrap_or(line.len());
        let list = needs
            .entry(name.unwrap().trim_end_matches('"'))
            .or_default();
        list.extend(listed.map(|line| &line[..bare(line)]));
    }
    let beneath = |package: &'static str| {
        let mut seen = BTreeSet::new();
        let mut open = vec![package];
        while let Some(package) = open.pop() {
            if seen.insert(package) {
                open.extend(&needs[package]);
            }
        }
        seen
    };
    assert!(beneath("trunkline-tokio").contains("tokio"));
    let smols = beneath("trunkline-smol");
    assert!(smols.contains("async-io") && smols.contains("quinn-udp"));
    let tokios: Vec<_> = smols.iter().filter(|p| p.starts_with("tokio")).collect();
    assert_eq!(tokios, Vec::<&&str>::new());
}
