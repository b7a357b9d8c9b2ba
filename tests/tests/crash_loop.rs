//! kill -9 of backends and of the frontend while loads run, over and over: after each round the table holds exactly the rows
//! that were acknowledged.
//!
//! `COFFER_CRASH_ROUNDS` says how often (a few by default, 200 by hand), `COFFER_CRASH_SEED` who is killed when.

use anyhow::{Context, ensure};
use coffer_tests::http::StreamLoad;
use coffer_tests::{Cluster, Outcome, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::RwLock;

/// How long a load may take until it is acknowledged, and a round until all of it is visible.
const LIMIT: Duration = Duration::from_secs(300);
/// Loads at a time.
const LOADERS: u64 = 3;
/// Rows of one load.
const ROWS: u64 = 40;

/// What was acknowledged.
#[derive(Default)]
struct Acknowledged {
    loads: AtomicU64,
    sum: AtomicU64,
}

fn number(name: &str, default: u64) -> anyhow::Result<u64> {
    std::env::var(name).map_or(Ok(default), |text| text.parse().with_context(|| format!("{name} is no number")))
}

/// The rows of a load, and their sum.
fn rows(loader: u64, load: u64) -> (String, u64) {
    let first = (load * LOADERS + loader) * ROWS;
    let text = (first..first + ROWS).map(|row| format!("{row}|{}\n", row % 1_000)).collect();
    (text, (first..first + ROWS).map(|row| row % 1_000).sum())
}

/// Load under one label until it is acknowledged.
async fn load(cluster: &Cluster, loader: u64, load: u64, acknowledged: &Acknowledged) -> Outcome {
    let (text, sum) = rows(loader, load);
    let label = format!("l_{loader}_{load}");
    let request = StreamLoad::new(cluster.frontend(), "d", "t").header("label", &label).header("timeout", "8");
    eventually(&format!("{label} is acknowledged"), LIMIT, || async {
        let answer = request.send(text.clone()).await?;
        let known = answer["Status"] == "Label Already Exists" && answer["ExistingJobStatus"] == "FINISHED";
        ensure!(known || answer["Status"] == "Success" || answer["Status"] == "Publish Timeout", "{answer}");
        Ok(())
    })
    .await?;
    acknowledged.loads.fetch_add(1, Ordering::Relaxed);
    acknowledged.sum.fetch_add(sum, Ordering::Relaxed);
    Ok(())
}

/// Until the table holds what was acknowledged; nothing is loaded meanwhile.
async fn compare(cluster: &Cluster, acknowledged: &Acknowledged) -> Outcome {
    let count = acknowledged.loads.load(Ordering::Relaxed) * ROWS;
    let wanted = vec![count.to_string(), count.to_string(), acknowledged.sum.load(Ordering::Relaxed).to_string()];
    eventually("the table holds what was acknowledged", LIMIT, || async {
        let found = cluster.sql().table("SELECT count(*), count(DISTINCT k), sum(v) FROM d.t").await?;
        ensure!(found.first() == Some(&wanted), "{found:?}, not {wanted:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_rows_survive_kill_9_of_backends_and_frontend() -> Outcome {
    let (rounds, mut random) = (number("COFFER_CRASH_ROUNDS", 3)?, number("COFFER_CRASH_SEED", 7)?);
    let config = "publish_timeout_ms = 2000";
    let cluster = Arc::new(Cluster::builder().backends(3).brokers(0).config("fe", config).start().await?);
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(
        "CREATE TABLE d.t (k BIGINT, v BIGINT) DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 3
         PROPERTIES (\"replication_num\" = \"3\")",
    )
    .await?;
    let (acknowledged, stop) = (Arc::new(Acknowledged::default()), Arc::new(AtomicBool::new(false)));
    // Held by each load; whoever has it alone knows that none runs.
    let gate = Arc::new(RwLock::new(()));
    let loaders: Vec<_> = (0..LOADERS)
        .map(|loader| {
            let (cluster, acknowledged) = (Arc::clone(&cluster), Arc::clone(&acknowledged));
            let (stop, gate) = (Arc::clone(&stop), Arc::clone(&gate));
            tokio::spawn(async move {
                for number in 0.. {
                    let _gate = gate.read().await;
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    load(&cluster, loader, number, &acknowledged).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for round in 0..rounds {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let victims: &[&str] = match (random >> 33) % 6 {
            0 => &["fe-1"],
            1 => &["be-1"],
            2 => &["be-2"],
            3 => &["be-3"],
            4 => &["fe-1", "be-2"],
            _ => &["be-1", "be-3"],
        };
        let before = acknowledged.loads.load(Ordering::Relaxed);
        victims.iter().for_each(|name| cluster.node(name).kill());
        for name in victims {
            cluster.node(name).start()?;
        }
        cluster.until_alive().await.with_context(|| format!("round {round}: {victims:?}"))?;
        eventually("loads go on", LIMIT, || async {
            ensure!(acknowledged.loads.load(Ordering::Relaxed) > before, "round {round}: {victims:?}");
            Ok(())
        })
        .await?;
        let _nothing_runs = gate.write().await;
        compare(&cluster, &acknowledged).await.with_context(|| format!("round {round}: {victims:?}"))?;
    }
    stop.store(true, Ordering::Relaxed);
    for loader in loaders {
        loader.await??;
    }
    compare(&cluster, &acknowledged).await
}
