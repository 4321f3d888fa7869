//! Every checked-in input of every fuzz target, on stable: none finds anything, and together they
//! reach what the target says that they have to.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use trunkline_testkit::fuzz::{TARGETS, Target, target};

/// What is for cargo-fuzz.
fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn folder(of: &str, target: &Target) -> PathBuf {
    fuzz().join(of).join(target.name)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The inputs in a target's corpus, by their names.
fn inputs(target: &Target) -> BTreeMap<String, Vec<u8>> {
    let folder = folder("corpus", target);
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let read = |file: fs::DirEntry| {
        let name = file.file_name().into_string().unwrap();
        (name, fs::read(file.path()).unwrap())
    };
    files.map(|file| read(file.unwrap())).collect()
}

/// What fuzz/README.md promises of a corpus: it is read, run and carried along by everybody.
const INPUTS_MAX: usize = 250;
const BYTES_MAX: usize = 330_000;

/// Runs a target's corpus, and holds it to what it has to reach.
fn check(name: &str) {
    let target = target(name);
    let inputs = inputs(target);
    assert!(!inputs.is_empty(), "{name} has no corpus");
    let bytes: usize = inputs.values().map(Vec::len).sum();
    assert!(
        inputs.len() <= INPUTS_MAX && bytes <= BYTES_MAX,
        "{name} has {} inputs of {bytes} bytes: cut its corpus down (fuzz/README.md)",
        inputs.len()
    );
    let mut reached = BTreeMap::new();
    let mut most = 0;
    for (input, data) in &inputs {
        // The name is seen if the body panics.
        println!("{name}/{input}");
        let used = allocation_counter::measure(|| {
            for what in (target.body)(data) {
                *reached.entry(what).or_insert(0) += 1;
            }
        });
        let allowed = (target.memory)(data);
        assert!(
            used.bytes_max <= allowed,
            "{} bytes were held at once: at most {allowed} may be for {} of input",
            used.bytes_max,
            data.len()
        );
        most = used.bytes_max.max(most);
    }
    println!(
        "{} inputs, {most} bytes at once: {reached:#?}",
        inputs.len()
    );
    let missing = target.floor.iter();
    let missing: Vec<_> = missing
        .filter(|what| !reached.contains_key(*what))
        .collect();
    assert!(missing.is_empty(), "no input of {name} reaches {missing:?}");
}

macro_rules! corpora {
    ($($target:ident),*) => {
        $(#[test]
        fn $target() {
            check(stringify!($target));
        })*

        #[test]
        fn every_target_has_a_test_of_its_corpus() {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($target)),*]);
        }
    };
}

corpora!(
    frames,
    tokens,
    link,
    node,
    two_nodes,
    quic,
    traces,
    configuration
);

/// What cargo-fuzz builds is what runs here: a program a target, each with its own target's body.
#[test]
fn cargo_fuzz_has_the_same_targets() {
    let mut expected: Vec<_> = TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect();
    let manifest = text(&fuzz().join("Cargo.toml"));
    let value = |program: &str, key: &str| {
        let line = program.lines().find_map(|line| line.strip_prefix(key));
        let value = line.and_then(|rest| rest.strip_prefix(" = \"")?.strip_suffix('"'));
        value
            .map(str::to_owned)
            .unwrap_or_else(|| panic!("no {key} in{program}"))
    };
    let mut programs = Vec::new();
    for program in manifest.split("[[bin]]").skip(1) {
        let name = value(program, "name");
        assert_eq!(value(program, "path"), format!("fuzz_targets/{name}.rs"));
        programs.push(name);
    }
    assert_eq!(programs, expected, "in fuzz/Cargo.toml");

    let mut sources = Vec::new();
    for file in fs::read_dir(fuzz().join("fuzz_targets")).unwrap() {
        let path = file.unwrap().path();
        let (name, source) = (path.file_stem().unwrap().to_str().unwrap(), text(&path));
        let takes = |body: &str| source.matches(body).count();
        assert_eq!(
            takes("trunkline_testkit::fuzz::"),
            1,
            "in {}",
            path.display()
        );
        let own =
            takes(&format!("fuzz::{name}(data)")) + takes(&format!("fuzz::target(\"{name}\")"));
        assert_eq!(own, 1, "{} runs another target's body", path.display());
        sources.push(name.to_owned());
    }
    sources.sort();
    expected.sort();
    assert_eq!(sources, expected, "in fuzz/fuzz_targets");
}

/// The table of corpora in fuzz/README.md.
#[test]
fn the_readme_counts_what_the_corpora_have() {
    let readme = text(&fuzz().join("README.md"));
    let heading = "| target | inputs | bytes |";
    let (_, table) = readme.split_once(heading).unwrap();
    for target in TARGETS {
        let inputs = inputs(target);
        let bytes: usize = inputs.values().map(Vec::len).sum();
        let mut bytes = bytes.to_string();
        if let Some(thousands) = bytes.len().checked_sub(3).filter(|at| *at > 0) {
            bytes.insert(thousands, ',');
        }
        let row = format!("\n| `{}` | {} | {bytes} |", target.name, inputs.len());
        assert!(table.contains(&row), "fuzz/README.md has no{row}");
    }
}

/// Writes inputs to begin with, from simulated conversations, to `fuzz/seeds`; cargo-fuzz takes it
/// from there. `FUZZ_TARGET` names one target.
#[test]
#[ignore = "writes files"]
fn seeds() {
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    for target in TARGETS
        .iter()
        .filter(|target| target.name.starts_with(&wanted))
    {
        let folder = folder("seeds", target);
        fs::create_dir_all(&folder).unwrap();
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has none", target.name);
        for (number, seed) in seeds.iter().enumerate() {
            println!("{}/{number:04}", target.name);
            fs::write(folder.join(format!("{number:04}")), seed).unwrap();
            (target.body)(seed);
        }
    }
}

/// Says what each input reaches of a folder that `FUZZ_INPUTS` names, for the target `FUZZ_TARGET`.
#[test]
#[ignore = "for whoever chooses inputs"]
fn reached() {
    let target = target(&std::env::var("FUZZ_TARGET").unwrap());
    for file in fs::read_dir(std::env::var("FUZZ_INPUTS").unwrap()).unwrap() {
        let path = file.unwrap().path();
        let reached = (target.body)(&fs::read(&path).unwrap());
        println!("{}: {reached:?}", path.display());
    }
}
