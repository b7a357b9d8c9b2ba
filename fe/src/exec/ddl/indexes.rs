//! INDEX in CREATE TABLE: checked, kept as it is written, shown, and without effect. Pure.
//!
//! Definitions are kept among the properties of a table, under keys that no statement can give (`index:` and a number), so
//! that whatever carries those carries them: the log, the image, backups. Tables only skip what their key and their ranges
//! tell; an index would make some queries faster and none different.

use crate::error::{Error, Result, number};
use crate::exec::text::quoted;
use crate::limits;
use crate::sql::ast::{Index, Properties};
use coffer_mysql::quote_identifier;
use coffer_table::Schema;
use std::collections::BTreeMap;

/// How the keys begin; no property that a statement may give does.
const PREFIX: &str = "index:";

/// The definitions as properties of the table, in their order.
pub(super) fn kept(indexes: &[Index], schema: &Schema) -> Result<Properties> {
    if indexes.len() > limits::MAX_INDEXES {
        return Err(Error::limit(format!("a table has at most {} indexes", limits::MAX_INDEXES)));
    }
    let mut kept = Properties::new();
    for (at, index) in indexes.iter().enumerate() {
        let name = &index.name;
        if indexes[..at].iter().any(|other| other.name.eq_ignore_ascii_case(name)) {
            return Err(Error::invalid(format!("Duplicate key name '{name}'")).numbered(number::DUPLICATE_INDEX));
        }
        for column in &index.columns {
            if schema.index_of(column).is_none() {
                return Err(Error::invalid(format!(
                    "Column does not exist in table. invalid column: {column}, index '{name}'"
                ))
                .numbered(number::KEY_COLUMN_NOT_THERE));
            }
        }
        let written = written(index);
        if written.len() > limits::MAX_TEXT_BYTES {
            return Err(Error::limit(format!("the definition of index '{name}' is too long")));
        }
        kept.insert(format!("{PREFIX}{at:03}"), written);
    }
    Ok(kept)
}

/// A definition as it can be read again.
fn written(index: &Index) -> String {
    let columns: Vec<String> = index.columns.iter().map(|name| quote_identifier(name)).collect();
    let mut out = format!("INDEX {} ({})", quote_identifier(&index.name), columns.join(", "));
    if let Some(kind) = index.kind {
        out.push_str(&format!(" USING {kind}"));
    }
    if !index.properties.is_empty() {
        let pairs: Vec<String> =
            index.properties.iter().map(|(key, value)| format!("{} = {}", quoted(key), quoted(value))).collect();
        out.push_str(&format!(" PROPERTIES({})", pairs.join(", ")));
    }
    if !index.comment.is_empty() {
        out.push_str(&format!(" COMMENT {}", quoted(&index.comment)));
    }
    out
}

/// The definitions in a table's properties, and its other properties.
pub(in crate::exec) fn index_definitions(
    properties: &BTreeMap<String, String>,
) -> (Vec<&str>, Vec<(&String, &String)>) {
    let (indexes, others): (Vec<_>, Vec<_>) = properties.iter().partition(|(key, _)| key.starts_with(PREFIX));
    (indexes.into_iter().map(|(_, written)| written.as_str()).collect(), others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_table::{Column, ColumnType, Model};

    fn index(name: &str, columns: &[&str]) -> Index {
        Index {
            name: name.to_owned(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            kind: None,
            properties: Properties::new(),
            comment: String::new(),
        }
    }

    fn keep(indexes: &[Index]) -> Result<Properties> {
        let columns = ["k", "v"].map(|name| Column::new(name, ColumnType::Int)).to_vec();
        kept(indexes, &Schema { columns, model: Model::Duplicate })
    }

    #[test]
    fn definitions_are_kept_in_order_and_told_from_properties() {
        let properties = Properties::from([("parser".to_owned(), "a\"b".to_owned())]);
        let full = Index { kind: Some("INVERTED"), properties, comment: "it's".to_owned(), ..index("z", &["k", "V"]) };
        let mut kept = keep(&[full, index("a", &["v"])]).unwrap();
        kept.insert("replication_num".to_owned(), "1".to_owned());
        let (indexes, others) = index_definitions(&kept);
        let first = "INDEX `z` (`k`, `V`) USING INVERTED PROPERTIES(\"parser\" = \"a\\\"b\") COMMENT \"it's\"";
        assert_eq!(indexes, [first, "INDEX `a` (`v`)"]);
        assert_eq!((others.len(), others[0].0.as_str()), (1, "replication_num"));
    }

    #[test]
    fn wrong_ones_are_refused() {
        assert_eq!(keep(&[index("a", &["k"]), index("A", &["v"])]).unwrap_err().message(), "Duplicate key name 'A'");
        assert!(keep(&[index("a", &["x"])]).unwrap_err().message().contains("invalid column: x, index 'a'"));
        let long = Index { comment: "x".repeat(limits::MAX_TEXT_BYTES), ..index("a", &["k"]) };
        assert!(keep(&[long]).unwrap_err().message().contains("too long"));
        let many: Vec<Index> = (0..=limits::MAX_INDEXES).map(|n| index(&n.to_string(), &["k"])).collect();
        assert!(keep(&many).is_err());
        assert!(keep(&many[1..]).is_ok());
    }
}
