//! Jobs and what happens around them: tables that change, processes that go away, cancels, damaged repositories.

use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::http::StreamLoad;
use coffer_tests::mysql::Row;
use coffer_tests::{Cluster, Outcome, Sql, eventually};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A backend that is frozen for a while is not taken for dead.
const PATIENT: &str = "heartbeat_timeout_ms = 60000";
const LIMIT: Duration = Duration::from_secs(90);

/// Database `d` with table `t` of 600 rows, and repository `r`, through the broker when there is one.
async fn loaded(cluster: &Cluster, replicas: u32) -> anyhow::Result<Sql> {
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&create("d.t", 2, replicas)).await?;
    StreamLoad::new(cluster.frontend(), "d", "t").header("label", "l").must_succeed(csv(1, 0, 600)).await?;
    let brokers = cluster.nodes().iter().any(|node| node.name.starts_with("broker"));
    let way = if brokers { "BROKER local_broker" } else { "LOCAL" };
    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH {way} ON LOCATION \"{location}\"")).await?;
    Ok(sql)
}

fn restore(timestamp: &str, objects: &str) -> String {
    format!("RESTORE SNAPSHOT d.s FROM r {objects} PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")")
}

async fn last(sql: &mut Sql, show: &str) -> anyhow::Result<Row> {
    sql.query(show).await?.pop().ok_or_else(|| anyhow::anyhow!("{show}: no job"))
}

