//! Publishing: staged rows become part of their tablets, each tablet exactly one version further.
//!
//! Per disk: link the staged files into the tablets (copy those that are on another disk), write all new metas under temporary names, sync once, rename the
//! metas, sync again; only then do readers see the new version and is anybody told. The staged files stay until that is
//! done, so a crash at any point leaves each tablet at the old or the new version, and the same publish again brings
//! the rest. Links without a meta that names them are removed when the store is opened.

use crate::sync;
use crate::tablet::disk::Disk;
use crate::tablet::layout::meta_file;
use crate::tablet::meta::{DataFile, FIRST_VERSION, TabletMeta};
use crate::tablet::staging::StagedTablet;
use crate::tablet::store::TabletStore;
use crate::tablet::tablet::Tablet;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result, fsx};
use coffer_table::{Predicate, Schema};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to publish.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The load.
    pub transaction_id: u64,
    /// Its table.
    pub table_id: u64,
    /// Columns, for tablets that do not exist yet.
    pub schema: Schema,
    /// A DELETE instead of rows.
    pub delete: Option<Predicate>,
    /// All tablets of the touched partitions that this backend holds.
    pub tablets: Vec<PublishTablet>,
}

/// One tablet and its new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishTablet {
    /// The tablet.
    pub tablet_id: u64,
    /// Its partition.
    pub partition_id: u64,
    /// The version the load makes.
    pub version: u64,
    /// The load wrote rows for this tablet: a replica without them does not take the version.
    pub rows_expected: bool,
}

/// A tablet whose new meta is ready to be written.
struct Step {
    tablet_id: u64,
    tablet: Option<Arc<Tablet>>,
    meta: TabletMeta,
}

enum Planned {
    /// Nothing to do: the version is here.
    Done,
    Step(Arc<Disk>, Step),
}

impl TabletStore {
    /// Publish. Returns the tablets that could not be; all others are durable at their version.
    pub fn publish(&self, publish: &Publish) -> Vec<(u64, Error)> {
        let _one_at_a_time = sync::lock(self.publishing());
        let mut failures = Vec::new();
        let mut done = Vec::new();
        let mut disks: BTreeMap<PathBuf, (Arc<Disk>, Vec<Step>)> = BTreeMap::new();
        for tablet in &publish.tablets {
            match self.plan(publish, tablet) {
                Ok(Planned::Done) => done.push(tablet.tablet_id),
                Ok(Planned::Step(disk, step)) => {
                    disks.entry(disk.root().to_owned()).or_insert_with(|| (disk, Vec::new())).1.push(step);
                }
                Err(error) => failures.push((tablet.tablet_id, error)),
            }
        }
        for (disk, steps) in disks.into_values() {
            let ids: Vec<u64> = steps.iter().map(|step| step.tablet_id).collect();
            match self.publish_on(&disk, steps) {
                Ok(()) => done.extend(ids),
                Err(error) => failures.extend(ids.into_iter().map(|id| (id, error.clone()))),
            }
        }
        self.grew(done.iter().copied());
        self.staging().forget(publish.transaction_id, done);
        self.changed();
        failures
    }

    fn plan(&self, publish: &Publish, wanted: &PublishTablet) -> Result<Planned> {
        let staged = self.staging().tablet(publish.transaction_id, wanted.tablet_id);
        let (tablet, meta) = match self.find(wanted.tablet_id) {
            Ok(tablet) => {
                tablet.check_owner(publish.table_id, wanted.partition_id)?;
                (Some(tablet.clone()), (*tablet.meta()).clone())
            }
            Err(error) if error.kind() == coffer_stdx::ErrorKind::NotFound => {
                if wanted.version != FIRST_VERSION + 1 {
                    return Err(error).context(|| format!("publish version {}", wanted.version));
                }
                let schema = publish.schema.clone();
                (None, TabletMeta::empty(wanted.tablet_id, publish.table_id, wanted.partition_id, schema))
            }
            Err(error) => return Err(error),
        };
        if meta.version >= wanted.version {
            return Ok(Planned::Done);
        }
        if meta.version + 1 != wanted.version {
            return Err(Error::conflict(format!(
                "tablet {} is at version {}, cannot publish {}",
                wanted.tablet_id, meta.version, wanted.version
            )));
        }
        if wanted.rows_expected && staged.is_none() {
            return Err(self.staging().missing(publish.transaction_id, wanted.tablet_id));
        }
        let disk = match (&tablet, &staged) {
            (Some(tablet), _) => tablet.disk().clone(),
            (None, Some(staged)) => staged.disk.clone(),
            (None, None) => self.choose_disk(0)?,
        };
        let files = staged.map(|staged| bring(&disk, publish.transaction_id, wanted.tablet_id, staged));
        let meta = match &publish.delete {
            Some(predicate) => meta.without(predicate.clone()),
            None => meta.next(files.transpose()?.unwrap_or_default()),
        };
        Ok(Planned::Step(disk, Step { tablet_id: wanted.tablet_id, tablet, meta }))
    }

    fn publish_on(&self, disk: &Arc<Disk>, steps: Vec<Step>) -> Result<()> {
        let mut batch = fsx::Batch::new();
        for step in &steps {
            let dir = disk.layout().tablet(step.tablet_id);
            if step.tablet.is_none() {
                std::fs::create_dir_all(&dir).context(|| format!("create {}", dir.display()))?;
            }
            batch.write(&meta_file(&dir), &step.meta.encode()?)?;
        }
        batch.commit(disk.root())?;
        for step in steps {
            match step.tablet {
                Some(tablet) => tablet.replace(step.meta),
                None => self.register(Tablet::new(disk.clone(), step.meta)),
            }
        }
        Ok(())
    }
}

/// Put the staged files in the tablet's directory: links on the same disk, else copies, which the sync before the meta
/// is written makes durable too. Two first loads at once may have staged a tablet on two disks.
fn bring(disk: &Arc<Disk>, transaction: u64, tablet: u64, staged: StagedTablet) -> Result<Vec<DataFile>> {
    let (from, to) = (staged.disk.layout().staged_tablet(transaction, tablet), disk.layout().tablet(tablet));
    std::fs::create_dir_all(&to).context(|| format!("create {}", to.display()))?;
    let same = Arc::ptr_eq(disk, &staged.disk);
    for file in &staged.files {
        let (from, to) = (from.join(&file.name), to.join(&file.name));
        if same {
            fsx::link(&from, &to)?;
        } else {
            copy(&from, &to, file.bytes)?;
        }
    }
    Ok(staged.files)
}

/// Copy a file of known length. What an earlier try left under the name is in no meta and is replaced.
fn copy(from: &Path, to: &Path, bytes: u64) -> Result<()> {
    let copied = std::fs::copy(from, to).context(|| format!("copy {} to {}", from.display(), to.display()))?;
    if copied == bytes {
        return Ok(());
    }
    Err(Error::corrupt(format!("file {} has {copied} bytes, but {bytes} were written", from.display())))
}
