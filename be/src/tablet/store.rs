//! All tablets of this backend, in one or more data directories.
//!
//! Opening reads every meta. A tablet whose meta does not check out is *bad*: it is reported, never served, and its
//! files stay as they are until the leader drops it. Of a tablet that lies in several directories the newest copy is
//! served, unless another has rows that it does not have (see `copies`). What crashes leave is cleaned here: `*.tmp`, files no meta names,
//! tablet directories without a meta (creation that did not end; moved to the trash), loads without a manifest, copies of
//! other replicas that did not end or are complete (see `replace`).

use crate::sync;
use crate::tablet::copies::{Choice, Copy, choose};
use crate::tablet::disk::{Disk, id_entries};
use crate::tablet::history;
use crate::tablet::layout::{META, REPLACED, meta_file};
use crate::tablet::meta::{DataFile, TabletMeta};
use crate::tablet::replace;
use crate::tablet::staging::Staging;
use crate::tablet::tablet::Tablet;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, ErrorKind, Result, fsx};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use tokio::sync::Notify;

/// The tablets of this backend.
#[derive(Debug)]
pub struct TabletStore {
    disks: Vec<Arc<Disk>>,
    tablets: RwLock<HashMap<u64, Arc<Tablet>>>,
    bad: RwLock<HashMap<u64, BadTablet>>,
    staging: Staging,
    publishing: Mutex<()>,
    changes: Notify,
    /// Tablets that got a version since compaction looked.
    grown: Mutex<BTreeSet<u64>>,
    growth: Notify,
}

/// A tablet that is not served.
#[derive(Debug, Clone)]
pub struct BadTablet {
    /// Its directory.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl TabletStore {
    /// Claim the directories and read what is in them, all at the same time. Blocking.
    pub fn open(roots: &[PathBuf]) -> Result<Arc<TabletStore>> {
        let disks = roots.iter().map(|root| Disk::open(root).map(Arc::new)).collect::<Result<Vec<_>>>()?;
        let store = TabletStore {
            disks,
            tablets: RwLock::default(),
            bad: RwLock::default(),
            staging: Staging::default(),
            publishing: Mutex::default(),
            changes: Notify::new(),
            grown: Mutex::default(),
            growth: Notify::new(),
        };
        store.cluster_id()?;
        store.disks.iter().try_for_each(replace::finish)?;
        let mut copies: HashMap<u64, Vec<Copy>> = HashMap::new();
        std::thread::scope(|scope| {
            let loading: Vec<_> = store.disks.iter().map(|disk| scope.spawn(|| store.load_disk(disk))).collect();
            for loaded in loading {
                let found = loaded.join().map_err(|_| Error::bug("a thread that read a data directory panicked"))??;
                found.into_iter().for_each(|copy| copies.entry(copy.meta.tablet_id).or_default().push(copy));
            }
            Ok::<(), Error>(())
        })?;
        copies.into_iter().for_each(|(id, copies)| store.register_best(id, copies));
        for disk in &store.disks {
            store.measure_trash(disk);
        }
        Ok(Arc::new(store))
    }

    fn load_disk(&self, disk: &Arc<Disk>) -> Result<Vec<Copy>> {
        let mut found = Vec::new();
        for id in id_entries(&disk.layout().data())? {
            found.extend(self.load_tablet(disk, id)?);
        }
        self.staging.load(disk)?;
        Ok(found)
    }

    fn load_tablet(&self, disk: &Arc<Disk>, id: u64) -> Result<Option<Copy>> {
        let dir = disk.layout().tablet(id);
        let meta = match TabletMeta::load(&meta_file(&dir)) {
            Ok(meta) if meta.tablet_id == id => meta,
            Ok(meta) => {
                self.set_bad(disk, id, format!("{} describes tablet {}", dir.display(), meta.tablet_id));
                return Ok(None);
            }
            Err(error) if error.kind() == coffer_stdx::ErrorKind::NotFound => {
                return self.move_to_trash(disk, id).map(|()| None);
            }
            Err(error) => {
                self.set_bad(disk, id, error.message().to_owned());
                return Ok(None);
            }
        };
        if let Err(error) = tidy(&dir, &meta) {
            self.set_bad(disk, id, error.message().to_owned());
            return Ok(None);
        }
        Ok(Some(Copy { disk: disk.clone(), meta }))
    }

    /// Serve the best copy of a tablet. A copy that does not read well stays where it is until the tablet is dropped.
    fn register_best(&self, id: u64, copies: Vec<Copy>) {
        match choose(copies) {
            None => {}
            Some(Choice::Differ(newest, reason)) => self.set_bad(&newest.disk, id, reason),
            Some(Choice::Serve(newest, older)) => {
                if let Some(bad) = self.take_bad(id) {
                    tracing::warn!(tablet = id, path = %bad.path.display(), "bad copy left, another one is served");
                }
                for copy in older {
                    if let Err(error) = self.move_to_trash(&copy.disk, id) {
                        tracing::warn!(%error, "an older copy stays until the next start");
                    }
                }
                self.register(Tablet::reopened(newest.disk, newest.meta));
            }
        }
    }

