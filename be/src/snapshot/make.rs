//! Make snapshots: hard links of a tablet's files at exactly one version, and a copy of the meta of that version.
//!
//! Steps: link and write everything below `<tablet>-<run>.tmp`, many tablets at once; then, once per data directory, sync
//! the file system, rename all to `<tablet>`, sync again. An fsync per tablet would cost more than all the links together.
//! A crash leaves `.tmp` directories, which go away with the job, and whole ones, which the repeated task keeps. A task
//! of the same job that still runs is ended first (see `agent::queue`), so that two do not rename to the same name.
//!
//! A tablet that cannot be linked (gone, behind, merged beyond the version, a file of the wrong size) is reported and
//! does not stop the others: the leader takes another replica for it. Files that turn out to be gone or of the wrong size
//! make their tablet bad, as they do when a scan or the scrub meets them, so that it is repaired.

use crate::snapshot::{RunId, commit};
use crate::tablet::layout::meta_file;
use crate::tablet::{DataFile, TabletMeta, TabletStore};
use crate::task::context::TaskContext;
use coffer_proto::status::to_wire;
use coffer_proto::v1;
use coffer_proto::v1::task_result::Output;
use coffer_stdx::error::Context;
use coffer_stdx::fsx::Batch;
use coffer_stdx::{Error, ErrorKind, Result, fsx};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Tablets linked by one blocking call.
const TABLETS_PER_CALL: usize = 64;
/// Blocking calls at once.
const CALLS: usize = 4;

/// Run the task.
pub async fn run(ctx: &TaskContext, work: v1::MakeSnapshot) -> Result<Output> {
    ctx.check()?;
    let (job, run) = (work.job_id, RunId::new());
    let chunks: Vec<Vec<v1::TabletVersion>> = work.tablets.chunks(TABLETS_PER_CALL).map(<[_]>::to_vec).collect();
    let linked: Vec<Vec<Linked>> = stream::iter(chunks)
        .map(|tablets| link_all(ctx, job, &run, tablets))
        .buffer_unordered(CALLS)
        .try_collect()
        .await?;
    ctx.check()?;
    let mut made = v1::SnapshotMade::default();
    let mut batches: BTreeMap<PathBuf, Batch> = BTreeMap::new();
    for linked in linked.into_iter().flatten() {
        match linked.outcome {
            Ok(snapshot) => {
                made.files += snapshot.files;
                made.bytes += snapshot.bytes;
                made.rows += snapshot.rows;
                if let Some(Pending { root, tmp, path }) = snapshot.pending {
                    batches.entry(root).or_default().rename(&tmp, &path);
                }
            }
            Err(error) => {
                tracing::warn!(job, tablet = linked.tablet, %error, "snapshot of a tablet failed");
                made.failures.push(v1::TabletFailure { tablet_id: linked.tablet, error: Some(to_wire(&error)) });
            }
        }
    }
    commit(batches).await?;
    Ok(Output::Snapshot(made))
}

/// What came of one tablet.
struct Linked {
    tablet: u64,
    outcome: Result<Snapshot>,
}

struct Snapshot {
    files: u64,
    bytes: u64,
    rows: u64,
    pending: Option<Pending>,
}

/// A snapshot that still has its temporary name.
struct Pending {
    /// Data directory.
    root: PathBuf,
    tmp: PathBuf,
    path: PathBuf,
}

async fn link_all(ctx: &TaskContext, job: u64, run: &RunId, tablets: Vec<v1::TabletVersion>) -> Result<Vec<Linked>> {
    let (store, ctx, run) = (Arc::clone(&ctx.store), ctx.clone(), run.clone());
    let all = tokio::task::spawn_blocking(move || {
        let link = |tablet: v1::TabletVersion| {
            ctx.check()?;
            let outcome = link_one(&store, job, &run, &tablet);
            Ok(Linked { tablet: tablet.tablet_id, outcome })
        };
        tablets.into_iter().map(link).collect::<Result<Vec<Linked>>>()
    });
    all.await.map_err(|error| Error::bug(format!("snapshots of job {job}: {error}")))?
}

fn link_one(store: &TabletStore, job: u64, run: &RunId, tablet: &v1::TabletVersion) -> Result<Snapshot> {
    let found = store.find(tablet.tablet_id)?;
    // The files stay until they are linked, also when compaction replaces them meanwhile.
    let (meta, _pin) = found.pinned(tablet.version, |_| true)?;
    let disk = found.disk();
    let path = disk.layout().snapshot_tablet(job, tablet.tablet_id);
    if is_made(&path, &meta)? {
        return Ok(Snapshot::of(&meta, None));
    }
    let tmp = run.tmp(&path);
    if let Err((file, error)) = link_files(&found.dir(), &meta, &tmp) {
        if let Some(file) = file.filter(|_| matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound)) {
            // Marks the tablet bad if it is; the snapshot fails either way.
            let _ = store.check_file(&found, file);
        }
        return Err(error).context(|| format!("snapshot of tablet {}", tablet.tablet_id));
    }
    Ok(Snapshot::of(&meta, Some(Pending { root: disk.root().to_owned(), tmp, path })))
}

impl Snapshot {
    fn of(meta: &TabletMeta, pending: Option<Pending>) -> Snapshot {
        Snapshot { files: meta.files().count() as u64, bytes: meta.bytes(), rows: meta.rows(), pending }
    }
}

/// Whether an earlier run made it; anything else under its name is removed.
fn is_made(path: &Path, wanted: &TabletMeta) -> Result<bool> {
    match TabletMeta::load(&meta_file(path)) {
        Ok(found) if found.version == wanted.version => Ok(true),
        Ok(_) | Err(_) => fsx::remove(path).map(|()| false),
    }
}

/// Link all files and write the meta beside them; an error comes with the file it is about.
fn link_files<'a>(from: &Path, meta: &'a TabletMeta, into: &Path) -> Result<(), (Option<&'a DataFile>, Error)> {
    fs::create_dir_all(into)
        .context(|| format!("create directory {}", into.display()))
        .map_err(|error| (None, error))?;
    for file in meta.files() {
        link_file(from, file, into).map_err(|error| (Some(file), error))?;
    }
    let copy = meta_file(into);
    let written =
        meta.encode().and_then(|bytes| fs::write(&copy, bytes).context(|| format!("write {}", copy.display())));
    written.map_err(|error| (None, error))
}

fn link_file(from: &Path, file: &DataFile, into: &Path) -> Result<()> {
    let linked = into.join(&file.name);
    fsx::link(&from.join(&file.name), &linked)?;
    let bytes = fs::metadata(&linked).context(|| format!("look at {}", linked.display()))?.len();
    if bytes == file.bytes {
        return Ok(());
    }
    let name = from.join(&file.name);
    Err(Error::corrupt(format!("file {} has {bytes} bytes, but {} were written", name.display(), file.bytes)))
}
