//! The engine in virtual time.

use super::super::orders::Change;
use super::super::settings::{Blackout, Cut, Directions, Rate, Share};
use super::*;

fn nothing() -> Impairments {
    Impairments::default()
}

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// A path in virtual time, and the fates of packets that go up it at a steady pace.
struct Path {
    engine: Engine,
    now: Instant,
}

impl Path {
    fn new(impairments: Impairments, seed: u64) -> Self {
        let now = Instant::now();
        Self {
            engine: Engine::new(impairments, seed, now),
            now,
        }
    }

    fn up(&mut self, packets: usize, pace: Duration) -> Vec<Fate> {
        let mut fates = Vec::new();
        for _ in 0..packets {
            fates.push(self.engine.packet(self.now, Direction::Up, 1_200));
            self.now += pace;
        }
        fates
    }
}

fn arrival(fate: &Fate) -> Option<Duration> {
    match fate {
        Fate::Forwarded { after, .. } => Some(*after),
        Fate::Dropped(_) => None,
    }
}

#[test]
fn a_path_without_impairments_forwards_everything_at_once() {
    let fates = Path::new(nothing(), 1).up(1_000, millis(1));
    assert!(fates.iter().all(|fate| *fate
        == Fate::Forwarded {
            after: Duration::ZERO,
            corrupt: None,
            copy: None
        }));
}

#[test]
fn the_same_seed_and_order_give_the_same_fates_and_another_seed_others() {
    let everything = Impairments {
        delay: millis(50),
        jitter: millis(10),
        loss: Share::new(0.1),
        burst: Some(3.0),
        reorder: Share::new(0.1),
        duplicate: Share::new(0.1),
        corrupt: Share::new(0.1),
        rate: Rate::new(10_000_000),
        blackout: Blackout::new(millis(500), millis(2_000)),
        ..nothing()
    };
    let fates = |seed| Path::new(everything, seed).up(10_000, millis(1));
    assert_eq!(fates(5), fates(5));
    assert_ne!(fates(5), fates(6));
}

#[test]
fn what_is_drawn_does_not_depend_on_time_size_or_the_other_direction() {
    let drawn = Impairments {
        loss: Share::new(0.3),
        duplicate: Share::new(0.3),
        ..nothing()
    };
    let mut steady = Path::new(drawn, 9);
    let expected: Vec<(bool, bool)> = steady.up(2_000, millis(1)).iter().map(outline).collect();
    let mut hasty = Path::new(
        Impairments {
            queue: Some(usize::MAX),
            rate: Rate::new(1_000),
            ..drawn
        },
        9,
    );
    let seen: Vec<(bool, bool)> = (0..2_000)
        .map(|index| {
            hasty.engine.packet(hasty.now, Direction::Down, 50);
            outline(&hasty.engine.packet(hasty.now, Direction::Up, index % 1_500))
        })
        .collect();
    assert_eq!(seen, expected);
}

fn outline(fate: &Fate) -> (bool, bool) {
    (
        arrival(fate).is_some(),
        matches!(fate, Fate::Forwarded { copy: Some(_), .. }),
    )
}

#[test]
fn loss_keeps_to_its_share_and_its_bursts() {
    let fates = Path::new(
        Impairments {
            loss: Share::new(0.05),
            burst: Some(4.0),
            ..nothing()
        },
        3,
    )
    .up(200_000, millis(1));
    let lost: Vec<bool> = fates
        .iter()
        .map(|fate| *fate == Fate::Dropped(Cause::Loss))
        .collect();
    let count = lost.iter().filter(|&&lost| lost).count();
    let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
    assert!(
        (9_000..11_000).contains(&count),
        "{count} of 200,000 packets were lost"
    );
    let mean = count as f64 / bursts as f64;
    assert!((3.7..4.3).contains(&mean), "a burst has {mean} packets");
}

