//! A bucket of an S3-compatible service, or a prefix of one, as a store.
//!
//! An object is visible when its single request, or the completion of its parts, was answered; services promise that it
//! is durable then. A put that fails or is given up aborts its upload; only a crash leaves parts behind, which no
//! listing shows and which `sweep` removes a week later.
//!
//! `create_new` looks first and sends `If-None-Match: *`. Services that do not know the condition ignore it, and then
//! two puts at the same moment may both succeed; Amazon's, Ceph's and MinIO's know it.
//!
//! Retries are ours (the SDK's are off): single requests here and in the wrapper that `open` adds, parts in `upload`.
//! A service that does not answer is given up after less than twenty seconds; one that is slow with bytes is not.
//!
//! Modules, bottom to top: `settings`, `failure`, `parts` | `client` | `sweep`, `upload`.

mod client;
mod failure;
mod parts;
mod settings;
mod sweep;
mod upload;

use crate::{Budget, ByteStream, Child, ChildStream, ObjectInfo, ObjectStream, PutOptions, Store, path};
use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use coffer_proto::v1::StorageSpec;
use coffer_stdx::retry::Policy;
use coffer_stdx::{Error, ErrorKind, Result};
use failure::{Failure, Request};
use futures::{StreamExt, TryStreamExt, stream};
use settings::Settings;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::OnceCell;
use upload::{Copying, Upload};

const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// For a request without a body, and the head of an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);
/// No small request is tried again that would end later than this.
const GIVE_UP_AFTER: Duration = Duration::from_secs(18);
/// For requests that make the service copy or join bytes.
const WORK_WITHIN: Duration = Duration::from_secs(300);
/// A body that moves nothing for so long has stalled.
const STALL: Duration = Duration::from_secs(30);
/// Objects removed by one request; what S3 takes.
const DELETE_AT_ONCE: usize = 1_000;
/// Single removals under way, where a service cannot remove many at once.
const DELETES_UNDER_WAY: usize = 16;
/// The largest object S3 copies by one request.
const LARGEST_COPY: u64 = 5 << 30;

/// In what sizes objects are handled. A service with other limits than Amazon's needs other ones, and so does a test that
/// shows on a small scale what happens to large objects.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Bytes of the first parts of an upload; what is shorter goes by a single request.
    pub smallest_part: usize,
    /// The largest object copied by one request; larger ones are read and written again for a rename.
    pub largest_copy: u64,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes { smallest_part: parts::SMALLEST, largest_copy: LARGEST_COPY }
    }
}

/// How far a listing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    All,
    One,
}

/// The pages of a listing.
type Pages = stream::BoxStream<'static, Result<ListObjectsV2Output>>;

/// A bucket, or a prefix of one.
#[derive(Debug, Clone)]
pub struct S3Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: OnceCell<Client>,
    settings: Settings,
    parts: Budget,
    sizes: Sizes,
    swept: AtomicBool,
}

impl S3Store {
    /// For small requests; below twenty seconds against a host that does not answer.
    pub const RETRY: Policy = Policy { attempts: 4, first_ms: 200, max_ms: 2_000 };
    /// For requests that carry bytes, and end them: a service that asks to slow down is given time.
    const PATIENT: Policy = Policy { attempts: 7, first_ms: 200, max_ms: 5_000 };

    /// The location of `spec`; parts of uploads take their memory from `parts`.
    pub fn open(spec: &StorageSpec, parts: &Budget) -> Result<S3Store> {
        S3Store::open_with(spec, parts, Sizes::default())
    }

    /// [`S3Store::open`] with other sizes than those that fit Amazon's service.
    pub fn open_with(spec: &StorageSpec, parts: &Budget, sizes: Sizes) -> Result<S3Store> {
        let settings = Settings::parse(spec)?;
        let swept = AtomicBool::new(false);
        let inner = Inner { client: OnceCell::new(), settings, parts: parts.clone(), sizes, swept };
        Ok(S3Store { inner: Arc::new(inner) })
    }

