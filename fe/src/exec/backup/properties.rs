//! PROPERTIES of BACKUP and RESTORE: known keys, values and texts. Pure.

use crate::error::{Error, Result};
use crate::sql::ast::Properties;

/// Shortest timeout of a job.
const MIN_TIMEOUT_S: u64 = 600;

/// The seconds of a `timeout` property.
pub fn timeout(value: Option<String>, default: u64) -> Result<u64> {
    let Some(value) = value else { return Ok(default) };
    let seconds: u64 = value.trim().parse().map_err(|_| Error::invalid(format!("Invalid timeout format: {value}")))?;
    if seconds < MIN_TIMEOUT_S {
        return Err(Error::invalid("timeout must be at least 10 min"));
    }
    Ok(seconds)
}

/// Keys are known in any case.
pub fn lower_keys(properties: &Properties) -> Properties {
    properties.iter().map(|(key, value)| (key.to_ascii_lowercase(), value.clone())).collect()
}

/// Refuse keys that nobody asked for.
pub fn none_left(kind: &str, properties: &Properties) -> Result<()> {
    if properties.is_empty() {
        return Ok(());
    }
    let keys: Vec<&str> = properties.keys().map(String::as_str).collect();
    Err(Error::invalid(format!("Unknown {kind} job properties: [{}]", keys.join(", "))))
}

/// Checked properties of a BACKUP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupOptions {
    /// Seconds.
    pub timeout_s: u64,
    /// Tables without their rows.
    pub metadata_only: bool,
}

/// Check the properties of a BACKUP.
pub fn for_backup(properties: &Properties, default_timeout_s: u64) -> Result<BackupOptions> {
    let mut left = lower_keys(properties);
    match left.remove("type").map(|value| (value.to_ascii_lowercase(), value)) {
        None => {}
        Some((kind, _)) if kind == "full" => {}
        Some((kind, _)) if kind == "incremental" => {
            return Err(Error::not_supported("Currently does not support incremental backup"));
        }
        Some((_, value)) => return Err(Error::invalid(format!("Invalid backup job type: {value}"))),
    }
    let timeout_s = timeout(left.remove("timeout"), default_timeout_s)?;
    let metadata_only = match left.remove("content").map(|value| (value.to_ascii_lowercase(), value)) {
        None => false,
        Some((content, _)) if content == "all" => false,
        Some((content, _)) if content == "metadata_only" => true,
        Some((_, value)) => return Err(Error::invalid(format!("Invalid backup job content:{value}"))),
    };
    none_left("backup", &left)?;
    Ok(BackupOptions { timeout_s, metadata_only })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<BackupOptions, String> {
        let properties = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        for_backup(&properties, 86_400).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn known_properties_are_taken_in_any_case() {
        let options = |timeout_s, metadata_only| Ok(BackupOptions { timeout_s, metadata_only });
        assert_eq!(read(&[]), options(86_400, false));
        assert_eq!(read(&[("TYPE", "FULL"), ("Timeout", "600"), ("content", "All")]), options(600, false));
        assert_eq!(read(&[("content", "METADATA_ONLY")]), options(86_400, true));
    }

    #[test]
    fn others_are_refused_with_the_known_texts() {
        for (key, value, text) in [
            ("type", "incremental", "Currently does not support incremental backup"),
            ("type", "x", "Invalid backup job type: x"),
            ("timeout", "599", "timeout must be at least 10 min"),
            ("timeout", "1h", "Invalid timeout format: 1h"),
            ("content", "some", "Invalid backup job content:some"),
            ("colour", "blue", "Unknown backup job properties: [colour]"),
        ] {
            assert_eq!(read(&[(key, value)]), Err(text.to_owned()));
        }
    }
}
