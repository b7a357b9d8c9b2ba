//! Wrapper: bytes of bodies pass no faster than limits allow, each of several.

use crate::rate::Pair;
use crate::{ByteStream, ChildStream, ObjectInfo, ObjectStream, PutOptions, Store};
use async_trait::async_trait;
use coffer_stdx::Result;
use futures::{StreamExt, TryStreamExt};
use std::ops::Range;
use std::sync::Arc;

/// A store that takes its time.
#[derive(Debug)]
pub struct Limited {
    inner: Arc<dyn Store>,
    limits: Arc<[Arc<Pair>]>,
}

impl Limited {
    /// Every body of `inner` passes all of `limits`.
    pub fn new(inner: Arc<dyn Store>, limits: impl IntoIterator<Item = Arc<Pair>>) -> Limited {
        Limited { inner, limits: limits.into_iter().collect() }
    }
}

#[async_trait]
impl Store for Limited {
    async fn put(&self, path: &str, body: ByteStream, options: PutOptions) -> Result<ObjectInfo> {
        let limits = Arc::clone(&self.limits);
        let paced = body.and_then(move |chunk| {
            let limits = Arc::clone(&limits);
            async move {
                for limit in limits.iter() {
                    limit.upload.take(chunk.len() as u64).await;
                }
                Ok(chunk)
            }
        });
        self.inner.put(path, paced.boxed(), options).await
    }

    async fn get(&self, path: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
        let limits = Arc::clone(&self.limits);
        let paced = self.inner.get(path, range).await?.and_then(move |chunk| {
            let limits = Arc::clone(&limits);
            async move {
                for limit in limits.iter() {
                    limit.download.take(chunk.len() as u64).await;
                }
                Ok(chunk)
            }
        });
        Ok(paced.boxed())
    }

    async fn stat(&self, path: &str) -> Result<ObjectInfo> {
        self.inner.stat(path).await
    }

    async fn list(&self, prefix: &str) -> Result<ObjectStream> {
        self.inner.list(prefix).await
    }

    async fn children(&self, prefix: &str) -> Result<ChildStream> {
        self.inner.children(prefix).await
    }

    async fn delete(&self, path: &str, recursive: bool) -> Result<()> {
        self.inner.delete(path, recursive).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.inner.rename(from, to).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;
    use crate::{from_bytes, read_all};
    use std::time::Duration;

    #[tokio::test]
    async fn bodies_wait_for_every_limit_in_their_direction() {
        let limits: [Arc<Pair>; 2] = Default::default();
        let store = Arc::new(Limited::new(Arc::new(MemoryStore::new()), limits.clone()));
        store.put("a", from_bytes("abc"), PutOptions::default()).await.unwrap();
        // The first chunk passes on credit, those behind it wait.
        limits[1].set(1, 0);
        store.put("b", from_bytes(vec![0; 1 << 20]), PutOptions::default()).await.unwrap();
        assert_eq!(read_all(&*store, "a", 3).await.unwrap(), "abc");
        let waiting = Arc::clone(&store);
        let mut put =
            tokio::spawn(async move { waiting.put("c", from_bytes("x"), PutOptions::default()).await.map(|_| ()) });
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut put).await.is_err());
        limits[1].set(0, 0);
        tokio::time::timeout(Duration::from_secs(30), put).await.unwrap().unwrap().unwrap();
    }
}
