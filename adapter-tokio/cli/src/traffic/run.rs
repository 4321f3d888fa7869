//! One run: sends, settles, and goes on whatever happens to the connection.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, IntoFuture, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use trunkline_tokio::{Client, CommandError, MetricsSnapshot, PromiseError, StatusCode};

use super::hold::Hold;
use super::losses::Losses;
use super::outcomes::{Outcomes, Wanted};
use super::telling::{Fate, Told};
use super::texts::Texts;
use crate::connection::{Connection, Happening, explained};
use crate::failure::Failure;
use crate::messages::{Account, AccountRequest, EchoReply, EchoRequest, Note, Relay};
use crate::output::{self, printable, seconds};
use crate::printer::Printer;
use crate::screen::Screen;
use crate::signals::StopSignals;
use crate::table::grouped;

/// A promise that has not settled so long after its time was over never will.
const GRACE: Duration = Duration::from_secs(10);
/// How long the server may take to give its account at the end.
const ACCOUNT: Duration = Duration::from_secs(5);
/// So many failures are told one by one.
const TOLD: u32 = 3;

/// A number that tells a run from all others; never 0.
pub(crate) fn any_run() -> u64 {
    RandomState::new().hash_one(()) | 1
}

/// What is to be sent, and how.
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) texts: Texts,
    /// How many may wait for their answer at a time.
    pub(crate) in_flight: usize,
    /// How long each waits.
    pub(crate) timeout: Duration,
    /// Tells this run from others.
    pub(crate) run: u64,
    /// Print each reply.
    pub(crate) print: bool,
    /// Print as JSON what becomes of each message, as it happens.
    pub(crate) each: bool,
}

/// What a message is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Request,
    Note {
        acked: bool,
    },
    /// For a group, or, if that is empty, for everybody.
    Relay {
        group: String,
        acked: bool,
    },
}

impl Kind {
    fn noun(&self) -> &'static str {
        match self {
            Self::Request => "requests",
            Self::Note { .. } | Self::Relay { .. } => "messages",
        }
    }

    pub(crate) fn wanted(&self) -> Wanted {
        match self {
            Self::Request => Wanted::Reply,
            Self::Note { acked: true } | Self::Relay { acked: true, .. } => Wanted::Ack,
            Self::Note { .. } | Self::Relay { .. } => Wanted::Nothing,
        }
    }
}

/// A message, before and after it was sent.
struct Item {
    number: u64,
    text: String,
}

enum Answer {
    Reply(EchoReply),
    Accepted,
}

/// What became of a message; `None`: it never settled.
struct Done {
    item: Item,
    /// The how-manieth sending this was: a message that comes back is sent again.
    sending: u64,
    took: Duration,
    result: Option<Result<Answer, PromiseError>>,
}

type Pending = Pin<Box<dyn Future<Output = Done> + Send>>;

/// A run that is going on.
pub(crate) struct Run<'a> {
    connection: &'a mut Connection,
    screen: &'a Screen,
    printer: &'a mut Printer,
    plan: Plan,
    outcomes: Outcomes,
    pending: FuturesUnordered<Pending>,
    /// Given back unsent, by number: they go first.
    returned: BTreeMap<u64, String>,
    numbered: u64,
    sendings: u64,
    /// No more texts.
    exhausted: bool,
    /// Whether nothing is sent because the server goes away.
    hold: Hold,
    losses: Losses,
    told: u32,
    problem: Option<Failure>,
}

