//! The store as a whole: loads, publishes, drops, and what crashes leave.

use super::testing::{batch, schema};
use super::*;
use coffer_stdx::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn open(dir: &Path) -> Arc<TabletStore> {
    TabletStore::open(&[dir.to_owned()]).unwrap()
}

fn stage(store: &Arc<TabletStore>, transaction: u64, tablet: u64, ids: &[i32]) {
    let mut writer = LoadWriter::begin(store, transaction).unwrap();
    let dir = writer.dir(tablet).unwrap();
    let file = rowset::write_file(&dir, &schema(), &[batch(ids)]).unwrap();
    writer.add(tablet, file);
    let written = writer.finish().unwrap();
    assert_eq!(written[0].1, ids.len() as u64);
}

fn publish(transaction_id: u64, tablets: &[(u64, u64)]) -> Publish {
    let tablet = |(tablet_id, version): &(u64, u64)| PublishTablet {
        tablet_id: *tablet_id,
        partition_id: 2,
        version: *version,
        rows_expected: false,
    };
    Publish {
        transaction_id,
        table_id: 1,
        schema: schema(),
        delete: None,
        tablets: tablets.iter().map(tablet).collect(),
    }
}

fn state(store: &TabletStore, tablet: u64) -> (u64, u64) {
    let meta = store.tablet(tablet).unwrap().meta();
    (meta.version, meta.rows())
}

#[test]
fn a_published_load_survives_a_restart_and_a_repeat() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    stage(&store, 100, 7, &[1, 2, 3]);
    assert_eq!(store.staged_transactions(), [100]);
    assert!(store.publish(&publish(100, &[(7, 2), (8, 2)])).is_empty());
    assert_eq!((state(&store, 7), state(&store, 8)), ((2, 3), (2, 0)));
    assert!(store.staged_transactions().is_empty());
    assert_eq!(std::fs::read_dir(dir.path().join("staging")).unwrap().count(), 0);
    drop(store);
    let store = open(dir.path());
    assert_eq!((state(&store, 7), state(&store, 8)), ((2, 3), (2, 0)));
    assert!(store.publish(&publish(100, &[(7, 2), (8, 2)])).is_empty());
    assert_eq!(state(&store, 7), (2, 3));
}

#[test]
fn staged_rows_survive_a_restart_and_unfinished_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    stage(&store, 100, 7, &[1]);
    let mut writer = LoadWriter::begin(&store, 101).unwrap();
    writer.dir(7).unwrap();
    std::mem::forget(writer);
    // The forgotten writer holds the store and so the lock; a new process would not find it locked.
    std::fs::remove_file(dir.path().join("lock")).unwrap();
    let again = open(dir.path());
    assert_eq!(again.staged_transactions(), [100]);
    assert!(!dir.path().join("staging/101").exists());
    assert!(again.publish(&publish(100, &[(7, 2)])).is_empty());
    assert_eq!(state(&again, 7), (2, 1));
}

#[test]
fn a_writer_that_gives_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut writer = LoadWriter::begin(&store, 100).unwrap();
    assert_eq!(LoadWriter::begin(&store, 100).unwrap_err().kind(), ErrorKind::Conflict);
    writer.dir(7).unwrap();
    assert_eq!(store.discard(&[100]).unwrap_err().kind(), ErrorKind::Unavailable);
    drop(writer);
    assert!(!dir.path().join("staging/100").exists());
    stage(&store, 100, 7, &[1]);
    assert_eq!(LoadWriter::begin(&store, 100).unwrap_err().kind(), ErrorKind::Conflict);
    store.discard(&[100, 999]).unwrap();
    assert!(store.staged_transactions().is_empty() && !dir.path().join("staging/100").exists());
}

#[test]
fn a_replica_that_missed_a_version_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let failures = store.publish(&publish(100, &[(7, 3)]));
    assert_eq!(failures[0].1.kind(), ErrorKind::NotFound);
    assert!(store.publish(&publish(100, &[(7, 2)])).is_empty());
    let failures = store.publish(&publish(101, &[(7, 4)]));
    assert_eq!(failures[0].1.message(), "tablet 7 is at version 2, cannot publish 4");
    assert_eq!(failures[0].1.kind(), ErrorKind::Conflict);
}

