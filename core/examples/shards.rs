//! Nodes that share an address, each on a thread of its own: what a second one adds.
//!
//! ```text
//! cargo run --release -p trunkline-core --example shards
//! ```
//!
//! In memory, so that nothing but nodes is measured: each thread owns a shard of a server and the
//! client that talks to it. One thread works alone, then two at once, by turns. Nothing is shared
//! between them but the keys that they were made of, so that two do twice the work of one where there
//! are two cores to be had. How much work each did in a second of processor time tells even on a
//! machine that is busy.
//!
//! With sockets (feature `system`), `driver::system::bind_shards` binds one to the address for each shard, so that the kernel
//! gives each datagram to the right one where it can, and `Batches` receives and sends with them. What comes to another
//! one all the same goes to the shard that `Steering::shard_of` names: the wrong one would end its connection.

#![allow(
    clippy::disallowed_methods,
    reason = "whoever drives a node reads the clock for it"
)]

use std::error::Error;
use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use trunkline_core::{
    Admission, BytesMut, ClientRole, Config, Datagram, Dial, Event, Identity, Input, Message, Node,
    Origin, Outcome, PersistentKeys, Roots, Seed, ServerRole, SessionKey, Shard, Status,
    StatusCode, Tag,
};

type Failure = Box<dyn Error + Send + Sync>;

const SHARDS: u16 = 2;
const ROUNDS: usize = 7;
/// What each thread does in a round.
const REQUESTS: u64 = 200_000;
const IN_FLIGHT: u64 = 64;
const TAG: Tag = Tag::of("demo.Number");

/// What all shards are made of.
struct Plan {
    identity: Identity,
    roots: Roots,
    keys: PersistentKeys,
}

/// A shard and its client, which one thread owns.
struct Pair {
    shard: Node,
    client: Node,
    session: SessionKey,
    buffer: Vec<u8>,
    replies: u64,
}

impl Pair {
    fn new(plan: &Plan, number: u16) -> Result<Self, Failure> {
        let now = Instant::now();
        let origin = |keys| -> Result<Origin, Failure> {
            let mut seed = [0; 32];
            aws_lc_rs::rand::fill(&mut seed)?;
            let seed = Seed::new(seed);
            Ok(Origin {
                keys,
                ..Origin::new(now, SystemTime::now(), seed)
            })
        };
        let server = ServerRole::new(plan.identity.clone(), Admission::Open);
        let client = ClientRole::new(plan.roots.clone());
        let mut config = Config::default();
        config.shard = Shard { number, of: SHARDS };
        let shard = Node::new(config, server.into(), origin(Some(plan.keys.clone()))?)?;
        let mut client = Node::new(Config::default(), client.into(), origin(None)?)?;
        let dial = Dial::new("192.0.2.1:4433".parse()?, "localhost", "anna".parse()?);
        let session = client.connect(now, dial)?;
        Ok(Self {
            shard,
            client,
            session,
            buffer: Vec::new(),
            replies: 0,
        })
    }

    fn ask(&mut self, now: Instant) -> Result<(), Failure> {
        let question = Message::new(TAG, vec![7; 128]);
        self.client.request(now, self.session, question, None)?;
        Ok(())
    }

    /// Carries everything that there is to the other side, and follows what comes of it. `wanted`:
    /// how many requests there are to be in all.
    fn turn(&mut self, wanted: u64) -> Result<(), Failure> {
        let now = Instant::now();
        let Self {
            shard,
            client,
            buffer,
            ..
        } = self;
        carry(now, client, shard, "192.0.2.2:5555", buffer)?;
        while let Some(event) = shard.poll_event() {
            if let Event::Message(request) = event {
                let replied = shard.reply(now, request.key, TAG, request.body);
                if let Err(error) = replied {
                    // It is owed still.
                    let status = Status::new(StatusCode::INTERNAL, error.to_string());
                    shard.reject(now, request.key, status)?;
                }
            }
        }
        carry(now, shard, client, "192.0.2.1:4433", buffer)?;
        let mut replies = 0;
        while let Some(event) = client.poll_event() {
            match event {
                Event::Settled {
                    outcome: Outcome::Replied { .. },
                    ..
                } => replies += 1,
                Event::Settled { outcome, .. } => return Err(format!("{outcome:?}").into()),
                _ => {}
            }
        }
        for node in [shard, client] {
            if node.poll_timeout().is_some_and(|due| due <= now) {
                node.handle_input(now, Input::Timeout);
            }
        }
        self.replies += replies;
        let asked = self.replies + IN_FLIGHT - replies;
        for _ in asked..(self.replies + IN_FLIGHT).min(wanted) {
            self.ask(now)?;
        }
        Ok(())
    }

