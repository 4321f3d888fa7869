//! Parts of recordings.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use trunkline_core::trace::{Reader, Writer};

/// Copies the beginning of a trace.
pub(crate) fn first_records(from: &Path, to: &Path, count: u64) {
    let mut reader = Reader::new(BufReader::new(File::open(from).unwrap())).unwrap();
    let mut writer = Writer::new(Vec::new(), reader.header()).unwrap();
    for _ in 0..count {
        let (_, record) = reader.next_record().unwrap().unwrap();
        writer.write(&record).unwrap();
    }
    fs::write(to, writer.into_inner()).unwrap();
}
