//! Download tablets of a snapshot: read the manifest parts, plan few long reads, write files, verify each blob, and give
//! every tablet its new ids.
//!
//! Part by part: a part is read to its end (only then is it known to be whole), its tablets are made below
//! `restore/<job>/<tablet>-<run>.tmp`, synced together and renamed to `restore/<job>/<tablet>`. A tablet under its own
//! name is complete, so a repeated task takes up where the last one stopped; what it finds half-made is removed.
//!
//! Tablets at version 1 never took a row and are in no manifest: they are made empty.

use crate::snapshot::{commit, find_in};
use crate::tablet::layout::{META, meta_file};
use crate::tablet::meta::FIRST_VERSION;
use crate::tablet::{DataFile, Deletion, Disk, Rowset, TabletMeta, TabletStore};
use crate::task::context::TaskContext;
use crate::transfer::limits::{BYTES_PER_BATCH, FILES_PER_BATCH, PACK_SLOTS, PACKS_PER_TASK, SPARE_BYTES};
use crate::transfer::plan::{Fetch, Want, fetches};
use crate::transfer::receive::{Targets, receive};
use crate::transfer::{RunId, blocking, open, or_cancelled, parse_tmp};
use coffer_proto::v1;
use coffer_proto::v1::task_result::Output;
use coffer_repo::{DeleteRecord, PackId, Repository, RowsetRecord, SnapshotId, TabletRecord};
use coffer_stdx::error::Context;
use coffer_stdx::fsx::Batch;
use coffer_stdx::{Error, Result, fsx};
use coffer_table::Schema;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// Run the task.
pub async fn run(ctx: &TaskContext, work: v1::DownloadTablets) -> Result<Output> {
    or_cancelled(ctx, download(ctx, work)).await.map(Output::Downloaded)
}

async fn download(ctx: &TaskContext, work: v1::DownloadTablets) -> Result<v1::Downloaded> {
    let repository = open(ctx, work.storage.as_ref(), &work.repository).await?;
    let snapshot = SnapshotId::new(&work.label, &work.timestamp)?;
    let (mut wanted, mut done) = Wanted::new(ctx, work.job_id, work.tablets).await?;
    let downloader = Downloader { ctx, job: work.job_id, repository, snapshot, run: RunId::new() };
    downloader.make_empty(&mut wanted, &mut done).await?;
    for name in &work.manifests {
        if wanted.by_source.is_empty() {
            break;
        }
        let found = downloader.read_part(name, &mut wanted).await?;
        for batch in batches(found) {
            downloader.fetch(batch, &mut done).await?;
        }
    }
    match wanted.by_source.into_values().flatten().min_by_key(|tablet| tablet.source_tablet_id) {
        None => Ok(done),
        Some(missing) => Err(Error::corrupt(format!(
            "tablet {} of snapshot {} is in none of its {} manifest parts, though it has version {}",
            missing.source_tablet_id,
            downloader.snapshot,
            work.manifests.len(),
            missing.version
        ))),
    }
}

/// The tablets still to be made, by the tablet in the snapshot.
struct Wanted {
    by_source: HashMap<u64, Vec<v1::RestoreTablet>>,
    empty: Vec<v1::RestoreTablet>,
}

impl Wanted {
    /// Leave out what an earlier run finished.
    async fn new(ctx: &TaskContext, job: u64, tablets: Vec<v1::RestoreTablet>) -> Result<(Wanted, v1::Downloaded)> {
        let store = Arc::clone(&ctx.store);
        blocking("restored tablets", move || {
            let ids: HashSet<u64> = tablets.iter().map(|tablet| tablet.tablet_id).collect();
            remove_half_made(&store, job, &ids)?;
            let mut wanted = Wanted { by_source: HashMap::new(), empty: Vec::new() };
            let mut done = v1::Downloaded::default();
            for tablet in tablets {
                match made(&store, job, &tablet)? {
                    Some(meta) => count(&mut done, &meta),
                    None if tablet.version <= FIRST_VERSION => wanted.empty.push(tablet),
                    None => wanted.by_source.entry(tablet.source_tablet_id).or_default().push(tablet),
                }
            }
            Ok((wanted, done))
        })
        .await
    }
}

/// Remove what earlier runs of this task left of its tablets.
fn remove_half_made(store: &TabletStore, job: u64, tablets: &HashSet<u64>) -> Result<()> {
    for disk in store.disks() {
        let folder = disk.layout().restore_job(job);
        fsx::create_dir(&folder)?;
        for entry in fs::read_dir(&folder).context(|| format!("list {}", folder.display()))? {
            let path = entry.context(|| format!("list {}", folder.display()))?.path();
            if parse_tmp(&path).is_some_and(|tablet| tablets.contains(&tablet)) {
                fsx::remove(&path)?;
            }
        }
    }
    Ok(())
}

fn count(done: &mut v1::Downloaded, meta: &TabletMeta) {
    done.tablets += 1;
    done.files += meta.files().count() as u64;
    done.bytes += meta.bytes();
}

