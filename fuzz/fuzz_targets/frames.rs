#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let target = trunkline_testkit::fuzz::target("frames");
    let used = allocation_counter::measure(|| {
        (target.body)(data);
    });
    assert!(used.bytes_max <= (target.memory)(data), "{used:?}");
});