#[test]
fn a_version_is_not_taken_without_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut wanted = publish(100, &[(7, 2)]);
    wanted.tablets[0].rows_expected = true;
    assert_eq!(store.publish(&wanted)[0].1.kind(), ErrorKind::NotFound);
    stage(&store, 100, 7, &[1, 2, 3, 4, 5]);
    assert!(store.publish(&wanted).is_empty());
    assert_eq!(state(&store, 7), (2, 5));
}

#[test]
fn a_crash_between_link_and_meta_is_repaired_by_publishing_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    stage(&store, 100, 7, &[1, 2]);
    assert!(store.publish(&publish(100, &[(7, 2)])).is_empty());
    stage(&store, 101, 7, &[3]);
    drop(store);
    // What a kill leaves: the new file linked, a temporary meta, the old meta in force; and a tablet without a meta.
    let staged = std::fs::read_dir(dir.path().join("staging/101/7")).unwrap().next().unwrap().unwrap();
    let linked = dir.path().join("data/7").join(staged.file_name());
    std::fs::hard_link(staged.path(), &linked).unwrap();
    std::fs::write(dir.path().join("data/7/meta.tmp"), b"half").unwrap();
    std::fs::create_dir(dir.path().join("data/9")).unwrap();
    let store = open(dir.path());
    assert_eq!(state(&store, 7), (2, 2));
    assert!(!linked.exists() && !dir.path().join("data/7/meta.tmp").exists() && !dir.path().join("data/9").exists());
    assert!(store.publish(&publish(101, &[(7, 3)])).is_empty());
    assert_eq!(state(&store, 7), (3, 3));
}

#[test]
fn a_broken_tablet_is_bad_and_the_others_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for (transaction, tablet) in [(100, 7), (101, 8), (102, 9)] {
        stage(&store, transaction, tablet, &[1]);
        assert!(store.publish(&publish(transaction, &[(tablet, 2)])).is_empty());
    }
    let file = store.tablet(8).unwrap().meta().files().next().unwrap().name.clone();
    drop(store);
    std::fs::write(dir.path().join("data/7/meta"), b"garbage").unwrap();
    std::fs::remove_file(dir.path().join("data/8").join(file)).unwrap();
    let store = open(dir.path());
    let mut bad: Vec<u64> = store.bad_tablets().into_iter().map(|(id, _)| id).collect();
    bad.sort_unstable();
    assert_eq!((bad, store.count()), (vec![7, 8], 1));
    assert_eq!(store.find(7).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(store.publish(&publish(103, &[(7, 2)]))[0].1.kind(), ErrorKind::Corrupt);
    assert!(store.drop_tablets(&[7, 8, 9, 10]).is_empty());
    assert_eq!((store.bad_tablets().len(), store.count()), (0, 0));
    assert_eq!(std::fs::read_dir(dir.path().join("trash")).unwrap().count(), 3);
    store.sweep(Duration::from_secs(3600));
    assert!(store.disks()[0].trash_bytes() > 0);
    store.sweep(Duration::ZERO);
    assert_eq!((store.disks()[0].trash_bytes(), std::fs::read_dir(dir.path().join("trash")).unwrap().count()), (0, 0));
}

#[test]
fn a_directory_joins_one_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.join_cluster("one").unwrap();
    store.join_cluster("one").unwrap();
    let error = store.join_cluster("two").unwrap_err();
    assert!(error.message().contains("belongs to cluster one, not to two"), "{error}");
    store.set_leader_term(4).unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!((store.cluster_id().unwrap().as_deref(), store.leader_term().unwrap()), (Some("one"), 4));
}

#[test]
fn restored_tablets_come_in_force_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let disk = store.disks()[0].clone();
    let restored = disk.layout().restore_tablet(5, 70);
    std::fs::create_dir_all(&restored).unwrap();
    let file = rowset::write_file(&restored, &schema(), &[batch(&[1, 2])]).unwrap();
    let meta = TabletMeta::empty(70, 1, 2, schema()).next(vec![file]);
    std::fs::write(layout::meta_file(&restored), meta.encode().unwrap()).unwrap();
    assert_eq!(store.jobs().unwrap(), [5]);
    store.adopt(&disk, std::slice::from_ref(&restored)).unwrap();
    store.adopt(&disk, std::slice::from_ref(&restored)).unwrap();
    assert_eq!(state(&store, 70), (2, 2));
    assert!(store.adopt(&disk, &[disk.layout().restore_tablet(5, 71)]).is_err());
}

