//! Sockets of several shards at one address.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::SockRef;

use super::socket::{bind, unbound};
use crate::Steering;

/// Binds a socket to that address for each shard, from the first to the last. Where the system can
/// choose among them as [`Steering::shard_of`] does (Linux), it is told to; otherwise it chooses by
/// the sender's address, or always the same one.
///
/// The address must be nobody else's. While the sockets exist, other processes of the same user can
/// join in if they ask for it (SO_REUSEPORT), as such systems have it.
pub fn bind_shards(address: SocketAddr, steering: &Steering) -> io::Result<Vec<UdpSocket>> {
    // Bound alone: another server at this address is an error, and not somebody to share with.
    let first = bind(address)?;
    share(&SockRef::from(&first))?;
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..steering.shards() {
        let socket = unbound(address)?;
        share(&SockRef::from(&socket))?;
        socket.bind(&address.into())?;
        sockets.push(socket.into());
    }
    if let Err(error) = steer(&sockets[0], steering) {
        tracing::info!(%error, "the kernel does not choose sockets: shards hand datagrams over");
    }
    Ok(sockets)
}

/// Lets other sockets be bound to the same address.
#[cfg(unix)]
fn share(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(not(unix))]
fn share(_: &SockRef<'_>) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "this system lets no several sockets share an address: have one shard",
    ))
}

/// Has the kernel choose among the sockets at this one's address.
#[cfg(target_os = "linux")]
fn steer(socket: &UdpSocket, steering: &Steering) -> io::Result<()> {
    use nix::libc::sock_fprog;
    use nix::sys::socket::{setsockopt, sockopt};

    let mut program = super::program::program(steering);
    let program = sock_fprog {
        // It has some 630 steps.
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    Ok(setsockopt(socket, sockopt::AttachReusePortCbpf, &program)?)
}

#[cfg(not(target_os = "linux"))]
fn steer(_: &UdpSocket, _: &Steering) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    use std::collections::BTreeSet;

    use super::*;
    use crate::PersistentKeys;

    fn steering() -> Steering {
        PersistentKeys::new([1; 32], [2; 32]).steering(3)
    }

    /// The socket that a datagram comes to.
    #[cfg(target_os = "linux")]
    fn receiver(sockets: &[UdpSocket]) -> usize {
        use std::os::fd::AsFd;

        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

        let readable = |socket| PollFd::new(AsFd::as_fd(socket), PollFlags::POLLIN);
        let mut waited: Vec<_> = sockets.iter().map(readable).collect();
        poll(&mut waited, PollTimeout::NONE).unwrap();
        let came = waited.iter().position(|fd| fd.any() == Some(true)).unwrap();
        sockets[came].recv(&mut [0; 100]).unwrap();
        came
    }

    #[test]
    fn an_address_is_bound_by_one_server_alone() {
        let sockets = bind_shards("127.0.0.1:0".parse().unwrap(), &steering()).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert_eq!(sockets.len(), 3);
        for socket in &sockets {
            assert_eq!(socket.local_addr().unwrap(), address);
        }
        let second = bind_shards(address, &steering()).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(sockets);
        bind_shards(address, &steering()).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_chooses_the_socket_by_the_connection_id() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(sockets) = bind_shards(address.parse().unwrap(), &steering()) else {
                assert!(address.starts_with('['), "there is no IPv6");
                continue;
            };
            // Other systems' kernels may not run the program; this one's must.
            steer(&sockets[0], &steering()).unwrap();
            let to = sockets[0].local_addr().unwrap();
            let mut seen = BTreeSet::new();
            for number in 0..40_u8 {
                // From another port each time.
                let from = UdpSocket::bind(SocketAddr::new(to.ip(), 0)).unwrap();
                let shard = u16::from(number) % 3;
                let id = steering().name(shard, [number; 8]);
                let short = [&[0x40], &id[..], &[0; 20]].concat();
                let long = [&[0xc0, 0, 0, 0, 1, 20], &id[..], &[7; 60]].concat();
                for datagram in [short, long] {
                    from.send_to(&datagram, to).unwrap();
                    assert_eq!(receiver(&sockets), usize::from(shard));
                }
                seen.insert(shard);
            }
            assert_eq!(seen.len(), 3);
        }
    }
}
