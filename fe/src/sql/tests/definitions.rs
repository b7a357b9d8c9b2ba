//! Databases, tables, the cluster, repositories.

use super::super::ast::{
    AlterSystem, BoundText, CreateRepository, CreateTable, Index, PartitionBy, PartitionDef, PartitionValues,
    RepositoryAccess, Statement,
};
use super::{bad, good, name, names, not_supported, properties, refused, same, syntax};
use coffer_table::{Column, ColumnType};

fn create(sql: &str) -> CreateTable {
    match good(sql) {
        Statement::CreateTable(create) => *create,
        other => panic!("{sql}: {other:?}"),
    }
}

fn column(name: &str, kind: ColumnType) -> Column {
    Column::new(name, kind)
}

#[test]
fn databases() {
    let create = |if_not_exists| Statement::CreateDatabase { name: "d".to_owned(), if_not_exists };
    let drop = |if_exists, force| Statement::DropDatabase { name: "d".to_owned(), if_exists, force };
    same(&[
        ("create database d", create(false)),
        ("CREATE SCHEMA IF NOT EXISTS `d` DEFAULT CHARACTER SET = utf8mb4 COLLATE utf8mb4_bin;", create(true)),
        ("create database d properties ()", create(false)),
        ("DROP DATABASE d", drop(false, false)),
        ("drop schema if exists d force", drop(true, true)),
        ("USE d", Statement::Use("d".to_owned())),
        ("use `d`;", Statement::Use("d".to_owned())),
    ]);
    refused(&[
        ("create database `a b`", "Incorrect database name 'a b'"),
        ("create database `1`", "Incorrect database name"),
    ]);
    assert_eq!(bad("create database `a b`").number(), 1102);
    syntax(&[("create database", "'"), ("drop database d x", "x'"), ("use", "'"), ("create database d d", "d'")]);
    not_supported(&["create database d properties ('a'='b')", "use internal.d"]);
}

