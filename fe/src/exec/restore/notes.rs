//! What a RESTORE changes beyond what it restores, in words: returned as warnings and kept in the job. Pure.

use super::properties::{Options, Overwrite, Replicas};
use super::select::Selected;
use crate::catalog::database::Database;
use crate::catalog::job::{RestoreTarget, RestoreView};
use crate::catalog::table::Table;
use crate::exec::ddl::COLOCATE_WITH;
use coffer_proto::ids::TableId;
use std::collections::BTreeMap;

const DYNAMIC_ENABLE: &str = "dynamic_partition.enable";

/// The tables that `clean_tables` drops: those that are there now and not restored, whatever they were called when they
/// were backed up.
pub(super) fn dropped_tables(database: &Database, targets: &[RestoreTarget]) -> Vec<TableId> {
    let restored = |table: &&Table| targets.iter().any(|target| target.table.name == table.name);
    database.tables.values().filter(|table| !restored(table)).map(|table| table.id).collect()
}

/// The views that `clean_tables` drops.
pub(super) fn dropped_views(database: &Database, restored: &[RestoreView]) -> Vec<TableId> {
    let stays = |name: &str| restored.iter().any(|target| target.view.name == name);
    database.views.values().filter(|view| !stays(&view.name)).map(|view| view.id).collect()
}

/// About tables as they are in the snapshot; `targets` are made of `selected`, in its order.
pub(super) fn about(
    selected: &[Selected],
    targets: &[RestoreTarget],
    database: &Database,
    options: &Options,
) -> Vec<String> {
    let mut notes = Vec::new();
    for (one, target) in selected.iter().zip(targets) {
        let name = &one.name;
        match target.into.or(target.replaces).and_then(|id| database.tables.get(&id)) {
            Some(existing) => about_existing(existing, target, options, &mut notes),
            None => about_properties(name, &one.table.properties, options, &mut notes),
        }
        if target.replaces.is_some() {
            about_properties(name, &one.table.properties, options, &mut notes);
        }
        let mut pairs = one.table.partitions.iter().zip(target.table.partitions.values());
        if options.replicas == Replicas::AsBackedUp
            && let Some((before, after)) = pairs.find(|(before, after)| before.replication_num > after.replication_num)
        {
            notes.push(format!(
                "table '{name}': partition {} gets {} replicas, it had {} in the backup",
                after.name, after.replication_num, before.replication_num
            ));
        }
    }
    if options.clean_tables {
        let dropped = dropped_tables(database, targets);
        let names = dropped.iter().filter_map(|id| database.tables.get(id));
        notes.extend(names.map(|table| format!("clean_tables: table '{}' will be dropped", table.name)));
    }
    notes
}

fn about_properties(name: &str, properties: &BTreeMap<String, String>, options: &Options, notes: &mut Vec<String>) {
    if !options.reserve_dynamic && is_true(properties.get(DYNAMIC_ENABLE)) {
        notes.push(format!(
            "table '{name}': {DYNAMIC_ENABLE} is set to false; ALTER TABLE {name} SET (\"{DYNAMIC_ENABLE}\" = \"true\") \
             switches it on"
        ));
    }
    if !options.reserve_colocate && properties.contains_key(COLOCATE_WITH) {
        notes.push(format!("table '{name}': {COLOCATE_WITH} is not kept"));
    }
}

fn about_existing(existing: &Table, target: &RestoreTarget, options: &Options, notes: &mut Vec<String>) {
    let name = &existing.name;
    if options.clean_partitions || options.overwrite != Overwrite::Partitions {
        let mut restored = target.table.partitions.values().map(|partition| &partition.name);
        let stays = |old: &str| restored.clone().any(|name| name.eq_ignore_ascii_case(old));
        let gone: Vec<&str> =
            existing.partitions.values().map(|old| old.name.as_str()).filter(|old| !stays(old)).collect();
        if !gone.is_empty() && restored.next().is_some() {
            notes
                .push(format!("table '{name}': partitions that are not restored will be dropped: {}", gone.join(", ")));
        }
    } else if is_true(existing.properties.get(DYNAMIC_ENABLE)) {
        notes.push(format!(
            "table '{name}' has dynamic partitions: those that it no longer keeps may be dropped after the restore"
        ));
    }
}

fn is_true(value: Option<&String>) -> bool {
    value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}
