//! Wrapper for tests: fail the calls that a plan picks, before they reach the store.

use crate::{ByteStream, ChildStream, ObjectInfo, ObjectStream, PutOptions, Store};
use async_trait::async_trait;
use coffer_stdx::{Error, Result};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A call about to be made.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// 1 for the first call of any kind.
    pub number: u64,
    /// `put`, `get`, `stat`, `list`, `children`, `delete` or `rename`.
    pub operation: &'static str,
    /// Its path; the first, of two.
    pub path: &'a str,
}

type Plan = dyn Fn(&Call<'_>) -> Option<Error> + Send + Sync;

/// A store that fails on purpose.
pub struct Faulty {
    inner: Arc<dyn Store>,
    plan: Box<Plan>,
    calls: AtomicU64,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("inner", &self.inner).field("calls", &self.calls()).finish()
    }
}

impl Faulty {
    /// Calls for which `plan` has an error fail with it.
    pub fn new(inner: Arc<dyn Store>, plan: impl Fn(&Call<'_>) -> Option<Error> + Send + Sync + 'static) -> Faulty {
        Faulty { inner, plan: Box::new(plan), calls: AtomicU64::new(0) }
    }

    /// Calls made so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    fn step(&self, operation: &'static str, path: &str) -> Result<()> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        (self.plan)(&Call { number, operation, path }).map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Store for Faulty {
    async fn put(&self, path: &str, body: ByteStream, options: PutOptions) -> Result<ObjectInfo> {
        self.step("put", path)?;
        self.inner.put(path, body, options).await
    }

    async fn get(&self, path: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
        self.step("get", path)?;
        self.inner.get(path, range).await
    }

    async fn stat(&self, path: &str) -> Result<ObjectInfo> {
        self.step("stat", path)?;
        self.inner.stat(path).await
    }

    async fn list(&self, prefix: &str) -> Result<ObjectStream> {
        self.step("list", prefix)?;
        self.inner.list(prefix).await
    }

    async fn children(&self, prefix: &str) -> Result<ChildStream> {
        self.step("children", prefix)?;
        self.inner.children(prefix).await
    }

    async fn delete(&self, path: &str, recursive: bool) -> Result<()> {
        self.step("delete", path)?;
        self.inner.delete(path, recursive).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.step("rename", from)?;
        self.inner.rename(from, to).await
    }
}
