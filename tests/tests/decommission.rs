//! A backend leaves the cluster without anything being lost: while loads go on, with one that stays open, across a kill -9 of
//! the leader, and when it is called off.

use anyhow::{Context, ensure};
use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::http::StreamLoad;
use coffer_tests::mysql::Row;
use coffer_tests::{Cluster, Node, Outcome, Sql, eventually};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a drain may take on a busy machine.
const DRAIN_LIMIT: Duration = Duration::from_secs(180);
/// Rows of one load.
const ROWS: u64 = 60;

/// What SHOW BACKENDS says about a node, while it is listed.
async fn shown(cluster: &Cluster, name: &str) -> anyhow::Result<Option<Row>> {
    let rows = cluster.sql().query("SHOW BACKENDS").await?;
    let address = &cluster.node(name).grpc;
    Ok(rows.into_iter().find(|row| format!("{}:{}", row.get("Host"), row.get("HeartbeatPort")) == *address))
}

async fn until_gone(cluster: &Cluster, name: &str) -> Outcome {
    eventually(&format!("{name} left"), DRAIN_LIMIT, || async {
        let row = shown(cluster, name).await?;
        ensure!(row.is_none(), "{row:?}");
        Ok(())
    })
    .await
}

/// Wait until nothing but the tablets of a table that is kept busy is left on a leaving backend.
async fn until_left(cluster: &Cluster, name: &str, table: &str) -> Outcome {
    eventually(&format!("only {table} is left on {name}"), DRAIN_LIMIT, || async {
        let row = shown(cluster, name).await?.context("it left")?;
        let wanted = tablets_on(&mut cluster.sql(), table, row.get("BackendId")).await?;
        ensure!(row.get("SystemDecommissioned") == "true" && wanted > 0, "{row:?}");
        ensure!(row.get("TabletNum") == wanted.to_string(), "{wanted}: {row:?}");
        ensure!(row.get("ErrMsg").contains(&format!("{wanted} tablets of tables")), "{row:?}");
        Ok(())
    })
    .await
}

async fn tablets_on(sql: &mut Sql, table: &str, backend: &str) -> anyhow::Result<usize> {
    let rows = sql.query(&format!("SHOW TABLETS FROM {table}")).await?;
    Ok(rows.iter().filter(|row| row.get("BackendId") == backend).count())
}

/// The tablets on the disk of a backend that no table has there.
async fn unclaimed(cluster: &Cluster, name: &str, backend: &str) -> anyhow::Result<BTreeSet<String>> {
    let entries = std::fs::read_dir(cluster.node(name).data.join("data"))?.collect::<Result<Vec<_>, _>>()?;
    let mut left: BTreeSet<String> = entries.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let mut sql = cluster.sql();
    for table in ["d.one", "d.two", "d.g_left", "d.g_right", "d.reference"] {
        // The last one comes and goes.
        let rows = sql.query(&format!("SHOW TABLETS FROM {table}")).await.unwrap_or_default();
        for row in rows.iter().filter(|row| row.get("BackendId") == backend) {
            left.remove(row.get("TabletId"));
        }
    }
    Ok(left)
}

async fn change(cluster: &Cluster, statement: &str, name: &str) -> Outcome {
    cluster.sql().run(&format!("{statement} BACKEND \"{}\"", cluster.node(name).grpc)).await
}

