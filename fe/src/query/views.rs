//! Views: found beneath a statement, planned from the bottom up, and put where the engine looks for tables.
//!
//! A view is kept as text with the database in front of every table, so that it means the same in every session. A user
//! needs SELECT on the view alone; what the view reads is read for it.

use super::catalog::ViewSlots;
use super::encode::FRACTION;
use super::errors::from_engine;
use super::pin::Pinned;
use super::statement::{self, Parsed, Wanted};
use super::{Caller, Engine, SAME_NAMES, on_deep_stack, plan_statement};
use crate::catalog::view::View;
use crate::error::{Error, Result, no_database};
use crate::meta::state::State;
use crate::sql::ast::ObjectName;
use coffer_table::{Column, ColumnType};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::datasource::ViewTable;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::{Expr, SessionContext};
use datafusion::sql::sqlparser::ast::{self as sql, Ident, ObjectNamePart, VisitorMut};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Views beneath one statement.
const MAX_VIEWS: usize = 64;

/// A view beneath a statement; what it reads comes before it.
pub(super) struct Beneath {
    database: String,
    view: View,
    parsed: Parsed,
    wanted: Wanted,
}

/// What CREATE VIEW keeps of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// With the database in front of every table.
    pub query: String,
    /// As the query calls and types them.
    pub columns: Vec<Column>,
    /// Database and name of every view it reads, also by way of others.
    pub views: Vec<(String, String)>,
}

/// The views that these names mean, and those that they read, from the bottom up.
pub(super) fn beneath(
    state: &State,
    session: &SessionState,
    names: &[ObjectName],
    current: Option<&str>,
) -> Result<Vec<Beneath>> {
    let mut found = Vec::new();
    for name in names {
        visit(state, session, (name, current), &mut Vec::new(), &mut found)?;
    }
    Ok(found)
}

fn visit(
    state: &State,
    session: &SessionState,
    (name, current): (&ObjectName, Option<&str>),
    path: &mut Vec<(String, String)>,
    found: &mut Vec<Beneath>,
) -> Result<()> {
    let database = name.database.as_deref().or(current).and_then(|database| state.find_database(database));
    let Some((database, view)) = database.and_then(|database| Some((database, database.view(&name.name)?))) else {
        return Ok(());
    };
    if found.iter().any(|other| other.view.id == view.id) {
        return Ok(());
    }
    let here = (database.name.clone(), view.name.clone());
    if path.contains(&here) {
        return Err(Error::invalid(format!("View '{}.{}' reads itself", here.0, here.1)));
    }
    if path.len() + found.len() >= MAX_VIEWS {
        return Err(Error::limit(format!("a statement reads at most {MAX_VIEWS} views")));
    }
    path.push(here);
    let mut parsed = statement::parse(&view.query)?;
    let wanted = parsed.tables(session, Some(&database.name))?;
    for name in &wanted.names {
        visit(state, session, (name, Some(&database.name)), path, found)?;
    }
    path.pop();
    found.push(Beneath { database: database.name.clone(), view: view.clone(), parsed, wanted });
    Ok(())
}

/// Pin what the views read, and give what each says of columns the case in which they were declared.
pub(super) fn pin(state: &State, pinned: &mut Pinned, beneath: &mut [Beneath]) -> Result<()> {
    for one in beneath {
        let shown = |error: Error| {
            let text = format!("View '{}.{}': {}", one.database, one.view.name, error.message());
            Error::new(error.kind(), text).numbered(error.number())
        };
        let mut own = Pinned::default();
        own.add(state, &one.wanted.names, &one.wanted.parts, Some(&one.database)).map_err(shown)?;
        one.parsed.fix_names(&own, one.wanted.catalog);
        for (database, tables) in own.databases {
            pinned.databases.entry(database).or_default().extend(tables);
        }
        pinned.databases.entry(one.database.clone()).or_default();
    }
    Ok(())
}

