//! `cofferctl migrate` between two real clusters while the source is being loaded: through a directory with an interruption,
//! through S3 and through HDFS.

#[path = "../servers/hdfs.rs"]
mod server;

use anyhow::Context;
use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::http::StreamLoad;
use coffer_tests::node::program;
use coffer_tests::s3::S3;
use coffer_tests::{Cluster, Outcome, eventually};
use serde_json::Value;
use server::Hdfs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::process::Command;

/// How long a step may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Two clusters and where the migration keeps its state.
struct Move {
    source: Cluster,
    target: Cluster,
    dir: tempfile::TempDir,
}

impl Move {
    /// Both clusters, the source with two tables, both with the repository.
    async fn new(create_repository: &str, local_root: Option<&Path>) -> anyhow::Result<Move> {
        let builder = || {
            let builder = Cluster::builder().backends(2).brokers(1);
            match local_root {
                Some(root) => builder.config("broker", &format!("local_roots = [{root:?}]")),
                None => builder,
            }
        };
        let (source, target) = tokio::try_join!(builder().start(), builder().start())?;
        let mut sql = source.sql();
        sql.run("CREATE DATABASE shop").await?;
        for table in ["sales", "stock"] {
            sql.run(&create(&format!("shop.{table}"), 2, 2)).await?;
            StreamLoad::new(source.frontend(), "shop", table).must_succeed(csv(5, 0, 3_000)).await?;
        }
        for cluster in [&source, &target] {
            cluster.sql().run(create_repository).await?;
        }
        Ok(Move { source, target, dir: tempfile::tempdir()? })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("m").join(name)
    }

    fn command(&self, more: &[&str]) -> anyhow::Result<Command> {
        self.command_in(Path::new("m"), more)
    }

    fn command_in(&self, dir: &Path, more: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(program("cofferctl")?);
        let url = |cluster: &Cluster| format!("mysql://root@{}", cluster.frontend().mysql);
        command.args(["migrate", "--from", &url(&self.source), "--to", &url(&self.target)]);
        command.args(["--repository", "r", "--database", "shop", "--dir"]).arg(dir).args(more);
        command.current_dir(self.dir.path()).kill_on_drop(true);
        Ok(command)
    }

    async fn run(&self, more: &[&str]) -> anyhow::Result<Output> {
        Ok(self.command(more)?.output().await?)
    }

    fn report(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&std::fs::read_to_string(self.path("report.json"))?)?)
    }
}

/// Loads into one partition of one table until it is stopped.
struct Loader {
    stop: Arc<AtomicBool>,
    loads: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Outcome>,
}

