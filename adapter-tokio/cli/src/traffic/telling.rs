//! What a run tells as it happens, for a program that keeps books of its own: one JSON object a
//! line.

use serde::Serialize;

use super::outcomes::Summary;

/// Something that a run tells of.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Told<'a> {
    /// A message goes to the connection.
    Sent { number: u64 },
    /// A message has settled. What has not when the run ends was given up.
    Settled {
        number: u64,
        #[serde(flatten)]
        fate: Fate,
    },
    /// The server has the session no more.
    SessionLost,
    /// How it all went: the last line.
    Summary(&'a Summary),
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Fate {
    Replied,
    Acked,
    /// In the outbox: nothing more was asked for.
    Queued,
    Rejected,
    TimedOut,
    /// With its session.
    Lost {
        maybe_handled: bool,
    },
    /// It was not taken, and is sent again.
    Returned,
    Cancelled,
    /// Lost although its session was not, or never settled.
    Unreported,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_happened_to_which_message() {
        let json = |told: &Told<'_>| serde_json::to_string(told).expect("JSON");
        let lost = Told::Settled {
            number: 7,
            fate: Fate::Lost {
                maybe_handled: true,
            },
        };
        assert_eq!(
            json(&lost),
            r#"{"event":"settled","number":7,"outcome":"lost","maybe_handled":true}"#
        );
        assert_eq!(
            json(&Told::Sent { number: 8 }),
            r#"{"event":"sent","number":8}"#
        );
        assert_eq!(json(&Told::SessionLost), r#"{"event":"session_lost"}"#);
    }
}
