//! From what is wanted of a snapshot to what will be there: targets with names, versions, replicas and places. Pure.
//!
//! Everything that can be refused is refused here, before anything is recorded. Ids are placeholders: the position of a
//! partition, and of a tablet among all of its table; `apply` gives real ones.

use super::compare::{counterpart, fits};
use super::properties::{Options, Overwrite, Replicas};
use super::select::{Selected, SelectedView};
use crate::catalog::database::Database;
use crate::catalog::job::{RestoreTarget, RestoreView};
use crate::catalog::map::Map;
use crate::catalog::table::{FIRST_VERSION, Partition, Partitioning, Table, Tablet};
use crate::catalog::view::View;
use crate::error::{Error, Result};
use crate::exec::ddl::{COLOCATE_WITH, REPLICATION_NUM, colocate};
use crate::exec::placement::{Places, too_few};
use crate::meta::command::Placement;
use coffer_proto::ids::{PartitionId, TableId, TabletId};
use coffer_repo::PartitionMeta;
use std::collections::BTreeMap;

const DYNAMIC_PREFIX: &str = "dynamic_partition.";
const DYNAMIC_ENABLE: &str = "dynamic_partition.enable";

/// All targets of a restore.
pub(super) fn targets(
    selected: Vec<Selected>,
    database: &Database,
    options: &Options,
    places: &mut Places,
) -> Result<Vec<RestoreTarget>> {
    selected.into_iter().map(|one| target(one, database, options, places)).collect()
}

fn target(wanted: Selected, database: &Database, options: &Options, places: &mut Places) -> Result<RestoreTarget> {
    let found = database.table(&wanted.name);
    if database.view(&wanted.name).is_some() {
        return Err(other_kind(&wanted.name));
    }
    if let Some(existing) = found.filter(|_| options.overwrite != Overwrite::Anything) {
        let alone = options.clean_partitions || options.overwrite == Overwrite::Table;
        fits(existing, &wanted.table, alone)?;
    }
    // A table that is replaced as a whole says nothing about the new one.
    let existing = found.filter(|_| options.overwrite == Overwrite::Partitions);
    // A table that keeps its group lies as the group does, where there is one of its shape.
    let group = wanted.table.properties.get(COLOCATE_WITH).filter(|_| options.reserve_colocate);
    let mut shared = group.and_then(|group| colocate::places(database, group));
    let mut partitions = Map::new();
    let mut sources = Vec::new();
    for (at, meta) in (0..).zip(&wanted.table.partitions) {
        let here = existing.and_then(|existing| counterpart(existing, meta));
        let replicas = replicas(meta, here, &wanted.name, options, places.len())?;
        let buckets = u32::try_from(meta.tablets.len()).unwrap_or(u32::MAX);
        let fits = |shared: &Placement| {
            shared.len() == buckets as usize && shared.iter().all(|place| place.len() == replicas as usize)
        };
        let placed = match shared.clone().filter(fits) {
            Some(shared) => shared,
            None => places.place(buckets, replicas)?,
        };
        if group.is_some() {
            shared.get_or_insert_with(|| placed.clone());
        }
        let tablets = placed.into_iter().zip(&meta.tablets).map(|(replicas, source)| {
            let index = TabletId(sources.len() as u64);
            sources.push((index, TabletId(*source)));
            Tablet { id: index, replicas }
        });
        let tablets = tablets.collect();
        // The partition of a table without partitions has the table's name.
        let name = match here {
            Some(here) => here.name.clone(),
            None if wanted.table.partition_columns.is_empty() => wanted.name.clone(),
            None => meta.name.clone(),
        };
        let version = if wanted.without_rows { FIRST_VERSION } else { meta.visible_version };
        let partition = Partition {
            id: PartitionId(at),
            name,
            range: meta.range.clone(),
            replication_num: replicas,
            visible_version: version,
            visible_ms: 0,
            committed_version: version,
            tablets,
        };
        partitions.insert(partition.id, partition);
    }
    let largest = partitions.values().map(|partition| partition.replication_num).max().unwrap_or(1);
    let table = Table {
        id: existing.map_or(TableId(0), |table| table.id),
        name: wanted.name,
        schema: wanted.table.schema,
        partition_columns: wanted.table.partition_columns,
        partitioning: Partitioning { list: wanted.table.list, buckets: wanted.table.buckets },
        bucket_columns: wanted.table.bucket_columns,
        properties: properties(wanted.table.properties, options, largest),
        comment: wanted.table.comment,
        created_ms: 0,
        had_deletes: wanted.table.had_deletes,
        partitions,
    };
    let replaces = found.filter(|_| existing.is_none()).map(|table| table.id);
    Ok(RestoreTarget { table, into: existing.map(|table| table.id), sources, replaces })
}

