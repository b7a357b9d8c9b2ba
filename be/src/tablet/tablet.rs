//! A tablet that is in force: its description, replaced as a whole by each publish, and where its files are.

use crate::sync;
use crate::tablet::disk::Disk;
use crate::tablet::history::{self, History};
use crate::tablet::meta::{DataFile, TabletMeta};
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant, SystemTime};

/// The BLAKE3 of a file, hexadecimal. Blocking.
pub(crate) fn hash_file(path: &Path) -> Result<String> {
    let hash = || -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        Ok(hasher.finalize().to_hex().to_string())
    };
    hash().context(|| format!("file {}", path.display()))
}

/// A file that does not have its checksum.
pub(crate) fn changed_bytes(name: &str) -> Error {
    Error::corrupt(format!("the bytes of file {name} are not those that were written"))
}

/// A healthy tablet. Files of its description stay until compaction replaces them, then for a while, and as long as they
/// are pinned (see `history`).
#[derive(Debug)]
pub struct Tablet {
    id: u64,
    disk: Arc<Disk>,
    meta: RwLock<Arc<TabletMeta>>,
    history: Mutex<History>,
    /// Files that were compared with their checksums.
    verified: Mutex<HashMap<String, Verified>>,
}

/// When a file was compared with its checksum, and what it was like.
#[derive(Debug, Clone, Copy)]
struct Verified {
    at: Instant,
    modified: Option<SystemTime>,
}

/// A file that was compared with its checksum is read for so long before it is compared again.
const VERIFIED_FOR: Duration = Duration::from_secs(600);

impl Tablet {
    pub(crate) fn new(disk: Arc<Disk>, meta: TabletMeta) -> Tablet {
        Tablet::with_history(disk, meta, History::default())
    }

    /// A tablet that was here before the process began.
    pub(crate) fn reopened(disk: Arc<Disk>, meta: TabletMeta) -> Tablet {
        let replaced = history::read(&disk.layout().tablet(meta.tablet_id), &meta);
        Tablet::with_history(disk, meta, History::new(replaced))
    }

    fn with_history(disk: Arc<Disk>, meta: TabletMeta, history: History) -> Tablet {
        let (id, meta) = (meta.tablet_id, RwLock::new(Arc::new(meta)));
        Tablet { id, disk, meta, history: Mutex::new(history), verified: Mutex::default() }
    }

    pub(crate) fn history(&self) -> &Mutex<History> {
        &self.history
    }

    pub(crate) fn forget_verified(&self, file: &str) {
        sync::lock(&self.verified).remove(file);
    }

    /// Its id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The data directory it lies in.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// Its directory.
    pub fn dir(&self) -> PathBuf {
        self.disk.layout().tablet(self.id)
    }

    /// The path of one of its files.
    pub fn file_path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Whether a file has the bytes that were written: NotFound or Corrupt when not, any other error when it cannot be
    /// told. Blocking.
    pub fn verify(&self, file: &DataFile) -> Result<()> {
        if hash_file(&self.file_path(&file.name))? == file.blake3 {
            return Ok(());
        }
        Err(changed_bytes(&file.name))
    }

    /// Open a file for reading. One that nobody compared with its checksum lately, or that was touched since, is compared
    /// first: the format of the file does not notice every changed bit. Errors as of [`Tablet::verify`]. Blocking.
    pub fn open_verified(&self, file: &DataFile) -> Result<File> {
        let path = self.file_path(&file.name);
        let open = || -> Result<(File, Option<SystemTime>)> {
            let opened = File::open(&path)?;
            let modified = opened.metadata()?.modified().ok();
            Ok((opened, modified))
        };
        let (opened, modified) = open().context(|| format!("file {}", path.display()))?;
        let known = sync::lock(&self.verified).get(&file.name).copied();
        if !known.is_some_and(|known| known.modified == modified && known.at.elapsed() < VERIFIED_FOR) {
            self.verify(file)?;
            sync::lock(&self.verified).insert(file.name.clone(), Verified { at: Instant::now(), modified });
        }
        Ok(opened)
    }

    /// The description in force.
    pub fn meta(&self) -> Arc<TabletMeta> {
        sync::read(&self.meta).clone()
    }

    /// Conflict when the tablet is not of this table and partition: somebody else's rows bear the id.
    pub(crate) fn check_owner(&self, table: u64, partition: u64) -> Result<()> {
        let meta = self.meta();
        if (meta.table_id, meta.partition_id) == (table, partition) {
            return Ok(());
        }
        Err(Error::conflict(format!(
            "tablet {} at {} belongs to partition {} of table {}, not to partition {partition} of table {table}",
            self.id,
            self.dir().display(),
            meta.partition_id,
            meta.table_id
        )))
    }

    /// Put a description in force that is already durable.
    pub(crate) fn replace(&self, meta: TabletMeta) {
        *sync::write(&self.meta) = Arc::new(meta);
    }
}
