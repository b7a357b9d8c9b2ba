//! Conditions of DELETE and of loads: comparisons of columns with values, all of which hold for a row that is meant.

use crate::schema::Schema;
use crate::text::BatchBuilder;
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, Scalar};
use arrow::compute::kernels::cmp;
use arrow::compute::{and, filter_record_batch, is_not_null, is_null, not, or, prep_null_mask_filter};
use arrow::error::ArrowError;
use coffer_stdx::{Error, Result};
use serde::{Deserialize, Serialize};

/// How a column is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `IN`
    In,
    /// `NOT IN`
    NotIn,
    /// `IS NULL`
    IsNull,
    /// `IS NOT NULL`
    IsNotNull,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Name of a key column.
    pub column: String,
    /// How.
    pub comparison: Comparison,
    /// With what, in the form a load file would have: any number for IN and NOT IN, none for IS NULL, else one.
    pub values: Vec<String>,
}

/// Which rows go: those for which all conditions hold. A comparison with NULL does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predicate {
    /// At least one.
    pub conditions: Vec<Condition>,
}

/// A predicate ready to be applied to batches whose first columns are the key columns of a schema.
#[derive(Debug)]
pub struct Filter {
    conditions: Vec<(usize, Comparison, Vec<ArrayRef>)>,
}

impl Predicate {
    /// Make it ready for a DELETE, whose conditions are on key columns; Invalid when one does not fit the schema.
    pub fn compile(&self, schema: &Schema) -> Result<Filter> {
        if self.conditions.is_empty() {
            return Err(Error::invalid("DELETE needs at least one condition"));
        }
        let is_value = |condition: &&Condition| {
            schema.index_of(&condition.column).is_some_and(|column| !schema.columns[column].key)
        };
        if let Some(condition) = self.conditions.iter().find(is_value) {
            return Err(Error::invalid(format!(
                "column '{}' is not a key column: the conditions of DELETE are on key columns alone",
                condition.column
            )));
        }
        self.compile_for_rows(schema)
    }

    /// Make it ready for batches of whole rows; its conditions may be on any column.
    pub fn compile_for_rows(&self, schema: &Schema) -> Result<Filter> {
        let conditions = self.conditions.iter().map(|condition| condition.compile(schema));
        Ok(Filter { conditions: conditions.collect::<Result<_>>()? })
    }
}

impl Condition {
    fn compile(&self, schema: &Schema) -> Result<(usize, Comparison, Vec<ArrayRef>)> {
        let name = &self.column;
        let at = schema.index_of(name).ok_or_else(|| Error::invalid(format!("Unknown column '{name}'")))?;
        let column = &schema.columns[at];
        let fits = match self.comparison {
            Comparison::IsNull | Comparison::IsNotNull => self.values.is_empty(),
            Comparison::In | Comparison::NotIn => !self.values.is_empty(),
            _ => self.values.len() == 1,
        };
        if !fits {
            return Err(Error::invalid(format!("a condition on column '{name}' has {} values", self.values.len())));
        }
        let one = Schema { columns: vec![column.clone()], model: schema.model };
        let value = |text: &String| {
            let mut builder = BatchBuilder::new(&one);
            let pushed = builder.push(0, Some(text.as_bytes()));
            pushed.map_err(|misfit| Error::invalid(misfit.describe(&one, 0, Some(text.as_bytes()))))?;
            builder.end_row();
            builder.finish().map(|batch| batch.column(0).clone())
        };
        Ok((at, self.comparison, self.values.iter().map(value).collect::<Result<_>>()?))
    }
}

impl Filter {
    /// The rows that are meant.
    pub fn choose(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        self.matches(batch).and_then(|meant| filter_record_batch(batch, &meant)).map_err(defect)
    }

    /// The rows that stay when those that are meant go.
    pub fn keep(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let gone = self.matches(&batch).map_err(defect)?;
        if gone.true_count() == 0 {
            return Ok(batch);
        }
        filter_record_batch(&batch, &not(&gone).map_err(defect)?).map_err(defect)
    }

    /// Which rows all conditions hold for.
    fn matches(&self, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        let mut all = BooleanArray::from(vec![true; batch.num_rows()]);
        for (column, comparison, values) in &self.conditions {
            let holds = compare(batch.column(*column), *comparison, values)?;
            // What is neither true nor false does not hold.
            let holds = if holds.null_count() > 0 { prep_null_mask_filter(&holds) } else { holds };
            all = and(&all, &holds)?;
        }
        Ok(all)
    }
}

fn compare(column: &ArrayRef, comparison: Comparison, values: &[ArrayRef]) -> Result<BooleanArray, ArrowError> {
    let any = |values: &[ArrayRef]| {
        let mut any = BooleanArray::from(vec![false; column.len()]);
        for value in values {
            any = or(&any, &cmp::eq(column, &Scalar::new(value.clone()))?)?;
        }
        Ok(any)
    };
    let with = |value: &ArrayRef| Scalar::new(value.clone());
    match (comparison, values) {
        (Comparison::IsNull, _) => is_null(column),
        (Comparison::IsNotNull, _) => is_not_null(column),
        (Comparison::In, values) => any(values),
        (Comparison::NotIn, values) => not(&any(values)?),
        (Comparison::Equal, [value, ..]) => cmp::eq(column, &with(value)),
        (Comparison::NotEqual, [value, ..]) => cmp::neq(column, &with(value)),
        (Comparison::Less, [value, ..]) => cmp::lt(column, &with(value)),
        (Comparison::LessOrEqual, [value, ..]) => cmp::lt_eq(column, &with(value)),
        (Comparison::Greater, [value, ..]) => cmp::gt(column, &with(value)),
        (Comparison::GreaterOrEqual, [value, ..]) => cmp::gt_eq(column, &with(value)),
        (_, []) => Err(ArrowError::InvalidArgumentError("a comparison without a value".to_owned())),
    }
}