fn other_kind(name: &str) -> Error {
    Error::conflict(format!("The local table {name} with the same name but a different type of backup meta."))
}

/// Views as they will be in this database, which was called `from` where they were backed up. What a view says of its own
/// database is said of this one.
pub(super) fn views(
    selected: Vec<SelectedView>,
    (from, database): (&str, &Database),
    overwrite: Overwrite,
) -> Result<Vec<RestoreView>> {
    let mut made = Vec::with_capacity(selected.len());
    for SelectedView { view, name } in selected {
        if database.table(&name).is_some() {
            return Err(other_kind(&name));
        }
        let view = View {
            id: TableId(0),
            query: crate::query::view_in_database(&view.query, from, &database.name)?,
            columns: view.columns,
            comment: view.comment,
            created_ms: 0,
            name,
        };
        let here = database.view(&view.name);
        if here.is_some_and(|here| overwrite != Overwrite::Anything && !here.same_as(&view)) {
            return Err(Error::conflict(format!("View {} already exist but with different schema", view.name)));
        }
        made.push(RestoreView { replaces: here.is_some(), view });
    }
    Ok(made)
}

/// Replicas of one partition: as asked for; else those of the partition it replaces; else those of the backup.
fn replicas(
    meta: &PartitionMeta,
    here: Option<&Partition>,
    table: &str,
    options: &Options,
    alive: usize,
) -> Result<u32> {
    let alive = u32::try_from(alive).unwrap_or(u32::MAX);
    let wanted = match options.replicas {
        Replicas::Number(number) => number,
        Replicas::Reserved => meta.replication_num,
        Replicas::AsBackedUp => {
            let usual = here.map_or(meta.replication_num, |here| here.replication_num);
            return Ok(usual.min(alive).max(1));
        }
    };
    if let Some(here) = here.filter(|here| here.replication_num != wanted) {
        return Err(Error::conflict(format!(
            "Partition {} in table {table} has different replication num '{}' with partition in repository, which is \
             {wanted}",
            here.name, here.replication_num
        )));
    }
    if wanted > alive { Err(too_few(wanted, alive as usize)) } else { Ok(wanted) }
}

/// As in the backup, but out of its colocate group, and with dynamic partitions asleep unless asked otherwise: they would
/// drop what was just restored.
fn properties(mut properties: BTreeMap<String, String>, options: &Options, replicas: u32) -> BTreeMap<String, String> {
    if !options.reserve_colocate {
        properties.remove(COLOCATE_WITH);
    }
    if !options.reserve_dynamic && properties.keys().any(|key| key.starts_with(DYNAMIC_PREFIX)) {
        properties.insert(DYNAMIC_ENABLE.to_owned(), "false".to_owned());
    }
    properties.insert(REPLICATION_NUM.to_owned(), replicas.to_string());
    properties
}

