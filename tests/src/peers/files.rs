//! How many sockets a process may have.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the process's limit of open files as far as it may: a client that gives each of 2,000
/// connections a socket needs more than the usual 1,024. If it stays too low, opening the socket
/// that is one too many says so.
pub fn allow_many_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
