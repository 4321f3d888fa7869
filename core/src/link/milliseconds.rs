//! Spans as they stand on the wire: in whole milliseconds.

use std::time::Duration;

/// At most what the wire holds.
pub(crate) fn milliseconds(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

/// A span of which 0 says that there is none.
pub(crate) fn unless_zero(milliseconds: u32) -> Option<Duration> {
    (milliseconds > 0).then(|| Duration::from_millis(u64::from(milliseconds)))
}
