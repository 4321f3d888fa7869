//! How full those tables of a node are that its application alone can tell of.

use std::collections::BTreeMap;
use std::time::Instant;

use trunkline_core::{
    CloseCode, Config, Delivery, DisconnectReason, Event, Lane, Limits, Node, Outcome, SessionKey,
    SlowConsumer,
};

use super::pressure::Pressure;

/// What an application has seen of its node.
#[derive(Default)]
pub(super) struct Seen {
    /// What it owes answers for.
    owed: BTreeMap<(SessionKey, Lane), Amount>,
    /// What it was handed since the node had last read a frame: all of it was in the event queue at
    /// once.
    queued: Amount,
    /// How many frames the node had read then.
    frames: u64,
}

#[derive(Clone, Copy, Default)]
struct Amount {
    messages: usize,
    bytes: usize,
}

impl Amount {
    fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
    }
}

impl Seen {
    /// The node tells something. Call it before the application does anything about it.
    pub(super) fn event(
        &mut self,
        now: Instant,
        node: &Node,
        event: &Event,
        config: &Config,
        pressure: &mut Pressure,
    ) {
        match event {
            Event::Message(delivery) => {
                self.queued(now, node, delivery.body.len(), &config.limits, pressure);
                self.owes(delivery, &config.limits, pressure);
            }
            Event::Settled {
                outcome: Outcome::Replied { body, .. },
                ..
            } => self.queued(now, node, body.len(), &config.limits, pressure),
            // With it go its deliveries.
            Event::SessionLost { session } | Event::Closed { session, .. } => {
                self.owed.retain(|(of, _), _| of != session);
            }
            Event::SlowConsumer { .. } => match config.slow_consumer {
                SlowConsumer::DropNewest => {
                    pressure.count("limits.best_effort_bytes, newest dropped", 1);
                }
                SlowConsumer::DropOldest => {
                    pressure.count("limits.best_effort_bytes, oldest dropped", 1);
                }
                // The latest takes the place of another where there is room, too.
                _ => {}
            },
            Event::Disconnected {
                reason:
                    DisconnectReason::Local {
                        code: CloseCode::SLOW_CONSUMER,
                        ..
                    },
                ..
            } => pressure.count("limits.best_effort_bytes, disconnected", 1),
            _ => {}
        }
    }

    /// The application has answered a delivery, and its node took that.
    pub(super) fn answered(&mut self, delivery: &Delivery) {
        let owed = (delivery.key.session, delivery.lane);
        if let Some(owed) = self.owed.get_mut(&owed) {
            owed.messages = owed.messages.saturating_sub(1);
            owed.bytes = owed.bytes.saturating_sub(delivery.body.len());
        }
    }

    fn owes(&mut self, delivery: &Delivery, limits: &Limits, pressure: &mut Pressure) {
        let owed = (delivery.key.session, delivery.lane);
        let owed = self.owed.entry(owed).or_default();
        owed.add(delivery.body.len());
        let full = [
            ("limits.deliveries", owed.messages >= limits.deliveries),
            ("limits.delivery_bytes", owed.bytes >= limits.delivery_bytes),
        ];
        for (kind, full) in full {
            pressure.count(kind, u64::from(full));
        }
    }

    fn queued(
        &mut self,
        now: Instant,
        node: &Node,
        bytes: usize,
        limits: &Limits,
        pressure: &mut Pressure,
    ) {
        // Such a queue no run fills, and asking takes time.
        let roomy = Limits::default();
        if (limits.event_messages, limits.event_bytes) == (roomy.event_messages, roomy.event_bytes)
        {
            return;
        }
        let frames = node.metrics(now).frames_in;
        if frames != self.frames {
            self.frames = frames;
            self.queued = Amount::default();
        }
        self.queued.add(bytes);
        let Amount { messages, bytes } = self.queued;
        let full = [
            ("limits.event_messages", messages >= limits.event_messages),
            ("limits.event_bytes", bytes >= limits.event_bytes),
        ];
        for (kind, full) in full {
            pressure.count(kind, u64::from(full));
        }
    }
}