    /// Abort the uploads below the location that began more than `older` ago and were neither completed nor aborted; how
    /// many those were. A location that is a whole bucket is swept as a whole.
    pub async fn sweep(&self, older: Duration) -> Result<u64> {
        self.inner.sweep(&self.inner.folder("")?, older).await
    }
}

impl Inner {
    async fn client(&self) -> &Client {
        self.client.get_or_init(|| client::client(&self.settings)).await
    }

    fn key(&self, path: &str) -> Result<String> {
        path::check(path)?;
        Ok(path::join(&self.settings.prefix, path))
    }

    /// The key of a folder, with its slash; empty for the whole bucket.
    fn folder(&self, prefix: &str) -> Result<String> {
        path::check_prefix(prefix)?;
        let folder = if prefix.is_empty() { self.settings.prefix.clone() } else { self.key(prefix)? };
        Ok(if folder.is_empty() { folder } else { format!("{folder}/") })
    }

    fn request(&self, operation: &str, key: &str) -> Request {
        let bucket = self.settings.bucket.clone();
        let doing = format!("{operation} s3://{bucket}/{key}");
        let has_keys = self.settings.login.is_some();
        Request { doing, endpoint: self.settings.endpoint_name(), bucket, has_keys }
    }

    async fn head(&self, path: &str) -> Result<ObjectInfo, Failure> {
        let key = self.key(path).map_err(|error| Failure { error, code: String::new() })?;
        let sent = self.client().await.head_object().bucket(&self.settings.bucket).key(&key).send();
        let head = answered(&self.request("look at", &key), ANSWER_WITHIN, sent).await?;
        let bytes = head.content_length().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
        Ok(ObjectInfo { path: path.to_owned(), bytes, modified_ms: milliseconds(head.last_modified()) })
    }

    async fn page(&self, folder: &str, depth: Depth, after: Option<String>) -> Result<ListObjectsV2Output> {
        S3Store::RETRY
            .run_within(GIVE_UP_AFTER, || async {
                let list = self.client().await.list_objects_v2().bucket(&self.settings.bucket).prefix(folder);
                let list = list.set_delimiter((depth == Depth::One).then(|| "/".to_owned()));
                let sent = list.set_continuation_token(after.clone()).send();
                Ok(answered(&self.request("list", folder), ANSWER_WITHIN, sent).await?)
            })
            .await
    }

