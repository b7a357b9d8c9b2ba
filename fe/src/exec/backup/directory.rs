//! The directory structure of a snapshot as SHOW SNAPSHOT details it: every object in the repository, and below each table
//! its partitions, tablets and files.
//!
//! Files are read from the manifests, so a small snapshot costs a few requests more; of a large one only the objects in
//! the snapshot's own folder are listed, with what was left out.

use crate::error::Result;
use coffer_repo::{FileRecord, Repository, SnapshotId, SnapshotInfo, TabletRecord};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Files, tablets and partitions of a snapshot that is listed down to its files; the answer has about 100 bytes for each.
const MAX_LISTED: u64 = 10_000;

/// What SHOW prints.
#[derive(Debug, Serialize)]
pub(super) struct Directory {
    /// The folder of the repository below its location.
    root: String,
    /// Paths below it.
    objects: Vec<Object>,
    /// By name; absent when there is too much.
    #[serde(skip_serializing_if = "Option::is_none")]
    tables: Option<Vec<Table>>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<String>,
}

#[derive(Debug, Serialize)]
struct Object {
    path: String,
    /// Not known of packs.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Table {
    name: String,
    id: u64,
    partitions: Vec<Partition>,
}

#[derive(Debug, Serialize)]
struct Partition {
    name: String,
    id: u64,
    version: u64,
    /// Those that took a row.
    tablets: Vec<Tablet>,
}

#[derive(Debug, Serialize)]
struct Tablet {
    id: u64,
    rows: u64,
    files: Vec<File>,
}

#[derive(Debug, Serialize)]
struct File {
    name: String,
    bytes: u64,
    /// The object that holds it.
    pack: String,
}

/// Tablets by their partition.
type Tablets = BTreeMap<u64, Vec<Tablet>>;

impl Directory {
    /// Of this snapshot.
    pub(super) async fn read(repository: &Repository, id: &SnapshotId, info: &SnapshotInfo) -> Result<Directory> {
        let root = repository.layout().root();
        let below = |path: &str| path.strip_prefix(root).unwrap_or(path).trim_start_matches('/').to_owned();
        let own = repository.objects(id).await?;
        let mut objects: Vec<Object> =
            own.into_iter().map(|(path, bytes)| Object { path: below(&path), bytes: Some(bytes) }).collect();
        if let Some(left_out) = too_much(info) {
            return Ok(Directory { root: root.to_owned(), objects, tables: None, left_out: Some(left_out) });
        }
        let (mut tablets, mut packs) = (Tablets::new(), BTreeSet::new());
        for part in &info.manifests {
            let mut reader = repository.manifest(id, &part.name).await?;
            while let Some(record) = reader.next().await? {
                let path =
                    |file: &FileRecord| -> Result<String> { Ok(below(&repository.layout().pack(&file.pack_id()?))) };
                let (partition, tablet) = tablet(&record, path)?;
                packs.extend(tablet.files.iter().map(|file| file.pack.clone()));
                tablets.entry(partition).or_default().push(tablet);
            }
        }
        objects.extend(packs.into_iter().map(|path| Object { path, bytes: None }));
        Ok(Directory { root: root.to_owned(), objects, tables: Some(tables(info, tablets)), left_out: None })
    }
}

/// What is left out of a large snapshot, in words.
fn too_much(info: &SnapshotInfo) -> Option<String> {
    let partitions: usize = info.tables.iter().map(|table| table.partitions.len()).sum();
    let (files, tablets) = (info.totals.files, info.totals.tablets);
    (files + tablets + partitions as u64 > MAX_LISTED)
        .then(|| format!("{partitions} partitions, {tablets} tablets and {files} files: more than {MAX_LISTED}"))
}

fn tablet(record: &TabletRecord, path: impl Fn(&FileRecord) -> Result<String>) -> Result<(u64, Tablet)> {
    let file = |file: &FileRecord| -> Result<File> {
        Ok(File { name: file.name.clone(), bytes: file.length, pack: path(file)? })
    };
    let files = record.files().map(file).collect::<Result<_>>()?;
    Ok((record.partition_id, Tablet { id: record.tablet_id, rows: record.rows, files }))
}

fn tables(info: &SnapshotInfo, mut tablets: Tablets) -> Vec<Table> {
    let mut partitions = |table: &coffer_repo::TableSummary| {
        let partition = |partition: &coffer_repo::PartitionSummary| Partition {
            name: partition.name.clone(),
            id: partition.id,
            version: partition.version,
            tablets: tablets.remove(&partition.id).unwrap_or_default(),
        };
        table.partitions.iter().map(partition).collect()
    };
    info.tables
        .iter()
        .map(|table| Table { name: table.name.clone(), id: table.id, partitions: partitions(table) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_repo::{Content, MetaRef, PartitionSummary, RowsetRecord, TableSummary, Totals};

    fn info() -> SnapshotInfo {
        let partition = PartitionSummary { id: 5, name: "p1".to_owned(), version: 2, tablets: 1 };
        SnapshotInfo {
            format: 1,
            label: "s".to_owned(),
            timestamp: "2022-04-08-15-52-29".to_owned(),
            backup_time_ms: 1,
            database: "d".to_owned(),
            database_id: 1,
            cluster_id: "c".to_owned(),
            content: Content::All,
            tables: vec![TableSummary { id: 4, name: "t".to_owned(), partitions: vec![partition] }],
            views: Vec::new(),
            meta: MetaRef { name: "m".to_owned(), bytes: 1 },
            manifests: Vec::new(),
            totals: Totals::default(),
            pack_prefix: String::new(),
            shared_prefixes: None,
        }
    }

    #[test]
    fn a_tablet_is_listed_with_its_files_below_its_partition() {
        let mut info = info();
        assert_eq!(too_much(&info), None);
        let file = FileRecord {
            name: "0.parquet".to_owned(),
            length: 7,
            pack: vec![1_u8; 16].into(),
            ..FileRecord::default()
        };
        let rowset = RowsetRecord { files: vec![file], ..Default::default() };
        let record =
            TabletRecord { tablet_id: 9, partition_id: 5, rows: 3, rowsets: vec![rowset], ..Default::default() };
        let (of, one) = tablet(&record, |file| Ok(format!("packs/{}", file.pack_id()?))).unwrap();
        let listed = tables(&info, Tablets::from([(of, vec![one])]));
        let json = serde_json::to_value(&listed).unwrap();
        let shown = &json[0]["partitions"][0]["tablets"][0];
        assert_eq!((&shown["id"], &shown["rows"]), (&9.into(), &3.into()));
        assert_eq!((&shown["files"][0]["name"], &shown["files"][0]["bytes"]), (&"0.parquet".into(), &7.into()));
        info.totals.files = MAX_LISTED + 1;
        assert!(too_much(&info).unwrap().contains("more than 10000"));
    }
}
