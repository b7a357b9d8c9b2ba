//! Wrapper: try again what failed for a transient reason, where trying again is safe.
//!
//! - `get`, `stat`, `list`, `children` and `delete` change nothing when repeated. A body that breaks off is taken up again at the
//!   byte where it broke: objects are immutable, and readers check what they read.
//! - `put` has consumed its body, and a `rename` that was carried out but not answered would fail the second time;
//!   both go through once, and the caller, who can rebuild them, decides.

use crate::{ByteStream, ChildStream, ObjectInfo, ObjectStream, PutOptions, Store};
use async_trait::async_trait;
use coffer_stdx::Result;
use coffer_stdx::retry::Policy;
use futures::{StreamExt, TryStreamExt, stream};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// No call is tried again that would end later than this: who waits for an answer wants to hear of a fault. A body that is
/// under way is given more.
const GIVE_UP_AFTER: Duration = Duration::from_secs(18);
/// Times one body may break off without a byte in between.
const BREAKS: u32 = 3;

/// A store that is patient.
#[derive(Debug)]
pub struct Retrying {
    inner: Arc<dyn Store>,
    policy: Policy,
}

impl Retrying {
    /// Follow `policy` in front of `inner`.
    pub fn new(inner: Arc<dyn Store>, policy: Policy) -> Retrying {
        Retrying { inner, policy }
    }
}

/// A body under way.
struct Reading {
    inner: Arc<dyn Store>,
    policy: Policy,
    path: String,
    rest: Range<u64>,
    body: ByteStream,
    breaks: u32,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(bytes::Bytes, Reading)>> {
        loop {
            match self.body.try_next().await {
                Ok(Some(chunk)) => {
                    self.rest.start += chunk.len() as u64;
                    self.breaks = 0;
                    return Ok(Some((chunk, self)));
                }
                Ok(None) => return Ok(None),
                Err(error) if self.breaks >= BREAKS || !error.kind().is_transient() => return Err(error),
                Err(error) => {
                    tracing::warn!(path = self.path, at = self.rest.start, %error, "body broke off, taking it up again");
                    self.breaks += 1;
                    self.body = self.policy.run(|| self.inner.get(&self.path, Some(self.rest.clone()))).await?;
                }
            }
        }
    }
}

#[async_trait]
impl Store for Retrying {
    async fn put(&self, path: &str, body: ByteStream, options: PutOptions) -> Result<ObjectInfo> {
        self.inner.put(path, body, options).await
    }

    async fn get(&self, path: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
        let body = self.policy.run_within(GIVE_UP_AFTER, || self.inner.get(path, range.clone())).await?;
        let reading = Reading {
            inner: Arc::clone(&self.inner),
            policy: self.policy,
            path: path.to_owned(),
            rest: range.unwrap_or(0..u64::MAX),
            body,
            breaks: 0,
        };
        Ok(stream::try_unfold(reading, Reading::next).boxed())
    }

    async fn stat(&self, path: &str) -> Result<ObjectInfo> {
        self.policy.run_within(GIVE_UP_AFTER, || self.inner.stat(path)).await
    }

    async fn list(&self, prefix: &str) -> Result<ObjectStream> {
        self.policy.run_within(GIVE_UP_AFTER, || self.inner.list(prefix)).await
    }

    async fn children(&self, prefix: &str) -> Result<ChildStream> {
        self.policy.run_within(GIVE_UP_AFTER, || self.inner.children(prefix)).await
    }

    async fn delete(&self, path: &str, recursive: bool) -> Result<()> {
        self.policy.run_within(GIVE_UP_AFTER, || self.inner.delete(path, recursive)).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.inner.rename(from, to).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faulty::{Call, Faulty};
    use crate::memory::MemoryStore;
    use crate::{body, read_all};
    use coffer_stdx::{Error, ErrorKind};

    const QUICK: Policy = Policy { attempts: 3, first_ms: 1, max_ms: 1 };

    async fn store(fault: impl Fn(&Call<'_>) -> Option<Error> + Send + Sync + 'static) -> Retrying {
        let inner = MemoryStore::new();
        inner.put("a", body::from_bytes("0123456789"), PutOptions::default()).await.unwrap();
        Retrying::new(Arc::new(Faulty::new(Arc::new(inner), fault)), QUICK)
    }

    #[tokio::test]
    async fn transient_failures_of_reads_pass_unseen_and_writes_fail_at_once() {
        let retrying = store(|call| (call.number % 2 == 1).then(|| Error::unavailable("down"))).await;
        assert_eq!(retrying.stat("a").await.unwrap().bytes, 10);
        assert_eq!(read_all(&retrying, "a", 10).await.unwrap(), "0123456789");
        let put = retrying.put("b", body::from_bytes("x"), PutOptions::default()).await;
        assert_eq!(put.unwrap_err().kind(), ErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn permanent_failures_are_not_tried_again() {
        let retrying = store(|call| (call.number == 1).then(|| Error::denied("no"))).await;
        assert_eq!(retrying.stat("a").await.unwrap_err().kind(), ErrorKind::Denied);
        retrying.stat("a").await.unwrap();
    }

    #[tokio::test]
    async fn a_body_is_taken_up_where_it_broke() {
        let whole = store(|_| None).await;
        let broken = stream::iter([Ok(bytes::Bytes::from("345")), Err(Error::unavailable("reset"))]).boxed();
        let reading =
            Reading { inner: whole.inner, policy: QUICK, path: "a".to_owned(), rest: 3..8, body: broken, breaks: 0 };
        let read: Vec<_> = stream::try_unfold(reading, Reading::next).try_collect().await.unwrap();
        assert_eq!(read, ["345", "67"]);
    }
}
