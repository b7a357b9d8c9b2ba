//! Loads: begin, commit, make visible, abort.
//!
//! Repeating a step that was done answers as the first time, so that a lost answer can be asked for again.

use crate::catalog::table::{Partition, Table};
use crate::catalog::transaction::{Transaction, TransactionState};
use crate::error::{self, Error, Result};
use crate::limits;
use crate::meta::command::Outcome;
use crate::meta::state::State;
use coffer_proto::ids::{DbId, PartitionId, TableId, TabletId, TransactionId};
use coffer_table::Predicate;

pub(super) fn begin(
    state: &mut State,
    label: &str,
    (db, table): (DbId, TableId),
    (now_ms, deadline_ms): (u64, u64),
) -> Result<Outcome> {
    let Some((_, known_table)) = state.table_by_id(db, table) else {
        return Err(error::unknown_table(&table.to_string()));
    };
    if let Some(known) = state.transaction_by_label(db, label) {
        return Err(Error::already_exists(format!(
            "Label [{label}] has already been used, relate to txn [{}], status [{}].",
            known.id,
            known.state.name()
        )));
    }
    if let Some(job) = kept_out(state, known_table) {
        return Err(Error::conflict(format!(
            "the table is being restored by job {} with label {}; load when it has ended",
            job.id, job.label
        )));
    }
    let open = state.transactions.values().filter(|other| other.db == db && !other.state.is_over()).count();
    if open >= limits::MAX_OPEN_TRANSACTIONS {
        return Err(Error::limit(format!(
            "current running txns on db {db} is {open}, the limit is {}",
            limits::MAX_OPEN_TRANSACTIONS
        )));
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
        precommitted_ms: 0,
        tablets: Vec::new(),
        delete: None,
    };
    state.transactions.insert(id, transaction);
    Ok(Outcome::Created(id.0))
}

/// The restore that overwrites all of a table. A load that may go into other partitions is looked at when it commits.
fn kept_out<'a>(state: &'a State, table: &Table) -> Option<&'a crate::catalog::job::RestoreJob> {
    let mut jobs = table.partitions.values().map(|partition| state.restore_over(table.id, partition));
    let first = jobs.next()??;
    jobs.all(|job| job.is_some()).then_some(first)
}

/// The first half of a commit: its second half takes partitions, rows and tablets from here.
pub(super) fn precommit(
    state: &mut State,
    id: TransactionId,
    (touched, tablets): (&[PartitionId], &[TabletId]),
    rows: u64,
    (now_ms, deadline_ms): (u64, u64),
) -> Result<Outcome> {
    let transaction = known(state, id)?;
    match &transaction.state {
        TransactionState::Prepared => {}
        TransactionState::Aborted { reason, .. } => return Err(was_aborted(id, reason)),
        TransactionState::Precommitted { .. }
        | TransactionState::Committed { .. }
        | TransactionState::Visible { .. } => return Ok(Outcome::Done),
    }
    let (db, table) = (transaction.db, transaction.table);
    next_versions(state, id, (db, table), touched)?;
    let transaction = known_mut(state, id)?;
    transaction.tablets = tablets.to_vec();
    transaction.precommitted_ms = now_ms;
    transaction.deadline_ms = deadline_ms;
    transaction.state = TransactionState::Precommitted { partitions: touched.to_vec(), rows };
    Ok(Outcome::Done)
}

fn was_aborted(id: TransactionId, reason: &str) -> Error {
    Error::conflict(format!("transaction {id} was aborted: {reason}"))
}

/// The versions that a commit gives, or why it cannot.
fn next_versions(
    state: &State,
    id: TransactionId,
    (db, table): (DbId, TableId),
    touched: &[PartitionId],
) -> Result<Vec<(PartitionId, u64)>> {
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
        if let Some(job) = state.restore_over(table, found) {
            return Err(Error::conflict(format!(
                "partition {} is being restored by job {} with label {}; load when it has ended",
                found.name, job.id, job.label
            )));
        }
        if versions.iter().any(|(seen, _)| seen == partition) {
            return Err(Error::bug(format!("partition {partition} twice in the commit of transaction {id}")));
        }
        versions.push((*partition, found.committed_version + 1));
    }
    Ok(versions)
}

