//! Replicas that missed loads for good, were lost or were damaged become whole again from the others, and are never read
//! before they are.

use anyhow::{Context, ensure};
use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::http::StreamLoad;
use coffer_tests::{Cluster, Outcome, eventually};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A replica is looked at every ten seconds, and twice.
const REPAIR_LIMIT: Duration = Duration::from_secs(120);

/// Wait until SHOW TABLETS shows every replica healthy and at the same version as its peers, with the rows it should have.
async fn until_equal(cluster: &Cluster, rows: u64) -> Outcome {
    eventually("all replicas are equal", REPAIR_LIMIT, || async {
        let shown = cluster.sql().query("SHOW TABLETS FROM d.t").await?;
        let visible = cluster.sql().query("SHOW PARTITIONS FROM d.t").await?;
        let wanted: Vec<String> = visible.iter().map(|row| row.get("VisibleVersion").to_owned()).collect();
        let mut of_backend: std::collections::BTreeMap<String, u64> = Default::default();
        for row in &shown {
            let (version, state) = (row.get("Version"), row.get("State"));
            ensure!(state == "NORMAL" && wanted.iter().any(|wanted| wanted == version), "{shown:?} {wanted:?}");
            *of_backend.entry(row.get("BackendId").to_owned()).or_default() += row.get("RowCount").parse::<u64>()?;
        }
        ensure!(of_backend.len() == 3 && of_backend.values().all(|found| *found == rows), "{of_backend:?}");
        Ok(())
    })
    .await
}

/// The directories of tablets with rows on a backend.
fn tablets(data: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(data.join("data"))? {
        let path = entry?.path();
        if rows_file(&path).is_ok() {
            found.push(path);
        }
    }
    Ok(found)
}

fn rows_file(tablet: &Path) -> anyhow::Result<PathBuf> {
    let files = std::fs::read_dir(tablet)?.map(|entry| entry.map(|entry| entry.path()));
    let files = files.collect::<Result<Vec<_>, _>>()?;
    files.into_iter().find(|path| path.extension().is_some_and(|end| end == "parquet")).context("no file of rows")
}

