//! What the properties of RESTORE do, and what is refused before anything begins.

use coffer_tests::{Cluster, Outcome, Sql};

const PARTITIONS: &str = "PARTITION BY RANGE(k) (PARTITION p1 VALUES LESS THAN (\"10\"), \
                          PARTITION p2 VALUES LESS THAN (\"20\"))";

const THREE_PARTITIONS: &str = "PARTITION BY RANGE(k) (PARTITION p1 VALUES LESS THAN (\"10\"), \
                                PARTITION p2 VALUES LESS THAN (\"20\"), PARTITION p3 VALUES LESS THAN (\"30\"))";
/// A backend that is frozen for a while is not taken for dead.
const PATIENT: &str = "heartbeat_timeout_ms = 60000";

fn table(name: &str, columns: &str, partitions: &str, properties: &str) -> String {
    format!(
        "CREATE TABLE {name} ({columns}) {partitions} DISTRIBUTED BY HASH(k) BUCKETS 2 \
         PROPERTIES (\"replication_num\" = \"1\"{properties})"
    )
}

/// Database `d` with `a` (partitions, rows 1, 2, 11) and `b` (row 7), backed up as `s`; the timestamp of that.
async fn saved(cluster: &Cluster) -> anyhow::Result<(Sql, String)> {
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&table("d.a", "k INT, v INT", PARTITIONS, "")).await?;
    sql.run(&table("d.b", "k INT", "", "")).await?;
    sql.run("INSERT INTO d.a VALUES (1, 1), (2, 2), (11, 11)").await?;
    sql.run("INSERT INTO d.b VALUES (7)").await?;
    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH LOCAL ON LOCATION \"{location}\"")).await?;
    let timestamp = backup(&mut sql, "s").await?;
    Ok((sql, timestamp))
}

async fn backup(sql: &mut Sql, label: &str) -> anyhow::Result<String> {
    sql.run(&format!("BACKUP SNAPSHOT d.{label} TO r")).await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    sql.timestamp("r", label).await
}

fn statement(what: &str, timestamp: &str, properties: &[(&str, &str)]) -> String {
    let more: Vec<String> = properties.iter().map(|(key, value)| format!(", \"{key}\" = \"{value}\"")).collect();
    format!("RESTORE SNAPSHOT {what} PROPERTIES (\"backup_timestamp\" = \"{timestamp}\"{})", more.concat())
}

async fn restore(sql: &mut Sql, what: &str, timestamp: &str, properties: &[(&str, &str)]) -> Outcome {
    sql.run(&statement(what, timestamp, properties)).await?;
    let db = what.split('.').next().unwrap_or("d");
    sql.job_finished(&format!("SHOW RESTORE FROM {db}")).await?;
    Ok(())
}

async fn keys(sql: &mut Sql, table: &str) -> anyhow::Result<String> {
    let rows = sql.table(&format!("SELECT k FROM {table} ORDER BY k")).await?;
    Ok(rows.concat().join(" "))
}

async fn column(sql: &mut Sql, show: &str, name: &str) -> anyhow::Result<String> {
    let rows = sql.query(show).await?;
    Ok(rows.iter().map(|row| row.get(name)).collect::<Vec<_>>().join(" "))
}

