//! PROPERTIES of tables: which keys are known, and what their values may be. Pure.
//!
//! `replication_num` acts. The other known keys describe storage or background work that Coffer decides by itself or does
//! not do yet (`inert`); they are kept and shown, so that statements and backups of such tables go through unchanged. Any
//! other key is refused by name.

use super::inert::{self, Shape};
use crate::error::{Error, Result};
use crate::limits;
use crate::sql::ast::Properties;
use coffer_table::{Model, Schema};

/// Replicas per tablet.
pub const REPLICATION_NUM: &str = "replication_num";
/// The same in the form with tags.
const REPLICATION_ALLOCATION: &str = "replication_allocation";
const DEFAULT_TAG: &str = "tag.location.default";
/// The group of tables that share their placement.
pub use crate::catalog::table::COLOCATE_WITH;
const DYNAMIC: &str = "dynamic_partition.";

/// Only of UNIQUE KEY tables: rows with equal keys are made one as they are read either way.
const MERGE_ON_WRITE: &str = "enable_unique_key_merge_on_write";
/// Columns of the table.
const BLOOM_FILTER_COLUMNS: &str = "bloom_filter_columns";

/// What a dynamic partition property may be.
const DYNAMIC_KEYS: [(&str, Shape); 17] = [
    ("buckets", Shape::AtLeast(1)),
    ("create_history_partition", Shape::Bool),
    ("enable", Shape::Bool),
    ("end", Shape::AtLeast(0)),
    ("history_partition_num", Shape::AtLeast(-1)),
    ("hot_partition_num", Shape::AtLeast(0)),
    ("prefix", Shape::Text),
    ("replication_allocation", Shape::Text),
    ("replication_num", Shape::AtLeast(1)),
    ("reserved_history_periods", Shape::Text),
    ("start", Shape::AtMost(-1)),
    ("start_day_of_month", Shape::Between(1, 28)),
    ("start_day_of_week", Shape::Between(1, 7)),
    ("storage_medium", Shape::Text),
    ("storage_policy", Shape::Text),
    ("time_unit", Shape::TimeUnit),
    ("time_zone", Shape::Text),
];

/// Checked properties of CREATE TABLE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableProperties {
    /// As given; without one the caller decides.
    pub(super) replication_num: Option<u32>,
    /// All others, to be kept.
    pub(super) kept: Properties,
}

/// Check the properties of CREATE TABLE.
pub(super) fn for_create(properties: &Properties) -> Result<TableProperties> {
    let mut kept = properties.clone();
    let number = kept.remove(REPLICATION_NUM).map(|value| replication_num(&value)).transpose()?;
    let allocation = kept.remove(REPLICATION_ALLOCATION).map(|value| allocation(&value)).transpose()?;
    if number.is_some() && allocation.is_some() {
        return Err(Error::invalid(format!("only one of {REPLICATION_NUM} and {REPLICATION_ALLOCATION} may be given")));
    }
    check_kept(&kept)?;
    Ok(TableProperties { replication_num: number.or(allocation), kept })
}

/// Check what must fit the columns and the keys of the table.
pub(super) fn fit(kept: &Properties, schema: &Schema) -> Result<()> {
    if kept.contains_key(MERGE_ON_WRITE) && schema.model != Model::Unique {
        return Err(Error::invalid(format!("{MERGE_ON_WRITE} property only support unique key table")));
    }
    let Some(columns) = kept.get(BLOOM_FILTER_COLUMNS) else { return Ok(()) };
    let mut seen = std::collections::BTreeSet::new();
    for name in columns.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let Some(at) = schema.index_of(name) else {
            return Err(Error::invalid(format!("Bloom filter column does not exist in table. invalid column: {name}")));
        };
        if !seen.insert(at) {
            return Err(Error::invalid(format!("Reduplicated bloom filter column: {name}")));
        }
    }
    Ok(())
}

/// What the client is told about properties and indexes that are kept and do nothing; `None` when there are none.
pub(super) fn without_effect(kept: &Properties, indexes: bool) -> Option<String> {
    let names: Vec<&str> = kept.keys().map(String::as_str).filter(|key| inert::is_known(key)).collect();
    let properties = (!names.is_empty()).then(|| format!("properties {}", names.join(", ")));
    let parts: Vec<String> = properties.into_iter().chain(indexes.then(|| "indexes".to_owned())).collect();
    (!parts.is_empty()).then(|| format!("kept, and without effect here: {}", parts.join("; ")))
}

