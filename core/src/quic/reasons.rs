//! Why a connection ended, in our words.

use quinn_proto::{ConnectionError, TransportErrorCode, VarInt};

use crate::error::{CloseCode, DisconnectReason};

/// TLS alerts (RFC 8446 §6.2) that speak of certificates.
const CERTIFICATE_ALERTS: [u64; 8] = [42, 43, 44, 45, 46, 48, 51, 116];
const NO_APPLICATION_PROTOCOL: u64 = 120;
/// QUIC carries a TLS alert as 0x100 plus its number (RFC 9001 §4.8).
const CRYPTO_ERROR: u64 = 0x100;

pub(crate) fn reason(error: ConnectionError) -> DisconnectReason {
    match error {
        ConnectionError::ApplicationClosed(close) => DisconnectReason::Peer {
            code: CloseCode(u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX)),
            reason: String::from_utf8_lossy(&close.reason).into_owned(),
            retry_after: None,
        },
        ConnectionError::TransportError(error) => by_code(error.code, || error.to_string()),
        ConnectionError::ConnectionClosed(close) => by_code(close.error_code, || {
            format!("the peer ended the connection: {close}")
        }),
        ConnectionError::Reset => DisconnectReason::Reset,
        ConnectionError::TimedOut => DisconnectReason::ConnectTimeout,
        ConnectionError::VersionMismatch => DisconnectReason::NoCommonProtocol,
        other => DisconnectReason::Transport(other.to_string()),
    }
}

fn by_code(code: TransportErrorCode, text: impl FnOnce() -> String) -> DisconnectReason {
    match u64::from(code).checked_sub(CRYPTO_ERROR) {
        Some(NO_APPLICATION_PROTOCOL) => DisconnectReason::NoCommonProtocol,
        Some(alert) if CERTIFICATE_ALERTS.contains(&alert) => DisconnectReason::Certificate(text()),
        _ => DisconnectReason::Transport(text()),
    }
}

pub(crate) fn var_int(code: CloseCode) -> VarInt {
    VarInt::from_u32(code.0)
}
