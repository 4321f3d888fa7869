//! Trace files, opened.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use trunkline_core::trace::TraceError;

use crate::failure::Failure;

/// A trace file, to be read.
pub(crate) fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    let file = File::open(path)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    Ok(BufReader::with_capacity(1 << 20, file))
}

/// What is wrong with it.
pub(crate) fn unusable(path: &Path, error: &TraceError) -> Failure {
    Failure::usage(format!("{}: {error}", path.display()))
}

/// A time since the node's origin, to the microsecond.
pub(crate) fn moment(since: Duration) -> String {
    format!("{}.{:06}", since.as_secs(), since.subsec_micros())
}
