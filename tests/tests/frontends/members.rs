//! Frontends join and leave, and each of them takes every statement.

use crate::faults::{others, replaced};
use anyhow::Context;
use coffer_tests::cluster::READY_LIMIT;
use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::http::StreamLoad;
use coffer_tests::{Cluster, Node, Outcome, Sql, eventually};

/// A session with this frontend.
pub(crate) fn at(node: &Node) -> Sql {
    Sql::new(&node.mysql)
}

#[tokio::test(flavor = "multi_thread")]
async fn any_frontend_takes_any_statement() -> Outcome {
    let cluster = Cluster::builder().frontends(3).backends(2).brokers(1).start().await?;
    let frontends: Vec<&Node> = cluster.of("fe-").collect();
    for (n, node) in frontends.iter().enumerate() {
        let mut sql = at(node);
        sql.run(&format!("CREATE DATABASE d{n}")).await?;
        let refused = sql.error(&format!("CREATE DATABASE d{n}")).await?;
        assert_eq!(refused.code, 1007, "{refused:?}");
        sql.run(&format!("USE d{n}")).await?;
        sql.run(&create("t", 2, 2)).await?;
        let load = StreamLoad::new(node, &format!("d{n}"), "t");
        load.must_succeed(csv(7, 0, 200)).await?;
        sql.run("INSERT INTO t (id, day, note) VALUES (1000, '2024-01-05', 'by hand')").await?;
        assert_eq!(sql.scalar("SELECT count(*) FROM t").await?, "201");
        // What one frontend acknowledged, every other sees at once.
        for other in &frontends {
            assert_eq!(at(other).scalar(&format!("SELECT count(*) FROM d{n}.t")).await?, "201");
            assert!(at(other).table("SHOW DATABASES").await?.contains(&vec![format!("d{n}")]));
        }
    }
    let sums = fingerprint(&mut at(frontends[0]), "d0.t").await?;
    for show in ["SHOW BACKENDS", "SHOW BROKER", "SHOW PARTITIONS FROM d0.t", "SHOW TABLETS FROM d0.t"] {
        let mut sizes = Vec::new();
        for node in &frontends {
            sizes.push(at(node).query(show).await?.len());
        }
        assert!(sizes[0] > 0 && sizes.iter().all(|size| *size == sizes[0]), "{show}: {sizes:?}");
    }
    let location = cluster.location("r");
    at(frontends[1]).run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
    at(frontends[2]).run("BACKUP SNAPSHOT d0.s TO r ON (t)").await?;
    at(frontends[1]).job_finished("SHOW BACKUP FROM d0").await?;
    let timestamp = at(frontends[0]).timestamp("r", "s").await?;
    let restore =
        format!("RESTORE SNAPSHOT d0.s FROM r ON (t AS u) PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")");
    at(frontends[1]).run(&restore).await?;
    at(frontends[2]).job_finished("SHOW RESTORE FROM d0").await?;
    assert_eq!(fingerprint(&mut at(frontends[2]), "d0.u").await?, sums);

    let mut local = at(frontends[2]);
    local.run("SET enable_strong_consistency_read = 0").await?;
    assert_eq!(local.scalar("SELECT count(*) FROM d0.t").await?, "201");
    rights_hold_everywhere(&frontends).await?;
    the_session_goes_along(frontends[2]).await
}

/// What is granted and taken at one frontend counts for the next statement at any.
async fn rights_hold_everywhere(frontends: &[&Node]) -> Outcome {
    let mut root = at(frontends[0]);
    root.run("CREATE USER eve IDENTIFIED BY 'x'").await?;
    let mut sessions: Vec<Sql> = frontends.iter().map(|node| at(node).as_user("eve", "x")).collect();
    for (n, eve) in sessions.iter_mut().enumerate() {
        let create = format!("CREATE DATABASE of_eve_{n}");
        assert_eq!(eve.error(&create).await?.code, 1044);
        root.run(&format!("GRANT CREATE_PRIV ON of_eve_{n}.* TO eve")).await?;
        eve.run(&create).await?;
        root.run(&format!("REVOKE CREATE_PRIV ON of_eve_{n}.* FROM eve")).await?;
        assert_eq!(eve.error(&create).await?.code, 1044);
    }
    Ok(())
}

