//! A file of the core imports only from lower floors, and machines of one floor do not import each
//! other: checked by reading the imports.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

use std::collections::{BTreeMap, BTreeSet};
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

/// What a file says in earnest: neither comments nor tests.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = code.lines();
    let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn is_of_a_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn first_word(text: &str) -> String {
    let text = text.trim_start();
    text.chars().take_while(|c| is_of_a_word(*c)).collect()
}

/// What stands in braces, up to the one that closes them: the parts that commas of no inner braces divide.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut begin) = (0, 0);
    let mut members = Vec::new();
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                members.push(group[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
        if c == '}' && begin == at + 1 {
            members.retain(|member| !member.is_empty());
            return members;
        }
    }
    panic!("braces that do not close: {group}");
}

/// What a file names that stands at the root of the crate: modules, and what the root gives out of them.
fn imports(text: &str) -> Vec<String> {
    let code = code(text);
    let mut names = Vec::new();
    for (at, said) in code.match_indices("crate::") {
        if code[..at].ends_with(is_of_a_word) {
            continue;
        }
        let rest = code[at + said.len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(group) => names.extend(members(group).into_iter().map(first_word)),
            None => names.push(first_word(rest)),
        }
    }
    names
}

/// Whether a file imports from the root as from what is above it, in place of by its name: `depth` is how far
/// above it is. A module inside the file is further down.
fn climbs_to_the_root(text: &str, depth: usize) -> bool {
    let root = "super::".repeat(depth);
    let code = code(text);
    let mut own = code.lines().filter(|line| !line.starts_with(' '));
    own.any(|line| line.contains(&root))
}

/// Public items of a file, and what it gives out of others.
fn public(text: &str) -> Vec<String> {
    let code = code(text);
    let mut names = Vec::new();
    for line in code.lines() {
        let item = line.strip_prefix("pub ").unwrap_or_default();
        let (kind, rest) = item.split_once(' ').unwrap_or_default();
        if ["const", "enum", "fn", "mod", "struct", "trait", "type"].contains(&kind) {
            names.push(first_word(rest));
        }
    }
    for given in code.split("\npub use ").skip(1) {
        let given = given.split(';').next().unwrap();
        let words = given.split(|c| !is_of_a_word(c));
        names.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
    }
    // What a macro makes is named first where it is called.
    names.extend(code.split("! {\n").skip(1).map(first_word));
    names
}

/// Of which modules each thing is that the root of the crate gives out.
fn given_out(source: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let root = code(&fs::read_to_string(source.join("lib.rs")).unwrap());
    let mut of: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    let uses = root.split("use ").skip(1);
    for said in uses.map(|said| said.split(';').next().unwrap()) {
        let (module, rest) = said.split_once("::").unwrap();
        let names = match rest.strip_prefix('{') {
            Some(group) => members(group).into_iter().map(first_word).collect(),
            None if rest == "*" => {
                let files = [format!("{module}.rs"), format!("{module}/mod.rs")];
                let text = files
                    .iter()
                    .find_map(|file| fs::read_to_string(source.join(file)).ok());
                public(&text.unwrap())
            }
            None => vec![first_word(rest)],
        };
        for name in names {
            of.entry(name).or_default().insert(module.to_owned());
        }
    }
    of
}

#[test]
fn what_a_file_imports_is_read_in_every_form() {
    let text = "
use crate::id::LinkKey;
pub(crate) use crate::{
    node::{self, Node, tables::{Entry, Session}},
    Event, quic::Fault as Wrong,
};
// use crate::comment;
fn f(at: crate::timers::Timers) -> othercrate::thing {
    use crate::{ dial };
}
#[cfg(test)]
mod tests {
    use crate::driver::Turn;
}
";
    let expected = ["id", "node", "Event", "quic", "timers", "dial"];
    assert_eq!(imports(text), expected);
    assert!(!climbs_to_the_root("use super::frame;", 2));
    assert!(climbs_to_the_root("use super::super::frame;", 2));
    assert!(!climbs_to_the_root("mod inner {\n    use super::a;\n}", 1));
    let text = "
pub use a::{B, c::D as E};
pub struct F<T>(T);
    pub fn g() {}
pub(crate) fn h() {}
name! {
    I, \"i\"
}
";
    let public = public(text);
    let is_public = |name: &&str| public.iter().any(|given| given == name);
    let seen = ["B", "D", "E", "F", "I", "g", "h"];
    let seen: Vec<_> = seen.iter().filter(|name| is_public(name)).collect();
    assert_eq!(seen, [&"B", &"D", &"E", &"F", &"I"]);
}

#[test]
fn files_import_from_lower_floors_only() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src");
    let (floors, given_out) = (floors(), given_out(&source));
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let (mut seen, mut seen_of_the_root) = (0, 0);
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
        let text = fs::read_to_string(&file).unwrap();
        let is_root = usize::from(!inside.ends_with("mod.rs"));
        let depth = inside.components().count() - 1 + is_root;
        assert!(
            !climbs_to_the_root(&text, depth),
            "{} names the root of the crate otherwise than as that",
            inside.display()
        );
        for import in imports(&text) {
            let of = if floors.contains_key(import.as_str()) {
                BTreeSet::from([import.clone()])
            } else {
                seen_of_the_root += 1;
                let of = given_out.get(&import).cloned();
                of.unwrap_or_else(|| {
                    panic!("{} imports {import}: whose is that?", inside.display())
                })
            };
            for owner in of {
                let below = &floors[owner.as_str()];
                // Floor 0 is one neighbourhood; above it, neighbours are closed to each other.
                let allowed = owner == module || below < floor || *floor == 0 && *below == 0;
                assert!(
                    allowed,
                    "{} (floor {floor}) imports {import} of {owner} (floor {below})",
                    inside.display()
                );
            }
            seen += 1;
        }
    }
    assert!(
        seen > 50 && seen_of_the_root > 50,
        "only {seen} imports were found, and {seen_of_the_root} of them of the root's own: does this test still read them?"
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
