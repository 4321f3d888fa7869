//! What becomes of links and sessions: told as it happens, and counted.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use trunkline_tokio::{CloseCode, DisconnectReason, Hooks, Peer, State};

use super::story::Story;

/// The links of one client, counted at the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Links {
    /// Links that came up.
    pub(crate) opened: u64,
    /// Those among them, the first one apart, that carried on an earlier one's session. (If the
    /// first welcome was lost, the first link carries on a session that never had one.)
    pub(crate) resumed: u64,
    /// Links that ended.
    pub(crate) broken: u64,
    /// The present link's, or the last one's.
    pub(crate) epoch: u64,
    /// Whether there is a link now.
    pub(crate) up: bool,
}

impl Links {
    /// How often the client came back.
    pub(crate) fn reconnects(&self) -> u64 {
        self.opened.saturating_sub(1)
    }
}

/// A client's hooks.
pub(crate) struct ClientHooks {
    name: String,
    story: Story,
    links: Arc<watch::Sender<Links>>,
}

impl ClientHooks {
    /// The hooks, and the counts that they keep.
    pub(crate) fn new(name: &str, story: &Story) -> (Self, Arc<watch::Sender<Links>>) {
        let links = Arc::new(watch::Sender::default());
        let hooks = Self {
            name: name.to_owned(),
            story: story.clone(),
            links: Arc::clone(&links),
        };
        (hooks, links)
    }

    fn count(&self, change: impl FnOnce(&mut Links)) {
        self.links.send_modify(change);
    }

    fn say(&self, what: impl std::fmt::Display) {
        self.story.say(&self.name, what);
    }
}

impl Hooks for ClientHooks {
    fn connected(&self, peer: &Peer) {
        let epoch = epoch(peer);
        self.say(format_args!("connected: a new session, epoch {epoch}"));
        self.count(|links| {
            links.opened += 1;
            links.epoch = epoch;
            links.up = true;
        });
    }

    fn resumed(&self, peer: &Peer) {
        let epoch = epoch(peer);
        self.say(format_args!("resumed: the same session, epoch {epoch}"));
        self.count(|links| {
            links.resumed += u64::from(links.opened > 0);
            links.opened += 1;
            links.epoch = epoch;
            links.up = true;
        });
    }

    fn disconnected(&self, _: &Peer, reason: &DisconnectReason, retained: bool) {
        let was_up = self.links.borrow().up;
        match (was_up, retained) {
            (_, false) if is_normal(reason) => self.say("closed"),
            (_, false) => self.say(format_args!("disconnected for good: {reason}")),
            (true, true) => self.say(format_args!("disconnected: {reason}")),
            (false, true) => self.say(format_args!("not connected: {reason}")),
        }
        self.count(|links| {
            links.broken += u64::from(was_up);
            links.up = false;
        });
    }

    fn reconnecting(&self, _: &Peer, attempt: u32, delay: Duration) {
        let delay = delay.as_millis();
        self.say(format_args!(
            "reconnecting: attempt {attempt} in {delay} ms"
        ));
    }

    fn session_lost(&self, _: &Peer) {
        self.say("its session is lost: the server does not know it any more");
    }
}

/// The server's hooks.
pub(crate) struct ServerHooks(pub(crate) Story);

impl Hooks for ServerHooks {
    fn resumed(&self, peer: &Peer) {
        let client = peer.client_id();
        self.0.say("server", format_args!("{client} is back"));
    }

    fn disconnected(&self, peer: &Peer, reason: &DisconnectReason, retained: bool) {
        if retained {
            let client = peer.client_id();
            self.0.say(
                "server",
                format_args!("{client} is away, its session is kept: {reason}"),
            );
        }
    }
}

/// Whether this side wanted it so.
fn is_normal(reason: &DisconnectReason) -> bool {
    matches!(
        reason,
        DisconnectReason::Local {
            code: CloseCode::NORMAL,
            ..
        }
    )
}

fn epoch(peer: &Peer) -> u64 {
    match peer.state() {
        State::Connected { epoch, .. } => epoch,
        _ => 0,
    }
}
