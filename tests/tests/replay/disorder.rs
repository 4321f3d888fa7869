//! Records of a real trace in an order and at times that no node has met.

use trunkline_core::trace::{Reader, Record, Writer};
use trunkline_testkit::Random;

/// A copy of a trace's first records in which some are left out, doubled, or changed by `change`,
/// which is told by how much times are off: not at all, seconds ahead or back, or anything.
pub(crate) fn disordered(
    trace: &[u8],
    records: usize,
    random: &mut Random,
    mut change: impl FnMut(&mut Record, i64, &mut Random),
) -> Vec<u8> {
    let mut reader = Reader::new(trace).unwrap();
    let mut writer = Writer::new(Vec::new(), reader.header()).unwrap();
    let mut moved = 0_i64;
    for _ in 0..records {
        let Some((_, mut record)) = reader.next_record().unwrap() else {
            break;
        };
        if random.next_u64().is_multiple_of(1_000) {
            moved = match random.next_u64() % 4 {
                0 => 0,
                1 => 5_000_000_000,
                2 => -5_000_000_000,
                _ => random.next_u64() as i64 >> (random.next_u64() % 40),
            };
        }
        change(&mut record, moved, random);
        let copies = match random.next_u64() % 100 {
            0 => 0,
            1 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            writer.write(&record).unwrap();
        }
    }
    writer.into_inner()
}
