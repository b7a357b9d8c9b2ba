//! Single objects: whole or not at all, whatever happens on the way.

use super::place::{ANY, LARGE, NEW, Place, broken, ensure, expect_kind, pattern, same, uneven};
use crate::{ByteStream, PutOptions, Store, body};
use bytes::Bytes;
use coffer_stdx::{Error, ErrorKind, Result};
use futures::{StreamExt, TryStreamExt, stream};
use std::sync::Arc;
use tokio::sync::oneshot;

pub(super) async fn put_and_get(place: Place) -> Result<()> {
    let put = place.put("a/b", "hello").await?;
    let stat = place.store.stat(&place.path("a/b")).await?;
    ensure(put.path == place.path("a/b") && put.bytes == 5, || format!("put answered {put:?}"))?;
    ensure(stat.path == put.path && stat.bytes == 5 && stat.modified_ms > 0, || format!("stat answered {stat:?}"))?;
    same(&place.get("a/b").await?, b"hello", "get")?;
    place.expect_names("a", &["a/b"]).await
}

/// A body that stops in the middle until it is told to go on.
fn halting(bytes: &Bytes, at: usize) -> (ByteStream, oneshot::Receiver<()>, oneshot::Sender<()>) {
    let (reached, halted) = oneshot::channel();
    let (go, gone) = oneshot::channel::<()>();
    let (first, rest) = (bytes.slice(..at), bytes.slice(at..));
    let middle = stream::once(async move {
        // The waiting side may be gone; then nobody wants the rest either.
        let _ = reached.send(());
        gone.await.map_err(|_| Error::cancelled("the test ended"))?;
        Ok(rest)
    });
    (uneven(first).chain(middle).boxed(), halted, go)
}

pub(super) async fn whole(place: Place) -> Result<()> {
    let bytes = Bytes::from(pattern(LARGE));
    place.put("old", "old").await?;
    for (name, at) in [("new", LARGE - 1), ("old", LARGE - 1), ("small", 3)] {
        let (body, halted, go) = halting(&bytes, at);
        let (store, path) = (Arc::clone(&place.store), place.path(name));
        let put = tokio::spawn(async move { store.put(&path, body, ANY).await });
        halted.await.map_err(|_| broken(format!("the put of '{name}' ended before its body did")))?;
        let there: &[&str] = if name == "small" { &["new", "old"] } else { &["old"] };
        if name == "old" {
            same(&place.get("old").await?, b"old", "the object there before, while its successor is on its way")?;
        } else {
            place.expect_names("", there).await?;
            let stat = place.store.stat(&place.path(name)).await;
            expect_kind(stat, ErrorKind::NotFound, "stat of an object on its way")?;
        }
        go.send(()).map_err(|()| broken(format!("the put of '{name}' ended early")))?;
        let stored = put.await.map_err(|error| broken(format!("the put of '{name}': {error}")))??;
        ensure(stored.bytes == LARGE as u64, || format!("put answered {stored:?}"))?;
        same(&place.get(name).await?, &bytes, name)?;
    }
    Ok(())
}

pub(super) async fn overwrite(place: Place) -> Result<()> {
    place.put("a", pattern(100_000)).await?;
    place.put("a", "short").await?;
    same(&place.get("a").await?, b"short", "get after overwriting")?;
    place.put("a", pattern(LARGE)).await?;
    same(&place.get("a").await?, &pattern(LARGE), "get after overwriting with more")
}

pub(super) async fn create_new(place: Place) -> Result<()> {
    let path = place.path("a");
    place.store.put(&path, body::from_bytes("first"), NEW).await?;
    let second = place.store.put(&path, body::from_bytes("second"), NEW).await;
    expect_kind(second, ErrorKind::AlreadyExists, "a second put with create_new")?;
    let large = place.store.put(&path, uneven(pattern(LARGE).into()), NEW).await;
    expect_kind(large, ErrorKind::AlreadyExists, "a large put with create_new")?;
    same(&place.get("a").await?, b"first", "get after refused puts")
}

pub(super) async fn empty(place: Place) -> Result<()> {
    let put = place.put("a", Bytes::new()).await?;
    let stat = place.store.stat(&place.path("a")).await?;
    ensure(put.bytes == 0 && stat.bytes == 0, || "an empty object has bytes".to_owned())?;
    same(&place.get("a").await?, b"", "get of an empty object")?;
    same(&place.range("a", 0..10).await?, b"", "range of an empty object")?;
    place.expect_names("", &["a"]).await
}

pub(super) async fn large(place: Place) -> Result<()> {
    let bytes = Bytes::from(pattern(LARGE));
    for (name, length_hint) in [("told", Some(LARGE as u64)), ("untold", None), ("mistold", Some(7))] {
        let options = PutOptions { create_new: false, length_hint };
        let put = place.store.put(&place.path(name), uneven(bytes.clone()), options).await?;
        ensure(put.bytes == LARGE as u64, || format!("put of {LARGE} bytes answered {put:?}"))?;
        same(&place.get(name).await?, &bytes, name)?;
    }
    Ok(())
}

