//! Sessions as their applications are told of them: when they come and go, and why.

use std::time::{Duration, Instant};

use trunkline_core::{ClientId, CloseCode, DisconnectReason, SessionKey, SessionsFull};

use super::redials::Redials;
use super::{Oracle, Process, TICK};

/// Faults that only an unsound peer commits.
pub(super) const FAULTS: [CloseCode; 9] = [
    CloseCode::FRAME_TOO_LARGE,
    CloseCode::UNDECODABLE,
    CloseCode::SEQUENCE_GAP,
    CloseCode::UNKNOWN_LANE,
    CloseCode::WRONG_TOKEN,
    CloseCode::PROTOCOL_VIOLATION,
    CloseCode::BAD_RECEIPT,
    CloseCode::FLOODED,
    CloseCode::INTERNAL,
];

#[derive(Debug)]
pub(super) struct SessionState {
    pub(super) client: ClientId,
    /// This side dialled it.
    pub(super) dialled: bool,
    /// How often it was lost.
    pub(super) life: u32,
    /// When it was lost last.
    pub(super) lost_at: Option<Instant>,
    /// It has a link.
    pub(super) up: bool,
    /// It had one in this life.
    pub(super) was_up: bool,
    epoch: u64,
    /// The last moment at which the peer was heard for sure.
    heard: Instant,
    /// When its last link ended, or the session began.
    away: Instant,
    /// The same before that link came up: what ends it happens later.
    since: Instant,
    /// Its application has closed it, or sent it elsewhere.
    pub(super) closing: bool,
    pub(super) redirected: bool,
    /// The server has said when to come back.
    pub(super) hinted: bool,
    pub(super) redials: Redials,
}

impl SessionState {
    pub(super) fn dialled(now: Instant, client: ClientId) -> Self {
        Self {
            client,
            dialled: true,
            life: 0,
            lost_at: None,
            up: false,
            was_up: false,
            epoch: 0,
            heard: now,
            away: now,
            since: now,
            closing: false,
            redirected: false,
            hinted: false,
            redials: Redials::default(),
        }
    }

    pub(super) fn heard(&mut self, at: Instant) {
        self.heard = self.heard.max(at);
    }
}

impl Process {
    /// When a client's session that has no link ends at the latest.
    pub(super) fn kept_until(&self, session: SessionKey) -> Option<Instant> {
        let timeouts = &self.config.timeouts;
        let state = self.sessions.get(&session);
        let state = state.filter(|state| !state.dialled && !state.up)?;
        let patience = if state.closing {
            timeouts.close
        } else {
            Duration::ZERO
        };
        Some(state.away + timeouts.retention + patience)
    }
}

impl Oracle {
    pub(super) fn connected(
        &mut self,
        now: Instant,
        node: usize,
        session: SessionKey,
        client: &ClientId,
        epoch: u64,
        resumed: bool,
    ) {
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        let state = process.sessions.entry(session).or_insert_with(|| {
            let dialled = false;
            SessionState {
                dialled,
                ..SessionState::dialled(now, client.clone())
            }
        });
        process.refusals.came += u64::from(!state.dialled);
        let silent = !resumed && state.was_up;
        let older = resumed && state.was_up && epoch <= state.epoch;
        let early = state.redials.connected(now);
        state.up = true;
        state.was_up = true;
        state.since = state.away;
        state.epoch = epoch;
        // Whoever waited to be let in need not have said anything meanwhile.
        let asked = process.let_in.remove(client).filter(|_| !state.dialled);
        state.heard = asked.unwrap_or(now);
        state.hinted = false;
        if let Some(early) = early {
            let what =
                format!("node {node} is back in {session:?} {early:?} before it was to redial");
            self.violation(now, 9, what);
        }
        if silent {
            self.violation(
                now,
                6,
                format!("{session:?} of node {node} began anew without a word of its loss"),
            );
        }
        if older {
            self.violation(
                now,
                6,
                format!("{session:?} of node {node} was resumed under the old epoch {epoch}"),
            );
        }
    }

    pub(super) fn disconnected(
        &mut self,
        now: Instant,
        node: usize,
        session: SessionKey,
        reason: &DisconnectReason,
    ) {
        if let Some(process) = self.processes.get_mut(&node)
            && let Some(state) = process.sessions.get_mut(&session)
        {
            if state.up {
                state.away = now;
            }
            state.redials.ended(now, &process.config.redial);
            state.up = false;
            let hint = |r: &DisconnectReason| {
                matches!(
                    r,
                    DisconnectReason::Peer {
                        retry_after: Some(_),
                        ..
                    }
                )
            };
            state.hinted |= hint(reason);
        }
        let code = match reason {
            DisconnectReason::Local { code, .. } | DisconnectReason::Peer { code, .. } => *code,
            _ => return,
        };
        if FAULTS.contains(&code) {
            self.violation(
                now,
                6,
                format!("node {node} and its peer in {session:?}: {reason}"),
            );
        }
    }

