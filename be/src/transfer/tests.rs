//! From tablets to a repository and back, through every task of a backup and a restore, on a local store: the whole path,
//! each step repeated, damage on both sides, and what is missing.

use crate::config::Config;
use crate::snapshot;
use crate::tablet::layout::meta_file;
use crate::tablet::testing::{batch, schema};
use crate::tablet::{LoadWriter, Publish, PublishTablet, TabletMeta, TabletStore, rowset};
use crate::task::{ProgressSink, TaskContext};
use crate::transfer::{activate, download, prepare, upload};
use coffer_proto::v1;
use coffer_proto::v1::task_result::Output;
use coffer_repo::Repository;
use coffer_stdx::{Error, ErrorKind, Result};
use coffer_store::faulty::Faulty;
use coffer_store::{LocalAccess, Store};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const JOB: u64 = 900;
const RESTORE: u64 = 901;
const LABEL: &str = "nightly";
const TIME: &str = "2022-04-08-15-52-29";
const PREFIX: &str = "00c0ffee00c0ffee";
const NAME: &str = "r";

/// A backend with two data directories and a repository beside it.
struct Backend {
    dir: TempDir,
    ctx: TaskContext,
}

impl Backend {
    async fn new() -> Backend {
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path().join("repo");
        std::fs::create_dir(&repo).unwrap();
        let roots = [dir.path().join("d1"), dir.path().join("d2")];
        let ctx = TaskContext {
            id: "test/1/1".to_owned(),
            cluster_id: "c".to_owned(),
            backend_id: 1,
            store: TabletStore::open(&roots).unwrap(),
            config: Arc::new(Config { local_roots: vec![repo], ..Config::default() }),
            progress: ProgressSink::default(),
            cancel: CancellationToken::new(),
        };
        let backend = Backend { dir, ctx };
        Repository::create(backend.store(), NAME, 1).await.unwrap();
        backend
    }

