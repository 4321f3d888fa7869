//! What happens in a run, from an input's bytes and, for a first corpus, into them.

use std::time::Duration;

use trunkline_core::CloseCode;

use crate::Path;
use crate::swarm::{Action, Kind, Step};

use super::input::Input;

pub(super) const SERVER: usize = 0;
pub(super) const CLIENT: usize = 1;

/// More steps than this are left out, as are more dials.
const STEPS_MAX: usize = 64;
const DIALS_MAX: usize = 6;
/// No step comes later.
const LENGTH_MAX: Duration = Duration::from_secs(25);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// How long nothing happens. The first is so short that nothing of a conversation fits into it.
const WAITS: [u64; 16] = [
    0, 1, 3, 5, 6, 11, 20, 26, 50, 101, 250, 600, 1_500, 4_000, 9_000, 20_000,
];
const TIMEOUTS: [Option<u64>; 5] = [None, Some(u64::MAX), Some(20), Some(1_000), Some(10_000)];
const SIZES: [usize; 8] = [1_000, 1_500, 3_000, 5_000, 20_000, 30_000, 66_000, 100_000];
/// Messages of this size come one at a time.
const LARGE: usize = 4_000;
/// How many transmits a socket takes at a visit.
const TAKES: [Option<usize>; 4] = [Some(0), None, Some(1), Some(3)];
/// What every configuration takes as best effort.
const BEST_EFFORT_MAX: usize = 4_000;
const DELAYS: [u64; 6] = [0, 1, 5, 40, 200, 700];

/// The kinds of steps, by the low bits of their first byte. The node is its highest bit; a kind that
/// is not there is a send. So a new one changes what those checked-in inputs mean that have a send under
/// its number: they have to become sends by `SEND` first.
mod kind {
    pub(super) const WAIT: u8 = 0;
    pub(super) const CONNECT: u8 = 1;
    pub(super) const SEND: u8 = 2;
    pub(super) const BEST_EFFORT: u8 = 3;
    pub(super) const BROADCAST: u8 = 4;
    pub(super) const GROUP: u8 = 5;
    pub(super) const CANCEL: u8 = 6;
    pub(super) const ANSWER: u8 = 7;
    pub(super) const HOLD: u8 = 8;
    pub(super) const CLOSE: u8 = 9;
    pub(super) const DRAIN: u8 = 10;
    pub(super) const REDIRECT: u8 = 11;
    pub(super) const NETWORK: u8 = 12;
    pub(super) const CUT: u8 = 13;
    pub(super) const REBIND: u8 = 14;
    pub(super) const KILL: u8 = 15;
    pub(super) const START: u8 = 16;
    pub(super) const PAUSE: u8 = 17;
    pub(super) const LAG: u8 = 18;
    pub(super) const SEND_BUFFER: u8 = 19;
}

/// Reads steps to the input's end.
pub(super) fn decode(input: &mut Input<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = Duration::ZERO;
    let mut dials = 0;
    let connect = Action::Connect {
        client: CLIENT,
        server: SERVER,
    };
    // Nothing can be said before.
    steps.push(Step {
        at,
        action: connect.clone(),
    });
    while !input.is_empty() && steps.len() < STEPS_MAX {
        let first = input.byte();
        let node = usize::from(first >> 7);
        let action = match first & 31 {
            kind::WAIT => {
                at = (at + ms(input.pick(&WAITS))).min(LENGTH_MAX);
                continue;
            }
            kind::CONNECT if dials == DIALS_MAX => continue,
            kind::CONNECT => {
                dials += 1;
                connect.clone()
            }
            other => action(other, node, input),
        };
        steps.push(Step { at, action });
    }
    steps
}

