//! Properties of tables that are known, kept and shown, and have no effect: their names, and what their values may be. Pure.
//!
//! A value that would be wrong where the property acts is refused here too: who writes it means something else. Where a
//! value asks for something that would be missed (`binlog.enable`), it is refused as not supported.

use crate::error::{Error, Result};

/// The keys and what they may be, sorted.
const INERT: [(&str, Shape); 43] = [
    ("_auto_bucket", Shape::Never("buckets that follow the size of the data")),
    ("binlog.enable", Shape::Never("a binlog of the table")),
    ("binlog.max_bytes", Shape::AtLeast(0)),
    ("binlog.max_history_nums", Shape::AtLeast(0)),
    ("binlog.ttl_seconds", Shape::AtLeast(0)),
    ("bloom_filter_columns", Shape::Any),
    ("bloom_filter_fpp", Shape::Fpp),
    ("compaction_policy", Shape::OneOf("compaction policy", &["size_based", "time_series"])),
    ("compression", Shape::Compression),
    ("disable_auto_compaction", Shape::Bool),
    ("enable_duplicate_without_keys_by_default", Shape::Bool),
    ("enable_mow_light_delete", Shape::Bool),
    ("enable_persistent_index", Shape::Bool),
    ("enable_single_replica_compaction", Shape::Bool),
    ("enable_unique_key_merge_on_write", Shape::Bool),
    ("estimate_partition_size", Shape::Any),
    ("fast_schema_evolution", Shape::Bool),
    ("file_cache_ttl_seconds", Shape::AtLeast(0)),
    ("group_commit_data_bytes", Shape::AtLeast(0)),
    ("group_commit_interval_ms", Shape::AtLeast(0)),
    ("in_memory", Shape::Bool),
    ("inverted_index_storage_format", Shape::OneOf("inverted index storage format", &["V1", "V2", "V3", "DEFAULT"])),
    ("is_being_synced", Shape::Bool),
    ("light_schema_change", Shape::Bool),
    ("min_load_replica_num", Shape::AtLeast(-1)),
    ("persistent_index_type", Shape::OneOf("persistent index type", &["LOCAL", "CLOUD_NATIVE"])),
    ("replicated_storage", Shape::Bool),
    ("row_store_columns", Shape::Any),
    ("row_store_page_size", Shape::AtLeast(0)),
    ("skip_write_index_on_load", Shape::Bool),
    ("storage_cooldown_time", Shape::Any),
    ("storage_format", Shape::OneOf("storage format", &["V2", "V3", "DEFAULT"])),
    ("storage_medium", Shape::OneOf("storage medium", &["HDD", "SSD"])),
    ("storage_page_size", Shape::AtLeast(0)),
    ("storage_type", Shape::OneOf("storage type", &["COLUMN", "COLUMN_WITH_ROW"])),
    ("store_row_column", Shape::Bool),
    ("time_series_compaction_empty_rowsets_threshold", Shape::AtLeast(0)),
    ("time_series_compaction_file_count_threshold", Shape::AtLeast(0)),
    ("time_series_compaction_goal_size_mbytes", Shape::AtLeast(0)),
    ("time_series_compaction_level_threshold", Shape::AtLeast(0)),
    ("time_series_compaction_time_threshold_seconds", Shape::AtLeast(0)),
    ("variant_enable_flatten_nested", Shape::Bool),
    ("write_quorum", Shape::OneOf("write quorum", &["MAJORITY", "ONE", "ALL"])),
];
/// What a column's bytes may be packed with elsewhere.
const COMPRESSIONS: [&str; 10] =
    ["DEFAULT_COMPRESSION", "GZIP", "LZ4", "LZ4F", "LZ4HC", "LZ4_FRAME", "NO_COMPRESSION", "SNAPPY", "ZLIB", "ZSTD"];
/// The bounds of a bloom filter's rate of false answers.
const FPP: std::ops::RangeInclusive<f64> = 0.0001..=0.05;

