//! Column names without regard to case.
//!
//! The engine compares names exactly. Operators write `L_OrderKey` for a column declared `l_orderkey`, or the other way
//! round, so references are rewritten to the name as declared before planning: a name that is exactly that of a column or
//! of an alias of the statement stays; else the first that differs only in ASCII case takes its place. Database and table
//! names are exact, as everywhere in Coffer. Headings of results show aliases as written and columns as declared.

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, Ident, Query, Select, SelectItem, VisitMut, VisitorMut};
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

/// The names a statement may mean.
#[derive(Debug, Default)]
pub(crate) struct Names {
    exact: HashSet<String>,
    /// By lower-case name.
    folded: HashMap<String, String>,
}

impl Names {
    /// Add a column or alias.
    pub(crate) fn add(&mut self, name: &str) {
        if self.exact.insert(name.to_owned()) {
            self.folded.entry(name.to_ascii_lowercase()).or_insert_with(|| name.to_owned());
        }
    }

    /// Rewrite the references of a statement.
    pub(crate) fn apply(mut self, statement: &mut Statement) {
        let inner = match statement {
            Statement::Statement(inner) => inner,
            Statement::Explain(explain) => return self.apply(&mut explain.statement),
            Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => return,
        };
        let mut aliases = Aliases::default();
        let _ = inner.visit(&mut aliases);
        aliases.names.iter().for_each(|name| self.add(name));
        let _ = inner.visit(&mut self);
    }

    fn fix(&self, ident: &mut Ident) {
        if !self.exact.contains(&ident.value)
            && let Some(declared) = self.folded.get(&ident.value.to_ascii_lowercase())
        {
            ident.value.clone_from(declared);
        }
    }
}

impl VisitorMut for Names {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(ident) => self.fix(ident),
            Expr::CompoundIdentifier(parts) => {
                if let Some(last) = parts.last_mut() {
                    self.fix(last);
                }
            }
            _ => (),
        }
        ControlFlow::Continue(())
    }
}

/// Every alias of a statement.
#[derive(Default)]
struct Aliases {
    names: Vec<String>,
}

impl VisitorMut for Aliases {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                self.names.push(alias.value.clone());
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.names.extend(cte.alias.columns.iter().map(|column| column.name.value.clone()));
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::parser::DFParserBuilder;
    use datafusion::sql::sqlparser::dialect::MySqlDialect;

    fn rewritten(sql: &str, columns: &[&str]) -> String {
        let dialect = MySqlDialect {};
        let parser = DFParserBuilder::new(sql).with_dialect(&dialect).build().unwrap();
        let mut statement = { parser }.parse_statement().unwrap();
        let mut names = Names::default();
        columns.iter().for_each(|column| names.add(column));
        names.apply(&mut statement);
        statement.to_string()
    }

    #[test]
    fn references_take_the_declared_case() {
        let columns = ["l_orderkey", "Name"];
        for (sql, expected) in [
            ("SELECT L_ORDERKEY FROM t", "SELECT l_orderkey FROM t"),
            ("SELECT T.NAME FROM T WHERE name = 'NAME'", "SELECT T.Name FROM T WHERE Name = 'NAME'"),
            ("SELECT `NAME` AS X FROM t ORDER BY x", "SELECT `Name` AS X FROM t ORDER BY X"),
            ("SELECT other FROM t", "SELECT other FROM t"),
            (
                "WITH c (A) AS (SELECT name FROM t) SELECT a FROM c",
                "WITH c (A) AS (SELECT Name FROM t) SELECT A FROM c",
            ),
        ] {
            assert_eq!(rewritten(sql, &columns), expected);
        }
    }

    #[test]
    fn an_exact_name_wins() {
        assert_eq!(rewritten("SELECT id, ID FROM t", &["Id", "ID", "id"]), "SELECT id, ID FROM t");
    }
}