/// How a run went.
pub(crate) struct Finished {
    pub(crate) outcomes: Outcomes,
    pub(crate) metrics: Option<MetricsSnapshot>,
    /// The user stopped it before all was sent, or, where nothing is answered, known to be there.
    pub(crate) stopped_early: bool,
    /// How many are known that never went out, or came back and did not go out again.
    pub(crate) unsent: u64,
    /// What ended it before its time.
    pub(crate) problem: Option<Failure>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        connection: &'a mut Connection,
        screen: &'a Screen,
        printer: &'a mut Printer,
        plan: Plan,
    ) -> Self {
        Self {
            connection,
            screen,
            printer,
            plan,
            outcomes: Outcomes::default(),
            pending: FuturesUnordered::new(),
            returned: BTreeMap::new(),
            numbered: 0,
            sendings: 0,
            exhausted: false,
            hold: Hold::default(),
            losses: Losses::default(),
            told: 0,
            problem: None,
        }
    }

    /// Runs until all is sent and settled, the connection is over, nobody reads any more, or the user has asked twice
    /// to stop: but for the second time, what is under way is waited for.
    pub(crate) async fn finish(mut self, stop: &mut StopSignals) -> Finished {
        let mut stopping = false;
        loop {
            let over = self.connection.record.closed.is_some()
                || self.problem.is_some()
                || self.printer.is_broken();
            // Whoever reads slowly holds the sending up.
            let behind = self.printer.is_behind();
            let held = self.hold.is_on();
            let room = self.pending.len() < self.plan.in_flight;
            let all_sent = self.exhausted && self.returned.is_empty();
            let more = !(stopping || over || all_sent);
            if !more && self.pending.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                happening = self.connection.next() => self.react(&happening),
                () = stop.next() => {
                    if stopping {
                        break;
                    }
                    stopping = true;
                    if !self.pending.is_empty() {
                        self.screen.note(&format!(
                            "waiting for {} answers; once more ends it at once",
                            self.pending.len()
                        ));
                    }
                }
                () = self.printer.progress() => {}
                () = self.hold.too_long(), if more => self.screen.note(&format!(
                    "no server is back after {}: from now on it is sent to all the same, and waited for no longer than \
                     --timeout says",
                    seconds(self.plan.timeout)
                )),
                // Who is to end does not wait for what has come already.
                Some(done) = self.pending.next(), if !self.pending.is_empty() && (!behind || stopping) => {
                    self.settle(done);
                }
                item = next_item(&mut self.returned, &mut self.plan.texts, &mut self.numbered),
                    if more && room && !behind && !held =>
                {
                    match item {
                        Ok(Some(item)) => self.send(item).await,
                        Ok(None) => self.exhausted = true,
                        Err(failure) => self.problem = Some(failure),
                    }
                }
            }
            self.screen
                .progress(self.outcomes.answered, self.pending.len());
        }
        self.outcomes.cancelled += self.pending.len() as u64;
        self.pending.clear();
        let exhausted = self.exhausted || self.plan.texts.are_over();
        let all_sent = exhausted && self.returned.is_empty();
        if let (Some(reason), None) = (&self.connection.record.closed, &self.problem) {
            let why = explained(reason);
            self.problem = Some(Failure::failed(format!("the session is over: {why}")));
        }
        let metrics = self.connection.client.metrics().await.ok();
        let accounted = !stop.at_once() && self.ask_for_account(stop).await;
        Finished {
            unsent: self.returned.len() as u64 + self.plan.texts.left().unwrap_or(0),
            outcomes: self.outcomes,
            metrics,
            stopped_early: stopping && !all_sent
                || !accounted && self.plan.kind.wanted() == Wanted::Nothing,
            problem: self.problem,
        }
    }

    /// Sends a message. It is given to the connection before this returns, so that numbers go up.
    async fn send(&mut self, item: Item) {
        self.sendings += 1;
        self.outcomes.sent += 1;
        self.tell_each(&Told::Sent {
            number: item.number,
        });
        let mut pending = dispatch(&self.connection.client, &self.plan, item, self.sendings);
        match poll_fn(|cx| Poll::Ready(pending.as_mut().poll(cx))).await {
            Poll::Ready(done) => self.settle(done),
            Poll::Pending => self.pending.push(pending),
        }
    }

    fn react(&mut self, happening: &Happening) {
        match happening {
            Happening::Connected(_) | Happening::Resumed(_) => self.hold.end(),
            Happening::Draining { .. } => self.hold.begin(self.plan.timeout),
            Happening::SessionLost => {
                self.tell_each(&Told::SessionLost);
                self.losses.session_lost(self.sendings, self.pending.len());
            }
            _ => {}
        }
    }

    fn settle(&mut self, done: Done) {
        // What settled it may have been told already.
        let happenings: VecDeque<_> = std::iter::from_fn(|| self.connection.try_next()).collect();
        for happening in &happenings {
            self.react(happening);
        }
        let Done {
            item,
            sending,
            took,
            result,
        } = done;
        let number = item.number;
        let fate = match result {
            Some(Ok(Answer::Accepted)) => {
                self.outcomes.answered += 1;
                match self.plan.kind.wanted() {
                    Wanted::Nothing => Fate::Queued,
                    Wanted::Ack | Wanted::Reply => Fate::Acked,
                }
            }
            Some(Ok(Answer::Reply(reply))) => {
                self.replied(&item, reply, took);
                Fate::Replied
            }
            Some(Err(PromiseError::Rejected(status)))
                if self.hold.is_on() && status.code == StatusCode::UNAVAILABLE =>
            {
                self.give_back(item)
            }
            Some(Err(PromiseError::Rejected(status))) => {
                self.outcomes.rejected += 1;
                self.tell(&format!("{number} was rejected: {status}"));
                Fate::Rejected
            }
            Some(Err(PromiseError::TimedOut)) => {
                self.outcomes.timed_out += 1;
                self.tell(&format!("{number} was not answered in time"));
                Fate::TimedOut
            }
            Some(Err(PromiseError::Lost { maybe_delivered })) => {
                self.lost(number, sending, maybe_delivered)
            }
            Some(Err(PromiseError::Stopped(_))) => self.lost(number, sending, true),
            Some(Err(PromiseError::Refused(refused))) => {
                let gone = matches!(
                    refused.error,
                    CommandError::UnknownSession | CommandError::Closing
                );
                if !gone && self.problem.is_none() {
                    self.problem = Some(Failure::failed(refused.error));
                }
                self.give_back(item)
            }
            Some(Err(PromiseError::Undecodable { .. })) => {
                self.outcomes.answered += 1;
                self.outcomes.mismatched += 1;
                Fate::Replied
            }
            Some(Err(error)) => {
                self.outcomes.cancelled += 1;
                self.tell(&format!("{number}: {error}"));
                Fate::Cancelled
            }
            None => {
                self.outcomes.unreported += 1;
                self.tell(&format!("{number} never settled"));
                Fate::Unreported
            }
        };
        self.tell_each(&Told::Settled { number, fate });
        if let Some(total) = self.losses.settled(sending) {
            self.screen.note(&format!(
                "{} {} under way were lost with the session; the server may have handled {} of them",
                grouped(total.lost),
                self.plan.kind.noun(),
                grouped(total.maybe_handled)
            ));
        }
    }

    fn replied(&mut self, item: &Item, reply: EchoReply, took: Duration) {
        self.outcomes.answered += 1;
        if reply.number != item.number || reply.text != item.text {
            self.outcomes.mismatched += 1;
        }
        if let Some(account) = reply.account {
            self.outcomes.account(account);
        }
        if self.plan.print {
            self.printer.print(format!(
                "{} {} ({:.2} ms)",
                reply.number,
                printable(&reply.text),
                took.as_secs_f64() * 1_000.0
            ));
        }
    }

    /// A loss has been reported if the loss or the end of its session was told.
    fn lost(&mut self, number: u64, sending: u64, maybe_delivered: bool) -> Fate {
        if !self.losses.was_told(sending) && self.connection.record.closed.is_none() {
            self.outcomes.unreported += 1;
            self.tell(&format!("{number} was lost, though its session was not"));
            return Fate::Unreported;
        }
        self.outcomes.lost += 1;
        self.outcomes.maybe_handled += u64::from(maybe_delivered);
        self.losses.count(maybe_delivered);
        Fate::Lost {
            maybe_handled: maybe_delivered,
        }
    }

    /// It was not taken: it is sent again, if there is a connection to send it over.
    fn give_back(&mut self, item: Item) -> Fate {
        self.outcomes.sent -= 1;
        self.returned.insert(item.number, item.text);
        Fate::Returned
    }

    /// Tells of one message, if each is to be told of.
    fn tell_each(&mut self, told: &Told<'_>) {
        if self.plan.each {
            match output::as_json(told) {
                Ok(line) => self.printer.print(line),
                Err(failure) => self.problem = Some(failure),
            }
        }
    }

    fn tell(&mut self, what: &str) {
        self.told += 1;
        if self.told <= TOLD {
            self.screen.note(&printable(what));
        }
        if self.told == TOLD {
            self.screen.note("further failures are counted only");
        }
    }

    /// What the server has handled of this run, now that all has settled. It also comes after all
    /// that was sent without an ack, over whatever connection there will be. `false`: the user did not wait for it.
    async fn ask_for_account(&mut self, stop: &mut StopSignals) -> bool {
        let record = &self.connection.record;
        let patience = match self.plan.kind.wanted() {
            Wanted::Nothing if record.closed.is_none() => self.plan.timeout,
            _ if record.linked => ACCOUNT,
            _ => return true,
        };
        let question = AccountRequest { run: self.plan.run };
        let asked = self.connection.client.request::<Account>(&question);
        let mut asked = pin!(asked.timeout(patience).into_future());
        let asked = loop {
            tokio::select! {
                biased;
                _ = self.connection.next() => {}
                () = stop.next() => return false,
                asked = &mut asked => break asked,
            }
        };
        match asked {
            Ok(account) if account.handled > 0 => self.outcomes.account(account),
            Ok(_) => {}
            Err(error) => self.screen.note(&format!(
                "the server gives no account of what it handled: {}",
                printable(&error.to_string())
            )),
        }
        true
    }
}

