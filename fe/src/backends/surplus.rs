//! Replicas that the catalog does not want: those of a backend that was given up and came back, and what DECOMMISSION had
//! copied or exchanged before it was called off.
//!
//! One is dropped only after it was seen for a while ([`SURPLUS_FOR`]), when every replica of the catalog is whole, no job
//! refers to the tablet, and nobody copies onto it ([`super::keeping`]). A backend ends such drops before it begins a copy of the
//! same tablet, whoever asked for them. Nothing is durable here: a new leader sees again what there is too much. What is
//! dropped goes to the trash of its backend.

use super::keeping::Place;
use super::registry::{Registry, Replica};
use crate::catalog::table::FIRST_VERSION;
use crate::meta::state::State;
use coffer_proto::ids::{BackendId, TabletId};
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// For so long a replica must have been surplus: who reads it has found the others by then.
const SURPLUS_FOR: Duration = Duration::from_secs(10);
/// Replicas dropped at a time from one backend.
const MAX_DROPS: usize = 64;

/// What the leader has seen.
#[derive(Debug, Default)]
pub(super) struct Surplus {
    since: HashMap<Place, Instant>,
}

impl Surplus {
    /// Which to drop now.
    fn due(&mut self, found: Vec<Place>, now: Instant) -> Vec<Place> {
        let mut before = std::mem::take(&mut self.since);
        let seen = |place: Place| (place, before.remove(&place).unwrap_or(now));
        self.since = found.iter().copied().map(seen).collect();
        let mut drops: HashMap<BackendId, usize> = HashMap::new();
        let mut due = Vec::new();
        for place in found {
            let waited = self.since.get(&place).is_some_and(|since| now >= *since + SURPLUS_FOR);
            let drops = drops.entry(place.1).or_default();
            if waited && *drops < MAX_DROPS {
                *drops += 1;
                due.push(place);
            }
        }
        due
    }

    /// Look at what backends hold; what to drop now.
    pub(super) fn look(&mut self, state: &State, registry: &Registry) -> Vec<Place> {
        let held: Vec<(BackendId, Vec<TabletId>)> =
            state.backends.keys().map(|backend| (*backend, registry.tablets(*backend))).collect();
        let found = registry.look(|replica| surplus(state, replica, &held));
        self.due(found, Instant::now())
    }
}

/// The replicas that the catalog does not want and can do without. Pure.
fn surplus(
    state: &State,
    replica: &dyn Fn(TabletId, BackendId) -> Replica,
    held: &[(BackendId, Vec<TabletId>)],
) -> Vec<Place> {
    let mut wanted: HashMap<TabletId, (&[BackendId], u64)> = HashMap::new();
    for lot in state.lots() {
        let version = lot.partition.visible_version;
        wanted.extend(lot.partition.tablets.iter().map(|tablet| (tablet.id, (tablet.replicas.as_slice(), version))));
    }
    let backups = state.backups.values().filter(|job| !job.cleaned).flat_map(|job| job.tables.iter());
    let restores = state.restores.values().filter(|job| !job.state.is_over());
    let restores = restores.flat_map(|job| job.targets.iter().map(|target| &target.table));
    let pinned: BTreeSet<TabletId> =
        backups.chain(restores).flat_map(|table| table.tablets().map(|(_, tablet)| tablet.id)).collect();
    let mut found = Vec::new();
    for (backend, tablets) in held {
        // What lies on a backend that leaves goes with it.
        if state.backends.get(backend).is_none_or(|known| known.decommissioned) {
            continue;
        }
        for tablet in tablets.iter().filter(|tablet| !pinned.contains(tablet)) {
            let Some((replicas, version)) = wanted.get(tablet) else { continue };
            let whole = |backend: &BackendId| match replica(*tablet, *backend) {
                Replica::At(there) => there >= *version,
                Replica::Missing => *version <= FIRST_VERSION,
                Replica::Unknown | Replica::Bad => false,
            };
            if !replicas.contains(backend) && replicas.iter().all(whole) {
                found.push((*tablet, *backend));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::cluster::Backend;
    use crate::catalog::database::Database;
    use crate::catalog::map::Map;
    use crate::catalog::table::{Partition, Table, Tablet};
    use coffer_proto::ids::{DbId, PartitionId, TableId};

    const PLACE: Place = (TabletId(10), BackendId(3));

    /// Tablet 10 at version 5 on backends 1 and 2 of three.
    fn state() -> State {
        let tablet = Tablet { id: TabletId(10), replicas: vec![BackendId(1), BackendId(2)] };
        let partition = Partition {
            id: PartitionId(3),
            name: "t".to_owned(),
            range: None,
            replication_num: 2,
            visible_version: 5,
            visible_ms: 0,
            committed_version: 5,
            tablets: vec![tablet],
        };
        let table = Table {
            id: TableId(2),
            name: "t".to_owned(),
            schema: coffer_table::Schema { columns: Vec::new(), model: coffer_table::Model::Duplicate },
            partition_columns: Vec::new(),
            partitioning: Default::default(),
            bucket_columns: Vec::new(),
            properties: Default::default(),
            comment: String::new(),
            created_ms: 0,
            had_deletes: false,
            partitions: Map::from([(PartitionId(3), partition)]),
        };
        let db = Database { tables: Map::from([(TableId(2), table)]), ..Database::new(DbId(1), "d") };
        let backend = |id| Backend { id, host: "h".to_owned(), port: 1, added_ms: 0, decommissioned: false };
        let backends = [1, 2, 3].map(BackendId).map(|id| (id, backend(id)));
        State { databases: Map::from([(DbId(1), db)]), backends: backends.into(), ..State::default() }
    }

    fn found(state: &State, of_second: Replica) -> Vec<Place> {
        let look = |_: TabletId, backend: BackendId| if backend.0 == 2 { of_second } else { Replica::At(5) };
        let held = [1, 2, 3].map(|id| (BackendId(id), vec![TabletId(10), TabletId(11)]));
        surplus(state, &look, &held)
    }

    #[test]
    fn what_nobody_needs_is_surplus_only_while_all_others_are_whole() {
        let mut state = state();
        assert_eq!(found(&state, Replica::At(6)), [PLACE], "11 is not of the catalog: others remove it");
        for lacking in [Replica::At(4), Replica::Missing, Replica::Bad, Replica::Unknown] {
            assert!(found(&state, lacking).is_empty(), "{lacking:?}");
        }
        state.backends.get_mut(&BackendId(3)).unwrap().decommissioned = true;
        assert!(found(&state, Replica::At(5)).is_empty(), "it goes with its backend");
        state.backends.remove(&BackendId(3));
        assert!(found(&state, Replica::At(5)).is_empty());
    }

    #[test]
    fn it_is_waited_a_while_and_a_copy_in_between_begins_it_anew() {
        let (mut surplus, now) = (Surplus::default(), Instant::now());
        assert!(surplus.due(vec![PLACE], now).is_empty());
        assert!(surplus.due(vec![], now + SURPLUS_FOR).is_empty());
        assert!(surplus.due(vec![PLACE], now + SURPLUS_FOR).is_empty());
        assert_eq!(surplus.due(vec![PLACE], now + 2 * SURPLUS_FOR), [PLACE]);
        let many: Vec<Place> = (0..200).map(|id| (TabletId(id), BackendId(3))).collect();
        surplus.due(many.clone(), now);
        assert_eq!(surplus.due(many, now + SURPLUS_FOR).len(), MAX_DROPS);
    }
}