/// Rows published in one directory, with the same tablet published again without them in another.
fn two_copies(dirs: &[std::path::PathBuf; 2], second: impl FnOnce(&Arc<TabletStore>)) -> Arc<TabletStore> {
    let store = open(&dirs[0]);
    stage(&store, 100, 7, &[1, 2]);
    assert!(store.publish(&publish(100, &[(7, 2)])).is_empty());
    drop(store);
    second(&open(&dirs[1]));
    TabletStore::open(dirs).unwrap()
}

#[test]
fn a_copy_with_rows_of_its_own_is_never_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let dirs = [dir.path().join("a"), dir.path().join("b")];
    let store = two_copies(&dirs, |store| assert!(store.publish(&publish(100, &[(7, 2)])).is_empty()));
    assert_eq!(store.find(7).unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(dirs.iter().all(|dir| dir.join("data/7/meta").exists()));
    assert!(store.drop_tablets(&[7]).is_empty());
    assert!(dirs.iter().all(|dir| !dir.join("data/7").exists()));
}

#[test]
fn a_good_copy_is_served_beside_a_bad_one() {
    let dir = tempfile::tempdir().unwrap();
    let dirs = [dir.path().join("a"), dir.path().join("b")];
    let bad = dirs[1].join("data/7");
    let store = two_copies(&dirs, |_| {
        std::fs::create_dir_all(&bad).unwrap();
        std::fs::write(bad.join("meta"), b"garbage").unwrap();
    });
    assert_eq!((state(&store, 7), store.bad_tablets().len(), bad.exists()), ((2, 2), 0, true));
    assert!(store.drop_tablets(&[7]).is_empty());
    assert!(!bad.exists());
}

#[test]
fn a_drop_that_fails_keeps_the_tablet_known() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert!(store.publish(&publish(100, &[(7, 2)])).is_empty());
    std::fs::remove_dir(dir.path().join("trash")).unwrap();
    assert_eq!(store.drop_tablets(&[7]).len(), 1);
    assert_eq!(state(&store, 7), (2, 0));
    std::fs::create_dir(dir.path().join("trash")).unwrap();
    assert!(store.drop_tablets(&[7]).is_empty());
    assert_eq!(store.count(), 0);
}

#[test]
fn rows_staged_on_another_disk_are_copied() {
    let dir = tempfile::tempdir().unwrap();
    let dirs = [dir.path().join("a"), dir.path().join("b")];
    for (dir, transaction) in dirs.iter().zip([100, 101]) {
        stage(&open(dir), transaction, 7, &[1, 2]);
    }
    let store = TabletStore::open(&dirs).unwrap();
    for (transaction, version) in [(100, 2), (101, 3)] {
        let mut wanted = publish(transaction, &[(7, version)]);
        wanted.tablets[0].rows_expected = true;
        assert!(store.publish(&wanted).is_empty());
    }
    drop(store);
    assert_eq!(state(&TabletStore::open(&dirs).unwrap(), 7), (3, 4));
}

#[test]
fn a_load_whose_manifest_is_broken_fails_by_name_until_it_is_discarded() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    stage(&store, 100, 7, &[1]);
    stage(&store, 101, 8, &[1]);
    drop(store);
    std::fs::write(dir.path().join("staging/100/manifest"), b"garbage").unwrap();
    let store = open(dir.path());
    assert_eq!(store.staged_transactions(), [100, 101]);
    let mut wanted = publish(100, &[(7, 2)]);
    wanted.tablets[0].rows_expected = true;
    let (_, error) = store.publish(&wanted).remove(0);
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("transaction 100") && error.message().contains("staging/100/manifest"), "{error}");
    assert!(store.publish(&publish(101, &[(8, 2)])).is_empty());
    assert_eq!(LoadWriter::begin(&store, 100).unwrap_err().kind(), ErrorKind::Conflict);
    store.discard(&[100]).unwrap();
    assert!(store.staged_transactions().is_empty() && !dir.path().join("staging/100").exists());
}

#[test]
fn a_tablet_of_another_table_is_not_taken_for_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert!(store.publish(&publish(100, &[(7, 2)])).is_empty());
    for (table, partition) in [(9, 2), (1, 9)] {
        let mut wanted = publish(101, &[(7, 3)]);
        (wanted.table_id, wanted.tablets[0].partition_id) = (table, partition);
        assert_eq!(store.publish(&wanted)[0].1.kind(), ErrorKind::Conflict);
    }
    assert_eq!(state(&store, 7), (2, 0));
}
