//! Jobs held at each of their states, and what happens to them there: CANCEL, a repository without room, rights that are
//! taken away. Nothing of them may be left, and the label is free again.

#[path = "../servers/hdfs.rs"]
mod server;

use anyhow::{Context, ensure};
use coffer_stdx::testing;
use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::http::StreamLoad;
use coffer_tests::mysql::Row;
use coffer_tests::s3::S3;
use coffer_tests::{Cluster, Outcome, Sql, eventually};
use server::Hdfs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(90);
const BACKUP: &str = "SHOW BACKUP FROM d";
const RESTORE: &str = "SHOW RESTORE FROM d";

/// A cluster whose jobs are held while a file named after their state is there, with table `d.t`.
struct Held {
    cluster: Cluster,
    sql: Sql,
    holds: tempfile::TempDir,
}

impl Held {
    async fn start() -> anyhow::Result<Held> {
        let holds = tempfile::tempdir()?;
        let config = format!("job_hold_dir = '{}'", holds.path().display());
        let cluster = Cluster::builder().backends(1).brokers(1).config("fe", &config).start().await?;
        let mut sql = cluster.sql();
        sql.run("CREATE DATABASE d").await?;
        sql.run(&create("d.t", 2, 1)).await?;
        StreamLoad::new(cluster.frontend(), "d", "t").must_succeed(csv(1, 0, 600)).await?;
        Ok(Held { cluster, sql, holds })
    }

    /// Give the statement and wait until its job is held; `when` is the name of a state, with `.begun` behind it where
    /// the tasks of the state are to begin.
    async fn hold(&mut self, statement: &str, show: &str, when: &str) -> Outcome {
        std::fs::write(self.holds.path().join(when), "")?;
        self.sql.run(statement).await?;
        let state = when.trim_end_matches(".begun");
        eventually(&format!("{statement}: held at {when}"), LIMIT, || async {
            let row = last(&mut self.cluster.sql(), show).await?;
            ensure!(row.get("State") == state, "{row:?}");
            Ok(())
        })
        .await
    }

    fn release(&self, when: &str) -> Outcome {
        Ok(std::fs::remove_file(self.holds.path().join(when))?)
    }

    /// Wait until backends have nothing of any job.
    async fn backends_have_nothing(&self) -> Outcome {
        eventually("backends have nothing of the job", LIMIT, || async {
            for folder in ["snapshot", "restore"] {
                let left = files(&self.cluster.node("be-1").data.join(folder));
                ensure!(left.is_empty(), "{left:?}");
            }
            Ok(())
        })
        .await
    }

    /// Wait until backends have nothing, and the repositories so many objects.
    async fn nothing_left(&self, objects: usize) -> Outcome {
        self.backends_have_nothing().await?;
        eventually("the repository has nothing of the job", LIMIT, || async {
            let left = files(&self.cluster.repos());
            ensure!(left.len() == objects, "{left:?}");
            Ok(())
        })
        .await
    }

    /// The label `s` is free: a backup under it ends well, and what it holds is what the table has.
    async fn the_label_is_free(&mut self) -> Outcome {
        let before = fingerprint(&mut self.sql, "d.t").await?;
        self.sql.run("BACKUP SNAPSHOT d.s TO r ON (t)").await?;
        self.sql.job_finished(BACKUP).await?;
        let timestamp = self.sql.timestamp("r", "s").await?;
        self.sql.run(&restore(&timestamp, "ON (t AS u)")).await?;
        self.sql.job_finished(RESTORE).await?;
        assert_eq!(fingerprint(&mut self.sql, "d.u").await?, before);
        self.sql.run("DROP TABLE d.u").await?;
        self.drop_snapshot().await
    }

    /// Jobs of the same label that were cancelled may still be cleaning up after themselves.
    async fn drop_snapshot(&self) -> Outcome {
        eventually("the snapshot can be dropped", LIMIT, || async {
            self.cluster.sql().run("DROP SNAPSHOT s ON r").await
        })
        .await
    }
}

fn restore(timestamp: &str, objects: &str) -> String {
    format!("RESTORE SNAPSHOT d.s FROM r {objects} PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")")
}

