//! Labels of loads: what they may look like.

use coffer_stdx::{Error, Result};

/// Longest label, characters.
const MAX_CHARS: usize = 128;

/// Whether a label is well-formed: 1 to 128 of letters, digits, `-`, `_`, `:` and `.`.
pub(super) fn check(label: &str) -> Result<()> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-_:.".contains(character);
    if (1..=MAX_CHARS).contains(&label.len()) && label.chars().all(allowed) {
        return Ok(());
    }
    Err(Error::invalid(format!("Label format error. regex: ^[-_A-Za-z0-9:.]{{1,{MAX_CHARS}}}$, label: {label}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_the_known_rule() {
        for label in ["a", "load_2024-01-01", "a:b.c", &"x".repeat(128)] {
            assert_eq!(check(label), Ok(()), "{label}");
        }
        for label in ["", "a b", "ü", "a/b", &"x".repeat(129)] {
            assert!(check(label).unwrap_err().message().starts_with("Label format error. regex:"), "{label}");
        }
    }
}
