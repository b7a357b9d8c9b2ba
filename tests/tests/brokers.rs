//! Several brokers under one name: one is killed in the middle of a job, limits change while bytes pass.

use anyhow::Context;
use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::http::{StreamLoad, get};
use coffer_tests::{Cluster, Node, Outcome, Sql, eventually};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
/// Rows whose files are several times the largest message between processes.
const ROWS: u64 = 60_000;

/// Two brokers, one backend, a table of some MB in one tablet, and repository `r`.
async fn loaded() -> anyhow::Result<(Cluster, Sql, Vec<String>)> {
    let cluster = Cluster::builder().backends(1).brokers(2).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&create("d.t", 1, 1)).await?;
    StreamLoad::new(cluster.frontend(), "d", "t").must_succeed(csv(5, 0, ROWS)).await?;
    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
    let before = fingerprint(&mut sql, "d.t").await?;
    Ok((cluster, sql, before))
}

fn limit(value: &str) -> String {
    format!("ALTER REPOSITORY r SET PROPERTIES (\"max_bytes_per_second\" = \"{value}\")")
}

/// The broker that has a stream of this kind open.
async fn busy<'a>(cluster: &'a Cluster, operation: &str) -> anyhow::Result<&'a Node> {
    let line = format!("coffer_broker_requests_in_flight{{operation=\"{operation}\"}} ");
    eventually(&format!("a broker is busy with a {operation}"), LIMIT, || async {
        for node in cluster.of("broker-") {
            let (_, page) = get(node, "/metrics").await?;
            let count = page.lines().find_map(|found| found.strip_prefix(&line)).unwrap_or("0");
            if count != "0" {
                return Ok(node);
            }
        }
        anyhow::bail!("none is")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_when_its_broker_is_killed() -> Outcome {
    let (cluster, mut sql, before) = loaded().await?;
    // Slow enough that the job is caught in the middle.
    sql.run(&limit("64K")).await?;
    sql.run("BACKUP SNAPSHOT d.s TO r ON (t)").await?;
    let victim = busy(&cluster, "write").await?.name.clone();
    cluster.node(&victim).kill();
    assert_ne!(sql.query("SHOW BACKUP FROM d").await?[0].get("State"), "FINISHED");
    sql.run(&limit("0")).await?;
    let row = sql.job_finished("SHOW BACKUP FROM d").await?;
    assert_eq!(row.get("Status"), "[OK]");
    let timestamp = sql.timestamp("r", "s").await?;
    cluster.node(&victim).start()?;
    cluster.until_alive().await?;

    sql.run("DROP TABLE d.t").await?;
    sql.run(&limit("64K")).await?;
    sql.run(&format!("RESTORE SNAPSHOT d.s FROM r PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")")).await?;
    let victim = busy(&cluster, "read").await?.name.clone();
    eventually("a file that is half there shows", LIMIT, || async {
        let row = cluster.sql().query("SHOW RESTORE FROM d").await?.pop().context("a job")?;
        let (done, total): (u64, u64) = (row.get("BytesDone").parse()?, row.get("BytesTotal").parse()?);
        anyhow::ensure!(done > 0 && done < total && row.get("State") == "DOWNLOADING", "{row:?}");
        anyhow::ensure!(row.get("Progress").contains(": 0/") && row.get("Rate") != "NULL", "{row:?}");
        Ok(())
    })
    .await?;
    cluster.node(&victim).kill();
    assert_ne!(sql.query("SHOW RESTORE FROM d").await?[0].get("State"), "FINISHED");
    let rows = eventually("SHOW BROKER knows which one is dead", LIMIT, || async {
        let rows = cluster.sql().query("SHOW BROKER").await?;
        anyhow::ensure!(rows.iter().filter(|row| row.get("Alive") == "false").count() == 1, "{rows:?}");
        Ok(rows)
    });
    let rows = rows.await?;
    let dead = rows.iter().find(|row| row.get("Alive") == "false").context("one is dead")?;
    assert!(cluster.node(&victim).grpc.ends_with(dead.get("Port")) && !dead.get("ErrMsg").is_empty(), "{dead:?}");
    sql.run(&limit("0")).await?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!(fingerprint(&mut sql, "d.t").await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stdout, reason = "the figures are for people")]
async fn limits_hold_and_can_be_changed_for_a_running_job() -> Outcome {
    let (cluster, mut sql, _) = loaded().await?;
    for wrong in [
        "ALTER REPOSITORY r PROPERTIES (\"max_bytes_per_second\" = \"fast\")",
        "ALTER REPOSITORY r PROPERTIES (\"nonsense\" = \"1\")",
    ] {
        sql.error(wrong).await?;
    }
    let backup = async |sql: &mut Sql, label: &str| -> anyhow::Result<(f64, f64)> {
        let begun = Instant::now();
        sql.run(&format!("BACKUP SNAPSHOT d.{label} TO r ON (t)")).await?;
        let row = sql.job_finished("SHOW BACKUP FROM d").await?;
        Ok((row.get("BytesDone").parse()?, begun.elapsed().as_secs_f64()))
    };
    // One stream uses one of the two brokers, whose share is half of the limit; the last message passes on credit.
    sql.run(&limit("2M")).await?;
    let (bytes, took) = backup(&mut sql, "slow").await?;
    println!("{bytes} bytes at 1 MiB/s for one broker took {took:.2} s");
    assert!(bytes > 2_000_000.0, "{bytes} bytes are too few to tell");
    let credit = 1_048_576.0;
    assert!(took > (bytes - credit) / 1_048_576.0 * 0.9, "{bytes} bytes took {took} s: the limit was not kept");

    sql.run(&limit("0")).await?;
    sql.run("ALTER SYSTEM MODIFY BROKER local_broker SET (\"max_upload_bytes_per_second\" = \"16K\")").await?;
    let rows = sql.query("SHOW BROKER").await?;
    let limits: Vec<&str> = rows.iter().map(|row| row.get("MaxUploadBytesPerSecond")).collect();
    assert_eq!(limits, ["16384", "16384"]);
    sql.run("BACKUP SNAPSHOT d.stuck TO r ON (t)").await?;
    eventually("the job uploads", LIMIT, || async {
        let mut sql = cluster.sql();
        let row = sql.query("SHOW BACKUP FROM d").await?.pop().context("a job")?;
        anyhow::ensure!(row.get("State") == "UPLOADING", "{row:?}");
        Ok(())
    })
    .await?;
    busy(&cluster, "write").await?;
    sql.run("ALTER SYSTEM MODIFY BROKER local_broker SET (\"max_upload_bytes_per_second\" = \"0\")").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let known = sql.query("SHOW CREATE REPOSITORY FOR r").await?;
    assert!(known[0].get("CreateStmt").contains("\"max_upload_bytes_per_second\" = \"0\""), "{known:?}");
    Ok(())
}
