//! A repository of format version 1, written once and kept: later releases must read it, and must write the same bytes
//! for the same snapshot.
//!
//! `cargo test -p coffer-repo --test golden -- --ignored` writes it again, which only a new format version may need.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod sample;

use coffer_repo::Repository;
use coffer_store::local::LocalStore;
use coffer_store::memory::MemoryStore;
use coffer_store::{LocalAccess, PutOptions, Store, from_bytes, read_all};
use futures::TryStreamExt;
use std::path::PathBuf;
use std::sync::Arc;

fn golden() -> PathBuf {
    // Asked at run time: a cached test may run in another checkout than it was built in.
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("tests/data/v1")
}

fn store(dir: PathBuf) -> Arc<dyn Store> {
    Arc::new(LocalStore::open(&dir, &LocalAccess { roots: vec![dir.clone()], ..LocalAccess::default() }).unwrap())
}

async fn write(store: Arc<dyn Store>) -> Repository {
    let dir = tempfile::tempdir().unwrap();
    let repository = match Repository::open(store.clone(), "golden").await {
        Ok(repository) => repository,
        Err(_) => Repository::create(store, "golden", 1_649_433_000_000).await.unwrap().0,
    };
    let info = sample::write_all_but_info(&repository, dir.path(), sample::pack_id()).await;
    repository.write_info(&info).await.unwrap();
    repository
}

#[tokio::test]
async fn version_1_is_still_read() {
    let repository = Repository::open(store(golden()), "golden").await.unwrap();
    assert_eq!(repository.info().created_ms, 1_649_433_000_000);
    sample::check(&repository).await.unwrap();
}

#[tokio::test]
async fn version_1_is_still_written() {
    let (kept, now) = (store(golden()), Arc::new(MemoryStore::new()));
    let info = "__coffer_repository_golden/__repo_info";
    let bytes = read_all(&*kept, info, 1 << 20).await.unwrap();
    now.put(info, from_bytes(bytes), PutOptions::default()).await.unwrap();
    write(now.clone()).await;
    for path in [names(&*kept).await, names(&*now).await].concat() {
        let (kept, now) = (read_all(&*kept, &path, 1 << 20).await, read_all(&*now, &path, 1 << 20).await);
        assert_eq!(now.unwrap(), kept.unwrap(), "{path}");
    }
}

async fn names(store: &dyn Store) -> Vec<String> {
    store.list("").await.unwrap().map_ok(|object| object.path).try_collect().await.unwrap()
}

#[tokio::test]
#[ignore = "writes the golden files"]
async fn write_golden_files() {
    std::fs::create_dir_all(golden()).unwrap();
    write(store(golden())).await;
}
