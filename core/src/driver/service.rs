//! Typed handlers: which plain async function handles which message type.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::future::Future;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use bytes::Bytes;
use prost::{Message as Encode, Name};

use super::command::Answer;
use super::context::Context;
use super::permits::Permits;
use super::runtime::Task;
use super::tag::{Spread, tag_of};
use crate::{Delivery, Expects, Message, Status, StatusCode, Tag};

/// Which plain async function handles which message type, and the state that all of them share.
///
/// A message type is any [`prost::Message`] with a [`prost::Name`]; it is routed by the hash of
/// its full protobuf name, so that `chat.v1.Said` and `chat.v2.Said` are different types. A
/// message that nobody handles is rejected with [`StatusCode::UNIMPLEMENTED`], one whose body
/// cannot be decoded with [`StatusCode::INVALID_ARGUMENT`], one whose handler panics with
/// [`StatusCode::INTERNAL`].
///
/// ```
/// use trunkline_core::Status;
/// use trunkline_core::driver::{Context, Service};
/// # #[derive(Clone, PartialEq, prost::Message)] struct Said { #[prost(string, tag = "1")] text: String }
/// # impl prost::Name for Said { const NAME: &'static str = "Said"; const PACKAGE: &'static str = "chat.v1"; }
/// # #[derive(Clone, PartialEq, prost::Message)] struct Count {}
/// # impl prost::Name for Count { const NAME: &'static str = "Count"; const PACKAGE: &'static str = "chat.v1"; }
/// # #[derive(Clone, PartialEq, prost::Message)] struct Counted { #[prost(uint64, tag = "1")] lines: u64 }
/// # impl prost::Name for Counted { const NAME: &'static str = "Counted"; const PACKAGE: &'static str = "chat.v1"; }
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// #[derive(Default)]
/// struct Room {
///     lines: AtomicU64,
/// }
///
/// async fn said(room: Context<Room>, said: Said) -> Result<(), Status> {
///     room.state().lines.fetch_add(1, Ordering::Relaxed);
///     Ok(()) // this is the ack
/// }
///
/// async fn count(room: Context<Room>, _: Count) -> Result<Counted, Status> {
///     Ok(Counted { lines: room.state().lines.load(Ordering::Relaxed) })
/// }
///
/// let service = Service::new(Room::default()).on(said).on_request(count);
/// ```
///
/// Handlers run as tasks: one that awaits does not hold up the connection, but one that blocks its thread does, or
/// computes for long: on a runtime of one thread, on a shard, and on any runtime if it has just sent something,
/// for what it woke then is the next to run on its thread. Such work belongs elsewhere (tokio's `spawn_blocking`,
/// smol's `unblock`). The one-way messages of one lane are
/// handled one at a time, in order; requests concurrently. How many run is bounded, a session and
/// in all; what comes beyond waits, and in the end the sender is held back.
///
/// One task serves a session: handlers of different sessions run in parallel on a runtime of many
/// threads, those of one session take turns whenever they wait. Work that computes for long
/// belongs on a thread of its own, or see [`Service::parallel`].
pub struct Service<S> {
    state: S,
    routes: Routes<S>,
    other: Option<Start<S>>,
    parallel: bool,
    per_session: usize,
    in_all: usize,
    problem: Option<ServiceError>,
}

/// Handlers that cannot stand beside each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// A type was registered a second time.
    #[error("{0} has two handlers: a message type takes one")]
    Twice(String),
    /// Two types have the same tag.
    #[error("{0} and {1} have the same tag, {2}: rename one of them")]
    Collision(String, String, Tag),
    /// A bound is zero.
    #[error("a service that may run no handler at all handles nothing: allow 1 or more")]
    NoConcurrency,
}

/// What becomes of a one-way handler's result.
pub trait IntoAck {
    /// Accepted, or why not.
    fn into_ack(self) -> Result<(), Status>;
}

impl IntoAck for () {
    fn into_ack(self) -> Result<(), Status> {
        Ok(())
    }
}

impl<E: Into<Status>> IntoAck for Result<(), E> {
    fn into_ack(self) -> Result<(), Status> {
        self.map_err(Into::into)
    }
}

