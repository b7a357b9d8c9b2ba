//! A store behind brokers: the client side of broker.proto.
//!
//! Every request names location and properties, so any broker of the list can serve it. The one that served last is
//! asked first; when it cannot be reached the next one is, as long as no byte of a body has left. Every chunk carries
//! its CRC32C and the whole object does, so that nothing a wire or a broker garbles becomes an object.
//!
//! A crash of this process ends the stream without its finish message, and the broker throws the bytes away.

mod upload;

use crate::{ByteStream, Child, ChildStream, ObjectInfo, ObjectStream, PutOptions, Store, path};
use async_trait::async_trait;
use bytes::Bytes;
use coffer_proto::channel::{MAX_MESSAGE_BYTES, connect};
use coffer_proto::status::from_status;
use coffer_proto::v1;
use coffer_proto::v1::broker_client::BrokerClient;
use coffer_proto::v1::write_answer::Kind;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use futures::{StreamExt, stream};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use upload::Upload;

/// For one answer, or the first message of a stream; longer than a broker's own retries take.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// For a broker to have memory for one more object.
const READY_WITHIN: Duration = Duration::from_secs(600);
/// For the removal of a folder, which is many requests to the storage.
const REMOVE_WITHIN: Duration = Duration::from_secs(600);

type Client = BrokerClient<Channel>;

/// A location reached through brokers.
pub struct RemoteStore {
    storage: v1::StorageSpec,
    brokers: Vec<Broker>,
    preferred: AtomicUsize,
}

struct Broker {
    name: String,
    client: Client,
}

impl fmt::Debug for RemoteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The properties hold credentials.
        let names: Vec<&str> = self.brokers.iter().map(|broker| broker.name.as_str()).collect();
        f.debug_struct("RemoteStore").field("location", &self.storage.location).field("brokers", &names).finish()
    }
}

impl RemoteStore {
    /// The location of `spec` through its brokers; connects when first used. Call it within a tokio runtime.
    pub fn open(spec: &v1::StorageSpec) -> Result<RemoteStore> {
        let brokers = spec.brokers.iter().map(|address| Broker::connect(address)).collect::<Result<Vec<_>>>()?;
        if brokers.is_empty() {
            return Err(Error::invalid(format!("no broker is given for location '{}'", spec.location)));
        }
        let storage = v1::StorageSpec { brokers: Vec::new(), ..spec.clone() };
        Ok(RemoteStore { storage, brokers, preferred: AtomicUsize::new(0) })
    }

    fn path_request(&self, path: &str) -> v1::PathRequest {
        v1::PathRequest { storage: Some(self.storage.clone()), path: path.to_owned(), one_level: false }
    }

    async fn entries(
        &self,
        prefix: &str,
        one_level: bool,
    ) -> Result<stream::BoxStream<'static, Result<v1::ObjectInfo>>> {
        path::check_prefix(prefix)?;
        let request = v1::PathRequest { one_level, ..self.path_request(prefix) };
        let asked = self.ask(
            || true,
            |mut client| {
                let request = Request::new(request.clone());
                async move { answer_within(client.list(request)).await }
            },
        );
        let (answer, broker) = asked.await.context(|| format!("list '{prefix}'"))?;
        Ok(answers(answer.into_inner(), &broker.name))
    }

    /// Ask the brokers in turn until one is reached. `may_repeat` says whether a request that reached nobody can still
    /// be made again.
    async fn ask<T, F>(&self, may_repeat: impl Fn() -> bool, request: impl Fn(Client) -> F) -> Result<(T, &Broker)>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut unreachable = Vec::new();
        for turn in 0..self.brokers.len() {
            let at = (first + turn) % self.brokers.len();
            let broker = &self.brokers[at];
            match request(broker.client.clone()).await {
                Ok(answer) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok((answer, broker));
                }
                Err(status) if is_unreachable(&status) => {
                    tracing::warn!(broker = broker.name, error = status.message(), "broker not reached");
                    unreachable.push(broker.error(&status).message().to_owned());
                    if !may_repeat() {
                        break;
                    }
                }
                Err(status) => return Err(broker.error(&status)),
            }
        }
        Err(Error::unavailable(unreachable.join("; ")))
    }
}

impl Broker {
    fn connect(address: &str) -> Result<Broker> {
        let client = BrokerClient::new(connect(address)?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Broker { name: format!("broker {address}"), client })
    }

