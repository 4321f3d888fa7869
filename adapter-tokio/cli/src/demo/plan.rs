//! What is to be shown, and the timing that it takes.

use std::time::Duration;

use trunkline_tokio::{Config, Heartbeat};

use crate::impair::Impairments;

/// The clients' names, as far as they go.
const NAMES: [&str; 3] = ["alice", "bob", "carol"];
/// More messages each way are no better demonstration.
pub(crate) const MESSAGES_MAX: u64 = 1_000;

/// Between two messages of one sender before the cut, and between two requests.
pub(crate) const PACE: Duration = Duration::from_millis(5);
/// Between two messages of one sender around the cut.
pub(crate) const CUT_PACE: Duration = Duration::from_millis(20);
/// How long messages flow before the cut, and after everybody is back.
pub(crate) const LEAD: Duration = Duration::from_millis(500);

/// A session outlives its link for twice as long.
const CUT_MAX: Duration = Duration::from_secs(60);
/// Beyond these, links that are to break within seconds of silence break without a cut as well.
const DELAY_MAX: Duration = Duration::from_millis(100);
const LOSS_MAX: f64 = 0.3;

/// What is to be shown.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// How many clients, two at least: the last one is in no group.
    pub(crate) clients: usize,
    /// How many messages each way and how many requests each client has before the cut.
    pub(crate) messages: u64,
    /// How long the path is cut.
    pub(crate) cut: Duration,
    /// What the path does to packets otherwise.
    pub(crate) path: Impairments,
    /// The seed of that.
    pub(crate) seed: u64,
}

impl Plan {
    /// Whether it can be shown; otherwise a sentence that says what is wrong, and what to do.
    pub(crate) fn check(&self) -> Result<(), String> {
        let most = self.path.delay + self.path.jitter;
        if most > DELAY_MAX {
            return Err(format!(
                "--delay and --jitter come to {most:?}: this demo bears {DELAY_MAX:?} at most, such as --delay 20ms"
            ));
        }
        if self.path.loss.as_fraction() > LOSS_MAX {
            return Err(format!(
                "--loss {} is more than this demo bears: 30% at most, such as --loss 5%",
                self.path.loss
            ));
        }
        let least = self.shortest_cut();
        if self.cut < least {
            return Err(format!(
                "--cut {:?} is too short for links to break, which takes {:?} of silence: give {:?} or more",
                self.cut,
                self.silence(),
                least
            ));
        }
        if self.cut > CUT_MAX {
            return Err(format!(
                "--cut {:?} is longer than this demo takes: give {CUT_MAX:?} or less, such as 4s",
                self.cut
            ));
        }
        Ok(())
    }

    /// How servers and clients are configured: as usual, but quicker to notice a cut and to dial
    /// again, for else the demo would take minutes.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::default();
        config.heartbeat = self.heartbeat();
        config.redial.first = Duration::from_millis(200);
        config.redial.cap = Duration::from_secs(1);
        config.timeouts.admission =
            Duration::from_secs(2) + 6 * self.round_trip() + 4 * self.repairs();
        config
    }

    /// For how long only one way is cut before the other one is: time enough for messages to
    /// arrive whose acks do not, and too little for anybody to give a link up.
    pub(crate) fn one_way_cut(&self) -> Duration {
        Duration::from_millis(100) + self.round_trip()
    }

    /// When a silent peer counts as dead: what is shown of the default, 15 s.
    pub(crate) fn heartbeat(&self) -> Heartbeat {
        let mut heartbeat = Heartbeat::default();
        heartbeat.interval = Duration::from_millis(300) + self.round_trip() / 2 + self.repairs();
        heartbeat.misses = 3;
        heartbeat
    }

    /// How long a peer has to be silent until its link is given up.
    pub(crate) fn silence(&self) -> Duration {
        let heartbeat = self.heartbeat();
        heartbeat.interval * heartbeat.misses
    }

    /// How long an ack or a reply may take: the cut, and plenty.
    pub(crate) fn ack_timeout(&self) -> Duration {
        self.cut + Duration::from_secs(30)
    }

    /// The name of a client, the first one being number 0.
    pub(crate) fn name(number: usize) -> String {
        NAMES
            .get(number)
            .map_or_else(|| format!("client-{}", number + 1), |&name| name.to_owned())
    }

    /// What was under way when the cut began still arrives, and keeps links alive for longer.
    fn shortest_cut(&self) -> Duration {
        let needed = self.silence() + self.round_trip() + Duration::from_millis(500);
        Duration::from_secs(needed.as_millis().div_ceil(1_000) as u64)
    }

    /// What losses may add to an interval: QUIC sends anew after more than a round trip, and that
    /// may be lost as well.
    fn repairs(&self) -> Duration {
        let each = self.round_trip() + Duration::from_millis(100);
        each.mul_f64(5.0 * self.path.loss.as_fraction())
    }

    /// The longest round trip, without what losses add.
    fn round_trip(&self) -> Duration {
        2 * (self.path.delay + self.path.jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::impair::Share;

    fn plan(cut: Duration, path: Impairments) -> Plan {
        Plan {
            clients: 3,
            messages: 50,
            cut,
            path,
            seed: 1,
        }
    }

    /// What the command takes by default.
    const CUT: Duration = Duration::from_secs(4);

    #[test]
    fn a_cut_that_links_survive_is_refused_with_one_that_they_do_not() {
        let said = plan(Duration::from_millis(500), Impairments::default())
            .check()
            .expect_err("too short");
        assert!(
            said.contains("--cut 500ms") && said.contains("2s"),
            "{said}"
        );
        assert_eq!(
            plan(Duration::from_secs(2), Impairments::default()).check(),
            Ok(())
        );
        let slow = Impairments {
            delay: DELAY_MAX,
            loss: Share::new(LOSS_MAX),
            ..Impairments::default()
        };
        let said = plan(Duration::from_secs(2), slow)
            .check()
            .expect_err("too short for this path");
        assert!(said.contains("--cut 2s"), "{said}");
        assert!(plan(CUT * 100, slow).check().is_err());
    }

    #[test]
    fn a_path_that_is_too_bad_is_refused() {
        let late = Impairments {
            delay: Duration::from_millis(60),
            jitter: Duration::from_millis(50),
            ..Impairments::default()
        };
        assert!(
            plan(CUT, late)
                .check()
                .expect_err("late")
                .contains("--delay")
        );
        let lossy = Impairments {
            loss: Share::new(0.6),
            ..Impairments::default()
        };
        assert!(
            plan(CUT, lossy)
                .check()
                .expect_err("lossy")
                .contains("--loss 60%")
        );
    }

    #[test]
    fn any_path_that_passes_goes_with_the_usual_cut_and_a_valid_configuration() {
        for delay in [Duration::ZERO, DELAY_MAX / 2, DELAY_MAX] {
            for loss in [0.0, LOSS_MAX / 2.0, LOSS_MAX] {
                let path = Impairments {
                    delay,
                    loss: Share::new(loss),
                    ..Impairments::default()
                };
                let plan = plan(CUT, path);
                assert_eq!(plan.check(), Ok(()));
                assert_eq!(plan.config().validate(), Ok(()));
                assert!(plan.silence() < plan.shortest_cut());
                assert!(plan.one_way_cut() < plan.silence());
            }
        }
    }

    #[test]
    fn no_two_clients_have_one_name() {
        let names: std::collections::BTreeSet<_> = (0..10).map(Plan::name).collect();
        assert_eq!(names.len(), 10);
    }
}