/// Plan them in order; each is there for those above it.
pub(super) async fn plan(context: &SessionContext, slots: &ViewSlots, beneath: Vec<Beneath>) -> Result<()> {
    for one in beneath {
        let Beneath { database, view, parsed, .. } = one;
        let plan = plan_either_way(context, parsed).await;
        let plan = plan.and_then(|plan| renamed(plan, &view)).map_err(|error| {
            let text = format!("View '{database}.{}': {}", view.name, error.message());
            Error::new(error.kind(), text).numbered(error.number())
        })?;
        slots.put(&database, &view.name, Arc::new(ViewTable::new(plan, Some(view.query.clone()))));
    }
    Ok(())
}

async fn plan_either_way(context: &SessionContext, mut parsed: Parsed) -> Result<LogicalPlan> {
    let mut plan = plan_statement(context, parsed.clone()).await;
    if plan.as_ref().is_err_and(|error| error.message().contains(SAME_NAMES)) {
        parsed.name_expressions();
        plan = plan_statement(context, parsed).await;
    }
    plan.map_err(|error| from_engine(&error))
}

/// The columns under the names that the view gives them.
fn renamed(plan: LogicalPlan, view: &View) -> Result<LogicalPlan> {
    let columns = plan.schema().columns();
    if columns.len() != view.columns.len() {
        return Err(Error::conflict(format!(
            "its query has {} columns now and had {} when it was made: make it anew",
            columns.len(),
            view.columns.len()
        )));
    }
    let pairs = columns.into_iter().zip(&view.columns);
    let named: Vec<Expr> = pairs.map(|(column, named)| Expr::Column(column).alias(&named.name)).collect();
    let plan = LogicalPlanBuilder::from(plan).project(named).and_then(LogicalPlanBuilder::build);
    plan.map_err(|error| from_engine(&error))
}

impl Engine {
    /// Read a query as CREATE VIEW keeps it. Fails on what the caller may not read.
    pub async fn describe(&self, caller: &Caller, sql: &str) -> Result<Described> {
        let (engine, caller, text) = (self.clone(), caller.clone(), sql.to_owned());
        on_deep_stack(self.lane.handle().clone(), async move {
            let mut parsed = statement::parse(&text)?;
            let current = caller.database.as_deref();
            let mut named = parsed.clone();
            let wanted = named.tables(&engine.base, current)?;
            if wanted.catalog {
                return Err(Error::not_supported("views of information_schema are not supported"));
            }
            let query = qualified(&mut parsed.clone(), &wanted, current)?;
            let state = engine.meta.view(State::clone);
            let views = beneath(&state, &engine.base, &wanted.names, current)?;
            let views = views.into_iter().map(|one| (one.database, one.view.name)).collect();
            let headings = parsed.take_headings();
            let (_, plan) = engine.plan(&caller, parsed).await?;
            let fields = plan.schema().fields();
            let columns = fields.iter().enumerate().map(|(at, field)| {
                let heading = headings.as_ref().and_then(|headings| headings.get(at));
                column(heading.unwrap_or(field.name()), field)
            });
            Ok(Described { query, columns: columns.collect(), views })
        })
        .await
    }
}

/// The text with the current database in front of every table that has none.
fn qualified(parsed: &mut Parsed, wanted: &Wanted, current: Option<&str>) -> Result<String> {
    let bare = wanted.names.iter().filter(|name| name.database.is_none());
    let real = |name: &ObjectName| wanted.parts.get(&name.name).map_or(name.name.clone(), |part| part.table.clone());
    let names: BTreeSet<String> = bare.map(real).collect();
    if !names.is_empty() {
        let database = current.ok_or_else(no_database)?.to_owned();
        parsed.visit(&mut Qualify { names, database });
    }
    Ok(parsed.text())
}

struct Qualify {
    names: BTreeSet<String>,
    database: String,
}

impl VisitorMut for Qualify {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &mut sql::ObjectName) -> ControlFlow<()> {
        if let [ObjectNamePart::Identifier(only)] = relation.0.as_mut_slice()
            && self.names.contains(&only.value)
        {
            only.quote_style = Some('`');
            let database = Ident::with_quote('`', &self.database);
            relation.0.insert(0, ObjectNamePart::Identifier(database));
        }
        ControlFlow::Continue(())
    }
}

