//! Which names objects may have, and the errors for those they may not.

use crate::error::{Error, Result, number};
use crate::limits;

/// Names that are taken by the system.
pub const INFORMATION_SCHEMA: &str = "information_schema";
const RESERVED_DATABASES: [&str; 3] = [INFORMATION_SCHEMA, "mysql", "__internal_schema"];
const RESERVED_PARTITION_PREFIX: &str = "placeholder_";
const NAME_RULE: &str = "^[a-zA-Z][a-zA-Z0-9-_]{0,63}$";

/// Whether a database of this name is made by the system, and read only.
pub fn is_system_database(name: &str) -> bool {
    name.eq_ignore_ascii_case(INFORMATION_SCHEMA)
}

/// CREATE DATABASE.
pub fn check_database(name: &str) -> Result<()> {
    if RESERVED_DATABASES.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
        return Err(crate::error::database_exists(name));
    }
    if is_name(name) {
        return Ok(());
    }
    Err(Error::invalid(format!("Incorrect database name '{name}'. Database name regex is '{NAME_RULE}'"))
        .numbered(number::BAD_DATABASE_NAME))
}

/// CREATE TABLE.
pub fn check_table(name: &str) -> Result<()> {
    if is_name(name) {
        return Ok(());
    }
    Err(Error::invalid(format!("Incorrect table name '{name}'. Table name regex is '{NAME_RULE}'"))
        .numbered(number::BAD_TABLE_NAME))
}

/// A column of CREATE TABLE: nearly anything that can be quoted.
pub fn check_column(name: &str) -> Result<()> {
    let starts = name.chars().next().is_some_and(|first| first.is_alphanumeric() || first == '_' || first == '@');
    let fits = name.chars().count() <= limits::MAX_COLUMN_NAME_CHARS;
    if starts && fits && !name.ends_with(' ') && !name.chars().any(|c| c.is_control() || c == '`') {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Incorrect column name '{name}': it starts with a letter, a digit, _ or @, and has at most {} characters",
        limits::MAX_COLUMN_NAME_CHARS
    ))
    .numbered(number::BAD_COLUMN_NAME))
}

/// A partition of CREATE TABLE.
pub fn check_partition(name: &str) -> Result<()> {
    if name.to_ascii_lowercase().starts_with(RESERVED_PARTITION_PREFIX) {
        return Err(Error::invalid(format!(
            "Incorrect partition name '{name}': names that start with {RESERVED_PARTITION_PREFIX} are reserved"
        )));
    }
    if is_name(name) {
        return Ok(());
    }
    Err(Error::invalid(format!("Incorrect partition name '{name}'. Partition name regex is '{NAME_RULE}'")))
}

/// A broker name of ALTER SYSTEM.
pub fn check_broker(name: &str) -> Result<()> {
    if is_name(name) {
        return Ok(());
    }
    Err(Error::invalid(format!("Incorrect broker name '{name}'. Broker name regex is '{NAME_RULE}'")))
}

fn is_name(name: &str) -> bool {
    name.len() <= limits::MAX_NAME_CHARS
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// "host:port" of ALTER SYSTEM.
pub fn host_and_port(address: &str) -> Result<(String, u16)> {
    let wrong = |why: &str| Error::invalid(format!("address '{address}' is not host:port: {why}"));
    let (host, port) = address.trim().rsplit_once(':').ok_or_else(|| wrong("the port is missing"))?;
    if host.is_empty() || host.len() > 253 {
        return Err(wrong("the host is missing or too long"));
    }
    if !host.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-' || c == '_') {
        return Err(wrong("a host has letters, digits, dots and dashes"));
    }
    let port =
        port.parse().ok().filter(|port| *port != 0).ok_or_else(|| wrong("a port is a number from 1 to 65535"))?;
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_start_with_a_letter_and_are_short() {
        for good in ["a", "Line_item-2", &"x".repeat(64)] {
            assert_eq!(check_database(good), Ok(()));
            assert_eq!(check_table(good), Ok(()));
            assert_eq!(check_partition(good), Ok(()));
            assert_eq!(check_broker(good), Ok(()));
        }
        for bad in ["", "1a", "_a", "a.b", "a b", "é", &"x".repeat(65)] {
            assert_eq!(check_database(bad).unwrap_err().number(), 1102, "{bad}");
            assert_eq!(check_table(bad).unwrap_err().number(), 1103, "{bad}");
            assert!(check_partition(bad).unwrap_err().message().contains("Incorrect partition name"), "{bad}");
            assert!(check_broker(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reserved_names_are_refused() {
        assert_eq!(check_database("Information_Schema").unwrap_err().number(), 1007);
        assert!(is_system_database("INFORMATION_SCHEMA"));
        assert!(check_partition("Placeholder_1").unwrap_err().message().contains("reserved"));
    }

    #[test]
    fn columns_are_liberal() {
        for good in ["a", "_x", "@v", "1st", "größe in €", "a.b"] {
            assert_eq!(check_column(good), Ok(()), "{good}");
        }
        for bad in ["", " a", "a ", "-a", "a`b", "a\nb", &"x".repeat(257)] {
            assert_eq!(check_column(bad).unwrap_err().number(), 1166, "{bad}");
        }
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        assert_eq!(host_and_port("be-1.example:9050"), Ok(("be-1.example".to_owned(), 9050)));
        for bad in ["be", ":1", "h:0", "h:65536", "h:x", "a b:1", ""] {
            assert!(host_and_port(bad).unwrap_err().message().contains("not host:port"), "{bad}");
        }
    }
}
