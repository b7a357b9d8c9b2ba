//! Rows of loads that are written but not published.
//!
//! A load writes files below `staging/<transaction>/<tablet>/`, on the disk where the tablet is or will be. When all
//! are written, each disk is synced, gets its `manifest`, and is synced again: from then on the rows survive a crash
//! and wait for a publish or a discard. A directory without a manifest is what a crash in the middle of a load leaves;
//! nobody was told that its rows are safe, and opening the store removes it. One whose manifest cannot be read is kept:
//! its rows are not published, its tablets fail by name, and it goes away when the load is discarded.

use crate::limits::MAX_ROWSETS;
use crate::sync;
use crate::tablet::disk::{Disk, id_entries};
use crate::tablet::meta::{self, DataFile};
use crate::tablet::store::TabletStore;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result, fsx};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// All loads that are written or being written here.
#[derive(Debug, Default)]
pub(crate) struct Staging {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    writing: HashSet<u64>,
    loads: HashMap<u64, StagedLoad>,
    /// Loads with a manifest that cannot be read.
    broken: HashMap<u64, Vec<Broken>>,
}

#[derive(Debug)]
struct Broken {
    dir: PathBuf,
    reason: Error,
}

type StagedLoad = BTreeMap<u64, StagedTablet>;

/// The files of one tablet in one load.
#[derive(Debug, Clone)]
pub(crate) struct StagedTablet {
    pub(crate) disk: Arc<Disk>,
    pub(crate) files: Vec<DataFile>,
}

/// What a manifest lists: tablets and files on its own disk.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    transaction_id: u64,
    tablets: BTreeMap<u64, Vec<DataFile>>,
}

impl Staging {
    /// Read what is staged on a disk and remove what is unfinished.
    pub(crate) fn load(&self, disk: &Arc<Disk>) -> Result<()> {
        for transaction in id_entries(&disk.layout().staging())? {
            let dir = disk.layout().staged_load(transaction);
            let manifest = match read_manifest(&disk.layout().staged_manifest(transaction)) {
                Ok(Some(manifest)) => manifest,
                Ok(None) => {
                    fsx::remove(&dir)?;
                    continue;
                }
                Err(reason) => {
                    tracing::error!(transaction, error = %reason, "rows of a load cannot be published here");
                    let broken = Broken { dir, reason };
                    sync::lock(&self.state).broken.entry(transaction).or_default().push(broken);
                    continue;
                }
            };
            let mut state = sync::lock(&self.state);
            let load = state.loads.entry(transaction).or_default();
            for (tablet, files) in manifest.tablets {
                load.insert(tablet, StagedTablet { disk: disk.clone(), files });
            }
        }
        Ok(())
    }

    /// Loads that wait for a publish or a discard.
    pub(crate) fn transactions(&self) -> Vec<u64> {
        let state = sync::lock(&self.state);
        let mut ids: Vec<u64> = state.loads.keys().chain(state.broken.keys()).copied().collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The files of a tablet in a load.
    pub(crate) fn tablet(&self, transaction: u64, tablet: u64) -> Option<StagedTablet> {
        sync::lock(&self.state).loads.get(&transaction).and_then(|load| load.get(&tablet)).cloned()
    }

    /// Why rows of a tablet that a load wrote are not here.
    pub(crate) fn missing(&self, transaction: u64, tablet: u64) -> Error {
        let what = format!("tablet {tablet}: the rows of transaction {transaction} are not on this backend");
        match sync::lock(&self.state).broken.get(&transaction).and_then(|broken| broken.first()) {
            Some(broken) => Error::new(broken.reason.kind(), format!("{what}: {}", broken.reason)),
            None => Error::not_found(what),
        }
    }

    /// Remove what cannot be read of a load that nobody wants any more.
    fn forget_broken(&self, transaction: u64) {
        let broken = sync::lock(&self.state).broken.remove(&transaction).unwrap_or_default();
        remove_all(&broken.into_iter().map(|broken| broken.dir).collect::<Vec<_>>());
    }

    /// Forget tablets of a load that are published or gone for good, and the load when it has no more. A crash in
    /// between leaves files that the manifest still lists: they are published again, which changes nothing.
    pub(crate) fn forget(&self, transaction: u64, tablets: impl IntoIterator<Item = u64>) {
        let mut gone: Vec<PathBuf> = Vec::new();
        let mut state = sync::lock(&self.state);
        let Some(load) = state.loads.get_mut(&transaction) else { return };
        let mut disks: Vec<Arc<Disk>> = load.values().map(|staged| staged.disk.clone()).collect();
        disks.dedup_by(|a, b| Arc::ptr_eq(a, b));
        for tablet in tablets {
            if let Some(staged) = load.remove(&tablet) {
                gone.push(staged.disk.layout().staged_tablet(transaction, tablet));
            }
        }
        if load.is_empty() {
            state.loads.remove(&transaction);
            gone = disks.iter().map(|disk| disk.layout().staged_load(transaction)).collect();
        }
        drop(state);
        remove_all(&gone);
    }

    fn begin(&self, transaction: u64) -> Result<()> {
        let mut state = sync::lock(&self.state);
        let known = state.loads.contains_key(&transaction) || state.broken.contains_key(&transaction);
        if known || !state.writing.insert(transaction) {
            return Err(Error::conflict(format!(
                "rows of transaction {transaction} were already sent to this backend"
            )));
        }
        Ok(())
    }

    fn end(&self, transaction: u64, load: Option<StagedLoad>) {
        let mut state = sync::lock(&self.state);
        state.writing.remove(&transaction);
        if let Some(load) = load.filter(|load| !load.is_empty()) {
            state.loads.insert(transaction, load);
        }
    }

    fn is_writing(&self, transaction: u64) -> bool {
        sync::lock(&self.state).writing.contains(&transaction)
    }
}

/// The manifest of a load; `None` when it was never written.
fn read_manifest(path: &Path) -> Result<Option<Manifest>> {
    let read = match std::fs::read(path) {
        Ok(bytes) => meta::decode(&bytes).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::from(error)),
    };
    read.context(|| format!("staging manifest {}", path.display()))
}