/// Check the properties of one partition: replicas, and what is kept nowhere because it has no effect.
pub(super) fn for_partition(properties: &Properties) -> Result<Option<u32>> {
    let checked = for_create(properties)?;
    match checked.kept.keys().find(|key| key.starts_with(DYNAMIC) || key.as_str() == COLOCATE_WITH) {
        Some(key) => Err(Error::invalid(format!("{key} is no property of a partition"))),
        None => Ok(checked.replication_num),
    }
}

/// Check the properties of ALTER TABLE ... SET. An empty value removes a key where that makes sense.
pub(super) fn for_alter(properties: &Properties) -> Result<()> {
    if properties.is_empty() {
        return Err(Error::invalid("ALTER TABLE SET needs at least one property"));
    }
    for key in [REPLICATION_NUM, REPLICATION_ALLOCATION] {
        if properties.contains_key(key) {
            return Err(Error::not_supported(format!(
                "changing {key} of partitions that exist is not supported; default.{key} is for new ones"
            )));
        }
    }
    if properties.contains_key(MERGE_ON_WRITE) {
        return Err(Error::invalid("Can not change UNIQUE KEY to Merge-On-Write mode"));
    }
    let mut properties = properties.clone();
    if let Some(value) = properties.remove("default.replication_num") {
        replication_num(&value)?;
    }
    if let Some(value) = properties.remove("default.replication_allocation") {
        allocation(&value)?;
    }
    let properties = &properties;
    if let Some((key, _)) = properties.iter().find(|(key, value)| value.is_empty() && key.as_str() != COLOCATE_WITH) {
        return Err(Error::invalid(format!("the value of property {key} must not be empty")));
    }
    let set: Properties = properties.iter().filter(|(_, value)| !value.is_empty()).map(clone_pair).collect();
    check_kept(&set)
}

/// What is stored for `default.replication_num` and its like: replicas of new partitions.
pub(super) fn stored(properties: &Properties) -> Result<Properties> {
    let mut stored = properties.clone();
    if let Some(value) = stored.remove("default.replication_num") {
        stored.insert(REPLICATION_NUM.to_owned(), replication_num(&value)?.to_string());
    }
    if let Some(value) = stored.remove("default.replication_allocation") {
        stored.insert(REPLICATION_NUM.to_owned(), allocation(&value)?.to_string());
    }
    Ok(stored)
}

