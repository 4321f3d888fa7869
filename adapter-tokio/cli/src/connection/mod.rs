//! A client command's connection: opened within a time, and told of as long as it lasts.

mod happening;
mod options;

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc;
use trunkline_tokio::{Client, ClientBuilder, DisconnectReason, UndeliveredReason};

pub(crate) use happening::{Happening, explained};
pub(crate) use options::ConnectionOptions;

use crate::failure::{Failure, cannot_start};
use crate::output::seconds;
use crate::screen::Screen;
use crate::signals::StopSignals;

/// How long commands that do one thing wait for a connection. One dial takes up to 10 s to fail:
/// whoever waits this long sees why, and that it is tried again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// How long a command that has failed, or is to end at once, waits for its connection's end: that of
/// its recording comes with it.
const FAREWELL: Duration = Duration::from_secs(1);

/// A client, and what happens to it.
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) record: Record,
    happenings: mpsc::UnboundedReceiver<Happening>,
    screen: Screen,
}

/// Why nobody waits any more for a first link.
enum GivenUp {
    /// That was the time there was for it.
    TooLate(Duration),
    Interrupted,
}

impl GivenUp {
    /// What the command fails with, given why the last dial failed.
    fn failure(self, server: &str, unlinked_for: Option<&DisconnectReason>) -> Failure {
        let Self::TooLate(patience) = self else {
            return Failure::interrupted();
        };
        let why = match unlinked_for {
            None | Some(DisconnectReason::ConnectTimeout) => {
                "is a server running there? --connect-timeout waits longer".into()
            }
            Some(reason) => explained(reason),
        };
        let within = seconds(patience);
        Failure::failed(format!("not connected to {server} within {within}: {why}"))
    }
}

/// What has happened so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// Whether there is a link.
    pub(crate) linked: bool,
    /// How many there have been.
    pub(crate) links: u64,
    /// Links that went on with the session of an earlier one.
    pub(crate) resumed: u64,
    /// Sessions that the server had no more.
    pub(crate) sessions_lost: u64,
    /// Messages that came back, and of these, how many the server may have all the same.
    pub(crate) undelivered: u64,
    /// Why the last of them did.
    pub(crate) undelivered_for: Option<UndeliveredReason>,
    pub(crate) maybe_delivered: u64,
    /// Why the last link ended, or the last dial failed.
    pub(crate) unlinked_for: Option<DisconnectReason>,
    /// Why it is over, if it is.
    pub(crate) closed: Option<DisconnectReason>,
}

impl Record {
    /// How often there was a link again.
    pub(crate) fn reconnects(&self) -> u64 {
        self.links.saturating_sub(1)
    }
}

impl Connection {
    /// Dials until there is a link, for at most `patience` unless the user said otherwise; `None`:
    /// for ever.
    pub(crate) async fn open(
        options: &ConnectionOptions,
        patience: Option<Duration>,
        screen: &Screen,
        stop: &mut StopSignals,
        shape: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Result<Self, Failure> {
        let (sender, happenings) = mpsc::unbounded_channel();
        let builder = shape(options.builder()?).hooks(happening::Telling(sender));
        let patience = options.connect_timeout.or(patience);
        let server = &options.server;
        screen.note(&format!(
            "connecting to {server} as {}",
            options.client_id()
        ));
        let too_late = async {
            match patience {
                Some(patience) => tokio::time::sleep(patience).await,
                None => pending().await,
            }
        };
        let mut given_up = pin!(async {
            tokio::select! {
                () = too_late => GivenUp::TooLate(patience.unwrap_or_default()),
                () = stop.next() => GivenUp::Interrupted,
            }
        });
        let client = tokio::select! {
            started = builder.start() => started.map_err(cannot_start)?,
            given_up = &mut given_up => return Err(given_up.failure(server, None)),
        };
        let mut connection = Self {
            client,
            record: Record::default(),
            happenings,
            screen: screen.clone(),
        };
        let linked = tokio::select! {
            linked = connection.linked() => linked.map_err(|reason| {
                Failure::failed(format!("not connected to {server}: {}", explained(&reason)))
            }),
            given_up = &mut given_up => {
                Err(given_up.failure(server, connection.record.unlinked_for.as_ref()))
            }
        };
        match linked {
            Ok(()) => Ok(connection),
            Err(failure) => {
                connection.close_soon().await;
                Err(failure)
            }
        }
    }

    /// Waits for the first link.
    async fn linked(&mut self) -> Result<(), DisconnectReason> {
        while self.record.links == 0 {
            if let Happening::Closed(reason) = self.next().await {
                return Err(reason);
            }
        }
        Ok(())
    }

    /// Waits for the next thing that happens, and tells the user. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Happening {
        match self.happenings.recv().await {
            Some(happening) => self.took_place(happening),
            // It was closed, which has been told.
            None => pending().await,
        }
    }

