//! ADMIN SHOW and SET FRONTEND CONFIG: the configuration of the frontend that is asked. What is set holds until it stops; the
//! file is the operator's.

use crate::config::{Config, MUTABLE};
use crate::error::Result;
use crate::exec::answer::{Answer, RowSet};
use crate::exec::context::Context;
use crate::exec::filter::like;
use crate::sql::ast::Properties;
use coffer_stdx::secret::{MASK, is_secret_key};
use serde_json::Value;

/// The example configuration explains every option.
const EXAMPLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/config/fe.toml"));

/// ADMIN SHOW FRONTEND CONFIG.
pub(super) fn show(context: &Context, pattern: Option<&str>) -> RowSet {
    let mut set = RowSet::new(["Key", "Value", "Type", "IsMutable", "MasterOnly", "Comment"]);
    for (key, value) in options(&context.config) {
        if pattern.is_none_or(|pattern| like(pattern, &key)) {
            let kind = match value {
                Value::Number(_) => "long",
                Value::Bool(_) => "boolean",
                Value::Array(_) => "String[]",
                Value::Null | Value::String(_) | Value::Object(_) => "String",
            };
            let mutable = MUTABLE.contains(&key.as_str());
            let comment = comment_of(&key);
            let text = if is_secret_key(&key) { MASK.to_owned() } else { plain(&value) };
            set.push([key, text, kind.to_owned(), mutable.to_string(), "false".to_owned(), comment]);
        }
    }
    set
}

/// ADMIN SET FRONTEND CONFIG: all of them, or none.
pub(super) fn set(context: &Context, wanted: &Properties) -> Result<Answer> {
    let changed = Config::clone(&context.config);
    for (key, value) in wanted {
        changed.set(key, value)?;
    }
    changed.check()?;
    for (key, value) in wanted {
        context.config.set(key, value)?;
        tracing::info!(option = key, value, "configuration changed");
    }
    Ok(Answer::ok())
}

/// Every option, sorted, those of a table as `table.key`.
fn options(config: &Config) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    if let Ok(Value::Object(fields)) = serde_json::to_value(config) {
        for (key, value) in fields {
            match value {
                Value::Object(inner) => {
                    found.extend(inner.into_iter().map(|(name, value)| (format!("{key}.{name}"), value)));
                }
                value => found.push((key, value)),
            }
        }
    }
    found.sort_by(|(left, _), (right, _)| left.cmp(right));
    found
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// What the example configuration says beside an option, or in the lines above it.
fn comment_of(key: &str) -> String {
    let name = key.rsplit('.').next().unwrap_or(key);
    let mut above = Vec::new();
    for line in EXAMPLE.lines() {
        let option = line.split_once('=').map(|(option, _)| option.trim());
        if option == Some(name) {
            let beside = line.split_once(" # ").map(|(_, comment)| comment.trim().to_owned());
            return beside.unwrap_or_else(|| above.join(" "));
        }
        match line.strip_prefix('#') {
            Some(comment) => above.push(comment.trim()),
            None => above.clear(),
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_listed_with_its_comment() {
        let config = Config::default();
        let options = options(&config);
        assert!(options.is_sorted_by_key(|(key, _)| key.clone()));
        for key in MUTABLE {
            assert!(options.iter().any(|(known, _)| known == key), "{key}");
        }
        for (key, _) in &options {
            assert!(!key.starts_with('#') && (key.ends_with("_listen") || !comment_of(key).is_empty()), "{key}");
        }
        assert_eq!(comment_of("default_buckets"), "buckets when the statement does not say");
        assert!(comment_of("meta_dir").starts_with("The Raft log"));
        assert_eq!(plain(&serde_json::json!(["a", 1])), "a, 1");
    }
}
