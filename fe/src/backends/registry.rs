//! What backends said about themselves, in memory of the leader.
//!
//! A backend counts as alive while its control stream is up; the stream is given up when nothing is heard for
//! `heartbeat_timeout_ms`. A full tablet report replaces the previous one as a whole when its last part arrives. Between
//! reports, results of tasks say how the tablets are that they changed; what they say is not undone by the one report that
//! may have been gathered before.

use crate::catalog::table::Tablet;
use coffer_proto::ids::{BackendId, JobId, TabletId};
use coffer_proto::v1;
use coffer_stdx::time::now_ms;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// Whether a backend is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Its stream is up.
    Up,
    /// It is part of the cluster but does not answer.
    Down {
        /// For how long.
        since: Duration,
    },
    /// Not part of the cluster, or this frontend does not lead.
    Unknown,
}

/// What SHOW BACKENDS prints.
#[derive(Debug, Clone, Default)]
pub struct BackendStatus {
    /// "host:port".
    pub address: String,
    /// Whether its stream is up.
    pub alive: bool,
    /// When its process started, milliseconds since the epoch; 0 when it never registered.
    pub start_ms: u64,
    /// When it was last heard of, likewise.
    pub heartbeat_ms: u64,
    /// When its last full tablet report was complete, likewise.
    pub report_ms: u64,
    /// Its version.
    pub version: String,
    /// Its HTTP port.
    pub http_port: u32,
    /// Cores.
    pub cpu_cores: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Tablets it holds.
    pub tablet_count: u64,
    /// Its data directories.
    pub disks: Vec<v1::Disk>,
    /// Tasks it is busy with.
    pub running_tasks: u32,
    /// Why it is not alive; empty when it is.
    pub error: String,
    /// Tries to reach it that failed since it was last alive.
    pub failures: u32,
}

/// Sums over tablets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TabletSums {
    /// Rows, each tablet counted once.
    pub rows: u64,
    /// Bytes, each tablet counted once.
    pub bytes: u64,
    /// Bytes of all replicas.
    pub replica_bytes: u64,
}

/// What is known of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replica {
    /// Its backend is away, or has not reported since it came.
    Unknown,
    /// Not there.
    Missing,
    /// There, and damaged.
    Bad,
    /// At this version.
    At(u64),
}

#[derive(Debug, Default)]
struct Known {
    status: BackendStatus,
    down_since: Option<Instant>,
    /// Whether a full report is in since its stream is up.
    reported: bool,
    tablets: HashMap<TabletId, v1::TabletStat>,
    arriving: HashMap<TabletId, v1::TabletStat>,
    /// What results of tasks said since the last full report: the one on its way may be older.
    advanced: HashMap<TabletId, v1::TabletStat>,
}

/// All backends this frontend knows of.
#[derive(Debug)]
pub struct Registry {
    known: Mutex<BTreeMap<BackendId, Known>>,
    changes: watch::Sender<u64>,
    reported: Mutex<Reported>,
    report_arrived: Notify,
}

/// What the reconciler has not looked at yet.
#[derive(Debug, Default)]
struct Reported {
    tablets: BTreeSet<BackendId>,
    jobs: BTreeMap<BackendId, Vec<JobId>>,
}

impl Default for Registry {
    fn default() -> Registry {
        Registry {
            known: Mutex::default(),
            changes: watch::Sender::new(0),
            reported: Mutex::default(),
            report_arrived: Notify::new(),
        }
    }
}

