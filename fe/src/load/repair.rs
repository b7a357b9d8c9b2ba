//! Which replicas are not what they should be, and from where they are made whole again.
//!
//! A replica that reports itself bad is copied from a healthy one at once. One that is missing or behind is given the time
//! from one look to the next, in which the publisher tells it again what it missed; when nothing has moved by then (its
//! rows never arrived, or the load is forgotten), it is copied too. Only replicas of living backends that have reported
//! are judged, and only from sources at the visible version: as long as there is none, a bad replica stays as it is.
//!
//! Nothing of it is durable. A new leader looks again; a copy that was under way ends with the stream of its leader, and a
//! backend puts a copy in force as a whole or not at all.

use crate::backends::{Backends, Replica};
use crate::catalog::table::FIRST_VERSION;
use crate::meta::state::State;
use coffer_proto::ids::{BackendId, PartitionId, TableId, TabletId};
use coffer_proto::v1;
use coffer_proto::v1::task::Work;
use coffer_stdx::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Copies at a time.
const MAX_COPIES: usize = 32;
/// Of those, onto one backend, and from one backend.
const MAX_COPIES_PER_BACKEND: usize = 4;
/// A copy that takes longer is begun again.
const COPY_WITHIN: Duration = Duration::from_secs(3_600);
/// After a copy that failed.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// A replica: which tablet, where.
pub(super) type Place = (TabletId, BackendId);

/// A replica that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    place: Place,
    table: TableId,
    partition: PartitionId,
    /// What it should have.
    version: u64,
    /// What it said.
    found: Replica,
    /// Healthy replicas, the newest first.
    sources: Vec<BackendId>,
}

/// A copy that ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) place: Place,
    pub(super) result: Result<()>,
}

/// The repairs of this leader.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    /// What the last look found.
    suspects: HashMap<Place, Replica>,
    /// Where copies come from.
    running: BTreeMap<Place, BackendId>,
    tasks: JoinSet<Ended>,
    /// Not before.
    after: HashMap<Place, Instant>,
}

impl Repairs {
    /// Look for faults and begin to copy. `publishing` says whether loads of a table are on their way to a backend.
    pub(super) fn look(&mut self, state: &State, backends: &Backends, publishing: impl Fn(TableId, BackendId) -> bool) {
        let faults = backends.look(|replica| faults(state, replica));
        for fault in self.choose(faults, Instant::now(), publishing) {
            let address = |backend: &BackendId| state.backends.get(backend).map(|known| known.address());
            let sources: Vec<String> = fault.sources.iter().filter_map(address).collect();
            let Fault { place: place @ (tablet, backend), table, partition, version, found, .. } = fault;
            tracing::info!(%tablet, %backend, version, ?found, ?sources, "repairing a replica");
            let work =
                v1::CloneTablet { tablet_id: tablet.0, table_id: table.0, partition_id: partition.0, version, sources };
            // An id of its own each time: the same replica may need repair again.
            let id = format!("clone/{tablet}/{}", backends.unique());
            let backends = backends.clone();
            self.tasks.spawn(async move {
                let run = tokio::time::timeout(COPY_WITHIN, backends.run(backend, id, Work::Clone(work))).await;
                let late = |_| Err(Error::timeout(format!("not copied within {} s", COPY_WITHIN.as_secs())));
                Ended { place, result: run.unwrap_or_else(late).map(|_| ()) }
            });
        }
    }

    /// The faults to mend now, each counted as running.
    fn choose(
        &mut self,
        faults: Vec<Fault>,
        now: Instant,
        publishing: impl Fn(TableId, BackendId) -> bool,
    ) -> Vec<Fault> {
        let before = std::mem::take(&mut self.suspects);
        self.suspects = faults.iter().map(|fault| (fault.place, fault.found)).collect();
        self.after.retain(|place, after| *after > now && self.suspects.contains_key(place));
        let mut chosen = Vec::new();
        for mut fault in faults {
            let stuck = before.get(&fault.place) == Some(&fault.found) && !publishing(fault.table, fault.place.1);
            let waits = self.running.contains_key(&fault.place) || self.after.contains_key(&fault.place);
            if waits || !(stuck || fault.found == Replica::Bad) || self.running.len() >= MAX_COPIES {
                continue;
            }
            let onto = self.running.keys().filter(|(_, backend)| *backend == fault.place.1).count();
            let from = |source: &BackendId| self.running.values().filter(|busy| *busy == source).count();
            let free = |source: &BackendId| from(source) < MAX_COPIES_PER_BACKEND;
            // The first source is the one that is used, as long as it works.
            let first = fault.sources.iter().position(free).filter(|_| onto < MAX_COPIES_PER_BACKEND);
            if let Some(first) = first {
                fault.sources.rotate_left(first);
                self.running.insert(fault.place, fault.sources[0]);
                chosen.push(fault);
            }
        }
        chosen
    }

    /// Wait for the end of a copy; `None` at once when none runs.
    pub(super) async fn next(&mut self) -> Option<Ended> {
        let ended = self.tasks.join_next().await?;
        match ended {
            Ok(ended) => {
                self.end(&ended, Instant::now());
                Some(ended)
            }
            // A task that panicked: its place is found again once the leader changes.
            Err(error) => {
                tracing::error!(%error, "a repair panicked");
                None
            }
        }
    }

    fn end(&mut self, ended: &Ended, now: Instant) {
        let (tablet, backend) = ended.place;
        self.running.remove(&ended.place);
        self.suspects.remove(&ended.place);
        match &ended.result {
            Ok(()) => tracing::info!(%tablet, %backend, "replica repaired"),
            Err(error) => {
                tracing::warn!(%tablet, %backend, %error, "replica could not be repaired yet");
                self.after.insert(ended.place, now + RETRY_AFTER);
            }
        }
    }
}