#[test]
fn a_full_create_table() {
    let read = create(
        "CREATE TABLE IF NOT EXISTS db.`t-1` (
            k1 INT NOT NULL COMMENT \"the key\", k2 DATE, -- a comment
            v DECIMAL(15, 2) NULL DEFAULT \"0.5\",
            s VARCHAR(20) DEFAULT '' COMMENT 'it''s')
        ENGINE=OLAP DUPLICATE KEY(k1, K2) COMMENT \"tab\"
        PARTITION BY RANGE(k2) (
            PARTITION p1 VALUES LESS THAN (\"2024-01-01\"),
            PARTITION IF NOT EXISTS p2 VALUES [('2024-01-01'), ('2024-02-01')),
            PARTITION p3 VALUES LESS THAN MAXVALUE)
        DISTRIBUTED BY HASH(k1) BUCKETS 8
        PROPERTIES (\"replication_num\" = \"1\", 'a' = 'b')",
    );
    let value = |text: &str| vec![BoundText::Value(text.to_owned())];
    let partition = |name: &str, values| PartitionDef { name: name.to_owned(), values, properties: properties(&[]) };
    let expected = CreateTable {
        table: name("db.t-1"),
        if_not_exists: true,
        columns: vec![
            Column { nullable: false, key: true, comment: "the key".to_owned(), ..column("k1", ColumnType::Int) },
            Column { key: true, ..column("k2", ColumnType::Date) },
            Column { default: Some("0.5".to_owned()), ..column("v", ColumnType::Decimal { precision: 15, scale: 2 }) },
            Column {
                default: Some(String::new()),
                comment: "it's".to_owned(),
                ..column("s", ColumnType::Varchar { length: 20 })
            },
        ],
        indexes: Vec::new(),
        keys: Some((coffer_table::Model::Duplicate, names(&["k1", "K2"]))),
        comment: "tab".to_owned(),
        partition: Some(PartitionBy {
            list: false,
            columns: names(&["k2"]),
            partitions: vec![
                partition("p1", PartitionValues::LessThan(value("2024-01-01"))),
                partition("p2", PartitionValues::Range { lower: value("2024-01-01"), upper: value("2024-02-01") }),
                partition("p3", PartitionValues::LessThan(vec![BoundText::MaxValue])),
            ],
        }),
        bucket_columns: names(&["k1"]),
        buckets: Some(8),
        properties: properties(&[("replication_num", "1"), ("a", "b")]),
    };
    assert_eq!(read, expected);
}

#[test]
fn column_types() {
    for (text, kind) in [
        ("boolean", ColumnType::Boolean),
        ("BOOL", ColumnType::Boolean),
        ("tinyint(4)", ColumnType::TinyInt),
        ("smallint", ColumnType::SmallInt),
        ("int(11)", ColumnType::Int),
        ("integer", ColumnType::Int),
        ("bigint", ColumnType::BigInt),
        ("largeint", ColumnType::LargeInt),
        ("float", ColumnType::Float),
        ("double precision", ColumnType::Double),
        ("decimal", ColumnType::Decimal { precision: 38, scale: 9 }),
        ("decimalv3(10)", ColumnType::Decimal { precision: 10, scale: 0 }),
        ("numeric(10, 10)", ColumnType::Decimal { precision: 10, scale: 10 }),
        ("datev2", ColumnType::Date),
        ("datetime", ColumnType::DateTime { scale: 0 }),
        ("datetimev2(6)", ColumnType::DateTime { scale: 6 }),
        ("char", ColumnType::Char { length: 1 }),
        ("char(255)", ColumnType::Char { length: 255 }),
        ("varchar", ColumnType::Varchar { length: 65_533 }),
        ("varchar(*)", ColumnType::Varchar { length: 65_533 }),
        ("text", ColumnType::String),
        ("string", ColumnType::String),
    ] {
        assert_eq!(create(&format!("create table t (a {text})")).columns[0].kind, kind, "{text}");
    }
    refused(&[
        ("create table t (a decimal(39))", "Precision of decimal must between 1 and 38"),
        ("create table t (a decimal(0))", "Precision of decimal"),
        ("create table t (a decimal(5,6))", "Scale of decimal"),
        ("create table t (a datetime(7))", "Scale of Datetime must be between 0 and 6"),
        ("create table t (a char(256))", "CHAR size must be between 1 and 255"),
        ("create table t (a varchar(0))", "VARCHAR size must be between 1 and 65533"),
    ]);
    syntax(&[
        ("create table t (a in)", "in)'"),
        ("create table t (a)", ")'"),
        ("create table t (a int(1,2))", "2))'"),
        ("create table t (a decimal(1,2,3))", "3))'"),
        ("create table t (a decimal('5'))", "'5'))'"),
        ("create table t (a varchar(99999999999))", "99999999999))'"),
    ]);
    not_supported(&["create table t (a json)", "create table t (a array<int>)", "create table t (a int unsigned)"]);
}

#[test]
fn defaults_and_orders() {
    let columns = create(
        "create table t (a int default -5 not null, b double default 1.5, c int default null, d bool default true)",
    )
    .columns;
    let times = create(
        "create table t (a datetime default current_timestamp, b datetime(3) default Current_Timestamp(3) not null,
         c datetime default current_timestamp(), d date default current_date)",
    );
    let times: Vec<_> = times.columns.iter().map(|column| column.default.as_deref()).collect();
    let (now, day) = ("CURRENT_TIMESTAMP", "CURRENT_DATE");
    assert_eq!(times, [Some(now), Some("CURRENT_TIMESTAMP(3)"), Some(now), Some(day)]);
    let defaults: Vec<_> = columns.iter().map(|column| column.default.as_deref()).collect();
    assert_eq!(defaults, [Some("-5"), Some("1.5"), None, Some("true")]);
    assert!(!columns[0].nullable);
    let table = create("create table t (a int) properties ('x'=1, y=z) distributed by random buckets auto");
    assert_eq!((table.buckets, table.bucket_columns.len()), (None, 0));
    assert_eq!(table.properties, properties(&[("x", "1"), ("y", "z")]));
    let table =
        create("create table t (a int, b int) partition by range(a, b) (partition p values less than (1, maxvalue))");
    let bounds = PartitionValues::LessThan(vec![BoundText::Value("1".to_owned()), BoundText::MaxValue]);
    assert_eq!(table.partition.unwrap().partitions[0].values, bounds);
    let table = create("create table t (a date) partition by range(a) () distributed by hash(a) buckets 3");
    assert_eq!((table.partition.unwrap().partitions.len(), table.buckets), (0, Some(3)));
}