fn defect(error: ArrowError) -> Error {
    Error::bug(format!("conditions on rows: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::schema::Column;
    use crate::types::ColumnType;
    use arrow::array::AsArray;
    use arrow::datatypes::Int32Type;

    fn schema() -> Schema {
        let column = |name: &str, kind, key| Column {
            name: name.to_owned(),
            kind,
            nullable: true,
            default: None,
            key,
            comment: String::new(),
            aggregate: None,
        };
        let columns = vec![
            column("k", ColumnType::Int, true),
            column("d", ColumnType::Date, true),
            column("v", ColumnType::Int, false),
        ];
        Schema { columns, model: Model::Duplicate }
    }

    fn condition(column: &str, comparison: Comparison, values: &[&str]) -> Condition {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Condition { column: column.to_owned(), comparison, values }
    }

    /// The keys that stay of 1 to 5 and NULL.
    fn kept(conditions: Vec<Condition>) -> Vec<Option<i32>> {
        let mut builder = BatchBuilder::new(&schema());
        for key in [None, Some("1"), Some("2"), Some("3"), Some("4"), Some("5")] {
            let day = key.map(|key| format!("2026-01-0{key}"));
            builder.push(0, key.map(str::as_bytes)).unwrap();
            builder.push(1, day.as_deref().map(str::as_bytes)).unwrap();
            builder.push(2, None).unwrap();
            builder.end_row();
        }
        let filter = Predicate { conditions }.compile(&schema()).unwrap();
        let kept = filter.keep(builder.finish().unwrap()).unwrap();
        kept.column(0).as_primitive::<Int32Type>().iter().collect()
    }

    #[test]
    fn every_comparison_takes_what_it_says() {
        use Comparison::*;
        let some = |keys: &[i32]| keys.iter().map(|key| Some(*key)).collect::<Vec<_>>();
        for (comparison, values, gone) in [
            (Equal, &["2"][..], &[2][..]),
            (NotEqual, &["2"], &[1, 3, 4, 5]),
            (Less, &["2"], &[1]),
            (LessOrEqual, &["2"], &[1, 2]),
            (Greater, &["4"], &[5]),
            (GreaterOrEqual, &["4"], &[4, 5]),
            (In, &["1", "5", "9"], &[1, 5]),
            (NotIn, &["1", "5"], &[2, 3, 4]),
            (IsNotNull, &[], &[1, 2, 3, 4, 5]),
        ] {
            let stays: Vec<i32> = (1..=5).filter(|key| !gone.contains(key)).collect();
            let wanted = [vec![None], some(&stays)].concat();
            assert_eq!(kept(vec![condition("K", comparison, values)]), wanted, "{comparison:?}");
        }
        assert_eq!(kept(vec![condition("k", IsNull, &[])]), some(&[1, 2, 3, 4, 5]));
        let both = vec![condition("k", Greater, &["1"]), condition("d", Less, &["2026-01-04"])];
        assert_eq!(kept(both), [None, Some(1), Some(4), Some(5)]);
    }

    #[test]
    fn rows_are_chosen_by_any_column() {
        let mut builder = BatchBuilder::new(&schema());
        for (key, value) in [("1", Some("7")), ("2", None), ("3", Some("9"))] {
            builder.push(0, Some(key.as_bytes())).unwrap();
            builder.push(1, None).unwrap();
            builder.push(2, value.map(str::as_bytes)).unwrap();
            builder.end_row();
        }
        let rows = builder.finish().unwrap();
        let chosen = |condition: Condition| {
            let filter = Predicate { conditions: vec![condition] }.compile_for_rows(&schema()).unwrap();
            let chosen = filter.choose(&rows).unwrap();
            chosen.column(0).as_primitive::<Int32Type>().iter().flatten().collect::<Vec<i32>>()
        };
        assert_eq!(chosen(condition("v", Comparison::Greater, &["7"])), [3]);
        assert_eq!(chosen(condition("v", Comparison::NotEqual, &["7"])), [3]);
        assert_eq!(chosen(condition("V", Comparison::IsNull, &[])), [2]);
        assert_eq!(chosen(condition("k", Comparison::Less, &["9"])), [1, 2, 3]);
    }

    #[test]
    fn conditions_that_do_not_fit_are_refused() {
        use Comparison::*;
        for (refused, text) in [
            (vec![], "at least one condition"),
            (vec![condition("x", Equal, &["1"])], "Unknown column 'x'"),
            (vec![condition("v", Equal, &["1"])], "'v' is not a key column"),
            (vec![condition("k", Equal, &["one"])], "'one' is not a value of type int"),
            (vec![condition("k", In, &[])], "0 values"),
            (vec![condition("k", Less, &["1", "2"])], "2 values"),
        ] {
            let error = Predicate { conditions: refused }.compile(&schema()).unwrap_err();
            assert!(error.message().contains(text), "{error}");
        }
    }
}
