//! Ports that nobody else is given: for servers that come back, for several sockets at one address, and where nobody is
//! to be found.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// Systems give higher ports to sockets that want any, Linux those from 32,768 on: nobody is given one
/// of these between two that use it.
const FIRST: u16 = 10_000;
/// How many a process has to itself, and how many processes may run tests at a time.
const EACH: u16 = 20;
const PROCESSES: u16 = 1_100;

/// An address of this machine that nobody uses, nor will unless it is told to.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = std::process::id() % u32::from(PROCESSES);
    let own = FIRST + EACH * process as u16;
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(number < EACH, "the tests of a process want more ports");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, own + number));
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}
