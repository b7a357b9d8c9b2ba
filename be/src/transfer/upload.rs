//! Upload the snapshots of a job: plan packs, stream several at once, then write one manifest part.
//!
//! Every local file is read once: hashed while it is sent, and refused when it is not what was written; the tablet is bad
//! from then on, as when a scan or the scrub meets the damage. Tablets are taken
//! in batches, so that memory does not grow with the size of a task.
//!
//! The last thing done is a small local file, `snapshot/<job>/part-<n>.json`, with the result. A crash before it, and
//! also a repeat before it, uploads again under new pack names (what the first try left is in the job's pack folder and
//! goes away with the job if it fails, or stays unused if it succeeds); a repeat after it answers from the file.

use crate::sync;
use crate::task::context::{ProgressSink, TaskContext};
use crate::transfer::limits::{FILES_PER_BATCH, ON_THE_WAY_BYTES, PACK_SLOTS, PACKS_PER_TASK};
use crate::transfer::source::{self, FileAt, Source};
use crate::transfer::{RunId, blocking, open, or_cancelled};
use coffer_proto::v1;
use coffer_proto::v1::task_result::Output;
use coffer_repo::body::{entries, packed_bytes};
use coffer_repo::plan::PackPlan;
use coffer_repo::{
    Checksum, ManifestWriter, PackBody, PackFile, PackId, PackPrefix, Repository, SnapshotId, TabletRecord, WrittenPart,
};
use coffer_stdx::error::Context;
use coffer_stdx::retry::Policy;
use coffer_stdx::{Error, ErrorKind, Result, fsx};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio_util::io::ReaderStream;

/// Run the task.
pub async fn run(ctx: &TaskContext, work: v1::UploadSnapshot) -> Result<Output> {
    let upload = async {
        let repository = open(ctx, work.storage.as_ref(), &work.repository).await?;
        upload(ctx, repository, work).await
    };
    or_cancelled(ctx, upload).await.map(Output::Uploaded)
}

pub(super) async fn upload(
    ctx: &TaskContext,
    repository: Repository,
    work: v1::UploadSnapshot,
) -> Result<v1::Uploaded> {
    let local = LocalPart::new(ctx, &work)?;
    let snapshot = SnapshotId::new(&work.label, &work.timestamp)?;
    if let Some(done) = local.done(&repository, &snapshot).await? {
        return Ok(done);
    }
    let uploader = Uploader {
        ctx,
        job: work.job_id,
        repository,
        snapshot,
        part: work.part,
        prefix: work.pack_prefix.parse()?,
        target: if work.pack_target_bytes == 0 {
            coffer_repo::plan::DEFAULT_TARGET_BYTES
        } else {
            work.pack_target_bytes
        },
    };
    let (written, packs) = uploader.tablets(&work.tablet_ids, &local.spool).await?;
    uploader.manifest(&written, &local.spool).await?;
    let counts = written.counts;
    let uploaded = Done {
        request: local.request,
        manifest: written.name,
        manifest_bytes: written.bytes,
        tablets: counts.tablets,
        blobs: counts.files,
        bytes: counts.bytes,
        packs,
        rows: counts.rows,
    };
    local.finish(&uploaded).await?;
    tracing::info!(job = work.job_id, part = work.part, packs, bytes = uploaded.bytes, "snapshot part uploaded");
    Ok(uploaded.into_message())
}

struct Uploader<'a> {
    ctx: &'a TaskContext,
    job: u64,
    repository: Repository,
    snapshot: SnapshotId,
    part: u32,
    prefix: PackPrefix,
    target: u64,
}