    /// As [`Connection::next`], without waiting.
    pub(crate) fn try_next(&mut self) -> Option<Happening> {
        let happening = self.happenings.try_recv().ok()?;
        Some(self.took_place(happening))
    }

    /// Closes the session: what was sent is delivered first, for some seconds, or until the user
    /// does not want to wait: `false`. One that is over already is waited for, too: its recording may not be.
    pub(crate) async fn close(&mut self, stop: &mut StopSignals) -> bool {
        let waited = !stop.at_once()
            && tokio::select! {
                _ = self.client.close() => true,
                () = stop.next() => false,
            };
        if !waited {
            self.close_soon().await;
        }
        while self.try_next().is_some() {}
        waited
    }

    async fn close_soon(&self) {
        let _ = tokio::time::timeout(FAREWELL, self.client.close()).await;
    }

    fn took_place(&mut self, happening: Happening) -> Happening {
        if let Some(told) = told(&self.record, &happening) {
            self.screen.note(&told);
        }
        let record = &mut self.record;
        match &happening {
            Happening::Connected(_) | Happening::Resumed(_) => {
                record.linked = true;
                record.links += 1;
                record.resumed += u64::from(matches!(happening, Happening::Resumed(_)));
            }
            Happening::Disconnected(reason) => {
                record.linked = false;
                record.unlinked_for = Some(reason.clone());
            }
            Happening::SessionLost => record.sessions_lost += 1,
            Happening::Undelivered {
                reason,
                maybe_delivered,
            } => {
                record.undelivered += 1;
                record.undelivered_for = Some(*reason);
                record.maybe_delivered += u64::from(*maybe_delivered);
            }
            Happening::Closed(reason) => {
                record.linked = false;
                record.closed = Some(reason.clone());
            }
            Happening::Reconnecting { .. } | Happening::Draining { .. } => {}
        }
        happening
    }
}

/// What the user is told of it, if anything.
fn told(before: &Record, happening: &Happening) -> Option<String> {
    let at = |address: &Option<std::net::SocketAddr>| {
        address.map_or_else(String::new, |address| format!(" to {address}"))
    };
    Some(match happening {
        Happening::Connected(address) if before.links == 0 => format!("connected{}", at(address)),
        Happening::Connected(address) => {
            format!("connected{} again, with a new session", at(address))
        }
        Happening::Resumed(address) => {
            format!("connected{} again, the session is resumed", at(address))
        }
        Happening::Disconnected(reason) if before.linked => {
            format!("disconnected: {}", explained(reason))
        }
        Happening::Disconnected(reason) => format!("no connection: {}", explained(reason)),
        Happening::Reconnecting { attempt, delay } => {
            format!("reconnecting in {} (attempt {attempt})", seconds(*delay))
        }
        Happening::SessionLost => {
            "session lost: the server does not have it any more; a new one follows".into()
        }
        Happening::Draining {
            deadline,
            alternative,
        } => {
            let elsewhere = alternative.as_ref().map_or_else(String::new, |place| {
                format!(
                    ", and sends its clients to {}",
                    crate::output::printable(place)
                )
            });
            format!(
                "the server goes away within {}{elsewhere}: nothing new is sent until it is back",
                seconds(*deadline)
            )
        }
        // Whoever closed it knows; otherwise it is what the command fails with.
        Happening::Closed(_) | Happening::Undelivered { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dial_that_fails_is_not_told_as_a_broken_connection() {
        let failed = Happening::Disconnected(DisconnectReason::ConnectTimeout);
        let mut record = Record::default();
        let told_now = |record: &Record| told(record, &failed).unwrap_or_default();
        assert!(told_now(&record).starts_with("no connection: "));
        record.linked = true;
        assert!(told_now(&record).starts_with("disconnected: "));
    }

    #[test]
    fn a_new_session_is_told_from_a_first_and_from_a_resumed_one() {
        let address = "192.0.2.1:4433".parse().ok();
        let first = Record::default();
        let later = Record {
            links: 1,
            ..Record::default()
        };
        for (record, happening, words) in [
            (
                &first,
                Happening::Connected(address),
                "connected to 192.0.2.1:4433",
            ),
            (
                &later,
                Happening::Connected(address),
                "connected to 192.0.2.1:4433 again, with a new session",
            ),
            (
                &later,
                Happening::Resumed(address),
                "connected to 192.0.2.1:4433 again, the session is resumed",
            ),
        ] {
            assert_eq!(told(record, &happening).as_deref(), Some(words));
        }
    }

    #[test]
    fn what_a_server_says_moves_no_cursor() {
        let draining = Happening::Draining {
            deadline: Duration::from_secs(10),
            alternative: Some("\u{1b}[2Jevil:1".into()),
        };
        let words = told(&Record::default(), &draining).unwrap_or_default();
        assert!(
            words.contains("10 s") && !words.contains('\u{1b}'),
            "{words}"
        );
    }
}
