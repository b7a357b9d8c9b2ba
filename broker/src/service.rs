//! broker.proto in front of the stores. Stateless: every request names its storage.
//!
//! Each request is counted, timed and logged once, here, with its location and never with its properties. A stream takes
//! its memory from the budget before it touches the storage and gives it back when it ends, however it ends.
//!
//! A request whose sender waits for it says how patient that is; it ends in time, with the cause that the storage gave.

use crate::admission::Admission;
use crate::fence::Fences;
use crate::limits::{READ_STREAM_BYTES, SMALLEST_WRITE_BYTES, WRITE_STREAM_BYTES};
use crate::metrics::{InFlight, Metrics};
use crate::pace::Pace;
use crate::receive;
use crate::stores::Stores;
use coffer_proto::channel::MESSAGE_BYTES;
use coffer_proto::status::{busy, to_status};
use coffer_proto::v1;
use coffer_proto::v1::broker_server::Broker;
use coffer_proto::v1::write_answer::Kind;
use coffer_stdx::time::now_ms;
use coffer_stdx::{Error, ErrorKind, Result, retry};
use coffer_store::budget::Permit;
use coffer_store::{Budget, ByteStream, Child, Limited, ObjectInfo, PutOptions, Store, from_bytes, rechunk};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt, stream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

type Answer<T> = Result<Response<T>, Status>;

/// The service; clones share everything.
#[derive(Debug, Clone)]
pub struct Service {
    stores: Arc<Stores>,
    metrics: Metrics,
    pace: Arc<Pace>,
    reads: Admission,
    writes: Admission,
    parts: Budget,
    fences: Fences,
    started_ms: u64,
}

/// The memory of a broker.
#[derive(Debug, Clone)]
pub struct Memory {
    /// For reading streams.
    pub reads: Admission,
    /// For writing streams.
    pub writes: Admission,
    /// For parts of uploads; the stores take from it.
    pub parts: Budget,
}

impl Service {
    /// Serve `stores`, within `memory` and at `pace`.
    pub fn new(stores: Arc<Stores>, metrics: Metrics, pace: Arc<Pace>, memory: Memory) -> Service {
        let Memory { reads, writes, parts } = memory;
        let fences = Fences::default();
        Service { stores, metrics, pace, reads, writes, parts, fences, started_ms: now_ms() }
    }

    fn store(&self, spec: Option<v1::StorageSpec>) -> Result<Arc<dyn Store>> {
        self.fences.admit(spec.as_ref())?;
        let limits = self.pace.of(spec.as_ref().and_then(|spec| spec.limit.as_ref()));
        Ok(Arc::new(Limited::new(self.stores.get(spec, Instant::now())?, limits)))
    }

    fn begin(&self, operation: &'static str, storage: &Option<v1::StorageSpec>, path: &str) -> Running {
        Running {
            operation,
            location: storage.as_ref().map(|spec| spec.location.clone()).unwrap_or_default(),
            path: path.to_owned(),
            started: Instant::now(),
            metrics: self.metrics.clone(),
            _in_flight: self.metrics.begin(operation),
            ended: false,
        }
    }

    async fn read_body(&self, request: v1::ReadRequest) -> Result<ByteStream> {
        let end = match request.length {
            0 => u64::MAX,
            length => request.offset.saturating_add(length),
        };
        let store = self.store(request.storage)?;
        let mut body = rechunk(store.get(&request.path, Some(request.offset..end)).await?, MESSAGE_BYTES);
        // The first bytes go with the head of the answer, so that a small object is one packet; and who waits for an
        // answer learns of a storage that breaks off before it.
        let first = body.try_next().await?;
        Ok(stream::iter(first.map(Ok)).chain(body).boxed())
    }

    async fn put_whole(&self, put: v1::PutObject) -> Result<ObjectInfo> {
        let store = self.store(put.storage)?;
        let body = receive::whole(put.data, put.crc32c)?;
        let bytes = body.len() as u64;
        self.metrics.received.inc_by(bytes);
        let options = PutOptions { create_new: false, length_hint: Some(bytes) };
        store.put(&put.path, from_bytes(body), options).await
    }

    async fn write_body(self, put: Incoming) -> Result<ObjectInfo> {
        let Incoming { open, messages, ready, permit: _permit } = put;
        let store = self.store(open.storage.clone())?;
        let received = self.metrics.received.clone();
        let body = receive::body(messages, ready, move |bytes| received.inc_by(bytes));
        let body = self.fences.guarded(body, open.storage.as_ref());
        let length_hint = (open.length_hint > 0).then_some(open.length_hint);
        store.put(&open.path, body, PutOptions { create_new: open.create_new, length_hint }).await
    }
}

/// How long the sender of a request waits.
fn patience(storage: &Option<v1::StorageSpec>) -> Option<Duration> {
    let ms = storage.as_ref().map_or(0, |storage| storage.patience_ms);
    (ms > 0).then(|| Duration::from_millis(u64::from(ms)))
}

