//! What MySQL writes otherwise than the engine: functions under another name, the types of casts, and the table DUAL.
//! Rewritten before planning, with the shapes in [`super::shapes`].

use super::shapes::{arguments, rename, reshape};
use coffer_stdx::Error;
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, ExactNumberInfo, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectNamePart, Select, TableAlias,
    TableFactor, TimezoneInfo, TypedString, Value, VisitorMut,
};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// A number too large for a DOUBLE.
const ILLEGAL_DOUBLE: u16 = 1367;
/// Same arguments, another name.
const RENAMED: [(&str, &str); 9] = [
    ("curdate", "current_date"),
    ("curtime", "current_time"),
    ("lcase", "lower"),
    ("length", "octet_length"),
    ("localtime", "now"),
    ("localtimestamp", "now"),
    ("mid", "substr"),
    ("sysdate", "now"),
    ("ucase", "upper"),
];

/// Takes `FROM DUAL` away: a SELECT without a table has one row as well.
pub(super) struct Dual;

impl VisitorMut for Dual {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if let [only] = &select.from[..]
            && only.joins.is_empty()
            && let TableFactor::Table { name, .. } = &only.relation
            && name.to_string().eq_ignore_ascii_case("dual")
        {
            select.from.clear();
        }
        ControlFlow::Continue(())
    }
}

/// A table of which a statement reads only some partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The table.
    pub(super) table: String,
    /// Its partitions, as written.
    pub(super) partitions: Vec<String>,
}

/// Makes `FROM t PARTITION (p)` a table of its own, under a name that no table has: the engine would read the whole table
/// without a word. Ends at a form that would be read as an alias.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    /// What stands behind the new names.
    pub(super) parts: BTreeMap<String, Part>,
}

impl VisitorMut for Partitions {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let TableFactor::Table { name, partitions, alias, .. } = factor else { return ControlFlow::Continue(()) };
        // `t PARTITIONS (p)` and `t PARTITION p` read as an alias.
        let named = alias.as_ref().is_some_and(|alias| {
            let name = &alias.name;
            let word = ["partition", "partitions"].iter().any(|word| name.value.eq_ignore_ascii_case(word));
            name.quote_style.is_none() && word
        });
        if named {
            return ControlFlow::Break(());
        }
        let partitions: Vec<String> = std::mem::take(partitions).into_iter().map(|name| name.value).collect();
        if let Some(ObjectNamePart::Identifier(table)) = name.0.last_mut().filter(|_| !partitions.is_empty()) {
            let part = Part { table: table.value.clone(), partitions };
            // References go on to say the table's name.
            alias.get_or_insert_with(|| TableAlias {
                explicit: true,
                name: table.clone(),
                columns: Vec::new(),
                at: None,
            });
            let unlike_any_table = format!("{} PARTITION ({})", part.table, part.partitions.join(", "));
            *table = Ident::with_quote('`', &unlike_any_table);
            self.parts.insert(unlike_any_table, part);
        }
        ControlFlow::Continue(())
    }
}

/// Ends at a literal that the engine would take for something else, or describe in its own words: a bit literal such as
/// `b'101'`, and a number too large for a DOUBLE.
pub(super) struct BadLiterals;

