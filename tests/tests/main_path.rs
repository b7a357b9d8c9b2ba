//! The main job: create, load, back up, lose, restore, and every row is back.

use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::http::StreamLoad;
use coffer_tests::{Cluster, Outcome, Sql};

/// A database `d` with table `t`, two loads in it, and repository `r`.
async fn loaded(cluster: &Cluster, buckets: u32, replicas: u32, rows: u64) -> anyhow::Result<Sql> {
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&create("d.t", buckets, replicas)).await?;
    for part in 0..2 {
        let load = StreamLoad::new(cluster.frontend(), "d", "t").header("label", &format!("l{part}"));
        load.must_succeed(csv(part, part * rows, rows)).await?;
    }
    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
    Ok(sql)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_table_comes_back_whole() -> Outcome {
    let cluster = Cluster::builder().backends(3).brokers(1).start().await?;
    let mut sql = loaded(&cluster, 3, 2, 5_000).await?;
    let before = fingerprint(&mut sql, "d.t").await?;
    assert_eq!(before[0], "10000");

    sql.run("BACKUP SNAPSHOT d.s1 TO r ON (t)").await?;
    let row = sql.job_finished("SHOW BACKUP FROM d").await?;
    assert_eq!((row.get("SnapshotName"), row.get("Status")), ("s1", "[OK]"));
    let timestamp = sql.timestamp("r", "s1").await?;

    sql.run("DROP TABLE d.t FORCE").await?;
    assert!(sql.error("SELECT count(*) FROM d.t").await?.message.contains('t'));
    sql.run(&format!("RESTORE SNAPSHOT d.s1 FROM r PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")")).await?;
    let row = sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!((row.get("Label"), row.get("Timestamp")), ("s1", timestamp.as_str()));
    assert_eq!(fingerprint(&mut sql, "d.t").await?, before);

    // The restored table is a table like any other: it takes loads and can be backed up again.
    StreamLoad::new(cluster.frontend(), "d", "t").header("label", "after").must_succeed(csv(7, 50_000, 10)).await?;
    assert_eq!(sql.scalar("SELECT count(*) FROM d.t").await?, "10010");
    sql.run("BACKUP SNAPSHOT d.s2 TO r ON (t)").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_partition_can_be_saved_and_restored_under_another_name() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(1).start().await?;
    let mut sql = loaded(&cluster, 2, 1, 1_000).await?;
    let saved = sql.scalar("SELECT count(*) FROM d.t WHERE day < '2024-02-01'").await?;

    sql.run("BACKUP SNAPSHOT d.part TO r ON (t PARTITION (p01))").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let timestamp = sql.timestamp("r", "part").await?;
    sql.run(&format!(
        "RESTORE SNAPSHOT d.part FROM r ON (t AS copy) PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")"
    ))
    .await?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!(sql.scalar("SELECT count(*) FROM d.copy").await?, saved);
    let names = sql.query("SHOW PARTITIONS FROM d.copy").await?;
    assert_eq!(names.iter().map(|row| row.get("PartitionName")).collect::<Vec<_>>(), ["p01"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_restores_from_the_same_repository() -> Outcome {
    let one = Cluster::builder().backends(2).brokers(1).start().await?;
    let mut sql = loaded(&one, 2, 2, 500).await?;
    let before = fingerprint(&mut sql, "d.t").await?;
    sql.run("BACKUP SNAPSHOT d.s TO r ON (t)").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let timestamp = sql.timestamp("r", "s").await?;

    let roots = format!("local_roots = [\"{}\"]", one.repos().display());
    let two = Cluster::builder().backends(1).brokers(1).config("broker", &roots).start().await?;
    let mut other = two.sql();
    other.run("CREATE DATABASE target").await?;
    let location = one.location("r");
    other.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
    let restore = format!(
        "RESTORE SNAPSHOT target.s FROM r PROPERTIES (\"backup_timestamp\" = \"{timestamp}\", \"replication_num\" = \"1\")"
    );
    other.run(&restore).await?;
    other.job_finished("SHOW RESTORE FROM target").await?;
    assert_eq!(fingerprint(&mut other, "target.t").await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_over_a_living_table_brings_the_old_rows_back() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(1).start().await?;
    let mut sql = loaded(&cluster, 2, 1, 300).await?;
    let before = fingerprint(&mut sql, "d.t").await?;
    sql.run("BACKUP SNAPSHOT d.s TO r ON (t)").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let timestamp = sql.timestamp("r", "s").await?;

    StreamLoad::new(cluster.frontend(), "d", "t").header("label", "later").must_succeed(csv(3, 9_000, 50)).await?;
    assert_ne!(fingerprint(&mut sql, "d.t").await?, before);
    sql.run(&format!("RESTORE SNAPSHOT d.s FROM r ON (t) PROPERTIES (\"backup_timestamp\" = \"{timestamp}\", \"replication_num\" = \"1\")"))
        .await?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!(fingerprint(&mut sql, "d.t").await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn show_has_the_columns_operators_know() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(1).start().await?;
    let mut sql = loaded(&cluster, 1, 1, 100).await?;
    sql.run("BACKUP SNAPSHOT d.s TO r").await?;
    sql.job_finished("SHOW BACKUP FROM d WHERE SnapshotName = \"s\"").await?;
    let timestamp = sql.timestamp("r", "s").await?;
    sql.run(&format!("RESTORE SNAPSHOT d.s FROM r ON (t AS u) PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")"))
        .await?;
    sql.job_finished("SHOW RESTORE FROM d WHERE LABEL = \"s\"").await?;

    let backup = "JobId SnapshotName DbName State BackupObjs CreateTime SnapshotFinishedTime UploadFinishedTime \
                  FinishedTime UnfinishedTasks Progress TaskErrMsg Status Timeout";
    let restore = "JobId Label Timestamp DbName State AllowLoad ReplicationNum ReplicaAllocation ReserveReplica \
                   ReserveDynamicPartitionEnable RestoreObjs CreateTime MetaPreparedTime SnapshotFinishedTime \
                   DownloadFinishedTime FinishedTime UnfinishedTasks Progress TaskErrMsg Status Timeout";
    let repositories = "RepoId RepoName CreateTime IsReadOnly Location Broker Type ErrMsg";
    for (show, columns) in [
        ("SHOW BACKUP FROM d", backup),
        ("SHOW RESTORE FROM d", restore),
        ("SHOW SNAPSHOT ON r", "Snapshot Timestamp Status"),
        ("SHOW REPOSITORIES", repositories),
        ("SHOW BROKER", "Name Host Port Alive LastStartTime LastUpdateTime ErrMsg"),
        ("SHOW BACKENDS", "BackendId Host HeartbeatPort BePort HttpPort"),
    ] {
        let rows = sql.query(show).await?;
        let names: Vec<&str> = rows[0].0.iter().map(|(name, _)| name.as_str()).collect();
        let wanted: Vec<&str> = columns.split_whitespace().collect();
        assert!(names.starts_with(&wanted), "{show}: {names:?}");
    }
    let details =
        sql.query(&format!("SHOW SNAPSHOT ON r WHERE SNAPSHOT = \"s\" AND TIMESTAMP = \"{timestamp}\"")).await?;
    let json: serde_json::Value = serde_json::from_str(details[0].get("Details"))?;
    assert_eq!(json["olap_table_list"][0]["name"], "t");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_table_takes_less_than_a_second() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(1).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&create("d.t", 1, 1)).await?;
    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
    let begun = std::time::Instant::now();
    sql.run("BACKUP SNAPSHOT d.s TO r ON (t)").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    // The aim is one second; a busy build machine gets some more.
    assert!(begun.elapsed().as_secs_f32() < 3.0, "{:?}", begun.elapsed());
    Ok(())
}
