//! A store that counts what it is given and throws it away: the sink of throughput measurements.

use crate::{ByteStream, ChildStream, ObjectInfo, ObjectStream, PutOptions, Store, path};
use async_trait::async_trait;
use coffer_stdx::time::now_ms;
use coffer_stdx::{Error, Result};
use futures::{StreamExt, TryStreamExt, stream};
use std::ops::Range;

/// Keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullStore;

fn nothing(path: &str) -> Error {
    Error::not_found(format!("object '{path}' does not exist: a null location keeps nothing"))
}

#[async_trait]
impl Store for NullStore {
    async fn put(&self, path: &str, mut body: ByteStream, _options: PutOptions) -> Result<ObjectInfo> {
        path::check(path)?;
        let mut bytes = 0;
        while let Some(chunk) = body.try_next().await? {
            bytes += chunk.len() as u64;
        }
        Ok(ObjectInfo { path: path.to_owned(), bytes, modified_ms: now_ms() })
    }

    async fn get(&self, path: &str, _range: Option<Range<u64>>) -> Result<ByteStream> {
        Err(nothing(path))
    }

    async fn stat(&self, path: &str) -> Result<ObjectInfo> {
        Err(nothing(path))
    }

    async fn list(&self, _prefix: &str) -> Result<ObjectStream> {
        Ok(stream::empty().boxed())
    }

    async fn children(&self, _prefix: &str) -> Result<ChildStream> {
        Ok(stream::empty().boxed())
    }

    async fn delete(&self, _path: &str, _recursive: bool) -> Result<()> {
        Ok(())
    }

    async fn rename(&self, from: &str, _to: &str) -> Result<()> {
        Err(nothing(from))
    }
}
