//! Views come, give way to others, and go.

use super::catalog::{known_database, known_database_mut};
use crate::catalog::view::View;
use crate::error::{self, Error, Result};
use crate::limits;
use crate::meta::command::Outcome;
use crate::meta::definition::NewView;
use crate::meta::state::State;
use coffer_proto::ids::{DbId, TableId};

pub(super) fn create(state: &mut State, new: &NewView) -> Result<Outcome> {
    let database = known_database(state, new.db)?;
    let name = &new.view.name;
    let before = database.view(name).filter(|_| new.replace).map(|view| view.id);
    if before.is_none() && database.has(name) {
        return Err(error::table_exists(name));
    }
    if let Some(job) = state.restore_creating(new.db, name) {
        return Err(Error::conflict(format!("Table '{name}' is being created by restore job {}", job.id)));
    }
    if database.tables.len() + database.views.len() >= limits::MAX_TABLES_PER_DATABASE {
        let most = limits::MAX_TABLES_PER_DATABASE;
        return Err(Error::limit(format!("database '{}' has {most} tables, which is the limit", database.name)));
    }
    let id = TableId(state.take_id());
    let database = known_database_mut(state, new.db)?;
    if let Some(before) = before {
        database.views.remove(&before);
    }
    database.views.insert(id, View { id, ..new.view.clone() });
    Ok(Outcome::Created(id.0))
}

pub(super) fn drop(state: &mut State, db: DbId, view: TableId) -> Result<Outcome> {
    match known_database_mut(state, db)?.views.remove(&view) {
        Some(_) => Ok(Outcome::Done),
        None => Err(error::unknown_table(&view.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;
    use crate::error::ErrorKind;
    use crate::meta::command::Command;
    use crate::meta::definition::Definition;

    #[test]
    fn a_view_has_a_name_of_its_own() {
        let mut sample = Sample::new();
        let db = sample.db;
        let make = |name: &str, query: &str, replace| {
            let view = View {
                id: TableId(0),
                name: name.to_owned(),
                columns: Vec::new(),
                query: query.to_owned(),
                comment: String::new(),
                created_ms: 1,
            };
            Command::Define(Definition::CreateView(NewView { db, view, replace }))
        };
        let first = sample.create(&make("v", "SELECT 1", false));
        assert_eq!(sample.refused(&make("v", "SELECT 2", false)).number(), 1050);
        assert_eq!(sample.refused(&make("t", "SELECT 2", true)).number(), 1050);
        let table = sample.new_table("v");
        assert_eq!(sample.refused(&Command::CreateTable(table)).number(), 1050);
        let second = sample.create(&make("v", "SELECT 2", true));
        assert!(first != second && sample.state.databases[&db].views.len() == 1);
        assert_eq!(sample.state.databases[&db].view("v").unwrap().query, "SELECT 2");
        let drop = Command::Define(Definition::DropView { db, view: TableId(second) });
        sample.ok(&drop);
        sample.refuses(&drop, ErrorKind::NotFound, "Unknown table");
    }
}
