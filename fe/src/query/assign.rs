//! Which replica of each tablet is read, and which tablets are read one after the other. Pure.
//!
//! Living replicas come first, those that were last reported at an older version after the others (they may have caught
//! up); among equals the backend with the least to do so far, so that the work spreads. Tablets of one backend share its
//! streams; the number of streams is bounded whatever the number of tablets.

use super::pin::TabletRead;
use coffer_proto::ids::BackendId;
use std::collections::BTreeMap;

/// Streams of one scan at most.
const MAX_STREAMS: usize = 32;

/// What to expect of a replica, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Nothing speaks against it.
    Good,
    /// Last reported at an older version.
    Behind,
    /// Its backend is not alive.
    Dead,
}

/// Order the replicas of every tablet and group tablets into at most `streams` (and [`MAX_STREAMS`]) lists.
pub(crate) fn assign(
    tablets: Vec<TabletRead>,
    standing: impl Fn(&TabletRead, BackendId) -> Standing,
    streams: usize,
) -> Vec<Vec<TabletRead>> {
    let mut load: BTreeMap<BackendId, usize> = BTreeMap::new();
    let mut by_backend: BTreeMap<BackendId, Vec<TabletRead>> = BTreeMap::new();
    for mut tablet in tablets {
        let mut replicas = std::mem::take(&mut tablet.replicas);
        replicas.sort_by_key(|replica| (standing(&tablet, *replica), load.get(replica).copied().unwrap_or(0)));
        tablet.replicas = replicas;
        let chosen = tablet.replicas.first().copied().unwrap_or_default();
        *load.entry(chosen).or_default() += 1;
        by_backend.entry(chosen).or_default().push(tablet);
    }
    let streams = streams.clamp(1, MAX_STREAMS).max(by_backend.len().min(MAX_STREAMS));
    let total: usize = by_backend.values().map(Vec::len).sum();
    let mut groups = Vec::new();
    for tablets in by_backend.into_values() {
        // A share of the streams that follows the share of the tablets, at least one.
        let share = (streams * tablets.len() / total.max(1)).clamp(1, tablets.len());
        let size = tablets.len().div_ceil(share);
        groups.extend(tablets.chunks(size).map(<[TabletRead]>::to_vec));
    }
    merge(groups)
}

/// Joins lists until there are no more than [`MAX_STREAMS`].
fn merge(groups: Vec<Vec<TabletRead>>) -> Vec<Vec<TabletRead>> {
    if groups.len() <= MAX_STREAMS {
        return groups;
    }
    let mut merged = vec![Vec::new(); MAX_STREAMS];
    for (number, group) in groups.into_iter().enumerate() {
        merged[number % MAX_STREAMS].extend(group);
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_proto::ids::TabletId;

    fn tablets(count: u64, replicas: &[u64]) -> Vec<TabletRead> {
        let replicas: Vec<BackendId> = replicas.iter().copied().map(BackendId).collect();
        (0..count).map(|id| TabletRead { tablet: TabletId(id), version: 2, replicas: replicas.clone() }).collect()
    }

    fn firsts(groups: &[Vec<TabletRead>]) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for tablet in groups.iter().flatten() {
            *counts.entry(tablet.replicas[0].0).or_default() += 1;
        }
        counts
    }

    #[test]
    fn work_spreads_over_living_backends() {
        let groups = assign(tablets(12, &[1, 2, 3]), |_, _| Standing::Good, 4);
        assert_eq!(firsts(&groups), BTreeMap::from([(1, 4), (2, 4), (3, 4)]));
        let second = |standing| {
            move |_: &TabletRead, backend: BackendId| {
                if backend.0 == 2 { standing } else { Standing::Good }
            }
        };
        let groups = assign(tablets(12, &[1, 2, 3]), second(Standing::Behind), 4);
        assert_eq!(firsts(&groups), BTreeMap::from([(1, 6), (3, 6)]));
        let groups = assign(tablets(12, &[1, 2, 3]), second(Standing::Dead), 4);
        assert_eq!(firsts(&groups), BTreeMap::from([(1, 6), (3, 6)]));
        assert_eq!(groups.len(), 4);
        assert!(groups.iter().flatten().all(|tablet| tablet.replicas.last() == Some(&BackendId(2))));
    }

    #[test]
    fn streams_are_bounded_and_nothing_is_lost() {
        for (count, streams) in [(0, 4), (1, 4), (3, 4), (1_000, 4), (1_000, 1_000)] {
            let groups = assign(tablets(count, &[1]), |_, _| Standing::Good, streams);
            assert!(groups.len() <= streams.min(MAX_STREAMS) && groups.iter().all(|group| !group.is_empty()));
            assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), count as usize);
        }
        let many: Vec<TabletRead> = (0..100).flat_map(|backend| tablets(1, &[backend])).collect();
        assert_eq!(assign(many, |_, _| Standing::Good, 4).len(), MAX_STREAMS);
    }
}
