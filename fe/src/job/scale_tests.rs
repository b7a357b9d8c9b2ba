//! What a job of very many tablets costs its frontend: bytes in the log, memory, and time of its own work, with backends
//! that answer every task at once. One event at a time, as the worst case of a driver.
//!
//! `cargo test --workspace --lib -- --ignored --nocapture 300_000` measures the largest job there may be.

use super::action::{Action, Event, Fact, Key, Task};
use super::facts::{Facts, Health};
use super::memory::Memory;
use super::progress::ProgressBoard;
use super::{backup, restore, runner, snapshot};
use crate::catalog::cluster::Access;
use crate::catalog::job::{BackupState, ManifestPart, RestoreOptions, RestoreTarget};
use crate::exec::placement::Places;
use crate::meta::apply::apply;
use crate::meta::command::{Command, Counts, NewBackup, NewPartition, NewRepository, NewRestore, NewTable, Outcome};
use crate::meta::state::State;
use coffer_proto::ids::{BackendId, DbId, JobId, RepositoryId, TabletId};
use coffer_table::{Column, ColumnType, Schema};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

const BACKENDS: u64 = 100;
const REPLICAS: u32 = 3;
/// What one tablet may cost in the log.
const LOG_BYTES_PER_TABLET: f64 = 64.0;

/// What a job cost.
#[derive(Debug)]
struct Cost {
    log_bytes: usize,
    largest_entry: usize,
    entries: usize,
    plans: usize,
    took: Duration,
    grown_mib: f64,
}

struct Scale {
    state: State,
    db: DbId,
    repository: RepositoryId,
    cost: Cost,
}

fn made(outcome: Outcome) -> u64 {
    match outcome.into_result().unwrap() {
        Outcome::Created(id) => id,
        other => panic!("{other:?}"),
    }
}

