//! ALTER TABLE, views, RECOVER and the recycle bin, and what shows them.

use super::super::ast::{BoundText, PartitionDef, PartitionValues, Show, StepUnit};
use super::super::define_ast::{AddPartitions, BinKind, CreateView, Define, Recover, ShowMore, TableChange};
use super::{RowFilter, RowOperator, Statement};
use super::{bad, good, name, names, not_supported, only, properties, refused, syntax};
use crate::error::ErrorKind;

fn define(sql: &str) -> Define {
    match good(sql) {
        Statement::Define(define) => define,
        other => panic!("{sql}: {other:?}"),
    }
}

fn change(sql: &str) -> TableChange {
    match define(&format!("ALTER TABLE d.t {sql}")) {
        Define::AlterTable { table, change } => {
            assert_eq!(table, name("d.t"));
            change
        }
        other => panic!("{sql}: {other:?}"),
    }
}

fn value(text: &str) -> BoundText {
    BoundText::Value(text.to_owned())
}

#[test]
fn partitions_of_every_kind_are_added() {
    let add = |sql: &str| match change(sql) {
        TableChange::AddPartitions(add) => add,
        other => panic!("{sql}: {other:?}"),
    };
    let def = |name: &str, values| PartitionDef { name: name.to_owned(), values, properties: properties(&[]) };
    let plain = |partition| AddPartitions { partition, if_not_exists: false, bucket_columns: None, buckets: None };
    let less = |text| PartitionValues::LessThan(vec![value(text)]);
    assert_eq!(add("ADD PARTITION p VALUES LESS THAN (\"1\")"), plain(def("p", less("1"))));
    let full = add("add partition if not exists p values less than ('1') ('replication_num' = '2') \
                    distributed by hash(k, v) buckets 3");
    let partition = PartitionDef { properties: properties(&[("replication_num", "2")]), ..def("p", less("1")) };
    let bucket_columns = Some(names(&["k", "v"]));
    assert_eq!(full, AddPartitions { partition, if_not_exists: true, bucket_columns, buckets: Some(3) });
    let keys = vec![vec![value("a"), value("1")], vec![BoundText::Null, value("2")]];
    assert_eq!(add("ADD PARTITION p VALUES IN (('a', 1), (NULL, 2))"), plain(def("p", PartitionValues::In(keys))));
    let keys = vec![vec![value("a")], vec![value("b")]];
    assert_eq!(add("ADD PARTITION p VALUES IN ('a', 'b')"), plain(def("p", PartitionValues::In(keys))));
    let (from, to) = ("2024-01-01".to_owned(), "2024-02-01".to_owned());
    let steps = PartitionValues::Steps { from, to, every: 2, unit: Some(StepUnit::Week) };
    assert_eq!(add("ADD PARTITIONS FROM ('2024-01-01') TO ('2024-02-01') INTERVAL 2 WEEK"), plain(def("", steps)));
    syntax(&[
        ("alter table t add partition", "'"),
        ("alter table t add partition p", "'"),
        ("alter table t add partition p values", "'"),
        ("alter table t add partitions from ('1') to ('2')", "'"),
    ]);
    refused(&[
        ("alter table t add partitions from ('1', '2') to ('3') interval 1", "partitions by FROM ... TO ... INTERVAL"),
        ("alter table t add partition `1` values less than ('1')", "Incorrect partition name '1'"),
    ]);
}

#[test]
fn other_changes_of_tables() {
    let drop = |if_exists, force| TableChange::DropPartition { name: "p".to_owned(), if_exists, force };
    assert_eq!(change("DROP PARTITION p"), drop(false, false));
    assert_eq!(change("drop partition if exists p force"), drop(true, true));
    assert_eq!(change("RENAME u"), TableChange::Rename("u".to_owned()));
    let renamed = TableChange::RenamePartition { name: "p".to_owned(), to: "q".to_owned() };
    assert_eq!(change("rename partition p q"), renamed);
    let database = Define::RenameDatabase { name: "a".to_owned(), to: "b".to_owned() };
    assert_eq!(define("ALTER DATABASE a RENAME b"), database);
    refused(&[
        ("alter table t rename `1`", "Incorrect table name '1'"),
        ("alter database a rename `1`", "Incorrect database"),
    ]);
    not_supported(&[
        "alter table t rename rollup a b",
        "alter database a set data quota 1",
        "alter table t add rollup r (a)",
    ]);
    syntax(&[("alter table t rename", "'"), ("alter table t drop partition", "'")]);
}

