//! SHOW SNAPSHOT: what a repository holds.

use super::directory::Directory;
use crate::error::{Error, ErrorKind, Result};
use crate::exec::answer::RowSet;
use crate::exec::context::Context;
use crate::exec::repository;
use coffer_repo::{Content, Inspected, Repository, SnapshotId, SnapshotInfo, SnapshotStatus, ViewSummary};
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
            (label, None) => Ok(list(open.inspect(label).await?)),
            (Some(label), Some(timestamp)) => {
                let id = SnapshotId::new(label, timestamp)?;
                match described(&open, &id).await {
                    Ok((info, directory)) => details(&id, Ok((&info, directory))),
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

/// One row per label and status; several timestamps in one cell, one per line.
fn list(found: Vec<Inspected>) -> RowSet {
    let mut labels: BTreeMap<String, Vec<Inspected>> = BTreeMap::new();
    for one in found {
        labels.entry(one.entry.label.clone()).or_default().push(one);
    }
    let mut set = RowSet::new(["Snapshot", "Timestamp", "Status"]);
    for (label, found) in labels {
        let of = |status, damaged: bool| {
            let found = found.iter().filter(|one| one.entry.status == status && one.damage.is_some() == damaged);
            found.map(|one| one.entry.timestamp.as_str()).collect::<Vec<_>>().join("\n")
        };
        let damaged = found.iter().filter_map(|one| one.damage.as_ref());
        let damage: Vec<String> = damaged.map(|error| format!("ERROR: Failed to get info: {error}")).collect();
        let rows = [
            (of(SnapshotStatus::Complete, false), "OK".to_owned()),
            (of(SnapshotStatus::Complete, true), damage.join("\n")),
            (of(SnapshotStatus::Contested, false), "ERROR: more than one info file found".to_owned()),
        ];
        let mut rows: Vec<_> = rows.into_iter().filter(|(timestamps, _)| !timestamps.is_empty()).collect();
        // What a cancelled or running job has there is of no interest beside a snapshot.
        if rows.is_empty() {
            rows.push((of(SnapshotStatus::Incomplete, false), "ERROR: No info file found".to_owned()));
        }
        for (timestamps, status) in rows {
            set.push([label.clone(), timestamps, status]);
        }
    }
    set
}

async fn described(repository: &Repository, id: &SnapshotId) -> Result<(SnapshotInfo, Directory)> {
    let info = repository.read_info(id).await?;
    let directory = Directory::read(repository, id, &info).await?;
    Ok((info, directory))
}

fn details(id: &SnapshotId, found: std::result::Result<(&SnapshotInfo, Directory), &Error>) -> Result<RowSet> {
    let mut set = RowSet::new(["Snapshot", "Timestamp", "Database", "Details", "Status"]);
    let (database, details, status) = match found {
        Ok((info, directory)) => {
            (Some(info.database.clone()), Some(details_json(info, Some(directory))?), "OK".to_owned())
        }
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
    view_list: Vec<ListedView<'a>>,
    odbc_table_list: [(); 0],
    odbc_resource_list: [(); 0],
    /// Down to the files; ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<Directory>,
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    partition_names: Vec<&'a str>,
}

#[derive(Serialize)]
struct ListedView<'a> {
    id: u64,
    name: &'a str,
}

/// The Details of a snapshot; RestoreObjs has the same shape, without the directory.
fn details_json(info: &SnapshotInfo, directory: Option<Directory>) -> Result<String> {
    let listed = |table: &'_ coffer_repo::TableSummary| -> (String, Vec<String>) {
        (table.name.clone(), table.partitions.iter().map(|partition| partition.name.clone()).collect())
    };
    let tables: Vec<(String, Vec<String>)> = info.tables.iter().map(listed).collect();
    let views: Vec<&ViewSummary> = info.views.iter().collect();
    write(info, &tables, &views, directory)
}

/// Details with these tables, partitions and views only.
pub(in crate::exec) fn json(
    info: &SnapshotInfo,
    tables: &[(String, Vec<String>)],
    views: &[&ViewSummary],
) -> Result<String> {
    write(info, tables, views, None)
}

fn write(
    info: &SnapshotInfo,
    tables: &[(String, Vec<String>)],
    views: &[&ViewSummary],
    directory: Option<Directory>,
) -> Result<String> {
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
        view_list: views.iter().map(|view| ListedView { id: view.id, name: &view.name }).collect(),
        odbc_table_list: [],
        odbc_resource_list: [],
        directory,
    };
    serde_json::to_string_pretty(&details).map_err(|error| Error::bug(format!("write JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_repo::SnapshotEntry;

    fn entry(label: &str, second: u32, status: SnapshotStatus) -> Inspected {
        let timestamp = format!("2022-04-08-15-52-{second:02}");
        Inspected { entry: SnapshotEntry { label: label.to_owned(), timestamp, status }, damage: None }
    }

    #[test]
    fn a_label_is_one_row_and_left_overs_show_only_without_a_complete_snapshot() {
        let set = list(vec![
            entry("a", 1, SnapshotStatus::Incomplete),
            entry("a", 2, SnapshotStatus::Complete),
            entry("b", 3, SnapshotStatus::Incomplete),
            entry("b", 4, SnapshotStatus::Incomplete),
            entry("c", 5, SnapshotStatus::Contested),
            entry("d", 6, SnapshotStatus::Complete),
            Inspected { damage: Some(Error::corrupt("rotten")), ..entry("d", 7, SnapshotStatus::Complete) },
        ]);
        let rows: Vec<Vec<String>> =
            set.rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()).collect();
        assert_eq!(rows[0], ["a", "2022-04-08-15-52-02", "OK"]);
        assert_eq!(rows[1], ["b", "2022-04-08-15-52-03\n2022-04-08-15-52-04", "ERROR: No info file found"]);
        assert!(rows[2][2].starts_with("ERROR: more than one"));
        assert_eq!(rows[3], ["d", "2022-04-08-15-52-06", "OK"]);
        assert_eq!(rows[4], ["d", "2022-04-08-15-52-07", "ERROR: Failed to get info: rotten"]);
    }

    #[test]
    fn a_snapshot_that_is_not_there_has_a_status() {
        let id = SnapshotId::new("s", "2022-04-08-15-52-29").unwrap();
        let set = details(&id, Err(&Error::not_found("gone"))).unwrap();
        assert_eq!(set.rows[0][2..4], [None, None]);
        assert_eq!(set.rows[0][4].as_deref(), Some("ERROR: Failed to get info: gone"));
    }
}
