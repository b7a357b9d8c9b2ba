//! Loads of two phases: precommitted they survive every process, nobody sees them, and they end by commit, abort or time.

use anyhow::{Context, ensure};
use coffer_tests::data::{create, csv};
use coffer_tests::http::{StreamLoad, end_load};
use coffer_tests::mysql::Row;
use coffer_tests::{Cluster, Outcome, eventually};
use reqwest::StatusCode;
use serde_json::Value;
use std::time::Duration;

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

async fn precommit(cluster: &Cluster, label: &str, first: u64) -> anyhow::Result<Value> {
    let load = StreamLoad::new(cluster.frontend(), "d", "t").header("label", label);
    let answer = load.header("two_phase_commit", "true").must_succeed(csv(first + 1, first, 100)).await?;
    ensure!(answer["TwoPhaseCommit"] == "true" && answer["NumberLoadedRows"] == 100, "{answer}");
    Ok(answer)
}

async fn end(cluster: &Cluster, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<Value> {
    Ok(end_load(cluster.frontend(), path, "root", headers).await?.1)
}

/// What SHOW TRANSACTION says about a label.
async fn shown(cluster: &Cluster, label: &str) -> anyhow::Result<Row> {
    let rows = cluster.sql().query(&format!("SHOW TRANSACTION FROM d WHERE label = \"{label}\"")).await?;
    rows.into_iter().next().with_context(|| format!("{label} is not listed"))
}

async fn count(cluster: &Cluster, table: &str) -> anyhow::Result<String> {
    cluster.sql().scalar(&format!("SELECT count(*) FROM {table}")).await
}

async fn started(frontends: usize) -> anyhow::Result<Cluster> {
    let cluster = Cluster::builder().frontends(frontends).backends(2).brokers(1).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&create("d.t", 2, 2)).await?;
    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
    Ok(cluster)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_precommitted_load_survives_kill_9_of_everybody_and_is_in_no_backup_before_its_commit() -> Outcome {
    let cluster = started(3).await?;
    let load = precommit(&cluster, "first", 0).await?;
    let other = precommit(&cluster, "second", 100).await?;
    let again = StreamLoad::new(cluster.frontend(), "d", "t").header("label", "first").send("").await?;
    ensure!(again["ExistingJobStatus"] == "PRECOMMITTED", "{again}");
    let mut sql = cluster.sql();
    sql.run("BACKUP SNAPSHOT d.before TO r ON (t)").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    for name in ["be-1", "be-2"] {
        cluster.crash(name).await?;
    }
    let leader = cluster.leader().await?.name.clone();
    cluster.crash(&leader).await?;
    let row = shown(&cluster, "first").await?;
    ensure!(row.get("TransactionStatus") == "PRECOMMITTED" && row.get("PreCommitTime") != "NULL", "{row:?}");
    let id = load["TxnId"].to_string();
    ensure!(row.get("TransactionId") == id, "{row:?}, {load}");
    ensure!(count(&cluster, "d.t").await? == "0");

    let commit = [("txn_id", id.as_str()), ("txn_operation", "commit")];
    let answer = end(&cluster, "d/_stream_load_2pc", &commit).await?;
    let said = format!("transaction [{id}] commit successfully.");
    ensure!(answer["status"] == "Success" && answer["msg"] == said.as_str(), "{answer}");
    eventually("the load is visible", LIMIT, || async {
        let found = count(&cluster, "d.t").await?;
        ensure!(found == "100" && shown(&cluster, "first").await?.get("TransactionStatus") == "VISIBLE", "{found}");
        Ok(())
    })
    .await?;
    let answer = end(&cluster, "d/t/_stream_load_2pc", &commit).await?;
    let said = format!("transaction [{id}] is already visible, not pre-committed.");
    ensure!(answer["status"] == "Fail" && answer["msg"] == said.as_str(), "{answer}");

    let answer = end(&cluster, "d/_stream_load_2pc", &[("label", "second"), ("txn_operation", "abort")]).await?;
    let said = format!("transaction [{}] abort successfully.", other["TxnId"]);
    ensure!(answer["status"] == "Success" && answer["msg"] == said.as_str(), "{answer}");
    // Its label is free again.
    precommit(&cluster, "second", 100).await?;
    end(&cluster, "d/_stream_load_2pc", &[("label", "second"), ("txn_operation", "commit")]).await?;
    eventually("both loads are visible", LIMIT, || async {
        let found = count(&cluster, "d.t").await?;
        ensure!(found == "200", "{found}");
        Ok(())
    })
    .await?;
    let timestamp = cluster.sql().timestamp("r", "before").await?;
    let restore =
        format!("RESTORE SNAPSHOT d.before FROM r ON (t AS u) PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")");
    cluster.sql().run(&restore).await?;
    cluster.sql().job_finished("SHOW RESTORE FROM d").await?;
    ensure!(count(&cluster, "d.u").await? == "0", "the backup saw a load before its commit");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_nobody_ends_expires_and_one_that_is_restored_over_is_aborted() -> Outcome {
    let cluster = started(1).await?;
    let mut sql = cluster.sql();
    StreamLoad::new(cluster.frontend(), "d", "t").must_succeed(csv(1, 0, 10)).await?;
    sql.run("BACKUP SNAPSHOT d.s TO r ON (t)").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    precommit(&cluster, "over", 1_000).await?;
    let timestamp = sql.timestamp("r", "s").await?;
    sql.run(&format!("RESTORE SNAPSHOT d.s FROM r ON (t) PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")")).await?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    let answer = end(&cluster, "d/_stream_load_2pc", &[("label", "over"), ("txn_operation", "commit")]).await?;
    ensure!(answer["status"] == "Fail" && answer["msg"].to_string().contains("restored"), "{answer}");
    ensure!(shown(&cluster, "over").await?.get("TransactionStatus") == "ABORTED");
    ensure!(count(&cluster, "d.t").await? == "10");

    sql.run("ADMIN SET FRONTEND CONFIG (\"stream_load_default_precommit_timeout_second\" = \"1\")").await?;
    precommit(&cluster, "late", 2_000).await?;
    eventually("the load is aborted, and its rows are discarded", LIMIT, || async {
        let row = shown(&cluster, "late").await?;
        ensure!(row.get("TransactionStatus") == "ABORTED" && row.get("Reason").contains("timeout"), "{row:?}");
        for node in cluster.of("be-") {
            let staged = std::fs::read_dir(node.data.join("staging"))?.count();
            ensure!(staged == 0, "{staged} loads on {}", node.name);
        }
        Ok(())
    })
    .await?;
    let answer = end(&cluster, "d/_stream_load_2pc", &[("label", "nothing"), ("txn_operation", "commit")]).await?;
    ensure!(answer["msg"] == "transaction with label [nothing] not found", "{answer}");
    let answer = end(&cluster, "d/_stream_load_2pc", &[("label", "late")]).await?;
    ensure!(answer["msg"].to_string().contains("neither commit nor abort"), "{answer}");
    let commit = [("label", "late"), ("txn_operation", "commit")];
    let (code, _) = end_load(cluster.frontend(), "d/_stream_load_2pc", "nobody", &commit).await?;
    ensure!(code == StatusCode::UNAUTHORIZED, "{code}");
    sql.run("CREATE USER eve").await?;
    sql.run("ADMIN SET FRONTEND CONFIG (\"stream_load_default_precommit_timeout_second\" = \"3600\")").await?;
    precommit(&cluster, "kept", 3_000).await?;
    let commit = [("label", "kept"), ("txn_operation", "commit")];
    let (_, answer) = end_load(cluster.frontend(), "d/_stream_load_2pc", "eve", &commit).await?;
    ensure!(answer["status"] == "Fail" && answer["msg"].to_string().contains("LOAD"), "{answer}");
    ensure!(shown(&cluster, "kept").await?.get("TransactionStatus") == "PRECOMMITTED");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_is_kept_to_the_partitions_it_names() -> Outcome {
    let cluster = started(1).await?;
    let load = StreamLoad::new(cluster.frontend(), "d", "t").header("max_filter_ratio", "1");
    let answer = load.clone().header("partitions", "p01, p03").must_succeed(csv(1, 0, 300)).await?;
    let (loaded, filtered) = (answer["NumberLoadedRows"].as_u64(), answer["NumberFilteredRows"].as_u64());
    ensure!(
        loaded > Some(0) && filtered > Some(0) && loaded.zip(filtered).map(|(a, b)| a + b) == Some(300),
        "{answer}"
    );
    ensure!(count(&cluster, "d.t").await? == loaded.unwrap_or_default().to_string());
    ensure!(count(&cluster, "d.t PARTITION (p02)").await? == "0");
    let answer = load.header("partitions", "p04").send("").await?;
    ensure!(answer["Message"].to_string().contains("no partition 'p04'"), "{answer}");
    Ok(())
}
