//! The merge against a plain model: rows are kept in a map and folded one after the other.

use super::*;
use crate::schema::Column;
use crate::text::BatchBuilder;
use crate::types::ColumnType;
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A row as text; `None` is NULL.
type Row = Vec<Option<String>>;
/// Digits of the sums of decimals, all of them whole.
const MOST: i64 = 999;

fn schema(model: Model) -> Schema {
    use Aggregate::{Max, Min, Replace, ReplaceIfNotNull, Sum};
    let column = |(at, (kind, aggregate)): (usize, (ColumnType, Option<Aggregate>))| Column {
        name: format!("c{at}"),
        kind,
        nullable: true,
        default: None,
        key: at < 2,
        comment: String::new(),
        aggregate: aggregate.filter(|_| model == Model::Aggregate),
    };
    let columns = [
        (ColumnType::Int, None),
        (ColumnType::Varchar { length: 9 }, None),
        (ColumnType::TinyInt, Some(Sum)),
        (ColumnType::Decimal { precision: 3, scale: 0 }, Some(Sum)),
        (ColumnType::Int, Some(Min)),
        (ColumnType::Varchar { length: 9 }, Some(Max)),
        (ColumnType::Int, Some(Replace)),
        (ColumnType::Int, Some(ReplaceIfNotNull)),
    ];
    Schema { columns: columns.into_iter().enumerate().map(column).collect(), model }
}

fn batch(schema: &Schema, rows: &[Row]) -> RecordBatch {
    let mut builder = BatchBuilder::new(schema);
    for row in rows {
        for (at, value) in row.iter().enumerate() {
            builder.push(at, value.as_deref().map(str::as_bytes)).unwrap();
        }
        builder.end_row();
    }
    builder.finish().unwrap()
}

fn rows(batches: &[RecordBatch]) -> Vec<Row> {
    let value = |column: &ArrayRef, row| column.is_valid(row).then(|| array_value_to_string(column, row).unwrap());
    let row = |batch: &RecordBatch, row| batch.columns().iter().map(|column| value(column, row)).collect();
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|at| row(batch, at)).collect::<Vec<Row>>()).collect()
}

fn key(row: &Row) -> (Option<i64>, Option<String>) {
    (row[0].as_deref().map(|text| text.parse().unwrap()), row[1].clone())
}

fn number(value: &Option<String>) -> Option<i64> {
    value.as_deref().map(|text| text.parse().unwrap())
}

/// What a table that got these rows in this order holds, in key order.
fn expected(model: Model, loaded: &[Row]) -> Vec<Row> {
    if model == Model::Duplicate {
        let mut all = loaded.to_vec();
        all.sort_by_key(key);
        return all;
    }
    let mut table: BTreeMap<_, Row> = BTreeMap::new();
    for row in loaded {
        match table.get_mut(&key(row)) {
            None => drop(table.insert(key(row), row.clone())),
            Some(there) if model == Model::Unique => *there = row.clone(),
            Some(there) => {
                let both = |at: usize| number(&there[at]).zip(number(&row[at]));
                let either = |at: usize| there[at].clone().or(row[at].clone());
                let tiny = both(2).map_or(either(2), |(a, b)| Some(((a + b) as i8).to_string()));
                let ring = |sum: i64| (sum + MOST).rem_euclid(2 * MOST + 1) - MOST;
                let decimal = both(3).map_or(either(3), |(a, b)| Some(ring(a + b).to_string()));
                let least = both(4).map_or(either(4), |(a, b)| Some(a.min(b).to_string()));
                let greatest = there[5].clone().max(row[5].clone());
                let kept = row[7].clone().or(there[7].clone());
                *there = vec![row[0].clone(), row[1].clone(), tiny, decimal, least, greatest, row[6].clone(), kept];
            }
        }
    }
    table.into_values().collect()
}

fn row_strategy() -> impl Strategy<Value = Row> {
    let number = |range: std::ops::RangeInclusive<i64>| {
        proptest::option::weighted(0.8, range.prop_map(|number| number.to_string()))
    };
    let text = || proptest::option::weighted(0.8, "[ab]{0,2}");
    (
        number(-2..=2),
        text(),
        number(-128..=127),
        number(-MOST..=MOST),
        number(0..=9),
        text(),
        number(0..=9),
        number(0..=9),
    )
        .prop_map(|(a, b, c, d, e, f, g, h)| vec![a, b, c, d, e, f, g, h])
}

