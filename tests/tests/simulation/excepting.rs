//! Broadcasts to all but one: who says something in a room does not want it back.

use trunkline_core::{Audience, CommandError, GroupName};
use trunkline_testkit::{World, echo};

use crate::{SECOND, message};

/// Who is excepted does not count either: not as queued, and not as away.
#[test]
fn a_broadcast_goes_to_all_but_whom_it_excepts() {
    let mut world = World::new(9);
    world.config().heartbeat.interval = SECOND / 4;
    let server = world.server();
    let clients: Vec<_> = (0..4).map(|_| world.client()).collect();
    for (n, client) in clients.iter().enumerate() {
        world.connect(*client, server, &format!("client-{n}"));
    }
    world.run(SECOND, echo);
    let mut sessions: Vec<_> = world.node(server).sessions().collect();
    sessions.sort_by(|one, other| one.client.cmp(&other.client));
    let [anna, ben, outside, away] = [0, 1, 2, 3].map(|n| sessions[n].session);
    let group = GroupName::new("room").unwrap();
    let now = world.now();
    for member in [anna, ben, away] {
        world.node(server).join(now, member, &group).unwrap();
    }
    world.direction(clients[3], server).cut = true;
    world.run(5 * SECOND, echo);
    let now = world.now();
    // As one that has been there before, in the same place.
    let mut gone = anna;
    gone.0.generation += 1;
    assert!(world.node(server).session_info(gone).is_none());
    let room = Audience::Group(group);
    let nobody = Audience::Group(GroupName::new("nobody").unwrap());
    let everyone = Audience::Everyone;
    let mut heard = [vec![], vec![], vec![]];
    let cases = [
        (&everyone, anna, (2, 1), &[1, 2][..]),
        (&everyone, away, (3, 0), &[0, 1, 2]),
        (&everyone, gone, (3, 1), &[0, 1, 2]),
        (&room, ben, (1, 1), &[0]),
        (&room, away, (2, 0), &[0, 1]),
        (&room, outside, (2, 1), &[0, 1]),
        (&room, gone, (2, 1), &[0, 1]),
        (&nobody, anna, (0, 0), &[]),
    ];
    for (number, (audience, except, counts, hearers)) in cases.into_iter().enumerate() {
        let number = number as u8;
        let sent = world
            .node(server)
            .broadcast_except(now, audience, except, message(vec![number]), None)
            .unwrap();
        assert_eq!((sent.queued, sent.away), counts, "{number}");
        assert_eq!(sent.dropped, 0, "{number}");
        for hearer in hearers {
            heard[*hearer].push(number);
        }
    }
    world.run(SECOND, echo);
    for (client, heard) in clients.iter().zip(heard) {
        let got: Vec<_> = world.bodies(*client).iter().map(|b| b[0]).collect();
        assert_eq!(got, heard);
    }
    let now = world.now();
    let metrics = world.node(server).metrics(now);
    assert_eq!((metrics.broadcasts, metrics.best_effort_sent), (8, 15));
    assert_eq!(metrics.best_effort_away, 5);
}

#[test]
fn a_broadcast_that_nobody_could_take_comes_back_whoever_is_excepted() {
    let (mut world, server, client) = World::pair(1);
    world.connect(client, server, "alice");
    world.run(SECOND, echo);
    let only = world.node(server).sessions().next().unwrap().session;
    let now = world.now();
    let body = vec![0; 2 << 20];
    let sent = world.node(server).broadcast_except(
        now,
        &Audience::Everyone,
        only,
        message(body.clone()),
        None,
    );
    let refused = sent.unwrap_err();
    assert!(matches!(refused.error, CommandError::TooLarge { .. }));
    assert_eq!(refused.message.body, body);
}
