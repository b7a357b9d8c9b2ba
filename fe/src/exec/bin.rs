//! RECOVER, SHOW CATALOG RECYCLE BIN and DROP CATALOG RECYCLE BIN.

use crate::backends::Backends;
use crate::catalog::bin::{BinEntry, Dropped};
use crate::error::{self, Error, Result};
use crate::exec::answer::{Answer, RowSet};
use crate::exec::context::Context;
use crate::exec::filter;
use crate::exec::session::Session;
use crate::exec::text;
use crate::meta::command::Command;
use crate::meta::definition::Definition;
use crate::meta::state::State;
use crate::sql::ast::{ObjectName, RowFilter};
use crate::sql::define_ast::{BinKind, Recover};

/// RECOVER.
pub(super) async fn recover(context: &Context, session: &Session, recover: &Recover) -> Result<Answer> {
    let current = session.database.as_deref();
    let entry = context.meta.view(|state| find(state, recover, current))?;
    if let (BinKind::Database, Some(name)) = (recover.kind, &recover.as_name) {
        crate::exec::names::check_not_reserved(name)?;
    }
    let definition = Definition::Recover { entry, name: recover.as_name.clone() };
    context.meta.propose(Command::Define(definition)).await?;
    Ok(Answer::ok())
}

/// The youngest of that name, or the one of that id.
fn find(state: &State, recover: &Recover, current: Option<&str>) -> Result<u64> {
    let named = |entry: &&BinEntry| {
        let name = entry.what.name();
        let same = match recover.kind {
            BinKind::Partition => name.eq_ignore_ascii_case(&recover.name),
            BinKind::Database | BinKind::Table => name == recover.name,
        };
        same && recover.id.is_none_or(|id| id == entry.what.id())
    };
    let youngest = |fits: &dyn Fn(&Dropped) -> bool| {
        let entries = state.bin.values().filter(named).filter(|entry| fits(&entry.what));
        entries.max_by_key(|entry| (entry.dropped_ms, entry.what.id())).map(|entry| entry.what.id())
    };
    let id = recover.id.map_or_else(|| "-1".to_owned(), |id| id.to_string());
    match recover.kind {
        BinKind::Database => {
            if recover.as_name.is_none() && state.find_database(&recover.name).is_some() {
                return Err(error::database_exists(&recover.name));
            }
            let found = youngest(&|what| matches!(what, Dropped::Database(_)));
            found.ok_or_else(|| {
                Error::not_found(format!(
                    "Unknown database '{}' or database id '{id}': it is not in the recycle bin",
                    recover.name
                ))
                .numbered(error::number::UNKNOWN_DATABASE)
            })
        }
        BinKind::Table => {
            let database = state.database_or_current(recover.database.as_deref(), current)?;
            let name = recover.as_name.as_ref().unwrap_or(&recover.name);
            if database.has(name) {
                return Err(error::table_exists(name));
            }
            let found = youngest(&|what| matches!(what, Dropped::Table { db, .. } if *db == database.id));
            found.ok_or_else(|| {
                Error::not_found(format!(
                    "Unknown table '{}' or table id '{id}' in {}: it is not in the recycle bin",
                    recover.name, database.name
                ))
                .numbered(error::number::UNKNOWN_TABLE)
            })
        }
        BinKind::Partition => {
            let name = recover.table.clone();
            let name = name.unwrap_or_else(|| ObjectName { database: None, name: String::new() });
            let (_, table) = state.table(&name, current)?;
            let found = youngest(&|what| matches!(what, Dropped::Partition { table: of, .. } if *of == table.id));
            if recover.as_name.is_none() && table.partition(&recover.name).is_some() {
                return Err(Error::already_exists(format!(
                    "partition[{}] already exist in table[{}]",
                    recover.name, table.name
                ))
                .numbered(error::number::SAME_PARTITION));
            }
            found.ok_or_else(|| {
                Error::not_found(format!(
                    "No partition named '{}' or partition id '{id}' in table {} is in the recycle bin",
                    recover.name, table.name
                ))
            })
        }
    }
}

/// DROP CATALOG RECYCLE BIN.
pub(super) async fn erase(context: &Context, kind: BinKind, id: u64) -> Result<Answer> {
    let word = match kind {
        BinKind::Database => "Database",
        BinKind::Table => "Table",
        BinKind::Partition => "Partition",
    };
    let known = context.meta.view(|state| state.bin.get(&id).is_some_and(|entry| entry.what.kind() == word));
    if !known {
        let lower = word.to_ascii_lowercase();
        return Err(Error::not_found(format!("No {lower} id '{id}' in the recycle bin")));
    }
    context.meta.propose(Command::Define(Definition::Erase { entries: vec![id], upto_ms: None })).await?;
    Ok(Answer::ok())
}

