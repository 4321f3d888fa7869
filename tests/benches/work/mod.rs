//! What the benchmarks measure, whether by the clock or by counting instructions.

pub(crate) mod codec;
pub(crate) mod deadlines;
pub(crate) mod turns;
