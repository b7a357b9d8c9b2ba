//! Backends that are lost for good: dropped by force, or dead for longer than it is waited for them. Their replicas are made
//! anew elsewhere, also across a kill -9 of the leader and while loads go on; what is too many is removed again.

use anyhow::{Context, ensure};
use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::http::StreamLoad;
use coffer_tests::{Cluster, Node, Outcome, Sql, eventually};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);
/// Rows of one load.
const ROWS: u64 = 60;

async fn load(cluster: &Cluster, table: &str, number: u64) -> Outcome {
    eventually(&format!("load {number} into {table}"), LIMIT, || async {
        let load = StreamLoad::new(cluster.leader().await?, "d", table).header("timeout", "30");
        let answer =
            load.header("label", &format!("{table}_{number}")).send(csv(number + 1, number * ROWS, ROWS)).await?;
        let known = answer["ExistingJobStatus"] == "FINISHED";
        ensure!(known || answer["Status"] == "Success" || answer["Status"] == "Publish Timeout", "{answer}");
        Ok(())
    })
    .await
}

/// What a table must hold after the first `loads` loads.
async fn compare(cluster: &Cluster, table: &str, loads: u64) -> Outcome {
    let mut sql = cluster.sql();
    sql.run("DROP TABLE IF EXISTS d.reference FORCE").await?;
    sql.run(&create("d.reference", 2, 1)).await?;
    let all: String = (0..loads).map(|number| csv(number + 1, number * ROWS, ROWS)).collect();
    StreamLoad::new(cluster.leader().await?, "d", "reference").must_succeed(all).await?;
    let wanted = fingerprint(&mut sql, "d.reference").await?;
    eventually(&format!("all rows of {table} are visible"), LIMIT, || async {
        let found = fingerprint(&mut cluster.sql(), table).await?;
        ensure!(wanted[0] == (loads * ROWS).to_string() && wanted == found, "{table}: {found:?}, not {wanted:?}");
        Ok(())
    })
    .await
}

async fn create_and_load(cluster: &Cluster, tables: &[(&str, u32)]) -> Outcome {
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    for (table, replicas) in tables {
        sql.run(&create(&format!("d.{table}"), 4, *replicas)).await?;
        load(cluster, table, 0).await?;
    }
    Ok(())
}

/// Tablets that lack replicas, and those without any.
async fn ill(sql: &mut Sql) -> anyhow::Result<(u64, u64)> {
    let rows = sql.query("SHOW PROC '/cluster_health/tablet_health'").await?;
    let total = rows.iter().find(|row| row.get("DbId") == "Total").context("a total")?;
    ensure!(total.get("TabletNum") != "0", "{total:?}");
    Ok((total.get("ReplicaMissingNum").parse()?, total.get("UnrecoverableNum").parse()?))
}

async fn until_ill(cluster: &Cluster, what: &str, wanted: impl Fn((u64, u64)) -> bool) -> Outcome {
    eventually(what, LIMIT, || async {
        let found = ill(&mut cluster.sql()).await?;
        ensure!(wanted(found), "{found:?}");
        Ok(())
    })
    .await
}

/// The tablets of a table that the catalog has on a backend.
async fn claimed(sql: &mut Sql, table: &str, backend: &str) -> anyhow::Result<BTreeSet<u64>> {
    let rows = sql.query(&format!("SHOW TABLETS FROM {table}")).await?;
    let here = rows.iter().filter(|row| row.get("BackendId") == backend);
    here.map(|row| row.get("TabletId").parse().context("a number")).collect()
}