    /// The data directories.
    pub fn disks(&self) -> &[Arc<Disk>] {
        &self.disks
    }

    /// A healthy tablet.
    pub fn tablet(&self, id: u64) -> Option<Arc<Tablet>> {
        sync::read(&self.tablets).get(&id).cloned()
    }

    /// A healthy tablet, or why there is none: NotFound or Corrupt.
    pub fn find(&self, id: u64) -> Result<Arc<Tablet>> {
        if let Some(tablet) = self.tablet(id) {
            return Ok(tablet);
        }
        match sync::read(&self.bad).get(&id) {
            Some(bad) => Err(Error::corrupt(format!("tablet {id} is bad: {}", bad.reason))),
            None => Err(Error::not_found(format!("tablet {id} is not on this backend"))),
        }
    }

    /// All healthy tablets, in no order.
    pub fn tablets(&self) -> Vec<Arc<Tablet>> {
        sync::read(&self.tablets).values().cloned().collect()
    }

    /// All bad tablets.
    pub fn bad_tablets(&self) -> Vec<(u64, BadTablet)> {
        sync::read(&self.bad).iter().map(|(id, bad)| (*id, bad.clone())).collect()
    }

    /// Healthy tablets.
    pub fn count(&self) -> usize {
        sync::read(&self.tablets).len()
    }

    /// Stop serving a tablet whose bytes turned out to be wrong; its files stay.
    pub fn mark_bad(&self, id: u64, reason: &str) {
        if let Some(tablet) = sync::write(&self.tablets).remove(&id) {
            self.set_bad(tablet.disk(), id, reason.to_owned());
            self.changed();
        }
    }

    /// Stop serving a tablet because of one of its files; nothing happens when that was replaced meanwhile.
    pub(crate) fn mark_file_bad(&self, tablet: &Tablet, file: &str, reason: &str) {
        if tablet.has_file(file) {
            self.mark_bad(tablet.id(), reason);
        }
    }