impl Loader {
    fn start(cluster: &Cluster) -> Loader {
        let load = StreamLoad::new(cluster.frontend(), "shop", "sales");
        let (stop, loads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&loads));
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let id = 1_000_000 + counted.load(Ordering::Relaxed);
                load.must_succeed(format!("{id}|2024-03-05|\\N|1|1|1|1|1|1|c|n\n")).await?;
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        Loader { stop, loads, task }
    }

    /// Return when `more` further loads succeeded.
    async fn went_on(&self, more: u64) -> Outcome {
        let wanted = self.loads.load(Ordering::Relaxed) + more;
        eventually("loads go on", LIMIT, || async {
            let loads = self.loads.load(Ordering::Relaxed);
            anyhow::ensure!(loads >= wanted, "{loads} of {wanted}");
            Ok(())
        })
        .await
    }

    async fn end(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Migrate while the source is loaded; then look again, and again when the loads have ended.
async fn migrate(moving: &Move) -> Outcome {
    let loader = Loader::start(&moving.source);
    loader.went_on(1).await?;
    let output = moving.run(&[]).await?;
    // Whether a load came between snapshot and comparison is a race; that nothing differs is not.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{:?} {}", output.status, said(&output));
    loader.went_on(1).await?;
    let output = moving.run(&[]).await?;
    loader.end().await?;
    let shown = said(&output);
    assert_eq!(output.status.code(), Some(3), "{shown}");
    assert!(shown.contains("sales.p03: loaded after the snapshot, version"), "{shown}");

    let report = moving.report()?;
    assert_eq!(report["result"], "equal_but_source_went_on", "{report}");
    let later = report["later"].as_array().context("later")?;
    assert_eq!(later.len(), 1, "{later:?}");
    assert_eq!((&later[0]["table"], &later[0]["partition"]), (&"sales".into(), &"p03".into()));
    assert!(later[0]["snapshot_version"].as_u64() < later[0]["source_version"].as_u64(), "{later:?}");
    let partitions = report["partitions"].as_array().context("partitions")?;
    assert_eq!(partitions.iter().filter(|one| one["outcome"] == "equal").count(), 5, "{partitions:?}");
    assert_eq!(std::fs::read_to_string(moving.path("report.txt"))?, String::from_utf8(output.stdout)?);

    let (mut source, mut target) = (moving.source.sql(), moving.target.sql());
    assert_eq!(fingerprint(&mut source, "shop.stock").await?, fingerprint(&mut target, "shop.stock").await?);
    let rows = target.scalar("SELECT count(*) FROM shop.sales").await?.parse::<u64>()?;
    let stock = target.scalar("SELECT count(*) FROM shop.stock").await?.parse::<u64>()?;
    assert_eq!(report["rows"].as_u64(), Some(rows + stock));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_moves_is_interrupted_and_goes_on() -> Outcome {
    let place = tempfile::tempdir()?;
    let location = format!("file://{}", place.path().join("r").display());
    let create = format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"");
    let moving = Move::new(&create, Some(place.path())).await?;

    let dry = moving.run(&["--dry-run"]).await?;
    assert!(dry.status.success() && said(&dry).contains("2 tables, 6 partitions"), "{}", said(&dry));
    assert!(!moving.path("state.json").exists() && moving.target.sql().query("SHOW BACKUP FROM shop").await.is_err());

    // Killed as soon as it noted that it begins.
    let mut killed = moving.command(&[])?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    eventually("a migration begins", LIMIT, || async {
        anyhow::ensure!(moving.path("state.json").exists(), "no state yet");
        Ok(())
    })
    .await?;
    killed.kill().await?;
    migrate(&moving).await?;
    let jobs = moving.target.sql().query("SHOW RESTORE FROM shop").await?;
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    assert!(!std::fs::read_to_string(moving.path("state.json"))?.contains("password"));

    // Nothing is moved onto what is there.
    let output = moving.command_in(Path::new("other"), &["--tables", "stock"])?.output().await?;
    assert!(
        output.status.code() == Some(2) && said(&output).contains("in the way at the target: stock"),
        "{}",
        said(&output)
    );
    let output = moving.run(&["--tables", "stock"]).await?;
    assert!(output.status.code() == Some(2) && said(&output).contains("another migration"), "{}", said(&output));

    // What somebody adds to the target shows, and a table that is gone is a failure.
    let mut target = moving.target.sql();
    target.run("TRUNCATE TABLE shop.stock PARTITION (p01)").await?;
    let output = moving.run(&["--output", "json"]).await?;
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("\"target_changed\""), "{}", said(&output));
    target.run("DROP TABLE shop.stock").await?;
    let output = moving.run(&[]).await?;
    assert!(output.status.code() == Some(1) && said(&output).contains("MISSING"), "{}", said(&output));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_moves_through_s3() -> Outcome {
    let test = "migrate::a_database_moves_through_s3";
    let Some(s3) = S3::of(test) else { return Ok(()) };
    let create = s3.create_repository("S3", &s3.place(&s3.bucket, "-move"));
    migrate(&Move::new(&create, None).await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_moves_through_hdfs() -> Outcome {
    let Some(hdfs) = Hdfs::start("migrate::a_database_moves_through_hdfs", "simple")? else { return Ok(()) };
    hdfs.folder("/move")?;
    let create = format!(
        "CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"hdfs://{}/move/r\" PROPERTIES \
         (\"username\" = \"alice\", \"dfs.replication\" = \"1\")",
        hdfs.fact("nn1")
    );
    migrate(&Move::new(&create, None).await?).await
}