fn flip_a_bit(path: &Path) -> anyhow::Result<()> {
    let mut bytes = std::fs::read(path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Ok(std::fs::write(path, bytes)?)
}

async fn with_rows() -> anyhow::Result<Cluster> {
    let cluster = Cluster::builder().backends(3).brokers(0).config("be", "scrub_every_s = 2").start().await?;
    cluster.sql().run("CREATE DATABASE d").await?;
    cluster.sql().run(&create("d.t", 2, 3)).await?;
    load(&cluster, "one", 0).await?;
    Ok(cluster)
}

async fn load(cluster: &Cluster, label: &str, from: u64) -> Outcome {
    let load = StreamLoad::new(cluster.frontend(), "d", "t").header("label", label);
    load.must_succeed(csv(from + 1, from, 400)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_missed_loads_and_lost_a_tablet_is_copied_from_the_others() -> Outcome {
    let cluster = with_rows().await?;
    until_equal(&cluster, 400).await?;
    cluster.node("be-2").kill();
    load(&cluster, "two", 400).await?;
    let lost = tablets(&cluster.node("be-2").data)?;
    ensure!(lost.len() > 1, "more than one tablet with rows: {lost:?}");
    std::fs::remove_dir_all(&lost[0])?;
    let before = fingerprint(&mut cluster.sql(), "d.t").await?;
    cluster.node("be-2").start()?;
    cluster.until_alive().await?;
    until_equal(&cluster, 800).await?;
    // Loads go on where the copy ended.
    load(&cluster, "three", 800).await?;
    until_equal(&cluster, 1_200).await?;
    // It holds all of it by itself; after a restart too.
    cluster.crash("be-2").await?;
    until_equal(&cluster, 1_200).await?;
    let all = fingerprint(&mut cluster.sql(), "d.t").await?;
    assert_eq!((before[0].as_str(), all[0].as_str()), ("800", "1200"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_never_read_and_mended() -> Outcome {
    let cluster = with_rows().await?;
    until_equal(&cluster, 400).await?;
    let before = fingerprint(&mut cluster.sql(), "d.t").await?;
    let victim = &cluster.node("be-3").data;
    let damaged = tablets(victim)?;
    for tablet in &damaged {
        flip_a_bit(&rows_file(tablet)?)?;
    }
    // A meta file that cannot be read is found at the next start.
    flip_a_bit(&tablets(&cluster.node("be-1").data)?[0].join("meta"))?;
    assert_eq!(fingerprint(&mut cluster.sql(), "d.t").await?, before, "the other replicas answer");
    cluster.crash("be-1").await?;
    let trash = || Ok::<usize, anyhow::Error>(std::fs::read_dir(victim.join("trash"))?.count());
    eventually("what was damaged is set aside", REPAIR_LIMIT, || async {
        ensure!(trash()? == damaged.len(), "{} of {}", trash()?, damaged.len());
        Ok(())
    })
    .await?;
    until_equal(&cluster, 400).await?;
    assert_eq!(fingerprint(&mut cluster.sql(), "d.t").await?, before);
    let mut sql = cluster.sql();
    sql.run(&format!("ADMIN CLEAN TRASH ON (\"{}\")", cluster.node("be-2").grpc)).await?;
    assert_eq!(trash()?, damaged.len(), "another one was asked");
    sql.run("ADMIN CLEAN TRASH").await?;
    assert_eq!(trash()?, 0);
    let error = sql.error("ADMIN CLEAN TRASH ON (\"nowhere:1\")").await?;
    ensure!(error.message.contains("backend does not exists[nowhere:1]"), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn loads_that_were_committed_while_backends_died_in_turn_become_visible_together() -> Outcome {
    let cluster = Cluster::builder().backends(3).brokers(0).config("fe", "publish_timeout_ms = 100").start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run("CREATE TABLE d.t (a INT) DISTRIBUTED BY HASH(a) BUCKETS 1 PROPERTIES (\"replication_num\" = \"3\")")
        .await?;
    cluster.node("be-2").kill();
    for row in 0..3 {
        sql.run(&format!("INSERT INTO d.t VALUES ({row})")).await?;
    }
    cluster.node("be-2").start()?;
    cluster.until_alive().await?;
    // What be-2 missed lies on be-1 and be-3; with be-1 gone, no majority has it until be-2 is repaired.
    cluster.node("be-1").kill();
    for row in 3..20 {
        sql.run(&format!("INSERT INTO d.t VALUES ({row})")).await?;
    }
    cluster.node("be-1").start()?;
    // One after the other, with a new try every twenty seconds, they would take minutes.
    eventually("all rows are visible", REPAIR_LIMIT, || async {
        let found = cluster.sql().scalar("SELECT count(*) FROM d.t").await?;
        ensure!(found == "20", "{found}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_a_backup_meets_is_mended() -> Outcome {
    // Nothing else looks at the files: no scrub in the first hour, no query.
    let cluster = Cluster::builder().backends(2).brokers(1).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&create("d.t", 2, 2)).await?;
    load(&cluster, "one", 0).await?;
    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
    let victim = &cluster.node("be-1").data;
    for tablet in tablets(victim)? {
        flip_a_bit(&rows_file(&tablet)?)?;
    }
    sql.run("BACKUP SNAPSHOT d.s TO r ON (t)").await?;
    let ended = sql.job_finished("SHOW BACKUP FROM d").await?;
    let warned = ended.get("Warnings");
    assert!(warned.contains("was passed over: ") && ended.get("Status") == "[OK]", "{ended:?}");
    eventually("what the backup met is set aside", REPAIR_LIMIT, || async {
        let trash = std::fs::read_dir(victim.join("trash"))?.count();
        let shown = cluster.sql().query("SHOW TABLETS FROM d.t").await?;
        ensure!(trash > 0 && shown.iter().all(|row| row.get("State") == "NORMAL"), "{trash} {shown:?}");
        Ok(())
    })
    .await
}
