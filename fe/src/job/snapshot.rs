//! What the repository keeps of a backup job: its catalog objects and its summary. Pure, and the same bytes for the same
//! record, so that a repeated write finds its object there.

use crate::catalog::job::{BackupJob, ManifestPart};
use crate::catalog::table::{Partition, Table};
use crate::catalog::view::View;
use coffer_repo::{
    Checksum, Content, ManifestRef, MetaRef, PartitionMeta, PartitionSummary, SNAPSHOT_VERSION, SnapshotInfo,
    SnapshotMeta, TableMeta, TableSummary, Totals, ViewMeta, ViewSummary, version_for,
};

/// `__meta`.
pub fn meta(job: &BackupJob) -> SnapshotMeta {
    let mut views: Vec<ViewMeta> = job.views.iter().map(view_meta).collect();
    views.sort_by(|left, right| left.name.cmp(&right.name));
    SnapshotMeta { format: version(job), tables: by_name(job).into_iter().map(table_meta).collect(), views }
}

/// The largest version that something in the backup needs: views and LIST partitions, or key models and DELETEs.
fn version(job: &BackupJob) -> u32 {
    let needed = version_for(job.tables.iter().map(|table| (&table.schema, table.had_deletes)));
    let lists = job.tables.iter().any(|table| table.partitioning.list);
    if lists || !job.views.is_empty() { needed.max(SNAPSHOT_VERSION) } else { needed }
}

fn view_meta(view: &View) -> ViewMeta {
    ViewMeta {
        id: view.id.0,
        name: view.name.clone(),
        columns: view.columns.clone(),
        query: view.query.clone(),
        comment: view.comment.clone(),
    }
}

fn by_name(job: &BackupJob) -> Vec<&Table> {
    let mut tables: Vec<&Table> = job.tables.iter().collect();
    tables.sort_by(|left, right| left.name.cmp(&right.name));
    tables
}

fn table_meta(table: &Table) -> TableMeta {
    TableMeta {
        id: table.id.0,
        name: table.name.clone(),
        schema: table.schema.clone(),
        partition_columns: table.partition_columns.clone(),
        list: table.partitioning.list,
        buckets: table.partitioning.buckets,
        bucket_columns: table.bucket_columns.clone(),
        properties: table.properties.clone(),
        comment: table.comment.clone(),
        had_deletes: table.had_deletes,
        create_statement: String::new(),
        partitions: table.partitions.values().map(partition_meta).collect(),
    }
}

fn partition_meta(partition: &Partition) -> PartitionMeta {
    PartitionMeta {
        id: partition.id.0,
        name: partition.name.clone(),
        range: partition.range.clone(),
        visible_version: partition.visible_version,
        replication_num: partition.replication_num,
        tablets: partition.tablets.iter().map(|tablet| tablet.id.0).collect(),
        rows: 0,
        bytes: 0,
    }
}

/// Name and size of a `__meta` with this content; `None` when its name says that it has another.
pub fn meta_ref(meta: &SnapshotMeta, name: &str) -> Option<MetaRef> {
    let bytes = serde_json::to_vec(meta).ok()?;
    let same = name.ends_with(&Checksum::of(&bytes).to_string());
    same.then(|| MetaRef { name: name.to_owned(), bytes: bytes.len() as u64 })
}

/// `__info`.
pub fn info(job: &BackupJob, manifests: &[ManifestPart], meta: MetaRef, cluster_id: String) -> SnapshotInfo {
    let mut views: Vec<ViewSummary> =
        job.views.iter().map(|view| ViewSummary { id: view.id.0, name: view.name.clone() }).collect();
    views.sort_by(|left, right| left.name.cmp(&right.name));
    SnapshotInfo {
        format: version(job),
        label: job.label.clone(),
        timestamp: job.timestamp.clone(),
        backup_time_ms: job.times.created,
        database: job.db_name.clone(),
        database_id: job.db.0,
        cluster_id,
        content: if job.metadata_only { Content::MetadataOnly } else { Content::All },
        tables: by_name(job).into_iter().map(table_summary).collect(),
        views,
        meta,
        manifests: manifests
            .iter()
            .map(|part| ManifestRef { name: part.name.clone(), bytes: part.bytes, tablets: part.tablets })
            .collect(),
        totals: Totals {
            bytes: job.bytes,
            files: job.files,
            rows: job.rows,
            tablets: manifests.iter().map(|part| part.tablets).sum(),
        },
        pack_prefix: job.pack_prefix.clone(),
        shared_prefixes: Some(Vec::new()),
    }
}

fn table_summary(table: &Table) -> TableSummary {
    let partition = |partition: &Partition| PartitionSummary {
        id: partition.id.0,
        name: partition.name.clone(),
        version: partition.visible_version,
        tablets: partition.tablets.len() as u64,
    };
    TableSummary {
        id: table.id.0,
        name: table.name.clone(),
        partitions: table.partitions.values().map(partition).collect(),
    }
}
