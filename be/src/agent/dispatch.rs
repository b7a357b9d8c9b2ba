//! Which function does which task, and which limit it runs under: one exhaustive match each.

use crate::config::Config;
use crate::repair;
use crate::snapshot;
use crate::task::{self, TaskContext};
use crate::transfer;
use coffer_proto::v1::task::Work;
use coffer_proto::v1::task_result::Output;
use coffer_stdx::Result;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// First parts of the ids of tasks that work for a job, other than its release.
const JOB_KINDS: [&str; 5] = ["snapshot", "upload", "prepare", "download", "activate"];

/// Tasks of one lane share a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Short work on tablets: publish, discard, drop, activate, release, emptying the trash.
    Tablets,
    /// Making snapshots, preparing restores.
    Snapshots,
    /// Uploads.
    Uploads,
    /// Downloads.
    Downloads,
    /// Copies of other replicas.
    Clones,
}

/// The limits of all lanes.
#[derive(Debug)]
pub struct Lanes {
    tablets: Arc<Semaphore>,
    snapshots: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
    clones: Arc<Semaphore>,
}

impl Lanes {
    /// As configured.
    pub fn new(config: &Config) -> Lanes {
        let lane = |workers| Arc::new(Semaphore::new(workers));
        Lanes {
            tablets: lane(config.publish_workers),
            snapshots: lane(config.snapshot_workers),
            uploads: lane(config.upload_workers),
            downloads: lane(config.download_workers),
            clones: lane(config.clone_workers),
        }
    }

    /// The limit of a lane.
    pub fn of(&self, lane: Lane) -> Arc<Semaphore> {
        match lane {
            Lane::Tablets => self.tablets.clone(),
            Lane::Snapshots => self.snapshots.clone(),
            Lane::Uploads => self.uploads.clone(),
            Lane::Downloads => self.downloads.clone(),
            Lane::Clones => self.clones.clone(),
        }
    }
}

/// The lane of a task.
pub fn lane(work: &Work) -> Lane {
    match work {
        Work::Publish(_)
        | Work::Discard(_)
        | Work::Drop(_)
        | Work::Activate(_)
        | Work::Release(_)
        | Work::CleanTrash(_) => Lane::Tablets,
        Work::MakeSnapshot(_) | Work::PrepareRestore(_) => Lane::Snapshots,
        Work::Upload(_) => Lane::Uploads,
        Work::Download(_) => Lane::Downloads,
        Work::Clone(_) => Lane::Clones,
    }
}

/// Which running tasks end before a task begins, as beginnings of their ids ("<kind>/<job>/"). A new leader does not know
/// all that an earlier one started: a release must not leave anything behind it that still writes for the job, and two
/// makers of the same snapshots would meet in one directory.
pub fn ends_first(work: &Work) -> Vec<String> {
    match work {
        // Nor must a removal of the replica that was too many end after the copy of it that is wanted.
        Work::Clone(work) => ["clone", "surplus"].map(|kind| format!("{kind}/{}/", work.tablet_id)).into(),
        Work::Release(work) => JOB_KINDS.iter().map(|kind| format!("{kind}/{}/", work.job_id)).collect(),
        Work::MakeSnapshot(work) => vec![format!("snapshot/{}/", work.job_id)],
        Work::Publish(_)
        | Work::Discard(_)
        | Work::Drop(_)
        | Work::Activate(_)
        | Work::PrepareRestore(_)
        | Work::Upload(_)
        | Work::Download(_)
        | Work::CleanTrash(_) => Vec::new(),
    }
}

/// Do a task.
pub async fn run(ctx: &TaskContext, work: Work) -> Result<Output> {
    match work {
        Work::Publish(work) => task::publish::run(ctx, work).await,
        Work::Discard(work) => task::discard::run(ctx, work).await,
        Work::Drop(work) => task::drop_tablets::run(ctx, work).await,
        Work::MakeSnapshot(work) => snapshot::make::run(ctx, work).await,
        Work::Upload(work) => transfer::upload::run(ctx, work).await,
        Work::Release(work) => snapshot::release::run(ctx, work).await,
        Work::PrepareRestore(work) => transfer::prepare::run(ctx, work).await,
        Work::Download(work) => transfer::download::run(ctx, work).await,
        Work::Activate(work) => transfer::activate::run(ctx, work).await,
        Work::Clone(work) => repair::clone::run(ctx, work).await,
        Work::CleanTrash(_) => task::clean_trash::run(ctx).await,
    }
}
