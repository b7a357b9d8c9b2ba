//! Two-phase loads: what `two_phase_commit` and `_stream_load_2pc` ask for.
//!
//! The first half ends as a commit does, with the rows durable on a majority of the replicas of each tablet, but gives no
//! versions; what the commit needs is in the log. So a precommitted load survives every process, and its second half is one
//! entry. Until then replicas of the table do not move; after `stream_load_default_precommit_timeout_second` the publisher
//! aborts it. What its rows were for may be dropped, truncated or restored over meanwhile: then the commit is refused, and the
//! load aborted.

use super::Loads;
use crate::account::{Privilege, Who};
use crate::catalog::transaction::{Transaction, TransactionState};
use crate::error::table_denied;
use crate::meta::command::Command;
use crate::meta::state::State;
use coffer_proto::ids::TransactionId;
use coffer_proto::v1;
use coffer_stdx::time::now_ms;
use coffer_stdx::{Error, ErrorKind, Result};

impl Loads {
    /// The first half.
    pub(super) async fn precommit(&self, id: TransactionId, request: &v1::FinishLoadRequest) -> Result<()> {
        let (partitions, tablets) = self.decide(id, request)?;
        let now_ms = now_ms();
        let wait_s = self.shared.config.stream_load_default_precommit_timeout_second.get();
        let command = Command::PrecommitTransaction {
            transaction: id,
            partitions,
            rows: request.rows,
            tablets,
            now_ms,
            deadline_ms: now_ms + wait_s * 1_000,
        };
        self.shared.meta.propose(command).await.map(|_| ())
    }

    /// The second half, on behalf of a user: commit, then wait a while for the load to become visible, or abort.
    pub(super) async fn end_precommitted(&self, who: &Who, request: &v1::EndLoadRequest) -> Result<TransactionId> {
        let meta = &self.shared.meta;
        let (id, done) = meta.view(|state| {
            let (transaction, table) = find(state, request)?;
            if !state.rights(who)?.holds_on_table(Privilege::Load, &request.database, table) {
                return Err(table_denied("LOAD", &who.name(), table));
            }
            Ok((transaction.id, ready(transaction, request.commit, request.again)?))
        })?;
        if done {
            return Ok(id);
        }
        if !request.commit {
            self.abort(id, "the client aborted it").await?;
            return Ok(id);
        }
        let (partitions, tablets) = (Vec::new(), Vec::new());
        let command = Command::CommitTransaction { transaction: id, partitions, rows: 0, tablets, now_ms: now_ms() };
        match meta.propose(command).await {
            Ok(_) => self.visible(id).await.map(|_| id),
            Err(error) => {
                if error.kind() == ErrorKind::Conflict && meta.view(|state| is_lost(state, id)) {
                    // The first error counts; if this fails, its deadline does it.
                    let _ = self.abort(id, error.message()).await;
                }
                Err(error)
            }
        }
    }
}

/// The transaction, and its table's name; of one that is gone, the name that was given.
fn find<'a>(state: &'a State, request: &'a v1::EndLoadRequest) -> Result<(&'a Transaction, &'a str)> {
    let database = state.database(&request.database)?;
    let found = match request.transaction_id {
        0 => state.transaction_by_label(database.id, &request.label),
        id => state.transactions.get(&TransactionId(id)).filter(|found| found.db == database.id),
    };
    let transaction = found.ok_or_else(|| {
        Error::not_found(match request.transaction_id {
            0 => format!("transaction with label [{}] not found", request.label),
            id => format!("transaction [{id}] not found"),
        })
    })?;
    let table = database.tables.get(&transaction.table).map_or(request.table.as_str(), |table| table.name.as_str());
    Ok((transaction, table))
}

/// Whether nothing is left to do; an error when it cannot be done. `again`: an earlier answer may have been lost.
fn ready(transaction: &Transaction, commit: bool, again: bool) -> Result<bool> {
    let id = transaction.id;
    let already = |state: &str| {
        let what = if commit { "not pre-committed" } else { "could not abort" };
        Err(Error::conflict(format!("transaction [{id}] is already {state}, {what}.")))
    };
    match &transaction.state {
        TransactionState::Precommitted { .. } => Ok(false),
        TransactionState::Prepared if commit => {
            Err(Error::conflict(format!("transaction [{id}] is prepare, not pre-committed.")))
        }
        TransactionState::Prepared => Ok(false),
        TransactionState::Committed { .. } | TransactionState::Visible { .. } if commit && again => Ok(true),
        TransactionState::Committed { .. } => already("committed"),
        TransactionState::Visible { .. } => already("visible"),
        TransactionState::Aborted { .. } if again && !commit => Ok(true),
        TransactionState::Aborted { reason, .. } => {
            Err(Error::conflict(format!("transaction [{id}] is already aborted. abort reason: {reason}")))
        }
    }
}