impl Uploader<'_> {
    /// Upload all tablets and write the manifest part to `spool`; also the number of packs.
    async fn tablets(&self, tablets: &[u64], spool: &Path) -> Result<(WrittenPart, u64)> {
        let (bytes, files) = self.totals(tablets).await?;
        self.ctx.progress.set_total(bytes, files);
        let (snapshot, part, path) = (self.snapshot.clone(), self.part, spool.to_owned());
        let mut writer = blocking("manifest", move || {
            let file = File::create(&path).context(|| format!("create {}", path.display()))?;
            ManifestWriter::new(BufWriter::new(file), &snapshot, part)
        })
        .await?;
        let (mut rest, mut packs) = (tablets, 0);
        while !rest.is_empty() {
            let (sources, taken) = self.load(rest).await?;
            rest = &rest[taken..];
            let (sources, made) = self.batch(sources).await?;
            packs += made;
            writer = blocking("manifest", move || {
                sources.into_iter().try_for_each(|source| writer.tablet(source.record))?;
                Ok(writer)
            })
            .await?;
        }
        let written = blocking("manifest", move || writer.finish().map(|(written, _)| written)).await?;
        Ok((written, packs))
    }

    /// Bytes and files of everything, for progress.
    async fn totals(&self, tablets: &[u64]) -> Result<(u64, u64)> {
        let (store, job, ctx, tablets) = (Arc::clone(&self.ctx.store), self.job, self.ctx.clone(), tablets.to_vec());
        blocking("snapshot sizes", move || {
            tablets.into_iter().try_fold((0, 0), |(bytes, files), tablet| {
                ctx.check()?;
                let TabletRecord { rowsets, .. } = Source::load(&store, job, tablet)?.record;
                let all = rowsets.iter().flat_map(|rowset| &rowset.files);
                Ok(all.fold((bytes, files), |(bytes, files), file| (bytes + file.length, files + 1)))
            })
        })
        .await
    }

    /// The next tablets, as many as make up a batch, and how many that are.
    async fn load(&self, tablets: &[u64]) -> Result<(Vec<Source>, usize)> {
        let (store, job, tablets) = (Arc::clone(&self.ctx.store), self.job, tablets.to_vec());
        blocking("snapshots", move || {
            let (mut sources, mut files) = (Vec::new(), 0);
            for tablet in tablets {
                let source = Source::load(&store, job, tablet)?;
                files += source.record.files().count();
                sources.push(source);
                if files >= FILES_PER_BATCH {
                    break;
                }
            }
            let taken = sources.len();
            Ok((sources, taken))
        })
        .await
    }

    /// Upload all files of these tablets and note where they went; also the number of packs.
    async fn batch(&self, mut sources: Vec<Source>) -> Result<(Vec<Source>, u64)> {
        let files = source::files(&sources);
        let sizes = files.iter().map(|at| source::record(&sources, *at).length);
        let plan = PackPlan::new(sizes, self.target);
        let packs = plan.packs.len() as u64;
        let from = &sources;
        let places: Vec<(PackId, Vec<(FileAt, u64)>)> = stream::iter(plan.packs)
            .map(|pack| {
                let pack: Vec<FileAt> = pack.into_iter().map(|index| files[index]).collect();
                self.pack(from, pack)
            })
            .buffer_unordered(PACKS_PER_TASK)
            .try_collect()
            .await?;
        for (pack, places) in places {
            for (at, offset) in places {
                source::place(&mut sources, at, &pack, offset);
            }
        }
        Ok((sources, packs))
    }

    /// Upload one pack; a transient failure starts it again under a new name.
    async fn pack(&self, sources: &[Source], pack: Vec<FileAt>) -> Result<(PackId, Vec<(FileAt, u64)>)> {
        let files = pack.iter().map(|at| source::pack_file(sources, *at)).collect::<Result<Vec<PackFile>>>()?;
        // The semaphore is never closed.
        let _slot = PACK_SLOTS.acquire().await.map_err(|error| Error::bug(error.to_string()))?;
        let id = match Policy::STORE.run(|| self.try_pack(&files)).await {
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                self.blame(sources, &pack).await?;
                return Err(error);
            }
            other => other?,
        };
        let places = pack.into_iter().zip(entries(&files)).map(|(at, entry)| (at, entry.offset)).collect();
        Ok((id, places))
    }

    /// Bad bytes were met: those of tablets here make their tablets bad, so that they are told and repaired.
    async fn blame(&self, sources: &[Source], pack: &[FileAt]) -> Result<()> {
        let files: Vec<(u64, String)> = pack.iter().map(|at| source::name(sources, *at)).collect();
        let store = Arc::clone(&self.ctx.store);
        blocking("check of files", move || {
            for (tablet, name) in files {
                let Some(tablet) = store.tablet(tablet) else { continue };
                let meta = tablet.meta();
                // The first one ends the upload, others are found by the next.
                if meta
                    .files()
                    .find(|file| file.name == name)
                    .is_some_and(|file| store.check_file(&tablet, file).is_err())
                {
                    break;
                }
            }
            Ok(())
        })
        .await
    }

    async fn try_pack(&self, files: &[PackFile]) -> Result<PackId> {
        let id = PackId::random(self.prefix, self.part as u8);
        let attempt = Attempt::new(&self.ctx.progress);
        let sent = attempt.clone();
        let body = PackBody::new(files.to_vec(), move |bytes| sent.add(bytes));
        match self.repository.put_pack(&id, body, packed_bytes(files)).await {
            Ok(()) => {
                attempt.done();
                self.ctx.progress.add(0, files.len() as u64);
                Ok(id)
            }
            Err(error) => {
                attempt.take_back();
                if error.kind() == ErrorKind::AlreadyExists {
                    // Not known to be this one's: it stays, and the name is drawn again.
                    return Err(Error::unavailable(error.message()));
                }
                // It may be there in full with only the answer lost; unused, it would stay as long as the snapshot.
                if let Err(left) = self.repository.delete_pack(&id).await {
                    tracing::warn!(job = self.job, pack = %id, error = %left, "unused pack stays in the repository");
                }
                Err(error)
            }
        }
    }

    /// Upload the manifest part.
    async fn manifest(&self, written: &WrittenPart, spool: &Path) -> Result<()> {
        let put = || async {
            let file = tokio::fs::File::open(spool).await.context(|| format!("open {}", spool.display()))?;
            let name = spool.display().to_string();
            let body = ReaderStream::with_capacity(file, coffer_repo::body::CHUNK_BYTES)
                .map(move |chunk| chunk.context(|| format!("read {name}")));
            self.repository.put_manifest(&self.snapshot, &written.name, body.boxed(), written.bytes).await
        };
        Policy::STORE.run(put).await
    }
}

