//! What a committed load asks of backends, and which answers make it visible. Pure.
//!
//! A load is visible when every tablet of its partitions has its version on a majority of replicas. Loads of one table
//! become visible in the order in which they were committed.

use super::majority::majority;
use crate::catalog::table::FIRST_VERSION;
use crate::catalog::transaction::{Transaction, TransactionState};
use crate::meta::state::State;
use coffer_proto::ids::{BackendId, PartitionId, TableId, TabletId, TransactionId};
use coffer_proto::v1::{PublishTablet, PublishVersion};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// One load, ready to be published.
#[derive(Debug, PartialEq)]
pub(super) struct Publication {
    pub(super) id: TransactionId,
    pub(super) sequence: u64,
    pub(super) table: TableId,
    /// Task per backend.
    pub(super) tasks: BTreeMap<BackendId, PublishVersion>,
    /// Replicas of every tablet.
    replicas: BTreeMap<TabletId, (PartitionId, usize)>,
}

impl Publication {
    /// From the record; partitions that are gone are left out. `None` when there is nothing to publish at all.
    pub(super) fn new(state: &State, transaction: &Transaction) -> Option<Publication> {
        let versions = versions(transaction)?;
        let mut publication = Publication {
            id: transaction.id,
            sequence: transaction.sequence,
            table: transaction.table,
            tasks: BTreeMap::new(),
            replicas: BTreeMap::new(),
        };
        let Some((_, table)) = state.table_by_id(transaction.db, transaction.table) else { return Some(publication) };
        let schema = serde_json::to_string(&table.schema).unwrap_or_default();
        let delete = transaction.delete.as_ref().and_then(|delete| serde_json::to_string(delete).ok());
        let delete = delete.unwrap_or_default();
        let written: HashSet<TabletId> = transaction.tablets.iter().copied().collect();
        for (partition, version) in versions {
            let Some(partition) = table.partitions.get(partition) else { continue };
            for tablet in &partition.tablets {
                publication.replicas.insert(tablet.id, (partition.id, tablet.replicas.len()));
                for backend in &tablet.replicas {
                    let task = publication.tasks.entry(*backend).or_insert_with(|| PublishVersion {
                        transaction_id: transaction.id.0,
                        tablets: Vec::new(),
                        table_id: table.id.0,
                        schema: schema.clone(),
                        delete: delete.clone(),
                    });
                    task.tablets.push(PublishTablet {
                        tablet_id: tablet.id.0,
                        version: *version,
                        partition_id: partition.id.0,
                        rows_expected: written.contains(&tablet.id),
                    });
                }
            }
        }
        Some(publication)
    }
}

fn versions(transaction: &Transaction) -> Option<&[(PartitionId, u64)]> {
    match &transaction.state {
        TransactionState::Committed { versions, .. } | TransactionState::Visible { versions, .. } => Some(versions),
        TransactionState::Prepared | TransactionState::Precommitted { .. } | TransactionState::Aborted { .. } => None,
    }
}

/// Loads that are committed and not visible, and who has published them.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    /// In commit order.
    tables: HashMap<TableId, BTreeMap<u64, Pending>>,
    places: HashMap<TransactionId, (TableId, u64)>,
}

#[derive(Debug)]
struct Pending {
    publication: Arc<Publication>,
    acks: HashMap<TabletId, BTreeSet<BackendId>>,
    /// Tablets without a majority.
    open: BTreeSet<TabletId>,
}

impl Tracker {
    pub(super) fn knows(&self, id: TransactionId) -> bool {
        self.places.contains_key(&id)
    }

    pub(super) fn add(&mut self, publication: Arc<Publication>) {
        let place = (publication.table, publication.sequence);
        self.places.insert(publication.id, place);
        let open = publication.replicas.keys().copied().collect();
        let pending = Pending { publication, acks: HashMap::new(), open };
        self.tables.entry(place.0).or_default().insert(place.1, pending);
    }

    /// A backend has done its task, all but `failed`.
    pub(super) fn acked(&mut self, id: TransactionId, backend: BackendId, failed: &HashSet<TabletId>) {
        let Some(pending) = self.pending(id) else { return };
        let Some(task) = pending.publication.tasks.get(&backend) else { return };
        for tablet in task.tablets.iter().map(|tablet| TabletId(tablet.tablet_id)) {
            if failed.contains(&tablet) {
                continue;
            }
            let acks = pending.acks.entry(tablet).or_default();
            acks.insert(backend);
            let replicas = pending.publication.replicas.get(&tablet).map_or(0, |(_, replicas)| *replicas);
            if acks.len() >= majority(replicas) {
                pending.open.remove(&tablet);
            }
        }
    }

