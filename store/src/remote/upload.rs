//! The messages of one put: open, then, once the broker is ready for them, chunks with offset and CRC32C, and finish
//! with the length and the CRC32C of those sums: as good as one over all bytes, at no cost.
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
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A body on its way, and what became of it.
pub(super) struct Upload {
    shared: Arc<Mutex<Shared>>,
    // The transport goes on sending when the caller gives up waiting for answers; this tells it to stop.
    given_up: DropGuard,
}

struct Shared {
    // Taken when a broker is ready for the first chunk; until then another broker may have it.
    body: Option<ByteStream>,
    fault: Option<Error>,
}

enum Step {
    Open(Box<OpenWrite>, oneshot::Receiver<()>),
    Body(oneshot::Receiver<()>),
    Chunks { body: ByteStream, offset: u64, whole: u32 },
    End,
}

impl Upload {
    pub(super) fn new(body: ByteStream) -> Upload {
        let body = body::rechunk(body, MESSAGE_BYTES);
        let shared = Arc::new(Mutex::new(Shared { body: Some(body), fault: None }));
        Upload { shared, given_up: CancellationToken::new().drop_guard() }
    }

    /// Whether no message beyond the opening one was asked for.
    pub(super) fn is_untouched(&self) -> bool {
        with(&self.shared, |shared| shared.body.is_some())
    }

    /// Why the body ended early.
    pub(super) fn fault(&self) -> Option<Error> {
        with(&self.shared, |shared| shared.fault.take())
    }

    /// The messages to send, all but the first when `ready` says so; again from the start as long as the body is
    /// untouched.
    pub(super) fn messages(
        &self,
        open: OpenWrite,
        ready: oneshot::Receiver<()>,
    ) -> impl Stream<Item = WriteObject> + Send + 'static {
        let messages = Messages { shared: Arc::clone(&self.shared), given_up: self.given_up.token().clone() };
        stream::unfold((Step::Open(Box::new(open), ready), messages), |(step, messages)| async move {
            messages.next(step).await.map(|(message, step)| (message, (step, messages)))
        })
    }
}

/// The sending side, in the hands of the transport.
struct Messages {
    shared: Arc<Mutex<Shared>>,
    given_up: CancellationToken,
}

impl Messages {
    async fn next(&self, step: Step) -> Option<(WriteObject, Step)> {
        let (mut body, offset, whole) = match step {
            Step::Open(open, ready) => return Some((message(Kind::Open(*open)), Step::Body(ready))),
            Step::Body(ready) => {
                ready.await.ok()?;
                (with(&self.shared, |shared| shared.body.take())?, 0, 0)
            }
            Step::Chunks { body, offset, whole } => (body, offset, whole),
            Step::End => return None,
        };
        let item = tokio::select! {
            item = body.next() => item,
            () = self.given_up.cancelled() => return None,
        };
        match item {
            Some(Ok(data)) => {
                let (chunk, whole) = chunk(offset, data, whole);
                let offset = offset + chunk.data.len() as u64;
                Some((message(Kind::Chunk(chunk)), Step::Chunks { body, offset, whole }))
            }
            Some(Err(error)) => {
                with(&self.shared, |shared| shared.fault = Some(error));
                None
            }
            None => Some((message(Kind::Finish(FinishWrite { length: offset, crc32c: whole })), Step::End)),
        }
    }
}

fn with<T>(shared: &Mutex<Shared>, act: impl FnOnce(&mut Shared) -> T) -> T {
    // Nothing panics inside; even so both fields stay meaningful.
    act(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

fn chunk(offset: u64, data: Bytes, whole: u32) -> (WriteChunk, u32) {
    let crc32c = crc32c::crc32c(&data);
    let whole = crc32c::crc32c_append(whole, &crc32c.to_le_bytes());
    (WriteChunk { offset, data, crc32c }, whole)
}

fn message(kind: Kind) -> WriteObject {
    WriteObject { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn kinds(upload: &Upload) -> Vec<Kind> {
        let (go, ready) = oneshot::channel();
        go.send(()).unwrap();
        upload.messages(OpenWrite::default(), ready).filter_map(|message| async { message.kind }).collect().await
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
        let sums = [first, second].map(|chunk| crc32c::crc32c(&chunk.data).to_le_bytes()).concat();
        assert_eq!((finish.length, finish.crc32c), (bytes.len() as u64, crc32c::crc32c(&sums)));
    }

    #[tokio::test]
    async fn a_broker_that_never_gets_ready_leaves_the_body_to_others() {
        let upload = Upload::new(body::from_bytes("x"));
        let messages = upload.messages(OpenWrite::default(), oneshot::channel().1);
        assert_eq!(messages.count().await, 1);
        assert!(upload.is_untouched());
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
