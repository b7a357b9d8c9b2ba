//! The statements of backups as operators type them: forms, properties, refusals, SHOW, history, DROP SNAPSHOT.

use coffer_tests::{Cluster, Outcome, Sql};
use std::path::{Path, PathBuf};

/// Databases `d` and `e`, tables `a` and `b` in both, `a` with partitions `p1` and `p2`; repository `r` on a directory.
async fn place(cluster: &Cluster) -> anyhow::Result<Sql> {
    let mut sql = cluster.sql();
    for db in ["d", "e"] {
        sql.run(&format!("CREATE DATABASE {db}")).await?;
        sql.run(&format!(
            "CREATE TABLE {db}.a (k INT, v INT) PARTITION BY RANGE(k) (PARTITION p1 VALUES LESS THAN (\"10\"), \
             PARTITION p2 VALUES LESS THAN (\"20\")) DISTRIBUTED BY HASH(k) BUCKETS 2 PROPERTIES (\"replication_num\" = \"1\")"
        ))
        .await?;
        sql.run(&format!(
            "CREATE TABLE {db}.b (k INT) DISTRIBUTED BY HASH(k) BUCKETS 1 PROPERTIES (\"replication_num\" = \"1\")"
        ))
        .await?;
        sql.run(&format!("INSERT INTO {db}.a VALUES (1, 1), (2, 2), (11, 11)")).await?;
        sql.run(&format!("INSERT INTO {db}.b VALUES (7)")).await?;
    }
    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH LOCAL ON LOCATION \"{location}\"")).await?;
    Ok(sql)
}

async fn objects(sql: &mut Sql, label: &str) -> anyhow::Result<String> {
    let row = sql.job_finished(&format!("SHOW BACKUP FROM d WHERE SnapshotName = \"{label}\"")).await?;
    Ok(row.get("BackupObjs").to_owned())
}

