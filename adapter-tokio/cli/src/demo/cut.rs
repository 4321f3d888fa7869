//! The path is cut for some seconds, while everybody keeps sending.

use std::io;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use trunkline_tokio::State;

use super::cast::Participant;
use super::ledger::Ledger;
use super::lifecycle::Links;
use super::measured::{Outage, seconds};
use super::plan::{CUT_PACE, LEAD};
use super::steps::Stage;
use crate::failure::Failure;
use crate::impair::Directions;

/// How long everybody may take to come back after the cut.
const RETURN: Duration = Duration::from_secs(30);

impl Stage<'_> {
    /// Cuts the path, and judges whether everybody resumes.
    pub(crate) async fn cut(&mut self) -> Result<(), Failure> {
        let cut = self.plan.cut;
        self.story
            .chapter(format_args!("4. The path is cut for {cut:?}"));
        let (stop, stopped) = watch::channel(false);
        let mut sending = JoinSet::new();
        for client in &self.cast.clients {
            for sender in self.senders(client) {
                sending.spawn(sender.send_until(stopped.clone(), CUT_PACE));
            }
        }
        self.story.say(
            "demo",
            format_args!("everybody sends a message each {CUT_PACE:?}, both ways, and goes on"),
        );
        sleep(LEAD).await;

        let unacked = self
            .cut_one_way_then_both()
            .await
            .map_err(Failure::failed)?;
        let (begin, sent_before, before) = (Instant::now(), self.sent(), self.links());
        let asking = self.ask_one_each();
        let end = begin + cut;
        // If somebody does not notice, that shows in the end: nothing will have been resumed.
        if timeout_at(end, self.everybody_noticed()).await.is_ok() {
            self.broadcast_to_group().await;
        }
        sleep_until(end).await;

        let messages = self.sent() - sent_before;
        let waiting = self.sent() - self.acked();
        self.cast.path.heal().await.map_err(Failure::failed)?;
        let (length, healed) = (begin.elapsed(), Instant::now());
        self.story.say(
            "path",
            format_args!("back; {waiting} messages and a request each wait for their acks"),
        );
        let back = timeout(RETURN, self.everybody_resumed(&before)).await;
        let back_after = back.is_ok().then(|| healed.elapsed());
        sleep(LEAD).await;
        // Whoever does not hear it has stopped already.
        let _ = stop.send(true);

        let acks = all(sending).await;
        let replies = all(asking).await;
        self.tell_what_came_of_it(messages, replies.len());
        self.broadcast_to_group().await;
        let longest_ack = acks.into_iter().max().unwrap_or_default();
        self.measured.cut = Some(Outage {
            length,
            messages,
            unacked,
            back_after,
            longest_ack,
        });
        self.judge(&before);
        Ok(())
    }

    /// Cuts the path, in a way that leaves something to double: messages that arrive while their
    /// acks do not. Says how many.
    async fn cut_one_way_then_both(&self) -> io::Result<u64> {
        let path = &self.cast.path;
        path.cut(Directions::Down).await?;
        self.story.say("path", "cut from the server to the clients");
        sleep(self.plan.one_way_cut()).await;
        path.cut(Directions::Both).await?;
        let unacked = self.arrived_unacked();
        self.story.say(
            "path",
            format_args!(
                "cut both ways; {unacked} messages have arrived whose acks have not: none may come twice"
            ),
        );
        Ok(unacked)
    }

    /// A request of each client, which has to wait until the path is back.
    fn ask_one_each(&self) -> JoinSet<Vec<Duration>> {
        let mut asking = JoinSet::new();
        for client in &self.cast.clients {
            asking.spawn(self.asker(client).send_some(1, CUT_PACE));
        }
        asking
    }

    /// Waits until no client has a link any more, at either end.
    async fn everybody_noticed(&self) {
        for client in &self.cast.clients {
            let mut links = client.links.subscribe();
            let _ = links.wait_for(|links| !links.up).await;
            if let Some(peer) = self.cast.peer(client) {
                peer.wait_for(|state| matches!(state, State::Away(_))).await;
            }
        }
    }

    /// Waits until every client has carried on its session.
    async fn everybody_resumed(&self, before: &[Links]) {
        for (client, before) in self.cast.clients.iter().zip(before) {
            let mut links = client.links.subscribe();
            let resumed = |links: &Links| links.up && links.resumed > before.resumed;
            let _ = links.wait_for(resumed).await;
        }
    }

    fn tell_what_came_of_it(&self, messages: u64, replies: usize) {
        let (mut sent, mut missing) = (0, 0);
        for client in &self.cast.clients {
            for flow in [&client.ledger.up, &client.ledger.down] {
                let balance = flow.balance();
                sent += balance.sent;
                missing += balance.sent - balance.delivered;
            }
        }
        self.story.say(
            "demo",
            format_args!(
                "{messages} messages were sent during the cut; of {sent} in all, {missing} are missing now"
            ),
        );
        let asked = self.cast.clients.len();
        self.story.say(
            "demo",
            format_args!("{replies} of the {asked} requests that were asked during the cut have their replies"),
        );
    }

    /// Notes whose session was not carried on.
    fn judge(&mut self, before: &[Links]) {
        for (client, before) in self.cast.clients.iter().zip(before) {
            let links = *client.links.borrow();
            if links.resumed == before.resumed {
                let (name, cut) = (&client.name, seconds(self.plan.cut));
                let what = if links.broken == before.broken {
                    "link outlived the cut, so nothing was resumed"
                } else {
                    "session was not resumed after the cut"
                };
                let problem = format!("{name}'s {what} ({cut} s)");
                self.measured.problems.push(problem);
            }
        }
    }

    /// Messages so far, both ways.
    fn sent(&self) -> u64 {
        let sent = |ledger: &Ledger| ledger.up.sent() + ledger.down.sent();
        self.cast.clients.iter().map(|c| sent(&c.ledger)).sum()
    }

    /// Those of them that are acked.
    fn acked(&self) -> u64 {
        let acked = |ledger: &Ledger| ledger.up.acked() + ledger.down.acked();
        self.cast.clients.iter().map(|c| acked(&c.ledger)).sum()
    }

    /// Messages to the server that it has, and whose senders do not know it yet.
    fn arrived_unacked(&self) -> u64 {
        let unacked = |client: &Participant| {
            let balance = client.ledger.up.balance();
            balance.delivered.saturating_sub(balance.acked)
        };
        self.cast.clients.iter().map(unacked).sum()
    }
}

/// What all of these measured.
async fn all(mut tasks: JoinSet<Vec<Duration>>) -> Vec<Duration> {
    let mut measured = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        measured.extend(joined.unwrap_or_default());
    }
    measured
}
