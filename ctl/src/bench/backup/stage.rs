//! Where everything is measured: the cluster, the storage, the other tools. Jobs and calls are timed here.

use super::report::Report;
use super::tree::Tree;
use crate::bench::forget_peaks;
use crate::bench::store::peers::{Peer, Way};
use crate::cli::BackupBenchArgs;
use crate::cluster::state::{Home, Role, State};
use crate::sql::Session;
use crate::tour::load::Loader;
use crate::tour::{self, progress};
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result, fsx};
use coffer_store::{PutOptions, Store, from_bytes};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// How often a job is looked at.
const POLL: Duration = Duration::from_millis(20);
/// The database.
pub(super) const DATABASE: &str = "bench";
/// The repository.
const REPOSITORY: &str = "bench_repo";

/// Everything a part of the measurement needs.
pub(super) struct Stage<'a> {
    pub(super) args: &'a BackupBenchArgs,
    pub(super) home: &'a Home,
    pub(super) state: &'a State,
    pub(super) session: Session,
    pub(super) loader: Loader,
    /// The location, for cleaning up after other tools.
    pub(super) root: Arc<dyn Store>,
    /// The folder of this run below the location.
    pub(super) run: String,
    pub(super) peers: Vec<Peer>,
    pub(super) report: Report,
}

