//! Which rowsets of a tablet are merged next. Pure.
//!
//! Rowsets have a size class: below 1 MiB, 4 MiB, 16 MiB and so on; what has 256 MiB is left alone. Of the smallest class
//! that has [`SAME_CLASS`] members (of the first class [`MIN_ROWSETS`]) with nothing larger between them, these and what
//! lies between them are merged. So a row is rewritten about once per class, apart from what is below a mebibyte. Sizes that
//! come in a bad order may leave many rowsets; from [`MANY_ROWSETS`] on, smaller ones are merged along with larger ones.

use crate::tablet::{Rowset, TabletMeta};
use std::ops::Range;

/// Fewest rowsets of the smallest class that are worth a merge.
pub(crate) const MIN_ROWSETS: usize = 8;
/// Fewest rowsets of another class that are.
const SAME_CLASS: usize = 4;
/// So many rowsets, without the too large ones, are too many, however their sizes are mixed.
const MANY_ROWSETS: usize = 50;
/// Most rowsets of a merge.
const MAX_ROWSETS: usize = 64;
/// Most files of a merge: each holds a page of each column in memory.
const MAX_FILES: usize = 64;
/// Most bytes of a merge, and so of a merged file.
const MAX_BYTES: u64 = 1 << 30;
/// Bytes of the smallest class.
const FIRST_CLASS_BYTES: u64 = 1 << 20;
/// The class of rowsets that are too large to be merged.
const TOO_LARGE: u32 = 5;

/// The rowsets to merge, by position; `None`: all is well.
pub(crate) fn choose(meta: &TabletMeta) -> Option<Range<usize>> {
    let classes: Vec<u32> = meta.rowsets.iter().map(class_of).collect();
    let many = classes.iter().filter(|class| **class < TOO_LARGE).count() >= MANY_ROWSETS;
    (0..TOO_LARGE).find_map(|class| {
        let mut from = 0;
        while from < classes.len() {
            let to = from + classes[from..].iter().take_while(|other| **other <= class).count();
            let found = within(&meta.rowsets, &classes, (class, many), from..to);
            if found.is_some() {
                return found;
            }
            from = to + 1;
        }
        None
    })
}

/// What to merge of neighbours of which none is above `class`.
fn within(rowsets: &[Rowset], classes: &[u32], (class, many): (u32, bool), run: Range<usize>) -> Option<Range<usize>> {
    let (first, least) = if class == 0 || many {
        (run.start, MIN_ROWSETS)
    } else {
        let mut same = run.clone().filter(|at| classes[*at] == class);
        let first = same.next()?;
        if same.count() + 1 < SAME_CLASS {
            return None;
        }
        (first, SAME_CLASS)
    };
    (first..(run.end + 1).saturating_sub(least)).find_map(|at| fitting(rowsets, at..run.end, least))
}

/// As many rowsets from the first of `run` on as one merge takes, if these are enough.
fn fitting(rowsets: &[Rowset], run: Range<usize>, least: usize) -> Option<Range<usize>> {
    let (from, mut end, mut files, mut bytes) = (run.start, run.start, 0, 0);
    while end < run.end && end - from < MAX_ROWSETS {
        files += rowsets[end].files.len();
        bytes += size(&rowsets[end]);
        if files > MAX_FILES || bytes > MAX_BYTES {
            break;
        }
        end += 1;
    }
    (end - from >= least).then_some(from..end)
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
            assert!(window.len() >= SAME_CLASS);
            let inputs: Vec<Rowset> = meta.rowsets[window.clone()].to_vec();
            let bytes = inputs.iter().map(size).sum();
            assert!(bytes <= MAX_BYTES);
            written += bytes;
            let file = DataFile { name: String::new(), bytes, rows: 1, blake3: String::new() };
            let (from, to) = (inputs[0].from, inputs[inputs.len() - 1].to);
            meta.rowsets.splice(window, [Rowset { from, to, rows: 1, files: vec![file], emptied: false }]);
            meta.check().unwrap();
        }
        (meta, written)
    }

    #[test]
    fn classes() {
        let class = |bytes: u64| class_of(&tablet(&[bytes]).rowsets[0]);
        let found = [0, MIB - 1, MIB, 4 * MIB - 1, 4 * MIB, 256 * MIB - 1, 256 * MIB].map(class);
        assert_eq!(found, [0, 0, 1, 1, 2, 4, TOO_LARGE]);
    }

    /// As many rowsets as can be without enough neighbours of any class up to this one.
    fn mixed(class: u32) -> Vec<u64> {
        if class == 0 {
            return vec![1; MIN_ROWSETS - 1];
        }
        let between = mixed(class - 1);
        let mut all = between.clone();
        for _ in 1..SAME_CLASS {
            all.push(MIB << (2 * (class - 1)));
            all.extend(&between);
        }
        all
    }

    #[test]
    fn small_neighbours_go_first_and_large_rowsets_stay() {
        assert_eq!(choose(&tablet(&[1; MIN_ROWSETS - 1])), None);
        assert_eq!(choose(&tablet(&[1; MIN_ROWSETS])), Some(0..MIN_ROWSETS));
        let mut sizes = vec![64 * MIB; 20];
        sizes.extend([1; MIN_ROWSETS]);
        assert_eq!(choose(&tablet(&sizes)), Some(20..20 + MIN_ROWSETS));
        assert_eq!(choose(&tablet(&[64 * MIB; 20])), Some(0..16), "a gibibyte");
        assert_eq!(choose(&tablet(&[64 * MIB, 1, 64 * MIB, 64 * MIB])), None);
        assert_eq!(choose(&tablet(&[1, 64 * MIB, 1, 64 * MIB, 64 * MIB, 64 * MIB, 1])), Some(1..7));
        assert_eq!(choose(&tablet(&[2 << 30; 100])), None);
        // Sizes in a bad order: few of a class stand together, until there are too many.
        assert_eq!(choose(&tablet(&mixed(1))), None);
        assert!(mixed(2).len() > MANY_ROWSETS && choose(&tablet(&mixed(2))).is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn few_rowsets_stay_and_bytes_are_written_a_few_times(sizes in proptest::collection::vec(0_u64..3_000_000, 1..150)) {
            let empty = TabletMeta::empty(7, 1, 2, schema());
            let (mut meta, mut written) = (empty, 0);
            for bytes in &sizes {
                let file = DataFile { name: String::new(), bytes: *bytes, rows: 1, blake3: String::new() };
                let (settled, more) = settle(meta.next(vec![file]));
                (meta, written) = (settled, written + more);
                prop_assert!(meta.rowsets.len() < 2 * MANY_ROWSETS, "{}", meta.rowsets.len());
            }
            let loaded: u64 = sizes.iter().sum();
            prop_assert!(written <= 8 * loaded + 100 * FIRST_CLASS_BYTES, "{written} of {loaded}");
        }
    }
}
