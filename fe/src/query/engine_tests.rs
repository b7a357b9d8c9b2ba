//! Statements against tables in memory.

use super::sample::Memory;
use super::*;
use crate::account::{AccountName, Digests, Grantee, Privilege, Scope};
use crate::meta::command::{AccountChange, Command, NewPartition, NewTable, Outcome};
use coffer_proto::ids::{BackendId, DbId, PartitionId, TableId, TransactionId};
use coffer_stdx::ErrorKind;
use coffer_table::{Bound, ColumnType, KeyRange, Scalar, Schema};
use datafusion::arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use futures::TryStreamExt;
use std::collections::HashMap;

/// `d.t (id int, Name varchar)` with two partitions by `id`, the second above 10, and `d.empty` of the same columns.
async fn engine() -> (Engine, Arc<Memory>, Meta) {
    let meta = Meta::in_memory();
    let created = |outcome: Outcome| match outcome {
        Outcome::Created(id) => id,
        other => panic!("{other:?}"),
    };
    meta.propose(Command::AddBackends { addresses: vec![("b".to_owned(), 1)], now_ms: 0 }).await.unwrap();
    let backend = meta.view(|state| *state.backends.keys().next().unwrap());
    let db = DbId(created(meta.propose(Command::CreateDatabase { name: "d".to_owned() }).await.unwrap()));
    let t = TableId(created(meta.propose(Command::CreateTable(table(db, "t", backend))).await.unwrap()));
    meta.propose(Command::CreateTable(table(db, "empty", backend))).await.unwrap();
    let parts: Vec<PartitionId> =
        meta.view(|state| state.databases[&db].tables[&t].partitions.keys().copied().collect());
    let begin = Command::BeginTransaction { label: "l".to_owned(), db, table: t, now_ms: 0, deadline_ms: 9 };
    let id = TransactionId(created(meta.propose(begin).await.unwrap()));
    let commit =
        Command::CommitTransaction { transaction: id, partitions: parts, rows: 4, tablets: Vec::new(), now_ms: 1 };
    meta.propose(commit).await.unwrap();
    meta.propose(Command::MakeVisible { transaction: id, now_ms: 2 }).await.unwrap();
    let tablets: Vec<u64> = meta.view(|state| state.databases[&db].tables[&t].tablets().map(|(_, t)| t.id.0).collect());
    let memory = Memory::of(HashMap::from([
        (tablets[0], vec![rows(&[Some(1), None], &["one", "none"])]),
        (tablets[1], vec![rows(&[Some(11)], &["eleven"]), rows(&[Some(12)], &["twelve"])]),
    ]));
    let engine = Engine::over(meta.clone(), Arc::clone(&memory) as _, &Config::default()).unwrap();
    (engine, memory, meta)
}

fn table(db: DbId, name: &str, backend: BackendId) -> NewTable {
    let column = |name: &str, kind, nullable| coffer_table::Column {
        name: name.to_owned(),
        kind,
        nullable,
        default: None,
        key: false,
        comment: String::new(),
        aggregate: None,
    };
    let partition = |name: &str, lower, upper| NewPartition {
        name: name.to_owned(),
        range: Some(KeyRange::new(vec![lower], vec![upper])),
        replication_num: 1,
        placement: vec![vec![backend]],
    };
    let ten = Bound::Value(Scalar::Int(10));
    NewTable {
        db,
        name: name.to_owned(),
        schema: Schema {
            model: coffer_table::Model::Duplicate,
            columns: vec![
                column("id", ColumnType::Int, true),
                column("Name", ColumnType::Varchar { length: 20 }, true),
            ],
        },
        partition_columns: vec!["id".to_owned()],
        partitioning: Default::default(),
        bucket_columns: Vec::new(),
        properties: BTreeMap::new(),
        comment: String::new(),
        partitions: vec![partition("low", Bound::Min, ten), partition("high", ten, Bound::Max)],
        now_ms: 0,
    }
}

fn rows(ids: &[Option<i32>], names: &[&str]) -> RecordBatch {
    let id = Arc::new(Int32Array::from(ids.to_vec())) as ArrayRef;
    let name = Arc::new(StringArray::from(names.to_vec())) as ArrayRef;
    RecordBatch::try_from_iter_with_nullable([("id", id, true), ("Name", name, true)]).unwrap()
}

fn root() -> Who {
    Who { user: "root".to_owned(), host: "h".to_owned(), account: None }
}

