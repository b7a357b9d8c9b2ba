//! Replicas leave backends that are to leave, or that are lost.
//!
//! A copy is exchanged for a replica only when nothing was loaded since it was made: the partition's visible version is the
//! copied one, nothing committed waits to become visible, and no load into the table is open, since its rows are on their
//! way to the old places. So every row that was acknowledged is in the copy, and none is acknowledged for a place that
//! is gone. What does not fit is passed over, and whoever leads sees it and copies again. A load that is committed may wait
//! for a lost replica to become visible; then the copy has the committed version, and makes it visible.

use crate::catalog::bin::Dropped;
use crate::catalog::table::Partition;
use crate::error::{Error, Result};
use crate::meta::command::Outcome;
use crate::meta::drain::{DrainChange, ReplicaSwap};
use crate::meta::state::State;
use coffer_proto::ids::{BackendId, DbId, TableId};
use std::collections::BTreeSet;

pub(super) fn change(state: &mut State, change: &DrainChange) -> Result<Outcome> {
    match change {
        DrainChange::Decommission { backends, on } => decommission(state, backends, *on),
        DrainChange::Swap { swaps, together } => swap(state, swaps, *together),
        DrainChange::Remove { backend } => remove(state, *backend),
    }
}

fn decommission(state: &mut State, backends: &[BackendId], on: bool) -> Result<Outcome> {
    if let Some(unknown) = backends.iter().find(|backend| !state.backends.contains_key(backend)) {
        return Err(unknown_backend(*unknown));
    }
    let stays = |id: &BackendId, decommissioned: bool| !decommissioned && !backends.contains(id);
    if on && !state.backends.iter().any(|(id, backend)| stays(id, backend.decommissioned)) {
        return Err(Error::invalid("no backend would be left; add another one before these are decommissioned"));
    }
    for backend in backends {
        if let Some(backend) = state.backends.get_mut(backend) {
            backend.decommissioned = on;
        }
    }
    Ok(Outcome::Done)
}

fn unknown_backend(backend: BackendId) -> Error {
    Error::not_found(format!("backend does not exist[{backend}]"))
}

fn swap(state: &mut State, swaps: &[ReplicaSwap], together: bool) -> Result<Outcome> {
    let busy = Busy::of(state);
    if together && !swaps.iter().all(|swap| fits(state, swap, &busy).is_some()) {
        return Ok(Outcome::Done);
    }
    for swap in swaps {
        let Some(place) = fits(state, swap, &busy) else { continue };
        let Some(partition) = partition_mut(state, place, swap) else { continue };
        let tablet = partition.tablets.iter_mut().find(|tablet| tablet.id == swap.tablet);
        for replica in tablet.into_iter().flat_map(|tablet| &mut tablet.replicas) {
            if *replica == swap.from {
                *replica = swap.to;
            }
        }
    }
    Ok(Outcome::Done)
}

/// Tables into which something is loaded.
struct Busy {
    /// Rows may be on their way.
    open: BTreeSet<TableId>,
    /// Those, and what is committed and not visible.
    unsettled: BTreeSet<TableId>,
}

impl Busy {
    fn of(state: &State) -> Busy {
        let mut busy = Busy { open: BTreeSet::new(), unsettled: BTreeSet::new() };
        for transaction in state.transactions.values().filter(|transaction| !transaction.state.is_over()) {
            busy.unsettled.insert(transaction.table);
            if transaction.state.is_open() {
                busy.open.insert(transaction.table);
            }
        }
        busy
    }
}

/// Where a partition is.
#[derive(Debug, Clone, Copy)]
enum Place {
    Table(DbId),
    Bin(u64),
}

