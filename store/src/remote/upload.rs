//! The messages of one put: open, chunks with offset and CRC32C, finish with length and CRC32C of the whole.
//!
//! gRPC gives a client no way to end its stream with an error. So when the body fails, the stream just ends; the broker
//! finds no finish message and throws the bytes away, and the cause is kept here for the caller.

use crate::{ByteStream, body};
use bytes::Bytes;
use coffer_proto::channel::MESSAGE_BYTES;
use coffer_proto::v1::write_object::Kind;
use coffer_proto::v1::{FinishWrite, OpenWrite, WriteChunk, WriteObject};
use coffer_stdx::Error;
use futures::{Stream, StreamExt, stream};
use std::sync::{Arc, Mutex, PoisonError};

/// A body on its way, and what became of it.
#[derive(Clone)]
pub(super) struct Upload {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    // Taken when the first chunk is asked for; until then another broker may have it.
    body: Option<ByteStream>,
    fault: Option<Error>,
}

enum Step {
    Open(OpenWrite),
    Body,
    Chunks { body: ByteStream, offset: u64, whole: u32 },
    End,
}

impl Upload {
    pub(super) fn new(body: ByteStream) -> Upload {
        let body = body::rechunk(body, MESSAGE_BYTES);
        Upload { shared: Arc::new(Mutex::new(Shared { body: Some(body), fault: None })) }
    }

    /// Whether no message beyond the opening one was asked for.
    pub(super) fn is_untouched(&self) -> bool {
        self.with(|shared| shared.body.is_some())
    }

    /// Why the body ended early.
    pub(super) fn fault(&self) -> Option<Error> {
        self.with(|shared| shared.fault.take())
    }

    /// The messages to send; again from the start as long as the body is untouched.
    pub(super) fn messages(&self, open: OpenWrite) -> impl Stream<Item = WriteObject> + Send + 'static {
        let upload = self.clone();
        stream::unfold(Step::Open(open), move |step| upload.clone().next(step))
    }

    async fn next(self, step: Step) -> Option<(WriteObject, Step)> {
        let (mut body, offset, whole) = match step {
            Step::Open(open) => return Some((message(Kind::Open(open)), Step::Body)),
            Step::Body => (self.with(|shared| shared.body.take())?, 0, 0),
            Step::Chunks { body, offset, whole } => (body, offset, whole),
            Step::End => return None,
        };
        match body.next().await {
            Some(Ok(data)) => {
                let (chunk, whole) = chunk(offset, data, whole);
                let offset = offset + chunk.data.len() as u64;
                Some((message(Kind::Chunk(chunk)), Step::Chunks { body, offset, whole }))
            }
            Some(Err(error)) => {
                self.with(|shared| shared.fault = Some(error));
                None
            }
            None => Some((message(Kind::Finish(FinishWrite { length: offset, crc32c: whole })), Step::End)),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Shared) -> T) -> T {
        // Nothing panics inside; even so both fields stay meaningful.
        act(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn chunk(offset: u64, data: Bytes, whole: u32) -> (WriteChunk, u32) {
    let crc32c = crc32c::crc32c(&data);
    let whole = crc32c::crc32c_combine(whole, crc32c, data.len());
    (WriteChunk { offset, data, crc32c }, whole)
}

fn message(kind: Kind) -> WriteObject {
    WriteObject { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn kinds(upload: &Upload) -> Vec<Kind> {
        upload.messages(OpenWrite::default()).filter_map(|message| async { message.kind }).collect().await
    }

    #[tokio::test]
    async fn a_body_is_framed_and_summed() {
        let bytes: Vec<u8> = (0..MESSAGE_BYTES + 3).map(|at| at as u8).collect();
        let upload = Upload::new(body::from_bytes(bytes.clone()));
        assert!(upload.is_untouched());
        let kinds = kinds(&upload).await;
        assert!(!upload.is_untouched() && upload.fault().is_none());
        let [Kind::Open(_), Kind::Chunk(first), Kind::Chunk(second), Kind::Finish(finish)] = &kinds[..] else {
            panic!("{} messages", kinds.len());
        };
        assert_eq!((first.offset, second.offset, second.data.len()), (0, MESSAGE_BYTES as u64, 3));
        assert_eq!((finish.length, finish.crc32c), (bytes.len() as u64, crc32c::crc32c(&bytes)));
    }

    #[tokio::test]
    async fn a_failing_body_sends_no_finish_and_keeps_its_cause() {
        let body = stream::iter([Ok(Bytes::from(vec![1; MESSAGE_BYTES])), Err(Error::cancelled("stop"))]).boxed();
        let upload = Upload::new(body);
        let kinds = kinds(&upload).await;
        assert!(matches!(&kinds[..], [Kind::Open(_), Kind::Chunk(_)]));
        assert_eq!(upload.fault(), Some(Error::cancelled("stop")));
    }
}
