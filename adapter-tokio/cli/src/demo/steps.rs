//! The steps of the demonstration, the cut apart.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use trunkline_tokio::{Broadcast, Group, GroupName, Heartbeat, Peer};

use super::cast::{Cast, Participant};
use super::ledger::Ledger;
use super::lifecycle::Links;
use super::measured::{Latency, Measured};
use super::messages::News;
use super::plan::{PACE, Plan};
use super::story::Story;
use super::traffic::{Sender, What};
use crate::failure::Failure;
use crate::impair::{Direction, Summary};

/// Who hears the broadcasts: everybody but the last client.
const GROUP: &str = "readers";
/// How long a broadcast may take to arrive. Where it takes longer, the demo goes on without it.
const ARRIVAL: Duration = Duration::from_secs(5);

/// A demonstration under way.
pub(crate) struct Stage<'a> {
    pub(super) plan: &'a Plan,
    pub(super) story: &'a Story,
    pub(super) cast: Cast,
    pub(super) group: Group,
    pub(super) measured: Measured,
}

/// A demonstration that is over.
pub(crate) struct Ended {
    pub(crate) clients: Vec<Account>,
    pub(crate) measured: Measured,
    pub(crate) path: Summary,
}

/// What is left of a client: its books, and what became of its links.
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) links: Links,
    pub(crate) connect: Duration,
    pub(crate) in_group: bool,
}

impl<'a> Stage<'a> {
    /// Starts the server and the path, and connects everybody.
    pub(crate) async fn set(plan: &'a Plan, story: &'a Story) -> Result<Self, Failure> {
        let heartbeat = plan.heartbeat();
        story.say(
            "demo",
            "a server and its clients, over UDP on this machine, with throwaway certificates",
        );
        let default = Heartbeat::default().interval;
        story.say(
            "demo",
            format_args!(
                "heartbeats every {:?} instead of the default {default:?}, and {} missed ones end a",
                heartbeat.interval, heartbeat.misses
            ),
        );
        story.say("", "link: a cut is to be noticed while you watch");
        let cast = Cast::assemble(plan, story).await?;
        let name = GroupName::new(GROUP).map_err(Failure::failed)?;
        let group = cast.server.group(&name);
        Ok(Self {
            plan,
            story,
            cast,
            group,
            measured: Measured::default(),
        })
    }

    /// Typed requests, each with its reply.
    pub(crate) async fn requests(&mut self) {
        self.story.chapter("1. Requests and their replies");
        let mut asking = JoinSet::new();
        for client in &self.cast.clients {
            let asker = self.asker(client);
            let (name, count) = (client.name.clone(), self.plan.messages);
            asking.spawn(async move { (name, asker.send_some(count, PACE).await) });
        }
        while let Some(Ok((name, answered))) = asking.join_next().await {
            let (count, asked) = (answered.len(), self.plan.messages);
            self.story.say(
                &name,
                format_args!("asked {asked} sums, such as 1 + 2 and 2 + 4; {count} right replies"),
            );
            self.measured.requests.extend(answered);
        }
        self.tell_latency("from question to reply", &self.measured.requests);
    }

    /// Acked messages, both ways at a time.
    pub(crate) async fn messages(&mut self) {
        self.story.chapter("2. Acked messages, both ways");
        let mut sending = JoinSet::new();
        for client in &self.cast.clients {
            let senders = self.senders(client);
            let (name, ledger) = (client.name.clone(), Arc::clone(&client.ledger));
            let count = self.plan.messages;
            sending.spawn(async move {
                let mut acks = Vec::new();
                let mut ways = JoinSet::new();
                for sender in senders {
                    ways.spawn(sender.send_some(count, PACE));
                }
                while let Some(Ok(acked)) = ways.join_next().await {
                    acks.extend(acked);
                }
                (name, ledger, acks)
            });
        }
        while let Some(Ok((name, ledger, acks))) = sending.join_next().await {
            let (up, down) = (ledger.up.balance(), ledger.down.balance());
            self.story.say(
                &name,
                format_args!(
                    "sent {} to the server, {} acked; the server sent it {}, {} acked",
                    up.sent, up.acked, down.sent, down.acked
                ),
            );
            self.measured.acks.extend(acks);
        }
        self.tell_latency("from sending to ack", &self.measured.acks);
    }

    /// Broadcasts: to a group, which one client is not in, and to everybody.
    pub(crate) async fn broadcasts(&mut self) {
        self.story.chapter("3. Broadcasts, best effort");
        for problem in self.form_group().await {
            self.measured.problems.push(problem);
        }
        self.broadcast_to_group().await;
        // The same stream carries it after the other: whoever has this one has all there was.
        self.broadcast_to_all().await;
    }

    /// Puts everybody but the last client into the group; says what went wrong.
    async fn form_group(&self) -> Vec<String> {
        let Some((outsider, members)) = self.cast.clients.split_last() else {
            return Vec::new();
        };
        let mut problems = Vec::new();
        for member in members {
            let joined = match self.cast.peer(member) {
                Some(peer) => self.group.join(&peer).await.map_err(|e| e.to_string()),
                None => Err("the server has no session of it".to_owned()),
            };
            if let Err(why) = joined {
                problems.push(format!("{} cannot join the group: {why}", member.name));
            }
        }
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        self.story.say(
            "server",
            format_args!(
                "puts {} into the group '{GROUP}'; {} is not in it",
                names.join(", "),
                outsider.name
            ),
        );
        problems
    }

