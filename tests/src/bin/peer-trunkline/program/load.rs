//! `pipeline`, `bulk`, `rpc` and `mixed`: a future for each message in flight, which sends the next
//! one once the last is answered. Each is a task; with `PEERS_TASKS=one` in the environment, one task runs
//! all that a connection has in flight.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::task::JoinSet;
use trunkline_testkit::peers::{
    Counter, Echo, Latencies, Measurement, Meter, Note, Plan, Report, Workload, note_lane,
};
use trunkline_tokio::{Lane, Peer};

use super::clients::{Dialer, close, for_each};

pub(crate) async fn run(plan: &Plan) -> Result<Report> {
    ensure!(
        plan.rate.0.is_none(),
        "--rate: this program paces broadcasts alone, peer-trunkline-core also messages"
    );
    let dialer = Dialer::new(plan)?;
    let connect = |number| {
        let builder = dialer.client(number);
        async move { Ok(builder?.await?) }
    };
    let clients = for_each(plan.conns, 1, connect).await?;
    let filler = |size| Bytes::from(vec![0x5a; size]);
    let work = match plan.workload {
        Workload::Rpc | Workload::Mixed => Work::request(filler(plan.payload)),
        _ => Work::send(filler(plan.payload)),
    };
    let bulk_work = Work::send(filler(plan.bulk_payload));
    let measurement = Measurement::start(plan);
    let meter = &measurement.meter;
    let one_task = std::env::var("PEERS_TASKS").as_deref() == Ok("one");
    let (mut small, mut bulk) = (JoinSet::new(), JoinSet::new());
    for client in &clients {
        let start = |tasks: &mut JoinSet<_>, count, work: &Work, counter| {
            let one = || repeat(client.peer().clone(), work.clone(), meter.clone(), counter);
            let futures = (0..count).map(|_| one());
            if one_task {
                tasks.spawn(together(futures.collect()));
            } else {
                futures.for_each(|future| drop(tasks.spawn(future)));
            }
        };
        start(&mut small, plan.concurrency, &work, Counter::Messages);
        if plan.workload == Workload::Mixed {
            start(&mut bulk, plan.bulk_window, &bulk_work, Counter::Bulk);
        }
    }
    let (latencies, bulk_latencies) = (gather(small).await?, gather(bulk).await?);
    let window = measurement.finish()?;
    close(clients).await;
    Ok(Report::load(plan, &window, latencies, bulk_latencies))
}

/// What one task does again and again.
#[derive(Clone)]
enum Work {
    Send(Note, Lane),
    Request(Echo),
}

impl Work {
    fn send(payload: Bytes) -> Self {
        let lane = note_lane(payload.len());
        Self::Send(Note { payload }, lane)
    }

    fn request(payload: Bytes) -> Self {
        Self::Request(Echo { payload })
    }

    async fn once(&self, peer: &Peer) -> Result<()> {
        match self {
            Self::Send(note, lane) => peer.send(note).acked().lane(*lane).await?,
            Self::Request(echo) => {
                let reply: Echo = peer.request(echo).await?;
                let (came, sent) = (reply.payload.len(), echo.payload.len());
                ensure!(came == sent, "a reply has {came} bytes instead of {sent}");
            }
        }
        Ok(())
    }
}

async fn repeat(peer: Peer, work: Work, meter: Arc<Meter>, counter: Counter) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    while !meter.is_stopped() {
        let began = Instant::now();
        work.once(&peer).await?;
        if meter.is_measuring() {
            latencies.push(Instant::now() - began);
        }
        meter.add(counter, 1);
    }
    Ok(latencies)
}

/// Runs them all in the task that it is part of.
async fn together<F>(mut futures: FuturesUnordered<F>) -> Result<Latencies>
where
    F: Future<Output = Result<Latencies>>,
{
    let mut all = Latencies::default();
    while let Some(latencies) = futures.next().await {
        all.merge(latencies?);
    }
    Ok(all)
}

async fn gather(mut tasks: JoinSet<Result<Latencies>>) -> Result<Latencies> {
    let mut all = Latencies::default();
    while let Some(latencies) = tasks.join_next().await {
        all.merge(latencies??);
    }
    Ok(all)
}
