//! Comparisons between types as MySQL makes them: a DATETIME with a text or a date in microseconds, so that every time
//! from year 0 to 9999 takes part (the engine would go by nanoseconds, which end in 2262), and a BOOLEAN with 0, 1,
//! 'true' and 'false'. Pure.
//!
//! Binary operators are changed as they are planned, which types them; BETWEEN and IN before types are made to meet.

use coffer_table::calendar::parse_datetime;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Between, Expr, ExprSchemable, cast};
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// The type of DATETIME.
pub(super) const DATETIME: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
/// Digits of a second in a literal.
const SCALE: u8 = 6;

/// Makes the sides of comparisons meet.
#[derive(Debug)]
pub(super) struct Comparisons;

impl ExprPlanner for Comparisons {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator::{Divide, Eq, Gt, GtEq, Lt, LtEq, Minus, Modulo, Multiply, NotEq, Plus, Spaceship};
        let RawBinaryExpr { op, left, right } = raw;
        let (left, right) = match op {
            Eq | NotEq | Lt | LtEq | Gt | GtEq | Spaceship => {
                let kinds = (kind(&left, schema), kind(&right, schema));
                (meet(left, &kinds.1, schema), meet(right, &kinds.0, schema))
            }
            Plus | Minus | Multiply | Divide | Modulo => (number(left, schema), number(right, schema)),
            _ => (left, right),
        };
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }
}

impl FunctionRewrite for Comparisons {
    fn name(&self) -> &'static str {
        "comparisons"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        Ok(match expr {
            Expr::Between(Between { expr, negated, low, high }) => {
                let middle = kind(&expr, schema);
                let ends = if is_time(&kind(&low, schema)) { kind(&low, schema) } else { kind(&high, schema) };
                Transformed::yes(Expr::Between(Between {
                    expr: Box::new(meet(*expr, &ends, schema)),
                    negated,
                    low: Box::new(meet(*low, &middle, schema)),
                    high: Box::new(meet(*high, &middle, schema)),
                }))
            }
            Expr::InList(InList { expr, list, negated }) => {
                let wanted = kind(&expr, schema);
                let first = list.first().map_or(DataType::Null, |item| kind(item, schema));
                let list = list.into_iter().map(|item| meet(item, &wanted, schema)).collect();
                Transformed::yes(Expr::InList(InList { expr: Box::new(meet(*expr, &first, schema)), list, negated }))
            }
            other => Transformed::no(other),
        })
    }
}

/// NULL where it is not known yet: nothing is changed then.
fn kind(expr: &Expr, schema: &DFSchema) -> DataType {
    expr.get_type(schema).unwrap_or(DataType::Null)
}

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_time(kind: &DataType) -> bool {
    matches!(kind, DataType::Timestamp(_, _))
}

/// One side of a comparison, as it has to be beside the other.
fn meet(expr: Expr, other: &DataType, schema: &DFSchema) -> Expr {
    let own = kind(&expr, schema);
    if own == DATETIME {
        return expr;
    }
    let dated = matches!(own, DataType::Date32 | DataType::Date64);
    if (is_time(other) && (is_text(&own) || dated)) || (is_time(&own) && (is_time(other) || is_text(other))) {
        return datetime(expr);
    }
    if own == DataType::Boolean && other.is_numeric() {
        return cast(expr, DataType::Int64);
    }
    if is_text(&own) && *other == DataType::Boolean {
        return cast(expr, DataType::Boolean);
    }
    expr
}

/// As a DATETIME; what cannot be read as one is left to the cast, which says so.
fn datetime(expr: Expr) -> Expr {
    if let Expr::Literal(value, metadata) = &expr
        && let Some(Some(text)) = value.try_as_str()
        && let Some(micros) = parse_datetime(text.as_bytes(), SCALE)
    {
        return Expr::Literal(ScalarValue::TimestampMicrosecond(Some(micros), None), metadata.clone());
    }
    cast(expr, DATETIME)
}

/// A condition as 0 or 1.
fn number(expr: Expr, schema: &DFSchema) -> Expr {
    if kind(&expr, schema) == DataType::Boolean { cast(expr, DataType::Int64) } else { expr }
}