impl VisitorMut for BadLiterals {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let Expr::Value(value) = expr else { return ControlFlow::Continue(()) };
        match &value.value {
            Value::SingleQuotedByteStringLiteral(bits) | Value::DoubleQuotedByteStringLiteral(bits) => {
                ControlFlow::Break(Error::not_supported(format!(
                    "the bit literal b'{bits}' is not supported: write a number, or bytes as x'...'"
                )))
            }
            Value::Number(digits, _)
                if digits.contains(['e', 'E']) && digits.parse::<f64>().is_ok_and(f64::is_infinite) =>
            {
                let text = format!("Illegal double '{digits}' value found during parsing");
                ControlFlow::Break(Error::invalid(text).numbered(ILLEGAL_DOUBLE))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Rewrites the functions and casts of a statement.
pub(super) struct Functions;

impl VisitorMut for Functions {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Cast { data_type, .. } | Expr::TypedString(TypedString { data_type, .. }) => cast(data_type),
            Expr::Convert { expr: inner, data_type: Some(data_type), charset: None, .. } => {
                cast(data_type);
                *expr = Expr::Cast {
                    kind: CastKind::Cast,
                    expr: inner.clone(),
                    data_type: data_type.clone(),
                    array: false,
                    format: None,
                };
            }
            _ => reshape(expr),
        }
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let name = function.name.to_string().to_ascii_lowercase();
        if let Some((_, engine)) = RENAMED.iter().find(|(mysql, _)| *mysql == name) {
            rename(function, engine);
        } else if name == "locate" {
            // LOCATE(what, text) is strpos(text, what); with a third argument it is left alone, and refused.
            if let Some(arguments) = arguments(function).filter(|arguments| arguments.len() == 2) {
                arguments.swap(0, 1);
                rename(function, "strpos");
            }
        } else if name == "isnull"
            && let Some([FunctionArg::Unnamed(FunctionArgExpr::Expr(inner))]) =
                arguments(function).map(|list| &list[..])
        {
            *expr = Expr::Nested(Box::new(Expr::IsNull(Box::new(inner.clone()))));
        }
        ControlFlow::Continue(())
    }
}

fn cast(data_type: &mut DataType) {
    match data_type {
        DataType::Signed | DataType::SignedInteger => *data_type = DataType::BigInt(None),
        DataType::Unsigned | DataType::UnsignedInteger => *data_type = DataType::BigIntUnsigned(None),
        DataType::Datetime(_) | DataType::Timestamp(None, TimezoneInfo::None) => {
            *data_type = DataType::Timestamp(Some(6), TimezoneInfo::None)
        }
        DataType::Custom(name, arguments)
            if arguments.is_empty() && name.to_string().eq_ignore_ascii_case("largeint") =>
        {
            *data_type = DataType::Decimal(ExactNumberInfo::PrecisionAndScale(38, 0));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::ast::VisitMut;
    use datafusion::sql::sqlparser::dialect::MySqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    #[test]
    fn functions_get_the_names_of_the_engine() {
        for (sql, expected) in [
            ("SELECT UCASE(lcase(a))", "SELECT upper(lower(a))"),
            ("SELECT locate('x', a)", "SELECT strpos(a, 'x')"),
            ("SELECT locate('x', a, 2)", "SELECT locate('x', a, 2)"),
            ("SELECT ISNULL(a), curdate()", "SELECT (a IS NULL), current_date()"),
            ("SELECT count(*), isnull()", "SELECT count(*), isnull()"),
            ("SELECT cast(a AS signed), cast(a AS unsigned)", "SELECT CAST(a AS BIGINT), CAST(a AS BIGINT UNSIGNED)"),
            ("SELECT cast(a AS largeint)", "SELECT CAST(a AS DECIMAL(38,0))"),
            ("SELECT cast(a AS datetime(3))", "SELECT CAST(a AS TIMESTAMP(6))"),
            ("SELECT convert(a, unsigned integer)", "SELECT CAST(a AS BIGINT UNSIGNED)"),
            (
                "SELECT cast(a AS timestamp), timestamp '9999-12-31'",
                "SELECT CAST(a AS TIMESTAMP(6)), TIMESTAMP(6) '9999-12-31'",
            ),
            ("SELECT a NOT RLIKE 'b', a REGEXP b", "SELECT (NOT regexp_like(a, 'b')), regexp_like(a, b)"),
            ("SELECT substr(a, -2), substring(a from 2 for 3)", "SELECT substr(a, -2), substr(a, 2, 3)"),
            ("SELECT length(a), mod(a + 1, 4)", "SELECT octet_length(a), ((a + 1) % (4))"),
            ("SELECT date_add(a, interval b day)", "SELECT date_add(a, b, 'DAY')"),
            (
                "SELECT date_sub('2024-01-31', interval '1' month)",
                "SELECT date_add(CAST('2024-01-31' AS DATE), -(1), 'MONTH')",
            ),
            ("SELECT a - interval 1 + 1 hour", "SELECT time_add(a, -(1 + 1), 'HOUR')"),
            ("SELECT adddate(a, 7), now(6), unix_timestamp()", "SELECT date_add(a, 7, 'DAY'), now_exact(), unix_now()"),
            ("SELECT 1 FROM dual WHERE 1 = 0", "SELECT 1 WHERE 1 = 0"),
            ("SELECT 1 FROM dual, dual2", "SELECT 1 FROM dual, dual2"),
        ] {
            let mut statements = Parser::parse_sql(&MySqlDialect {}, sql).unwrap();
            let _ = statements[0].visit(&mut Functions);
            let _ = statements[0].visit(&mut Dual);
            assert_eq!(statements[0].to_string(), expected);
        }
    }

    #[test]
    fn a_partition_behind_a_table_is_not_overlooked() {
        for (sql, expected) in [
            ("SELECT * FROM t PARTITION (p)", Some("SELECT * FROM `t PARTITION (p)` AS t")),
            ("SELECT t.a FROM d.`t` PARTITION (p) u", Some("SELECT t.a FROM d.`t PARTITION (p)` u")),
            ("SELECT * FROM t PARTITIONS(p)", None),
            (
                "SELECT 1 FROM (SELECT * FROM a, t PARTITION (p, Q)) x",
                Some("SELECT 1 FROM (SELECT * FROM a, `t PARTITION (p, Q)` AS t) x"),
            ),
            ("SELECT * FROM t `partition`", Some("SELECT * FROM t `partition`")),
            (
                "SELECT row_number() OVER (PARTITION BY a) FROM t",
                Some("SELECT row_number() OVER (PARTITION BY a) FROM t"),
            ),
        ] {
            let mut statements = Parser::parse_sql(&MySqlDialect {}, sql).unwrap();
            let mut found = Partitions::default();
            let refused = statements[0].visit(&mut found).is_break();
            assert_eq!((!refused).then(|| statements[0].to_string()).as_deref(), expected, "{sql}");
            assert_eq!(!found.parts.is_empty(), sql.contains("PARTITION (p") && !refused, "{sql}");
        }
    }
}
