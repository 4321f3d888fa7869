//! Why a connection ended, in our words.

use quinn_proto::{ConnectionError, TransportErrorCode, VarInt};
use trunkline_proto::{APPLICATION_CODES, REASON_MAX};

use crate::error::{CloseCode, DisconnectReason, from_peer};

/// TLS alerts (RFC 8446 §6.2) that speak of certificates.
mod alert {
    pub(super) const BAD_CERTIFICATE: u64 = 42;
    pub(super) const UNSUPPORTED_CERTIFICATE: u64 = 43;
    pub(super) const CERTIFICATE_REVOKED: u64 = 44;
    pub(super) const CERTIFICATE_EXPIRED: u64 = 45;
    pub(super) const CERTIFICATE_UNKNOWN: u64 = 46;
    pub(super) const UNKNOWN_CA: u64 = 48;
    pub(super) const DECRYPT_ERROR: u64 = 51;
    pub(super) const CERTIFICATE_REQUIRED: u64 = 116;
    pub(super) const NO_APPLICATION_PROTOCOL: u64 = 120;
}

/// QUIC carries a TLS alert as 0x100 plus its number (RFC 9001 §4.8).
const CRYPTO_ERROR: u64 = 0x100;

/// Codes beyond those that a close has count as this one, which nobody assigns.
const UNASSIGNED: CloseCode = CloseCode(APPLICATION_CODES - 1);

pub(crate) fn reason(error: ConnectionError) -> DisconnectReason {
    match error {
        ConnectionError::ApplicationClosed(close) => DisconnectReason::Peer {
            code: u32::try_from(close.error_code.into_inner()).map_or(UNASSIGNED, CloseCode),
            reason: from_peer(&String::from_utf8_lossy(&close.reason), REASON_MAX),
            retry_after: None,
        },
        ConnectionError::TransportError(error) => {
            by_code(error.code, "the peer's certificate", || error.to_string())
        }
        ConnectionError::ConnectionClosed(close) => {
            by_code(close.error_code, "this side's certificate", || {
                format!("the peer ended the connection: {close}")
            })
        }
        ConnectionError::Reset => DisconnectReason::Reset,
        ConnectionError::TimedOut => DisconnectReason::ConnectTimeout,
        // Nothing protects such a packet: one bit that flipped, or anybody on the way, makes it. It
        // ends an attempt (RFC 9000 §6.2), and says nothing for sure of the peer.
        ConnectionError::VersionMismatch => DisconnectReason::Transport(
            "a packet that nothing protects says that the peer speaks no QUIC version 1".into(),
        ),
        other => DisconnectReason::Transport(from_peer(&other.to_string(), REASON_MAX)),
    }
}

/// `whose` certificate an alert about one would speak of.
fn by_code(
    code: TransportErrorCode,
    whose: &str,
    detail: impl FnOnce() -> String,
) -> DisconnectReason {
    let detail = || from_peer(&detail(), REASON_MAX);
    let alert = u64::from(code).checked_sub(CRYPTO_ERROR);
    if alert == Some(alert::NO_APPLICATION_PROTOCOL) {
        return DisconnectReason::NoCommonProtocol;
    }
    let Some(what) = alert.and_then(about_certificates) else {
        return DisconnectReason::Transport(detail());
    };
    let text = format!("{whose} {what} ({detail})", detail = detail());
    if alert == Some(alert::CERTIFICATE_EXPIRED) {
        DisconnectReason::CertificateExpired(text)
    } else {
        DisconnectReason::Certificate(text)
    }
}

/// What an alert says of a certificate, and what to do about it.
fn about_certificates(alert: u64) -> Option<&'static str> {
    Some(match alert {
        alert::BAD_CERTIFICATE => {
            "is for another name or malformed: have one issued for the name that is used"
        }
        alert::UNSUPPORTED_CERTIFICATE => {
            "is of a kind that is not supported: use Ed25519, ECDSA or RSA"
        }
        alert::CERTIFICATE_REVOKED => "was revoked: have another one issued",
        alert::CERTIFICATE_EXPIRED => {
            "has expired or is not valid yet: renew it, or check both clocks"
        }
        alert::CERTIFICATE_UNKNOWN => {
            "was not accepted: the reason stands here, or in the other side's log"
        }
        alert::UNKNOWN_CA => {
            "is signed by an authority that is not trusted: give its root certificate to whoever \
             checks it"
        }
        alert::DECRYPT_ERROR => {
            "has a wrong signature: if its authority was made anew, give the new root to whoever \
             checks it"
        }
        alert::CERTIFICATE_REQUIRED => {
            "is missing: give the client one that the server's authority has signed"
        }
        _ => return None,
    })
}

pub(crate) fn var_int(code: CloseCode) -> VarInt {
    VarInt::from_u32(code.0)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quinn_proto::{ApplicationClose, ConnectionClose};

    use super::*;

    fn closed(code: u64, phrase: &'static [u8]) -> DisconnectReason {
        reason(ConnectionError::ApplicationClosed(ApplicationClose {
            error_code: VarInt::from_u64(code).unwrap(),
            reason: Bytes::from_static(phrase),
        }))
    }

    #[test]
    fn a_code_beyond_32_bits_is_nobodys() {
        let code = |number| match closed(number, b"") {
            DisconnectReason::Peer { code, .. } => code,
            other => panic!("{other:?}"),
        };
        assert_eq!(code(8), CloseCode::SEQUENCE_GAP);
        assert_eq!(code(u64::from(u32::MAX)), CloseCode(u32::MAX));
        let beyond = code(1 << 32);
        assert_eq!(beyond.name(), "UNASSIGNED");
        assert!(beyond.redials() && beyond.resumes());
    }

    #[test]
    fn a_reason_phrase_is_cut_and_cleared() {
        let reason = |phrase| match closed(0, phrase) {
            DisconnectReason::Peer { reason, .. } => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(b"\x1b]0;owned\x07"), " ]0;owned ");
        assert_eq!(reason(&[b'x'; 1_000]).len(), REASON_MAX);
        assert_eq!(reason(b"\xff"), "\u{fffd}");
    }

    #[test]
    fn an_alert_about_a_certificate_says_whose_and_what_to_do() {
        let closed = |number| {
            reason(ConnectionError::ConnectionClosed(ConnectionClose {
                error_code: TransportErrorCode::crypto(number),
                frame_type: None,
                reason: Bytes::new(),
            }))
        };
        let DisconnectReason::Certificate(text) = closed(48) else {
            panic!("{:?}", closed(48))
        };
        assert!(
            text.starts_with("this side's certificate is signed by an authority"),
            "{text}"
        );
        for number in [42, 43, 44, 46, 51, 116] {
            let reason = closed(number);
            assert!(
                matches!(&reason, DisconnectReason::Certificate(text) if text.contains(": ")),
                "{reason:?}"
            );
        }
        let expired = closed(45);
        assert!(
            matches!(&expired, DisconnectReason::CertificateExpired(text) if text.contains(": ")),
            "{expired:?}"
        );
        assert_eq!(closed(120), DisconnectReason::NoCommonProtocol);
        assert!(matches!(closed(40), DisconnectReason::Transport(_)));
    }
}