async fn warnings(sql: &mut Sql) -> anyhow::Result<String> {
    column(sql, "SHOW WARNINGS", "Message").await
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_replace_those_of_the_same_name_and_others_stay() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(0).start().await?;
    let (mut sql, timestamp) = saved(&cluster).await?;
    sql.run("INSERT INTO d.a VALUES (3, 3), (12, 12)").await?;
    sql.run("DROP TABLE d.b").await?;
    // A mix: a partition of a table that is there, a table that is gone, and one under another name.
    restore(&mut sql, "d.s FROM r ON (a PARTITION (p1), b)", &timestamp, &[]).await?;
    assert_eq!(keys(&mut sql, "d.a").await?, "1 2 11 12");
    assert_eq!(keys(&mut sql, "d.b").await?, "7");
    restore(&mut sql, "d.s FROM r ON (a AS a2, b)", &timestamp, &[]).await?;
    assert_eq!((keys(&mut sql, "d.a").await?, keys(&mut sql, "d.a2").await?), ("1 2 11 12".into(), "1 2 11".into()));
    // Another database, all but one.
    sql.run("CREATE DATABASE other").await?;
    restore(&mut sql, "other.s FROM r EXCLUDE (b)", &timestamp, &[]).await?;
    assert_eq!(column(&mut sql, "SHOW TABLES FROM other", "Tables_in_other").await?, "a");
    restore(&mut sql, "other.s FROM r EXCLUDE (a PARTITION (p1))", &timestamp, &[]).await?;
    assert_eq!(keys(&mut sql, "other.b").await?, "7");
    // A restored table takes loads.
    sql.run("INSERT INTO d.a2 VALUES (5, 5)").await?;
    assert_eq!(keys(&mut sql, "d.a2").await?, "1 2 5 11");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn atomic_restore_makes_the_table_what_the_snapshot_holds() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(0).start().await?;
    let (mut sql, timestamp) = saved(&cluster).await?;
    sql.run("DROP TABLE d.a").await?;
    sql.run(&table("d.a", "k INT, v INT", THREE_PARTITIONS, "")).await?;
    sql.run("INSERT INTO d.a VALUES (5, 5), (25, 25)").await?;
    restore(&mut sql, "d.s FROM r ON (a)", &timestamp, &[]).await?;
    assert_eq!(keys(&mut sql, "d.a").await?, "1 2 11 25");
    sql.run(&statement("d.s FROM r ON (a)", &timestamp, &[("atomic_restore", "true")])).await?;
    assert!(warnings(&mut sql).await?.contains("table 'a': partitions that are not restored will be dropped: p3"));
    sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!(keys(&mut sql, "d.a").await?, "1 2 11");
    assert_eq!(column(&mut sql, "SHOW PARTITIONS FROM d.a", "PartitionName").await?, "p1 p2");

    // Other columns: refused, and by force done.
    sql.run("DROP TABLE d.a").await?;
    sql.run(&table("d.a", "k INT, w BIGINT, x INT", "", "")).await?;
    sql.run("INSERT INTO d.a VALUES (99, 99, 99)").await?;
    let refused = sql.error(&statement("d.s FROM r", &timestamp, &[("atomic_restore", "true")])).await?;
    assert!(refused.message.contains("Table's partition type is different: table a"), "{}", refused.message);
    let force = [("atomic_restore", "true"), ("force_replace", "true")];
    restore(&mut sql, "d.s FROM r", &timestamp, &force).await?;
    assert_eq!(sql.scalar("SELECT sum(v) FROM d.a").await?, "14");
    let alone = sql.error(&statement("d.s FROM r", &timestamp, &force[1..])).await?;
    assert!(alone.message.contains("force_replace can only be used with atomic_restore"), "{}", alone.message);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cleaning_drops_what_is_not_restored_but_never_what_was_just_restored() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(0).start().await?;
    let (mut sql, timestamp) = saved(&cluster).await?;
    sql.run(&table("d.extra", "k INT", "", "")).await?;
    restore(&mut sql, "d.s FROM r ON (a PARTITION (p1))", &timestamp, &[("clean_partitions", "true")]).await?;
    assert_eq!(keys(&mut sql, "d.a").await?, "1 2");
    // Under an alias it is part of the restore; its original name is not.
    sql.run(&statement("d.s FROM r ON (a AS a2)", &timestamp, &[("clean_tables", "true")])).await?;
    let told = warnings(&mut sql).await?;
    for name in ["a", "b", "extra"] {
        assert!(told.contains(&format!("clean_tables: table '{name}' will be dropped")), "{told}");
    }
    let row = sql.job_finished("SHOW RESTORE FROM d").await?;
    assert!(row.get("Warnings").contains("table 'extra' will be dropped"));
    assert_eq!(column(&mut sql, "SHOW TABLES FROM d", "Tables_in_d").await?, "a2");
    assert_eq!(keys(&mut sql, "d.a2").await?, "1 2 11");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn loads_meanwhile_follow_what_the_restore_overwrites() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(0).config("fe", PATIENT).start().await?;
    let (mut sql, timestamp) = saved(&cluster).await?;
    let frozen = cluster.node("be-1");
    // Whole table, not allowed.
    frozen.pause()?;
    sql.run(&statement("d.s FROM r ON (a)", &timestamp, &[])).await?;
    let refused = sql.error("INSERT INTO d.a VALUES (3, 3)").await?;
    assert!(refused.message.contains("is being restored by job"), "{}", refused.message);
    for ddl in ["DROP TABLE d.a", "TRUNCATE TABLE d.a"] {
        assert!(sql.error(ddl).await?.message.contains("is being restored by job"), "{ddl}");
    }
    let running = sql.error("BACKUP SNAPSHOT d.x TO r").await?;
    assert!(running.message.contains("Can only run one backup or restore job of a database at same time"));
    frozen.resume()?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    // Allowed: what is loaded before the switch goes with what it overwrites.
    frozen.pause()?;
    sql.run(&statement("d.s FROM r ON (a PARTITION (p1))", &timestamp, &[("allow_load", "true")])).await?;
    let row = sql.query("SHOW RESTORE FROM d").await?.pop().expect("a job");
    assert!(row.get("AllowLoad") == "true" && matches!(row.get("State"), "PENDING" | "SNAPSHOTING"), "{row:?}");
    frozen.resume()?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!(keys(&mut sql, "d.a").await?, "1 2 11");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_dynamic_partitions_and_colocation_follow_their_properties() -> Outcome {
    let cluster = Cluster::builder().backends(2).brokers(0).start().await?;
    let (mut sql, timestamp) = saved(&cluster).await?;
    let replicas = |show: &'static str| (show, "ReplicationNum");
    restore(&mut sql, "d.s FROM r ON (a AS two)", &timestamp, &[("replication_num", "2")]).await?;
    let (show, name) = replicas("SHOW PARTITIONS FROM d.two");
    assert_eq!(column(&mut sql, show, name).await?, "2 2");
    let allocation = [("replication_allocation", "tag.location.default: 2")];
    restore(&mut sql, "d.s FROM r ON (b AS alloc)", &timestamp, &allocation).await?;
    assert_eq!(column(&mut sql, "SHOW PARTITIONS FROM d.alloc", "ReplicationNum").await?, "2");
    let reserve = [("reserve_replica", "true"), ("replication_num", "2")];
    restore(&mut sql, "d.s FROM r ON (b AS kept)", &timestamp, &reserve).await?;
    assert_eq!(column(&mut sql, "SHOW PARTITIONS FROM d.kept", "ReplicationNum").await?, "1");
    let row = sql.query("SHOW RESTORE FROM d").await?.pop().expect("a job");
    assert_eq!((row.get("ReserveReplica"), row.get("ReserveDynamicPartitionEnable")), ("true", "false"));
    let more = sql.error(&statement("d.s FROM r ON (a)", &timestamp, &[("replication_num", "2")])).await?;
    assert!(more.message.contains("has different replication num '1'"), "{}", more.message);
    let many = sql.error(&statement("d.s FROM r ON (a AS m)", &timestamp, &[("replication_num", "3")])).await?;
    assert!(many.message.contains("replication num is 3, available backend num is 2"), "{}", many.message);

    let by_day = "PARTITION BY RANGE(k) (PARTITION p20240101 VALUES [(\"2024-01-01\"), (\"2024-01-02\")))";
    let dynamic = ", \"dynamic_partition.enable\" = \"true\", \"dynamic_partition.time_unit\" = \"DAY\", \
                   \"dynamic_partition.end\" = \"1\", \"dynamic_partition.prefix\" = \"p\", \"colocate_with\" = \"g\"";
    sql.run(&table("d.days", "k DATE", by_day, dynamic)).await?;
    let timestamp = backup(&mut sql, "days").await?;
    let enabled = |value: &str| format!("\"dynamic_partition.enable\" = \"{value}\"");
    sql.run(&statement("d.days FROM r ON (days AS off)", &timestamp, &[])).await?;
    let told = warnings(&mut sql).await?;
    assert!(told.contains("dynamic_partition.enable is set to false") && told.contains("colocate_with is not kept"));
    sql.job_finished("SHOW RESTORE FROM d").await?;
    let create = column(&mut sql, "SHOW CREATE TABLE d.off", "Create Table").await?;
    assert!(create.contains(&enabled("false")) && !create.contains("colocate_with"), "{create}");
    sql.run("ALTER TABLE d.off SET (\"dynamic_partition.enable\" = \"true\")").await?;
    let keep = [("reserve_dynamic_partition_enable", "true"), ("reserve_colocate", "true"), ("meta_version", "-1")];
    restore(&mut sql, "d.days FROM r ON (days AS on_)", &timestamp, &keep).await?;
    let create = column(&mut sql, "SHOW CREATE TABLE d.on_", "Create Table").await?;
    assert!(create.contains(&enabled("true")) && create.contains("colocate_with"), "{create}");
    let into = sql.error(&statement("d.days FROM r ON (days)", &timestamp, &[])).await?;
    assert!(into.message.contains("Not support to restore to local table days with colocate group."));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_restored_is_refused_at_once_and_names_the_difference() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(0).start().await?;
    let (mut sql, timestamp) = saved(&cluster).await?;
    for (database, columns, partitions) in [
        ("types", "k INT, v BIGINT", PARTITIONS),
        ("fewer", "k INT", PARTITIONS),
        ("plain", "k INT, v INT", ""),
        ("ranges", "k INT, v INT", "PARTITION BY RANGE(k) (PARTITION p1 VALUES LESS THAN (\"5\"))"),
        ("overlap", "k INT, v INT", "PARTITION BY RANGE(k) (PARTITION q VALUES LESS THAN (\"15\"))"),
    ] {
        sql.run(&format!("CREATE DATABASE {database}")).await?;
        sql.run(&table(&format!("{database}.a"), columns, partitions, "")).await?;
    }
    sql.run("CREATE DATABASE buckets").await?;
    sql.run(&table("buckets.a", "k INT, v INT", PARTITIONS, "").replace("BUCKETS 2", "BUCKETS 3")).await?;
    let other = "2001-01-01-00-00-00";
    for (what, at, properties, text) in [
        ("nowhere.s FROM r", &*timestamp, &[][..], "Unknown database 'nowhere'"),
        ("d.s FROM nothing", &timestamp, &[], "Repository nothing does not exist"),
        ("d.x FROM r", &timestamp, &[], "Failed to get info of snapshot 'x' because"),
        ("d.s FROM r", other, &[], "Maybe specified wrong backup timestamp"),
        ("d.s FROM r", "yesterday", &[], "does not have the form 2022-04-08-15-52-29"),
        ("d.s FROM r ON (x)", &timestamp, &[], "Table x does not exist in snapshot s"),
        ("d.s FROM r ON (a PARTITION (p9))", &timestamp, &[], "Partition p9 of table a does not exist in snapshot s"),
        ("d.s FROM r EXCLUDE (a AS c)", &timestamp, &[], "The table alias in exclude clause does not make sense"),
        ("d.s FROM r ON (a AS c, b AS c)", &timestamp, &[], "Duplicated alias name: c"),
        ("d.s FROM r EXCLUDE (a, b)", &timestamp, &[], "nothing of snapshot s is left to restore"),
        ("d.s FROM r", &timestamp, &[("x", "y")], "Unknown restore job properties: [x]"),
        ("d.s FROM r", &timestamp, &[("allow_load", "maybe")], "Invalid boolean property allow_load value: maybe"),
        ("d.s FROM r", &timestamp, &[("timeout", "1")], "timeout must be at least 10 min"),
        ("d.s FROM r", &timestamp, &[("meta_version", "x")], "Invalid meta version format: x"),
        (
            "types.s FROM r",
            &timestamp,
            &[],
            "different schema: column 2 is 'v bigint key' here and 'v int key' in the snapshot",
        ),
        ("fewer.s FROM r", &timestamp, &[], "different schema: it has 1 columns here and 2 in the snapshot"),
        ("plain.s FROM r", &timestamp, &[], "Table's partition type is different: table a"),
        ("ranges.s FROM r", &timestamp, &[], "Partition p1 in table a has different partition item"),
        (
            "overlap.s FROM r",
            &timestamp,
            &[],
            "Partition p1 in table a has conflict partition item with existing items",
        ),
        ("buckets.s FROM r", &timestamp, &[], "partition p1 has 3 buckets here and 2 in the snapshot"),
    ] {
        let error = sql.error(&statement(what, at, properties)).await?;
        assert!(error.message.contains(text), "{what}: {}", error.message);
    }
    let missing = sql.error("RESTORE SNAPSHOT d.s FROM r").await?;
    assert_eq!((missing.message.contains("Missing backup_timestamp property"), missing.code), (true, 1105));
    assert!(sql.query("SHOW RESTORE FROM d").await?.is_empty(), "nothing was accepted");
    let brief = sql.query("SHOW RESTORE FROM types").await?;
    assert!(brief.is_empty());
    restore(&mut sql, "d.s FROM r", &timestamp, &[]).await?;
    for show in ["SHOW BRIEF RESTORE FROM d", "SHOW BRIEF RESTORE FROM d WHERE LABEL LIKE \"s%\""] {
        let row = sql.query(show).await?.remove(0);
        let names: Vec<&str> = row.0.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), 18, "{names:?}");
        assert!(!names.contains(&"RestoreObjs") && names.contains(&"MetaPreparedTime"));
    }
    Ok(())
}
