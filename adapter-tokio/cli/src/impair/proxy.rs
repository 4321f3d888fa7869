//! The proxy: moves packets between its clients and the server as the engine decides.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::delay_line::DelayLine;
use super::engine::{Engine, Fate, Flip};
use super::orders;
use super::settings::{Direction, Directions, Impairments};
use super::summary::{ClientCounts, Summary, Traffic};
use super::upstream::{Answer, Clients, DATAGRAM_MAX, open_socket, pause_after};

/// What may be under way: 64 MiB hold what 1 Gbit/s sends in half a second.
const HELD_BYTES: usize = 64 << 20;
const HELD_PACKETS: usize = 100_000;
/// Answers read from the server's side and not yet looked at.
const ANSWERS: usize = 1_024;
/// Packets that are read in a row before those that are due are sent.
const BUDGET: usize = 64;
/// Idle clients are looked for at least that often.
const SWEEP: Duration = Duration::from_secs(5);

/// Where a proxy stands and what it does.
#[derive(Clone, Debug)]
pub(crate) struct ProxySettings {
    /// Where its clients find it; port 0 takes a free one.
    pub(crate) listen: SocketAddr,
    /// The server behind it.
    pub(crate) to: SocketAddr,
    /// What it does to packets.
    pub(crate) impairments: Impairments,
    /// The same seed and order of packets give the same decisions.
    pub(crate) seed: u64,
    /// How often each client gets a new port towards the server.
    pub(crate) rebind_every: Option<Duration>,
    /// How many clients there may be at a time; packets of others are dropped.
    pub(crate) clients: usize,
    /// When a silent client is forgotten.
    pub(crate) idle: Duration,
}

/// A running proxy; dropping this ends it.
#[derive(Debug)]
pub(crate) struct Handle {
    address: SocketAddr,
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
struct Order {
    what: What,
    done: oneshot::Sender<Summary>,
}

#[derive(Debug)]
enum What {
    Obey(orders::Order),
    Report,
    Stop,
}

impl Handle {
    /// Starts a proxy as a task of this runtime. It listens when this returns.
    pub(crate) fn start(settings: ProxySettings) -> io::Result<Self> {
        let listener = open_socket(settings.listen)?;
        let address = listener.local_addr()?;
        let (orders, received) = mpsc::channel(8);
        tokio::spawn(Proxy::new(settings, listener, address, received).run());
        Ok(Self { address, orders })
    }

    /// Where the proxy's clients find it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts these ways, and no others; they are cut when this returns. What is under way still
    /// arrives.
    pub(crate) async fn cut(&self, ways: Directions) -> io::Result<Summary> {
        self.obey(orders::Order::Cut(ways)).await
    }

    /// Ends what [`Handle::cut`] began, and undoes what else was ordered.
    pub(crate) async fn heal(&self) -> io::Result<Summary> {
        self.obey(orders::Order::Heal).await
    }

    /// Carries an order out; it is when this returns. What is under way still arrives.
    pub(crate) async fn obey(&self, order: orders::Order) -> io::Result<Summary> {
        self.order(What::Obey(order)).await
    }

    /// What the proxy has done so far.
    pub(crate) async fn report(&self) -> io::Result<Summary> {
        self.order(What::Report).await
    }

    /// Ends the proxy. What is under way is lost.
    pub(crate) async fn stop(self) -> io::Result<Summary> {
        self.order(What::Stop).await
    }

