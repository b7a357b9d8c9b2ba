//! Where a case of the suite works, and how it says what is wrong.

use super::Sizes;
use crate::{ByteStream, ObjectInfo, PutOptions, Store, body, read_all};
use bytes::Bytes;
use coffer_stdx::{Error, ErrorKind, Result};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Larger than any buffer on the way and no multiple of one.
pub(super) const LARGE: usize = (9 << 20) + 12_345;
pub(super) const NEW: PutOptions = PutOptions { create_new: true, length_hint: None };
pub(super) const ANY: PutOptions = PutOptions { create_new: false, length_hint: None };

/// How long what was given up may take to go.
const GONE_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A store and the folder of one case.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) store: Arc<dyn Store>,
    pub(super) folder: String,
    pub(super) sizes: Sizes,
}

impl Place {
    pub(super) fn path(&self, name: &str) -> String {
        if name.is_empty() { self.folder.clone() } else { format!("{}/{name}", self.folder) }
    }

    pub(super) async fn put(&self, name: &str, bytes: impl Into<Bytes>) -> Result<ObjectInfo> {
        let bytes = bytes.into();
        let options = PutOptions { create_new: false, length_hint: Some(bytes.len() as u64) };
        self.store.put(&self.path(name), body::from_bytes(bytes), options).await
    }

    pub(super) async fn get(&self, name: &str) -> Result<Bytes> {
        read_all(&*self.store, &self.path(name), u64::MAX).await
    }

    /// The bytes of a range, however they come.
    pub(super) async fn range(&self, name: &str, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
        let chunks: Vec<Bytes> = self.store.get(&self.path(name), Some(range)).await?.try_collect().await?;
        Ok(chunks.concat())
    }

    /// The paths of a listing, relative to the folder of the case.
    pub(super) async fn names(&self, below: &str) -> Result<BTreeSet<String>> {
        let listed: Vec<ObjectInfo> = self.store.list(&self.path(below)).await?.try_collect().await?;
        let inside = format!("{}/", self.folder);
        let names: BTreeSet<String> =
            listed.iter().map(|info| info.path.strip_prefix(&inside).unwrap_or(&info.path).to_owned()).collect();
        ensure(names.len() == listed.len(), || "an object is listed twice".to_owned())?;
        Ok(names)
    }

    pub(super) async fn expect_names(&self, below: &str, names: &[&str]) -> Result<()> {
        let found = self.names(below).await?;
        let wanted: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        ensure(found == wanted, || format!("listing '{below}' gave {found:?}, not {wanted:?}"))
    }

    /// The same, but somebody may still be clearing away.
    pub(super) async fn expect_names_soon(&self, names: &[&str]) -> Result<()> {
        let deadline = Instant::now() + GONE_WITHIN;
        loop {
            match self.expect_names("", names).await {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(LOOK_EVERY).await,
                outcome => return outcome,
            }
        }
    }
}

pub(super) fn expect_kind<T>(outcome: Result<T>, kind: ErrorKind, doing: &str) -> Result<()> {
    match outcome {
        Ok(_) => Err(broken(format!("{doing} succeeded; it must fail with {kind}"))),
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => Err(broken(format!("{doing} failed with {} instead of {kind}: {error}", error.kind()))),
    }
}

pub(super) fn broken(promise: String) -> Error {
    Error::bug(promise)
}

pub(super) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(broken(otherwise())) }
}

pub(super) fn same(found: &[u8], wanted: &[u8], what: &str) -> Result<()> {
    ensure(found == wanted, || format!("{what}: {} bytes that differ from the {} stored", found.len(), wanted.len()))
}

/// Bytes without a short period.
pub(super) fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The bytes as a body of uneven chunks.
pub(super) fn uneven(bytes: Bytes) -> ByteStream {
    let sizes = [1, 4_096, 65_537, 700_001, 3, 1 << 20];
    let chunks = stream::unfold((bytes, 0), move |(mut rest, turn)| async move {
        let size = sizes[turn % sizes.len()].min(rest.len());
        (size > 0).then(|| (Ok(rest.split_to(size)), (rest, turn + 1)))
    });
    chunks.boxed()
}
