//! A store in memory, for tests. Nothing survives the process.

use crate::{ByteStream, Child, ChildStream, ObjectInfo, ObjectStream, PutOptions, Store, body, path};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use coffer_stdx::time::now_ms;
use coffer_stdx::{Error, Result};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Objects in a map.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, (Bytes, u64)>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, (Bytes, u64)>> {
        // No code panics while it holds the lock with the map half changed.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, path: &str) -> Result<(Bytes, u64)> {
        path::check(path)?;
        self.objects().get(path).cloned().ok_or_else(|| Error::not_found(format!("object '{path}' does not exist")))
    }
}

fn info(path: &str, bytes: &Bytes, modified_ms: u64) -> ObjectInfo {
    ObjectInfo { path: path.to_owned(), bytes: bytes.len() as u64, modified_ms }
}

#[async_trait]
impl Store for MemoryStore {
    async fn put(&self, path: &str, mut body: ByteStream, options: PutOptions) -> Result<ObjectInfo> {
        path::check(path)?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.try_next().await? {
            bytes.extend_from_slice(&chunk);
        }
        let bytes = bytes.freeze();
        let mut objects = self.objects();
        if options.create_new && objects.contains_key(path) {
            return Err(Error::already_exists(format!("object '{path}' exists already")));
        }
        let modified = now_ms();
        let info = info(path, &bytes, modified);
        objects.insert(path.to_owned(), (bytes, modified));
        Ok(info)
    }

    async fn get(&self, path: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
        let (bytes, _) = self.find(path)?;
        let range = body::clamp(range, bytes.len() as u64);
        Ok(body::from_bytes(bytes.slice(range.start as usize..range.end as usize)))
    }

    async fn stat(&self, path: &str) -> Result<ObjectInfo> {
        self.find(path).map(|(bytes, modified)| info(path, &bytes, modified))
    }

    async fn list(&self, prefix: &str) -> Result<ObjectStream> {
        path::check_prefix(prefix)?;
        let folder = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let found: Vec<Result<ObjectInfo>> = self
            .objects()
            .iter()
            .filter(|(path, _)| path.starts_with(&folder))
            .map(|(path, (bytes, modified))| Ok(info(path, bytes, *modified)))
            .collect();
        Ok(stream::iter(found).boxed())
    }

    async fn children(&self, prefix: &str) -> Result<ChildStream> {
        path::check_prefix(prefix)?;
        let folder = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let mut found: Vec<Child> = Vec::new();
        for (path, (bytes, modified)) in self.objects().iter() {
            let Some(below) = path.strip_prefix(&folder) else { continue };
            match below.split_once('/') {
                None => found.push(Child::Object(info(path, bytes, *modified))),
                Some((name, _)) => found.push(Child::Folder(format!("{folder}{name}"))),
            }
        }
        // "a/x", "a-b/y" and "a/z" lie in that order: a folder's objects need not follow each other.
        found.sort_by(|a, b| a.path().cmp(b.path()));
        found.dedup_by(|a, b| matches!((&*a, &*b), (Child::Folder(a), Child::Folder(b)) if a == b));
        Ok(stream::iter(found.into_iter().map(Ok)).boxed())
    }

    async fn delete(&self, path: &str, recursive: bool) -> Result<()> {
        path::check(path)?;
        let mut objects = self.objects();
        objects.remove(path);
        if recursive {
            let folder = format!("{path}/");
            objects.retain(|path, _| !path.starts_with(&folder));
        }
        Ok(())
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        path::check(to)?;
        let object = self.find(from)?;
        let mut objects = self.objects();
        objects.remove(from);
        objects.insert(to.to_owned(), object);
        Ok(())
    }
}
