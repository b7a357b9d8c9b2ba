//! A storage that fills up in the middle of a job: the job ends with the cause in one sentence, nothing of it is left in the
//! repository, and what fits is backed up the next time.

#[path = "../servers/hdfs.rs"]
mod server;

use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::http::StreamLoad;
use coffer_tests::s3::S3;
use coffer_tests::{Cluster, Outcome, Sql};
use server::Hdfs;

/// Rows whose files take more than 2 MiB, and such that take little.
const MANY_ROWS: u64 = 90_000;
const FEW_ROWS: u64 = 100;

async fn loaded() -> anyhow::Result<(Cluster, Sql)> {
    let cluster = Cluster::builder().start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    for (table, rows) in [("large", MANY_ROWS), ("small", FEW_ROWS)] {
        sql.run(&create(&format!("d.{table}"), 1, 1)).await?;
        StreamLoad::new(cluster.frontend(), "d", table).must_succeed(csv(5, 0, rows)).await?;
    }
    Ok((cluster, sql))
}

/// Back up what does not fit, then what does, into repository `r`.
#[allow(clippy::print_stdout, reason = "the sentence is for people")]
async fn fills_up(sql: &mut Sql, says: &[&str]) -> Outcome {
    sql.run("BACKUP SNAPSHOT d.s TO r ON (large)").await?;
    let row = sql.job_end("SHOW BACKUP FROM d").await?;
    println!("{}", row.get("Status"));
    assert_eq!(row.get("State"), "CANCELLED", "{row:?}");
    for part in says {
        assert!(row.get("Status").contains(part), "{part}: {row:?}");
    }
    assert!(!row.get("Status").contains('\n'), "{row:?}");
    assert!(sql.query("SHOW SNAPSHOT ON r").await?.is_empty());

    let before = fingerprint(sql, "d.small").await?;
    sql.run("BACKUP SNAPSHOT d.s TO r ON (small)").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let timestamp = sql.timestamp("r", "s").await?;
    sql.run("DROP TABLE d.small").await?;
    sql.run(&format!("RESTORE SNAPSHOT d.s FROM r PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")")).await?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!(fingerprint(sql, "d.small").await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_fills_up_ends_the_job_with_the_cause() -> Outcome {
    let test = "full_storage::a_bucket_that_fills_up_ends_the_job_with_the_cause";
    let Some(s3) = S3::of(test) else { return Ok(()) };
    let (_cluster, mut sql) = loaded().await?;
    let place = s3.place(&s3.full_bucket, "");
    sql.run(&s3.create_repository("BROKER local_broker", &place)).await?;
    fills_up(&mut sql, &["QuotaExceeded", &format!("s3://{place}"), &s3.endpoint, "raise its quota"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hdfs_folder_that_fills_up_ends_the_job_with_the_cause() -> Outcome {
    let test = "full_storage::an_hdfs_folder_that_fills_up_ends_the_job_with_the_cause";
    let Some(hdfs) = Hdfs::start(test, "simple")? else { return Ok(()) };
    hdfs.folder("/few")?;
    hdfs.tell("admin -setSpaceQuota 2m /few")?;
    let (_cluster, mut sql) = loaded().await?;
    let location = format!("hdfs://{}/few/r", hdfs.fact("nn1"));
    // HDFS counts whole blocks while they are written.
    let properties = "\"username\" = \"alice\", \"dfs.replication\" = \"1\", \"dfs.blocksize\" = \"1048576\"";
    sql.run(&format!(
        "CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\" PROPERTIES ({properties})"
    ))
    .await?;
    fills_up(&mut sql, &["quota exceeded", &location, "/few", "raise the quota"]).await?;
    let listed = hdfs.tell("web GET /few/r/__coffer_repository_r op=LISTSTATUS")?;
    assert!(!listed.contains(".coffer-tmp-"), "{listed}");
    Ok(())
}
