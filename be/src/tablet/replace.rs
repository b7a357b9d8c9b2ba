//! A replica is replaced by a complete copy of another one.
//!
//! The copy is made below `clone/<tablet>-<run>.tmp` and renamed to `clone/<tablet>` when all of it is durable. Then, with
//! publishing held up, what was there before goes to the trash and the copy to `data/<tablet>`. A crash leaves the old
//! replica and a `.tmp`, which the next start removes, or a complete copy, which the next start puts in force unless the
//! old replica is still in its place: then the leader asks again.

use crate::sync;
use crate::tablet::disk::Disk;
use crate::tablet::layout::{meta_file, parse_id};
use crate::tablet::meta::TabletMeta;
use crate::tablet::store::TabletStore;
use crate::tablet::tablet::{Tablet, hash_file};
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result, fsx};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A copy that is being made. Dropped before [`Replacement::commit`], it removes what it has.
#[derive(Debug)]
pub(crate) struct Replacement {
    store: Arc<TabletStore>,
    disk: Arc<Disk>,
    meta: TabletMeta,
    dir: PathBuf,
    /// Files of the replica that is replaced, by length: most of them are wanted again.
    old: HashMap<u64, Vec<PathBuf>>,
}

impl Replacement {
    /// Begin a copy of what `meta` describes, beside the old replica if that disk works. Blocking.
    pub(crate) fn begin(store: &Arc<TabletStore>, meta: TabletMeta, run: &str) -> Result<Replacement> {
        let id = meta.tablet_id;
        let home = store.disks().iter().find(|disk| disk.usable() && disk.layout().tablet(id).is_dir());
        let disk = match home {
            Some(disk) if disk.space().1 > meta.bytes() => disk.clone(),
            _ => store.choose_disk(meta.bytes())?,
        };
        let dir = disk.layout().clones().join(format!("{id}-{run}.{}", fsx::TMP_SUFFIX));
        fs::create_dir_all(&dir).context(|| format!("create {}", dir.display()))?;
        let old = files_by_length(&disk.layout().tablet(id));
        Ok(Replacement { store: store.clone(), disk, meta, dir, old })
    }

