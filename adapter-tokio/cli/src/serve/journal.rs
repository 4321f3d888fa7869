//! What a server tells of: a line each, as text or as JSON, in the order in which it happened.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinHandle;
use trunkline_tokio::ClientId;

use crate::backlog::{Backlog, Next, Reader, backlog};
use crate::failure::Failure;
use crate::output::{self, printable, quoted, seconds, word};

/// Lines that wait to be written. Messages wait for room, and hold their senders back; other
/// lines that find none are counted as missing.
const WAITING: usize = 16_384;
/// Bytes of messages' texts that wait to be written, whatever their number. More than any one has.
const WAITING_BYTES: usize = 16 << 20;
/// So many lines are written at a time.
const BATCH: usize = 256;
/// Or as many as make so many bytes.
const BATCH_BYTES: usize = 1 << 20;

/// A client id, which clients choose: whatever is in it, in a line it is one word.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Name(String);

impl From<&ClientId> for Name {
    fn from(id: &ClientId) -> Self {
        Self(id.to_string())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&word(&self.0))
    }
}

/// Something that a server tells of.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Entry {
    Listening {
        address: SocketAddr,
    },
    Connected {
        client: Name,
        address: Option<SocketAddr>,
    },
    Resumed {
        client: Name,
        address: Option<SocketAddr>,
    },
    /// The client goes on at another address, over the same connection.
    Moved {
        client: Name,
        address: SocketAddr,
    },
    /// So many moves have no line each.
    MovesLeftOut {
        moves: u64,
    },
    /// The client was not let in; its name is what it said of itself.
    Refused {
        client: Name,
        address: SocketAddr,
        code: u32,
        reason: String,
    },
    HeartbeatTimeout {
        client: Name,
    },
    /// The session is kept for the client to come back to.
    Disconnected {
        client: Name,
        reason: String,
    },
    /// The session is gone.
    Closed {
        client: Name,
        reason: String,
    },
    Note {
        client: Name,
        lane: String,
        number: u64,
        text: String,
    },
    Request {
        client: Name,
        lane: String,
        number: u64,
        text: String,
    },
    /// The client waits no more for the reply.
    GivenUp {
        client: Name,
        number: u64,
    },
    Relayed {
        client: Name,
        lane: String,
        number: u64,
        group: Option<String>,
        text: String,
        queued: usize,
        dropped: usize,
        away: usize,
    },
    Joined {
        client: Name,
        group: String,
    },
    Left {
        client: Name,
        group: String,
    },
    /// The client was given the list of sessions.
    Listed {
        client: Name,
    },
    SlowConsumer {
        client: Name,
        queued_bytes: usize,
    },
    Dropped {
        client: Name,
        messages: u64,
    },
    Draining {
        deadline_ms: u64,
    },
    /// So many lines are missing here: they came faster than they could be written.
    Missing {
        lines: u64,
    },
}