    pub(super) fn lost(&mut self, now: Instant, node: usize, session: SessionKey) {
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        let Some(state) = process.sessions.get_mut(&session) else {
            return;
        };
        process.windows.forget(session);
        let since = state.since;
        // A hello that nobody answered leaves open whether there was a session to lose.
        let told = !state.was_up || state.redirected;
        state.life += 1;
        state.lost_at = Some(now);
        state.was_up = false;
        let client = state.client.clone();
        let gone = self.server_gone.is_some_and(|at| at >= since);
        if !told && !gone && !self.closed_since(&client, since) {
            self.violation(
                now,
                6,
                format!("{session:?} of node {node} ({client}) was lost without a cause"),
            );
        }
    }

    pub(super) fn closed(
        &mut self,
        now: Instant,
        node: usize,
        session: SessionKey,
        reason: &DisconnectReason,
    ) {
        // Its client has not heard of it, and asked once more.
        let side = self.side(node, session);
        let ledger = side.and_then(|side| self.ledgers.get(&side));
        let unheard = ledger.is_none_or(|ledger| ledger.peer.is_none());
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        process.wants_room.remove(&session);
        process.owes_end.remove(&session);
        process.windows.forget(session);
        let Some(state) = process.sessions.remove(&session) else {
            return;
        };
        let mut justified = state.closing || process.drains;
        if state.dialled {
            let most = process.config.redial.max_attempts;
            let gives_up = most.is_some_and(|most| state.redials.attempts >= most);
            let gone = self.server_gone.is_some_and(|at| at >= state.since);
            justified |= gives_up || gone || self.closed_since(&state.client, state.since);
        } else {
            let retention = process.config.timeouts.retention;
            let limit = process.config.limits.sessions_per_client;
            let in_all = 1 + process.sessions.values().filter(|s| !s.dialled).count();
            let others = process.sessions.values();
            let others = others.filter(|other| !other.dialled && other.client == state.client);
            justified |= match reason {
                DisconnectReason::Local {
                    code: CloseCode::SUPERSEDED,
                    ..
                } if unheard => true,
                // A newer one of its client has its place.
                DisconnectReason::Local {
                    code: CloseCode::SUPERSEDED,
                    ..
                } if process.config.sessions_full == SessionsFull::EndOldest => {
                    let others: Vec<_> = others.collect();
                    let away_first = !state.up || others.iter().all(|other| other.up);
                    let full =
                        others.len() + 1 >= limit || in_all >= process.config.limits.sessions;
                    full && away_first
                }
                // It was told so by its client, whose application closed it.
                DisconnectReason::Peer { .. } => self.closed_since(&state.client, self.start),
                _ => now + TICK >= state.away + retention && !state.up,
            };
        }
        justified |= state.dialled && self.is_replaced(&state.client, reason);
        self.closed.insert(state.client.clone(), now);
        if !justified {
            let client = &state.client;
            let what = format!("{session:?} of node {node} ({client}) ended untimely: {reason}");
            self.violation(now, 6, what);
        }
    }

    /// A server that lets a client's newest sessions stay has one, and says so to an older one.
    fn is_replaced(&self, client: &ClientId, reason: &DisconnectReason) -> bool {
        let said = matches!(
            reason,
            DisconnectReason::Peer {
                code: CloseCode::SUPERSEDED,
                ..
            }
        );
        let ends_oldest =
            |process: &&Process| process.config.sessions_full == SessionsFull::EndOldest;
        let servers = self.processes.values().filter(ends_oldest);
        let mut served = servers.flat_map(|process| process.sessions.values());
        said && served.any(|state| !state.dialled && state.client == *client)
    }

    fn closed_since(&self, client: &ClientId, since: Instant) -> bool {
        // A session that is being closed may be resumed meanwhile, and is told on the new link.
        let states = self.processes.values().flat_map(|p| p.sessions.values());
        let mut served = states.filter(|state| !state.dialled && state.client == *client);
        self.closed.get(client).is_some_and(|at| *at >= since) || served.any(|s| s.closing)
    }

    /// The peer was found dead: not before it was silent for so long.
    pub(super) fn found_dead(&mut self, now: Instant, node: usize, session: SessionKey) {
        let Some(process) = self.processes.get(&node) else {
            return;
        };
        let Some(state) = process.sessions.get(&session) else {
            return;
        };
        let own = process.config.heartbeat;
        let interval = self.shortest_interval.unwrap_or(own.interval);
        let silence = now.saturating_duration_since(state.heard);
        if silence + TICK < interval * own.misses {
            self.violation(
                now,
                8,
                format!(
                    "node {node} gave {session:?} up that it had heard from {silence:?} before"
                ),
            );
        }
    }
}