    /// Partitions may be dropped while a load waits; their tablets are waited for no more.
    pub(super) fn forget_dropped(&mut self, exists: impl Fn(TableId, PartitionId) -> bool) {
        for (table, pending) in &mut self.tables {
            let Some(first) = pending.values_mut().next() else { continue };
            let replicas = &first.publication.replicas;
            first.open.retain(|tablet| replicas.get(tablet).is_some_and(|(partition, _)| exists(*table, *partition)));
        }
    }

    /// The first load of each table, when nothing is left to wait for.
    pub(super) fn ready(&self) -> Vec<TransactionId> {
        let firsts = self.tables.values().filter_map(|pending| pending.values().next());
        firsts.filter(|first| first.open.is_empty()).map(|first| first.publication.id).collect()
    }

    /// The loads that still wait, those of a table in commit order, and the backends that have not published all of one.
    /// All of them: when what was in their way is gone, each would otherwise have to be waited for in its turn.
    pub(super) fn waiting(&self) -> Vec<(Arc<Publication>, Vec<BackendId>)> {
        let open = self.tables.values().flat_map(BTreeMap::values).filter(|pending| !pending.open.is_empty());
        open.map(|pending| {
            let lacks = |backend: &BackendId, task: &PublishVersion| {
                task.tablets.iter().any(|tablet| {
                    let acks = pending.acks.get(&TabletId(tablet.tablet_id));
                    !acks.is_some_and(|acks| acks.contains(backend))
                })
            };
            let tasks = pending.publication.tasks.iter();
            let backends = tasks.filter(|(backend, task)| lacks(backend, task)).map(|(backend, _)| *backend);
            (Arc::clone(&pending.publication), backends.collect())
        })
        .collect()
    }

    /// It is visible, or gone.
    pub(super) fn remove(&mut self, id: TransactionId) {
        if let Some((table, sequence)) = self.places.remove(&id)
            && let Some(pending) = self.tables.get_mut(&table)
        {
            pending.remove(&sequence);
            if pending.is_empty() {
                self.tables.remove(&table);
            }
        }
    }

    /// All loads tracked.
    pub(super) fn ids(&self) -> Vec<TransactionId> {
        self.places.keys().copied().collect()
    }

    fn pending(&mut self, id: TransactionId) -> Option<&mut Pending> {
        let (table, sequence) = self.places.get(&id)?;
        self.tables.get_mut(table)?.get_mut(sequence)
    }
}

