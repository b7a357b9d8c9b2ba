//! Jobs in company: other statements on the same objects, other repositories with the same label, long names, and cancels
//! while the frontend itself writes to the repository.

use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::http::StreamLoad;
use coffer_tests::mysql::Row;
use coffer_tests::{Cluster, Outcome, Sql, eventually};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A backend that is frozen for a while is not taken for dead.
const PATIENT: &str = "heartbeat_timeout_ms = 60000";
const LIMIT: Duration = Duration::from_secs(90);

async fn small(sql: &mut Sql, table: &str, columns: &str, rows: &str) -> Outcome {
    sql.run(&format!(
        "CREATE TABLE {table} ({columns}) DISTRIBUTED BY HASH(k) BUCKETS 1 PROPERTIES (\"replication_num\" = \"1\")"
    ))
    .await?;
    sql.run(&format!("INSERT INTO {table} VALUES {rows}")).await
}

async fn repository(cluster: &Cluster, sql: &mut Sql, name: &str) -> Outcome {
    let location = cluster.location(name);
    sql.run(&format!("CREATE REPOSITORY {name} WITH LOCAL ON LOCATION \"{location}\"")).await
}

fn restore(what: &str, timestamp: &str) -> String {
    format!("RESTORE SNAPSHOT {what} PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")")
}