/// The query of a view with `to` wherever it says the database `from`: for a view that is restored elsewhere. Only names
/// of the statement change, never text in it.
pub fn in_database(query: &str, from: &str, to: &str) -> Result<String> {
    if from == to {
        return Ok(query.to_owned());
    }
    let mut parsed = statement::parse(query)?;
    parsed.visit(&mut Move { from: from.to_owned(), to: to.to_owned() });
    Ok(parsed.text())
}

struct Move {
    from: String,
    to: String,
}

impl VisitorMut for Move {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &mut sql::ObjectName) -> ControlFlow<()> {
        if let [ObjectNamePart::Identifier(database), _] = relation.0.as_mut_slice()
            && database.value == self.from
        {
            database.value.clone_from(&self.to);
            database.quote_style = Some('`');
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut sql::Expr) -> ControlFlow<()> {
        if let sql::Expr::CompoundIdentifier(parts) = expr
            && let [database, _, _] = parts.as_mut_slice()
            && database.value == self.from
        {
            database.value.clone_from(&self.to);
            database.quote_style = Some('`');
        }
        ControlFlow::Continue(())
    }
}

/// The names of tables that a view's query reads, as written.
pub fn reads(query: &str, database: &str, table: &str) -> bool {
    struct Find<'a>(&'a str, &'a str, bool);
    impl VisitorMut for Find<'_> {
        type Break = ();

        fn pre_visit_relation(&mut self, relation: &mut sql::ObjectName) -> ControlFlow<()> {
            if let [ObjectNamePart::Identifier(database), ObjectNamePart::Identifier(table)] = relation.0.as_slice() {
                self.2 |= database.value == self.0 && table.value == self.1;
            }
            ControlFlow::Continue(())
        }
    }
    let Ok(mut parsed) = statement::parse(query) else { return false };
    let mut find = Find(database, table, false);
    parsed.visit(&mut find);
    find.2
}

fn column(name: &str, field: &Field) -> Column {
    let digits = field.metadata().get(FRACTION).and_then(|digits| digits.parse().ok());
    let kind = match field.data_type() {
        DataType::Boolean => ColumnType::Boolean,
        DataType::Int8 => ColumnType::TinyInt,
        DataType::Int16 | DataType::UInt8 => ColumnType::SmallInt,
        DataType::Int32 | DataType::UInt16 => ColumnType::Int,
        DataType::Int64 | DataType::UInt32 => ColumnType::BigInt,
        DataType::UInt64 => ColumnType::LargeInt,
        DataType::Float16 | DataType::Float32 => ColumnType::Float,
        DataType::Float64 => ColumnType::Double,
        DataType::Decimal128(38, 0) => ColumnType::LargeInt,
        DataType::Decimal128(precision, scale) => {
            ColumnType::Decimal { precision: *precision, scale: u8::try_from(*scale).unwrap_or(0) }
        }
        DataType::Date32 | DataType::Date64 => ColumnType::Date,
        DataType::Timestamp(..) => ColumnType::DateTime { scale: digits.unwrap_or(0) },
        _ => ColumnType::String,
    };
    Column {
        name: name.to_owned(),
        kind,
        nullable: field.is_nullable(),
        default: None,
        key: false,
        comment: String::new(),
        aggregate: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_moves_with_its_database_and_leaves_others_and_texts_alone() {
        let query = "SELECT `a`.`t`.`x`, 'a.t', b.t.y FROM `a`.`t` JOIN b.t ON a.t.x = b.t.x WHERE a.x = 1";
        let moved = in_database(query, "a", "c").unwrap();
        assert_eq!(moved, "SELECT `c`.`t`.`x`, 'a.t', b.t.y FROM `c`.`t` JOIN b.t ON `c`.t.x = b.t.x WHERE a.x = 1");
        assert_eq!(in_database(query, "a", "a").unwrap(), query);
        assert!(reads(query, "b", "t") && !reads(query, "b", "x") && !reads("nonsense", "b", "t"));
    }
}