/// Where the replica is, if the copy may take its place now.
fn fits(state: &State, swap: &ReplicaSwap, busy: &Busy) -> Option<Place> {
    let leaves = swap.lost || state.backends.get(&swap.from)?.decommissioned;
    let stays = !state.backends.get(&swap.to)?.decommissioned;
    let busy = if swap.lost { &busy.open } else { &busy.unsettled };
    if !leaves || !stays || busy.contains(&swap.table) {
        return None;
    }
    let (place, partition) = find(state, swap)?;
    let tablet = partition.tablets.iter().find(|tablet| tablet.id == swap.tablet)?;
    let settled = swap.lost || partition.visible_version == swap.version;
    let current = settled && partition.committed_version == swap.version;
    let exchanges = tablet.replicas.contains(&swap.from) && !tablet.replicas.contains(&swap.to);
    (current && exchanges).then_some(place)
}

fn find<'a>(state: &'a State, swap: &ReplicaSwap) -> Option<(Place, &'a Partition)> {
    let live = state.databases.values().find_map(|database| {
        let partition = database.tables.get(&swap.table)?.partitions.get(&swap.partition)?;
        Some((Place::Table(database.id), partition))
    });
    live.or_else(|| {
        state.bin.iter().find_map(|(key, entry)| {
            let partition = match &entry.what {
                Dropped::Database(database) => database.tables.get(&swap.table)?.partitions.get(&swap.partition)?,
                Dropped::Table { table, .. } if table.id == swap.table => table.partitions.get(&swap.partition)?,
                Dropped::Partition { partition, .. } if partition.id == swap.partition => partition,
                Dropped::Table { .. } | Dropped::Partition { .. } => return None,
            };
            Some((Place::Bin(*key), partition))
        })
    })
}

fn partition_mut<'a>(state: &'a mut State, place: Place, swap: &ReplicaSwap) -> Option<&'a mut Partition> {
    let tables = match place {
        Place::Table(db) => &mut state.databases.get_mut(&db)?.tables,
        Place::Bin(key) => match &mut state.bin.get_mut(&key)?.what {
            Dropped::Database(database) => &mut database.tables,
            Dropped::Table { table, .. } => return table.partitions.get_mut(&swap.partition),
            Dropped::Partition { partition, .. } => return Some(partition),
        },
    };
    tables.get_mut(&swap.table)?.partitions.get_mut(&swap.partition)
}