    async fn order(&self, what: What) -> io::Result<Summary> {
        let gone = || io::Error::other("the proxy has ended");
        let (done, summary) = oneshot::channel();
        self.orders
            .send(Order { what, done })
            .await
            .map_err(|_| gone())?;
        summary.await.map_err(|_| gone())
    }
}

/// A packet under way.
#[derive(Debug)]
struct Packet {
    direction: Direction,
    client: SocketAddr,
    data: Bytes,
}

struct Proxy {
    listener: UdpSocket,
    orders: mpsc::Receiver<Order>,
    answers: mpsc::Receiver<Answer>,
    engine: Engine,
    clients: Clients,
    under_way: DelayLine<Packet>,
    rebind_every: Option<Duration>,
    next_rebind: Option<Instant>,
    sweep_every: Duration,
    next_sweep: Instant,
    start: Instant,
    summary: Summary,
}

impl Proxy {
    fn new(
        settings: ProxySettings,
        listener: UdpSocket,
        listen: SocketAddr,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        let ProxySettings {
            to,
            impairments,
            seed,
            rebind_every,
            clients,
            idle,
            ..
        } = settings;
        let start = Instant::now();
        let sweep_every = idle.clamp(Duration::from_millis(10), SWEEP);
        let (sender, answers) = mpsc::channel(ANSWERS);
        Self {
            listener,
            orders,
            answers,
            engine: Engine::new(impairments, seed, start.into_std()),
            clients: Clients::new(to, clients, idle, sender),
            under_way: DelayLine::new(HELD_PACKETS, HELD_BYTES),
            rebind_every,
            next_rebind: rebind_every.map(|every| start + every),
            sweep_every,
            next_sweep: start + sweep_every,
            start,
            summary: Summary {
                listen,
                to,
                seed,
                seconds: 0.0,
                cut_now: false,
                clients: ClientCounts::default(),
                rebinds: 0,
                up: Traffic::default(),
                down: Traffic::default(),
            },
        }
    }

