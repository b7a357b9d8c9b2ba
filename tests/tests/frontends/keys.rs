//! The key of the metadata's secrets is not replicated: a frontend that joins without it says which file is missing, makes no
//! key of its own, and takes the file as soon as it is copied, as docs/security.md tells operators to.

use crate::members::at;
use coffer_tests::cluster::READY_LIMIT;
use coffer_tests::{Cluster, Outcome, eventually};

const SECRET: &str = "Hidden-Key-of-frontends";

fn repository(name: &str) -> String {
    format!(
        "CREATE REPOSITORY {name} WITH BROKER local_broker ON LOCATION 'memory://{name}' PROPERTIES ('s3.secret_key' = '{SECRET}')"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frontend_without_the_key_names_the_file_and_takes_it_without_a_restart() -> Outcome {
    let cluster = Cluster::builder().frontends(3).backends(0);
    let cluster = cluster.config("broker", "allow_null = true").config("fe", "metadata_key_file = ''").start().await?;
    let first = cluster.node("fe-1");
    let kept = first.data.join("metadata.key");
    eventually("the frontend that began the cluster makes a key", READY_LIMIT, || async {
        anyhow::ensure!(kept.exists(), "{} is not there", kept.display());
        Ok(())
    })
    .await?;
    at(first).run(&repository("r")).await?;

    // Whichever frontend leads now, it has no key.
    first.kill();
    let leader = eventually("another frontend leads", READY_LIMIT, || async {
        let leader = cluster.leader().await?;
        anyhow::ensure!(leader.name != first.name, "{} is dead", leader.name);
        Ok(leader)
    })
    .await?;
    let lacking = leader.data.join("metadata.key");
    let named = |message: &str| message.contains(&lacking.display().to_string()) && !message.contains(SECRET);
    eventually("the missing file is named", READY_LIMIT, || async {
        let told = at(leader).error("SHOW SNAPSHOT ON r").await?;
        anyhow::ensure!(named(&told.message), "{told:?}");
        Ok(())
    })
    .await?;
    let told = at(leader).error(&repository("q")).await?;
    assert!(named(&told.message), "{told:?}");
    assert!(!cluster.node("fe-2").data.join("metadata.key").exists(), "a cluster has one key");
    assert!(!cluster.node("fe-3").data.join("metadata.key").exists(), "a cluster has one key");

    std::fs::copy(&kept, &lacking)?;
    eventually("the repository can be used", READY_LIMIT, || async { at(leader).run("SHOW SNAPSHOT ON r").await })
        .await?;
    at(leader).run(&repository("q")).await
}
