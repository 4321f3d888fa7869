//! What the server does with messages, and what it tells of sessions.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use trunkline_tokio::{
    BroadcastError, ClientId, CloseCode, Context, DisconnectReason, GroupError, GroupName, Hooks,
    LinkState, Peer, Service, SessionInfo, SessionKey, Status, StatusCode,
};

use super::account::Account;
use super::journal::{Entry, Journal, Name};
use super::moves::Moves;
use crate::messages;
use crate::messages::{
    AccountRequest, ClientEntry, ClientsReply, ClientsRequest, EchoReply, EchoRequest, Join, Leave,
    Note, Relay, Relayed,
};

/// What all handlers share.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) journal: Journal,
    /// How long a request takes.
    pub(crate) delay: Duration,
    /// Who may ask for the list of clients.
    pub(crate) admins: Vec<ClientId>,
    pub(crate) counts: Counts,
    moves: Moves,
    accounts: Mutex<BTreeMap<SessionKey, Account>>,
}

/// What has been handled.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) notes: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) relays: AtomicU64,
    pub(crate) doubled: AtomicU64,
    pub(crate) disordered: AtomicU64,
}

type Shared = Arc<State>;

impl State {
    pub(crate) fn new(journal: Journal, delay: Duration, admins: Vec<ClientId>) -> Shared {
        Arc::new(Self {
            journal,
            delay,
            admins,
            counts: Counts::default(),
            moves: Moves::default(),
            accounts: Mutex::default(),
        })
    }

    /// Tells of moves that have no line each, within a second or so, for as long as it is polled.
    pub(crate) async fn tell_of_moves(&self) -> Infallible {
        loop {
            self.moves.some_left_out().await;
            self.tell_moves_left_out();
        }
    }

    /// Tells of those that have not been told of.
    pub(crate) fn tell_moves_left_out(&self) {
        if let Some(moves) = self.moves.take_left_out() {
            self.journal.tell(Entry::MovesLeftOut { moves });
        }
    }

    /// Enters a message into its run's account. A session has one account, that of its latest run.
    fn enter(&self, context: &Context<Shared>, run: u64, number: u64) -> Option<messages::Account> {
        if run == 0 {
            return None;
        }
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let account = accounts
            .entry(context.peer().session())
            .and_modify(|account| {
                if account.run != run {
                    *account = Account::new(any_id(), run);
                }
            })
            .or_insert_with(|| Account::new(any_id(), run));
        let judgement = account.enter(context.lane(), number);
        let count = |counter: &AtomicU64, counts: bool| {
            counter.fetch_add(u64::from(counts), Ordering::Relaxed);
        };
        count(&self.counts.doubled, judgement.doubled);
        count(&self.counts.disordered, judgement.disordered);
        Some(account.statement())
    }

    fn statement(&self, session: SessionKey, run: u64) -> messages::Account {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let account = accounts.get(&session).filter(|account| account.run == run);
        account.map(Account::statement).unwrap_or_default()
    }

    fn forget(&self, session: SessionKey) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.remove(&session);
    }
}

/// Tells accounts apart, those of an earlier process included.
fn any_id() -> u64 {
    RandomState::new().hash_one(()) | 1
}

/// The service of `trunkline_cli.proto`.
pub(crate) fn service(state: Shared) -> Service<Shared> {
    Service::new(state)
        .on(note)
        .on(relay)
        .on(join)
        .on(leave)
        .on_request(|context: Context<Shared>, request: EchoRequest| {
            // Here, where requests still stand in the order in which they came.
            let account = context.state().enter(&context, request.run, request.number);
            echo(context, request, account)
        })
        .on_request(account)
        .on_request(clients)
}

async fn note(context: Context<Shared>, note: Note) {
    let state = context.state();
    state.enter(&context, note.run, note.number);
    state.counts.notes.fetch_add(1, Ordering::Relaxed);
    state
        .journal
        .record(|| Entry::Note {
            client: context.client_id().into(),
            lane: context.lane().to_string(),
            number: note.number,
            text: note.text,
        })
        .await;
}

