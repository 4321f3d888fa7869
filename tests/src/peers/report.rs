//! The JSON object that a client prints.

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::arguments::{Plan, Workload};
use super::latencies::Latencies;
use super::meter::Window;

/// The JSON object that a client prints: keys and numbers.
#[derive(Debug)]
pub struct Report(Map<String, Value>);

/// What a broadcast comes to.
#[derive(Debug)]
pub struct Broadcasting {
    /// From the start command to the last delivery; its messages are the deliveries.
    pub window: Window,
    /// From an event's beginning to its delivery.
    pub latencies: Latencies,
}

/// What setting up connections, and their rest, come to.
#[derive(Debug)]
pub struct Connecting {
    /// From the first dial until the last connection was ready; its messages are the connections.
    pub window: Window,
    /// From a dial until an acked message had gone there and back.
    pub ready: Latencies,
    /// From a dial until the session had its link.
    pub handshakes: Latencies,
    /// The server's memory, in KiB: before, once all are connected, and at the end of their rest.
    pub server_kib: [u64; 3],
    /// This process's, before and once all are connected.
    pub client_kib: [u64; 2],
    /// The rest.
    pub idle: Window,
}

impl Report {
    fn new(plan: &Plan) -> Self {
        let workload = plan.workload.to_possible_value();
        let workload = workload.map_or_else(String::new, |value| value.get_name().to_owned());
        Self(Map::new())
            .with("workload", workload)
            .with("allocator", "mimalloc")
            .with("payload", plan.payload)
            .with("count", plan.count)
            .with("concurrency", plan.concurrency)
            .with("conns", plan.conns)
            .with("duration", plan.duration.as_secs_f64())
            .with("rate_hz", plan.rate.0.unwrap_or(0.0))
    }

    /// What `pipeline`, `bulk`, `rpc` or `mixed` came to; `bulk` are the latencies of the large
    /// messages beside the small ones.
    pub fn load(plan: &Plan, window: &Window, latencies: Latencies, mut bulk: Latencies) -> Self {
        let report = Self::new(plan).messages(plan, window).latencies(latencies);
        if plan.workload != Workload::Mixed {
            return report;
        }
        let megabytes = window.bulk as f64 * plan.bulk_payload as f64 / 1e6;
        let [p50, p99] = bulk.percentiles([50.0, 99.0]);
        report
            .with("bulk_msgs", window.bulk)
            .with("bulk_mb_per_s", per(megabytes, window.time.as_secs_f64()))
            .with("bulk_p50_us", p50)
            .with("bulk_p99_us", p99)
    }

    /// What `broadcast` came to.
    pub fn broadcast(plan: &Plan, broadcasting: Broadcasting) -> Self {
        let Broadcasting { window, latencies } = broadcasting;
        let deliveries = window.messages as f64;
        let report = Self::new(plan)
            .messages(plan, &window)
            .with("deliveries", window.messages)
            .with(
                "deliveries_per_s",
                per(deliveries, window.time.as_secs_f64()),
            )
            .with(
                "server_cpu_s_per_m",
                per(window.server.total * 1e6, deliveries),
            )
            .with(
                "client_cpu_s_per_m",
                per(window.client.total * 1e6, deliveries),
            );
        if plan.rate.0.is_some() {
            report.latencies(latencies)
        } else {
            report
        }
    }

    /// What `connect` came to.
    pub fn connect(plan: &Plan, connecting: Connecting) -> Self {
        let Connecting {
            window,
            mut ready,
            mut handshakes,
            server_kib: [before, after, idle_end],
            client_kib,
            idle,
        } = connecting;
        let conns = window.messages as f64;
        let idle_secs = idle.time.as_secs_f64();
        let [ready_p50, ready_p99] = ready.percentiles([50.0, 99.0]);
        let [handshake_p50, handshake_p99] = handshakes.percentiles([50.0, 99.0]);
        let grown = |from: u64, to: u64| per(to as f64 - from as f64, conns);
        Self::new(plan)
            .window(&window)
            .with("conns_per_s", per(conns, window.time.as_secs_f64()))
            .with("ready_p50_ms", ready_p50 / 1e3)
            .with("ready_p99_ms", ready_p99 / 1e3)
            .with("handshake_p50_ms", handshake_p50 / 1e3)
            .with("handshake_p99_ms", handshake_p99 / 1e3)
            .with(
                "server_cpu_us_per_conn",
                per(window.server.total * 1e6, conns),
            )
            .with(
                "client_cpu_us_per_conn",
                per(window.client.total * 1e6, conns),
            )
            .with("rss_before_kib", before)
            .with("rss_after_kib", after)
            .with("rss_kib_per_conn", grown(before, after))
            .with("rss_idle_end_kib_per_conn", grown(before, idle_end))
            .with(
                "client_rss_kib_per_conn",
                grown(client_kib[0], client_kib[1]),
            )
            .with("idle_secs", idle_secs)
            .with("idle_server_cpu_s", idle.server.total)
            .with(
                "idle_server_cpu_us_per_conn_s",
                per(idle.server.total * 1e6, conns * idle_secs),
            )
    }

    /// Adds a key of the program's own.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    fn messages(self, plan: &Plan, window: &Window) -> Self {
        let (messages, seconds) = (window.messages as f64, window.time.as_secs_f64());
        let cpu = window.client.total + window.server.total;
        self.window(window)
            .with("msgs_per_s", per(messages, seconds))
            .with(
                "mb_per_s",
                per(messages * plan.payload as f64 / 1e6, seconds),
            )
            .with("cpu_us_per_msg", per(cpu * 1e6, messages))
    }

    fn window(self, window: &Window) -> Self {
        let seconds = window.time.as_secs_f64();
        let busy = window.client.total + window.server.total;
        self.with("secs", seconds)
            .with("msgs", window.messages)
            .with("client_cpu_s", window.client.total)
            .with("client_sys_s", window.client.system)
            .with("server_cpu_s", window.server.total)
            .with("server_sys_s", window.server.system)
            .with("cores_busy", per(busy, seconds))
    }

    fn latencies(self, mut latencies: Latencies) -> Self {
        let [p50, p90, p99, p999, max] = latencies.percentiles([50.0, 90.0, 99.0, 99.9, 100.0]);
        self.with("lat_samples", latencies.count())
            .with("p50_us", p50)
            .with("p90_us", p90)
            .with("p99_us", p99)
            .with("p999_us", p999)
            .with("max_us", max)
    }

    /// Prints it as one line.
    pub(super) fn print(self, name: &str) {
        let name = std::env::var("PEERS_NAME").unwrap_or_else(|_| name.to_owned());
        println!("{}", json!(self.with("peer", name).0));
    }
}

/// A ratio, and zero if it is one of nothing: JSON has no infinity.
fn per(amount: f64, of: f64) -> f64 {
    if of > 0.0 { amount / of } else { 0.0 }
}