/// The next message: one that came back, or a new one. Cancel-safe.
async fn next_item(
    returned: &mut BTreeMap<u64, String>,
    texts: &mut Texts,
    numbered: &mut u64,
) -> Result<Option<Item>, Failure> {
    if let Some((number, text)) = returned.pop_first() {
        return Ok(Some(Item { number, text }));
    }
    let text = texts.next().await?;
    Ok(text.map(|text| {
        *numbered += 1;
        Item {
            number: *numbered,
            text,
        }
    }))
}

/// The sending of a message, which begins with its first poll.
fn dispatch(client: &Client, plan: &Plan, item: Item, sending: u64) -> Pending {
    let (run, number, timeout) = (plan.run, item.number, plan.timeout);
    let text = item.text.clone();
    let client = client.clone();
    let kind = plan.kind.clone();
    Box::pin(async move {
        let start = Instant::now();
        let settled = async {
            let outgoing = match kind {
                Kind::Request => {
                    let request = EchoRequest { run, number, text };
                    let reply = client.request::<EchoReply>(&request).timeout(timeout);
                    return reply.await.map(Answer::Reply);
                }
                Kind::Note { .. } => client.send(&Note { run, number, text }),
                Kind::Relay { ref group, .. } => client.send(&Relay {
                    run,
                    number,
                    text,
                    group: group.clone(),
                }),
            };
            match kind.wanted() {
                Wanted::Ack => outgoing.acked().timeout(timeout).await?,
                _ => outgoing.await?,
            }
            Ok(Answer::Accepted)
        };
        let result = match kind.wanted() {
            // It waits for room, for as long as it takes.
            Wanted::Nothing => Some(settled.await),
            _ => tokio::time::timeout(timeout + GRACE, settled).await.ok(),
        };
        Done {
            item,
            sending,
            took: Instant::now() - start,
            result,
        }
    })
}