impl Entry {
    /// Bytes of the text that a client has sent.
    fn text_bytes(&self) -> usize {
        match self {
            Self::Note { text, .. } | Self::Request { text, .. } | Self::Relayed { text, .. } => {
                text.len()
            }
            _ => 0,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = |address: &Option<SocketAddr>| {
            address.map_or_else(String::new, |address| format!(" from {address}"))
        };
        match self {
            Self::Listening { address } => write!(f, "listening on {address}"),
            Self::Connected { client, address } => {
                write!(f, "{client} connected{}", from(address))
            }
            Self::Resumed { client, address } => write!(f, "{client} resumed{}", from(address)),
            Self::Moved { client, address } => write!(f, "{client} moved to {address}"),
            Self::MovesLeftOut { moves } => write!(f, "{moves} more moves, without a line each"),
            Self::Refused {
                client,
                address,
                code,
                reason,
            } => {
                let reason = printable(reason);
                write!(
                    f,
                    "{client} from {address} was not let in: {reason} ({code})"
                )
            }
            Self::HeartbeatTimeout { client } => write!(f, "{client} is silent: heartbeat timeout"),
            Self::Disconnected { client, reason } => {
                let reason = printable(reason);
                write!(f, "{client} disconnected, and may come back: {reason}")
            }
            Self::Closed { client, reason } => {
                write!(f, "{client} is gone: {}", printable(reason))
            }
            Self::Note {
                client,
                lane,
                number,
                text,
            } => write!(f, "{client} note {number} ({lane} lane): {}", quoted(text)),
            Self::Request {
                client,
                lane,
                number,
                text,
            } => write!(
                f,
                "{client} request {number} ({lane} lane): {}",
                quoted(text)
            ),
            Self::GivenUp { client, number } => write!(f, "{client} gave up on request {number}"),
            Self::Relayed {
                client,
                lane,
                number,
                group,
                text,
                queued,
                dropped,
                away,
            } => {
                let audience = match group {
                    Some(group) => format!("group {}", word(group)),
                    None => "all".to_owned(),
                };
                let text = quoted(text);
                write!(
                    f,
                    "{client} to {audience}, {number} ({lane} lane): {text}: for {queued}, dropped {dropped}, away {away}"
                )
            }
            Self::Joined { client, group } => {
                write!(f, "{client} joined {}", word(group))
            }
            Self::Left { client, group } => write!(f, "{client} left {}", word(group)),
            Self::Listed { client } => write!(f, "{client} was given the list of clients"),
            Self::SlowConsumer {
                client,
                queued_bytes,
            } => write!(f, "{client} is slow: {queued_bytes} bytes wait for it"),
            Self::Dropped { client, messages } => {
                write!(
                    f,
                    "{client} misses {messages} broadcasts: they were dropped"
                )
            }
            Self::Draining { deadline_ms } => write!(
                f,
                "going away: what is under way is finished, for at most {}",
                seconds(Duration::from_millis(*deadline_ms))
            ),
            Self::Missing { lines } => write!(f, "{lines} lines are missing here"),
        }
    }
}

/// An entry with its time.
#[derive(Debug, Serialize)]
struct Line {
    /// Seconds since 1970.
    time: f64,
    #[serde(skip)]
    since_start: Duration,
    #[serde(flatten)]
    entry: Entry,
}

/// How a journal is kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    /// As JSON.
    pub(crate) json: bool,
    /// Tell nothing of messages.
    pub(crate) quiet: bool,
    /// Whoever records a message waits until it is written.
    pub(crate) write_first: bool,
}

/// Where entries go; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    waiting: Backlog<Waiting>,
    room: Arc<Semaphore>,
    manner: Manner,
    start: Instant,
}

/// What waits for the writer.
#[derive(Debug)]
enum Waiting {
    /// A line, its room, and who is told when it is written.
    Line(
        Line,
        Option<OwnedSemaphorePermit>,
        Option<oneshot::Sender<()>>,
    ),
    /// The end.
    End,
}

/// Writes the lines; ends with the journal, or when nobody reads them any more.
#[derive(Debug)]
pub(crate) struct Writer(JoinHandle<Result<(), Failure>>);

impl Journal {
    /// A journal on standard output.
    pub(crate) fn start(manner: Manner) -> (Self, Writer) {
        let (waiting, reader) = backlog(WAITING);
        let start = Instant::now();
        let journal = Self {
            waiting,
            room: Arc::new(Semaphore::new(WAITING_BYTES)),
            manner,
            start,
        };
        // On a thread of its own: whoever reads our output may be slow.
        let writer = tokio::task::spawn_blocking(move || write(reader, start, manner.json));
        (journal, Writer(writer))
    }

    /// How long it has been kept.
    pub(crate) fn since_start(&self) -> Duration {
        Instant::now() - self.start
    }

    /// Tells, without waiting.
    pub(crate) fn tell(&self, entry: Entry) {
        let line = Line::now(self.start, entry);
        self.waiting.tell(Waiting::Line(line, None, None));
    }

    /// Tells of a message, unless this is a quiet journal: waits until there is room, and, if that
    /// is its manner, until it is written.
    pub(crate) async fn record(&self, entry: impl FnOnce() -> Entry) {
        if self.manner.quiet {
            return;
        }
        let line = Line::now(self.start, entry());
        let bytes = line.entry.text_bytes().min(WAITING_BYTES);
        // Who reads the output may be slow, and messages large. Nobody closes the semaphore.
        let room = self.room.clone().acquire_many_owned(bytes as u32).await;
        let (written, told) = oneshot::channel();
        let written = self.manner.write_first.then_some(written);
        let line = Waiting::Line(line, room.ok(), written);
        self.waiting.enqueue(line).await;
        if self.manner.write_first && told.await.is_err() {
            // It cannot be written, so the server ends. What it has not told of, it must not accept.
            std::future::pending::<()>().await;
        }
    }

