//! `trunkline listen`: what arrives at a client.

use clap::Args;
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde::Serialize;
use tokio::sync::mpsc;
use trunkline_tokio::{
    Answer, Client, Context, Expects, GroupName, Message, PromiseError, Service, Status, StatusCode,
};

use crate::connection::{Connection, ConnectionOptions, Happening, explained};
use crate::failure::Failure;
use crate::messages::{Join, Note, Relayed};
use crate::output::{printable, word};
use crate::printer::Printer;
use crate::screen::Screen;
use crate::signals::StopSignals;
use crate::{output, parse, table};

const EXAMPLES: &str = "\
What comes through a broadcast is best effort: ordered while a connection lasts, and gone with it. Groups
outlive connections, not sessions: when the server has lost the session, this client joins them again.
It dials until there is a server, unless --connect-timeout says otherwise.

EXIT STATUS
  0  it has printed as many as --count says, or was ended by Ctrl-C or SIGTERM without one
  1  there was no connection, a group was not joined, or the session is over
  2  the command line or a file cannot be used
  130  interrupted before there was a connection, or before the --count was reached

EXAMPLES
  What is sent to all, and to two groups
    trunkline listen localhost:4433 --dev certs --group lobby --group news
  Ten messages, as JSON, one object a line
    trunkline listen localhost:4433 --ca ca.pem --client-id anna --count 10 --json";

/// Print the messages that arrive: broadcasts to all, to groups, and what the server sends.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) connection: ConnectionOptions,
    /// Join that group; may be given more than once
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<GroupName>,
    /// End after so many messages [default: at Ctrl-C]
    #[arg(long, value_name = "NUMBER", value_parser = parse::count)]
    count: Option<u64>,
    /// Print each message as one JSON object
    #[arg(long)]
    json: bool,
}

/// A message that has arrived.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Heard {
    /// What a client has sent to a group, or to all.
    Relayed {
        from: String,
        group: Option<String>,
        number: u64,
        text: String,
    },
    /// What the server has sent.
    Note { number: u64, text: String },
    /// A message of a type that this program does not know.
    Other { tag: String, bytes: usize },
}

impl std::fmt::Display for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Relayed {
                from, group, text, ..
            } => {
                let to = group.as_deref().map_or("all".into(), word);
                write!(f, "{} to {to}: {}", word(from), printable(text))
            }
            Self::Note { text, .. } => write!(f, "server: {}", printable(text)),
            Self::Other { tag, bytes } => write!(f, "a message tagged {tag}, {bytes} bytes"),
        }
    }
}

type Sink = mpsc::Sender<Heard>;

/// Listens until the count is reached, the session is over, or the user has seen enough.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut stop = StopSignals::listen();
    let screen = Screen::plain();
    // Messages wait here while the output is slow, and hold their sender back.
    let (sink, mut heard) = mpsc::channel(256);
    let mut connection =
        Connection::open(&arguments.connection, None, &screen, &mut stop, |builder| {
            builder.service(service(sink))
        })
        .await?;
    let mut printer = Printer::start();
    let mut joining = FuturesUnordered::new();
    let join_all = |client: &Client| {
        let client = client.clone();
        let groups = arguments.groups.clone();
        groups
            .into_iter()
            .map(move |group| join(client.clone(), group))
    };
    joining.extend(join_all(&connection.client));
    let mut count = 0;
    let ended = loop {
        if arguments.count.is_some_and(|wanted| count >= wanted) {
            break Ok(());
        }
        if printer.is_broken() {
            break Ok(());
        }
        tokio::select! {
            biased;
            // Without a count that is how it ends.
            () = stop.next() => break match arguments.count {
                Some(_) => Err(Failure::interrupted()),
                None => Ok(()),
            },
            happening = connection.next() => match happening {
                // A new session is in no group.
                Happening::Connected(_) => joining.extend(join_all(&connection.client)),
                Happening::Closed(reason) => {
                    break Err(Failure::failed(format!("the session is over: {}", explained(&reason))));
                }
                _ => {}
            },
            Some((group, joined)) = joining.next(), if !joining.is_empty() => match joined {
                Ok(()) => screen.note(&format!("joined {}", word(group.as_str()))),
                // The new session joins anew.
                Err(PromiseError::Lost { .. }) => {}
                Err(error) => {
                    let error = printable(&error.to_string());
                    break Err(Failure::failed(format!("{} was not joined: {error}", word(group.as_str()))));
                }
            },
            () = printer.progress() => {}
            Some(message) = heard.recv(), if !printer.is_behind() => {
                count += 1;
                printer.print(if arguments.json {
                    output::as_json(&message)?
                } else {
                    message.to_string()
                });
            }
        }
    };
    connection.close(&mut stop).await;
    screen.note(&format!("heard {} messages", table::grouped(count)));
    Failure::concluded(printer.finish(&mut stop).await, ended)
}

async fn join(client: Client, group: GroupName) -> (GroupName, Result<(), PromiseError>) {
    let request = Join {
        group: group.to_string(),
    };
    let joined = client.send(&request).acked().await;
    (group, joined)
}

fn service(sink: Sink) -> Service<Sink> {
    Service::new(sink)
        .on(async |context: Context<Sink>, relayed: Relayed| {
            let Relayed {
                from,
                group,
                text,
                number,
                ..
            } = relayed;
            let group = (!group.is_empty()).then_some(group);
            pass_on(
                &context,
                Heard::Relayed {
                    from,
                    group,
                    number,
                    text,
                },
            )
            .await
        })
        .on(async |context: Context<Sink>, note: Note| {
            let Note { number, text, .. } = note;
            pass_on(&context, Heard::Note { number, text }).await
        })
        .otherwise(async |context: Context<Sink>, message: Message| {
            if context.expects() == Expects::Reply {
                return Err(Status::new(
                    StatusCode::UNIMPLEMENTED,
                    "a listener answers no requests",
                ));
            }
            let other = Heard::Other {
                tag: message.tag.to_string(),
                bytes: message.body.len(),
            };
            pass_on(&context, other).await.map(|()| Answer::Ack)
        })
}

async fn pass_on(context: &Context<Sink>, heard: Heard) -> Result<(), Status> {
    context
        .state()
        .send(heard)
        .await
        .map_err(|_| Status::new(StatusCode::UNAVAILABLE, "the listener has ended"))
}
