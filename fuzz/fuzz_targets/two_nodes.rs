#![no_main]

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use libfuzzer_sys::fuzz_target;
use trunkline_core::{Bug, plant};

fuzz_target!(
    init: {
        // To see that the target finds what is wrong: TRUNKLINE_PLANT names a planted bug.
        if let Ok(name) = std::env::var("TRUNKLINE_PLANT") {
            let bug = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name);
            plant(Some(bug.expect("TRUNKLINE_PLANT names no bug")));
        }
    },
    |data: &[u8]| {
        trunkline_testkit::fuzz::two_nodes(data);
    }
);
