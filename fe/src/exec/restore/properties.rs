//! PROPERTIES of RESTORE: known keys, values and texts. Pure.

use crate::error::{Error, Result};
use crate::exec::backup::properties::{lower_keys, none_left, timeout};
use crate::limits::MAX_REPLICAS;
use crate::sql::ast::Properties;

const DEFAULT_TAG: &str = "tag.location.default";
/// A switch of replication between clusters of the classic system; false is fine.
const IS_BEING_SYNCED: &str = "is_being_synced";
/// Known settings without a meaning here.
const NEVER: [&str; 3] = ["medium_allocation_mode", "storage_medium", "storage_vault_name"];

/// How many replicas restored partitions get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replicas {
    /// As in the backup, as far as there are backends.
    AsBackedUp,
    /// As in the backup, or not at all (`reserve_replica`).
    Reserved,
    /// So many (`replication_num`, `replication_allocation`).
    Number(u32),
}

/// What becomes of an existing table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overwrite {
    /// It takes the restored partitions and keeps its others.
    Partitions,
    /// A table with the same columns and partitions takes its place (`atomic_restore`).
    Table,
    /// Any table takes its place (`atomic_restore` with `force_replace`).
    Anything,
}

/// Checked properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// Which backup of the label.
    pub(super) timestamp: String,
    /// Replicas.
    pub(super) replicas: Replicas,
    /// Keep `dynamic_partition.enable` as it was.
    pub(super) reserve_dynamic: bool,
    /// Keep `colocate_with` of new tables.
    pub(super) reserve_colocate: bool,
    /// Let loads into overwritten tables go on until COMMIT.
    pub(super) allow_load: bool,
    /// Drop the tables of the database that are not restored.
    pub(super) clean_tables: bool,
    /// Drop the partitions of restored tables that are not restored.
    pub(super) clean_partitions: bool,
    /// What becomes of an existing table.
    pub(super) overwrite: Overwrite,
    /// Seconds.
    pub(super) timeout_s: u64,
}

/// Check the properties of a RESTORE.
pub(super) fn read(properties: &Properties, default_timeout_s: u64) -> Result<Options> {
    let mut left = lower_keys(properties);
    let timestamp =
        left.remove("backup_timestamp").ok_or_else(|| Error::invalid("Missing backup_timestamp property"))?;
    let number = left.remove("replication_num").map(|value| replicas("replication_num", &value)).transpose()?;
    let allocation = left.remove("replication_allocation").map(|value| allocation(&value)).transpose()?;
    let reserve_replica = switch("reserve_replica", left.remove("reserve_replica"))?;
    let reserve_dynamic = switch("reserve_dynamic_partition_enable", left.remove("reserve_dynamic_partition_enable"))?;
    let timeout_s = timeout(left.remove("timeout"), default_timeout_s)?;
    if let Some(value) = left.remove("meta_version")
        && value.parse::<i64>().is_err()
    {
        return Err(Error::invalid(format!("Invalid meta version format: {value}")));
    }
    let mut flag = |key: &str| switch(key, left.remove(key));
    let (allow_load, reserve_colocate) = (flag("allow_load")?, flag("reserve_colocate")?);
    let (clean_tables, clean_partitions) = (flag("clean_tables")?, flag("clean_partitions")?);
    let overwrite = match (flag("atomic_restore")?, flag("force_replace")?) {
        (false, false) => Overwrite::Partitions,
        (true, false) => Overwrite::Table,
        (true, true) => Overwrite::Anything,
        (false, true) => return Err(Error::invalid("force_replace can only be used with atomic_restore")),
    };
    if flag(IS_BEING_SYNCED)? {
        return Err(Error::not_supported(format!("restore property {IS_BEING_SYNCED} is not supported")));
    }
    if let Some(key) = NEVER.iter().find(|key| left.contains_key(**key)) {
        return Err(Error::not_supported(format!("restore property {key} is not supported")));
    }
    none_left("restore", &left)?;
    let replicas = match number.or(allocation) {
        _ if reserve_replica => Replicas::Reserved,
        Some(number) => Replicas::Number(number),
        None => Replicas::AsBackedUp,
    };
    Ok(Options {
        timestamp,
        replicas,
        reserve_dynamic,
        reserve_colocate,
        allow_load,
        clean_tables,
        clean_partitions,
        overwrite,
        timeout_s,
    })
}