/// The tablet, when an earlier run made it, whether or not it is in force by now.
fn made(store: &TabletStore, job: u64, tablet: &v1::RestoreTablet) -> Result<Option<TabletMeta>> {
    if let Some(active) = store.tablet(tablet.tablet_id) {
        active.check_owner(tablet.table_id, tablet.partition_id)?;
        return Ok(Some((*active.meta()).clone()));
    }
    let Some((_, dir)) = find_in(store, |layout| layout.restore_tablet(job, tablet.tablet_id))? else {
        return Ok(None);
    };
    match TabletMeta::load(&meta_file(&dir)) {
        Ok(meta)
            if (meta.version, meta.table_id, meta.partition_id)
                == (tablet.version, tablet.table_id, tablet.partition_id) =>
        {
            Ok(Some(meta))
        }
        Ok(_) | Err(_) => fsx::remove(&dir).map(|()| None),
    }
}

/// A tablet to be made, and what the manifest says of it.
struct Found {
    target: v1::RestoreTablet,
    record: Arc<TabletRecord>,
}

/// Cut what was found, so that much is kept when a later batch fails, and little is planned at once.
fn batches(found: Vec<Found>) -> Vec<Vec<Found>> {
    let mut batches: Vec<Vec<Found>> = Vec::new();
    let (mut bytes, mut files) = (0, 0);
    for tablet in found {
        if batches.is_empty() || bytes >= BYTES_PER_BATCH || files >= FILES_PER_BATCH {
            batches.push(Vec::new());
            (bytes, files) = (0, 0);
        }
        bytes += tablet.record.bytes();
        files += tablet.record.files().count();
        if let Some(batch) = batches.last_mut() {
            batch.push(tablet);
        }
    }
    batches
}

/// A tablet whose files are being fetched.
struct Made {
    root: PathBuf,
    /// Where it is now, and where it will be.
    tmp: PathBuf,
    dir: PathBuf,
    meta: TabletMeta,
}

struct Downloader<'a> {
    ctx: &'a TaskContext,
    job: u64,
    repository: Repository,
    snapshot: SnapshotId,
    run: RunId,
}

impl Downloader<'_> {
    /// Make the tablets that never took a row.
    async fn make_empty(&self, wanted: &mut Wanted, done: &mut v1::Downloaded) -> Result<()> {
        let record = Arc::new(TabletRecord { version: FIRST_VERSION, ..TabletRecord::default() });
        let found = wanted.empty.drain(..).map(|target| Found { target, record: Arc::clone(&record) }).collect();
        self.fetch(found, done).await
    }

    /// What a manifest part says of wanted tablets; the part is read to its end and verified.
    async fn read_part(&self, name: &str, wanted: &mut Wanted) -> Result<Vec<Found>> {
        let mut reader = self.repository.manifest(&self.snapshot, name).await?;
        let mut found = Vec::new();
        while let Some(record) = reader.next().await? {
            let Some(targets) = wanted.by_source.remove(&record.tablet_id) else { continue };
            let record = Arc::new(record);
            found.extend(targets.into_iter().map(|target| Found { target, record: Arc::clone(&record) }));
        }
        Ok(found)
    }

    /// Fetch all files of these tablets, then put their metas beside them and give them their names.
    async fn fetch(&self, found: Vec<Found>, done: &mut v1::Downloaded) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        let (made, targets, plan) = self.plan(found).await?;
        let (bytes, files) = made
            .iter()
            .fold((0, 0), |(bytes, files), made| (bytes + made.meta.bytes(), files + made.meta.files().count() as u64));
        self.ctx.progress.add_total(bytes, files);
        let targets = Arc::new(targets);
        stream::iter(plan)
            .map(|fetch| async {
                // The semaphore is never closed.
                let _slot = PACK_SLOTS.acquire().await.map_err(|error| Error::bug(error.to_string()))?;
                receive(&self.repository, fetch, Arc::clone(&targets), self.ctx.progress.clone()).await
            })
            .buffer_unordered(PACKS_PER_TASK)
            .try_collect::<()>()
            .await?;
        made.iter().for_each(|made| count(done, &made.meta));
        self.finish(made).await
    }

    /// Choose a disk for each tablet, make its directory, and plan all reads.
    async fn plan(&self, found: Vec<Found>) -> Result<(Vec<Made>, Targets, Vec<Fetch>)> {
        let (store, job, ctx, run) = (Arc::clone(&self.ctx.store), self.job, self.ctx.clone(), self.run.clone());
        let plan = move || {
            let (mut made, mut targets, mut wants) = (Vec::new(), Targets::default(), Vec::new());
            let mut placing = Placing { room: Room::new(&store), job, run };
            for Found { target, record } in found {
                ctx.check()?;
                let tablet = placing.start(&target, &record)?;
                targets.dirs.push(tablet.tmp.clone());
                for file in record.files() {
                    let want = Want {
                        offset: file.offset,
                        length: file.length,
                        checksum: file.checksum()?,
                        file: targets.files.len(),
                    };
                    wants.push((file.pack_id()?, want));
                    targets.files.push((targets.dirs.len() as u32 - 1, file.name.as_str().into()));
                }
                made.push(tablet);
            }
            Ok::<(Vec<Made>, Targets, Vec<(PackId, Want)>), Error>((made, targets, wants))
        };
        let (made, targets, wants) = blocking("restore plan", plan).await?;
        Ok((made, targets, fetches(wants)))
    }

    async fn finish(&self, made: Vec<Made>) -> Result<()> {
        let batches = blocking("restored metas", move || {
            let mut batches: BTreeMap<PathBuf, Batch> = BTreeMap::new();
            for Made { root, tmp, dir, meta } in &made {
                let path = meta_file(tmp);
                fs::write(&path, meta.encode()?).context(|| format!("write {}", path.display()))?;
                batches.entry(root.clone()).or_default().rename(tmp, dir);
            }
            Ok(batches)
        });
        commit(batches.await?).await
    }
}

