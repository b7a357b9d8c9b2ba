//! The metadata of a frontend on bad days: kills during writes, torn and damaged files, and the means to look at it, carry it
//! away and start again from it.

use coffer_tests::{Cluster, Node, Outcome, Sql, eventually};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const READY: Duration = Duration::from_secs(60);

/// `coffer-fe` with the configuration of a frontend, doing something else than serving.
async fn tool(node: &Node, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = tokio::process::Command::new(&node.program);
    Ok(command.arg("--config").arg(&node.config).args(arguments).output().await?)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn ready(node: &Node) -> anyhow::Result<Sql> {
    eventually("the frontend leads", READY, || async {
        if let Some(status) = node.exited() {
            panic!("it ended ({status}):\n{}", node.log_tail());
        }
        let leads =
            Sql::new(&node.mysql).query("SHOW FRONTENDS").await?.iter().any(|row| row.get("IsMaster") == "true");
        anyhow::ensure!(leads, "no frontend leads");
        Ok(Sql::new(&node.mysql))
    })
    .await
}

async fn databases(sql: &mut Sql) -> anyhow::Result<BTreeSet<String>> {
    Ok(sql.table("SHOW DATABASES").await?.into_iter().map(|mut row| row.remove(0)).collect())
}

/// The newest file of the log.
fn newest_log(node: &Node) -> anyhow::Result<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(node.data.join("log"))?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.sort();
    files.pop().ok_or_else(|| anyhow::anyhow!("no log"))
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_in_the_middle_of_writes_lose_nothing_acknowledged() -> Outcome {
    let cluster = Cluster::builder().backends(0).brokers(0).start().await?;
    let node = cluster.frontend();
    let acknowledged: Arc<Mutex<Vec<String>>> = Arc::default();
    for round in 0..6 {
        ready(node).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let before = acknowledged.lock().unwrap().len();
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (stop, acknowledged, address) = (Arc::clone(&stop), Arc::clone(&acknowledged), node.mysql.clone());
                tokio::spawn(async move {
                    let mut sql = Sql::new(&address);
                    let mut number = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let name = format!("d_{round}_{writer}_{number}");
                        if sql.run(&format!("CREATE DATABASE {name}")).await.is_ok() {
                            acknowledged.lock().unwrap().push(name);
                        }
                        number += 1;
                    }
                })
            })
            .collect();
        eventually("writes go on", READY, || async {
            anyhow::ensure!(acknowledged.lock().unwrap().len() > before + 20 * (round + 1));
            Ok(())
        })
        .await?;
        node.kill();
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await?;
        }
        node.start()?;
    }
    let there = databases(&mut ready(node).await?).await?;
    for name in acknowledged.lock().unwrap().iter() {
        assert!(there.contains(name), "{name} was acknowledged and is gone");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_cut_and_damage_stops_the_start_with_file_and_place() -> Outcome {
    let cluster = Cluster::builder().backends(0).brokers(0).start().await?;
    let node = cluster.frontend();
    let mut sql = ready(node).await?;
    for name in ["one", "two", "three"] {
        sql.run(&format!("CREATE DATABASE {name}")).await?;
    }
    node.kill();
    let path = newest_log(node)?;
    let good = std::fs::read(&path)?;
    // Bytes behind the end that were never acknowledged, as a crash in the middle of a write leaves them.
    let end = good.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1).next_multiple_of(8) + 64;
    let mut torn = good.clone();
    torn.resize(torn.len().max(end + 100), 0);
    torn[end..end + 100].fill(0xEE);
    std::fs::write(&path, &torn)?;
    node.start()?;
    let there = databases(&mut ready(node).await?).await?;
    assert!(["one", "two", "three"].iter().all(|name| there.contains(*name)), "{there:?}");
    node.kill();

    let good = std::fs::read(&path)?;
    let at = good.windows(5).position(|bytes| bytes == b"\"two\"").expect("the entry is in the log");
    let mut damaged = good.clone();
    damaged[at + 1] ^= 1;
    std::fs::write(&path, &damaged)?;
    node.start()?;
    let status =
        eventually("it refuses to start", READY, || async { node.exited().ok_or_else(|| anyhow::anyhow!("it runs")) })
            .await?;
    assert_eq!(status.code(), Some(1));
    let log = node.log_tail();
    assert!(log.contains(path.to_str().unwrap()) && log.contains("is damaged at byte "), "{log}");
    node.kill();
    // Nothing was touched: with the byte back everything is there.
    assert_eq!(std::fs::read(&path)?, damaged);
    std::fs::write(&path, &good)?;
    node.start()?;
    assert!(databases(&mut ready(node).await?).await?.contains("two"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_dumped_exported_and_imported() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(1).start().await?;
    let node = cluster.frontend();
    let mut sql = ready(node).await?;
    sql.run("CREATE DATABASE shop").await?;
    sql.run(&coffer_tests::data::create("shop.sales", 2, 1)).await?;
    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
    let in_use = tool(node, &["dump"]).await?;
    assert_eq!(in_use.status.code(), Some(1));
    assert!(said(&in_use).contains("is in use by a frontend process"), "{}", said(&in_use));
    node.stop().await?;

    let dump = tool(node, &["dump"]).await?;
    assert_eq!(dump.status.code(), Some(0), "{}", said(&dump));
    let seen: serde_json::Value = serde_json::from_slice(&dump.stdout)?;
    assert_eq!(seen["databases"][0]["name"], "shop");
    assert_eq!(seen["databases"][0]["tables"][0]["name"], "sales");
    assert!(seen["about"]["last_entry"].as_u64().is_some_and(|last| last > 3), "{}", seen["about"]);
    assert!(said(&dump).contains(&location), "{}", said(&dump));

    let file = cluster.dir().join("metadata.image");
    let file_name = file.display().to_string();
    let export = tool(node, &["export", "--to", &file_name]).await?;
    assert_eq!(export.status.code(), Some(0), "{}", said(&export));
    assert_eq!(tool(node, &["export", "--to", &file_name]).await?.status.code(), Some(1), "it overwrites");

    // A damaged image is refused with its name, before anything is made of it.
    let new_dir = cluster.dir().join("new-meta");
    let new_name = new_dir.display().to_string();
    let good = std::fs::read(&file)?;
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(&file, &bad)?;
    let import = ["--meta-dir", &new_name, "import", "--from", &file_name];
    let refused = tool(node, &import).await?;
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains(&file_name) && said(&refused).contains("at byte "), "{}", said(&refused));
    std::fs::write(&file, &good)?;
    let imported = tool(node, &import).await?;
    assert_eq!(imported.status.code(), Some(0), "{}", said(&imported));
    assert_eq!(tool(node, &import).await?.status.code(), Some(1), "it imports into a directory that is not empty");

    // A frontend starts from it, and finds its backend and broker again.
    let config = std::fs::read_to_string(&node.config)?;
    std::fs::write(&node.config, config.replace(&node.data.display().to_string(), &new_name))?;
    node.start()?;
    ready(node).await?;
    cluster.until_alive().await?;
    let mut sql = cluster.sql();
    assert_eq!(sql.scalar("SELECT count(*) FROM shop.sales").await?, "0");
    sql.run("CREATE DATABASE later").await?;
    node.kill();
    node.start()?;
    assert!(databases(&mut ready(node).await?).await?.contains("later"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_to_one_frontend_needs_to_be_confirmed() -> Outcome {
    let cluster = Cluster::builder().backends(0).brokers(0).start().await?;
    let node = cluster.frontend();
    ready(node).await?.run("CREATE DATABASE kept").await?;
    node.kill();
    let asked = tool(node, &["recover-single"]).await?;
    assert_eq!(asked.status.code(), Some(1));
    assert!(said(&asked).contains("WARNING") && said(&asked).contains("nothing was changed"), "{}", said(&asked));
    assert!(!node.data.join("snapshot").exists());
    let done = tool(node, &["recover-single", "--the-other-frontends-are-gone"]).await?;
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let kept =
        std::fs::read_dir(&node.data)?.flatten().filter(|entry| entry.path().extension().is_some_and(|e| e == "image"));
    assert_eq!(kept.count(), 1);
    node.start()?;
    let mut sql = ready(node).await?;
    assert!(databases(&mut sql).await?.contains("kept"));
    sql.run("CREATE DATABASE more").await?;
    node.kill();
    // And once more, from a snapshot and a log behind it.
    assert_eq!(tool(node, &["recover-single", "--the-other-frontends-are-gone"]).await?.status.code(), Some(0));
    node.start()?;
    let there = databases(&mut ready(node).await?).await?;
    assert!(there.contains("kept") && there.contains("more"), "{there:?}");
    Ok(())
}
