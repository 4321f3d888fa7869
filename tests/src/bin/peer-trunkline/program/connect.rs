//! `connect`: how fast connections come up, and what they cost while they rest.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use trunkline_testkit::peers::{Connecting, Latencies, Note, Plan, Report, Snapshot, resident_kib};
use trunkline_tokio::{Client, ClientBuilder};

use super::clients::{Dialer, close, for_each};

pub(crate) async fn run(plan: &Plan) -> Result<Report> {
    let own = [i32::try_from(std::process::id())?];
    let dialer = Dialer::new(plan)?;
    let kib_before = (resident_kib(&plan.server_pids)?, resident_kib(&own)?);
    let before = Snapshot::take(&plan.server_pids)?;
    let connect = |number| bring_up(dialer.client(number));
    let connected = for_each(plan.conns, plan.concurrency, connect).await?;
    let after = Snapshot::take(&plan.server_pids)?;

    let (mut clients, mut ready) = (Vec::new(), Latencies::default());
    let mut handshakes = Latencies::default();
    for up in connected {
        clients.push(up.client);
        ready.push(up.ready);
        handshakes.push(up.handshake);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let kib_after = (resident_kib(&plan.server_pids)?, resident_kib(&own)?);
    let idle = Snapshot::take(&plan.server_pids)?;
    tokio::time::sleep(plan.hold).await;
    let idle = idle.until(&Snapshot::take(&plan.server_pids)?);
    let kib_idle_end = resident_kib(&plan.server_pids)?;

    let mut window = before.until(&after);
    window.messages = clients.len() as u64;
    close(clients).await;
    let connecting = Connecting {
        window,
        ready,
        handshakes,
        server_kib: [kib_before.0, kib_after.0, kib_idle_end],
        client_kib: [kib_before.1, kib_after.1],
        idle,
    };
    Ok(Report::connect(plan, connecting))
}

/// A client whose first message has been acked.
struct Up {
    client: Client,
    handshake: Duration,
    ready: Duration,
}

/// Connects, and sends the first message at once: it travels with the client's hello.
async fn bring_up(builder: Result<ClientBuilder>) -> Result<Up> {
    let began = Instant::now();
    let client = builder?.start().await?;
    let hello = Note {
        payload: Bytes::from_static(&[7; 16]),
    };
    let handshake = async {
        client.connected().await?;
        Ok::<_, anyhow::Error>(Instant::now() - began)
    };
    let first = async { Ok(client.send(&hello).acked().await?) };
    let (handshake, ()) = tokio::try_join!(handshake, first)?;
    let ready = Instant::now() - began;
    Ok(Up {
        client,
        handshake,
        ready,
    })
}
