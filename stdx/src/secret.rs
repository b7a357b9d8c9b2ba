//! Values that never print.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A string whose `Debug` and `Display` hide it. `Serialize` writes it: only for stores that may hold it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wrap a value.
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(value.into())
    }

    /// The value; the caller must not print it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// What a secret prints as.
pub const MASK: &str = "*XXX";

/// Whether the value of a storage property must not be shown: keys, passwords, tokens, keytabs.
pub fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["secret", "password", "access_key", "accesskey", "access.key", "token", "keytab", "private"]
        .iter()
        .any(|part| key.contains(part))
}

/// The properties with secret values replaced by [`MASK`].
pub fn masked(properties: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    properties
        .iter()
        .map(|(key, value)| (key.clone(), if is_secret_key(key) { MASK.to_owned() } else { value.clone() }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*XXX *XXX");
        assert_eq!(secret.reveal(), "hunter2");
    }

    #[test]
    fn secret_keys_are_masked_and_others_shown() {
        for key in ["s3.secret_key", "AWS_ACCESS_KEY", "password", "s3.session_token", "bos_secret_accesskey"] {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["s3.endpoint", "AWS_REGION", "username", "use_path_style"] {
            assert!(!is_secret_key(key), "{key}");
        }
    }
}
