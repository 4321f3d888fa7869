//! Many devices report to one collector: samples as best effort, alarms so that none is lost.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use trunkline::{Admit, Client, Context, Lane, Server, Service, Status};

use crate::common::{Failure, throwaway_certificate};

messages! {
    package "telemetry.v1";
    message Sample { uint64 millikelvin = "1"; }
    message Alarm { string text = "1"; }
    message Report {}
    message Summary { uint64 samples = "1"; uint64 alarms = "2"; uint64 hottest = "3"; }
}

const DEVICES: u64 = 50;
const SAMPLES: u64 = 200;

/// What the collector knows.
#[derive(Default)]
struct Collector {
    samples: AtomicU64,
    alarms: AtomicU64,
    hottest: AtomicU64,
}

/// On the collector: one device's samples come one at a time, those of different devices in
/// parallel.
async fn sample(context: Context<Collector>, sample: Sample) {
    let Collector {
        samples, hottest, ..
    } = context.state();
    samples.fetch_add(1, Relaxed);
    hottest.fetch_max(sample.millikelvin, Relaxed);
}

/// On the collector: its return is the ack, and the device may forget the alarm.
async fn alarm(context: Context<Collector>, _: Alarm) {
    context.state().alarms.fetch_add(1, Relaxed);
}

/// On the collector: somebody wants to know.
async fn report(context: Context<Collector>, _: Report) -> Result<Summary, Status> {
    let Collector {
        samples,
        alarms,
        hottest,
    } = context.state();
    Ok(Summary {
        samples: samples.load(Relaxed),
        alarms: alarms.load(Relaxed),
        hottest: hottest.load(Relaxed),
    })
}

pub(crate) async fn run() -> Result<(), Failure> {
    let (identity, roots) = throwaway_certificate()?;
    let service = Service::new(Collector::default());
    let collector = Server::bind("127.0.0.1:0".parse()?)
        .identity(identity)
        .admission(Admit::open())
        .service(service.on(sample).on(alarm).on_request(report))
        .await?;

    let urgent = Lane::new(2).ok_or("there is no such lane")?;
    let mut devices = Vec::new();
    for number in 0..DEVICES {
        let device = Client::connect(collector.local_addr().to_string())
            .server_name("localhost")
            .roots(roots.clone())
            .client_id(format!("device-{number}"))
            .await?;
        for sample in 0..SAMPLES {
            // Not kept: where the link is too slow or breaks, newer ones will follow.
            let millikelvin = 290_000 + 100 * (number + sample);
            device.send(&Sample { millikelvin }).best_effort().now()?;
        }
        // Kept until the collector has accepted it, and on a lane that nothing else takes.
        let text = "it is getting warm".into();
        device.send(&Alarm { text }).lane(urgent).acked().await?;
        devices.push(device);
    }

    let Summary {
        samples,
        alarms,
        hottest,
    } = devices[0].request(&Report {}).await?;
    let sent = DEVICES * SAMPLES;
    println!("{alarms} alarms; {samples} of {sent} samples, the hottest {hottest} mK");
    // All of this text is what a Prometheus that scrapes the collector wants to be answered.
    let scraped = collector.metrics().await?.open_metrics().to_string();
    for line in scraped
        .lines()
        .filter(|line| line.contains("best_effort_received"))
    {
        println!("{line}");
    }
    collector.close().await;
    if alarms != DEVICES || samples == 0 {
        return Err("an alarm was lost, or all samples were".into());
    }
    Ok(())
}