fn remove_all(paths: &[PathBuf]) {
    for path in paths {
        if let Err(error) = fsx::remove(path) {
            tracing::warn!(%error, "staged files stay until the next start");
        }
    }
}

/// Writes the rows of one load. Dropped before [`LoadWriter::finish`], it removes what it wrote.
#[derive(Debug)]
pub struct LoadWriter {
    store: Arc<TabletStore>,
    transaction: u64,
    load: StagedLoad,
    finished: bool,
}

impl LoadWriter {
    /// Begin; Conflict when the transaction has rows here already.
    pub fn begin(store: &Arc<TabletStore>, transaction: u64) -> Result<LoadWriter> {
        store.staging().begin(transaction)?;
        Ok(LoadWriter { store: store.clone(), transaction, load: StagedLoad::new(), finished: false })
    }

    /// The directory for files of a tablet.
    pub fn dir(&mut self, tablet: u64) -> Result<PathBuf> {
        if !self.load.contains_key(&tablet) {
            self.check_rowsets(tablet)?;
            let disk = self.store.disk_of(tablet)?;
            let dir = disk.layout().staged_tablet(self.transaction, tablet);
            std::fs::create_dir_all(&dir).context(|| format!("create {}", dir.display()))?;
            self.load.insert(tablet, StagedTablet { disk, files: Vec::new() });
        }
        let disk = &self.load[&tablet].disk;
        Ok(disk.layout().staged_tablet(self.transaction, tablet))
    }

    /// Loads that come faster than compaction merges them would make every read slow.
    fn check_rowsets(&self, tablet: u64) -> Result<()> {
        let count = self.store.tablet(tablet).map_or(0, |tablet| tablet.meta().rowsets.len());
        if count < MAX_ROWSETS {
            return Ok(());
        }
        Err(Error::limit(format!(
            "tablet {tablet} has {count} rowsets that wait to be merged, {MAX_ROWSETS} are allowed: load fewer and larger \
             batches, or raise compaction_mib_s and compaction_workers"
        )))
    }

    /// A file was written to the tablet's directory.
    pub fn add(&mut self, tablet: u64, file: DataFile) {
        if let Some(staged) = self.load.get_mut(&tablet) {
            staged.files.push(file);
        }
    }

    /// Make everything durable. Returns rows and bytes by tablet.
    pub fn finish(mut self) -> Result<Vec<(u64, u64, u64)>> {
        let mut manifests: Vec<(Arc<Disk>, Manifest)> = Vec::new();
        for (tablet, staged) in &self.load {
            let position = manifests.iter().position(|(disk, _)| Arc::ptr_eq(disk, &staged.disk));
            let position = position.unwrap_or_else(|| {
                let manifest = Manifest { transaction_id: self.transaction, tablets: BTreeMap::new() };
                manifests.push((staged.disk.clone(), manifest));
                manifests.len() - 1
            });
            manifests[position].1.tablets.insert(*tablet, staged.files.clone());
        }
        for (disk, manifest) in &manifests {
            let mut batch = fsx::Batch::new();
            batch.write(&disk.layout().staged_manifest(self.transaction), &meta::encode(manifest)?)?;
            batch.commit(disk.root())?;
        }
        let count = |staged: &StagedTablet| {
            staged.files.iter().fold((0, 0), |(rows, bytes), file| (rows + file.rows, bytes + file.bytes))
        };
        let written = self.load.iter().map(|(tablet, staged)| {
            let (rows, bytes) = count(staged);
            (*tablet, rows, bytes)
        });
        let written = written.collect();
        self.finished = true;
        Ok(written)
    }
}

impl Drop for LoadWriter {
    fn drop(&mut self) {
        let load = std::mem::take(&mut self.load);
        if self.finished {
            self.store.staging().end(self.transaction, Some(load));
            return;
        }
        let gone: Vec<PathBuf> =
            load.values().map(|staged| staged.disk.layout().staged_load(self.transaction)).collect();
        remove_all(&gone);
        self.store.staging().end(self.transaction, None);
    }
}

impl TabletStore {
    /// Drop the rows of loads that will not be published; unknown ones are fine. Conflict while one is being written:
    /// its stream ends soon, and the leader asks again.
    pub fn discard(&self, transactions: &[u64]) -> Result<()> {
        for transaction in transactions {
            if self.staging().is_writing(*transaction) {
                return Err(Error::unavailable(format!("rows of transaction {transaction} are being written now")));
            }
            let tablets: Vec<u64> = {
                let state = sync::lock(&self.staging().state);
                state.loads.get(transaction).map(|load| load.keys().copied().collect()).unwrap_or_default()
            };
            self.staging().forget(*transaction, tablets);
            self.staging().forget_broken(*transaction);
        }
        Ok(())
    }

    /// Loads that are written here and neither published nor discarded.
    pub fn staged_transactions(&self) -> Vec<u64> {
        self.staging().transactions()
    }
}
