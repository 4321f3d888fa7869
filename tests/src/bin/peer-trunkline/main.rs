//! `peer-trunkline`: the benchmark peer on the tokio adapter, as an ordinary service uses it. Typed
//! messages, handlers, and one future for each message; nothing is batched by hand.

#[cfg(target_os = "linux")]
mod program;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    program::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("peer-trunkline measures by what Linux shows in /proc: run it there");
    std::process::ExitCode::FAILURE
}