impl Stage<'_> {
    /// The directories with the tablets of all backends.
    pub(super) fn data(&self) -> Vec<PathBuf> {
        self.state.of_role(Role::Backend).map(|node| self.home.data(&node.name).join("data")).collect()
    }

    /// A directory for files of this run; it goes with the cluster.
    pub(super) fn dir(&self, name: &str) -> PathBuf {
        self.home.repos().join("files").join(name)
    }

    /// Database and repository.
    pub(super) async fn prepare(&mut self) -> Result<()> {
        let args = self.args;
        let location = format!("{}/{}/repository", args.location.trim_end_matches('/'), self.run);
        let way = match (args.direct, args.location.split("://").next()) {
            (false, _) => format!("BROKER {}", self.state.broker_name),
            (true, Some("s3")) => "S3".to_owned(),
            (true, Some("hdfs")) => "HDFS".to_owned(),
            (true, _) => "LOCAL".to_owned(),
        };
        let pairs: Vec<String> = args
            .properties
            .iter()
            .map(|(key, value)| format!("\"{}\" = \"{}\"", tour::quoted(key), tour::quoted(value)))
            .collect();
        let tail = if pairs.is_empty() { String::new() } else { format!(" PROPERTIES ({})", pairs.join(", ")) };
        self.session.query(&format!("CREATE DATABASE {DATABASE}")).await?;
        let create = format!("CREATE REPOSITORY {REPOSITORY} WITH {way} ON LOCATION \"{location}\"{tail}");
        self.session.query(&create).await.map(|_| ())
    }

    /// Back a table up under this label; from the statement to the end of the job.
    pub(super) async fn backup(&mut self, label: &str, table: &str, blobs: u64) -> Result<Duration> {
        let statement = format!("BACKUP SNAPSHOT {DATABASE}.{label} TO {REPOSITORY} ON ({table})");
        let show = format!("SHOW BACKUP FROM {DATABASE} WHERE SnapshotName = \"{label}\"");
        let took = self.job(&statement, &show, &["FINISHED"]).await?;
        self.peaks(&format!("BACKUP {label}"), blobs);
        Ok(took)
    }

    /// The time until every file is linked; the job is cancelled then.
    pub(super) async fn snapshot(&mut self, label: &str, table: &str) -> Result<Duration> {
        let statement = format!("BACKUP SNAPSHOT {DATABASE}.{label} TO {REPOSITORY} ON ({table})");
        let show = format!("SHOW BACKUP FROM {DATABASE} WHERE SnapshotName = \"{label}\"");
        let linked = ["UPLOAD_SNAPSHOT", "UPLOADING", "SAVE_META", "UPLOAD_INFO", "FINISHED"];
        let took = self.job(&statement, &show, &linked).await?;
        // It may have ended by itself.
        let _ = self.session.query(&format!("CANCEL BACKUP FROM {DATABASE}")).await;
        Ok(took)
    }

    /// Restore a table under another name.
    pub(super) async fn restore(&mut self, label: &str, (table, alias): (&str, &str), blobs: u64) -> Result<Duration> {
        let show = format!("SHOW SNAPSHOT ON {REPOSITORY} WHERE SNAPSHOT = \"{label}\"");
        let rows = self.session.query(&show).await?;
        let timestamp = rows.first().map(|row| row.get("Timestamp").to_owned()).unwrap_or_default();
        let statement = format!(
            "RESTORE SNAPSHOT {DATABASE}.{label} FROM {REPOSITORY} ON ({table} AS {alias}) \
             PROPERTIES (\"backup_timestamp\" = \"{timestamp}\", \"replication_num\" = \"1\")"
        );
        let show = format!("SHOW RESTORE FROM {DATABASE} WHERE LABEL = \"{label}\"");
        let took = self.job(&statement, &show, &["FINISHED"]).await?;
        self.peaks(&format!("RESTORE {label}"), blobs);
        Ok(took)
    }

    /// Whether two tables hold the same in these columns.
    pub(super) async fn compare(&mut self, table: &str, other: &str, columns: &[&str]) -> Result<()> {
        let sums: Vec<String> = columns.iter().map(|name| format!("checksum({name})")).collect();
        let select = |table: &str| format!("SELECT count(*), {} FROM {DATABASE}.{table}", sums.join(", "));
        let one = self.session.query(&select(table)).await?;
        let two = self.session.query(&select(other)).await?;
        let cells = |rows: &[crate::sql::Row]| rows.iter().map(|row| row.cells().to_vec()).collect::<Vec<_>>();
        if cells(&one) == cells(&two) {
            return Ok(());
        }
        Err(Error::corrupt(format!("{other} is not {table}: {two:?} and {one:?}")))
    }

    /// Drop a table; what follows does not meet its removal.
    pub(super) async fn drop_table(&mut self, table: &str) -> Result<()> {
        self.session.query(&format!("DROP TABLE {DATABASE}.{table}")).await.map(|_| ())
    }

    /// Remove a backup from the repository.
    pub(super) async fn drop_snapshot(&mut self, label: &str) -> Result<()> {
        self.session.query(&format!("DROP SNAPSHOT {label} ON {REPOSITORY}")).await.map(|_| ())
    }

    async fn job(&mut self, statement: &str, show: &str, ends: &[&str]) -> Result<Duration> {
        settle().await?;
        forget_peaks(self.state)?;
        let limit = Duration::from_secs(self.args.limit);
        let begun = Instant::now();
        tour::say_and_run(&mut self.session, statement).await?;
        loop {
            let row = self.session.query_now(show).await?.pop();
            let row = row.ok_or_else(|| Error::not_found(format!("{show}: no job")))?;
            let state = row.get("State");
            if ends.contains(&state) {
                return Ok(begun.elapsed());
            }
            if state == "CANCELLED" {
                return Err(Error::cancelled(format!("{statement}: {}", row.get("Status"))));
            }
            if begun.elapsed() > limit {
                let text = format!("{statement}: {state} after {} s: {}", limit.as_secs(), row.get("TaskErrMsg"));
                return Err(Error::timeout(text));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn peaks(&mut self, during: &str, blobs: u64) {
        for node in &self.state.processes {
            let peak = node.process.map_or(0, |process| process.memory("VmHWM"));
            self.report.memory(&node.name, during, peak, blobs);
        }
    }

    /// Carry a tree to the storage with another tool.
    pub(super) async fn peer_up(&self, peer: &Peer, tree: &Tree, folder: &str, streams: usize) -> Result<Duration> {
        let folder = self.folder(folder);
        // Not every tool makes the folders above its own.
        self.root.put(&format!("{}/peers/begun", self.run), from_bytes("x"), PutOptions::default()).await?;
        peer.prepare(&folder).await?;
        self.call(peer, Way::Up, &tree.dir, (&folder, streams)).await
    }

    /// Carry it back, look at it and remove it here and there.
    pub(super) async fn peer_down(&self, peer: &Peer, tree: &Tree, folder: &str, streams: usize) -> Result<Duration> {
        let folder = self.folder(folder);
        let target = self.dir("down");
        std::fs::create_dir_all(&target).context(|| format!("create {}", target.display()))?;
        let took = self.call(peer, Way::Down, &target, (&folder, streams)).await?;
        if !tree.is_in(&target)? {
            return Err(Error::corrupt(format!("{}: what came back is not what went up", peer.name)));
        }
        fsx::remove(&target)?;
        self.root.delete(&folder, true).await?;
        Ok(took)
    }

    fn folder(&self, folder: &str) -> String {
        format!("{}/peers/{folder}", self.run)
    }

    async fn call(
        &self,
        peer: &Peer,
        way: Way,
        local: &std::path::Path,
        (folder, streams): (&str, usize),
    ) -> Result<Duration> {
        settle().await?;
        let said = if way == Way::Up { "up" } else { "down" };
        progress::chapter(&format!("{}, {said}", peer.name));
        let limit = Duration::from_secs(self.args.limit);
        let begun = Instant::now();
        let called = tokio::time::timeout(limit, peer.call(way, local, folder, streams)).await;
        called.map_err(|_| Error::timeout(format!("{}: not within {} s", peer.name, limit.as_secs())))??;
        Ok(begun.elapsed())
    }
}

/// What was written before is on disk before the next one begins.
pub(super) async fn settle() -> Result<()> {
    run("sync", &[]).await
}

/// Run a program of the system.
pub(super) async fn run(program: &str, arguments: &[&std::path::Path]) -> Result<()> {
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).status().await;
    let status = status.context(|| format!("run {program}"))?;
    if status.success() { Ok(()) } else { Err(Error::unavailable(format!("{program} ended with {status}"))) }
}
