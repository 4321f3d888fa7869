//! What sends with a socket, and stays fit for it when an address leaves the machine.

use std::io;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};

use super::batches::Sending;

/// So many addresses are known to have left; each has cost a state, whose making takes a dozen system calls.
const GONE_MAX: usize = 16;

/// Sends with a socket. After one refusal for an invalid argument, a state leaves congestion marks out of all that it
/// sends to IPv4, for good: it takes the system for one that knows none. When it was the address that the datagram was
/// to come from, another state goes on for all other addresses.
pub(super) struct Sender(RwLock<States>);

struct States {
    sound: UdpSocketState,
    /// What sends from addresses that have left: they may come back.
    other: Option<UdpSocketState>,
    gone: Vec<IpAddr>,
}

impl Sender {
    pub(super) fn new(state: UdpSocketState) -> Self {
        Self(RwLock::new(States {
            sound: state,
            other: None,
            gone: Vec::new(),
        }))
    }

    /// What receives with the socket, which any state does.
    pub(super) fn receiver(&mut self) -> &UdpSocketState {
        let states = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        &states.sound
    }

    fn states(&self) -> RwLockReadGuard<'_, States> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn try_send(
        &self,
        datagrams: &Transmit<'_>,
        attempt: &mut dyn FnMut(&mut Sending<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let states = self.states();
        let state = match (&states.other, datagrams.src_ip) {
            (Some(other), Some(ip)) if states.gone.contains(&ip) => other,
            _ => &states.sound,
        };
        attempt(&mut |socket| state.try_send(socket, datagrams))
    }

    /// The system refuses to send from that address: it has left the machine, perhaps.
    pub(super) fn has_left(
        &self,
        ip: IpAddr,
        attempt: &mut dyn FnMut(&mut Sending<'_>) -> io::Result<()>,
    ) {
        let states = self.states();
        if states.gone.contains(&ip) || states.gone.len() >= GONE_MAX {
            return;
        }
        drop(states);
        let mut fresh = None;
        let made = attempt(&mut |socket: UdpSockRef<'_>| {
            fresh = Some(UdpSocketState::new(socket)?);
            Ok(())
        });
        if let (Ok(()), Some(fresh)) = (made, fresh) {
            let mut states = self.0.write().unwrap_or_else(PoisonError::into_inner);
            let refused = std::mem::replace(&mut states.sound, fresh);
            states.other = Some(refused);
            states.gone.push(ip);
        }
    }
}