fn action(kind: u8, node: usize, input: &mut Input<'_>) -> Action {
    match kind {
        kind::BEST_EFFORT => {
            let (session, count, size) = (input.byte(), input.byte(), size(input.byte()));
            Action::BestEffort {
                node,
                session: usize::from(session & 3),
                key: key(session),
                size: size.min(BEST_EFFORT_MAX),
                count: usize::from(count & 7) + 1,
            }
        }
        kind::BROADCAST => {
            let (how, count, size) = (input.byte(), input.byte(), size(input.byte()));
            Action::Broadcast {
                node: SERVER,
                group: (how & 3 > 0).then(|| usize::from(how & 3) - 1),
                except: None,
                key: key(how),
                size: size.min(BEST_EFFORT_MAX),
                count: usize::from(count & 7) + 1,
            }
        }
        kind::GROUP => {
            let how = input.byte();
            let (session, group) = (usize::from(how & 3), usize::from(how >> 2 & 3));
            if how & 0x80 == 0 {
                Action::Join {
                    node: SERVER,
                    session,
                    group,
                }
            } else {
                Action::Leave {
                    node: SERVER,
                    session,
                    group,
                }
            }
        }
        kind::CANCEL => Action::Cancel {
            node,
            promise: input.byte().into(),
        },
        kind::ANSWER => {
            let how = input.byte();
            Action::Answer {
                node,
                count: usize::from(how & 31) + 1,
                rejects: how & 0x80 != 0,
            }
        }
        kind::HOLD => Action::Hold {
            node,
            holds: input.byte() & 1 == 0,
        },
        kind::CLOSE => {
            let how = input.byte();
            let codes = [CloseCode::NORMAL, CloseCode::GOING_AWAY, CloseCode(1_000)];
            Action::Close {
                node,
                session: usize::from(how & 3),
                code: codes[usize::from(how >> 2) % codes.len()].0,
            }
        }
        kind::DRAIN => {
            let how = input.byte();
            Action::Drain {
                node: SERVER,
                deadline: ms(WAITS[usize::from(how & 15)]),
                retry_after: (how & 0x80 != 0).then(|| ms(WAITS[usize::from(how >> 4 & 7)])),
            }
        }
        kind::REDIRECT => Action::Redirect {
            client: CLIENT,
            session: usize::from(input.byte() & 3),
            server: SERVER,
        },
        kind::NETWORK => Action::Network(Path {
            delay: ms(input.pick(&DELAYS)),
            ..Path::default()
        }),
        kind::CUT => {
            let how = input.byte();
            Action::Cut {
                from: node,
                to: 1 - node,
                both: how & 2 == 0,
                cut: how & 1 == 0,
            }
        }
        kind::REBIND => Action::Rebind { node: CLIENT },
        kind::KILL => Action::Kill {
            node,
            keys_lost: input.byte() & 1 == 1,
        },
        kind::START => Action::Start { node },
        kind::PAUSE => match input.byte() & 1 {
            0 => Action::Pause { node },
            _ => Action::Wake { node },
        },
        kind::LAG => Action::Lag {
            node,
            lag: ms(WAITS[usize::from(input.byte()) % 12]),
        },
        kind::SEND_BUFFER => Action::SendBuffer {
            node,
            takes: TAKES[usize::from(input.byte()) % TAKES.len()],
        },
        _ => send(node, input),
    }
}

fn send(node: usize, input: &mut Input<'_>) -> Action {
    let (how, place, size) = (input.byte(), input.byte(), size(input.byte()));
    let timeout = |place: u8| TIMEOUTS[usize::from(place) % TIMEOUTS.len()].map(ms);
    let kind = match how % 11 {
        0 => Kind::Told,
        place @ 1..6 => Kind::Acked(timeout(place - 1)),
        place => Kind::Asked(timeout(place - 6)),
    };
    Action::Send {
        node,
        session: usize::from(place & 3),
        kind,
        lane: (place & 0x10 != 0).then_some(place >> 2 & 3),
        size,
        // Large ones are many datagrams each.
        count: if size < LARGE {
            usize::from(place >> 5) + 1
        } else {
            1
        },
    }
}

fn size(byte: u8) -> usize {
    match byte {
        0..0xf8 => 8 + usize::from(byte),
        _ => SIZES[usize::from(byte & 7)],
    }
}

fn key(byte: u8) -> Option<u64> {
    let key = u64::from(byte >> 6);
    (key > 0).then_some(key)
}

/// The bytes of steps such as these; what they have no word for is left out.
pub(super) fn encode(steps: &[Step]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = Duration::ZERO;
    for step in steps {
        wait(&mut out, step.at.saturating_sub(at));
        at = at.max(step.at);
        out.extend(bytes(&step.action));
    }
    out
}

fn wait(out: &mut Vec<u8>, mut time: Duration) {
    for (place, wait) in WAITS.iter().enumerate().skip(1).rev() {
        while ms(*wait) <= time {
            time -= ms(*wait);
            out.extend([kind::WAIT, place as u8]);
        }
    }
}