impl<S: Send + Sync + 'static> Service<S> {
    /// A service without handlers, and the state that they will share.
    pub fn new(state: S) -> Self {
        Self {
            state,
            routes: Routes::default(),
            other: None,
            parallel: false,
            per_session: 256,
            in_all: 16_384,
            problem: None,
        }
    }

    /// Handles one-way messages of type `M`: those of one lane of one session one at a time, in
    /// order. `Ok` is the ack, `Err` rejects the message.
    pub fn on<M, F, R>(self, handler: F) -> Self
    where
        M: Encode + Name + Default + 'static,
        F: Fn(Context<S>, M) -> R + Send + Sync + 'static,
        R: Future<Output: IntoAck> + Send + 'static,
    {
        let begin = move |context, message: Message| Ok(handler(context, decode(message.body)?));
        self.takes(tag_of::<M>(), M::full_name(), Order::Ordered, begin)
    }

    /// As [`Service::on`], without the order: messages of this type are handled as they come,
    /// beside each other.
    pub fn on_concurrent<M, F, R>(self, handler: F) -> Self
    where
        M: Encode + Name + Default + 'static,
        F: Fn(Context<S>, M) -> R + Send + Sync + 'static,
        R: Future<Output: IntoAck> + Send + 'static,
    {
        let begin = move |context, message: Message| Ok(handler(context, decode(message.body)?));
        self.takes(tag_of::<M>(), M::full_name(), Order::Concurrent, begin)
    }

    /// Handles requests of type `Q`, concurrently. A message of this type that is not a request is
    /// handled too; what was to be the reply is then the ack.
    pub fn on_request<Q, A, E, F, R>(self, handler: F) -> Self
    where
        Q: Encode + Name + Default + 'static,
        A: Encode + Name + 'static,
        E: Into<Status>,
        F: Fn(Context<S>, Q) -> R + Send + Sync + 'static,
        R: Future<Output = Result<A, E>> + Send + 'static,
    {
        let begin = move |context, message: Message| {
            let work = handler(context, decode::<Q>(message.body)?);
            Ok(async move {
                let reply = work.await?;
                Ok::<_, E>((tag_of::<A>(), reply.encode_to_vec().into()))
            })
        };
        self.answers(tag_of::<Q>(), Q::full_name(), begin)
    }

    /// As [`Service::on`], for messages of that tag as they come: bodies that are no protobuf, or that are decoded
    /// elsewhere.
    pub fn on_raw<F, R>(self, tag: Tag, handler: F) -> Self
    where
        F: Fn(Context<S>, Message) -> R + Send + Sync + 'static,
        R: Future<Output: IntoAck> + Send + 'static,
    {
        let begin = move |context, message| Ok(handler(context, message));
        self.takes(tag, format!("tag {tag}"), Order::Ordered, begin)
    }

    /// As [`Service::on_request`], for requests of that tag as they come; the handler gives the reply's tag and body.
    pub fn on_request_raw<E, F, R>(self, tag: Tag, handler: F) -> Self
    where
        E: Into<Status>,
        F: Fn(Context<S>, Message) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(Tag, Bytes), E>> + Send + 'static,
    {
        let begin = move |context, message| Ok(handler(context, message));
        self.answers(tag, format!("tag {tag}"), begin)
    }

    /// Handles whatever no other handler does, concurrently and undecoded. A request wants
    /// [`Answer::Reply`], anything else [`Answer::Ack`].
    pub fn otherwise<F, R>(mut self, handler: F) -> Self
    where
        F: Fn(Context<S>, Message) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Answer, Status>> + Send + 'static,
    {
        self.other = Some(Box::new(move |context, message| {
            Ok(Box::pin(handler(context, message)))
        }));
        self
    }

    /// Runs each request (and each concurrent one-way message) as a task of its own, so that those
    /// of one session too run on several threads. Worth its price, a task a message, where handlers
    /// compute for more than some microseconds. It does not make blocking harmless.
    pub fn parallel(mut self) -> Self {
        self.parallel = true;
        self
    }

    /// How many handlers may run at a time: of one session (256), and in all (16,384).
    pub fn concurrency(mut self, per_session: usize, in_all: usize) -> Self {
        (self.per_session, self.in_all) = (per_session, in_all);
        self
    }

    /// Checks it, and hides its state's type.
    pub(crate) fn build(self) -> Result<Arc<dyn Serve>, ServiceError> {
        let Self {
            state,
            routes,
            other,
            parallel,
            per_session,
            in_all,
            problem,
        } = self;
        if let Some(problem) = problem {
            return Err(problem);
        }
        if per_session == 0 || in_all == 0 {
            return Err(ServiceError::NoConcurrency);
        }
        Ok(Arc::new(Home {
            state,
            routes,
            other,
            parallel,
            per_session,
            permits: Arc::new(Permits::new(in_all)),
        }))
    }

    /// Adds a handler of one-way messages, which says what it begins with one.
    fn takes<F, R>(self, tag: Tag, name: String, order: Order, begin: F) -> Self
    where
        F: Fn(Context<S>, Message) -> Result<R, Status> + Send + Sync + 'static,
        R: Future<Output: IntoAck> + Send + 'static,
    {
        let start = move |context: Context<S>, message: Message| {
            let work = begin(context, message)?;
            let task: Task<Result<Answer, Status>> =
                Box::pin(async move { work.await.into_ack().map(|()| Answer::Ack) });
            Ok(task)
        };
        let route = Route {
            name,
            order,
            replies: false,
            start: Box::new(start),
        };
        self.add(tag, route)
    }

    /// Adds a handler of requests, which says what it begins with one.
    fn answers<E, F, R>(self, tag: Tag, name: String, begin: F) -> Self
    where
        E: Into<Status>,
        F: Fn(Context<S>, Message) -> Result<R, Status> + Send + Sync + 'static,
        R: Future<Output = Result<(Tag, Bytes), E>> + Send + 'static,
    {
        let start = move |context: Context<S>, message: Message| {
            let work = begin(context, message)?;
            let task: Task<Result<Answer, Status>> = Box::pin(async move {
                let (tag, body) = work.await.map_err(Into::into)?;
                Ok(Answer::Reply(tag, body))
            });
            Ok(task)
        };
        let route = Route {
            name,
            order: Order::Concurrent,
            replies: true,
            start: Box::new(start),
        };
        self.add(tag, route)
    }

    fn add(mut self, tag: Tag, route: Route<S>) -> Self {
        match self.routes.entry(tag) {
            Entry::Vacant(place) => {
                place.insert(route);
            }
            Entry::Occupied(taken) => {
                let (old, new) = (taken.get().name.clone(), route.name);
                let problem = if old == new {
                    ServiceError::Twice(new)
                } else {
                    ServiceError::Collision(old, new, tag)
                };
                self.problem.get_or_insert(problem);
            }
        }
        self
    }
}

