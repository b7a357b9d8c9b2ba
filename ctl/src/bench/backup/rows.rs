//! The rows of tables whose files have a wanted number and size; pure.
//!
//! Each load puts rows into every partition, and enough of them that the hash leaves no bucket without: so a table has
//! one file per tablet and load.

use bytes::Bytes;
use std::fmt::Write;

/// Rows of one load per tablet, on average: that one gets none happens once in 10^12.
pub(super) const ROWS_PER_TABLET: u64 = 28;
/// What a file has beside its rows, about, bytes.
const FILE_OVERHEAD: u64 = 800;
/// Text of 64 different characters compresses to this share of its length, about.
const COMPRESSED: f64 = 0.79;
/// Text is handed on in pieces of about this size.
const PIECE: usize = 256 << 10;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The rows of one load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rows {
    /// Partitions, numbered from 0.
    pub(super) partitions: u32,
    /// Rows of each.
    pub(super) per_partition: u64,
    /// Characters of each.
    pub(super) payload: usize,
    /// Another one gives other rows.
    pub(super) seed: u64,
}

/// Characters of a row, so that a file of [`ROWS_PER_TABLET`] rows has about `bytes`.
pub(super) fn payload(bytes: u64) -> usize {
    let rows = bytes.saturating_sub(FILE_OVERHEAD) as f64 / ROWS_PER_TABLET as f64;
    (rows / COMPRESSED).max(1.0) as usize
}

/// The statement that makes the table.
pub(super) fn create(table: &str, partitions: u32, buckets: u32) -> String {
    let ranges: Vec<String> = (0..partitions)
        .map(|number| format!("PARTITION p{number} VALUES [(\"{number}\"), (\"{}\"))", number + 1))
        .collect();
    format!(
        "CREATE TABLE {table} (k INT NOT NULL, id BIGINT NOT NULL, payload VARCHAR(65000) NOT NULL) \
         DUPLICATE KEY(k, id) PARTITION BY RANGE(k) ({}) DISTRIBUTED BY HASH(id) BUCKETS {buckets} \
         PROPERTIES (\"replication_num\" = \"1\")",
        ranges.join(", ")
    )
}

impl Rows {
    /// Write them as text, partition after partition; `give` returns false when nobody wants more. Returns their number.
    pub(super) fn write(self, give: &mut dyn FnMut(Bytes) -> bool) -> u64 {
        let mut random = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            random ^= random >> 12;
            random ^= random << 25;
            random ^= random >> 27;
            random.wrapping_mul(0x2545_f491_4f6c_dd1d)
        };
        let (mut text, mut count) = (String::with_capacity(PIECE + self.payload + 64), 0);
        for partition in 0..self.partitions {
            for _ in 0..self.per_partition {
                let _ = write!(text, "{partition}|{}|", next() >> 1);
                let mut left = self.payload;
                while left > 0 {
                    let mut bits = next();
                    for _ in 0..left.min(10) {
                        text.push(char::from(ALPHABET[(bits >> 58) as usize]));
                        bits <<= 6;
                    }
                    left -= left.min(10);
                }
                text.push('\n');
                count += 1;
                if text.len() >= PIECE && !give(Bytes::from(std::mem::take(&mut text))) {
                    return count;
                }
            }
        }
        if !text.is_empty() {
            give(Bytes::from(text));
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_as_many_and_as_long_as_wanted() {
        let rows = Rows { partitions: 3, per_partition: 5, payload: 33, seed: 1 };
        let mut text = String::new();
        let count = rows.write(&mut |piece| {
            text.push_str(std::str::from_utf8(&piece).unwrap());
            true
        });
        assert_eq!((count, text.lines().count()), (15, 15));
        assert!(text.lines().all(|line| line.split('|').nth(2).is_some_and(|payload| payload.len() == 33)));
        assert_eq!(text.lines().filter(|line| line.starts_with("2|")).count(), 5);
        let (mut other, mut stopped) = (String::new(), 0);
        Rows { seed: 2, ..rows }.write(&mut |piece| {
            other.push_str(std::str::from_utf8(&piece).unwrap());
            true
        });
        assert_ne!(text, other);
        Rows { per_partition: 100_000, ..rows }.write(&mut |_| {
            stopped += 1;
            false
        });
        assert_eq!(stopped, 1);
    }

    #[test]
    fn a_row_is_never_empty_and_partitions_are_named() {
        assert_eq!(payload(0), 1);
        assert!((200..500).contains(&payload(8 << 10)));
        let create = create("d.t", 2, 7);
        assert!(create.contains("PARTITION p1 VALUES [(\"1\"), (\"2\"))") && create.contains("BUCKETS 7"), "{create}");
    }
}
