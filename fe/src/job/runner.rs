//! Carries out the tasks of jobs: sends work to backends, writes the metadata of snapshots. Every task may be repeated.
//!
//! What a task needs to know is read from the replicated state when it starts, so that a retry sees new credentials and
//! brokers that came back.

use super::action::{Event, Fact, Key, Task};
use super::clock::Clock;
use super::contents::Contents;
use super::progress::ProgressBoard;
use super::snapshot;
use crate::backends::Backends;
use crate::catalog::job::{BackupJob, BackupState, ManifestPart, RestoreJob};
use crate::config::Config;
use crate::meta::command::Counts;
use crate::raft::Meta;
use coffer_proto::ids::{BackendId, JobId, PartitionId, RepositoryId, TabletId};
use coffer_proto::v1::task::Work;
use coffer_proto::v1::task_result::Output;
use coffer_proto::{status, v1};
use coffer_repo::{PackPrefix, Repository, SnapshotId};
use coffer_stdx::{Error, ErrorKind, Result};
use coffer_store::LocalAccess;
use std::sync::Arc;
use std::time::Duration;

/// How long writing or removing what describes a snapshot may take before it is tried again.
const REPOSITORY_WITHIN: Duration = Duration::from_secs(300);

/// What tasks run with. Cheap to clone.
#[derive(Clone)]
pub(super) struct Runner {
    pub(super) meta: Meta,
    pub(super) backends: Backends,
    pub(super) config: Arc<Config>,
    pub(super) board: ProgressBoard,
    pub(super) contents: Contents,
    pub(super) clock: Clock,
}

impl Runner {
    /// Run a task to its end.
    pub(super) async fn perform(self, job: JobId, task: Task) -> Event {
        let key = task.key;
        let outcome = self.run(job, task).await;
        if let Err(error) = &outcome {
            tracing::warn!(%job, task = %key, %error, "a task of a job failed");
        }
        Event { key, now_ms: self.clock.now_ms(), outcome }
    }

    async fn run(&self, job: JobId, task: Task) -> Result<Fact> {
        match (task.key, task.backend) {
            (Key::Snapshot(backend), _) => self.snapshot(job, backend, &task).await,
            (Key::Upload(part), Some(backend)) => self.upload(job, backend, part, &task).await,
            (Key::Prepare(backend), _) => self.prepare(job, backend, &task).await,
            (Key::Download(part), Some(backend)) => self.download(job, backend, part, &task).await,
            (Key::Activate(backend), _) => self.activate(job, backend, &task).await,
            (Key::Release(backend), _) => {
                let running = ["snapshot", "upload", "prepare", "download", "activate"];
                self.backends.settled(backend, &running.map(|kind| format!("{kind}/{job}/"))).await;
                let work = Work::Release(v1::ReleaseJob { job_id: job.0 });
                let id = format!("release/{job}/{}", self.backends.unique());
                self.send(job, (task.key, backend), id, work).await.map(|_| Fact::Done)
            }
            (Key::Meta, _) => within(self.write_meta(job)).await.map(Fact::Meta),
            (Key::Info, _) => within(self.write_info(job)).await.map(|_| Fact::Done),
            (Key::Leftovers, _) => within(self.remove_leftovers(job)).await.map(|()| Fact::Done),
            (Key::Upload(_) | Key::Download(_), None) => Err(Error::bug("a task for no backend")),
        }
    }

    async fn send(
        &self,
        job: JobId,
        (key, backend): (Key, BackendId),
        id: String,
        work: Work,
    ) -> Result<Option<Output>> {
        let report = |progress: &v1::Progress| self.board.report(job, key, progress);
        self.backends.run_with_progress(backend, id, work, report).await
    }

    fn backup(&self, job: JobId) -> Result<BackupJob> {
        self.meta.view(|state| state.backups.get(&job).cloned()).ok_or_else(|| gone(job))
    }

    fn restore<R>(&self, job: JobId, look: impl FnOnce(&RestoreJob) -> R) -> Result<R> {
        self.meta.view(|state| state.restores.get(&job).map(look)).ok_or_else(|| gone(job))
    }