/// `work`, unless patience ends before.
async fn patiently<T>(patience: Option<Duration>, work: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(limit) = patience else { return work.await };
    let late = || Error::timeout(format!("the storage did not answer within {} s", limit.as_secs_f32()));
    retry::within(limit, late, work).await
}

/// A put that was announced.
struct Incoming {
    open: v1::OpenWrite,
    messages: Streaming<v1::WriteObject>,
    ready: oneshot::Sender<()>,
    permit: Permit,
}

/// The answers to a put: one when its bytes are wanted, one when the object is stored. Polling them drives the put, so
/// that it ends with the peer that waits for them.
fn progress(
    put: BoxFuture<'static, Result<ObjectInfo>>,
    asked: oneshot::Receiver<()>,
) -> impl Stream<Item = Result<v1::WriteAnswer>> + Send {
    let start = Some((put, Some(asked)));
    stream::try_unfold(start, |step| async move {
        let Some((mut put, asked)) = step else { return Ok(None) };
        if let Some(asked) = asked {
            tokio::select! {
                outcome = &mut put => return outcome.map(|stored| Some((done(stored), None))),
                Ok(()) = asked => {
                    let ready = v1::WriteAnswer { kind: Some(Kind::Ready(v1::WriteReady {})) };
                    return Ok(Some((ready, Some((put, None)))));
                }
            }
        }
        put.await.map(|stored| Some((done(stored), None)))
    })
}

fn done(stored: ObjectInfo) -> v1::WriteAnswer {
    v1::WriteAnswer { kind: Some(Kind::Done(info(stored))) }
}

/// A request being served: says once how it ended.
#[derive(Debug)]
struct Running {
    operation: &'static str,
    location: String,
    path: String,
    started: Instant,
    metrics: Metrics,
    _in_flight: InFlight,
    ended: bool,
}

impl Running {
    fn end(&mut self, error: Option<&Error>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.metrics.end(self.operation, error.map_or("ok", |error| error.kind().name()));
        let (operation, location, path) = (self.operation, &self.location, &self.path);
        let ms = self.started.elapsed().as_millis() as u64;
        match error {
            None => tracing::debug!(operation, location, path, ms, "served"),
            // Asking whether something is there is no fault.
            Some(error) if error.kind() == ErrorKind::NotFound => {
                tracing::debug!(operation, location, path, ms, %error, "not found");
            }
            Some(error) => tracing::warn!(operation, location, path, ms, %error, "request failed"),
        }
    }

    /// There is no memory for it here and now.
    fn refuse<T>(mut self, why: &str) -> Answer<T> {
        self.end(Some(&Error::limit(why)));
        Err(busy(why))
    }

    fn answer<T>(mut self, outcome: Result<T>) -> Answer<T> {
        self.end(outcome.as_ref().err());
        outcome.map(Response::new).map_err(|error| to_status(&error))
    }

    /// The items of a stream as answers; the request ends with it.
    fn answers<T: Send + 'static>(
        mut self,
        items: impl Stream<Item = Result<T>> + Send + 'static,
    ) -> BoxStream<'static, Result<T, Status>> {
        let mut items = items.boxed();
        stream::poll_fn(move |context| {
            let item = futures::ready!(items.poll_next_unpin(context));
            match &item {
                Some(Ok(_)) => {}
                Some(Err(error)) => self.end(Some(error)),
                None => self.end(None),
            }
            std::task::Poll::Ready(item.map(|item| item.map_err(|error| to_status(&error))))
        })
        .boxed()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A request that is dropped before its end was given up by its peer.
        self.end(Some(&Error::cancelled("the peer gave up")));
    }
}

fn info(info: ObjectInfo) -> v1::ObjectInfo {
    v1::ObjectInfo { path: info.path, bytes: info.bytes, modified_ms: info.modified_ms, folder: false }
}

fn child(child: Child) -> v1::ObjectInfo {
    match child {
        Child::Object(object) => info(object),
        Child::Folder(path) => v1::ObjectInfo { path, folder: true, ..v1::ObjectInfo::default() },
    }
}

#[tonic::async_trait]
impl Broker for Service {
    type ListStream = BoxStream<'static, Result<v1::ObjectInfo, Status>>;
    type ReadStream = BoxStream<'static, Result<v1::ReadChunk, Status>>;
    type WriteStream = BoxStream<'static, Result<v1::WriteAnswer, Status>>;

    async fn ping(&self, request: Request<v1::PingRequest>) -> Answer<v1::PingReply> {
        let ping = request.get_ref();
        if ping.term > 0 {
            let mark = v1::LeaderMark { cluster_id: ping.cluster_id.clone(), term: ping.term };
            self.fences.check(&mark).map_err(|error| to_status(&error))?;
        }
        self.pace.hear(ping);
        let budgets = [self.reads.budget(), self.writes.budget(), &self.parts];
        Ok(Response::new(v1::PingReply {
            start_time_ms: self.started_ms,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            memory_used: budgets.iter().map(|budget| budget.used()).sum(),
            memory_total: budgets.iter().map(|budget| budget.total()).sum(),
            running: self.metrics.running(),
            waiting: self.reads.waiting() + self.writes.waiting(),
        }))
    }

