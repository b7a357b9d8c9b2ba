//! What a key model asks of the columns of CREATE TABLE. Pure.

use crate::error::{Error, Result};
use coffer_table::{Aggregate, Column, Model, Schema};

/// Value columns of AGGREGATE KEY tables have an aggregation that their type takes, all others have none.
pub(super) fn check_columns(schema: &Schema) -> Result<()> {
    schema.columns.iter().try_for_each(|column| check_column(schema.model, column))
}

fn check_column(model: Model, column: &Column) -> Result<()> {
    let name = &column.name;
    match (model, column.aggregate) {
        (_, Some(aggregate)) if column.key => {
            Err(Error::invalid(format!("key column '{name}' cannot have the aggregation {aggregate}")))
        }
        (Model::Aggregate, Some(aggregate)) if !aggregate.takes(column.kind) => {
            Err(Error::invalid(format!("{aggregate} is not possible for column '{name}' of type {}", column.kind)))
        }
        (Model::Aggregate, None) if !column.key => {
            let known = Aggregate::NAMED.map(|(name, _)| name).join(", ");
            Err(Error::invalid(format!(
                "column '{name}' of an AGGREGATE KEY table is neither a key nor has it an aggregation: name one of {known}"
            )))
        }
        (Model::Duplicate | Model::Unique, Some(aggregate)) => Err(Error::invalid(format!(
            "column '{name}' cannot have the aggregation {aggregate} in a {model} KEY table; use AGGREGATE KEY"
        ))),
        _ => Ok(()),
    }
}

/// Rows with equal keys must meet in one tablet: partitions and buckets are chosen by key columns alone.
pub(super) fn check_placement(schema: &Schema, partition: &[String], bucket: &[String]) -> Result<()> {
    if schema.model.is_duplicate() {
        return Ok(());
    }
    if bucket.is_empty() {
        return Err(Error::invalid(format!(
            "a {} KEY table cannot be distributed by RANDOM, for rows with equal keys must meet: use DISTRIBUTED BY HASH",
            schema.model
        )));
    }
    for (what, names) in [("partition", partition), ("distribution", bucket)] {
        for name in names {
            if !schema.columns.iter().any(|column| column.key && column.name.eq_ignore_ascii_case(name)) {
                return Err(Error::invalid(format!(
                    "{what} column '{name}' of a {} KEY table is not one of its key columns",
                    schema.model
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::error::Result;
    use crate::exec::ddl::Plan;
    use crate::sql::ast::Statement;
    use coffer_table::{Aggregate, Model, Schema};

    fn schema(columns: &str, rest: &str) -> Result<Schema> {
        let text = format!("CREATE TABLE t ({columns}) {rest}");
        let Statement::CreateTable(create) = crate::sql::parse(&text)? else { panic!("{text}") };
        Plan::new(&create, 1).map(|plan| plan.schema)
    }

    #[test]
    fn models_and_their_columns() {
        let hash = "DISTRIBUTED BY HASH(k) BUCKETS 1";
        let made = schema("k INT, s BIGINT SUM NOT NULL DEFAULT '0', r INT REPLACE_IF_NOT_NULL", hash).unwrap();
        assert_eq!((made.model, made.key_count()), (Model::Aggregate, 1));
        assert_eq!((made.aggregate(1), made.aggregate(2)), (Some(Aggregate::Sum), Some(Aggregate::ReplaceIfNotNull)));
        let made = schema("k INT, v INT", &format!("UNIQUE KEY(k) {hash}")).unwrap();
        assert_eq!((made.model, made.aggregate(0), made.aggregate(1)), (Model::Unique, None, Some(Aggregate::Replace)));
        assert_eq!(schema("k INT", &format!("AGGREGATE KEY(k) {hash}")).unwrap().model, Model::Aggregate);
    }

    #[test]
    fn what_does_not_go_together_is_refused_by_name() {
        let hash = "DISTRIBUTED BY HASH(k) BUCKETS 1";
        for (columns, rest, text) in [
            ("k INT, v INT", "AGGREGATE KEY(k)", "column 'v' of an AGGREGATE KEY table"),
            ("k INT SUM, v INT SUM", "AGGREGATE KEY(k)", "key column 'k' cannot have"),
            ("k INT, v DATE SUM", "AGGREGATE KEY(k)", "SUM is not possible for column 'v'"),
            ("k INT, v INT SUM", "UNIQUE KEY(k)", "UNIQUE KEY table; use AGGREGATE KEY"),
            ("k INT, v INT MAX", "DUPLICATE KEY(k)", "DUPLICATE KEY table; use AGGREGATE KEY"),
            ("k INT, v INT SUM MAX", "AGGREGATE KEY(k)", "two aggregations"),
            ("v INT SUM, k INT", "AGGREGATE KEY(k)", "ordered prefix"),
            ("v INT SUM, k INT", "", "ordered prefix"),
        ] {
            let error = schema(columns, &format!("{rest} {hash}")).unwrap_err();
            assert!(error.message().contains(text), "{columns}: {error}");
        }
        for (rest, text) in [
            ("UNIQUE KEY(k) DISTRIBUTED BY RANDOM BUCKETS 1", "distributed by RANDOM"),
            ("UNIQUE KEY(k) DISTRIBUTED BY HASH(v) BUCKETS 1", "distribution column 'v'"),
            (
                "UNIQUE KEY(k) PARTITION BY RANGE(v) (PARTITION p VALUES LESS THAN ('1')) DISTRIBUTED BY HASH(k) BUCKETS 1",
                "partition column 'v'",
            ),
        ] {
            let error = schema("k INT, v INT", rest).unwrap_err();
            assert!(error.message().contains(text), "{rest}: {error}");
        }
    }
}
