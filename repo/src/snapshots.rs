//! Which snapshots a repository has, and reading what describes one.

use crate::FORMAT_VERSION;
use crate::checksum::Checksum;
use crate::info::{MAX_INFO_BYTES, SnapshotInfo, parse_json};
use crate::layout::{ObjectKind, SnapshotId, SnapshotObject, check_label, checksum_in};
use crate::meta::{MAX_META_BYTES, SnapshotMeta};
use crate::repository::Repository;
use bytes::Bytes;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use coffer_store::read_all;
use futures::TryStreamExt;
use std::collections::BTreeMap;

/// Most snapshots (or unfinished ones) that a listing holds.
pub const MAX_SNAPSHOTS: usize = 1_000_000;

/// A snapshot in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// Label.
    pub label: String,
    /// Timestamp.
    pub timestamp: String,
    /// Whether it can be restored.
    pub status: SnapshotStatus,
}

/// Whether a snapshot can be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotStatus {
    /// Its info is there.
    Complete,
    /// A job is still writing it, or left it behind.
    Incomplete,
    /// More than one info: two clusters used the same label in the same second, and one is withdrawing.
    Contested,
}

/// What lies in the folder of a label, with sizes.
pub(crate) type Folder = Vec<(SnapshotObject, u64)>;

impl Repository {
    /// All snapshots by label and timestamp, unfinished ones too.
    ///
    /// One listing of the repository; objects that belong to no snapshot are passed over as they come.
    pub async fn snapshots(&self) -> Result<Vec<SnapshotEntry>> {
        self.entries_below(self.layout.root()).await
    }

    /// All snapshots with this label. One listing of its folder.
    pub async fn snapshots_of(&self, label: &str) -> Result<Vec<SnapshotEntry>> {
        check_label(label)?;
        self.entries_below(&self.layout.snapshot_folder(label)).await
    }

    /// Whether a complete snapshot has this label; left-overs do not take it.
    pub async fn label_exists(&self, label: &str) -> Result<bool> {
        Ok(self.snapshots_of(label).await?.iter().any(|entry| entry.status != SnapshotStatus::Incomplete))
    }

    /// The info of a complete snapshot.
    pub async fn read_info(&self, snapshot: &SnapshotId) -> Result<SnapshotInfo> {
        let infos: Vec<SnapshotObject> = self
            .folder(snapshot.label())
            .await?
            .into_iter()
            .map(|(object, _)| object)
            .filter(|object| object.kind == ObjectKind::Info && object.timestamp == snapshot.timestamp())
            .collect();
        match infos.as_slice() {
            [] => Err(Error::not_found(format!(
                "snapshot {snapshot} does not exist in repository '{}', or is not complete: see SHOW SNAPSHOT",
                self.info().name
            ))),
            [object] => self.read_info_object(snapshot, object).await,
            _ => Err(Error::conflict(format!(
                "snapshot {snapshot} has {} info files in repository '{}': two clusters wrote it at once",
                infos.len(),
                self.info().name
            ))),
        }
    }

    /// The catalog objects of a snapshot.
    pub async fn read_meta(&self, info: &SnapshotInfo) -> Result<SnapshotMeta> {
        let name = &info.meta.name;
        let object = checksum_in(name, "the meta of a snapshot")?;
        check_label(&info.label)?;
        let (path, bytes) = self.read_object(&info.label, &object, MAX_META_BYTES).await?;
        parse_json(&bytes, &path)
    }

    pub(crate) async fn read_info_object(
        &self,
        snapshot: &SnapshotId,
        object: &SnapshotObject,
    ) -> Result<SnapshotInfo> {
        let (path, bytes) = self.read_object(snapshot.label(), object, MAX_INFO_BYTES).await?;
        let info: SnapshotInfo = parse_json(&bytes, &path)?;
        if info.label != snapshot.label() || info.timestamp != object.timestamp || info.format > FORMAT_VERSION {
            let text = format!("'{path}' describes snapshot '{}' of {}: it was moved", info.label, info.timestamp);
            return Err(Error::corrupt(text));
        }
        Ok(info)
    }

    /// The content of an object, checked against the BLAKE3 in its name.
    async fn read_object(&self, label: &str, object: &SnapshotObject, limit: u64) -> Result<(String, Bytes)> {
        let path = self.layout.snapshot_object(label, &object.name());
        let bytes = read_all(&*self.store, &path, limit).await.context(|| format!("read '{path}'"))?;
        if Checksum::of(&bytes) != object.checksum {
            return Err(Error::corrupt(format!("'{path}' does not match the BLAKE3 in its name")));
        }
        Ok((path, bytes))
    }

    /// Everything of ours in the folder of a label.
    pub(crate) async fn folder(&self, label: &str) -> Result<Folder> {
        let folder = self.layout.snapshot_folder(label);
        let mut objects = self.store.list(&folder).await.context(|| format!("list '{folder}'"))?;
        let mut found = Vec::new();
        while let Some(object) = objects.try_next().await.context(|| format!("list '{folder}'"))? {
            if let Some((_, parsed)) = self.layout.parse_snapshot_object(&object.path) {
                found.push((parsed, object.bytes));
            }
        }
        Ok(found)
    }

    async fn entries_below(&self, folder: &str) -> Result<Vec<SnapshotEntry>> {
        let mut objects = self.store.list(folder).await.context(|| format!("list '{folder}'"))?;
        let mut found: BTreeMap<(String, String), usize> = BTreeMap::new();
        while let Some(object) = objects.try_next().await.context(|| format!("list '{folder}'"))? {
            let Some((label, parsed)) = self.layout.parse_snapshot_object(&object.path) else { continue };
            let infos = found.entry((label.to_owned(), parsed.timestamp)).or_default();
            *infos += usize::from(parsed.kind == ObjectKind::Info);
            if found.len() > MAX_SNAPSHOTS {
                return Err(Error::limit(format!("'{folder}' has more than {MAX_SNAPSHOTS} snapshots")));
            }
        }
        let entry = |((label, timestamp), infos)| SnapshotEntry {
            label,
            timestamp,
            status: match infos {
                0 => SnapshotStatus::Incomplete,
                1 => SnapshotStatus::Complete,
                _ => SnapshotStatus::Contested,
            },
        };
        Ok(found.into_iter().map(entry).collect())
    }
}