    /// Goes on until so many replies have come.
    fn work(&mut self, requests: u64) -> Result<(), Failure> {
        self.replies = 0;
        for _ in 0..IN_FLIGHT.min(requests) {
            self.ask(Instant::now())?;
        }
        while self.replies < requests {
            self.turn(requests)?;
        }
        Ok(())
    }
}

fn carry(
    now: Instant,
    from: &mut Node,
    to: &mut Node,
    source: &str,
    buffer: &mut Vec<u8>,
) -> Result<(), Failure> {
    let remote = source.parse()?;
    while from.poll_transmit(now, NonZeroUsize::MIN, buffer).is_some() {
        let datagram = Datagram::new(remote, BytesMut::from(&buffer[..]));
        buffer.clear();
        to.handle_input(now, Input::Datagram(datagram));
    }
    Ok(())
}

/// What a round took: by the clock on the wall, and of processor time in all.
struct Took {
    wall: Duration,
    processor: Duration,
}

/// Has so many shards at work at once.
fn round(plan: &Plan, shards: u16) -> Result<Took, Failure> {
    let ready = Barrier::new(usize::from(shards) + 1);
    let work = |number| -> Result<Duration, Failure> {
        let pair = Pair::new(plan, number).and_then(|mut pair| {
            // The handshake, and the first replies.
            pair.work(IN_FLIGHT).map(|()| pair)
        });
        ready.wait();
        let start = processor_time()?;
        pair?.work(REQUESTS)?;
        Ok(processor_time()?.saturating_sub(start))
    };
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..shards)
            .map(|number| scope.spawn(move || work(number)))
            .collect();
        ready.wait();
        let start = Instant::now();
        let mut processor = Duration::ZERO;
        for thread in threads {
            processor += thread.join().map_err(|_| "a shard panicked")??;
        }
        Ok(Took {
            wall: start.elapsed(),
            processor,
        })
    })
}

/// What this thread has used of a processor.
#[cfg(unix)]
fn processor_time() -> Result<Duration, Failure> {
    use nix::time::{ClockId, clock_gettime};
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

#[cfg(not(unix))]
fn processor_time() -> Result<Duration, Failure> {
    Err("only Unix tells a thread's processor time here".into())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> Result<(), Failure> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["localhost".into()])?.self_signed(&key)?;
    let (certificate, key) = (certificate.pem(), key.serialize_pem());
    let (mut reset, mut token) = ([0; 32], [0; 32]);
    aws_lc_rs::rand::fill(&mut reset)?;
    aws_lc_rs::rand::fill(&mut token)?;
    let plan = Plan {
        identity: Identity::from_pem(certificate.as_bytes(), key.as_bytes(), "the server")?,
        roots: Roots::from_pem(certificate.as_bytes(), "the roots")?,
        keys: PersistentKeys::new(reset, token),
    };

    let (mut by_wall, mut by_processor) = (Vec::new(), Vec::new());
    for number in 1..=ROUNDS {
        let one = round(&plan, 1)?;
        let two = round(&plan, SHARDS)?;
        let rate = |took: Duration, shards: u16| {
            (REQUESTS * u64::from(shards)) as f64 / took.as_secs_f64()
        };
        let (alone, both) = (rate(one.wall, 1), rate(two.wall, SHARDS));
        by_wall.push(both / alone);
        by_processor.push(rate(two.processor, SHARDS) / rate(one.processor, 1));
        println!("round {number}: one shard {alone:.0} requests/s, two {both:.0} requests/s");
    }
    println!(
        "two shards do {:.2} times the work of one, at {:.2} times the work in a second of processor time \
         (medians of {ROUNDS} rounds)",
        median(by_wall),
        median(by_processor)
    );
    Ok(())
}
