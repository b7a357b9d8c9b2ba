//! What tests ask of their surroundings: servers that `tests/run` started, told in environment variables.
//!
//! A test that cannot have its server is skipped by name: a line in the file `COFFER_TEST_SKIPS`, which `tests/run` shows
//! at its end, and on standard error. With `CI=true` it fails instead.

use std::io::Write;

/// The value of `variable`, which a server's start sets; without it the test `test` is reported as skipped.
///
/// # Panics
/// With `CI=true`, when the variable is not set: there a missing server is a failure.
pub fn server(variable: &str, test: &str) -> Option<String> {
    if let Some(value) = std::env::var(variable).ok().filter(|value| !value.is_empty()) {
        return Some(value);
    }
    let reason = format!("no server: {variable} is not set (tests/run starts the servers)");
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{test}: {reason}");
    skip(test, &reason);
    None
}

/// Report a test as skipped.
pub fn skip(test: &str, reason: &str) {
    // Neither report is worth failing a test for.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
    if let Some(path) = std::env::var_os("COFFER_TEST_SKIPS")
        && let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path)
    {
        let _ = file.write_all(format!("{test}: {reason}\n").as_bytes());
    }
}