fn switch(key: &str, value: Option<String>) -> Result<bool> {
    match value {
        None => Ok(false),
        Some(value) if value.eq_ignore_ascii_case("true") => Ok(true),
        Some(value) if value.eq_ignore_ascii_case("false") => Ok(false),
        Some(value) => Err(Error::invalid(format!("Invalid boolean property {key} value: {value}"))),
    }
}

fn replicas(key: &str, value: &str) -> Result<u32> {
    let number = value.trim().parse().ok().filter(|number| (1..=MAX_REPLICAS).contains(number));
    number
        .ok_or_else(|| Error::invalid(format!("Invalid {key} value: {value}; it is a number from 1 to {MAX_REPLICAS}")))
}

fn allocation(value: &str) -> Result<u32> {
    match value.split_once(':') {
        Some((tag, number)) if tag.trim() == DEFAULT_TAG => replicas("replication_allocation", number),
        _ => {
            Err(Error::invalid(format!("Invalid replication_allocation value: {value}; write it as {DEFAULT_TAG}: 3")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<Options, String> {
        let mut properties: Properties =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        properties.insert("backup_timestamp".to_owned(), "t".to_owned());
        read(&properties, 86_400).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn known_properties_are_taken() {
        let plain = with(&[]).unwrap();
        assert_eq!((plain.replicas, plain.reserve_dynamic, plain.timeout_s), (Replicas::AsBackedUp, false, 86_400));
        assert_eq!(with(&[("replication_num", "2")]).unwrap().replicas, Replicas::Number(2));
        let tagged = with(&[("replication_allocation", "tag.location.default: 3")]).unwrap();
        assert_eq!(tagged.replicas, Replicas::Number(3));
        let all = [("Reserve_Replica", "TRUE"), ("replication_num", "2"), ("reserve_dynamic_partition_enable", "true")];
        let reserved = with(&all).unwrap();
        assert_eq!((reserved.replicas, reserved.reserve_dynamic), (Replicas::Reserved, true));
        let switches = [("allow_load", "true"), ("clean_tables", "TRUE"), ("clean_partitions", "true")];
        let set = with(&switches).unwrap();
        assert!(set.allow_load && set.clean_tables && set.clean_partitions && !set.reserve_colocate);
        assert_eq!(set.overwrite, Overwrite::Partitions);
        assert!(with(&[("reserve_colocate", "true")]).unwrap().reserve_colocate);
        assert_eq!(with(&[("atomic_restore", "true")]).unwrap().overwrite, Overwrite::Table);
        let forced = with(&[("atomic_restore", "true"), ("force_replace", "true")]).unwrap();
        assert_eq!(forced.overwrite, Overwrite::Anything);
        assert!(with(&[("meta_version", "-1"), ("allow_load", "false"), ("timeout", "700")]).is_ok());
    }

    #[test]
    fn others_are_refused_with_the_known_texts() {
        assert_eq!(read(&Properties::new(), 1).unwrap_err().message(), "Missing backup_timestamp property");
        for (key, value, text) in [
            ("replication_num", "0", "Invalid replication_num value: 0"),
            ("replication_num", "x", "Invalid replication_num value: x"),
            ("replication_allocation", "tag.location.east: 3", "Invalid replication_allocation value"),
            ("reserve_replica", "yes", "Invalid boolean property reserve_replica value: yes"),
            ("timeout", "1", "timeout must be at least 10 min"),
            ("meta_version", "x", "Invalid meta version format: x"),
            ("clean_tables", "1", "Invalid boolean property clean_tables value: 1"),
            ("force_replace", "true", "force_replace can only be used with atomic_restore"),
            ("is_being_synced", "true", "restore property is_being_synced is not supported"),
            ("storage_medium", "ssd", "restore property storage_medium is not supported"),
            ("colour", "blue", "Unknown restore job properties: [colour]"),
        ] {
            let error = with(&[(key, value)]).unwrap_err();
            assert!(error.starts_with(text), "{error}");
        }
    }
}