    /// What a broker answered, under its name: "permission denied" is of use only with the host it was denied on.
    fn error(&self, status: &Status) -> Error {
        error_of(status, &self.name)
    }
}

fn error_of(status: &Status, broker: &str) -> Error {
    let error = from_status(status, broker);
    match error.message().starts_with(broker) {
        true => error,
        false => Error::new(error.kind(), format!("{broker}: {}", error.message())),
    }
}

/// Whether the transport failed, rather than the broker having answered: its own errors carry their kind in details.
fn is_unreachable(status: &Status) -> bool {
    status.details().is_empty() && matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled)
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

/// Check one chunk and hand its bytes on; `next` is the offset it must have.
fn checked(chunk: v1::ReadChunk, next: &mut u64) -> Result<Bytes> {
    if chunk.offset != *next {
        return Err(Error::corrupt(format!("a chunk at offset {} came where {next} was due", chunk.offset)));
    }
    if crc32c::crc32c(&chunk.data) != chunk.crc32c {
        return Err(Error::corrupt(format!("the chunk at offset {} does not match its CRC32C", chunk.offset)));
    }
    *next += chunk.data.len() as u64;
    Ok(chunk.data)
}

#[async_trait]
impl Store for RemoteStore {
    async fn put(&self, path: &str, body: ByteStream, options: PutOptions) -> Result<ObjectInfo> {
        path::check(path)?;
        let upload = Upload::new(body);
        let open = v1::OpenWrite {
            storage: Some(self.storage.clone()),
            path: path.to_owned(),
            create_new: options.create_new,
            length_hint: options.length_hint.unwrap_or(0),
        };
        let asked = self.ask(
            || upload.is_untouched(),
            |mut client| {
                let (go, ready) = oneshot::channel();
                let messages = upload.messages(open.clone(), ready);
                async move { stored(client.write(messages).await?.into_inner(), go).await }
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
        let request =
            v1::ReadRequest { storage: Some(self.storage.clone()), path: path.to_owned(), offset: range.start, length };
        let asked = self.ask(
            || true,
            |mut client| {
                let request = Request::new(request.clone());
                async move { answer_within(client.read(request)).await }
            },
        );
        let (answer, broker) = asked.await.context(|| format!("get '{path}'"))?;
        let path = path.to_owned();
        let mut next = range.start;
        let chunks = answers(answer.into_inner(), &broker.name).map(move |chunk| {
            let data = chunk.and_then(|chunk| checked(chunk, &mut next));
            data.context(|| format!("get '{path}'"))
        });
        Ok(chunks.boxed())
    }

    async fn stat(&self, path: &str) -> Result<ObjectInfo> {
        path::check(path)?;
        let asked = self.ask(
            || true,
            |mut client| {
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
        let asked = self.ask(
            || true,
            |mut client| {
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
        let asked = self.ask(
            || true,
            |mut client| {
                let request = within(message.clone(), REMOVE_WITHIN);
                async move { client.rename(request).await }
            },
        );
        asked.await.map(|_| ()).context(|| format!("rename '{from}' to '{to}'"))
    }
}

/// Follow a put: let its bytes go when the broker is ready for them, until the object is stored.
async fn stored(mut answers: Streaming<v1::WriteAnswer>, go: oneshot::Sender<()>) -> Result<v1::ObjectInfo, Status> {
    let first = tokio::time::timeout(READY_WITHIN, answers.message()).await;
    let mut answer = first.unwrap_or_else(|_| Err(late(READY_WITHIN)))?;
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
async fn answer_within<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(ANSWER_WITHIN, call).await {
        Ok(answer) => answer,
        Err(_) => Err(late(ANSWER_WITHIN)),
    }
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
        assert_eq!(checked(chunk(5, "abc"), &mut next).unwrap(), "abc");
        assert_eq!(checked(chunk(5, "abc"), &mut next).unwrap_err().kind(), ErrorKind::Corrupt);
        let garbled = v1::ReadChunk { data: Bytes::from("abd"), ..chunk(8, "abc") };
        assert_eq!(checked(garbled, &mut next).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[tokio::test]
    async fn debug_shows_no_properties() {
        let spec = v1::StorageSpec {
            location: "s3://b/p".into(),
            properties: [("s3.secret_key".to_owned(), "hunter2".to_owned())].into(),
            brokers: vec!["h:1".into()],
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
