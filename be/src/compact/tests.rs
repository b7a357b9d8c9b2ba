//! Merges of real files: the same rows before and after, for every key model, for readers of any age, and after a crash.

use super::{Compaction, merge, policy};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::scan::read::Scan;
use crate::tablet::TabletStore;
use crate::tablet::testing::{batch, load, schema};
use arrow::array::{ArrayRef, RecordBatch};
use coffer_proto::scan::LAYOUT;
use coffer_proto::v1;
use coffer_stdx::options::Live;
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::{ErrorKind, Result};
use coffer_table::{Model, Schema};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(super) fn compaction(dir: &Path) -> Compaction {
    Compaction {
        store: TabletStore::open(&[dir.to_owned()]).unwrap(),
        config: Arc::new(Config { compaction_mib_s: Live::new(0), ..Config::default() }),
        metrics: Arc::new(Metrics::new()),
        shutdown: Shutdown::new(),
    }
}

fn of(model: Model) -> Schema {
    Schema { model, ..schema() }
}

/// Loads that overlap in their keys, from version `from` on.
fn loads(store: &Arc<TabletStore>, schema: &Schema, versions: std::ops::RangeInclusive<u64>) {
    for version in versions {
        let ids: Vec<i32> = (0..20).map(|row| (row * 7 + version as i32 * 3) % 50).collect();
        load(store, (7, version), schema, &[batch(&ids)]);
    }
}

/// The rows of a version, and how they lie.
fn read(store: &Arc<TabletStore>, version: u64, layout: &str) -> Result<(Vec<String>, String)> {
    let ticket = v1::ScanTicket {
        table_id: 1,
        tablets: vec![v1::TabletVersion { tablet_id: 7, version }],
        columns: vec!["name".to_owned(), "id".to_owned()],
        limit: 0,
        layout: layout.to_owned(),
    };
    let mut scan = Scan::open(store, &ticket)?;
    let mut rows = Vec::new();
    while let Some(batch) = scan.next_batch()? {
        rows.extend((0..batch.num_rows()).map(|row| line(&batch, row)));
    }
    Ok((rows, scan.schema().metadata().get(LAYOUT).cloned().unwrap_or_default()))
}

fn line(batch: &RecordBatch, row: usize) -> String {
    let value = |array: &ArrayRef| arrow::util::display::array_value_to_string(array, row).unwrap();
    batch.columns().iter().map(value).collect::<Vec<_>>().join(",")
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort_unstable();
    rows
}

fn merge_all(compaction: &Compaction) {
    while merge::once(compaction, 7).unwrap() {}
    assert_eq!(policy::choose(&compaction.store.tablet(7).unwrap().meta()), None);
}

#[test]
fn a_merge_changes_no_row_and_survives_a_restart() {
    for model in [Model::Duplicate, Model::Aggregate, Model::Unique] {
        let dir = tempfile::tempdir().unwrap();
        let merged = compaction(dir.path());
        loads(&merged.store, &of(model), 2..=40);
        let (before, _) = read(&merged.store, 40, "").unwrap();
        merge_all(&merged);
        let tablet = merged.store.tablet(7).unwrap();
        assert!(tablet.meta().rowsets.len() < policy::MIN_ROWSETS, "{model}");
        let (after, _) = read(&merged.store, 40, "").unwrap();
        assert_eq!(sorted(before.clone()), sorted(after), "{model}");
        if model != Model::Duplicate {
            assert_eq!(before.len(), 50);
        }
        loads(&merged.store, &of(model), 41..=42);
        let (now, _) = read(&merged.store, 42, "").unwrap();
        drop((tablet, merged));
        let again = compaction(dir.path());
        assert_eq!(read(&again.store, 42, "").unwrap().0, now, "{model}");
        assert_eq!(sorted(read(&again.store, 40, "").unwrap().0), sorted(before), "{model}");
    }
}

#[test]
fn versions_that_were_merged_are_read_until_the_grace_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let compaction = compaction(dir.path());
    let store = &compaction.store;
    loads(store, &schema(), 2..=12);
    let before = read(store, 7, "").unwrap();
    merge_all(&compaction);
    assert_eq!(read(store, 7, "").unwrap(), before);
    let tablet = store.tablet(7).unwrap();
    let files = || std::fs::read_dir(tablet.dir()).unwrap().count();
    assert_eq!(tablet.forget_replaced(Duration::from_secs(3_600)).unwrap(), 0);
    let held = tablet.pinned(7, |_| true).unwrap();
    // Those of version 7 are held, the others go.
    assert!(tablet.forget_replaced(Duration::ZERO).unwrap() > 0);
    assert_eq!(read(store, 7, "").unwrap(), before);
    drop(held);
    assert!(tablet.forget_replaced(Duration::ZERO).unwrap() > 0);
    assert_eq!(read(store, 7, "").unwrap_err().kind(), ErrorKind::Conflict);
    // The meta and what is in force.
    assert_eq!(files(), 1 + tablet.meta().files().count());
    assert_eq!(read(store, 12, "").unwrap().0.len(), 11 * 20);
}

