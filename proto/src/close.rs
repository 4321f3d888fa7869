//! Why a link is closed, as a number.

use crate::codes::codes;
use crate::limits::APPLICATION_CODES;

codes! {
    /// Why a link is closed: the code of [`crate::Close`] and, the same number, QUIC's
    /// application error code of the connection (RFC 9000, section 19.19).
    ///
    /// [`crate::APPLICATION_CODES`] and above are the application's.
    CloseCode, "UNASSIGNED",
    "Ask whoever runs the peer what this code means: Trunkline 1 has no name for it.";
    /// Nothing is wrong: the session is done.
    NORMAL = 0: "Nothing is wrong: the peer closed the session because it was done.";
    /// The peer's process is leaving.
    GOING_AWAY = 1: "The peer is shutting down: reconnect after the delay it gave, or to the address it named.";
    /// No protocol version in common.
    VERSION_MISMATCH = 2: "Bring both sides to versions of Trunkline that speak the same protocol version.";
    /// Admission said no.
    REFUSED = 3: "The server's admission said no to this client: read the reason it gave, and ask whoever runs the server.";
    /// The client has not shown who it is.
    UNAUTHENTICATED = 4: "Give the client a certificate or credentials that the server accepts for this client id.";
    /// No hello, or no decision on it, in time.
    ADMISSION_TIMEOUT = 5: "The hello or the decision on it took too long: check the path for loss, and that the server's application answers admission requests.";
    /// A frame is longer than announced or allowed.
    FRAME_TOO_LARGE = 6: "Send the message in parts, or raise the receiver's frame limit; before admission, shorten the credentials.";
    /// A frame is not what the schema says.
    UNDECODABLE = 7: "The peer sent bytes that are no frame of this protocol: check that both sides run a released version, and report it.";
    /// A lane's sequence numbers skip.
    SEQUENCE_GAP = 8: "The sender skipped a message in a lane: this is a fault in its implementation; report it.";
    /// A lane that does not exist.
    UNKNOWN_LANE = 9: "Give both sides a lane limit above the number of the lane that is used.";
    /// The server holds no such session.
    UNKNOWN_SESSION = 10: "The server restarted, or kept the session no longer than its retention time: send again what was not acked.";
    /// The session's token is wrong.
    WRONG_TOKEN = 11: "Somebody presented a session without its secret: start a new session, and look for two clients with one state.";
    /// Another link has taken the session over, or another session of the client its place.
    SUPERSEDED = 12: "The same client connected again and took the session over, or its place: stop the other copy if that was not meant.";
    /// The peer was silent for too long.
    HEARTBEAT_TIMEOUT = 13: "The peer was silent for several heartbeat intervals: check the path and the peer's load; clients reconnect.";
    /// A receiver does not keep up.
    SLOW_CONSUMER = 14: "Read faster, or let the sender drop instead of disconnecting: this side did not keep up with what it was sent.";
    /// A frame in a place or state where it must not be.
    PROTOCOL_VIOLATION = 15: "The peer broke the protocol's order: this is a fault in its implementation; report it with the reason.";
    /// A limit on what a peer may do has been passed.
    FLOODED = 16: "The peer exceeded the receiver's limits: send less at a time, or raise them.";
    /// The closing side failed.
    INTERNAL = 17: "The peer met a fault of its own: look into its log; reconnecting may help.";
    /// No room for another session.
    TOO_MANY_SESSIONS = 18: "Close sessions that are not used, or raise the server's limits on sessions; try again later.";
    /// A receipt for what was never sent.
    BAD_RECEIPT = 19: "The peer confirmed messages that were never sent: this is a fault in its implementation; report it.";
}

impl CloseCode {
    /// Whether a client dials again by itself after its link was closed with this code. After a
    /// code that says no it does so only where the close named a time to retry.
    pub const fn redials(self) -> bool {
        !matches!(
            self,
            Self::NORMAL
                | Self::VERSION_MISMATCH
                | Self::REFUSED
                | Self::UNAUTHENTICATED
                | Self::SUPERSEDED
        ) && !Self::is_applications(self.0)
    }

    /// Whether a client asks for its session again when it dials after this code. If not, the
    /// session is over for it: what was not settled is lost.
    ///
    /// A peer that is done or leaves has ended the session; and what led to one of the faults would
    /// be replayed with it, and lead there again.
    pub const fn resumes(self) -> bool {
        !matches!(
            self,
            Self::NORMAL
                | Self::GOING_AWAY
                | Self::FRAME_TOO_LARGE
                | Self::UNDECODABLE
                | Self::SEQUENCE_GAP
                | Self::UNKNOWN_LANE
                | Self::UNKNOWN_SESSION
                | Self::WRONG_TOKEN
                | Self::SUPERSEDED
                | Self::PROTOCOL_VIOLATION
                | Self::BAD_RECEIPT
        ) && !Self::is_applications(self.0)
    }

    /// Whether this number is the application's.
    const fn is_applications(number: u32) -> bool {
        number >= APPLICATION_CODES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_shows_its_name_and_number() {
        assert_eq!(CloseCode::SEQUENCE_GAP.to_string(), "SEQUENCE_GAP (8)");
        assert_eq!(format!("{:?}", CloseCode(1000)), "APPLICATION (1000)");
        assert_eq!(CloseCode(999).to_string(), "UNASSIGNED (999)");
    }

    #[test]
    fn every_code_has_an_advice_of_its_own_in_one_sentence() {
        for code in CloseCode::ALL {
            let advice = code.advice();
            assert_ne!(advice, CloseCode(999).advice(), "{code}");
            assert!(
                advice.ends_with('.') && !advice.contains(". "),
                "{code}: {advice}"
            );
        }
    }

    #[test]
    fn the_codes_are_numbered_without_a_hole() {
        let numbers = CloseCode::ALL.iter().map(|code| code.0);
        assert!(numbers.eq(0..20));
    }
}
