//! PROPERTIES of RESTORE: known keys, values and texts. Pure.

use crate::error::{Error, Result};
use crate::exec::backup::properties::{lower_keys, none_left, timeout};
use crate::limits::MAX_REPLICAS;
use crate::sql::ast::Properties;

const DEFAULT_TAG: &str = "tag.location.default";
/// Known switches that Coffer does not have yet; false is fine.
const NOT_YET: [&str; 7] = [
    "allow_load",
    "atomic_restore",
    "clean_partitions",
    "clean_tables",
    "force_replace",
    "is_being_synced",
    "reserve_colocate",
];
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

/// Checked properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// Which backup of the label.
    pub(super) timestamp: String,
    /// Replicas.
    pub(super) replicas: Replicas,
    /// Keep `dynamic_partition.enable` as it was.
    pub(super) reserve_dynamic: bool,
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
    for key in NOT_YET {
        if switch(key, left.remove(key))? {
            return Err(Error::not_supported(format!("restore property {key} is not supported yet")));
        }
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
    Ok(Options { timestamp, replicas, reserve_dynamic, timeout_s })
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
            ("clean_tables", "true", "restore property clean_tables is not supported yet"),
            ("storage_medium", "ssd", "restore property storage_medium is not supported"),
            ("colour", "blue", "Unknown restore job properties: [colour]"),
        ] {
            let error = with(&[(key, value)]).unwrap_err();
            assert!(error.starts_with(text), "{error}");
        }
    }
}