#[test]
fn key_models_and_aggregations() {
    use coffer_table::{Aggregate, Model};
    let table = create("create table t (a int, s bigint sum not null default '0', m int null max) aggregate key (A)");
    assert_eq!(table.keys, Some((Model::Aggregate, names(&["A"]))));
    let found: Vec<_> = table.columns.iter().map(|column| (column.key, column.aggregate)).collect();
    assert_eq!(found, [(true, None), (false, Some(Aggregate::Sum)), (false, Some(Aggregate::Max))]);
    assert_eq!(create("create table t (a int) unique key(a)").keys, Some((Model::Unique, names(&["a"]))));
    let replaced = create("create table t (a int, b int replace_if_not_null, c int replace)");
    assert_eq!((replaced.keys, replaced.columns[2].aggregate), (None, Some(Aggregate::Replace)));
    assert_eq!(replaced.columns[1].aggregate, Some(Aggregate::ReplaceIfNotNull));
    refused(&[("create table t (a int, b int sum max)", "column 'b' has two aggregations")]);
}

#[test]
fn tables_that_are_refused() {
    refused(&[
        ("create table `t 1` (a int)", "Incorrect table name 't 1'. Table name regex is '^[a-zA-Z][a-zA-Z0-9-_]*$'"),
        ("create table t (`a;b` int)", "Incorrect column name 'a;b'"),
        ("create table t (a int, A int)", "Duplicate column name 'A'"),
        ("create table t (a int) distributed by hash(a) buckets 0", "Number of hash bucket should be larger than zero"),
        ("create table t (a int) properties ('a'='1','a'='2')", "Duplicated property: a"),
        (
            "create table t (a int) partition by range(a) (partition placeholder_1 values less than (1))",
            "Incorrect partition name",
        ),
        (
            "create table t (a int) partition by range(a) (partition p values less than (1), partition P values less than (2))",
            "Duplicated partition name: P",
        ),
    ]);
    assert_eq!(bad("create table t (a int, A int)").number(), 1060);
    syntax(&[
        ("create table", "'"),
        ("create table t", "'"),
        ("create table t ()", ")'"),
        ("create table t (a int", "'"),
        ("create table t (a int,)", ")'"),
        ("create table t (a int) bla", "bla'"),
        ("create table t (a int) distributed by a", "a'"),
        ("create table t (a int) distributed by hash(a) distributed by hash(a)", "distributed by hash(a)'"),
        ("create table t (a int) partition by range(a) (partition p values less than (b))", "b))'"),
        ("create table t (a int) partition by range(a) (partition p values [(1), (2)])", "])'"),
    ]);
    not_supported(&[
        "create table t like u",
        "create table t as select 1",
        "create table t (a int) as select 1",
        "create table t (a int primary key)",
        "create table t (a int, primary key (a))",
        "create table t (a int, fulltext i (a))",
        "create table t (a int hll_union)",
        "create table t (a int, b bitmap bitmap_union)",
        "create table t (a int, b hll hll_union)",
        "create table t (a int, b quantile_state quantile_union)",
        "create table t (a datetime default now())",
        "create table t (a varchar(40) default uuid())",
        "create table t (a int) engine=innodb",
        "create table t (a int) cluster by (a)",
        "create table t (a int) rollup (r (a))",
        "create table t (a date) auto partition by range(a) ()",
        "create external table t (a int)",
    ]);
}

#[test]
fn other_table_statements() {
    let drop = |table: &str, if_exists, force| Statement::DropTable { table: name(table), if_exists, force };
    let truncate = |partitions: &[&str]| Statement::TruncateTable { table: name("t"), partitions: names(partitions) };
    same(&[
        ("drop table t", drop("t", false, false)),
        ("DROP TABLE IF EXISTS `d`.\"t\" FORCE", drop("d.t", true, true)),
        ("truncate table t", truncate(&[])),
        ("truncate t partition (p1, `p2`)", truncate(&["p1", "p2"])),
        ("truncate table t partitions p1", truncate(&["p1"])),
        (
            "ALTER TABLE t SET (\"dynamic_partition.enable\" = \"true\")",
            Statement::AlterTableSet {
                table: name("t"),
                properties: properties(&[("dynamic_partition.enable", "true")]),
            },
        ),
    ]);
    syntax(&[
        ("drop table", "'"),
        ("drop table t u", "u'"),
        ("drop table a.", "'"),
        ("alter table t set ()", "'"),
        ("alter table t bla", "bla'"),
        ("alter table t set ('a' 'b')", "'b')'"),
        ("truncate table t partition ()", ")'"),
    ]);
    not_supported(&[
        "drop table a, b",
        "drop table a.b.c",
        "alter table t add column x int",
        "alter table t drop partition p, drop partition q",
        "alter table t rename column a b",
    ]);
}