impl Registry {
    fn known(&self) -> MutexGuard<'_, BTreeMap<BackendId, Known>> {
        // Nothing panics while it holds the lock with an entry half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reported(&self) -> MutexGuard<'_, Reported> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, backend: BackendId, change: impl FnOnce(&mut Known)) {
        if let Some(known) = self.known().get_mut(&backend) {
            change(known);
        }
    }

    /// Say that something changed for everybody who waits on [`Registry::changes`].
    pub fn touch(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// A number that changes when a backend comes or goes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Backends whose stream is up.
    pub fn alive(&self) -> u64 {
        self.known().values().filter(|known| known.status.alive).count() as u64
    }

    /// A backend of the catalog: down until it registers.
    pub fn add(&self, backend: BackendId, address: &str) {
        let status = BackendStatus {
            address: address.to_owned(),
            error: "not reached yet".to_owned(),
            ..BackendStatus::default()
        };
        let known = Known { status, down_since: Some(Instant::now()), ..Known::default() };
        self.known().insert(backend, known);
        self.touch();
    }

    /// A backend that left the catalog.
    pub fn remove(&self, backend: BackendId) {
        self.known().remove(&backend);
        self.touch();
    }

    /// Forget all: this frontend does not lead any more.
    pub fn clear(&self) {
        self.known().clear();
        self.touch();
    }

    /// Its stream is up.
    pub fn up(&self, backend: BackendId, said: &v1::Registered) {
        self.update(backend, |known| {
            known.down_since = None;
            known.reported = false;
            let status = &mut known.status;
            status.alive = true;
            status.start_ms = said.start_time_ms;
            status.heartbeat_ms = now_ms();
            status.version.clone_from(&said.version);
            status.http_port = said.http_port;
            status.cpu_cores = said.cpu_cores;
            status.memory_bytes = said.memory_bytes;
            status.error.clear();
            status.failures = 0;
        });
        self.touch();
    }

    /// Its stream broke, or did not come up.
    pub fn down(&self, backend: BackendId, error: &str) {
        let mut went = false;
        self.update(backend, |known| {
            // Also when it was never there: whoever waits for it learns that it does not come.
            went = known.status.alive || known.status.failures == 0;
            known.down_since.get_or_insert_with(Instant::now);
            known.arriving.clear();
            known.advanced.clear();
            known.status.alive = false;
            known.status.running_tasks = 0;
            known.status.error = error.to_owned();
            known.status.failures = known.status.failures.saturating_add(1);
        });
        if went {
            self.touch();
        }
    }

    /// A heartbeat.
    pub fn heartbeat(&self, backend: BackendId, said: v1::BackendHeartbeat) {
        self.update(backend, |known| {
            known.status.heartbeat_ms = now_ms();
            known.status.tablet_count = said.tablet_count;
            known.status.disks = said.disks;
            known.status.running_tasks = said.running_tasks;
        });
    }

    /// A part of a tablet report.
    pub fn report(&self, backend: BackendId, said: v1::TabletReport) {
        self.update(backend, |known| {
            if said.first {
                known.arriving.clear();
            }
            known.arriving.extend(said.tablets.into_iter().map(|stat| (TabletId(stat.tablet_id), stat)));
            if said.last {
                known.tablets = std::mem::take(&mut known.arriving);
                for (tablet, stat) in std::mem::take(&mut known.advanced) {
                    let told = known.tablets.get(&tablet);
                    if told.is_none_or(|told| !told.bad && told.version < stat.version) {
                        known.tablets.insert(tablet, stat);
                    }
                }
                known.reported = true;
                known.status.tablet_count = known.tablets.len() as u64;
                known.status.report_ms = now_ms();
            }
        });
        if said.last {
            self.reported().tablets.insert(backend);
            self.report_arrived.notify_one();
        }
    }

    /// A task changed tablets.
    pub fn advanced(&self, backend: BackendId, stats: Vec<v1::TabletStat>) {
        self.update(backend, |known| {
            for stat in stats {
                let tablet = TabletId(stat.tablet_id);
                known.tablets.insert(tablet, stat.clone());
                known.advanced.insert(tablet, stat);
            }
        });
    }

    /// Wait until a full report is in, or a backend named jobs.
    pub async fn report_arrived(&self) {
        self.report_arrived.notified().await;
    }

    /// The backends whose full reports came in since the last call.
    pub fn take_reported(&self) -> BTreeSet<BackendId> {
        std::mem::take(&mut self.reported().tablets)
    }

    /// The jobs that a backend holds something for.
    pub fn jobs_held(&self, backend: BackendId, jobs: &[u64]) {
        if !jobs.is_empty() {
            self.reported().jobs.insert(backend, jobs.iter().copied().map(JobId).collect());
            self.report_arrived.notify_one();
        }
    }

    /// What [`Registry::jobs_held`] was told since the last call.
    pub fn take_jobs_held(&self) -> BTreeMap<BackendId, Vec<JobId>> {
        std::mem::take(&mut self.reported().jobs)
    }

    /// Tablets that a backend no longer has.
    pub fn forget_tablets(&self, backend: BackendId, tablets: &[TabletId]) {
        self.update(backend, |known| {
            for tablet in tablets {
                known.tablets.remove(tablet);
                known.advanced.remove(tablet);
            }
        });
    }

    /// The tablets of a backend that is up.
    pub fn tablets(&self, backend: BackendId) -> Vec<TabletId> {
        match self.known().get(&backend) {
            Some(known) if known.status.alive => known.tablets.keys().copied().collect(),
            _ => Vec::new(),
        }
    }

    /// Whether one of these was neither reached yet nor found away.
    pub fn has_untried(&self, backends: &[BackendId]) -> bool {
        let known = self.known();
        let untried = |known: &Known| !known.status.alive && known.status.failures == 0;
        backends.iter().any(|backend| known.get(backend).is_none_or(untried))
    }

    /// All backends.
    pub fn ids(&self) -> Vec<BackendId> {
        self.known().keys().copied().collect()
    }

    /// What it last said.
    pub fn status(&self, backend: BackendId) -> Option<BackendStatus> {
        self.known().get(&backend).map(|known| known.status.clone())
    }

    /// Whether it is there.
    pub fn presence(&self, backend: BackendId) -> Presence {
        match self.known().get(&backend) {
            None => Presence::Unknown,
            Some(known) => match known.down_since {
                None => Presence::Up,
                Some(since) => Presence::Down { since: since.elapsed() },
            },
        }
    }

    /// What one backend reported about one tablet.
    pub fn tablet_stat(&self, tablet: TabletId, backend: BackendId) -> Option<v1::TabletStat> {
        self.known().get(&backend)?.tablets.get(&tablet).cloned()
    }

    /// Look at many replicas at one moment.
    pub fn look<T>(&self, with: impl FnOnce(&dyn Fn(TabletId, BackendId) -> Replica) -> T) -> T {
        let all = self.known();
        with(&|tablet, backend| match all.get(&backend) {
            Some(known) if known.down_since.is_none() && known.reported => match known.tablets.get(&tablet) {
                None => Replica::Missing,
                Some(stat) if stat.bad => Replica::Bad,
                Some(stat) => Replica::At(stat.version),
            },
            _ => Replica::Unknown,
        })
    }

    /// Sums over tablets; of each, the replica with the newest version counts.
    pub fn sums<'a>(&self, tablets: impl IntoIterator<Item = &'a Tablet>) -> TabletSums {
        let known = self.known();
        let mut sums = TabletSums::default();
        for tablet in tablets {
            let stats = || tablet.replicas.iter().filter_map(|backend| known.get(backend)?.tablets.get(&tablet.id));
            sums.replica_bytes += stats().map(|stat| stat.bytes).sum::<u64>();
            if let Some(newest) = stats().max_by_key(|stat| stat.version) {
                sums.rows += newest.rows;
                sums.bytes += newest.bytes;
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: BackendId = BackendId(1);

    fn stat(tablet_id: u64, version: u64, rows: u64) -> v1::TabletStat {
        v1::TabletStat { tablet_id, version, rows, bytes: rows * 10, ..Default::default() }
    }

    fn part(tablets: Vec<v1::TabletStat>, first: bool, last: bool) -> v1::TabletReport {
        v1::TabletReport { tablets, first, last }
    }

    #[test]
    fn presence_follows_the_stream() {
        let registry = Registry::default();
        assert_eq!(registry.presence(B), Presence::Unknown);
        registry.add(B, "h:1");
        assert!(matches!(registry.presence(B), Presence::Down { .. }));
        registry.up(B, &v1::Registered { http_port: 8040, ..Default::default() });
        assert_eq!(registry.presence(B), Presence::Up);
        registry.down(B, "stream broke");
        let status = registry.status(B).unwrap();
        assert_eq!((status.alive, status.failures, status.error.as_str()), (false, 1, "stream broke"));
        registry.remove(B);
        assert_eq!(registry.presence(B), Presence::Unknown);
    }

    #[test]
    fn a_report_counts_only_when_complete() {
        let registry = Registry::default();
        registry.add(B, "h:1");
        registry.up(B, &v1::Registered::default());
        registry.report(B, part(vec![stat(1, 2, 3)], true, false));
        assert!(registry.tablets(B).is_empty() && registry.take_reported().is_empty());
        registry.report(B, part(vec![stat(2, 2, 3)], false, true));
        assert_eq!(registry.tablets(B).len(), 2);
        assert_eq!(registry.take_reported(), BTreeSet::from([B]));
        registry.report(B, part(vec![stat(2, 3, 4)], true, true));
        assert_eq!(registry.tablets(B), [TabletId(2)]);
        registry.forget_tablets(B, &[TabletId(2)]);
        assert!(registry.tablets(B).is_empty());
    }

    #[test]
    fn a_replica_is_judged_by_a_report_of_its_living_backend() {
        let registry = Registry::default();
        let look = |tablet| registry.look(|replica| replica(TabletId(tablet), B));
        let bad = v1::TabletStat { bad: true, ..stat(2, 0, 0) };
        assert_eq!(look(1), Replica::Unknown);
        registry.add(B, "h:1");
        registry.up(B, &v1::Registered::default());
        assert_eq!(look(1), Replica::Unknown, "nothing reported");
        registry.report(B, part(vec![stat(1, 3, 3), bad], true, true));
        assert_eq!([1, 2, 3].map(look), [Replica::At(3), Replica::Bad, Replica::Missing]);
        registry.down(B, "gone");
        assert_eq!(look(1), Replica::Unknown);
        registry.up(B, &v1::Registered::default());
        assert_eq!(look(1), Replica::Unknown, "the report is of before");
    }

    #[test]
    fn what_a_task_changed_is_known_at_once_and_an_older_report_does_not_undo_it() {
        let registry = Registry::default();
        registry.add(B, "h:1");
        let version = || registry.tablet_stat(TabletId(1), B).map(|stat| stat.version);
        registry.advanced(B, vec![stat(1, 2, 3)]);
        assert_eq!(version(), Some(2));
        registry.report(B, part(vec![], true, true));
        assert_eq!(version(), Some(2), "gathered before the task ended");
        registry.report(B, part(vec![], true, true));
        assert_eq!(version(), None, "gathered after it");
        registry.advanced(B, vec![stat(1, 3, 3)]);
        registry.report(B, part(vec![v1::TabletStat { bad: true, ..stat(1, 0, 0) }], true, true));
        assert!(registry.tablet_stat(TabletId(1), B).is_some_and(|stat| stat.bad), "bad is bad");
        registry.advanced(B, vec![stat(1, 3, 3)]);
        registry.forget_tablets(B, &[TabletId(1)]);
        registry.report(B, part(vec![], true, true));
        assert_eq!(version(), None, "dropped meanwhile");
    }

    #[test]
    fn sums_count_the_newest_replica_once_and_all_bytes() {
        let registry = Registry::default();
        for (id, version, rows) in [(1, 2, 5), (2, 3, 7)] {
            registry.add(BackendId(id), "h:1");
            registry.report(BackendId(id), part(vec![stat(9, version, rows)], true, true));
        }
        let tablet = Tablet { id: TabletId(9), replicas: vec![BackendId(1), BackendId(2), BackendId(3)] };
        assert_eq!(registry.sums([&tablet]), TabletSums { rows: 7, bytes: 70, replica_bytes: 120 });
    }
}