async fn last(sql: &mut Sql, show: &str) -> anyhow::Result<Row> {
    sql.query(show).await?.pop().with_context(|| format!("{show}: no job"))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn was_cancelled(row: &Row) {
    assert_eq!(row.get("State"), "CANCELLED", "{row:?}");
    assert!(row.get("Status").starts_with("[COMMON_ERROR, msg: user cancelled"), "{row:?}");
    assert!(row.get("FinishedTime") > "20", "{row:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_takes_effect_in_every_state_until_it_is_too_late_and_says_so() -> Outcome {
    let mut held = Held::start().await?;
    let location = held.cluster.location("r");
    held.sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
    let before = fingerprint(&mut held.sql, "d.t").await?;
    for when in [
        "PENDING",
        "SNAPSHOTING",
        "SNAPSHOTING.begun",
        "UPLOAD_SNAPSHOT",
        "UPLOADING",
        "UPLOADING.begun",
        "SAVE_META",
        "SAVE_META.begun",
        "UPLOAD_INFO",
        "UPLOAD_INFO.begun",
    ] {
        held.hold("BACKUP SNAPSHOT d.s TO r ON (t)", BACKUP, when).await?;
        held.sql.run("CANCEL BACKUP FROM d").await?;
        was_cancelled(&last(&mut held.sql, BACKUP).await?);
        held.release(when)?;
        held.nothing_left(1).await?;
        let late = held.sql.error("CANCEL BACKUP FROM d").await?;
        assert!(late.message.contains("No backup job is currently running"), "{when}: {}", late.message);
    }
    held.sql.run("BACKUP SNAPSHOT d.s TO r ON (t)").await?;
    held.sql.job_finished(BACKUP).await?;
    let (timestamp, objects) = (held.sql.timestamp("r", "s").await?, files(&held.cluster.repos()).len());
    let over = restore(&timestamp, "ON (t)");
    for when in [
        "PENDING",
        "SNAPSHOTING",
        "SNAPSHOTING.begun",
        "DOWNLOAD",
        "DOWNLOADING",
        "DOWNLOADING.begun",
        "COMMIT",
        "COMMIT.begun",
    ] {
        held.hold(&over, RESTORE, when).await?;
        held.sql.run("CANCEL RESTORE FROM d").await?;
        was_cancelled(&last(&mut held.sql, RESTORE).await?);
        held.release(when)?;
        held.nothing_left(objects).await?;
        assert_eq!(fingerprint(&mut held.sql, "d.t").await?, before, "{when}");
    }
    // All tables are switched: what is left to do is done.
    held.hold(&over, RESTORE, "COMMITTING").await?;
    let late = held.sql.error("CANCEL RESTORE FROM d").await?;
    assert!(late.message.contains("can not be cancelled. state: COMMITTING"), "{}", late.message);
    held.release("COMMITTING")?;
    held.sql.job_finished(RESTORE).await?;
    assert_eq!(fingerprint(&mut held.sql, "d.t").await?, before);
    held.nothing_left(objects).await
}

/// A file system of its own in memory.
struct Mounted(PathBuf);

impl Mounted {
    /// `None` where this user may not mount.
    fn new(at: &Path, size: &str) -> anyhow::Result<Option<Mounted>> {
        std::fs::create_dir_all(at)?;
        let options = format!("size={size}");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "coffer-test"]).arg(at).output();
        Ok(done.is_ok_and(|output| output.status.success()).then(|| Mounted(at.to_owned())))
    }

    /// Take what room there is.
    fn fill(&self) -> Outcome {
        use std::io::Write;
        let mut file = std::fs::File::create(self.0.join("filler"))?;
        let refused = loop {
            if let Err(error) = file.write_all(&[7; 4096]) {
                break error;
            }
        };
        ensure!(refused.kind() == std::io::ErrorKind::StorageFull, "{refused}");
        Ok(())
    }

    fn empty(&self) -> Outcome {
        Ok(std::fs::remove_file(self.0.join("filler"))?)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_in_any_state_ends_the_job_with_the_cause_and_leaves_nothing() -> Outcome {
    let mut held = Held::start().await?;
    let Some(disk) = Mounted::new(&held.cluster.repos().join("disk"), "4m")? else {
        let test = "job_states::a_disk_that_is_full_in_any_state_ends_the_job_with_the_cause_and_leaves_nothing";
        testing::skip(test, "no file system can be mounted here (that takes root)");
        return Ok(());
    };
    let location = held.cluster.location("disk/r");
    held.sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
    for state in ["UPLOADING", "SAVE_META", "UPLOAD_INFO"] {
        held.hold("BACKUP SNAPSHOT d.s TO r ON (t)", BACKUP, state).await?;
        disk.fill()?;
        held.release(state)?;
        let row = held.sql.job_end(BACKUP).await?;
        assert_eq!(row.get("State"), "CANCELLED", "{state}: {row:?}");
        let status = row.get("Status");
        assert!(status.starts_with("[NO_SPACE, msg: ") && status.contains("/disk/r"), "{state}: {row:?}");
        disk.empty()?;
        held.nothing_left(1).await?;
    }
    held.the_label_is_free().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_taken_away_end_the_job_with_the_cause_hdfs() -> Outcome {
    let test = "job_states::rights_that_are_taken_away_end_the_job_with_the_cause_hdfs";
    let Some(hdfs) = Hdfs::start(test, "simple")? else { return Ok(()) };
    hdfs.folder("/mine")?;
    let mut held = Held::start().await?;
    let location = format!("hdfs://{}/mine/r", hdfs.fact("nn1"));
    held.sql
        .run(&format!(
            "CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\" PROPERTIES \
             (\"username\" = \"alice\", \"dfs.replication\" = \"1\")"
        ))
        .await?;
    let rights = |mode: &str| hdfs.tell(&format!("web PUT /mine op=SETPERMISSION&permission={mode}"));
    let take = || rights("700").map(drop).context("take the rights");
    let give = || rights("777").map(drop).context("give them back");
    revoked(&mut held, &location, take, give).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_taken_away_end_the_job_with_the_cause_s3() -> Outcome {
    let test = "job_states::rights_that_are_taken_away_end_the_job_with_the_cause_s3";
    let Some(s3) = S3::of(test) else { return Ok(()) };
    // Where the server keeps what its tools need.
    let authority = std::env::var("COFFER_TEST_S3_CA").context("COFFER_TEST_S3_CA")?;
    let home = Path::new(&authority).parent().and_then(Path::parent).context("a home")?.join("ceph.conf");
    let admin = |arguments: &[&str]| {
        let mut program = Command::new("radosgw-admin");
        let output = program.arg("-c").arg(&home).args(["-n", "client.rgw.a"]).args(arguments).output();
        let output = output.context("radosgw-admin")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        anyhow::Ok(())
    };
    let name = format!("revoked-{}", std::process::id());
    let user = format!("--uid={name}");
    admin(&["user", "create", &user, "--display-name=revoked", "--access-key=rk", "--secret-key=revokedsecret"])?;
    let bucket = format!("{}/{name}", s3.endpoint);
    let signed = ["--aws-sigv4", "aws:amz:us-east-1:s3", "-u", "rk:revokedsecret", "-H"];
    let mut program = Command::new("curl");
    let put = program.args(["-sS", "-f", "-X", "PUT"]).args(signed);
    let output = put.args(["x-amz-content-sha256: UNSIGNED-PAYLOAD", &bucket]).output().context("curl")?;
    ensure!(output.status.success(), "{output:?}");

    let mut held = Held::start().await?;
    let s3 = S3 { key: "rk".to_owned(), secret: "revokedsecret".to_owned(), ..s3 };
    let place = format!("{name}/r");
    held.sql.run(&s3.create_repository("BROKER local_broker", &place)).await?;
    let (take, give) = (|| admin(&["user", "suspend", &user]), || admin(&["user", "enable", &user]));
    revoked(&mut held, &format!("s3://{place}"), take, give).await?;
    admin(&["user", "rm", &user, "--purge-data"])
}

/// A backup, and a restore, whose rights are taken away before and while the repository is used.
async fn revoked(held: &mut Held, location: &str, take: impl Fn() -> Outcome, give: impl Fn() -> Outcome) -> Outcome {
    let ended = |row: &Row, when: &str| {
        let status = row.get("Status");
        assert_eq!((row.get("State"), row.get("TaskErrMsg")), ("CANCELLED", ""), "{when}: {row:?}");
        assert!(status.starts_with("[DENIED, msg: ") && status.contains(location), "{when}: {row:?}");
        assert!(!status.contains('\n') && !status.contains("revokedsecret"), "{when}: {row:?}");
    };
    for state in ["UPLOADING", "SAVE_META", "UPLOAD_INFO"] {
        held.hold("BACKUP SNAPSHOT d.s TO r ON (t)", BACKUP, state).await?;
        take()?;
        held.release(state)?;
        ended(&held.sql.job_end(BACKUP).await?, state);
        held.backends_have_nothing().await?;
        give()?;
        let seen = held.sql.query("SHOW SNAPSHOT ON r").await?;
        assert!(seen.iter().all(|row| row.get("Status") != "OK"), "{state}: {seen:?}");
    }
    let before = fingerprint(&mut held.sql, "d.t").await?;
    held.sql.run("BACKUP SNAPSHOT d.s TO r ON (t)").await?;
    held.sql.job_finished(BACKUP).await?;
    let timestamp = held.sql.timestamp("r", "s").await?;
    held.hold(&restore(&timestamp, "ON (t)"), RESTORE, "DOWNLOADING").await?;
    take()?;
    held.release("DOWNLOADING")?;
    ended(&held.sql.job_end(RESTORE).await?, "DOWNLOADING");
    held.backends_have_nothing().await?;
    assert_eq!(fingerprint(&mut held.sql, "d.t").await?, before);
    give()?;
    held.drop_snapshot().await?;
    held.the_label_is_free().await
}