async fn echo(
    context: Context<Shared>,
    request: EchoRequest,
    account: Option<messages::Account>,
) -> Result<EchoReply, Status> {
    let state = context.state();
    state.counts.requests.fetch_add(1, Ordering::Relaxed);
    let EchoRequest { number, text, .. } = request;
    let client = Name::from(context.client_id());
    state
        .journal
        .record(|| Entry::Request {
            client: client.clone(),
            lane: context.lane().to_string(),
            number,
            text: text.clone(),
        })
        .await;
    if !state.delay.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(state.delay) => {}
            () = context.cancelled() => {
                state.journal.record(|| Entry::GivenUp { client, number }).await;
                return Err(Status::new(StatusCode::CANCELLED, "the sender gave up"));
            }
        }
    }
    Ok(EchoReply {
        number,
        text,
        account,
    })
}

async fn relay(context: Context<Shared>, relay: Relay) -> Result<(), Status> {
    let state = context.state();
    state.enter(&context, relay.run, relay.number);
    state.counts.relays.fetch_add(1, Ordering::Relaxed);
    let Relay {
        run,
        number,
        text,
        group,
    } = relay;
    let relayed = Relayed {
        from: context.client_id().to_string(),
        group: group.clone(),
        text,
        run,
        number,
    };
    let server = context.server();
    let group = (!group.is_empty()).then_some(group);
    let sent = match &group {
        Some(group) => server.group(&group_name(group)?).broadcast(&relayed).await,
        None => server.broadcast(&relayed).await,
    };
    let sent = sent.map_err(|error| match error {
        BroadcastError::Refused(refused) => {
            Status::new(StatusCode::INVALID_ARGUMENT, refused.to_string())
        }
        _ => going_away(),
    })?;
    let nobody = sent.queued + sent.dropped + sent.away == 0;
    state
        .journal
        .record(|| Entry::Relayed {
            client: context.client_id().into(),
            lane: context.lane().to_string(),
            number,
            group: group.clone(),
            text: relayed.text,
            queued: sent.queued,
            dropped: sent.dropped,
            away: sent.away,
        })
        .await;
    match group {
        Some(group) if nobody => Err(Status::new(
            StatusCode::NOT_FOUND,
            format!("nobody is in the group {group}"),
        )),
        _ => Ok(()),
    }
}

async fn join(context: Context<Shared>, join: Join) -> Result<(), Status> {
    let name = group_name(&join.group)?;
    context
        .peer()
        .join(&name)
        .await
        .map_err(|error| match error {
            GroupError::Refused(refused) => {
                Status::new(StatusCode::RESOURCE_EXHAUSTED, refused.to_string())
            }
            _ => going_away(),
        })?;
    let client = context.client_id().into();
    let group = join.group;
    context
        .state()
        .journal
        .tell(Entry::Joined { client, group });
    Ok(())
}

async fn leave(context: Context<Shared>, leave: Leave) -> Result<(), Status> {
    let name = group_name(&leave.group)?;
    let was_in = context
        .peer()
        .leave(&name)
        .await
        .map_err(|_| going_away())?;
    if was_in {
        let client = context.client_id().into();
        let group = leave.group;
        context.state().journal.tell(Entry::Left { client, group });
    }
    Ok(())
}

async fn account(
    context: Context<Shared>,
    request: AccountRequest,
) -> Result<messages::Account, Status> {
    let session = context.peer().session();
    Ok(context.state().statement(session, request.run))
}

async fn clients(context: Context<Shared>, _: ClientsRequest) -> Result<ClientsReply, Status> {
    let state = context.state();
    let client = context.client_id();
    if !state.admins.contains(client) {
        return Err(Status::new(
            StatusCode::PERMISSION_DENIED,
            format!("{client} may not ask for the list of clients; serve --admin {client} lets it"),
        ));
    }
    let sessions = context.server().clients().await.map_err(|_| going_away())?;
    let client = client.into();
    state.journal.tell(Entry::Listed { client });
    let now = Instant::now();
    Ok(ClientsReply {
        clients: sessions.iter().map(|info| entry(info, now)).collect(),
    })
}