/// Whether something that the load was for is gone for good.
fn is_lost(state: &State, id: TransactionId) -> bool {
    let Some(transaction) = state.transactions.get(&id) else { return false };
    let TransactionState::Precommitted { partitions, .. } = &transaction.state else { return false };
    let table = state.table_by_id(transaction.db, transaction.table);
    table.is_none_or(|(_, table)| partitions.iter().any(|partition| !table.partitions.contains_key(partition)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tests::{begin, finish, loads, state_of};

    fn root() -> Who {
        Who { user: "root".to_owned(), ..Who::default() }
    }

    fn end(id: u64, label: &str, commit: bool) -> v1::EndLoadRequest {
        let (database, label) = ("d".to_owned(), label.to_owned());
        v1::EndLoadRequest { database, label, transaction_id: id, commit, ..v1::EndLoadRequest::default() }
    }

    #[tokio::test]
    async fn a_load_is_committed_in_two_halves_by_id_or_label_once() {
        let (loads, meta) = loads(1).await;
        let plan = loads.begin(&begin("one")).await.unwrap();
        let id = plan.transaction_id;
        let error = loads.end_precommitted(&root(), &end(id, "", true)).await.unwrap_err();
        assert_eq!(error.message(), format!("transaction [{id}] is prepare, not pre-committed."));
        let first = v1::FinishLoadRequest { two_phase: true, ..finish(&plan, 2) };
        assert_eq!(loads.finish(&first).await, Ok(false));
        assert_eq!(loads.finish(&first).await, Ok(false), "asked again");
        assert_eq!(state_of(&meta, &plan), "PRECOMMITTED");
        let stranger = Who { user: "eve".to_owned(), ..Who::default() };
        assert!(loads.end_precommitted(&stranger, &end(id, "", true)).await.is_err());
        assert_eq!(loads.end_precommitted(&root(), &end(0, "one", true)).await, Ok(TransactionId(id)));
        assert_eq!(state_of(&meta, &plan), "COMMITTED");
        let error = loads.end_precommitted(&root(), &end(id, "", true)).await.unwrap_err();
        assert_eq!(error.message(), format!("transaction [{id}] is already committed, not pre-committed."));
        let again = v1::EndLoadRequest { again: true, ..end(id, "", true) };
        assert_eq!(loads.end_precommitted(&root(), &again).await, Ok(TransactionId(id)));
        let error = loads.end_precommitted(&root(), &end(id, "", false)).await.unwrap_err();
        assert_eq!(error.message(), format!("transaction [{id}] is already committed, could not abort."));
        for (wrong, text) in [(end(9, "", true), "[9] not found"), (end(0, "no", true), "label [no] not found")] {
            assert!(loads.end_precommitted(&root(), &wrong).await.unwrap_err().message().contains(text));
        }
    }

    #[tokio::test]
    async fn without_a_majority_or_its_partitions_it_is_aborted() {
        let (loads, meta) = loads(1).await;
        let first = |plan: &v1::LoadPlan, replicas| v1::FinishLoadRequest { two_phase: true, ..finish(plan, replicas) };
        let few = loads.begin(&begin("few")).await.unwrap();
        assert!(loads.finish(&first(&few, 1)).await.is_err());
        assert_eq!(state_of(&meta, &few), "ABORTED");
        let (aborted, lost) = (loads.begin(&begin("a")).await.unwrap(), loads.begin(&begin("l")).await.unwrap());
        loads.finish(&first(&aborted, 3)).await.unwrap();
        loads.finish(&first(&lost, 3)).await.unwrap();
        loads.end_precommitted(&root(), &end(aborted.transaction_id, "", false)).await.unwrap();
        assert_eq!(state_of(&meta, &aborted), "ABORTED");
        let error = loads.end_precommitted(&root(), &end(aborted.transaction_id, "", true)).await.unwrap_err();
        assert!(error.message().contains("is already aborted. abort reason: the client"), "{error}");
        let (db, table) = meta.view(|state| {
            let database = state.databases.values().next().unwrap();
            (database.id, database.tables.values().next().unwrap().id)
        });
        meta.propose(Command::DropTable { db, table }).await.unwrap();
        let error = loads.end_precommitted(&root(), &end(lost.transaction_id, "", true)).await.unwrap_err();
        assert!(error.message().contains("was dropped"), "{error}");
        assert_eq!(state_of(&meta, &lost), "ABORTED");
    }
}