/// What the value of a property may be.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    Any,
    Bool,
    /// `false` alone; for what it would ask otherwise.
    Never(&'static str),
    Text,
    TimeUnit,
    AtLeast(i64),
    AtMost(i64),
    Between(i64, i64),
    /// What it is called, and the words.
    OneOf(&'static str, &'static [&'static str]),
    Compression,
    Fpp,
}

impl Shape {
    /// Refuse what is no such value.
    pub(super) fn check(self, key: &str, value: &str) -> Result<()> {
        let given = value.trim();
        let number = given.parse::<i64>().ok();
        let is_in = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(given));
        let (fits, wanted) = match self {
            Shape::Any => return Ok(()),
            Shape::Never(what) if is_in(&["true"]) => {
                return Err(Error::not_supported(format!("{key} = 'true' is not supported: there is not {what}")));
            }
            Shape::OneOf(what, words) => {
                let wrong = || Err(Error::invalid(format!("Invalid {key}: '{value}': {what} is {}", words.join(", "))));
                return if is_in(words) { Ok(()) } else { wrong() };
            }
            Shape::Compression => (is_compression(given), COMPRESSIONS.join(", ")),
            Shape::Fpp => {
                let fits = given.parse::<f64>().is_ok_and(|fpp| FPP.contains(&fpp));
                (fits, format!("a number from {} to {}", FPP.start(), FPP.end()))
            }
            Shape::Text => (!value.is_empty(), "a text".to_owned()),
            Shape::Bool | Shape::Never(_) => (is_in(&["true", "false"]), "true or false".to_owned()),
            Shape::TimeUnit => {
                (is_in(&["HOUR", "DAY", "WEEK", "MONTH", "YEAR"]), "HOUR, DAY, WEEK, MONTH or YEAR".to_owned())
            }
            Shape::AtLeast(least) => {
                (number.is_some_and(|number| number >= least), format!("a number from {least} on"))
            }
            Shape::AtMost(most) => (number.is_some_and(|number| number <= most), format!("a number up to {most}")),
            Shape::Between(least, most) => (
                number.is_some_and(|number| (least..=most).contains(&number)),
                format!("a number from {least} to {most}"),
            ),
        };
        if fits { Ok(()) } else { Err(Error::invalid(format!("Invalid {key}: '{value}' is not {wanted}"))) }
    }
}

/// One of the list; `zstd(3)` and `zlib(3)` name a level.
fn is_compression(given: &str) -> bool {
    let (name, level) = match given.strip_suffix(')').and_then(|rest| rest.split_once('(')) {
        Some((name, level)) => (name.trim(), level.trim().parse::<u8>().is_ok()),
        None => (given, true),
    };
    level && COMPRESSIONS.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Whether a key is one of these.
pub(super) fn is_known(key: &str) -> bool {
    find(key).is_some()
}

fn find(key: &str) -> Option<Shape> {
    INERT.binary_search_by_key(&key, |(known, _)| *known).ok().map(|at| INERT[at].1)
}

/// Check a key that is of this list or of none, and its value.
pub(super) fn check(key: &str, value: &str) -> Result<()> {
    match find(key) {
        Some(shape) => shape.check(key, value),
        None => Err(Error::invalid(format!("Unknown properties: {{{key}={value}}}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn values_are_those_that_mean_something() {
        for (key, value) in [
            ("storage_medium", "ssd"),
            ("storage_format", "default"),
            ("compression", "zstd(3)"),
            ("compression", "LZ4"),
            ("light_schema_change", "True"),
            ("bloom_filter_fpp", "0.05"),
            ("bloom_filter_fpp", "0.0001"),
            ("binlog.enable", "false"),
            ("binlog.ttl_seconds", "86400"),
            ("_auto_bucket", "false"),
            ("enable_persistent_index", "true"),
            ("replicated_storage", "false"),
            ("fast_schema_evolution", "true"),
            ("estimate_partition_size", "10G"),
        ] {
            assert_eq!(check(key, value), Ok(()), "{key}");
        }
    }

    #[test]
    fn wrong_values_are_named() {
        for (key, value, says) in [
            ("storage_medium", "floppy", "HDD, SSD"),
            ("storage_format", "V1", "V2, V3"),
            ("compression", "rar", "ZSTD"),
            ("compression", "zstd(x)", "ZSTD"),
            ("light_schema_change", "1", "true or false"),
            ("bloom_filter_fpp", "0.5", "0.0001 to 0.05"),
            ("bloom_filter_fpp", "x", "0.0001 to 0.05"),
            ("binlog.ttl_seconds", "-1", "from 0 on"),
            ("min_load_replica_num", "x", "from -1 on"),
        ] {
            let error = check(key, value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.message().starts_with(&format!("Invalid {key}: '{value}'")), "{error}");
            assert!(error.message().contains(says), "{error}");
        }
        for key in ["binlog.enable", "_auto_bucket"] {
            assert_eq!(check(key, "TRUE").unwrap_err().kind(), ErrorKind::NotSupported);
            assert!(check(key, "1").unwrap_err().message().contains("true or false"));
        }
        assert_eq!(check("binlog.x", "1").unwrap_err().message(), "Unknown properties: {binlog.x=1}");
    }

    #[test]
    fn the_lists_are_sorted() {
        assert!(INERT.is_sorted_by_key(|(key, _)| *key));
        assert!(COMPRESSIONS.is_sorted());
    }
}
