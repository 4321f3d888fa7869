//! How a server says that it is ready, and when it ends.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;
use std::{process, thread};

/// Prints the line that tells a driver where the server listens and which processes it has, and
/// makes the process end with its standard input, or after `max`.
pub fn announce(address: SocketAddr, max: Duration) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "READY addr={address} pids={}", process::id())?;
    out.flush()?;
    thread::spawn(move || {
        thread::sleep(max);
        process::exit(0)
    });
    thread::spawn(|| {
        let mut ignored = [0; 64];
        while io::stdin().read(&mut ignored).is_ok_and(|read| read > 0) {}
        process::exit(0)
    });
    Ok(())
}