    /// The path of a key, if it is one of ours; a "folder/" that some tools leave has none.
    fn path_of<'a>(&self, key: &'a str) -> Option<&'a str> {
        let path = match self.settings.prefix.as_str() {
            "" => key,
            prefix => key.strip_prefix(prefix)?.strip_prefix('/')?,
        };
        path::check(path).ok().map(|()| path)
    }

    fn objects(&self, page: &ListObjectsV2Output) -> Vec<ObjectInfo> {
        let objects = page.contents().iter().filter_map(|object| {
            let path = self.path_of(object.key()?)?.to_owned();
            let bytes = object.size().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
            Some(ObjectInfo { path, bytes, modified_ms: milliseconds(object.last_modified()) })
        });
        objects.collect()
    }

    fn entries(&self, page: &ListObjectsV2Output) -> Vec<Child> {
        let folders = page.common_prefixes().iter().filter_map(|prefix| {
            let path = self.path_of(prefix.prefix()?.strip_suffix('/')?)?;
            Some(Child::Folder(path.to_owned()))
        });
        folders.chain(self.objects(page).into_iter().map(Child::Object)).collect()
    }

    fn pages(self: Arc<Self>, folder: String, depth: Depth) -> Pages {
        let first = Some(None);
        let pages = stream::try_unfold((self, folder, first), move |(inner, folder, at)| async move {
            let Some(after) = at else { return Ok(None) };
            let page = inner.page(&folder, depth, after).await?;
            let next = page.next_continuation_token().filter(|_| page.is_truncated() == Some(true));
            let next = next.map(|token| Some(token.to_owned()));
            Ok::<_, Error>(Some((page, (inner, folder, next))))
        });
        pages.boxed()
    }

    fn listing(self: Arc<Self>, folder: String) -> ObjectStream {
        let pages = Arc::clone(&self).pages(folder, Depth::All);
        pages.map_ok(move |page| stream::iter(self.objects(&page).into_iter().map(Ok))).try_flatten().boxed()
    }

    async fn delete_one(&self, path: &str) -> Result<()> {
        let key = self.key(path)?;
        let sent = self.client().await.delete_object().bucket(&self.settings.bucket).key(&key).send();
        match answered(&self.request("delete", &key), ANSWER_WITHIN, sent).await {
            Err(failure) if failure.error.kind() == ErrorKind::NotFound && failure.code != "NoSuchBucket" => Ok(()),
            other => Ok(other.map(|_| ())?),
        }
    }

    async fn delete_many(&self, objects: Vec<ObjectInfo>) -> Result<()> {
        match self.delete_batch(&objects).await {
            // Not every service knows the request or takes the digest the SDK sends with it.
            Err(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotSupported) => {
                tracing::debug!(%error, "objects are removed one by one");
            }
            other => return other,
        }
        let deletes: Vec<_> = objects.iter().map(|object| self.delete_one(&object.path)).collect();
        stream::iter(deletes).buffer_unordered(DELETES_UNDER_WAY).try_collect().await
    }

    async fn delete_batch(&self, objects: &[ObjectInfo]) -> Result<()> {
        let keys = objects.iter().map(|object| {
            let id = ObjectIdentifier::builder().key(self.key(&object.path)?).build();
            id.map_err(|error| Error::bug(format!("delete '{}': {error}", object.path)))
        });
        let delete = Delete::builder().quiet(true).set_objects(Some(keys.collect::<Result<_>>()?)).build();
        let delete = delete.map_err(|error| Error::bug(format!("delete of many objects: {error}")))?;
        let request = self.request("delete objects below", &self.settings.prefix);
        let attempt = || async {
            let sent = self.client().await.delete_objects().bucket(&self.settings.bucket).delete(delete.clone());
            Ok(answered(&request, WORK_WITHIN, sent.send()).await?)
        };
        let answer = S3Store::PATIENT.run_within(WORK_WITHIN, attempt).await?;
        match answer.errors().iter().find(|error| error.code() != Some("NoSuchKey")) {
            None => Ok(()),
            Some(error) => Err(request.refused(error.key(), error.code(), error.message()).into()),
        }
    }
}

/// Wait for an answer, but not for ever.
async fn answered<T, E>(
    request: &Request,
    limit: Duration,
    sent: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> Result<T, Failure>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match tokio::time::timeout(limit, sent).await {
        Ok(answer) => answer.map_err(|error| request.failed(error)),
        Err(_) => Err(request.late(limit.as_secs())),
    }
}

fn milliseconds(at: Option<&DateTime>) -> u64 {
    at.and_then(|at| at.to_millis().ok()).and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0)
}

/// "bucket/key" as the header of a copy wants it.
fn copy_source(bucket: &str, key: &str) -> String {
    let mut source = format!("{bucket}/");
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => source.push(byte.into()),
            other => source.push_str(&format!("%{other:02X}")),
        }
    }
    source
}

