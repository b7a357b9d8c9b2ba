//! Dropping snapshots: what goes, what stays, and what a crash in the middle leaves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod sample;

use coffer_repo::{PackId, PackPrefix, Repository, SnapshotId, SnapshotInfo, SnapshotStatus};
use coffer_stdx::{Error, ErrorKind};
use coffer_store::faulty::Faulty;
use coffer_store::memory::MemoryStore;
use coffer_store::{PutOptions, Store, from_bytes, read_all};
use futures::TryStreamExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Long after the sample was taken.
const NOW_MS: u64 = 1_800_000_000_000;
const REPO_INFO: &str = "__coffer_repository_r/__repo_info";

async fn empty() -> (Arc<dyn Store>, Repository) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (repository, _) = Repository::create(Arc::clone(&store), "r", 1).await.unwrap();
    (store, repository)
}

async fn complete(repository: &Repository) -> SnapshotInfo {
    let dir = tempfile::tempdir().unwrap();
    let info = sample::write_all_but_info(repository, dir.path(), sample::pack_id()).await;
    repository.write_info(&info).await.unwrap();
    info
}

async fn paths(store: &dyn Store) -> Vec<String> {
    let mut paths: Vec<String> =
        store.list("").await.unwrap().map_ok(|object| object.path).try_collect().await.unwrap();
    paths.sort();
    paths
}

async fn remove(repository: &Repository, id: &SnapshotId) -> coffer_stdx::Result<usize> {
    repository.remove_snapshot(id, NOW_MS, &|| Ok(())).await.map(|removed| removed.shared_packs)
}

/// A snapshot `other` whose one manifest part names the pack of the sample.
async fn sharing(repository: &Repository, of: &SnapshotInfo, shared: Option<Vec<String>>) -> SnapshotId {
    let id = SnapshotId::new("other", "2023-01-01-00-00-00").unwrap();
    let mut writer = coffer_repo::ManifestWriter::new(Vec::new(), &id, 0).unwrap();
    for part in &of.manifests {
        let mut reader = repository.manifest(&sample::id(), &part.name).await.unwrap();
        while let Some(tablet) = reader.next().await.unwrap() {
            writer.tablet(tablet).unwrap();
        }
    }
    let (part, bytes) = writer.finish().unwrap();
    repository.put_manifest(&id, &part.name, from_bytes(bytes), part.bytes).await.unwrap();
    let meta = repository.write_meta(&id, &sample::meta()).await.unwrap();
    let tablets = part.counts.tablets;
    let manifests = vec![coffer_repo::ManifestRef { name: part.name, bytes: part.bytes, tablets }];
    let info = SnapshotInfo {
        label: id.label().to_owned(),
        timestamp: id.timestamp().to_owned(),
        pack_prefix: PackPrefix::random().to_string(),
        shared_prefixes: shared,
        manifests,
        meta,
        ..of.clone()
    };
    repository.write_info(&info).await.unwrap();
    id
}

#[tokio::test]
async fn a_dropped_snapshot_leaves_nothing_and_its_label_is_free() {
    let (store, repository) = empty().await;
    complete(&repository).await;
    assert_eq!(remove(&repository, &sample::id()).await.unwrap(), 0);
    assert_eq!(paths(&*store).await, [REPO_INFO]);
    assert!(!repository.label_exists(sample::id().label()).await.unwrap());
    assert_eq!(remove(&repository, &sample::id()).await.unwrap_err().kind(), ErrorKind::NotFound);
    complete(&repository).await;
    sample::check(&repository).await.unwrap();
}

#[tokio::test]
async fn it_may_die_before_any_call_and_dropping_again_ends_it() {
    for at in 1.. {
        let (store, repository) = empty().await;
        let info = complete(&repository).await;
        let other = sharing(&repository, &info, Some(vec![info.pack_prefix.clone()])).await;
        let died = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&died);
        // From some call on nothing works, as after kill -9. Opening takes one call.
        let faulty = Faulty::new(Arc::clone(&store), move |call| {
            (call.number > at).then(|| {
                seen.store(true, Ordering::SeqCst);
                Error::unavailable("killed")
            })
        });
        let Ok(dying) = Repository::open(Arc::new(faulty), "r").await else { continue };
        let outcome = remove(&dying, &sample::id()).await;
        assert_eq!(outcome.is_err(), died.load(Ordering::SeqCst));
        // Whole, or no snapshot at all; never one that looks complete and is not.
        match repository.read_info(&sample::id()).await {
            Ok(_) => sample::check(&repository).await.unwrap(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
        }
        if outcome.is_err() {
            let again = remove(&repository, &sample::id()).await;
            assert!(again.is_ok() || again.unwrap_err().kind() == ErrorKind::NotFound, "after {at} calls");
        }
        assert!(!paths(&*store).await.iter().any(|path| path.contains("__ss_nightly-1")), "after {at} calls");
        // The other snapshot still has all its packs, and the last of them goes with it.
        let pack = repository.layout().pack(&sample::pack_id());
        assert!(paths(&*store).await.contains(&pack));
        assert_eq!(remove(&repository, &other).await.unwrap(), 0);
        assert_eq!(paths(&*store).await, [REPO_INFO], "after {at} calls");
        if outcome.is_ok() {
            return;
        }
    }
}

