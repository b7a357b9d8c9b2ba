//! Which blobs share a pack: pure, in the order given, so that the files of a tablet stay together and a restore reads
//! them with few long requests.

use crate::pack::MAX_BLOBS;

/// Pack size aimed at.
pub const DEFAULT_TARGET_BYTES: u64 = 64 << 20;

/// Groups of indices into the list of blobs; each group is one pack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackPlan {
    /// Packs; no blob is missing or twice, none is empty.
    pub packs: Vec<Vec<usize>>,
}

impl PackPlan {
    /// Fill packs up to `target` bytes in order. A blob of at least `target` bytes is a pack of its own; the pack being
    /// filled goes on after it.
    pub fn new(sizes: impl IntoIterator<Item = u64>, target: u64) -> PackPlan {
        let mut packs = Vec::new();
        let (mut open, mut open_bytes) = (Vec::new(), 0_u64);
        for (index, bytes) in sizes.into_iter().enumerate() {
            if bytes >= target {
                packs.push(vec![index]);
                continue;
            }
            if !open.is_empty() && (open_bytes.saturating_add(bytes) > target || open.len() == MAX_BLOBS) {
                packs.push(std::mem::take(&mut open));
                open_bytes = 0;
            }
            open.push(index);
            open_bytes += bytes;
        }
        if !open.is_empty() {
            packs.push(open);
        }
        PackPlan { packs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_blobs_share_and_large_ones_stand_alone() {
        assert_eq!(PackPlan::new([], 10).packs, Vec::<Vec<usize>>::new());
        assert_eq!(PackPlan::new([4, 4, 4], 10).packs, [vec![0, 1], vec![2]]);
        assert_eq!(PackPlan::new([4, 99, 4, 10, 3], 10).packs, [vec![1], vec![3], vec![0, 2], vec![4]]);
        assert_eq!(PackPlan::new([0, 0], 10).packs, [vec![0, 1]]);
        assert_eq!(PackPlan::new([1, 1], 0).packs, [vec![0], vec![1]]);
        assert_eq!(PackPlan::new(vec![0; MAX_BLOBS + 1], 10).packs.len(), 2);
    }

    proptest! {
        #[test]
        fn every_blob_is_in_one_pack_and_no_shared_pack_is_too_large(
            sizes in proptest::collection::vec(0_u64..200, 0..80), target in 1_u64..150,
        ) {
            let plan = PackPlan::new(sizes.iter().copied(), target);
            let mut seen: Vec<usize> = plan.packs.iter().flatten().copied().collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..sizes.len()).collect::<Vec<_>>());
            for pack in &plan.packs {
                let bytes: u64 = pack.iter().map(|index| sizes[*index]).sum();
                prop_assert!(pack.len() == 1 || bytes <= target);
            }
            // Filled greedily: no two neighbouring shared packs would fit in one.
            let small = sizes.iter().filter(|bytes| **bytes < target).count();
            let bytes: u64 = sizes.iter().filter(|bytes| **bytes < target).sum();
            let shared = plan.packs.iter().filter(|pack| pack.iter().any(|index| sizes[*index] < target)).count();
            prop_assert!(shared as u64 <= 1 + 2 * bytes / target, "{} packs for {} blobs", shared, small);
        }
    }
}