/// A statement that ran at the leader leaves the session as if it had run here.
async fn the_session_goes_along(node: &Node) -> Outcome {
    let mut sql = at(node);
    sql.run("CREATE DATABASE passing").await?;
    sql.run("USE passing").await?;
    sql.run(&create("t", 1, 1)).await?;
    sql.run("DROP DATABASE passing").await?;
    let nowhere = sql.error("SELECT count(*) FROM t").await?;
    assert_eq!(nowhere.code, 1046, "{nowhere:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn frontends_come_and_go_and_strangers_are_refused_by_name() -> Outcome {
    let cluster = Cluster::builder().frontends(4).backends(1).brokers(0).strangers().start().await?;
    let [first, second, third, fourth] = ["fe-1", "fe-2", "fe-3", "fe-4"].map(|name| cluster.node(name));
    eventually("the first leads", READY_LIMIT, || async { at(first).query("SHOW DATABASES").await }).await?;
    // Who was not added is refused by name, with what to do.
    second.start()?;
    stopped_because(second, &[&second.grpc, "ADD FOLLOWER"]).await?;
    for node in [second, third] {
        at(first).run(&format!("ALTER SYSTEM ADD FOLLOWER \"{}\"", node.grpc)).await?;
        node.start()?;
    }
    at(first).run(&format!("ALTER SYSTEM ADD OBSERVER \"{}\"", fourth.grpc)).await?;
    fourth.start()?;
    let again = at(first).error(&format!("ALTER SYSTEM ADD FOLLOWER \"{}\"", third.grpc)).await?;
    assert!(again.message.contains("already exists"), "{again:?}");
    until(first, |rows| rows == "FOLLOWER Yes true,FOLLOWER Yes true,FOLLOWER Yes true,OBSERVER No true").await?;
    at(fourth).run("CREATE DATABASE by_observer").await?;

    let wrong = at(second).error(&format!("ALTER SYSTEM DROP FOLLOWER \"{}\"", fourth.grpc)).await?;
    assert!(wrong.message.contains("it is OBSERVER"), "{wrong:?}");
    let leader = at(second).error(&format!("ALTER SYSTEM DROP FOLLOWER \"{}\"", first.grpc)).await?;
    assert!(leader.message.contains("leads the cluster"), "{leader:?}");
    // With the third away, the second is needed.
    third.kill();
    let quorum = at(second).error(&format!("ALTER SYSTEM DROP FOLLOWER \"{}\"", second.grpc)).await?;
    assert!(quorum.message.contains("would lose the majority"), "{quorum:?}");
    at(second).run(&format!("ALTER SYSTEM DROP FOLLOWER \"{}\"", third.grpc)).await?;
    at(second).run(&format!("ALTER SYSTEM DROP OBSERVER \"{}\"", fourth.grpc)).await?;
    until(first, |rows| rows == "FOLLOWER Yes true,FOLLOWER Yes true").await?;
    third.start()?;
    stopped_because(third, &["frontend 3 was dropped from cluster"]).await?;

    // The same place again, with an empty directory.
    std::fs::remove_dir_all(&third.data)?;
    at(second).run(&format!("ALTER SYSTEM ADD FOLLOWER \"{}\"", third.grpc)).await?;
    third.start()?;
    until(first, |rows| rows == "FOLLOWER Yes true,FOLLOWER Yes true,FOLLOWER Yes true").await?;
    // A directory that was lost must not vote again under its old id.
    third.kill();
    std::fs::remove_dir_all(&third.data)?;
    third.start()?;
    stopped_because(third, &["another metadata directory"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frontend_of_another_cluster_is_refused_by_name() -> Outcome {
    let cluster = Cluster::builder().frontends(3).backends(1).brokers(0).start().await?;
    let node = cluster.node("fe-3");
    node.kill();
    let identity = node.data.join("identity");
    let mut own: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&identity)?)?;
    own["cluster_id"] = "elsewhere".into();
    std::fs::write(&identity, own.to_string())?;
    // With a helper, it sees at once that it was meant for another cluster.
    node.start()?;
    stopped_because(node, &["cannot join the cluster of the helper", "belongs to cluster elsewhere"]).await?;
    let mut config: toml::Table = toml::from_str(&std::fs::read_to_string(&node.config)?)?;
    config.remove("helper").context("it has a helper")?;
    std::fs::write(&node.config, toml::to_string(&config)?)?;
    node.start()?;
    eventually("the leader says why it is not with them", READY_LIMIT, || async {
        let rows = cluster.sql().query("SHOW FRONTENDS").await?;
        let row = rows.iter().find(|row| row.get("Name") == "fe_3").context("fe_3")?;
        anyhow::ensure!(row.get("Alive") == "false" && row.get("ErrMsg").contains("cluster elsewhere"), "{row:?}");
        Ok(())
    })
    .await?;
    cluster.sql().run("CREATE DATABASE d").await
}

#[tokio::test(flavor = "multi_thread")]
async fn five_frontends_live_through_the_loss_of_two_and_wait_without_a_majority() -> Outcome {
    let cluster = Cluster::builder().frontends(5).backends(1).brokers(0).start().await?;
    let first = cluster.leader().await?;
    first.kill();
    replaced(&cluster, first).await?;
    others(&cluster, first).run("CREATE DATABASE after_one").await?;
    let rows = others(&cluster, first).query("SHOW FRONTENDS").await?;
    let port = rows.iter().find(|row| row.get("IsMaster") == "true").context("a leader")?.get("QueryPort").to_owned();
    let second = cluster.of("fe-").find(|node| node.mysql.ends_with(&format!(":{port}"))).context("its node")?;
    second.kill();
    let left: Vec<&Node> =
        cluster.of("fe-").filter(|node| ![&first.name, &second.name].contains(&&node.name)).collect();
    let mut sql = Sql::new(&left.iter().map(|node| node.mysql.as_str()).collect::<Vec<_>>().join(","));
    sql.run("CREATE DATABASE after_two").await?;
    // It knows that this was committed, before it loses those who could tell.
    assert!(at(left[1]).table("SHOW DATABASES").await?.contains(&vec!["after_two".to_owned()]));
    // Two of five lead nobody: a statement waits a while and says why; what is here can still be read.
    left[0].kill();
    let mut minority = Sql::new(&left[1].mysql);
    let refused = minority.error("CREATE DATABASE never").await?;
    assert!(refused.message.contains("catalog is not ready") || refused.message.contains("was lost"), "{refused:?}");
    minority.run("SET enable_strong_consistency_read = 0").await?;
    assert!(minority.table("SHOW DATABASES").await?.contains(&vec!["after_two".to_owned()]));
    left[0].start()?;
    eventually("a majority leads again", READY_LIMIT, || async {
        Sql::new(&left[1].mysql).run("CREATE DATABASE again").await
    })
    .await
}

/// Wait until roles, votes and life of the frontends read so.
async fn until(node: &Node, good: impl Fn(&str) -> bool) -> Outcome {
    eventually("the frontends are as they should be", READY_LIMIT, || async {
        let rows = at(node).query("SHOW FRONTENDS").await?;
        let text: Vec<String> =
            rows.iter().map(|row| format!("{} {} {}", row.get("Role"), row.get("Votes"), row.get("Alive"))).collect();
        anyhow::ensure!(good(&text.join(",")), "{text:?}");
        Ok(())
    })
    .await
}

/// Wait until the process ended by itself and said why.
pub(crate) async fn stopped_because(node: &Node, words: &[&str]) -> Outcome {
    let status =
        eventually("it stops by itself", READY_LIMIT, || async { node.exited().context("it still runs") }).await?;
    assert_eq!(status.code(), Some(1), "{}", node.log_tail());
    node.kill();
    let log = node.log_tail();
    anyhow::ensure!(words.iter().all(|word| log.contains(word)), "{words:?} in {log}");
    Ok(())
}