pub(super) fn commit(
    state: &mut State,
    id: TransactionId,
    (touched, tablets): (&[PartitionId], &[TabletId]),
    (rows, now_ms): (u64, u64),
) -> Result<Outcome> {
    let transaction = known(state, id)?;
    let (touched, tablets, rows) = match &transaction.state {
        TransactionState::Prepared => (touched.to_vec(), tablets.to_vec(), rows),
        TransactionState::Precommitted { partitions, rows } => (partitions.clone(), transaction.tablets.clone(), *rows),
        TransactionState::Committed { versions, .. } | TransactionState::Visible { versions, .. } => {
            return Ok(Outcome::Versions(versions.clone()));
        }
        TransactionState::Aborted { reason, .. } => return Err(was_aborted(id, reason)),
    };
    let (db, table) = (transaction.db, transaction.table);
    let versions = next_versions(state, id, (db, table), &touched)?;
    for (partition, version) in &versions {
        if let Some(partition) = partition_mut(state, (db, table), *partition) {
            partition.committed_version = *version;
        }
    }
    let sequence = state.take_id();
    let transaction = known_mut(state, id)?;
    transaction.sequence = sequence;
    transaction.tablets = tablets;
    transaction.state = if versions.is_empty() {
        TransactionState::Visible { versions: Vec::new(), rows, at_ms: now_ms }
    } else {
        TransactionState::Committed { versions: versions.clone(), rows, at_ms: now_ms }
    };
    Ok(Outcome::Versions(versions))
}

/// Commit a DELETE: versions without rows, under which older rows are gone.
pub(super) fn commit_delete(
    state: &mut State,
    id: TransactionId,
    (touched, predicate): (&[PartitionId], &Predicate),
    now_ms: u64,
) -> Result<Outcome> {
    let first = known(state, id)?.state == TransactionState::Prepared;
    let done = commit(state, id, (touched, &[]), (0, now_ms))?;
    if first {
        let transaction = known_mut(state, id)?;
        transaction.delete = Some(predicate.clone());
        let (db, table) = (transaction.db, transaction.table);
        let table = state.databases.get_mut(&db).and_then(|database| database.tables.get_mut(&table));
        table.into_iter().for_each(|table| table.had_deletes = true);
    }
    Ok(done)
}

