//! SELECT, EXPLAIN, INSERT, and what concerns the session.

use super::super::ast::{Insert, Statement};
use super::super::parse;
use super::{bad, good, name, names, not_supported, same, syntax};
use crate::error::ErrorKind;

fn query(text: &str) -> Statement {
    Statement::Query(text.to_owned())
}

#[test]
fn queries_are_handed_on_as_text() {
    for sql in [
        "select 1",
        "SELECT a, count(*) FROM d.t WHERE x > 1 AND y IN (1, 2) GROUP BY a ORDER BY 2 DESC LIMIT 10",
        "with x as (select 1 as a) select * from x",
        "values (1, 'a'), (2, 'b')",
        "(select 1) union all (select 2)",
        "select @@version_comment limit 1",
        "select @@session.auto_increment_increment as a, database(), `x` from `t`",
        "select 'it''s; \\' ok' -- comment\n, \"x\"",
        "explain select 1",
        "EXPLAIN ANALYZE select * from t",
        "explain verbose select 1",
    ] {
        let text = if sql.starts_with("explain") { sql.replacen("explain", "EXPLAIN", 1) } else { sql.to_owned() };
        assert_eq!(good(sql), query(&text), "{sql}");
    }
    same(&[
        (" select 1 ; ", query("select 1")),
        ("desc select 1", query("EXPLAIN select 1")),
        ("select 1 from dual", query("select 1          ")),
        ("select 'é' FROM\nDUAL where 1 = 1", query("select 'é'           where 1 = 1")),
        ("select * from dual.t", query("select * from dual.t")),
        ("/*!40101 select */ 1", query("select    1")),
    ]);
    syntax(&[
        ("select", "'"),
        ("select from t", "t'"),
        ("select 1 from t where", "'"),
        ("select 1 2 3", "2 3'"),
        ("select 1; select 2", "select 2'"),
        ("select 'open", "'open'"),
        ("selec 1", "selec 1'"),
        ("1", "1'"),
        ("select (1", "'"),
    ]);
    let error = bad("select a,\n  b c d from t");
    let expected = "You have an error in your SQL syntax near 'd from t' at line 2, column 7: ";
    assert!(error.message().starts_with(expected), "{error}");
    not_supported(&["select 1 into x", "explain insert into t values (1)", "with x as (select 1) delete from t"]);
    assert_eq!(bad("").number(), 1065);
    assert_eq!(bad(" ; -- nothing").number(), 1065);
}

#[test]
fn inserts() {
    let insert = |table: &str, columns: &[&str], label: Option<&str>, source: &str| {
        let (table, columns, label) = (name(table), names(columns), label.map(str::to_owned));
        Statement::Insert(Box::new(Insert { table, columns, label, source: source.to_owned() }))
    };
    same(&[
        ("INSERT INTO t VALUES (1, 'a'), (2, NULL);", insert("t", &[], None, "VALUES (1, 'a'), (2, NULL)")),
        ("insert t value (1)", insert("t", &[], None, "VALUES (1)")),
        ("insert into table d.t (a, `b`) select 1, 2", insert("d.t", &["a", "b"], None, "select 1, 2")),
        ("insert into t with label l (a) values (1)", insert("t", &["a"], Some("l"), "values (1)")),
        ("insert into t (a) with label `2024:1` select 1", insert("t", &["a"], Some("2024:1"), "select 1")),
        ("insert into t (select 1)", insert("t", &[], None, "(select 1)")),
        ("insert into t ((select 1))", insert("t", &[], None, "((select 1))")),
        (
            "insert into t with x as (select 1) select * from x",
            insert("t", &[], None, "with x as (select 1) select * from x"),
        ),
        ("insert into t\n  (a)\n  values ('é;')", insert("t", &["a"], None, "values ('é;')")),
    ]);
    syntax(&[
        ("insert", "'"),
        ("insert into t", "'"),
        ("insert into t (a", "'"),
        ("insert into t () values (1)", ") values (1)'"),
        ("insert into t foo", "foo'"),
    ]);
    assert!(bad("insert into t with label `a b` values (1)").message().starts_with("Label format error"));
    not_supported(&[
        "insert overwrite table t values (1)",
        "insert into t partition (p) values (1)",
        "insert into t set a = 1",
        "delete from t where a = 1 or b = 2",
        "delete from t where (a = 1)",
        "delete from t using u where a = 1",
        "update t set a = 1",
        "replace into t values (1)",
        "load label l (data infile('x') into table t)",
    ]);
}

