//! `peer-trunkline-core`: the benchmark peer on the bare state machine, as somebody with an event
//! loop of their own embeds it: nodes, UDP sockets and one thread.

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
    eprintln!("peer-trunkline-core measures by what Linux shows in /proc: run it there");
    std::process::ExitCode::FAILURE
}