fn remove(state: &mut State, backend: BackendId) -> Result<Outcome> {
    let known = state.backends.get(&backend).ok_or_else(|| unknown_backend(backend))?;
    if !known.decommissioned {
        return Err(Error::conflict(format!("backend {} is not decommissioned any more", known.address())));
    }
    if let Some(left) = state.leftovers(backend).describe() {
        return Err(Error::conflict(format!("backend {} is still needed: {left}", known.address())));
    }
    state.backends.remove(&backend);
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;
    use crate::error::ErrorKind;
    use crate::meta::command::Command;
    use crate::meta::definition::Definition;

    fn mark(backends: &[BackendId], on: bool) -> Command {
        Command::Drain(DrainChange::Decommission { backends: backends.to_vec(), on })
    }

    /// Exchange the replicas that the first backend holds of a partition for copies on the third, at this version.
    fn swaps(sample: &Sample, name: &str, version: u64) -> Vec<ReplicaSwap> {
        let partition = sample.table().partition(name).unwrap();
        let (from, to) = (sample.backends[0], sample.backends[2]);
        let tablets = partition.tablets.iter().filter(|tablet| tablet.replicas.contains(&from));
        let swap = |tablet: &crate::catalog::table::Tablet| ReplicaSwap {
            table: sample.table,
            partition: partition.id,
            tablet: tablet.id,
            version,
            from,
            to,
            lost: false,
        };
        tablets.map(swap).collect()
    }

    fn swap_all(sample: &mut Sample, swaps: Vec<ReplicaSwap>, together: bool) {
        sample.ok(&Command::Drain(DrainChange::Swap { swaps, together }));
    }

    /// Replicas that tables have on the first backend.
    fn left(sample: &Sample) -> u64 {
        sample.state.leftovers(sample.backends[0]).replicas
    }

    #[test]
    fn marks_are_set_and_taken_back_and_one_backend_stays() {
        let mut sample = Sample::new();
        let all = sample.backends.clone();
        sample.refuses(&mark(&[BackendId(7)], true), ErrorKind::NotFound, "backend does not exist[7]");
        sample.refuses(&mark(&all, true), ErrorKind::Invalid, "no backend would be left");
        sample.ok(&mark(&all[..2], true));
        sample.ok(&mark(&all[..1], true));
        sample.refuses(&mark(&all[2..], true), ErrorKind::Invalid, "no backend would be left");
        sample.ok(&mark(&all[..2], false));
        assert!(sample.state.backends.values().all(|backend| !backend.decommissioned));
    }

    #[test]
    fn a_mark_is_written_only_when_it_is_set() {
        let mut sample = Sample::new();
        let backend = |sample: &Sample| serde_json::to_string(&sample.state.backends[&sample.backends[0]]).unwrap();
        assert!(!backend(&sample).contains("decommissioned"));
        sample.ok(&mark(&[sample.backends[0]], true));
        let text = backend(&sample);
        let read: crate::catalog::cluster::Backend = serde_json::from_str(&text).unwrap();
        assert!(read.decommissioned, "{text}");
    }

    #[test]
    fn a_copy_takes_the_place_of_a_replica_that_is_to_leave() {
        let mut sample = Sample::new();
        let swaps = swaps(&sample, "p1", 1);
        swap_all(&mut sample, swaps.clone(), false);
        assert_eq!(left(&sample), 2, "nobody is to leave");
        sample.ok(&mark(&[sample.backends[0], sample.backends[2]], true));
        swap_all(&mut sample, swaps.clone(), false);
        assert_eq!(left(&sample), 2, "the other one leaves, too");
        sample.ok(&mark(&[sample.backends[2]], false));
        swap_all(&mut sample, swaps.clone(), false);
        assert_eq!(left(&sample), 1);
        let tablet = &sample.table().partition("p1").unwrap().tablets[0];
        assert_eq!(tablet.replicas, [sample.backends[2], sample.backends[1]]);
        swap_all(&mut sample, swaps, false);
        assert_eq!(left(&sample), 1, "once");
    }

    #[test]
    fn what_was_loaded_since_the_copy_or_is_being_loaded_is_not_lost() {
        let mut sample = Sample::new();
        sample.ok(&mark(&[sample.backends[0]], true));
        let p1 = sample.partition("p1");
        let transaction = sample.begin("l");
        let of_first = swaps(&sample, "p1", 1);
        swap_all(&mut sample, of_first.clone(), false);
        assert_eq!(left(&sample), 2, "rows are on their way");
        sample.ok(&Command::CommitTransaction {
            transaction,
            partitions: vec![p1],
            rows: 1,
            tablets: Vec::new(),
            now_ms: 11,
        });
        swap_all(&mut sample, of_first.clone(), false);
        assert_eq!(left(&sample), 2, "a version waits to become visible");
        sample.ok(&Command::MakeVisible { transaction, now_ms: 12 });
        swap_all(&mut sample, of_first.clone(), false);
        assert_eq!(left(&sample), 2, "the copy is older");
        let both = [of_first, swaps(&sample, "p2", 1)].concat();
        swap_all(&mut sample, both.clone(), true);
        assert_eq!(left(&sample), 2, "all or none");
        swap_all(&mut sample, both, false);
        assert_eq!(left(&sample), 1, "what fits");
        let newer = swaps(&sample, "p1", 2);
        swap_all(&mut sample, newer, true);
        assert_eq!(left(&sample), 0);
    }

    #[test]
    fn a_copy_of_what_is_committed_replaces_what_is_lost() {
        let mut sample = Sample::new();
        let p1 = sample.partition("p1");
        let lost = |version| -> Vec<ReplicaSwap> {
            swaps(&sample, "p1", version).into_iter().map(|swap| ReplicaSwap { lost: true, ..swap }).collect()
        };
        let (first, second) = (lost(1), lost(2));
        let transaction = sample.begin("l");
        sample.ok(&Command::DropBackends { backends: vec![sample.backends[0]] });
        swap_all(&mut sample, first.clone(), false);
        assert_eq!(left(&sample), 2, "rows are on their way");
        let (partitions, tablets) = (vec![p1], Vec::new());
        sample.ok(&Command::CommitTransaction { transaction, partitions, rows: 1, tablets, now_ms: 11 });
        swap_all(&mut sample, first, false);
        assert_eq!(left(&sample), 2, "the copy is older than the commit");
        let waiting: Vec<_> = second.iter().map(|swap| ReplicaSwap { lost: false, ..*swap }).collect();
        swap_all(&mut sample, waiting, false);
        assert_eq!(left(&sample), 2, "only what is lost is not waited for");
        swap_all(&mut sample, second, true);
        assert_eq!(left(&sample), 1);
        assert_eq!(sample.table().partition("p1").unwrap().visible_version, 1);
    }

    #[test]
    fn what_is_in_the_recycle_bin_moves_too_and_the_backend_leaves_when_nothing_refers_to_it() {
        let mut sample = Sample::new();
        let backend = sample.backends[0];
        let remove = Command::Drain(DrainChange::Remove { backend });
        sample.refuses(&remove, ErrorKind::Conflict, "is not decommissioned any more");
        sample.ok(&mark(&[backend], true));
        sample.refuses(&remove, ErrorKind::Conflict, "still needed: 2 tablets of tables");
        let job = sample.backup();
        let of_both = [swaps(&sample, "p1", 1), swaps(&sample, "p2", 1)];
        let [first, second] = of_both;
        let partition = sample.partition("p1");
        let error = crate::catalog::job::JobError { kind: "CANCELLED".to_owned(), message: "user".to_owned() };
        sample.refuses(&remove, ErrorKind::Conflict, &format!("2 tablets of tables, backup {job} with label snap"));
        sample.ok(&Command::CancelJob { job, error, now_ms: 1 });
        let (db, table) = (sample.db, sample.table);
        let drop = Definition::DropPartition { db, table, partition, recycle_ms: Some(3) };
        sample.ok(&Command::Define(drop));
        assert_eq!((left(&sample), sample.state.leftovers(backend).in_bin), (1, 1));
        swap_all(&mut sample, first, false);
        assert_eq!(sample.state.leftovers(backend).in_bin, 0, "a partition");
        sample.ok(&Command::Define(Definition::RecycleTable { db, table, now_ms: 4 }));
        sample.refuses(&remove, ErrorKind::Conflict, "still needed: 1 tablets in the recycle bin");
        let mut whole = Sample { state: sample.state.clone(), backends: sample.backends.clone(), ..sample };
        swap_all(&mut whole, second.clone(), false);
        assert_eq!(whole.state.leftovers(backend).describe(), None, "a table");
        whole.ok(&remove);
        whole.refuses(&remove, ErrorKind::NotFound, "does not exist");
    }

    #[test]
    fn a_dropped_database_moves_too() {
        let mut sample = Sample::new();
        let backend = sample.backends[0];
        sample.ok(&mark(&[backend], true));
        let all = [swaps(&sample, "p1", 1), swaps(&sample, "p2", 1)].concat();
        sample.ok(&Command::Define(Definition::RecycleDatabase { db: sample.db, now_ms: 4 }));
        assert_eq!(sample.state.leftovers(backend).in_bin, 2);
        swap_all(&mut sample, all, true);
        sample.ok(&Command::Drain(DrainChange::Remove { backend }));
        assert_eq!(sample.state.backends.len(), 2);
    }
}
