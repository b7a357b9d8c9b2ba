//! A small snapshot, always the same: one table, two partitions, three tablets, four files in one pack.

use bytes::Bytes;
use coffer_repo::body::{entries, packed_bytes};
use coffer_repo::{
    Checksum, Content, FileRecord, ManifestRef, ManifestWriter, PackBody, PackFile, PackId, PackPrefix, PartitionMeta,
    PartitionSummary, Repository, RowsetRecord, SnapshotId, SnapshotInfo, SnapshotMeta, TableMeta, TableSummary,
    TabletRecord, Totals,
};
use coffer_table::{Bound, Column, ColumnType, KeyRange, Scalar, Schema};
use std::path::Path;

/// Contents of the files, by tablet.
pub(crate) const FILES: [(u64, &[&[u8]]); 3] =
    [(101, &[b"first file of tablet 101", b""]), (102, &[b"tablet 102"]), (103, &[b"the only file of tablet 103"])];
/// What packs of the sample start with.
pub(crate) const PREFIX: &str = "00c0ffee00c0ffee";

/// The label and time of the sample.
pub(crate) fn id() -> SnapshotId {
    SnapshotId::new("nightly-1", "2022-04-08-15-52-29").unwrap()
}

/// The catalog objects.
pub(crate) fn meta() -> SnapshotMeta {
    let column = |name: &str, kind: ColumnType, key: bool| Column {
        name: name.to_owned(),
        kind,
        nullable: !key,
        default: (!key).then(|| "n/a".to_owned()),
        key,
        comment: String::new(),
        aggregate: None,
    };
    let bound = |value: i128| vec![Bound::Value(Scalar::Int(value))];
    let partition = |id: u64, name: &str, lower, upper, tablets: &[u64]| PartitionMeta {
        id,
        name: name.to_owned(),
        range: Some(KeyRange::new(lower, upper)),
        visible_version: 3,
        replication_num: 2,
        tablets: tablets.to_vec(),
        rows: 4,
        bytes: 61,
    };
    let table = TableMeta {
        id: 10,
        name: "orders".to_owned(),
        schema: Schema {
            model: coffer_table::Model::Duplicate,
            columns: vec![
                column("id", ColumnType::LargeInt, true),
                column("price", ColumnType::Decimal { precision: 15, scale: 2 }, false),
                column("note", ColumnType::Varchar { length: 20 }, false),
                column("at", ColumnType::DateTime { scale: 3 }, false),
            ],
        },
        partition_columns: vec!["id".to_owned()],
        list: false,
        buckets: 0,
        bucket_columns: vec!["id".to_owned()],
        properties: [("replication_num".to_owned(), "2".to_owned())].into(),
        comment: "Orders \"of\" the day".to_owned(),
        had_deletes: false,
        create_statement: "CREATE TABLE `orders` (...)".to_owned(),
        partitions: vec![
            partition(
                20,
                "p1",
                vec![Bound::Min],
                bound(170_000_000_000_000_000_000_000_000_000_000_000_000),
                &[101, 102],
            ),
            partition(21, "p2", bound(170_000_000_000_000_000_000_000_000_000_000_000_000), vec![Bound::Max], &[103]),
        ],
    };
    SnapshotMeta { format: 1, tables: vec![table], views: Vec::new() }
}

/// The pack of the sample; its id is fixed.
pub(crate) fn pack_id() -> PackId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&[0x00, 0xc0, 0xff, 0xee, 0x00, 0xc0, 0xff, 0xee]);
    id[8..].copy_from_slice(&[7, 1, 2, 3, 4, 5, 6, 7]);
    let id = PackId::from_slice(&id).unwrap();
    assert_eq!(id.prefix(), PREFIX.parse::<PackPrefix>().unwrap());
    id
}