fn memory_mib(field: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

impl Scale {
    /// Tables of 10 partitions, all tablets with rows.
    fn new(tablets: usize) -> Scale {
        let mut state = State::default();
        let addresses = (0..BACKENDS).map(|n| (format!("be{n}"), 9050)).collect();
        apply(&mut state, &Command::Bootstrap { cluster_id: "c".to_owned() }).into_result().unwrap();
        apply(&mut state, &Command::AddBackends { addresses, now_ms: 1 }).into_result().unwrap();
        let db = DbId(made(apply(&mut state, &Command::CreateDatabase { name: "d".to_owned() })));
        let mut places = Places::new(state.backends.keys().map(|backend| (*backend, 0)));
        let tables = tablets.div_ceil(10_000).max(3);
        let buckets = u32::try_from(tablets / tables / 10).unwrap();
        for number in 0..tables {
            let column = Column {
                name: "k".to_owned(),
                kind: ColumnType::Int,
                nullable: false,
                default: None,
                key: true,
                comment: String::new(),
                aggregate: None,
            };
            let mut partition = |n: u32| NewPartition {
                name: format!("p{n}"),
                range: None,
                replication_num: REPLICAS,
                placement: places.place(buckets, REPLICAS).unwrap(),
            };
            let new = NewTable {
                db,
                name: format!("t{number}"),
                schema: Schema { columns: vec![column], model: coffer_table::Model::Duplicate },
                partition_columns: Vec::new(),
                partitioning: Default::default(),
                bucket_columns: Vec::new(),
                properties: BTreeMap::new(),
                comment: String::new(),
                partitions: (0..10).map(&mut partition).collect(),
                now_ms: 1,
            };
            made(apply(&mut state, &Command::CreateTable(new)));
        }
        for table in state.databases.get_mut(&db).unwrap().tables.values_mut() {
            for partition in table.partitions.values_mut() {
                (partition.visible_version, partition.committed_version) = (9, 9);
            }
        }
        let repository = NewRepository {
            name: "r".to_owned(),
            remote_name: "r".to_owned(),
            read_only: false,
            access: Access::Local,
            location: "file:///r".to_owned(),
            properties: BTreeMap::new(),
            now_ms: 1,
            limits: None,
        };
        let repository = RepositoryId(made(apply(&mut state, &Command::CreateRepository(repository))));
        let cost = Cost { log_bytes: 0, largest_entry: 0, entries: 0, plans: 0, took: Duration::ZERO, grown_mib: 0.0 };
        Scale { state, db, repository, cost }
    }

    /// As the log does: written, read, applied.
    fn propose(&mut self, command: &Command) -> Outcome {
        let bytes = serde_json::to_vec(command).unwrap();
        self.cost.log_bytes += bytes.len();
        self.cost.largest_entry = self.cost.largest_entry.max(bytes.len());
        self.cost.entries += 1;
        let read: Command = serde_json::from_slice(&bytes).unwrap();
        assert!(read == *command);
        apply(&mut self.state, &read)
    }

    fn backup(&mut self) -> JobId {
        let new = NewBackup {
            db: self.db,
            label: "s".to_owned(),
            repository: self.repository,
            objects: Vec::new(),
            timestamp: "2022-04-08-15-52-29".to_owned(),
            timeout_s: 86_400,
            pack_prefix: "0123456789abcdef".to_owned(),
            now_ms: 1,
            metadata_only: false,
            warnings: Vec::new(),
        };
        JobId(made(self.propose(&Command::CreateBackup(new))))
    }

    /// All tables under other names, as RESTORE plans them.
    fn restore(&mut self) -> JobId {
        let mut places = Places::new(self.state.backends.keys().map(|backend| (*backend, 0)));
        let target = |table: &crate::catalog::table::Table| {
            let mut table = table.clone();
            let mut sources = Vec::new();
            table.name = format!("{}_new", table.name);
            for partition in table.partitions.values_mut() {
                let buckets = u32::try_from(partition.tablets.len()).unwrap();
                let placed = places.place(buckets, REPLICAS).unwrap();
                for (tablet, replicas) in partition.tablets.iter_mut().zip(placed) {
                    let at = TabletId(sources.len() as u64);
                    sources.push((at, tablet.id));
                    (tablet.id, tablet.replicas) = (at, replicas);
                }
            }
            RestoreTarget { table, into: None, sources, replaces: None }
        };
        let new = NewRestore {
            db: self.db,
            label: "s".to_owned(),
            timestamp: "2022-04-08-15-52-29".to_owned(),
            repository: self.repository,
            objects: String::new(),
            properties: BTreeMap::new(),
            timeout_s: 86_400,
            targets: self.state.databases[&self.db].tables.values().map(target).collect(),
            views: Vec::new(),
            manifests: (0..600).map(|n| format!("__manifest_2022-04-08-15-52-29.{n}.{}", "0".repeat(64))).collect(),
            bytes: 1,
            files: 1,
            now_ms: 1,
            options: RestoreOptions::default(),
            warnings: Vec::new(),
        };
        JobId(made(self.propose(&Command::CreateRestore(new))))
    }

    fn over(&self, job: JobId) -> bool {
        self.state.backups.get(&job).map_or_else(|| self.state.restores[&job].cleaned, |job| job.cleaned)
    }

    fn plan(&self, job: JobId, memory: &Memory, facts: &Facts) -> Vec<Action> {
        match self.state.backups.get(&job) {
            Some(job) => backup::plan(job, memory, facts),
            None => restore::plan(&self.state.restores[&job], memory, facts),
        }
    }

    /// What the frontend itself does for a task, and what a backend answers.
    fn perform(&self, job: JobId, task: &Task) -> Fact {
        match task.key {
            Key::Snapshot(_) => Fact::Made { failures: Vec::new(), counts: Counts { bytes: 1, files: 1, rows: 1 } },
            Key::Upload(part) => Fact::Uploaded(ManifestPart {
                name: format!("__manifest_2022-04-08-15-52-29.{part}.{}", "0".repeat(64)),
                bytes: 100_000,
                tablets: task.tablets.len() as u64,
                data_bytes: 1 << 30,
                files: 1_500,
            }),
            Key::Meta => {
                let meta = snapshot::meta(&self.state.backups[&job]);
                assert!(!serde_json::to_vec(&meta).unwrap().is_empty());
                Fact::Meta(format!("__meta_2022-04-08-15-52-29.{}", "0".repeat(64)))
            }
            Key::Info => {
                let job = &self.state.backups[&job];
                let BackupState::UploadInfo { manifests, meta } = &job.state else { panic!("{:?}", job.state.name()) };
                let meta = coffer_repo::MetaRef { name: meta.clone(), bytes: 1 };
                let info = snapshot::info(job, manifests, meta, "c".to_owned());
                assert!(!serde_json::to_vec(&info).unwrap().is_empty());
                Fact::Done
            }
            Key::Download(_) => {
                let found = runner::restore_tablets(&self.state.restores[&job], &task.tablets).unwrap();
                assert_eq!(found.len(), task.tablets.len());
                Fact::Downloaded(1)
            }
            Key::Prepare(_) | Key::Activate(_) | Key::Release(_) | Key::Leftovers => Fact::Done,
        }
    }

    /// From the statement to the last trace of the job.
    fn run(mut self, submit: impl FnOnce(&mut Scale) -> JobId) -> Scale {
        let before = memory_mib("VmRSS:");
        let began = Instant::now();
        let job = submit(&mut self);
        let board = ProgressBoard::default();
        let facts = Facts {
            now_ms: 2,
            backends: self
                .state
                .backends
                .keys()
                .map(|backend| (*backend, Health::Up))
                .collect::<BTreeMap<BackendId, _>>(),
            ..Facts::default()
        };
        let (mut memory, mut running) = (Memory::default(), VecDeque::new());
        while !self.over(job) {
            self.cost.plans += 1;
            let actions = self.plan(job, &memory, &facts);
            board.publish(job, &memory, None);
            let mut proposed = false;
            for action in actions {
                match action {
                    Action::Propose(command) => {
                        proposed = true;
                        self.propose(&command).into_result().unwrap();
                    }
                    Action::Start(task) => {
                        memory.started(&task);
                        running.push_back(task);
                    }
                    Action::Stop(key) => memory.stopped(key),
                    Action::WakeAt(_) => {}
                }
            }
            if proposed {
                continue;
            }
            let task = running.pop_front().expect("a plan that proposes nothing waits for a task");
            let outcome = Ok(self.perform(job, &task));
            memory.observe(Event { key: task.key, now_ms: 2, outcome });
        }
        self.cost.took = began.elapsed();
        self.cost.grown_mib = (memory_mib("VmHWM:") - before).max(0.0);
        self
    }
}

#[test]
fn a_tablet_costs_few_bytes_in_the_log() {
    const TABLETS: usize = 6_000;
    for submit in [Scale::backup, Scale::restore] {
        let cost = Scale::new(TABLETS).run(submit).cost;
        assert!(cost.log_bytes as f64 / (TABLETS as f64) < LOG_BYTES_PER_TABLET, "{cost:?}");
    }
}

#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stderr, reason = "what was measured")]
fn a_job_of_300_000_tablets() {
    const TABLETS: usize = 300_000;
    for (name, submit) in [("BACKUP", Scale::backup as fn(&mut Scale) -> JobId), ("RESTORE", Scale::restore)] {
        // A frontend has its catalog before the job; what its pages were used for before counts for neither.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let cost = Scale::new(TABLETS).run(submit).cost;
        let per_tablet = cost.log_bytes as f64 / TABLETS as f64;
        eprintln!(
            "{name} of {TABLETS} tablets, {REPLICAS} replicas, {BACKENDS} backends: {cost:?}, {per_tablet:.1} bytes of log per tablet"
        );
        assert!(per_tablet < LOG_BYTES_PER_TABLET && cost.grown_mib < 300.0 && cost.took < Duration::from_secs(60));
    }
}