/// A run of these rows: sorted, perhaps made one where keys are equal, in batches of so many rows.
fn run(schema: &Schema, rows: &[Row], combined: bool, size: usize) -> Vec<RecordBatch> {
    let sorted = sort(schema, batch(schema, rows)).unwrap();
    let made = if combined { combine(schema, sorted).unwrap() } else { vec![sorted] };
    let cut = |batch: RecordBatch| -> Vec<RecordBatch> {
        let rows = batch.num_rows();
        (0..rows).step_by(size).map(|at| batch.slice(at, size.min(rows - at))).collect()
    };
    made.into_iter().flat_map(cut).collect()
}

fn merge(schema: &Schema, runs: Vec<Vec<RecordBatch>>) -> Vec<RecordBatch> {
    let runs = runs.into_iter().map(|run| run.into_iter().map(Ok));
    Merge::new(Shape::whole(schema).unwrap(), runs).unwrap().collect::<Result<_>>().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_cut_into_loads_and_any_order_of_merging_gives_what_the_model_says(
        model in prop_oneof![Just(Model::Duplicate), Just(Model::Aggregate), Just(Model::Unique)],
        loaded in proptest::collection::vec(row_strategy(), 0..60),
        cuts in proptest::collection::vec((0_usize..60, any::<bool>(), 1_usize..9), 0..8),
        merges in proptest::collection::vec((0_usize..8, 0_usize..8), 0..6),
    ) {
        let schema = schema(model);
        let mut ends: Vec<(usize, bool, usize)> =
            cuts.into_iter().map(|(at, combined, size)| (at.min(loaded.len()), combined, size)).collect();
        ends.push((loaded.len(), true, 3));
        ends.sort_unstable();
        let mut runs = Vec::new();
        let mut from = 0;
        for (end, combined, size) in ends {
            runs.push(run(&schema, &loaded[from..end], combined, size));
            from = end;
        }
        // Neighbours first, in any order: what compaction does.
        for (a, b) in merges {
            let (a, b) = (a.min(b).min(runs.len() - 1), a.max(b).min(runs.len() - 1));
            let merged = merge(&schema, runs.drain(a..=b).collect());
            runs.insert(a, merged);
        }
        prop_assert_eq!(rows(&merge(&schema, runs)), expected(model, &loaded));
    }
}

fn line(key: i64, value: i64) -> Row {
    let mut row = vec![Some(key.to_string()), None];
    row.extend(std::iter::repeat_n(Some(value.to_string()), 6));
    row
}

#[test]
fn long_runs_keep_no_batches_they_do_not_need() {
    for model in [Model::Unique, Model::Duplicate] {
        let schema = schema(model);
        let lines = |offset: i64| -> Vec<Row> { (0..30_000).map(|at| line(at * 2 + offset, at % 100)).collect() };
        let runs = [lines(0), lines(1), lines(0)].map(|lines| run(&schema, &lines, true, 100).into_iter().map(Ok));
        let mut merge = Merge::new(Shape::whole(&schema).unwrap(), runs).unwrap();
        let (mut count, mut most) = (0, 0);
        while let Some(batch) = merge.next() {
            count += batch.unwrap().num_rows();
            most = most.max(merge.pool.len());
        }
        assert_eq!(count, if model == Model::Unique { 60_000 } else { 90_000 });
        assert!(most <= 2 * 3 + SPARE_BATCHES + 1, "{most}");
    }
}

#[test]
fn projections_keep_the_key_and_errors_end_a_merge() {
    let schema = schema(Model::Aggregate);
    let shape = Shape::new(&schema, &[6]).unwrap();
    assert_eq!(shape.arrow().fields().len(), 3);
    let narrow = |rows: &[Row]| batch(&schema, rows).project(&[0, 1, 6]).unwrap();
    let runs = [vec![Ok(narrow(&[line(1, 1), line(2, 1)]))], vec![Ok(narrow(&[line(2, 7)]))]];
    let merged: Vec<RecordBatch> =
        Merge::new(shape.clone(), runs.map(Vec::into_iter)).unwrap().map(Result::unwrap).collect();
    let shown: Vec<Option<String>> = rows(&merged).into_iter().map(|row| row[2].clone()).collect();
    assert_eq!(shown, [Some("1".to_owned()), Some("7".to_owned())]);
    let broken = vec![Ok(narrow(&[line(1, 1)])), Err(Error::unavailable("gone"))];
    let mut merge = Merge::new(shape, [broken.into_iter()]).unwrap();
    assert!(merge.next().unwrap().is_err() && merge.next().is_none());
}

#[test]
fn a_table_without_keys_is_read_run_after_run() {
    let mut schema = schema(Model::Duplicate);
    schema.columns.iter_mut().for_each(|column| column.key = false);
    let runs = vec![vec![batch(&schema, &[line(2, 1)])], vec![], vec![batch(&schema, &[line(1, 1)])]];
    assert_eq!(rows(&merge(&schema, runs)), [line(2, 1), line(1, 1)]);
}