#[test]
fn jitter_spreads_the_delay_and_keeps_the_order() {
    let asked = Impairments {
        delay: millis(50),
        jitter: millis(10),
        ..nothing()
    };
    // A pace slower than the jitter leaves each packet its own delay.
    let alone: Vec<Duration> = Path::new(asked, 4)
        .up(10_000, millis(30))
        .iter()
        .filter_map(arrival)
        .collect();
    assert!(
        alone
            .iter()
            .all(|after| (millis(40)..=millis(60)).contains(after))
    );
    let mean = alone.iter().sum::<Duration>() / 10_000;
    assert!((millis(49)..millis(51)).contains(&mean), "{mean:?}");
    assert!(
        alone.iter().any(|after| *after < millis(41))
            && alone.iter().any(|after| *after > millis(59))
    );

    let close = Path::new(asked, 4).up(10_000, millis(1));
    let arrivals: Vec<Duration> = close
        .iter()
        .zip(0..)
        .filter_map(|(fate, sent)| Some(arrival(fate)? + millis(sent)))
        .collect();
    assert!(arrivals.is_sorted());
}

#[test]
fn jitter_above_the_delay_never_arrives_before_it_was_sent() {
    let fates = Path::new(
        Impairments {
            delay: millis(5),
            jitter: millis(50),
            ..nothing()
        },
        4,
    )
    .up(1_000, millis(200));
    let early = fates
        .iter()
        .filter(|fate| arrival(fate) == Some(Duration::ZERO))
        .count();
    assert!(
        (400..500).contains(&early),
        "{early} of 1,000 at once, 45 % expected"
    );
}

#[test]
fn reordered_packets_are_overtaken_by_those_behind() {
    let asked = Impairments {
        delay: millis(10),
        reorder: Share::new(0.01),
        ..nothing()
    };
    let mut path = Path::new(asked, 8);
    let fates = path.up(100_000, Duration::from_micros(100));
    let held: Vec<bool> = fates
        .iter()
        .map(|fate| arrival(fate) > Some(millis(10)))
        .collect();
    let count = held.iter().filter(|&&held| held).count();
    assert!((900..1_100).contains(&count), "{count}");
    assert_eq!(path.engine.counts(Direction::Up).reordered, count as u64);
    assert!(
        fates
            .iter()
            .zip(&held)
            .all(|(fate, held)| *held || arrival(fate) == Some(millis(10)))
    );
    assert!(
        fates
            .iter()
            .all(|fate| arrival(fate) <= Some(millis(10) + HOLD_MOST))
    );
}

#[test]
fn copies_follow_and_damage_is_one_bit_inside_the_packet() {
    let asked = Impairments {
        duplicate: Share::new(0.2),
        corrupt: Share::new(0.1),
        ..nothing()
    };
    let mut path = Path::new(asked, 8);
    let (mut copies, mut damaged) = (0, 0);
    let mut offsets = std::collections::BTreeSet::new();
    for fate in path.up(50_000, millis(5)) {
        let Fate::Forwarded {
            after,
            corrupt,
            copy,
        } = fate
        else {
            panic!("nothing is to be dropped: {fate:?}")
        };
        if let Some(copy) = copy {
            copies += 1;
            assert!(copy >= after && copy <= after + LAG);
        }
        if let Some(flip) = corrupt {
            damaged += 1;
            assert!(
                flip.offset < 1_200 && flip.mask.count_ones() == 1,
                "{flip:?}"
            );
            offsets.insert(flip.offset);
        }
    }
    assert!((9_500..10_500).contains(&copies), "{copies}");
    assert!((4_600..5_400).contains(&damaged), "{damaged}");
    assert!(
        offsets.len() > 1_100,
        "only {} places were damaged",
        offsets.len()
    );
    let counts = path.engine.counts(Direction::Up);
    assert_eq!((counts.duplicated, counts.corrupted), (copies, damaged));
    let mut everything = Path::new(
        Impairments {
            corrupt: Share::new(1.0),
            ..nothing()
        },
        1,
    );
    let empty = everything.engine.packet(everything.now, Direction::Up, 0);
    assert_eq!(
        empty,
        Fate::Forwarded {
            after: Duration::ZERO,
            corrupt: None,
            copy: None
        }
    );
}

