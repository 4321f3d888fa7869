//! Records that share blocks.

use super::*;

/// A command that one turn has many of.
fn said(at: i64, body: &'static [u8]) -> Record<'static> {
    let to = SessionKey(Key {
        slot: 1,
        generation: 2,
    });
    let message = Letter {
        lane: None,
        tag: Tag(3),
        body: Body::Whole(body),
    };
    let timeout = Some(Duration::from_secs(4));
    let call = Call::SendAcked {
        to,
        message,
        timeout,
    };
    Record::Call { at, call }
}

fn answered(number: u64, reply: bool) -> Record<'static> {
    let session = SessionKey(Key {
        slot: 1,
        generation: 2,
    });
    let delivery = DeliveryKey { session, number };
    let call = if reply {
        Call::Reply {
            delivery,
            tag: Tag(5),
            body: Body::Whole(b"reply"),
        }
    } else {
        Call::Ack { delivery }
    };
    Record::Call { at: 1, call }
}

#[test]
fn records_that_are_held_share_blocks_and_come_back() {
    let event = Record::Event(Some(EventMark {
        name: "Settled",
        digest: 6,
    }));
    let mut records = vec![said(1, b"one"), said(1, b"other"), said(2, b"later")];
    records.extend([
        said(2, b"again"),
        event.clone(),
        said(2, b"behind an event"),
    ]);
    let numbers = [4, 5, 6, 8, 9, u64::MAX, 0];
    records.extend(numbers.map(|number| answered(number, false)));
    records.extend(numbers.map(|number| answered(number, true)));
    records.extend((0..200).flat_map(|_| [said(2, b"many"), event.clone()]));
    records.extend(link_records());
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &link_header())
        .unwrap()
        .holding(1 << 20);
    let start = writer.written();
    for (place, record) in records.iter().enumerate() {
        writer.write(record).unwrap();
        if place == 300 {
            writer.flush().unwrap();
        }
    }
    writer.flush().unwrap();
    let size = writer.written();
    assert_eq!(bytes.len() as u64, size);
    let alone = written(&link_header(), records.clone()).len() as u64;
    let (together, alone) = (size - start, alone - start);
    assert!(
        4 * together < 3 * alone,
        "{together} bytes, and {alone} alone"
    );

    assert_reads_as(&bytes, &records);

    // A block that is damaged is named by its first record.
    let mut reader = Reader::new(&bytes[..bytes.len() - 1]).unwrap();
    let mut last = 0;
    while let Some((number, _)) = reader.next_record().unwrap() {
        last = number;
    }
    let Some(Ending::CutShort(length)) = reader.ending() else {
        panic!("{:?}", reader.ending())
    };
    let at = bytes.len() - 1 - length as usize;
    for byte in [at + 1, at + 10, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[byte] ^= 1;
        match read(&damaged) {
            Err(TraceError::Damaged { record, offset }) => {
                assert_eq!((record, offset), (last + 1, at as u64));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_limit_is_kept_where_records_share_blocks() {
    for limit in 0..400 {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, &link_header())
            .unwrap()
            .holding(128);
        let limit = writer.written() + limit;
        let mut count = 0;
        while writer
            .write_within(limit, &said(count / 3, b"said"))
            .unwrap()
        {
            assert!(writer.written() <= limit);
            count += 1;
        }
        writer.flush().unwrap();
        let written = writer.written();
        assert_eq!(bytes.len() as u64, written);
        assert_eq!(read(&bytes).unwrap().0, count as u64);
    }
}

#[test]
fn a_length_that_was_changed_is_no_cut() {
    let bytes = written(&header(), vec![said(1, b"one"), said(2, b"two")]);
    let start = written(&header(), Vec::new()).len();
    let mut damaged = bytes.clone();
    damaged[start] ^= 0x40;
    match read(&damaged) {
        Err(TraceError::Damaged { record: 1, offset }) => assert_eq!(offset, start as u64),
        other => panic!("{other:?}"),
    }
}