fn clone_pair((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}

fn check_kept(properties: &Properties) -> Result<()> {
    if properties.len() > limits::MAX_PROPERTIES {
        return Err(Error::limit(format!("a table has at most {} properties", limits::MAX_PROPERTIES)));
    }
    for (key, value) in properties {
        if value.len() > limits::MAX_TEXT_BYTES {
            return Err(Error::limit(format!("the value of property {key} is too long")));
        }
        match key.strip_prefix(DYNAMIC) {
            Some(dynamic) => check_dynamic(key, dynamic, value)?,
            None if key == COLOCATE_WITH => {}
            None => inert::check(key, value)?,
        }
    }
    Ok(())
}

fn check_dynamic(key: &str, name: &str, value: &str) -> Result<()> {
    let Some((_, shape)) = DYNAMIC_KEYS.iter().find(|(known, _)| *known == name) else {
        return Err(Error::invalid(format!("Unknown properties: {{{key}={value}}}")));
    };
    shape.check(key, value)
}

fn replication_num(value: &str) -> Result<u32> {
    let number = value.trim().parse().ok().filter(|number| (1..=limits::MAX_REPLICAS).contains(number));
    number.ok_or_else(|| {
        Error::invalid(format!(
            "Invalid replication number: '{value}' is not a number from 1 to {}",
            limits::MAX_REPLICAS
        ))
    })
}

/// `tag.location.default: 3`.
fn allocation(value: &str) -> Result<u32> {
    let (tag, number) = value
        .split_once(':')
        .ok_or_else(|| Error::invalid(format!("Invalid replication allocation property: {value}")))?;
    if tag.trim() != DEFAULT_TAG {
        return Err(Error::not_supported(format!(
            "replication_allocation with the tag '{}' is not supported",
            tag.trim()
        )));
    }
    replication_num(number)
}

/// A number of replicas in the form with tags, for SHOW.
pub fn show_allocation(replicas: u32) -> String {
    format!("{DEFAULT_TAG}: {replicas}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn replicas_are_read_in_both_forms() {
        let read = |pairs: &[(&str, &str)]| for_create(&properties(pairs)).map(|read| read.replication_num);
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[("replication_num", "2")]), Ok(Some(2)));
        assert_eq!(read(&[("replication_allocation", "tag.location.default: 3")]), Ok(Some(3)));
        for (key, value, text) in [
            ("replication_num", "0", "'0'"),
            ("replication_num", "x", "'x'"),
            ("replication_num", "17", "1 to 16"),
            ("replication_allocation", "3", "Invalid replication allocation"),
            ("replication_allocation", "tag.location.a: 3", "not supported"),
        ] {
            assert!(read(&[(key, value)]).unwrap_err().message().contains(text), "{value}");
        }
        assert!(read(&[("replication_num", "2"), ("replication_allocation", "tag.location.default: 2")]).is_err());
        assert_eq!(show_allocation(2), "tag.location.default: 2");
    }

    #[test]
    fn known_keys_are_kept_and_unknown_ones_refused() {
        let given = properties(&[
            ("storage_format", "V2"),
            ("dynamic_partition.enable", "true"),
            ("dynamic_partition.time_unit", "day"),
            ("colocate_with", "g"),
        ]);
        assert_eq!(for_create(&given).unwrap().kept, given);
        for key in ["storage_fromat", "dynamic_partition.x", "Replication_Num"] {
            let error = for_create(&properties(&[(key, "1")])).unwrap_err();
            assert_eq!(error.message(), format!("Unknown properties: {{{key}=1}}"));
        }
        for (key, value) in [
            ("dynamic_partition.enable", "yes"),
            ("dynamic_partition.end", "-1"),
            ("dynamic_partition.start", "0"),
            ("dynamic_partition.start_day_of_week", "8"),
            ("dynamic_partition.time_unit", "MINUTE"),
            ("dynamic_partition.prefix", ""),
        ] {
            assert!(for_create(&properties(&[(key, value)])).unwrap_err().message().contains(value), "{key}");
        }
        let long = "x".repeat(limits::MAX_TEXT_BYTES + 1);
        assert!(for_create(&properties(&[("colocate_with", &long)])).is_err());
    }

    #[test]
    fn alter_changes_what_has_no_effect_on_data() {
        assert_eq!(for_alter(&properties(&[("dynamic_partition.enable", "false")])), Ok(()));
        assert_eq!(for_alter(&properties(&[("colocate_with", "")])), Ok(()));
        assert!(for_alter(&properties(&[("replication_num", "2")])).unwrap_err().message().contains("not supported"));
        assert!(for_alter(&properties(&[("in_memory", "")])).unwrap_err().message().contains("in_memory"));
        assert!(for_alter(&properties(&[])).is_err());
        assert!(for_alter(&properties(&[("x", "1")])).is_err());
    }

    #[test]
    fn some_must_fit_the_table() {
        let schema = |model| Schema {
            columns: ["k", "v"].map(|name| coffer_table::Column::new(name, coffer_table::ColumnType::Int)).to_vec(),
            model,
        };
        let fits =
            |model, key, value| fit(&properties(&[(key, value)]), &schema(model)).map_err(|e| e.message().to_owned());
        assert_eq!(fits(Model::Unique, MERGE_ON_WRITE, "true"), Ok(()));
        for model in [Model::Duplicate, Model::Aggregate] {
            let error = fits(model, MERGE_ON_WRITE, "false").unwrap_err();
            assert_eq!(error, "enable_unique_key_merge_on_write property only support unique key table");
        }
        assert_eq!(fits(Model::Duplicate, BLOOM_FILTER_COLUMNS, "V, k"), Ok(()));
        let error = fits(Model::Duplicate, BLOOM_FILTER_COLUMNS, "k,nocol").unwrap_err();
        assert_eq!(error, "Bloom filter column does not exist in table. invalid column: nocol");
        let error = fits(Model::Duplicate, BLOOM_FILTER_COLUMNS, "k,K").unwrap_err();
        assert_eq!(error, "Reduplicated bloom filter column: K");
        assert!(for_alter(&properties(&[(MERGE_ON_WRITE, "true")])).unwrap_err().message().contains("Can not change"));
    }

    #[test]
    fn who_gives_what_does_nothing_is_told() {
        let kept = properties(&[("storage_format", "V2"), ("compression", "zstd"), ("colocate_with", "g")]);
        let told = without_effect(&kept, false).unwrap();
        assert_eq!(told, "kept, and without effect here: properties compression, storage_format");
        assert_eq!(without_effect(&kept, true), Some(format!("{told}; indexes")));
        assert_eq!(without_effect(&properties(&[("dynamic_partition.enable", "true")]), false), None);
    }

    #[test]
    fn the_lists_are_sorted() {
        assert!(DYNAMIC_KEYS.is_sorted_by_key(|(key, _)| *key));
    }
}
