//! The form of names and labels. Checked where a thing gets its name, so that a name in use is always well-formed.

use crate::error::{Error, Result, number};

/// What a label may look like.
pub const LABEL_PATTERN: &str = "^[-_A-Za-z0-9:]{1,128}$";
/// What the name of a database, partition, repository or broker may look like.
pub const COMMON_PATTERN: &str = "^[a-zA-Z][a-zA-Z0-9-_]{0,63}$";
/// What a table's name may look like.
pub const TABLE_PATTERN: &str = "^[a-zA-Z][a-zA-Z0-9-_]*$";
/// Longest table name.
pub const MAX_TABLE_NAME: usize = 64;
/// What a column's name may look like.
pub const COLUMN_PATTERN: &str = "^[_a-zA-Z@0-9][.a-zA-Z0-9_+-/?@#$%^&*\"\\s,:]{0,255}$";
const RESERVED_PARTITION_PREFIX: &str = "placeholder_";

/// A snapshot's or load's label.
pub fn check_label(label: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':');
    if (1..=128).contains(&label.len()) && label.bytes().all(good) {
        return Ok(());
    }
    Err(Error::invalid(format!("Label format error. regex: {LABEL_PATTERN}, label: {label}")))
}

/// A database's name.
pub fn check_database(name: &str) -> Result<()> {
    if is_common(name) {
        return Ok(());
    }
    Err(Error::invalid(format!("Incorrect database name '{name}'. Database name regex is '{COMMON_PATTERN}'"))
        .numbered(number::BAD_DATABASE_NAME))
}

/// A table's name.
pub fn check_table(name: &str) -> Result<()> {
    if is_word(name) && name.len() <= MAX_TABLE_NAME {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Incorrect table name '{name}'. Table name regex is '{TABLE_PATTERN}', at most {MAX_TABLE_NAME} characters"
    ))
    .numbered(number::BAD_TABLE_NAME))
}

/// A partition's name.
pub fn check_partition(name: &str) -> Result<()> {
    if name.get(..RESERVED_PARTITION_PREFIX.len()).is_some_and(|p| p.eq_ignore_ascii_case(RESERVED_PARTITION_PREFIX)) {
        return Err(Error::invalid(format!(
            "Incorrect partition name '{name}'. Names that begin with {RESERVED_PARTITION_PREFIX} are reserved"
        )));
    }
    check_common("partition", name)
}

/// A repository's, broker's or other thing's name.
pub fn check_common(what: &str, name: &str) -> Result<()> {
    if is_common(name) {
        return Ok(());
    }
    Err(Error::invalid(format!("Incorrect {what} name '{name}'. The name must match '{COMMON_PATTERN}'")))
}

/// A column's name.
pub fn check_column(name: &str) -> Result<()> {
    let first = |c: char| c.is_alphanumeric() || matches!(c, '_' | '@');
    let other = |c: char| c.is_alphanumeric() || c.is_ascii_whitespace() || "._+-/?@#$%^&*\",:".contains(c);
    let mut chars = name.chars();
    let good = chars.next().is_some_and(first) && chars.all(other) && name.chars().count() <= 256;
    if good {
        return Ok(());
    }
    Err(Error::invalid(format!("Incorrect column name '{name}'. Column regex is '{COLUMN_PATTERN}'"))
        .numbered(number::BAD_COLUMN_NAME))
}

fn is_word(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn is_common(name: &str) -> bool {
    is_word(name) && name.len() <= 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for good in ["a", "20240101", "snap-1_x:y", &"a".repeat(128)] {
            assert!(check_label(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "ä", "a.b", &"a".repeat(129)] {
            assert!(check_label(bad).unwrap_err().message().starts_with("Label format error. regex: "), "{bad}");
        }
    }

    #[test]
    fn names() {
        let long = "a".repeat(65);
        for bad in ["", "1a", "_a", "a.b", "a b", "é", &long] {
            assert!(check_database(bad).unwrap_err().message().starts_with("Incorrect database name"), "{bad}");
            assert!(check_table(bad).unwrap_err().message().starts_with("Incorrect table name"), "{bad}");
            assert!(check_partition(bad).unwrap_err().message().starts_with("Incorrect partition name"), "{bad}");
        }
        for good in ["a", "A-b_1"] {
            assert!(check_database(good).is_ok() && check_table(good).is_ok() && check_partition(good).is_ok());
        }
        assert!(check_partition("Placeholder_1").is_err());
        assert!(check_partition("placeholder").is_ok());
    }

    #[test]
    fn columns() {
        for good in ["a", "_x", "@x", "1", "größe", "a b", "a.b"] {
            assert!(check_column(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a;b", "a`b", "a'b"] {
            assert!(check_column(bad).is_err(), "{bad}");
        }
    }
}
