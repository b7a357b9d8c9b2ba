//! A small cluster for the tests of this folder: three backends, a broker, a repository, and a database `db` with table `t`
//! (partitions `p1` and `p2`, two buckets of two replicas each).

use super::apply;
use crate::catalog::cluster::Access;
use crate::catalog::table::Table;
use crate::error::{Error, ErrorKind};
use crate::meta::command::{Command, NewPartition, NewRepository, NewTable, Outcome, Placement};
use crate::meta::state::State;
use coffer_proto::ids::{BackendId, DbId, JobId, PartitionId, RepositoryId, TableId, TransactionId};
use coffer_table::{Bound, Column, ColumnType, KeyRange, Scalar, Schema};
use std::collections::BTreeMap;

pub(super) struct Sample {
    pub(super) state: State,
    pub(super) db: DbId,
    pub(super) table: TableId,
    pub(super) repository: RepositoryId,
    pub(super) backends: Vec<BackendId>,
}

impl Sample {
    pub(super) fn new() -> Sample {
        let mut state = State::default();
        ok(&mut state, &Command::Bootstrap { cluster_id: "c".to_owned() });
        let addresses = (1..=3).map(|n| (format!("b{n}"), 9050)).collect();
        ok(&mut state, &Command::AddBackends { addresses, now_ms: 1 });
        let backends: Vec<BackendId> = state.backends.keys().copied().collect();
        ok(&mut state, &Command::AddBrokers { name: "br".to_owned(), addresses: vec!["h:8000".to_owned()] });
        let repository = RepositoryId(created(&mut state, &Command::CreateRepository(new_repository("repo"))));
        let db = DbId(created(&mut state, &Command::CreateDatabase { name: "db".to_owned() }));
        let mut sample = Sample { state, db, table: TableId(0), repository, backends };
        let table = sample.new_table("t");
        sample.table = TableId(sample.create(&Command::CreateTable(table)));
        sample
    }

    pub(super) fn ok(&mut self, command: &Command) -> Outcome {
        ok(&mut self.state, command)
    }

    pub(super) fn create(&mut self, command: &Command) -> u64 {
        created(&mut self.state, command)
    }

    /// The refusal of a command, which must leave the state as it was.
    pub(super) fn refused(&mut self, command: &Command) -> Error {
        let before = self.state.clone();
        let outcome = apply(&mut self.state, command);
        assert!(self.state == before, "refused but changed: {command:?}");
        outcome.into_result().expect_err("should be refused")
    }

    /// As above, where the kind and a part of the text are known.
    pub(super) fn refuses(&mut self, command: &Command, kind: ErrorKind, text: &str) {
        let error = self.refused(command);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(text), "{error}");
    }

    pub(super) fn table(&self) -> &Table {
        &self.state.databases[&self.db].tables[&self.table]
    }

    pub(super) fn partition(&self, name: &str) -> PartitionId {
        self.table().partition(name).unwrap().id
    }

    /// Two buckets of two replicas.
    pub(super) fn placement(&self) -> Placement {
        vec![vec![self.backends[0], self.backends[1]], vec![self.backends[1], self.backends[2]]]
    }

    pub(super) fn new_table(&self, name: &str) -> NewTable {
        let column = |name: &str, key| Column {
            name: name.to_owned(),
            kind: ColumnType::Int,
            nullable: false,
            default: None,
            key,
            comment: String::new(),
            aggregate: None,
        };
        let value = |n| vec![Bound::Value(Scalar::Int(n))];
        let partition = |name: &str, lower, upper| NewPartition {
            name: name.to_owned(),
            range: Some(KeyRange::new(value(lower), value(upper))),
            replication_num: 2,
            placement: self.placement(),
        };
        NewTable {
            db: self.db,
            name: name.to_owned(),
            schema: Schema {
                columns: vec![column("k", true), column("v", false)],
                model: coffer_table::Model::Duplicate,
            },
            partition_columns: vec!["k".to_owned()],
            partitioning: Default::default(),
            bucket_columns: vec!["k".to_owned()],
            properties: BTreeMap::from([("replication_num".to_owned(), "2".to_owned())]),
            comment: String::new(),
            partitions: vec![partition("p1", 0, 10), partition("p2", 10, 20)],
            now_ms: 5,
        }
    }

    /// A load that is open.
    pub(super) fn begin(&mut self, label: &str) -> TransactionId {
        let command = self.begin_command(label);
        TransactionId(self.create(&command))
    }

    pub(super) fn begin_command(&self, label: &str) -> Command {
        Command::BeginTransaction {
            label: label.to_owned(),
            db: self.db,
            table: self.table,
            now_ms: 10,
            deadline_ms: 1_000,
        }
    }

    /// A backup that was accepted.
    pub(super) fn backup(&mut self) -> JobId {
        let new = self.new_backup();
        JobId(self.create(&Command::CreateBackup(new)))
    }

    pub(super) fn new_backup(&self) -> crate::meta::command::NewBackup {
        crate::meta::command::NewBackup {
            db: self.db,
            label: "snap".to_owned(),
            repository: self.repository,
            objects: Vec::new(),
            timestamp: "2024-01-01-00-00-00".to_owned(),
            timeout_s: 600,
            pack_prefix: "ab".to_owned(),
            now_ms: 100,
            metadata_only: false,
            warnings: Vec::new(),
        }
    }
}

pub(super) fn new_repository(name: &str) -> NewRepository {
    NewRepository {
        name: name.to_owned(),
        remote_name: name.to_owned(),
        read_only: false,
        access: Access::Broker("br".to_owned()),
        location: "file:///r".to_owned(),
        properties: BTreeMap::new(),
        now_ms: 3,
        limits: None,
    }
}

fn ok(state: &mut State, command: &Command) -> Outcome {
    apply(state, command).into_result().unwrap()
}

fn created(state: &mut State, command: &Command) -> u64 {
    match ok(state, command) {
        Outcome::Created(id) => id,
        other => panic!("{other:?}"),
    }
}
