//! What sends with a socket, and stays fit for it when an address leaves the machine.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};

use super::batches::Sending;

/// So many addresses are known to have left, the latest; each has cost a state, whose making takes a dozen system calls.
const GONE_MAX: usize = 16;
/// Once there are so many, one refusal of another one in so many takes that up.
const SELDOM: u32 = 256;

/// Sends with a socket. After one refusal for an invalid argument, a state leaves congestion marks out of all that it
/// sends to IPv4, for good: it takes the system for one that knows none. When it was the address that the datagram was
/// to come from, another state goes on for all other addresses.
pub(super) struct Sender {
    states: RwLock<States>,
    /// Of addresses that are not taken up, for too many are known.
    refusals: AtomicU32,
}

struct States {
    sound: UdpSocketState,
    /// What sends from addresses that have left: they may come back.
    other: Option<UdpSocketState>,
    gone: VecDeque<IpAddr>,
}

impl Sender {
    pub(super) fn new(state: UdpSocketState) -> Self {
        Self {
            states: RwLock::new(States {
                sound: state,
                other: None,
                gone: VecDeque::new(),
            }),
            refusals: AtomicU32::new(0),
        }
    }

    /// What receives with the socket, which any state does.
    pub(super) fn receiver(&mut self) -> &UdpSocketState {
        let states = self
            .states
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        &states.sound
    }

    fn states(&self) -> RwLockReadGuard<'_, States> {
        self.states.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn try_send(
        &self,
        datagrams: &Transmit<'_>,
        attempt: &mut dyn FnMut(&mut Sending<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let states = self.states();
        let left = datagrams.src_ip.filter(|ip| states.gone.contains(ip));
        let state = match (&states.other, left) {
            (Some(other), Some(_)) => other,
            _ => &states.sound,
        };
        let sent = attempt(&mut |socket| state.try_send(socket, datagrams));
        drop(states);
        if let (Ok(()), Some(back)) = (&sent, left) {
            let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
            states.gone.retain(|ip| *ip != back);
        }
        sent
    }

    /// The system refuses to send from that address: it has left the machine, perhaps.
    pub(super) fn has_left(
        &self,
        ip: IpAddr,
        attempt: &mut dyn FnMut(&mut Sending<'_>) -> io::Result<()>,
    ) {
        let states = self.states();
        if states.gone.contains(&ip) {
            return;
        }
        if states.gone.len() >= GONE_MAX {
            let before = self.refusals.fetch_add(1, Ordering::Relaxed);
            if before % SELDOM != SELDOM - 1 {
                return;
            }
        }
        drop(states);
        let mut fresh = None;
        let made = attempt(&mut |socket: UdpSockRef<'_>| {
            fresh = Some(UdpSocketState::new(socket)?);
            Ok(())
        });
        if let (Ok(()), Some(fresh)) = (made, fresh) {
            let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
            let refused = std::mem::replace(&mut states.sound, fresh);
            states.other = Some(refused);
            states.gone.push_back(ip);
            if states.gone.len() > GONE_MAX {
                states.gone.pop_front();
            }
        }
    }
}