/// SHOW CATALOG RECYCLE BIN: databases, then tables, then partitions.
pub(super) fn show(state: &State, backends: &Backends, wanted: &RowFilter) -> Result<RowSet> {
    let mut set =
        RowSet::new(["Type", "Name", "DbId", "TableId", "PartitionId", "DropTime", "DataSize", "RemoteDataSize"]);
    let mut entries: Vec<&BinEntry> = state.bin.values().collect();
    entries.sort_by_key(|entry| (entry.what.kind(), entry.what.name().to_owned(), entry.what.id()));
    for entry in entries {
        let (db, table) = entry.what.place();
        let partition = match &entry.what {
            Dropped::Partition { partition, .. } => partition.id.to_string(),
            Dropped::Database(_) | Dropped::Table { .. } => String::new(),
        };
        let bytes: u64 = match &entry.what {
            Dropped::Database(database) => {
                let partitions = database.tables.values().flat_map(|table| table.partitions.values());
                partitions.map(|partition| backends.tablet_sums(&partition.tablets).bytes).sum()
            }
            Dropped::Table { table, .. } => {
                table.partitions.values().map(|partition| backends.tablet_sums(&partition.tablets).bytes).sum()
            }
            Dropped::Partition { partition, .. } => backends.tablet_sums(&partition.tablets).bytes,
        };
        set.push([
            entry.what.kind().to_owned(),
            entry.what.name().to_owned(),
            db.to_string(),
            table.map(|table| table.to_string()).unwrap_or_default(),
            partition,
            text::time(entry.dropped_ms),
            text::size(bytes),
            text::size(0),
        ]);
    }
    filter::apply(set, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::exec::sample;
    use crate::meta::apply::apply;
    use crate::meta::command::Outcome;
    use crate::sql;
    use crate::sql::ast::Statement;
    use crate::sql::define_ast::Define;
    use std::sync::Arc;

    fn recover_of(text: &str) -> Recover {
        match sql::parse(text).unwrap() {
            Statement::Define(Define::Recover(recover)) => recover,
            other => panic!("{other:?}"),
        }
    }

    fn dropped(state: &mut State, definition: Definition) {
        assert_eq!(apply(state, &Command::Define(definition)), Outcome::Done);
    }

    #[test]
    fn what_is_named_is_found_or_told_why_not() {
        let mut state = sample::state();
        let (db, table, p1) = {
            let database = state.find_database("db").unwrap();
            let table = database.table("t").unwrap();
            (database.id, table.id, table.partition("p1").unwrap().id)
        };
        let ask = |state: &State, text: &str| find(state, &recover_of(text), Some("db"));
        assert_eq!(ask(&state, "RECOVER TABLE t").unwrap_err().number(), 1050);
        assert_eq!(ask(&state, "RECOVER TABLE gone").unwrap_err().number(), 1051);
        assert_eq!(ask(&state, "RECOVER DATABASE db").unwrap_err().number(), 1007);
        assert_eq!(ask(&state, "RECOVER DATABASE gone").unwrap_err().number(), 1049);
        assert_eq!(ask(&state, "RECOVER PARTITION p1 FROM t").unwrap_err().number(), 1517);
        assert!(
            ask(&state, "RECOVER PARTITION p9 FROM t").unwrap_err().message().starts_with("No partition named 'p9'")
        );
        dropped(&mut state, Definition::DropPartition { db, table, partition: p1, recycle_ms: Some(5) });
        assert_eq!(ask(&state, "RECOVER PARTITION P1 FROM db.t"), Ok(p1.0));
        dropped(&mut state, Definition::RecycleTable { db, table, now_ms: 6 });
        assert_eq!(ask(&state, "RECOVER TABLE db.t AS u"), Ok(table.0));
        assert_eq!(ask(&state, &format!("RECOVER TABLE t {}", table.0)), Ok(table.0));
        assert!(ask(&state, "RECOVER TABLE t 1").is_err());
        let backends = Backends::disconnected(Arc::new(Config::default()));
        let set = show(&state, &backends, &RowFilter::default()).unwrap();
        let names: Vec<_> = set.rows.iter().map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap())).collect();
        assert_eq!(names, [("Partition".into(), "p1".into()), ("Table".into(), "t".into())]);
        assert!(set.rows.iter().all(|row| row.len() == 8));
        let entry = &state.bin[&p1.0];
        assert_eq!((entry.what.place(), entry.what.kind()), ((db, Some(table)), "Partition"));
        let (database, _) = (state.find_database("empty").unwrap().id, ());
        dropped(&mut state, Definition::RecycleDatabase { db: database, now_ms: 7 });
        assert_eq!(ask(&state, "RECOVER DATABASE empty"), Ok(database.0));
        assert_eq!(state.bin[&table.0].what.id(), table.0);
    }
}
