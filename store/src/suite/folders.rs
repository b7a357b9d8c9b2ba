//! Names: odd ones, listings, renames, removals, and what is not there.

use super::place::{ANY, Place, ensure, expect_kind, same};
use crate::{Child, body};
use coffer_stdx::error::Context;
use coffer_stdx::{ErrorKind, Result};
use futures::TryStreamExt;

const ODD: [&str; 22] = [
    "with space",
    " leading and trailing ",
    "per%2Fcent",
    "%2F",
    "%",
    "plus+and&=?#",
    "ünïcödé/数据",
    "u\u{308}",
    "ü",
    "🗄️",
    ".hidden",
    "..almost/...",
    "quote'\"<>",
    "back\\slash",
    "a",
    "a.b",
    "a-c/d",
    "trailing. ",
    "~tilde*star",
    "colon:semi;",
    "{brace}[bracket]|^`",
    "CASE",
];

pub(super) async fn odd_names(place: Place) -> Result<()> {
    let long = "x".repeat(crate::path::MAX_SEGMENT_BYTES);
    let names: Vec<&str> = ODD.into_iter().chain([long.as_str(), "case"]).collect();
    for name in &names {
        place.put(name, (*name).to_owned()).await.context(|| format!("put {name}"))?;
    }
    for name in &names {
        same(&place.get(name).await?, name.as_bytes(), name)?;
        place.store.stat(&place.path(name)).await?;
    }
    place.expect_names("", &names).await?;
    place.expect_names("a-c", &["a-c/d"]).await?;
    place.store.rename(&place.path("%2F"), &place.path("to %2F+数")).await?;
    same(&place.get("to %2F+数").await?, b"%2F", "an odd name after renaming")?;
    place.store.rename(&place.path("to %2F+数"), &place.path("%2F")).await?;
    for name in &names {
        place.store.delete(&place.path(name), false).await.context(|| format!("delete {name}"))?;
    }
    place.expect_names("", &[]).await
}

pub(super) async fn children(place: Place) -> Result<()> {
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
        let mut found = entries(&place, below).await?;
        found.sort();
        ensure(found == wanted, || format!("the entries of '{below}' are {found:?}, not {wanted:?}"))?;
    }
    Ok(())
}

/// The entries of a folder, folders with a slash at their end.
pub(super) async fn entries(place: &Place, below: &str) -> Result<Vec<String>> {
    let entries: Vec<Child> = place.store.children(&place.path(below)).await?.try_collect().await?;
    let inside = format!("{}/", place.folder);
    let shown = entries.iter().map(|child| {
        let path = child.path();
        let path = path.strip_prefix(&inside).unwrap_or(path);
        match child {
            Child::Object(info) if info.bytes > 0 => path.to_owned(),
            Child::Object(_) => format!("{path} (empty)"),
            Child::Folder(_) => format!("{path}/"),
        }
    });
    Ok(shown.collect())
}

pub(super) async fn rename(place: Place) -> Result<()> {
    place.put("a", "a").await?;
    place.put("b", "b").await?;
    place.store.rename(&place.path("a"), &place.path("deep/er/c")).await?;
    same(&place.get("deep/er/c").await?, b"a", "get after renaming")?;
    place.store.rename(&place.path("b"), &place.path("deep/er/c")).await?;
    same(&place.get("deep/er/c").await?, b"b", "get after renaming onto an object")?;
    place.expect_names("", &["deep/er/c"]).await?;
    let missing = place.store.rename(&place.path("a"), &place.path("d")).await;
    expect_kind(missing, ErrorKind::NotFound, "renaming what is missing")
}

pub(super) async fn delete(place: Place) -> Result<()> {
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

pub(super) async fn missing_and_bad(place: Place) -> Result<()> {
    let missing = place.path("missing");
    expect_kind(place.store.stat(&missing).await, ErrorKind::NotFound, "stat of what is missing")?;
    expect_kind(drained(&place, &missing).await, ErrorKind::NotFound, "get of what is missing")?;
    place.put("folder/a", "x").await?;
    let folder = place.path("folder");
    expect_kind(place.store.stat(&folder).await, ErrorKind::NotFound, "stat of a folder")?;
    expect_kind(drained(&place, &folder).await, ErrorKind::NotFound, "get of a folder")?;
    place.expect_names("no/such/folder", &[]).await?;
    place.expect_names("folder/a", &[]).await?;
    for bad in ["", "/a", "a/", "a//b", "../a", "a/./b", "a/..", "a\0b"] {
        let put = place.store.put(bad, body::from_bytes("x"), ANY).await;
        expect_kind(put, ErrorKind::Invalid, &format!("put of '{bad}'"))?;
        let delete = place.store.delete(bad, true).await;
        expect_kind(delete, ErrorKind::Invalid, &format!("delete of '{bad}'"))?;
    }
    Ok(())
}

async fn drained(place: &Place, path: &str) -> Result<()> {
    place.store.get(path, None).await?.try_for_each(|_| async { Ok(()) }).await
}
