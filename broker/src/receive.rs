//! The receiving end of a put: messages become a body that ends well only when every check passed.
//!
//! A peer sends chunks only when it was told that it may, which is when the store below asks for the first one: by then
//! the put has all the memory it needs to get on. Otherwise the bytes of those that wait would fill the window of the
//! connection, and those they wait for would starve.
//!
//! Grammar: open, chunk*, finish. Chunks follow each other without gap, each matches its CRC32C, and the finish message
//! states the length and the CRC32C of those sums. Anything else, and a stream that just ends, is an error in the body, so
//! that the store below throws away what it has: nothing becomes visible.
//!
//! Bytes that are not those that were sent were changed between the two processes. That may pass and blames neither the
//! sender's files nor the storage, so it is `Unavailable` here and not `Corrupt`.

use crate::limits::SILENCE;
use bytes::Bytes;
use coffer_proto::channel::SMALL_OBJECT_BYTES;
use coffer_proto::status::from_status;
use coffer_proto::v1::write_object::Kind;
use coffer_proto::v1::{FinishWrite, OpenWrite, WriteChunk, WriteObject};
use coffer_stdx::{Error, Result};
use coffer_store::ByteStream;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::oneshot;
use tonic::Status;

/// The opening message.
pub async fn opening<S>(messages: &mut S) -> Result<OpenWrite>
where
    S: Stream<Item = Result<WriteObject, Status>> + Send + Unpin,
{
    match next(messages).await? {
        Some(Kind::Open(open)) => Ok(open),
        Some(Kind::Chunk(_) | Kind::Finish(_)) | None => Err(Error::invalid("a put must begin with its open message")),
    }
}

/// The messages after the opening one as a checked body. `ready` is told when the first one is wanted, `count` the size
/// of each chunk.
pub fn body<S>(messages: S, ready: oneshot::Sender<()>, count: impl Fn(u64) + Send + 'static) -> ByteStream
where
    S: Stream<Item = Result<WriteObject, Status>> + Send + Unpin + 'static,
{
    let asked = stream::once(async move {
        // A peer that is gone shows in its messages.
        let _ = ready.send(());
        Ok(Bytes::new())
    });
    let chunks = stream::try_unfold((messages, Sum::default()), |(mut messages, mut sum)| async move {
        match next(&mut messages).await? {
            Some(Kind::Chunk(chunk)) => Ok(Some((sum.add(chunk)?, (messages, sum)))),
            Some(Kind::Finish(finish)) => {
                sum.finish(&finish)?;
                // Read to the very end: a stream that is dropped before counts as reset, and a connection with too many
                // of those is closed by the transport.
                match next(&mut messages).await? {
                    None => Ok(None),
                    Some(_) => Err(Error::invalid("a message came after the finish message of a put")),
                }
            }
            Some(Kind::Open(_)) => Err(Error::invalid("a second open message came in the middle of a put")),
            None => Err(Error::cancelled("the peer ended the put before its finish message")),
        }
    });
    asked.chain(chunks.inspect_ok(move |chunk: &Bytes| count(chunk.len() as u64))).boxed()
}

/// A small object that came in one message.
pub fn whole(data: Bytes, sum: u32) -> Result<Bytes> {
    if data.len() > SMALL_OBJECT_BYTES {
        return Err(Error::invalid(format!(
            "{} bytes are too many for one message, {SMALL_OBJECT_BYTES} fit",
            data.len()
        )));
    }
    if crc32c::crc32c(&data) != sum {
        return Err(garbled("the object does not match its CRC32C"));
    }
    Ok(data)
}

async fn next<S>(messages: &mut S) -> Result<Option<Kind>>
where
    S: Stream<Item = Result<WriteObject, Status>> + Send + Unpin,
{
    let message = tokio::time::timeout(SILENCE, messages.next())
        .await
        .map_err(|_| Error::timeout(format!("the peer sent nothing for {} s", SILENCE.as_secs())))?;
    match message {
        None => Ok(None),
        Some(Err(status)) => Err(from_status(&status, "the peer of this put")),
        Some(Ok(WriteObject { kind: Some(kind) })) => Ok(Some(kind)),
        Some(Ok(WriteObject { kind: None })) => {
            Err(Error::not_supported("a message of a kind this broker does not know"))
        }
    }
}

/// What arrived so far.
#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    length: u64,
    crc32c: u32,
}

