//! One merge: some neighbouring rowsets of a tablet become one.
//!
//! Steps: merge the rows into a new file beside the others, sync it; then, with publishing held up, note the rowsets as
//! replaced, replace the meta durably, and let readers see it. A crash before the meta is replaced leaves a file that no
//! meta names, which the next start removes; after it the merge is done. Nothing is merged twice or lost: the meta names
//! either the old rowsets or the new one.
//!
//! Readers of the old rowsets hold their files; versions within them can be read until `replaced_keep_s` is over.

use super::{Compaction, policy};
use crate::sync;
use crate::tablet::layout::meta_file;
use crate::tablet::rows::ReadPlan;
use crate::tablet::rowset::FileWriter;
use crate::tablet::run::Origin;
use crate::tablet::{DataFile, Rowset, Tablet, TabletMeta};
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result, fsx};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest pause between looks at whether the process stops.
const MAX_PAUSE: Duration = Duration::from_millis(200);

/// Merge once; whether there was something to merge. Blocking.
pub(super) fn once(compaction: &Compaction, id: u64) -> Result<bool> {
    let Some(tablet) = compaction.store.tablet(id) else { return Ok(false) };
    let (meta, pin) = tablet.hold();
    let Some(window) = policy::choose(&meta) else { return Ok(false) };
    let inputs = meta.rowsets[window].to_vec();
    let bytes: u64 = inputs.iter().flat_map(|rowset| &rowset.files).map(|file| file.bytes).sum();
    if tablet.disk().space().1 <= bytes {
        return Err(Error::no_space(format!("a merge of {bytes} bytes in {}", tablet.dir().display())));
    }
    let origin = Origin { store: compaction.store.clone(), pin: Arc::new(pin) };
    let output = write(compaction, &tablet, (&meta, origin), &inputs)?;
    let (from, to) = (inputs[0].from, inputs[inputs.len() - 1].to);
    let rowsets = inputs.len();
    install(compaction, &tablet, inputs, ((from, to), output))?;
    compaction.metrics.compactions.inc();
    compaction.metrics.compaction_bytes.inc_by(bytes);
    tracing::debug!(tablet = id, from, to, rowsets, bytes, "rowsets merged");
    Ok(true)
}

/// A file that no meta names yet: removed when dropped before it is kept.
struct Unnamed {
    path: PathBuf,
    file: DataFile,
    kept: bool,
}

impl Unnamed {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if !self.kept {
            remove(&self.path);
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = fsx::remove(path) {
        tracing::warn!(%error, "a file that no meta names stays until the next start");
    }
}

/// Write the rows of the inputs as one file, durable; `None` when they have none.
fn write(
    compaction: &Compaction,
    tablet: &Arc<Tablet>,
    (meta, origin): (&TabletMeta, Origin),
    inputs: &[Rowset],
) -> Result<Option<Unnamed>> {
    let rows: u64 = inputs.iter().map(|rowset| rowset.rows).sum();
    if rows == 0 {
        return Ok(None);
    }
    let columns: Vec<usize> = (0..meta.schema.columns.len()).collect();
    let plan = ReadPlan::new(origin, meta, &columns, meta.schema.arrow())?;
    let mut writer = FileWriter::create(&tablet.dir(), &meta.schema)?;
    let path = writer.path().to_owned();
    let mut pace = Pace::new(compaction, inputs, rows);
    let fill = || -> Result<()> {
        for batch in plan.merge(inputs)? {
            let batch = batch?;
            writer.write(&batch)?;
            pace.keep(batch.num_rows() as u64)?;
        }
        Ok(())
    };
    if let Err(error) = fill() {
        remove(&path);
        return Err(error);
    }
    let written = writer.finish().inspect_err(|_| remove(&path))?;
    let output = Unnamed { path, file: written, kept: false };
    let sync = File::open(&output.path).and_then(|file| file.sync_all());
    sync.context(|| format!("sync {}", output.path.display()))?;
    fsx::sync_dir(&tablet.dir())?;
    // Dropping it removes the file.
    Ok(Some(output).filter(|output| output.file.rows > 0))
}

/// Put the merged rowset in the place of its inputs, unless the tablet is another one by now.
fn install(
    compaction: &Compaction,
    tablet: &Arc<Tablet>,
    inputs: Vec<Rowset>,
    ((from, to), output): ((u64, u64), Option<Unnamed>),
) -> Result<()> {
    let files: Vec<DataFile> = output.iter().map(|output| output.file.clone()).collect();
    let had_rows = inputs.iter().any(|rowset| !rowset.files.is_empty() || rowset.emptied);
    let rows = files.iter().map(|file| file.rows).sum();
    let merged = Rowset { from, to, rows, emptied: files.is_empty() && had_rows, files };
    let store = &compaction.store;
    let _no_publish = sync::lock(store.publishing());
    if !store.tablet(tablet.id()).is_some_and(|now| Arc::ptr_eq(&now, tablet)) {
        return Err(Error::cancelled(format!("tablet {} was dropped or replaced meanwhile", tablet.id())));
    }
    let mut meta = (*tablet.meta()).clone();
    let place = meta.rowsets.iter().position(|rowset| rowset.from == merged.from).unwrap_or(meta.rowsets.len());
    if meta.rowsets.get(place..place + inputs.len()) != Some(inputs.as_slice()) {
        return Err(Error::cancelled(format!("the rowsets of tablet {} changed meanwhile", tablet.id())));
    }
    meta.rowsets.splice(place..place + inputs.len(), [merged]);
    tablet.forget_deletes(&mut meta, &inputs);
    meta.check()?;
    tablet.begin_replacing(&inputs)?;
    // From here on a meta may name it, even when writing that fails: what is left over then goes at the next start.
    output.into_iter().for_each(Unnamed::keep);
    fsx::write_durably(&meta_file(&tablet.dir()), &meta.encode()?)?;
    tablet.finish_replacing(inputs, meta);
    store.changed();
    Ok(())
}

/// Keeps a merge to its rate.
struct Pace<'a> {
    compaction: &'a Compaction,
    began: Instant,
    /// How long all of it takes at least.
    whole: Duration,
    rows: u64,
    done: u64,
}

impl Pace<'_> {
    fn new<'a>(compaction: &'a Compaction, inputs: &[Rowset], rows: u64) -> Pace<'a> {
        let bytes: u64 = inputs.iter().flat_map(|rowset| &rowset.files).map(|file| file.bytes).sum();
        let rate = compaction.config.compaction_mib_s.get() << 20;
        // What is read is written again.
        let whole = if rate == 0 { 0.0 } else { 2.0 * bytes as f64 / rate as f64 };
        Pace { compaction, began: Instant::now(), whole: Duration::from_secs_f64(whole), rows, done: 0 }
    }

    /// More rows are done: wait until they may be. Cancelled when the process stops.
    fn keep(&mut self, rows: u64) -> Result<()> {
        self.done += rows;
        let due = self.whole.mul_f64((self.done as f64 / self.rows as f64).min(1.0));
        loop {
            if self.compaction.shutdown.is_begun() {
                return Err(Error::cancelled("this backend stops"));
            }
            match due.checked_sub(self.began.elapsed()) {
                Some(early) if !early.is_zero() => std::thread::sleep(early.min(MAX_PAUSE)),
                _ => return Ok(()),
            }
        }
    }
}