pub(super) async fn ranges(place: Place) -> Result<()> {
    const LENGTH: u64 = (1 << 20) + 17;
    let bytes = pattern(LENGTH as usize);
    place.put("a", bytes.clone()).await?;
    let edges = [0, 1, (1 << 19) - 1, 1 << 19, (1 << 19) + 1, LENGTH - 1, LENGTH, LENGTH + 1, u64::MAX];
    for start in edges {
        for end in edges.into_iter().filter(|end| *end >= start) {
            let wanted = &bytes[start.min(LENGTH) as usize..end.min(LENGTH) as usize];
            same(&place.range("a", start..end).await?, wanted, &format!("range {start}..{end}"))?;
        }
    }
    let missing = place.store.get(&place.path("none"), Some(3..3)).await.map(drop);
    expect_kind(missing, ErrorKind::NotFound, "an empty range of what is missing")
}

pub(super) async fn failing_body(place: Place) -> Result<()> {
    place.put("old", "old").await?;
    for (name, length) in [("old", 10), ("new", 10), ("old", LARGE), ("new", LARGE), ("deep/new", 0)] {
        let chunks = uneven(pattern(length).into()).chain(stream::once(async { Err(Error::conflict("the cause")) }));
        let error = match place.store.put(&place.path(name), chunks.boxed(), ANY).await {
            Ok(info) => return Err(broken(format!("a put whose body failed answered {info:?}"))),
            Err(error) => error,
        };
        let kept = error.kind() == ErrorKind::Conflict && error.message().contains("the cause");
        ensure(kept, || format!("the cause of a failing body got lost: {error}"))?;
        same(&place.get("old").await?, b"old", "the object there before")?;
        place.expect_names("", &["old"]).await?;
    }
    Ok(())
}

/// Calls that their caller gives up in the middle.
pub(super) async fn cancelled(place: Place) -> Result<()> {
    let bytes = Bytes::from(pattern(LARGE));
    place.put("old", bytes.clone()).await?;
    for (name, at) in [("new", 10), ("new", LARGE - 1), ("old", 10), ("old", LARGE - 1)] {
        let (body, halted, go) = halting(&bytes, at);
        let (store, path) = (Arc::clone(&place.store), place.path(name));
        let put = tokio::spawn(async move { store.put(&path, body, ANY).await });
        halted.await.map_err(|_| broken(format!("the put of '{name}' ended before its body did")))?;
        put.abort();
        // Only now may the body learn of it.
        let ended = put.await;
        drop(go);
        ensure(ended.is_err(), || format!("a put that was given up ended: {ended:?}"))?;
        place.expect_names_soon(&["old"]).await?;
    }
    for _ in 0..8 {
        let mut body = place.store.get(&place.path("old"), None).await?;
        let first = body.try_next().await?;
        ensure(first.is_some_and(|first| !first.is_empty()), || "a get without a first chunk".to_owned())?;
        drop(body);
    }
    same(&place.get("old").await?, &bytes, "get after gets that were given up")
}

/// Somebody without permission: every call says so, and nothing happens.
pub(super) async fn denied(place: Place, stranger: &Arc<dyn Store>, reads: bool) -> Result<()> {
    let (there, new) = (place.path("there"), place.path("new"));
    if reads {
        place.put("there", "there").await?;
    }
    for (length, options) in [(5, ANY), (5, NEW), (LARGE, ANY)] {
        let put = stranger.put(&new, uneven(pattern(length).into()), options).await;
        expect_kind(put, ErrorKind::Denied, &format!("a put of {length} bytes without permission"))?;
    }
    if !reads {
        return Ok(());
    }
    expect_kind(stranger.stat(&there).await, ErrorKind::Denied, "stat without permission")?;
    let get = async { stranger.get(&there, None).await?.try_for_each(|_| async { Ok(()) }).await }.await;
    expect_kind(get, ErrorKind::Denied, "get without permission")?;
    let list = async { stranger.list(&place.folder).await?.try_collect::<Vec<_>>().await }.await;
    expect_kind(list, ErrorKind::Denied, "list without permission")?;
    let children = async { stranger.children(&place.folder).await?.try_collect::<Vec<_>>().await }.await;
    expect_kind(children, ErrorKind::Denied, "children without permission")?;
    expect_kind(stranger.delete(&there, false).await, ErrorKind::Denied, "delete without permission")?;
    expect_kind(stranger.rename(&there, &new).await, ErrorKind::Denied, "rename without permission")?;
    place.expect_names("", &["there"]).await?;
    same(&place.get("there").await?, b"there", "the object that others may not touch")
}