    /// Where a file goes.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Take a file from the old replica if that has one with the same bytes, whatever its name. Blocking.
    pub(crate) fn reuse(&self, file: &crate::tablet::DataFile) -> Result<bool> {
        for candidate in self.old.get(&file.bytes).into_iter().flatten() {
            if hash_file(candidate).is_ok_and(|hash| hash == file.blake3) {
                fsx::link(candidate, &self.path(&file.name))?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All files are there: put the copy in force. Blocking.
    pub(crate) fn commit(self) -> Result<()> {
        let (layout, id) = (self.disk.layout(), self.meta.tablet_id);
        let meta = meta_file(&self.dir);
        fs::write(&meta, self.meta.encode()?).context(|| format!("write {}", meta.display()))?;
        // The bytes before the lock, so that loads wait only for names.
        fsx::sync_filesystem(self.disk.root())?;
        let store = self.store.clone();
        let _no_publish = sync::lock(store.publishing());
        if let Some(here) = store.tablet(id) {
            here.check_owner(self.meta.table_id, self.meta.partition_id)?;
            if here.meta().version >= self.meta.version {
                return Ok(());
            }
        }
        let whole = layout.clone_tablet(id);
        fsx::remove(&whole)?;
        let mut batch = fsx::Batch::new();
        batch.rename(&self.dir, &whole);
        batch.commit(self.disk.root())?;
        let (tablet, bad) = (store.take(id), store.take_bad(id));
        if let Err(error) = store.copies_to_trash(id, &self.disk) {
            tablet.into_iter().for_each(|tablet| store.put_back(tablet));
            bad.into_iter().for_each(|bad| store.put_back_bad(id, bad));
            return Err(error);
        }
        fsx::rename(&whole, &layout.tablet(id))?;
        store.register(Tablet::new(self.disk.clone(), self.meta.clone()));
        store.changed();
        fsx::sync_filesystem(self.disk.root())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // After a commit it has another name.
        if let Err(error) = fsx::remove(&self.dir) {
            tracing::warn!(%error, "an unfinished copy stays until the next start");
        }
    }
}

impl TabletStore {
    /// Every copy of a tablet into the trash. One on a disk that does not work stays there; when it comes back it is older
    /// than what is served.
    fn copies_to_trash(&self, id: u64, needed: &Arc<Disk>) -> Result<()> {
        for disk in self.disks() {
            if !disk.layout().tablet(id).exists() {
                continue;
            }
            match self.move_to_trash(disk, id) {
                Err(error) if Arc::ptr_eq(disk, needed) => return Err(error),
                Err(error) => tracing::warn!(%error, "a replaced copy stays"),
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

fn files_by_length(dir: &Path) -> HashMap<u64, Vec<PathBuf>> {
    let mut files: HashMap<u64, Vec<PathBuf>> = HashMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if let Ok(length) = entry.metadata().map(|meta| meta.len()) {
            files.entry(length).or_default().push(entry.path());
        }
    }
    files
}

/// What a crash left on a disk: unfinished copies go, complete ones take their place if it is free.
pub(crate) fn finish(disk: &Arc<Disk>) -> Result<()> {
    let folder = disk.layout().clones();
    for entry in fs::read_dir(&folder).context(|| format!("list {}", folder.display()))? {
        let path = entry.context(|| format!("list {}", folder.display()))?.path();
        let id = path.file_name().and_then(parse_id);
        match id.map(|id| disk.layout().tablet(id)) {
            Some(place) if !place.exists() && TabletMeta::load(&meta_file(&path)).is_ok() => {
                tracing::info!(path = %place.display(), "a repair that was complete is put in force");
                fsx::rename_durably(&path, &place)?;
            }
            _ => fsx::remove(&path)?,
        }
    }
    Ok(())
}

/// Refuse a description that is not of the wanted tablet and version.
pub(crate) fn check_description(
    meta: &TabletMeta,
    (tablet, table, partition): (u64, u64, u64),
    version: u64,
) -> Result<()> {
    if (meta.tablet_id, meta.table_id, meta.partition_id) != (tablet, table, partition) {
        return Err(Error::corrupt(format!(
            "it describes tablet {} of table {}, partition {}, not tablet {tablet} of table {table}, partition {partition}",
            meta.tablet_id, meta.table_id, meta.partition_id
        )));
    }
    if meta.version < version {
        return Err(Error::conflict(format!("it is at version {}, behind {version}", meta.version)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tablet::DataFile;
    use crate::tablet::testing::schema;
    use coffer_stdx::ErrorKind;

    fn file(name: &str, bytes: &[u8]) -> DataFile {
        let blake3 = blake3::hash(bytes).to_hex().to_string();
        DataFile { name: name.to_owned(), bytes: bytes.len() as u64, rows: 1, blake3 }
    }

    fn open(dir: &Path) -> Arc<TabletStore> {
        TabletStore::open(&[dir.to_owned()]).unwrap()
    }

    /// A replica of tablet 7 with these files, put there as a repair does.
    fn put(store: &Arc<TabletStore>, files: &[(&str, &[u8])]) -> TabletMeta {
        let metas = files.iter().map(|(name, bytes)| file(name, bytes));
        let meta = metas.fold(TabletMeta::empty(7, 1, 2, schema()), |meta, file| meta.next(vec![file]));
        let copy = Replacement::begin(store, meta.clone(), "r").unwrap();
        for (name, bytes) in files {
            if !copy.reuse(&file(name, bytes)).unwrap() {
                fs::write(copy.path(name), bytes).unwrap();
            }
        }
        copy.commit().unwrap();
        meta
    }

    fn count(path: PathBuf) -> usize {
        fs::read_dir(path).unwrap().count()
    }

    #[test]
    fn a_copy_takes_the_place_of_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        put(&store, &[("a", b"one")]);
        let newer = put(&store, &[("x", b"one"), ("y", b"two!")]);
        assert_eq!(*store.tablet(7).unwrap().meta(), newer);
        assert_eq!((count(dir.path().join("trash")), count(dir.path().join("clone"))), (1, 0));
        // An older one changes nothing.
        put(&store, &[("z", b"one")]);
        assert_eq!((store.tablet(7).unwrap().meta().version, count(dir.path().join("trash"))), (3, 1));
        drop(store);
        let store = open(dir.path());
        assert_eq!(*store.tablet(7).unwrap().meta(), newer);
        for file in newer.files() {
            store.tablet(7).unwrap().verify(file).unwrap();
        }
    }

    #[test]
    fn a_bad_replica_is_set_aside_and_only_its_good_files_are_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let meta = put(&store, &[("a", b"one"), ("b", b"two")]);
        fs::write(store.tablet(7).unwrap().file_path("b"), b"twx").unwrap();
        store.mark_bad(7, "test");
        let copy = Replacement::begin(&store, meta.clone(), "r").unwrap();
        let reused: Vec<bool> = meta.files().map(|file| copy.reuse(file).unwrap()).collect();
        assert_eq!(reused, [true, false]);
        fs::write(copy.path("b"), b"two").unwrap();
        copy.commit().unwrap();
        assert!(store.bad_tablets().is_empty());
        assert_eq!(*store.tablet(7).unwrap().meta(), meta);
    }

    #[test]
    fn what_a_crash_leaves_is_finished_or_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let meta = put(&store, &[("a", b"one")]);
        let layout = store.disks()[0].layout().clone();
        drop(store);
        // Between the two renames: the old one is in the trash, the copy is whole.
        fs::rename(layout.tablet(7), layout.clone_tablet(7)).unwrap();
        fs::create_dir(layout.clones().join("8-r.tmp")).unwrap();
        let store = open(dir.path());
        assert_eq!(*store.tablet(7).unwrap().meta(), meta);
        assert_eq!(count(layout.clones()), 0);
        drop(store);
        // Before the first: the old one is in its place.
        fs::create_dir(layout.clone_tablet(7)).unwrap();
        fs::write(meta_file(&layout.clone_tablet(7)), meta.next(vec![]).encode().unwrap()).unwrap();
        let store = open(dir.path());
        assert_eq!(store.tablet(7).unwrap().meta().version, 2);
        assert_eq!(count(layout.clones()), 0);
    }

    #[test]
    fn an_unfinished_copy_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        drop(Replacement::begin(&store, TabletMeta::empty(7, 1, 2, schema()), "r").unwrap());
        assert_eq!(count(dir.path().join("clone")), 0);
    }

    #[test]
    fn descriptions_of_something_else_are_refused() {
        let meta = TabletMeta::empty(7, 1, 2, schema()).next(vec![]);
        assert!(check_description(&meta, (7, 1, 2), 2).is_ok());
        assert_eq!(check_description(&meta, (7, 1, 3), 2).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(check_description(&meta, (7, 1, 2), 3).unwrap_err().kind(), ErrorKind::Conflict);
    }
}
