//! kill -9 of every process between any two statements of the tour: nothing is lost.

use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::http::StreamLoad;
use coffer_tests::{Cluster, Outcome};

/// The tour; `hurt` happens after every statement.
async fn tour(cluster: &Cluster, victim: &str) -> Outcome {
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    cluster.crash(victim).await?;
    cluster.sql().run(&create("d.t", 2, 2)).await?;
    cluster.crash(victim).await?;
    let load = |label: &str| StreamLoad::new(cluster.frontend(), "d", "t").header("label", label);
    load("one").must_succeed(csv(1, 0, 400)).await?;
    cluster.crash(victim).await?;
    load("two").must_succeed(csv(2, 400, 400)).await?;
    cluster.crash(victim).await?;
    let again = load("one").send(csv(1, 0, 400)).await?;
    assert_eq!(again["Status"], "Label Already Exists", "{again}");

    let mut sql = cluster.sql();
    let before = fingerprint(&mut sql, "d.t").await?;
    assert_eq!(before[0], "800");
    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
    cluster.crash(victim).await?;
    // The crash meets the job wherever it is just then.
    cluster.sql().run("BACKUP SNAPSHOT d.s TO r ON (t)").await?;
    cluster.crash(victim).await?;
    let mut sql = cluster.sql();
    sql.job_finished("SHOW BACKUP FROM d").await?;
    cluster.crash(victim).await?;
    let mut sql = cluster.sql();
    let timestamp = sql.timestamp("r", "s").await?;
    sql.run("DROP TABLE d.t").await?;
    cluster.crash(victim).await?;
    let restore = format!("RESTORE SNAPSHOT d.s FROM r PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")");
    cluster.sql().run(&restore).await?;
    cluster.crash(victim).await?;
    let mut sql = cluster.sql();
    sql.job_finished("SHOW RESTORE FROM d").await?;
    cluster.crash(victim).await?;
    assert_eq!(fingerprint(&mut cluster.sql(), "d.t").await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_frontend_may_die_between_any_two_statements() -> Outcome {
    let cluster = Cluster::builder().backends(2).brokers(1).start().await?;
    tour(&cluster, "fe-1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_may_die_between_any_two_statements() -> Outcome {
    let cluster = Cluster::builder().backends(2).brokers(1).start().await?;
    tour(&cluster, "be-1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_may_die_between_any_two_statements() -> Outcome {
    let cluster = Cluster::builder().backends(2).brokers(1).start().await?;
    tour(&cluster, "broker-1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_is_a_clean_stop_and_a_bad_configuration_is_exit_code_two() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(1).start().await?;
    for node in cluster.nodes().iter().rev() {
        let status = node.stop().await?;
        assert_eq!(status.code(), Some(0), "{}: {}", node.name, node.log_tail());
        let good = std::fs::read_to_string(&node.config)?;
        std::fs::write(&node.config, format!("no_such_option = 1\n{good}"))?;
        let output = tokio::process::Command::new(&node.program).arg("--config").arg(&node.config).output().await?;
        assert_eq!(output.status.code(), Some(2), "{}", node.name);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("no_such_option"), "{}: {said}", node.name);
        std::fs::write(&node.config, good)?;
    }
    for node in cluster.nodes() {
        node.start()?;
    }
    cluster.until_alive().await
}
