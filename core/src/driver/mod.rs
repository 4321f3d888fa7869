//! The runtime-free half that the adapters share: a node that is driven for you.
//!
//! A [`Server`] or a [`Client`] is a handle; a [`Driver`], which owns the [`crate::Node`] and the
//! socket, does the work as one task of whatever runtime a [`Platform`] stands for. Handles leave
//! commands in a mailbox and wait for what becomes of them; a [`Service`] routes messages to plain
//! async functions. An adapter supplies a socket, a timer and `spawn`, and nothing else;
//! what is the same in every socket and timer is here too, with the feature `system`.

mod admission;
mod backlog;
mod build_error;
mod cancel;
mod canonical;
mod change;
mod client;
mod client_builder;
mod command;
mod context;
mod crossing;
mod crowd;
mod ending;
mod events;
mod finding;
mod gathering;
mod glance;
mod harmless;
mod held;
mod hooks;
mod into_status;
mod ledger;
mod mailbox;
mod peer;
mod perform;
mod permits;
mod portion;
mod promise_error;
mod queue;
mod recording;
mod report;
mod resolve;
mod roster;
mod runtime;
mod send;
mod sending;
mod server;
mod server_builder;
mod service;
mod shared;
mod slot;
mod spool;
#[cfg(feature = "system")]
pub mod system;
mod tag;
mod troubles;
mod turn;
mod undecided;
mod waiter;
mod wall;
mod watch;
mod worker;

pub use admission::Admit;
pub use build_error::StartError;
pub use change::ChangeError;
pub use client::Client;
pub use client_builder::ClientBuilder;
pub use command::{Answer, Drained};
pub use context::Context;
pub use events::{Events, Notice};
pub use hooks::Hooks;
pub use peer::{GroupError, Peer, State};
pub use promise_error::PromiseError;
pub use recording::{Recording, RecordingWatch};
pub use runtime::{Io, Platform, Runtime, Sharded, Task};
pub use send::{Acked, BestEffort, Outgoing, RawRequest, Request};
pub use sending::{Acking, Asking, Raw, Reading, Sent, Typed};
pub use server::{BroadcastError, Broadcasting, DrainError, Group, Server, ServerHandle};
pub use server_builder::ServerBuilder;
pub use service::{IntoAck, Service, ServiceError};
pub use slot::Stopped;
pub use turn::Driver;

/// Every name that an application needs; the adapters re-export them all.
pub mod exports {
    pub use super::{
        Acked, Acking, Admit, Answer, Asking, BestEffort, BroadcastError, Broadcasting,
        ChangeError, Context, DrainError, Drained, Events, Group, GroupError, Hooks, IntoAck,
        Notice, Outgoing, Peer, PromiseError, Raw, RawRequest, Reading, Recording, RecordingWatch,
        Request, Sent, ServerHandle, Service, ServiceError, StartError, State, Stopped, Typed,
    };
    pub use crate::trace::Saver;
    pub use crate::{
        AdmissionRequest, Broadcast, BusyPoll, ClientId, CloseCode, CommandError, Config,
        ConfigError, Congestion, Delivery, DeliveryKey, DisconnectReason, DrainPlan, Event,
        Expects, GroupName, Heartbeat, Identity, InvalidName, Lane, Limits, LinkState, Message,
        MetricsSnapshot, Outcome, PersistentKeys, PromiseKey, PromisesFull, Redial, Refusal, Roots,
        Seed, SendError, SessionId, SessionInfo, SessionKey, SessionsFull, SlowConsumer, Status,
        StatusCode, Tag, Timeouts, TlsError, Transport, UndeliveredReason,
    };
}