/// Wait until the last job looks like this.
async fn until(cluster: &Cluster, show: &str, what: &str, good: impl Fn(&Row) -> bool) -> Outcome {
    eventually(what, LIMIT, || async {
        let row = last(&mut cluster.sql(), show).await?;
        anyhow::ensure!(good(&row), "{row:?}");
        Ok(())
    })
    .await
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Wait until no job owns anything on any backend, and the repository has so many objects.
async fn nothing_left(cluster: &Cluster, objects: usize) -> Outcome {
    eventually("nothing is left of the job", LIMIT, || async {
        for backend in cluster.of("be-") {
            for folder in ["snapshot", "restore"] {
                let left = files(&backend.data.join(folder));
                anyhow::ensure!(left.is_empty(), "{left:?}");
            }
        }
        let left = files(&cluster.repos());
        anyhow::ensure!(left.len() == objects, "{left:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_holds_one_moment_whatever_happens_to_its_tables() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(0).config("fe", PATIENT).start().await?;
    let mut sql = loaded(&cluster, 1).await?;
    sql.run(&create("d.u", 1, 1)).await?;
    StreamLoad::new(cluster.frontend(), "d", "u").header("label", "u").must_succeed(csv(2, 0, 100)).await?;
    let (t, u) = (fingerprint(&mut sql, "d.t").await?, fingerprint(&mut sql, "d.u").await?);
    cluster.node("be-1").pause()?;
    sql.run("BACKUP SNAPSHOT d.s TO r").await?;
    let row = last(&mut sql, "SHOW BACKUP FROM d").await?;
    assert!(matches!(row.get("State"), "PENDING" | "SNAPSHOTING"), "{row:?}");
    sql.run("TRUNCATE TABLE d.t PARTITION (p01)").await?;
    sql.run("ALTER TABLE d.u RENAME v").await?;
    sql.run("DROP TABLE d.v").await?;
    let busy = sql.error("DROP DATABASE d").await?;
    assert!(busy.message.contains("is in use by job"), "{}", busy.message);
    cluster.node("be-1").resume()?;
    StreamLoad::new(cluster.frontend(), "d", "t").header("label", "later").must_succeed(csv(3, 9_000, 50)).await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let timestamp = sql.timestamp("r", "s").await?;
    sql.run("CREATE DATABASE n").await?;
    let into = restore(&timestamp, "").replace("d.s", "n.s");
    sql.run(&into).await?;
    sql.job_finished("SHOW RESTORE FROM n").await?;
    assert_eq!((fingerprint(&mut sql, "n.t").await?, fingerprint(&mut sql, "n.u").await?), (t, u));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_wait_for_a_repository_that_is_away_and_say_so() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(1).config("fe", PATIENT).start().await?;
    let mut sql = loaded(&cluster, 1).await?;
    let before = fingerprint(&mut sql, "d.t").await?;
    let hold = |statement: String, show: &'static str, state: &'static str| {
        let cluster = &cluster;
        async move {
            let mut sql = cluster.sql();
            cluster.node("be-1").pause()?;
            sql.run(&statement).await?;
            cluster.node("broker-1").kill();
            cluster.node("be-1").resume()?;
            until(cluster, show, "the error is shown", |row| {
                let error = row.get("TaskErrMsg");
                row.get("State") == state && error.starts_with('[') && error.contains(": ") && error.ends_with(']')
            })
            .await?;
            let row = last(&mut sql, show).await?;
            assert!(row.get("UnfinishedTasks").starts_with('['), "{row:?}");
            assert_eq!(row.get("Status"), "[OK]");
            cluster.node("broker-1").start()?;
            let row = sql.job_finished(show).await?;
            assert_eq!((row.get("TaskErrMsg"), row.get("Status")), ("", "[OK]"));
            anyhow::Ok(())
        }
    };
    hold("BACKUP SNAPSHOT d.s TO r".to_owned(), "SHOW BACKUP FROM d", "UPLOADING").await?;
    let timestamp = sql.timestamp("r", "s").await?;
    hold(restore(&timestamp, "ON (t AS u)"), "SHOW RESTORE FROM d", "DOWNLOADING").await?;
    assert_eq!(fingerprint(&mut sql, "d.u").await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_works_in_every_state_and_leaves_nothing() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(1).config("fe", PATIENT).start().await?;
    let mut sql = loaded(&cluster, 1).await?;
    let before = fingerprint(&mut sql, "d.t").await?;
    let be = cluster.node("be-1");
    let cancelled = |row: &Row| {
        row.get("State") == "CANCELLED" && row.get("Status").starts_with("[COMMON_ERROR, msg: user cancelled")
    };
    // While snapshots are made.
    be.pause()?;
    sql.run("BACKUP SNAPSHOT d.s TO r").await?;
    until(&cluster, "SHOW BACKUP FROM d", "it runs", |row| row.get("State") == "SNAPSHOTING").await?;
    sql.run("CANCEL BACKUP FROM d").await?;
    let row = last(&mut sql, "SHOW BACKUP FROM d").await?;
    assert!(cancelled(&row) && row.get("FinishedTime") > "20", "{row:?}");
    let again = sql.error("CANCEL BACKUP FROM d").await?;
    assert!(again.message.contains("No backup job is currently running"), "{}", again.message);
    be.resume()?;
    nothing_left(&cluster, 1).await?;
    // While it uploads; nothing of it can be removed before the broker is back.
    be.pause()?;
    sql.run("BACKUP SNAPSHOT d.s TO r").await?;
    cluster.node("broker-1").kill();
    be.resume()?;
    until(&cluster, "SHOW BACKUP FROM d", "it uploads", |row| row.get("State") == "UPLOADING").await?;
    sql.run("CANCEL BACKUP FROM d").await?;
    assert!(cancelled(&last(&mut sql, "SHOW BACKUP FROM d").await?));
    cluster.node("broker-1").start()?;
    nothing_left(&cluster, 1).await?;
    // The label is free.
    cluster.until_alive().await?;
    sql.run("BACKUP SNAPSHOT d.s TO r").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let timestamp = sql.timestamp("r", "s").await?;
    let objects = files(&cluster.repos()).len();
    nothing_left(&cluster, objects).await?;
    // A restore over the table, while room is made and while it downloads.
    for state in ["SNAPSHOTING", "DOWNLOADING"] {
        cluster.until_alive().await?;
        be.pause()?;
        sql.run(&restore(&timestamp, "ON (t)")).await?;
        if state == "DOWNLOADING" {
            cluster.node("broker-1").kill();
            be.resume()?;
        }
        until(&cluster, "SHOW RESTORE FROM d", state, |row| row.get("State") == state).await?;
        sql.run("CANCEL RESTORE FROM d").await?;
        let row = last(&mut sql, "SHOW RESTORE FROM d").await?;
        assert!(cancelled(&row) && row.get("Status").contains(&format!("current state: {state}")), "{row:?}");
        if state == "DOWNLOADING" {
            cluster.node("broker-1").start()?;
        } else {
            be.resume()?;
        }
        nothing_left(&cluster, objects).await?;
        assert_eq!(fingerprint(&mut sql, "d.t").await?, before);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_backend_costs_neither_a_backup_nor_a_restore() -> Outcome {
    let cluster = Cluster::builder().backends(3).brokers(0).config("fe", PATIENT).start().await?;
    let mut sql = loaded(&cluster, 2).await?;
    let before = fingerprint(&mut sql, "d.t").await?;
    let lost = cluster.node("be-1");
    lost.pause()?;
    sql.run("BACKUP SNAPSHOT d.s TO r").await?;
    lost.kill();
    sql.job_finished("SHOW BACKUP FROM d").await?;
    lost.start()?;
    cluster.until_alive().await?;
    let timestamp = sql.timestamp("r", "s").await?;
    lost.pause()?;
    sql.run(&restore(&timestamp, "ON (t AS u)")).await?;
    lost.kill();
    sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!(fingerprint(&mut sql, "d.u").await?, before);
    let tablets = sql.query("SHOW TABLETS FROM d.u").await?;
    let id = sql.query("SHOW BACKENDS").await?.into_iter().find(|row| lost.grpc.ends_with(row.get("HeartbeatPort")));
    let id = id.map(|row| row.get("BackendId").to_owned()).unwrap_or_default();
    assert_eq!(tablets.len(), 12, "two replicas of six tablets");
    assert!(tablets.iter().all(|row| row.get("BackendId") != id), "{tablets:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_damage_of_a_repository_ever_gives_a_wrong_row_and_the_object_is_named() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(0).config("fe", PATIENT).start().await?;
    let mut sql = loaded(&cluster, 1).await?;
    let before = fingerprint(&mut sql, "d.t").await?;
    sql.run("BACKUP SNAPSHOT d.s TO r").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let timestamp = sql.timestamp("r", "s").await?;
    let objects = files(&cluster.repos());
    for kind in ["__repo_info", "/__info_", "/__meta_", "/__manifest_", "/packs/"] {
        let path = objects.iter().find(|path| path.display().to_string().contains(kind)).expect("an object");
        let good = std::fs::read(path)?;
        let mut flipped = good.clone();
        flipped[good.len() / 3] ^= 4;
        for (how, bytes) in [("flip", Some(flipped)), ("cut", Some(good[..good.len() / 2].to_vec())), ("remove", None)]
        {
            match bytes {
                Some(bytes) => std::fs::write(path, bytes)?,
                None => std::fs::remove_file(path)?,
            }
            let said = match sql.query(&restore(&timestamp, "ON (t AS u)")).await {
                Err(refused) => format!("{refused:#}"),
                Ok(_) => {
                    let row = sql.job_end("SHOW RESTORE FROM d").await?;
                    assert_eq!(row.get("State"), "CANCELLED", "{kind} {how}: {row:?}");
                    row.get("Status").to_owned()
                }
            };
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // An info that is not there has no name any more: the snapshot is named.
            let named = said.contains(name) || (kind == "/__info_" && how == "remove" && said.contains("'s'"));
            assert!(named, "{kind} {how}: {said}");
            let missing = sql.error("SELECT count(*) FROM d.u").await?;
            assert!(missing.message.contains('u'), "{kind} {how}: {}", missing.message);
            std::fs::write(path, &good)?;
        }
    }
    sql.run(&restore(&timestamp, "ON (t AS u)")).await?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!(fingerprint(&mut sql, "d.u").await?, before);
    Ok(())
}
