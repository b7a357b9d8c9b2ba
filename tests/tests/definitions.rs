//! What the catalog defines beyond tables: partitions that come and go, the recycle bin, views, dynamic partitions,
//! colocation groups, and what shows them; as a client sees it.

use coffer_tests::wait::eventually;
use coffer_tests::{Cluster, Outcome, Sql};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

async fn cluster(backends: usize) -> anyhow::Result<(Cluster, Sql)> {
    let cluster = Cluster::builder().backends(backends).brokers(0).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run("USE d").await?;
    Ok((cluster, sql))
}

fn table(name: &str, partitions: &str, properties: &str) -> String {
    format!(
        "CREATE TABLE {name} (k INT, v VARCHAR(10)) {partitions} DISTRIBUTED BY HASH(k) BUCKETS 2 \
         PROPERTIES (\"replication_num\" = \"1\"{properties})"
    )
}

async fn keys(sql: &mut Sql, from: &str) -> anyhow::Result<String> {
    let rows = sql.table(&format!("SELECT k FROM {from} ORDER BY k")).await?;
    Ok(rows.concat().join(" "))
}

async fn column(sql: &mut Sql, show: &str, name: &str) -> anyhow::Result<String> {
    let rows = sql.query(show).await?;
    Ok(rows.iter().map(|row| row.get(name)).collect::<Vec<_>>().join(" "))
}

async fn partitions(sql: &mut Sql, table: &str) -> anyhow::Result<String> {
    column(sql, &format!("SHOW PARTITIONS FROM {table}"), "PartitionName").await
}

const TWO: &str =
    "PARTITION BY RANGE(k) (PARTITION p1 VALUES LESS THAN (\"10\"), PARTITION p2 VALUES LESS THAN (\"20\"))";