/// Versions of a partition become visible one after the other; partitions that are gone meanwhile are passed over.
pub(super) fn make_visible(state: &mut State, id: TransactionId, now_ms: u64) -> Result<Outcome> {
    let transaction = known(state, id)?;
    let (versions, rows) = match &transaction.state {
        TransactionState::Committed { versions, rows, .. } => (versions.clone(), *rows),
        TransactionState::Visible { .. } => return Ok(Outcome::Done),
        other @ (TransactionState::Prepared
        | TransactionState::Precommitted { .. }
        | TransactionState::Aborted { .. }) => {
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
        TransactionState::Prepared | TransactionState::Precommitted { .. } => {
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
        TransactionState::Prepared | TransactionState::Precommitted { .. } | TransactionState::Committed { .. } => true,
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

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;
    use crate::error::ErrorKind;
    use crate::meta::command::Command;

    fn commit(transaction: TransactionId, partitions: Vec<PartitionId>) -> Command {
        Command::CommitTransaction { transaction, partitions, rows: 3, tablets: Vec::new(), now_ms: 20 }
    }

    fn abort(transaction: TransactionId) -> Command {
        Command::AbortTransaction { transaction, reason: "gone".to_owned(), now_ms: 30 }
    }

    fn visible(transaction: TransactionId) -> Command {
        Command::MakeVisible { transaction, now_ms: 40 }
    }

    #[test]
    fn a_label_loads_once_unless_aborted() {
        let mut sample = Sample::new();
        let first = sample.begin("l");
        let again = sample.begin_command("l");
        let text = format!("Label [l] has already been used, relate to txn [{first}], status [PREPARE].");
        sample.refuses(&again, ErrorKind::AlreadyExists, &text);
        sample.ok(&abort(first));
        let second = sample.begin("l");
        sample.ok(&commit(second, vec![sample.partition("p1")]));
        sample.refuses(&again, ErrorKind::AlreadyExists, "COMMITTED");
        sample.ok(&visible(second));
        sample.refuses(&again, ErrorKind::AlreadyExists, "VISIBLE");
        sample.ok(&Command::PurgeTransactions { before_ms: 41 });
        sample.begin("l");
    }

    #[test]
    fn a_load_needs_its_table_and_a_bound() {
        let mut sample = Sample::new();
        let mut nowhere = sample.begin_command("l");
        if let Command::BeginTransaction { table, .. } = &mut nowhere {
            *table = TableId(1);
        }
        assert_eq!(sample.refused(&nowhere).number(), 1051);
        for n in 0..limits::MAX_OPEN_TRANSACTIONS {
            sample.begin(&format!("l{n}"));
        }
        let begin = sample.begin_command("more");
        sample.refuses(&begin, ErrorKind::Limit, "running txns");
    }

    #[test]
    fn versions_rise_by_one_and_become_visible_in_order() {
        let mut sample = Sample::new();
        let (p1, p2) = (sample.partition("p1"), sample.partition("p2"));
        let (a, b) = (sample.begin("a"), sample.begin("b"));
        assert_eq!(sample.ok(&commit(a, vec![p1, p2])), Outcome::Versions(vec![(p1, 2), (p2, 2)]));
        assert_eq!(sample.ok(&commit(b, vec![p1])), Outcome::Versions(vec![(p1, 3)]));
        // Asked again, the same answer.
        assert_eq!(sample.ok(&commit(b, vec![p1])), Outcome::Versions(vec![(p1, 3)]));
        assert!(sample.state.transactions[&a].sequence < sample.state.transactions[&b].sequence);
        sample.refuses(&visible(b), ErrorKind::Conflict, "has to wait for version 2");
        sample.ok(&visible(a));
        sample.ok(&visible(a));
        sample.ok(&visible(b));
        let partition = &sample.table().partitions[&p1];
        assert_eq!((partition.visible_version, partition.committed_version, partition.visible_ms), (3, 3, 40));
        assert_eq!(sample.ok(&commit(b, vec![p1])), Outcome::Versions(vec![(p1, 3)]));
    }

    fn precommit(transaction: TransactionId, partitions: Vec<PartitionId>) -> Command {
        let tablets = vec![TabletId(7)];
        Command::PrecommitTransaction { transaction, partitions, rows: 5, tablets, now_ms: 15, deadline_ms: 99 }
    }

    #[test]
    fn a_precommitted_load_waits_for_its_second_half() {
        let mut sample = Sample::new();
        let (p1, load) = (sample.partition("p1"), sample.begin("l"));
        sample.ok(&precommit(load, vec![p1]));
        sample.ok(&precommit(load, vec![]));
        sample.refuses(&sample.begin_command("l"), ErrorKind::AlreadyExists, "status [PRECOMMITTED]");
        sample.refuses(&visible(load), ErrorKind::Conflict, "is PRECOMMITTED, not COMMITTED");
        sample.ok(&Command::PurgeTransactions { before_ms: u64::MAX });
        let kept = &sample.state.transactions[&load];
        assert_eq!((kept.deadline_ms, kept.precommitted_ms, kept.state.is_open()), (99, 15, true));
        assert_eq!(sample.table().partitions[&p1].committed_version, 1);
        // Whatever the second half says, the first counts.
        assert_eq!(sample.ok(&commit(load, vec![])), Outcome::Versions(vec![(p1, 2)]));
        let done = &sample.state.transactions[&load];
        assert_eq!(done.tablets, [TabletId(7)]);
        assert!(matches!(done.state, TransactionState::Committed { rows: 5, .. }));
        sample.ok(&precommit(load, vec![p1]));
        let (gone, late) = (sample.begin("gone"), sample.begin("late"));
        sample.ok(&precommit(gone, vec![p1]));
        sample.ok(&abort(gone));
        sample.refuses(&precommit(gone, vec![p1]), ErrorKind::Conflict, "was aborted");
        sample.ok(&precommit(late, vec![p1]));
        let partitions = vec![(p1, sample.placement())];
        sample.ok(&Command::Truncate { db: sample.db, table: sample.table, partitions, now_ms: 9 });
        sample.refuses(&commit(late, vec![]), ErrorKind::Conflict, "load again");
    }

    #[test]
    fn a_delete_makes_versions_and_is_remembered() {
        let mut sample = Sample::new();
        let (p1, gone) = (sample.partition("p1"), sample.begin("delete"));
        let predicate = Predicate { conditions: Vec::new() };
        let delete =
            Command::CommitDelete { transaction: gone, partitions: vec![p1], predicate: predicate.clone(), now_ms: 7 };
        assert_eq!(sample.ok(&delete), Outcome::Versions(vec![(p1, 2)]));
        assert_eq!(sample.ok(&delete), Outcome::Versions(vec![(p1, 2)]));
        assert_eq!(sample.state.transactions[&gone].delete, Some(predicate));
        assert!(sample.table().had_deletes);
    }

    #[test]
    fn a_load_without_rows_is_visible_at_once() {
        let mut sample = Sample::new();
        let load = sample.begin("l");
        assert_eq!(sample.ok(&commit(load, Vec::new())), Outcome::Versions(Vec::new()));
        assert!(matches!(sample.state.transactions[&load].state, TransactionState::Visible { .. }));
    }

    #[test]
    fn what_was_decided_stays() {
        let mut sample = Sample::new();
        let p1 = sample.partition("p1");
        let (gone, done) = (sample.begin("gone"), sample.begin("done"));
        sample.refuses(&visible(gone), ErrorKind::Conflict, "is PREPARE, not COMMITTED");
        sample.ok(&abort(gone));
        sample.ok(&abort(gone));
        sample.refuses(&commit(gone, vec![p1]), ErrorKind::Conflict, "was aborted: gone");
        sample.ok(&commit(done, vec![p1]));
        sample.refuses(&abort(done), ErrorKind::Conflict, "is COMMITTED and stays");
        for command in [commit(TransactionId(1), vec![]), visible(TransactionId(1)), abort(TransactionId(1))] {
            sample.refuses(&command, ErrorKind::NotFound, "transaction 1 does not exist");
        }
        // Purging forgets only what has ended.
        let open = sample.begin("open");
        sample.ok(&Command::PurgeTransactions { before_ms: u64::MAX });
        assert_eq!(sample.state.transactions.keys().copied().collect::<Vec<_>>(), [done, open]);
    }

    #[test]
    fn a_load_into_what_was_replaced_or_dropped_is_refused() {
        let mut sample = Sample::new();
        let p1 = sample.partition("p1");
        let (late, early) = (sample.begin("late"), sample.begin("early"));
        sample.refuses(&commit(late, vec![p1, p1]), ErrorKind::Bug, "twice");
        sample.ok(&commit(early, vec![p1]));
        let partitions = vec![(p1, sample.placement())];
        sample.ok(&Command::Truncate { db: sample.db, table: sample.table, partitions, now_ms: 9 });
        sample.refuses(&commit(late, vec![p1]), ErrorKind::Conflict, "load again");
        // What was committed before ends in peace.
        sample.ok(&visible(early));
        sample.ok(&Command::DropTable { db: sample.db, table: sample.table });
        sample.refuses(&commit(late, vec![p1]), ErrorKind::Conflict, "was dropped during the load");
    }
}