fn entry(info: &SessionInfo, now: Instant) -> ClientEntry {
    let since = |instant: Option<Instant>| {
        instant.map(|instant| whole(now.saturating_duration_since(instant).as_millis()))
    };
    let state = match info.state {
        LinkState::Away => "away",
        LinkState::Connecting => "connecting",
        LinkState::Connected => "connected",
        LinkState::Closing => "closing",
    };
    ClientEntry {
        client: info.client.to_string(),
        session: info.id.0.to_vec().into(),
        state: state.to_owned(),
        address: info.address.map(|a| a.to_string()).unwrap_or_default(),
        round_trip_us: info.round_trip_time.map(|time| whole(time.as_micros())),
        connected_ms: since(info.connected_since),
        heard_ms: since(info.last_heard),
        epoch: info.epoch,
        queued_bytes: info.queued_bytes as u64,
        promises: info.promises as u64,
        deliveries: info.deliveries as u64,
        sent: info.sent,
        received: info.received,
    }
}

fn whole(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn group_name(name: &str) -> Result<GroupName, Status> {
    GroupName::new(name)
        .map_err(|error| Status::new(StatusCode::INVALID_ARGUMENT, error.to_string()))
}

fn going_away() -> Status {
    Status::new(StatusCode::UNAVAILABLE, "the server is going away")
}

/// Tells of sessions.
pub(crate) struct Telling(pub(crate) Shared);

impl Telling {
    fn tell(&self, entry: Entry) {
        self.0.journal.tell(entry);
    }
}

impl Hooks for Telling {
    fn connected(&self, peer: &Peer) {
        self.tell(Entry::Connected {
            client: peer.client_id().into(),
            address: peer.address(),
        });
    }

    fn resumed(&self, peer: &Peer) {
        self.tell(Entry::Resumed {
            client: peer.client_id().into(),
            address: peer.address(),
        });
    }

    fn moved(&self, peer: &Peer, address: SocketAddr) {
        if self.0.moves.may(Instant::now()) {
            self.tell(Entry::Moved {
                client: peer.client_id().into(),
                address,
            });
        }
    }

    fn refused(&self, client: &ClientId, address: SocketAddr, code: CloseCode, reason: &str) {
        self.tell(Entry::Refused {
            client: client.into(),
            address,
            code: code.0,
            reason: reason.to_owned(),
        });
    }

    fn disconnected(&self, peer: &Peer, reason: &DisconnectReason, retained: bool) {
        // Otherwise it is closed as well.
        if retained {
            self.tell(Entry::Disconnected {
                client: peer.client_id().into(),
                reason: reason.to_string(),
            });
        }
    }

    fn heartbeat_timeout(&self, peer: &Peer) {
        self.tell(Entry::HeartbeatTimeout {
            client: peer.client_id().into(),
        });
    }

    fn closed(&self, peer: &Peer, reason: &DisconnectReason) {
        self.0.forget(peer.session());
        self.tell(Entry::Closed {
            client: peer.client_id().into(),
            reason: match reason {
                DisconnectReason::Peer {
                    code: CloseCode::NORMAL,
                    reason,
                    ..
                } if reason.is_empty() => "it has closed the session".into(),
                _ => reason.to_string(),
            },
        });
    }

    fn slow_consumer(&self, peer: &Peer, queued_bytes: usize) {
        self.tell(Entry::SlowConsumer {
            client: peer.client_id().into(),
            queued_bytes,
        });
    }

    fn dropped(&self, peer: &Peer, messages: u64) {
        self.tell(Entry::Dropped {
            client: peer.client_id().into(),
            messages,
        });
    }
}