    /// Runs until told to stop, or until the handle is gone.
    async fn run(mut self) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            let now = Instant::now();
            self.do_what_is_due(now).await;
            let next_due = self.next_due();
            tokio::select! {
                order = self.orders.recv() => match order {
                    None => return,
                    Some(Order { what: What::Stop, done }) => {
                        let _ = done.send(self.report());
                        return;
                    }
                    Some(order) => self.obey(order).await,
                },
                Some(answer) = self.answers.recv() => self.take_answers(answer),
                received = self.listener.recv_from(&mut buffer) => match received {
                    Ok((length, client)) => self.take_from_clients(&mut buffer, length, client).await,
                    Err(error) => pause_after(&error).await,
                },
                () = tokio::time::sleep_until(next_due) => {}
            }
        }
    }

    fn next_due(&self) -> Instant {
        [self.under_way.next(), self.next_rebind]
            .into_iter()
            .flatten()
            .fold(self.next_sweep, Instant::min)
    }

    async fn do_what_is_due(&mut self, now: Instant) {
        while let Some(packet) = self.under_way.pop_due(now) {
            self.deliver(packet).await;
        }
        if let (Some(due), Some(every)) = (self.next_rebind, self.rebind_every)
            && due <= now
        {
            self.next_rebind = Some(due.max(now - every) + every);
            self.rebind().await;
        }
        if self.next_sweep <= now {
            self.next_sweep = now + self.sweep_every;
            self.summary.clients.expired += self.clients.expire(now) as u64;
        }
    }

    async fn obey(&mut self, order: Order) {
        if let What::Obey(order) = order.what {
            match order {
                orders::Order::Cut(ways) => self.engine.cut(ways),
                orders::Order::Impair(change) => self.engine.change(change),
                orders::Order::Rebind => self.rebind().await,
                orders::Order::Heal => self.engine.heal(),
            }
        }
        // Whoever gave the order may have stopped waiting.
        let _ = order.done.send(self.report());
    }

    async fn rebind(&mut self) {
        match self.clients.rebind().await {
            Ok(()) => self.summary.rebinds += 1,
            Err(error) => tracing::warn!(%error, "the proxy cannot open new sockets"),
        }
    }

    /// Takes what a client sent, and what else is there already.
    async fn take_from_clients(&mut self, buffer: &mut [u8], length: usize, client: SocketAddr) {
        let mut received = (length, client);
        for left in (0..BUDGET).rev() {
            let (length, client) = received;
            self.take_from_client(client, Bytes::copy_from_slice(&buffer[..length]))
                .await;
            if left == 0 {
                return;
            }
            match self.listener.try_recv_from(buffer) {
                Ok(next) => received = next,
                Err(_) => return,
            }
        }
    }

    async fn take_from_client(&mut self, client: SocketAddr, data: Bytes) {
        match self.clients.heard(client, Instant::now()).await {
            Ok(new) => self.summary.clients.seen += u64::from(new),
            Err(error) => {
                self.summary.clients.refused_packets += 1;
                tracing::debug!(%client, %error, "the proxy refuses a client");
                return;
            }
        }
        self.take(Packet {
            direction: Direction::Up,
            client,
            data,
        });
    }

    /// Takes what the server sent, and what else is there already.
    fn take_answers(&mut self, first: Answer) {
        let mut next = Some(first);
        for left in (0..BUDGET).rev() {
            let Some((client, data)) = next.take() else {
                return;
            };
            self.take(Packet {
                direction: Direction::Down,
                client,
                data,
            });
            if left > 0 {
                next = self.answers.try_recv().ok();
            }
        }
    }

    /// Lets the engine decide, and puts what is to arrive on its way.
    fn take(&mut self, packet: Packet) {
        let now = Instant::now();
        let Fate::Forwarded {
            after,
            corrupt,
            copy,
        } = self
            .engine
            .packet(now.into_std(), packet.direction, packet.data.len())
        else {
            return;
        };
        let Packet {
            direction,
            client,
            data,
        } = packet;
        let second = copy.map(|after| (after, data.clone()));
        let first = (
            after,
            corrupt.map_or_else(|| data.clone(), |flip| damaged(&data, flip)),
        );
        for (after, data) in [Some(first), second].into_iter().flatten() {
            let size = data.len();
            if !self.under_way.push(
                now + after,
                size,
                Packet {
                    direction,
                    client,
                    data,
                },
            ) {
                self.traffic(direction).overflowed += 1;
            }
        }
    }

    async fn deliver(&mut self, packet: Packet) {
        let Packet {
            direction,
            client,
            data,
        } = packet;
        let sent = match direction {
            Direction::Up => match self.clients.upstream_of(client) {
                Some(upstream) => send_up(&upstream, &data).await,
                None => return,
            },
            Direction::Down => self.listener.send_to(&data, client).await,
        };
        let traffic = self.traffic(direction);
        match sent {
            Ok(_) => traffic.delivered += 1,
            Err(error) => {
                traffic.unsendable += 1;
                tracing::debug!(%client, ?direction, %error, "a packet cannot be sent on");
            }
        }
    }

    fn traffic(&mut self, direction: Direction) -> &mut Traffic {
        match direction {
            Direction::Up => &mut self.summary.up,
            Direction::Down => &mut self.summary.down,
        }
    }

    fn report(&mut self) -> Summary {
        let now = Instant::now();
        let instant = now.into_std();
        self.summary.seconds = now.saturating_duration_since(self.start).as_secs_f64();
        self.summary.cut_now = self.engine.is_cut(instant, Direction::Up)
            || self.engine.is_cut(instant, Direction::Down);
        self.summary.clients.active = self.clients.len() as u64;
        self.summary.up.counts = self.engine.counts(Direction::Up);
        self.summary.down.counts = self.engine.counts(Direction::Down);
        self.summary.clone()
    }
}

/// Sends once more if the first attempt only told that an earlier packet found nobody: that one's
/// error is reported in place of sending this one.
async fn send_up(upstream: &UdpSocket, data: &[u8]) -> io::Result<usize> {
    match upstream.send(data).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => upstream.send(data).await,
        sent => sent,
    }
}

/// The packet with that bit flipped.
fn damaged(data: &Bytes, flip: Flip) -> Bytes {
    let mut copy = BytesMut::from(&data[..]);
    if let Some(byte) = copy.get_mut(flip.offset) {
        *byte ^= flip.mask;
    }
    copy.freeze()
}

#[cfg(test)]
mod tests;
