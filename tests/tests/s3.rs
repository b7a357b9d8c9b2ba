//! A repository in S3, reached through the broker, against a local S3 server (moto, from the Python environment that
//! tests/run makes).

use anyhow::Context;
use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::http::StreamLoad;
use coffer_tests::ports::PortBlock;
use coffer_tests::{Cluster, Outcome, eventually};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

const BUCKET: &str = "coffer-backups";

/// A running S3 server; ends when dropped.
struct S3 {
    endpoint: String,
    _process: Child,
    _ports: PortBlock,
}

async fn s3() -> anyhow::Result<Option<S3>> {
    let python = std::env::var("COFFER_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let there = Command::new(&python).args(["-c", "import moto.server"]).output().await;
    if !there.is_ok_and(|output| output.status.success()) {
        anyhow::ensure!(std::env::var_os("CI").is_none(), "moto is not installed: run tests/run");
        #[allow(clippy::print_stderr, reason = "a skip must be seen")]
        {
            eprintln!("SKIPPED: moto is not installed; tests/run installs it");
        }
        return Ok(None);
    }
    let mut ports = PortBlock::take()?;
    let address = ports.address()?;
    let (host, port) = address.split_once(':').context("host:port")?;
    let process = Command::new(&python)
        .args(["-m", "moto.server", "-H", host, "-p", port])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let endpoint = format!("http://{address}");
    let bucket = format!("{endpoint}/{BUCKET}");
    eventually("the S3 server makes a bucket", Duration::from_secs(60), || async {
        let made = reqwest::Client::builder().no_proxy().build()?.put(&bucket).send().await?;
        anyhow::ensure!(made.status().is_success(), "{}", made.status());
        Ok(())
    })
    .await?;
    Ok(Some(S3 { endpoint, _process: process, _ports: ports }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_survives_in_s3() -> Outcome {
    let Some(s3) = s3().await? else { return Ok(()) };
    let cluster = Cluster::builder().backends(2).brokers(1).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&create("d.t", 2, 2)).await?;
    StreamLoad::new(cluster.frontend(), "d", "t").must_succeed(csv(9, 0, 3_000)).await?;
    let before = fingerprint(&mut sql, "d.t").await?;

    let properties = format!(
        "\"s3.endpoint\" = \"{}\", \"s3.region\" = \"us-east-1\", \"s3.access_key\" = \"AKTEST\", \
         \"s3.secret_key\" = \"a-very-secret-key\", \"use_path_style\" = \"true\"",
        s3.endpoint
    );
    let create = format!(
        "CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"s3://{BUCKET}/prefix\" PROPERTIES ({properties})"
    );
    sql.run(&create).await?;
    sql.run("BACKUP SNAPSHOT d.s TO r ON (t)").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let timestamp = sql.timestamp("r", "s").await?;
    sql.run("DROP TABLE d.t").await?;
    sql.run(&format!("RESTORE SNAPSHOT d.s FROM r PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")")).await?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!(fingerprint(&mut sql, "d.t").await?, before);

    // The secret is nowhere to be seen.
    let shown =
        format!("{:?}{:?}", sql.query("SHOW REPOSITORIES").await?, sql.query("SHOW CREATE REPOSITORY FOR r").await?);
    assert!(!shown.contains("a-very-secret-key"), "{shown}");
    for node in cluster.nodes() {
        let log = std::fs::read_to_string(&node.log)?;
        assert!(!log.contains("a-very-secret-key"), "{} logs the secret", node.name);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_is_named() -> Outcome {
    let Some(s3) = s3().await? else { return Ok(()) };
    let cluster = Cluster::builder().start().await?;
    let mut sql = cluster.sql();
    let create = format!(
        "CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"s3://no-such-bucket/p\" PROPERTIES (\
         \"s3.endpoint\" = \"{}\", \"s3.region\" = \"us-east-1\", \"s3.access_key\" = \"a\", \"s3.secret_key\" = \"b\", \
         \"use_path_style\" = \"true\")",
        s3.endpoint
    );
    let error = sql.error(&create).await?;
    assert!(error.message.contains("no-such-bucket"), "{}", error.message);
    assert!(sql.query("SHOW REPOSITORIES").await?.is_empty());
    Ok(())
}
