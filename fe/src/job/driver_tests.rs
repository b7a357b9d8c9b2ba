//! Jobs without data, driven to their end with a repository in a directory.

use crate::backends::Backends;
use crate::catalog::cluster::Access;
use crate::catalog::job::JobError;
use crate::config::Config;
use crate::meta::command::{Command, NewBackup, NewPartition, NewRepository, NewTable, Outcome};
use crate::raft::Meta;
use coffer_proto::ids::{BackendId, DbId, JobId, RepositoryId};
use coffer_repo::{PackPrefix, Repository, SnapshotId, SnapshotStatus};
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::time::now_ms;
use coffer_store::{LocalAccess, Store};
use coffer_table::{Column, ColumnType, Schema};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

struct Place {
    meta: Meta,
    config: Arc<Config>,
    db: DbId,
    repository: RepositoryId,
    store: Arc<dyn Store>,
    _dir: tempfile::TempDir,
}

async fn made(meta: &Meta, command: Command) -> u64 {
    match meta.propose(command).await.unwrap() {
        Outcome::Created(id) => id,
        other => panic!("{other:?}"),
    }
}

impl Place {
    /// A database `d` with an empty table `t`, and a repository `r`.
    async fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let config = Arc::new(Config { local_roots: vec![dir.path().to_owned()], ..Config::default() });
        let meta = Meta::in_memory();
        let location = format!("file://{}", dir.path().display());
        let spec = coffer_proto::v1::StorageSpec { location: location.clone(), ..Default::default() };
        let store =
            coffer_store::open(&spec, &LocalAccess { roots: config.local_roots.clone(), ..LocalAccess::default() })
                .unwrap();
        Repository::create(Arc::clone(&store), "r", 1).await.unwrap();
        let addresses = vec![("be1".to_owned(), 9050)];
        meta.propose(Command::AddBackends { addresses, now_ms: 1 }).await.unwrap();
        let backend: BackendId = meta.view(|state| *state.backends.keys().next().unwrap());
        let db = DbId(made(&meta, Command::CreateDatabase { name: "d".to_owned() }).await);
        let column = Column {
            name: "k".to_owned(),
            kind: ColumnType::Int,
            nullable: false,
            default: None,
            key: true,
            comment: String::new(),
            aggregate: None,
        };
        let partition =
            NewPartition { name: "t".to_owned(), range: None, replication_num: 1, placement: vec![vec![backend]] };
        let new = NewTable {
            db,
            name: "t".to_owned(),
            schema: Schema { columns: vec![column], model: coffer_table::Model::Duplicate },
            partition_columns: Vec::new(),
            partitioning: Default::default(),
            bucket_columns: Vec::new(),
            properties: BTreeMap::new(),
            comment: String::new(),
            partitions: vec![partition],
            now_ms: 1,
        };
        meta.propose(Command::CreateTable(new)).await.unwrap();
        let new = NewRepository {
            name: "r".to_owned(),
            remote_name: "r".to_owned(),
            read_only: false,
            access: Access::Local,
            location,
            properties: BTreeMap::new(),
            now_ms: 1,
            limits: None,
        };
        let repository = RepositoryId(made(&meta, Command::CreateRepository(new)).await);
        Place { meta, config, db, repository, store, _dir: dir }
    }

    async fn submit(&self, label: &str) -> JobId {
        let new = NewBackup {
            db: self.db,
            label: label.to_owned(),
            repository: self.repository,
            objects: Vec::new(),
            timestamp: "2022-04-08-15-52-29".to_owned(),
            timeout_s: 86_400,
            pack_prefix: PackPrefix::random().to_string(),
            now_ms: now_ms(),
            metadata_only: false,
            warnings: Vec::new(),
        };
        JobId(made(&self.meta, Command::CreateBackup(new)).await)
    }

    fn drive(&self) -> Shutdown {
        let shutdown = Shutdown::new();
        let backends = Backends::disconnected(Arc::clone(&self.config));
        super::super::start(self.meta.clone(), backends, Arc::clone(&self.config), shutdown.clone());
        shutdown
    }

    /// The name of the last state.
    async fn cleaned(&self, job: JobId) -> &'static str {
        let mut applied = self.meta.applied();
        let wait = async {
            while !self.meta.view(|state| state.backups[&job].cleaned) {
                applied.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
        self.meta.view(|state| state.backups[&job].state.name())
    }

    async fn snapshots(&self) -> Vec<(String, SnapshotStatus)> {
        let repository = Repository::open(Arc::clone(&self.store), "r").await.unwrap();
        repository.snapshots().await.unwrap().into_iter().map(|entry| (entry.label, entry.status)).collect()
    }
}

#[tokio::test]
async fn an_empty_table_is_backed_up_without_any_backend() {
    let place = Place::new().await;
    let _shutdown = place.drive();
    let job = place.submit("s").await;
    assert_eq!(place.cleaned(job).await, "FINISHED");
    assert_eq!(place.snapshots().await, [("s".to_owned(), SnapshotStatus::Complete)]);
    let repository = Repository::open(Arc::clone(&place.store), "r").await.unwrap();
    let info = repository.read_info(&SnapshotId::new("s", "2022-04-08-15-52-29").unwrap()).await.unwrap();
    let meta = repository.read_meta(&info).await.unwrap();
    assert_eq!((meta.tables[0].name.as_str(), meta.tables[0].partitions[0].visible_version), ("t", 1));
}

#[tokio::test]
async fn a_label_that_another_cluster_took_meanwhile_ends_the_job_and_leaves_the_other_snapshot() {
    let place = Place::new().await;
    let shutdown = place.drive();
    let first = place.submit("s").await;
    assert_eq!(place.cleaned(first).await, "FINISHED");
    let second = place.submit("s").await;
    assert_eq!(place.cleaned(second).await, "CANCELLED");
    let error = place.meta.view(|state| state.backups[&second].error.clone());
    assert!(error.is_some_and(|error| error.message.contains("'s'")));
    assert_eq!(place.snapshots().await, [("s".to_owned(), SnapshotStatus::Complete)]);
    assert!(shutdown.finish(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn a_cancelled_job_is_cleaned_by_the_next_leader() {
    let place = Place::new().await;
    let job = place.submit("s").await;
    let error = JobError { kind: "CANCELLED".to_owned(), message: "user cancelled".to_owned() };
    place.meta.propose(Command::CancelJob { job, error, now_ms: 2 }).await.unwrap();
    let _shutdown = place.drive();
    assert_eq!(place.cleaned(job).await, "CANCELLED");
    assert_eq!(place.snapshots().await, []);
}
