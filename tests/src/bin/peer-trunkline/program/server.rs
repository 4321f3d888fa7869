//! The server: a service with a handler for each message.

use anyhow::Result;
use tokio::time::{Instant, sleep_until};
use trunkline_testkit::peers::{
    Echo, Event, Note, SUBSCRIBERS, ServerArguments, Start, Subscribe, announce, config, identity,
    recording,
};
use trunkline_tokio::{Admit, Context, Group, GroupName, Server, Service, Status, StatusCode};

/// What handlers share.
struct State {
    subscribers: GroupName,
}

pub(crate) async fn serve(arguments: ServerArguments) -> Result<()> {
    let state = State {
        subscribers: GroupName::new(SUBSCRIBERS)?,
    };
    let service = Service::new(state)
        .on(note)
        .on_request(echo)
        .on(subscribe)
        .on(start);
    let server = Server::bind(arguments.listen)
        .identity(identity()?)
        .admission(Admit::open())
        .config(config())
        .service(service);
    let server = match recording("server")? {
        Some(recording) => server.record(recording).await?,
        None => server.await?,
    };
    announce(server.local_addr(), arguments.max_secs)?;
    server.closed().await;
    Ok(())
}

async fn note(_: Context<State>, _: Note) {}

async fn echo(_: Context<State>, echo: Echo) -> Result<Echo, Status> {
    Ok(echo)
}

async fn subscribe(context: Context<State>, _: Subscribe) -> Result<(), Status> {
    let joined = context.peer().join(&context.state().subscribers).await;
    joined.map_err(|error| Status::new(StatusCode::UNAVAILABLE, error.to_string()))
}

async fn start(context: Context<State>, start: Start) -> Result<(), Status> {
    start.check()?;
    let subscribers = context.server().group(&context.state().subscribers);
    tokio::spawn(async move {
        if let Err(error) = broadcast(&subscribers, &start).await {
            eprintln!("peer-trunkline: the broadcast ended early: {error:#}");
        }
    });
    Ok(())
}

async fn broadcast(subscribers: &Group, start: &Start) -> Result<()> {
    let began = Instant::now();
    for number in 0..start.events {
        if start.rate_hz > 0.0 {
            sleep_until(began + start.due(number)).await;
        }
        let event = Event::now(start.payload as usize)?;
        subscribers.broadcast(&event).await?;
    }
    Ok(())
}
