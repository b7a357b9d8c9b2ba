//! SHOW and DESC.

use super::super::ast::{RowCondition, RowFilter, RowOperator, Show, Statement};
use super::{good, name, names, not_supported, only, refused, syntax};
use RowOperator::{Equal, Greater, Like};

fn shows(cases: &[(&str, Show)]) {
    for (sql, expected) in cases {
        assert_eq!(good(sql), Statement::Show(expected.clone()), "{sql}");
    }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn databases_and_tables() {
    let tables = |database: Option<&str>, like: Option<&str>, full| Show::Tables {
        database: database.map(str::to_owned),
        like: like.map(str::to_owned),
        full,
        conditions: Vec::new(),
    };
    let chosen = |database: Option<&str>, full, column: &str, operator, value: &str| Show::Tables {
        database: database.map(str::to_owned),
        like: None,
        full,
        conditions: vec![RowCondition { column: column.to_owned(), operator, value: value.to_owned() }],
    };
    let columns = |table: &str, like, full| Show::Columns { table: name(table), full, like };
    shows(&[
        ("SHOW DATABASES", Show::Databases { like: None }),
        ("show schemas like 'a%';", Show::Databases { like: text("a%") }),
        ("show databases where `Database` = 'a_b%'", Show::Databases { like: text("a\\_b\\%") }),
        ("show tables", tables(None, None, false)),
        ("SHOW FULL TABLES FROM `d` LIKE \"t%\"", tables(Some("d"), Some("t%"), true)),
        (
            "show tables in d where tables_in_d like 'x'",
            chosen(Some("d"), false, "tables_in_d", RowOperator::Like, "x"),
        ),
        (
            "show full tables from d where Table_type = 'BASE TABLE'",
            chosen(Some("d"), true, "Table_type", RowOperator::Equal, "BASE TABLE"),
        ),
        (
            "show full tables where table_type != 'VIEW'",
            chosen(None, true, "table_type", RowOperator::NotEqual, "VIEW"),
        ),
        ("show create table d.t", Show::CreateTable(name("d.t"))),
        ("show create database d", Show::CreateDatabase("d".to_owned())),
        ("show create schema if not exists d", Show::CreateDatabase("d".to_owned())),
        ("show columns from t", columns("t", None, false)),
        ("show full fields in t from d like 'a%'", columns("d.t", text("a%"), true)),
        ("show columns from t where field = 'a'", columns("t", text("a"), false)),
    ]);
    for sql in ["desc t", "DESCRIBE `t`", "explain t", "desc t all", "describe table t"] {
        assert_eq!(good(sql), Statement::Describe(name("t")), "{sql}");
    }
    assert_eq!(good("desc information_schema.tables"), Statement::Describe(name("information_schema.tables")));
    syntax(&[
        ("show", "'"),
        ("show databases like x", "x'"),
        ("show tables from", "'"),
        ("show tables where a = b", "a = b'"),
        ("show tables x", "x'"),
        ("show create table", "'"),
        ("show columns t", "t'"),
        ("show full", "full'"),
        ("desc", "'"),
        ("desc t u", "u'"),
        ("show databses", "databses'"),
    ]);
}

#[test]
fn partitions_and_tablets() {
    let two = RowFilter {
        conditions: vec![
            RowCondition { column: "Buckets".to_owned(), operator: Greater, value: "3".to_owned() },
            RowCondition { column: "State".to_owned(), operator: Equal, value: "NORMAL".to_owned() },
        ],
        order_by: vec![("PartitionId".to_owned(), true), ("Range".to_owned(), false)],
        limit: Some(5),
        offset: 2,
    };
    let partitions = |filter| Show::Partitions { table: name("d.t"), filter };
    shows(&[
        ("show partitions from d.t", partitions(RowFilter::default())),
        ("show partitions from d.t where PartitionName like 'p%'", partitions(only("PartitionName", Like, "p%"))),
        (
            "show partitions from d.t where Buckets > 3 and State = \"NORMAL\" order by PartitionId desc, Range asc limit 2, 5",
            partitions(two.clone()),
        ),
        (
            "show partitions from d.t where Buckets > 3 and State = NORMAL order by PartitionId desc, `Range` limit 5 offset 2",
            partitions(two),
        ),
        (
            "show tablets from t partition (p1, p2) limit 1",
            Show::Tablets {
                table: name("t"),
                partitions: names(&["p1", "p2"]),
                filter: RowFilter { limit: Some(1), ..RowFilter::default() },
            },
        ),
        (
            "show tablets from t where Version = -1",
            Show::Tablets { table: name("t"), partitions: vec![], filter: only("Version", Equal, "-1") },
        ),
        ("show tablet 10010", Show::Tablet(10_010)),
    ]);
    syntax(&[
        ("show partitions", "'"),
        ("show partitions from t where", "'"),
        ("show partitions from t where a", "'"),
        ("show partitions from t where a = 1 or b = 2", "or b = 2'"),
        ("show partitions from t limit x", "x'"),
        ("show tablet x", "x'"),
        ("show tablet 99999999999999999999", "99999999999999999999'"),
    ]);
}

#[test]
fn backups_and_restores() {
    let database = || text("d");
    let snapshot = |label: Option<&str>, timestamp: Option<&str>| Show::Snapshot {
        repository: "r".to_owned(),
        label: label.map(str::to_owned),
        timestamp: timestamp.map(str::to_owned),
    };
    shows(&[
        ("SHOW BACKUP", Show::Backup { database: None, filter: RowFilter::default() }),
        (
            "show backup from d where snapshotname = \"x\"",
            Show::Backup { database: database(), filter: only("snapshotname", Equal, "x") },
        ),
        (
            "show backup in d where SnapshotName like 'x%'",
            Show::Backup { database: database(), filter: only("SnapshotName", Like, "x%") },
        ),
        ("show restore", Show::Restore { database: None, brief: false, filter: RowFilter::default() }),
        (
            "SHOW BRIEF RESTORE FROM d WHERE LABEL = 'x'",
            Show::Restore { database: database(), brief: true, filter: only("LABEL", Equal, "x") },
        ),
        ("show snapshot on r", snapshot(None, None)),
        ("show snapshot on `r` where SNAPSHOT = \"l\"", snapshot(Some("l"), None)),
        (
            "show snapshot on r where snapshot = 'l' and timestamp = '2018-04-18-19-19-10'",
            snapshot(Some("l"), Some("2018-04-18-19-19-10")),
        ),
        ("show snapshot on r where snapshottype = 'remote' and snapshot = 'l'", snapshot(Some("l"), None)),
        ("show repositories", Show::Repositories),
        ("show create repository for r", Show::CreateRepository("r".to_owned())),
    ]);
    refused(&[
        ("show backup where label = 'x'", "Where clause should like: SnapshotName = \"your_snapshot_name\""),
        ("show backup where snapshotname > 'x'", "Where clause should like: SnapshotName"),
        ("show backup where snapshotname = 'x' and state = 'y'", "Where clause should like: SnapshotName"),
        ("show backup where snapshotname = 'x' limit 1", "Where clause should like: SnapshotName"),
        ("show restore where snapshotname = 'x'", "Where clause should like: LABEL = \"your_label_name\""),
        ("show snapshot on r where timestamp = 'x'", "Where clause should looks like: SNAPSHOT"),
        ("show snapshot on r where snapshot like 'x'", "Where clause should looks like: SNAPSHOT"),
        ("show snapshot on r where snapshot = 'x' and snapshot = 'y'", "Where clause should looks like: SNAPSHOT"),
        ("show snapshot on r where a = 'x'", "Where clause should looks like: SNAPSHOT"),
    ]);
    syntax(&[
        ("show snapshot", "'"),
        ("show snapshot from r", "from r'"),
        ("show backup x", "x'"),
        ("show brief", "brief'"),
        ("show create repository r", "r'"),
    ]);
    not_supported(&["show snapshot on r where snapshot = 'l' and snapshottype = 'local'"]);
}

#[test]
fn the_server() {
    shows(&[
        ("show frontends", Show::Frontends),
        ("SHOW BACKENDS;", Show::Backends),
        ("show broker", Show::Brokers),
        ("show brokers", Show::Brokers),
        ("show proc '/backends'", Show::Backends),
        ("show proc \"/frontends/\"", Show::Frontends),
        ("show proc '/brokers'", Show::Brokers),
        ("show processlist", Show::ProcessList { full: false }),
        ("show full processlist", Show::ProcessList { full: true }),
        ("show variables", Show::Variables { like: None }),
        ("show session variables like 'sql_mode'", Show::Variables { like: text("sql_mode") }),
        ("SHOW GLOBAL VARIABLES WHERE Variable_name = 'a_b'", Show::Variables { like: text("a\\_b") }),
        ("show variables where variable_name like 'a%'", Show::Variables { like: text("a%") }),
        ("show variables where Variable_name = 'a' or Variable_name = 'b'", Show::Variables { like: None }),
        ("show variables where variable_name in ('a', 'b')", Show::Variables { like: None }),
        ("show global status like 'x'", Show::Status { like: text("x") }),
        ("show warnings", Show::Warnings),
        ("show warnings limit 10", Show::Warnings),
        ("show errors", Show::Errors),
        ("show engines", Show::Engines),
        ("show storage engines", Show::Engines),
        ("show collation where charset = 'utf8'", Show::Collation),
        ("show character set like 'utf8'", Show::CharacterSet),
        ("show charset", Show::CharacterSet),
    ]);
    for sql in [
        "show index from t",
        "show keys from t from d where x = 1",
        "show triggers like 'x'",
        "show events",
        "show procedure status where db = 'x'",
        "show function status",
        "show plugins",
    ] {
        let Statement::Show(Show::Empty { columns }) = good(sql) else { panic!("{sql}") };
        assert!(!columns.is_empty(), "{sql}");
    }
    not_supported(&["show load", "show data skew from t"]);
    syntax(&[("show backends x", "x'"), ("show proc backends", "backends'"), ("show processlist 1", "1'")]);
}