/// Visible loads that a backend has not published, in commit order: what it reports is behind what is visible. A tablet
/// it does not report is at the first version.
pub(super) fn lagging(
    state: &State,
    backend: BackendId,
    reported: impl Fn(TabletId) -> Option<u64>,
) -> Vec<TransactionId> {
    let mut behind: HashMap<PartitionId, u64> = HashMap::new();
    for table in state.databases.values().flat_map(|database| database.tables.values()) {
        for (partition, tablet) in table.tablets().filter(|(_, tablet)| tablet.replicas.contains(&backend)) {
            let version = reported(tablet.id).unwrap_or(FIRST_VERSION);
            if version < partition.visible_version {
                let lowest = behind.entry(partition.id).or_insert(version);
                *lowest = version.min(*lowest);
            }
        }
    }
    if behind.is_empty() {
        return Vec::new();
    }
    let wanted = |transaction: &&Transaction| {
        matches!(transaction.state, TransactionState::Visible { .. })
            && versions(transaction)
                .unwrap_or_default()
                .iter()
                .any(|(partition, version)| behind.get(partition).is_some_and(|lowest| lowest < version))
    };
    let mut found: Vec<(u64, TransactionId)> =
        state.transactions.values().filter(wanted).map(|transaction| (transaction.sequence, transaction.id)).collect();
    found.sort_unstable();
    found.into_iter().map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::sample::{committed, state, table};

    fn none() -> HashSet<TabletId> {
        HashSet::new()
    }

    fn tracked(transactions: &[Transaction], state: &State) -> Tracker {
        let mut tracker = Tracker::default();
        for transaction in transactions {
            let publication = Publication::new(state, transaction).unwrap();
            tracker.add(Arc::new(publication));
        }
        tracker
    }

    #[test]
    fn every_backend_publishes_every_tablet_of_the_partitions() {
        let state = state(table(&[(1, &[10, 11]), (2, &[20])], &[1, 2]));
        let mut transaction = committed(7, 8, &[(1, 5)]);
        transaction.tablets = vec![TabletId(11)];
        let publication = Publication::new(&state, &transaction).unwrap();
        assert_eq!(publication.tasks.len(), 2);
        let task = &publication.tasks[&BackendId(1)];
        let tablets: Vec<(u64, u64, bool)> =
            task.tablets.iter().map(|tablet| (tablet.tablet_id, tablet.version, tablet.rows_expected)).collect();
        assert_eq!(tablets, [(10, 5, false), (11, 5, true)]);
        transaction.state = TransactionState::Prepared;
        assert_eq!(Publication::new(&state, &transaction), None);
    }

    #[test]
    fn a_majority_of_every_tablet_makes_it_visible() {
        let state = state(table(&[(1, &[10, 11])], &[1, 2, 3]));
        let mut tracker = tracked(&[committed(7, 8, &[(1, 2)])], &state);
        let id = TransactionId(7);
        tracker.acked(id, BackendId(1), &none());
        assert!(tracker.ready().is_empty());
        tracker.acked(id, BackendId(1), &none());
        tracker.acked(id, BackendId(2), &HashSet::from([TabletId(11)]));
        assert!(tracker.ready().is_empty(), "tablet 11 has one of three");
        assert_eq!(tracker.waiting()[0].1, [BackendId(2), BackendId(3)]);
        tracker.acked(id, BackendId(3), &none());
        assert_eq!(tracker.ready(), [id]);
        tracker.remove(id);
        assert!(tracker.ready().is_empty() && !tracker.knows(id) && tracker.tables.is_empty());
    }

    #[test]
    fn loads_become_visible_in_commit_order() {
        let state = state(table(&[(1, &[10])], &[1]));
        // The one committed first began last.
        let mut tracker = tracked(&[committed(5, 9, &[(1, 3)]), committed(6, 8, &[(1, 2)])], &state);
        let waiting = |tracker: &Tracker| tracker.waiting().iter().map(|(load, _)| load.id.0).collect::<Vec<u64>>();
        assert_eq!(waiting(&tracker), [6, 5], "all that wait are asked for again, in their order");
        tracker.acked(TransactionId(5), BackendId(1), &none());
        assert!(tracker.ready().is_empty());
        assert_eq!(waiting(&tracker), [6]);
        tracker.acked(TransactionId(6), BackendId(1), &none());
        assert_eq!(tracker.ready(), [TransactionId(6)]);
        tracker.remove(TransactionId(6));
        assert_eq!(tracker.ready(), [TransactionId(5)]);
    }

    #[test]
    fn dropped_partitions_and_tables_are_not_waited_for() {
        let state = state(table(&[(1, &[10])], &[1]));
        let mut tracker = tracked(&[committed(5, 9, &[(1, 3)])], &state);
        tracker.forget_dropped(|_, _| true);
        assert!(tracker.ready().is_empty());
        tracker.forget_dropped(|_, _| false);
        assert_eq!(tracker.ready(), [TransactionId(5)]);
        let tracker = tracked(&[committed(5, 9, &[(1, 3)])], &State::default());
        assert_eq!(tracker.ready(), [TransactionId(5)]);
    }

    #[test]
    fn a_backend_that_is_behind_gets_what_it_missed() {
        let mut table = table(&[(1, &[10]), (2, &[20])], &[1, 2]);
        table.partitions.values_mut().for_each(|partition| partition.visible_version = 3);
        let mut state = state(table);
        for (id, sequence, versions) in [(5, 9, [(1, 3), (2, 3)]), (6, 8, [(1, 2), (2, 2)])] {
            let mut transaction = committed(id, sequence, &versions);
            let versions = super::versions(&transaction).unwrap().to_vec();
            transaction.state = TransactionState::Visible { versions, rows: 1, at_ms: 0 };
            state.transactions.insert(transaction.id, transaction);
        }
        let (first, second) = (TransactionId(6), TransactionId(5));
        assert_eq!(lagging(&state, BackendId(1), |_| None), [first, second]);
        assert_eq!(lagging(&state, BackendId(1), |tablet| Some(if tablet.0 == 10 { 2 } else { 3 })), [second]);
        assert!(lagging(&state, BackendId(1), |_| Some(3)).is_empty());
        assert!(lagging(&state, BackendId(9), |_| None).is_empty());
    }
}
