//! Writing a snapshot. The order lives here: packs, then manifest parts, then meta, then info. Each may be repeated:
//! content decides the name, so a repeated write replaces an object by itself.
//!
//! A crash before [`Repository::write_info`] leaves an incomplete snapshot: no label is taken, nothing can be restored,
//! [`Repository::delete_leftovers`] removes it. A crash after it leaves a complete one.

use crate::body::PackBody;
use crate::checksum::Checksum;
use crate::info::{MetaRef, SnapshotInfo, to_json};
use crate::layout::{ObjectKind, PackId, SnapshotId, SnapshotObject, checksum_in};
use crate::meta::SnapshotMeta;
use crate::repository::Repository;
use crate::snapshots::Folder;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, ErrorKind, Result};
use coffer_store::{ByteStream, PutOptions, from_bytes};
use std::collections::HashMap;

impl Repository {
    /// Write one pack of `bytes` bytes; it must not exist. Checks afterwards that the store has all of it.
    pub async fn put_pack(&self, id: &PackId, body: PackBody, bytes: u64) -> Result<()> {
        let path = self.layout.pack(id);
        let failure = body.failure();
        let options = PutOptions { create_new: true, length_hint: Some(bytes) };
        let put = self.store.put(&path, Box::pin(body), options).await;
        // The store may have wrapped the error of the body; the cause is what people need.
        if let Some(cause) = failure.get() {
            return Err(cause);
        }
        put.context(|| format!("write pack '{path}'"))?;
        self.expect_size(&path, bytes).await
    }

    /// Remove a pack, for instance one whose writing failed half-way in an unknown state.
    pub async fn delete_pack(&self, id: &PackId) -> Result<()> {
        let path = self.layout.pack(id);
        self.store.delete(&path, false).await.context(|| format!("delete pack '{path}'"))
    }

    /// Write a manifest part under the name that [`crate::ManifestWriter::finish`] gave it.
    pub async fn put_manifest(&self, snapshot: &SnapshotId, name: &str, body: ByteStream, bytes: u64) -> Result<()> {
        let object = checksum_in(name, "a manifest part")?;
        if !matches!(object.kind, ObjectKind::Manifest(_)) || object.timestamp != snapshot.timestamp() {
            return Err(Error::bug(format!("'{name}' is not a manifest part of snapshot {snapshot}")));
        }
        self.put_object(snapshot, &object, body, bytes).await
    }

    /// Whether a manifest part is there with this size.
    pub async fn has_manifest(&self, snapshot: &SnapshotId, name: &str, bytes: u64) -> Result<bool> {
        checksum_in(name, "a manifest part")?;
        match self.store.stat(&self.layout.snapshot_object(snapshot.label(), name)).await {
            Ok(found) => Ok(found.bytes == bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Write the catalog objects.
    pub async fn write_meta(&self, snapshot: &SnapshotId, meta: &SnapshotMeta) -> Result<MetaRef> {
        let bytes = to_json(meta)?;
        let object = object(snapshot, ObjectKind::Meta, &bytes);
        let length = bytes.len() as u64;
        self.put_object(snapshot, &object, from_bytes(bytes), length).await?;
        Ok(MetaRef { name: object.name(), bytes: length })
    }

    /// Commit the snapshot. Refused when a part it names is missing or has another size, and when a complete snapshot
    /// has the label already; when that is this very job's (its first try, before a crash), it counts as done.
    ///
    /// Two clusters may commit one label at the same moment: each looks again after it wrote, and takes its info back
    /// when it sees another. As everybody writes before looking, at most one stays.
    pub async fn write_info(&self, info: &SnapshotInfo) -> Result<String> {
        let snapshot = SnapshotId::new(&info.label, &info.timestamp)?;
        let bytes = to_json(info)?;
        let object = object(&snapshot, ObjectKind::Info, &bytes);
        let before = self.folder(&info.label).await?;
        if let Some(ours) = self.committed(&snapshot, info, &before).await? {
            return Ok(ours);
        }
        check_complete(info, &before)?;
        let length = bytes.len() as u64;
        self.put_object(&snapshot, &object, from_bytes(bytes), length).await?;
        let after = self.folder(&info.label).await?;
        if after.iter().any(|(other, _)| other.kind == ObjectKind::Info && *other != object) {
            let path = self.layout.snapshot_object(&info.label, &object.name());
            self.store.delete(&path, false).await.context(|| format!("withdraw '{path}'"))?;
            return Err(taken(info));
        }
        Ok(object.name())
    }

    /// The name of the info when this job has committed already; an error when another has the label.
    async fn committed(&self, snapshot: &SnapshotId, info: &SnapshotInfo, folder: &Folder) -> Result<Option<String>> {
        let mut ours = None;
        for (object, _) in folder.iter().filter(|(object, _)| object.kind == ObjectKind::Info) {
            if object.timestamp != info.timestamp
                || self.read_info_object(snapshot, object).await?.pack_prefix != info.pack_prefix
            {
                return Err(taken(info));
            }
            ours = Some(object.name());
        }
        Ok(ours)
    }

    async fn put_object(
        &self,
        snapshot: &SnapshotId,
        object: &SnapshotObject,
        body: ByteStream,
        bytes: u64,
    ) -> Result<()> {
        let path = self.layout.snapshot_object(snapshot.label(), &object.name());
        let options = PutOptions { create_new: false, length_hint: Some(bytes) };
        self.store.put(&path, body, options).await.context(|| format!("write '{path}'"))?;
        self.expect_size(&path, bytes).await
    }

    async fn expect_size(&self, path: &str, bytes: u64) -> Result<()> {
        let found = self.store.stat(path).await.context(|| format!("look at '{path}' after writing it"))?.bytes;
        if found == bytes {
            return Ok(());
        }
        // What was sent is as it should be, so this is not a fault of the sender's bytes; writing again may help.
        Err(Error::unavailable(format!("'{path}' has {found} bytes in the storage after {bytes} were written")))
    }
}

fn object(snapshot: &SnapshotId, kind: ObjectKind, bytes: &[u8]) -> SnapshotObject {
    SnapshotObject { timestamp: snapshot.timestamp().to_owned(), kind, checksum: Checksum::of(bytes) }
}

fn taken(info: &SnapshotInfo) -> Error {
    Error::already_exists(format!(
        "label '{}' is taken by a complete snapshot in the repository: choose another label",
        info.label
    ))
}

/// Everything that an info names must be there in full before it is written.
fn check_complete(info: &SnapshotInfo, folder: &Folder) -> Result<()> {
    let sizes: HashMap<String, u64> = folder.iter().map(|(object, bytes)| (object.name(), *bytes)).collect();
    let parts = info.manifests.iter().map(|part| (&part.name, part.bytes));
    for (name, bytes) in parts.chain([(&info.meta.name, info.meta.bytes)]) {
        if sizes.get(name) != Some(&bytes) {
            return Err(Error::corrupt(format!(
                "snapshot '{}' cannot be completed: '{name}' is not in the repository with its {bytes} bytes",
                info.label
            )));
        }
    }
    Ok(())
}
