//! Says what this crate was built with, for the headers of traces: a replay on another build says
//! so before it says anything else.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = env::var("TARGET").unwrap_or_else(|_| "unknown".into());
    println!("cargo::rustc-env=TRUNKLINE_BUILD_TARGET={target}");
    println!("cargo::rustc-env=TRUNKLINE_BUILD_RUSTC={}", compiler());
    println!("cargo::rustc-env=TRUNKLINE_BUILD_LOCK={}", lock());
}

fn compiler() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().ok();
    let version = output.and_then(|output| String::from_utf8(output.stdout).ok());
    version.map_or_else(|| "unknown".into(), |version| version.trim().to_owned())
}

/// The FNV-1a hash of the Cargo.lock that decides the dependencies: the one of the program that
/// this crate is built into. Cargo tells no build script where that is; it is found beside the
/// target directory, unless that was moved, or, in this workspace itself, above the package.
fn lock() -> String {
    let starts = ["OUT_DIR", "CARGO_MANIFEST_DIR"].map(env::var_os);
    let found = starts
        .into_iter()
        .flatten()
        .find_map(|start| above(Path::new(&start)));
    let Some(path) = found else {
        return "unknown".into();
    };
    println!("cargo::rerun-if-changed={}", path.display());
    let Ok(text) = fs::read(path) else {
        return "unknown".into();
    };
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

fn above(start: &Path) -> Option<PathBuf> {
    start
        .ancestors()
        .map(|folder| folder.join("Cargo.lock"))
        .find(|path| path.is_file())
}
