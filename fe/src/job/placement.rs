//! Which backend downloads which tablets of a restore. Pure.
//!
//! A function of the record alone, so that every leader numbers the tasks alike. What moves from a lost backend to others
//! gets new numbers at the end; the tasks of the lost one keep theirs and are void.

use crate::catalog::job::RestoreJob;
use crate::catalog::table::{FIRST_VERSION, Table};
use coffer_proto::ids::{BackendId, TabletId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Tablets in one download task.
const DOWNLOAD_BATCH: usize = 500;
/// Bytes of schemas in one download task, estimated: every tablet of a task carries the schema of its table.
pub(super) const SCHEMA_BYTES: usize = 4 << 20;

/// One download task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Who downloads.
    pub backend: BackendId,
    /// New tablets with their versions.
    pub tablets: Vec<(TabletId, u64)>,
    /// Its backend was lost: others have its tablets.
    pub void: bool,
}

/// The places of a restore.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Placement {
    /// All download tasks; their position, from 1, is their number.
    pub(super) parts: Vec<Part>,
    /// Tablets with files by the backend that will hold them.
    pub(super) by_backend: BTreeMap<BackendId, Vec<(TabletId, u64)>>,
    /// Every backend that will hold a replica, with or without files.
    pub(super) homes: BTreeSet<BackendId>,
}

/// A tablet with files: id, version, estimated bytes of its schema.
type Filled = (TabletId, u64, usize);

/// The download tasks of a job; their position, from 1, is their number.
pub fn parts(job: &RestoreJob) -> Vec<Part> {
    let mut first: BTreeMap<BackendId, Vec<Filled>> = BTreeMap::new();
    for (tablet, filled) in filled(job) {
        for backend in &tablet.replicas {
            first.entry(*backend).or_default().push(filled);
        }
    }
    let lost_after = |moves: usize, backend| job.moves[moves..].iter().any(|moved| moved.from == backend);
    let mut parts = Vec::new();
    for (backend, tablets) in first {
        cut(backend, tablets, lost_after(0, backend), &mut parts);
    }
    if job.moves.is_empty() {
        return parts;
    }
    let known: HashMap<TabletId, Filled> = filled(job).map(|(tablet, filled)| (tablet.id, filled)).collect();
    for (at, moved) in job.moves.iter().enumerate() {
        let mut taken: BTreeMap<BackendId, Vec<Filled>> = BTreeMap::new();
        for (tablet, backend) in &moved.to {
            taken.entry(*backend).or_default().extend(known.get(tablet));
        }
        taken.retain(|_, tablets| !tablets.is_empty());
        for (backend, tablets) in taken {
            cut(backend, tablets, lost_after(at + 1, backend), &mut parts);
        }
    }
    parts
}

fn filled(job: &RestoreJob) -> impl Iterator<Item = (&crate::catalog::table::Tablet, Filled)> {
    job.targets.iter().flat_map(|target| {
        let schema = schema_bytes(&target.table);
        let tablets = target.table.tablets().filter(|(partition, _)| partition.visible_version > FIRST_VERSION);
        tablets.map(move |(partition, tablet)| (tablet, (tablet.id, partition.visible_version, schema)))
    })
}

fn cut(backend: BackendId, tablets: Vec<Filled>, void: bool, parts: &mut Vec<Part>) {
    let empty = || Part { backend, tablets: Vec::new(), void };
    let (mut part, mut schemas) = (empty(), 0);
    for (tablet, version, schema_bytes) in tablets {
        let full = part.tablets.len() == DOWNLOAD_BATCH || schemas + schema_bytes > SCHEMA_BYTES;
        if full && !part.tablets.is_empty() {
            parts.push(std::mem::replace(&mut part, empty()));
            schemas = 0;
        }
        part.tablets.push((tablet, version));
        schemas += schema_bytes;
    }
    parts.push(part);
}

fn schema_bytes(table: &Table) -> usize {
    let column = |column: &coffer_table::Column| {
        150 + column.name.len() + column.comment.len() + column.default.as_deref().map_or(0, str::len)
    };
    table.schema.columns.iter().map(column).sum()
}

impl Placement {
    /// Of a job, after all its moves.
    pub(super) fn of(job: &RestoreJob) -> Placement {
        let parts = parts(job);
        let mut by_backend: BTreeMap<BackendId, Vec<(TabletId, u64)>> = BTreeMap::new();
        for part in parts.iter().filter(|part| !part.void) {
            by_backend.entry(part.backend).or_default().extend(&part.tablets);
        }
        let tablets = job.targets.iter().flat_map(|target| target.table.tablets());
        let homes = if job.moves.is_empty() {
            tablets.flat_map(|(_, tablet)| tablet.replicas.iter().copied()).collect()
        } else {
            tablets.flat_map(|(_, tablet)| job.replicas(tablet)).collect()
        };
        Placement { parts, by_backend, homes }
    }
}

/// Keeps the placement of one job: it is asked for in every plan, and changes only with a move.
#[derive(Default)]
pub(super) struct Kept(Mutex<Option<(usize, Arc<Placement>)>>);

impl Kept {
    /// The placement of the job, which is always the same job.
    pub(super) fn of(&self, job: &RestoreJob) -> Arc<Placement> {
        // Nothing panics while it holds the lock with the value half changed.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((moves, placement)) if *moves == job.moves.len() => Arc::clone(placement),
            Some(_) | None => {
                let placement = Arc::new(Placement::of(job));
                *kept = Some((job.moves.len(), Arc::clone(&placement)));
                placement
            }
        }
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept")
    }
}

/// What is kept can be worked out again, so a copy starts without.
impl Clone for Kept {
    fn clone(&self) -> Kept {
        Kept::default()
    }
}

impl PartialEq for Kept {
    fn eq(&self, _: &Kept) -> bool {
        true
    }
}
