//! `endurance`: what many connections, losses, restarts and a long time do to a server, over real
//! sockets, in processes of their own.

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
    eprintln!("endurance measures by what Linux shows in /proc: run it there");
    std::process::ExitCode::FAILURE
}
