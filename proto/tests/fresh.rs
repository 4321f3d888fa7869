//! The checked-in generated code is what the schema generates.

// Helpers of tests count as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn the_generated_code_is_fresh() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checked_in = folder.join("src/generated.rs");
    let expected = generate(folder);
    if std::env::var_os("TRUNKLINE_UPDATE").is_some() {
        fs::write(&checked_in, &expected).unwrap();
    }
    let found = fs::read_to_string(&checked_in).unwrap_or_default();
    assert!(
        found == expected,
        "src/generated.rs is not what trunkline.proto generates; to update it, run\n    \
         TRUNKLINE_UPDATE=1 cargo test -p trunkline-proto --test fresh"
    );
}

fn generate(folder: &Path) -> String {
    let schema = protox::compile(["trunkline.proto"], [folder]).unwrap();
    let output = Scratch::new();
    prost_build::Config::new()
        .bytes(["."])
        // These carry secrets: src/debug.rs shows them.
        .skip_debug([
            "trunkline.v1.Hello",
            "trunkline.v1.Resume",
            "trunkline.v1.Welcome",
        ])
        .out_dir(&output.0)
        .compile_fds(schema)
        .unwrap();
    let code = fs::read_to_string(output.0.join("trunkline.v1.rs")).unwrap();
    format!("// Generated from trunkline.proto by tests/fresh.rs: do not edit.\n{code}")
}

/// A folder of this process alone, gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fresh-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