#[test]
fn views() {
    let view = |or_replace, if_not_exists, columns: &[(&str, &str)], comment: &str, query: &str| {
        let columns = columns.iter().map(|(name, comment)| ((*name).to_owned(), (*comment).to_owned())).collect();
        let (view, comment, query) = (name("d.v"), comment.to_owned(), query.to_owned());
        Define::CreateView(CreateView { view, or_replace, if_not_exists, columns, comment, query })
    };
    assert_eq!(define("CREATE VIEW d.v AS SELECT 1;"), view(false, false, &[], "", "SELECT 1"));
    assert_eq!(
        define("create view if not exists d.v (a comment 'x', b) comment 'y' as with c as (select 1) select * from c"),
        view(false, true, &[("a", "x"), ("b", "")], "y", "with c as (select 1) select * from c")
    );
    assert_eq!(define("CREATE OR REPLACE VIEW d.v AS (SELECT 1)"), view(true, false, &[], "", "(SELECT 1)"));
    let drop = |if_exists| Define::DropView { view: name("v"), if_exists };
    assert_eq!((define("drop view v"), define("DROP VIEW IF EXISTS v")), (drop(false), drop(true)));
    refused(&[
        ("create view v as explain select 1", "a view is made of a query"),
        ("create view v as drop table t", "a view is made of a query"),
        ("create or replace view if not exists v as select 1", "[OR REPLACE] and [IF NOT EXISTS]"),
        ("create view `1` as select 1", "Incorrect table name"),
    ]);
    syntax(&[("create view v", "'"), ("create view v as", "'"), ("create view v (a) select 1", "select 1")]);
    assert_eq!(bad("create view v as select 1; select 2").kind(), ErrorKind::Invalid);
}

#[test]
fn what_comes_back_and_what_is_erased() {
    let plain =
        Recover { kind: BinKind::Table, name: "t".to_owned(), database: None, id: None, as_name: None, table: None };
    let recover = Define::Recover;
    assert_eq!(define("RECOVER TABLE t"), recover(plain.clone()));
    let as_name = Some("u".to_owned());
    let full = Recover { database: Some("d".to_owned()), id: Some(7), as_name: as_name.clone(), ..plain.clone() };
    assert_eq!(define("recover table d.t 7 as u"), recover(full));
    assert_eq!(define("recover database t"), recover(Recover { kind: BinKind::Database, ..plain.clone() }));
    let partition = Recover { kind: BinKind::Partition, as_name, table: Some(name("d.x")), ..plain };
    assert_eq!(define("recover partition t as u from d.x"), recover(partition));
    for (word, kind) in [("DbId", BinKind::Database), ("tableid", BinKind::Table), ("PartitionId", BinKind::Partition)]
    {
        assert_eq!(define(&format!("drop catalog recycle bin where '{word}' = 5")), Define::EraseBin { kind, id: 5 });
    }
    syntax(&[
        ("recover", "'"),
        ("recover view v", "view v"),
        ("recover partition p", "'"),
        ("drop catalog recycle bin", "'"),
        ("drop catalog recycle bin where x = 5", "x = 5"),
    ]);
}

#[test]
fn shows() {
    let named = only("Name", RowOperator::Like, "t%");
    let none = RowFilter::default;
    for (sql, expected) in [
        ("show catalog recycle bin where Name like 't%'", ShowMore::RecycleBin(named)),
        ("SHOW DYNAMIC PARTITION TABLES FROM d", ShowMore::DynamicPartitions(Some("d".to_owned()))),
        ("show create view d.v", ShowMore::CreateView(name("d.v"))),
        ("show view from t from d", ShowMore::ViewsOf(name("d.t"))),
        ("show views like 'x'", ShowMore::Views { database: None, like: Some("x".to_owned()) }),
        ("show data", ShowMore::Data { table: None, filter: none() }),
        ("show data from d.t", ShowMore::Data { table: Some(name("d.t")), filter: none() }),
        (
            "show table status from d like 't%'",
            ShowMore::TableStatus {
                database: Some("d".to_owned()),
                like: Some("t%".to_owned()),
                conditions: Vec::new(),
            },
        ),
        ("show proc '/dbs/1'", ShowMore::Proc("/dbs/1".to_owned())),
        (
            "admin show replica distribution from t partition (p)",
            ShowMore::ReplicaDistribution { table: name("t"), partitions: names(&["p"]) },
        ),
        (
            "admin show replica status from t where status != 'OK'",
            ShowMore::ReplicaStatus {
                table: name("t"),
                partitions: Vec::new(),
                filter: only("status", RowOperator::NotEqual, "OK"),
            },
        ),
    ] {
        assert_eq!(good(sql), Statement::Show(Show::More(expected)), "{sql}");
    }
}
