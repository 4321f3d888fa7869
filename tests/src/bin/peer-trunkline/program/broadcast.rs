//! `broadcast`: subscribers that count the events which the server sends to all of them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::sync::Notify;
use tokio::time::timeout;
use trunkline_testkit::peers::{
    Broadcasting, Event, Latencies, Plan, Report, Snapshot, Start, Subscribe, clock_ns,
};
use trunkline_tokio::{Context, Service};

use super::clients::{Dialer, close, for_each};

/// Subscribers that connect at a time.
const AT_ONCE: usize = 32;

pub(crate) async fn run(plan: &Plan) -> Result<Report> {
    let dialer = Dialer::new(plan)?;
    let control = dialer.client(plan.conns)?.await?;
    let sink = Arc::new(Sink::new(plan));
    let subscribe = |number| {
        let service = Service::new(sink.clone()).on(event);
        let builder = dialer.client(number);
        async move {
            let client = builder?.service(service).await?;
            client.send(&Subscribe {}).acked().await?;
            Ok(client)
        }
    };
    let mut clients = for_each(plan.conns, AT_ONCE, subscribe).await?;
    // Whatever the set-up left behind is to be over.
    tokio::time::sleep(Duration::from_millis(500)).await;

    let start = Start {
        events: plan.count,
        payload: plan.payload as u64,
        rate_hz: plan.rate.0.unwrap_or(0.0),
    };
    let before = Snapshot::take(&plan.server_pids)?;
    control.send(&start).acked().await?;
    let in_time = timeout(plan.duration, sink.complete.notified()).await;
    let after = Snapshot::take(&plan.server_pids)?;
    let (came, total) = (sink.came.load(Relaxed), sink.total);
    if in_time.is_err() && came < total {
        bail!(
            "only {came} of {total} events came within {:?}",
            plan.duration
        );
    }
    let mut window = before.until(&after);
    window.messages = came;
    clients.push(control);
    close(clients).await;
    let latencies = sink
        .latencies
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let latencies = latencies.clone();
    Ok(Report::broadcast(plan, Broadcasting { window, latencies }))
}

/// Counts what all subscribers get.
struct Sink {
    total: u64,
    came: AtomicU64,
    /// Latencies mean something only where events are paced.
    paced: bool,
    latencies: Mutex<Latencies>,
    complete: Notify,
}

impl Sink {
    fn new(plan: &Plan) -> Self {
        Self {
            total: plan.conns as u64 * plan.count,
            came: AtomicU64::new(0),
            paced: plan.rate.0.is_some(),
            latencies: Mutex::default(),
            complete: Notify::new(),
        }
    }
}

async fn event(context: Context<Arc<Sink>>, event: Event) {
    let sink = context.state();
    if sink.paced
        && let (Some(began), Ok(now)) = (event.began_ns(), clock_ns())
    {
        let latency = Duration::from_nanos(now.saturating_sub(began));
        let mut latencies = sink
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        latencies.push(latency);
    }
    if sink.came.fetch_add(1, Relaxed) + 1 == sink.total {
        sink.complete.notify_one();
    }
}
