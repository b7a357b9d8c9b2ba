//! A repository that is open: created or attached, and proven to be one.
//!
//! Creating: probe (write, read back, delete a small object), then put `__repo_info` under the condition that there is
//! none. Who loses that race, and who finds one from before, attaches to it. A crash between the two leaves at most the
//! probe object, which nobody reads.

use crate::FORMAT_VERSION;
use crate::checksum::Checksum;
use crate::info::{MAX_REPO_INFO_BYTES, NOT_ENCRYPTED, RepositoryInfo, to_json};
use crate::layout::{Layout, PackId, SnapshotId};
use crate::manifest_reader::ManifestReader;
use crate::pack::{self, BlobEntry};
use crate::plan::DEFAULT_TARGET_BYTES;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, ErrorKind, Result};
use coffer_store::{ByteStream, PutOptions, Store, from_bytes, read_all};
use std::ops::Range;
use std::sync::Arc;

/// How [`Repository::create`] came by the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// It is new.
    Created,
    /// It was there: made by another cluster, or by this one before.
    Attached,
}

/// A repository. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) layout: Layout,
    info: RepositoryInfo,
}

impl Repository {
    /// Prove that the location can be written, read and deleted from, then create the repository `name` there, or attach
    /// to it when it exists.
    pub async fn create(store: Arc<dyn Store>, name: &str, now_ms: u64) -> Result<(Repository, Opened)> {
        let layout = Layout::new(name)?;
        probe(&*store, &layout).await.context(|| format!("repository '{name}' cannot use its location"))?;
        if let Some(info) = find(&*store, &layout, name).await? {
            return Ok((Repository { store, layout, info }, Opened::Attached));
        }
        let info = RepositoryInfo {
            format: FORMAT_VERSION,
            id: uuid::Uuid::new_v4().to_string(),
            name: name.to_owned(),
            created_ms: now_ms,
            pack_target_bytes: DEFAULT_TARGET_BYTES,
            encryption: NOT_ENCRYPTED.to_owned(),
            check: Checksum::of(b""),
        }
        .seal();
        let options = PutOptions { create_new: true, length_hint: None };
        match store.put(&layout.repo_info(), from_bytes(to_json(&info)?), options).await {
            Ok(_) => Ok((Repository { store, layout, info }, Opened::Created)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Repository::open(store, name).await.map(|repository| (repository, Opened::Attached))
            }
            Err(error) => Err(error).context(|| format!("create repository '{name}'")),
        }
    }

    /// Attach to the repository `name`, which must exist. Reads one small object.
    pub async fn open(store: Arc<dyn Store>, name: &str) -> Result<Repository> {
        let layout = Layout::new(name)?;
        match find(&*store, &layout, name).await? {
            Some(info) => Ok(Repository { store, layout, info }),
            None => Err(Error::not_found(format!(
                "repository '{name}' is not at its location: '{}' does not exist; check location and name",
                layout.repo_info()
            ))),
        }
    }

    /// What `__repo_info` says.
    pub fn info(&self) -> &RepositoryInfo {
        &self.info
    }

    /// The paths.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Read a manifest part.
    pub async fn manifest(&self, snapshot: &SnapshotId, name: &str) -> Result<ManifestReader> {
        let path = self.layout.snapshot_object(snapshot.label(), name);
        // The name is checked before it becomes part of a request.
        crate::layout::checksum_in(name, "a manifest part")?;
        let body = self.store.get(&path, None).await.context(|| format!("read manifest '{path}'"))?;
        ManifestReader::new(body, snapshot, name, path)
    }

    /// Bytes of a pack; the caller checks blobs against their BLAKE3.
    pub async fn read_pack(&self, pack: &PackId, range: Range<u64>) -> Result<ByteStream> {
        let path = self.layout.pack(pack);
        self.store.get(&path, Some(range)).await.context(|| format!("read pack '{path}'"))
    }

    /// What the trailer of a pack lists: for tools, a restore needs only the manifest.
    pub async fn pack_entries(&self, pack: &PackId) -> Result<Vec<BlobEntry>> {
        let path = self.layout.pack(pack);
        let size = self.store.stat(&path).await?.bytes;
        let footer_at = size.saturating_sub(pack::FOOTER_BYTES);
        let footer = pack::parse_footer(&self.slice(&path, footer_at..size).await?, size, &path)?;
        let header = self.slice(&path, 0..pack::HEADER_BYTES).await?;
        let trailer = self.slice(&path, footer.trailer_offset..footer_at).await?;
        pack::parse_trailer(&header, &trailer, &footer, &path)
    }

    async fn slice(&self, path: &str, range: Range<u64>) -> Result<Vec<u8>> {
        use futures::TryStreamExt;
        let mut body = self.store.get(path, Some(range.clone())).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = body.try_next().await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > range.end - range.start {
                return Err(Error::corrupt(format!("'{path}': more bytes than asked for")));
            }
        }
        Ok(bytes)
    }
}

/// The repository information, or `None` when there is no repository.
async fn find(store: &dyn Store, layout: &Layout, name: &str) -> Result<Option<RepositoryInfo>> {
    let path = layout.repo_info();
    let bytes = match read_all(store, &path, MAX_REPO_INFO_BYTES).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(|| format!("read '{path}' of repository '{name}'")),
    };
    let info = RepositoryInfo::parse(&bytes, &path)?;
    if info.name != name {
        let text =
            format!("'{path}' belongs to a repository named '{}', not '{name}': the folder was renamed", info.name);
        return Err(Error::invalid(text));
    }
    Ok(Some(info))
}

/// Write, read back and delete a small object.
async fn probe(store: &dyn Store, layout: &Layout) -> Result<()> {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let path = layout.probe(&unique);
    let options = PutOptions { create_new: true, length_hint: Some(unique.len() as u64) };
    store.put(&path, from_bytes(unique.clone()), options).await.context(|| format!("write '{path}'"))?;
    let read = read_all(store, &path, MAX_REPO_INFO_BYTES).await.context(|| format!("read back '{path}'"));
    let deleted = store.delete(&path, false).await.context(|| format!("delete '{path}'"));
    if read? != unique.as_bytes() {
        return Err(Error::corrupt(format!("'{path}' reads back other bytes than were written")));
    }
    deleted
}