/// Space on the disks, less what is planned and not written yet.
struct Room {
    disks: Vec<(Arc<Disk>, u64)>,
}

impl Room {
    fn new(store: &TabletStore) -> Room {
        let usable = store.disks().iter().filter(|disk| disk.usable());
        Room { disks: usable.map(|disk| (disk.clone(), disk.space().1.saturating_sub(SPARE_BYTES))).collect() }
    }

    /// The disk with the most space left, if `bytes` fit.
    fn take(&mut self, bytes: u64) -> Result<Arc<Disk>> {
        let Some((disk, left)) = self.disks.iter_mut().max_by_key(|(_, left)| *left) else {
            return Err(Error::unavailable("no data directory of this backend works"));
        };
        if *left < bytes {
            let root = disk.root().display();
            return Err(Error::no_space(format!(
                "{bytes} bytes are needed, {root} has {left} left: free or add space"
            )));
        }
        *left -= bytes;
        Ok(disk.clone())
    }
}

/// Gives tablets a place.
struct Placing {
    room: Room,
    job: u64,
    run: RunId,
}

impl Placing {
    /// Check what the manifest says of a tablet and make an empty directory for it.
    fn start(&mut self, target: &v1::RestoreTablet, record: &TabletRecord) -> Result<Made> {
        let of = || format!("tablet {} of the snapshot, restored as {}", target.source_tablet_id, target.tablet_id);
        let meta = new_meta(target, record).context(of)?;
        let disk = self.room.take(meta.bytes()).context(of)?;
        let dir = disk.layout().restore_tablet(self.job, target.tablet_id);
        let tmp = self.run.tmp(&dir);
        fs::create_dir(&tmp).context(|| format!("create directory {}", tmp.display()))?;
        Ok(Made { root: disk.root().to_owned(), tmp, dir, meta })
    }
}

/// The meta of the restored tablet: new ids, the rowsets as they were.
fn new_meta(target: &v1::RestoreTablet, record: &TabletRecord) -> Result<TabletMeta> {
    if record.version != target.version {
        return Err(Error::corrupt(format!(
            "its manifest has version {}, but its partition was backed up at version {}",
            record.version, target.version
        )));
    }
    let schema: Schema =
        serde_json::from_str(&target.schema).map_err(|error| Error::bug(format!("schema of the task: {error}")))?;
    let meta = TabletMeta {
        tablet_id: target.tablet_id,
        table_id: target.table_id,
        partition_id: target.partition_id,
        schema,
        version: target.version,
        rowsets: record.rowsets.iter().map(rowset).collect::<Result<_>>()?,
        deletes: record.deletes.iter().map(deletion).collect::<Result<_>>()?,
    };
    meta.check()?;
    Ok(meta)
}

fn deletion(record: &DeleteRecord) -> Result<Deletion> {
    let predicate = serde_json::from_str(&record.predicate).map_err(|error| {
        Error::corrupt(format!("the conditions of a DELETE in its manifest cannot be read: {error}"))
    })?;
    Ok(Deletion { version: record.version, predicate })
}

fn rowset(record: &RowsetRecord) -> Result<Rowset> {
    let file = |file: &coffer_repo::FileRecord| -> Result<DataFile> {
        check_file_name(&file.name)?;
        let blake3 = file.checksum()?.to_string();
        Ok(DataFile { name: file.name.clone(), bytes: file.length, rows: file.rows, blake3 })
    };
    Ok(Rowset {
        from: record.start_version,
        to: record.end_version,
        rows: record.rows,
        files: record.files.iter().map(file).collect::<Result<_>>()?,
        // Nobody asks a restored tablet for a version before the one it was restored at.
        emptied: false,
    })
}

/// A manifest comes from outside: its names must stay in the tablet's directory and not hide its meta.
fn check_file_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name != META && !name.starts_with('.') && (1..=200).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::corrupt(format!("its manifest has a file named '{}', which no tablet has", name.escape_debug())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_stay_in_the_directory() {
        for name in ["a.parquet", "0_1-x.parquet"] {
            check_file_name(name).unwrap();
        }
        for name in ["", "meta", "..", ".hidden", "a/b", "/etc/x", "a\0", "ä", &"x".repeat(201)] {
            assert!(check_file_name(name).is_err(), "{name}");
        }
    }
}
