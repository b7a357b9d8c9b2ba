//! Which manifest part holds which tablet of a snapshot, so that a download task reads only the parts it needs: with
//! hundreds of tasks and hundreds of parts, reading all of them in each task would cost more than the data.
//!
//! The leader reads the parts of a large snapshot once, when the first download starts, and keeps tablet numbers only.
//! A small snapshot is not worth it: its tasks get all parts. Another leader reads them again.

use coffer_proto::ids::{JobId, TabletId};
use coffer_repo::{Repository, SnapshotId};
use coffer_stdx::{Error, Result};
use futures::future::try_join_all;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// Up to so many parts are given to every task.
pub(super) const FEW_PARTS: usize = 8;
/// Parts read at a time.
const READS: usize = 4;

/// Part number by tablet.
pub(super) type Index = HashMap<TabletId, u32>;

/// The contents of the snapshots that running restores read.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    jobs: Arc<Mutex<HashMap<JobId, Arc<OnceCell<Index>>>>>,
}

impl Contents {
    fn cell(&self, job: JobId) -> Arc<OnceCell<Index>> {
        // Nothing panics while it holds the lock.
        Arc::clone(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).entry(job).or_default())
    }

    /// The job does not run here any more.
    pub(super) fn forget(&self, job: JobId) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
    }

    /// Those of `names` that hold `tablets`. `open` is awaited only when the parts must be read.
    pub(super) async fn needed(
        &self,
        job: JobId,
        (snapshot, names): (&SnapshotId, &[String]),
        tablets: impl Iterator<Item = TabletId>,
        open: impl Future<Output = Result<Repository>> + Send,
    ) -> Result<Vec<String>> {
        if names.len() <= FEW_PARTS {
            return Ok(names.to_vec());
        }
        let cell = self.cell(job);
        let reading = async { read(&open.await?, snapshot, names).await };
        let index = cell.get_or_try_init(|| reading).await?;
        pick(index, names, tablets)
    }
}

async fn read(repository: &Repository, snapshot: &SnapshotId, names: &[String]) -> Result<Index> {
    let mut index = Index::new();
    let numbered: Vec<(u32, &String)> = (0..).zip(names).collect();
    for some in numbered.chunks(READS) {
        let reads = some.iter().map(|(number, name)| read_part(repository, snapshot, name, *number));
        index.extend(try_join_all(reads).await?.into_iter().flatten());
    }
    Ok(index)
}

async fn read_part(
    repository: &Repository,
    snapshot: &SnapshotId,
    name: &str,
    number: u32,
) -> Result<Vec<(TabletId, u32)>> {
    let mut part = repository.manifest(snapshot, name).await?;
    let mut tablets = Vec::new();
    while let Some(tablet) = part.next().await? {
        tablets.push((TabletId(tablet.tablet_id), number));
    }
    Ok(tablets)
}

fn pick(index: &Index, names: &[String], tablets: impl Iterator<Item = TabletId>) -> Result<Vec<String>> {
    let mut wanted = BTreeSet::new();
    for tablet in tablets {
        let part = index.get(&tablet);
        wanted.insert(*part.ok_or_else(|| Error::corrupt(format!("no manifest of the snapshot has tablet {tablet}")))?);
    }
    Ok(wanted.into_iter().filter_map(|part| names.get(part as usize).cloned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("m{n}")).collect()
    }

    #[test]
    fn only_the_parts_with_the_tablets_are_picked() {
        let index = Index::from([(TabletId(1), 0), (TabletId(2), 1), (TabletId(3), 1)]);
        let pick = |ids: &[u64]| pick(&index, &names(2), ids.iter().copied().map(TabletId));
        assert_eq!(pick(&[2, 3]).unwrap(), ["m1"]);
        assert_eq!(pick(&[3, 1]).unwrap(), ["m0", "m1"]);
        assert!(pick(&[9]).unwrap_err().message().contains("tablet 9"));
    }

    /// A repository with a snapshot of this many parts, each with the tablet of its number.
    async fn repository(snapshot: &SnapshotId, parts: u32) -> (Repository, Vec<String>) {
        let store = Arc::new(coffer_store::memory::MemoryStore::new());
        let (repository, _) = Repository::create(store, "r", 1).await.unwrap();
        let mut names = Vec::new();
        for part in 0..parts {
            let mut writer = coffer_repo::ManifestWriter::new(Vec::new(), snapshot, part).unwrap();
            let tablet = coffer_repo::TabletRecord { tablet_id: u64::from(part), ..Default::default() };
            writer.tablet(tablet).unwrap();
            let (written, bytes) = writer.finish().unwrap();
            let body = coffer_store::from_bytes(bytes);
            repository.put_manifest(snapshot, &written.name, body, written.bytes).await.unwrap();
            names.push(written.name);
        }
        (repository, names)
    }

    #[tokio::test]
    async fn a_large_snapshot_is_read_once() {
        let contents = Contents::default();
        let id = SnapshotId::new("s", "2022-04-08-15-52-29").unwrap();
        let (repository, all) = repository(&id, 10).await;
        let first = contents.needed(JobId(1), (&id, &all), [7, 2].map(TabletId).into_iter(), async { Ok(repository) });
        assert_eq!(first.await.unwrap(), [all[2].clone(), all[7].clone()]);
        let again = async { Err(Error::bug("read again")) };
        let second = contents.needed(JobId(1), (&id, &all), [TabletId(9)].into_iter(), again);
        assert_eq!(second.await.unwrap(), [all[9].clone()]);
    }

    #[tokio::test]
    async fn a_small_snapshot_is_not_read_and_a_failed_read_is_tried_again() {
        let contents = Contents::default();
        let id = SnapshotId::new("s", "2022-04-08-15-52-29").unwrap();
        for parts in [FEW_PARTS, FEW_PARTS + 1, FEW_PARTS + 1] {
            let all = names(parts);
            let open = async { Err(Error::unavailable("down")) };
            let needed = contents.needed(JobId(1), (&id, &all), [TabletId(1)].into_iter(), open).await;
            assert_eq!(needed.is_ok(), parts == FEW_PARTS);
        }
        contents.forget(JobId(1));
    }
}
