//! A repository in HDFS, reached through the broker and directly, on a real HDFS (`tests/servers/hdfs`).

#[path = "../servers/hdfs.rs"]
mod server;

use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::http::StreamLoad;
use coffer_tests::{Cluster, Outcome};
use server::Hdfs;

#[tokio::test(flavor = "multi_thread")]
async fn a_table_survives_in_hdfs() -> Outcome {
    let Some(hdfs) = Hdfs::start("hdfs::a_table_survives_in_hdfs", "simple")? else { return Ok(()) };
    hdfs.folder("/backups")?;
    let cluster = Cluster::builder().backends(2).brokers(1).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&create("d.t", 2, 2)).await?;
    StreamLoad::new(cluster.frontend(), "d", "t").must_succeed(csv(9, 0, 3_000)).await?;
    let before = fingerprint(&mut sql, "d.t").await?;
    for (name, with) in [("r", "BROKER local_broker"), ("direct", "HDFS")] {
        let location = format!("hdfs://{}/backups/{name}", hdfs.fact("nn1"));
        let properties = "\"username\" = \"alice\", \"dfs.replication\" = \"1\"";
        sql.run(&format!("CREATE REPOSITORY {name} WITH {with} ON LOCATION \"{location}\" PROPERTIES ({properties})"))
            .await?;
        sql.run(&format!("BACKUP SNAPSHOT d.s TO {name} ON (t)")).await?;
        sql.job_finished("SHOW BACKUP FROM d").await?;
        let timestamp = sql.timestamp(name, "s").await?;
        sql.run("DROP TABLE d.t").await?;
        sql.run(&format!("RESTORE SNAPSHOT d.s FROM {name} PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")"))
            .await?;
        sql.job_finished("SHOW RESTORE FROM d").await?;
        assert_eq!(fingerprint(&mut sql, "d.t").await?, before);
    }
    // Who wrote it, and that nothing temporary is left.
    let listed = hdfs.tell("web GET /backups/r/__coffer_repository_r op=LISTSTATUS")?;
    assert!(listed.contains("\"owner\":\"alice\"") && !listed.contains(".coffer-tmp-"), "{listed}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namenode_that_is_not_there_is_named() -> Outcome {
    let cluster = Cluster::builder().start().await?;
    let mut sql = cluster.sql();
    let create = "CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"hdfs://127.0.0.1:1/b\" PROPERTIES ()";
    let error = sql.error(&create.replace(" PROPERTIES ()", "")).await?;
    assert!(error.message.contains("127.0.0.1:1"), "{}", error.message);
    let unknown = create.replace("()", "(\"dfs_replication\" = \"1\")");
    let error = sql.error(&unknown).await?;
    assert!(error.message.contains("'dfs_replication' is unknown"), "{}", error.message);
    assert!(sql.query("SHOW REPOSITORIES").await?.is_empty());
    Ok(())
}