    /// Ends it: what was told is written.
    pub(crate) async fn end(&self, mut writer: Writer) -> Result<(), Failure> {
        // If the writer has ended, it says why.
        self.waiting.enqueue(Waiting::End).await;
        writer.ended().await
    }
}

impl Line {
    fn now(start: Instant, entry: Entry) -> Self {
        let since_1970 = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            time: since_1970.as_millis() as f64 / 1_000.0,
            since_start: Instant::now() - start,
            entry,
        }
    }
}

impl Writer {
    /// Waits for its end, and says whether all could be written. Cancel-safe; not to be called
    /// again after it has returned.
    pub(crate) async fn ended(&mut self) -> Result<(), Failure> {
        (&mut self.0).await.unwrap_or_else(|error| {
            Err(Failure::failed(format!(
                "the journal cannot be written: {error}"
            )))
        })
    }
}

fn write(mut waiting: Reader<Waiting>, start: Instant, json: bool) -> Result<(), Failure> {
    let mut batch = Vec::new();
    let mut written = Vec::new();
    while waiting.read(BATCH, &mut batch) {
        let mut over = false;
        let mut text = String::new();
        for next in batch.drain(..) {
            match next {
                Next::Told(Waiting::Line(line, _room, told)) => {
                    add(&mut text, &line, json)?;
                    written.extend(told);
                    if text.len() >= BATCH_BYTES {
                        output::result(text.trim_end_matches('\n'))?;
                        text.clear();
                    }
                }
                Next::Told(Waiting::End) => over = true,
                Next::Missing(lines) => {
                    let entry = Entry::Missing { lines };
                    add(&mut text, &Line::now(start, entry), json)?;
                }
            }
        }
        if let Some(text) = text.strip_suffix('\n') {
            output::result(text)?;
        }
        for told in written.drain(..) {
            // Its message may have been given up meanwhile.
            let _ = told.send(());
        }
        if over {
            break;
        }
    }
    Ok(())
}

fn add(text: &mut String, line: &Line, json: bool) -> Result<(), Failure> {
    if json {
        *text += &serde_json::to_string(line)
            .map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?;
    } else {
        let seconds = line.since_start.as_secs_f64();
        *text += &format!("{seconds:>10.3} {}", line.entry);
    }
    text.push('\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn journal(waiting: Backlog<Waiting>) -> Journal {
        Journal {
            waiting,
            room: Arc::new(Semaphore::new(WAITING_BYTES)),
            manner: Manner::default(),
            start: Instant::now(),
        }
    }

    /// What is to be written next.
    fn next(reader: &mut Reader<Waiting>) -> Option<Next<Waiting>> {
        let mut batch = Vec::new();
        reader.read(1, &mut batch);
        batch.pop()
    }

    #[test]
    fn large_texts_that_nobody_reads_hold_their_senders_back() {
        const SIZE: usize = 1 << 20;
        let (waiting, mut reader) = backlog(WAITING);
        let journal = journal(waiting);
        let note = || Entry::Note {
            client: Name("anna".into()),
            lane: "default".into(),
            number: 1,
            text: "x".repeat(SIZE),
        };
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..WAITING_BYTES / SIZE {
            assert!(pin!(journal.record(note)).poll(&mut cx).is_ready());
        }
        let mut another = pin!(journal.record(note));
        assert!(another.as_mut().poll(&mut cx).is_pending());
        drop(next(&mut reader));
        assert!(another.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn what_is_to_be_written_first_and_cannot_be_is_never_recorded() {
        let (waiting, mut reader) = backlog(1);
        let journal = Journal {
            manner: Manner {
                write_first: true,
                ..Manner::default()
            },
            ..journal(waiting)
        };
        let mut cx = Context::from_waker(Waker::noop());
        let entry = || Entry::Draining { deadline_ms: 0 };
        let mut written = pin!(journal.record(entry));
        assert!(written.as_mut().poll(&mut cx).is_pending());
        let told = match next(&mut reader) {
            Some(Next::Told(Waiting::Line(_, _, told))) => told.expect("somebody waits"),
            other => panic!("{other:?} is no line"),
        };
        told.send(()).expect("somebody waits");
        assert!(written.as_mut().poll(&mut cx).is_ready());

        let mut taken = pin!(journal.record(entry));
        assert!(taken.as_mut().poll(&mut cx).is_pending());
        drop(reader);
        let mut refused = pin!(journal.record(entry));
        assert!(taken.as_mut().poll(&mut cx).is_pending());
        assert!(refused.as_mut().poll(&mut cx).is_pending());
    }
}
