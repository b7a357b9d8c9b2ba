//! SHOW TRANSACTION: the loads of a database, and where they stand.

use crate::account::Rights;
use crate::catalog::transaction::{Transaction, TransactionState};
use crate::error::Result;
use crate::exec::answer::RowSet;
use crate::exec::filter;
use crate::exec::text::{NONE, time};
use crate::meta::state::State;
use crate::sql::ast::RowFilter;

/// What operators call columns in conditions, beside their names.
const ALIASES: [(&str, &str); 2] = [("id", "TransactionId"), ("status", "TransactionStatus")];

/// A row per load that is open or whose label is remembered, the newest first.
pub(super) fn show(
    state: &State,
    (rights, current): (&Rights<'_>, Option<&str>),
    (given, wanted): (Option<&str>, &RowFilter),
) -> Result<RowSet> {
    let database = state.database_or_current(given, current)?;
    let mut set = RowSet::new([
        "TransactionId",
        "Label",
        "Coordinator",
        "TransactionStatus",
        "LoadJobSourceType",
        "PrepareTime",
        "PreCommitTime",
        "CommitTime",
        "FinishTime",
        "Reason",
        "ErrorReplicasCount",
        "ListenerId",
        "TimeoutMs",
        "ErrMsg",
    ]);
    // What was loaded into a table that is gone is shown to who may see the whole database.
    let seen = |transaction: &&Transaction| {
        let table = database.tables.get(&transaction.table).map_or("", |table| table.name.as_str());
        transaction.db == database.id && rights.sees_table(&database.name, table)
    };
    for transaction in state.transactions.values().rev().filter(seen) {
        set.push(row(transaction));
    }
    let mut wanted = wanted.clone();
    let columns = wanted.conditions.iter_mut().map(|condition| &mut condition.column);
    for column in columns.chain(wanted.order_by.iter_mut().map(|(column, _)| column)) {
        if let Some((_, name)) = ALIASES.iter().find(|(alias, _)| column.eq_ignore_ascii_case(alias)) {
            *column = (*name).to_owned();
        }
    }
    filter::apply(set, &wanted)
}

fn row(transaction: &Transaction) -> [String; 14] {
    let none = || NONE.to_owned();
    let (committed, finished, reason) = match &transaction.state {
        TransactionState::Prepared | TransactionState::Precommitted { .. } => (none(), none(), String::new()),
        TransactionState::Committed { at_ms, .. } => (time(*at_ms), none(), String::new()),
        TransactionState::Visible { at_ms, .. } => (none(), time(*at_ms), String::new()),
        TransactionState::Aborted { reason, at_ms } => (none(), time(*at_ms), reason.clone()),
    };
    [
        transaction.id.to_string(),
        transaction.label.clone(),
        none(),
        transaction.state.name().to_owned(),
        none(),
        time(transaction.begun_ms),
        time(transaction.precommitted_ms),
        committed,
        finished,
        reason,
        "0".to_owned(),
        "-1".to_owned(),
        transaction.deadline_ms.saturating_sub(transaction.begun_ms).to_string(),
        String::new(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Who;
    use crate::exec::sample;
    use crate::meta::apply::apply;
    use crate::meta::command::Command;
    use crate::sql::ast::{RowCondition, RowOperator};
    use coffer_proto::ids::TransactionId;

    #[test]
    fn loads_are_shown_with_where_they_stand_and_found_by_label_or_state() {
        let mut state = sample::state();
        let database = state.find_database("db").unwrap();
        let (db, table) = (database.id, database.tables.values().next().unwrap().id);
        for label in ["a", "b"] {
            let begin =
                Command::BeginTransaction { label: label.to_owned(), db, table, now_ms: 1_000, deadline_ms: 3_000 };
            apply(&mut state, &begin);
        }
        let first = *state.transactions.keys().next().unwrap();
        let precommit = |transaction: TransactionId| Command::PrecommitTransaction {
            transaction,
            partitions: Vec::new(),
            rows: 1,
            tablets: Vec::new(),
            now_ms: 2_000,
            deadline_ms: 9_000,
        };
        apply(&mut state, &precommit(first));
        let root = Who { user: "root".to_owned(), ..Default::default() };
        let rights = state.rights(&root).unwrap();
        let find = |column: &str, value: &str| {
            let (column, value) = (column.to_owned(), value.to_owned());
            let conditions = vec![RowCondition { column, operator: RowOperator::Equal, value }];
            let wanted = RowFilter { conditions, ..RowFilter::default() };
            show(&state, (&rights, Some("db")), (None, &wanted)).map(|set| set.rows)
        };
        let all = show(&state, (&rights, None), (Some("db"), &RowFilter::default())).unwrap();
        assert_eq!((all.columns.len(), all.rows.len()), (14, 2));
        assert_eq!(all.rows[0][1].as_deref(), Some("b"), "the newest first");
        let rows = find("status", "PRECOMMITTED").unwrap();
        assert!(rows.len() == 1 && rows[0][1].as_deref() == Some("a") && rows[0][12].as_deref() == Some("8000"));
        assert_eq!(rows[0][6].as_deref(), Some("1970-01-01 00:00:02"));
        assert_eq!(find("id", &first.to_string()).unwrap(), rows);
        assert!(find("label", "c").unwrap().is_empty());
        assert!(find("colour", "c").is_err());
    }
}
