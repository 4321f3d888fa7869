//! Why a message is rejected, as a number.

use crate::codes::codes;
use crate::limits::APPLICATION_CODES;

codes! {
    /// Why a message is rejected, in gRPC's numbering.
    ///
    /// [`crate::APPLICATION_CODES`] and above are the application's.
    StatusCode, "UNASSIGNED",
    "Ask whoever runs the peer what this code means: Trunkline 1 has no name for it.";
    /// The work was cancelled.
    CANCELLED = 1: "The sender or the receiver gave the work up: send it again if it is still wanted.";
    /// A failure without a better code.
    UNKNOWN = 2: "The peer's handler failed without a better code: read the reason and the peer's log.";
    /// The body cannot be decoded or makes no sense.
    INVALID_ARGUMENT = 3: "Check that both sides have the same definition of the message type, and what the reason says of its contents.";
    /// The time to answer was over.
    DEADLINE_EXCEEDED = 4: "The time given was over before the work was done: allow more time, or look for what is slow.";
    /// What the message is about does not exist.
    NOT_FOUND = 5: "What the message asks for does not exist at the peer: check the name.";
    /// The sender may not do this.
    PERMISSION_DENIED = 7: "This client may not do that: ask whoever runs the peer for the permission.";
    /// The receiver is overloaded.
    RESOURCE_EXHAUSTED = 8: "The peer is overloaded and did not start the work: send it again after a pause.";
    /// Nobody handles this message type.
    UNIMPLEMENTED = 12: "The peer has no handler for this message type: register one, or update the peer.";
    /// The handler failed.
    INTERNAL = 13: "The peer's handler panicked: look into its log; sending it again may fail the same way.";
    /// The receiver is draining.
    UNAVAILABLE = 14: "The peer is leaving and did not start the work: send it again once reconnected.";
}

impl StatusCode {
    /// Whether this number is the application's.
    const fn is_applications(number: u32) -> bool {
        number >= APPLICATION_CODES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_shows_its_name_and_number() {
        assert_eq!(StatusCode::UNIMPLEMENTED.to_string(), "UNIMPLEMENTED (12)");
        assert_eq!(format!("{:?}", StatusCode(2000)), "APPLICATION (2000)");
        assert_eq!(StatusCode(6).to_string(), "UNASSIGNED (6)");
    }

    #[test]
    fn every_status_has_an_advice_of_its_own_in_one_sentence() {
        for code in StatusCode::ALL {
            let advice = code.advice();
            assert_ne!(advice, StatusCode(999).advice(), "{code}");
            assert!(
                advice.ends_with('.') && !advice.contains(". "),
                "{code}: {advice}"
            );
        }
    }
}
