//! A statement between text and plan: what it reads and what its columns are called.

use super::dialect::{BadLiterals, Dual, Functions, Part, Partitions};
use super::names::Names;
use super::pin::Pinned;
use super::system::{self, INFORMATION_SCHEMA};
use crate::error::syntax;
use crate::sql::ast::ObjectName;
use crate::sql::grammar::Grammar;
use coffer_stdx::{Error, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{self as sql, Expr, ObjectNamePart, SelectItem, SetExpr, VisitMut, VisitorMut};
use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use super::errors::from_engine;

/// Nested parentheses and subqueries.
const MAX_NESTING: usize = 64;
/// A statement that parses.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    statement: Statement,
}

/// What a statement reads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) names: Vec<ObjectName>,
    /// Of those names, the ones that stand for some partitions of a table.
    pub(super) parts: BTreeMap<String, Part>,
    /// Whether it reads the catalog itself.
    pub(super) catalog: bool,
}

/// Parse one statement.
pub(super) fn parse(text: &str) -> Result<Parsed> {
    let parse = || {
        DFParserBuilder::new(text).with_dialect(&Grammar).with_recursion_limit(MAX_NESTING).build()?.parse_statements()
    };
    let mut statements = parse().map_err(|error| from_engine(&error))?;
    match (statements.pop_front(), statements.is_empty()) {
        (Some(statement), true) => {
            check_kind(&statement)?;
            Ok(Parsed { statement })
        }
        _ => Err(syntax("one statement is expected")),
    }
}

impl Parsed {
    pub(super) fn into_statement(mut self) -> Statement {
        if let Some(inner) = query_of(&mut self.statement) {
            let _ = inner.visit(&mut Exponents);
            let _ = inner.visit(&mut Functions);
        }
        self.statement
    }

    /// As text.
    pub(super) fn text(&self) -> String {
        self.statement.to_string()
    }

    /// Change names in it.
    pub(super) fn visit(&mut self, visitor: &mut impl VisitorMut<Break = ()>) {
        if let Some(inner) = query_of(&mut self.statement) {
            let _ = inner.visit(visitor);
        }
    }

    /// The tables it names, common table expressions left out.
    pub(super) fn tables(&mut self, state: &SessionState, current: Option<&str>) -> Result<Wanted> {
        let mut parts = BTreeMap::new();
        if let Some(inner) = query_of(&mut self.statement) {
            let mut partitions = Partitions::default();
            if inner.visit(&mut partitions).is_break() {
                return Err(syntax("partitions of a table are named as in FROM t PARTITION (p1, p2)"));
            }
            parts = partitions.parts;
            if let ControlFlow::Break(error) = inner.visit(&mut BadLiterals) {
                return Err(error);
            }
            let _ = inner.visit(&mut Dual);
            let _ = inner.visit(&mut FoldCatalog);
        }
        let references = state.resolve_table_references(&self.statement).map_err(|error| from_engine(&error))?;
        let mut wanted = Wanted { names: Vec::new(), parts, catalog: false };
        for reference in references {
            match reference.schema().or(current.filter(|current| *current == INFORMATION_SCHEMA)) {
                Some(INFORMATION_SCHEMA) => wanted.catalog = true,
                database => wanted
                    .names
                    .push(ObjectName { database: database.map(str::to_owned), name: reference.table().to_owned() }),
            }
        }
        Ok(wanted)
    }

    /// Give references to columns the case in which the columns were declared.
    pub(super) fn fix_names(&mut self, pinned: &Pinned, catalog: bool) {
        let mut names = Names::default();
        let tables = pinned.databases.values().flat_map(|tables| tables.values());
        for table in tables {
            table.table.schema.columns.iter().for_each(|column| names.add(&column.name));
        }
        pinned.view_columns.iter().for_each(|name| names.add(name));
        if catalog {
            system::column_names().for_each(|name| names.add(name));
        }
        names.apply(&mut self.statement);
    }

