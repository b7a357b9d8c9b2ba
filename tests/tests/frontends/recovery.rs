//! The last means: a majority of the frontends is lost for good, and one that is left becomes the cluster.

use crate::members::{at, stopped_because};
use anyhow::Context;
use coffer_tests::cluster::READY_LIMIT;
use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::http::StreamLoad;
use coffer_tests::{Cluster, Node, Outcome, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_becomes_the_cluster_and_the_others_come_back_empty() -> Outcome {
    let cluster = Cluster::builder().frontends(3).backends(2).brokers(0).start().await?;
    let nodes: Vec<&Node> = cluster.of("fe-").collect();
    let (first, others) = (nodes[0], &nodes[1..]);
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&create("d.t", 2, 2)).await?;
    StreamLoad::new(first, "d", "t").must_succeed(csv(7, 0, 300)).await?;
    // A read there that sees everything acknowledged: what it has is what the cluster has.
    let before = fingerprint(&mut at(first), "d.t").await?;
    nodes.iter().for_each(|node| node.kill());

    let mut recover = tokio::process::Command::new(&first.program);
    recover.arg("--config").arg(&first.config).args(["recover-single", "--the-other-frontends-are-gone"]);
    let done = recover.output().await?;
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    anyhow::ensure!(done.status.success() && said.contains("WARNING"), "{said}");
    assert!(said.contains("frontends left out: 2, 3"), "{said}");
    first.start()?;
    // The backends follow it, and every row is there.
    eventually("the rows are there", READY_LIMIT, || async {
        let now = fingerprint(&mut at(first), "d.t").await?;
        anyhow::ensure!(now == before, "{now:?}");
        Ok(())
    })
    .await?;
    let rows = at(first).query("SHOW FRONTENDS").await?;
    assert!(rows.len() == 1 && rows[0].get("IsMaster") == "true", "{rows:?}");
    eventually("loads go on", READY_LIMIT, || async {
        StreamLoad::new(first, "d", "t").must_succeed(csv(8, 1_000, 10)).await.map(|_| ())
    })
    .await?;

    // With what it had before, none of the others comes back.
    others[0].start()?;
    stopped_because(others[0], &["frontend 2 was dropped from cluster"]).await?;
    for node in others {
        std::fs::remove_dir_all(&node.data)?;
        at(first).run(&format!("ALTER SYSTEM ADD FOLLOWER \"{}\"", node.grpc)).await?;
        node.start()?;
    }
    cluster.until_alive().await?;
    first.kill();
    let mut sql = crate::faults::others(&cluster, first);
    sql.run("CREATE DATABASE after_all").await.context("with the new majority")?;
    assert_eq!(sql.scalar("SELECT count(*) FROM d.t").await?, "310");
    Ok(())
}
