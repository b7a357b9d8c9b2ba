//! A tablet that is in force: its description, replaced as a whole by each publish, and where its files are.

use crate::sync;
use crate::tablet::disk::Disk;
use crate::tablet::meta::TabletMeta;
use coffer_stdx::{Error, Result};
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

/// A healthy tablet. Files named by any of its descriptions stay until the tablet is dropped.
#[derive(Debug)]
pub struct Tablet {
    id: u64,
    disk: Arc<Disk>,
    meta: RwLock<Arc<TabletMeta>>,
}

impl Tablet {
    pub(crate) fn new(disk: Arc<Disk>, meta: TabletMeta) -> Tablet {
        Tablet { id: meta.tablet_id, disk, meta: RwLock::new(Arc::new(meta)) }
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

    /// The description in force.
    pub fn meta(&self) -> Arc<TabletMeta> {
        sync::read(&self.meta).clone()
    }

    /// The description at exactly `version`; Conflict when the tablet is behind or the version was merged away.
    pub fn meta_at(&self, version: u64) -> Result<TabletMeta> {
        self.meta().at(version)
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
