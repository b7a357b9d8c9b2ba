//! The leader is lost in each state of BACKUP and of RESTORE; the next one finishes the job it finds, with the same rows.
//!
//! Files in the directory of `job_hold_dir` hold a job at a state until the fault has struck and another frontend leads.

use crate::faults::{Fault, others, replaced};
use crate::proxy::Network;
use crate::soak;
use coffer_tests::cluster::READY_LIMIT;
use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::http::StreamLoad;
use coffer_tests::mysql::Row;
use coffer_tests::{Cluster, Outcome, Sql, eventually};
use std::path::PathBuf;

/// What a held state is called when its tasks have begun.
const BEGUN: &str = ".begun";
const BACKUP: [&str; 6] = ["PENDING", "SNAPSHOTING", "UPLOAD_SNAPSHOT", "UPLOADING", "SAVE_META", "UPLOAD_INFO"];
const RESTORE: [&str; 6] = ["PENDING", "SNAPSHOTING", "DOWNLOAD", "DOWNLOADING", "COMMIT", "COMMITTING"];

struct Stage {
    cluster: Cluster,
    network: Network,
    hold: PathBuf,
    _hold_dir: tempfile::TempDir,
    before: Vec<String>,
}

impl Stage {
    async fn new() -> anyhow::Result<Stage> {
        let hold_dir = tempfile::tempdir()?;
        let network = Network::new(3).await?;
        let hold = format!("job_hold_dir = \"{}\"", hold_dir.path().display());
        let builder = Cluster::builder().frontends(3).backends(2).brokers(1).config("fe", &hold);
        let cluster = network.start(builder).await?;
        let mut sql = cluster.sql();
        sql.run("CREATE DATABASE d").await?;
        sql.run(&create("d.t", 2, 2)).await?;
        StreamLoad::new(cluster.frontend(), "d", "t").must_succeed(csv(3, 0, 500)).await?;
        let location = cluster.location("r");
        sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
        let before = fingerprint(&mut sql, "d.t").await?;
        Ok(Stage { cluster, network, hold: hold_dir.path().to_owned(), _hold_dir: hold_dir, before })
    }

    /// Submit a job, lose the leader while it is held, and wait for its end under the next leader. `hold` is the name of the
    /// file that holds it: a state, or `<state>.begun`.
    async fn lose_leader(&self, fault: Fault, hold: &str, (submit, show): (&str, &str)) -> Outcome {
        let begun = std::time::Instant::now();
        let (held, state) = (self.hold.join(hold), hold.trim_end_matches(BEGUN));
        std::fs::write(&held, "")?;
        let leader = self.cluster.leader().await?;
        let mut sql = others(&self.cluster, leader);
        sql.run(submit).await?;
        let job = in_state(&mut sql, show, state).await?;
        fault.strike(leader, &self.network)?;
        replaced(&self.cluster, leader).await?;
        let mut sql = others(&self.cluster, leader);
        let now = in_state(&mut sql, show, state).await?;
        assert_eq!(now.get("JobId"), job.get("JobId"), "{fault:?} at {hold}");
        std::fs::remove_file(&held)?;
        let end = sql.job_finished(show).await?;
        for same in ["JobId", "CreateTime"] {
            assert_eq!(end.get(same), job.get(same), "{fault:?} at {hold}: {end:?}");
        }
        fault.undo(&self.cluster, leader, &self.network).await?;
        // What the old leader does when it is back changes nothing.
        let after = self.cluster.sql().query(show).await?.pop();
        assert_eq!(after.map(|row| row.get("State").to_owned()).as_deref(), Some("FINISHED"));
        said(&format!("{fault:?} at {hold}: {} ms", begun.elapsed().as_millis()));
        Ok(())
    }

    async fn backup(&self, fault: Fault, state: &str) -> Outcome {
        let label = format!("b_{fault:?}_{state}").replace('.', "_").to_lowercase();
        let submit = format!("BACKUP SNAPSHOT d.{label} TO r ON (t)");
        self.lose_leader(fault, state, (&submit, "SHOW BACKUP FROM d")).await?;
        // Good for a restore.
        let timestamp = self.cluster.sql().timestamp("r", &label).await?;
        let restore = format!(
            "RESTORE SNAPSHOT d.{label} FROM r ON (t AS {label}) PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")"
        );
        self.cluster.sql().run(&restore).await?;
        self.cluster.sql().job_finished("SHOW RESTORE FROM d").await?;
        self.compare(&label).await
    }

    async fn restore(&self, fault: Fault, state: &str) -> Outcome {
        let table = format!("r_{fault:?}_{state}").replace('.', "_").to_lowercase();
        let mut sql = self.cluster.sql();
        if sql.query("SHOW SNAPSHOT ON r WHERE SNAPSHOT = \"base\"").await?.is_empty() {
            sql.run("BACKUP SNAPSHOT d.base TO r ON (t)").await?;
            sql.job_finished("SHOW BACKUP FROM d").await?;
        }
        let timestamp = sql.timestamp("r", "base").await?;
        let submit = format!(
            "RESTORE SNAPSHOT d.base FROM r ON (t AS {table}) PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")"
        );
        self.lose_leader(fault, state, (&submit, "SHOW RESTORE FROM d")).await?;
        self.compare(&table).await
    }

    async fn compare(&self, table: &str) -> Outcome {
        let mut sql = self.cluster.sql();
        assert_eq!(fingerprint(&mut sql, &format!("d.{table}")).await?, self.before, "{table}");
        sql.run(&format!("DROP TABLE d.{table}")).await
    }
}

