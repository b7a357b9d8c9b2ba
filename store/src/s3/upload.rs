//! One put: a single request when the body fits one part, else parts in parallel and their completion.
//!
//! Memory: the buffer for the part being cut is taken before the body is asked for its first byte and kept to the end.
//! Parts go on their way beside it as long as there is memory to spare; else the put waits for parts of its own, and at
//! last stores one at a time. So a put that has begun never waits for another one: were it to wait, its unread bytes
//! would fill the connection that the other one needs.
//!
//! Bytes that the service finds changed on the way are sent again. A copy within the service goes by parts too when it is
//! large.
//!
//! Crash or failure: until the completion is answered nothing is visible. Whoever drops an upload that has begun and has
//! not ended sends the abort behind it.

use super::failure::{Failure, Request};
use super::parts::{LARGEST_OBJECT, MOST_PARTS, part_bytes};
use super::{ANSWER_WITHIN, GIVE_UP_AFTER, Inner, S3Store, WORK_WITHIN, answered};
use crate::budget::Permit;
use crate::{ByteStream, ObjectInfo, PutOptions};
use aws_sdk_s3::primitives::ByteStream as Payload;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use coffer_stdx::time::now_ms;
use coffer_stdx::{Error, ErrorKind, Result};
use futures::stream::Fuse;
use futures::{StreamExt, TryStreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Parts under way for one object.
const PARTS_UNDER_WAY: usize = 4;
/// A put that announces less takes this much memory all the same.
const LEAST_BYTES: u64 = 64 << 10;
/// Puts of so few bytes are as quick to fail as a request without any.
const FEW_BYTES: usize = 1 << 20;
/// The slowest link that a part must still get through, bytes a second.
const SLOWEST: u64 = 128 << 10;

/// Parts being stored.
type Parts = JoinSet<Result<CompletedPart>>;

/// A put under way.
pub(super) struct Upload {
    inner: Arc<Inner>,
    path: String,
    key: String,
    options: PutOptions,
}

/// A body being cut into parts.
struct Cut {
    body: Fuse<ByteStream>,
    // What the last chunk held beyond the end of a part.
    rest: Bytes,
}

impl Cut {
    /// The next part, full unless the body ended. `expected` bytes are made room for; a body of a single chunk is not
    /// copied.
    async fn part(&mut self, bytes: usize, expected: usize) -> Result<Bytes> {
        let mut whole = self.rest.split_to(self.rest.len().min(bytes));
        while whole.len() < bytes {
            let Some(chunk) = self.body.try_next().await? else { return Ok(whole) };
            if whole.is_empty() {
                self.rest = chunk;
                whole = self.rest.split_to(self.rest.len().min(bytes));
            } else if !chunk.is_empty() {
                self.rest = chunk;
                return self.joined(&whole, bytes, expected).await;
            }
        }
        Ok(whole)
    }

    async fn joined(&mut self, first: &Bytes, bytes: usize, expected: usize) -> Result<Bytes> {
        let least = (first.len() + self.rest.len()).min(bytes);
        let mut part = BytesMut::with_capacity(expected.clamp(least, bytes));
        part.extend_from_slice(first);
        loop {
            let chunk = self.rest.split_to(self.rest.len().min(bytes - part.len()));
            part.extend_from_slice(&chunk);
            if part.len() == bytes {
                return Ok(part.freeze());
            }
            match self.body.try_next().await? {
                Some(chunk) => self.rest = chunk,
                None => return Ok(part.freeze()),
            }
        }
    }
}

impl Upload {
    pub(super) fn new(inner: Arc<Inner>, path: &str, key: String, options: PutOptions) -> Upload {
        Upload { inner, path: path.to_owned(), key, options }
    }

    pub(super) async fn run(&self, body: ByteStream) -> Result<ObjectInfo> {
        let size = self.part_bytes(1);
        let expected = self.options.length_hint.map_or(size as u64, |hint| hint.clamp(LEAST_BYTES, size as u64));
        let _cutting = self.inner.parts.take(expected).await;
        let mut cut = Cut { body: body.fuse(), rest: Bytes::new() };
        let first = cut.part(size, expected as usize).await?;
        // A body that is longer than announced must not wait now; what it takes beyond is a part at most.
        let _more = (first.len() as u64 > expected).then(|| self.inner.parts.try_take(size as u64 - expected));
        let bytes = if first.len() < size {
            let bytes = first.len() as u64;
            self.single(first).await?;
            bytes
        } else {
            self.parts(first, cut).await?
        };
        Ok(ObjectInfo { path: self.path.clone(), bytes, modified_ms: now_ms() })
    }

    fn part_bytes(&self, number: u32) -> usize {
        part_bytes(number, self.options.length_hint, self.inner.sizes.smallest_part)
    }

    fn request(&self, operation: &str) -> Request {
        self.inner.request(operation, &self.key)
    }

    fn condition(&self) -> Option<String> {
        self.options.create_new.then(|| "*".to_owned())
    }

    async fn single(&self, body: Bytes) -> Result<()> {
        let request = self.request("put");
        let limit = patience(body.len());
        let attempt = || async {
            let settings = &self.inner.settings;
            let put = self.inner.client().await.put_object().bucket(&settings.bucket).key(&self.key);
            let put = put.set_server_side_encryption(settings.encryption.clone());
            let put = put.set_ssekms_key_id(settings.kms_key.clone()).set_storage_class(settings.storage_class.clone());
            let put = put.set_if_none_match(self.condition()).body(Payload::from(body.clone())).customize();
            // An encrypted wire guards the bytes; over a plain one the signature does.
            let put = if settings.is_encrypted() { put.disable_payload_signing() } else { put };
            answered(&request, limit, put.send()).await.map_err(sent_again)
        };
        match body.len() <= FEW_BYTES {
            true => S3Store::RETRY.run_within(GIVE_UP_AFTER, attempt).await.map(|_| ()),
            false => S3Store::PATIENT.run(attempt).await.map(|_| ()),
        }
    }

    async fn parts(&self, first: Bytes, mut cut: Cut) -> Result<u64> {
        let begun = self.begin().await?;
        let sent = self.send(&begun.id, first, &mut cut).await;
        let outcome = self.finish(begun, sent).await;
        if outcome.is_ok() {
            self.inner.sweep_once(&self.key);
        }
        outcome
    }

    /// Complete what was sent, or abort.
    async fn finish(&self, mut begun: Begun, sent: Result<(Vec<CompletedPart>, u64)>) -> Result<u64> {
        let outcome = match sent {
            Ok((parts, bytes)) => self.complete(&begun.id, parts, bytes).await.map(|()| bytes),
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            begun.abort().await;
        }
        begun.ended = true;
        outcome
    }

    async fn begin(&self) -> Result<Begun> {
        let request = self.request("begin to put");
        let attempt = || async {
            let settings = &self.inner.settings;
            let create = self.inner.client().await.create_multipart_upload().bucket(&settings.bucket).key(&self.key);
            let create = create.set_server_side_encryption(settings.encryption.clone());
            let create = create.set_ssekms_key_id(settings.kms_key.clone());
            let create = create.set_storage_class(settings.storage_class.clone());
            let create = create.set_checksum_algorithm(settings.checksums.then_some(ChecksumAlgorithm::Crc32));
            Ok(answered(&request, ANSWER_WITHIN, create.send()).await?)
        };
        let created = S3Store::RETRY.run_within(GIVE_UP_AFTER, attempt).await?;
        let id = created.upload_id().map(str::to_owned);
        let id = id.ok_or_else(|| Error::unavailable(format!("{}: the answer has no upload id", request.doing)))?;
        Ok(Begun { inner: Arc::clone(&self.inner), key: self.key.clone(), id, ended: false })
    }

    /// Send every part; the answer is the parts in order and the bytes in them.
    async fn send(&self, id: &str, first: Bytes, cut: &mut Cut) -> Result<(Vec<CompletedPart>, u64)> {
        let mut under_way: Parts = JoinSet::new();
        let mut stored = Vec::new();
        let (mut number, mut bytes) = (1, 0);
        let mut part = first;
        while !part.is_empty() {
            bytes += part.len() as u64;
            if bytes > LARGEST_OBJECT || number as u64 > MOST_PARTS {
                let path = &self.path;
                return Err(Error::not_supported(format!(
                    "object '{path}' is larger than S3 takes: 5 TiB in 10,000 parts"
                )));
            }
            while under_way.len() >= PARTS_UNDER_WAY {
                collect(&mut under_way, &mut stored).await?;
            }
            match self.spare(part.len(), &mut under_way, &mut stored).await? {
                Some(permit) => drop(under_way.spawn(self.part(id, number, part, Some(permit)))),
                None => stored.push(self.part(id, number, part, None).await?),
            }
            number += 1;
            let size = self.part_bytes(number as u32);
            part = cut.part(size, size).await?;
        }
        while collect(&mut under_way, &mut stored).await? {}
        stored.sort_by_key(CompletedPart::part_number);
        Ok((stored, bytes))
    }

    /// Memory for a part beside the one being cut; none when others have it all and no part of ours is under way.
    async fn spare(
        &self,
        bytes: usize,
        under_way: &mut Parts,
        stored: &mut Vec<CompletedPart>,
    ) -> Result<Option<Permit>> {
        loop {
            let permit = self.inner.parts.try_take(bytes as u64);
            if permit.is_some() || !collect(under_way, stored).await? {
                return Ok(permit);
            }
        }
    }

    fn part(
        &self,
        id: &str,
        number: i32,
        body: Bytes,
        permit: Option<Permit>,
    ) -> impl Future<Output = Result<CompletedPart>> + Send + 'static {
        let request = self.request(&format!("put part {number} of"));
        let (inner, key, id) = (Arc::clone(&self.inner), self.key.clone(), id.to_owned());
        async move {
            let _held = permit;
            let limit = patience(body.len());
            let attempt = || async {
                let part = inner.client().await.upload_part().bucket(&inner.settings.bucket).key(&key).upload_id(&id);
                let part = part.part_number(number).body(Payload::from(body.clone())).customize();
                let part = if inner.settings.is_encrypted() { part.disable_payload_signing() } else { part };
                answered(&request, limit, part.send()).await.map_err(sent_again)
            };
            let answer = S3Store::PATIENT.run(attempt).await?;
            let completed = CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag);
            // Amazon's wants the checksum that the SDK sent with the part.
            Ok(completed.set_checksum_crc32(answer.checksum_crc32).build())
        }
    }

    async fn complete(&self, id: &str, parts: Vec<CompletedPart>, bytes: u64) -> Result<()> {
        let request = self.request("complete");
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let attempt = || async {
            let client = self.inner.client().await;
            let complete = client.complete_multipart_upload().bucket(&self.inner.settings.bucket);
            let complete = complete.key(&self.key).upload_id(id).multipart_upload(parts.clone());
            let sent = complete.set_if_none_match(self.condition()).send();
            match answered(&request, WORK_WITHIN, sent).await {
                // A completion whose answer got lost, tried again, finds the upload gone and the object there.
                Err(failure) if failure.code == "NoSuchUpload" => self.is_there(bytes, failure).await,
                other => Ok(other.map(|_| ())?),
            }
        };
        S3Store::PATIENT.run(attempt).await
    }

    async fn is_there(&self, bytes: u64, failure: Failure) -> Result<()> {
        match self.inner.head(&self.path).await {
            Ok(info) if info.bytes == bytes => Ok(()),
            _ => Err(failure.into()),
        }
    }
}