#[tokio::test(flavor = "multi_thread")]
async fn partitions_come_and_go_and_come_back() -> Outcome {
    let (cluster, mut sql) = cluster(1).await?;
    sql.run(&table("t", TWO, "")).await?;
    sql.run("INSERT INTO t VALUES (1, 'a'), (11, 'b')").await?;
    assert!(sql.error("INSERT INTO t VALUES (21, 'c')").await?.message.contains("partition"));
    sql.run("ALTER TABLE t ADD PARTITION p3 VALUES LESS THAN (\"30\")").await?;
    sql.run("ALTER TABLE t ADD PARTITION IF NOT EXISTS p3 VALUES LESS THAN (\"30\")").await?;
    sql.run("ALTER TABLE t ADD PARTITIONS FROM (\"40\") TO (\"60\") INTERVAL 10").await?;
    sql.run("INSERT INTO t VALUES (21, 'c'), (45, 'd')").await?;
    assert_eq!(partitions(&mut sql, "t").await?, "p1 p2 p3 p_40 p_50");
    assert_eq!(sql.error("ALTER TABLE t ADD PARTITION p3 VALUES LESS THAN (\"90\")").await?.code, 1517);
    let clash = sql.error("ALTER TABLE t ADD PARTITION p9 VALUES [(\"5\"), (\"15\"))").await?;
    assert!(clash.message.contains("is intersected with range"), "{}", clash.message);

    sql.run("ALTER TABLE t DROP PARTITION p2").await?;
    assert_eq!(keys(&mut sql, "t").await?, "1 21 45");
    assert_eq!(sql.error("ALTER TABLE t DROP PARTITION p2").await?.code, 1507);
    sql.run("ALTER TABLE t DROP PARTITION IF EXISTS p2").await?;
    sql.run("RECOVER PARTITION p2 FROM t").await?;
    assert_eq!(keys(&mut sql, "t").await?, "1 11 21 45");
    sql.run("ALTER TABLE t DROP PARTITION p3 FORCE").await?;
    assert!(sql.error("RECOVER PARTITION p3 FROM t").await?.message.contains("No partition named 'p3'"));
    sql.run("TRUNCATE TABLE t PARTITION (p1) FORCE").await?;
    assert_eq!(keys(&mut sql, "t").await?, "11 45");

    sql.run("ALTER TABLE t RENAME PARTITION p2 q").await?;
    sql.run("ALTER TABLE t RENAME u").await?;
    assert_eq!(keys(&mut sql, "u PARTITION (q)").await?, "11");
    sql.run(&table("t", TWO, "")).await?;
    sql.run("DROP TABLE u").await?;
    let bin = sql.query("SHOW CATALOG RECYCLE BIN WHERE Name = 'u'").await?;
    assert_eq!((bin.len(), bin[0].get("Type")), (1, "Table"));
    assert_eq!(sql.error("RECOVER TABLE u AS t").await?.code, 1050);
    sql.run("RECOVER TABLE u AS w").await?;
    assert_eq!(keys(&mut sql, "w").await?, "11 45");
    sql.run("DROP DATABASE d").await?;
    assert_eq!(sql.error("SHOW TABLES FROM d").await?.code, 1049);
    sql.run("RECOVER DATABASE d").await?;
    assert_eq!(keys(&mut sql, "d.w").await?, "11 45");

    // What is too old in the bin is gone.
    sql.run("DROP TABLE d.w").await?;
    sql.run("ADMIN SET FRONTEND CONFIG (\"catalog_trash_expire_second\" = \"0\")").await?;
    eventually("the recycle bin is empty", LIMIT, async || {
        let rows = cluster.sql().table("SHOW CATALOG RECYCLE BIN").await?;
        anyhow::ensure!(rows.is_empty(), "{rows:?}");
        Ok(())
    })
    .await?;
    assert!(sql.error("RECOVER TABLE d.w").await?.message.contains("not in the recycle bin"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_take_their_keys_and_survive_a_backup() -> Outcome {
    let (cluster, mut sql) = cluster(1).await?;
    let list =
        "PARTITION BY LIST(v) (PARTITION north VALUES IN ('oslo', 'turku'), PARTITION rest VALUES IN ('lima', NULL))";
    sql.run(&table("t", list, "")).await?;
    sql.run("INSERT INTO t VALUES (1, 'oslo'), (2, 'lima'), (3, NULL)").await?;
    assert!(sql.error("INSERT INTO t VALUES (4, 'rome')").await?.message.contains("partition"));
    assert_eq!(keys(&mut sql, "t PARTITION (rest)").await?, "2 3");
    assert_eq!(keys(&mut sql, "t WHERE v = 'oslo'").await?.as_str(), "1");
    let text = sql.query("SHOW CREATE TABLE t").await?.remove(0).get("Create Table").to_owned();
    assert!(text.contains("PARTITION BY LIST(`v`)") && text.contains("IN ((\"lima\"), (NULL))"), "{text}");
    let twice = sql.error("ALTER TABLE t ADD PARTITION p VALUES IN ('oslo')").await?;
    assert!(twice.message.contains("is conflict with current partitionKeys"), "{}", twice.message);
    sql.run(&format!("CREATE REPOSITORY r WITH LOCAL ON LOCATION \"{}\"", cluster.location("r"))).await?;
    sql.run("BACKUP SNAPSHOT d.s TO r").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let timestamp = sql.timestamp("r", "s").await?;
    sql.run("ALTER TABLE t ADD PARTITION p VALUES IN ('rome')").await?;
    sql.run("INSERT INTO t VALUES (4, 'rome'), (5, 'oslo')").await?;
    sql.run(&format!("RESTORE SNAPSHOT d.s FROM r PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")")).await?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!(keys(&mut sql, "t").await?, "1 2 3 4");
    // What the restore replaced can be looked at beside it.
    let bin = column(&mut sql, "SHOW CATALOG RECYCLE BIN", "Name").await?;
    assert_eq!(bin, "north rest");
    sql.run("DROP TABLE t FORCE").await?;
    sql.run(&text.replace("IN ((\"lima\"), (NULL))", "IN ((\"lima\"))")).await?;
    let other = format!("RESTORE SNAPSHOT d.s FROM r PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")");
    assert!(sql.error(&other).await?.message.contains("has different partition item"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn views_are_read_and_shown_and_follow_their_database() -> Outcome {
    let (cluster, mut sql) = cluster(1).await?;
    sql.run(&table("t", TWO, "")).await?;
    sql.run("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (11, 'a')").await?;
    sql.run("CREATE VIEW v (Letter COMMENT \"of t\", n) COMMENT \"letters\" AS SELECT v, count(*) FROM t GROUP BY v")
        .await?;
    sql.run("CREATE VIEW top AS SELECT letter FROM v WHERE N > 1").await?;
    assert_eq!(sql.table("SELECT letter, n FROM v ORDER BY letter").await?, [["a", "2"], ["b", "1"]]);
    assert_eq!(sql.table("SELECT x.letter FROM d.top x JOIN v ON x.letter = v.Letter").await?, [["a"]]);
    assert_eq!(column(&mut sql, "DESC v", "Field").await?, "Letter n");
    assert_eq!(sql.table("SHOW TABLES").await?.concat(), ["t", "top", "v"]);
    assert_eq!(column(&mut sql, "SHOW FULL TABLES WHERE Table_type = 'VIEW'", "Tables_in_d").await?, "top v");
    let shown = column(&mut sql, "SHOW CREATE VIEW v", "Create View").await?;
    assert!(shown.contains("FROM `d`.`t`"), "{shown}");
    assert_eq!(column(&mut sql, "SHOW VIEW FROM t", "View").await?, "v");
    let listed = "SELECT table_name FROM information_schema.views WHERE table_schema = 'd' ORDER BY table_name";
    assert_eq!(sql.table(listed).await?.concat(), ["top", "v"]);
    for (statement, code) in [
        ("CREATE VIEW v AS SELECT 1 AS x", 1050),
        ("CREATE TABLE v (k INT) DISTRIBUTED BY HASH(k)", 1050),
        ("CREATE VIEW w AS SELECT * FROM missing", 1051),
        ("CREATE VIEW w (a, b) AS SELECT 1 AS x", 1353),
        ("CREATE VIEW w AS SELECT 1 AS x, 2 AS X", 1060),
        ("DROP TABLE v", 1347),
        ("DROP VIEW t", 1347),
        ("DROP VIEW missing", 1051),
    ] {
        let error = sql.error(statement).await?;
        assert_eq!(error.code, code, "{statement}: {}", error.message);
    }
    assert!(
        sql.error("CREATE OR REPLACE VIEW v AS SELECT letter FROM top").await?.message.contains("cannot read itself")
    );
    // A user of the view needs no right on what it reads.
    sql.run("CREATE USER eve").await?;
    sql.run("GRANT SELECT_PRIV ON d.v TO eve").await?;
    let mut eve = cluster.sql().as_user("eve", "");
    assert_eq!(eve.table("SELECT count(*) FROM d.v").await?, [["2"]]);
    assert_eq!(eve.error("SELECT count(*) FROM d.t").await?.code, 1142);

    sql.run(&format!("CREATE REPOSITORY r WITH LOCAL ON LOCATION \"{}\"", cluster.location("r"))).await?;
    sql.run("BACKUP SNAPSHOT d.s TO r").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let timestamp = sql.timestamp("r", "s").await?;
    let details = format!("SHOW SNAPSHOT ON r WHERE SNAPSHOT = 's' AND TIMESTAMP = '{timestamp}'");
    assert!(column(&mut sql, &details, "Details").await?.contains("\"name\": \"top\""));
    sql.run("CREATE DATABASE e").await?;
    let restore = |what: &str, more: &str| {
        format!("RESTORE SNAPSHOT {what} PROPERTIES (\"backup_timestamp\" = \"{timestamp}\"{more})")
    };
    sql.run(&restore("e.s FROM r", "")).await?;
    sql.job_finished("SHOW RESTORE FROM e").await?;
    sql.run("DROP TABLE d.t").await?;
    assert_eq!(sql.table("SELECT letter FROM e.top").await?, [["a"]]);
    assert!(column(&mut sql, "SHOW CREATE VIEW e.top", "Create View").await?.contains("`e`.`v`"));
    sql.run("CREATE OR REPLACE VIEW e.v AS SELECT 1 AS letter, 2 AS n").await?;
    let differs = sql.error(&restore("e.s FROM r ON (v)", "")).await?;
    assert!(differs.message.contains("View v already exist but with different schema"), "{}", differs.message);
    sql.run(&restore("e.s FROM r ON (v AS v2)", "")).await?;
    sql.job_finished("SHOW RESTORE FROM e").await?;
    assert_eq!(sql.table("SELECT n FROM e.v2 ORDER BY n").await?.concat(), ["1", "2"]);
    let force = ", \"atomic_restore\" = \"true\", \"force_replace\" = \"true\", \"clean_tables\" = \"true\"";
    sql.run(&restore("e.s FROM r ON (t, v)", force)).await?;
    sql.job_finished("SHOW RESTORE FROM e").await?;
    assert_eq!(sql.table("SHOW TABLES FROM e").await?.concat(), ["t", "v"]);
    assert_eq!(sql.table("SELECT n FROM e.v ORDER BY n").await?.concat(), ["1", "2"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dynamic_partitions_are_made_dropped_and_put_to_sleep() -> Outcome {
    let (cluster, mut sql) = cluster(1).await?;
    let properties = ", \"dynamic_partition.time_unit\" = \"DAY\", \"dynamic_partition.end\" = \"2\", \
                      \"dynamic_partition.prefix\" = \"p\", \"dynamic_partition.start\" = \"-1\"";
    let create = |name: &str, partitions: &str| {
        format!(
            "CREATE TABLE {name} (day DATE, k INT) PARTITION BY RANGE(day) ({partitions}) \
             DISTRIBUTED BY HASH(k) BUCKETS 1 PROPERTIES (\"replication_num\" = \"1\"{properties})"
        )
    };
    sql.run(&create("t", "")).await?;
    assert_eq!(partitions(&mut sql, "t").await?.split(' ').count(), 3);
    assert!(sql.error("ALTER TABLE t DROP PARTITION p1").await?.message.contains("Dynamic Partition Table"));
    sql.run("INSERT INTO t SELECT current_date(), 1").await?;
    sql.run(&format!("CREATE REPOSITORY r WITH LOCAL ON LOCATION \"{}\"", cluster.location("r"))).await?;
    sql.run("BACKUP SNAPSHOT d.s TO r ON (t)").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let timestamp = sql.timestamp("r", "s").await?;
    let restore = |more: &str| {
        format!("RESTORE SNAPSHOT d.s FROM r ON (t AS {more}) PROPERTIES (\"backup_timestamp\" = \"{timestamp}\"")
    };
    sql.run(&format!("{})", restore("asleep"))).await?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    sql.run(&format!("{}, \"reserve_dynamic_partition_enable\" = \"true\")", restore("awake"))).await?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!(column(&mut sql, "SHOW DYNAMIC PARTITION TABLES FROM d", "Enable").await?, "false true true");
    // A partition that is too old goes to the bin once the table wakes up.
    sql.run("ALTER TABLE asleep ADD PARTITION ancient VALUES [(\"2001-01-01\"), (\"2001-01-02\"))").await?;
    sql.run("ALTER TABLE asleep SET (\"dynamic_partition.enable\" = \"true\")").await?;
    eventually("the old partition is dropped", LIMIT, async || {
        let left = partitions(&mut cluster.sql(), "d.asleep").await?;
        anyhow::ensure!(!left.contains("ancient"), "{left}");
        Ok(())
    })
    .await?;
    assert_eq!(column(&mut sql, "SHOW CATALOG RECYCLE BIN", "Name").await?, "ancient");
    let bad = sql.error("ALTER TABLE t SET (\"dynamic_partition.time_unit\" = \"HOUR\")").await?;
    assert!(bad.message.contains("HOUR could not be applied"), "{}", bad.message);
    let missing = "CREATE TABLE x (day DATE) PARTITION BY RANGE(day) () DISTRIBUTED BY HASH(day) \
                   PROPERTIES (\"dynamic_partition.end\" = \"1\")";
    assert!(sql.error(missing).await?.message.contains("Must assign dynamic_partition.time_unit"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_colocation_group_lies_together_and_shows_say_where() -> Outcome {
    let (cluster, mut sql) = cluster(2).await?;
    let group = ", \"colocate_with\" = \"g\"";
    sql.run(&table("other", "", "")).await?;
    sql.run(&table("a", TWO, group)).await?;
    sql.run(&table("b", "", group)).await?;
    sql.run("ALTER TABLE a ADD PARTITION p3 VALUES LESS THAN (\"30\")").await?;
    sql.run("TRUNCATE TABLE a PARTITION (p1)").await?;
    let backends = "BackendId";
    let of_b = column(&mut sql, "SHOW TABLETS FROM b", backends).await?;
    for partition in ["p1", "p2", "p3"] {
        assert_eq!(column(&mut sql, &format!("SHOW TABLETS FROM a PARTITION ({partition})"), backends).await?, of_b);
    }
    assert_eq!(column(&mut sql, "SHOW PROC '/colocation_group'", "IsStable").await?, "true");
    let other = table("c", "", group).replace("BUCKETS 2", "BUCKETS 3");
    assert!(sql.error(&other).await?.message.contains("Colocate tables must have same bucket num"));
    let types = table("c", "", group).replace("HASH(k)", "HASH(v)");
    assert!(sql.error(&types).await?.message.contains("must have the same data type"));

    sql.run("INSERT INTO a VALUES (1, 'x')").await?;
    assert_eq!(column(&mut sql, "SHOW DATA", "TableName").await?, "a b other Total Quota Left");
    eventually("all replicas are well", LIMIT, async || {
        let mut sql = cluster.sql();
        let wrong = column(&mut sql, "ADMIN SHOW REPLICA STATUS FROM d.a WHERE Status != 'OK'", "Status").await?;
        anyhow::ensure!(wrong.is_empty(), "{wrong}");
        Ok(())
    })
    .await?;
    assert_eq!(column(&mut sql, "ADMIN SHOW REPLICA DISTRIBUTION FROM b", "ReplicaNum").await?, "1 1");
    assert_eq!(column(&mut sql, "SHOW TABLE STATUS LIKE 'a'", "Name").await?, "a");
    let db = column(&mut sql, "SHOW PROC '/dbs'", "DbId").await?;
    assert_eq!(column(&mut sql, &format!("SHOW PROC '/dbs/{db}'"), "TableName").await?, "other a b");
    let listed = "SELECT count(*) FROM information_schema.partitions WHERE table_schema = 'd'";
    assert_eq!(sql.table(listed).await?, [["5"]]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_other_systems_use_is_kept_told_and_carried() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(1).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run("USE d").await?;
    let create = |columns: &str, keys: &str, properties: &str| {
        format!(
            "CREATE TABLE t ({columns}) {keys} DISTRIBUTED BY HASH(k) BUCKETS 1 PROPERTIES \
             (\"replication_num\" = \"1\"{properties})"
        )
    };
    let plain = "k INT, v VARCHAR(10)";
    for (columns, keys, properties, says) in [
        (plain, "", "\"enable_unique_key_merge_on_write\" = \"true\"", "only support unique key table"),
        (plain, "UNIQUE KEY(k)", "\"enable_unique_key_merge_on_write\" = \"yes\"", "'yes' is not true or false"),
        (plain, "", "\"bloom_filter_columns\" = \"nocol\"", "invalid column: nocol"),
        (plain, "", "\"storage_medium\" = \"tape\"", "Invalid storage_medium: 'tape'"),
        (plain, "", "\"binlog.enable\" = \"true\"", "not supported"),
        (plain, "", "\"dynamic_partition.enable\" = \"true\"", "single-column range partition"),
        ("k INT, INDEX i (x)", "", "\"in_memory\" = \"false\"", "invalid column: x"),
    ] {
        let error = sql.error(&create(columns, keys, &format!(", {properties}"))).await?;
        assert!(error.message.contains(says), "{properties}: {}", error.message);
    }
    let index = "INDEX `i` (`v`) USING INVERTED PROPERTIES(\"parser\" = \"english\") COMMENT \"words\"";
    let kept = ", \"enable_unique_key_merge_on_write\" = \"true\", \"bloom_filter_columns\" = \"v\"";
    sql.run(&create(&format!("{plain}, {index}"), "UNIQUE KEY(k)", kept)).await?;
    let told = column(&mut sql, "SHOW WARNINGS", "Message").await?;
    assert!(told.contains("bloom_filter_columns, enable_unique_key_merge_on_write; indexes"), "{told}");
    sql.run("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (1, 'c')").await?;
    assert_eq!(keys(&mut sql, "t").await?, "1 2");
    let shown = column(&mut sql, "SHOW CREATE TABLE t", "Create Table").await?;
    assert!(shown.contains(&format!(",\n  {index}\n)")), "{shown}");
    assert!(shown.contains("\"enable_unique_key_merge_on_write\" = \"true\""), "{shown}");

    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
    sql.run("BACKUP SNAPSHOT s TO r ON (t)").await?;
    sql.job_finished("SHOW BACKUP").await?;
    let timestamp = sql.timestamp("r", "s").await?;
    sql.run("DROP TABLE t").await?;
    sql.run(&format!("RESTORE SNAPSHOT s FROM r PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")")).await?;
    sql.job_finished("SHOW RESTORE").await?;
    assert_eq!(column(&mut sql, "SHOW CREATE TABLE t", "Create Table").await?, shown);
    // What is shown can be read again.
    sql.run("DROP TABLE t FORCE").await?;
    sql.run(&shown).await?;
    assert_eq!(column(&mut sql, "SHOW CREATE TABLE t", "Create Table").await?, shown);
    Ok(())
}
