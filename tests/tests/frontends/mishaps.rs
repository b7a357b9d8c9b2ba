//! What goes wrong with machines and by hand: lost logs, old copies, changed addresses, several dropped at once.

use crate::faults::others;
use crate::members::{at, stopped_because};
use anyhow::Context;
use coffer_tests::cluster::READY_LIMIT;
use coffer_tests::{Cluster, Node, Outcome, eventually};
use std::path::Path;

async fn three() -> anyhow::Result<Cluster> {
    Cluster::builder().frontends(3).backends(1).brokers(0).start().await
}

/// A frontend that does not lead.
async fn follower(cluster: &Cluster) -> anyhow::Result<&Node> {
    let leader = &cluster.leader().await?.name;
    cluster.of("fe-").find(|node| node.name != *leader).context("a follower")
}

fn copy(from: &Path, to: &Path) -> Outcome {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status()?;
    anyhow::ensure!(copied.success(), "cp -a {} {}", from.display(), to.display());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_and_a_living_follower_are_dropped_at_once() -> Outcome {
    let cluster = three().await?;
    let leader = cluster.leader().await?;
    let away: Vec<&Node> = cluster.of("fe-").filter(|node| node.name != leader.name).collect();
    away[1].kill();
    let drop = format!("ALTER SYSTEM DROP FOLLOWER \"{}\", \"{}\"", away[0].grpc, away[1].grpc);
    eventually("both are dropped", READY_LIMIT, || async {
        match at(leader).run(&drop).await {
            // Done by a try before whose answer came late.
            Err(error) if error.to_string().contains("does not exist") => Ok(()),
            tried => tried,
        }
    })
    .await?;
    at(leader).run("CREATE DATABASE alone").await?;
    stopped_because(away[0], &["was dropped from cluster"]).await?;
    leader.kill();
    leader.start()?;
    eventually("it leads alone", READY_LIMIT, || async { at(leader).run("CREATE DATABASE again").await }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_log_is_gone_stops_and_harms_nobody() -> Outcome {
    let cluster = three().await?;
    let node = follower(&cluster).await?;
    cluster.sql().run("CREATE DATABASE d").await?;
    let settled = || async {
        anyhow::ensure!(!node.data.join("new").exists(), "it counts as new");
        Ok(())
    };
    eventually("its first entries are applied", READY_LIMIT, settled).await?;
    node.kill();
    std::fs::remove_dir_all(node.data.join("log"))?;
    node.start()?;
    stopped_because(node, &["its log is gone", "--helper"]).await?;
    others(&cluster, node).run("CREATE DATABASE later").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_a_follower_is_brought_up_to_date() -> Outcome {
    let cluster = three().await?;
    let node = follower(&cluster).await?;
    let (leader, old) = (cluster.leader().await?, node.data.with_extension("old"));
    at(node).run("CREATE DATABASE before").await?;
    node.stop().await?;
    copy(&node.data, &old)?;
    node.start()?;
    for n in 0..3 {
        at(leader).run(&format!("CREATE DATABASE later{n}")).await?;
    }
    let knows = |name: &'static str| async move {
        let mut local = at(node);
        local.run("SET enable_strong_consistency_read = 0").await?;
        let databases = local.table("SHOW DATABASES").await?;
        anyhow::ensure!(databases.contains(&vec![name.to_owned()]), "{databases:?}");
        Ok(())
    };
    eventually("it follows", READY_LIMIT, || knows("later2")).await?;
    node.stop().await?;
    std::fs::remove_dir_all(&node.data)?;
    std::fs::rename(&old, &node.data)?;
    node.start()?;
    eventually("it follows again", READY_LIMIT, || knows("later2")).await?;
    assert!(leader.exited().is_none(), "{}", leader.log_tail());
    at(leader).run("CREATE DATABASE after").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frontend_with_another_address_than_it_was_added_with_does_not_start() -> Outcome {
    let cluster = three().await?;
    let node = follower(&cluster).await?;
    node.kill();
    let mut table: toml::Table = toml::from_str(&std::fs::read_to_string(&node.config)?)?;
    table.insert("grpc_advertise".to_owned(), "127.0.0.1:1".into());
    std::fs::write(&node.config, toml::to_string(&table)?)?;
    node.start()?;
    let ended = eventually("it stops by itself", READY_LIMIT, || async { node.exited().context("it runs") }).await?;
    let log = node.log_tail();
    assert!(ended.code() == Some(2) && log.contains("its cluster knows it as") && log.contains(&node.grpc), "{log}");
    others(&cluster, node).run("CREATE DATABASE d").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_reads_what_is_here_sees_its_own_changes() -> Outcome {
    let cluster = three().await?;
    let mut sql = at(follower(&cluster).await?);
    sql.run("SET enable_strong_consistency_read = 0").await?;
    for n in 0..40 {
        sql.run(&format!("CREATE DATABASE own{n}")).await?;
        sql.run(&format!("USE own{n}")).await?;
        let databases = sql.table("SHOW DATABASES").await?;
        anyhow::ensure!(databases.contains(&vec![format!("own{n}")]), "own{n}: {databases:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_names_a_database_hears_that_nobody_leads() -> Outcome {
    let cluster = three().await?;
    let last = follower(&cluster).await?;
    cluster.sql().run("CREATE DATABASE d").await?;
    eventually("it has the database", READY_LIMIT, || async { at(last).run("USE d").await }).await?;
    cluster.of("fe-").filter(|node| node.name != last.name).for_each(|node| node.kill());
    let (host, port) = last.mysql.rsplit_once(':').context("host:port")?;
    let mut client = std::process::Command::new("mariadb");
    let client =
        client.args(["-h", host, "-P", port, "-u", "root", "--connect-timeout=60", "-D", "d", "-e", "SELECT 1"]);
    let answer = client.output()?;
    let said = String::from_utf8_lossy(&answer.stderr);
    anyhow::ensure!(!answer.status.success() && said.contains("leads"), "{said}");
    Ok(())
}