#[test]
fn the_cluster() {
    let system = |change| Statement::AlterSystem(change);
    same(&[
        (
            "ALTER SYSTEM ADD BACKEND \"h1:9050\", 'h-2.x:9050'",
            system(AlterSystem::AddBackend(names(&["h1:9050", "h-2.x:9050"]))),
        ),
        (
            "alter system add backend '[::1]:9050' properties ()",
            system(AlterSystem::AddBackend(names(&["[::1]:9050"]))),
        ),
        ("alter system drop backend 'h:1'", system(AlterSystem::DropBackend(names(&["h:1"])))),
        ("alter system dropp backend 'h:1', '10001'", system(AlterSystem::ForceDropBackend(names(&["h:1", "10001"])))),
        (
            "alter system decommission backend 'h:1', '10001'",
            system(AlterSystem::DecommissionBackend(names(&["h:1", "10001"]))),
        ),
        ("cancel decommission backend 'h:1';", system(AlterSystem::CancelDecommission(names(&["h:1"])))),
        (
            "alter system add broker b 'h:8000'",
            system(AlterSystem::AddBroker { name: "b".to_owned(), addresses: names(&["h:8000"]) }),
        ),
        (
            "alter system drop broker \"b\" \"h:8000\"",
            system(AlterSystem::DropBroker { name: "b".to_owned(), addresses: names(&["h:8000"]) }),
        ),
        ("alter system drop all broker b", system(AlterSystem::DropAllBroker("b".to_owned()))),
        (
            "alter system add follower 'h:9010', 'i:9010'",
            system(AlterSystem::AddFollower(names(&["h:9010", "i:9010"]))),
        ),
        ("alter system add observer 'h:9010'", system(AlterSystem::AddObserver(names(&["h:9010"])))),
        ("alter system drop follower 'h:9010'", system(AlterSystem::DropFollower(names(&["h:9010"])))),
        ("alter system drop observer 'h:9010'", system(AlterSystem::DropObserver(names(&["h:9010"])))),
    ]);
    for address in ["h", "h:", ":1", "h:0", "h:65536", "h:+1", "h:x", "a b:1", "::1:9050", "[x]:1", "10001"] {
        let error = bad(&format!("alter system add backend '{address}'"));
        assert!(error.message().starts_with("Invalid host port: "), "{address}: {error}");
    }
    refused(&[
        ("alter system add broker `1` 'h:1'", "Incorrect broker name '1'"),
        ("alter system add backend 'h:1', 'h:1'", "Duplicated address: h:1"),
    ]);
    syntax(&[
        ("alter system", "'"),
        ("alter system add", "add'"),
        ("alter system add backend", "'"),
        ("alter system add backend h", "h'"),
        ("alter system add broker b", "'"),
        ("alter system decommission backend", "'"),
        ("cancel decommission backend h", "h'"),
        ("alter system blow up", "blow up'"),
    ]);
    not_supported(&[
        "alter system rename c",
        "alter system modify backend 'h:1' set ('a'='b')",
        "alter system add backend 'h:1' properties ('tag.location'='a')",
    ]);
}

