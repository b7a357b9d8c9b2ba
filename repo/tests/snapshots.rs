//! The life of repositories and snapshots, on a store in memory: create and attach, write in order, commit once, damage,
//! races, and what a cancelled job leaves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod sample;

use coffer_repo::{Opened, PackId, PackPrefix, Repository, SnapshotId, SnapshotInfo, SnapshotStatus};
use coffer_stdx::{Error, ErrorKind};
use coffer_store::faulty::Faulty;
use coffer_store::memory::MemoryStore;
use coffer_store::{PutOptions, Store, from_bytes, read_all};
use futures::TryStreamExt;
use std::sync::Arc;

async fn repository() -> (Arc<MemoryStore>, Repository) {
    let store = Arc::new(MemoryStore::new());
    let (repository, opened) = Repository::create(store.clone(), "r", 7).await.unwrap();
    assert_eq!(opened, Opened::Created);
    (store, repository)
}

async fn paths(store: &dyn Store) -> Vec<String> {
    let mut paths: Vec<String> =
        store.list("").await.unwrap().map_ok(|object| object.path).try_collect().await.unwrap();
    paths.sort();
    paths
}

async fn overwrite(store: &dyn Store, path: &str, bytes: Vec<u8>) {
    store.put(path, from_bytes(bytes), PutOptions::default()).await.unwrap();
}

async fn complete(repository: &Repository) -> SnapshotInfo {
    let dir = tempfile::tempdir().unwrap();
    let info = sample::write_all_but_info(repository, dir.path(), sample::pack_id()).await;
    repository.write_info(&info).await.unwrap();
    info
}

#[tokio::test]
async fn creating_leaves_one_object_and_a_second_cluster_attaches() {
    let (store, repository) = repository().await;
    assert_eq!(paths(&*store).await, ["__coffer_repository_r/__repo_info"]);
    let (again, opened) = Repository::create(store.clone(), "r", 99).await.unwrap();
    assert_eq!(opened, Opened::Attached);
    assert_eq!(again.info(), repository.info());
    assert_eq!((again.info().created_ms, again.info().format), (7, 1));
    let missing = Repository::open(store.clone(), "other").await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.message().contains("__coffer_repository_other/__repo_info"), "{missing}");
}

#[tokio::test]
async fn a_location_that_cannot_be_used_is_refused_before_anything_is_made() {
    for (operation, kind) in [("put", ErrorKind::Denied), ("get", ErrorKind::Denied), ("delete", ErrorKind::Denied)] {
        let memory = Arc::new(MemoryStore::new());
        let faulty = Faulty::new(memory.clone(), move |call| {
            (call.operation == operation).then(|| Error::denied("no permission"))
        });
        let error = Repository::create(Arc::new(faulty), "r", 7).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.message().contains("'r' cannot use its location"), "{error}");
        assert!(!paths(&*memory).await.iter().any(|path| path.ends_with("__repo_info")));
    }
}

#[tokio::test]
async fn a_repository_of_another_name_or_a_newer_format_is_refused() {
    let (store, _) = repository().await;
    let info = read_all(&*store, "__coffer_repository_r/__repo_info", 1 << 20).await.unwrap();
    overwrite(&*store, "__coffer_repository_s/__repo_info", info.to_vec()).await;
    let error = Repository::open(store.clone(), "s").await.unwrap_err();
    assert!(error.message().contains("named 'r', not 's'"), "{error}");
    let newer = String::from_utf8(info.to_vec()).unwrap().replace("\"format\":1", "\"format\":2");
    overwrite(&*store, "__coffer_repository_r/__repo_info", newer.into_bytes()).await;
    let error = Repository::open(store, "r").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSupported);
    assert!(error.message().contains("format version 2"), "{error}");
}

#[tokio::test]
async fn a_snapshot_exists_once_its_info_does() {
    let (_, repository) = repository().await;
    let dir = tempfile::tempdir().unwrap();
    let info = sample::write_all_but_info(&repository, dir.path(), sample::pack_id()).await;
    let id = sample::id();
    assert!(!repository.label_exists(id.label()).await.unwrap());
    assert_eq!(repository.snapshots().await.unwrap()[0].status, SnapshotStatus::Incomplete);
    assert_eq!(repository.read_info(&id).await.unwrap_err().kind(), ErrorKind::NotFound);
    let name = repository.write_info(&info).await.unwrap();
    // A new leader writes it again: the same answer, also when its own clock or counts differ.
    assert_eq!(repository.write_info(&info).await.unwrap(), name);
    assert_eq!(repository.write_info(&SnapshotInfo { backup_time_ms: 1, ..info.clone() }).await.unwrap(), name);
    assert!(repository.label_exists(id.label()).await.unwrap());
    assert!(!repository.label_exists("NIGHTLY-1").await.unwrap());
    let listed = repository.snapshots().await.unwrap();
    assert_eq!(listed, repository.snapshots_of(id.label()).await.unwrap());
    assert_eq!((listed.len(), listed[0].status), (1, SnapshotStatus::Complete));
    assert_eq!((listed[0].label.as_str(), listed[0].timestamp.as_str()), (id.label(), id.timestamp()));
    assert_eq!(repository.read_info(&id).await.unwrap(), info);
    sample::check(&repository).await.unwrap();
}

