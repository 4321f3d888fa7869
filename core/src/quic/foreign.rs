//! Other cryptography than TLS, for Trunkline's own fuzz targets: below it every byte of a datagram
//! can be made and read. It exists with the feature `fuzzing` alone.

use std::sync::Arc;

use quinn_proto::crypto;

/// What stands in the place of TLS, on either side. Who uses it proves nothing about itself: it has
/// no certificate, and is admitted openly or by the application.
#[derive(Clone)]
#[cfg_attr(
    not(feature = "fuzzing"),
    allow(dead_code, unreachable_pub, reason = "named where it would be")
)]
#[allow(missing_docs, reason = "the names say it")]
pub struct ForeignCrypto {
    pub client: Arc<dyn crypto::ClientConfig>,
    pub server: Arc<dyn crypto::ServerConfig>,
}

#[cfg(feature = "fuzzing")]
thread_local! {
    static FOREIGN: std::cell::RefCell<Option<ForeignCrypto>> =
        const { std::cell::RefCell::new(None) };
}

/// Nodes that this thread makes from now on use this in the place of TLS; `None`: TLS again.
#[cfg(feature = "fuzzing")]
pub fn use_foreign_crypto(crypto: Option<ForeignCrypto>) {
    FOREIGN.set(crypto);
}

/// What this thread's next node uses in the place of TLS.
#[cfg(feature = "fuzzing")]
pub(super) fn foreign_crypto() -> Option<ForeignCrypto> {
    FOREIGN.with_borrow(Clone::clone)
}

/// Nothing does.
#[cfg(not(feature = "fuzzing"))]
pub(super) const fn foreign_crypto() -> Option<ForeignCrypto> {
    None
}
