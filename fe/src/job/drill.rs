//! A world on one thread for the plans: the real `apply`, backends that do what they are told, and faults on demand.
//!
//! Two drills belong to every kind of job: repeat every action, and fail every action once. A third changes the leader
//! after every event. In all of them the job must end as it would have without.

use super::action::{Action, Event, Fact, Key, Task};
use super::facts::{Facts, Health};
use super::memory::Memory;
use super::{backup, restore};
use crate::catalog::cluster::Access;
use crate::catalog::job::{ManifestPart, RestoreOptions, RestoreTarget};
use crate::catalog::table::Table;
use crate::meta::apply::apply;
use crate::meta::command::{Command, Counts, NewBackup, NewPartition, NewRepository, NewRestore, NewTable, Outcome};
use crate::meta::state::State;
use coffer_proto::ids::{BackendId, DbId, JobId, RepositoryId, TabletId};
use coffer_stdx::Error;
use coffer_table::{Column, ColumnType, Schema};
use std::collections::{BTreeMap, BTreeSet};

/// A plan that does not end is a defect.
const MAX_STEPS: usize = 2_000;

/// What goes wrong.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    /// Every event comes twice, every proposal is made twice.
    pub(super) repeat: bool,
    /// The so-manieth task fails once like this.
    pub(super) fail: Option<(usize, Error)>,
    /// The leader changes after so many events.
    pub(super) new_leader: Option<usize>,
}

/// State, memory, backends.
pub(super) struct World {
    pub(super) state: State,
    pub(super) job: JobId,
    pub(super) memory: Memory,
    pub(super) health: BTreeMap<BackendId, Health>,
    pub(super) now_ms: u64,
    pub(super) faults: Faults,
    /// Tasks begun so far.
    pub(super) begun: Vec<Task>,
    /// States seen, in order.
    pub(super) seen: Vec<&'static str>,
    /// Tablets that a backend has no good replica of.
    pub(super) broken: BTreeSet<(TabletId, BackendId)>,
    events: usize,
}

fn made(outcome: Outcome) -> u64 {
    match outcome.into_result().unwrap() {
        Outcome::Created(id) => id,
        other => panic!("{other:?}"),
    }
}

/// Three backends, one table with two partitions of two buckets, the second partition empty; two replicas.
fn state() -> (State, DbId, RepositoryId) {
    let mut state = State::default();
    let run = |state: &mut State, command: Command| apply(state, &command).into_result().unwrap();
    run(&mut state, Command::Bootstrap { cluster_id: "c".to_owned() });
    let addresses = (1..=3).map(|n| (format!("be{n}"), 9050)).collect();
    run(&mut state, Command::AddBackends { addresses, now_ms: 1 });
    let backends: Vec<BackendId> = state.backends.keys().copied().collect();
    let db = DbId(made(apply(&mut state, &Command::CreateDatabase { name: "d".to_owned() })));
    let column = Column {
        name: "k".to_owned(),
        kind: ColumnType::Int,
        nullable: false,
        default: None,
        key: true,
        comment: String::new(),
        aggregate: None,
    };
    let partition = |name: &str| NewPartition {
        name: name.to_owned(),
        range: None,
        replication_num: 2,
        placement: vec![vec![backends[0], backends[1]], vec![backends[1], backends[2]]],
    };
    let new = NewTable {
        db,
        name: "t".to_owned(),
        schema: Schema { columns: vec![column], model: coffer_table::Model::Duplicate },
        partition_columns: Vec::new(),
        partitioning: Default::default(),
        bucket_columns: Vec::new(),
        properties: BTreeMap::new(),
        comment: String::new(),
        partitions: vec![partition("p1"), partition("p2")],
        now_ms: 1,
    };
    run(&mut state, Command::CreateTable(new));
    let table = state.databases.get_mut(&db).unwrap().tables.values_mut().next().unwrap();
    let loaded = table.partitions.values_mut().next().unwrap();
    (loaded.visible_version, loaded.committed_version) = (5, 5);
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
    (state, db, repository)
}

impl World {
    pub(super) fn backup() -> World {
        let (mut state, db, repository) = state();
        let new = NewBackup {
            db,
            label: "s".to_owned(),
            repository,
            objects: Vec::new(),
            timestamp: "2022-04-08-15-52-29".to_owned(),
            timeout_s: 86_400,
            pack_prefix: "0123456789abcdef".to_owned(),
            now_ms: 1,
            metadata_only: false,
            warnings: Vec::new(),
        };
        let job = JobId(made(apply(&mut state, &Command::CreateBackup(new))));
        World::new(state, job)
    }

    /// Restores the table as `u`, or over itself.
    pub(super) fn restore(over: bool) -> World {
        let (mut state, db, repository) = state();
        let old: Table = state.databases[&db].tables.values().next().unwrap().clone();
        let mut table = old.clone();
        let sources = (0..).map(TabletId).zip(old.tablets().map(|(_, tablet)| tablet.id)).collect();
        if !over {
            table.name = "u".to_owned();
        }
        let into = over.then_some(old.id);
        let new = NewRestore {
            db,
            label: "s".to_owned(),
            timestamp: "2022-04-08-15-52-29".to_owned(),
            repository,
            objects: String::new(),
            properties: BTreeMap::new(),
            timeout_s: 86_400,
            targets: vec![RestoreTarget { table, into, sources, replaces: None }],
            views: Vec::new(),
            manifests: Vec::new(),
            bytes: 0,
            files: 0,
            now_ms: 1,
            options: RestoreOptions::default(),
            warnings: Vec::new(),
        };
        let job = JobId(made(apply(&mut state, &Command::CreateRestore(new))));
        World::new(state, job)
    }

