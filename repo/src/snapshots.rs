//! Which snapshots a repository has, and reading what describes one.

use crate::SNAPSHOT_VERSION;
use crate::checksum::Checksum;
use crate::info::{MAX_INFO_BYTES, SnapshotInfo, parse_json};
use crate::layout::{ObjectKind, SnapshotId, SnapshotObject, check_label, checksum_in};
use crate::meta::{MAX_META_BYTES, SnapshotMeta};
use crate::repository::Repository;
use bytes::Bytes;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, ErrorKind, Result};
use coffer_store::{Child, read_all};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;

/// Most snapshots (or unfinished ones) that a listing holds.
pub const MAX_SNAPSHOTS: usize = 1_000_000;
/// Folders of labels listed, and infos read, at once.
const AT_ONCE: usize = 32;

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

/// A snapshot whose info, when it has one, was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// The snapshot.
    pub entry: SnapshotEntry,
    /// Why the info of a complete one cannot be used.
    pub damage: Option<Error>,
}

/// What lies in the folder of a label, with sizes.
pub(crate) type Folder = Vec<(SnapshotObject, u64)>;

impl Repository {
    /// All snapshots by label and timestamp, unfinished ones too.
    ///
    /// One listing of the root folder, which does not walk the packs, and one of the folder of each label.
    pub async fn snapshots(&self) -> Result<Vec<SnapshotEntry>> {
        let of_label = |label: String| {
            let repository = self.clone();
            async move { repository.snapshots_of(&label).await }.boxed()
        };
        self.gather(self.labels().await?.into_iter().map(of_label).collect()).await
    }

    /// All snapshots with this label. One listing of its folder.
    pub async fn snapshots_of(&self, label: &str) -> Result<Vec<SnapshotEntry>> {
        check_label(label)?;
        let infos = infos(self.folder(label).await?);
        let entry = |(timestamp, infos): (String, Vec<SnapshotObject>)| entry(label, timestamp, &infos);
        Ok(infos.into_iter().map(entry).collect())
    }

    /// All snapshots, or those with one label; the infos of complete ones are read and checked.
    pub async fn inspect(&self, label: Option<&str>) -> Result<Vec<Inspected>> {
        let labels = match label {
            Some(label) => vec![label.to_owned()],
            None => self.labels().await?,
        };
        let of_label = |label: String| {
            let repository = self.clone();
            async move { repository.inspect_label(&label).await }.boxed()
        };
        self.gather(labels.into_iter().map(of_label).collect()).await
    }

    /// What all of these find, in order, a bounded number of them at once.
    async fn gather<T: Send + 'static>(&self, all: Vec<BoxFuture<'static, Result<Vec<T>>>>) -> Result<Vec<T>> {
        let mut found = stream::iter(all).buffered(AT_ONCE);
        let mut together = Vec::new();
        while let Some(some) = found.try_next().await? {
            together.extend(some);
            self.check_count(together.len())?;
        }
        Ok(together)
    }

    async fn inspect_label(&self, label: &str) -> Result<Vec<Inspected>> {
        check_label(label)?;
        let mut found = Vec::new();
        for (timestamp, infos) in infos(self.folder(label).await?) {
            let entry = entry(label, timestamp, &infos);
            let damage = match &infos[..] {
                [info] => {
                    let snapshot = SnapshotId::new(label, &entry.timestamp)?;
                    match self.read_info_object(&snapshot, info).await {
                        Ok(_) => None,
                        // Removed a moment ago.
                        Err(error) if error.kind() == ErrorKind::NotFound => continue,
                        // Nobody can tell now: that is no news of this snapshot.
                        Err(error) if error.kind().is_transient() => return Err(error),
                        Err(error) => Some(error),
                    }
                }
                _ => None,
            };
            found.push(Inspected { entry, damage });
        }
        Ok(found)
    }

    /// The labels that have a folder, in order.
    async fn labels(&self) -> Result<Vec<String>> {
        let root = self.layout.root();
        let mut entries = self.store.children(root).await.context(|| format!("list '{root}'"))?;
        let mut labels = Vec::new();
        while let Some(entry) = entries.try_next().await.context(|| format!("list '{root}'"))? {
            if let Child::Folder(path) = entry
                && let Some(label) = self.layout.parse_snapshot_folder(&path)
            {
                labels.push(label.to_owned());
                self.check_count(labels.len())?;
            }
        }
        labels.sort();
        Ok(labels)
    }

    fn check_count(&self, count: usize) -> Result<()> {
        if count <= MAX_SNAPSHOTS {
            return Ok(());
        }
        Err(Error::limit(format!("repository '{}' has more than {MAX_SNAPSHOTS} snapshots", self.info().name)))
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

    /// The objects in the folder of a label that are this snapshot's: paths and sizes, in order. One listing.
    pub async fn objects(&self, snapshot: &SnapshotId) -> Result<Vec<(String, u64)>> {
        let folder = self.folder(snapshot.label()).await?;
        let ours = folder.into_iter().filter(|(object, _)| object.timestamp == snapshot.timestamp());
        let path = |object: &SnapshotObject| self.layout.snapshot_object(snapshot.label(), &object.name());
        let mut found: Vec<(String, u64)> = ours.map(|(object, bytes)| (path(&object), bytes)).collect();
        found.sort();
        Ok(found)
    }

    /// The catalog objects of a snapshot.
    pub async fn read_meta(&self, info: &SnapshotInfo) -> Result<SnapshotMeta> {
        let name = &info.meta.name;
        let object = checksum_in(name, "the meta of a snapshot")?;
        check_label(&info.label)?;
        let (path, bytes) = self.read_object(&info.label, &object, MAX_META_BYTES).await?;
        parse_json(&bytes, &path, SNAPSHOT_VERSION)
    }

    pub(crate) async fn read_info_object(
        &self,
        snapshot: &SnapshotId,
        object: &SnapshotObject,
    ) -> Result<SnapshotInfo> {
        let (path, bytes) = self.read_object(snapshot.label(), object, MAX_INFO_BYTES).await?;
        let info: SnapshotInfo = parse_json(&bytes, &path, SNAPSHOT_VERSION)?;
        if info.label != snapshot.label() || info.timestamp != object.timestamp {
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
}

/// The infos of a label by timestamp; one without any is incomplete.
fn infos(folder: Folder) -> BTreeMap<String, Vec<SnapshotObject>> {
    let mut infos: BTreeMap<String, Vec<SnapshotObject>> = BTreeMap::new();
    for (object, _) in folder {
        let of_timestamp = infos.entry(object.timestamp.clone()).or_default();
        if object.kind == ObjectKind::Info {
            of_timestamp.push(object);
        }
    }
    infos
}

fn entry(label: &str, timestamp: String, infos: &[SnapshotObject]) -> SnapshotEntry {
    let status = match infos {
        [] => SnapshotStatus::Incomplete,
        [_] => SnapshotStatus::Complete,
        _ => SnapshotStatus::Contested,
    };
    SnapshotEntry { label: label.to_owned(), timestamp, status }
}