impl<S> fmt::Debug for Service<S> {
    #[expect(clippy::disallowed_methods, reason = "it is sorted then")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut handled: Vec<_> = self.routes.values().map(|route| &route.name).collect();
        handled.sort();
        f.debug_struct("Service")
            .field("handled", &handled)
            .finish_non_exhaustive()
    }
}

/// Whether messages wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// After those before it in its lane.
    Ordered,
    /// At once.
    Concurrent,
}

/// A service whose state's type is hidden.
pub(crate) trait Serve: Send + Sync {
    /// How a delivery is to be handled; `None`: by nobody.
    fn order(&self, delivery: &Delivery) -> Option<Order>;
    /// The handler's work.
    fn start(
        self: Arc<Self>,
        context: Bare,
        message: Message,
    ) -> Result<Task<Result<Answer, Status>>, Status>;
    /// Whether concurrent work gets tasks of its own.
    fn parallel(&self) -> bool;
    /// How many handlers of one session may run.
    fn per_session(&self) -> usize;
    /// How many handlers may run in all.
    fn permits(&self) -> &Arc<Permits>;
}

/// A context without its state.
pub(crate) type Bare = super::context::Origin;

type Start<S> =
    Box<dyn Fn(Context<S>, Message) -> Result<Task<Result<Answer, Status>>, Status> + Send + Sync>;
type Routes<S> = HashMap<Tag, Route<S>, BuildHasherDefault<Spread>>;

struct Route<S> {
    name: String,
    order: Order,
    replies: bool,
    start: Start<S>,
}

/// A service at work.
pub(crate) struct Home<S> {
    pub(crate) state: S,
    routes: Routes<S>,
    other: Option<Start<S>>,
    parallel: bool,
    per_session: usize,
    permits: Arc<Permits>,
}

impl<S: Send + Sync + 'static> Home<S> {
    /// The work of whichever handler owns the message's type.
    pub(crate) fn hand_over(
        self: Arc<Self>,
        origin: Bare,
        message: Message,
        wants_reply: bool,
    ) -> Result<Task<Result<Answer, Status>>, Status> {
        let context = Context::new(self.clone(), origin);
        match (self.routes.get(&message.tag), &self.other) {
            (Some(route), _) if wants_reply && !route.replies => {
                let reason = format!(
                    "{} is not a request here: send it without waiting for a reply",
                    route.name
                );
                Err(Status::new(StatusCode::UNIMPLEMENTED, reason))
            }
            (Some(Route { start, .. }), _) | (None, Some(start)) => start(context, message),
            (None, None) => Err(unimplemented(message.tag)),
        }
    }
}

impl<S: Send + Sync + 'static> Serve for Home<S> {
    fn order(&self, delivery: &Delivery) -> Option<Order> {
        match self.routes.get(&delivery.tag) {
            Some(route) if delivery.expects != Expects::Reply => Some(route.order),
            Some(_) => Some(Order::Concurrent),
            None => self.other.is_some().then_some(Order::Concurrent),
        }
    }

    fn start(
        self: Arc<Self>,
        origin: Bare,
        message: Message,
    ) -> Result<Task<Result<Answer, Status>>, Status> {
        let wants_reply = origin.expects == Expects::Reply;
        self.hand_over(origin, message, wants_reply)
    }

    fn parallel(&self) -> bool {
        self.parallel
    }

    fn per_session(&self) -> usize {
        self.per_session
    }

    fn permits(&self) -> &Arc<Permits> {
        &self.permits
    }
}

/// The rejection of a message that nobody handles.
pub(crate) fn unimplemented(tag: Tag) -> Status {
    Status::new(
        StatusCode::UNIMPLEMENTED,
        format!("nothing here handles messages tagged {tag}"),
    )
}

fn decode<M: Encode + Name + Default>(body: Bytes) -> Result<M, Status> {
    M::decode(body).map_err(|error| {
        Status::new(
            StatusCode::INVALID_ARGUMENT,
            format!("not decodable as {}: {error}", M::full_name()),
        )
    })
}
