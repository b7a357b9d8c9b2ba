//! When a load may commit. Pure.
//!
//! Every tablet that got rows must have them durably on a majority of its replicas, floor(n/2) + 1. Tablets without rows
//! need nothing. Replicas that miss rows are named, so that publishing never advances them past a gap.

use crate::catalog::table::Table;
use coffer_proto::ids::{BackendId, PartitionId, TabletId};
use coffer_proto::v1::TabletWritten;
use coffer_stdx::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// What a commit says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Partitions that got rows.
    pub(super) partitions: Vec<PartitionId>,
    /// Tablets that got rows.
    pub(super) tablets: BTreeSet<TabletId>,
}

/// The replicas that make a majority.
pub(super) fn majority(replicas: usize) -> usize {
    replicas / 2 + 1
}

/// Look at what was written where.
pub(super) fn decide(table: &Table, written: &[TabletWritten]) -> Result<Verdict> {
    let known: BTreeMap<TabletId, _> =
        table.tablets().map(|(partition, tablet)| (tablet.id, (partition, tablet))).collect();
    let mut holders: BTreeMap<TabletId, BTreeSet<BackendId>> = BTreeMap::new();
    for tablet in written.iter().filter(|tablet| tablet.rows > 0) {
        let backends = tablet.backend_ids.iter().copied().map(BackendId);
        holders.entry(TabletId(tablet.tablet_id)).or_default().extend(backends);
    }
    let mut verdict = Verdict { partitions: Vec::new(), tablets: BTreeSet::new() };
    let mut partitions = BTreeSet::new();
    for (id, holders) in holders {
        let (partition, tablet) = known.get(&id).ok_or_else(|| {
            Error::conflict(format!(
                "tablet {id} of table '{}' was dropped, truncated or restored during the load; load again",
                table.name
            ))
        })?;
        let (replicas, needed) = (tablet.replicas.len(), majority(tablet.replicas.len()));
        let written = tablet.replicas.iter().filter(|replica| holders.contains(replica)).count();
        if written < needed {
            return Err(Error::unavailable(format!(
                "tablet {id} of table '{}' has the rows on {written} of {replicas} replicas, {needed} are needed; \
                 check the backends and load again",
                table.name
            )));
        }
        partitions.insert(partition.id);
        verdict.tablets.insert(id);
    }
    verdict.partitions = partitions.into_iter().collect();
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::sample::table;
    use coffer_stdx::ErrorKind;

    fn written(tablet: u64, rows: u64, backends: &[u64]) -> TabletWritten {
        TabletWritten { tablet_id: tablet, rows, bytes: 0, backend_ids: backends.to_vec() }
    }

    #[test]
    fn a_majority_of_each_count() {
        assert_eq!([1, 2, 3, 4, 5].map(majority), [1, 2, 2, 3, 3]);
    }

    #[test]
    fn touched_tablets_need_a_majority_and_the_rest_is_named() {
        let table = table(&[(1, &[10, 11]), (2, &[20])], &[1, 2, 3]);
        let verdict = decide(&table, &[written(10, 5, &[1, 2]), written(20, 1, &[1, 2, 3]), written(11, 0, &[])]);
        let verdict = verdict.unwrap();
        assert_eq!(verdict.partitions, [PartitionId(1), PartitionId(2)]);
        assert_eq!(verdict.tablets, BTreeSet::from([TabletId(10), TabletId(20)]));
        let two_reports = decide(&table, &[written(10, 1, &[1]), written(10, 1, &[2])]).unwrap();
        assert_eq!(two_reports.tablets, BTreeSet::from([TabletId(10)]));
    }

    #[test]
    fn a_minority_strangers_and_lost_tablets_fail() {
        let table = table(&[(1, &[10])], &[1, 2, 3]);
        for backends in [&[1][..], &[], &[1, 1], &[1, 7]] {
            let error = decide(&table, &[written(10, 1, backends)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(error.message().contains("of 3 replicas, 2 are needed"), "{error}");
        }
        assert_eq!(decide(&table, &[written(99, 1, &[1])]).unwrap_err().kind(), ErrorKind::Conflict);
    }

    #[test]
    fn nothing_written_touches_nothing() {
        let table = table(&[(1, &[10])], &[1]);
        assert!(decide(&table, &[]).unwrap().partitions.is_empty());
    }
}