    /// How `backend` (or this process) reaches a repository, and the name of that repository in its paths.
    fn storage(
        &self,
        repository: RepositoryId,
        backend: Option<BackendId>,
        part: u32,
    ) -> Result<(v1::StorageSpec, String)> {
        self.meta.view(|state| {
            let found = state.repositories.get(&repository);
            let found = found.ok_or_else(|| Error::not_found(format!("Repository {repository} does not exist")))?;
            let host = backend.and_then(|id| state.backends.get(&id)).map_or(self.config.host.as_str(), |b| &b.host);
            let turn = backend.map_or(0, |backend| backend.0) + u64::from(part);
            Ok((self.backends.storage(state, found, (host, turn))?, found.remote_name.clone()))
        })
    }

    async fn open(&self, repository: RepositoryId) -> Result<Repository> {
        let (mut spec, name) = self.storage(repository, None, 0)?;
        let access = LocalAccess { roots: self.config.local_roots.clone(), conf_dir: self.config.conf_dir.clone() };
        // A leader that was frozen must not write by what it remembers; brokers refuse it when it freezes after this.
        self.meta.barrier().await?;
        spec.leader = Some(self.meta.mark()?);
        Repository::open(coffer_store::open(&spec, &access)?, &name).await
    }

    async fn snapshot(&self, job: JobId, backend: BackendId, task: &Task) -> Result<Fact> {
        let tablets =
            task.tablets.iter().map(|(tablet, version)| v1::TabletVersion { tablet_id: tablet.0, version: *version });
        let work = Work::MakeSnapshot(v1::MakeSnapshot { job_id: job.0, tablets: tablets.collect() });
        // Each try has other tablets, hence an id of its own.
        let id = format!("snapshot/{job}/{}", self.backends.unique());
        match self.send(job, (task.key, backend), id, work).await? {
            Some(Output::Snapshot(made)) => {
                let counts = Counts { bytes: made.bytes, files: made.files, rows: made.rows };
                Ok(Fact::Made { failures: failures(made.failures), counts })
            }
            other => Err(unexpected(backend, "MakeSnapshot", other.as_ref())),
        }
    }

    async fn upload(&self, job: JobId, backend: BackendId, part: u32, task: &Task) -> Result<Fact> {
        let find = |state: &crate::meta::state::State| {
            let job = state.backups.get(&job)?;
            Some((job.repository, job.label.clone(), job.timestamp.clone(), job.pack_prefix.clone()))
        };
        let (repository, label, timestamp, pack_prefix) = self.meta.view(find).ok_or_else(|| gone(job))?;
        let (storage, name) = self.storage(repository, Some(backend), part)?;
        let work = Work::Upload(v1::UploadSnapshot {
            job_id: job.0,
            storage: Some(storage),
            repository: name,
            label,
            timestamp,
            part,
            tablet_ids: task.tablets.iter().map(|(tablet, _)| tablet.0).collect(),
            pack_target_bytes: coffer_repo::plan::DEFAULT_TARGET_BYTES,
            pack_prefix,
        });
        match self.send(job, (task.key, backend), format!("upload/{job}/{part}"), work).await? {
            Some(Output::Uploaded(done)) => Ok(Fact::Uploaded(ManifestPart {
                name: done.manifest,
                bytes: done.manifest_bytes,
                tablets: done.tablets,
                data_bytes: done.bytes,
                files: done.blobs,
            })),
            other => Err(unexpected(backend, "UploadSnapshot", other.as_ref())),
        }
    }