#[tokio::test]
async fn packs_that_another_snapshot_names_stay_and_the_rest_of_the_folder_goes() {
    // A writer that says what it shares, and one that does not know the field.
    for says in [true, false] {
        let (store, repository) = empty().await;
        let info = complete(&repository).await;
        let orphan = repository.layout().pack(&PackId::random(info.pack_prefix.parse().unwrap(), 9));
        store.put(&orphan, from_bytes("not named by anybody"), PutOptions::default()).await.unwrap();
        sharing(&repository, &info, says.then(|| vec![info.pack_prefix.clone()])).await;
        assert_eq!(remove(&repository, &sample::id()).await.unwrap(), 1);
        let left = paths(&*store).await;
        assert!(left.contains(&repository.layout().pack(&sample::pack_id())) && !left.contains(&orphan), "{left:?}");
    }
}

#[tokio::test]
async fn when_another_snapshot_cannot_be_read_nothing_is_removed() {
    let (store, repository) = empty().await;
    let info = complete(&repository).await;
    let other = sharing(&repository, &info, None).await;
    let all = paths(&*store).await;
    for kind in ["/__info_", "/__manifest_"] {
        let path = all.iter().find(|path| path.contains(other.label()) && path.contains(kind)).unwrap();
        let good = read_all(&*store, path, 1 << 20).await.unwrap();
        store.put(path, from_bytes("damaged"), PutOptions::default()).await.unwrap();
        let error = remove(&repository, &sample::id()).await.unwrap_err();
        assert!(error.message().contains("'other' of 2023-01-01-00-00-00"), "{error}");
        assert_eq!(paths(&*store).await, all);
        store.put(path, from_bytes(good), PutOptions::default()).await.unwrap();
    }
    sample::check(&repository).await.unwrap();
}

#[tokio::test]
async fn a_damaged_snapshot_can_be_dropped() {
    for kind in ["/__info_", "/__manifest_", "/__meta_", "/packs/"] {
        let (store, repository) = empty().await;
        complete(&repository).await;
        let path = paths(&*store).await.into_iter().find(|path| path.contains(kind)).unwrap();
        store.put(&path, from_bytes("damaged"), PutOptions::default()).await.unwrap();
        remove(&repository, &sample::id()).await.unwrap();
        assert_eq!(paths(&*store).await, [REPO_INFO], "{kind}");
    }
}

#[tokio::test]
async fn a_job_that_began_meanwhile_keeps_the_snapshot_whole() {
    let (store, repository) = empty().await;
    complete(&repository).await;
    let before = paths(&*store).await;
    let refuse = || Err(Error::conflict("restore job 7 uses it"));
    let error = repository.remove_snapshot(&sample::id(), NOW_MS, &refuse).await.unwrap_err();
    assert_eq!(error.message(), "restore job 7 uses it");
    assert_eq!(paths(&*store).await, before);
    sample::check(&repository).await.unwrap();
}

#[tokio::test]
async fn what_a_running_backup_wrote_is_left_alone_until_no_job_can_run_any_more() {
    let (store, repository) = empty().await;
    let dir = tempfile::tempdir().unwrap();
    sample::write_all_but_info(&repository, dir.path(), sample::pack_id()).await;
    let before = paths(&*store).await;
    // 2022-04-08-15-52-29 and one day.
    let error = repository.remove_snapshot(&sample::id(), 1_649_519_549_000, &|| Ok(())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(paths(&*store).await, before);
    assert_eq!(repository.snapshots().await.unwrap()[0].status, SnapshotStatus::Incomplete);
    remove(&repository, &sample::id()).await.unwrap();
    assert_eq!(paths(&*store).await, [REPO_INFO]);
}
