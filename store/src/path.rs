//! Paths of objects: relative, `/`-separated, no empty segment, no `.` or `..`, so that no path leaves its location.
//! Everything else may appear in a name, spaces, `%2F` and leading dots included.

use coffer_stdx::{Error, Result};

/// How names of temporary files begin; no segment of an object path may.
pub const TEMPORARY: &str = ".coffer-tmp-";

/// Longest path, bytes. S3 allows 1024 for location and path together.
pub const MAX_PATH_BYTES: usize = 900;
/// Longest segment, bytes; what Linux file systems allow less room for a temporary suffix.
pub const MAX_SEGMENT_BYTES: usize = 200;

/// Check the path of an object.
pub fn check(path: &str) -> Result<()> {
    let fault = if path.is_empty() {
        "is empty"
    } else if path.len() > MAX_PATH_BYTES {
        "is longer than 900 bytes"
    } else if path.chars().any(char::is_control) {
        "has a control character"
    } else {
        match path.split('/').find_map(segment_fault) {
            Some(fault) => fault,
            None => return Ok(()),
        }
    };
    Err(Error::invalid(format!("object path '{}' {fault}", path.escape_debug())))
}

/// Check the path of a folder: that of an object, or `""` for the location itself.
pub fn check_prefix(prefix: &str) -> Result<()> {
    if prefix.is_empty() { Ok(()) } else { check(prefix) }
}

/// `prefix/name`, or just `name` below the location itself.
pub fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") }
}

fn segment_fault(segment: &str) -> Option<&'static str> {
    match segment {
        "" => Some("has an empty segment"),
        "." | ".." => Some("has a '.' or '..' segment"),
        temporary if temporary.starts_with(TEMPORARY) => Some("has a segment that is reserved for temporary files"),
        long if long.len() > MAX_SEGMENT_BYTES => Some("has a segment longer than 200 bytes"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_fine() {
        for path in ["a", "a/b", "a b/ü/%2F", ".hidden/..x", "a\\b", "C:", &"x".repeat(200)] {
            check(path).unwrap();
        }
        check_prefix("").unwrap();
    }

    #[test]
    fn paths_that_could_leave_the_location_are_refused() {
        let long = vec!["x".repeat(100); 10].join("/");
        for path in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "a/./b",
            "a\0",
            "a\nb",
            "a/.coffer-tmp-1",
            &"x".repeat(201),
            &long,
        ] {
            assert!(check(path).is_err(), "{path}");
        }
    }

    #[test]
    fn joining_at_the_location_adds_no_slash() {
        assert_eq!(join("", "a"), "a");
        assert_eq!(join("a", "b/c"), "a/b/c");
    }
}
