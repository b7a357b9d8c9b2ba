//! A store behind brokers: the client side of broker.proto.
//!
//! Every request names location and properties, so any broker of the list can serve it; [`brokers`] chooses. Every chunk
//! carries its CRC32C and the whole object does, so that nothing a wire or a broker garbles becomes an object. Bytes that
//! were changed on the way are no fault of the object: the error is one that may pass, and names both ends of the way.
//!
//! A small object that may replace another goes as one message: putting it twice has the same outcome, so that every
//! broker may be tried. All others are announced first and their bytes go to one broker.
//!
//! A crash of this process ends the stream without its finish message, and the broker throws the bytes away.

mod brokers;
mod upload;

use crate::body::Whole;
use crate::{ByteStream, Child, ChildStream, ObjectInfo, ObjectStream, PutOptions, Store, body, path};
use async_trait::async_trait;
use brokers::{Brokers, error_of};
use bytes::Bytes;
use coffer_proto::channel::SMALL_OBJECT_BYTES;
use coffer_proto::v1;
use coffer_proto::v1::write_answer::Kind;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use futures::{StreamExt, stream};
use std::fmt;
use std::ops::Range;
use std::time::Duration;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};
use upload::Upload;

/// For one answer, or the first message of a stream; longer than a broker's own retries take.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// For a broker to have memory for one more object.
const READY_WITHIN: Duration = Duration::from_secs(600);
/// For the removal of a folder, which is many requests to the storage.
const REMOVE_WITHIN: Duration = Duration::from_secs(600);

/// A location reached through brokers.
pub struct RemoteStore {
    storage: v1::StorageSpec,
    brokers: Brokers,
}

impl fmt::Debug for RemoteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The properties hold credentials.
        f.debug_struct("RemoteStore")
            .field("location", &self.storage.location)
            .field("brokers", &self.brokers.names())
            .finish()
    }
}

impl RemoteStore {
    /// The location of `spec` through its brokers; connects when first used. Call it within a tokio runtime.
    pub fn open(spec: &v1::StorageSpec) -> Result<RemoteStore> {
        let brokers = Brokers::open(&spec.brokers)?;
        if brokers.is_empty() {
            return Err(Error::invalid(format!("no broker is given for location '{}'", spec.location)));
        }
        let storage = v1::StorageSpec { brokers: Vec::new(), ..spec.clone() };
        Ok(RemoteStore { storage, brokers })
    }

    fn path_request(&self, path: &str) -> v1::PathRequest {
        v1::PathRequest { storage: Some(self.storage.clone()), path: path.to_owned(), one_level: false }
    }

    /// Put a small object, whole.
    async fn put_whole(&self, path: &str, data: Bytes) -> Result<ObjectInfo> {
        let message = v1::PutObject {
            storage: Some(self.storage.clone()),
            path: path.to_owned(),
            crc32c: crc32c::crc32c(&data),
            data,
            wait_ms: 0,
        };
        let asked = self.brokers.ask(
            || true,
            |mut client, wait_ms| {
                let request = Request::new(v1::PutObject { wait_ms, ..message.clone() });
                async move { answer_within(READY_WITHIN, client.put(request)).await }
            },
        );
        let (answer, _) = asked.await.context(|| format!("put '{path}'"))?;
        Ok(info(answer.into_inner()))
    }

    /// Put an object whose bytes may be many, or which must be new.
    async fn put_along(&self, path: &str, body: ByteStream, options: PutOptions) -> Result<ObjectInfo> {
        let upload = Upload::new(body);
        let open = v1::OpenWrite {
            storage: Some(self.storage.clone()),
            path: path.to_owned(),
            create_new: options.create_new,
            length_hint: options.length_hint.unwrap_or(0),
            wait_ms: 0,
        };
        let asked = self.brokers.ask(
            || upload.is_untouched(),
            |mut client, wait_ms| {
                let (go, ready) = oneshot::channel();
                let messages = upload.messages(v1::OpenWrite { wait_ms, ..open.clone() }, ready);
                async move { stored(client.write(messages), go).await }
            },
        );
        let answer = asked.await;
        // When our own body failed, the broker only knows that the stream broke off.
        if let Some(fault) = upload.fault() {
            return Err(fault);
        }
        let (answer, _) = answer.context(|| format!("put '{path}'"))?;
        Ok(info(answer))
    }