/// The tablets in the data directory of a backend.
fn on_disk(node: &Node) -> anyhow::Result<BTreeSet<u64>> {
    let entries = std::fs::read_dir(node.data.join("data"))?.collect::<Result<Vec<_>, _>>()?;
    Ok(entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

async fn id_of(cluster: &Cluster, name: &str) -> anyhow::Result<String> {
    let address = &cluster.node(name).grpc;
    let rows = cluster.sql().query("SHOW BACKENDS").await?;
    let row = rows.iter().find(|row| format!("{}:{}", row.get("Host"), row.get("HeartbeatPort")) == *address);
    Ok(row.with_context(|| format!("{name} is not listed"))?.get("BackendId").to_owned())
}

/// The backends of each bucket of a table, in order.
async fn places(sql: &mut Sql, table: &str) -> anyhow::Result<Vec<BTreeSet<String>>> {
    let mut places: std::collections::BTreeMap<u64, BTreeSet<String>> = Default::default();
    for row in sql.query(&format!("SHOW TABLETS FROM {table}")).await? {
        places.entry(row.get("TabletId").parse()?).or_default().insert(row.get("BackendId").to_owned());
    }
    Ok(places.into_values().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dropped_backend_held_is_made_anew_also_by_the_next_leader() -> Outcome {
    let cluster = Cluster::builder().frontends(3).backends(4).brokers(0).start().await?;
    create_and_load(&cluster, &[("a", 2), ("b", 2), ("c", 3)]).await?;
    let mut sql = cluster.sql();
    for table in ["left", "right"] {
        sql.run(&format!(
            "CREATE TABLE d.g_{table} (k INT) DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 4
             PROPERTIES (\"replication_num\" = \"2\", \"colocate_with\" = \"g\")"
        ))
        .await?;
        sql.run(&format!("INSERT INTO d.g_{table} VALUES (1), (2), (3), (4), (5), (6)")).await?;
    }
    until_ill(&cluster, "all is well", |found| found == (0, 0)).await?;
    let lost = id_of(&cluster, "be-2").await?;
    let held = claimed(&mut sql, "d.a", &lost).await?.len();
    cluster.node("be-2").kill();
    until_ill(&cluster, "the loss is seen", |(missing, none)| missing > 0 && none == 0).await?;
    let dead = sql.query("ADMIN SHOW REPLICA STATUS FROM d.a WHERE Status = \"DEAD\"").await?;
    ensure!(dead.len() == held && held > 0, "{held}: {dead:?}");
    sql.run(&format!("ALTER SYSTEM DROPP BACKEND \"{}\"", cluster.node("be-2").grpc)).await?;
    eventually("a replica has a new place", LIMIT, || async {
        let mut sql = cluster.sql();
        let mut left = 0;
        for table in ["d.a", "d.b", "d.c", "d.g_left", "d.g_right"] {
            left += claimed(&mut sql, table, &lost).await?.len();
        }
        ensure!(left < 5 * held, "{left}");
        Ok(())
    })
    .await?;
    let leader = cluster.leader().await?;
    leader.kill();
    until_ill(&cluster, "all is well again", |found| found == (0, 0)).await?;
    leader.start()?;
    let mut sql = cluster.sql();
    for table in ["d.a", "d.b", "d.c", "d.g_left", "d.g_right"] {
        ensure!(claimed(&mut sql, table, &lost).await?.is_empty(), "{table} counts on a backend that was dropped");
        let wanted = if table == "d.c" { 3 } else { 2 };
        ensure!(places(&mut sql, table).await?.iter().all(|backends| backends.len() == wanted), "{table}");
    }
    ensure!(
        places(&mut sql, "d.g_left").await? == places(&mut sql, "d.g_right").await?,
        "a group that is not together"
    );
    for table in ["a", "b", "c"] {
        load(&cluster, table, 1).await?;
        compare(&cluster, &format!("d.{table}"), 2).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_dead_for_long_is_replaced_while_loads_wait_for_it_and_is_emptied_when_it_is_back() -> Outcome
{
    let delay = "tablet_repair_delay_factor_second = 2\npublish_timeout_ms = 1000";
    let cluster = Arc::new(Cluster::builder().backends(4).brokers(0).config("fe", delay).start().await?);
    create_and_load(&cluster, &[("a", 2), ("b", 2)]).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let loaders: Vec<_> = ["a", "b"]
        .into_iter()
        .map(|table| {
            let (cluster, stop) = (Arc::clone(&cluster), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut number = 1;
                while !stop.load(Ordering::Relaxed) {
                    load(&cluster, table, number).await?;
                    number += 1;
                }
                anyhow::Ok((table, number))
            })
        })
        .collect();
    let dead = id_of(&cluster, "be-3").await?;
    let held = on_disk(cluster.node("be-3"))?;
    ensure!(!held.is_empty(), "it holds something");
    // Rows that both replicas have, of which one dies, are committed and wait.
    cluster.node("be-3").kill();
    until_ill(&cluster, "the loss is seen", |(missing, _)| missing > 0).await?;
    until_ill(&cluster, "it is replaced", |found| found == (0, 0)).await?;
    stop.store(true, Ordering::Relaxed);
    let mut sql = cluster.sql();
    for loader in loaders {
        let (table, loads) = loader.await??;
        load(&cluster, table, loads).await?;
        compare(&cluster, &format!("d.{table}"), loads + 1).await?;
        ensure!(claimed(&mut sql, &format!("d.{table}"), &dead).await?.is_empty(), "{table}");
    }
    ensure!(on_disk(cluster.node("be-3"))? == held, "nobody touched it");
    cluster.node("be-3").start()?;
    cluster.until_alive().await?;
    eventually("what it has too many is removed", LIMIT, || async {
        let mut wanted = claimed(&mut cluster.sql(), "d.reference", &dead).await?;
        wanted.extend(claimed(&mut cluster.sql(), "d.a", &dead).await?);
        let here = on_disk(cluster.node("be-3"))?;
        ensure!(here.is_subset(&wanted), "{here:?}, not {wanted:?}");
        Ok(())
    })
    .await?;
    until_ill(&cluster, "nothing is missed", |found| found == (0, 0)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_replicas_are_found_again_when_their_backend_is_added_again() -> Outcome {
    let cluster = Cluster::builder().backends(2).brokers(0).start().await?;
    create_and_load(&cluster, &[("one", 1)]).await?;
    let address = cluster.node("be-1").grpc.clone();
    let old = id_of(&cluster, "be-1").await?;
    let mut sql = cluster.sql();
    sql.run(&format!("ALTER SYSTEM DROPP BACKEND \"{address}\"")).await?;
    until_ill(&cluster, "what was there cannot be read", |(_, none)| none > 0).await?;
    sql.run(&format!("ALTER SYSTEM ADD BACKEND \"{address}\"")).await?;
    until_ill(&cluster, "all is there again", |found| found == (0, 0)).await?;
    ensure!(claimed(&mut sql, "d.one", &old).await?.is_empty());
    load(&cluster, "one", 1).await?;
    compare(&cluster, "d.one", 2).await
}
