//! openraft's own suite against our storage, and restarts of a whole node.

use super::handle::Meta;
use super::home::Home;
use super::log::LogStore;
use super::machine::Machine;
use super::types::{Stop, TypeConfig};
use crate::error::ErrorKind;
use crate::meta::command::{Command, Outcome};
use std::path::Path;

struct Fresh;

impl openraft::testing::StoreBuilder<TypeConfig, LogStore, Machine, tempfile::TempDir> for Fresh {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine), Stop> {
        let dir = tempfile::tempdir().unwrap();
        let log = LogStore::open(&dir.path().join("log")).unwrap();
        let machine = Machine::open(&dir.path().join("snapshot")).unwrap();
        Ok((dir, log, machine))
    }
}

#[test]
fn openraft_accepts_the_storage() {
    openraft::testing::Suite::test_all(Fresh).unwrap();
}

async fn open(dir: &Path) -> crate::error::Result<Meta> {
    Meta::open(dir, "127.0.0.1:9010").await
}

async fn create(meta: &Meta, name: &str) -> u64 {
    match meta.propose(Command::CreateDatabase { name: name.to_owned() }).await.unwrap() {
        Outcome::Created(id) => id,
        other => panic!("{other:?}"),
    }
}

fn names(meta: &Meta) -> Vec<String> {
    meta.view(|state| state.databases.values().map(|database| database.name.clone()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_loses_nothing_and_reuses_no_id() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path()).await.unwrap();
    let state = meta.view(|state| (state.cluster_id.clone(), state.users.len()));
    assert_eq!(state.1, 2);
    let a = create(&meta, "a").await;
    let refused = meta.propose(Command::CreateDatabase { name: "a".to_owned() }).await.unwrap_err();
    assert_eq!((refused.kind(), refused.number()), (ErrorKind::AlreadyExists, 1007));
    assert_eq!(open(dir.path()).await.err().unwrap().kind(), ErrorKind::Conflict);
    meta.stop().await;
    drop(meta);

    // From the log alone, then from a snapshot alone, then from both.
    let meta = reopen(dir.path()).await;
    assert_eq!(meta.view(|state| (state.cluster_id.clone(), state.users.len())), state);
    assert_eq!(names(&meta), ["a"]);
    meta.snapshot().await;
    meta.stop().await;
    drop(meta);
    let meta = reopen(dir.path()).await;
    assert_eq!(names(&meta), ["a"]);
    assert!(create(&meta, "b").await > a);
    meta.stop().await;
    drop(meta);
    let meta = reopen(dir.path()).await;
    assert_eq!(names(&meta), ["a", "b"]);
    meta.stop().await;
}

/// The tasks of a stopped node let go of the directory a moment after `stop`.
async fn reopen(dir: &Path) -> Meta {
    for _ in 0..1_000 {
        match open(dir).await {
            Ok(meta) => return meta,
            Err(error) if error.kind() == ErrorKind::Conflict || error.message().contains("already open") => {
                tokio::task::yield_now().await;
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the directory stays in use");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_or_log_stops_the_start_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path()).await.unwrap();
    create(&meta, "a").await;
    meta.snapshot().await;
    meta.stop().await;
    drop(meta);
    drop(reopen(dir.path()).await);
    let path = dir.path().join("snapshot");
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bad).unwrap();
    let error = damaged(dir.path()).await;
    assert!(error.contains("snapshot") && error.contains("checksum"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_whose_log_is_gone_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path()).await.unwrap();
    create(&meta, "a").await;
    let marker = dir.path().join("new");
    while marker.exists() {
        tokio::task::yield_now().await;
    }
    meta.stop().await;
    drop(meta);
    std::fs::remove_dir_all(dir.path().join("log")).unwrap();
    let error = damaged(dir.path()).await;
    assert!(error.contains("its log is gone") && error.contains("--helper"), "{error}");
    assert!(error.contains(&dir.path().display().to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_was_cut_off_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    // An identity, and nothing else yet.
    let super::home::Found::Fresh(fresh) = super::home::Home::find(dir.path()).unwrap() else { panic!("it is new") };
    drop(fresh.found().unwrap());
    let meta = open(dir.path()).await.unwrap();
    create(&meta, "a").await;
    meta.stop().await;
}

async fn damaged(dir: &Path) -> String {
    loop {
        match open(dir).await.err().unwrap() {
            error if error.kind() == ErrorKind::Conflict => tokio::task::yield_now().await,
            error => return error.message().to_owned(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_proposals_at_once_are_all_applied_in_one_order() {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path()).await.unwrap();
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let meta = meta.clone();
            tokio::spawn(async move { create(&meta, &format!("d{n}")).await })
        })
        .collect();
    let mut ids = Vec::new();
    for task in tasks {
        ids.push(task.await.unwrap());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 64);
    assert_eq!(names(&meta).len(), 64);
    // Those that waited together share an entry.
    assert!((1..=66).contains(&*meta.applied().borrow()));
    let now = *meta.leadership().borrow();
    assert!(now.leading && now.term > 0);
    meta.stop().await;
}

#[test]
fn the_home_names_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(dir.path()).unwrap();
    assert_eq!(home.log(), dir.path().join("log"));
    assert_eq!(home.snapshot(), dir.path().join("snapshot"));
}