    async fn entries(
        &self,
        prefix: &str,
        one_level: bool,
    ) -> Result<stream::BoxStream<'static, Result<v1::ObjectInfo>>> {
        path::check_prefix(prefix)?;
        let request = v1::PathRequest { one_level, ..self.path_request(prefix) };
        let asked = self.brokers.ask(
            || true,
            |mut client, _| {
                let request = Request::new(request.clone());
                async move { answer_within(ANSWER_WITHIN, client.list(request)).await }
            },
        );
        let (answer, broker) = asked.await.context(|| format!("list '{prefix}'"))?;
        Ok(answers(answer.into_inner(), &broker.name))
    }
}

fn within<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

fn info(info: v1::ObjectInfo) -> ObjectInfo {
    ObjectInfo { path: info.path, bytes: info.bytes, modified_ms: info.modified_ms }
}

/// A stream of messages as a stream of ours, errors under the broker's name.
fn answers<T: Send + 'static>(messages: Streaming<T>, broker: &str) -> stream::BoxStream<'static, Result<T>> {
    let broker = broker.to_owned();
    messages.map(move |message| message.map_err(|status| error_of(&status, &broker))).boxed()
}

/// Check one chunk and hand its bytes on; `next` is the offset it must have. The object is asked for again from there.
fn checked(chunk: v1::ReadChunk, next: &mut u64, broker: &str) -> Result<Bytes> {
    let garbled = |what: String| {
        Error::unavailable(format!(
            "{what}: bytes were changed on the way from {broker} to this host; when it goes on, check memory and network \
             of both"
        ))
    };
    if chunk.offset != *next {
        return Err(garbled(format!("a chunk at offset {} came where {next} was due", chunk.offset)));
    }
    if crc32c::crc32c(&chunk.data) != chunk.crc32c {
        return Err(garbled(format!("the chunk at offset {} does not match its CRC32C", chunk.offset)));
    }
    *next += chunk.data.len() as u64;
    Ok(chunk.data)
}

#[async_trait]
impl Store for RemoteStore {
    async fn put(&self, path: &str, body: ByteStream, options: PutOptions) -> Result<ObjectInfo> {
        path::check(path)?;
        let is_small = options.length_hint.is_some_and(|bytes| bytes <= SMALL_OBJECT_BYTES as u64);
        if !is_small || options.create_new {
            return self.put_along(path, body, options).await;
        }
        match body::whole(body, SMALL_OBJECT_BYTES).await? {
            Whole::All(data) => self.put_whole(path, data).await,
            // More than was announced.
            Whole::More(body) => self.put_along(path, body, PutOptions { length_hint: None, ..options }).await,
        }
    }

    async fn get(&self, path: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
        path::check(path)?;
        let range = range.unwrap_or(0..u64::MAX);
        let length = range.end.saturating_sub(range.start);
        if length == 0 {
            // On the wire a length of 0 means "to the end".
            self.stat(path).await?;
            return Ok(stream::empty().boxed());
        }
        let length = if range.end == u64::MAX { 0 } else { length };
        let request = v1::ReadRequest {
            storage: Some(self.storage.clone()),
            path: path.to_owned(),
            offset: range.start,
            length,
            wait_ms: 0,
        };
        let asked = self.brokers.ask(
            || true,
            |mut client, wait_ms| {
                let request = Request::new(v1::ReadRequest { wait_ms, ..request.clone() });
                async move { answer_within(READY_WITHIN, client.read(request)).await }
            },
        );
        let (answer, broker) = asked.await.context(|| format!("get '{path}'"))?;
        let (path, name) = (path.to_owned(), broker.name.clone());
        let mut next = range.start;
        let chunks = answers(answer.into_inner(), &broker.name).map(move |chunk| {
            let data = chunk.and_then(|chunk| checked(chunk, &mut next, &name));
            data.context(|| format!("get '{path}'"))
        });
        Ok(chunks.boxed())
    }

    async fn stat(&self, path: &str) -> Result<ObjectInfo> {
        path::check(path)?;
        let asked = self.brokers.ask(
            || true,
            |mut client, _| {
                let request = within(self.path_request(path), ANSWER_WITHIN);
                async move { client.stat(request).await }
            },
        );
        let (answer, _) = asked.await.context(|| format!("stat '{path}'"))?;
        Ok(info(answer.into_inner()))
    }

    async fn list(&self, prefix: &str) -> Result<ObjectStream> {
        Ok(self.entries(prefix, false).await?.map(|item| item.map(info)).boxed())
    }

