//! What users get wrong, and what breaks under them: an error that names the thing, and nothing half-made behind it.

use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::http::StreamLoad;
use coffer_tests::{Cluster, Outcome, Sql, eventually};
use std::path::Path;
use std::time::Duration;

async fn with_rows(cluster: &Cluster, rows: u64) -> anyhow::Result<Sql> {
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&create("d.t", 2, 1)).await?;
    StreamLoad::new(cluster.frontend(), "d", "t").header("label", "l").must_succeed(csv(1, 0, rows)).await?;
    Ok(sql)
}

async fn says(sql: &mut Sql, statement: &str, words: &[&str]) -> Outcome {
    let error = sql.error(statement).await?;
    for word in words {
        anyhow::ensure!(error.message.contains(word), "{statement}: {:?} is not in: {}", word, error.message);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_statements_name_what_is_wrong() -> Outcome {
    let cluster = Cluster::builder().start().await?;
    let mut sql = with_rows(&cluster, 10).await?;
    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
    for (statement, words) in [
        ("BACKUP SNAPSHOT d.s TO nothing ON (t)", &["nothing"][..]),
        ("BACKUP SNAPSHOT d.s TO r ON (missing)", &["missing"]),
        ("BACKUP SNAPSHOT d.s TO r ON (t PARTITION (p99))", &["p99"]),
        ("BACKUP SNAPSHOT d.s TO r ON (t, t)", &["t"]),
        ("BACKUP SNAPSHOT d.s TO r ON (t) PROPERTIES (\"colour\" = \"blue\")", &["colour"]),
        ("BACKUP SNAPSHOT d.s TO r ON (t) PROPERTIES (\"timeout\" = \"5\")", &["timeout"]),
        ("BACKUP SNAPSHOT nowhere.s TO r", &["nowhere"]),
        ("RESTORE SNAPSHOT d.s FROM nothing PROPERTIES (\"backup_timestamp\" = \"2020-01-01-00-00-00\")", &["nothing"]),
        ("RESTORE SNAPSHOT d.s FROM r PROPERTIES (\"replication_num\" = \"1\")", &["backup_timestamp"]),
        ("SHOW SNAPSHOT ON nothing", &["nothing"]),
        ("DROP REPOSITORY nothing", &["epository"]),
        ("CREATE REPOSITORY r2 WITH BROKER nobody ON LOCATION \"file:///tmp/x\"", &["nobody"]),
        (
            "CREATE REPOSITORY r2 WITH BROKER local_broker ON LOCATION \"hdfs://nohost.invalid:1/x\"",
            &["nohost.invalid:1"],
        ),
        ("CANCEL BACKUP FROM d", &["d"]),
    ] {
        says(&mut sql, statement, words).await?;
    }
    says(&mut sql, &format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\""), &["r"]).await?;
    assert_eq!(sql.query("SHOW REPOSITORIES").await?.len(), 1);
    sql.run("DROP REPOSITORY r").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_not_there_is_named() -> Outcome {
    let cluster = Cluster::builder().start().await?;
    let mut sql = with_rows(&cluster, 10).await?;
    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
    let restore = "RESTORE SNAPSHOT d.nix FROM r PROPERTIES (\"backup_timestamp\" = \"2020-01-01-00-00-00\")";
    let message = match sql.error(restore).await {
        Ok(error) => error.message,
        Err(_) => sql.job_end("SHOW RESTORE FROM d").await?.get("Status").to_owned(),
    };
    assert!(message.contains("nix"), "{message}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_is_taken_only_by_a_complete_backup() -> Outcome {
    let cluster = Cluster::builder().start().await?;
    let mut sql = with_rows(&cluster, 50).await?;
    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
    sql.run("BACKUP SNAPSHOT d.s TO r").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    says(&mut sql, "BACKUP SNAPSHOT d.s TO r", &["s", "exist"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_without_permission_is_refused() -> Outcome {
    // Nobody, not even root, makes directories in /sys/kernel.
    let roots = "local_roots = [\"/sys/kernel\"]";
    let cluster = Cluster::builder().config("broker", roots).start().await?;
    let mut sql = cluster.sql();
    let create = |location: &str| format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"");
    says(&mut sql, &create("file:///sys/kernel/backups"), &["/sys/kernel/backups"]).await?;
    says(&mut sql, &create("file:///etc/backups"), &["/etc/backups", "local_roots"]).await?;
    assert!(sql.query("SHOW REPOSITORIES").await?.is_empty());
    assert!(!Path::new("/etc/backups").exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_broker_is_named() -> Outcome {
    let cluster = Cluster::builder().start().await?;
    let mut sql = with_rows(&cluster, 50).await?;
    let address = cluster.node("broker-1").grpc.clone();
    cluster.node("broker-1").kill();
    let location = cluster.location("r");
    says(&mut sql, &format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\""), &["broker"])
        .await?;
    assert!(sql.query("SHOW REPOSITORIES").await?.is_empty());
    eventually("SHOW BROKER says what is wrong", Duration::from_secs(30), || async {
        let row = cluster.sql().query("SHOW BROKER").await?.remove(0);
        anyhow::ensure!(row.get("Alive") == "false" && !row.get("ErrMsg").is_empty(), "{row:?}");
        anyhow::ensure!(format!("{}:{}", row.get("Host"), row.get("Port")) == address, "{row:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_backup_leaves_nothing_and_frees_its_label() -> Outcome {
    let cluster = Cluster::builder().start().await?;
    let mut sql = with_rows(&cluster, 20_000).await?;
    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
    // A frozen broker holds the job where it is.
    cluster.node("broker-1").pause()?;
    let submitted = sql.query("BACKUP SNAPSHOT d.s TO r").await;
    if submitted.is_ok() {
        sql.run("CANCEL BACKUP FROM d").await?;
    }
    cluster.node("broker-1").resume()?;
    cluster.until_alive().await?;
    if submitted.is_ok() {
        let row = sql.job_end("SHOW BACKUP FROM d").await?;
        assert_eq!(row.get("State"), "CANCELLED", "{row:?}");
        let kept = cluster.node("be-1").data.join("snapshot");
        eventually("hard links are gone", Duration::from_secs(30), || async {
            let left = files_below(&kept);
            anyhow::ensure!(left == 0, "{left} files in {}", kept.display());
            Ok(())
        })
        .await?;
    }
    sql.run("BACKUP SNAPSHOT d.s TO r").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    Ok(())
}

fn files_below(dir: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { files_below(&entry.path()) } else { 1 }).sum()
}

/// A file system of 24 MiB, unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<SmallDisk> {
        std::fs::create_dir_all(at).ok()?;
        let status =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "none"]).arg(at).status();
        status.is_ok_and(|status| status.success()).then(|| SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_the_load_and_keeps_what_was_there() -> Outcome {
    let parent = tempfile::tempdir()?;
    let Some(disk) = SmallDisk::mount(&parent.path().join("disk")) else {
        eprintln!("SKIPPED a_full_disk...: this user may not mount a small file system");
        return Ok(());
    };
    let dirs = format!("data_dirs = [\"{}\"]", disk.0.display());
    let cluster = Cluster::builder().brokers(0).config("be", &dirs).start().await?;
    let mut sql = with_rows(&cluster, 1_000).await?;
    let before = fingerprint(&mut sql, "d.t").await?;

    let filler = disk.0.join("filler");
    let (_, free) = coffer_stdx::fsx::space(&disk.0)?;
    std::fs::write(&filler, vec![1_u8; free.saturating_sub(256 * 1024) as usize])?;
    let load = StreamLoad::new(cluster.frontend(), "d", "t").header("label", "big");
    let answer = load.send(csv(2, 10_000, 60_000)).await?;
    assert_eq!(answer["Status"], "Fail", "{answer}");
    let message = answer["Message"].as_str().unwrap_or_default().to_lowercase();
    assert!(message.contains("space"), "{answer}");
    assert_eq!(fingerprint(&mut sql, "d.t").await?, before);

    std::fs::remove_file(&filler)?;
    load.must_succeed(csv(2, 10_000, 5_000)).await?;
    assert_eq!(sql.scalar("SELECT count(*) FROM d.t").await?, "6000");
    drop(cluster);
    drop(disk);
    Ok(())
}