    async fn prepare(&self, job: JobId, backend: BackendId, task: &Task) -> Result<Fact> {
        let share = |job: &RestoreJob| {
            let replicas = job.targets.iter().flat_map(|target| target.table.tablets());
            let with_files = replicas.filter(|(partition, _)| partition.visible_version > 1);
            let all: u64 = with_files.map(|(_, tablet)| tablet.replicas.len() as u64).sum();
            let here = task.tablets.len() as u128;
            u64::try_from(u128::from(job.bytes) * here / u128::from(all.max(1))).unwrap_or(u64::MAX)
        };
        let bytes = self.restore(job, share)?;
        let work =
            Work::PrepareRestore(v1::PrepareRestore { job_id: job.0, bytes, tablets: task.tablets.len() as u64 });
        self.send(job, (task.key, backend), format!("prepare/{job}/{backend}"), work).await.map(|_| Fact::Done)
    }

    async fn download(&self, job: JobId, backend: BackendId, part: u32, task: &Task) -> Result<Fact> {
        let (repository, mut work) = self.restore(job, |job| {
            let tablets = restore_tablets(job, &task.tablets)?;
            let work = v1::DownloadTablets {
                job_id: job.id.0,
                storage: None,
                repository: String::new(),
                label: job.label.clone(),
                timestamp: job.timestamp.clone(),
                manifests: job.manifests.clone(),
                tablets,
            };
            Ok::<_, Error>((job.repository, work))
        })??;
        let snapshot = SnapshotId::new(&work.label, &work.timestamp)?;
        let sources = work.tablets.iter().map(|tablet| TabletId(tablet.source_tablet_id));
        let parts = (&snapshot, work.manifests.as_slice());
        work.manifests = self.contents.needed(job, parts, sources, self.open(repository)).await?;
        let (storage, name) = self.storage(repository, Some(backend), part)?;
        (work.storage, work.repository) = (Some(storage), name);
        let id = format!("download/{job}/{part}");
        match self.send(job, (task.key, backend), id, Work::Download(work)).await? {
            Some(Output::Downloaded(done)) => Ok(Fact::Downloaded(done.bytes)),
            other => Err(unexpected(backend, "DownloadTablets", other.as_ref())),
        }
    }

    async fn activate(&self, job: JobId, backend: BackendId, task: &Task) -> Result<Fact> {
        let tablet_ids = task.tablets.iter().map(|(tablet, _)| tablet.0).collect();
        let work = Work::Activate(v1::ActivateTablets { job_id: job.0, tablet_ids });
        match self.send(job, (task.key, backend), format!("activate/{job}/{backend}"), work).await? {
            Some(Output::Tablets(done)) => match failures(done.failures).into_iter().next() {
                Some((tablet, error)) => {
                    Err(Error::new(error.kind(), format!("tablet {tablet} on backend {backend}: {error}")))
                }
                None => Ok(Fact::Done),
            },
            None => Ok(Fact::Done),
            other => Err(unexpected(backend, "ActivateTablets", other.as_ref())),
        }
    }

    async fn write_meta(&self, job: JobId) -> Result<String> {
        let job = self.backup(job)?;
        let id = SnapshotId::new(&job.label, &job.timestamp)?;
        let repository = self.open(job.repository).await?;
        Ok(repository.write_meta(&id, &snapshot::meta(&job)).await?.name)
    }

    async fn write_info(&self, job: JobId) -> Result<()> {
        let job = self.backup(job)?;
        let BackupState::UploadInfo { manifests, meta } = &job.state else {
            return Err(Error::cancelled(format!("job {} is {}", job.id, job.state.name())));
        };
        let id = SnapshotId::new(&job.label, &job.timestamp)?;
        let repository = self.open(job.repository).await?;
        let content = snapshot::meta(&job);
        let meta = match snapshot::meta_ref(&content, meta) {
            Some(known) => known,
            // Another version of Coffer wrote the meta: the info names the one of this version.
            None => repository.write_meta(&id, &content).await?,
        };
        let cluster = self.meta.view(|state| state.cluster_id.clone());
        repository.write_info(&snapshot::info(&job, manifests, meta, cluster)).await.map(drop)
    }