#[test]
fn a_scan_goes_on_at_a_replica_that_was_merged_differently() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let replicas = dirs.each_ref().map(|dir| compaction(dir.path()));
    for replica in &replicas {
        loads(&replica.store, &schema(), 2..=11);
    }
    assert!(merge::once(&replicas[0], 7).unwrap());
    for replica in &replicas {
        loads(&replica.store, &schema(), 12..=14);
    }
    let (rows, layout) = read(&replicas[0].store, 14, "").unwrap();
    assert_eq!(layout, "2-11,12-12,13-13,14-14");
    let (other, as_there) = read(&replicas[1].store, 14, "").unwrap();
    assert!(other != rows && as_there != layout);
    // Asked to read as the other one does, both give the same rows in the same order.
    assert_eq!(read(&replicas[1].store, 14, &layout).unwrap(), (rows, layout));
    assert_eq!(read(&replicas[0].store, 14, &as_there).unwrap(), (other, as_there.clone()));
    // Without what was merged that is not possible any more.
    replicas[0].store.tablet(7).unwrap().forget_replaced(Duration::ZERO).unwrap();
    assert_eq!(read(&replicas[0].store, 14, &as_there).unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn what_a_crash_leaves_is_removed_or_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let first = compaction(dir.path());
    loads(&first.store, &of(Model::Unique), 2..=9);
    let tablet = first.store.tablet(7).unwrap();
    let (rows, old) = (read(&first.store, 9, "").unwrap(), (*tablet.meta()).clone());
    // A file that no meta names, and rowsets noted as replaced that are still in force.
    std::fs::write(tablet.dir().join("0.parquet"), b"half").unwrap();
    tablet.begin_replacing(&old.rowsets[..2]).unwrap();
    drop((tablet, first));
    let second = compaction(dir.path());
    let tablet = second.store.tablet(7).unwrap();
    assert!(!tablet.dir().join("0.parquet").exists() && !tablet.has_replaced());
    assert_eq!((read(&second.store, 9, "").unwrap(), (*tablet.meta()).clone()), (rows.clone(), old));
    merge_all(&second);
    // A list of replaced rowsets that cannot be read costs the grace alone.
    std::fs::write(tablet.dir().join("replaced"), b"garbage").unwrap();
    drop((tablet, second));
    let third = compaction(dir.path());
    let tablet = third.store.tablet(7).unwrap();
    assert_eq!(read(&third.store, 9, "").unwrap(), rows);
    assert!(third.store.bad_tablets().is_empty() && !tablet.has_replaced());
}

#[test]
fn a_damaged_file_makes_its_tablet_bad_and_merges_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let compaction = compaction(dir.path());
    loads(&compaction.store, &schema(), 2..=11);
    let tablet = compaction.store.tablet(7).unwrap();
    let path = tablet.file_path(&tablet.meta().files().next().unwrap().name);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(merge::once(&compaction, 7).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(compaction.store.bad_tablets().len(), 1);
    let files = std::fs::read_dir(tablet.dir()).unwrap().count();
    assert_eq!(files, 1 + tablet.meta().files().count());
}

#[tokio::test]
async fn many_small_loads_leave_few_rowsets() {
    let dir = tempfile::tempdir().unwrap();
    let compaction = compaction(dir.path());
    let (store, shutdown) = (compaction.store.clone(), compaction.shutdown.clone());
    let running = tokio::spawn(compaction.run());
    let loading = store.clone();
    tokio::task::spawn_blocking(move || loads(&loading, &of(Model::Aggregate), 2..=201)).await.unwrap();
    let few = async {
        while store.tablet(7).unwrap().meta().rowsets.len() >= 2 * policy::MIN_ROWSETS {
            store.wait_for_change().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), few).await.unwrap();
    assert_eq!(read(&store, 201, "").unwrap().0.len(), 50);
    shutdown.begin();
    running.await.unwrap();
}
