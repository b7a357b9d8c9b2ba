//! Random changes as frontends make them, from what they see; and the rules that every state keeps.

use crate::catalog::job::{BackupState, JobError};
use crate::meta::command::{Command, NewBackup, NewPartition, NewRepository, NewTable};
use crate::meta::state::State;
use coffer_proto::ids::{BackendId, DbId, JobId, RepositoryId, TableId};
use coffer_table::{Column, ColumnType, Schema};
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, BTreeSet};

/// A change; some are refused, names are few.
pub(super) fn any(state: &State, rng: &mut StdRng) -> Command {
    let now_ms = rng.random_range(0..1_000);
    let name = format!("n{}", rng.random_range(0..4));
    if state.cluster_id.is_empty() {
        return Command::Bootstrap { cluster_id: "c".to_owned() };
    }
    if state.backends.is_empty() {
        return Command::AddBackends { addresses: vec![("b".to_owned(), 1), ("b".to_owned(), 2)], now_ms };
    }
    let database = pick(state.databases.keys(), rng).unwrap_or(DbId(0));
    let tables = state.databases.get(&database).map(|database| &database.tables);
    let table = tables.and_then(|tables| pick(tables.keys(), rng)).unwrap_or(TableId(0));
    match rng.random_range(0..16) {
        0 | 1 => Command::CreateDatabase { name },
        2 => Command::DropDatabase { db: database },
        3..6 => Command::CreateTable(new_table(state, (database, name), now_ms)),
        6 => Command::DropTable { db: database, table },
        7 | 8 => Command::BeginTransaction { label: name, db: database, table, now_ms, deadline_ms: now_ms + 9 },
        9..12 => transaction(state, (database, table), now_ms, rng),
        12 => Command::CreateRepository(NewRepository {
            name: name.clone(),
            remote_name: name,
            read_only: false,
            access: crate::catalog::cluster::Access::Local,
            location: "file:///r".to_owned(),
            properties: BTreeMap::new(),
            limits: Default::default(),
            now_ms,
        }),
        13 => Command::Group(vec![Command::CreateDatabase { name }, Command::PurgeTransactions { before_ms: now_ms }]),
        _ => backup(state, database, now_ms, rng),
    }
}

fn pick<'a, T: Copy + 'a>(items: impl Iterator<Item = &'a T>, rng: &mut StdRng) -> Option<T> {
    let items: Vec<T> = items.copied().collect();
    (!items.is_empty()).then(|| items[rng.random_range(0..items.len())])
}

fn new_table(state: &State, (db, name): (DbId, String), now_ms: u64) -> NewTable {
    let column = Column {
        name: "k".to_owned(),
        kind: ColumnType::Int,
        nullable: false,
        default: None,
        key: true,
        comment: String::new(),
        aggregate: None,
    };
    let backends: Vec<BackendId> = state.backends.keys().copied().collect();
    let partition = NewPartition {
        name: name.clone(),
        range: None,
        replication_num: 2,
        placement: vec![backends.clone(), backends],
    };
    NewTable {
        db,
        name,
        schema: Schema { columns: vec![column], model: coffer_table::Model::Duplicate },
        partition_columns: Vec::new(),
        partitioning: Default::default(),
        bucket_columns: vec!["k".to_owned()],
        properties: BTreeMap::new(),
        comment: String::new(),
        partitions: vec![partition],
        now_ms,
    }
}

fn transaction(state: &State, (db, table): (DbId, TableId), now_ms: u64, rng: &mut StdRng) -> Command {
    let Some(transaction) = pick(state.transactions.keys(), rng) else {
        return Command::DropTable { db, table: TableId(1) };
    };
    match rng.random_range(0..4) {
        0 | 1 => {
            let of = state.transactions[&transaction].table;
            let found = state.databases.values().find_map(|database| database.tables.get(&of));
            let partitions: Vec<_> = found.map(|table| table.partitions.keys().copied().collect()).unwrap_or_default();
            Command::CommitTransaction { transaction, partitions, rows: 1, tablets: Vec::new(), now_ms }
        }
        2 => Command::MakeVisible { transaction, now_ms },
        _ => {
            let placement = vec![state.backends.keys().copied().collect(); 2];
            let found = state.databases.get(&db).and_then(|database| database.tables.get(&table));
            match found.and_then(|table| table.partitions.keys().next()) {
                Some(partition) => Command::Truncate { db, table, partitions: vec![(*partition, placement)], now_ms },
                None => Command::AbortTransaction { transaction, reason: "r".to_owned(), now_ms },
            }
        }
    }
}

fn backup(state: &State, db: DbId, now_ms: u64, rng: &mut StdRng) -> Command {
    let Some(job) = pick(state.backups.keys(), rng).filter(|_| rng.random_bool(0.8)) else {
        let repository = pick(state.repositories.keys(), rng).unwrap_or(RepositoryId(0));
        return Command::CreateBackup(NewBackup {
            db,
            label: "l".to_owned(),
            repository,
            objects: Vec::new(),
            timestamp: "t".to_owned(),
            timeout_s: 1,
            pack_prefix: "p".to_owned(),
            metadata_only: false,
            warnings: Vec::new(),
            now_ms,
        });
    };
    let error = JobError { kind: "CANCELLED".to_owned(), message: "m".to_owned() };
    match rng.random_range(0..3) {
        0 => Command::AdvanceBackup {
            job,
            from: "PENDING".to_owned(),
            to: BackupState::Snapshoting,
            counts: None,
            now_ms,
            passed_over: Vec::new(),
        },
        1 => Command::CancelJob { job, error, now_ms },
        _ => Command::JobCleaned { job: JobId(job.0) },
    }
}

/// What is true of every state, whatever came before.
pub(super) fn check(state: &State) {
    let mut ids = BTreeSet::new();
    let mut once = |id: u64| assert!(ids.insert(id) && id < state.next_id, "id {id}");
    for (id, database) in &state.databases {
        assert_eq!(*id, database.id);
        once(id.0);
        let names: BTreeSet<&str> = database.tables.values().map(|table| table.name.as_str()).collect();
        assert_eq!(names.len(), database.tables.len());
        for (id, table) in &database.tables {
            assert_eq!(*id, table.id);
            once(id.0);
            for (id, partition) in &table.partitions {
                assert_eq!(*id, partition.id);
                once(id.0);
                assert!(partition.visible_version <= partition.committed_version);
                partition.tablets.iter().for_each(|tablet| {
                    once(tablet.id.0);
                    assert!(!tablet.replicas.is_empty());
                });
            }
        }
    }
    let names: BTreeSet<&str> = state.databases.values().map(|database| database.name.as_str()).collect();
    assert_eq!(names.len(), state.databases.len());
    state.transactions.keys().for_each(|id| once(id.0));
    state.backups.keys().for_each(|id| once(id.0));
    for database in state.databases.keys() {
        let running = state.backups.values().filter(|job| job.db == *database && !job.state.is_over()).count();
        assert!(running <= 1);
    }
}