    /// A broadcast to the group, which is to reach its members that are here.
    pub(super) async fn broadcast_to_group(&mut self) {
        let number = self.next_broadcast();
        self.measured.broadcasts.to_group.insert(number);
        let before = self.links();
        let broadcast = self.group.broadcast(&News::new(number));
        let done = broadcast.await.map_err(|error| error.to_string());
        let count = self.cast.clients.len() - 1;
        self.follow(number, done, count, &before, "the group").await;
    }

    async fn broadcast_to_all(&mut self) {
        let number = self.next_broadcast();
        let before = self.links();
        let broadcast = self.cast.server.broadcast(&News::new(number));
        let done = broadcast.await.map_err(|error| error.to_string());
        let count = self.cast.clients.len();
        self.follow(number, done, count, &before, "everybody").await;
    }

    /// Waits until a broadcast has arrived at the first `count` clients, and tells of it. It is
    /// best effort, but as long as a link holds and nothing is dropped, it arrives.
    async fn follow(
        &mut self,
        number: u64,
        done: Result<Broadcast, String>,
        count: usize,
        before: &[Links],
        audience: &str,
    ) {
        let Broadcast {
            queued,
            dropped,
            away,
        } = match done {
            Ok(broadcast) => broadcast,
            Err(why) => {
                let problem = format!("broadcast {number} was not sent: {why}");
                return self.measured.problems.push(problem);
            }
        };
        self.measured.broadcasts.queued += queued as u64;
        self.measured.broadcasts.away += away as u64;
        let arrived = async {
            for client in self.cast.clients.iter().take(count) {
                let mut news = client.ledger.news.subscribe();
                let _ = news.wait_for(|arrivals| arrivals.has(number)).await;
            }
        };
        // A copy that was not queued is not waited for: its client had no link.
        if away == 0 {
            let _ = tokio::time::timeout(ARRIVAL, arrived).await;
        }
        let has = |client: &Participant| client.ledger.news.borrow().has(number);
        let (got, missed): (Vec<_>, Vec<_>) =
            self.cast.clients.iter().partition(|&client| has(client));
        self.story.say(
            "server",
            format_args!(
                "broadcast {number} to {audience}: {}; {}",
                listed("got it", &got),
                listed("did not", &missed)
            ),
        );
        if dropped + away > 0 {
            return;
        }
        let after = self.links();
        for (index, client) in self.cast.clients.iter().enumerate().take(count) {
            if !has(client) && after.get(index) == before.get(index) {
                let name = &client.name;
                let problem =
                    format!("broadcast {number} did not reach {name}, whose link was never broken");
                self.measured.problems.push(problem);
            }
        }
    }

    /// Says goodbye, and closes the books when nobody can write into them any more.
    pub(crate) async fn leave(mut self) -> Result<Ended, Failure> {
        self.story.chapter("5. Everybody closes");
        for client in &self.cast.clients {
            let ledger = &client.ledger;
            let least = [&ledger.up, &ledger.down, &ledger.requests].map(|flow| flow.sent());
            if least.iter().any(|&sent| sent < self.plan.messages) {
                let name = &client.name;
                let problem = format!("not all was sent that {name} was to send or to be sent");
                self.measured.problems.push(problem);
            }
        }
        let links = self.links();
        let path = self.cast.dismiss().await?;
        let last = self.cast.clients.len() - 1;
        let clients = self.cast.clients.into_iter().zip(links).enumerate();
        let account = |(index, (client, links)): (usize, (Participant, Links))| Account {
            name: client.name,
            ledger: client.ledger,
            links,
            connect: client.connect,
            in_group: index < last,
        };
        Ok(Ended {
            clients: clients.map(account).collect(),
            measured: self.measured,
            path,
        })
    }

    /// The sender of a client's requests.
    pub(super) fn asker(&self, client: &Participant) -> Sender {
        Sender::new(
            What::Requests,
            &client.name,
            client.client.peer(),
            &client.ledger.requests,
            self.plan.ack_timeout(),
        )
    }

    /// Both senders of acked messages of a client; fewer if the server has no session of it.
    pub(super) fn senders(&self, client: &Participant) -> Vec<Sender> {
        let ends = [
            (Direction::Up, Some(client.client.peer().clone())),
            (Direction::Down, self.cast.peer(client)),
        ];
        let sender = |(direction, peer): (Direction, Option<Peer>)| {
            Some(Sender::new(
                What::Messages(direction),
                &client.name,
                &peer?,
                client.ledger.messages(direction),
                self.plan.ack_timeout(),
            ))
        };
        ends.into_iter().filter_map(sender).collect()
    }

    /// What became of everybody's links so far.
    pub(super) fn links(&self) -> Vec<Links> {
        let links = |client: &Participant| *client.links.borrow();
        self.cast.clients.iter().map(links).collect()
    }

    fn next_broadcast(&mut self) -> u64 {
        self.measured.broadcasts.calls += 1;
        self.measured.broadcasts.calls
    }

    fn tell_latency(&self, what: &str, durations: &[Duration]) {
        let Latency { p50, p99, .. } = Latency::of(durations);
        self.story.say(
            "demo",
            format_args!("{what}: half within {p50} ms, 99 % within {p99} ms"),
        );
    }
}

fn listed(what: &str, clients: &[&Participant]) -> String {
    let names: Vec<&str> = clients.iter().map(|client| client.name.as_str()).collect();
    match names.as_slice() {
        [] => format!("none {what}"),
        names => format!("{} {what}", names.join(", ")),
    }
}
