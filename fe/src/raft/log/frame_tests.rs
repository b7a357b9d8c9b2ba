//! The format byte by byte: golden bytes, every torn length, every flipped byte.

use super::*;

const HEAD: Head = Head { salt: 0x1122_3344_5566_7788, first: 5 };

fn batch(records: &[(Kind, &str)], number: u64) -> Vec<u8> {
    let mut batch = Batch::default();
    for (kind, payload) in records {
        batch.add(*kind, (payload.as_bytes(), b""));
    }
    batch.seal(HEAD.salt, number)
}

/// A file of three batches, and where each ends (with its acknowledgement).
fn sample() -> (Vec<u8>, Vec<usize>) {
    let mut file = head(HEAD).to_vec();
    let mut ends = Vec::new();
    let contents: [&[(Kind, &str)]; 3] =
        [&[(Kind::Vote, "{}"), (Kind::Entry, "12345678{\"a\":1}")], &[(Kind::Entry, "x")], &[(Kind::Purge, "yz")]];
    for (number, records) in (HEAD.first..).zip(contents) {
        file.extend(batch(records, number));
        file.extend(acknowledgement(HEAD.salt, number));
        ends.push(file.len());
    }
    (file, ends)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_are_those_of_version_1() {
    let (file, _) = sample();
    assert_eq!(hex(&file), include_str!("../golden/log-v1.hex").trim(), "the log format changed: raise its version");
    let head = read_head(&file, "f").unwrap();
    let scanned = scan(&file, head, true).unwrap();
    let kinds: Vec<Kind> = scanned.records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [Kind::Vote, Kind::Entry, Kind::Entry, Kind::Purge]);
    assert_eq!(scanned.records[1].payload, b"12345678{\"a\":1}");
    assert_eq!((scanned.end, scanned.next, scanned.torn), (file.len() as u64, 8, false));
    for record in &scanned.records {
        let (kind, payload) = read_record(&file[record.offset as usize..]).unwrap();
        assert_eq!((kind, payload), (record.kind, record.payload));
    }
}

#[test]
fn a_torn_tail_is_cut_at_every_byte() {
    let (file, ends) = sample();
    let zeros = [0; 64];
    for length in HEAD_BYTES..=file.len() {
        // What was written of the last batch, with nothing behind it, with the zeros of a file filled ahead, and with other
        // bytes that a disk may show for pages that were never synced.
        for tail in [&zeros[..0], &zeros[..], &[0xAA; 40][..]] {
            let torn = [&file[..length], tail].concat();
            let scanned = scan(&torn, HEAD, true).unwrap_or_else(|damage| panic!("{length}: {damage:?}"));
            // A batch without its acknowledgement counts when it is whole: it may have been durable.
            let whole = ends.iter().filter(|end| **end - MARK_BYTES <= length).count();
            assert_eq!(scanned.next, HEAD.first + whole as u64, "{length}");
            assert!(scanned.end as usize <= length);
            assert_eq!(scan(&torn[..scanned.end as usize], HEAD, true).unwrap().records, scanned.records);
        }
    }
}

#[test]
fn a_later_part_of_a_torn_batch_alone_is_still_a_torn_tail() {
    let (file, ends) = sample();
    // The pages of the last batch reached the disk in another order: its first half is missing, its last is there; its
    // acknowledgement was never written.
    let last = ends[1]..ends[2] - MARK_BYTES;
    for missing in 1..last.len() {
        let mut torn = file[..last.end].to_vec();
        torn[last.start..last.start + missing].fill(0);
        let scanned = scan(&torn, HEAD, true).unwrap();
        assert_eq!((scanned.next, scanned.end), (7, ends[1] as u64), "{missing}");
    }
    // The acknowledgement of the batch before is missing as well, as it was not synced either.
    let mut torn = file[..last.end].to_vec();
    torn[ends[1] - MARK_BYTES..ends[1]].fill(0);
    assert_eq!(scan(&torn, HEAD, true).unwrap().next, 7);
}

#[test]
fn every_flipped_byte_of_what_was_acknowledged_is_damage_with_its_place() {
    let (file, ends) = sample();
    for at in HEAD_BYTES..file.len() {
        let mut broken = file.clone();
        broken[at] ^= 0x10;
        let last_mark = at >= ends[2] - MARK_BYTES;
        match scan(&broken, HEAD, true) {
            Err(damage) => {
                let start = ends.iter().rev().find(|end| **end <= at).copied().unwrap_or(HEAD_BYTES);
                assert!(!last_mark && (start..=at).contains(&(damage.offset as usize)), "{at}: {damage:?}");
            }
            // Only the newest acknowledgement itself is not proven by anything behind it, and nothing is lost with it.
            Ok(scanned) => assert!(last_mark && scanned.records.len() == 4, "byte {at}"),
        }
        assert!(scan(&broken, HEAD, false).is_err(), "byte {at} of an older file");
    }
    for at in 0..HEAD_BYTES {
        let mut broken = file.clone();
        broken[at] ^= 0x10;
        assert!(read_head(&broken, "the file").unwrap_err().message().contains("the file"));
    }
    assert!(read_head(&file[..7], "f").is_err());
}

#[test]
fn an_older_file_must_end_with_a_whole_batch() {
    let (file, ends) = sample();
    assert!(scan(&file, HEAD, false).is_ok());
    for length in HEAD_BYTES..file.len() {
        // Behind a batch, with its acknowledgement or without.
        let whole = length == HEAD_BYTES || ends.contains(&length) || ends.contains(&(length + MARK_BYTES));
        assert_eq!(scan(&file[..length], HEAD, false).is_ok(), whole, "{length}");
    }
    let newer = Head { first: 6, ..HEAD };
    assert!(scan(&file, newer, false).is_err());
    let foreign = Head { salt: 1, ..HEAD };
    assert_eq!(scan(&file, foreign, true).unwrap().next, 5);
}

#[test]
fn records_with_a_wrong_length_or_kind_are_named() {
    let mut one = Batch::default();
    assert!(one.is_empty());
    let offset = one.add(Kind::Truncate, (&7_u64.to_le_bytes(), b""));
    let bytes = one.seal(0, 1);
    let record = &bytes[offset..];
    let (kind, payload) = read_record(record).unwrap();
    assert_eq!((kind, numbered(payload)), (Kind::Truncate, Ok((7, &b""[..]))));
    assert_eq!(numbered(b"1234567"), Err("a record is too short"));
    assert_eq!(read_record(&record[..5]), Err("a record is cut off"));
    assert_eq!(read_record(&record[..12]), Err("a record is cut off"));
    let mut long = record.to_vec();
    long[4] = 0xFF;
    assert_eq!(read_record(&long), Err("a record is too long"));
    let mut unknown = record.to_vec();
    unknown[0] = 99;
    let sum = crc32c::crc32c_append(crc32c::crc32c(&[99]), payload);
    unknown[5..9].copy_from_slice(&sum.to_le_bytes());
    assert_eq!(read_record(&unknown), Err("a record is of an unknown kind"));
}

#[test]
#[ignore = "writes the golden file anew, for a new version of the format"]
fn write_golden() {
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/raft/golden/log-v1.hex"), hex(&sample().0)).unwrap();
}
