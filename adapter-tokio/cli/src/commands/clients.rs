//! `trunkline clients`: who is connected to a server.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::connection::{Connection, ConnectionOptions, PATIENCE};
use crate::failure::Failure;
use crate::messages::{ClientEntry, ClientsReply, ClientsRequest};
use crate::output::{self, printable, seconds, word};
use crate::printer;
use crate::screen::Screen;
use crate::signals::StopSignals;
use crate::table::{Table, grouped};

const EXAMPLES: &str = "\
The server answers clients that it was told to answer: 'trunkline serve --admin anna'. The list holds
every session, this command's own and those of clients that are away included.

EXIT STATUS
  0  the list is printed
  1  there was no connection, or the server does not list its clients for this one
  2  the command line or a file cannot be used
  130  interrupted before the list was there

EXAMPLES
  As a table
    trunkline clients localhost:4433 --dev certs --client-id anna
  The addresses of those who are connected
    trunkline clients localhost:4433 --dev certs --client-id anna --json | jq -r '.clients[].address'";

/// List the clients of a server: address, state, round-trip time, queues and counts.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) connection: ConnectionOptions,
    /// Print the list as one JSON object
    #[arg(long)]
    json: bool,
}

/// A session, as JSON has it.
#[derive(Debug, Serialize)]
struct Row {
    client: String,
    session: String,
    state: String,
    address: Option<String>,
    round_trip_ms: Option<f64>,
    connected_ms: Option<u64>,
    heard_ms: Option<u64>,
    epoch: u64,
    queued_bytes: u64,
    promises: u64,
    deliveries: u64,
    sent: u64,
    received: u64,
}

#[derive(Debug, Serialize)]
struct List {
    clients: Vec<Row>,
}

/// Asks, prints, and is gone.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut stop = StopSignals::listen();
    let screen = Screen::plain();
    let mut connection = Connection::open(
        &arguments.connection,
        Some(PATIENCE),
        &screen,
        &mut stop,
        |builder| builder,
    )
    .await?;
    let client = connection.client.clone();
    let asked = client
        .request::<ClientsReply>(&ClientsRequest {})
        .timeout(PATIENCE);
    let asked = tokio::select! {
        asked = asked.into_future() => Some(asked),
        () = stop.next() => None,
    };
    connection.close(&mut stop).await;
    let reply = asked.ok_or_else(Failure::interrupted)?.map_err(|error| {
        let error = printable(&error.to_string());
        Failure::failed(format!("the server does not list its clients: {error}"))
    })?;
    let clients = reply.clients.into_iter().map(row).collect();
    let list = List { clients };
    let text = if arguments.json {
        output::as_json(&list)?
    } else {
        table(&list).to_string()
    };
    printer::result(text, &mut stop).await
}

fn row(entry: ClientEntry) -> Row {
    let hexadecimal = entry.session.iter().map(|byte| format!("{byte:02x}"));
    Row {
        client: entry.client,
        session: hexadecimal.collect(),
        state: entry.state,
        address: Some(entry.address).filter(|address| !address.is_empty()),
        round_trip_ms: entry.round_trip_us.map(|micros| micros as f64 / 1_000.0),
        connected_ms: entry.connected_ms,
        heard_ms: entry.heard_ms,
        epoch: entry.epoch,
        queued_bytes: entry.queued_bytes,
        promises: entry.promises,
        deliveries: entry.deliveries,
        sent: entry.sent,
        received: entry.received,
    }
}

fn table(list: &List) -> Table {
    let mut table = Table::new([
        "client",
        "state",
        "address",
        "rtt (ms)",
        "connected",
        "heard",
        "epoch",
        "queued",
        "sent",
        "received",
    ]);
    let dash = || "-".to_owned();
    let ago = |millis: Option<u64>| {
        millis.map_or_else(dash, |millis| seconds(Duration::from_millis(millis)))
    };
    for row in &list.clients {
        table.row([
            word(&row.client),
            printable(&row.state),
            row.address.as_deref().map_or_else(dash, printable),
            row.round_trip_ms
                .map_or_else(dash, |rtt| format!("{rtt:.2}")),
            ago(row.connected_ms),
            ago(row.heard_ms),
            grouped(row.epoch),
            grouped(row.queued_bytes),
            grouped(row.sent),
            grouped(row.received),
        ]);
    }
    table
}