#[allow(clippy::print_stdout, reason = "what a test shows that is run with --nocapture")]
fn said(line: &str) {
    println!("{line}");
}

async fn in_state(sql: &mut Sql, show: &str, state: &str) -> anyhow::Result<Row> {
    let shared = tokio::sync::Mutex::new(sql);
    eventually(&format!("the job is {state}"), READY_LIMIT, || async {
        let row = shared.lock().await.query(show).await?.pop();
        let row = row.ok_or_else(|| anyhow::anyhow!("no job"))?;
        anyhow::ensure!(row.get("State") == state, "{row:?}");
        Ok(row)
    })
    .await
}

async fn run(fault: Fault, backups: &[&str], restores: &[&str]) -> Outcome {
    let stage = Stage::new().await?;
    for state in backups {
        stage.backup(fault, state).await?;
    }
    for state in restores {
        stage.restore(fault, state).await?;
    }
    Ok(())
}

/// States whose tasks run when the leader is lost; with the others there is none.
const BUSY_BACKUP: [&str; 4] = ["SNAPSHOTING.begun", "UPLOADING.begun", "SAVE_META.begun", "UPLOAD_INFO.begun"];
const BUSY_RESTORE: [&str; 3] = ["SNAPSHOTING.begun", "DOWNLOADING.begun", "COMMIT.begun"];

#[tokio::test(flavor = "multi_thread")]
async fn jobs_go_on_when_the_leader_is_killed() -> Outcome {
    run(Fault::Kill, &BACKUP, &RESTORE).await?;
    if soak() { run(Fault::Kill, &BUSY_BACKUP, &BUSY_RESTORE).await } else { Ok(()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_go_on_when_the_leader_is_frozen() -> Outcome {
    if soak() {
        run(Fault::Pause, &BACKUP, &RESTORE).await?;
    }
    run(Fault::Pause, &BUSY_BACKUP, &BUSY_RESTORE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_go_on_when_the_leader_is_cut_off() -> Outcome {
    if soak() {
        run(Fault::Cut, &BACKUP, &RESTORE).await?;
    }
    run(Fault::Cut, &BUSY_BACKUP, &BUSY_RESTORE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_wakes_late_writes_nothing() -> Outcome {
    let stage = Stage::new().await?;
    let held = stage.hold.join("UPLOAD_INFO");
    std::fs::write(&held, "")?;
    let leader = stage.cluster.leader().await?;
    let (show, mut sql) = ("SHOW BACKUP FROM d", others(&stage.cluster, leader));
    sql.run("BACKUP SNAPSHOT d.late TO r ON (t)").await?;
    in_state(&mut sql, show, "UPLOAD_INFO").await?;
    // It sleeps just before the write that would make the backup one.
    leader.pause()?;
    replaced(&stage.cluster, leader).await?;
    let mut sql = others(&stage.cluster, leader);
    sql.run("CANCEL BACKUP FROM d").await?;
    let end = sql.job_end(show).await?;
    assert_eq!(end.get("State"), "CANCELLED", "{end:?}");
    let repository = stage.cluster.repos().join("r");
    eventually("nothing of the backup is left", READY_LIMIT, || async {
        let left = files_of(&repository, "__ss_late")?;
        anyhow::ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await?;
    std::fs::remove_file(&held)?;
    leader.resume()?;
    stage.cluster.until_alive().await?;
    // It knows by now that another leads; what it did before that would have left traces.
    eventually("it follows", READY_LIMIT, || async {
        let rows = Sql::new(&leader.mysql).query(show).await?;
        anyhow::ensure!(rows.last().is_some_and(|row| row.get("State") == "CANCELLED"), "{rows:?}");
        Ok(())
    })
    .await?;
    assert_eq!(files_of(&repository, "__ss_late")?, Vec::<PathBuf>::new());
    stage.cluster.sql().run("BACKUP SNAPSHOT d.late TO r ON (t)").await?;
    stage.cluster.sql().job_finished(show).await.map(|_| ())
}

/// Files below a directory whose path contains these words.
fn files_of(dir: &std::path::Path, words: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            match path.is_dir() {
                true => open.push(path),
                false if path.to_string_lossy().contains(words) => found.push(path),
                false => {}
            }
        }
    }
    Ok(found)
}
