//! A dispatcher hands jobs to idle workers, each with a deadline; what one worker does not do in
//! time the next one gets.

use std::time::Duration;

use async_channel::{Receiver, Sender, unbounded};
use trunkline::{Admit, Client, Context, Peer, Server, Service, Status, StatusCode};

use crate::common::{Failure, throwaway_certificate};

messages! {
    package "jobs.v1";
    message Ready {}
    message Job { uint64 number = "1"; }
    message Done { string worker = "1"; uint64 result = "2"; }
}

/// The idle workers.
type Idle = (Sender<Peer>, Receiver<Peer>);

fn overloaded(error: impl ToString) -> Status {
    Status::new(StatusCode::RESOURCE_EXHAUSTED, error.to_string())
}

/// On the dispatcher: a client has come to work.
async fn ready(context: Context<Idle>, _: Ready) -> Result<(), Status> {
    let (idle, _) = context.state();
    idle.send(context.peer().clone()).await.map_err(overloaded)
}

/// On the dispatcher: passes a job on to a worker, and to another one if that takes too long; who was
/// too slow gets no more. Three tries share the time that the customer waits.
async fn dispatch(context: Context<Idle>, job: Job) -> Result<Done, Status> {
    let (idle, workers) = context.state();
    for tries in (1..=3).rev() {
        // Nobody waits here for a worker to come back: the customer is told, and decides.
        let worker = workers
            .try_recv()
            .map_err(|_| overloaded("no worker is idle"))?;
        let patience = context.remaining().unwrap_or(Duration::from_secs(6)) / tries;
        match worker.request(&job).timeout(patience).await {
            Ok(done) => {
                idle.send(worker).await.map_err(overloaded)?;
                return Ok(done);
            }
            Err(error) => println!("{} and job {}: {error}", worker.client_id(), job.number),
        }
    }
    let late = "no worker did it in time";
    Err(Status::new(StatusCode::DEADLINE_EXCEEDED, late))
}

/// On a worker that works.
async fn work(context: Context<()>, Job { number }: Job) -> Result<Done, Status> {
    let worker = context.client_id().to_string();
    let result = number * number;
    Ok(Done { worker, result })
}

/// On a worker that hangs. It sees that the dispatcher has given up, and may stop.
async fn hang(context: Context<()>, Job { number }: Job) -> Result<Done, Status> {
    context.cancelled().await;
    println!("{} stops working on job {number}", context.client_id());
    Err(Status::new(StatusCode::CANCELLED, ""))
}

pub(crate) async fn run() -> Result<(), Failure> {
    let (identity, roots) = throwaway_certificate()?;
    let dispatcher = Server::bind("127.0.0.1:0".parse()?)
        .identity(identity)
        .admission(Admit::open())
        .service(Service::new(unbounded()).on(ready).on_request(dispatch))
        .await?;
    let connect = |name: &str, service| {
        Client::connect(dispatcher.local_addr().to_string())
            .server_name("localhost")
            .roots(roots.clone())
            .client_id(name)
            .service(service)
    };
    let lazy = connect("lazy", Service::new(()).on_request(hang)).await?;
    let eager = connect("eager", Service::new(()).on_request(work)).await?;
    for worker in [&lazy, &eager] {
        worker.send(&Ready {}).acked().await?;
    }

    let customer = connect("customer", Service::new(())).await?;
    for number in 1..=4 {
        let job = customer.request(&Job { number });
        let Done { worker, result } = job.timeout(Duration::from_secs(6)).await?;
        println!("job {number} was done by {worker}: {result}");
        if result != number * number {
            return Err(format!("job {number} came to {result}").into());
        }
    }
    dispatcher.close().await;
    Ok(())
}
