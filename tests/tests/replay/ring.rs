//! The last seconds of what goes above QUIC, kept in memory.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use trunkline_core::trace::{Reader, Record, Recorder, Saver, replay, shrink, what_if};
use trunkline_core::{ClientRole, Config, Input, Origin, Roles, Seed};
use trunkline_testkit::Certificates;

use crate::conversation::{SECOND, replayed};

#[test]
fn the_last_seconds_are_kept_to_be_looked_into() {
    let (saved, saver) = (Saved::default(), Saver::default());
    let start = Instant::now();
    let trace = {
        let origin = Origin {
            now: start,
            wall: std::time::SystemTime::UNIX_EPOCH,
            seed: Seed::new([1; 32]),
            keys: None,
        };
        let roles = Roles {
            server: None,
            client: Some(ClientRole {
                roots: Certificates::new().unwrap().roots,
                identity: None,
            }),
        };
        let outputs = saved.clone();
        let recorder = Recorder::last(5 * SECOND, &saver, move |_| Ok(outputs.next()));
        let mut node = recorder.start(Config::default(), roles, origin).unwrap();
        for second in 0..60 {
            let now = start + second * SECOND;
            node.handle_input(now, Input::Timeout);
            if second == 3 {
                saver.save();
            }
        }
        drop(node);
        saved.take()
    };
    let [young, old] = &trace[..] else {
        panic!("{} were saved", trace.len())
    };
    // One that reaches back to the node's beginning can be replayed, and the other be looked into.
    let report = replayed(young);
    assert!(report.is_identical() && report.records == 5, "{report}");
    let mut reader = Reader::new(&old[..]).unwrap();
    assert_eq!(reader.header().beginning.first, 55);
    let mut times = Vec::new();
    while let Some((number, record)) = reader.next_record().unwrap() {
        if let Record::Call { at, .. } = record {
            times.push((number, at / 1_000_000_000));
        }
    }
    let wanted: Vec<_> = (54..60).map(|second| (second as u64 + 1, second)).collect();
    assert_eq!(times, wanted);
    for error in [
        replay(&old[..], Instant::now()).unwrap_err().to_string(),
        what_if(&old[..], &[], Instant::now())
            .unwrap_err()
            .to_string(),
        shrink(&old[..], Instant::now()).unwrap_err().to_string(),
    ] {
        assert!(
            error.contains("begins with record 55") && error.contains("trace show"),
            "{error}"
        );
    }
}

/// Files in memory.
#[derive(Clone, Default)]
struct Saved(Arc<Mutex<Vec<Vec<u8>>>>);

impl Saved {
    /// Another one.
    fn next(&self) -> SavedFile {
        let mut files = self.0.lock().unwrap();
        files.push(Vec::new());
        SavedFile(self.clone(), files.len() - 1)
    }

    fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

struct SavedFile(Saved, usize);

impl std::io::Write for SavedFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.0.lock().unwrap()[self.1].extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
