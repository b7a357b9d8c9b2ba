//! What to read of which pack, and which file each byte goes to: pure.
//!
//! Blobs of one pack are sorted by offset and read together as long as the gap between them is small: an unwanted
//! megabyte costs less than another request. A run is cut at [`MAX_FETCH_BYTES`], so that several connections share a
//! large pack; a blob is never cut, because its BLAKE3 is computed as it streams by.

use coffer_repo::{Checksum, PackId};
use std::collections::BTreeMap;
use std::ops::Range;

/// Largest gap that is read and thrown away.
pub const MAX_GAP_BYTES: u64 = 1 << 20;
/// A run is not made longer than this, unless it is one blob.
pub const MAX_FETCH_BYTES: u64 = 64 << 20;

/// A blob somebody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Of its first byte in the pack.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// What its bytes must hash to.
    pub checksum: Checksum,
    /// Which file it becomes: the index of the caller's list.
    pub file: usize,
}

/// One ranged read and the blobs in it, by offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// The pack.
    pub pack: PackId,
    /// From the first byte of the first blob to the last of the last.
    pub range: Range<u64>,
    /// Without overlap, except that one blob may be wanted several times in a row.
    pub wants: Vec<Want>,
}

/// All reads for `wants`, pack by pack.
pub fn fetches(wants: impl IntoIterator<Item = (PackId, Want)>) -> Vec<Fetch> {
    let mut by_pack: BTreeMap<PackId, Vec<Want>> = BTreeMap::new();
    for (pack, want) in wants {
        by_pack.entry(pack).or_default().push(want);
    }
    let mut fetches = Vec::new();
    for (pack, mut wants) in by_pack {
        wants.sort_by_key(|want| (want.offset, want.length));
        for want in wants {
            let end = want.offset.saturating_add(want.length);
            match fetches.last_mut() {
                Some(Fetch { pack: last, range, wants }) if *last == pack && joins(range, &want, wants.last()) => {
                    range.end = range.end.max(end);
                    wants.push(want);
                }
                _ => fetches.push(Fetch { pack, range: want.offset..end, wants: vec![want] }),
            }
        }
    }
    fetches
}

fn joins(range: &Range<u64>, want: &Want, last: Option<&Want>) -> bool {
    if last.is_some_and(|last| last.offset == want.offset && last.length == want.length) {
        return true;
    }
    let end = want.offset.saturating_add(want.length);
    // An overlap that is not the same blob is no pack of ours; it becomes a read of its own, whose hash then decides.
    want.offset >= range.end && want.offset - range.end <= MAX_GAP_BYTES && end - range.start <= MAX_FETCH_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_repo::PackPrefix;
    use proptest::prelude::*;

    fn want(offset: u64, length: u64, file: usize) -> Want {
        Want { offset, length, checksum: Checksum::of(b""), file }
    }

    fn shape(fetches: &[Fetch]) -> Vec<(Range<u64>, Vec<usize>)> {
        fetches.iter().map(|f| (f.range.clone(), f.wants.iter().map(|want| want.file).collect())).collect()
    }

    #[test]
    fn near_blobs_are_read_together_and_far_ones_are_not() {
        let pack = PackId::random(PackPrefix::random(), 0);
        let far = 30 + MAX_GAP_BYTES + 1;
        let wants = [want(far, 5, 3), want(16, 4, 0), want(25, 5, 2), want(20, 0, 1), want(16, 4, 4)];
        let found = fetches(wants.map(|want| (pack, want)));
        assert_eq!(shape(&found), [(16..30, vec![0, 4, 1, 2]), (far..far + 5, vec![3])]);
    }

    #[test]
    fn runs_are_cut_between_blobs_and_packs() {
        let (one, two) = (PackId::random(PackPrefix::random(), 0), PackId::random(PackPrefix::random(), 0));
        let half = MAX_FETCH_BYTES / 2;
        let wants = [(one, want(0, half, 0)), (one, want(half, half, 1)), (one, want(2 * half, 9 * half, 2))];
        assert_eq!(shape(&fetches(wants)), [(0..2 * half, vec![0, 1]), (2 * half..11 * half, vec![2])]);
        assert_eq!(fetches([(one, want(0, 1, 0)), (two, want(1, 1, 1))]).len(), 2);
    }

    #[test]
    fn overlaps_are_read_on_their_own() {
        let pack = PackId::random(PackPrefix::random(), 0);
        let wants = [want(0, 10, 0), want(5, 10, 1)];
        assert_eq!(shape(&fetches(wants.map(|want| (pack, want)))), [(0..10, vec![0]), (5..15, vec![1])]);
    }

    proptest! {
        #[test]
        fn every_want_is_in_one_fetch_that_covers_it(
            spans in proptest::collection::vec((0_u64..300 << 20, 0_u64..40 << 20, 0_u8..3), 0..40),
        ) {
            let prefix = PackPrefix::random();
            let packs = [0, 1, 2].map(|lane| PackId::random(prefix, lane));
            let wants: Vec<(PackId, Want)> = spans
                .iter()
                .enumerate()
                .map(|(file, (offset, length, pack))| (packs[usize::from(*pack)], want(*offset, *length, file)))
                .collect();
            let mut seen = Vec::new();
            for fetch in fetches(wants.iter().copied()) {
                prop_assert!(fetch.wants.len() == 1 || fetch.range.end - fetch.range.start <= MAX_FETCH_BYTES
                    || fetch.wants.iter().all(|want| want.offset == fetch.range.start));
                let mut at = fetch.range.start;
                for found in &fetch.wants {
                    prop_assert!(wants.contains(&(fetch.pack, *found)));
                    prop_assert!(found.offset >= at || found.offset + found.length == at);
                    at = at.max(found.offset + found.length);
                    seen.push(found.file);
                }
                prop_assert_eq!(at, fetch.range.end);
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..wants.len()).collect::<Vec<_>>());
        }
    }
}
