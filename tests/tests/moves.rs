//! A client whose address changes, whose process stops and whose path is cut, at random, while it
//! has much to say.

#![allow(clippy::unwrap_used, reason = "tests end by panicking")]

use std::time::Duration;

use trunkline_core::{Event, Message, Tag};
use trunkline_testkit::{Path, Random, World, echo};

const SECOND: Duration = Duration::from_secs(1);

/// One in some hundreds of these runs has the server go back to an address of the client's on whose
/// path it may send nothing, with a timer that is due there: 254, 328, 357 and 446 did.
#[test]
fn random_moves_pauses_and_cuts_cost_nothing() {
    for seed in 250..450 {
        let mut random = Random::new(seed);
        let mut up_to = |most: f64| random.fraction() * most;
        let mut world = World::new(seed);
        world.config().timeouts.retention = 600 * SECOND;
        let server = world.server();
        let client = world.client();
        let session = world.connect(client, server, "alice");
        world.run(SECOND, echo);
        world.path = Path {
            delay: SECOND.mul_f64(0.05 + up_to(0.4)),
            loss: 0.1 + up_to(0.2),
            burst: (up_to(1.0) < 0.5).then_some(3.0 + up_to(8.0)),
            jitter: SECOND.mul_f64(up_to(0.4)),
            reorder: up_to(0.3),
            ..Path::default()
        };
        let mut sent = 0_u32;
        for _ in 0..60 {
            match up_to(8.0) as u32 {
                0 => world.rebind(client),
                1 => {
                    world.pause(client);
                    world.run(SECOND.mul_f64(up_to(20.0)), echo);
                    world.wake(client);
                }
                2 => world.direction(server, client).cut = up_to(1.0) < 0.5,
                _ => {
                    let mut body = vec![0; 4 + up_to(20_000.0) as usize];
                    body[..4].copy_from_slice(&sent.to_be_bytes());
                    let now = world.now();
                    let message = Message::new(Tag::of("test.Said"), body);
                    world.node(client).send(now, session, message).unwrap();
                    sent += 1;
                }
            }
            world.run(SECOND.mul_f64(up_to(1.0)), echo);
        }
        world.path = Path::default();
        *world.direction(server, client) = Path::default();
        world.run(200 * SECOND, echo);
        let lost = |event: &Event| matches!(event, Event::SessionLost { .. });
        assert!(!world.log(client).iter().any(|(_, event)| lost(event)));
        let number = |body: &bytes::Bytes| u32::from_be_bytes(body[..4].try_into().unwrap());
        let got: Vec<_> = world.bodies(server).iter().map(number).collect();
        assert_eq!(got, (0..sent).collect::<Vec<_>>(), "seed {seed}");
    }
}

/// While the server still asks whether the client is at its new address, the client is back at the one
/// before: two paths to one address, and a loss timer that was set for the other one. Found by the
/// fuzzer of QUIC frames.
#[test]
fn a_client_that_goes_to_and_fro_is_answered_all_the_same() {
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let mut up_to = |most: f64| random.fraction() * most;
        let mut world = World::new(seed);
        let server = world.server();
        let client = world.client();
        let session = world.connect(client, server, "alice");
        world.run(SECOND, echo);
        world.path.delay = SECOND.mul_f64(0.005 + up_to(0.1));
        world.path.loss = up_to(0.2);
        let mut promises = Vec::new();
        for round in 0..40 {
            if round % 2 == 0 {
                world.rebind(client);
            } else {
                world.rebind_back(client);
            }
            for _ in 0..up_to(4.0) as u32 {
                let body = vec![b'?'; up_to(3_000.0) as usize];
                promises.push((world.request(client, session, &body), body.len()));
                world.run(SECOND.mul_f64(up_to(0.1)), echo);
            }
            world.run(SECOND.mul_f64(up_to(1.5)), echo);
        }
        world.run(60 * SECOND, echo);
        for (promise, length) in promises {
            let outcome = world.outcome(client, promise);
            let replied = outcome.is_some_and(|o| o == format!("Replied {}", "?".repeat(length)));
            assert!(replied, "seed {seed}");
        }
    }
}