/// How long a body of this size may take.
fn patience(bytes: usize) -> Duration {
    ANSWER_WITHIN + Duration::from_secs(bytes as u64 / SLOWEST)
}

/// Wait for one part; false when none is under way.
async fn collect(under_way: &mut Parts, stored: &mut Vec<CompletedPart>) -> Result<bool> {
    let Some(done) = under_way.join_next().await else { return Ok(false) };
    let part = done.unwrap_or_else(|error| Err(Error::bug(format!("a part's upload ended early: {error}"))))?;
    stored.push(part);
    Ok(true)
}

/// An upload that the service knows of and that must be completed or aborted.
struct Begun {
    inner: Arc<Inner>,
    key: String,
    id: String,
    ended: bool,
}

impl Begun {
    async fn abort(&mut self) {
        self.ended = true;
        abort(Arc::clone(&self.inner), self.key.clone(), self.id.clone()).await;
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(abort(Arc::clone(&self.inner), self.key.clone(), std::mem::take(&mut self.id)));
        }
    }
}

async fn abort(inner: Arc<Inner>, key: String, id: String) {
    if let Err(error) = inner.abort(&key, &id).await {
        tracing::warn!(%error, "parts of an upload stay behind until they are swept up a week later");
    }
}

impl Inner {
    /// Abort an upload; fine when it is gone.
    pub(super) async fn abort(&self, key: &str, id: &str) -> Result<()> {
        let request = self.request("abort the put of", key);
        let attempt = || async {
            let abort =
                self.client().await.abort_multipart_upload().bucket(&self.settings.bucket).key(key).upload_id(id);
            Ok(answered(&request, ANSWER_WITHIN, abort.send()).await?)
        };
        match S3Store::RETRY.run_within(GIVE_UP_AFTER, attempt).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// What was garbled on the way may be sent again; the service kept none of it.
fn sent_again(failure: Failure) -> Error {
    match failure.error.kind() {
        ErrorKind::Corrupt => Error::unavailable(failure.error.message()),
        _ => failure.error,
    }
}

/// A copy within the bucket.
pub(super) struct Copying {
    upload: Upload,
    source: String,
}

impl Copying {
    /// `source` is "bucket/key" as a header wants it.
    pub(super) fn new(inner: Arc<Inner>, source: String, path: &str, key: String) -> Copying {
        Copying { upload: Upload::new(inner, path, key, PutOptions::default()), source }
    }

    /// Copy by one request, which services take for at most 5 GiB.
    pub(super) async fn run(&self) -> Result<()> {
        let request = self.upload.request("copy to");
        let attempt = || async {
            let settings = &self.upload.inner.settings;
            let copy = self.upload.inner.client().await.copy_object().copy_source(&self.source);
            let copy = copy.bucket(&settings.bucket).key(&self.upload.key);
            let copy = copy.set_server_side_encryption(settings.encryption.clone());
            let copy = copy.set_ssekms_key_id(settings.kms_key.clone());
            let copy = copy.set_storage_class(settings.storage_class.clone());
            Ok(answered(&request, WORK_WITHIN, copy.send()).await?)
        };
        S3Store::PATIENT.run_within(WORK_WITHIN, attempt).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    fn cut(chunks: &'static [&'static str]) -> Cut {
        let chunks = stream::iter(chunks.iter().map(|chunk| Ok(Bytes::from(*chunk)))).boxed();
        Cut { body: chunks.fuse(), rest: Bytes::new() }
    }

    #[tokio::test]
    async fn a_body_is_cut_at_exact_sizes() {
        for chunks in [&["ab", "", "cdefgh", "i"][..], &["abcdefghi"], &["", "abc", "def", "g", "h", "i", ""]] {
            for expected in [0, 2, 3, 99] {
                let mut cut = cut(chunks);
                for part in ["abc", "def", "ghi", "", ""] {
                    assert_eq!(cut.part(3, expected).await.unwrap(), part, "{chunks:?}");
                }
            }
        }
        assert_eq!(cut(&["ab", "c"]).part(9, 4).await.unwrap(), "abc");
        assert_eq!(cut(&[]).part(9, 4).await.unwrap(), "");
    }
}