#[async_trait]
impl Store for S3Store {
    async fn put(&self, path: &str, body: ByteStream, options: PutOptions) -> Result<ObjectInfo> {
        let key = self.inner.key(path)?;
        if options.create_new {
            match self.inner.head(path).await {
                Ok(_) => return Err(Error::already_exists(format!("object '{path}' exists already"))),
                Err(failure) if failure.error.kind() == ErrorKind::NotFound => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        Upload::new(Arc::clone(&self.inner), path, key, options).run(body).await
    }

    async fn get(&self, path: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
        let key = self.inner.key(path)?;
        let header = match range {
            None => None,
            Some(range) if range.is_empty() => {
                self.stat(path).await?;
                return Ok(stream::empty().boxed());
            }
            Some(Range { start: 0, end: u64::MAX }) => None,
            Some(Range { start, end: u64::MAX }) => Some(format!("bytes={start}-")),
            Some(Range { start, end }) => Some(format!("bytes={start}-{}", end - 1)),
        };
        let get = self.inner.client().await.get_object().bucket(&self.inner.settings.bucket).key(&key);
        let request = self.inner.request("get", &key);
        let body = match answered(&request, ANSWER_WITHIN, get.set_range(header).send()).await {
            Ok(answer) => answer.body,
            // Nothing lies at or past the end.
            Err(failure) if failure.code == "InvalidRange" => return Ok(stream::empty().boxed()),
            Err(failure) => return Err(failure.into()),
        };
        let chunks = stream::try_unfold((body, request), |(mut body, request)| async move {
            match body.try_next().await {
                Ok(chunk) => Ok(chunk.map(|chunk| (chunk, (body, request)))),
                Err(error) => Err(request.broke_off(&error)),
            }
        });
        Ok(chunks.boxed())
    }

    async fn stat(&self, path: &str) -> Result<ObjectInfo> {
        Ok(self.inner.head(path).await?)
    }

    async fn list(&self, prefix: &str) -> Result<ObjectStream> {
        let folder = self.inner.folder(prefix)?;
        Ok(Arc::clone(&self.inner).listing(folder))
    }

    async fn children(&self, prefix: &str) -> Result<ChildStream> {
        let (inner, folder) = (Arc::clone(&self.inner), self.inner.folder(prefix)?);
        let pages = Arc::clone(&inner).pages(folder, Depth::One);
        Ok(pages.map_ok(move |page| stream::iter(inner.entries(&page).into_iter().map(Ok))).try_flatten().boxed())
    }

    async fn delete(&self, path: &str, recursive: bool) -> Result<()> {
        self.inner.delete_one(path).await?;
        if !recursive {
            return Ok(());
        }
        let folder = self.inner.folder(path)?;
        let mut chunks = Arc::clone(&self.inner).listing(folder).try_chunks(DELETE_AT_ONCE);
        while let Some(objects) = chunks.next().await {
            self.inner.delete_many(objects.map_err(|error| error.1)?).await?;
        }
        Ok(())
    }

    /// A copy and a removal: a crash between the two leaves both.
    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (inner, source, target) = (&self.inner, self.inner.key(from)?, self.inner.key(to)?);
        let bytes = self.stat(from).await?.bytes;
        if source == target {
            return Ok(());
        }
        if bytes <= inner.sizes.largest_copy {
            let source = copy_source(&inner.settings.bucket, &source);
            Copying::new(Arc::clone(inner), source, to, target).run().await?;
        } else {
            // Copies in parts on the side of the service are rarely used, and one known server aborts on them.
            let options = PutOptions { length_hint: Some(bytes), ..PutOptions::default() };
            self.put(to, self.get(from, None).await?, options).await?;
        }
        inner.delete_one(from).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_sources_are_encoded() {
        assert_eq!(copy_source("b", "a b/ü%~x"), "b/a%20b/%C3%BC%25~x");
    }

    #[tokio::test]
    async fn an_endpoint_that_is_not_there_is_named_with_the_cause() {
        let properties = [("s3.endpoint", "http://127.0.0.1:1"), ("s3.access_key", "a"), ("s3.secret_key", "hunter2")];
        let properties = properties.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let spec = StorageSpec { location: "s3://bucket/p".to_owned(), properties, ..StorageSpec::default() };
        let store = S3Store::open(&spec, &Budget::new(1 << 20)).unwrap();
        let error = store.stat("a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        for part in ["s3://bucket/p/a", "http://127.0.0.1:1", "refused"] {
            assert!(error.message().contains(part), "{error}");
        }
        assert!(!format!("{error} {store:?}").contains("hunter2"));
    }
}
