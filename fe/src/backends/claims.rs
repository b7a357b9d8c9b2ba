//! Which tablets and jobs the replicated state still needs on backends. Pure.
//!
//! A tablet is claimed by the catalog, by a backup (its pinned versions must stay readable, also after DROP TABLE), or by
//! a restore that is not over. A tablet that nobody claims and whose id was given out by this state is garbage; an id that
//! this state never gave out is left alone.

use crate::meta::state::State;
use coffer_proto::ids::{JobId, TabletId};
use std::collections::BTreeSet;

/// The claimed tablets of one state.
#[derive(Debug, Default)]
pub struct Claims {
    next_id: u64,
    tablets: BTreeSet<TabletId>,
}

impl Claims {
    /// What `state` claims.
    pub fn of(state: &State) -> Claims {
        Claims { next_id: state.next_id, tablets: state.claimed_tablets() }
    }

    /// Which of these nobody claims.
    pub fn garbage(&self, held: impl IntoIterator<Item = TabletId>) -> Vec<TabletId> {
        held.into_iter().filter(|tablet| tablet.0 < self.next_id && !self.tablets.contains(tablet)).collect()
    }
}

/// Which of the jobs that a backend holds something for are over or forgotten.
pub fn stale_jobs(state: &State, held: &[JobId]) -> Vec<JobId> {
    let runs = |job: &JobId| {
        state.backups.get(job).is_some_and(|job| !job.state.is_over())
            || state.restores.get(job).is_some_and(|job| !job.state.is_over())
    };
    held.iter().filter(|job| job.0 < state.next_id && !runs(job)).copied().collect()
}

/// A number that changes whenever the set of claimed tablets may have shrunk.
pub fn fingerprint(state: &State) -> u64 {
    let mut sum = 0u64;
    let mut add = |id: u64| sum = sum.wrapping_add((id ^ (id >> 7)).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    for partition in state.databases.values().flat_map(|db| db.tables.values()).flat_map(|t| t.partitions.values()) {
        // Truncating and restoring give a partition new tablets.
        add(partition.tablets.first().map_or(partition.id.0, |tablet| tablet.id.0));
    }
    state.bin.keys().for_each(|dropped| add(*dropped));
    let backups = state.backups.values().filter(|job| !job.cleaned).map(|job| job.id);
    let restores = state.restores.values().filter(|job| !job.state.is_over()).map(|job| job.id);
    backups.chain(restores).for_each(|job| add(job.0));
    sum
}