    /// Compare a file with what was written: gone or with other bytes, it makes its tablet bad and is an error, unless
    /// the tablet was dropped or the file replaced meanwhile. Blocking.
    pub(crate) fn check_file(&self, tablet: &Arc<Tablet>, file: &DataFile) -> Result<()> {
        let same = |now: Arc<Tablet>| Arc::ptr_eq(&now, tablet) && now.has_file(&file.name);
        let current = || self.tablet(tablet.id()).is_some_and(same);
        match tablet.verify(file) {
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) && current() => {
                self.mark_file_bad(tablet, &file.name, error.message());
                Err(error)
            }
            // A disk that cannot be read just now is the probe's business.
            _ => Ok(()),
        }
    }

    fn set_bad(&self, disk: &Arc<Disk>, id: u64, reason: String) {
        tracing::error!(tablet = id, reason, "tablet is bad and not served");
        let bad = BadTablet { path: disk.layout().tablet(id), reason };
        sync::write(&self.bad).insert(id, bad);
    }

    pub(crate) fn take_bad(&self, id: u64) -> Option<BadTablet> {
        sync::write(&self.bad).remove(&id)
    }

    pub(crate) fn put_back_bad(&self, id: u64, bad: BadTablet) {
        sync::write(&self.bad).insert(id, bad);
    }

    pub(crate) fn put_back(&self, tablet: Arc<Tablet>) {
        sync::write(&self.tablets).insert(tablet.id(), tablet);
    }

    pub(crate) fn take(&self, id: u64) -> Option<Arc<Tablet>> {
        sync::write(&self.tablets).remove(&id)
    }

    pub(crate) fn register(&self, tablet: Tablet) {
        sync::write(&self.tablets).insert(tablet.id(), Arc::new(tablet));
    }

    pub(crate) fn staging(&self) -> &Staging {
        &self.staging
    }

    pub(crate) fn publishing(&self) -> &Mutex<()> {
        &self.publishing
    }

    /// The disk that holds a tablet, or the one where it should be created.
    pub(crate) fn disk_of(&self, tablet: u64) -> Result<Arc<Disk>> {
        match self.tablet(tablet) {
            Some(tablet) => Ok(tablet.disk().clone()),
            None => self.choose_disk(0),
        }
    }

    /// The usable disk with the most space, if `bytes` fit there.
    pub fn choose_disk(&self, bytes: u64) -> Result<Arc<Disk>> {
        let usable = self.disks.iter().filter(|disk| disk.usable());
        let best = usable.map(|disk| (disk.space().1, disk)).max_by_key(|(available, _)| *available);
        match best {
            Some((available, disk)) if available > bytes => Ok(disk.clone()),
            Some((available, _)) => {
                Err(Error::no_space(format!("{bytes} bytes are needed, no data directory has more than {available}")))
            }
            None => Err(Error::unavailable("no data directory of this backend works")),
        }
    }

    /// The cluster that the directories belong to; `None` while all are new. Directories of two clusters are refused.
    pub fn cluster_id(&self) -> Result<Option<String>> {
        let mut found: Option<(String, &Path)> = None;
        for disk in &self.disks {
            let Some(id) = disk.cluster_id()? else { continue };
            match &found {
                Some((other, path)) if *other != id => {
                    return Err(Error::conflict(format!(
                        "data directory {} belongs to cluster {other}, {} to cluster {id}",
                        path.display(),
                        disk.root().display()
                    )));
                }
                _ => found = Some((id, disk.root())),
            }
        }
        Ok(found.map(|(id, _)| id))
    }

    /// Join a cluster, once for good.
    pub fn join_cluster(&self, cluster_id: &str) -> Result<()> {
        if let Some(mine) = self.cluster_id()?.filter(|mine| mine != cluster_id) {
            return Err(Error::conflict(format!(
                "this backend belongs to cluster {mine}, not to {cluster_id}; to join another cluster, empty its data directories"
            )));
        }
        for disk in &self.disks {
            if disk.cluster_id()?.is_none() {
                disk.set_cluster_id(cluster_id)?;
            }
        }
        Ok(())
    }

    /// The highest leader term seen here.
    pub fn leader_term(&self) -> Result<u64> {
        self.disks.iter().try_fold(0, |highest, disk| disk.leader_term().map(|term| term.max(highest)))
    }

    /// Remember a term, durable on every disk that works.
    pub fn set_leader_term(&self, term: u64) -> Result<()> {
        self.disks.iter().filter(|disk| disk.usable()).try_for_each(|disk| disk.set_leader_term(term))
    }

    /// Backup and restore jobs that own directories here.
    pub fn jobs(&self) -> Result<Vec<u64>> {
        let mut jobs = BTreeSet::new();
        for disk in &self.disks {
            jobs.extend(id_entries(&disk.layout().snapshots())?);
            jobs.extend(id_entries(&disk.layout().restores())?);
        }
        Ok(jobs.into_iter().collect())
    }

    /// Put restored tablets in force: each directory holds a meta and its files, all of it durable, on `disk`. Tablets
    /// that are in force already are left as they are.
    pub fn adopt(&self, disk: &Arc<Disk>, dirs: &[PathBuf]) -> Result<()> {
        let _no_publish = sync::lock(&self.publishing);
        let mut adopted = Vec::new();
        for dir in dirs {
            let meta = match TabletMeta::load(&meta_file(dir)) {
                Ok(meta) => meta,
                Err(error) => match dir.file_name().and_then(crate::tablet::layout::parse_id) {
                    Some(id) if !dir.exists() && self.tablet(id).is_some() => continue,
                    _ => return Err(error),
                },
            };
            let here = self.tablet(meta.tablet_id);
            if let Some(here) = &here {
                here.check_owner(meta.table_id, meta.partition_id)?;
            } else {
                let target = disk.layout().tablet(meta.tablet_id);
                fsx::rename(dir, &target)?;
                adopted.push(Tablet::new(disk.clone(), meta));
            }
        }
        fsx::sync_filesystem(disk.root())?;
        adopted.into_iter().for_each(|tablet| self.register(tablet));
        self.changed();
        Ok(())
    }

    /// Tablets came, went or changed version.
    pub(crate) fn changed(&self) {
        self.changes.notify_one();
    }

    /// These tablets got a version.
    pub(crate) fn grew(&self, tablets: impl IntoIterator<Item = u64>) {
        sync::lock(&self.grown).extend(tablets);
        self.growth.notify_one();
    }

    /// The tablets that got a version since the last call; waits until there is one.
    pub(crate) async fn wait_for_growth(&self) -> BTreeSet<u64> {
        loop {
            let grown = std::mem::take(&mut *sync::lock(&self.grown));
            if !grown.is_empty() {
                return grown;
            }
            self.growth.notified().await;
        }
    }

    /// Wait for the next change; changes while nobody waits are seen by the next wait.
    pub async fn wait_for_change(&self) {
        self.changes.notified().await;
    }
}

/// Remove what a publish or a compaction that did not end left in a tablet's directory, and look that every file is there.
fn tidy(dir: &Path, meta: &TabletMeta) -> Result<()> {
    let mut missing: HashSet<&str> = meta.files().map(|file| file.name.as_str()).collect();
    let replaced = history::read(dir, meta);
    let files = replaced.iter().flat_map(|replaced| &replaced.rowset.files);
    let mut kept: HashSet<&str> = files.map(|file| file.name.as_str()).collect();
    kept.extend([META, REPLACED]);
    for entry in std::fs::read_dir(dir).context(|| format!("list {}", dir.display()))? {
        let entry = entry.context(|| format!("list {}", dir.display()))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !missing.remove(name.as_ref()) && !kept.contains(name.as_ref()) {
            fsx::remove(&entry.path())?;
        }
    }
    match missing.into_iter().next() {
        Some(name) => Err(Error::corrupt(format!("file {} is missing", dir.join(name).display()))),
        None => Ok(()),
    }
}
