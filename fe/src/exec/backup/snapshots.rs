//! SHOW SNAPSHOT: what a repository holds.

use crate::error::{Error, ErrorKind, Result};
use crate::exec::answer::RowSet;
use crate::exec::context::Context;
use crate::exec::repository;
use coffer_repo::{Content, SnapshotEntry, SnapshotId, SnapshotInfo, SnapshotStatus};
use serde::Serialize;
use std::collections::BTreeMap;

/// All snapshots, those of a label, or the details of one.
pub(in crate::exec) async fn rows(
    context: &Context,
    repository: &str,
    (label, timestamp): (Option<&str>, Option<&str>),
) -> Result<RowSet> {
    let repository = context.meta.view(|state| state.repository(repository).cloned())?;
    repository::within("the repository", async {
        let open = repository::open(context, &repository).await?;
        match (label, timestamp) {
            (None, None) => Ok(list(open.snapshots().await?)),
            (Some(label), None) => Ok(list(open.snapshots_of(label).await?)),
            (Some(label), Some(timestamp)) => {
                let id = SnapshotId::new(label, timestamp)?;
                match open.read_info(&id).await {
                    Ok(info) => details(&id, Ok(&info)),
                    Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                        details(&id, Err(&error))
                    }
                    Err(error) => Err(error),
                }
            }
            (None, Some(_)) => Err(Error::invalid(
                "Where clause should looks like: SNAPSHOT = 'your_snapshot_name' [AND TIMESTAMP = '2018-04-18-19-19-10']",
            )),
        }
    })
    .await
}

/// One row per label; several timestamps in one cell, one per line.
fn list(entries: Vec<SnapshotEntry>) -> RowSet {
    let mut labels: BTreeMap<String, Vec<SnapshotEntry>> = BTreeMap::new();
    for entry in entries {
        labels.entry(entry.label.clone()).or_default().push(entry);
    }
    let mut set = RowSet::new(["Snapshot", "Timestamp", "Status"]);
    for (label, entries) in labels {
        let of = |status| {
            let found = entries.iter().filter(|entry| entry.status == status);
            found.map(|entry| entry.timestamp.as_str()).collect::<Vec<_>>().join("\n")
        };
        // What a cancelled or running job has there is of no interest beside a complete snapshot.
        let shown = [
            (SnapshotStatus::Complete, "OK"),
            (SnapshotStatus::Contested, "ERROR: more than one info file found"),
            (SnapshotStatus::Incomplete, "ERROR: No info file found"),
        ];
        let shown = shown.map(|(status, text)| (of(status), text)).into_iter().find(|(found, _)| !found.is_empty());
        if let Some((timestamps, status)) = shown {
            set.push([label, timestamps, status.to_owned()]);
        }
    }
    set
}

fn details(id: &SnapshotId, info: std::result::Result<&SnapshotInfo, &Error>) -> Result<RowSet> {
    let mut set = RowSet::new(["Snapshot", "Timestamp", "Database", "Details", "Status"]);
    let (database, details, status) = match info {
        Ok(info) => (Some(info.database.clone()), Some(details_json(info)?), "OK".to_owned()),
        Err(error) => (None, None, format!("ERROR: Failed to get info: {error}")),
    };
    let (label, timestamp) = (id.label().to_owned(), id.timestamp().to_owned());
    set.rows.push(vec![Some(label), Some(timestamp), database, details, Some(status)]);
    Ok(set)
}

/// The JSON that operators know, in its order.
#[derive(Serialize)]
struct Details<'a> {
    name: &'a str,
    database: &'a str,
    backup_time: u64,
    content: &'a str,
    olap_table_list: Vec<Listed<'a>>,
    view_list: [(); 0],
    odbc_table_list: [(); 0],
    odbc_resource_list: [(); 0],
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    partition_names: Vec<&'a str>,
}

/// The Details of a snapshot; RestoreObjs has the same shape.
pub(in crate::exec) fn details_json(info: &SnapshotInfo) -> Result<String> {
    let listed = |table: &'_ coffer_repo::TableSummary| -> (String, Vec<String>) {
        (table.name.clone(), table.partitions.iter().map(|partition| partition.name.clone()).collect())
    };
    let tables: Vec<(String, Vec<String>)> = info.tables.iter().map(listed).collect();
    json(info, &tables)
}

/// Details with these tables and partitions only.
pub(in crate::exec) fn json(info: &SnapshotInfo, tables: &[(String, Vec<String>)]) -> Result<String> {
    let listed = |(name, partitions): &'_ (String, Vec<String>)| (name.clone(), partitions.clone());
    let owned: Vec<(String, Vec<String>)> = tables.iter().map(listed).collect();
    let details = Details {
        name: &info.label,
        database: &info.database,
        backup_time: info.backup_time_ms,
        content: match info.content {
            Content::All => "ALL",
            Content::MetadataOnly => "METADATA_ONLY",
        },
        olap_table_list: owned
            .iter()
            .map(|(name, partitions)| Listed { name, partition_names: partitions.iter().map(String::as_str).collect() })
            .collect(),
        view_list: [],
        odbc_table_list: [],
        odbc_resource_list: [],
    };
    serde_json::to_string_pretty(&details).map_err(|error| Error::bug(format!("write JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(label: &str, second: u32, status: SnapshotStatus) -> SnapshotEntry {
        SnapshotEntry { label: label.to_owned(), timestamp: format!("2022-04-08-15-52-{second:02}"), status }
    }

    #[test]
    fn a_label_is_one_row_and_left_overs_show_only_without_a_complete_snapshot() {
        let set = list(vec![
            entry("a", 1, SnapshotStatus::Incomplete),
            entry("a", 2, SnapshotStatus::Complete),
            entry("b", 3, SnapshotStatus::Incomplete),
            entry("b", 4, SnapshotStatus::Incomplete),
            entry("c", 5, SnapshotStatus::Contested),
        ]);
        let rows: Vec<Vec<String>> =
            set.rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()).collect();
        assert_eq!(rows[0], ["a", "2022-04-08-15-52-02", "OK"]);
        assert_eq!(rows[1], ["b", "2022-04-08-15-52-03\n2022-04-08-15-52-04", "ERROR: No info file found"]);
        assert!(rows[2][2].starts_with("ERROR: more than one"));
    }

    #[test]
    fn a_snapshot_that_is_not_there_has_a_status() {
        let id = SnapshotId::new("s", "2022-04-08-15-52-29").unwrap();
        let set = details(&id, Err(&Error::not_found("gone"))).unwrap();
        assert_eq!(set.rows[0][2..4], [None, None]);
        assert_eq!(set.rows[0][4].as_deref(), Some("ERROR: Failed to get info: gone"));
    }
}