/// Replicas that have files, over all targets: what is downloaded that many times.
pub(super) fn replicas_with_files(targets: &[RestoreTarget]) -> u64 {
    let tablets = targets.iter().flat_map(|target| target.table.tablets());
    let with_files = tablets.filter(|(partition, _)| partition.visible_version > FIRST_VERSION);
    with_files.map(|(_, tablet)| tablet.replicas.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::backup::sample::{database, table};
    use crate::exec::restore::sample::table_meta;
    use coffer_proto::ids::BackendId;

    const PLAIN: Options = Options {
        timestamp: String::new(),
        replicas: Replicas::AsBackedUp,
        reserve_dynamic: false,
        reserve_colocate: false,
        allow_load: false,
        clean_tables: false,
        clean_partitions: false,
        overwrite: Overwrite::Partitions,
        timeout_s: 1,
    };

    fn plan(name: &str, backed_up: &Table, existing: Vec<Table>, options: &Options) -> Result<RestoreTarget, String> {
        let mut places = Places::new([(BackendId(1), 0), (BackendId(2), 0)]);
        let selected = vec![Selected { table: table_meta(backed_up), name: name.to_owned(), without_rows: false }];
        let targets = targets(selected, &database(existing), options, &mut places);
        Ok(targets.map_err(|error| error.message().to_owned())?.remove(0))
    }

    #[test]
    fn a_new_table_names_a_source_for_every_tablet_in_order() {
        let old = table("b", &["p1", "p2"]);
        let target = plan("copy", &old, Vec::new(), &PLAIN).unwrap();
        assert_eq!((target.table.name.as_str(), target.into, target.table.partitions.len()), ("copy", None, 2));
        let wanted: Vec<TabletId> = old.tablets().map(|(_, tablet)| tablet.id).collect();
        assert_eq!(target.sources.iter().map(|(index, _)| index.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(target.sources.iter().map(|(_, source)| *source).collect::<Vec<_>>(), wanted);
        assert!(target.table.partitions.values().all(|partition| partition.visible_version == 2));
        assert_eq!(replicas_with_files(&[target]), 4);
    }

    #[test]
    fn the_partition_of_a_table_without_partitions_is_renamed_with_it() {
        let target = plan("copy", &table("a", &["a"]), Vec::new(), &PLAIN).unwrap();
        assert_eq!(target.table.partitions.values().next().unwrap().name, "copy");
        let target = plan("a", &table("a", &["a"]), vec![table("a", &["a"])], &PLAIN).unwrap();
        assert_eq!(target.into, Some(table("a", &["a"]).id));
    }

    #[test]
    fn replicas_follow_the_request_then_the_existing_partition_then_the_backup() {
        let mut old = table("b", &["p1"]);
        old.partitions.values_mut().for_each(|partition| partition.replication_num = 3);
        let number = |target: RestoreTarget| target.table.partitions.values().next().unwrap().replication_num;
        let with = |replicas| Options { replicas, ..PLAIN };
        assert_eq!(plan("b", &old, Vec::new(), &PLAIN).map(number), Ok(2));
        assert_eq!(plan("b", &old, Vec::new(), &with(Replicas::Number(1))).map(number), Ok(1));
        let error = plan("b", &old, Vec::new(), &with(Replicas::Reserved)).unwrap_err();
        assert!(error.contains("replication num is 3, available backend num is 2"), "{error}");
        let existing = || vec![table("b", &["p1"])];
        assert_eq!(plan("b", &old, existing(), &PLAIN).map(number), Ok(1));
        let error = plan("b", &old, existing(), &with(Replicas::Number(2))).unwrap_err();
        assert!(error.contains("has different replication num '1'"), "{error}");
    }

    #[test]
    fn colocation_goes_and_dynamic_partitions_sleep() {
        let mut old = table("b", &["p1"]);
        for (key, value) in [(COLOCATE_WITH, "g"), (DYNAMIC_ENABLE, "true"), ("dynamic_partition.end", "3")] {
            old.properties.insert(key.to_owned(), value.to_owned());
        }
        let properties = plan("b", &old, Vec::new(), &PLAIN).unwrap().table.properties;
        assert_eq!((properties.get(COLOCATE_WITH), properties[DYNAMIC_ENABLE].as_str()), (None, "false"));
        let reserved = Options { reserve_dynamic: true, reserve_colocate: true, ..PLAIN };
        let kept = plan("b", &old, Vec::new(), &reserved).unwrap().table.properties;
        assert_eq!((kept[DYNAMIC_ENABLE].as_str(), kept[COLOCATE_WITH].as_str()), ("true", "g"));
        // In a group it lies as the group does.
        let mut member = table("m", &["p1"]);
        member.properties.insert(COLOCATE_WITH.to_owned(), "g".to_owned());
        let joined = plan("b", &old, vec![member], &reserved).unwrap();
        assert!(joined.table.tablets().all(|(_, tablet)| tablet.replicas == [BackendId(1)]));
    }

    #[test]
    fn a_whole_table_is_replaced_when_that_is_asked_for_and_anything_only_by_force() {
        let old = table("b", &["p1"]);
        let mut here = table("b", &["p1", "p2"]);
        let with = |overwrite| Options { overwrite, ..PLAIN };
        let target = plan("b", &old, vec![here.clone()], &with(Overwrite::Table)).unwrap();
        assert_eq!((target.into, target.replaces), (None, Some(here.id)));
        assert_eq!(plan("b", &old, Vec::new(), &with(Overwrite::Table)).unwrap().replaces, None);
        here.schema.columns[1].kind = coffer_table::ColumnType::BigInt;
        let error = plan("b", &old, vec![here.clone()], &with(Overwrite::Table)).unwrap_err();
        assert!(error.contains("already exist but with different schema"), "{error}");
        let target = plan("b", &old, vec![here.clone()], &with(Overwrite::Anything)).unwrap();
        assert_eq!((target.replaces, target.table.schema), (Some(here.id), old.schema));
    }

    #[test]
    fn views_fit_when_they_are_the_same_or_replaced_by_force() {
        let meta = |query: &str| coffer_repo::ViewMeta {
            id: 1,
            name: "v".to_owned(),
            columns: Vec::new(),
            query: query.to_owned(),
            comment: String::new(),
        };
        let wanted = |query: &str| vec![SelectedView { view: meta(query), name: "v".to_owned() }];
        let mut here = database(vec![table("b", &["p1"])]);
        let query = "SELECT k FROM `old`.`b`";
        let made = views(wanted(query), ("old", &here), Overwrite::Partitions).unwrap();
        assert_eq!((made[0].view.query.as_str(), made[0].replaces), ("SELECT k FROM `d`.`b`", false));
        here.views.insert(TableId(5), View { id: TableId(5), ..made[0].view.clone() });
        assert!(views(wanted(query), ("old", &here), Overwrite::Partitions).unwrap()[0].replaces);
        let other = wanted("SELECT 1 AS one");
        let error = views(other.clone(), ("old", &here), Overwrite::Table).unwrap_err();
        assert_eq!(error.message(), "View v already exist but with different schema");
        assert!(views(other, ("old", &here), Overwrite::Anything).unwrap()[0].replaces);
        let taken = vec![SelectedView { view: meta(query), name: "b".to_owned() }];
        assert!(views(taken, ("old", &here), Overwrite::Anything).unwrap_err().message().contains("different type"));
    }

    #[test]
    fn what_was_backed_up_without_rows_comes_back_empty() {
        let selected =
            vec![Selected { table: table_meta(&table("b", &["p1"])), name: "b".to_owned(), without_rows: true }];
        let mut places = Places::new([(BackendId(1), 0)]);
        let targets = targets(selected, &database(Vec::new()), &PLAIN, &mut places).unwrap();
        assert!(targets[0].table.partitions.values().all(|partition| partition.visible_version == FIRST_VERSION));
        assert_eq!(replicas_with_files(&targets), 0);
    }
}
