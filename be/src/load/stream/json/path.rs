//! Places in JSON documents: `$.a.b[0]["c d"]`.

use super::value::{Value, elements, members};
use coffer_stdx::{Error, Result};

/// A place; it borrows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl Path {
    /// Read a path.
    pub fn parse(text: &str) -> Result<Path> {
        let wrong = || Error::invalid(format!("'{text}' is no JSON path; write $.a.b[0]"));
        let mut rest = text.trim().strip_prefix('$').ok_or_else(wrong)?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                if end == 0 {
                    return Err(wrong());
                }
                steps.push(Step::Key(after[..end].to_owned()));
                rest = &after[end..];
                continue;
            }
            let (inside, after) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).ok_or_else(wrong)?;
            let quoted = |quote| inside.strip_prefix(quote).and_then(|inside: &str| inside.strip_suffix(quote));
            steps.push(match quoted('"').or_else(|| quoted('\'')) {
                Some(key) => Step::Key(key.to_owned()),
                None if inside == "*" => {
                    return Err(Error::not_supported(format!("[*] in the JSON path '{text}' is not supported")));
                }
                None => Step::Index(inside.parse().map_err(|_| wrong())?),
            });
            rest = after;
        }
        Ok(Path { steps })
    }

    /// What is at this place; `None` when there is nothing.
    pub fn find<'a>(&self, document: &Value<'a>) -> Result<Option<Value<'a>>> {
        let mut at = document.clone();
        for step in &self.steps {
            let next = match (step, at) {
                (Step::Key(key), Value::Object(text)) => {
                    members(text)?.into_iter().find(|(name, _)| name == key).map(|(_, value)| value)
                }
                (Step::Index(index), Value::Array(text)) => elements(text)?.into_iter().nth(*index),
                _ => None,
            };
            match next {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::document;
    use super::*;

    #[test]
    fn paths_lead_to_values() {
        let json = r#"{"a": {"b c": [10, {"d": "x"}]}, "e": null}"#;
        let find = |path: &str| {
            let found = Path::parse(path).unwrap().find(&document(json).unwrap()).unwrap();
            found.map(|value| value.field().map(|text| String::from_utf8_lossy(text).into_owned()))
        };
        assert_eq!(find("$.a[\"b c\"][0]"), Some(Some("10".to_owned())));
        assert_eq!(find("$['a'].b c[1].d"), Some(Some("x".to_owned())));
        assert_eq!(find("$.e"), Some(None));
        assert_eq!(find("$.a.x"), None);
        assert_eq!(find("$.e.x"), None);
        assert_eq!(find("$.a[0]"), None);
        assert_eq!(find(" $"), Some(Some(json.to_owned())));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in ["", "a.b", "$..a", "$.", "$[", "$[x]", "$a"] {
            assert!(Path::parse(text).unwrap_err().message().contains("is no JSON path"), "{text}");
        }
        assert!(Path::parse("$.a[*]").unwrap_err().message().contains("[*]"));
    }
}