#[test]
fn repositories() {
    let repository = |read_only, access, pairs: &[(&str, &str)]| {
        Statement::CreateRepository(CreateRepository {
            name: "r".to_owned(),
            if_not_exists: false,
            read_only,
            access,
            location: "s3://b/p".to_owned(),
            properties: properties(pairs),
        })
    };
    let altered = || Statement::AlterRepository { name: "r".to_owned(), properties: properties(&[("a", "b")]) };
    let limited = |addresses: &[&str]| {
        let (addresses, properties) = (names(addresses), properties(&[("max_bytes_per_second", "1M")]));
        Statement::AlterSystem(AlterSystem::ModifyBroker { name: "b".to_owned(), addresses, properties })
    };
    let twice = "create repository if not exists r with local on location '/r'";
    assert!(matches!(good(twice), Statement::CreateRepository(CreateRepository { if_not_exists: true, .. })));
    same(&[
        ("alter system modify broker b set ('max_bytes_per_second' = '1M')", limited(&[])),
        (
            "ALTER SYSTEM MODIFY BROKER b \"h:1\", \"i:2\" SET (\"max_bytes_per_second\" = \"1M\")",
            limited(&["h:1", "i:2"]),
        ),
        (
            "CREATE REPOSITORY `r` WITH BROKER `b` ON LOCATION \"s3://b/p\" PROPERTIES (\"username\" = \"u\", 'password'='')",
            repository(false, RepositoryAccess::Broker("b".to_owned()), &[("username", "u"), ("password", "")]),
        ),
        ("create read only repository r with s3 on location 's3://b/p'", repository(true, RepositoryAccess::S3, &[])),
        ("create repository r with hdfs on location 's3://b/p'", repository(false, RepositoryAccess::Hdfs, &[])),
        ("create repository r with local on location 's3://b/p'", repository(false, RepositoryAccess::Local, &[])),
        ("drop repository r", Statement::DropRepository { name: "r".to_owned(), if_exists: false }),
        ("drop repository if exists r", Statement::DropRepository { name: "r".to_owned(), if_exists: true }),
        ("alter repository r properties ('a'='b')", altered()),
        ("ALTER REPOSITORY `r` SET PROPERTIES (\"a\" = \"b\");", altered()),
    ]);
    refused(&[
        ("create repository `1r` with s3 on location 'x'", "Incorrect repository name '1r'"),
        ("create repository r with s3 on location ''", "the location of repository r is empty"),
        ("alter repository r properties ()", "ALTER REPOSITORY r: no property"),
        ("alter system modify broker b set ()", "MODIFY BROKER: no property"),
    ]);
    syntax(&[
        ("create repository r with nfs on location 'x'", "nfs on location"),
        ("create repository r on location 'x'", "on location 'x'"),
        ("create repository r with broker on location 'x'", "on location 'x'"),
        ("create repository r with s3 on location x", "x'"),
        ("create repository r with s3 on location 'x' properties", "'"),
        ("drop repository", "'"),
        ("alter repository r", "'"),
        ("alter repository r set ('a'='b')", "('a'='b')"),
    ]);
    for properties in [
        "('s3.secret_key'='hunter2' 'b'='c')",
        "('s3.secret_key' 'hunter2')",
        "('s3.secret_key'=-hunter2)",
        "('s3.secret_key'='hunter2",
        "('a', 's3.secret_key'='hunter2')",
    ] {
        for on in ["on", ""] {
            let error = bad(&format!("create repository r with s3 {on} location 'x' properties {properties}"));
            assert!(!error.message().contains("hunter2"), "{error}");
        }
    }
}

#[test]
fn indexes_stand_among_the_columns() {
    let read = create(
        "CREATE TABLE t (k INT, INDEX i (k, v) USING inverted PROPERTIES(\"parser\" = \"english\") COMMENT 'c',
         v INT, INDEX IF NOT EXISTS j (v), INDEX g (v) USING GIN (\"a\" = \"b\")) DISTRIBUTED BY HASH(k)",
    );
    assert_eq!(read.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["k", "v"]);
    let full = Index {
        name: "i".to_owned(),
        columns: names(&["k", "v"]),
        kind: Some("INVERTED"),
        properties: properties(&[("parser", "english")]),
        comment: "c".to_owned(),
    };
    assert_eq!(read.indexes[0], full);
    assert_eq!((read.indexes[1].name.as_str(), read.indexes[1].kind), ("j", None));
    assert_eq!((read.indexes[2].kind, read.indexes[2].properties.len()), (Some("GIN"), 1));
    for wrong in ["INDEX i", "INDEX i ()", "INDEX i (k) USING HASH", "INDEX (k)"] {
        assert!(super::super::parse(&format!("CREATE TABLE t (k INT, {wrong})")).is_err(), "{wrong}");
    }
}