/// Load until it is acknowledged, under one label.
async fn load(cluster: &Cluster, table: &str, number: u64) -> Outcome {
    let load = StreamLoad::new(cluster.frontend(), "d", table).header("label", &format!("{table}_{number}"));
    let load = load.header("timeout", "30");
    eventually(&format!("load {number} into {table}"), DRAIN_LIMIT, || async {
        let answer = load.send(csv(number + 1, number * ROWS, ROWS)).await?;
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
    StreamLoad::new(cluster.frontend(), "d", "reference").must_succeed(all).await?;
    let (wanted, found) = (fingerprint(&mut sql, "d.reference").await?, fingerprint(&mut sql, table).await?);
    ensure!(wanted[0] == (loads * ROWS).to_string() && wanted == found, "{table}: {found:?}, not {wanted:?}");
    Ok(())
}

/// A load that a client begins and does not end.
struct Open(TcpStream);

impl Open {
    /// Send the first row of `rows`, and go on when the load has begun.
    async fn begin(cluster: &Cluster, backend: &Node, table: &str, rows: &str) -> anyhow::Result<Open> {
        let number = AtomicU64::new(0);
        eventually("the load is open", Duration::from_secs(60), || async {
            let label = format!("open_{}", number.fetch_add(1, Ordering::Relaxed));
            let mut stream = TcpStream::connect(&backend.http).await?;
            let head = format!(
                "PUT /api/d/{table}/_stream_load HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic cm9vdDo=\r\n\
                 label: {label}\r\ncolumn_separator: |\r\ntimeout: 120\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n",
                backend.http,
                rows.len()
            );
            let first = rows.split_inclusive('\n').next().context("rows")?;
            stream.write_all(format!("{head}{first}").as_bytes()).await?;
            // Another load gets the label only when that one has not begun; then the next label is tried.
            let other = StreamLoad::new(cluster.frontend(), "d", table).header("label", &label).send("").await?;
            ensure!(other["ExistingJobStatus"] == "RUNNING", "{other}");
            Ok(Open(stream))
        })
        .await
    }

    /// Send the rest; what the backend answers.
    async fn end(mut self, rows: &str) -> anyhow::Result<String> {
        let rest: String = rows.split_inclusive('\n').skip(1).collect();
        self.0.write_all(rest.as_bytes()).await?;
        let mut answer = String::new();
        tokio::time::timeout(Duration::from_secs(60), self.0.read_to_string(&mut answer)).await??;
        Ok(answer)
    }
}

fn plain(table: &str, replicas: u32) -> String {
    format!(
        "CREATE TABLE d.{table} (k INT) DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 12
         PROPERTIES (\"replication_num\" = \"{replicas}\")"
    )
}

/// Tables of every kind, with rows: one and two replicas, a colocation group, one in the recycle bin.
async fn tables(cluster: &Cluster) -> Outcome {
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    for (table, replicas) in [("one", 1), ("two", 2), ("gone", 1)] {
        sql.run(&create(&format!("d.{table}"), 4, replicas)).await?;
        load(cluster, table, 0).await?;
    }
    for table in ["left", "right"] {
        sql.run(&format!(
            "CREATE TABLE d.g_{table} (k INT) DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 4
             PROPERTIES (\"replication_num\" = \"2\", \"colocate_with\" = \"g\")"
        ))
        .await?;
        sql.run(&format!("INSERT INTO d.g_{table} VALUES (1), (2), (3), (4), (5), (6)")).await?;
    }
    sql.run(&plain("empty", 2)).await?;
    sql.run("DROP TABLE d.gone").await
}

/// The backends of each bucket of a table of the group.
async fn places(sql: &mut Sql, table: &str) -> anyhow::Result<Vec<Vec<String>>> {
    let mut places: Vec<(u64, Vec<String>)> = Vec::new();
    for row in sql.query(&format!("SHOW TABLETS FROM {table}")).await? {
        let tablet = row.get("TabletId").parse()?;
        match places.iter_mut().find(|(known, _)| *known == tablet) {
            Some((_, backends)) => backends.push(row.get("BackendId").to_owned()),
            None => places.push((tablet, vec![row.get("BackendId").to_owned()])),
        }
    }
    places.sort();
    Ok(places.into_iter().map(|(_, backends)| backends).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_is_drained_while_loads_go_on_and_nothing_is_lost() -> Outcome {
    let cluster = Arc::new(Cluster::builder().backends(4).brokers(0).start().await?);
    tables(&cluster).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let loaders: Vec<_> = ["one", "two"]
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
    let before = shown(&cluster, "be-2").await?.context("it is listed")?;
    ensure!(before.get("SystemDecommissioned") == "false" && before.get("TabletNum") != "0", "{before:?}");
    change(&cluster, "ALTER SYSTEM DECOMMISSION", "be-2").await?;
    until_gone(&cluster, "be-2").await?;
    // Loads did not stop, and go on without it.
    cluster.node("be-2").kill();
    stop.store(true, Ordering::Relaxed);
    let mut sql = cluster.sql();
    for loader in loaders {
        let (table, loads) = loader.await??;
        ensure!(loads > 1, "{loads} loads into {table}");
        load(&cluster, table, loads).await?;
        compare(&cluster, &format!("d.{table}"), loads + 1).await?;
    }
    let left = before.get("BackendId");
    sql.run("RECOVER TABLE d.gone").await?;
    compare(&cluster, "d.gone", 1).await?;
    sql.run(&plain("new", 1)).await?;
    for table in ["d.one", "d.two", "d.gone", "d.empty", "d.new", "d.g_left", "d.g_right"] {
        ensure!(tablets_on(&mut sql, table, left).await? == 0, "{table} is on a backend that left");
    }
    ensure!(
        places(&mut sql, "d.g_left").await? == places(&mut sql, "d.g_right").await?,
        "a group that is not together"
    );
    ensure!(sql.scalar("SELECT count(*) FROM d.g_left l JOIN d.g_right r ON l.k = r.k").await? == "6");
    let error = sql.error(&format!("CANCEL DECOMMISSION BACKEND '{left}'")).await?;
    ensure!(error.message.contains("backend does not exist"), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_load_is_waited_for_and_a_drain_is_called_off() -> Outcome {
    let cluster = Cluster::builder().backends(3).brokers(0).start().await?;
    tables(&cluster).await?;
    let mut sql = cluster.sql();
    sql.run(&create("d.three", 1, 3)).await?;
    let decommission = |name: &str| format!("ALTER SYSTEM DECOMMISSION BACKEND \"{}\"", cluster.node(name).grpc);
    let error = sql.error(&decommission("be-1")).await?;
    ensure!(error.message.contains("table 'd.three' has 3 replicas per tablet"), "{error:?}");
    let error = sql.error("ALTER SYSTEM DECOMMISSION BACKEND \"nowhere:9050\"").await?;
    ensure!(error.message.contains("backend does not exists[nowhere:9050]"), "{error:?}");
    let all: Vec<String> = cluster.of("be-").map(|node| format!("\"{}\"", node.grpc)).collect();
    let error = sql.error(&format!("ALTER SYSTEM DECOMMISSION BACKEND {}", all.join(", "))).await?;
    ensure!(error.message.contains("no living backend would be left"), "{error:?}");
    sql.run("DROP TABLE d.three FORCE").await?;
    let before = shown(&cluster, "be-1").await?.context("it is listed")?;
    let binned = unclaimed(&cluster, "be-1", before.get("BackendId")).await?;

    let rows = csv(2, ROWS, ROWS);
    let open = Open::begin(&cluster, cluster.node("be-2"), "one", &rows).await?;
    sql.run(&decommission("be-1")).await?;
    until_left(&cluster, "be-1", "d.one").await?;
    change(&cluster, "CANCEL DECOMMISSION", "be-1").await?;
    let row = shown(&cluster, "be-1").await?.context("it stays")?;
    ensure!(row.get("SystemDecommissioned") == "false" && row.get("TabletNum") != "0", "{row:?}");
    let answer = open.end(&rows).await?;
    ensure!(answer.contains("\"Success\"") || answer.contains("\"Publish Timeout\""), "{answer}");
    eventually("the load is visible", DRAIN_LIMIT, || compare(&cluster, "d.one", 2)).await?;
    compare(&cluster, "d.two", 1).await?;
    let backend = row.get("BackendId");
    eventually("what had moved is removed where it was", DRAIN_LIMIT, || async {
        let left = unclaimed(&cluster, "be-1", backend).await?;
        ensure!(left.is_subset(&binned), "{left:?}, beside those in the recycle bin: {binned:?}");
        Ok(())
    })
    .await?;
    sql.run(&plain("new", 1)).await?;
    ensure!(tablets_on(&mut sql, "d.new", row.get("BackendId")).await? > 0, "it takes new tablets again");
    // It can leave later, and others may hold what they held before.
    sql.run(&decommission("be-1")).await?;
    until_gone(&cluster, "be-1").await?;
    cluster.node("be-1").kill();
    for (table, loads) in [("d.one", 2), ("d.two", 1)] {
        compare(&cluster, table, loads).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_in_the_middle_finishes_the_drain_when_it_is_back() -> Outcome {
    let cluster = Cluster::builder().backends(3).brokers(0).start().await?;
    tables(&cluster).await?;
    let rows = csv(2, ROWS, ROWS);
    let open = Open::begin(&cluster, cluster.node("be-3"), "one", &rows).await?;
    change(&cluster, "ALTER SYSTEM DECOMMISSION", "be-1").await?;
    until_left(&cluster, "be-1", "d.one").await?;
    cluster.crash("fe-1").await?;
    let row = shown(&cluster, "be-1").await?.context("it is listed while a load is open")?;
    ensure!(row.get("SystemDecommissioned") == "true", "{row:?}");
    // Its client goes away; the load is given up at once or by its deadline.
    drop(open);
    until_gone(&cluster, "be-1").await?;
    cluster.node("be-1").kill();
    let mut sql = cluster.sql();
    for table in ["d.one", "d.two"] {
        compare(&cluster, table, 1).await?;
    }
    sql.run("RECOVER TABLE d.gone").await?;
    compare(&cluster, "d.gone", 1).await?;
    ensure!(
        places(&mut sql, "d.g_left").await? == places(&mut sql, "d.g_right").await?,
        "a group that is not together"
    );
    Ok(())
}