    /// What the columns of the result are called: aliases, else the expressions as written. `None` where `*` hides how many
    /// columns there are, and for statements other than SELECT. The engine wants names that differ: what is selected twice
    /// gets another name in the statement, so that only the heading is the same.
    pub(super) fn take_headings(&mut self) -> Option<Vec<String>> {
        let select = first_select(&mut self.statement)?;
        let headings: Vec<String> = select.projection.iter().map(heading).collect::<Option<_>>()?;
        let mut seen = HashSet::new();
        for (number, item) in select.projection.iter_mut().enumerate() {
            let text = match &*item {
                SelectItem::ExprWithAlias { alias, .. } => alias.value.to_ascii_lowercase(),
                other => other.to_string().to_ascii_lowercase(),
            };
            if seen.insert(text) {
                continue;
            }
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = &*item {
                let alias = sql::Ident::new(format!("{} ({number})", headings[number]));
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
        }
        Some(headings)
    }
}

/// Only reading statements come here by right.
fn check_kind(statement: &Statement) -> Result<()> {
    match statement {
        Statement::Statement(inner) if matches!(inner.as_ref(), sql::Statement::Query(_)) => Ok(()),
        Statement::Explain(explain) => check_kind(&explain.statement),
        other => {
            let text = other.to_string();
            let words: Vec<&str> = text.split_whitespace().take(2).collect();
            Err(Error::not_supported(format!("{} is not supported", words.join(" "))))
        }
    }
}

impl Parsed {
    /// Name every expression of the result: for statements in which the engine finds two of the same name.
    pub(super) fn name_expressions(&mut self) {
        let Some(select) = first_select(&mut self.statement) else { return };
        for (number, item) in select.projection.iter_mut().enumerate() {
            if let SelectItem::UnnamedExpr(expr) = &*item
                && !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
            {
                let alias = sql::Ident::new(format!("{expr} ({number})"));
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
        }
    }
}

/// The SELECT that names the columns of a statement.
fn first_select(statement: &mut Statement) -> Option<&mut sql::Select> {
    let Statement::Statement(statement) = statement else { return None };
    let sql::Statement::Query(query) = statement.as_mut() else { return None };
    let mut body = query.body.as_mut();
    loop {
        match body {
            SetExpr::Select(select) => return Some(select),
            SetExpr::Query(inner) => body = inner.body.as_mut(),
            SetExpr::SetOperation { left, .. } => body = left.as_mut(),
            _ => return None,
        }
    }
}

fn heading(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Some(ident.value.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().map(|ident| ident.value.clone()),
        SelectItem::UnnamedExpr(Expr::Value(value)) => match &value.value {
            sql::Value::SingleQuotedString(text) | sql::Value::DoubleQuotedString(text) => Some(text.clone()),
            other => Some(other.to_string()),
        },
        SelectItem::UnnamedExpr(expr) => Some(expr.to_string()),
        _ => None,
    }
}

fn query_of(statement: &mut Statement) -> Option<&mut sql::Statement> {
    match statement {
        Statement::Statement(inner) => Some(inner),
        Statement::Explain(explain) => query_of(&mut explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => None,
    }
}

/// `INFORMATION_SCHEMA.TABLES` is written in any case.
struct FoldCatalog;

impl VisitorMut for FoldCatalog {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &mut sql::ObjectName) -> ControlFlow<()> {
        let parts = relation.0.iter_mut().filter_map(|part| match part {
            ObjectNamePart::Identifier(ident) => Some(ident),
            ObjectNamePart::Function(_) => None,
        });
        let mut parts: Vec<_> = parts.collect();
        if parts.len() >= 2 && parts[parts.len() - 2].value.eq_ignore_ascii_case(INFORMATION_SCHEMA) {
            parts.iter_mut().for_each(|ident| ident.value.make_ascii_lowercase());
        }
        ControlFlow::Continue(())
    }
}

/// `1.5e300` is a DOUBLE, as in MySQL, while `1.5` is exact: the engine would take both as decimals.
struct Exponents;

impl VisitorMut for Exponents {
    type Break = ();

    // After its children, so that the number in the new expression is not visited again.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Value(value) = expr
            && let sql::Value::Number(digits, _) = &value.value
            && digits.contains(['e', 'E'])
        {
            let text = Expr::Value(sql::Value::SingleQuotedString(digits.clone()).into());
            *expr = Expr::Cast {
                kind: sql::CastKind::Cast,
                expr: Box::new(text),
                data_type: sql::DataType::Double(sql::ExactNumberInfo::None),
                array: false,
                format: None,
            };
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_stdx::ErrorKind;

    #[test]
    fn headings_are_as_written() {
        let cases: [(&str, Option<&[&str]>); 7] = [
            ("SELECT a, T.B, c AS X, 1, 'x', count(*) FROM t", Some(&["a", "B", "X", "1", "x", "count(*)"])),
            ("SELECT sum(a + 1), sum(A + 1) FROM t", Some(&["sum(a + 1)", "sum(A + 1)"])),
            ("SELECT a FROM t UNION SELECT b FROM u", Some(&["a"])),
            ("(SELECT a FROM t)", Some(&["a"])),
            ("SELECT *, a FROM t", None),
            ("VALUES (1)", None),
            ("EXPLAIN SELECT 1", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
            assert_eq!(parse(text).unwrap().take_headings(), expected, "{text}");
        }
    }

    #[test]
    fn one_statement_at_a_time() {
        assert_eq!(parse("SELECT 1; SELECT 2").unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(parse("").unwrap_err().number(), crate::error::number::SYNTAX);
        assert_eq!(parse("SELECT FROM WHERE").unwrap_err().number(), crate::error::number::SYNTAX);
    }
}
