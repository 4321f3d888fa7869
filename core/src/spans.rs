//! Parts of spans, in whole nanoseconds and with integers only, so that they are the same on every machine:
//! what the standard library does with `Duration` and floats has rounded differently between releases.

use std::time::Duration;

/// A part of a span, for a number from 0 to 1, which counts in units of 2^-32. The product with that is exact,
/// and the cast cuts off.
pub(crate) fn part(span: Duration, of_one: f64) -> Duration {
    const ONE: u64 = 1 << 32;
    let of_one = ((of_one * ONE as f64) as u64).min(ONE);
    nanoseconds((span.as_nanos() * u128::from(of_one)) >> 32)
}

/// What is left of a span that is cut into pieces.
pub(crate) fn remainder(span: Duration, piece: Duration) -> Duration {
    nanoseconds(span.as_nanos() % piece.as_nanos().max(1))
}

/// A span of so many, or the longest of them: 584 years.
pub(crate) fn nanoseconds(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