impl Sum {
    fn add(&mut self, chunk: WriteChunk) -> Result<Bytes> {
        let due = self.length;
        if chunk.offset != due {
            return Err(garbled(&format!("a chunk at offset {} came where {due} was due", chunk.offset)));
        }
        let crc32c = crc32c::crc32c(&chunk.data);
        if crc32c != chunk.crc32c {
            return Err(garbled(&format!("the chunk at offset {due} does not match its CRC32C")));
        }
        self.crc32c = crc32c::crc32c_append(self.crc32c, &crc32c.to_le_bytes());
        self.length += chunk.data.len() as u64;
        Ok(chunk.data)
    }

    fn finish(&self, finish: &FinishWrite) -> Result<()> {
        if finish.length != self.length {
            let (length, due) = (self.length, finish.length);
            return Err(garbled(&format!("{length} bytes came of an object of {due}")));
        }
        if finish.crc32c != self.crc32c {
            return Err(garbled("the chunks that came are not those that were sent, their CRC32Cs differ"));
        }
        Ok(())
    }
}

fn garbled(what: &str) -> Error {
    Error::unavailable(format!(
        "{what}: bytes were changed on the way to this broker; when it goes on, check memory and network of both hosts"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_stdx::ErrorKind;

    fn chunk(offset: u64, data: &'static str) -> Kind {
        Kind::Chunk(WriteChunk { offset, data: Bytes::from(data), crc32c: crc32c::crc32c(data.as_bytes()) })
    }

    fn finish(chunks: &[&str]) -> Kind {
        let sums: Vec<u8> = chunks.iter().flat_map(|chunk| crc32c::crc32c(chunk.as_bytes()).to_le_bytes()).collect();
        let length = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Kind::Finish(FinishWrite { length, crc32c: crc32c::crc32c(&sums) })
    }

    async fn received(kinds: Vec<Kind>) -> Result<Vec<u8>> {
        let messages = stream::iter(kinds.into_iter().map(|kind| Ok(WriteObject { kind: Some(kind) })));
        let chunks: Vec<Bytes> = body(messages, oneshot::channel().0, |_| {}).try_collect().await?;
        Ok(chunks.concat())
    }

    #[tokio::test]
    async fn a_put_that_adds_up_is_a_body() {
        assert_eq!(received(vec![chunk(0, "abc"), chunk(3, "de"), finish(&["abc", "de"])]).await.unwrap(), b"abcde");
        assert_eq!(received(vec![finish(&[])]).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn every_fault_ends_the_body_in_an_error() {
        let garbled = Kind::Chunk(WriteChunk { offset: 0, data: Bytes::from("abd"), crc32c: crc32c::crc32c(b"abc") });
        for (kinds, kind) in [
            (vec![chunk(1, "abc")], ErrorKind::Unavailable),
            (vec![chunk(0, "abc"), chunk(2, "d")], ErrorKind::Unavailable),
            (vec![garbled], ErrorKind::Unavailable),
            (vec![chunk(0, "abc"), finish(&["ab"])], ErrorKind::Unavailable),
            (vec![chunk(0, "abc"), finish(&["abd"])], ErrorKind::Unavailable),
            (vec![chunk(0, "abc"), Kind::Open(OpenWrite::default())], ErrorKind::Invalid),
            (vec![chunk(0, "abc"), finish(&["abc"]), chunk(3, "d")], ErrorKind::Invalid),
            (vec![chunk(0, "abc")], ErrorKind::Cancelled),
        ] {
            assert_eq!(received(kinds).await.unwrap_err().kind(), kind);
        }
    }

    #[test]
    fn a_small_object_is_checked_too() {
        assert_eq!(whole(Bytes::from("abc"), crc32c::crc32c(b"abc")).unwrap(), "abc");
        assert_eq!(whole(Bytes::from("abd"), crc32c::crc32c(b"abc")).unwrap_err().kind(), ErrorKind::Unavailable);
        let large = Bytes::from(vec![0; SMALL_OBJECT_BYTES + 1]);
        let sum = crc32c::crc32c(&large);
        assert_eq!(whole(large, sum).unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[tokio::test]
    async fn a_put_begins_with_open() {
        let mut messages = stream::iter([Ok(WriteObject { kind: Some(chunk(0, "a")) })]);
        assert_eq!(opening(&mut messages).await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(opening(&mut messages).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
}