    fn new(state: State, job: JobId) -> World {
        World {
            health: state.backends.keys().map(|backend| (*backend, Health::Up)).collect(),
            state,
            job,
            memory: Memory::default(),
            now_ms: 2,
            faults: Faults::default(),
            begun: Vec::new(),
            seen: Vec::new(),
            broken: BTreeSet::new(),
            events: 0,
        }
    }

    pub(super) fn with(mut self, faults: Faults) -> World {
        self.faults = faults;
        self
    }

    fn facts(&self) -> Facts {
        let leaving = self.state.backends.values().filter(|backend| backend.decommissioned);
        let leaving = leaving.map(|backend| backend.id).collect();
        Facts { now_ms: self.now_ms, backends: self.health.clone(), leaving }
    }

    pub(super) fn plan(&self) -> Vec<Action> {
        match self.state.backups.get(&self.job) {
            Some(job) => backup::plan(job, &self.memory, &self.facts()),
            None => restore::plan(&self.state.restores[&self.job], &self.memory, &self.facts()),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self.state.backups.get(&self.job) {
            Some(job) => job.state.name(),
            None => self.state.restores[&self.job].state.name(),
        }
    }

    pub(super) fn cleaned(&self) -> bool {
        self.state.backups.get(&self.job).map_or_else(|| self.state.restores[&self.job].cleaned, |job| job.cleaned)
    }

    /// Why the job was cancelled.
    pub(super) fn cause(&self) -> Option<String> {
        let error = match self.state.backups.get(&self.job) {
            Some(job) => &job.error,
            None => &self.state.restores[&self.job].error,
        };
        error.as_ref().map(|error| error.message.clone())
    }

    /// Until the job is cleaned up, or `until` says so.
    pub(super) fn run_until(&mut self, until: impl Fn(&World) -> bool) {
        for _ in 0..MAX_STEPS {
            if self.seen.last() != Some(&self.name()) {
                self.seen.push(self.name());
            }
            if self.cleaned() || until(self) {
                return;
            }
            self.step();
        }
        panic!("the job does not end: {:?} {:?} {:?}", self.seen, self.plan(), self.memory);
    }

    pub(super) fn run(&mut self) {
        self.run_until(|_| false);
    }

    fn step(&mut self) {
        let mut events = Vec::new();
        let mut wake = None;
        let actions = self.plan();
        let proposes = actions.iter().any(|action| matches!(action, Action::Propose(_)));
        for action in actions {
            match action {
                Action::Propose(command) => self.propose(&command),
                Action::Start(task) => {
                    assert!(!proposes, "a plan that proposes asks for nothing else");
                    self.memory.started(&task);
                    events.push(self.perform(&task));
                    self.begun.push(task);
                }
                Action::Stop(key) => self.memory.stopped(key),
                Action::WakeAt(at) => wake = Some(wake.map_or(at, |other: u64| other.min(at))),
            }
        }
        if events.is_empty() && !proposes {
            self.now_ms = wake.expect("a plan that asks for nothing says when to look again").max(self.now_ms + 1);
        }
        for event in events {
            self.memory.observe(event.clone());
            if self.faults.repeat {
                self.memory.observe(event);
            }
            self.events += 1;
            if self.faults.new_leader == Some(self.events) {
                self.memory = Memory::default();
            }
        }
    }

    fn propose(&mut self, command: &Command) {
        apply(&mut self.state, command).into_result().unwrap();
        if self.faults.repeat {
            let before = self.state.clone();
            // Either refused or without effect.
            let _ = apply(&mut self.state, command);
            assert_eq!(self.state, before, "{command:?} twice");
        }
    }

    fn perform(&mut self, task: &Task) -> Event {
        let event = |outcome| Event { key: task.key, now_ms: self.now_ms, outcome };
        if let Some((at, error)) = self.faults.fail.clone()
            && at == self.begun.len()
        {
            self.faults.fail = None;
            return event(Err(error));
        }
        let tablets = task.tablets.iter().map(|(tablet, _)| *tablet);
        event(Ok(match task.key {
            Key::Snapshot(backend) => Fact::Made {
                failures: tablets
                    .filter(|tablet| self.broken.contains(&(*tablet, backend)))
                    .map(|tablet| (tablet, Error::not_found(format!("tablet {tablet} is not here"))))
                    .collect(),
                counts: Counts { bytes: 10, files: 1, rows: 1 },
            },
            Key::Upload(part) => Fact::Uploaded(ManifestPart {
                name: format!("manifest-{part}"),
                bytes: 1,
                tablets: task.tablets.len() as u64,
                data_bytes: 10,
                files: 1,
            }),
            Key::Meta => Fact::Meta("meta".to_owned()),
            Key::Download(_) => Fact::Downloaded(10),
            Key::Info | Key::Prepare(_) | Key::Activate(_) | Key::Release(_) | Key::Leftovers => Fact::Done,
        }))
    }
}
