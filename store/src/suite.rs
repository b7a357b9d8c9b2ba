//! The contract every store must pass; tests run it against each backend and each way to reach it.
//!
//! [`run`] works below a folder that must be empty and leaves it empty. It reports the first broken promise by case.

use crate::{ByteStream, Child, ObjectInfo, PutOptions, Store, body, read_all};
use bytes::Bytes;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, ErrorKind, Result};
use futures::future::{BoxFuture, try_join_all};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Objects of the long listing: more than one page of every backend.
const MANY: usize = 1_500;
/// Puts under way at once while they are made.
const AT_ONCE: usize = 16;
/// Larger than any buffer on the way and no multiple of one.
const LARGE: usize = (9 << 20) + 12_345;
const NEW: PutOptions = PutOptions { create_new: true, length_hint: None };
const ANY: PutOptions = PutOptions { create_new: false, length_hint: None };

/// A store and the folder of one case.
struct Place {
    store: Arc<dyn Store>,
    folder: String,
}

type Case = fn(Place) -> BoxFuture<'static, Result<()>>;

const CASES: [(&str, Case); 14] = [
    ("put_and_get", |place| Box::pin(put_and_get(place))),
    ("overwrite", |place| Box::pin(overwrite(place))),
    ("create_new", |place| Box::pin(create_new(place))),
    ("empty", |place| Box::pin(empty(place))),
    ("large", |place| Box::pin(large(place))),
    ("ranges", |place| Box::pin(ranges(place))),
    ("failing_body", |place| Box::pin(failing_body(place))),
    ("odd_names", |place| Box::pin(odd_names(place))),
    ("long_listing", |place| Box::pin(long_listing(place))),
    ("children", |place| Box::pin(children(place))),
    ("rename", |place| Box::pin(rename(place))),
    ("delete", |place| Box::pin(delete(place))),
    ("missing_and_bad", |place| Box::pin(missing_and_bad(place))),
    ("at_once", |place| Box::pin(at_once(place))),
];

/// Run every case below `folder`.
pub async fn run(store: Arc<dyn Store>, folder: &str) -> Result<()> {
    for (name, case) in CASES {
        let place = Place { store: Arc::clone(&store), folder: format!("{folder}/{name}") };
        case(place).await.context(|| format!("case {name}"))?;
    }
    store.delete(folder, true).await?;
    let left: Vec<ObjectInfo> = store.list(folder).await?.try_collect().await?;
    ensure(left.is_empty(), || format!("{} objects are left after a recursive delete", left.len()))
}

impl Place {
    fn path(&self, name: &str) -> String {
        if name.is_empty() { self.folder.clone() } else { format!("{}/{name}", self.folder) }
    }

    async fn put(&self, name: &str, bytes: impl Into<Bytes>) -> Result<ObjectInfo> {
        self.store.put(&self.path(name), body::from_bytes(bytes), ANY).await
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        read_all(&*self.store, &self.path(name), u64::MAX).await
    }

    /// The paths of a listing, relative to the folder of the case.
    async fn names(&self, below: &str) -> Result<BTreeSet<String>> {
        let listed: Vec<ObjectInfo> = self.store.list(&self.path(below)).await?.try_collect().await?;
        let inside = format!("{}/", self.folder);
        let names: BTreeSet<String> =
            listed.iter().map(|info| info.path.strip_prefix(&inside).unwrap_or(&info.path).to_owned()).collect();
        ensure(names.len() == listed.len(), || "an object is listed twice".to_owned())?;
        Ok(names)
    }

    async fn expect_names(&self, below: &str, names: &[&str]) -> Result<()> {
        let found = self.names(below).await?;
        let wanted: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        ensure(found == wanted, || format!("listing '{below}' gave {found:?}, not {wanted:?}"))
    }

    async fn expect_kind<T>(&self, outcome: Result<T>, kind: ErrorKind, doing: &str) -> Result<()> {
        match outcome {
            Ok(_) => Err(broken(format!("{doing} succeeded; it must fail with {kind}"))),
            Err(error) if error.kind() == kind => Ok(()),
            Err(error) => Err(broken(format!("{doing} failed with {} instead of {kind}: {error}", error.kind()))),
        }
    }
}

fn broken(promise: String) -> Error {
    Error::bug(promise)
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(broken(otherwise())) }
}

fn same(found: &[u8], wanted: &[u8], what: &str) -> Result<()> {
    ensure(found == wanted, || format!("{what}: {} bytes that differ from the {} stored", found.len(), wanted.len()))
}

