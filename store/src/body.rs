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

/// A body that may be small.
pub(crate) enum Whole {
    /// All of it.
    All(Bytes),
    /// It has more bytes than the limit; nothing of it is lost.
    More(ByteStream),
}

/// Read a body to its end unless that is more than `limit` bytes away.
pub(crate) async fn whole(mut body: ByteStream, limit: usize) -> Result<Whole> {
    let mut read = Gather::new();
    while let Some(chunk) = body.try_next().await? {
        read.push(chunk);
        if read.bytes() > limit {
            return Ok(Whole::More(stream::iter(read.take().into_iter().map(Ok)).chain(body).boxed()));
        }
    }
    let mut chunks = read.take();
    Ok(Whole::All(if chunks.len() == 1 { chunks.remove(0) } else { chunks.concat().into() }))
}

fn within(bytes: &[u8], limit: u64, path: &str) -> Result<()> {
    if bytes.len() as u64 <= limit {
        return Ok(());
    }
    Err(Error::limit(format!("object '{path}' has more than the {limit} bytes expected of it")))
}

/// The same bytes in chunks of at most `size`, small ones joined; large ones are split without copying.
pub fn rechunk(body: ByteStream, size: usize) -> ByteStream {
    let rechunk = Rechunk { body: Some(body), ready: Bytes::new(), small: BytesMut::new(), failed: None, size };
    stream::try_unfold(rechunk, Rechunk::next).boxed()
}

/// Chunks below this part of the wanted size are joined.
const SMALL: usize = 8;

struct Rechunk {
    // None once it ended.
    body: Option<ByteStream>,
    // A chunk being split.
    ready: Bytes,
    // Small chunks being joined.
    small: BytesMut,
    // An error that waits until the bytes before it are out.
    failed: Option<Error>,
    size: usize,
}

impl Rechunk {
    async fn next(mut self) -> Result<Option<(Bytes, Rechunk)>> {
        loop {
            if self.small.is_empty() && !self.ready.is_empty() {
                let at = self.size.min(self.ready.len());
                let chunk = self.ready.split_to(at);
                return Ok(Some((chunk, self)));
            }
            if !self.ready.is_empty() || self.body.is_none() || self.small.len() >= self.size / SMALL {
                if !self.small.is_empty() {
                    let chunk = self.small.split().freeze();
                    return Ok(Some((chunk, self)));
                }
                return self.failed.map_or(Ok(None), Err);
            }
            self.pull().await;
        }
    }

    async fn pull(&mut self) {
        let Some(body) = &mut self.body else { return };
        match body.try_next().await {
            Ok(Some(chunk)) if chunk.len() < self.size / SMALL => self.small.extend_from_slice(&chunk),
            Ok(Some(chunk)) => self.ready = chunk,
            Ok(None) => self.body = None,
            Err(error) => {
                self.body = None;
                self.failed = Some(error);
            }
        }
    }
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
    async fn rechunking_splits_large_joins_small_and_keeps_the_order() {
        let sizes = [1, 2, 3, 40, 1, 16, 33, 0, 1, 1];
        let mut at = 0u8;
        let chunks: Vec<Result<Bytes>> = sizes
            .iter()
            .map(|size| {
                let chunk: Vec<u8> = (0..*size).map(|step| at.wrapping_add(step)).collect();
                at = at.wrapping_add(*size);
                Ok(Bytes::from(chunk))
            })
            .collect();
        let body = stream::iter(chunks.into_iter().chain([Err(Error::cancelled("end"))])).boxed();
        let mut out = rechunk(body, 16);
        let (mut all, mut lengths) = (Vec::new(), Vec::new());
        let error = loop {
            match out.try_next().await {
                Ok(chunk) => {
                    let chunk = chunk.unwrap();
                    lengths.push(chunk.len());
                    all.extend_from_slice(&chunk);
                }
                Err(error) => break error,
            }
        };
        assert_eq!(error, Error::cancelled("end"));
        assert_eq!(all, (0..98).collect::<Vec<u8>>());
        assert_eq!(lengths, [1, 2, 3, 16, 16, 8, 1, 16, 16, 16, 1, 2]);
    }

    #[tokio::test]
    async fn a_small_body_is_read_whole_and_of_a_larger_one_nothing_is_lost() {
        let parts = |parts: &'static [&'static str]| stream::iter(parts).map(|part| Ok(Bytes::from(*part))).boxed();
        for (chunks, wanted) in [(&["12345"][..], "12345"), (&["1", "", "2345"], "12345"), (&[], "")] {
            assert!(matches!(whole(parts(chunks), 5).await.unwrap(), Whole::All(all) if all == wanted), "{chunks:?}");
        }
        let Whole::More(body) = whole(parts(&["123", "456", "7"]), 5).await.unwrap() else {
            panic!("7 bytes are more")
        };
        assert_eq!(body.try_collect::<Vec<_>>().await.unwrap().concat(), b"1234567");
        let failing = stream::iter([Ok(Bytes::from("1")), Err(Error::conflict("cause"))]).boxed();
        assert_eq!(whole(failing, 5).await.err(), Some(Error::conflict("cause")));
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