fn bytes(action: &Action) -> Vec<u8> {
    let first = |kind: u8, node: usize| kind | ((node & 1) as u8) << 7;
    let nearest = |all: &[u64], time: Duration| {
        let far = |wait: &u64| ms(*wait).abs_diff(time);
        let place = (0..all.len()).min_by_key(|place| far(&all[*place]));
        place.unwrap_or(0) as u8
    };
    let few = |count: usize, most: usize| (count.clamp(1, most) - 1) as u8;
    match *action {
        Action::Connect { .. } => vec![kind::CONNECT],
        Action::Send {
            node,
            session,
            kind,
            lane,
            size,
            count,
        } => {
            let timeout = |timeout: Option<Duration>| match timeout {
                None => 0,
                Some(timeout) => {
                    let known: Vec<u64> = TIMEOUTS.into_iter().flatten().collect();
                    1 + nearest(&known, timeout)
                }
            };
            let how = match kind {
                Kind::Told => 0,
                Kind::Acked(time) => 1 + timeout(time),
                Kind::Asked(time) => 6 + timeout(time),
            };
            let lane = lane.map_or(0, |lane| 0x10 | (lane & 3) << 2);
            let place = (session & 3) as u8 | lane | few(count, 8) << 5;
            vec![first(kind::SEND, node), how, place, size_byte(size)]
        }
        Action::BestEffort {
            node,
            session,
            key,
            size,
            count,
        } => {
            let how = (session & 3) as u8 | key_bits(key);
            vec![
                first(kind::BEST_EFFORT, node),
                how,
                few(count, 8),
                size_byte(size),
            ]
        }
        Action::Broadcast {
            node,
            group,
            key,
            size,
            count,
            ..
        } => {
            let how = group.map_or(0, |group| (group % 3) as u8 + 1) | key_bits(key);
            vec![
                first(kind::BROADCAST, node),
                how,
                few(count, 8),
                size_byte(size),
            ]
        }
        Action::Join {
            node,
            session,
            group,
        } => vec![
            first(kind::GROUP, node),
            (session & 3 | (group & 3) << 2) as u8,
        ],
        Action::Leave {
            node,
            session,
            group,
        } => vec![
            first(kind::GROUP, node),
            (session & 3 | (group & 3) << 2) as u8 | 0x80,
        ],
        Action::Cancel { node, promise } => vec![first(kind::CANCEL, node), promise as u8],
        Action::Answer {
            node,
            count,
            rejects,
        } => vec![
            first(kind::ANSWER, node),
            few(count, 32) | u8::from(rejects) << 7,
        ],
        Action::Hold { node, holds } => vec![first(kind::HOLD, node), u8::from(!holds)],
        Action::Close { node, session, .. } => {
            vec![first(kind::CLOSE, node), (session & 3) as u8]
        }
        Action::Drain { node, deadline, .. } => {
            vec![first(kind::DRAIN, node), nearest(&WAITS, deadline)]
        }
        Action::Redirect { session, .. } => vec![kind::REDIRECT, (session & 3) as u8],
        Action::Network(path) => vec![kind::NETWORK, nearest(&DELAYS, path.delay)],
        Action::Cut {
            from, both, cut, ..
        } => vec![
            first(kind::CUT, from),
            u8::from(!both) << 1 | u8::from(!cut),
        ],
        Action::Rebind { node } => vec![first(kind::REBIND, node)],
        Action::Kill { node, keys_lost } => vec![first(kind::KILL, node), u8::from(keys_lost)],
        Action::Start { node } => vec![first(kind::START, node)],
        Action::Pause { node } => vec![first(kind::PAUSE, node), 0],
        Action::Wake { node } => vec![first(kind::PAUSE, node), 1],
        Action::Lag { node, lag } => vec![first(kind::LAG, node), nearest(&WAITS[..12], lag)],
        Action::SendBuffer { node, takes } => {
            let place = TAKES.iter().position(|known| *known == takes);
            vec![first(kind::SEND_BUFFER, node), place.unwrap_or(0) as u8]
        }
        Action::Wall { .. }
        | Action::Clog { .. }
        | Action::Storm { .. }
        | Action::Renew { .. }
        | Action::RebindBack { .. } => Vec::new(),
    }
}

fn size_byte(size: usize) -> u8 {
    let nearest = |place: &usize| SIZES[*place].abs_diff(size);
    match size.saturating_sub(8) {
        small @ 0..0xf8 => small as u8,
        _ => 0xf8 | (0..SIZES.len()).min_by_key(nearest).unwrap_or(0) as u8,
    }
}

fn key_bits(key: Option<u64>) -> u8 {
    (key.unwrap_or(0) as u8 & 3) << 6
}
