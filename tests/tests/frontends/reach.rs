//! Frontends that are not reached, or were away for long: they neither take the lead nor disturb who has it, and are up to
//! date again when they are back.

use crate::faults::others;
use crate::members::at;
use crate::proxy::Network;
use anyhow::Context;
use coffer_tests::cluster::READY_LIMIT;
use coffer_tests::mysql::Row;
use coffer_tests::{Cluster, Node, Outcome, Sql, eventually};

/// What a frontend says that asks for votes in vain, and one that gets them.
const IN_VAIN: &str = "it does not stand for election";
const STANDS: &str = "this frontend stands for election";

async fn three() -> anyhow::Result<(Network, Cluster)> {
    let network = Network::new(3).await?;
    let cluster = network.start(Cluster::builder().frontends(3).backends(1).brokers(0)).await?;
    Ok((network, cluster))
}

/// The leader, and a frontend that follows it.
async fn leader_and_follower(cluster: &Cluster) -> anyhow::Result<(&Node, &Node)> {
    let leader = cluster.leader().await?;
    let follower = cluster.of("fe-").find(|node| node.name != leader.name).context("a follower")?;
    Ok((leader, follower))
}

fn log_of(node: &Node) -> anyhow::Result<String> {
    Ok(std::fs::read_to_string(&node.log)?)
}

/// How often it said so.
fn said(node: &Node, words: &str) -> anyhow::Result<usize> {
    Ok(log_of(node)?.matches(words).count())
}

async fn until_in_vain(node: &Node) -> Outcome {
    let before = said(node, IN_VAIN)?;
    eventually("it asks for votes in vain", READY_LIMIT, || async {
        anyhow::ensure!(said(node, IN_VAIN)? > before, "{}", node.log_tail());
        Ok(())
    })
    .await
}

async fn done(sql: &mut Sql, statement: &str) -> Outcome {
    sql.run(statement).await.with_context(|| statement.to_owned())
}

async fn until_it_has(node: &Node, database: &'static str) -> Outcome {
    eventually("it is up to date", READY_LIMIT, || async {
        let mut local = at(node);
        local.run("SET enable_strong_consistency_read = 0").await?;
        let databases = local.table("SHOW DATABASES").await?;
        anyhow::ensure!(databases.contains(&vec![database.to_owned()]), "{databases:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_reached_does_not_take_the_lead() -> Outcome {
    let (network, cluster) = three().await?;
    let (_, lonely) = leader_and_follower(&cluster).await?;
    let stood = said(lonely, STANDS)?;
    // The others cannot call it; it can call them.
    network.cut_inwards(&lonely.name);
    until_in_vain(lonely).await?;
    let mut sql = others(&cluster, lonely);
    for n in 0..5 {
        done(&mut sql, &format!("CREATE DATABASE d{n}")).await?;
    }
    let log = log_of(lonely)?;
    assert!(log.contains("it hears a leader"), "{log}");
    network.heal();
    until_it_has(lonely, "d4").await?;
    done(&mut at(lonely), "CREATE DATABASE after").await?;
    cluster.until_alive().await?;
    assert_eq!(said(lonely, STANDS)?, stood, "{}", lonely.log_tail());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_cut_off_or_frozen_for_long_comes_back_without_an_election() -> Outcome {
    let (network, cluster) = three().await?;
    let (leader, away) = leader_and_follower(&cluster).await?;
    let stood = said(away, STANDS)?;
    network.cut(&away.name);
    until_in_vain(away).await?;
    done(&mut at(leader), "CREATE DATABASE while_cut").await?;
    network.heal();
    until_it_has(away, "while_cut").await?;
    cluster.until_alive().await?;

    away.pause()?;
    eventually("the others miss it", READY_LIMIT, || async {
        let rows = others(&cluster, away).query("SHOW FRONTENDS").await?;
        let missed = rows.iter().any(|row| row.get("Alive") == "false");
        anyhow::ensure!(missed, "{rows:?}");
        Ok(())
    })
    .await?;
    done(&mut others(&cluster, away), "CREATE DATABASE while_frozen").await?;
    away.resume()?;
    until_it_has(away, "while_frozen").await?;
    done(&mut at(away), "CREATE DATABASE after").await?;
    assert_eq!(said(away, STANDS)?, stood, "{}", away.log_tail());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_the_others_do_not_reach_goes_on() -> Outcome {
    let (network, cluster) = three().await?;
    let (leader, follower) = leader_and_follower(&cluster).await?;
    network.cut_inwards(&leader.name);
    eventually("the others do not reach it", READY_LIMIT, || async {
        let rows = at(follower).query("SHOW FRONTENDS").await?;
        let address = leader.advertised()?;
        let is_leader = |row: &&Row| format!("{}:{}", row.get("Host"), row.get("EditLogPort")) == address;
        let lost = rows.iter().find(is_leader).is_some_and(|row| row.get("Alive") == "false");
        anyhow::ensure!(lost, "{rows:?}");
        Ok(())
    })
    .await?;
    for n in 0..5 {
        done(&mut at(leader), &format!("CREATE DATABASE d{n}")).await?;
    }
    // They hear it all the same.
    until_it_has(follower, "d4").await?;
    until_not_ready(follower, "has not answered this frontend").await?;
    // What cannot get there ends with an error, in bounded time.
    let refused = at(follower).error("CREATE DATABASE never").await?;
    assert!(refused.message.contains("not ready") || refused.message.contains("was lost"), "{refused:?}");
    network.heal();
    done(&mut at(follower), "CREATE DATABASE after").await?;
    until_ready(follower).await
}

async fn until_not_ready(node: &Node, why: &str) -> Outcome {
    eventually("it is not ready and says why", READY_LIMIT, || async {
        let (code, text) = coffer_tests::http::get(node, "/api/ready").await?;
        anyhow::ensure!(code.as_u16() == 503 && text.contains(why), "{}: {code} {text}", node.name);
        Ok(())
    })
    .await
}

async fn until_ready(node: &Node) -> Outcome {
    eventually("it is ready", READY_LIMIT, || async {
        let (code, text) = coffer_tests::http::get(node, "/api/ready").await?;
        anyhow::ensure!(code.is_success(), "{}: {code} {text}", node.name);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hears_no_leader_or_leads_without_a_majority_is_not_ready() -> Outcome {
    let (network, cluster) = three().await?;
    let (leader, follower) = leader_and_follower(&cluster).await?;
    until_ready(leader).await?;
    network.cut(&follower.name);
    until_not_ready(follower, "no leader has spoken").await?;
    network.heal();
    until_ready(follower).await?;

    let leader = cluster.leader().await?;
    network.cut(&leader.name);
    until_not_ready(leader, "a majority of the frontends has not confirmed").await?;
    done(&mut others(&cluster, leader), "CREATE DATABASE meanwhile").await?;
    network.heal();
    until_ready(leader).await?;
    done(&mut at(leader), "CREATE DATABASE after").await
}