#[test]
fn deletes() {
    use coffer_table::Comparison::{Equal, Greater, In, IsNotNull, IsNull, NotEqual, NotIn};
    let Statement::Delete(delete) = good(
        "delete from d.t partitions (p, `q`) where a = 1 and b != 'x' and c > -5 and d in (1, 2) and e not in ('y') and f \
         is null and g is not null",
    ) else {
        panic!("no delete")
    };
    assert_eq!((delete.table.clone(), delete.partitions.clone()), (name("d.t"), names(&["p", "q"])));
    let conditions = delete.predicate.conditions.iter();
    let found: Vec<_> = conditions.map(|one| (one.column.as_str(), one.comparison, one.values.join(","))).collect();
    let text = |text: &str| text.to_owned();
    let wanted = [
        ("a", Equal, text("1")),
        ("b", NotEqual, text("x")),
        ("c", Greater, text("-5")),
        ("d", In, text("1,2")),
        ("e", NotIn, text("y")),
        ("f", IsNull, text("")),
        ("g", IsNotNull, text("")),
    ];
    assert_eq!(found, wanted);
    assert!(bad("delete from t").message().contains("TRUNCATE"));
    syntax(&[("delete from t where a", "'"), ("delete from t where a like 'x'", "like 'x''")]);
}

#[test]
fn a_long_insert_is_read_by_its_head() {
    let rows = vec!["(1, 'x;\\'y')"; 200_000].join(", ");
    let sql = format!("insert into d.t (a, b) values {rows};");
    let Statement::Insert(insert) = good(&sql) else { panic!("no insert") };
    assert_eq!((insert.table, insert.source), (name("d.t"), format!("values {rows}")));
    let error = bad(&format!("insert into t ({})", "a, ".repeat(100_000)));
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    let error = bad(&format!("insert into t select {}1 2", "case when 1 then ".repeat(40)));
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    let error = bad(&format!("insert into t select 1{}", " + 1".repeat(50_000)));
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    let error = bad(&format!("select {rows}"));
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    assert!(parse(&format!("select 1 where 1 in ({})", vec!["12345"; 100_000].join(","))).is_ok());
}

#[test]
fn session_statements() {
    let set = |pairs: &[(&str, &str)]| {
        Statement::Set(pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
    };
    same(&[
        ("SET NAMES utf8mb4", set(&[("names", "utf8mb4")])),
        ("set names 'utf8' collate 'utf8_bin'", set(&[("names", "utf8")])),
        ("SET CHARACTER SET utf8", set(&[("character_set", "utf8")])),
        ("set autocommit=1", set(&[("autocommit", "1")])),
        ("set @@session.Autocommit = ON, sql_mode = 'A,B'", set(&[("autocommit", "ON"), ("sql_mode", "A,B")])),
        ("SET SESSION query_timeout := 300", set(&[("query_timeout", "300")])),
        ("set @x = (select 1, 2), b = -1", set(&[("@x", "(select 1, 2)"), ("b", "-1")])),
        ("set sql_mode = concat(@@sql_mode, ',X')", set(&[("sql_mode", "concat(@@sql_mode, ',X')")])),
        ("set character_set_results = NULL", set(&[("character_set_results", "NULL")])),
        ("set time_zone = default", set(&[("time_zone", "default")])),
        (
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            set(&[("transaction", "ISOLATION LEVEL READ COMMITTED")]),
        ),
        ("/*!40101 SET NAMES utf8 */", set(&[("names", "utf8")])),
        ("/*!40101 SET @OLD=@@CHARACTER_SET_CLIENT */", set(&[("@old", "@@CHARACTER_SET_CLIENT")])),
        ("begin", Statement::Transaction),
        ("START TRANSACTION READ ONLY", Statement::Transaction),
        ("start transaction with consistent snapshot, read write", Statement::Transaction),
        ("commit work and no chain", Statement::Transaction),
        ("ROLLBACK", Statement::Transaction),
        ("SYNC", Statement::Transaction),
        ("kill 7", Statement::Kill { connection: 7, query_only: false }),
        ("KILL CONNECTION 7", Statement::Kill { connection: 7, query_only: false }),
        ("kill query 7", Statement::Kill { connection: 7, query_only: true }),
    ]);
    syntax(&[
        ("set", "'"),
        ("set x", "'"),
        ("set x =", "'"),
        ("set x = 1,", "'"),
        ("set x 1", "1'"),
        ("set transaction", "'"),
        ("set session", "'"),
        ("start", "start'"),
        ("begin x", "x'"),
        ("kill", "'"),
        ("kill x", "x'"),
    ]);
    not_supported(&[
        "set global x = 1",
        "set @@global.x = 1",
        "set default role r to u",
        "begin with label x",
        "rollback to savepoint x",
        "lock tables t read",
    ]);
}

#[test]
fn queries_are_known_by_their_first_word() {
    for sql in ["select 1", " (SELECT 1)", "/* tool */ -- x\n# y\n With a as (select 1) select 1", "values (1)"] {
        assert!(crate::sql::reads_only(sql), "{sql}");
    }
    for sql in ["insert into t select 1", "selection", "/* select", "", "-- select", "SHOW TABLES"] {
        assert!(!crate::sql::reads_only(sql), "{sql}");
    }
}
