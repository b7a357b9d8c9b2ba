//! Loads, DELETEs, merges and restarts in any order give what a plain model in memory says, at every version that is kept.

use super::{merge, tests::compaction};
use crate::scan::read::Scan;
use crate::tablet::testing::{delete, load};
use crate::tablet::{TabletMeta, TabletStore};
use arrow::util::display::array_value_to_string;
use coffer_proto::v1;
use coffer_table::{Aggregate, BatchBuilder, Column, ColumnType, Comparison, Condition, Model, Predicate, Schema};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const TABLET: u64 = 7;
/// Keys go up to this one.
const KEYS: i32 = 12;

/// Key, number, perhaps text.
type Row = (i32, i64, Option<String>);

fn schema(model: Model) -> Schema {
    let column = |name: &str, kind, aggregate: Option<Aggregate>| Column {
        name: name.to_owned(),
        kind,
        nullable: aggregate.is_some(),
        default: None,
        key: aggregate.is_none(),
        comment: String::new(),
        aggregate: aggregate.filter(|_| model == Model::Aggregate),
    };
    Schema {
        model,
        columns: vec![
            column("k", ColumnType::Int, None),
            column("total", ColumnType::BigInt, Some(Aggregate::Sum)),
            column("last", ColumnType::String, Some(Aggregate::ReplaceIfNotNull)),
        ],
    }
}

/// What happens to a tablet.
#[derive(Debug, Clone)]
enum Step {
    Load(Vec<Row>),
    Delete(Comparison, i32),
    Merge,
    /// The process is killed and started again.
    Restart,
    /// Replaced rowsets are removed.
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    let row = (0..=KEYS, -9_i64..=9, proptest::option::of("[a-c]"));
    let comparison = prop_oneof![Just(Comparison::Equal), Just(Comparison::Less), Just(Comparison::NotEqual)];
    prop_oneof![
        12 => proptest::collection::vec(row, 1..6).prop_map(Step::Load),
        2 => (comparison, 0..=KEYS).prop_map(|(comparison, key)| Step::Delete(comparison, key)),
        2 => Just(Step::Merge),
        1 => Just(Step::Restart),
        1 => Just(Step::Forget),
    ]
}

/// What a table with this model holds, in memory.
#[derive(Debug, Clone)]
struct Plain {
    model: Model,
    rows: Vec<Row>,
}

impl Plain {
    fn load(&mut self, rows: &[Row]) {
        for row in rows {
            let there = self.rows.iter_mut().find(|there| there.0 == row.0);
            match (self.model, there) {
                (Model::Duplicate, _) | (_, None) => self.rows.push(row.clone()),
                (Model::Unique, Some(there)) => *there = row.clone(),
                (Model::Aggregate, Some(there)) => {
                    there.1 += row.1;
                    there.2 = row.2.clone().or(there.2.take());
                }
            }
        }
    }

    fn delete(&mut self, comparison: Comparison, key: i32) {
        self.rows.retain(|row| match comparison {
            Comparison::Equal => row.0 != key,
            Comparison::Less => row.0 >= key,
            _ => row.0 == key,
        });
    }

    fn sorted(&self) -> Vec<Row> {
        let mut rows = self.rows.clone();
        rows.sort_unstable();
        rows
    }
}

fn write(store: &Arc<TabletStore>, schema: &Schema, version: u64, rows: &[Row]) {
    let mut builder = BatchBuilder::new(schema);
    for (key, total, last) in rows {
        builder.push(0, Some(key.to_string().as_bytes())).unwrap();
        builder.push(1, Some(total.to_string().as_bytes())).unwrap();
        builder.push(2, last.as_deref().map(str::as_bytes)).unwrap();
        builder.end_row();
    }
    load(store, (TABLET, version), schema, &[builder.finish().unwrap()]);
}

fn predicate(comparison: Comparison, key: i32) -> Predicate {
    Predicate { conditions: vec![Condition { column: "k".to_owned(), comparison, values: vec![key.to_string()] }] }
}

fn read(store: &Arc<TabletStore>, version: u64) -> Vec<Row> {
    let ticket = v1::ScanTicket {
        table_id: 1,
        tablets: vec![v1::TabletVersion { tablet_id: TABLET, version }],
        columns: ["k", "total", "last"].map(str::to_owned).to_vec(),
        limit: 0,
        layout: String::new(),
    };
    let mut scan = Scan::open(store, &ticket).unwrap();
    let mut rows = Vec::new();
    while let Some(batch) = scan.next_batch().unwrap() {
        let value = |at: usize, row| array_value_to_string(batch.column(at), row).unwrap();
        let row = |row| {
            let last = batch.column(2).is_valid(row).then(|| value(2, row));
            (value(0, row).parse().unwrap(), value(1, row).parse().unwrap(), last)
        };
        rows.extend((0..batch.num_rows()).map(row));
    }
    rows.sort_unstable();
    rows
}

/// How many rows a count without columns gives.
fn count(store: &Arc<TabletStore>, version: u64) -> usize {
    let tablets = vec![v1::TabletVersion { tablet_id: TABLET, version }];
    let ticket = v1::ScanTicket { table_id: 1, tablets, columns: Vec::new(), limit: 0, layout: String::new() };
    let mut scan = Scan::open(store, &ticket).unwrap();
    let mut rows = 0;
    while let Some(batch) = scan.next_batch().unwrap() {
        rows += batch.num_rows();
    }
    rows
}

fn rowsets(store: &Arc<TabletStore>) -> usize {
    let meta: Arc<TabletMeta> = store.tablet(TABLET).unwrap().meta();
    meta.rowsets.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_tablet_holds_what_the_model_says_whatever_is_merged_when(
        model in prop_oneof![Just(Model::Duplicate), Just(Model::Aggregate), Just(Model::Unique)],
        steps in proptest::collection::vec(step(), 20..70),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let schema = schema(model);
        let mut backend = compaction(dir.path());
        let mut plain = Plain { model, rows: Vec::new() };
        plain.load(&[(0, 1, None)]);
        let mut version = 2;
        write(&backend.store, &schema, version, &plain.rows);
        // Versions that can still be read, and what they hold.
        let mut kept: BTreeMap<u64, Plain> = BTreeMap::from([(version, plain.clone())]);
        for step in steps {
            match step {
                Step::Load(rows) => {
                    version += 1;
                    write(&backend.store, &schema, version, &rows);
                    plain.load(&rows);
                }
                Step::Delete(comparison, key) => {
                    version += 1;
                    delete(&backend.store, (TABLET, version), &schema, predicate(comparison, key));
                    plain.delete(comparison, key);
                }
                Step::Merge => {
                    let before = rowsets(&backend.store);
                    let merged = merge::once(&backend, TABLET).unwrap();
                    prop_assert_eq!(merged, rowsets(&backend.store) < before);
                }
                Step::Restart => {
                    drop(backend);
                    backend = compaction(dir.path());
                    prop_assert!(backend.store.bad_tablets().is_empty());
                }
                Step::Forget => {
                    backend.store.tablet(TABLET).unwrap().forget_replaced(Duration::ZERO).unwrap();
                    kept.clear();
                }
            }
            kept.insert(version, plain.clone());
            prop_assert_eq!(read(&backend.store, version), plain.sorted());
            prop_assert_eq!(count(&backend.store, version), plain.rows.len());
        }
        for (version, then) in kept {
            prop_assert_eq!(read(&backend.store, version), then.sorted(), "version {}", version);
        }
        while merge::once(&backend, TABLET).unwrap() {}
        prop_assert_eq!(read(&backend.store, version), plain.sorted());
    }
}