#[test]
fn the_rate_is_kept_and_the_queue_drops_what_it_cannot_hold() {
    // 1,200 bytes each millisecond are 9.6 Mbit/s: twice what passes.
    let asked = Impairments {
        rate: Rate::new(4_800_000),
        queue: Some(60_000),
        ..nothing()
    };
    let mut path = Path::new(asked, 1);
    let fates = path.up(10_000, millis(1));
    let passed = fates.iter().filter(|fate| arrival(fate).is_some()).count();
    assert!(
        (5_000..=5_060).contains(&passed),
        "{passed} packets in 10 s, 5,000 and a queue of 50 expected"
    );
    assert_eq!(
        path.engine.counts(Direction::Up).queue_full,
        10_000 - passed as u64
    );
    let longest = fates.iter().filter_map(arrival).max();
    assert!(
        longest <= Some(millis(102)) && longest >= Some(millis(98)),
        "60 kB wait 100 ms, not {longest:?}"
    );
}

#[test]
fn cuts_drop_everything_while_they_last() {
    let asked = Impairments {
        cut: Some(Cut {
            after: millis(100),
            length: Some(millis(50)),
        }),
        ..nothing()
    };
    let mut path = Path::new(asked, 1);
    let dropped: Vec<usize> = path
        .up(300, millis(1))
        .iter()
        .enumerate()
        .filter(|(_, f)| arrival(f).is_none())
        .map(|(i, _)| i)
        .collect();
    assert_eq!(dropped, (100..150).collect::<Vec<_>>());
    assert!(!path.engine.is_cut(path.now, Direction::Up));

    path.engine.cut(Directions::Both);
    assert!(path.engine.is_cut(path.now, Direction::Down));
    assert_eq!(path.up(1, millis(1)), [Fate::Dropped(Cause::Cut)]);
    path.engine.cut(Directions::Down);
    assert!(path.engine.is_cut(path.now, Direction::Down));
    assert!(arrival(&path.up(1, millis(1))[0]).is_some());
    path.engine.heal();
    assert!(!path.engine.is_cut(path.now, Direction::Down));
    assert!(arrival(&path.up(1, millis(1))[0]).is_some());
    assert_eq!(path.engine.counts(Direction::Up).cut, 51);
}

#[test]
fn one_direction_can_be_spared() {
    let asked = Impairments {
        loss: Share::new(1.0),
        directions: Directions::Down,
        ..nothing()
    };
    let mut path = Path::new(asked, 1);
    assert!(
        path.up(100, millis(1))
            .iter()
            .all(|fate| arrival(fate) == Some(Duration::ZERO))
    );
    assert_eq!(
        path.engine.packet(path.now, Direction::Down, 100),
        Fate::Dropped(Cause::Loss)
    );
    // Cut by hand, a way is cut whichever way is impaired.
    path.engine.cut(Directions::Both);
    assert_eq!(path.up(1, millis(1)), [Fate::Dropped(Cause::Cut)]);
}

#[test]
fn a_change_holds_until_the_path_is_healed_and_leaves_the_rest_as_it_was() {
    let delayed = Impairments {
        delay: millis(50),
        ..nothing()
    };
    let mut path = Path::new(delayed, 1);
    path.engine.change(Change::Loss(Share::new(1.0), None));
    path.engine.change(Change::Jitter(millis(1)));
    assert!(
        path.up(100, millis(1))
            .iter()
            .all(|fate| arrival(fate).is_none())
    );
    path.engine.change(Change::Loss(Share::new(0.0), None));
    let arrivals: Vec<_> = path.up(100, millis(5)).iter().filter_map(arrival).collect();
    assert_eq!(arrivals.len(), 100);
    assert!(
        arrivals
            .iter()
            .all(|after| (49..=51).contains(&after.as_millis()))
    );
    assert!(arrivals.iter().any(|after| *after != millis(50)));
    path.engine.change(Change::Loss(Share::new(1.0), None));
    path.engine.heal();
    let arrivals: Vec<_> = path.up(100, millis(5)).iter().filter_map(arrival).collect();
    assert_eq!(arrivals, [millis(50); 100]);
}