/// The replicas that need repair and have a source.
fn faults(state: &State, replica: &dyn Fn(TabletId, BackendId) -> Replica) -> Vec<Fault> {
    let mut faults = Vec::new();
    for table in state.databases.values().flat_map(|database| database.tables.values()) {
        for (partition, tablet) in table.tablets().filter(|(partition, _)| partition.visible_version > FIRST_VERSION) {
            let version = partition.visible_version;
            let found: Vec<(BackendId, Replica)> =
                tablet.replicas.iter().map(|backend| (*backend, replica(tablet.id, *backend))).collect();
            let broken = |found: Replica| match found {
                Replica::Unknown => false,
                Replica::Missing | Replica::Bad => true,
                Replica::At(there) => there < version,
            };
            if !found.iter().any(|(_, found)| broken(*found)) {
                continue;
            }
            let mut sources: Vec<(u64, BackendId)> = found
                .iter()
                .filter_map(|(backend, found)| match found {
                    Replica::At(there) if *there >= version => Some((*there, *backend)),
                    _ => None,
                })
                .collect();
            sources.sort_unstable_by(|a, b| b.cmp(a));
            let sources: Vec<BackendId> = sources.into_iter().map(|(_, backend)| backend).collect();
            if sources.is_empty() {
                continue;
            }
            faults.extend(found.iter().filter(|(_, found)| broken(*found)).map(|(backend, found)| Fault {
                place: (tablet.id, *backend),
                table: table.id,
                partition: partition.id,
                version,
                found: *found,
                sources: sources.clone(),
            }));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::sample;

    const A: BackendId = BackendId(1);
    const B: BackendId = BackendId(2);
    const C: BackendId = BackendId(3);

    /// Tablets 10 and up in one partition at version 5, each on three backends.
    fn state(tablets: &[u64]) -> State {
        let mut table = sample::table(&[(1, tablets)], &[1, 2, 3]);
        table.partitions.values_mut().for_each(|partition| partition.visible_version = 5);
        sample::state(table)
    }

    fn found(state: &State, replicas: [Replica; 3]) -> Vec<Fault> {
        faults(state, &|_, backend| replicas[backend.0 as usize - 1])
    }

    #[test]
    fn what_is_bad_missing_or_behind_is_copied_from_the_newest() {
        use Replica::{At, Bad, Missing, Unknown};
        let state = state(&[10]);
        assert!(found(&state, [At(5), At(6), At(5)]).is_empty());
        assert!(found(&state, [At(5), At(5), Unknown]).is_empty(), "who is away is not judged");
        for broken in [Bad, Missing, At(4)] {
            let faults = found(&state, [At(5), broken, At(7)]);
            assert_eq!(faults.len(), 1);
            assert_eq!((faults[0].place, faults[0].version, faults[0].found), ((TabletId(10), B), 5, broken));
            assert_eq!(faults[0].sources, [C, A]);
        }
        assert!(found(&state, [Bad, At(4), Unknown]).is_empty(), "no source, nothing to do");
        assert_eq!(found(&state, [Bad, Missing, At(5)]).len(), 2);
        let mut empty = state;
        let tables = empty.databases.values_mut().flat_map(|database| database.tables.values_mut());
        tables.flat_map(|table| table.partitions.values_mut()).for_each(|part| part.visible_version = FIRST_VERSION);
        assert!(found(&empty, [Missing, Missing, At(1)]).is_empty(), "an empty tablet is nowhere");
    }

    #[test]
    fn a_replica_that_is_behind_has_until_the_next_look() {
        let state = state(&[10]);
        let behind = |version| found(&state, [Replica::At(5), Replica::At(version), Replica::At(5)]);
        let (now, mut repairs) = (Instant::now(), Repairs::default());
        let idle = |_, _| false;
        assert!(repairs.choose(behind(2), now, idle).is_empty());
        assert!(repairs.choose(behind(3), now, idle).is_empty(), "it moved");
        assert!(repairs.choose(behind(3), now, |_, backend| backend == B).is_empty(), "loads are on their way");
        assert_eq!(repairs.choose(behind(3), now, idle).len(), 1);
        assert!(repairs.choose(behind(3), now, idle).is_empty(), "it runs");
        let place = (TabletId(10), B);
        repairs.end(&Ended { place, result: Err(Error::unavailable("no")) }, now);
        assert!(repairs.choose(behind(3), now, idle).is_empty(), "first look after it failed");
        assert!(repairs.choose(behind(3), now, idle).is_empty(), "it waits");
        assert_eq!(repairs.choose(behind(3), now + RETRY_AFTER, idle).len(), 1);
        repairs.end(&Ended { place, result: Ok(()) }, now);
        assert!(repairs.running.is_empty());
    }

    #[test]
    fn a_bad_replica_is_not_waited_with_and_no_backend_is_flooded() {
        let tablets: Vec<u64> = (10..110).collect();
        let state = state(&tablets);
        let (now, mut repairs) = (Instant::now(), Repairs::default());
        let bad = || found(&state, [Replica::At(5), Replica::Bad, Replica::At(5)]);
        let chosen = repairs.choose(bad(), now, |_, _| true);
        assert_eq!(chosen.len(), MAX_COPIES_PER_BACKEND, "onto one backend");
        let bad = found(&state, [Replica::Bad, Replica::Bad, Replica::At(5)]);
        let mut repairs = Repairs::default();
        let chosen = repairs.choose(bad, now, |_, _| false);
        assert_eq!(chosen.len(), MAX_COPIES_PER_BACKEND, "from one backend");
        assert!(chosen.iter().all(|fault| fault.sources == [C]));
    }
}