/// Bytes without a short period.
fn pattern(length: usize) -> Vec<u8> {
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
fn uneven(bytes: Bytes) -> ByteStream {
    let sizes = [1, 4_096, 65_537, 700_001, 3, 1 << 20];
    let chunks = stream::unfold((bytes, 0), move |(mut rest, turn)| async move {
        let size = sizes[turn % sizes.len()].min(rest.len());
        (size > 0).then(|| (Ok(rest.split_to(size)), (rest, turn + 1)))
    });
    chunks.boxed()
}

async fn put_and_get(place: Place) -> Result<()> {
    let put = place.put("a/b", "hello").await?;
    let stat = place.store.stat(&place.path("a/b")).await?;
    ensure(put.path == place.path("a/b") && put.bytes == 5, || format!("put answered {put:?}"))?;
    ensure(stat.path == put.path && stat.bytes == 5 && stat.modified_ms > 0, || format!("stat answered {stat:?}"))?;
    same(&place.get("a/b").await?, b"hello", "get")?;
    place.expect_names("a", &["a/b"]).await
}

async fn overwrite(place: Place) -> Result<()> {
    place.put("a", pattern(100_000)).await?;
    place.put("a", "short").await?;
    same(&place.get("a").await?, b"short", "get after overwriting")
}

async fn create_new(place: Place) -> Result<()> {
    let path = place.path("a");
    place.store.put(&path, body::from_bytes("first"), NEW).await?;
    let second = place.store.put(&path, body::from_bytes("second"), NEW).await;
    place.expect_kind(second, ErrorKind::AlreadyExists, "a second put with create_new").await?;
    let large = place.store.put(&path, uneven(pattern(LARGE).into()), NEW).await;
    place.expect_kind(large, ErrorKind::AlreadyExists, "a large put with create_new").await?;
    same(&place.get("a").await?, b"first", "get after refused puts")
}

async fn empty(place: Place) -> Result<()> {
    let put = place.put("a", Bytes::new()).await?;
    let stat = place.store.stat(&place.path("a")).await?;
    ensure(put.bytes == 0 && stat.bytes == 0, || "an empty object has bytes".to_owned())?;
    same(&place.get("a").await?, b"", "get of an empty object")?;
    let chunks: Vec<Bytes> = place.store.get(&place.path("a"), Some(0..10)).await?.try_collect().await?;
    same(&chunks.concat(), b"", "range of an empty object")?;
    place.expect_names("", &["a"]).await
}

async fn large(place: Place) -> Result<()> {
    let bytes = Bytes::from(pattern(LARGE));
    for (name, length_hint) in [("told", Some(LARGE as u64)), ("untold", None), ("mistold", Some(7))] {
        let options = PutOptions { create_new: false, length_hint };
        let put = place.store.put(&place.path(name), uneven(bytes.clone()), options).await?;
        ensure(put.bytes == LARGE as u64, || format!("put of {LARGE} bytes answered {put:?}"))?;
        same(&place.get(name).await?, &bytes, name)?;
    }
    Ok(())
}

async fn ranges(place: Place) -> Result<()> {
    const LENGTH: u64 = (1 << 20) + 17;
    let bytes = pattern(LENGTH as usize);
    place.put("a", bytes.clone()).await?;
    let edges = [0, 1, (1 << 19) - 1, 1 << 19, (1 << 19) + 1, LENGTH - 1, LENGTH, LENGTH + 1, u64::MAX];
    for start in edges {
        for end in edges.into_iter().filter(|end| *end >= start) {
            let chunks: Vec<Bytes> = place.store.get(&place.path("a"), Some(start..end)).await?.try_collect().await?;
            let wanted = &bytes[start.min(LENGTH) as usize..end.min(LENGTH) as usize];
            same(&chunks.concat(), wanted, &format!("range {start}..{end}"))?;
        }
    }
    Ok(())
}

async fn failing_body(place: Place) -> Result<()> {
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

async fn odd_names(place: Place) -> Result<()> {
    let names = [
        "with space",
        "per%2Fcent",
        "plus+and&=?#",
        "ünïcödé/数据",
        ".hidden",
        "..almost/...",
        "quote'\"<>",
        "back\\slash",
        "a",
        "a.b",
        "a-c/d",
        "trailing. ",
        "~tilde*star",
    ];
    for name in names {
        place.put(name, name.to_owned()).await?;
    }
    for name in names {
        same(&place.get(name).await?, name.as_bytes(), name)?;
        place.store.stat(&place.path(name)).await?;
    }
    place.expect_names("", &names).await?;
    place.expect_names("a-c", &["a-c/d"]).await?;
    for name in names {
        place.store.delete(&place.path(name), false).await.context(|| format!("delete {name}"))?;
    }
    place.expect_names("", &[]).await
}

async fn long_listing(place: Place) -> Result<()> {
    let names: BTreeSet<String> = (0..MANY).map(|at| format!("l/{}/{at:05}", at % 7)).collect();
    let puts: Vec<BoxFuture<'_, Result<ObjectInfo>>> = names.iter().map(|name| place.put(name, "x").boxed()).collect();
    stream::iter(puts).buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await?;
    let found = place.names("l").await?;
    ensure(found == names, || format!("{} of {MANY} objects are listed", found.len()))?;
    let part = place.names("l/3").await?;
    ensure(part.iter().all(|name| name.starts_with("l/3/")), || "a listing leaves its folder".to_owned())?;
    place.store.delete(&place.path("l"), true).await?;
    place.expect_names("", &[]).await
}

async fn children(place: Place) -> Result<()> {
    for name in ["a/b/c/1", "a/b/c/2", "a-b/x", "a/z", "top", "%2F/.h", "a b/x"] {
        place.put(name, name.to_owned()).await?;
    }
    let cases: [(&str, &[&str]); 4] = [
        ("", &["%2F/", "a b/", "a-b/", "a/", "top"]),
        ("a", &["a/b/", "a/z"]),
        ("a/b/c", &["a/b/c/1", "a/b/c/2"]),
        ("none", &[]),
    ];
    for (below, wanted) in cases {
        let entries: Vec<Child> = place.store.children(&place.path(below)).await?.try_collect().await?;
        let inside = format!("{}/", place.folder);
        let mut found: Vec<String> = entries
            .iter()
            .map(|child| match child {
                Child::Object(info) => (info.path.clone(), info.bytes > 0),
                Child::Folder(path) => (format!("{path}/"), true),
            })
            .map(|(path, filled)| if filled { path.strip_prefix(&inside).unwrap_or(&path).to_owned() } else { path })
            .collect();
        found.sort();
        ensure(found == wanted, || format!("the entries of '{below}' are {found:?}, not {wanted:?}"))?;
    }
    Ok(())
}

async fn rename(place: Place) -> Result<()> {
    place.put("a", "a").await?;
    place.put("b", "b").await?;
    place.store.rename(&place.path("a"), &place.path("deep/er/c")).await?;
    same(&place.get("deep/er/c").await?, b"a", "get after renaming")?;
    place.store.rename(&place.path("b"), &place.path("deep/er/c")).await?;
    same(&place.get("deep/er/c").await?, b"b", "get after renaming onto an object")?;
    place.expect_names("", &["deep/er/c"]).await?;
    let missing = place.store.rename(&place.path("a"), &place.path("d")).await;
    place.expect_kind(missing, ErrorKind::NotFound, "renaming what is missing").await
}

async fn delete(place: Place) -> Result<()> {
    for name in ["d/1", "d/e/2", "dd", "d.x", "other"] {
        place.put(name, name.to_owned()).await?;
    }
    place.store.delete(&place.path("d"), false).await?;
    place.expect_names("", &["d/1", "d/e/2", "dd", "d.x", "other"]).await?;
    place.store.delete(&place.path("d"), true).await?;
    place.expect_names("", &["dd", "d.x", "other"]).await?;
    place.store.delete(&place.path("d"), true).await?;
    place.store.delete(&place.path("other"), false).await?;
    place.store.delete(&place.path("other"), false).await?;
    place.store.delete(&place.path("dd"), true).await?;
    place.expect_names("", &["d.x"]).await
}

async fn missing_and_bad(place: Place) -> Result<()> {
    let missing = place.path("missing");
    place.expect_kind(place.store.stat(&missing).await, ErrorKind::NotFound, "stat of what is missing").await?;
    place.expect_kind(drained(&place, &missing).await, ErrorKind::NotFound, "get of what is missing").await?;
    place.put("folder/a", "x").await?;
    let folder = place.path("folder");
    place.expect_kind(place.store.stat(&folder).await, ErrorKind::NotFound, "stat of a folder").await?;
    place.expect_kind(drained(&place, &folder).await, ErrorKind::NotFound, "get of a folder").await?;
    place.expect_names("no/such/folder", &[]).await?;
    place.expect_names("folder/a", &[]).await?;
    for bad in ["", "/a", "a/", "a//b", "../a", "a/./b", "a/..", "a\0b"] {
        let put = place.store.put(bad, body::from_bytes("x"), ANY).await;
        place.expect_kind(put, ErrorKind::Invalid, &format!("put of '{bad}'")).await?;
        let delete = place.store.delete(bad, true).await;
        place.expect_kind(delete, ErrorKind::Invalid, &format!("delete of '{bad}'")).await?;
    }
    Ok(())
}

async fn drained(place: &Place, path: &str) -> Result<()> {
    place.store.get(path, None).await?.try_for_each(|_| async { Ok(()) }).await
}

async fn at_once(place: Place) -> Result<()> {
    let bytes = Bytes::from(pattern(2_500_000));
    let one = |at: usize| {
        let (bytes, place) = (bytes.clone(), &place);
        async move {
            let name = format!("{at}/x");
            place.store.put(&place.path(&name), uneven(bytes.slice(at..)), ANY).await?;
            same(&place.get(&name).await?, &bytes[at..], &name)
        }
    };
    try_join_all((0..AT_ONCE).map(one)).await?;
    let contested = |at: usize| {
        let path = place.path("contested");
        let store = Arc::clone(&place.store);
        async move { store.put(&path, body::from_bytes(format!("winner {at}")), NEW).await.map(|_| at) }
    };
    let outcomes = futures::future::join_all((0..AT_ONCE).map(contested)).await;
    let winners: Vec<usize> = outcomes.into_iter().flatten().collect();
    ensure(winners.len() == 1, || format!("{} of {AT_ONCE} puts created the same new object", winners.len()))?;
    same(&place.get("contested").await?, format!("winner {}", winners[0]).as_bytes(), "the contested object")
}