    fn repo(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    fn storage(&self) -> v1::StorageSpec {
        v1::StorageSpec { location: format!("file://{}", self.repo().display()), ..v1::StorageSpec::default() }
    }

    fn store(&self) -> Arc<dyn Store> {
        coffer_store::open(&self.storage(), &LocalAccess { roots: vec![self.repo()], ..LocalAccess::default() })
            .unwrap()
    }

    /// One load: rows for some tablets, the next version for all.
    fn load(&self, transaction: u64, version: u64, rows: &[(u64, &[i32])]) {
        let store = &self.ctx.store;
        let mut writer = LoadWriter::begin(store, transaction).unwrap();
        for (tablet, ids) in rows.iter().filter(|(_, ids)| !ids.is_empty()) {
            let dir = writer.dir(*tablet).unwrap();
            writer.add(*tablet, rowset::write_file(&dir, &schema(), &[batch(ids)]).unwrap());
        }
        writer.finish().unwrap();
        let tablet = |(tablet_id, ids): &(u64, &[i32])| PublishTablet {
            tablet_id: *tablet_id,
            partition_id: 2,
            version,
            rows_expected: !ids.is_empty(),
        };
        let tablets = rows.iter().map(tablet).collect();
        let publish = Publish { transaction_id: transaction, table_id: 1, schema: schema(), delete: None, tablets };
        assert!(store.publish(&publish).is_empty());
    }

    /// Tablets 10 (two files), 11 (one file), 12 (none), all at version 3.
    fn load_three(&self) {
        self.load(1, 2, &[(10, &[1, 2, 3]), (11, &[]), (12, &[])]);
        self.load(2, 3, &[(10, &[4]), (11, &[5, 6]), (12, &[])]);
    }

    async fn make(&self, tablets: &[(u64, u64)]) -> v1::SnapshotMade {
        let tablet = |(tablet_id, version): &(u64, u64)| v1::TabletVersion { tablet_id: *tablet_id, version: *version };
        let work = v1::MakeSnapshot { job_id: JOB, tablets: tablets.iter().map(tablet).collect() };
        match snapshot::make::run(&self.ctx, work).await.unwrap() {
            Output::Snapshot(made) => made,
            other => panic!("{other:?}"),
        }
    }

    fn upload_work(&self, tablets: &[u64]) -> v1::UploadSnapshot {
        v1::UploadSnapshot {
            job_id: JOB,
            storage: Some(self.storage()),
            repository: NAME.to_owned(),
            label: LABEL.to_owned(),
            timestamp: TIME.to_owned(),
            part: 3,
            tablet_ids: tablets.to_vec(),
            pack_target_bytes: 2_000,
            pack_prefix: PREFIX.to_owned(),
        }
    }

    async fn upload(&self, tablets: &[u64]) -> Result<v1::Uploaded> {
        match upload::run(&self.ctx, self.upload_work(tablets)).await? {
            Output::Uploaded(uploaded) => Ok(uploaded),
            other => panic!("{other:?}"),
        }
    }

    /// Restore tablets as `id + 100`.
    async fn download(&self, manifest: &str, tablets: &[(u64, u64)]) -> Result<v1::Downloaded> {
        let tablet = |(id, version): &(u64, u64)| v1::RestoreTablet {
            source_tablet_id: *id,
            tablet_id: id + 100,
            table_id: 7,
            partition_id: 8,
            version: *version,
            schema: serde_json::to_string(&schema()).unwrap(),
        };
        let work = v1::DownloadTablets {
            job_id: RESTORE,
            storage: Some(self.storage()),
            repository: NAME.to_owned(),
            label: LABEL.to_owned(),
            timestamp: TIME.to_owned(),
            manifests: vec![manifest.to_owned()],
            tablets: tablets.iter().map(tablet).collect(),
        };
        match download::run(&self.ctx, work).await? {
            Output::Downloaded(downloaded) => Ok(downloaded),
            other => panic!("{other:?}"),
        }
    }

    async fn activate(&self, tablet_ids: &[u64]) -> Vec<u64> {
        let work = v1::ActivateTablets { job_id: RESTORE, tablet_ids: tablet_ids.to_vec() };
        match activate::run(&self.ctx, work).await.unwrap() {
            Output::Tablets(done) => done.failures.iter().map(|failure| failure.tablet_id).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn meta(&self, tablet: u64) -> TabletMeta {
        (*self.ctx.store.tablet(tablet).unwrap().meta()).clone()
    }

    fn packs(&self) -> Vec<PathBuf> {
        files_below(&self.repo()).into_iter().filter(|path| path.display().to_string().contains("/packs/")).collect()
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

const ALL: [(u64, u64); 3] = [(10, 3), (11, 3), (12, 3)];

/// Snapshots of all three, uploaded; the name of the manifest part.
async fn backed_up(backend: &Backend) -> String {
    backend.load_three();
    assert!(backend.make(&ALL).await.failures.is_empty());
    backend.upload(&[10, 11, 12]).await.unwrap().manifest
}

fn same_rows(restored: &TabletMeta, original: &TabletMeta) {
    assert_eq!((restored.table_id, restored.partition_id), (7, 8));
    assert_eq!((restored.version, &restored.rowsets), (original.version, &original.rowsets));
}

#[tokio::test]
async fn what_was_backed_up_is_restored_and_every_step_may_be_repeated() {
    let backend = Backend::new().await;
    backend.load_three();
    let made = backend.make(&ALL).await;
    assert_eq!((made.files, made.rows, made.failures.len()), (3, 6, 0));
    assert_eq!(backend.make(&ALL).await, made);
    // What is loaded later is not in it.
    backend.load(3, 4, &[(10, &[99])]);
    let uploaded = backend.upload(&[10, 11, 12]).await.unwrap();
    assert_eq!((uploaded.tablets, uploaded.blobs, uploaded.rows, uploaded.bytes), (3, 3, 6, made.bytes));
    assert_eq!(uploaded.packs as usize, backend.packs().len());
    let progress = backend.ctx.progress.get();
    assert_eq!((progress.bytes_done, progress.files_done), (made.bytes, 3));
    assert_eq!((progress.bytes_total, progress.files_total), (made.bytes, 3));
    // Also after a restart of the backend: the answer comes from the disk, nothing is sent again.
    let packs = backend.packs();
    assert_eq!(backend.upload(&[10, 11, 12]).await.unwrap(), uploaded);
    assert_eq!(backend.packs(), packs);
    assert_eq!(backend.ctx.store.jobs().unwrap(), [JOB]);

    let wanted = [(10, 3), (11, 3), (12, 3), (13, 1)];
    let room = v1::PrepareRestore { job_id: RESTORE, bytes: made.bytes, tablets: 4 };
    prepare::run(&backend.ctx, room).await.unwrap();
    let downloaded = backend.download(&uploaded.manifest, &wanted).await.unwrap();
    assert_eq!((downloaded.tablets, downloaded.files, downloaded.bytes), (4, 3, made.bytes));
    assert_eq!(backend.download(&uploaded.manifest, &wanted).await.unwrap(), downloaded);
    assert!(backend.ctx.store.tablet(110).is_none());
    for _ in 0..2 {
        assert_eq!(backend.activate(&[110, 111, 112, 113, 114]).await, [114]);
    }
    assert_eq!(backend.download(&uploaded.manifest, &wanted).await.unwrap(), downloaded);
    same_rows(&backend.meta(110), &backend.meta(10).at(3).unwrap());
    same_rows(&backend.meta(111), &backend.meta(11));
    same_rows(&backend.meta(112), &backend.meta(12));
    assert_eq!((backend.meta(113).version, backend.meta(113).rowsets.len()), (1, 0));
    let (old, new) = (backend.ctx.store.tablet(11).unwrap(), backend.ctx.store.tablet(111).unwrap());
    let name = &old.meta().rowsets[1].files[0].name;
    assert_eq!(std::fs::read(old.file_path(name)).unwrap(), std::fs::read(new.file_path(name)).unwrap());

    for job_id in [JOB, RESTORE, JOB] {
        snapshot::release::run(&backend.ctx, v1::ReleaseJob { job_id }).await.unwrap();
    }
    assert!(backend.ctx.store.jobs().unwrap().is_empty());
}

#[tokio::test]
async fn a_tablet_that_cannot_be_linked_does_not_stop_the_others() {
    let backend = Backend::new().await;
    backend.load_three();
    let tablet = backend.ctx.store.tablet(11).unwrap();
    let file = tablet.file_path(&tablet.meta().rowsets[1].files[0].name);
    std::fs::write(&file, b"short").unwrap();
    let made = backend.make(&[(10, 3), (11, 3), (12, 9), (77, 2)]).await;
    assert_eq!(made.rows, 4);
    let failures: Vec<(u64, String)> =
        made.failures.iter().map(|failure| (failure.tablet_id, failure.error.clone().unwrap().kind)).collect();
    let expected = [(11, "CORRUPT"), (12, "CONFLICT"), (77, "NOT_FOUND")];
    assert_eq!(failures, expected.map(|(tablet, kind)| (tablet, kind.to_owned())));
    assert_eq!(bad(&backend), [11], "what is only behind, or not here, is no damage");
    // Another version for the same job replaces what was made.
    let tablet = backend.ctx.store.tablet(10).unwrap();
    assert_eq!(backend.make(&[(10, 2)]).await.rows, 3);
    let dir = tablet.disk().layout().snapshot_tablet(JOB, 10);
    assert_eq!(TabletMeta::load(&dir.join("meta")).unwrap().version, 2);
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 2);
}

#[tokio::test]
async fn a_rotten_file_never_gets_into_the_repository() {
    let backend = Backend::new().await;
    backend.load_three();
    backend.make(&ALL).await;
    let tablet = backend.ctx.store.tablet(11).unwrap();
    let path = tablet.file_path(&tablet.meta().rowsets[1].files[0].name);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[50] ^= 1;
    // The snapshot is a hard link, so both see it.
    std::fs::write(&path, bytes).unwrap();
    let error = backend.upload(&[11]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains(path.file_name().unwrap().to_str().unwrap()), "{error}");
    assert!(backend.packs().is_empty());
    assert_eq!(backend.ctx.progress.get().bytes_done, 0);
    // It is told and repaired, like damage that a scan meets; the others are served.
    assert_eq!(bad(&backend), [11]);
    assert!(backend.ctx.store.tablet(10).is_some());
}

#[tokio::test]
async fn rot_of_a_file_that_was_replaced_blames_nobody() {
    let backend = Backend::new().await;
    backend.load_three();
    backend.make(&ALL).await;
    let tablet = backend.ctx.store.tablet(11).unwrap();
    let name = tablet.meta().rowsets[1].files[0].name.clone();
    // The snapshot's copy alone is bad: the tablet has the bytes that were written.
    let linked = tablet.disk().layout().snapshot_tablet(JOB, 11).join(&name);
    let mut bytes = std::fs::read(&linked).unwrap();
    bytes[50] ^= 1;
    std::fs::remove_file(&linked).unwrap();
    std::fs::write(&linked, bytes).unwrap();
    assert_eq!(backend.upload(&[11]).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(bad(&backend).is_empty());
}

#[tokio::test]
async fn a_snapshot_that_meets_a_missing_file_marks_the_replica() {
    let backend = Backend::new().await;
    backend.load_three();
    let tablet = backend.ctx.store.tablet(11).unwrap();
    std::fs::remove_file(tablet.file_path(&tablet.meta().rowsets[1].files[0].name)).unwrap();
    let made = backend.make(&ALL).await;
    assert_eq!(made.failures.iter().map(|failure| failure.tablet_id).collect::<Vec<_>>(), [11]);
    assert_eq!(bad(&backend), [11]);
}

fn bad(backend: &Backend) -> Vec<u64> {
    backend.ctx.store.bad_tablets().iter().map(|(id, _)| *id).collect()
}

#[tokio::test]
async fn a_store_that_fails_now_and_then_is_tried_again() {
    let backend = Backend::new().await;
    backend.load_three();
    let made = backend.make(&ALL).await;
    // The first put of a pack and of the manifest fails; the first look at a pack does too, when the pack is there.
    let seen = std::sync::Mutex::new(HashSet::new());
    let faulty = Faulty::new(backend.store(), move |call| {
        let kind = if call.path.contains("/packs/") { "pack" } else { "other" };
        let counts = call.operation == "put" || call.operation == "stat" && kind == "pack";
        (counts && seen.lock().unwrap().insert((call.operation, kind))).then(|| Error::unavailable("try again"))
    });
    let repository = Repository::open(Arc::new(faulty), NAME).await.unwrap();
    let work = backend.upload_work(&[10, 11, 12]);
    let uploaded = upload::upload(&backend.ctx, repository, work).await.unwrap();
    let progress = backend.ctx.progress.get();
    assert_eq!((progress.bytes_done, progress.files_done), (made.bytes, 3));
    assert_eq!(backend.packs().len() as u64, uploaded.packs);
    backend.download(&uploaded.manifest, &ALL).await.unwrap();
}

#[tokio::test]
async fn damage_in_the_repository_is_found_by_name() {
    let backend = Backend::new().await;
    let manifest = backed_up(&backend).await;
    let pack = backend.packs().remove(0);
    let good = std::fs::read(&pack).unwrap();
    let name = pack.file_name().unwrap().to_str().unwrap();
    let mut flipped = good.clone();
    flipped[40] ^= 1;
    for (damaged, says) in [(flipped, "at offset 16"), (good[..100].to_vec(), "it was cut")] {
        std::fs::write(&pack, damaged).unwrap();
        let error = backend.download(&manifest, &ALL).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains(name) && error.message().contains(says), "{error}");
    }
    std::fs::remove_file(&pack).unwrap();
    assert_eq!(backend.download(&manifest, &ALL).await.unwrap_err().kind(), ErrorKind::NotFound);
    std::fs::write(&pack, good).unwrap();
    backend.download(&manifest, &ALL).await.unwrap();
    // Nothing half-made stays behind a run that ends well.
    let left =
        files_below(&backend.dir.path().join("d1")).into_iter().chain(files_below(&backend.dir.path().join("d2")));
    assert_eq!(left.filter(|path| path.display().to_string().contains(".tmp/")).count(), 0);
}

#[tokio::test]
async fn tablets_that_do_not_fit_the_snapshot_are_refused() {
    let backend = Backend::new().await;
    let manifest = backed_up(&backend).await;
    let missing = backend.download(&manifest, &[(10, 3), (55, 2)]).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Corrupt);
    assert!(missing.message().contains("tablet 55"), "{missing}");
    let version = backend.download(&manifest, &[(11, 2)]).await.unwrap_err();
    assert!(version.message().contains("tablet 11") && version.message().contains("version 3"), "{version}");
    let not_made = backend.upload(&[10, 44]).await.unwrap_err();
    assert_eq!(not_made.kind(), ErrorKind::NotFound);
    assert!(not_made.message().contains("tablet 44"), "{not_made}");
    let room = v1::PrepareRestore { job_id: RESTORE, bytes: u64::MAX, tablets: 1 };
    let full = prepare::run(&backend.ctx, room).await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::NoSpace);
}

#[tokio::test]
async fn a_lost_manifest_or_another_request_is_uploaded_again() {
    let backend = Backend::new().await;
    let manifest = backed_up(&backend).await;
    let one = backend.upload(&[10]).await.unwrap();
    assert_eq!(one.tablets, 1);
    assert_ne!(one.manifest, manifest);
    for path in files_below(&backend.repo()) {
        if path.display().to_string().contains("__manifest_") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let again = backend.upload(&[10]).await.unwrap();
    backend.download(&again.manifest, &[(10, 3)]).await.unwrap();
}

#[tokio::test]
async fn a_cancelled_task_stops() {
    let backend = Backend::new().await;
    let manifest = backed_up(&backend).await;
    backend.ctx.cancel.cancel();
    let stopped = |error: Error| assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    stopped(backend.upload(&[10, 11]).await.unwrap_err());
    stopped(backend.download(&manifest, &ALL).await.unwrap_err());
    let work = v1::MakeSnapshot { job_id: JOB, tablets: Vec::new() };
    stopped(snapshot::make::run(&backend.ctx, work).await.unwrap_err());
}

#[tokio::test]
async fn what_other_runs_left_or_other_tables_hold_is_told_apart() {
    let backend = Backend::new().await;
    backend.load_three();
    // Half a snapshot under its final name, and what a run that was killed leaves.
    for disk in backend.ctx.store.disks() {
        let path = disk.layout().snapshot_tablet(JOB, 10);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("x.parquet"), b"half").unwrap();
        std::fs::create_dir_all(path.with_extension("tmp")).unwrap();
        std::fs::write(path.with_extension("tmp").join("meta"), b"half").unwrap();
    }
    assert!(backend.make(&[(10, 3)]).await.failures.is_empty());
    let found = backend.ctx.store.tablet(10).unwrap();
    let made = TabletMeta::load(&meta_file(&found.disk().layout().snapshot_tablet(JOB, 10))).unwrap();
    assert_eq!(made, *found.meta());

    assert!(backend.make(&[(11, 3)]).await.failures.is_empty());
    let manifest = backend.upload(&[11]).await.unwrap().manifest;
    // Tablet 110 of table 1 is in force already: it is not what the restore of table 7 wants.
    backend.load(9, 2, &[(110, &[])]);
    let error = backend.download(&manifest, &[(10, 3)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}