/// Write packs, parts and meta, but not the info, which is returned.
pub(crate) async fn write_all_but_info(repository: &Repository, dir: &Path, pack: PackId) -> SnapshotInfo {
    let mut files = Vec::new();
    for content in FILES.iter().flat_map(|(_, files)| *files) {
        let path = dir.join(files.len().to_string());
        std::fs::write(&path, content).unwrap();
        files.push(PackFile { path, bytes: content.len() as u64, checksum: Checksum::of(content) });
    }
    repository.put_pack(&pack, PackBody::new(files.clone(), |_| {}), packed_bytes(&files)).await.unwrap();
    let mut writer = ManifestWriter::new(Vec::new(), &id(), 0).unwrap();
    let mut places = files.iter().zip(entries(&files));
    for (tablet_id, contents) in FILES {
        let record = |n: usize| {
            let (file, entry) = places.next().unwrap();
            FileRecord {
                name: format!("{tablet_id}_{n}.parquet"),
                blake3: Bytes::copy_from_slice(file.checksum.as_bytes()),
                pack: Bytes::copy_from_slice(pack.as_bytes()),
                offset: entry.offset,
                length: entry.length,
                rows: 1,
            }
        };
        let files: Vec<FileRecord> = (0..contents.len()).map(record).collect();
        let rows = files.len() as u64;
        let partition_id = if tablet_id == 103 { 21 } else { 20 };
        let rowset = RowsetRecord { start_version: 2, end_version: 3, rows, files };
        let tablet = TabletRecord {
            tablet_id,
            table_id: 10,
            partition_id,
            version: 3,
            rows,
            rowsets: vec![rowset],
            deletes: Vec::new(),
        };
        writer.tablet(tablet).unwrap();
    }
    let (part, bytes) = writer.finish().unwrap();
    repository.put_manifest(&id(), &part.name, coffer_store::from_bytes(bytes), part.bytes).await.unwrap();
    let meta_ref = repository.write_meta(&id(), &meta()).await.unwrap();
    let partition = |id: u64, name: &str, tablets| PartitionSummary { id, name: name.to_owned(), version: 3, tablets };
    SnapshotInfo {
        format: 1,
        label: id().label().to_owned(),
        timestamp: id().timestamp().to_owned(),
        backup_time_ms: 1_649_433_149_123,
        database: "shop".to_owned(),
        database_id: 5,
        cluster_id: "9a1f".to_owned(),
        content: Content::All,
        tables: vec![TableSummary {
            id: 10,
            name: "orders".to_owned(),
            partitions: vec![partition(20, "p1", 2), partition(21, "p2", 1)],
        }],
        views: Vec::new(),
        meta: meta_ref,
        manifests: vec![ManifestRef { name: part.name, bytes: part.bytes, tablets: part.counts.tablets }],
        totals: Totals {
            bytes: part.counts.bytes,
            files: part.counts.files,
            rows: part.counts.rows,
            tablets: part.counts.tablets,
        },
        pack_prefix: pack.prefix().to_string(),
        shared_prefixes: None,
    }
}

/// Read everything of the sample back and compare it with what was written.
pub(crate) async fn check(repository: &Repository) -> coffer_stdx::Result<()> {
    use futures::TryStreamExt;
    let info = repository.read_info(&id()).await?;
    assert_eq!(repository.read_meta(&info).await?, meta());
    let mut tablets = Vec::new();
    for part in &info.manifests {
        let mut reader = repository.manifest(&id(), &part.name).await?;
        while let Some(tablet) = reader.next().await? {
            tablets.push(tablet);
        }
    }
    assert_eq!(tablets.len(), FILES.len());
    for (tablet, (tablet_id, contents)) in tablets.iter().zip(FILES) {
        assert_eq!((tablet.tablet_id, tablet.version), (tablet_id, 3));
        for (file, content) in tablet.files().zip(contents) {
            let pack = file.pack_id()?;
            let body = repository.read_pack(&pack, file.offset..file.offset + file.length).await?;
            let bytes: Vec<Bytes> = body.try_collect().await?;
            let bytes = bytes.concat();
            if Checksum::of(&bytes) != file.checksum()? {
                return Err(coffer_stdx::Error::corrupt("blob"));
            }
            assert_eq!(bytes, *content);
            assert!(repository.pack_entries(&pack).await?.iter().any(|entry| entry.offset == file.offset));
        }
    }
    Ok(())
}
