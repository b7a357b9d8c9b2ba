//! Names that belong to the system, and addresses. The form of names is checked by the parser.

use crate::error::{Error, Result};

/// Names that are taken by the system.
pub const INFORMATION_SCHEMA: &str = "information_schema";
const RESERVED_DATABASES: [&str; 3] = [INFORMATION_SCHEMA, "mysql", "__internal_schema"];

/// Whether a database of this name is made by the system, and read only.
pub fn is_system_database(name: &str) -> bool {
    name.eq_ignore_ascii_case(INFORMATION_SCHEMA)
}

/// CREATE DATABASE of a name that the system has taken.
pub fn check_not_reserved(name: &str) -> Result<()> {
    if RESERVED_DATABASES.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
        return Err(crate::error::database_exists(name));
    }
    Ok(())
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
    fn reserved_names_are_refused() {
        assert_eq!(check_not_reserved("Information_Schema").unwrap_err().number(), 1007);
        assert_eq!(check_not_reserved("db"), Ok(()));
        assert!(is_system_database("INFORMATION_SCHEMA") && !is_system_database("db"));
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        assert_eq!(host_and_port("be-1.example:9050"), Ok(("be-1.example".to_owned(), 9050)));
        for bad in ["be", ":1", "h:0", "h:65536", "h:x", "a b:1", ""] {
            assert!(host_and_port(bad).unwrap_err().message().contains("not host:port"), "{bad}");
        }
    }
}