async fn last(sql: &mut Sql, show: &str) -> anyhow::Result<Row> {
    sql.query(show).await?.pop().ok_or_else(|| anyhow::anyhow!("{show}: no job"))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

async fn keys(sql: &mut Sql, table: &str) -> anyhow::Result<String> {
    Ok(sql.table(&format!("SELECT k FROM {table} ORDER BY k")).await?.concat().join(" "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_while_the_frontend_writes_leaves_nothing_and_frees_the_label() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(0).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    small(&mut sql, "d.t", "k INT", "(1)").await?;
    repository(&cluster, &mut sql, "r").await?;
    let limit =
        |bytes: &str| format!("ALTER REPOSITORY r SET PROPERTIES (\"max_upload_bytes_per_second\" = \"{bytes}\")");
    // The first object passes on credit; those behind it wait for minutes.
    sql.run(&limit("8")).await?;
    for (label, state) in [("first", "UPLOAD_INFO"), ("second", "SAVE_META")] {
        sql.run(&format!("BACKUP SNAPSHOT d.{label} TO r PROPERTIES (\"content\" = \"metadata_only\")")).await?;
        let show = format!("SHOW BACKUP FROM d WHERE SnapshotName = \"{label}\"");
        eventually(state, LIMIT, || async {
            let row = last(&mut cluster.sql(), &show).await?;
            anyhow::ensure!(row.get("State") == state, "{row:?}");
            Ok(())
        })
        .await?;
        sql.run("CANCEL BACKUP FROM d").await?;
        let row = last(&mut sql, &show).await?;
        assert_eq!(row.get("State"), "CANCELLED");
        assert_eq!(row.get("Status"), "[COMMON_ERROR, msg: user cancelled]");
    }
    sql.run(&limit("0")).await?;
    eventually("nothing is left", LIMIT, || async {
        let left = files(&cluster.repos());
        anyhow::ensure!(left.len() == 1 && left[0].ends_with("__repo_info"), "{left:?}");
        Ok(())
    })
    .await?;
    for label in ["first", "second"] {
        sql.run(&format!("BACKUP SNAPSHOT d.{label} TO r")).await?;
        sql.job_finished("SHOW BACKUP FROM d").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_meet_jobs_that_run() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(0).config("fe", PATIENT).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&create("d.t", 2, 1)).await?;
    StreamLoad::new(cluster.frontend(), "d", "t").header("label", "l").must_succeed(csv(1, 0, 400)).await?;
    small(&mut sql, "d.u", "k INT", "(1), (2)").await?;
    repository(&cluster, &mut sql, "r").await?;
    let before = fingerprint(&mut sql, "d.t").await?;
    let frozen = cluster.node("be-1");

    // While it is backed up, a table gives way to another of its name and shape of its own; others come and go.
    frozen.pause()?;
    sql.run("BACKUP SNAPSHOT d.s TO r").await?;
    sql.run("DROP TABLE d.u").await?;
    let columns = "(w VARCHAR(9), k BIGINT) DISTRIBUTED BY HASH(k) BUCKETS 3 PROPERTIES (\"replication_num\" = \"1\")";
    sql.run(&format!("CREATE TABLE d.u {columns}")).await?;
    sql.run(&format!("CREATE TABLE d.v {columns}")).await?;
    sql.run("TRUNCATE TABLE d.t").await?;
    sql.run("DROP TABLE d.v").await?;
    for refused in ["DROP DATABASE d", "DROP REPOSITORY r"] {
        let error = sql.error(refused).await?;
        assert!(error.message.contains("job"), "{refused}: {}", error.message);
    }
    frozen.resume()?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let timestamp = sql.timestamp("r", "s").await?;

    // What a restore will change or make is left alone; everything else goes on.
    small(&mut sql, "d.other", "k INT", "(5)").await?;
    frozen.pause()?;
    sql.run(&restore("d.s FROM r ON (t, u AS u2)", &timestamp)).await?;
    for refused in ["DROP TABLE d.t", "TRUNCATE TABLE d.t", &format!("CREATE TABLE d.u2 {columns}"), "DROP DATABASE d"]
    {
        let error = sql.error(refused).await?;
        assert!(error.message.contains("job"), "{refused}: {}", error.message);
    }
    sql.run(&format!("CREATE TABLE d.w {columns}")).await?;
    sql.run("DROP TABLE d.u").await?;
    frozen.resume()?;
    sql.run("TRUNCATE TABLE d.other").await?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!((fingerprint(&mut sql, "d.t").await?, keys(&mut sql, "d.u2").await?), (before, "1 2".to_owned()));
    let tables = sql.table("SHOW TABLES FROM d").await?.concat();
    assert_eq!(tables, ["other", "t", "u2", "w"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_repositories_have_the_same_label() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(0).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    small(&mut sql, "d.t", "k INT", "(1)").await?;
    let mut timestamps = Vec::new();
    for name in ["r1", "r2"] {
        repository(&cluster, &mut sql, name).await?;
        sql.run(&format!("BACKUP SNAPSHOT d.same TO {name}")).await?;
        sql.job_finished("SHOW BACKUP FROM d").await?;
        timestamps.push(sql.timestamp(name, "same").await?);
        sql.run("INSERT INTO d.t VALUES (2)").await?;
    }
    for (name, timestamp, wanted) in [("r2", &timestamps[1], "1 2"), ("r1", &timestamps[0], "1")] {
        sql.run(&restore(&format!("d.same FROM {name} ON (t AS from_{name})"), timestamp)).await?;
        sql.job_finished("SHOW RESTORE FROM d").await?;
        assert_eq!(keys(&mut sql, &format!("d.from_{name}")).await?, wanted);
    }
    sql.run("DROP SNAPSHOT same FROM r1").await?;
    assert!(sql.query("SHOW SNAPSHOT ON r1").await?.is_empty());
    sql.run(&restore("d.same FROM r2", &timestamps[1])).await?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!(keys(&mut sql, "d.t").await?, "1 2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_as_long_as_they_may_be_and_a_restore_mixes_old_new_and_renamed() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(0).start().await?;
    let mut sql = cluster.sql();
    let name = |first: &str| format!("{first}{}", "x".repeat(63));
    let (db, table, gone, alias, label) = (name("d"), name("t"), name("g"), name("a"), "l".repeat(128));
    sql.run(&format!("CREATE DATABASE {db}")).await?;
    let partition = name("p");
    sql.run(&format!(
        "CREATE TABLE {db}.{table} (k INT, v INT) PARTITION BY RANGE(k) (PARTITION {partition} VALUES LESS THAN (\"10\"), \
         PARTITION q VALUES LESS THAN (\"20\")) DISTRIBUTED BY HASH(k) BUCKETS 2 PROPERTIES (\"replication_num\" = \"1\")"
    ))
    .await?;
    sql.run(&format!("INSERT INTO {db}.{table} VALUES (1, 1), (11, 11)")).await?;
    small(&mut sql, &format!("{db}.{gone}"), "k INT", "(7)").await?;
    small(&mut sql, &format!("{db}.kept"), "k INT", "(8)").await?;
    repository(&cluster, &mut sql, &name("r")).await?;
    sql.run(&format!("BACKUP SNAPSHOT {db}.{label} TO {}", name("r"))).await?;
    let row = sql.job_finished(&format!("SHOW BACKUP FROM {db}")).await?;
    assert_eq!(row.get("SnapshotName"), label);
    let timestamp = sql.timestamp(&name("r"), &label).await?;
    sql.run(&format!("DROP TABLE {db}.{gone}")).await?;
    sql.run(&format!("INSERT INTO {db}.{table} VALUES (2, 2), (12, 12)")).await?;
    // In one restore: a partition of a table that is there, a table that is gone, and one under another name.
    let what = format!("{db}.{label} FROM {} ON ({table} PARTITION ({partition}), {gone}, kept AS {alias})", name("r"));
    sql.run(&restore(&what, &timestamp)).await?;
    sql.job_finished(&format!("SHOW RESTORE FROM {db}")).await?;
    for (table, wanted) in [(&table, "1 11 12"), (&gone, "7"), (&alias, "8"), (&"kept".to_owned(), "8")] {
        assert_eq!(keys(&mut sql, &format!("{db}.{table}")).await?, wanted, "{table}");
    }
    let longer = what.replace(&alias, &format!("{alias}x"));
    let error = sql.error(&restore(&longer, &timestamp)).await?;
    assert!(error.message.contains(&format!("{alias}x")), "{}", error.message);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_backup_waits_for_is_said_and_its_label_is_taken_meanwhile() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(0).start().await?;
    let mut sql = cluster.sql();
    for database in ["d", "e"] {
        sql.run(&format!("CREATE DATABASE {database}")).await?;
        small(&mut sql, &format!("{database}.t"), "k INT", "(1)").await?;
    }
    repository(&cluster, &mut sql, "r").await?;
    let backend = cluster.node("be-1");
    backend.kill();
    eventually("the backend counts as dead", LIMIT, || async {
        let row = last(&mut cluster.sql(), "SHOW BACKENDS").await?;
        anyhow::ensure!(row.get("Alive") == "false", "{row:?}");
        Ok(())
    })
    .await?;
    sql.run("BACKUP SNAPSHOT d.l TO r").await?;
    eventually("SHOW BACKUP tells what is waited for", LIMIT, || async {
        let row = last(&mut cluster.sql(), "SHOW BACKUP FROM d").await?;
        anyhow::ensure!(row.get("UnfinishedTasks").starts_with("[snapshot-"), "{row:?}");
        anyhow::ensure!(row.get("TaskErrMsg").contains("is not alive"), "{row:?}");
        Ok(())
    })
    .await?;
    let error = sql.error("BACKUP SNAPSHOT e.l TO r").await?;
    assert!(error.message.contains("Snapshot with name 'l' already exist in repository r, or will: job "), "{error:?}");
    backend.start()?;
    let row = sql.job_finished("SHOW BACKUP FROM d").await?;
    assert_eq!((row.get("UnfinishedTasks"), row.get("TaskErrMsg")), ("", ""));
    Ok(())
}