/// Progress of one try at a pack. The body reads ahead in a thread of its own, which may go on for a moment after the try
/// has failed; what it reads then no longer counts. The last [`ON_THE_WAY_BYTES`] read may still be in memory here and in
/// the connection: they count when the pack is stored, so that a slow storage does not look fast.
#[derive(Clone)]
struct Attempt {
    progress: ProgressSink,
    /// Bytes read so far; `None` once the try has ended.
    read: Arc<Mutex<Option<u64>>>,
}

impl Attempt {
    fn new(progress: &ProgressSink) -> Attempt {
        Attempt { progress: progress.clone(), read: Arc::new(Mutex::new(Some(0))) }
    }

    fn add(&self, bytes: u64) {
        if let Some(read) = sync::lock(&self.read).as_mut() {
            let before = counted(*read);
            *read += bytes;
            self.progress.add(counted(*read) - before, 0);
        }
    }

    /// All of it is stored.
    fn done(&self) {
        if let Some(read) = sync::lock(&self.read).take() {
            self.progress.add(read - counted(read), 0);
        }
    }

    fn take_back(&self) {
        if let Some(read) = sync::lock(&self.read).take() {
            self.progress.take_back(counted(read));
        }
    }
}

/// How many of so many bytes read have surely left.
fn counted(read: u64) -> u64 {
    read.saturating_sub(ON_THE_WAY_BYTES)
}

/// The local files of one upload task.
struct LocalPart {
    /// BLAKE3 of what the task asks for: a result is only good for the same request.
    request: Checksum,
    /// The result.
    path: PathBuf,
    /// The manifest part while its name is not known.
    spool: PathBuf,
}

/// What the result file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    request: Checksum,
    manifest: String,
    manifest_bytes: u64,
    tablets: u64,
    blobs: u64,
    bytes: u64,
    packs: u64,
    rows: u64,
}

impl Done {
    fn into_message(self) -> v1::Uploaded {
        let Done { request: _, manifest, manifest_bytes, tablets, blobs, bytes, packs, rows } = self;
        v1::Uploaded { manifest, manifest_bytes, tablets, blobs, bytes, packs, rows }
    }
}

impl LocalPart {
    fn new(ctx: &TaskContext, work: &v1::UploadSnapshot) -> Result<LocalPart> {
        let disk = ctx.store.disks().first().ok_or_else(|| Error::bug("a backend without data directories"))?;
        let path = disk.layout().snapshot_job(work.job_id).join(format!("part-{}.json", work.part));
        let v1::UploadSnapshot { repository, label, timestamp, part, pack_prefix, .. } = work;
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{repository}\n{label}\n{timestamp}\n{part}\n{pack_prefix}\n").as_bytes());
        for tablet in &work.tablet_ids {
            hasher.update(&tablet.to_le_bytes());
        }
        Ok(LocalPart { request: Checksum::finish(&hasher), spool: RunId::new().tmp(&path), path })
    }

    /// The result of an earlier run of the same task, if its manifest part is still in the repository.
    async fn done(&self, repository: &Repository, snapshot: &SnapshotId) -> Result<Option<v1::Uploaded>> {
        let path = self.path.clone();
        let read = blocking("upload result", move || {
            let folder = path.parent().map_or(Ok(()), fsx::create_dir);
            folder.map(|()| std::fs::read(&path).ok())
        });
        let Some(bytes) = read.await? else { return Ok(None) };
        // A result that cannot be read was cut by a crash: upload again.
        let Ok(done) = serde_json::from_slice::<Done>(&bytes) else { return Ok(None) };
        let valid = done.request == self.request
            && repository.has_manifest(snapshot, &done.manifest, done.manifest_bytes).await?;
        Ok(valid.then(|| done.into_message()))
    }

    async fn finish(&self, done: &Done) -> Result<()> {
        let bytes = serde_json::to_vec(done).map_err(|error| Error::bug(format!("write JSON: {error}")))?;
        let (path, spool) = (self.path.clone(), self.spool.clone());
        blocking("upload result", move || {
            fsx::write_durably(&path, &bytes)?;
            fsx::remove(&spool)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_pack_count_on_its_way_and_once_however_often_it_is_tried() {
        let progress = ProgressSink::default();
        let done = || progress.get().bytes_done;
        for _ in 0..2 {
            let attempt = Attempt::new(&progress);
            attempt.add(ON_THE_WAY_BYTES);
            assert_eq!(done(), 0, "may all be in memory");
            attempt.add(7);
            attempt.clone().add(3);
            assert_eq!(done(), 10);
            attempt.take_back();
            attempt.add(5);
            assert_eq!(done(), 0);
        }
        let attempt = Attempt::new(&progress);
        attempt.add(ON_THE_WAY_BYTES + 10);
        attempt.done();
        attempt.take_back();
        assert_eq!(done(), ON_THE_WAY_BYTES + 10);
    }
}
