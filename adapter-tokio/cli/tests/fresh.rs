//! The checked-in generated code is what the schema generates.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::Path;

#[test]
fn the_generated_code_is_fresh() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checked_in = folder.join("src/messages/generated.rs");
    let expected = generate(folder);
    if std::env::var_os("TRUNKLINE_UPDATE").is_some() {
        fs::write(&checked_in, &expected).unwrap();
    }
    let found = fs::read_to_string(&checked_in).unwrap_or_default();
    assert!(
        found == expected,
        "src/messages/generated.rs is not what trunkline_cli.proto generates; to update it, run\n    \
         TRUNKLINE_UPDATE=1 cargo test -p trunkline-cli --test fresh"
    );
}

fn generate(folder: &Path) -> String {
    let schema = protox::compile(["trunkline_cli.proto"], [folder]).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    prost_build::Config::new()
        .bytes(["."])
        .enable_type_names()
        .out_dir(scratch.path())
        .compile_fds(schema)
        .unwrap();
    let code = fs::read_to_string(scratch.path().join("trunkline.cli.v1.rs")).unwrap();
    format!("// Generated from trunkline_cli.proto by tests/fresh.rs: do not edit.\n{code}")
}
