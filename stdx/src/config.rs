//! Configuration files: TOML into a struct whose every field has a default; unknown keys are refused by name.

use crate::error::{Context, Error, Result};
use serde::de::DeserializeOwned;
use std::path::Path;

/// Read a TOML file. The struct should carry `#[serde(default, deny_unknown_fields)]`.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).context(|| format!("read config {}", path.display()))?;
    toml::from_str(&text).map_err(|error| Error::invalid(format!("config {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        port: u16,
    }

    #[test]
    fn unknown_keys_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, "port = 1\n").unwrap();
        assert_eq!(load::<Sample>(&path).unwrap().port, 1);
        std::fs::write(&path, "prot = 1\n").unwrap();
        let error = load::<Sample>(&path).unwrap_err();
        assert!(error.message().contains("prot"), "{error}");
    }
}
