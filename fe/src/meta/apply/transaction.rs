//! Loads: begin, commit, make visible, abort.
//!
//! Repeating a step that was done answers as the first time, so that a lost answer can be asked for again.

use crate::catalog::table::Partition;
use crate::catalog::transaction::{Transaction, TransactionState};
use crate::error::{self, Error, Result};
use crate::limits;
use crate::meta::command::Outcome;
use crate::meta::state::State;
use coffer_proto::ids::{BackendId, DbId, PartitionId, TableId, TabletId, TransactionId};

pub(super) fn begin(
    state: &mut State,
    label: &str,
    (db, table): (DbId, TableId),
    (now_ms, deadline_ms): (u64, u64),
) -> Result<Outcome> {
    if state.table_by_id(db, table).is_none() {
        return Err(error::unknown_table(&table.to_string()));
    }
    if let Some(known) = state.transaction_by_label(db, label) {
        return Err(Error::already_exists(format!(
            "Label [{label}] has already been used, relate to txn [{}], status [{}].",
            known.id,
            known.state.name()
        )));
    }
    if let Some(job) = state.restore_into(table) {
        return Err(Error::conflict(format!(
            "the table is being restored by job {} with label {}; load when it has ended",
            job.id, job.label
        )));
    }
    let open = state.transactions.values().filter(|other| other.db == db && !other.state.is_over()).count();
    if open >= limits::MAX_OPEN_TRANSACTIONS {
        return Err(Error::limit(format!("current running txns on db {db} is {open}, larger than limit {open}")));
    }
    let id = TransactionId(state.take_id());
    let transaction = Transaction {
        id,
        label: label.to_owned(),
        db,
        table,
        begun_ms: now_ms,
        deadline_ms,
        state: TransactionState::Prepared,
        sequence: 0,
        missing: Vec::new(),
    };
    state.transactions.insert(id, transaction);
    Ok(Outcome::Created(id.0))
}

pub(super) fn commit(
    state: &mut State,
    id: TransactionId,
    (touched, missing): (&[PartitionId], &[(TabletId, BackendId)]),
    (rows, now_ms): (u64, u64),
) -> Result<Outcome> {
    let transaction = known(state, id)?;
    match &transaction.state {
        TransactionState::Prepared => {}
        TransactionState::Committed { versions, .. } | TransactionState::Visible { versions, .. } => {
            return Ok(Outcome::Versions(versions.clone()));
        }
        TransactionState::Aborted { reason, .. } => {
            return Err(Error::conflict(format!("transaction {id} was aborted: {reason}")));
        }
    }
    let (db, table) = (transaction.db, transaction.table);
    let (_, known_table) = state
        .table_by_id(db, table)
        .ok_or_else(|| Error::conflict(format!("the table of transaction {id} was dropped during the load")))?;
    let mut versions = Vec::with_capacity(touched.len());
    for partition in touched {
        let found = known_table.partitions.get(partition).ok_or_else(|| {
            Error::conflict(format!(
                "a partition of table '{}' was dropped, truncated or restored during the load; load again",
                known_table.name
            ))
        })?;
        if versions.iter().any(|(seen, _)| seen == partition) {
            return Err(Error::bug(format!("partition {partition} twice in the commit of transaction {id}")));
        }
        versions.push((*partition, found.committed_version + 1));
    }
    for (partition, version) in &versions {
        if let Some(partition) = partition_mut(state, (db, table), *partition) {
            partition.committed_version = *version;
        }
    }
    let sequence = state.take_id();
    let transaction = known_mut(state, id)?;
    transaction.sequence = sequence;
    transaction.missing = missing.to_vec();
    transaction.state = if versions.is_empty() {
        TransactionState::Visible { versions: Vec::new(), rows, at_ms: now_ms }
    } else {
        TransactionState::Committed { versions: versions.clone(), rows, at_ms: now_ms }
    };
    Ok(Outcome::Versions(versions))
}

/// Versions of a partition become visible one after the other; partitions that are gone meanwhile are passed over.
pub(super) fn make_visible(state: &mut State, id: TransactionId, now_ms: u64) -> Result<Outcome> {
    let transaction = known(state, id)?;
    let (versions, rows) = match &transaction.state {
        TransactionState::Committed { versions, rows, .. } => (versions.clone(), *rows),
        TransactionState::Visible { .. } => return Ok(Outcome::Done),
        other @ (TransactionState::Prepared | TransactionState::Aborted { .. }) => {
            return Err(Error::conflict(format!("transaction {id} is {}, not COMMITTED", other.name())));
        }
    };
    let (db, table) = (transaction.db, transaction.table);
    for (partition, version) in &versions {
        let found = state.table_by_id(db, table).and_then(|(_, table)| table.partitions.get(partition));
        if let Some(early) = found.filter(|found| found.visible_version + 1 < *version) {
            return Err(Error::conflict(format!(
                "version {version} of partition {} has to wait for version {}",
                early.name,
                early.visible_version + 1
            )));
        }
    }
    for (partition, version) in &versions {
        if let Some(partition) = partition_mut(state, (db, table), *partition)
            && partition.visible_version < *version
        {
            partition.visible_version = *version;
            partition.visible_ms = now_ms;
        }
    }
    known_mut(state, id)?.state = TransactionState::Visible { versions, rows, at_ms: now_ms };
    Ok(Outcome::Done)
}

pub(super) fn abort(state: &mut State, id: TransactionId, reason: &str, now_ms: u64) -> Result<Outcome> {
    let transaction = known_mut(state, id)?;
    match &transaction.state {
        TransactionState::Prepared => {
            transaction.state = TransactionState::Aborted { reason: reason.to_owned(), at_ms: now_ms };
            Ok(Outcome::Done)
        }
        TransactionState::Aborted { .. } => Ok(Outcome::Done),
        TransactionState::Committed { .. } | TransactionState::Visible { .. } => {
            Err(Error::conflict(format!("transaction {id} is {} and stays", transaction.state.name())))
        }
    }
}

pub(super) fn purge(state: &mut State, before_ms: u64) -> Result<Outcome> {
    state.transactions.retain(|_, transaction| match &transaction.state {
        TransactionState::Prepared | TransactionState::Committed { .. } => true,
        TransactionState::Visible { at_ms, .. } | TransactionState::Aborted { at_ms, .. } => *at_ms >= before_ms,
    });
    Ok(Outcome::Done)
}

fn known(state: &State, id: TransactionId) -> Result<&Transaction> {
    state.transactions.get(&id).ok_or_else(|| unknown(id))
}

fn known_mut(state: &mut State, id: TransactionId) -> Result<&mut Transaction> {
    state.transactions.get_mut(&id).ok_or_else(|| unknown(id))
}

fn unknown(id: TransactionId) -> Error {
    Error::not_found(format!("transaction {id} does not exist"))
}

fn partition_mut(state: &mut State, (db, table): (DbId, TableId), id: PartitionId) -> Option<&mut Partition> {
    state.databases.get_mut(&db)?.tables.get_mut(&table)?.partitions.get_mut(&id)
}