    async fn stat(&self, request: Request<v1::PathRequest>) -> Answer<v1::ObjectInfo> {
        let request = request.into_inner();
        let running = self.begin("stat", &request.storage, &request.path);
        let patience = patience(&request.storage);
        let outcome = patiently(patience, async { self.store(request.storage)?.stat(&request.path).await }).await;
        running.answer(outcome.map(info))
    }

    async fn list(&self, request: Request<v1::PathRequest>) -> Answer<Self::ListStream> {
        let request = request.into_inner();
        let running = self.begin("list", &request.storage, &request.path);
        let patience = patience(&request.storage);
        let entries = async {
            let store = self.store(request.storage)?;
            let mut entries = match request.one_level {
                true => store.children(&request.path).await?.map_ok(child).boxed(),
                false => store.list(&request.path).await?.map_ok(info).boxed(),
            };
            // Stores list when they are asked for the first entry: whoever waits, waits for that.
            let first = entries.try_next().await?;
            Ok(stream::iter(first.map(Ok)).chain(entries))
        };
        match patiently(patience, entries).await {
            Ok(entries) => Ok(Response::new(running.answers(entries))),
            Err(error) => running.answer(Err(error)),
        }
    }

    async fn read(&self, request: Request<v1::ReadRequest>) -> Answer<Self::ReadStream> {
        let request = request.into_inner();
        let running = self.begin("read", &request.storage, &request.path);
        // A short range needs no more than itself.
        let cost = if request.length == 0 { READ_STREAM_BYTES } else { request.length.min(READ_STREAM_BYTES) };
        let permit = match self.reads.enter(cost, request.wait_ms).await {
            Ok(permit) => permit,
            Err(why) => return running.refuse(&why),
        };
        let mut offset = request.offset;
        let body = match patiently(patience(&request.storage), self.read_body(request)).await {
            Ok(body) => body,
            Err(error) => return running.answer(Err(error)),
        };
        let sent = self.metrics.sent.clone();
        let chunks = body.map_ok(move |data| {
            let _held = &permit;
            let chunk = v1::ReadChunk { offset, crc32c: crc32c::crc32c(&data), data };
            offset += chunk.data.len() as u64;
            sent.inc_by(chunk.data.len() as u64);
            chunk
        });
        Ok(Response::new(running.answers(chunks)))
    }

    async fn write(&self, request: Request<Streaming<v1::WriteObject>>) -> Answer<Self::WriteStream> {
        let mut messages = request.into_inner();
        let open = receive::opening(&mut messages).await.map_err(|error| to_status(&error))?;
        let running = self.begin("write", &open.storage, &open.path);
        // A short object needs no more than itself.
        let cost = match open.length_hint {
            0 => WRITE_STREAM_BYTES,
            hint => hint.clamp(SMALLEST_WRITE_BYTES, WRITE_STREAM_BYTES),
        };
        let permit = match self.writes.enter(cost, open.wait_ms).await {
            Ok(permit) => permit,
            Err(why) => return running.refuse(&why),
        };
        let (ready, asked) = oneshot::channel();
        let patience = patience(&open.storage);
        let put = patiently(patience, self.clone().write_body(Incoming { open, messages, ready, permit }));
        Ok(Response::new(running.answers(progress(put.boxed(), asked))))
    }

    async fn put(&self, request: Request<v1::PutObject>) -> Answer<v1::ObjectInfo> {
        let request = request.into_inner();
        let running = self.begin("write", &request.storage, &request.path);
        let permit = match self.writes.enter(SMALLEST_WRITE_BYTES, request.wait_ms).await {
            Ok(permit) => permit,
            Err(why) => return running.refuse(&why),
        };
        let stored = patiently(patience(&request.storage), self.put_whole(request)).await;
        drop(permit);
        running.answer(stored.map(info))
    }

    async fn rename(&self, request: Request<v1::RenameRequest>) -> Answer<v1::RenameReply> {
        let request = request.into_inner();
        let running = self.begin("rename", &request.storage, &request.from);
        let patience = patience(&request.storage);
        let rename = async { self.store(request.storage)?.rename(&request.from, &request.to).await };
        running.answer(patiently(patience, rename).await.map(|()| v1::RenameReply {}))
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Answer<v1::DeleteReply> {
        let request = request.into_inner();
        let running = self.begin("delete", &request.storage, &request.path);
        let patience = patience(&request.storage);
        let delete = async { self.store(request.storage)?.delete(&request.path, request.recursive).await };
        running.answer(patiently(patience, delete).await.map(|()| v1::DeleteReply {}))
    }
}