#[tokio::test]
async fn an_info_is_refused_when_a_part_is_missing_or_the_label_is_taken() {
    let (store, repository) = repository().await;
    let info = complete(&repository).await;
    let other = SnapshotInfo { pack_prefix: PackPrefix::random().to_string(), ..info.clone() };
    assert_eq!(repository.write_info(&other).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let later = SnapshotInfo { timestamp: "2023-01-01-00-00-00".to_owned(), ..other };
    assert_eq!(repository.write_info(&later).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let part = format!("__coffer_repository_r/__ss_nightly-1/{}", info.manifests[0].name);
    repository
        .delete_leftovers(&SnapshotId::new("nightly-1", "2023-01-01-00-00-00").unwrap(), &PackPrefix::random())
        .await
        .unwrap();
    assert!(paths(&*store).await.contains(&part));
    store.delete(&part, false).await.unwrap();
    for path in paths(&*store).await.iter().filter(|path| path.contains("/__info_")) {
        store.delete(path, false).await.unwrap();
    }
    let error = repository.write_info(&info).await.unwrap_err();
    assert!(error.message().contains(&info.manifests[0].name), "{error}");
    assert!(!repository.label_exists("nightly-1").await.unwrap());
}

#[tokio::test]
async fn of_two_clusters_that_commit_one_label_at_once_at_most_one_stays() {
    let (store, repository) = repository().await;
    let dir = tempfile::tempdir().unwrap();
    let mine = sample::write_all_but_info(&repository, dir.path(), sample::pack_id()).await;
    // The other cluster commits between our look and our write: it does so when we put our info.
    let theirs = SnapshotInfo { pack_prefix: PackPrefix::random().to_string(), ..mine.clone() };
    let other = repository.clone();
    let raced = std::sync::Mutex::new(Some((other, theirs)));
    let faulty = Faulty::new(store.clone(), move |call| {
        if call.operation == "put" && call.path.contains("/__info_") {
            let (other, theirs) = raced.lock().unwrap().take()?;
            let write = async move { other.write_info(&theirs).await.unwrap() };
            std::thread::scope(|scope| {
                scope.spawn(|| tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(write));
            });
        }
        None
    });
    let racing = Repository::open(Arc::new(faulty), "r").await.unwrap();
    assert_eq!(racing.write_info(&mine).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let listed = repository.snapshots().await.unwrap();
    assert_eq!((listed.len(), listed[0].status), (1, SnapshotStatus::Complete));
    assert_ne!(repository.read_info(&sample::id()).await.unwrap().pack_prefix, mine.pack_prefix);
}

#[tokio::test]
async fn a_cancelled_job_leaves_nothing_and_takes_nothing_of_others() {
    let (store, repository) = repository().await;
    let kept = complete(&repository).await;
    let before = paths(&*store).await;
    // Another job with the same label in the same second, which died after some packs, one of them unknown to anybody.
    let dir = tempfile::tempdir().unwrap();
    let prefix = PackPrefix::random();
    sample::write_all_but_info(&repository, dir.path(), PackId::random(prefix, 3)).await;
    let orphan = repository.layout().pack(&PackId::random(prefix, 200));
    overwrite(&*store, &orphan, b"half a pack".to_vec()).await;
    for _ in 0..2 {
        repository.delete_leftovers(&sample::id(), &prefix).await.unwrap();
        assert_eq!(paths(&*store).await, before);
    }
    sample::check(&repository).await.unwrap();
    // The job that was complete is cancelled after its info was written: all of it goes, the repository stays.
    let own: PackPrefix = kept.pack_prefix.parse().unwrap();
    repository.delete_leftovers(&sample::id(), &own).await.unwrap();
    assert_eq!(paths(&*store).await, ["__coffer_repository_r/__repo_info"]);
}

#[tokio::test]
async fn every_flipped_bit_and_every_cut_of_any_object_is_seen() {
    let (store, repository) = repository().await;
    complete(&repository).await;
    for path in paths(&*store).await {
        let good = read_all(&*store, &path, 1 << 20).await.unwrap().to_vec();
        let step = if path.contains("/__meta_") || path.contains("/__info_") { 7 } else { 1 };
        for at in (0..good.len()).step_by(step) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            for damaged in [bad, good[..at].to_vec()] {
                overwrite(&*store, &path, damaged).await;
                assert!(whole(store.clone()).await.is_err(), "{path} at {at}");
            }
        }
        overwrite(&*store, &path, good).await;
    }
    whole(store).await.unwrap();
}

/// Open and read everything. In the header of a pack only the trailer's check sees a flip.
async fn whole(store: Arc<dyn Store>) -> coffer_stdx::Result<()> {
    sample::check(&Repository::open(store, "r").await?).await
}

#[tokio::test]
async fn strange_objects_are_passed_over() {
    let (store, repository) = repository().await;
    complete(&repository).await;
    for path in ["__coffer_repository_r/README", "__coffer_repository_r/__ss_nightly-1/notes.txt", "elsewhere/__ss_x/y"]
    {
        overwrite(&*store, path, b"hello".to_vec()).await;
    }
    assert_eq!(repository.snapshots().await.unwrap().len(), 1);
    sample::check(&repository).await.unwrap();
}
