//! A body that can be begun again as long as little of it was taken.

use crate::budget::Permit;
use crate::{Budget, ByteStream};
use bytes::Bytes;
use coffer_stdx::{Error, Result};
use futures::TryStreamExt;

/// Bytes kept for another try when there is memory for them, and when there is not.
const KEPT_BYTES: usize = 4 << 20;
const FEW_KEPT_BYTES: usize = 512 << 10;

/// A body with its beginning.
pub(super) struct Replay {
    body: ByteStream,
    kept: Vec<Bytes>,
    most: usize,
    _memory: Option<Permit>,
    kept_bytes: usize,
    // None: more was taken than is kept.
    next: Option<usize>,
    failed: Option<Error>,
}

impl Replay {
    pub(super) fn new(body: ByteStream, memory: &Budget) -> Replay {
        let memory = memory.try_take(KEPT_BYTES as u64);
        let most = if memory.is_some() { KEPT_BYTES } else { FEW_KEPT_BYTES };
        Replay { body, kept: Vec::new(), most, _memory: memory, kept_bytes: 0, next: Some(0), failed: None }
    }

    /// The next chunk; none at the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if let Some(next) = &mut self.next
            && let Some(chunk) = self.kept.get(*next)
        {
            *next += 1;
            return Ok(Some(chunk.clone()));
        }
        let chunk = match self.body.try_next().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.failed = Some(error.clone());
                return Err(error);
            }
        };
        if let Some(next) = &mut self.next {
            self.kept_bytes += chunk.len();
            if self.kept_bytes <= self.most {
                self.kept.push(chunk.clone());
                *next += 1;
            } else {
                self.next = None;
                self.kept.clear();
            }
        }
        Ok(Some(chunk))
    }

    /// Why the body itself ended early, if it did.
    pub(super) fn failed(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    /// Begin again; false when that is not possible any more.
    pub(super) fn rewind(&mut self) -> bool {
        self.next = self.next.map(|_| 0);
        self.next.is_some() && self.failed.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt, stream};

    async fn read(replay: &mut Replay) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(chunk) = replay.chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn a_small_body_can_be_read_again_and_a_large_one_cannot() {
        let small = stream::iter(["ab", "c"].map(|text| Ok(Bytes::from(text)))).boxed();
        let mut small = Replay::new(small, &Budget::new(64 << 20));
        assert_eq!(small.chunk().await.unwrap().unwrap(), "ab");
        for _ in 0..2 {
            assert!(small.rewind());
            assert_eq!(read(&mut small).await.unwrap(), b"abc");
        }
        let chunk = Bytes::from(vec![1; KEPT_BYTES]);
        let large = stream::iter([Ok(chunk), Ok(Bytes::from("x"))]).boxed();
        let mut large = Replay::new(large, &Budget::new(64 << 20));
        large.chunk().await.unwrap();
        assert!(large.rewind());
        assert_eq!(read(&mut large).await.unwrap().len(), KEPT_BYTES + 1);
        assert!(!large.rewind());
    }

    #[tokio::test]
    async fn an_error_of_the_body_stays() {
        let body = stream::iter([Ok(Bytes::from("a")), Err(Error::conflict("cause"))]).boxed();
        let mut replay = Replay::new(body, &Budget::new(1 << 10));
        assert_eq!(read(&mut replay).await.unwrap_err().message(), "cause");
        assert!(!replay.rewind());
        assert_eq!(replay.failed().unwrap().message(), "cause");
    }
}
