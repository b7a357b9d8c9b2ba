//! Bodies of objects: building, cutting to size, reading to the end.

use crate::{ByteStream, Store};
use bytes::{Bytes, BytesMut};
use coffer_stdx::{Error, Result};
use futures::{StreamExt, TryStreamExt, stream};
use std::ops::Range;

/// A body of bytes that are in memory already.
pub fn from_bytes(bytes: impl Into<Bytes>) -> ByteStream {
    let bytes = bytes.into();
    if bytes.is_empty() { stream::empty().boxed() } else { stream::once(std::future::ready(Ok(bytes))).boxed() }
}

/// A whole object that may have at most `limit` bytes: for small things such as manifests.
pub async fn read_all(store: &dyn Store, path: &str, limit: u64) -> Result<Bytes> {
    let mut body = store.get(path, None).await?;
    let first = body.try_next().await?.unwrap_or_default();
    let Some(second) = body.try_next().await? else {
        return within(&first, limit, path).map(|()| first);
    };
    let mut all = BytesMut::from(first);
    all.extend_from_slice(&second);
    within(&all, limit, path)?;
    while let Some(chunk) = body.try_next().await? {
        all.extend_from_slice(&chunk);
        within(&all, limit, path)?;
    }
    Ok(all.freeze())
}

fn within(bytes: &[u8], limit: u64, path: &str) -> Result<()> {
    if bytes.len() as u64 <= limit {
        return Ok(());
    }
    Err(Error::limit(format!("object '{path}' has more than the {limit} bytes expected of it")))
}

/// `range` cut to an object of `length` bytes; never inverted.
pub(crate) fn clamp(range: Option<Range<u64>>, length: u64) -> Range<u64> {
    let range = range.unwrap_or(0..length);
    let start = range.start.min(length);
    start..range.end.clamp(start, length)
}

/// Gathers chunks of any size and hands them out again in pieces of at least `size` bytes (the last may be smaller),
/// without copying: a piece is the list of the chunks it came in.
#[derive(Debug)]
pub(crate) struct Gather {
    chunks: Vec<Bytes>,
    bytes: usize,
}

impl Gather {
    pub(crate) fn new() -> Gather {
        Gather { chunks: Vec::new(), bytes: 0 }
    }

    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        if !chunk.is_empty() {
            self.chunks.push(chunk);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn take(&mut self) -> Vec<Bytes> {
        self.bytes = 0;
        std::mem::take(&mut self.chunks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PutOptions;
    use crate::memory::MemoryStore;

    #[test]
    fn ranges_are_cut_at_the_end() {
        let cases =
            [(None, 0..10), (Some(3..5), 3..5), (Some(3..99), 3..10), (Some(10..12), 10..10), (Some(11..12), 10..10)];
        for (range, cut) in cases {
            assert_eq!(clamp(range, 10), cut);
        }
        let inverted = Range { start: 7, end: 3 };
        assert!(clamp(Some(inverted), 10).is_empty());
    }

    #[tokio::test]
    async fn reading_all_stops_at_the_limit() {
        let store = MemoryStore::new();
        store.put("a", from_bytes("12345"), PutOptions::default()).await.unwrap();
        assert_eq!(read_all(&store, "a", 5).await.unwrap(), "12345");
        assert!(read_all(&store, "a", 4).await.unwrap_err().message().contains("'a'"));
        let parts = stream::iter(["12", "34", "5"].map(|part| Ok(Bytes::from(part)))).boxed();
        store.put("b", parts, PutOptions::default()).await.unwrap();
        assert_eq!(read_all(&store, "b", 9).await.unwrap(), "12345");
    }
}
