//! Much of it: many names, one big object, many streams.

use super::folders::entries;
use super::place::{ANY, NEW, Place, ensure, pattern, same, uneven};
use crate::{ObjectInfo, PutOptions, body};
use bytes::{Bytes, BytesMut};
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use futures::future::{BoxFuture, join_all};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// Puts under way at once while many names are made.
const AT_ONCE: usize = 64;
/// Who wants to create the same object.
const RIVALS: usize = 16;
/// Folders the names are in.
const FOLDERS: usize = 7;
/// The big object is made of such blocks, each of which begins with its number.
const BLOCK: u64 = 1 << 20;
/// Bytes of one of many streams.
const STREAM_BYTES: usize = 300_000;

pub(super) async fn long_listing(place: Place) -> Result<()> {
    let many = place.sizes.names;
    let names: BTreeSet<String> = (0..many).map(|at| format!("l/{}/{at:05}", at % FOLDERS)).collect();
    let puts: Vec<BoxFuture<'_, Result<ObjectInfo>>> = names.iter().map(|name| place.put(name, "x").boxed()).collect();
    stream::iter(puts).buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await?;
    let found = place.names("l").await?;
    ensure(found == names, || format!("{} of {many} objects are listed", found.len()))?;
    let part = place.names("l/3").await?;
    let in_part = names.iter().filter(|name| name.starts_with("l/3/")).count();
    ensure(part.iter().all(|name| name.starts_with("l/3/")), || "a listing leaves its folder".to_owned())?;
    ensure(part.len() == in_part, || format!("{} of {in_part} objects of a folder are listed", part.len()))?;
    let folders = entries(&place, "l").await?;
    ensure(folders.len() == FOLDERS, || format!("{} folders instead of {FOLDERS}: {folders:?}", folders.len()))?;
    let inside = entries(&place, "l/3").await?.len();
    ensure(inside == in_part, || format!("{inside} of {in_part} entries of a folder are shown"))?;
    place.store.delete(&place.path("l"), true).await?;
    place.expect_names("", &[]).await
}

/// Bytes of the big object, made when they are wanted.
struct Big {
    base: Bytes,
    length: u64,
}

impl Big {
    fn new(length: u64) -> Big {
        Big { base: pattern(BLOCK as usize).into(), length }
    }

    fn block(&self, number: u64) -> Bytes {
        let mut block = BytesMut::from(&self.base[..]);
        block[..8].copy_from_slice(&number.to_le_bytes());
        let length = (self.length - number * BLOCK).min(BLOCK);
        block.freeze().slice(..length as usize)
    }

    fn range(&self, range: Range<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let (block, from) = (self.block(at / BLOCK), (at % BLOCK) as usize);
            let to = block.len().min(from + (range.end - at) as usize);
            bytes.extend_from_slice(&block[from..to]);
            at += (to - from) as u64;
        }
        bytes
    }
}

/// One object of many parts, written and checked without ever holding it.
pub(super) async fn big(place: Place) -> Result<()> {
    let length = place.sizes.big;
    let big = Arc::new(Big::new(length));
    let blocks = Arc::clone(&big);
    let body = stream::iter((0..length.div_ceil(BLOCK)).map(move |number| Ok(blocks.block(number)))).boxed();
    // No hint: the length of a pack is not known either when it begins.
    let put = place.store.put(&place.path("big"), body, ANY).await?;
    let stat = place.store.stat(&place.path("big")).await?;
    ensure(put.bytes == length && stat.bytes == length, || format!("{length} bytes became {put:?} and {stat:?}"))?;
    let mut at = 0;
    let mut read = place.store.get(&place.path("big"), None).await?;
    while let Some(chunk) = read.try_next().await? {
        let end = at + chunk.len() as u64;
        ensure(end <= length, || format!("more than the {length} bytes stored came back"))?;
        same(&chunk, &big.range(at..end), &format!("bytes {at}..{end} of the big object"))?;
        at = end;
    }
    ensure(at == length, || format!("{at} of {length} bytes came back"))?;
    for edge in [BLOCK, 8 << 20, 16 << 20, length / 2, length] {
        let edge = edge.min(length);
        for range in [edge.saturating_sub(1)..edge + 1, edge.saturating_sub(70_000)..edge + 70_000] {
            let inside = range.start..range.end.min(length);
            same(&place.range("big", range.clone()).await?, &big.range(inside), &format!("range {range:?}"))?;
        }
    }
    place.store.delete(&place.path("big"), false).await
}

pub(super) async fn at_once(place: Place) -> Result<()> {
    let bytes = Bytes::from(pattern(STREAM_BYTES + place.sizes.streams));
    let one = |at: usize| {
        let (bytes, place) = (bytes.slice(at..at + STREAM_BYTES), place.clone());
        tokio::spawn(async move {
            let name = format!("{at}/x");
            let options =
                PutOptions { create_new: false, length_hint: at.is_multiple_of(2).then_some(STREAM_BYTES as u64) };
            let put = place.store.put(&place.path(&name), uneven(bytes.clone()), options).await;
            put.context(|| format!("stream {at}"))?;
            same(&place.get(&name).await?, &bytes, &name)
        })
    };
    for stream in join_all((0..place.sizes.streams).map(one)).await {
        stream.map_err(|error| Error::bug(format!("a stream ended early: {error}")))??;
    }
    contest(&place).await
}

/// Of many that create the same object at once, one does.
async fn contest(place: &Place) -> Result<()> {
    let contested = |at: usize| {
        let (store, path) = (Arc::clone(&place.store), place.path("contested"));
        async move { store.put(&path, body::from_bytes(format!("winner {at}")), NEW).await.map(|_| at) }
    };
    let outcomes = join_all((0..RIVALS).map(contested)).await;
    let winners: Vec<usize> = outcomes.into_iter().flatten().collect();
    ensure(winners.len() == 1, || format!("{} of {RIVALS} puts created the same new object", winners.len()))?;
    same(&place.get("contested").await?, format!("winner {}", winners[0]).as_bytes(), "the contested object")
}