async fn warnings(sql: &mut Sql) -> anyhow::Result<Vec<String>> {
    Ok(sql.query("SHOW WARNINGS").await?.iter().map(|row| row.get("Message").to_owned()).collect())
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_takes_what_it_names() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(0).start().await?;
    let mut sql = place(&cluster).await?;
    for (label, statement, wanted) in [
        ("whole", "BACKUP SNAPSHOT d.whole TO r", "[d.a], [d.b]"),
        ("one", "BACKUP SNAPSHOT d.one TO r ON (b) PROPERTIES (\"type\" = \"full\")", "[d.b]"),
        (
            "part",
            "BACKUP SNAPSHOT d.part TO r ON (a PARTITION (p1), b) PROPERTIES (\"timeout\" = \"600\")",
            "[d.a PARTITION (p1)], [d.b]",
        ),
        ("but", "backup snapshot d.but to r exclude (b)", "[d.a]"),
        ("but_part", "BACKUP SNAPSHOT d.but_part TO `r` EXCLUDE (a PARTITION (p2))", "[d.a PARTITION (p1)], [d.b]"),
    ] {
        sql.run(statement).await?;
        assert_eq!(objects(&mut sql, label).await?, wanted);
    }
    // The current database, when none is named.
    let mut in_d = cluster.sql().in_database("d");
    in_d.run("BACKUP SNAPSHOT current TO r ON (b)").await?;
    assert_eq!(objects(&mut in_d, "current").await?, "[d.b]");
    let details = sql.query("SHOW SNAPSHOT ON r WHERE SNAPSHOT = \"part\"").await?;
    let timestamp = details[0].get("Timestamp").to_owned();
    let show = format!("SHOW SNAPSHOT ON r WHERE SNAPSHOT = \"part\" AND TIMESTAMP = \"{timestamp}\"");
    let row = sql.query(&show).await?.remove(0);
    assert_eq!((row.get("Database"), row.get("Status")), ("d", "OK"));
    let json: serde_json::Value = serde_json::from_str(row.get("Details"))?;
    assert_eq!(json["olap_table_list"][0]["partition_names"], serde_json::json!(["p1"]));
    assert_eq!((json["content"].as_str(), json["name"].as_str()), (Some("ALL"), Some("part")));
    // Down to the files, all of which are there.
    let root = cluster.repos().join("r").join(json["directory"]["root"].as_str().unwrap_or_default());
    let objects = json["directory"]["objects"].as_array().expect("objects");
    let paths: Vec<PathBuf> = objects.iter().map(|one| root.join(one["path"].as_str().unwrap_or_default())).collect();
    assert!(paths.len() >= 4 && paths.iter().all(|path| path.is_file()), "{paths:?}");
    let tables = json["directory"]["tables"].as_array().expect("tables");
    let names: Vec<_> = tables.iter().map(|table| table["name"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["a", "b"]);
    let file = &tables[0]["partitions"][0]["tablets"][0]["files"][0];
    assert!(file["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{tables:?}");
    assert!(paths.contains(&root.join(file["pack"].as_str().unwrap_or_default())), "{file}");
    // What excludes nothing is told, and kept.
    sql.run("BACKUP SNAPSHOT d.noted TO r EXCLUDE (b, nothing)").await?;
    let told = warnings(&mut sql).await?;
    assert_eq!(told, ["EXCLUDE: there is no table 'nothing' in database 'd'"]);
    let row = sql.job_finished("SHOW BACKUP FROM d WHERE SnapshotName = \"noted\"").await?;
    assert_eq!(row.get("Warnings"), told[0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_backup_cannot_be_is_refused_with_the_known_numbers_and_texts() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(0).start().await?;
    let mut sql = place(&cluster).await?;
    sql.run("BACKUP SNAPSHOT d.taken TO r ON (b)").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let location = cluster.location("r");
    sql.run("DROP REPOSITORY r").await?;
    sql.run(&format!("CREATE REPOSITORY r WITH LOCAL ON LOCATION \"{location}\"")).await?;
    let location = cluster.location("ro");
    sql.run(&format!("CREATE REPOSITORY ro WITH LOCAL ON LOCATION \"{location}\"")).await?;
    sql.run("DROP REPOSITORY ro").await?;
    sql.run(&format!("CREATE READ ONLY REPOSITORY ro WITH LOCAL ON LOCATION \"{location}\"")).await?;
    let long = format!("BACKUP SNAPSHOT d.{} TO r", "x".repeat(129));
    for (statement, number, text) in [
        ("BACKUP SNAPSHOT s TO r", 1046, "No database selected"),
        ("BACKUP SNAPSHOT nowhere.s TO r", 1049, "Unknown database 'nowhere'"),
        ("BACKUP SNAPSHOT d.s TO nothing", 1105, "Repository nothing does not exist"),
        ("BACKUP SNAPSHOT d.s TO ro", 1105, "Repository ro is read only"),
        ("BACKUP SNAPSHOT d.s TO r ON (x)", 1051, "Unknown table 'x'"),
        ("BACKUP SNAPSHOT d.s TO r ON (a PARTITION (p9))", 1105, "Unknown partition p9 in table"),
        ("BACKUP SNAPSHOT d.s TO r ON (a, a)", 1105, "Duplicated table: a"),
        ("BACKUP SNAPSHOT d.s TO r ON (d.a)", 1105, "Cannot specify database name on backup objects: d.a"),
        ("BACKUP SNAPSHOT d.s TO r ON (a AS c)", 1105, "Can not set alias for table in Backup Command: a"),
        ("BACKUP SNAPSHOT d.taken TO r", 1105, "Snapshot with name 'taken' already exist in repository"),
        ("BACKUP SNAPSHOT d.`a b` TO r", 1105, "Label format error. regex: ^[-_A-Za-z0-9:]{1,128}$, label: a b"),
        (&long, 1105, "Label format error"),
        (
            "BACKUP SNAPSHOT d.s TO r PROPERTIES (\"type\" = \"incremental\")",
            1235,
            "Currently does not support incremental backup",
        ),
        ("BACKUP SNAPSHOT d.s TO r PROPERTIES (\"type\" = \"x\")", 1105, "Invalid backup job type: x"),
        ("BACKUP SNAPSHOT d.s TO r PROPERTIES (\"timeout\" = \"599\")", 1105, "timeout must be at least 10 min"),
        ("BACKUP SNAPSHOT d.s TO r PROPERTIES (\"timeout\" = \"1d\")", 1105, "Invalid timeout format: 1d"),
        ("BACKUP SNAPSHOT d.s TO r PROPERTIES (\"content\" = \"x\")", 1105, "Invalid backup job content:x"),
        ("BACKUP SNAPSHOT d.s TO r PROPERTIES (\"x\" = \"y\")", 1105, "Unknown backup job properties: [x]"),
        ("CANCEL BACKUP FROM d", 1105, "No backup job is currently running"),
        ("CANCEL RESTORE FROM d", 1105, "No restore job is currently running"),
        ("CANCEL BACKUP", 1046, "No database selected"),
        ("SHOW BACKUP", 1046, "No database selected"),
        ("SHOW BACKUP FROM nowhere", 1049, "Unknown database 'nowhere'"),
        ("SHOW BACKUP FROM d WHERE JobId = 1", 1105, "Where clause should like: SnapshotName = "),
        ("SHOW RESTORE FROM d WHERE SnapshotName = \"x\"", 1105, "Where clause should like: LABEL = "),
        ("SHOW SNAPSHOT ON r WHERE TIMESTAMP = \"x\"", 1105, "Where clause should looks like: SNAPSHOT = "),
        ("SHOW SNAPSHOT ON nothing", 1105, "Repository nothing does not exist"),
        ("DROP SNAPSHOT s ON nothing", 1105, "Repository nothing does not exist"),
        ("DROP SNAPSHOT s ON ro", 1105, "Repository ro is read only"),
        ("DROP SNAPSHOT s ON r", 1105, "Snapshot 's' does not exist in repository r"),
        ("DROP SNAPSHOT s", 1064, "You have an error in your SQL syntax"),
    ] {
        let error = sql.error(statement).await?;
        assert!(error.message.contains(text), "{statement}: {}", error.message);
        assert_eq!(error.code, number, "{statement}: {}", error.message);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn show_filters_and_the_history_survives_a_restart() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(0).config("fe", "show_default_cluster = true").start().await?;
    let mut sql = place(&cluster).await?;
    assert!(sql.query("SHOW BACKUP FROM d").await?.is_empty());
    for n in 1..=12 {
        sql.run(&format!("BACKUP SNAPSHOT d.daily_{n} TO r ON (b)")).await?;
        sql.job_finished(&format!("SHOW BACKUP FROM d WHERE SnapshotName = \"daily_{n}\"")).await?;
    }
    sql.run("BACKUP SNAPSHOT e.other TO r ON (b)").await?;
    sql.job_finished("SHOW BACKUP FROM e").await?;
    cluster.crash("fe-1").await?;
    let mut sql = cluster.sql();
    let labels = |rows: &[coffer_tests::mysql::Row]| -> Vec<String> {
        rows.iter().map(|row| row.get("SnapshotName").to_owned()).collect()
    };
    let rows = sql.query("SHOW BACKUP FROM d").await?;
    // The last ten that ended, and the one that was cleaned up last may still be beside them; oldest first.
    let wanted: Vec<String> = (3..=12).map(|n| format!("daily_{n}")).collect();
    assert!(labels(&rows).ends_with(&wanted) && rows.len() <= 11, "{:?}", labels(&rows));
    let last = rows.last().expect("rows");
    assert_eq!((last.get("DbName"), last.get("Timeout"), last.get("Status")), ("d", "86400", "[OK]"));
    assert_eq!(last.get("BackupObjs"), "[default_cluster:d.b]");
    assert_eq!((last.get("FilesDone"), last.get("FilesTotal"), last.get("TaskErrMsg")), ("1", "1", ""));
    assert_eq!(last.get("BytesDone"), last.get("BytesTotal"));
    assert!(
        ["CreateTime", "SnapshotFinishedTime", "UploadFinishedTime", "FinishedTime"].iter().all(|t| last.get(t) > "20")
    );
    let like = sql.query("SHOW BACKUP IN d WHERE SnapshotName LIKE \"daily\\_1%\"").await?;
    assert_eq!(labels(&like), ["daily_10", "daily_11", "daily_12"]);
    let mut in_e = cluster.sql().in_database("e");
    assert_eq!(labels(&in_e.query("SHOW BACKUP").await?), ["other"]);
    assert!(sql.query("SHOW RESTORE FROM d").await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_can_be_dropped_unless_a_job_uses_it() -> Outcome {
    let cluster =
        Cluster::builder().backends(1).brokers(0).config("fe", "heartbeat_timeout_ms = 60000").start().await?;
    let mut sql = place(&cluster).await?;
    for label in ["s1", "s2"] {
        sql.run(&format!("BACKUP SNAPSHOT d.{label} TO r")).await?;
        sql.job_finished("SHOW BACKUP FROM d").await?;
    }
    let t1 = sql.timestamp("r", "s1").await?;
    let wrong = sql.error("DROP SNAPSHOT s1 FROM r WHERE TIMESTAMP = \"2001-01-01-00-00-00\"").await?;
    assert!(wrong.message.contains("Snapshot 's1' of 2001-01-01-00-00-00 does not exist"), "{}", wrong.message);

    // A restore that waits for its backend still needs the snapshot, under whatever name the repository has here.
    cluster.node("be-1").pause()?;
    let restore = format!("RESTORE SNAPSHOT d.s1 FROM r ON (b AS c) PROPERTIES (\"backup_timestamp\" = \"{t1}\")");
    sql.run(&restore).await?;
    let used = sql.error("DROP SNAPSHOT s1 ON r").await?;
    assert!(used.message.contains("Snapshot 's1' is in use by restore job"), "{}", used.message);
    let used = sql.error("DROP REPOSITORY r").await?;
    assert!(used.message.contains("Backup or restore job is running on this repository. Can not drop it"));
    cluster.node("be-1").resume()?;
    sql.job_finished("SHOW RESTORE FROM d").await?;

    sql.run(&format!("DROP SNAPSHOT s1 ON r WHERE TIMESTAMP = \"{t1}\"")).await?;
    let left = sql.table("SHOW SNAPSHOT ON r").await?;
    assert_eq!(left.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["s2"]);
    let gone = sql.error(&restore.replace("AS c", "AS c2")).await?;
    assert!(gone.message.contains("Failed to get info of snapshot 's1' because"), "{}", gone.message);
    // The label is free, and what is left is whole.
    sql.run("BACKUP SNAPSHOT d.s1 TO r ON (b)").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let t2 = sql.timestamp("r", "s2").await?;
    sql.run(&format!("RESTORE SNAPSHOT d.s2 FROM r ON (a AS a2) PROPERTIES (\"backup_timestamp\" = \"{t2}\")")).await?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!(sql.scalar("SELECT sum(v) FROM d.a2").await?, "14");
    sql.run("DROP SNAPSHOT s1 FROM r").await?;
    sql.run("DROP SNAPSHOT s2 FROM r").await?;
    let left: Vec<PathBuf> = files(&cluster.repos());
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].ends_with("__coffer_repository_r/__repo_info"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_only_brings_back_empty_tables() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(0).start().await?;
    let mut sql = place(&cluster).await?;
    sql.run("BACKUP SNAPSHOT d.bare TO r PROPERTIES (\"content\" = \"metadata_only\")").await?;
    let row = sql.job_finished("SHOW BACKUP FROM d").await?;
    assert_eq!((row.get("BytesTotal"), row.get("FilesTotal")), ("0", "0"));
    assert!(files(&cluster.repos()).iter().all(|path| !path.display().to_string().contains("/packs/")));
    let timestamp = sql.timestamp("r", "bare").await?;
    let show = format!("SHOW SNAPSHOT ON r WHERE SNAPSHOT = \"bare\" AND TIMESTAMP = \"{timestamp}\"");
    assert!(sql.query(&show).await?[0].get("Details").contains("METADATA_ONLY"));
    sql.run("CREATE DATABASE n").await?;
    sql.run(&format!("RESTORE SNAPSHOT n.bare FROM r PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")")).await?;
    sql.job_finished("SHOW RESTORE FROM n").await?;
    assert_eq!(sql.scalar("SELECT count(*) FROM n.a").await?, "0");
    sql.run("INSERT INTO n.a VALUES (1, 5), (12, 6)").await?;
    assert_eq!(sql.scalar("SELECT sum(v) FROM n.a").await?, "11");
    Ok(())
}