    async fn remove_leftovers(&self, job: JobId) -> Result<()> {
        let job = self.backup(job)?;
        let id = SnapshotId::new(&job.label, &job.timestamp)?;
        let packs: PackPrefix = job.pack_prefix.parse()?;
        match self.open(job.repository).await {
            Ok(repository) => repository.delete_leftovers(&id, &packs).await,
            // Somebody removed the whole repository.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

async fn within<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::timeout(format!("the repository took longer than {} s", REPOSITORY_WITHIN.as_secs()));
    tokio::time::timeout(REPOSITORY_WITHIN, work).await.map_err(late)?
}

fn gone(job: JobId) -> Error {
    Error::cancelled(format!("job {job} is gone"))
}

fn unexpected(backend: BackendId, task: &str, output: Option<&Output>) -> Error {
    let what = match output {
        None => "nothing",
        Some(Output::Tablets(_)) => "TabletsDone",
        Some(Output::Snapshot(_)) => "SnapshotMade",
        Some(Output::Uploaded(_)) => "Uploaded",
        Some(Output::Downloaded(_)) => "Downloaded",
    };
    Error::bug(format!("backend {backend} answered {task} with {what}"))
}

fn failures(failures: Vec<v1::TabletFailure>) -> Vec<(TabletId, Error)> {
    let failure = |failure: v1::TabletFailure| {
        let error = failure.error.as_ref().map_or_else(|| Error::bug("no reason given"), status::from_wire);
        (TabletId(failure.tablet_id), error)
    };
    failures.into_iter().map(failure).collect()
}

/// What a backend must know of each tablet it downloads. The ids of a target were given out in order, so that each tablet
/// is found without looking at all of them.
pub(super) fn restore_tablets(job: &RestoreJob, wanted: &[(TabletId, u64)]) -> Result<Vec<v1::RestoreTablet>> {
    let mut schemas = vec![None; job.targets.len()];
    let mut one = |(tablet, version): &(TabletId, u64)| {
        let unknown = || Error::bug(format!("tablet {tablet} is not part of restore job {}", job.id));
        let mut targets = job.targets.iter().enumerate();
        let found = targets.find_map(|(at, target)| {
            let source = target.sources.binary_search_by_key(tablet, |(tablet, _)| *tablet).ok()?;
            Some((at, target, target.sources[source].1))
        });
        let (at, target, source) = found.ok_or_else(unknown)?;
        let (partition, _) = target.table.partitions.range(..PartitionId(tablet.0)).next_back().ok_or_else(unknown)?;
        let schema = match &schemas[at] {
            Some(schema) => schema,
            None => {
                let text = serde_json::to_string(&target.table.schema);
                schemas[at].insert(text.map_err(|error| Error::bug(format!("write schema: {error}")))?)
            }
        };
        Ok(v1::RestoreTablet {
            source_tablet_id: source.0,
            tablet_id: tablet.0,
            table_id: target.table.id.0,
            partition_id: partition.0,
            version: *version,
            schema: schema.clone(),
        })
    };
    wanted.iter().map(&mut one).collect()
}

#[cfg(test)]
mod tests {
    use super::super::drill::World;
    use super::*;

    #[test]
    fn every_tablet_is_found_with_its_partition_and_source() {
        let world = World::restore(false);
        let job = &world.state.restores[&world.job];
        let target = &job.targets[0];
        let wanted: Vec<(TabletId, u64)> = target.table.tablets().map(|(_, tablet)| (tablet.id, 5)).collect();
        let found = restore_tablets(job, &wanted).unwrap();
        for (tablet, (new, source)) in found.iter().zip(&target.sources) {
            assert_eq!((tablet.tablet_id, tablet.source_tablet_id, tablet.version), (new.0, source.0, 5));
            let partition = &target.table.partitions[&PartitionId(tablet.partition_id)];
            assert!(partition.tablets.iter().any(|other| other.id == *new));
            assert!(tablet.schema.contains("\"k\"") && tablet.table_id == target.table.id.0);
        }
        assert_eq!(found.len(), 4);
        assert!(restore_tablets(job, &[(TabletId(1), 5)]).unwrap_err().message().contains("tablet 1 is not part"));
    }
}