    async fn children(&self, prefix: &str) -> Result<ChildStream> {
        let child = |entry: v1::ObjectInfo| match entry.folder {
            true => Child::Folder(entry.path),
            false => Child::Object(info(entry)),
        };
        Ok(self.entries(prefix, true).await?.map(move |item| item.map(child)).boxed())
    }

    async fn delete(&self, path: &str, recursive: bool) -> Result<()> {
        path::check(path)?;
        let message = v1::DeleteRequest { storage: Some(self.storage.clone()), path: path.to_owned(), recursive };
        let limit = if recursive { REMOVE_WITHIN } else { ANSWER_WITHIN };
        let asked = self.brokers.ask(
            || true,
            |mut client, _| {
                let request = within(message.clone(), limit);
                async move { client.delete(request).await }
            },
        );
        asked.await.map(|_| ()).context(|| format!("delete '{path}'"))
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        path::check(from)?;
        path::check(to)?;
        let message =
            v1::RenameRequest { storage: Some(self.storage.clone()), from: from.to_owned(), to: to.to_owned() };
        let asked = self.brokers.ask(
            || true,
            |mut client, _| {
                let request = within(message.clone(), REMOVE_WITHIN);
                async move { client.rename(request).await }
            },
        );
        asked.await.map(|_| ()).context(|| format!("rename '{from}' to '{to}'"))
    }
}

/// Follow a put: let its bytes go when the broker is ready for them, until the object is stored.
async fn stored(
    answers: impl Future<Output = Result<Response<Streaming<v1::WriteAnswer>>, Status>>,
    go: oneshot::Sender<()>,
) -> Result<v1::ObjectInfo, Status> {
    let first = async {
        let mut answers = answers.await?.into_inner();
        let first = answers.message().await?;
        Ok((first, answers))
    };
    let (mut answer, mut answers) = answer_within(READY_WITHIN, first).await?;
    if let Some(v1::WriteAnswer { kind: Some(Kind::Ready(_)) }) = answer {
        // Whether anybody still listens shows in the next answer.
        let _ = go.send(());
        answer = answers.message().await?;
    }
    match answer {
        Some(v1::WriteAnswer { kind: Some(Kind::Done(stored)) }) => {
            // To the very end, which follows at once: a stream that is dropped before counts as reset, and a connection
            // with a thousand of those is closed by the transport. The object is stored whatever comes here.
            let _ = answers.message().await;
            Ok(stored)
        }
        _ => Err(Status::unknown("the answer to a put ended before the object was stored")),
    }
}

fn late(limit: Duration) -> Status {
    let message = format!("no answer within {} s", limit.as_secs());
    coffer_proto::status::to_status(&Error::timeout(message))
}

/// Wait for the head of a stream. Its end has no deadline: keep-alive finds dead peers, and a long stream is no fault.
async fn answer_within<T>(limit: Duration, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(late(limit)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_stdx::ErrorKind;

    fn chunk(offset: u64, data: &'static str) -> v1::ReadChunk {
        v1::ReadChunk { offset, data: Bytes::from(data), crc32c: crc32c::crc32c(data.as_bytes()) }
    }

    #[test]
    fn chunks_out_of_order_or_garbled_are_refused() {
        let mut next = 5;
        assert_eq!(checked(chunk(5, "abc"), &mut next, "broker h:1").unwrap(), "abc");
        let garbled = v1::ReadChunk { data: Bytes::from("abd"), ..chunk(8, "abc") };
        for chunk in [chunk(5, "abc"), garbled] {
            let error = checked(chunk, &mut next, "broker h:1").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(error.message().contains("on the way from broker h:1"), "{error}");
        }
    }

    #[tokio::test]
    async fn debug_shows_no_properties() {
        let spec = v1::StorageSpec {
            location: "s3://b/p".into(),
            properties: [("s3.secret_key".to_owned(), "hunter2".to_owned())].into(),
            brokers: vec!["h:1".into()],
            ..v1::StorageSpec::default()
        };
        let shown = format!("{:?}", RemoteStore::open(&spec).unwrap());
        assert!(shown.contains("h:1") && !shown.contains("hunter2"), "{shown}");
    }

    #[tokio::test]
    async fn all_brokers_that_cannot_be_reached_are_named() {
        let spec =
            v1::StorageSpec { brokers: vec!["127.0.0.1:1".into(), "127.0.0.1:2".into()], ..v1::StorageSpec::default() };
        let error = RemoteStore::open(&spec).unwrap().stat("a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("127.0.0.1:1") && error.message().contains("127.0.0.1:2"), "{error}");
    }
}
