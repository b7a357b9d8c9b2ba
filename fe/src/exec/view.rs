//! CREATE VIEW, DROP VIEW, SHOW CREATE VIEW, SHOW VIEW and SHOW VIEWS.

use crate::account::Rights;
use crate::catalog::view::View;
use crate::error::{self, Error, Result, number};
use crate::exec::answer::{Answer, RowSet};
use crate::exec::context::Context;
use crate::exec::ddl::noted;
use crate::exec::filter::like;
use crate::exec::query::caller;
use crate::exec::session::Session;
use crate::limits;
use crate::meta::command::Command;
use crate::meta::definition::{Definition, NewView};
use crate::meta::state::State;
use crate::query::{Described, view_reads};
use crate::sql::ast::ObjectName;
use crate::sql::define_ast::CreateView;
use coffer_mysql::{quote, quote_identifier};
use coffer_proto::ids::TableId;
use coffer_stdx::time::now_ms;
use coffer_table::Column;

/// The number MySQL has for lists of columns that differ in length.
const WRONG_LIST: u16 = 1353;

/// CREATE [OR REPLACE] VIEW.
pub(super) async fn create(context: &Context, session: &Session, create: &CreateView) -> Result<Answer> {
    let name = &create.view.name;
    let current = session.database.as_deref();
    let (db, database, is_table, is_view) = context.meta.view(|state| {
        let database = state.database_or_current(create.view.database.as_deref(), current)?;
        let (table, view) = (database.table(name).is_some(), database.view(name).is_some());
        Ok::<_, Error>((database.id, database.name.clone(), table, view))
    })?;
    if is_table && create.or_replace {
        return Err(not_a_view(&database, name));
    }
    if is_table || (is_view && !create.or_replace) {
        let known = error::table_exists(name);
        return if create.if_not_exists { Ok(noted(&known)) } else { Err(known) };
    }
    if create.query.len() > limits::MAX_TEXT_BYTES {
        return Err(Error::limit(format!("the query of view '{name}' is too long")));
    }
    let described = context.engine.describe(&caller(session), &create.query).await?;
    if described.views.contains(&(database.clone(), name.clone())) {
        return Err(Error::invalid(format!("View '{database}.{name}' cannot read itself")));
    }
    let view = View {
        id: TableId(0),
        name: name.clone(),
        columns: columns(create, &described)?,
        query: described.query,
        comment: create.comment.clone(),
        created_ms: now_ms(),
    };
    let new = NewView { db, view, replace: create.or_replace };
    match context.meta.propose(Command::Define(Definition::CreateView(new))).await {
        Ok(_) => Ok(Answer::ok()),
        Err(error) if create.if_not_exists && error.number() == number::TABLE_EXISTS => Ok(noted(&error)),
        Err(error) => Err(error),
    }
}

/// Names as given, else as the query has them.
fn columns(create: &CreateView, described: &Described) -> Result<Vec<Column>> {
    let mut columns = described.columns.clone();
    if !create.columns.is_empty() {
        if create.columns.len() != columns.len() {
            let text = "View's SELECT and view's field list have different column counts";
            return Err(Error::invalid(text).numbered(WRONG_LIST));
        }
        for (column, (name, comment)) in columns.iter_mut().zip(&create.columns) {
            (column.name, column.comment) = (name.clone(), comment.clone());
        }
    }
    for (at, column) in columns.iter().enumerate() {
        if columns[..at].iter().any(|other| other.name.eq_ignore_ascii_case(&column.name)) {
            let text = format!("Duplicate column name '{}'", column.name);
            return Err(Error::invalid(text).numbered(number::DUPLICATE_COLUMN));
        }
    }
    Ok(columns)
}

fn not_a_view(database: &str, name: &str) -> Error {
    let full = format!("{database}.{name}");
    Error::invalid(format!("'{full}' is not VIEW. Use 'DROP TABLE {full}'.")).numbered(number::NOT_OF_THAT_KIND)
}

/// DROP VIEW.
pub(super) async fn drop(context: &Context, session: &Session, name: &ObjectName, if_exists: bool) -> Result<Answer> {
    let found = context.meta.view(|state| {
        let database = state.database_or_current(name.database.as_deref(), session.database.as_deref())?;
        match database.view(&name.name) {
            Some(view) => Ok((database.id, view.id)),
            None if database.table(&name.name).is_some() => Err(not_a_view(&database.name, &name.name)),
            None => Err(error::unknown_table(&name.name)),
        }
    });
    match found {
        Ok((db, view)) => {
            context.meta.propose(Command::Define(Definition::DropView { db, view })).await?;
            Ok(Answer::ok())
        }
        Err(error) if if_exists && error.number() == number::UNKNOWN_TABLE => Ok(noted(&error)),
        Err(error) => Err(error),
    }
}

/// A statement that makes the view again.
pub(super) fn statement(view: &View) -> String {
    let columns: Vec<String> = view
        .columns
        .iter()
        .map(|column| {
            let name = quote_identifier(&column.name);
            if column.comment.is_empty() { name } else { format!("{name} COMMENT {}", quote(&column.comment)) }
        })
        .collect();
    let comment = if view.comment.is_empty() { String::new() } else { format!(" COMMENT {}", quote(&view.comment)) };
    format!("CREATE VIEW {} ({}){comment} AS {};", quote_identifier(&view.name), columns.join(", "), view.query)
}

const CREATE_COLUMNS: [&str; 4] = ["View", "Create View", "character_set_client", "collation_connection"];

fn create_row(view: &View) -> [String; 4] {
    [view.name.clone(), statement(view), "utf8mb4".to_owned(), "utf8mb4_0900_bin".to_owned()]
}

/// SHOW CREATE VIEW.
pub(super) fn show_create(state: &State, name: &ObjectName, current: Option<&str>) -> Result<RowSet> {
    let database = state.database_or_current(name.database.as_deref(), current)?;
    let view = match database.view(&name.name) {
        Some(view) => view,
        None if database.table(&name.name).is_some() => return Err(not_a_view(&database.name, &name.name)),
        None => return Err(error::unknown_table(&name.name)),
    };
    let mut set = RowSet::new(CREATE_COLUMNS);
    set.push(create_row(view));
    Ok(set)
}

/// SHOW VIEW FROM table: the views that read it.
pub(super) fn show_of(state: &State, rights: &Rights<'_>, name: &ObjectName, current: Option<&str>) -> Result<RowSet> {
    let database = state.database_or_current(name.database.as_deref(), current)?;
    if !database.has(&name.name) {
        return Err(error::unknown_table(&name.name));
    }
    let mut set = RowSet::new(["View", "Create View"]);
    let seen = database.views.values().filter(|view| rights.sees_table(&database.name, &view.name));
    for view in seen.filter(|view| view_reads(&view.query, &database.name, &name.name)) {
        set.push([view.name.clone(), statement(view)]);
    }
    Ok(set)
}

/// SHOW VIEWS.
pub(super) fn show_all(
    state: &State,
    rights: &Rights<'_>,
    (given, current): (Option<&str>, Option<&str>),
    pattern: Option<&str>,
) -> Result<RowSet> {
    let database = state.database_or_current(given, current)?;
    let mut names: Vec<&str> = database.views.values().map(|view| view.name.as_str()).collect();
    names.retain(|name| rights.sees_table(&database.name, name));
    names.sort_unstable();
    let mut set = RowSet::new([format!("Views_in_{}", database.name)]);
    for name in names.into_iter().filter(|name| pattern.is_none_or(|pattern| like(pattern, name))) {
        set.push([name]);
    }
    Ok(set)
}
