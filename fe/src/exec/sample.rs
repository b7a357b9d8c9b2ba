//! A small state for the tests of SHOW.

use crate::exec::ddl::sample::column;
use crate::meta::apply::apply;
use crate::meta::command::{Command, NewPartition, NewTable, Outcome};
use crate::meta::state::State;
use coffer_proto::ids::{BackendId, DbId};
use coffer_table::{Bound, Column, ColumnType, KeyRange, Scalar, Schema};
use std::collections::BTreeMap;

fn created(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Created(id) => id,
        other => panic!("{other:?}"),
    }
}

fn day(text: &str) -> Bound {
    Bound::Value(Scalar::parse(ColumnType::Date, text).unwrap())
}

fn partition(name: &str, lower: Bound, upper: Bound) -> NewPartition {
    let range = Some(KeyRange::new(vec![lower], vec![upper]));
    let placement = vec![vec![BackendId(10_001), BackendId(10_002)]; 2];
    NewPartition { name: name.to_owned(), range, replication_num: 2, placement }
}

/// Two backends, databases `db` and `empty`, tables `db.t` (three partitions of two buckets and replicas) and `db.plain`.
pub(crate) fn state() -> State {
    let mut state = State::default();
    apply(&mut state, &Command::Bootstrap { cluster_id: "c1".to_owned() });
    let addresses = vec![("b1".to_owned(), 9050), ("b2".to_owned(), 9050)];
    assert_eq!(apply(&mut state, &Command::AddBackends { addresses, now_ms: 1_000 }), Outcome::Done);
    let db = DbId(created(apply(&mut state, &Command::CreateDatabase { name: "db".to_owned() })));
    created(apply(&mut state, &Command::CreateDatabase { name: "empty".to_owned() }));
    let key = |name, kind| Column { nullable: false, key: true, ..column(name, kind) };
    let value = Column {
        default: Some("x\"y".to_owned()),
        comment: "a comment".to_owned(),
        ..column("v", ColumnType::Varchar { length: 10 })
    };
    let properties = BTreeMap::from([("replication_num".to_owned(), "2".to_owned())]);
    let table = NewTable {
        db,
        name: "t".to_owned(),
        schema: Schema {
            columns: vec![key("d", ColumnType::Date), key("k", ColumnType::Int), value],
            model: coffer_table::Model::Duplicate,
        },
        partition_columns: vec!["d".to_owned()],
        partitioning: Default::default(),
        bucket_columns: vec!["k".to_owned()],
        properties: properties.clone(),
        comment: "it's".to_owned(),
        partitions: vec![
            partition("p1", Bound::Min, day("2024-01-01")),
            partition("p2", day("2024-01-01"), day("2024-02-01")),
            partition("p3", day("2024-03-01"), Bound::Max),
        ],
        now_ms: 2_000,
    };
    created(apply(&mut state, &Command::CreateTable(table)));
    let plain = NewTable {
        db,
        name: "plain".to_owned(),
        schema: Schema { columns: vec![column("a", ColumnType::Int)], model: coffer_table::Model::Duplicate },
        partition_columns: Vec::new(),
        partitioning: Default::default(),
        bucket_columns: Vec::new(),
        properties,
        comment: String::new(),
        partitions: vec![NewPartition {
            name: "plain".to_owned(),
            range: None,
            replication_num: 1,
            placement: vec![vec![BackendId(10_001)]],
        }],
        now_ms: 2_000,
    };
    created(apply(&mut state, &Command::CreateTable(plain)));
    state
}
