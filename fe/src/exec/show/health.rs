//! SHOW PROC '/cluster_health/tablet_health': how many tablets lack replicas.
//!
//! A replica is whole when its backend lives and has it at the visible version. A tablet with a replica that is not there
//! (its backend is dead or was dropped, it is missing or damaged) is under-replicated until the leader has made another one
//! whole; one without a whole replica cannot be read and is not recovered by itself.

use crate::backends::{Backends, Replica};
use crate::catalog::database::Database;
use crate::catalog::table::{FIRST_VERSION, Partition, Table, Tablet};
use crate::exec::answer::RowSet;
use crate::meta::state::State;
use coffer_proto::ids::{BackendId, TabletId};
use std::collections::BTreeSet;

/// What a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Whole,
    Behind,
    Gone,
}

/// Tablets of a database, by health.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    tablets: u64,
    healthy: u64,
    missing: u64,
    incomplete: u64,
    unrecoverable: u64,
}

impl Counts {
    fn add(&mut self, replicas: impl Iterator<Item = Seen>) {
        let (mut whole, mut behind, mut gone) = (0, 0, 0);
        replicas.for_each(|seen| match seen {
            Seen::Whole => whole += 1,
            Seen::Behind => behind += 1,
            Seen::Gone => gone += 1,
        });
        self.tablets += 1;
        match (whole, behind, gone) {
            (0, _, _) => self.unrecoverable += 1,
            (_, _, 1..) => self.missing += 1,
            (_, 1.., _) => self.incomplete += 1,
            _ => self.healthy += 1,
        }
    }

    fn cells(self) -> [String; 5] {
        [self.tablets, self.healthy, self.missing, self.incomplete, self.unrecoverable].map(|count| count.to_string())
    }
}

/// A row per database, and their sums.
pub(super) fn tablets(state: &State, backends: &Backends) -> RowSet {
    let alive = state.backends.keys().copied().filter(|backend| backends.alive(*backend)).collect();
    backends.look(|replica| rows(state, &alive, replica))
}

fn rows(state: &State, alive: &BTreeSet<BackendId>, replica: &dyn Fn(TabletId, BackendId) -> Replica) -> RowSet {
    let mut set = RowSet::new([
        "DbId",
        "DbName",
        "TabletNum",
        "HealthyNum",
        "ReplicaMissingNum",
        "VersionIncompleteNum",
        "UnrecoverableNum",
    ]);
    let seen = |partition: &Partition, tablet: &Tablet, backend: BackendId| {
        if !alive.contains(&backend) {
            return Seen::Gone;
        }
        match replica(tablet.id, backend) {
            _ if partition.visible_version <= FIRST_VERSION => Seen::Whole,
            Replica::At(version) if version >= partition.visible_version => Seen::Whole,
            // Its report is on its way.
            Replica::Unknown => Seen::Whole,
            Replica::At(_) => Seen::Behind,
            Replica::Missing | Replica::Bad => Seen::Gone,
        }
    };
    let count = |database: &Database| {
        let mut counts = Counts::default();
        for (partition, tablet) in database.tables.values().flat_map(Table::tablets) {
            counts.add(tablet.replicas.iter().map(|backend| seen(partition, tablet, *backend)));
        }
        counts
    };
    let mut total = Counts::default();
    for database in state.databases.values() {
        let counts = count(database);
        total.tablets += counts.tablets;
        total.healthy += counts.healthy;
        total.missing += counts.missing;
        total.incomplete += counts.incomplete;
        total.unrecoverable += counts.unrecoverable;
        set.push([database.id.to_string(), database.name.clone()].into_iter().chain(counts.cells()));
    }
    set.push(["Total".to_owned(), state.databases.len().to_string()].into_iter().chain(total.cells()));
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::sample;

    #[test]
    fn a_tablet_is_as_healthy_as_its_replicas() {
        use Seen::{Behind, Gone, Whole};
        let of = |seen: &[Seen]| {
            let mut counts = Counts::default();
            counts.add(seen.iter().copied());
            (counts.healthy, counts.missing, counts.incomplete, counts.unrecoverable)
        };
        assert_eq!(of(&[Whole, Whole]), (1, 0, 0, 0));
        assert_eq!(of(&[Whole, Gone, Behind]), (0, 1, 0, 0));
        assert_eq!(of(&[Whole, Behind]), (0, 0, 1, 0));
        assert_eq!(of(&[Behind, Gone]), (0, 0, 0, 1));
    }

    #[test]
    fn dead_backends_and_missing_replicas_are_counted() {
        let mut state = sample::state();
        let total = |state: &State, alive: &[u64], found: Replica| -> Vec<String> {
            let alive = alive.iter().copied().map(BackendId).collect();
            let set = rows(state, &alive, &|_, backend| if backend.0 == 10_001 { Replica::At(2) } else { found });
            set.rows.last().unwrap()[2..].iter().map(|cell| cell.clone().unwrap()).collect()
        };
        assert_eq!(total(&state, &[10_001, 10_002], Replica::Missing), ["7", "7", "0", "0", "0"], "empty tables");
        let dead = total(&state, &[10_001], Replica::Missing);
        assert_eq!((dead[0].as_str(), dead[2].as_str()), ("7", "6"), "{dead:?}");
        for database in state.databases.values_mut() {
            for table in database.tables.values_mut() {
                table.partitions.values_mut().for_each(|partition| partition.visible_version = 2);
            }
        }
        let both = [10_001, 10_002];
        assert_eq!(total(&state, &both, Replica::Unknown)[1], "7");
        assert_eq!(total(&state, &both, Replica::Bad)[2], "6");
        assert_eq!(total(&state, &both, Replica::At(1))[3], "6");
    }
}
