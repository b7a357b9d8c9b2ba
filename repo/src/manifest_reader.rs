//! Reads a manifest part as a stream, one tablet at a time; memory is one record and one chunk of the store.
//!
//! The name carries the BLAKE3 of the whole, so **what [`ManifestReader::next`] gave may only be acted on after it gave
//! `None`**: that is when the part proved to be what was written. Until then a record is well formed, no more.

use crate::check_version;
use crate::checksum::Checksum;
use crate::layout::{ObjectKind, SnapshotId, SnapshotObject, checksum_in};
use crate::manifest::{End, HEADER_BYTES, MAGIC, MAX_RECORD_BYTES, Record, RecordKind, TabletRecord};
use bytes::{Buf, Bytes, BytesMut};
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use coffer_store::ByteStream;
use futures::TryStreamExt;
use prost::Message;

/// Reads one part.
pub struct ManifestReader {
    body: ByteStream,
    path: String,
    object: SnapshotObject,
    label: String,
    buffer: BytesMut,
    hasher: blake3::Hasher,
    counts: End,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Tablets,
    Ended,
}

impl std::fmt::Debug for ManifestReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManifestReader").field("path", &self.path).field("state", &self.state).finish_non_exhaustive()
    }
}

impl ManifestReader {
    /// Read the part `name` of `snapshot` from `body`; `path` is for error texts.
    pub fn new(body: ByteStream, snapshot: &SnapshotId, name: &str, path: String) -> Result<ManifestReader> {
        let object = checksum_in(name, "a manifest part")?;
        if !matches!(object.kind, ObjectKind::Manifest(_)) || object.timestamp != snapshot.timestamp() {
            return Err(Error::invalid(format!("'{name}' is not a manifest part of snapshot {snapshot}")));
        }
        Ok(ManifestReader {
            body,
            path,
            object,
            label: snapshot.label().to_owned(),
            buffer: BytesMut::new(),
            hasher: blake3::Hasher::new(),
            counts: End::default(),
            state: State::Start,
        })
    }

    /// The next tablet; `None` when the part is read to its end and found to be whole.
    pub async fn next(&mut self) -> Result<Option<TabletRecord>> {
        if self.state == State::Start {
            self.start().await?;
        }
        while self.state == State::Tablets {
            match self.record().await? {
                RecordKind::Tablet(tablet) => {
                    self.counts.add(&tablet);
                    return Ok(Some(tablet));
                }
                RecordKind::End(end) => self.end(end).await?,
                RecordKind::Head(_) => return Err(self.corrupt("has a second head")),
            }
        }
        Ok(None)
    }

    /// What was read; complete after [`ManifestReader::next`] gave `None`.
    pub fn counts(&self) -> End {
        self.counts
    }

    async fn start(&mut self) -> Result<()> {
        let header = self.take(HEADER_BYTES).await?;
        if &header[..8] != MAGIC {
            return Err(self.corrupt("does not start as a manifest does"));
        }
        let version = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        check_version(version, crate::FORMAT_VERSION, &format!("manifest '{}'", self.path))?;
        let RecordKind::Head(head) = self.record().await? else {
            return Err(self.corrupt("has no head"));
        };
        let ours = head.label == self.label
            && head.timestamp == self.object.timestamp
            && ObjectKind::Manifest(head.part) == self.object.kind;
        if !ours {
            let text = format!("says it is part {} of '{}' of {}", head.part, head.label, head.timestamp);
            return Err(self.corrupt(&text));
        }
        self.state = State::Tablets;
        Ok(())
    }

    async fn end(&mut self, end: End) -> Result<()> {
        if self.fill(1).await? {
            return Err(self.corrupt("goes on after its end"));
        }
        if Checksum::finish(&self.hasher) != self.object.checksum {
            return Err(self.corrupt("does not match the BLAKE3 in its name"));
        }
        if end != self.counts {
            return Err(self.corrupt("lists another number of tablets, files, bytes or rows than its end says"));
        }
        self.state = State::Ended;
        Ok(())
    }

    async fn record(&mut self) -> Result<RecordKind> {
        let length = self.take(4).await?.get_u32_le() as usize;
        if length > MAX_RECORD_BYTES {
            return Err(self.corrupt(&format!("has a record of {length} bytes")));
        }
        let bytes = self.take(length).await?;
        match Record::decode(bytes) {
            Ok(Record { kind: Some(kind) }) => Ok(kind),
            Ok(Record { kind: None }) => Err(self.corrupt("has a record of unknown kind")),
            Err(error) => Err(self.corrupt(&format!("has a broken record: {error}"))),
        }
    }

    async fn take(&mut self, length: usize) -> Result<Bytes> {
        if !self.fill(length).await? {
            return Err(self.corrupt("ends too early, it was cut"));
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    /// Read until `length` bytes are there; false at the end of the object.
    async fn fill(&mut self, length: usize) -> Result<bool> {
        while self.buffer.len() < length {
            let path = &self.path;
            let Some(chunk) = self.body.try_next().await.context(|| format!("read manifest '{path}'"))? else {
                return Ok(false);
            };
            self.hasher.update(&chunk);
            self.buffer.extend_from_slice(&chunk);
        }
        Ok(true)
    }

    fn corrupt(&self, what: &str) -> Error {
        Error::corrupt(format!("manifest '{}' {what}", self.path))
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