fn caller() -> Caller {
    let variables = BTreeMap::from([("sql_mode".to_owned(), "ANSI".to_owned()), ("@x".to_owned(), "7".to_owned())]);
    Caller {
        who: root(),
        database: Some("d".to_owned()),
        connection: 9,
        version: "8.0.33",
        variables: Arc::new(variables),
    }
}

async fn ask(engine: &Engine, sql: &str) -> Result<Vec<Vec<String>>> {
    let stream = engine.query(&caller(), sql).await?;
    let headings = stream.columns.iter().map(|column| column.name.clone()).collect();
    let batches: Vec<Vec<coffer_mysql::Row>> = stream.into_rows().try_collect().await?;
    let shown = batches.into_iter().flatten().map(|row| row.iter().map(ToString::to_string).collect());
    Ok(std::iter::once(headings).chain(shown).collect())
}

async fn one(engine: &Engine, sql: &str) -> String {
    ask(engine, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))[1].join("|")
}

#[tokio::test]
async fn tables_are_read_filtered_and_sorted() {
    let (engine, memory, _) = engine().await;
    let shown = ask(&engine, "SELECT ID, NAME AS n FROM t ORDER BY id").await.unwrap();
    assert_eq!(shown, [["ID", "n"], ["NULL", "none"], ["1", "one"], ["11", "eleven"], ["12", "twelve"]]);
    assert_eq!(memory.opened().len(), 2);
    let shown = ask(&engine, "SELECT * FROM d.t WHERE id > 11").await.unwrap();
    assert_eq!(shown, [["id", "Name"], ["12", "twelve"]]);
    assert_eq!(memory.opened().len(), 3, "the low partition is left out");
    assert_eq!(one(&engine, "SELECT count(*), max(`name`) FROM t").await, "4|twelve");
    assert_eq!(one(&engine, "SELECT count(*) FROM internal.d.empty").await, "0");
    assert_eq!(one(&engine, "SELECT count(*) FROM t a JOIN t b ON a.id = b.Id").await, "3");
    assert_eq!(one(&engine, "WITH c AS (SELECT id FROM t) SELECT count(id) FROM c").await, "3");
    assert_eq!(ask(&engine, "SELECT id FROM t LIMIT 1, 2").await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_statement_may_name_the_partitions_it_reads() {
    let (engine, memory, _) = engine().await;
    assert_eq!(one(&engine, "SELECT count(*), min(t.id) FROM t PARTITION (high)").await, "2|11");
    assert_eq!(memory.opened().len(), 1, "one partition, one tablet");
    assert_eq!(one(&engine, "SELECT count(*) FROM d.t PARTITION (LOW, high) x WHERE x.ID > 11").await, "1");
    let both = "SELECT a.n, b.n FROM (SELECT count(*) n FROM t PARTITION (low)) a, (SELECT count(*) n FROM t) b";
    assert_eq!(one(&engine, both).await, "2|4");
    let error = ask(&engine, "SELECT * FROM t PARTITION (nope)").await.unwrap_err();
    assert_eq!(error.message(), "Unknown partition nope in table t");
    assert_eq!(ask(&engine, "SELECT * FROM t PARTITION low").await.unwrap_err().number(), 1064);
    let plan = ask(&engine, "EXPLAIN SELECT * FROM t PARTITION (low)").await.unwrap().concat().join(" ");
    assert!(plan.contains("ScanExec: table=t, partitions=1/2, tablets=1"), "{plan}");
}

#[tokio::test]
async fn checksums_add_up() {
    let (engine, _, _) = engine().await;
    let all: u64 = one(&engine, "SELECT checksum(id) FROM t").await.parse().unwrap();
    let low: u64 = one(&engine, "SELECT checksum(id) FROM t WHERE id < 10 OR id IS NULL").await.parse().unwrap();
    let high: u64 = one(&engine, "SELECT checksum(id) FROM t WHERE id >= 10").await.parse().unwrap();
    assert_eq!(all, low.wrapping_add(high));
    assert_eq!(one(&engine, "SELECT checksum(id, Name) FROM empty").await, "0");
    let grouped = ask(&engine, "SELECT id, checksum(Name) FROM t GROUP BY id").await.unwrap();
    assert_eq!(grouped.len(), 5);
}

#[tokio::test]
async fn expressions_mean_what_they_mean_in_mysql() {
    let (engine, _, _) = engine().await;
    for (sql, expected) in [
        ("SELECT 5 / 2, 5 DIV 2, 5 % 3, 1 / 0, 1.10 + 1", "2.5|2|2|NULL|2.10"),
        ("SELECT 1.5e3, -2.25e300, 1E-2 + 1", "1500|-2.25e300|1.01"),
        ("SELECT database(), schema(), connection_id()", "d|d|9"),
        ("SELECT current_user(), USER(), version()", "'root'@'%'|'root'@'h'|8.0.33"),
        ("SELECT sum(id), cast(sum(id) AS char) FROM t GROUP BY Name ORDER BY sum(id) DESC LIMIT 1", "12|12"),
        ("SELECT 1, 1, 'a', \"A\" AS x, 1 AS X", "1|1|a|A|1"),
        ("SELECT @@sql_mode, @x, @y", "ANSI|7|NULL"),
        ("SELECT @@session.sql_mode", "ANSI"),
        ("SELECT if(1 > 2, 'a', 'b'), ifnull(NULL, 3)", "b|3"),
        ("SELECT year('2024-02-03'), month(date '2024-02-03')", "2024|2"),
        ("SELECT \"it's\", 'a\\'b'", "it's|a'b"),
        (
            "SELECT date_format('2009-10-04 22:23:00', '%W %M %Y %D'), date_format(NULL, '%Y')",
            "Sunday October 2009 4th|NULL",
        ),
        ("SELECT date_format(date '2024-02-03', '%Y-%m-%d %H:%i:%s')", "2024-02-03 00:00:00"),
        ("SELECT cast('12.345' AS decimal(10, 2))", "12.35"),
        ("SELECT 10 - 7 div 2 - 1, 7 div 2 + 1, 8 div 2 div 2, 7 div 2 * 2, 7 mod 4, mod(9, 4)", "6|4|2|6|3|1"),
        ("SELECT count(*) FROM t WHERE id div 10 = 1", "2"),
        ("SELECT count(*) FROM t WHERE (id > 11) = 1", "1"),
        ("SELECT (1 = 1) = 'true', (1 = 1) = 0, (1 = 1) IN (0, 1), (1 > 0) + 1", "1|0|1|2"),
        ("SELECT 'abc' REGEXP 'b', 'abc' NOT RLIKE '^b', NULL REGEXP 'b'", "1|1|NULL"),
        ("SELECT length('日本語'), char_length('日本語'), concat('a', NULL), concat('a', 1, 'b')", "9|3|NULL|a1b"),
        ("SELECT substr('abc', -2), substr('abc', 0), substring('abc' FROM 2 FOR 1), mid('abc', 2)", "bc||b|bc"),
        ("SELECT hex('a'), hex(255), hex(-1)", "61|FF|FFFFFFFFFFFFFFFF"),
        ("SELECT group_concat(Name ORDER BY id DESC SEPARATOR '; ') FROM t WHERE id > 10", "twelve; eleven"),
        ("SELECT group_concat(id) FROM t WHERE id = 11", "11"),
        ("SELECT 99999999999999999999999999999999999999", "99999999999999999999999999999999999999"),
        ("SELECT count(*) FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = 'd'", "2"),
    ] {
        assert_eq!(one(&engine, sql).await, expected, "{sql}");
    }
    let plan = ask(&engine, "EXPLAIN SELECT * FROM t WHERE id = 3").await.unwrap();
    let text = plan.concat().join(" ");
    assert!(text.contains("ScanExec: table=t, partitions=1/2, tablets=1"), "{text}");
}

#[tokio::test]
async fn times_reach_to_the_year_9999() {
    let (engine, _, _) = engine().await;
    let last = "(SELECT cast('9999-12-31 23:59:59' AS datetime) dt, Name FROM t WHERE id = 1) x";
    for (condition, expected) in [
        ("dt > '9999-01-01'", "1"),
        ("dt = '9999-12-31 23:59:59'", "1"),
        ("'2500-01-01 00:00:00' > dt", "0"),
        ("dt > timestamp '9999-12-31 00:00:00'", "1"),
        ("dt > date '9999-12-31'", "1"),
        ("dt BETWEEN '2500-01-01' AND '9999-12-31 23:59:59'", "1"),
        ("dt IN ('2500-01-01', '9999-12-31 23:59:59')", "1"),
        ("dt > now()", "1"),
        ("dt < now() + INTERVAL 1 DAY", "0"),
        ("date_trunc('month', dt) = '9999-12-01'", "1"),
        ("date_trunc(dt, 'day') = date(dt)", "1"),
        ("dt - INTERVAL 1 YEAR = '9998-12-31 23:59:59'", "1"),
        ("dt + INTERVAL length(Name) DAY IS NULL", "1"),
        ("datediff(dt, '9999-12-01') = 30", "1"),
    ] {
        assert_eq!(
            one(&engine, &format!("SELECT count(*) FROM {last} WHERE {condition}")).await,
            expected,
            "{condition}"
        );
    }
    for (sql, expected) in [
        ("SELECT date_add('2024-01-31', INTERVAL 1 MONTH), date('2024-01-31 10:00:00')", "2024-02-29|2024-01-31"),
        ("SELECT datediff('2024-03-01', '2024-02-01'), unix_timestamp('1970-01-02')", "29|86400"),
        ("SELECT from_unixtime(0) = '1970-01-01', from_unixtime(86400, '%d')", "1|02"),
        ("SELECT now() = current_timestamp, unix_timestamp() = unix_timestamp(now())", "1|1"),
        ("SELECT unix_timestamp(now()) - unix_timestamp(utc_timestamp())", "0"),
    ] {
        assert_eq!(one(&engine, sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn clocks_show_the_time_of_the_session() {
    let (engine, _, _) = engine().await;
    let variables = BTreeMap::from([("time_zone".to_owned(), "+02:00".to_owned())]);
    let caller = Caller { variables: Arc::new(variables), ..caller() };
    let sql = "SELECT now() - INTERVAL 2 HOUR = utc_timestamp(), unix_timestamp('1970-01-01 02:00:00'), from_unixtime(0) \
               = '1970-01-01 02:00:00', unix_timestamp() = unix_timestamp(now())";
    let rows: Vec<Vec<coffer_mysql::Row>> =
        engine.query(&caller, sql).await.unwrap().into_rows().try_collect().await.unwrap();
    let row: Vec<String> = rows.concat()[0].iter().map(ToString::to_string).collect();
    assert_eq!(row, ["1", "0", "1", "1"]);
}

#[tokio::test]
async fn errors_are_those_that_clients_know() {
    let (engine, memory, _) = engine().await;
    for (sql, kind, number, text) in [
        ("SELECT * FROM nope", ErrorKind::NotFound, 1051, "Unknown table 'nope'"),
        ("SELECT * FROM x.t", ErrorKind::NotFound, 1049, "Unknown database 'x'"),
        ("SELECT nope FROM t", ErrorKind::NotFound, 1054, "Unknown column 'nope' in 'field list'"),
        ("SELECT @@nope", ErrorKind::Invalid, 1193, "Unknown system variable 'nope'"),
        ("SELEC 1", ErrorKind::Invalid, 1064, "Expected"),
        ("COPY t TO '/tmp/x'", ErrorKind::NotSupported, 0, "COPY t is not supported"),
        ("CREATE TABLE x AS SELECT 1", ErrorKind::NotSupported, 0, "CREATE TABLE is not supported"),
        ("INSERT INTO t SELECT 1, 'x'", ErrorKind::NotSupported, 0, "INSERT INTO is not supported"),
        ("EXPLAIN INSERT INTO t SELECT 1, 'x'", ErrorKind::NotSupported, 0, "INSERT INTO is not supported"),
        ("SET x = 1", ErrorKind::NotSupported, 0, "SET x is not supported"),
        ("SELECT -1e400", ErrorKind::Invalid, 1367, "Illegal double '1e400' value found during parsing"),
        ("SELECT b'101'", ErrorKind::NotSupported, 0, "the bit literal b'101' is not supported"),
        ("SELECT cast('x' AS int)", ErrorKind::Invalid, 0, "Cannot cast string 'x'"),
    ] {
        let error = ask(&engine, sql).await.unwrap_err();
        assert_eq!((error.kind(), error.number()), (kind, number), "{sql}: {error}");
        assert!(error.message().contains(text), "{sql}: {error}");
    }
    let nowhere = Caller { who: root(), ..Caller::default() };
    assert_eq!(engine.query(&nowhere, "SELECT * FROM t").await.unwrap_err().number(), 1046);
    let tablet = memory.any_tablet();
    memory.break_after("b:1", tablet, 0, Error::unavailable("backend b:1: connection refused"));
    let error = ask(&engine, "SELECT * FROM t").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("connection refused"), "{error}");
}

#[tokio::test]
async fn tables_are_read_by_those_who_may() {
    let (engine, _, meta) = engine().await;
    let name = AccountName::new("eve", "%").unwrap();
    let create = AccountChange::CreateUser { name: name.clone(), digests: Digests::default(), roles: [].into() };
    meta.propose(Command::Account(create)).await.unwrap();
    let caller = |user: &str| Caller { who: Who { user: user.to_owned(), ..root() }, ..caller() };
    let ask = async |user: &str, sql: &str| match engine.query(&caller(user), sql).await {
        Ok(stream) => stream.into_rows().try_collect::<Vec<_>>().await.map(|rows| rows.concat().len()),
        Err(error) => Err(error),
    };
    let listed = "SELECT TABLE_NAME FROM information_schema.tables WHERE TABLE_SCHEMA = 'd'";
    let both = "SELECT t.id FROM t, information_schema.tables";
    let hidden = "SELECT * FROM (WITH t AS (SELECT 1) SELECT * FROM t) x, t, information_schema.tables";
    assert_eq!(ask("bob", "SELECT 1").await.unwrap_err().number(), 1045);
    assert_eq!(ask("eve", "SELECT 1").await, Ok(1));
    assert_eq!(ask("eve", listed).await, Ok(0));
    for sql in ["SELECT * FROM t", "SELECT * FROM d.t", "SELECT * FROM gone", "EXPLAIN SELECT * FROM t", both] {
        let error = ask("eve", sql).await.unwrap_err();
        assert_eq!(error.number(), 1142, "{sql}: {error}");
    }
    let grant = |privilege| {
        let scope = Scope::Table("d".to_owned(), "t".to_owned());
        AccountChange::Grant { to: Grantee::User(name.clone()), scope, privileges: [privilege].into() }
    };
    meta.propose(Command::Account(grant(Privilege::Load))).await.unwrap();
    assert_eq!(ask("eve", listed).await, Ok(1), "what one may load is listed");
    assert_eq!(ask("eve", both).await.unwrap_err().number(), 1142);
    assert!(ask("eve", hidden).await.is_err(), "listed is not readable");
    meta.propose(Command::Account(grant(Privilege::Select))).await.unwrap();
    assert_eq!(ask("eve", "SELECT * FROM d.t").await, Ok(4));
    assert!(ask("eve", both).await.is_ok());
}

#[test]
fn deep_but_allowed_expressions_are_planned_and_run() {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (engine, _, _) = engine().await;
            let sum = vec!["id"; 200].join(" + ");
            assert_eq!(one(&engine, &format!("SELECT {sum} FROM t WHERE id = 1")).await, "200");
            let any: Vec<String> = (0..100).map(|value| format!("Name = '{value}'")).collect();
            assert_eq!(one(&engine, &format!("SELECT count(*) FROM t WHERE {}", any.join(" OR "))).await, "0");
        });
    };
    // The stack that the frontend gives its threads.
    std::thread::Builder::new().stack_size(crate::limits::THREAD_STACK_BYTES).spawn(run).unwrap().join().unwrap();
}

#[tokio::test]
async fn the_versions_are_those_of_the_start() {
    let (engine, _, meta) = engine().await;
    let stream = engine.query(&caller(), "SELECT id FROM t").await.unwrap();
    let ids = meta.view(|state| {
        let database = state.find_database("d").unwrap();
        (database.id, database.table("t").unwrap().id)
    });
    meta.propose(Command::DropTable { db: ids.0, table: ids.1 }).await.unwrap();
    let rows: Vec<Vec<coffer_mysql::Row>> = stream.into_rows().try_collect().await.unwrap();
    assert_eq!(rows.concat().len(), 4);
}

#[tokio::test]
async fn an_endless_query_leaves_others_alone_and_ends_when_nobody_waits_for_it() {
    let (engine, _, _) = engine().await;
    let endless = format!("SELECT count(*) FROM t t0{}", (1..40).map(|n| format!(", t t{n}")).collect::<String>());
    let caller = Caller { who: root(), database: Some("d".to_owned()), ..Caller::default() };
    let mut running: Vec<QueryStream> = Vec::new();
    for _ in 0..8 {
        running.push(engine.query(&caller, &endless).await.unwrap());
    }
    assert_eq!(one(&engine, "SELECT 1").await, "1");
    assert!(engine.lane.tasks() >= 8);
    drop(running);
    let ended = async {
        while engine.lane.tasks() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), ended).await.unwrap();
}
