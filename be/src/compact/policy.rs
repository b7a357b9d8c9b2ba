//! Which rowsets of a tablet are merged next. Pure.
//!
//! Rowsets have a size class: below 1 MiB, 4 MiB, 16 MiB and so on. Of the smallest class for which [`MIN_ROWSETS`]
//! neighbours are no larger than it, those neighbours are merged. So a row is rewritten once per class, apart from what is
//! below a mebibyte, and at most about [`MIN_ROWSETS`] rowsets per class stay, large ones that have had their last merge
//! not counted.

use crate::tablet::{Rowset, TabletMeta};
use std::ops::Range;

/// Fewest rowsets that are worth a merge.
pub(crate) const MIN_ROWSETS: usize = 8;
/// Most rowsets of a merge.
const MAX_ROWSETS: usize = 64;
/// Most files of a merge: each holds a page of each column in memory.
const MAX_FILES: usize = 64;
/// Most bytes of a merge, and so of a merged file.
const MAX_BYTES: u64 = 1 << 30;
/// Bytes of the smallest class.
const FIRST_CLASS_BYTES: u64 = 1 << 20;
/// The class of rowsets that are too large to be merged.
const TOO_LARGE: u32 = 6;

/// The rowsets to merge, by position; `None`: all is well.
pub(crate) fn choose(meta: &TabletMeta) -> Option<Range<usize>> {
    let rowsets = &meta.rowsets;
    (0..TOO_LARGE).find_map(|class| {
        let mut from = 0;
        while from < rowsets.len() {
            let small = rowsets[from..].iter().take_while(|rowset| class_of(rowset) <= class).count();
            if small >= MIN_ROWSETS
                && let Some(found) =
                    (from..=from + small - MIN_ROWSETS).find_map(|at| fitting(rowsets, at, from + small))
            {
                return Some(found);
            }
            from += small + 1;
        }
        None
    })
}

/// As many rowsets from `from` on, before `to`, as one merge takes, if these are enough.
fn fitting(rowsets: &[Rowset], from: usize, to: usize) -> Option<Range<usize>> {
    let (mut end, mut files, mut bytes) = (from, 0, 0);
    while end < to && end - from < MAX_ROWSETS {
        files += rowsets[end].files.len();
        bytes += size(&rowsets[end]);
        if files > MAX_FILES || bytes > MAX_BYTES {
            break;
        }
        end += 1;
    }
    (end - from >= MIN_ROWSETS).then_some(from..end)
}

fn size(rowset: &Rowset) -> u64 {
    rowset.files.iter().map(|file| file.bytes).sum()
}

fn class_of(rowset: &Rowset) -> u32 {
    let units = size(rowset) / FIRST_CLASS_BYTES;
    // 0 below one unit, then one more for each factor of four.
    units.checked_ilog(4).map_or(0, |class| class + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tablet::DataFile;
    use crate::tablet::testing::schema;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn tablet(sizes: &[u64]) -> TabletMeta {
        let file = |bytes: u64| DataFile { name: String::new(), bytes, rows: 1, blake3: String::new() };
        let files = |bytes: u64| if bytes == 0 { Vec::new() } else { vec![file(bytes)] };
        let empty = TabletMeta::empty(7, 1, 2, schema());
        sizes.iter().fold(empty, |meta, bytes| meta.next(files(*bytes)))
    }

    /// Merge as long as there is something to merge; the rowsets that stay, and bytes written.
    fn settle(mut meta: TabletMeta) -> (TabletMeta, u64) {
        let mut written = 0;
        while let Some(window) = choose(&meta) {
            assert!(window.len() >= MIN_ROWSETS);
            let inputs: Vec<Rowset> = meta.rowsets[window.clone()].to_vec();
            let bytes = inputs.iter().map(size).sum();
            assert!(bytes <= MAX_BYTES);
            written += bytes;
            let file = DataFile { name: String::new(), bytes, rows: 1, blake3: String::new() };
            let (from, to) = (inputs[0].from, inputs[inputs.len() - 1].to);
            meta.rowsets.splice(window, [Rowset { from, to, rows: 1, files: vec![file] }]);
            meta.check().unwrap();
        }
        (meta, written)
    }

    #[test]
    fn classes() {
        let class = |bytes: u64| class_of(&tablet(&[bytes]).rowsets[0]);
        let found = [0, MIB - 1, MIB, 4 * MIB - 1, 4 * MIB, 256 * MIB, 1_024 * MIB].map(class);
        assert_eq!(found, [0, 0, 1, 1, 2, 5, TOO_LARGE]);
    }

    #[test]
    fn small_neighbours_go_first_and_large_rowsets_stay() {
        assert_eq!(choose(&tablet(&[1; MIN_ROWSETS - 1])), None);
        assert_eq!(choose(&tablet(&[1; MIN_ROWSETS])), Some(0..MIN_ROWSETS));
        let mut sizes = vec![64 * MIB; 20];
        sizes.extend([1; MIN_ROWSETS]);
        assert_eq!(choose(&tablet(&sizes)), Some(20..20 + MIN_ROWSETS));
        assert_eq!(choose(&tablet(&[64 * MIB; 20])), Some(0..16), "a gibibyte");
        assert_eq!(choose(&tablet(&[2 << 30; 20])), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn few_rowsets_stay_and_bytes_are_written_a_few_times(sizes in proptest::collection::vec(0_u64..3_000_000, 1..300)) {
            let empty = TabletMeta::empty(7, 1, 2, schema());
            let (mut meta, mut written) = (empty, 0);
            for bytes in &sizes {
                let file = DataFile { name: String::new(), bytes: *bytes, rows: 1, blake3: String::new() };
                let (settled, more) = settle(meta.next(vec![file]));
                (meta, written) = (settled, written + more);
                prop_assert!(meta.rowsets.len() < 60, "{}", meta.rowsets.len());
            }
            let loaded: u64 = sizes.iter().sum();
            prop_assert!(written <= 8 * loaded + 100 * FIRST_CLASS_BYTES, "{written} of {loaded}");
        }
    }
}
