//! Tables and transactions for the tests of this folder.

use crate::catalog::database::Database;
use crate::catalog::map::Map;
use crate::catalog::table::{Partition, Table, Tablet};
use crate::catalog::transaction::{Transaction, TransactionState};
use crate::meta::state::State;
use coffer_proto::ids::{BackendId, DbId, PartitionId, TableId, TabletId, TransactionId};
use coffer_table::Schema;
use std::collections::BTreeMap;

pub(super) const DB: DbId = DbId(1);
pub(super) const TABLE: TableId = TableId(2);

/// A table of partitions with tablets, each on all `backends`.
pub(super) fn table(partitions: &[(u64, &[u64])], backends: &[u64]) -> Table {
    let replicas: Vec<BackendId> = backends.iter().copied().map(BackendId).collect();
    let partition = |(id, tablets): &(u64, &[u64])| {
        let tablet = |id: &u64| Tablet { id: TabletId(*id), replicas: replicas.clone() };
        let partition = Partition {
            id: PartitionId(*id),
            name: format!("p{id}"),
            range: None,
            replication_num: replicas.len() as u32,
            visible_version: 1,
            visible_ms: 0,
            committed_version: 1,
            tablets: tablets.iter().map(tablet).collect(),
        };
        (partition.id, partition)
    };
    Table {
        id: TABLE,
        name: "t".to_owned(),
        schema: Schema { columns: Vec::new(), model: coffer_table::Model::Duplicate },
        partition_columns: Vec::new(),
        partitioning: Default::default(),
        bucket_columns: Vec::new(),
        properties: BTreeMap::new(),
        comment: String::new(),
        created_ms: 0,
        had_deletes: false,
        partitions: partitions.iter().map(partition).collect(),
    }
}

/// A state with one database of one table.
pub(super) fn state(table: Table) -> State {
    let mut state = State::default();
    let tables = Map::from([(table.id, table)]);
    state.databases.insert(DB, Database { tables, ..Database::new(DB, "d") });
    state
}

/// A committed transaction with this id and place in the order, of the given partitions and versions.
pub(super) fn committed(id: u64, sequence: u64, versions: &[(u64, u64)]) -> Transaction {
    let versions = versions.iter().map(|(partition, version)| (PartitionId(*partition), *version)).collect();
    Transaction {
        id: TransactionId(id),
        label: format!("l{id}"),
        db: DB,
        table: TABLE,
        begun_ms: 0,
        deadline_ms: 0,
        precommitted_ms: 0,
        state: TransactionState::Committed { versions, rows: 1, at_ms: 0 },
        sequence,
        tablets: Vec::new(),
        delete: None,
    }
}
